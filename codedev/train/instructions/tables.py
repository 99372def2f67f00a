"""Tables of instructions as shards: what stage `sft` makes of `data.tables` before it trains. Knows nothing of torch.

    DATA/corpus           the rows as conversations, the others with the reason (codedev corpus build)
    DATA/shards           packed rows with loss spans, and DATA/shards/heldout (codedev tokenize --mode sft)
    DATA/chat_template.jinja
    DATA/prepared.json    what they were made of, what became of every row; written last (prepared.py)

Both halves go on where they were killed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from codedev._errors import InputError
from codedev._run import Progress, no_progress, write_text
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.recipe import ChatRecipe, MixtureRecipe, TokenizeRecipe
from codedev.train.data import open_shards
from codedev.train.instructions import prepared
from codedev.train.instructions.look import settled
from codedev.train.instructions.spans import check_spans
from codedev.train.instructions.table_recipe import TableRecipe, names_of
from codedev.train.recipe import TrainRecipe
from codedev.train.use.companions import TEMPLATE

_COUNTED = (
    *("rows", "conversations", "heldout", "left_out", "packed_rows", "seq_len", "tokens", "supervised_tokens"),
    *("truncated", "split", "dropped", "errors", "template"),
)
_KEPT = prepared.Kept(
    "codedev.prepared/1",
    frozenset({"corpus", "shards", TEMPLATE}),
    frozenset(_COUNTED),
    "go on with what was prepared: set data.shards to {folder}/shards in the place of data.tables",
)


class _Asked(NamedTuple):
    """What decides the shards."""

    tables: prepared.Listed
    reader: prepared.Reader
    recipe: TokenizeRecipe
    record: dict[str, Any]  # tables {name: [[file, hash, bytes], …]}, settings {key: value}: as prepared.json holds it


def prepare(recipe: TrainRecipe, progress: Progress = no_progress, workers: int | None = None) -> dict[str, Any]:
    """Make the shards of `recipe.data.tables`, or find them made. `recipe` is absolute. Returns `counts` of prepared.json with

        prepared      the directory      reused   nothing had to be made      again   why it was made once more, "" where it was not

    Raises RecipeError, InputError or RunError with one line for the user.
    """
    folder = prepared.folder_of(recipe, _KEPT)
    asked = _asked(recipe, folder)
    made = prepared.once(folder, Path(recipe.run.dir), _KEPT, asked.record, lambda: _make(folder, asked, progress, workers))
    told = {**made.counts, "prepared": str(folder), "reused": made.reused, "again": made.again}
    progress("data", told["rows"], told["rows"], summary(told))
    return told


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


def _asked(recipe: TrainRecipe, folder: Path) -> _Asked:
    data, reader = recipe.data, prepared.reader(recipe)
    wanted = TokenizeRecipe(
        mode="sft",
        seq_len=reader.seq_len,
        overlong=data.overlong,
        holdout=data.holdout,
        chat=ChatRecipe(template=reader.chat, train_on=data.train_on, system=data.system),
        mixture=_mixture(data.tables),
    )
    settings: dict[str, Any] = {
        **{key: getattr(wanted, key) for key in ("seq_len", "overlong", "holdout")},
        "train_on": data.train_on,
        "system": data.system,
        "tokenizer": reader.vocabulary.hash,
        "eos": reader.vocabulary.eos_id,
        "template": xxhash.xxh3_128_hexdigest(reader.template.source.encode()),
    }
    tables = prepared.listed(data.tables, folder, settled)
    return _Asked(tables, reader, wanted, {"tables": tables.tables, "settings": settings | tables.settings})


def _mixture(tables: tuple[TableRecipe, ...]) -> MixtureRecipe | None:
    if all(table.epochs == 1 for table in tables):
        return None
    return MixtureRecipe(epochs={name: table.epochs for name, table in zip(names_of(tables), tables, strict=True)}, max_epochs=1000)


def _make(folder: Path, asked: _Asked, progress: Progress, workers: int | None) -> tuple[dict[str, Any], list[str]]:
    corpus = prepared.corpus_of(asked.tables, folder, "a conversation", progress, workers)
    shards, reader, threads = folder / "shards", asked.reader, workers or len(os.sched_getaffinity(0))
    try:
        made = tokenize_corpus(
            folder / "corpus", reader.tokenizer, shards, asked.recipe, eos=reader.eos, workers=threads, progress=progress
        )
    except InputError as error:
        if asked.recipe.overlong != "error":
            raise
        raise InputError(str(error).replace("Raise seq_len, or choose overlong:", "Raise data.seq_len, or set data.overlong to")) from None
    supervised = check_spans(open_shards((shards,)))
    write_text(folder / TEMPLATE, reader.template.source)
    names = ["shards/manifest.json", *(["shards/heldout/manifest.json"] if made["heldout"] else [])]
    return _counts(corpus, made, supervised, asked), names


def _counts(corpus: dict[str, Any], made: dict[str, Any], supervised: int, asked: _Asked) -> dict[str, Any]:
    dropped, errors = prepared.lost(corpus)
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
        "template": prepared.shown_template(asked.reader.chat),
    }


def _left_out(splits: list[dict[str, Any]]) -> int:
    """Conversations that a table's epochs, fewer than one, leave out."""
    counts = splits[0]["counts"]
    if "documents_left_out" not in counts:
        return 0
    return int(counts["documents_left_out"]) - sum(int(split["counts"]["documents"]) for split in splits[1:])
