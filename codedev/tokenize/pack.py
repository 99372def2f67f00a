"""The plan of the rows: which piece of which unit goes where. Sees lengths and hashes, no text.

Units are put in the order of a hash of seed and id, so that the order on disk leaves no trace: they are parted by that hash into buckets of
about POOL segments, on disk where there is more than one, and each bucket is sorted, packed and given away by itself. So memory does not
grow with the corpus: about 200 bytes a segment of a bucket.

    best-fit     overlong units are cut at full rows, the segments packed best-fit decreasing; the segments of a row stand in the shuffled
                 order (longest first would tie a document's length to its place in the row), the rows are shuffled. A unit is cut only
                 where it is longer than a row.
    concatenate  one unit after another, cut wherever a row ends.

0.3 µs a segment, and 20 µs for each unit that is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codedev.kernels.packing import best_fit
from codedev.tokenize.hashing import mix
from codedev.tokenize.recipe import Overlong, Packing

POOL = 1 << 18  # segments packed together
_SLICE = 1 << 18  # units looked at together
_ORDER, _ROWS, _COPY = 0x6F72646572, 0x726F7773, 0x636F7079  # keep the uses of one hash apart


class Documents(NamedTuple):
    """The columns of the store that packing reads, of all units."""

    begins: np.ndarray  # int64: the unit's first token in the store
    counts: np.ndarray  # int64: its tokens
    bytes: np.ndarray  # int64: bytes of its text
    hashes: np.ndarray  # uint64
    tokens: np.ndarray  # of the store
    token_bytes: np.ndarray  # bytes by id where `by_id`, else by position in the store
    by_id: bool


class Plan(NamedTuple):
    """Segments of one bucket in the order of the rows, and of their places within them."""

    documents: np.ndarray  # int64[segments]: the unit's index in the store
    offsets: np.ndarray  # int64: first token within the unit's token sequence
    lengths: np.ndarray  # int64: tokens
    byte_offsets: np.ndarray  # int64: first byte within the unit's text
    byte_lengths: np.ndarray  # int64: bytes of text the segment covers
    rows: np.ndarray  # int64[rows + 1]: first segment of each row
    tokens: int  # of the units, what is truncated included
    overlong: int  # units longer than a row
    cut: int  # units no longer than a row that are cut all the same
    truncated: int  # tokens


Times = Callable[[slice], np.ndarray]  # int64[units of the slice]: how often each stands in the rows


def plans(
    documents: Documents, times: Times, seq_len: int, *, seed: int, overlong: Overlong, packing: Packing, folder: Path, pool: int = POOL
) -> Iterator[Plan]:
    """The rows, bucket after bucket. Units without tokens are passed over. `folder` is for the buckets: it is made, and left empty."""
    made = 0
    for order in _buckets(documents, times, seq_len, seed, folder, pool):
        plan = _concatenated(documents, order, seq_len, overlong) if packing == "concatenate" else None
        plan = plan or _fitted(documents, order, seq_len, overlong, seed, made)
        made += len(plan.rows) - 1
        yield plan


def _buckets(documents: Documents, times: Times, seq_len: int, seed: int, folder: Path, pool: int) -> Iterator[np.ndarray]:
    """int64: units in the order in which they are packed, a bucket at a time."""
    slices = [slice(begin, min(begin + _SLICE, len(documents.counts))) for begin in range(0, len(documents.counts), _SLICE)]
    pieces = sum(int((times(at) * -(-documents.counts[at] // seq_len)).sum()) for at in slices)
    number = max(1, -(-pieces // pool))
    folder.mkdir(parents=True, exist_ok=True)
    held: list[np.ndarray] = []
    for stale in folder.iterdir():
        stale.unlink()
    for at in slices:
        drawn = _drawn(documents, times(at), at, seed)
        if number == 1:
            held.append(drawn)
            continue
        bucket = ((drawn["key"] >> np.uint64(32)) * np.uint64(number) >> np.uint64(32)).astype(np.int64)
        drawn = drawn[np.argsort(bucket, kind="stable")]
        edges = np.concatenate([[0], np.cumsum(np.bincount(bucket, minlength=number))])
        for filled in np.flatnonzero(np.diff(edges)):
            with (folder / f"{filled:06d}").open("ab") as file:
                file.write(drawn[edges[filled] : edges[filled + 1]].tobytes())
    for i in range(number):
        path = folder / f"{i:06d}"
        drawn = np.concatenate(held) if number == 1 and held else np.fromfile(path, _DRAWN) if path.exists() else np.empty(0, _DRAWN)
        path.unlink(missing_ok=True)
        held = []
        yield drawn["unit"][np.argsort(drawn["key"], kind="stable")]
    folder.rmdir()


_DRAWN = np.dtype([("key", np.uint64), ("unit", np.int64)])


def _drawn(documents: Documents, copies: np.ndarray, at: slice, seed: int) -> np.ndarray:
    """_DRAWN: every copy of the units of the slice that have tokens, with the hash that orders it."""
    copies = np.where(documents.counts[at] > 0, copies, 0)
    local = np.repeat(np.arange(len(copies)), copies)
    copy = np.arange(len(local)) - np.repeat(np.cumsum(copies) - copies, copies)
    found = np.empty(len(local), _DRAWN)
    key = mix(documents.hashes[at], seed ^ _ORDER)[local]
    found["key"] = np.where(copy == 0, key, mix(key + copy.astype(np.uint64), _COPY))
    found["unit"] = local + at.start
    return found


def _fitted(documents: Documents, order: np.ndarray, seq_len: int, overlong: Overlong, seed: int, rows_before: int) -> Plan:
    counts = documents.counts[order]
    long = counts > seq_len
    n_long, total = int(long.sum()), int(counts.sum())
    if overlong == "drop":
        order, counts, long = order[~long], counts[~long], np.zeros(len(order) - n_long, np.bool_)
    pieces = -(-counts // seq_len) if overlong == "split" else np.ones(len(order), np.int64)
    first = np.cumsum(pieces) - pieces
    document = np.repeat(order, pieces)
    offset = (np.arange(len(document)) - np.repeat(first, pieces)) * seq_len
    length = np.minimum(np.repeat(counts, pieces) - offset, seq_len)
    byte_offset, byte_length = np.zeros(len(document), np.int64), documents.bytes[document]
    for i in np.flatnonzero(long):  # about 20 µs each
        at = slice(first[i], first[i] + pieces[i])
        covered = _piece_bytes(documents, int(order[i]), offset[at], length[at])
        byte_length[at] = covered
        byte_offset[at] = np.cumsum(covered) - covered
    row, n_rows = best_fit(length, seq_len)
    place = np.empty(n_rows, np.int64)
    place[np.argsort(mix(np.arange(rows_before, rows_before + n_rows, dtype=np.uint64), seed ^ _ROWS))] = np.arange(n_rows)
    row = place[row]
    by_row = np.argsort(row, kind="stable")
    return Plan(
        documents=document[by_row],
        offsets=offset[by_row],
        lengths=length[by_row],
        byte_offsets=byte_offset[by_row],
        byte_lengths=byte_length[by_row],
        rows=np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_rows))]).astype(np.int64),
        tokens=total,
        overlong=n_long,
        cut=0,
        truncated=total - int(length.sum()),
    )


def _concatenated(documents: Documents, order: np.ndarray, seq_len: int, overlong: Overlong) -> Plan:
    counts = documents.counts[order]
    long = counts > seq_len
    n_long, total = int(long.sum()), int(counts.sum())
    if overlong == "drop":
        order, counts = order[~long], counts[~long]
    elif overlong == "truncate":
        counts = np.minimum(counts, seq_len)
    ends = np.cumsum(counts)
    filled = int(ends[-1]) if len(ends) else 0
    begins = ends - counts
    start = np.union1d(begins, np.arange(0, filled, seq_len))
    unit = np.searchsorted(ends, start, side="right")
    offset = start - begins[unit]
    length = np.diff(start, append=filled)
    document = order[unit]
    byte_offset, byte_length = np.zeros(len(start), np.int64), documents.bytes[document]
    pieces = np.bincount(unit, minlength=len(order))
    first = np.cumsum(pieces) - pieces
    for i in np.flatnonzero((pieces > 1) | (counts < documents.counts[order])):
        at = slice(first[i], first[i] + pieces[i])
        covered = _piece_bytes(documents, int(order[i]), offset[at], length[at])
        byte_length[at] = covered
        byte_offset[at] = np.cumsum(covered) - covered
    return Plan(
        documents=document,
        offsets=offset,
        lengths=length,
        byte_offsets=byte_offset,
        byte_lengths=byte_length,
        rows=np.searchsorted(start, np.arange(-(-filled // seq_len) + 1) * seq_len).astype(np.int64),
        tokens=total,
        overlong=n_long,
        cut=int(((pieces > 1) & (counts <= seq_len)).sum()),
        truncated=total - filled,
    )


def _piece_bytes(documents: Documents, document: int, offsets: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64: bytes of text that each of a document's pieces covers."""
    begin = int(documents.begins[document])
    span = slice(begin, begin + int(offsets[-1] + lengths[-1]))
    covered = documents.token_bytes[documents.tokens[span]] if documents.by_id else documents.token_bytes[span]
    return np.add.reduceat(covered, offsets, dtype=np.int64)
