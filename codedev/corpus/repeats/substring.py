"""Spans of at least `min_bytes` that an earlier document holds byte for byte: cut, so that the first document's copy stays.

    spill   the standing texts, one after the other, and the anchors of their windows, by prefix of the hash    disk: the texts, 100 bytes
            (kernels/repeats.py)                                                                                in `min_bytes`
    match   anchors that two texts have: their windows, compared byte by byte                                   disk: 24 bytes a span
    settle  the spans joined, and shrunk to words or lines (kernels/snap.py)

What is cut is exactly what the definition in kernels/repeats.py says, less what shrinking leaves; shrunk spans of less than half of
`min_bytes` stay. Whatever `memory` says the result is the same. Texts are read from disk by place, through the page cache: memory that
the system takes back when it wants. Reads of texts far apart: fast where they lie on an SSD.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.buffers import text_buffers
from codedev.corpus.dedup import Changes
from codedev.corpus.repeats.config import Substring
from codedev.corpus.repeats.cuts import cuts_path, write_cuts
from codedev.corpus.standing import Table, ids_of, of_kinds, share_out, standing, text_bytes
from codedev.kernels.repeats import ANCHOR, anchors, repeated
from codedev.kernels.snap import snapped
from codedev.kernels.wholes import wholes

_ANCHOR_BYTES = 200  # of memory an anchor: itself, sorted, its columns, the spans it gives
_BLOCK = 32 << 20  # bytes of text at a time


class _Texts(NamedTuple):
    """The standing texts, in order of row; on disk, mapped."""

    data: np.ndarray  # uint8[bytes]
    offsets: np.ndarray  # int64[texts + 1]
    row: np.ndarray  # int64[texts]
    marked: np.ndarray  # uint8[texts]: 1 where the text may hold Markdown


def find_repeats(tables: Sequence[Table], found: Path, *, config: Substring, memory: int) -> int:
    """Write `found/cuts/substring.parquet` (CUTS rows). Returns the number of documents to be cut."""
    work = found.parent / "substring-work"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(parents=True)
    changes = Changes(found)
    try:
        expected = text_bytes(tables) * 5 // config.min_bytes + 1  # anchors
        parts = 1  # files open at once: a process may have 1024 on most systems
        while parts < 512 and expected * _ANCHOR_BYTES / parts > memory / 4:
            parts *= 2
        most = max(memory // 4 // _ANCHOR_BYTES, 1 << 10)  # anchors at a time
        paths = _spill(tables, changes, work, config, parts)
        texts = _opened(work)
        reach = max(memory // 4, 1 << 20)  # bytes of text whose spans are settled together
        for path in paths:
            _match(path, texts, config.min_bytes, most, reach, work, memory)
            path.unlink()
        return write_cuts(cuts_path(found, "substring"), "substring", _settled(tables, changes, texts, config, reach, work))
    finally:
        shutil.rmtree(work)


# -- spill -----------------------------------------------------------------------------------------------------------------------------


def _spill(tables: Sequence[Table], changes: Changes, work: Path, config: Substring, parts: int) -> list[Path]:
    paths = [work / f"anchors-{part:04d}" for part in range(parts)]
    shift = np.uint64(64 - max(parts.bit_length() - 1, 1))
    done = 0
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb", buffering=1 << 16)) for path in paths]
        texts, ends, rows, marks = (stack.enter_context((work / name).open("wb")) for name in ("texts", "ends", "rows", "marks"))
        ends.write(np.zeros(1, np.int64).tobytes())
        for first, stand, batch in standing(tables, changes, ["text", "kind"]):
            wanted = stand & of_kinds(batch, config.kinds)
            text = batch.column("text")
            wanted &= pc.fill_null(pc.greater_equal(pc.binary_length(text), config.min_bytes), False).to_numpy(zero_copy_only=False)
            if not wanted.any():  # shorter texts hold no window
                continue
            data, offsets = text_buffers(text.filter(pa.array(wanted)))
            told = anchors(data, offsets, config.min_bytes)
            told["at"] += done - offsets[0]
            share_out(told, told["hash"] >> shift if parts > 1 else np.zeros(len(told), np.int64), files)
            texts.write(data[offsets[0] : offsets[-1]].data)
            ends.write((offsets[1:] - offsets[0] + done).tobytes())
            rows.write((np.flatnonzero(wanted) + first).tobytes())
            marks.write((~of_kinds(batch, ("code",)))[wanted].astype(np.uint8).tobytes())
            done += int(offsets[-1] - offsets[0])
    return paths


def _opened(work: Path) -> _Texts:
    kinds = (("texts", np.uint8), ("ends", np.int64), ("rows", np.int64), ("marks", np.uint8))
    columns = []
    for name, kind in kinds:
        path = work / name
        column = np.asarray(np.memmap(path, kind, "r")) if path.stat().st_size else np.frombuffer(b"", kind)
        columns.append(column)
    return _Texts(*columns)


# -- match -----------------------------------------------------------------------------------------------------------------------------


def _match(path: Path, texts: _Texts, window: int, most: int, reach: int, work: Path, memory: int) -> None:
    """The spans of a part's anchors, to files by place. What does not fit at once comes in turns, each led by the anchors of those before
    it that had something new: boilerplate of any number of documents takes no more memory than one copy of it."""
    slots = 1 << max(10, (memory // 8 // 16).bit_length() - 1)
    led = np.empty(0, ANCHOR)
    with path.open("rb") as file:
        while len(read := np.fromfile(file, ANCHOR, most)):
            told = np.concatenate([led, read]) if len(led) else read
            spans, fresh = repeated(texts.data, texts.offsets, told, window, slots)
            if len(read) == most:  # there may be more
                led = told[fresh]
            spans = _joined(spans, texts.offsets)
            bucket = texts.offsets[np.searchsorted(texts.offsets, spans[:, 0], side="right") - 1] // reach
            for number in np.unique(bucket).tolist():
                with (work / f"spans-{number:06d}").open("ab") as out:
                    out.write(np.ascontiguousarray(spans[bucket == number]).tobytes())


def _joined(spans: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64[n, 3]: spans (start, end, first copy of the first window) sorted, those that meet or overlap in one text as one."""
    if not len(spans):
        return spans
    spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
    reach = np.maximum.accumulate(spans[:, 1])
    text = np.searchsorted(offsets, spans[:, 0], side="right")
    opens = np.flatnonzero(np.append(True, (spans[1:, 0] > reach[:-1]) | (text[1:] != text[:-1])))
    return np.stack([spans[opens, 0], reach[np.append(opens[1:] - 1, len(spans) - 1)], spans[opens, 2]], axis=1)


