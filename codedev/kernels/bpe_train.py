"""Byte pair merges from words and their counts (Sennrich et al., arXiv 1508.07909): those that `tokenizers.trainers.BpeTrainer` learns.

The pair of neighbours with the highest count is merged everywhere, again and again; of equal counts the pair with the smaller (left id,
right id). Counts are of all neighbours, overlapping ones too ("aaa" holds two of a, a); runs are merged from the left. A pair's places are
all known when the younger of its two symbols is made, and its count only falls after that: so each pair has one list of places, written
once, and one entry in a queue that is put right when it comes to the top. What is too rare at birth gets neither.

The words stand in one row of cells with a mark between two of them. A symbol of n bytes takes n cells and is written into its first and
last one, so that both neighbours are found without links; its first cell also names the pair that begins there, so that none is looked up.

A merge at a place takes one symbol away and gives at most two new places: time is O(cells * log(pairs)) whatever the words are. Memory:
12 bytes a cell (a byte of a word, or the mark that each word costs), 4 to 12 a cell of places (up to three times that while their array
grows), 52 a pair that was frequent enough when it was made. Measured, 30 MB of mixed text, 32,000 tokens: 25 to 31 bytes for each byte of
distinct words (310 to 370 a word); 44 where all is one word of noise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

BYTES = 256
_MARK, _RARE = -1, 0  # the symbol between words; the pair of all that can never be merged

_DATA = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_IDS = numba.types.Array(numba.int32, 1, "C", readonly=True)


class Merges(NamedTuple):
    pairs: np.ndarray  # int32[merges, 2]: ids of the two symbols; the n-th merge makes the symbol 256 + n
    counts: np.ndarray  # int64[merges]: how often the pair stood in the words when it was merged


def learn(
    data: np.ndarray, offsets: np.ndarray, counts: np.ndarray, ids: np.ndarray, merges: int, *, min_frequency: int = 0, max_length: int = 0
) -> Merges:
    """Up to `merges` merges from the words data[offsets[i]:offsets[i + 1]], each counted counts[i] times.

    `ids`: int32[256], the symbol of each byte, a permutation of 0 to 255 that decides ties. It ends early where no pair is left that occurs
    `min_frequency` times (at least once). With `max_length` > 0 only symbols of fewer bytes, or of two, are made, as the library has it.
    The order of the words and how counts are spread over equal ones change nothing. ValueError for counts below zero or whose sum over all
    bytes passes 2^63, for offsets outside `data`, and for more than 2^31 bytes of words.
    """
    offsets, counts = np.ascontiguousarray(offsets, np.int64), np.ascontiguousarray(counts, np.int64)
    sizes = np.diff(offsets)
    if len(offsets) != len(counts) + 1 or (sizes < 0).any() or offsets[0] < 0 or offsets[-1] > len(data):
        raise ValueError("offsets must rise within data, one more than there are counts")
    if (counts < 0).any() or (sizes.astype(np.float64) * counts).sum() > 9.2e18:
        raise ValueError("counts must be 0 or more, and fewer than 2^63 in all")
    if len(ids) != BYTES or not np.array_equal(np.sort(ids), np.arange(BYTES)):
        raise ValueError("ids must hold each of 0..255 once")
    useful = (sizes > 1) & (counts > 0)
    cells = int(sizes[useful].sum()) + int(useful.sum()) + 1  # a merge takes one away: there are fewer of them
    if cells >= 1 << 31:
        raise ValueError(f"{cells} bytes of distinct words are more than 2^31")
    arrays = [np.ascontiguousarray(data, np.uint8), offsets, counts, np.ascontiguousarray(ids, np.int32)]
    views = [array.view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    most_length = max_length if max_length > 0 else 1 << 62
    return Merges(*_learn(views[0], views[1], views[2], views[3], cells, min(max(0, merges), cells), max(1, min_frequency), most_length))


@numba.njit(numba.boolean(numba.int64, numba.uint64, numba.int64, numba.uint64), nogil=True, cache=True)
def _before(count: Any, key: Any, other_count: Any, other_key: Any) -> Any:
    return count > other_count or (count == other_count and key < other_key)


_HEAP = (numba.int64[::1], numba.uint64[::1], numba.int32[::1])


@numba.njit(numba.void(*_HEAP, numba.int64, numba.int64, numba.uint64, numba.int32), nogil=True, cache=True)
def _raise(counts: Any, keys: Any, pairs: Any, place: Any, count: Any, key: Any, pair: Any) -> None:
    """Put an entry at `place` of the heap or above."""
    while place > 0:
        above = (place - 1) >> 1
        if not _before(count, key, counts[above], keys[above]):
            break
        counts[place], keys[place], pairs[place] = counts[above], keys[above], pairs[above]
        place = above
    counts[place], keys[place], pairs[place] = count, key, pair


@numba.njit(numba.void(*_HEAP, numba.int64, numba.int64, numba.uint64, numba.int32), nogil=True, cache=True)
def _sink(counts: Any, keys: Any, pairs: Any, size: Any, count: Any, key: Any, pair: Any) -> None:
    """Put an entry in the place of the top one of a heap of `size`."""
    place = np.int64(0)
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and _before(counts[below + 1], keys[below + 1], counts[below], keys[below]):
            below += 1
        if not _before(counts[below], keys[below], count, key):
            break
        counts[place], keys[place], pairs[place] = counts[below], keys[below], pairs[below]
        place = below
    counts[place], keys[place], pairs[place] = count, key, pair


@numba.njit(nogil=True, cache=True)
def _grown(array: Any, used: Any, room: Any) -> Any:
    """The array, or a longer copy of its first `used` elements where it has no `room`."""
    if room <= len(array):
        return array
    longer = np.empty(max(room, 2 * len(array)), array.dtype)
    longer[:used] = array[:used]
    return longer


@numba.njit(
    numba.types.Tuple((numba.types.Array(numba.int32, 2, "C"), numba.int64[::1]))(  # type: ignore[no-untyped-call]
        _DATA, _OFFSETS, _OFFSETS, _IDS, numba.int64, numba.int64, numba.int64, numba.int64
    ),
    nogil=True,
    cache=True,
)
def _learn(data: Any, offsets: Any, weights: Any, ids: Any, cells: Any, limit: Any, needed: Any, max_length: Any) -> Any:
    symbol = np.empty(cells, np.int32)
    pair_at = np.zeros(cells, np.int32)
    word_at = np.empty(cells, np.int32)

    # The words, and the pairs of bytes: their counts and how many places each has.
    direct = np.zeros((BYTES, BYTES), np.int64)
    amount = np.zeros((BYTES, BYTES), np.int32)
    symbol[0], word_at[0] = _MARK, 0
    at: Any = np.int64(1)
    for word in range(len(weights)):
        begin, end, weight = offsets[word], offsets[word + 1], weights[word]
        if end - begin < 2 or weight == 0:
            continue
        last = np.int32(_MARK)
        for place in range(begin, end):
            found = ids[data[place]]
            symbol[at], word_at[at] = found, word
            if last >= 0:
                direct[last, found] += weight
                amount[last, found] += 1
            last = found
            at += 1
        symbol[at], word_at[at] = _MARK, word
        at += 1

    room = np.int64(1 << 17)
    counts, firsts, sizes = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.int32)
    lefts, rights = np.zeros(room, np.int32), np.zeros(room, np.int32)
    queue_counts, queue_keys, queue_pairs = np.empty(room, np.int64), np.empty(room, np.uint64), np.empty(room, np.int32)
    queued = np.int64(0)
    pairs = np.int64(1)  # 0 is _RARE
    used = np.int64(0)  # places
    name = np.zeros((BYTES, BYTES), np.int32)
    for left in range(BYTES):
        for right in range(BYTES):
            if direct[left, right] >= needed:
                name[left, right] = pairs
                counts[pairs], firsts[pairs] = direct[left, right], used
                lefts[pairs], rights[pairs] = left, right
                used += amount[left, right]
                key = np.uint64(left) << np.uint64(32) | np.uint64(right)
                _raise(queue_counts, queue_keys, queue_pairs, queued, counts[pairs], key, np.int32(pairs))
                queued += 1
                pairs += 1
    places = np.empty(used + 1024, np.int32)
    for at in range(1, cells - 1):
        if symbol[at] >= 0 and symbol[at + 1] >= 0:
            pair = name[symbol[at], symbol[at + 1]]
            if pair != _RARE:
                pair_at[at] = pair
                places[firsts[pair] + sizes[pair]] = at
                sizes[pair] += 1

    most = BYTES + limit
    length = np.ones(most, np.int64)
    as_left, as_right = np.zeros(most, np.int32), np.zeros(most, np.int32)  # this merge's pairs (symbol, new), (new, symbol); 0 = none yet
    new_pairs, new_places = np.empty(1024, np.int32), np.empty(1024, np.int32)  # as they come
    merges, merged_counts = np.empty((limit, 2), np.int32), np.empty(limit, np.int64)
    done = np.int64(0)
    while done < limit and queued > 0:
        pair = queue_pairs[0]
        if counts[pair] != queue_counts[0]:  # it fell since
            if counts[pair] >= needed:
                _sink(queue_counts, queue_keys, queue_pairs, queued, counts[pair], queue_keys[0], pair)
                continue
        elif counts[pair] >= needed:
            left, right = lefts[pair], rights[pair]
            new = np.int32(BYTES + done)
            left_size, size = length[left], length[left] + length[right]
            length[new] = size
            merges[done, 0], merges[done, 1], merged_counts[done] = left, right, counts[pair]
            done += 1

            first, amount_here = firsts[pair], np.int64(sizes[pair])
            room = pairs + 2 * min(amount_here, np.int64(new) + 1) + 1
            counts, firsts, sizes = _grown(counts, pairs, room), _grown(firsts, pairs, room), _grown(sizes, pairs, room)
            lefts, rights = _grown(lefts, pairs, room), _grown(rights, pairs, room)
            new_pairs, new_places = _grown(new_pairs, 0, 2 * amount_here), _grown(new_places, 0, 2 * amount_here)
            born, noted = pairs, np.int64(0)
            for index in range(first, first + amount_here):
                at = np.int64(places[index])
                if pair_at[at] != pair:
                    continue
                middle, after = at + left_size, at + size
                weight = weights[word_at[at]]
                neighbour = symbol[at - 1]
                if neighbour >= 0:
                    begin = at - length[neighbour]
                    counts[pair_at[begin]] -= weight
                    other: Any = np.int32(_RARE)
                    if length[neighbour] + size < max_length:
                        other = as_left[neighbour]
                        if other == 0:
                            other = np.int32(born)
                            as_left[neighbour] = other
                            counts[other], sizes[other], lefts[other], rights[other] = 0, 0, neighbour, new
                            born += 1
                        counts[other] += weight
                        new_pairs[noted], new_places[noted] = other, begin
                        noted += 1
                    pair_at[begin] = other
                neighbour = symbol[after]
                other = np.int32(_RARE)
                if neighbour >= 0:
                    counts[pair_at[middle]] -= weight
                    if length[neighbour] + size < max_length:
                        other = as_right[neighbour]
                        if other == 0:
                            other = np.int32(born)
                            as_right[neighbour] = other
                            counts[other], sizes[other], lefts[other], rights[other] = 0, 0, new, neighbour
                            born += 1
                        counts[other] += weight
                        new_pairs[noted], new_places[noted] = other, at
                        noted += 1
                pair_at[middle] = _RARE
                pair_at[at] = other
                symbol[at], symbol[after - 1] = new, new

            # Lists for those that are frequent enough; their numbers move together.
            for index in range(noted):
                sizes[new_pairs[index]] += pair_at[new_places[index]] == new_pairs[index]
            kept = pairs
            queue_room = queued + born - pairs
            queue_counts, queue_keys = _grown(queue_counts, queued, queue_room), _grown(queue_keys, queued, queue_room)
            queue_pairs = _grown(queue_pairs, queued, queue_room)
            total = used
            for other in range(pairs, born):
                if lefts[other] == new and rights[other] != new:
                    as_right[rights[other]] = 0
                else:
                    as_left[lefts[other]] = 0
                firsts[other] = -1  # none
                if counts[other] >= needed:
                    firsts[other] = total
                    total += sizes[other]
            places = _grown(places, used, total)
            used = total
            for index in range(noted):
                other, at = new_pairs[index], np.int64(new_places[index])
                if pair_at[at] == other:
                    if firsts[other] < 0:
                        pair_at[at] = _RARE
                    else:
                        places[firsts[other]] = at
                        firsts[other] += 1
            for other in range(pairs, born):
                if firsts[other] >= 0:
                    begin = firsts[other] - sizes[other]
                    counts[kept], firsts[kept], sizes[kept] = counts[other], begin, sizes[other]
                    lefts[kept], rights[kept] = lefts[other], rights[other]
                    for index in range(begin, begin + sizes[kept]):
                        pair_at[places[index]] = kept
                    key = np.uint64(lefts[kept]) << np.uint64(32) | np.uint64(rights[kept])
                    _raise(queue_counts, queue_keys, queue_pairs, queued, counts[kept], key, np.int32(kept))
                    queued += 1
                    kept += 1
            pairs = kept
            # The merged pair left the top; others may have come above it, so it is taken out where it is.
            counts[pair] = 0
            continue
        queued -= 1
        if queued > 0:
            _sink(queue_counts, queue_keys, queue_pairs, queued, queue_counts[queued], queue_keys[queued], queue_pairs[queued])
    return merges[:done].copy(), merged_counts[:done].copy()
