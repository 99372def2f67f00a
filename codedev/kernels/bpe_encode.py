"""Texts -> token ids: pieces found, looked up in a cache of words, merged where they are not in it. Releases the GIL.

The work goes in rounds of about ROUND pieces. First the ends of the pieces are found and of each piece of up to 15 bytes the key (its bytes
and length in 16) and its slot, which is fetched meanwhile; then the ids are written. On text 98 % of the pieces are as short, and 96 %
are in the cache at first sight.

    short   four uint64 a slot: the key in two; the first three ids in 32 bits each, their number in the last. More than three ids stand in
            `values`, the first of the ids in the slot is then where
    long    three uint64 a slot, for 16 to LONG bytes: hash; where the bytes stand in `keys` | length << 40; where in `values` | ids << 40
    state   int64: how many short, long, values, keys are used; pieces seen and pieces merged since the cache was made

A cache belongs to one call at a time. It is bounded: when a part of it is full, it is emptied and fills anew. What it holds never changes
the ids.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.bpe_merge import SCRATCH, encode_piece
from codedev.kernels.bpe_tables import TABLES, BpeTables
from codedev.kernels.memory import (
    lowest,
    peek8,
    peek32,
    peek64,
    peek_int,
    peek_word,
    poke8,
    poke32,
    poke64,
    poke_int,
    poke_pair,
    prefetch,
    view,
)
from codedev.kernels.pretoken_masks import BLOCK, LEAST, masked, next_starts
from codedev.kernels.pretokens import DATA, OFFSETS, Shape, next_end, read_only, rules_of, table_of
from codedev.kernels.unicode_classes import CLASSES

ROUND = 256
_PLAN = 5  # uint64 a piece: where, how long, key, key, slot
LONG = 256  # bytes of the longest piece that is kept
MAX_TEXT = 1 << 31  # bytes
SPARE = 4  # ids that are written beyond the last one
SHORT_BITS, LONG_BITS = 19, 17
_SHORT, _LONG, _VALUES, _KEYS, _PIECES, _MERGED = range(6)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)


class WordCache(NamedTuple):
    short: np.ndarray  # uint64[4 << bits]
    long: np.ndarray  # uint64[3 << bits]
    values: np.ndarray  # uint32
    keys: np.ndarray  # uint8
    plan: np.ndarray  # uint64: the round
    scratch: np.ndarray  # uint32[SCRATCH]
    state: np.ndarray  # int64[6]


_LONGS: Any = numba.types.Array(numba.uint64, 1, "C")
_WORDS: Any = numba.types.Array(numba.uint32, 1, "C")
_CACHE: Any = numba.types.Tuple([_LONGS, _LONGS, _WORDS, numba.uint8[::1], _LONGS, _WORDS, numba.int64[::1]])  # type: ignore[no-untyped-call]


def word_cache(short_bits: int = SHORT_BITS, long_bits: int = LONG_BITS) -> WordCache:
    """An empty cache: 16 MB of short words, 3 of long ones, up to 24 of bytes and ids."""
    values = 1 << (short_bits + 3)
    return WordCache(
        short=np.zeros(4 << short_bits, np.uint64),
        long=np.zeros(3 << long_bits, np.uint64),
        values=np.zeros(max(values, 4 * LONG), np.uint32),
        keys=np.zeros(max(1 << (long_bits + 6), 4 * LONG), np.uint8),
        plan=np.zeros(_PLAN * (ROUND + 64), np.uint64),
        scratch=np.zeros(SCRATCH, np.uint32),
        state=np.zeros(6, np.int64),
    )


def encode(
    data: np.ndarray, offsets: np.ndarray, shape: Shape, tables: BpeTables, cache: WordCache, *, vectors: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(uint32 ids, int64[texts + 1]: where those of each text start) of Arrow text buffers. Without `vectors` pieces are found a character
    at a time, alike. ValueError for offsets that do not rise within the data or a text of 2 GiB. Scratch: 4 bytes a byte of text."""
    if len(offsets) > 1:
        sizes = np.diff(offsets)
        if offsets[0] < 0 or offsets[-1] > len(data) or sizes.min() < 0:
            raise ValueError("offsets that do not rise within the data")
        if sizes.max() >= MAX_TEXT:
            raise ValueError(f"a text of {sizes.max()} bytes: at most {MAX_TEXT - 1}")
    starts = np.zeros(len(offsets), np.int64)
    size = int(offsets[-1] - offsets[0]) if len(offsets) else 0
    out = np.empty(size + SPARE, np.uint32)
    if size:
        data, offsets = read_only(data, offsets)
        _encode(data, offsets, table_of(shape), rules_of(shape), vectors and masked(shape), tuple(tables), tuple(cache), out, starts)
    return out[: starts[-1]] if len(starts) else out[:0], starts


