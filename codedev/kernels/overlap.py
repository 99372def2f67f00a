"""The exact Jaccard similarity of documents' shingle sets, |A and B| / |A or B|.

A set is the sorted distinct hashes of a document (least-significant-digit radix sort: linear on any input); it is made once, however many
pairs ask for it. A pair costs a merge of its two sets. Documents without a shingle resemble nothing, each other neither.
"""

from __future__ import annotations

import numba
import numpy as np

HASHES = numba.types.Array(numba.uint64, 1, "C", readonly=True)
BOUNDS = numba.types.Array(numba.int64, 1, "C", readonly=True)
PAIRS = numba.types.Array(numba.int64, 2, "C", readonly=True)


def jaccard(hashes_a: np.ndarray, hashes_b: np.ndarray) -> float:
    """Of two documents' shingles uint64[n] and uint64[m], in any order, repeated or not."""
    hashes = np.concatenate([np.asarray(hashes_a, np.uint64), np.asarray(hashes_b, np.uint64)])
    bounds = np.array([0, len(hashes_a), len(hashes)], np.int64)
    return float(jaccards(hashes, bounds, np.array([[0, 1]], np.int64))[0])


def shingle_sets(hashes: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(uint64[m], int64[documents + 1]): each document's distinct shingles, sorted, of `shingle_hashes`' result."""
    lengths = np.diff(bounds)
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    sets, sizes = np.empty(int(lengths.sum()), np.uint64), np.zeros(len(lengths), np.int64)
    _make_sets(hashes, bounds, begins, sets, sizes, np.empty(int(lengths.max(initial=0)), np.uint64))
    kept = np.arange(len(sets)) - np.repeat(begins[:-1], lengths) < np.repeat(sizes, lengths)
    return sets[kept], np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def jaccards(hashes: np.ndarray, bounds: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """float64[m] for pairs int64[m, 2] of documents; document i's shingles are `hashes[bounds[i]:bounds[i + 1]]`, in any order.

    Memory: 8 bytes for each shingle of the documents that pairs name. ValueError where bounds leave `hashes` or fall, IndexError
    where a pair names a document that is not there.
    """
    hashes, bounds = np.ascontiguousarray(hashes, np.uint64), np.ascontiguousarray(bounds, np.int64)
    pairs = np.ascontiguousarray(pairs, np.int64).reshape(-1, 2)
    if len(bounds) == 0 or int(bounds[0]) < 0 or int(bounds[-1]) > len(hashes) or bool((np.diff(bounds) < 0).any()):
        raise ValueError(f"bounds must rise from 0 or more to at most {len(hashes)}, the number of hashes")
    if len(pairs) and (int(pairs.min()) < 0 or int(pairs.max()) >= len(bounds) - 1):
        raise IndexError(f"pairs name documents {pairs.min()} to {pairs.max()} of {len(bounds) - 1}")
    named = np.zeros(len(bounds) - 1, np.bool_)
    named[pairs.ravel()] = True
    lengths = np.where(named, np.diff(bounds), 0)
    sets = np.empty(int(lengths.sum()), np.uint64)
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    sizes = np.zeros(len(lengths), np.int64)
    scratch = np.empty(int(lengths.max(initial=0)), np.uint64)
    _make_sets(hashes, bounds, begins, sets, sizes, scratch)
    out = np.empty(len(pairs), np.float64)
    _jaccards(sets, begins, sizes, pairs, out)
    return out


@numba.njit(nogil=True)
def _sort(keys, count, scratch):  # type: ignore[no-untyped-def]  # compiled by numba
    """Sorts keys[:count]: by insertion where they are few, else by eight digits of eight bits."""
    if count <= 64:
        for i in range(1, count):
            key = keys[i]
            j = i
            while j > 0 and keys[j - 1] > key:
                keys[j] = keys[j - 1]
                j -= 1
            keys[j] = key
        return
    counts = np.zeros((8, 256), np.int64)
    for i in range(count):
        key = keys[i]
        for digit in range(8):
            counts[digit, (key >> np.uint64(8 * digit)) & np.uint64(255)] += 1
    for digit in range(8):
        total = 0
        for value in range(256):
            total, counts[digit, value] = total + counts[digit, value], total
    # Two digits a round, there and back again.
    for digit in range(0, 8, 2):
        shift = np.uint64(8 * digit)
        for i in range(count):
            value = (keys[i] >> shift) & np.uint64(255)
            scratch[counts[digit, value]] = keys[i]
            counts[digit, value] += 1
        shift += np.uint64(8)
        for i in range(count):
            value = (scratch[i] >> shift) & np.uint64(255)
            keys[counts[digit + 1, value]] = scratch[i]
            counts[digit + 1, value] += 1


@numba.njit(
    numba.void(HASHES, BOUNDS, BOUNDS, numba.uint64[::1], numba.int64[::1], numba.uint64[::1]),
    nogil=True,
    cache=True,
)
def _make_sets(hashes, bounds, begins, sets, sizes, scratch):  # type: ignore[no-untyped-def]  # compiled by numba
    """sets[begins[i]:][:sizes[i]]: the sorted distinct hashes of each document that has a place in `begins`."""
    for row in range(len(sizes)):
        begin, count = begins[row], begins[row + 1] - begins[row]
        if count == 0:
            continue
        keys = sets[begin : begin + count]
        for i in range(count):
            keys[i] = hashes[bounds[row] + i]
        _sort(keys, count, scratch)
        kept = 1
        last = keys[0]
        for i in range(1, count):
            key = keys[i]
            keys[kept] = key
            kept += key != last
            last = key
        sizes[row] = kept


@numba.njit(
    numba.void(numba.uint64[::1], BOUNDS, numba.int64[::1], PAIRS, numba.float64[::1]),
    nogil=True,
    cache=True,
)
def _jaccards(sets, begins, sizes, pairs, out):  # type: ignore[no-untyped-def]  # compiled by numba
    for pair in range(len(pairs)):
        i, j = begins[pairs[pair, 0]], begins[pairs[pair, 1]]
        size_a, size_b = sizes[pairs[pair, 0]], sizes[pairs[pair, 1]]
        end_a, end_b = i + size_a, j + size_b
        common = 0
        while i < end_a and j < end_b:
            a, b = sets[i], sets[j]
            common += a == b
            i += a <= b
            j += b <= a
        union = size_a + size_b - common
        out[pair] = common / union if union > 0 else 0.0


def warm() -> None:
    """Compile, or load from the cache."""
    jaccard(np.zeros(1, np.uint64), np.zeros(1, np.uint64))
