"""Documents to learn from, drawn and split by the hashes of their ids, so that order, machine and workers change nothing.

A Python loop over documents, 5 to 20 µs each: training sees thousands of them, not a corpus.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from codedev._errors import InputError, RecipeError, printable
from codedev.corpus.learned.config import Examples
from codedev.corpus.preview import Preview
from codedev.corpus.recipe import check_source

_BLANK, _UNWANTED = "documents without text", "documents that `where` does not want"


class Texts(NamedTuple):
    learnt: list[str]
    held_out: list[str]
    documents: int  # of both, before they were cut
    held_out_documents: int  # before they were cut
    digest: str  # of their ids and texts: the data's name in the model's JSON
    repeated: int = 0  # documents that are not counted: their text stood before, or on the other side
    unread: Mapping[str, int] = {}  # records that became no document: error.<kind>, drop.<reason>


def is_held_out(identity: str, share: float) -> bool:
    """By the id alone, so that whoever tests a model can tell what it has not seen."""
    return xxhash.xxh3_64_intdigest(b"held out\0" + identity.encode()) < share * 2**64


def gather(examples: Iterable[Examples], base: Path, seed: int, share: float, refused: set[bytes]) -> Texts:
    """The texts of the examples, each text once, none of `refused` (hashes of texts, which this call adds its own to). Raises InputError
    where a source has none."""
    base = base.resolve()
    learnt: list[str] = []
    held_out: list[str] = []
    digest = xxhash.xxh3_128()
    documents = held_out_documents = repeated = 0
    unread: Counter[str] = Counter()
    for example in examples:
        aside: Counter[str] = Counter()
        drawn = _drawn(example, base, seed, aside)
        if not drawn:
            raise InputError(f"{_shown(example)}: no documents to learn from{_why(aside)}")
        unread.update({reason: count for reason, count in aside.items() if reason not in (_BLANK, _UNWANTED)})
        for identity, text in drawn:
            key = xxhash.xxh3_128_digest(text.lower().encode())
            if key in refused:
                repeated += 1
                continue
            refused.add(key)
            digest.update(orjson.dumps([identity, text]))
            held = is_held_out(identity, share)
            part = held_out if held else learnt
            part += passages(text, example.cut) if example.cut else [text]
            documents += 1
            held_out_documents += held
    return Texts(learnt, held_out, documents, held_out_documents, digest.hexdigest(), repeated, dict(sorted(unread.items())))


def _why(aside: Counter[str]) -> str:
    """For a message: what the source holds instead."""
    return f"; it holds {', '.join(f'{count:,} {reason}' for reason, count in aside.most_common(5))}" if aside else ""


def _drawn(example: Examples, base: Path, seed: int, aside: Counter[str]) -> list[tuple[str, str]]:
    """(id, text) of `count` documents, those whose ids have the least hashes, by rising hash. `aside` counts what else the source holds."""
    config = check_source({"name": "examples", **example.source}, _shown(example))
    wanted = ((row["id"], row["text"]) for row in Preview(config, base).rows() if _is_counted(row, example.where, aside))
    salt = seed.to_bytes(8, "little")
    keyed = ((xxhash.xxh3_64_intdigest(salt + identity.encode()), identity, text) for identity, text in wanted)
    drawn = sorted(keyed) if example.count is None else heapq.nsmallest(example.count, keyed)
    return [(identity, text) for _, identity, text in drawn]


def _is_counted(row: dict[str, Any], where: dict[str, tuple[str, ...]], aside: Counter[str]) -> bool:
    """Whether the row is a document to learn from; else `aside` says what it is."""
    if row["part"] == "documents":
        blank = not (row.get("text") or "").strip()
        reason = _BLANK if blank else "" if _is_wanted(row, where) else _UNWANTED
    else:
        failed = row["part"] == "errors"
        reason = f"error.{row.get('kind')}" if failed else f"drop.{row.get('reason')}"
    if reason:
        aside[reason] += 1
    return not reason


def _is_wanted(row: dict[str, Any], where: dict[str, tuple[str, ...]]) -> bool:
    if not where:
        return True
    meta = orjson.loads(row.get("meta") or "{}")
    meta = meta if isinstance(meta, dict) else {}
    for name, values in where.items():
        value = meta.get(name, row.get(name))
        if (value if isinstance(value, str) else orjson.dumps(value).decode()) not in values:
            return False
    return True


def passages(text: str, size: int) -> Iterator[str]:
    """Parts of about `size` bytes: cut at the last end of a line in the second half of each, else at the last blank, else anywhere."""
    data = text.encode()
    at = 0
    while at < len(data):
        end = at + size
        if end < len(data):
            cut = max(data.rfind(b"\n", at + size // 2, end), -1)
            if cut < 0:
                cut = data.rfind(b" ", at + size // 2, end)
            end = cut if cut > 0 else end
            while data[end] & 0xC0 == 0x80:
                end -= 1
        part = data[at:end].decode().strip()
        if part:
            yield part
        at = end


def as_array(texts: list[str], *, lower: bool) -> pa.Array:
    array = pa.array(texts, pa.large_string())
    return pc.utf8_lower(array) if lower else array


def _shown(example: Examples) -> str:
    paths = example.source.get("paths")
    if not paths:
        raise RecipeError("examples: a source has a type and paths")
    return printable(", ".join(map(str, paths)) if isinstance(paths, list | tuple) else str(paths))
