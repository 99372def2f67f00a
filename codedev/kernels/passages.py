"""Passages of documents, to be judged one by one: which language, how much of the text.

A passage is a run of whole lines of at least LEAST bytes (the last one of a document may be shorter). Of a document with more than `most`
passages, `most` evenly spaced ones stand for all. One pass over the bytes, 1 GB/s a core.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

LEAST, READ = 200, 512  # bytes that a passage has, and that are read of it


class Passages(NamedTuple):
    data: np.ndarray  # uint8: the first READ bytes of each passage, whole characters, one after the other
    offsets: np.ndarray  # int64[passages + 1] into data
    row: np.ndarray  # int64[passages]: the document
    start: np.ndarray  # int64[passages]: where it begins in the document, bytes
    weight: np.ndarray  # int64[passages]: the bytes it stands for; they sum to the document's


def passages(data: np.ndarray, offsets: np.ndarray, most: int = 16) -> Passages:
    """The passages of each document; none of an empty one."""
    rows = len(offsets) - 1
    starts, ends = np.empty((rows, most), np.int64), np.empty((rows, most), np.int64)
    counts = np.zeros(rows, np.int64)
    room = _choose(data, offsets, starts, ends, counts)
    chosen = np.arange(most) < counts[:, None]
    row, begin, end = np.nonzero(chosen)[0], starts[chosen], ends[chosen]
    out, out_offsets = np.empty(room, np.uint8), np.zeros(len(row) + 1, np.int64)
    size = _copy(data, begin, end, out, out_offsets)
    # A passage stands for the bytes up to the next chosen one, the first one for those before it too.
    last = np.append(row[1:] != row[:-1], True) if len(row) else np.empty(0, bool)
    following = np.where(last, offsets[row + 1], np.append(begin[1:], 0)) if len(row) else begin
    return Passages(out[:size], out_offsets, row, begin - offsets[row], following - begin)


@numba.njit(
    numba.int64(
        numba.types.Array(numba.uint8, 1, "C", readonly=True),
        numba.types.Array(numba.int64, 1, "C", readonly=True),
        numba.int64[:, ::1],
        numba.int64[:, ::1],
        numba.int64[::1],
    ),
    nogil=True,
    cache=True,
)
def _choose(data: Any, offsets: Any, starts: Any, ends: Any, counts: Any) -> int:
    """Fills the bounds of the chosen passages of each document; returns the bytes that they take."""
    room, most = 0, starts.shape[1]
    for row in range(len(offsets) - 1):
        first, end = offsets[row], offsets[row + 1]
        held = 0
        # Twice: a count, then every n-th of them.
        total = 0
        for turn in range(2):
            begin, number = first, 0
            for at in range(first, end):
                if data[at] != 10 and at + 1 < end:
                    continue
                if at + 1 - begin < LEAST and at + 1 < end:
                    continue
                if turn == 1 and held < most and number == (held * total) // min(most, total):
                    stop = min(at + 1, begin + READ)
                    while begin < stop <= at and (data[stop] & 0xC0) == 0x80:
                        stop -= 1
                    starts[row, held], ends[row, held] = begin, stop
                    room += stop - begin
                    held += 1
                number += 1
                begin = at + 1
            total = number
        counts[row] = held
    return room


@numba.njit(
    numba.int64(
        numba.types.Array(numba.uint8, 1, "C", readonly=True), numba.int64[::1], numba.int64[::1], numba.uint8[::1], numba.int64[::1]
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def _copy(data: Any, begin: Any, end: Any, out: Any, offsets: Any) -> int:
    size = 0
    for number in range(len(begin)):
        for at in range(begin[number], end[number]):
            out[size] = data[at]
            size += 1
        offsets[number + 1] = size
    return size


def windows(data: np.ndarray, offsets: np.ndarray, prefix: int, parts: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(bytes uint8, offsets int64[texts + 1]): each text's first `prefix` bytes if no more than parts * size, else `parts` windows
    of at most `size` bytes, evenly spaced over them, that begin after a blank where one is near, with a blank between. Whole characters."""
    lengths = np.minimum(np.diff(offsets), prefix)
    room = np.where(lengths <= parts * size, lengths, parts * (size + 1))  # a text little longer than its windows grows by the blanks
    out = np.empty(int(room.sum()), np.uint8)
    out_offsets = np.zeros(len(offsets), np.int64)
    filled = _windows(data, offsets, prefix, parts, size, out, out_offsets)
    return out[:filled], out_offsets


@numba.njit(
    numba.int64(
        numba.types.Array(numba.uint8, 1, "C", readonly=True),
        numba.types.Array(numba.int64, 1, "C", readonly=True),
        numba.int64,
        numba.int64,
        numba.int64,
        numba.uint8[::1],
        numba.int64[::1],
    ),
    nogil=True,
    cache=True,
)
def _windows(data: Any, offsets: Any, prefix: Any, parts: Any, size: Any, out: Any, out_offsets: Any) -> int:
    filled = 0
    for text in range(len(offsets) - 1):
        first = offsets[text]
        length = min(offsets[text + 1] - first, prefix)
        whole = length <= parts * size
        for part in range(1 if whole else parts):
            begin = first if whole else first + part * (length - size) // max(parts - 1, 1)
            end = first + length if whole else begin + size
            if part > 0:
                for at in range(begin, begin + size // 4):
                    if data[at] <= 32:
                        begin = at + 1
                        break
                while begin < end and (data[begin] & 0xC0) == 0x80:
                    begin += 1
                out[filled] = 32
                filled += 1
            if end < offsets[text + 1]:
                while end > begin and (data[end] & 0xC0) == 0x80:
                    end -= 1
            for at in range(begin, end):
                out[filled] = data[at]
                filled += 1
        out_offsets[text + 1] = filled
    return filled
