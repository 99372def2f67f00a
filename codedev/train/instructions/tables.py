"""Tables of instructions as shards: what stage `sft` makes of `data.tables` before it trains. Knows nothing of torch.

    DATA/corpus           the rows as conversations, the others with the reason (codedev corpus build)
    DATA/shards           packed rows with loss spans, and DATA/shards/heldout (codedev tokenize --mode sft)
    DATA/chat_template.jinja
    DATA/prepared.json    what they were made of, what became of every row; written last

DATA is RUN/data, or data.prepared. Both halves go on where they were killed. What is there is used as long as tables, tokenizer, chat
template and settings are the same, which takes one look at the tables' bytes; when one is not, a run that has checkpoints is refused with
what changed, and one that has none is prepared again and says so. Versions of codedev are not compared: what a run began with it keeps.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from codedev._errors import InputError, RecipeError, RunError
from codedev._run import Progress, content_key, file_hash, locked, no_progress, read_json, write_json, write_text
from codedev.corpus.build import build
from codedev.corpus.plan import hashed
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.source import Extent
from codedev.corpus.sources.tables import source as tables_source
from codedev.corpus.sources.tables.columns import Config
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.chat.render import Template
from codedev.tokenize.chat.templates import BUILT_IN, load_template
from codedev.tokenize.recipe import ChatRecipe, MixtureRecipe, TokenizeRecipe
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary, special_id
from codedev.train.data import open_shards
from codedev.train.instructions.look import settled
from codedev.train.instructions.spans import check_spans
from codedev.train.instructions.table_recipe import TableRecipe, names_of
from codedev.train.instructions.vocabularies import check_file
from codedev.train.recipe import TrainRecipe
from codedev.train.use.companions import TEMPLATE, own_template

FORMAT = "codedev.prepared/1"
SEQ_LEN = 2048
_COUNTED = (
    *("rows", "conversations", "heldout", "left_out", "packed_rows", "seq_len", "tokens", "supervised_tokens"),
    *("truncated", "split", "dropped", "errors", "template"),
)
_SMALL = 64 << 20  # bytes of tables that one process reads: starting others takes longer


class _Asked(NamedTuple):
    """What decides the shards."""

    sources: tuple[Config, ...]
    tokenizer: Path
    vocabulary: Vocabulary
    eos: str | None
    template: Template
    chat: str  # its name, as codedev tokenize takes it
    recipe: TokenizeRecipe
    bytes: int
    record: dict[str, Any]  # tables {name: [[file, hash, bytes], …]}, settings {key: value}: as prepared.json holds it


def prepare(recipe: TrainRecipe, progress: Progress = no_progress, workers: int | None = None) -> dict[str, Any]:
    """Make the shards of `recipe.data.tables`, or find them made. `recipe` is absolute. Returns `counts` of prepared.json with

        prepared      the directory      reused   nothing had to be made      again   why it was made once more, "" where it was not

    Raises RecipeError, InputError or RunError with one line for the user.
    """
    folder, run_dir = Path(recipe.data.prepared or Path(recipe.run.dir, "data")), Path(recipe.run.dir)
    _check_folder(folder)
    asked = _asked(recipe, folder)
    found = _found(folder)
    again = _changes(folder, found, asked.record) if found else []
    if found and not again:
        told = _told(folder, found["counts"], reused=True)
        progress("data", told["rows"], told["rows"], summary(told))
        return told
    if again:
        _check_again(folder, run_dir, again)
    try:
        with locked(folder):
            counts = _make(folder, asked, progress, workers)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"{folder}: the disk is full. Make room and run the same command again: it goes on from here") from None
        raise
    made = _told(folder, counts, again="; ".join(again))
    progress("data", counts["rows"], counts["rows"], summary(made))
    return made


def summary(told: dict[str, Any]) -> str:
    """What became of the rows, in a line."""
    lost = {**told["dropped"], **told["errors"]}
    parts = [
        *([f"prepared again, since {told['again']}"] if told["again"] else []),
        f"{told['conversations']:,} of {told['rows']:,} rows",
        f"{told['supervised_tokens']:,} of {told['tokens']:,} tokens supervised",
        f"template {told['template']}",
        *([f"{told['truncated']['conversations']:,} cut ({told['truncated']['tokens']:,} tokens)"] if told["truncated"]["tokens"] else []),
        *([f"{told['split']:,} split"] if told["split"] else []),
        *([f"{told['left_out']:,} left out by their table's epochs"] if told["left_out"] else []),
        *([f"{told['heldout']:,} held out"] if told["heldout"] else []),
        *([f"not learned: {', '.join(f'{count:,} {reason}' for reason, count in sorted(lost.items()))}"] if lost else []),
    ]
    return "; ".join(parts)


# -- what is asked for -------------------------------------------------------------------------------------------------------------


def _asked(recipe: TrainRecipe, folder: Path) -> _Asked:
    data = recipe.data
    tokenizer = _tokenizer(recipe)
    plain = load_vocabulary(tokenizer, need_eos=False)
    eos = _own_eos(plain)
    vocabulary = load_vocabulary(tokenizer, eos=eos)
    chat = data.template or _own_template(vocabulary)
    template = _template(chat, vocabulary)
    model = _config(recipe)
    _check_vocabulary(recipe, model, vocabulary)
    wanted = TokenizeRecipe(
        mode="sft",
        seq_len=_seq_len(recipe, model),
        overlong=data.overlong,
        holdout=data.holdout,
        chat=ChatRecipe(template=chat, train_on=data.train_on, system=data.system),
        mixture=_mixture(data.tables),
    )
    settings: dict[str, Any] = {
        **{key: getattr(wanted, key) for key in ("seq_len", "overlong", "holdout")},
        "train_on": data.train_on,
        "system": data.system,
        "tokenizer": vocabulary.hash,
        "eos": vocabulary.eos_id,
        "template": xxhash.xxh3_128_hexdigest(template.source.encode()),
    }
    sources, tables, size = [], {}, 0
    for name, table in zip(names_of(data.tables), data.tables, strict=True):
        extents = list(_extents(table.config(name), folder))
        config = settled(table, table.config(name), extents, folder)
        sources.append(config)
        tables[name] = _files(extents)
        size += sum(extent.size for extent in extents)
        settings[f"tables.{name}"] = content_key(config.model_dump(mode="json", exclude={"paths", "uri", "name", "type"}), table.epochs)
    record = {"tables": tables, "settings": settings}
    return _Asked(tuple(sources), tokenizer, vocabulary, eos, template, chat, wanted, size, record)


def _mixture(tables: tuple[TableRecipe, ...]) -> MixtureRecipe | None:
    if all(table.epochs == 1 for table in tables):
        return None
    return MixtureRecipe(epochs={name: table.epochs for name, table in zip(names_of(tables), tables, strict=True)}, max_epochs=1000)


def _extents(config: Config, folder: Path) -> Iterator[Extent]:
    return hashed(tables_source.plan(config, folder, CorpusRecipe.model_fields["unit_bytes"].default))


def _files(extents: list[Extent]) -> list[list[Any]]:
    """[name, hash, bytes] of each file, in order."""
    sizes: dict[tuple[str, str], int] = {}
    for extent in extents:
        sizes[extent.name, extent.hash] = sizes.get((extent.name, extent.hash), 0) + extent.size
    return [[name, digest, size] for (name, digest), size in sizes.items()]


def _tokenizer(recipe: TrainRecipe) -> Path:
    if recipe.data.tokenizer is not None:
        return Path(recipe.data.tokenizer)
    path = Path(recipe.model.path or "")
    if not path.exists():
        raise InputError(f"{path}: there is no such model. Give model.path a directory of config.json and *.safetensors")
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
    """The model can read the tokens, or grows for them (extend.py): said before hours are spent on the tables."""
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
    if recipe.data.seq_len is not None:
        return recipe.data.seq_len
    longest = model.get("max_position_embeddings", SEQ_LEN)
    longest = longest if isinstance(longest, int) and not isinstance(longest, bool) else SEQ_LEN
    before = getattr(recipe.method, "tokens", 0)  # trained vectors before every document
    return max(8, min(SEQ_LEN, longest - before))


# -- what is there -----------------------------------------------------------------------------------------------------------------


def _check_folder(folder: Path) -> None:
    """InputError where the folder holds something that is not ours."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is not a directory. Choose another data.prepared")
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    strangers = sorted(
        name for name in names - {"corpus", "shards", "prepared.json", TEMPLATE, ".lock"} if not name.startswith(".tmp-codedev-")
    )
    if strangers:
        raise InputError(f"{folder}: holds {strangers[0]}, so it is no place for prepared tables. Choose another data.prepared")