@numba.njit(nogil=True, cache=True)
def _slot_of(low: Any, high: Any, mask: Any) -> Any:
    mixed = (low ^ (high * _GOLDEN)) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _GOLDEN
    return np.int64(mixed >> np.uint64(24)) & mask


@numba.njit(nogil=True, cache=True)
def _key(data: Any, at: Any, size: Any) -> Any:
    """(the first eight bytes, the next seven and the size) of a piece of up to 15 bytes. Nothing is read past the end of `data`."""
    low, high = np.uint64(0), np.uint64(0)
    if at + 16 <= data[1]:
        if size < 8:
            low = peek_word(data, at) & ((np.uint64(1) << np.uint64(8 * size)) - np.uint64(1))
        else:
            low = peek_word(data, at)
            high = peek_word(data, at + 8) & ((np.uint64(1) << np.uint64(8 * (size - 8))) - np.uint64(1))
    else:
        for i in range(min(size, 8)):
            low |= np.uint64(peek8(data, at + i)) << np.uint64(8 * i)
        for i in range(8, size):
            high |= np.uint64(peek8(data, at + i)) << np.uint64(8 * (i - 8))
    return low, high | (np.uint64(size) << np.uint64(56))


@numba.njit(nogil=True, cache=True)
def _forget(cache: Any) -> None:
    short, long, _, _, _, _, state = cache
    for i in range(short[1] >> 3):
        poke64(short, i, np.uint64(0))
    for i in range(long[1] >> 3):
        poke64(long, i, np.uint64(0))
    for i in range(_PIECES):
        poke_int(state, i, 0)


@numba.njit(nogil=True, cache=True)
def _keep_short(cache: Any, slot: Any, low: Any, high: Any, out: Any, place: Any, count: Any) -> None:
    short, _, values, _, _, _, state = cache
    if 16 * (peek_int(state, _SHORT) + 1) > 3 * (short[1] >> 3) or peek_int(state, _VALUES) + count > values[1] >> 2:
        _forget(cache)
        mask = (short[1] >> 5) - 1
        slot = _slot_of(low, high, mask)
    base = slot << 2
    poke64(short, base, low)
    poke64(short, base + 1, high)
    if count <= 3:
        first = np.uint64(peek32(out, place))
        second = np.uint64(peek32(out, place + 1)) if count > 1 else np.uint64(0)
        third = np.uint64(peek32(out, place + 2)) if count > 2 else np.uint64(0)
        poke64(short, base + 2, first | (second << np.uint64(32)))
        poke64(short, base + 3, third | (np.uint64(count) << np.uint64(32)))
    else:
        at = peek_int(state, _VALUES)
        for i in range(count):
            poke32(values, at + i, peek32(out, place + i))
        poke_int(state, _VALUES, at + count)
        poke64(short, base + 2, np.uint64(at))
        poke64(short, base + 3, np.uint64(count) << np.uint64(32))
    poke_int(state, _SHORT, peek_int(state, _SHORT) + 1)


