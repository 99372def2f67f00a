"""Sketches of documents: a few hundred integers whose share of equal ones estimates how alike their shingle sets are (Jaccard).

    fss                Fast Similarity Sketching (Dahlgaard, Knudsen, Thorup 2017, arXiv 1704.04370). Round r puts every shingle into a bin
                       at random, a bin keeps the least (r, hash), and rounds end once no bin can change: a document of more than about
                       K ln K shingles costs one hash a shingle, not K. Rounds K to 2 K - 1 put all into bin r - K, so none stays empty.
                       Unbiased; the error is 0.7 to 1 times that of permutations, least on short documents.
    kperm              k permutations x -> a x + b modulo 2^32, the least value of each (Broder 1997)
    datasketch         the same, bit for bit the `hashvalues` of datasketch 2's MinHash (scheme "affine32"), see `sketches`
    datasketch-legacy  bit for bit those of datasketch 1, and of 2 with scheme "legacy"

A sketch depends on the set of shingles alone, not on order, repetition or batch, and is the same on every processor.
Coordinates of fss and kperm are never EMPTY; a document without a shingle is EMPTY everywhere and resembles nothing.

Memory: a piece of text (shingles.PIECE) at a time, whatever a document's length. Time is linear on any text: where rounds go on because a
piece repeats few shingles, the repeats are taken out first. Rates: benchmarks/bench_minhash.py.
"""

from __future__ import annotations

import numba
import numpy as np

from codedev.kernels.shingles import (
    DATA,
    OFFSETS,
    PIECE,
    SYMBOLS,
    TABLE,
    _mix,
    _piece,
    base_power,
    byte_limit,
    check_shingling,
    checked_buffers,
)
from codedev.kernels.symbols import UNITS, mixed, tables

METHODS = ("fss", "kperm", "datasketch", "datasketch-legacy")
EMPTY = 0xFFFFFFFF  # every coordinate of a document without a shingle
MAX_HASHES = 65_536

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_MERSENNE = (1 << 61) - 1
_SLICE = 4096  # ready shingles at a time


def sketches(
    data: np.ndarray,
    offsets: np.ndarray,
    *,
    ngram: int = 5,
    unit: str = "words",
    num_hashes: int = 112,
    seed: int = 0,
    method: str = "fss",
    max_bytes: int | None = None,
) -> np.ndarray:
    """uint32[rows, num_hashes]. The options of shingling, and ValueErrors, are those of `shingles.shingle_hashes`.

    `datasketch` methods hash a shingle to the upper half of its hash in `shingle_hashes`, so that the row of document i equals

        minhash = datasketch.MinHash(num_perm=num_hashes, seed=seed, hashfunc=lambda shingle: int(shingle) >> 32)  # its default seed is 1
        minhash.update_batch(hashes[bounds[i]:bounds[i + 1]])
        minhash.hashvalues

    (scheme="legacy" there for `datasketch-legacy`, whose values are uint64 in datasketch and fit 32 bits all the same).
    """
    data, offsets = checked_buffers(data, offsets)
    check_shingling(ngram, unit)
    first, second = parameters(method, num_hashes, seed)
    out = np.empty((len(offsets) - 1, num_hashes), np.uint32)
    limit, power = byte_limit(max_bytes), base_power(ngram)
    _sketch_text(data, offsets, limit, UNITS[unit], ngram, power, *tables(unit), METHODS.index(method), first, second, out)
    return out


def sketches_of(hashes: np.ndarray, bounds: np.ndarray, *, num_hashes: int = 112, seed: int = 0, method: str = "fss") -> np.ndarray:
    """The same of ready shingles, as `shingle_hashes` gives them: uint32[rows, num_hashes]."""
    hashes, bounds = np.ascontiguousarray(hashes, np.uint64), np.ascontiguousarray(bounds, np.int64)
    if len(bounds) == 0 or int(bounds[0]) < 0 or int(bounds[-1]) > len(hashes) or bool((np.diff(bounds) < 0).any()):
        raise ValueError(f"bounds must rise from 0 or more to at most {len(hashes)}, the number of hashes")
    first, second = parameters(method, num_hashes, seed)
    out = np.empty((len(bounds) - 1, num_hashes), np.uint32)
    _sketch_hashes(hashes, bounds, METHODS.index(method), first, second, out)
    return out


