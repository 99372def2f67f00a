"""Further byte pair merges for a vocabulary that has its own already: learned on words as the vocabulary encodes them.

The pair of neighbouring ids with the highest count is merged everywhere, again and again; of equal counts the pair with the smaller (left,
right). A run of one id is merged from the left. Each pair has a linked list of the words it was found in, and an entry in a queue that is
put right when it comes to the top; where a merge changes a word, its pairs are counted anew. That takes time in the square of a word's
length at worst, so words are short here: the caller leaves out those of more than LONGEST ids.

Memory: 8 bytes an id, 8 each time a pair comes to stand in a word, 40 to 80 a distinct pair.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

LONGEST = 64  # ids of a word
_INTS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_IDS = numba.types.Array(numba.int32, 1, "C", readonly=True)


class Further(NamedTuple):
    pairs: np.ndarray  # int32[merges, 2]: the n-th merge makes the id first + n
    counts: np.ndarray  # int64[merges]


def learn_further(ids: np.ndarray, offsets: np.ndarray, counts: np.ndarray, first: int, merges: int, *, min_frequency: int = 2) -> Further:
    """Up to `merges` merges from the words ids[offsets[i]:offsets[i + 1]], each counted counts[i] times; new ids begin at `first`, which
    is above every id. ValueError for words of more than LONGEST ids, ids from `first` on or below 0, offsets that do not fit, and counts
    below 0 or whose sum over all ids passes 2^62."""
    ids, offsets, counts = (
        np.ascontiguousarray(ids, np.int32),
        np.ascontiguousarray(offsets, np.int64),
        np.ascontiguousarray(counts, np.int64),
    )
    sizes = np.diff(offsets)
    if len(offsets) != len(counts) + 1 or (sizes < 0).any() or offsets[0] != 0 or offsets[-1] != len(ids) or (sizes > LONGEST).any():
        raise ValueError(f"offsets must rise from 0 to the number of ids, {LONGEST} at a time at most")
    if len(ids) and not 0 <= ids.min() <= ids.max() < first:
        raise ValueError(f"ids must be from 0 to {first - 1}")
    if first + merges >= 1 << 31 or len(ids) >= 1 << 31:
        raise ValueError("more ids than 2^31")
    if (counts < 0).any() or (sizes.astype(np.float64) * counts).sum() > 4e18:
        raise ValueError("counts must be 0 or more, and fewer than 2^62 in all")
    for array in (ids, offsets, counts):
        array.flags.writeable = False
    return Further(*_learn(ids, offsets, counts, first, max(0, merges), max(1, min_frequency)))


@numba.njit(numba.int64(numba.int64[::1], numba.int64), nogil=True, cache=True)
def _slot(keys: Any, key: Any) -> Any:
    """The place of a key, or the empty one (-1) where it belongs. The table is at most half full."""
    mask = len(keys) - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    place = np.int64(mixed >> np.uint64(20)) & mask
    while keys[place] != -1 and keys[place] != key:
        place = (place + 1) & mask
    return place


@numba.njit(nogil=True, cache=True)
def _wider(keys: Any, counts: Any, lasts: Any) -> Any:
    """The same table with twice the slots."""
    slots = 2 * len(keys)
    new_keys, new_counts, new_lasts = np.full(slots, -1, np.int64), np.zeros(slots, np.int64), np.full(slots, -1, np.int64)
    for place in range(len(keys)):
        if keys[place] != -1:
            to = _slot(new_keys, keys[place])
            new_keys[to], new_counts[to], new_lasts[to] = keys[place], counts[place], lasts[place]
    return new_keys, new_counts, new_lasts


@numba.njit(nogil=True, cache=True)
def _longer(array: Any, used: Any, room: Any) -> Any:
    """The array, or a copy of twice the length where its first `used` elements leave no `room`."""
    if used + room <= len(array):
        return array
    longer = np.empty(2 * (used + room), array.dtype)
    longer[:used] = array[:used]
    return longer


@numba.njit(nogil=True, cache=True)
def _before(heap: Any, first: Any, second: Any) -> Any:
    """Whether an entry (count, key) goes before another: more often, then the smaller key."""
    return heap[first, 0] > heap[second, 0] or (heap[first, 0] == heap[second, 0] and heap[first, 1] < heap[second, 1])


@numba.njit(nogil=True, cache=True)
def _swap(heap: Any, first: Any, second: Any) -> None:
    for part in range(2):
        heap[first, part], heap[second, part] = heap[second, part], heap[first, part]


@numba.njit(nogil=True, cache=True)
def _rise(heap: Any, place: Any) -> None:
    while place > 0 and _before(heap, place, (place - 1) >> 1):
        _swap(heap, place, (place - 1) >> 1)
        place = (place - 1) >> 1


@numba.njit(nogil=True, cache=True)
def _sink(heap: Any, size: Any) -> None:
    """Put the top entry where it belongs."""
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            return
        if below + 1 < size and _before(heap, below + 1, below):
            below += 1
        if not _before(heap, below, place):
            return
        _swap(heap, place, below)
        place = below


@numba.njit(
    numba.types.Tuple((numba.types.Array(numba.int32, 2, "C"), numba.int64[::1]))(  # type: ignore[no-untyped-call]
        _IDS, _INTS, _INTS, numba.int64, numba.int64, numba.int64
    ),
    nogil=True,
    cache=True,
)
def _learn(ids: Any, offsets: Any, weights: Any, first: Any, limit: Any, needed: Any) -> Any:
    symbol = ids.copy()
    size = offsets[1:] - offsets[:-1]
    # Pairs by left << 31 | right: how often, and the last entry of the list of words that they were found in.
    keys, counts, lasts = np.full(1 << 16, -1, np.int64), np.zeros(1 << 16, np.int64), np.full(1 << 16, -1, np.int64)
    known = 0
    list_word, list_before = np.empty(1 << 16, np.int32), np.empty(1 << 16, np.int64)
    listed = 0
    heap = np.empty((1 << 10, 2), np.int64)
    heaped = 0
    fresh = np.empty(1 << 10, np.int64)  # keys of this round's new pairs
    merges, merged = np.empty((limit, 2), np.int32), np.empty(limit, np.int64)
    done = 0
    words = len(weights)
    at = np.int64(0)
    entry = np.int64(-1)
    left = right = np.int64(-1)
    while True:
        # A round goes through words: the first through all, the others through those of the pair that is merged.
        new = first + done - 1 if left >= 0 else np.int64(-1)
        freshly = 0
        while True:
            if left < 0:
                if at == words:
                    break
                word = at
                at += 1
            else:
                if entry < 0:
                    break
                word = np.int64(list_word[entry])
                entry = list_before[entry]
            begin, count, weight = offsets[word], size[word], weights[word]
            if left >= 0:
                holds = False
                for i in range(begin, begin + count - 1):
                    holds |= symbol[i] == left and symbol[i + 1] == right
                if not holds:
                    continue
                for i in range(begin, begin + count - 1):
                    counts[_slot(keys, (np.int64(symbol[i]) << 31) | np.int64(symbol[i + 1]))] -= weight
                i, kept = begin, begin
                while i < begin + count:
                    if i + 1 < begin + count and symbol[i] == left and symbol[i + 1] == right:
                        symbol[kept] = new
                        i += 2
                    else:
                        symbol[kept] = symbol[i]
                        i += 1
                    kept += 1
                count = kept - begin
                size[word] = count
            if 2 * (known + count) >= len(keys):
                keys, counts, lasts = _wider(keys, counts, lasts)
            list_word, list_before = _longer(list_word, listed, count), _longer(list_before, listed, count)
            fresh = _longer(fresh, freshly, count)
            for i in range(begin, begin + count - 1):
                key = (np.int64(symbol[i]) << 31) | np.int64(symbol[i + 1])
                place = _slot(keys, key)
                if keys[place] == -1:
                    keys[place] = key
                    known += 1
                    fresh[freshly] = key
                    freshly += 1
                counts[place] += weight
                # Pairs of old symbols are in their lists already.
                if (new < 0 or symbol[i] == new or symbol[i + 1] == new) and (lasts[place] < 0 or list_word[lasts[place]] != word):
                    list_word[listed], list_before[listed] = word, lasts[place]
                    lasts[place] = listed
                    listed += 1
        # A pair's count rises in no other round than the one that first finds it.
        while heaped + freshly > len(heap):
            taller = np.empty((2 * len(heap), 2), np.int64)
            taller[:heaped] = heap[:heaped]
            heap = taller
        for i in range(freshly):
            count = counts[_slot(keys, fresh[i])]
            if count >= needed:
                heap[heaped, 0], heap[heaped, 1] = count, fresh[i]
                _rise(heap, heaped)
                heaped += 1

        left = np.int64(-1)
        while heaped > 0 and done < limit:
            key = heap[0, 1]
            count = counts[_slot(keys, key)]
            if count == heap[0, 0]:
                left, right = key >> 31, key & ((1 << 31) - 1)
                entry = lasts[_slot(keys, key)]
                merges[done, 0], merges[done, 1], merged[done] = left, right, count
                done += 1
            if count != heap[0, 0] and count >= needed:
                heap[0, 0] = count  # it fell since
            else:
                heaped -= 1
                heap[0, 0], heap[0, 1] = heap[heaped, 0], heap[heaped, 1]
            _sink(heap, heaped)
            if left >= 0:
                break
        if left < 0:
            return merges[:done].copy(), merged[:done].copy()
