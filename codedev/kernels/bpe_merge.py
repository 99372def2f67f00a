"""The tokens of one piece: byte pairs merged by rank, the least first, of equal ones the leftmost, until none merges.

Up to SHORT bytes the ranks stand in one small array, whose vector minimum is the next merge: 0.4 µs for 15 bytes. Up to MEDIUM bytes (runs
of signs, sentences in Chinese) they stand in blocks of 16 with the minimum of each in a second array. Longer pieces (base64) take a heap of
pairs and a linked list, n log n for any bytes.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.bpe_tables import NONE, find_token, pair_rank
from codedev.kernels.memory import least16, lowest, peek8, peek32, poke32, unused

SHORT, MEDIUM = 64, 1024
# Where things stand in the uint32[SCRATCH] that a caller lends.
_RANKS, _AFTER, _BEFORE, _LEAST, SCRATCH = MEDIUM, 2 * MEDIUM, 3 * MEDIUM, 4 * MEDIUM, 4 * MEDIUM + MEDIUM // 16
_NOTHING = 0xFFFFFFFF


@numba.njit(nogil=True, cache=True)
def encode_piece(data: Any, at: Any, size: Any, tables: Any, scratch: Any, out: Any, place: Any) -> Any:
    """Write the ids of data[at : at + size] to out[place:], which holds at least `size` more; returns how many.

    `tables` and the rest are views; `scratch` uint32[SCRATCH]."""
    if peek8(tables[8], 0):
        found = find_token(data, at, size, tables[0], tables[1], tables[2])
        if found >= 0:
            poke32(out, place, found)
            return np.int64(1)
    if size <= SHORT:
        return merge_short(data, at, size, tables, scratch, out, place)
    if size <= MEDIUM:
        return merge_medium(data, at, size, tables, scratch, out, place)
    return merge_long(data, at, size, tables, out, place)


@numba.njit(nogil=True, cache=True)
def _entry(rank: Any, place: Any) -> Any:
    """What stands for a pair at `place`: ordered by rank, then from the left."""
    return (rank << 6) | place if rank < NONE else np.int64(_NOTHING)


@numba.njit(nogil=True, cache=True)
def merge_short(data: Any, at: Any, size: Any, tables: Any, scratch: Any, out: Any, place: Any) -> Any:
    """Pieces of 1 to SHORT bytes; `live` has a bit for each place where a token starts."""
    _, _, _, byte_ids, byte_pairs, pairs, sieve, rank_ids, _ = tables
    first = peek8(data, at)
    poke32(scratch, 0, peek32(byte_ids, first))
    for i in range(size - 1):
        second = peek8(data, at + i + 1)
        poke32(scratch, i + 1, peek32(byte_ids, second))
        poke32(scratch, _RANKS + i, _entry(peek32(byte_pairs, (first << 8) | second), i))
        first = second
    top = (size + 15) & ~15
    for i in range(size - 1, top):
        poke32(scratch, _RANKS + i, _NOTHING)
    one = np.uint64(1)
    live = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(SHORT - size)
    while True:
        best = least16(scratch, _RANKS)
        for i in range(16, top, 16):
            best = min(best, least16(scratch, _RANKS + i))
        if best == _NOTHING:
            break
        left = best & 63
        made = peek32(rank_ids, best >> 6)
        above = live & (np.uint64(0xFFFFFFFFFFFFFFFE) << np.uint64(left))
        right = lowest(above)
        above &= above - one
        live &= ~(one << np.uint64(right))
        poke32(scratch, left, made)
        poke32(scratch, _RANKS + right, _NOTHING)
        entry = np.int64(_NOTHING)
        if above:
            entry = _entry(pair_rank(pairs, sieve, made, peek32(scratch, lowest(above))), left)
        poke32(scratch, _RANKS + left, entry)
        below = live & ((one << np.uint64(left)) - one)
        if below:
            before = 63 - unused(below)
            poke32(scratch, _RANKS + before, _entry(pair_rank(pairs, sieve, peek32(scratch, before), made), before))
    count = np.int64(0)
    while live:
        poke32(out, place + count, peek32(scratch, lowest(live)))
        live &= live - one
        count += 1
    return count


@numba.njit(nogil=True, cache=True)
def _renew(scratch: Any, block: Any) -> None:
    """Note the least rank of the 16 places of a block anew."""
    least = least16(scratch, _RANKS + 16 * block)
    poke32(scratch, _LEAST + block, ((least >> 4) << 6) | block if least != _NOTHING else np.int64(_NOTHING))


@numba.njit(nogil=True, cache=True)
def _rank_at(scratch: Any, place: Any, rank: Any) -> None:
    """Note the rank of the pair at `place`."""
    poke32(scratch, _RANKS + place, (rank << 4) | (place & 15) if rank < NONE else np.int64(_NOTHING))


@numba.njit(nogil=True, cache=True)
def merge_medium(data: Any, at: Any, size: Any, tables: Any, scratch: Any, out: Any, place: Any) -> Any:
    """Pieces of up to MEDIUM bytes; each token knows where the next one starts and, plus one, the one before it."""
    _, _, _, byte_ids, byte_pairs, pairs, sieve, rank_ids, _ = tables
    blocks = (size + 15) >> 4
    for i in range(size):
        byte = peek8(data, at + i)
        poke32(scratch, i, peek32(byte_ids, byte))
        poke32(scratch, _AFTER + i, i + 1)
        poke32(scratch, _BEFORE + i, i)
        last = i + 1 == size
        _rank_at(scratch, i, np.int64(NONE) if last else peek32(byte_pairs, (byte << 8) | peek8(data, at + i + 1)))
    for i in range(size, 16 * blocks):
        poke32(scratch, _RANKS + i, _NOTHING)
    for block in range((blocks + 15) & ~15):
        if block < blocks:
            _renew(scratch, block)
        else:
            poke32(scratch, _LEAST + block, _NOTHING)
    while True:
        best = least16(scratch, _LEAST)
        for i in range(16, blocks, 16):
            best = min(best, least16(scratch, _LEAST + i))
        if best == _NOTHING:
            break
        block = best & 63
        left = 16 * block + (least16(scratch, _RANKS + 16 * block) & 15)
        right = peek32(scratch, _AFTER + left)
        beyond = peek32(scratch, _AFTER + right)
        made = peek32(rank_ids, best >> 6)
        poke32(scratch, left, made)
        poke32(scratch, _AFTER + left, beyond)
        poke32(scratch, _RANKS + right, _NOTHING)
        rank = np.int64(NONE)
        if beyond < size:
            poke32(scratch, _BEFORE + beyond, left + 1)
            rank = pair_rank(pairs, sieve, made, peek32(scratch, beyond))
        _rank_at(scratch, left, rank)
        previous = peek32(scratch, _BEFORE + left) - 1
        if previous >= 0:
            _rank_at(scratch, previous, pair_rank(pairs, sieve, peek32(scratch, previous), made))
            if previous >> 4 != block:
                _renew(scratch, previous >> 4)
        if right >> 4 != block:
            _renew(scratch, right >> 4)
        _renew(scratch, block)
    count, token = np.int64(0), np.int64(0)
    while token < size:
        poke32(out, place + count, peek32(scratch, token))
        count += 1
        token = peek32(scratch, _AFTER + token)
    return count


@numba.njit(nogil=True, cache=True)
def _push(heap: Any, size: Any, entry: Any) -> Any:
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if heap[above] <= entry:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = entry
    return size + 1


@numba.njit(nogil=True, cache=True)
def _sift(heap: Any, size: Any) -> Any:
    """Take the least away: the last one finds its place from the top."""
    size -= 1
    entry = heap[size]
    at = np.int64(0)
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if entry <= heap[below]:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = entry
    return size


@numba.njit(nogil=True, cache=True)
def merge_long(data: Any, at: Any, size: Any, tables: Any, out: Any, place: Any) -> Any:
    """Pieces of any length below 2^31 bytes; 28 bytes of memory each. An entry is rank << 40 | place; one whose pair has changed is stale
    and dropped when it comes up."""
    _, _, _, byte_ids, byte_pairs, pairs, sieve, rank_ids, _ = tables
    ids = np.empty(size, np.int32)  # -1 where a token is part of the one before it
    after = np.empty(size, np.int32)
    before = np.empty(size, np.int32)
    heap = np.empty(2 * size, np.int64)  # the first pairs, and for each merge, which takes one away, two more
    held = np.int64(0)
    for i in range(size):
        byte = peek8(data, at + i)
        ids[i], after[i], before[i] = peek32(byte_ids, byte), i + 1, i - 1
        if i + 1 < size:
            rank = peek32(byte_pairs, (byte << 8) | peek8(data, at + i + 1))
            if rank < NONE:
                held = _push(heap, held, (rank << 40) | i)
    while held > 0:
        entry = heap[0]
        held = _sift(heap, held)
        left, rank = entry & ((1 << 40) - 1), entry >> 40
        right = np.int64(after[left])
        if ids[left] < 0 or right >= size or pair_rank(pairs, sieve, ids[left], ids[right]) != rank:
            continue
        ids[left], ids[right] = peek32(rank_ids, rank), -1
        beyond = np.int64(after[right])
        after[left] = beyond
        if beyond < size:
            before[beyond] = left
            rank = pair_rank(pairs, sieve, ids[left], ids[beyond])
            if rank < NONE:
                held = _push(heap, held, (rank << 40) | left)
        previous = np.int64(before[left])
        if previous >= 0:
            rank = pair_rank(pairs, sieve, ids[previous], ids[left])
            if rank < NONE:
                held = _push(heap, held, (rank << 40) | previous)
    count, token = np.int64(0), np.int64(0)
    while token < size:
        poke32(out, place + count, ids[token])
        count += 1
        token = np.int64(after[token])
    return count