def estimate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The estimated Jaccard similarity, float64: the share of equal coordinates along the last axis, 0 where both are EMPTY.

    Standard deviation for J and K coordinates: sqrt(J (1 - J) / K) for permutations, less for fss on sets of up to K ln K shingles.
    """
    a, b = np.asarray(a), np.asarray(b)
    return np.asarray(((a == b) & (a != EMPTY)).mean(axis=-1, dtype=np.float64))


def parameters(method: str, num_hashes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two uint64 arrays that seed a method: a and b of each permutation; for fss the offset of each round, and the factor of round 0."""
    if method not in METHODS:
        raise ValueError(f"method {method!r}: one of {', '.join(METHODS)}")
    if not 1 <= num_hashes <= MAX_HASHES:
        raise ValueError(f"num_hashes {num_hashes}: must lie in 1..{MAX_HASHES}")
    if not 0 <= seed < 1 << 32:
        raise ValueError(f"seed {seed}: must lie in 0..{(1 << 32) - 1}")
    if method.startswith("datasketch"):
        return _datasketch_parameters(num_hashes, seed, legacy=method.endswith("legacy"))
    state = mixed((seed + 1) * _GOLDEN)
    count = 2 * num_hashes + 2
    words = np.array([mixed(state + i * _GOLDEN) for i in range(count)], np.uint64)
    if method == "fss":
        return words[: 2 * num_hashes], words[2 * num_hashes :] | np.uint64(1)
    low = words & np.uint64(0xFFFFFFFF)
    return low[:num_hashes] | np.uint64(1), low[num_hashes : 2 * num_hashes]


