"""Columns of a shard row that come from spans of units: which tokens carry loss, and where tokens out of their text's order come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

SPAN = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())])
PART = pa.struct(
    [
        pa.field("start", pa.int32()),  # from this token of the row on, up to the next part or the segment's end, …
        pa.field("document", pa.string()),
        pa.field("position", pa.int64()),  # … the tokens cover the text of this document …
        pa.field("byte_begin", pa.int64()),  # … from this byte on
    ]
)


class Segments(NamedTuple):
    """Segments of some rows, in order."""

    units: np.ndarray  # int64: index in the store
    offsets: np.ndarray  # int64: first token within the unit
    lengths: np.ndarray  # int64
    rows: np.ndarray  # int64, rising: of these rows
    targets: np.ndarray  # int64: first token within the row


def loss_spans(segments: Segments, n_rows: int, units: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> pa.ListArray:
    """The loss column of `n_rows` rows from the store's loss columns. Spans that meet are one."""
    segment, entry = _entries(segments.units, units)
    local = segments.offsets[segment]
    begin = np.maximum(starts[entry] - local, 0)
    end = np.minimum(ends[entry] - local, segments.lengths[segment])
    inside = end > begin
    segment, begin, end = segment[inside], begin[inside], end[inside]
    rows, target = segments.rows[segment], segments.targets[segment]
    begin, end = begin + target, end + target
    opens = np.ones(len(rows), np.bool_)
    opens[1:] = (rows[1:] != rows[:-1]) | (begin[1:] != end[:-1])
    closes = np.append(opens[1:], True)[: len(rows)]
    values = pa.StructArray.from_arrays(
        [pa.array(begin[opens].astype(np.int32)), pa.array(end[closes].astype(np.int32))], fields=list(SPAN)
    )
    return pa.ListArray.from_arrays(_list_offsets(rows[opens], n_rows), values)


def part_lists(
    segments: Segments,
    n_rows: int,
    columns: tuple[np.ndarray, np.ndarray, np.ndarray],
    ids: pa.Array,
    positions: np.ndarray,
    covered: Callable[[int, int, int], int],
) -> pa.ListArray:
    """The parts column of `n_rows` rows from the store's columns part_units, part_starts and part_bytes: null where a row has none.

    `ids` and `positions` are those of the segments' documents; `covered(unit, begin, end)` is how many bytes the tokens [begin, end) of a
    unit cover. 10 µs for a segment that begins inside a part.
    """
    units, starts, begins = columns
    segment, entry = _entries(segments.units, units)
    local = segments.offsets[segment]
    # A part ends where the next one of its unit begins.
    end = np.append(starts[1:], 0)[entry]
    end[np.append(units[1:] != units[:-1], True)[entry]] = np.iinfo(np.int64).max
    inside = (starts[entry] < local + segments.lengths[segment]) & (end > local)
    segment, entry, local = segment[inside], entry[inside], local[inside]
    byte = begins[entry].copy()
    for i in np.flatnonzero(starts[entry] < local):
        byte[i] += covered(int(segments.units[segment[i]]), int(starts[entry[i]]), int(local[i]))
    start = np.maximum(starts[entry] - local, 0) + segments.targets[segment]
    values = pa.StructArray.from_arrays(
        [pa.array(start.astype(np.int32)), ids.take(pa.array(segment)).cast(pa.string()), pa.array(positions[segment]), pa.array(byte)],
        fields=list(PART),
    )
    rows = segments.rows[segment]
    offsets = _list_offsets(rows, n_rows)
    none = np.bincount(rows, minlength=n_rows) == 0
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(none))


def _entries(wanted: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index in `wanted`, index in `units`) of every pair of equals; `units` rises."""
    first, last = np.searchsorted(units, wanted, "left"), np.searchsorted(units, wanted, "right")
    counts = last - first
    index = np.repeat(np.arange(len(wanted)), counts)
    return index, np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)


def _list_offsets(rows: np.ndarray, n_rows: int) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))]).astype(np.int32))