# -- settle ----------------------------------------------------------------------------------------------------------------------------


def _settled(
    tables: Sequence[Table], changes: Changes, texts: _Texts, config: Substring, reach: int, work: Path
) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    for path in sorted(work.glob("spans-*")):
        spans = _joined(np.fromfile(path, np.int64).reshape(-1, 3), texts.offsets)
        path.unlink()
        text = np.searchsorted(texts.offsets, spans[:, 0], side="right") - 1
        low = 0
        while low < len(spans):
            # As many texts as make a block, one at least.
            first = int(text[low])
            last = max(int(np.searchsorted(texts.offsets, texts.offsets[first] + _BLOCK, side="right")) - 1, first + 1)
            high = int(np.searchsorted(text, last))
            yield _block(tables, changes, texts, config, spans[low:high], first, last)
            low = high


def _block(
    tables: Sequence[Table], changes: Changes, texts: _Texts, config: Substring, spans: np.ndarray, first: int, last: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    offsets = texts.offsets[first : last + 1]
    touched = np.zeros(last - first, bool)
    touched[np.unique(np.searchsorted(offsets, spans[:, 0], side="right") - 1)] = True
    whole = wholes(texts.data, offsets, touched & (texts.marked[first:last] != 0))
    shrunk, of = snapped(texts.data, offsets, spans[:, :2], whole, config.snap, config.min_bytes // 2)
    text = np.searchsorted(offsets, shrunk[:, 0], side="right") - 1
    rows = texts.row[first + text]
    distinct, starts = np.unique(rows, return_index=True)
    if not len(distinct):
        return rows, shrunk, []
    sizes = shrunk[:, 1] - shrunk[:, 0]
    longest = np.maximum.reduceat(sizes, starts)
    number = np.cumsum(np.bincount(starts, minlength=len(rows))) - 1
    candidates = np.flatnonzero(sizes == longest[number])
    chosen = candidates[np.unique(number[candidates], return_index=True)[1]]  # each document's longest span, the first of them
    kept = texts.row[np.searchsorted(texts.offsets, spans[of[chosen], 2], side="right") - 1]
    sources, inverse = np.unique(kept, return_inverse=True)
    ids = ids_of(tables, sources, changes)
    evidence = [  # a Python loop over the documents that are cut: 1 µs each
        orjson.dumps({"spans": int(count), "bytes": int(total), "longest": int(most), "longest_kept_in": ids[source]}).decode()
        for count, total, most, source in zip(
            np.bincount(number).tolist(), np.add.reduceat(sizes, starts).tolist(), longest.tolist(), inverse.tolist(), strict=True
        )
    ]
    return rows, shrunk - offsets[text][:, None], evidence
