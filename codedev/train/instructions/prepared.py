"""Tables on their way to a model: what every stage that reads `data.tables` shares, whatever it makes of them. Knows nothing of torch.

DATA is RUN/data, or data.prepared. DATA/prepared.json is written last and says what the rest was made of and what became of every row. What
is there is used as long as tables, tokenizer, chat template and settings are the same, which takes one look at the tables' bytes; when one
is not, a run that has checkpoints is refused with what changed, and one that has none is prepared again and says so. Versions of codedev
are not compared: what a run began with it keeps.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from codedev._errors import InputError, RecipeError, RunError
from codedev._run import Progress, content_key, file_hash, locked, read_json, write_json
from codedev.corpus.build import build
from codedev.corpus.plan import hashed
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.source import Extent
from codedev.corpus.sources.tables import source as tables_source
from codedev.corpus.sources.tables.columns import Config
from codedev.tokenize.chat.render import Template
from codedev.tokenize.chat.templates import BUILT_IN, load_template
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary, special_id
from codedev.train.instructions.table_recipe import TableRecipe, names_of
from codedev.train.instructions.vocabularies import check_file
from codedev.train.model_path import config_of
from codedev.train.recipe import TrainRecipe
from codedev.train.use.companions import own_template

SEQ_LEN = 2048
_SMALL = 64 << 20  # bytes of tables that one process reads: starting others takes longer

Look = Callable[[TableRecipe, Config, list[Extent], Path], Config]
"""(table, its configuration, its files, the folder) -> the configuration that its first rows ask for (look.py)."""


class Reader(NamedTuple):
    """What turns conversations into tokens."""

    tokenizer: Path
    vocabulary: Vocabulary
    eos: str | None
    template: Template
    chat: str  # its name, as codedev tokenize takes it
    seq_len: int


class Listed(NamedTuple):
    """The tables as they are now."""

    sources: tuple[Config, ...]
    bytes: int
    tables: dict[str, list[list[Any]]]  # name -> [file, hash, bytes] of each file
    settings: dict[str, Any]  # tables.<name> -> a key of what the recipe says of it


class Kept(NamedTuple):
    """What a folder keeps of tables."""

    format: str
    names: frozenset[str]  # that it may hold
    counted: frozenset[str]  # keys of the counts
    instead: str  # how a run goes on with what was prepared although the tables are others, or ""


class Made(NamedTuple):
    counts: dict[str, Any]
    reused: bool
    again: str  # why it was made once more, "" where it was not


def folder_of(recipe: TrainRecipe, kept: Kept) -> Path:
    """Where the tables of `recipe`, which is absolute, are kept. InputError where the folder holds something that is not ours."""
    folder = Path(recipe.data.prepared or Path(recipe.run.dir, "data"))
    _check_folder(folder, kept)
    return folder


def once(folder: Path, run_dir: Path, kept: Kept, record: dict[str, Any], make: Callable[[], tuple[dict[str, Any], list[str]]]) -> Made:
    """What `make` makes in the folder, or what is there from before.

    `record`: what it is made of, {tables, settings}. `make`: its counts, and the files that stand for all of it.
    """
    found = _found(folder, kept)
    again = _changes(folder, found, record) if found else []
    if found and not again:
        return Made(found["counts"], True, "")
    if again:
        _check_again(folder, run_dir, again, kept.instead)
    try:
        with locked(folder):
            (folder / "prepared.json").unlink(missing_ok=True)
            counts, names = make()
            manifests = {name: file_hash(folder / name) for name in names}
            write_json(folder / "prepared.json", {"format": kept.format, "record": record, "counts": counts, "manifests": manifests})
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"{folder}: the disk is full. Make room and run the same command again: it goes on from here") from None
        raise
    return Made(counts, False, "; ".join(again))


# -- with what they are read ---------------------------------------------------------------------------------------------------------


def reader(recipe: TrainRecipe) -> Reader:
    """The tokenizer and the chat template of `recipe`, which is absolute. The model can read the tokens, or grows for them (extend.py)."""
    tokenizer = _tokenizer(recipe)
    plain = load_vocabulary(tokenizer, need_eos=False)
    eos = _own_eos(plain)
    vocabulary = load_vocabulary(tokenizer, eos=eos)
    chat = recipe.data.template or _own_template(vocabulary)
    template = _template(chat, vocabulary)
    model = _config(recipe)
    _check_vocabulary(recipe, model, vocabulary)
    return Reader(tokenizer, vocabulary, eos, template, chat, _seq_len(recipe, model))


def shown_template(chat: str) -> str:
    return chat if chat != "tokenizer" else "of the tokenizer"


def _tokenizer(recipe: TrainRecipe) -> Path:
    if recipe.data.tokenizer is not None:
        return Path(recipe.data.tokenizer)
    path = Path(recipe.model.path or "")
    config_of(path)
    return path if path.is_dir() else path.parent


def _own_eos(vocabulary: Vocabulary) -> str | None:
    """What the tokenizer's configuration says ends a text, where that is one of its special tokens."""
    named = _tokenizer_config(vocabulary).get("eos_token")
    name = named.get("content") if isinstance(named, dict) else named
    return name if isinstance(name, str) and special_id(vocabulary, name) is not None else None