def _found(folder: Path) -> dict[str, Any] | None:
    """prepared.json, if the shards are still those that it tells of."""
    try:
        found = read_json(folder / "prepared.json")
        same = found["format"] == FORMAT and all(file_hash(folder / name) == digest for name, digest in found["manifests"].items())
        same = same and isinstance(found["record"]["tables"], dict) and isinstance(found["record"]["settings"], dict)
        return found if same and set(found["counts"]) == set(_COUNTED) else None
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
        old, new = ({file: (digest, size) for file, digest, size in listed.get(name, ())} for listed in (tables, others))
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


def _check_again(folder: Path, run_dir: Path, changes: list[str]) -> None:
    """RunError where the shards must stay what they are."""
    what = "; ".join(changes)
    if folder != run_dir / "data":
        raise RunError(
            f"{folder}: was prepared from something else: {what}. Set that back, remove the folder, or choose another data.prepared"
        )
    if any((run_dir / "checkpoints").glob("step-*")):
        raise RunError(
            f"{run_dir}: has checkpoints of a run on other data: {what}. Set that back, choose another run.dir, or go on with what was "
            f"prepared: set data.shards to {folder / 'shards'} in the place of data.tables"
        )


# -- making ------------------------------------------------------------------------------------------------------------------------


def _make(folder: Path, asked: _Asked, progress: Progress, workers: int | None) -> dict[str, Any]:
    (folder / "prepared.json").unlink(missing_ok=True)
    wanted = CorpusRecipe(name="tables", sources=asked.sources, keep_work=False)
    threads = workers or len(os.sched_getaffinity(0))
    corpus = build(wanted, folder, folder / "corpus", workers=threads if asked.bytes > _SMALL else 1, progress=progress)
    if not corpus["totals"]["documents"]:
        raise InputError(f"{_nothing(corpus)}. Each is named with the reason under {folder / 'corpus'}")
    shards = folder / "shards"
    try:
        made = tokenize_corpus(folder / "corpus", asked.tokenizer, shards, asked.recipe, eos=asked.eos, workers=threads, progress=progress)
    except InputError as error:
        if asked.recipe.overlong != "error":
            raise
        raise InputError(str(error).replace("Raise seq_len, or choose overlong:", "Raise data.seq_len, or set data.overlong to")) from None
    supervised = check_spans(open_shards((shards,)))
    write_text(folder / TEMPLATE, asked.template.source)
    counts = _counts(corpus, made, supervised, asked)
    names = ["shards/manifest.json", *(["shards/heldout/manifest.json"] if made["heldout"] else [])]
    manifests = {name: file_hash(folder / name) for name in names}
    write_json(folder / "prepared.json", {"format": FORMAT, "record": asked.record, "counts": counts, "manifests": manifests})
    return counts