@numba.njit(nogil=True, cache=True)
def _short_piece(data: Any, at: Any, size: Any, low: Any, high: Any, slot: Any, tables: Any, cache: Any, out: Any, place: Any) -> Any:
    """Write the ids of a piece of up to 15 bytes to out[place:] (and three more); returns how many."""
    short, _, values, _, _, scratch, state = cache
    mask = (short[1] >> 5) - 1
    while True:
        base = slot << 2
        kept = peek64(short, base + 1)
        if kept == high and peek64(short, base) == low:
            last = peek64(short, base + 3)
            count = np.int64(last >> np.uint64(32))
            if count <= 3:
                poke_pair(out, place, peek64(short, base + 2))
                poke32(out, place + 2, np.int64(last & np.uint64(0xFFFFFFFF)))
            else:
                begin = np.int64(peek64(short, base + 2))
                for i in range(count):
                    poke32(out, place + i, peek32(values, begin + i))
            return count
        if kept == np.uint64(0):
            break
        slot = (slot + 1) & mask
    count = encode_piece(data, at, size, tables, scratch, out, place)
    poke_int(state, _MERGED, peek_int(state, _MERGED) + 1)
    _keep_short(cache, slot, low, high, out, place, count)
    return count


@numba.njit(nogil=True, cache=True)
def _hash_of(data: Any, at: Any, size: Any) -> Any:
    """Never 0."""
    value = np.uint64(size) * _GOLDEN
    i = np.int64(0)
    while i + 8 <= size:
        value = (value ^ peek_word(data, at + i)) * _MIX
        value ^= value >> np.uint64(32)
        i += 8
    rest = np.uint64(0)
    while i < size:
        rest = (rest << np.uint64(8)) | np.uint64(peek8(data, at + i))
        i += 1
    value = (value ^ rest) * _MIX
    return (value ^ (value >> np.uint64(29))) | np.uint64(1)


@numba.njit(nogil=True, cache=True)
def _same(keys: Any, begin: Any, data: Any, at: Any, size: Any) -> Any:
    for i in range(size):
        if peek8(keys, begin + i) != peek8(data, at + i):
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _long_piece(data: Any, at: Any, size: Any, tables: Any, cache: Any, out: Any, place: Any) -> Any:
    """As `_short_piece` for those of 16 bytes and more."""
    _, long, values, keys, _, scratch, state = cache
    if size > LONG:
        poke_int(state, _MERGED, peek_int(state, _MERGED) + 1)
        return encode_piece(data, at, size, tables, scratch, out, place)
    low40 = np.uint64((1 << 40) - 1)
    value = _hash_of(data, at, size)
    slots = long[1] // 24
    slot = np.int64(value >> np.uint64(24)) & (slots - 1)
    while True:
        base = slot * 3
        kept = peek64(long, base)
        if kept == np.uint64(0):
            break
        if kept == value:
            where, what = peek64(long, base + 1), peek64(long, base + 2)
            if np.int64(where >> np.uint64(40)) == size and _same(keys, np.int64(where & low40), data, at, size):
                count, begin = np.int64(what >> np.uint64(40)), np.int64(what & low40)
                for i in range(count):
                    poke32(out, place + i, peek32(values, begin + i))
                return count
        slot = (slot + 1) & (slots - 1)
    count = encode_piece(data, at, size, tables, scratch, out, place)
    poke_int(state, _MERGED, peek_int(state, _MERGED) + 1)
    if (
        4 * (peek_int(state, _LONG) + 1) > 3 * slots
        or peek_int(state, _VALUES) + count > values[1] >> 2
        or peek_int(state, _KEYS) + size > keys[1]
    ):
        _forget(cache)
        slot = np.int64(value >> np.uint64(24)) & (slots - 1)
    base = slot * 3
    poke64(long, base, value)
    poke64(long, base + 1, np.uint64(peek_int(state, _KEYS)) | (np.uint64(size) << np.uint64(40)))
    poke64(long, base + 2, np.uint64(peek_int(state, _VALUES)) | (np.uint64(count) << np.uint64(40)))
    for i in range(size):
        poke8(keys, peek_int(state, _KEYS) + i, peek8(data, at + i))
    for i in range(count):
        poke32(values, peek_int(state, _VALUES) + i, peek32(out, place + i))
    poke_int(state, _KEYS, peek_int(state, _KEYS) + size)
    poke_int(state, _VALUES, peek_int(state, _VALUES) + count)
    poke_int(state, _LONG, peek_int(state, _LONG) + 1)
    return count


