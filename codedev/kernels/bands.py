"""Locality-sensitive hashing of sketches: band keys, keys that occur again, pairs of a key, and which document of a pair stays.

Two documents whose sketches agree in all rows of a band have the band's key in common; with b bands of r rows that happens to a pair of
Jaccard similarity s with probability 1 - (1 - s^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, §3.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

_U8, _U32, _U64, _I64, _F32 = numba.uint8[::1], numba.uint32[::1], numba.uint64[::1], numba.int64[::1], numba.float32[::1]
_MAPPED, _MAPPED2 = (numba.types.Array(numba.uint64, dimensions, "C", readonly=True) for dimensions in (1, 2))


@numba.njit(numba.void(numba.uint32[:, ::1], numba.int64, numba.uint64[::1], numba.uint64[:, ::1]), nogil=True, cache=True)
def _band_keys(sketches: Any, rows: int, salts: Any, out: Any) -> None:
    for i in range(len(sketches)):
        for band in range(out.shape[1]):
            value = salts[i] + np.uint64(band) * np.uint64(0x9E3779B97F4A7C15)
            for row in range(band * rows, band * rows + rows):
                value = (value ^ np.uint64(sketches[i, row])) * np.uint64(0xD6E8FEB86659FD93)
                value ^= value >> np.uint64(32)
            value *= np.uint64(0xC4CEB9FE1A85EC53)
            out[i, band] = value ^ (value >> np.uint64(29))


def band_keys(sketches: np.ndarray, bands: int, rows: int, salts: np.ndarray) -> np.ndarray:
    """uint64[n, bands] of sketches uint32[n, >= bands * rows]. Documents with another salt (uint64[n]) never have a key in common."""
    out = np.empty((len(sketches), bands), np.uint64)
    _band_keys(np.ascontiguousarray(sketches), rows, np.ascontiguousarray(salts, np.uint64), out)
    return out


@numba.njit(numba.void(numba.uint32[:, ::1], numba.uint64[:, ::1]), nogil=True, cache=True)
def _low_bits(sketches: Any, out: Any) -> None:
    for i in range(len(sketches)):
        for word in range(out.shape[1]):
            value = np.uint64(0)
            for at in range(min(64, sketches.shape[1])):
                mixed = np.uint32(sketches[i, word * 64 + at] * np.uint32(0x9E3779B1))  # numba multiplies in 64 bits
                value = (value << np.uint64(1)) | np.uint64(mixed >> np.uint32(31))
            out[i, word] = value


def low_bits(sketches: np.ndarray) -> np.ndarray:
    """uint64[n, words]: a bit of each coordinate, of as many as make whole words, or of all where they are fewer than 64 (the others are
    0). Of two documents of similarity s a share (1 + s) / 2 of the bits agree (b-bit minwise hashing, Li and König 2010, with b = 1)."""
    out = np.empty((len(sketches), max(1, sketches.shape[1] // 64)), np.uint64)
    _low_bits(np.ascontiguousarray(sketches), out)
    return out


@numba.njit(numba.int64(_U64, _U64, _U8, numba.boolean[::1]), nogil=True, cache=True)
def _repeated(keys: Any, table: Any, seen: Any, out: Any) -> int:
    """Marks the keys that occur twice or more; `table` and `seen` are scratch of a power of two, more than the keys."""
    mask = np.uint64(len(table) - 1)
    seen[:] = 0
    for i in range(len(keys)):
        at = keys[i] & mask
        while seen[at] and table[at] != keys[i]:
            at = (at + np.uint64(1)) & mask
        if seen[at]:
            seen[at] = 2
        else:
            seen[at] = 1
            table[at] = keys[i]
    count = 0
    for i in range(len(keys)):
        at = keys[i] & mask
        while table[at] != keys[i] or not seen[at]:
            at = (at + np.uint64(1)) & mask
        out[i] = seen[at] == 2
        count += out[i]
    return count


def repeated(keys: np.ndarray) -> np.ndarray:
    """bool[n]: whether a key stands in uint64[n] more than once. Memory: 14 to 28 bytes a key."""
    size = 1 << max(4, int(len(keys) * 1.4).bit_length())
    out = np.zeros(len(keys), np.bool_)
    _repeated(np.ascontiguousarray(keys), np.empty(size, np.uint64), np.empty(size, np.uint8), out)
    return out


@numba.njit(numba.int64(_U64, _U32, numba.int64, numba.int64, numba.int64, numba.int64, _U64), nogil=True, cache=True)
def _pairs(keys: Any, ranks: Any, near: int, first: int, last: int, start: int, out: Any) -> int:
    count = 0
    for i in range(first, last):
        if keys[i] != keys[start]:
            start = i
        later = np.uint64(ranks[i]) << np.uint64(32)
        for j in range(start, min(i, start + near)):
            out[count] = later | np.uint64(ranks[j])
            count += 1
        for j in range(max(start + near, i - near), i):
            out[count] = later | np.uint64(ranks[j])
            count += 1
    return count


def pairs(keys: np.ndarray, ranks: np.ndarray, near: int, begin: int = 0) -> Iterator[np.ndarray]:
    """uint64[m] of (rank << 32 | lesser rank), 2^16 keys at a time: every document from `begin` on with the first `near` and the last
    `near` before it that have its key. `keys` are sorted, `ranks` uint32 sorted within a key. Linear, however many share a key. A pair
    comes once for each key that the two share; the array is good until the next one is asked for."""
    out = np.empty(2 * near * min(_TURN, len(keys) - begin), np.uint64)
    for first in range(begin, len(keys), _TURN):
        last = min(first + _TURN, len(keys))
        start = int(np.searchsorted(keys, keys[first]))
        yield out[: _pairs(keys, ranks, near, first, last, start, out)]


_TURN = 1 << 16


def ends_of_last(keys: np.ndarray, near: int) -> np.ndarray:
    """int64[at most 2 * near]: of sorted keys, the places of the first and the last `near` of the greatest: what `pairs` needs to go on
    where it stopped within a key."""
    start = int(np.searchsorted(keys, keys[-1])) if len(keys) else 0
    return np.unique(np.r_[start : min(start + near, len(keys)), max(start, len(keys) - near) : len(keys)].astype(np.int64))


@numba.njit(numba.void(_MAPPED2, _U64, numba.int64, numba.boolean[::1]), nogil=True, cache=True)
def _alike(bits: Any, told: Any, least: int, out: Any) -> None:
    for i in range(len(told)):
        left, right = np.int64(told[i] >> np.uint64(32)), np.int64(told[i] & np.uint64(0xFFFFFFFF))
        agree: Any = 0
        for word in range(bits.shape[1]):
            value = ~(bits[left, word] ^ bits[right, word])
            value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
            value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
            value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
            agree += np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))
        out[i] = agree >= least


def alike(bits: np.ndarray, told: np.ndarray, similarity: float, coordinates: int) -> np.ndarray:
    """bool[m]: whether of each pair (rank << 32 | rank) the rows of `bits`, made by `low_bits` of so many coordinates, agree as those of
    two documents of that similarity do, less three deviations."""
    count = min(coordinates, 64 * bits.shape[1])
    share = (1 + similarity) / 2
    least = int(count * share - 3 * (count * share * (1 - share)) ** 0.5)
    out = np.empty(len(told), np.bool_)
    _alike(bits, told, least + 64 * bits.shape[1] - count, out)  # bits that stand for nothing agree
    return out


@numba.njit(numba.void(_U64, _I64), nogil=True, cache=True)
def mark(marks: Any, rows: Any) -> None:
    """Sets the bit of each row in `marks`, uint64[rows / 64 or more]."""
    for i in range(len(rows)):
        marks[rows[i] >> 6] |= np.uint64(1) << np.uint64(rows[i] & 63)


@numba.njit(numba.int64(_U64, _U32, _U32), nogil=True, cache=True)
def marked(marks: Any, before: Any, out: Any) -> int:
    """The number of bits set; into `before`, those set before each word, and into `out` the places of as many as it has room for."""
    count = 0
    for word in range(len(marks)):
        before[word] = count
        value = marks[word]
        at = word << 6
        while value:
            if value & np.uint64(1):
                if count < len(out):
                    out[count] = at
                count += 1
            value >>= np.uint64(1)
            at += 1
    return count


@numba.njit(numba.void(_U64, _U32, _I64, _I64), nogil=True, cache=True)
def places(marks: Any, before: Any, rows: Any, out: Any) -> None:
    """How many bits are set before that of each row."""
    for i in range(len(rows)):
        value = marks[rows[i] >> 6] & ((np.uint64(1) << np.uint64(rows[i] & 63)) - np.uint64(1))
        value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
        value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
        value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        out[i] = np.int64(before[rows[i] >> 6]) + np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit()
def _jaccard(sets: Any, a: int, a_end: int, b: int, b_end: int) -> Any:
    size, common = a_end - a + b_end - b, 0
    while a < a_end and b < b_end:
        x, y = sets[a], sets[b]
        common += x == y
        a += x <= y
        b += y <= x
    return common / (size - common) if size > common else 0.0


_MOST_TESTS = 64  # survivors that one document is compared with


@numba.njit(numba.void(_MAPPED, _I64, _I64, _I64, numba.float64, numba.int64, _U32, _F32), nogil=True, cache=True)
def decide(sets: Any, bounds: Any, later: Any, earlier: Any, least: float, fewest: int, survivor: Any, jaccard: Any) -> None:
    """For documents in order of preference: the surviving document that each is most like, or itself where none is as like as `least`.

    Document i's sorted distinct shingles are sets[bounds[i]:bounds[i + 1]]. The pairs (later[k], earlier[k]) are sorted by the preference
    of `later`; they may come in turns, all pairs of one later document in one. Before the first, survivor[i] = i. Who was dropped stands
    for its survivor: a document is only ever compared with one that stays, so that a chain of resemblance drops nothing.
    Documents of less than `fewest` shingles stay: of so little text no share says that it is the same.
    """
    tested = np.empty(_MOST_TESTS, np.int64)
    best = np.int64(-1)
    at = 0
    while at < len(later):
        document, count, best = later[at], 0, np.int64(-1)
        highest = 0.0
        size = bounds[document + 1] - bounds[document]
        while at < len(later) and later[at] == document:
            other = np.int64(survivor[earlier[at]])
            at += 1
            known = False
            for k in range(count):
                known |= tested[k] == other
            if known or count == _MOST_TESTS:
                continue
            tested[count] = other
            count += 1
            other_size = bounds[other + 1] - bounds[other]
            if min(size, other_size) < max(fewest, least * max(size, other_size) - 1e-6):  # 0.55 x 20 is more than 11
                continue
            value = _jaccard(sets, bounds[document], bounds[document + 1], bounds[other], bounds[other + 1])
            if value >= least and value > highest:
                best, highest = other, value
        if best >= 0:
            survivor[document] = best
            jaccard[document] = highest