def _datasketch_parameters(num_hashes: int, seed: int, *, legacy: bool) -> tuple[np.ndarray, np.ndarray]:
    """What its MinHash draws, in its order, from NumPy's Mersenne Twister, whose stream is frozen."""
    generator = np.random.RandomState(seed)
    if legacy:
        draws = [
            (generator.randint(1, _MERSENNE, dtype=np.uint64), generator.randint(0, _MERSENNE, dtype=np.uint64)) for _ in range(num_hashes)
        ]
        pairs = np.array(draws, np.uint64)
        return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
    a = generator.randint(0, 1 << 31, num_hashes, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a.astype(np.uint64), generator.randint(0, 1 << 32, num_hashes, dtype=np.uint32).astype(np.uint64)


# -- kernels -----------------------------------------------------------------------------------------------------------------------
# `best` uint64[K] holds the least value of each coordinate so far, all ones at first.


@numba.njit(nogil=True)
def _add_fss(x, count, offsets, factors, best, table):  # type: ignore[no-untyped-def]  # compiled by numba
    """Takes the shingles x[:count] in; may reorder and shorten x. A bin's value is round << 32 | 32 bits of hash.

    Values of later rounds are greater than all of earlier ones, so rounds end when each bin's is of a round already done: also true of
    a document taken in piece by piece.
    """
    bins = np.uint64(len(best))
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    offset, factor = offsets[0], factors[0]
    for j in range(count):
        h = (x[j] ^ offset) * factor
        at = ((h >> half) * bins) >> half
        best[at] = min(best[at], h & low)
    # So many hashes fill all bins where shingles differ; when more are asked for, some are repeated.
    expected = len(best)
    for shift in range(17):
        if len(best) >> shift:
            expected += len(best)
    expected += 2 * len(best)
    done = count
    distinct = False
    last = np.uint64(0)  # the latest round of a bin
    for at in range(len(best)):
        last = max(last, best[at] >> half)
    r = np.uint64(1)
    end = bins + bins
    while r < end and r <= last:
        if not distinct and done >= expected:
            count = _distinct(x, count, table)
            distinct = True
        lowered = False
        high = r << half
        offset = offsets[r]
        if r < bins:
            for j in range(count):
                h = _mix(x[j] + offset)
                at = ((h >> half) * bins) >> half
                value = high | (h & low)
                if value < best[at]:
                    best[at] = value
                    lowered = True
        elif best[r - bins] >= high:
            at = r - bins
            for j in range(count):
                value = high | (_mix(x[j] + offset) & low)
                if value < best[at]:
                    best[at] = value
                    lowered = True
        if lowered:
            last = np.uint64(0)
            for at in range(len(best)):
                last = max(last, best[at] >> half)
        done += count
        r += np.uint64(1)


@numba.njit(nogil=True)
def _distinct(x, count, table):  # type: ignore[no-untyped-def]  # compiled by numba
    """Moves the distinct values of x[:count] to its front and counts them; a few may stay twice where values made to collide would
    otherwise cost a long search. `table` int32[a power of two, at least twice count]."""
    size = 16
    while size < 2 * count:
        size *= 2
    mask = np.uint64(size - 1)
    table[:size] = -1
    kept = 0
    for j in range(count):
        value = x[j]
        at = (value >> np.uint64(20)) & mask
        left = 64
        while left > 0 and table[at] >= 0 and x[table[at]] != value:
            at = (at + np.uint64(1)) & mask
            left -= 1
        if left == 0 or table[at] < 0:
            if left > 0:
                table[at] = kept
            x[kept] = value
            kept += 1
    return kept


@numba.njit(nogil=True)
def _add_affine(x, count, premixed, a, b, best):  # type: ignore[no-untyped-def]  # compiled by numba
    """a x + b modulo 2^32 of the upper halves; `premixed`: after murmur3's 32-bit finaliser. Arrays uint32. Four shingles at a time:
    `best` is then read and written a fourth as often."""
    width = 4
    for j in range(0, count, width):
        x0 = np.uint32(x[j] >> np.uint64(32))
        x1 = np.uint32(x[min(j + 1, count - 1)] >> np.uint64(32))
        x2 = np.uint32(x[min(j + 2, count - 1)] >> np.uint64(32))
        x3 = np.uint32(x[min(j + 3, count - 1)] >> np.uint64(32))
        if premixed:
            x0, x1, x2, x3 = _mix32(x0), _mix32(x1), _mix32(x2), _mix32(x3)
        for k in range(len(best)):
            v0 = np.uint32(a[k] * x0 + b[k])
            v1 = np.uint32(a[k] * x1 + b[k])
            v2 = np.uint32(a[k] * x2 + b[k])
            v3 = np.uint32(a[k] * x3 + b[k])
            best[k] = min(best[k], min(min(v0, v1), min(v2, v3)))


@numba.njit(inline="always")
def _mix32(value):  # type: ignore[no-untyped-def]  # compiled by numba
    value ^= value >> np.uint32(16)
    value = np.uint32(value * np.uint32(0x85EBCA6B))
    value ^= value >> np.uint32(13)
    value = np.uint32(value * np.uint32(0xC2B2AE35))
    return value ^ (value >> np.uint32(16))


@numba.njit(nogil=True)
def _add_legacy(x, count, a, b, best):  # type: ignore[no-untyped-def]  # compiled by numba
    """(a x + b modulo 2^64) modulo 2^61 - 1, its lower half."""
    prime, low = np.uint64(_MERSENNE), np.uint64(0xFFFFFFFF)
    for j in range(count):
        x0 = x[j] >> np.uint64(32)
        for k in range(len(best)):
            value = a[k] * x0 + b[k]
            value = (value & prime) + (value >> np.uint64(61))
            value = value - prime if value >= prime else value
            best[k] = min(best[k], value & low)


@numba.njit(nogil=True)
def _add(x, count, method, first, second, a, b, best64, best32, table):  # type: ignore[no-untyped-def]  # compiled by numba
    if method == 0:
        _add_fss(x, count, first, second, best64, table)
    elif method == 3:
        _add_legacy(x, count, first, second, best64)
    else:
        _add_affine(x, count, method == 2, a, b, best32)


@numba.njit(nogil=True)
def _finish(method, found, best64, best32, out):  # type: ignore[no-untyped-def]  # compiled by numba
    """The coordinates from the least values. Those of fss and kperm avoid EMPTY."""
    empty = np.uint32(EMPTY)
    for k in range(len(out)):
        if not found:
            out[k] = empty
        elif method == 0:
            round_and_hash = best64[k]
            value = np.uint32(round_and_hash) ^ np.uint32(np.uint32(round_and_hash >> np.uint64(32)) * np.uint32(0x9E3779B1))
            out[k] = value - np.uint32(value == empty)
        elif method == 1:
            out[k] = best32[k] - np.uint32(best32[k] == empty)
        elif method == 2:
            out[k] = best32[k]
        else:
            out[k] = np.uint32(best64[k])


@numba.njit(
    numba.void(
        DATA,
        OFFSETS,
        numba.int64,
        numba.int64,
        numba.int64,
        numba.uint64,
        TABLE,
        SYMBOLS,
        SYMBOLS,
        numba.int64,
        numba.uint64[::1],
        numba.uint64[::1],
        numba.uint32[:, ::1],
    ),
    nogil=True,
    cache=True,
)
def _sketch_text(  # type: ignore[no-untyped-def]  # compiled by numba
    data, offsets, limit, unit, ngram, power, table, symbols, steps, method, first, second, out
):
    tokens = np.empty(PIECE + ngram + 8, np.uint64)
    x = np.empty(PIECE + 8, np.uint64)
    seen = np.empty(4 * PIECE, np.int32)
    state = np.zeros(5, np.uint64)
    best64 = np.empty(out.shape[1], np.uint64)
    best32 = np.empty(out.shape[1], np.uint32)
    a, b = first.astype(np.uint32), second.astype(np.uint32)
    for row in range(len(offsets) - 1):
        at = np.uint64(offsets[row])
        end = at + np.uint64(min(offsets[row + 1] - offsets[row], limit))
        state[:] = np.uint64(0)
        best64[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
        best32[:] = np.uint32(EMPTY)
        found = False
        while at < end:
            at, made = _piece(data, at, end, unit, np.uint64(ngram), power, table, symbols, steps, state, tokens, x, np.uint64(0))
            if made > np.uint64(0):
                _add(x, np.int64(made), method, first, second, a, b, best64, best32, seen)
                found = True
        _finish(method, found, best64, best32, out[row])


@numba.njit(
    numba.void(SYMBOLS, OFFSETS, numba.int64, numba.uint64[::1], numba.uint64[::1], numba.uint32[:, ::1]),
    nogil=True,
    cache=True,
)
def _sketch_hashes(hashes, bounds, method, first, second, out):  # type: ignore[no-untyped-def]  # compiled by numba
    x = np.empty(_SLICE, np.uint64)
    seen = np.empty(4 * _SLICE, np.int32)
    best64 = np.empty(out.shape[1], np.uint64)
    best32 = np.empty(out.shape[1], np.uint32)
    a, b = first.astype(np.uint32), second.astype(np.uint32)
    for row in range(len(bounds) - 1):
        best64[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
        best32[:] = np.uint32(EMPTY)
        for at in range(bounds[row], bounds[row + 1], _SLICE):
            count = min(bounds[row + 1] - at, _SLICE)
            for j in range(count):
                x[j] = hashes[at + j]
            _add(x, count, method, first, second, a, b, best64, best32, seen)
        _finish(method, bounds[row + 1] > bounds[row], best64, best32, out[row])


def warm() -> None:
    """Compile, or load from the cache."""
    data, offsets = np.frombuffer(b"a", np.uint8), np.array([0, 1])
    sketches(data, offsets, num_hashes=1)
    sketches_of(np.zeros(1, np.uint64), offsets, num_hashes=1)
    for unit in UNITS:
        tables(unit)