@numba.njit(nogil=True, cache=True)
def _planned(data: Any, at: Any, size: Any, cache: Any, planned: Any) -> Any:
    """Note a piece in the plan and fetch its slot."""
    short, _, _, _, plan, _, _ = cache
    base = planned * _PLAN
    poke64(plan, base, np.uint64(at))
    poke64(plan, base + 1, np.uint64(size))
    if size <= 15:
        low, high = _key(data, at, size)
        slot = _slot_of(low, high, (short[1] >> 5) - 1)
        prefetch(short, slot << 2)
        poke64(plan, base + 2, low)
        poke64(plan, base + 3, high)
        poke64(plan, base + 4, np.uint64(slot))
    return planned + 1


@numba.njit(nogil=True, cache=True)
def _write_round(data: Any, planned: Any, text: Any, tables: Any, cache: Any, out: Any, place: Any, starts: Any) -> Any:
    """Write the ids of the round; a piece of no bytes is the end of a text. Returns (texts done, ids written) so far."""
    short, _, _, _, plan, _, state = cache
    for number in range(planned):
        base = number * _PLAN
        at, size = np.int64(peek64(plan, base)), np.int64(peek64(plan, base + 1))
        if size == 0:
            text += 1
            poke_int(starts, text, place)
        elif size <= 15:
            low, high, slot = peek64(plan, base + 2), peek64(plan, base + 3), np.int64(peek64(plan, base + 4))
            last = peek64(short, (slot << 2) + 3)
            count = np.int64(last >> np.uint64(32))
            if peek64(short, slot << 2) == low and peek64(short, (slot << 2) + 1) == high and count <= 3:
                poke_pair(out, place, peek64(short, (slot << 2) + 2))
                poke32(out, place + 2, np.int64(last & np.uint64(0xFFFFFFFF)))
                place += count
            else:
                place += _short_piece(data, at, size, low, high, slot, tables, cache, out, place)
        else:
            place += _long_piece(data, at, size, tables, cache, out, place)
    poke_int(state, _PIECES, peek_int(state, _PIECES) + planned)
    return text, place


@numba.njit(
    numba.int64(DATA, OFFSETS, CLASSES, numba.int64, numba.boolean, TABLES, _CACHE, numba.uint32[::1], numba.int64[::1]),
    nogil=True,
    cache=True,
)
def _encode(data: Any, offsets: Any, table: Any, rules: Any, vectors: Any, tables: Any, cache: Any, out: Any, starts: Any) -> Any:
    texts = len(offsets) - 1
    data_, table_, out_, starts_ = view(data), view(table), view(out), view(starts)
    tables_ = (
        view(tables[0]), view(tables[1]), view(tables[2]), view(tables[3]), view(tables[4]),
        view(tables[5]), view(tables[6]), view(tables[7]), view(tables[8]),
    )  # fmt: skip
    cache_ = (view(cache[0]), view(cache[1]), view(cache[2]), view(cache[3]), view(cache[4]), view(cache[5]), view(cache[6]))
    reading, written, place, planned = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    at, end, threes = offsets[0], offsets[1], np.int64(0)
    while reading < texts:
        while planned < ROUND and reading < texts:
            found = np.uint64(0)
            if vectors and end - at >= LEAST and at + BLOCK <= data_[1] and peek8(data_, at) < 0x80:
                found = next_starts(data_, at, min(end - at, BLOCK), rules)
            if found:
                begin = at
                while found:
                    after = begin + lowest(found)
                    found &= found - np.uint64(1)
                    planned = _planned(data_, at, after - at, cache_, planned)
                    at = after
                continue
            if at < end:
                after, threes = next_end(data_, at, end, table_, rules, threes)
                planned = _planned(data_, at, after - at, cache_, planned)
                at = after
                continue
            planned = _planned(data_, at, 0, cache_, planned)
            reading += 1
            if reading < texts:
                at, end, threes = offsets[reading], offsets[reading + 1], np.int64(0)
        written, place = _write_round(data_, planned, written, tables_, cache_, out_, place, starts_)
        planned = np.int64(0)
    return place
