"""Lines and paragraphs that stood before: within a document, and across documents once more than K of them hold a line.

    spill    128-bit hash, row and place of every line that is long enough, by prefix of the hash       disk: 40 bytes a line
    count    the documents that hold each line, part by part                                            memory: 160 bytes a distinct line
    decide   lines that go, in order of row                                                             disk: 40 bytes a line that goes

The result does not depend on `memory`. Code blocks, tables and formulas are never cut into pieces (kernels/wholes.py): a line of one stays.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq

from codedev.corpus.buffers import text_buffers
from codedev.corpus.dedup import Changes
from codedev.corpus.repeats.config import Lines
from codedev.corpus.repeats.cuts import cuts_path, write_cuts
from codedev.corpus.standing import Table, of_kinds, share_out, standing, text_bytes
from codedev.kernels import linehash
from codedev.kernels.wholes import wholes

_LINE = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<i8"), ("start", "<i8"), ("end", "<i8")])
_GONE = np.dtype([("row", "<i8"), ("start", "<i8"), ("end", "<i8"), ("why", "<i8"), ("texts", "<i8")])
_TURN = 1 << 18  # lines at a time
_LINE_BYTES = 200  # of memory a distinct line
_MOST_PARTS = 512  # files open at once: a process may have 1024 on most systems


def find_lines(tables: Sequence[Table], found: Path, *, config: Lines, memory: int, stage: str = "lines") -> int:
    """Write `found/cuts/<stage>.parquet` (CUTS rows); `stage` is `lines` or `paragraphs`. Returns the number of documents to be cut."""
    work = found.parent / f"{stage}-work"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(parents=True)
    try:
        most = text_bytes(tables) // config.min_chars + 1  # lines at most
        parts = 1
        while parts < _MOST_PARTS and most * _LINE_BYTES / parts > memory / 2:
            parts *= 2
        spilled = _spill(tables, Changes(found), work, config, stage == "paragraphs", parts)
        buckets = _Buckets(work, tables)
        for path in spilled:
            _decide(path, config, buckets)
            path.unlink()
        return write_cuts(cuts_path(found, stage), stage, _spans(buckets))
    finally:
        shutil.rmtree(work)


def _spill(tables: Sequence[Table], changes: Changes, work: Path, config: Lines, paragraphs: bool, parts: int) -> list[Path]:
    paths = [work / f"lines-{part:04d}" for part in range(parts)]
    shift = np.uint64(64 - max(parts.bit_length() - 1, 1))
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb", buffering=1 << 16)) for path in paths]
        for first, stand, batch in standing(tables, changes, ["text", "kind"]):
            wanted = stand & of_kinds(batch, config.kinds)
            if not wanted.any():
                continue
            data, offsets = text_buffers(batch.column("text"))
            marked = wanted & ~of_kinds(batch, ("code",))
            told = linehash.lines(
                data, offsets, wholes(data, offsets, marked), wanted,
                min_chars=config.min_chars, digits=config.digits, paragraphs=paragraphs,
            )  # fmt: skip
            records = np.empty(len(told.low), _LINE)
            records["high"], records["low"], records["row"] = told.high, told.low, told.text + first
            records["start"], records["end"] = told.start, told.end
            share_out(records, told.high >> shift if parts > 1 else np.zeros(len(records), np.int64), files)
    return paths


class _Buckets:
    """Lines that go, in files by range of rows, so that each can be sorted in memory."""

    def __init__(self, work: Path, tables: Sequence[Table], rows: int = 1 << 16) -> None:
        self._rows = rows
        last = max((table.first_row + pq.read_metadata(table.judged).num_rows for table in tables), default=0)
        self._paths = [work / f"gone-{number:06d}" for number in range(-(-last // rows))]

    def add(self, gone: np.ndarray) -> None:
        gone = gone[np.argsort(gone["row"], kind="stable")]
        for part in np.split(gone, np.flatnonzero(np.diff(gone["row"] // self._rows)) + 1) if len(gone) else ():
            with self._paths[part["row"][0] // self._rows].open("ab") as file:
                file.write(part.tobytes())

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self._paths:
            if path.exists():
                gone = np.fromfile(path, _GONE)
                yield gone[np.lexsort((gone["start"], gone["row"]))]


def _decide(path: Path, config: Lines, buckets: _Buckets) -> None:
    def turns() -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        with path.open("rb") as file:
            while len(records := np.fromfile(file, _LINE, _TURN)):
                yield records, [np.ascontiguousarray(records[name]).astype(kind) for name, kind in _KEYS]

    table = linehash.counted()
    for _, keys in turns():
        table = linehash.count(table, *keys)
    linehash.second_turn(table)
    more_than = np.iinfo(np.int64).max if config.max_documents is None else config.max_documents
    for records, keys in turns():
        why, texts = linehash.surplus(table, *keys, within=config.within, more_than=more_than, keep=config.keep)
        goes = why > 0
        gone = np.empty(int(goes.sum()), _GONE)
        for name in ("row", "start", "end"):
            gone[name] = records[name][goes]
        gone["why"], gone["texts"] = why[goes], texts[goes]
        buckets.add(gone)


_KEYS = (("high", np.uint64), ("low", np.uint64), ("row", np.int64))


def _spans(buckets: _Buckets) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    for gone in buckets:
        _, starts = np.unique(gone["row"], return_index=True)
        repeated = np.add.reduceat(gone["why"] == linehash.WITHIN, starts)
        shared = np.add.reduceat(gone["why"] == linehash.ACROSS, starts)
        texts = np.maximum.reduceat(gone["texts"], starts)
        evidence = [  # a Python loop over the documents that are cut: 1 µs each
            orjson.dumps({"repeated": int(within), "shared": int(across), "documents": int(most)}).decode()
            for within, across, most in zip(repeated, shared, texts, strict=True)
        ]
        yield gone["row"].copy(), np.stack([gone["start"], gone["end"]], axis=1), evidence