def _counts(corpus: dict[str, Any], made: dict[str, Any], supervised: int, asked: _Asked) -> dict[str, Any]:
    dropped, errors = _lost(corpus)
    splits = [split for split in (made["manifest"], made["heldout"]) if split]
    for split in splits:
        dropped.update(split["dropped"])
    counters, counts = made["manifest"]["made"], made["manifest"]["counts"]
    learned = [split["counts"]["documents"] - split["counts"].get("documents_dropped", 0) for split in splits]
    return {
        "rows": corpus["totals"]["records"],
        "conversations": sum(learned),  # held out ones too
        "heldout": sum(learned[1:]),
        "left_out": _left_out(splits),
        "packed_rows": made["manifest"]["rows"],
        "seq_len": asked.recipe.seq_len,
        "tokens": counts["tokens_packed"],
        "supervised_tokens": supervised,
        "truncated": {"conversations": counters.get("documents_cut", 0), "tokens": counters.get("tokens_cut", 0)},
        "split": counters.get("documents_split", 0),
        "dropped": dict(sorted(dropped.items())),
        "errors": dict(sorted(errors.items())),
        "template": asked.chat if asked.chat != "tokenizer" else "of the tokenizer",
    }


def _left_out(splits: list[dict[str, Any]]) -> int:
    """Conversations that a table's epochs, fewer than one, leave out."""
    counts = splits[0]["counts"]
    if "documents_left_out" not in counts:
        return 0
    return int(counts["documents_left_out"]) - sum(int(split["counts"]["documents"]) for split in splits[1:])


def _lost(corpus: dict[str, Any]) -> tuple[Counter[str], Counter[str]]:
    """(drops, errors) of a corpus by their reasons."""
    dropped, errors = Counter[str](), Counter[str]()
    for stages in corpus["waterfall"].values():
        for stage in stages:
            dropped.update(stage["drop"])
            errors.update(stage["error"])
    return dropped, errors


def _nothing(corpus: dict[str, Any]) -> str:
    dropped, errors = _lost(corpus)
    lost = ", ".join(f"{count:,} {reason}" for reason, count in (dropped + errors).most_common(5))
    return f"data.tables: no row of {corpus['totals']['records']:,} is a conversation{f' ({lost})' if lost else ''}"


def _told(folder: Path, counts: dict[str, Any], *, reused: bool = False, again: str = "") -> dict[str, Any]:
    return {**counts, "prepared": str(folder), "reused": reused, "again": again}
