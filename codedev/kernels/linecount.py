"""What FineWeb's rules count of a text whose words are parted by white space (arXiv 2406.17557, §3.6): half the time of `segment.py`, whose
columns of the same names hold the same numbers.

Input is the pair of buffers of an Arrow large_string array; lines are parted by "\\n" alone. Lines are equal when their bytes are, in 64
bits of hash. Of a document's lines the first LIMIT + 1 are searched for repetition.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import DATA, OFFSETS, SPACE, TABLE, TERMINAL, properties
from codedev.kernels.segment import LIMIT, SHORT_LINE, decoded

COLUMNS = ("chars", "words", "newlines", "full_lines", "terminal_lines", "short_lines", "dup_full_line_chars")
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)  # murmur3's 64-bit finaliser
_8 = np.uint64(8)


def line_counts(data: np.ndarray, offsets: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64[documents, len(COLUMNS)]; rows that are not `wanted`, bool[documents], are zeros."""
    out = np.zeros((len(offsets) - 1, len(COLUMNS)), np.int64)
    _line_counts(data, offsets, np.ascontiguousarray(wanted, np.uint8), properties(), LIMIT + 1, out)
    return out


@numba.njit(
    numba.void(DATA, OFFSETS, numba.types.Array(numba.uint8, 1, "C"), TABLE, numba.int64, numba.types.Array(numba.int64, 2, "C")),
    nogil=True,
    cache=True,
)
def _line_counts(data: Any, offsets: Any, wanted: Any, table: Any, limit: Any, out: Any) -> None:
    keys, stamps = np.empty(64, np.uint64), np.zeros(64, np.int32)
    stamp = np.int32(0)
    for row in range(len(offsets) - 1):
        if not wanted[row]:
            continue
        at, end = offsets[row], offsets[row + 1]
        newlines = 0
        for place in range(at, end):
            newlines += data[place] == 10
        size = len(keys)
        while size < 2 * min(newlines + 1, limit):
            size *= 2
        if size > len(keys):
            keys, stamps = np.empty(size, np.uint64), np.zeros(size, np.int32)
            stamp = np.int32(0)
        if stamp == 2_000_000_000:
            stamps[:] = 0
            stamp = np.int32(0)
        stamp += np.int32(1)
        size = 64
        while size < 2 * min(newlines + 1, limit):
            size *= 2
        mask = np.uint64(size - 1)
        chars = newlines
        words = fulls = terminals = shorts = repeated = line = 0
        while True:
            stop = at
            while stop < end and data[stop] != 10:
                stop += 1
            odd = False  # anything but printable ASCII
            for place in range(at, stop):
                odd |= (data[place] < 32) | (data[place] >= 127)
            count = stop - at
            before = words
            if stop > at and not odd:
                words += data[at] != 32
                for place in range(at + 1, stop):
                    words += (data[place] != 32) & (data[place - 1] == 32)
                last = table[data[stop - 1]]
            else:
                last = np.uint32(SPACE)
                count = 0
                place = at
                while place < stop:
                    if data[place] < 0x80:
                        code: Any = np.int64(data[place])
                        place += 1
                    else:
                        code, place = decoded(data, place, stop)
                    bits = table[code]
                    words += (bits & SPACE) == 0 and (last & SPACE) != 0
                    last = bits
                    count += 1
            chars += count
            if words > before:
                fulls += 1
                terminals += (last & TERMINAL) != 0
                shorts += count <= SHORT_LINE
                if line < limit:
                    value = np.uint64(stop - at)
                    place = at
                    while place + 8 <= stop:  # one load
                        part = (
                            np.uint64(data[place])
                            | np.uint64(data[place + 1]) << _8
                            | np.uint64(data[place + 2]) << np.uint64(16)
                            | np.uint64(data[place + 3]) << np.uint64(24)
                            | np.uint64(data[place + 4]) << np.uint64(32)
                            | np.uint64(data[place + 5]) << np.uint64(40)
                            | np.uint64(data[place + 6]) << np.uint64(48)
                            | np.uint64(data[place + 7]) << np.uint64(56)
                        )
                        value = (value ^ part) * _MIX_1
                        value ^= value >> np.uint64(32)
                        place += 8
                    part = np.uint64(0)
                    while place < stop:
                        part = part << _8 | np.uint64(data[place])
                        place += 1
                    value = (value ^ part) * _MIX_2
                    value = (value ^ (value >> np.uint64(33))) * _MIX_1
                    value ^= value >> np.uint64(33)
                    slot = np.int64(value & mask)
                    while stamps[slot] == stamp and keys[slot] != value:
                        slot = np.int64(np.uint64(slot + 1) & mask)
                    if stamps[slot] == stamp:
                        repeated += count
                    else:
                        stamps[slot] = stamp
                        keys[slot] = value
            line += 1
            if stop >= end:
                break
            at = stop + 1
        counted = (chars, words, newlines, fulls, terminals, shorts, repeated)
        for column in range(len(COLUMNS)):
            out[row, column] = counted[column]


def warm() -> None:
    line_counts(np.frombuffer(b"a", np.uint8), np.array([0, 1]), np.ones(1, bool))