def _tokenizer_config(vocabulary: Vocabulary) -> dict[str, Any]:
    file = vocabulary.path.parent / "tokenizer_config.json"
    config = read_json(file) if file.is_file() else {}
    return config if isinstance(config, dict) else {}


def _own_template(vocabulary: Vocabulary) -> str:
    """The template of a recipe that names none."""
    if own_template(vocabulary.path.parent) is not None:
        return "tokenizer"
    known = all(special_id(vocabulary, special) is not None for special in BUILT_IN["chatml"])
    return "chatml" if known else "alpaca"  # which needs no special token


def _template(name: str, vocabulary: Vocabulary) -> Template:
    try:
        return load_template(name, vocabulary)
    except InputError as error:
        raise InputError(f"data.template: {error}") from None


def _config(recipe: TrainRecipe) -> dict[str, Any]:
    """The model's configuration; of one with several towers that of its text."""
    config: Any = recipe.model.config
    if recipe.model.path is not None:
        path = Path(recipe.model.path)
        file = path / "config.json" if path.is_dir() else path
        config = read_json(file) if file.is_file() else {}
    config = config if isinstance(config, dict) else {}
    return {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config


def _check_vocabulary(recipe: TrainRecipe, model: dict[str, Any], vocabulary: Vocabulary) -> None:
    """Said before hours are spent on the tables."""
    whole = recipe.data.tokenizer is not None and check_file(
        recipe, vocabulary.path, recipe.data.tokenizer, "Leave data.tokenizer out, or name"
    )
    size = model.get("vocab_size")
    if isinstance(size, int) and not isinstance(size, bool) and 0 < size < vocabulary.size and not whole:
        raise RecipeError(
            f"model: its vocabulary has {size} entries, the tokenizer {vocabulary.path} has ids up to {vocabulary.size - 1}. "
            "Name the model's own tokenizer in data.tokenizer, or leave that out"
        )


def _seq_len(recipe: TrainRecipe, model: dict[str, Any]) -> int:
    known = model.get("max_position_embeddings")
    known = known if isinstance(known, int) and not isinstance(known, bool) else None
    before = getattr(recipe.method, "tokens", 0)  # trained vectors before every document
    if recipe.data.seq_len is not None:
        if known is not None and recipe.data.seq_len + before > known:
            room = f"{known:,} positions (max_position_embeddings)" + (
                f", of which {recipe.tune}.tokens takes {before:,}" if before else ""
            )
            raise RecipeError(
                f"data.seq_len: is {recipe.data.seq_len:,}, and the model has {room}. Set it to {max(0, known - before):,} or less"
            )
        return recipe.data.seq_len
    longest = SEQ_LEN if known is None else known
    return max(8, min(SEQ_LEN, longest - before))


# -- the tables --------------------------------------------------------------------------------------------------------------------


def listed(tables: tuple[TableRecipe, ...], folder: Path, look: Look) -> Listed:
    """The files of `tables`, whose names in the record start from `folder`."""
    sources, files, settings, size = [], {}, {}, 0
    for name, table in zip(names_of(tables), tables, strict=True):
        found, config = list(_extents(table.config(name), folder)), table.config(name)
        extents = _tables_in(table, found, folder)
        if len(extents) < len(found):  # the build reads those alone too
            config = config.model_copy(update={"paths": tuple(dict.fromkeys(extent.file for extent in extents))})
        config = look(table, config, extents, folder)
        sources.append(config)
        files[name] = _files(extents)
        size += sum(extent.size for extent in extents)
        settings[f"tables.{name}"] = content_key(config.model_dump(mode="json", exclude={"paths", "uri", "name", "type"}), table.epochs)
    return Listed(tuple(sources), size, files, settings)


def corpus_of(tables: Listed, folder: Path, what: str, progress: Progress, workers: int | None) -> dict[str, Any]:
    """Build DATA/corpus of them and give its manifest. InputError where no row is `what`."""
    wanted = CorpusRecipe(name="tables", sources=tables.sources, keep_work=False)
    threads = workers or len(os.sched_getaffinity(0))
    corpus = build(wanted, folder, folder / "corpus", workers=threads if tables.bytes > _SMALL else 1, progress=progress)
    if not corpus["totals"]["documents"]:
        dropped, errors = lost(corpus)
        named = ", ".join(f"{count:,} {reason}" for reason, count in (dropped + errors).most_common(5))
        said = f"data.tables: no row of {corpus['totals']['records']:,} is {what}{f' ({named})' if named else ''}"
        raise InputError(f"{said}. Each is named with the reason under {folder / 'corpus'}")
    return corpus


def lost(corpus: dict[str, Any]) -> tuple[Counter[str], Counter[str]]:
    """(drops, errors) of a corpus by their reasons."""
    dropped, errors = Counter[str](), Counter[str]()
    for stages in corpus["waterfall"].values():
        for stage in stages:
            dropped.update(stage["drop"])
            errors.update(stage["error"])
    return dropped, errors


def _extents(config: Config, folder: Path) -> Iterator[Extent]:
    try:
        yield from hashed(tables_source.plan(config, folder, CorpusRecipe.model_fields["unit_bytes"].default))
    except InputError as error:
        raise InputError(str(error).replace("`paths:` in the recipe", "data.tables")) from None


# Endings of tables, behind which that of a compression may stand. Of a folder these are read; a file that is named is read whatever it is.
_ENDINGS = {
    ".csv",
    ".tsv",
    ".txt",
    ".json",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".pq",
    ".arrow",
    ".feather",
    ".ipc",
    ".sqlite",
    ".sqlite3",
    ".db",
    "",
}


def _tables_in(table: TableRecipe, extents: list[Extent], base: Path) -> list[Extent]:
    """Those that are tables by their names. InputError where a folder has none: a program's lines would be rows of one column."""
    folders = [folder for path in table.paths if "://" not in path and (folder := (base / path).resolve()).is_dir()]
    kept = [
        one for one in extents if _is_table(Path(one.file)) or not any(base.joinpath(one.file).resolve().is_relative_to(f) for f in folders)
    ]
    if extents and not kept:
        raise InputError(
            f"{folders[0]}: holds no table, but {Path(extents[0].name).name}. Name files of CSV, JSON, JSON lines, Parquet, Arrow or SQLite"
        )
    return kept


def _is_table(file: Path) -> bool:
    return any(suffix.lower() in _ENDINGS for suffix in (file.suffix, *file.suffixes[-2:-1]))


def _files(extents: list[Extent]) -> list[list[Any]]:
    """[name, hash, bytes] of each file, in order."""
    sizes: dict[tuple[str, str], int] = {}
    for extent in extents:
        sizes[extent.name, extent.hash] = sizes.get((extent.name, extent.hash), 0) + extent.size
    return [[name, digest, size] for (name, digest), size in sizes.items()]


# -- what is there -----------------------------------------------------------------------------------------------------------------


def _check_folder(folder: Path, kept: Kept) -> None:
    """InputError where the folder holds something that is not ours."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is not a directory. Choose another data.prepared")
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    strangers = sorted(name for name in names - kept.names - {"prepared.json", ".lock"} if not name.startswith(".tmp-codedev-"))
    if strangers:
        raise InputError(f"{folder}: holds {strangers[0]}, so it is no place for prepared tables. Choose another data.prepared")


def _found(folder: Path, kept: Kept) -> dict[str, Any] | None:
    """prepared.json, if the files are still those that it tells of."""
    try:
        found = read_json(folder / "prepared.json")
        same = found["format"] == kept.format and all(file_hash(folder / name) == digest for name, digest in found["manifests"].items())
        same = same and isinstance(found["record"]["tables"], dict) and isinstance(found["record"]["settings"], dict)
        return found if same and set(found["counts"]) == kept.counted else None
    except (InputError, OSError, KeyError, TypeError, AttributeError):
        return None


def _shown(folder: Path, name: str) -> str:
    """A file by its path: in the record its name starts from the folder."""
    return name if "://" in name else os.path.normpath(folder / name)


def _changes(folder: Path, found: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is not as it was, in words."""
    before, changes = found["record"], []
    tables, others = before["tables"], now["tables"]
    for name in [*others, *(name for name in tables if name not in others)]:
        old, new = ({file: (digest, size) for file, digest, size in which.get(name, ())} for which in (tables, others))
        if name not in tables or name not in others:
            changes.append(f"the table {name} is {'new' if name in others else 'gone'}")
        elif [digest for digest, _ in old.values()] != [digest for digest, _ in new.values()]:  # a file may have moved
            gone, fresh = [file for file in old if file not in new], [file for file in new if file not in old]
            differ = [file for file in new if file in old and new[file][0] != old[file][0]]
            changes += [f"{_shown(folder, file)} changed ({old[file][1]:,} bytes, now {new[file][1]:,})" for file in differ[:3]]
            changes += [f"{_shown(folder, file)} is gone" for file in gone[:3]]
            changes += [f"{_shown(folder, file)} is new" for file in fresh[:3]]
            if not (differ or gone or fresh):
                changes.append(f"the files of {name} come in another order")
    for key in [*now["settings"], *(key for key in before["settings"] if key not in now["settings"])]:
        old, new = before["settings"].get(key), now["settings"].get(key)
        if old != new and not (key.startswith("tables.") and (old is None or new is None)):
            shown = key.startswith("tables.") or key in ("tokenizer", "template")
            what = "the settings of the table " + key.removeprefix("tables.") if key.startswith("tables.") else f"data.{key}"
            changes.append(f"{what} changed" if shown else f"{what} was {old}, now {new}")
    return changes


def _check_again(folder: Path, run_dir: Path, changes: list[str], instead: str) -> None:
    """RunError where what was prepared must stay what it is."""
    what = "; ".join(changes)
    if folder != run_dir / "data":
        raise RunError(
            f"{folder}: was prepared from something else: {what}. Set that back, remove the folder, or choose another data.prepared"
        )
    if any((run_dir / "checkpoints").glob("step-*")):
        other = f", choose another run.dir, or {instead.format(folder=folder)}" if instead else " or choose another run.dir"
        raise RunError(f"{run_dir}: has checkpoints of a run on other data: {what}. Set that back{other}")
