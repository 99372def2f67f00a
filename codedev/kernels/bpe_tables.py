"""What byte-pair merging looks up: the bytes of each token, the rank of each pair of ids, the id that each rank makes.

Two kinds of vocabulary are one here. In a tokenizer.json the rank of a pair is its line in the list of merges, the last line where one is
given twice. In tiktoken's files it is the id of the token that the pair makes, and every way to part a token in two tokens is a pair.
`whole` says whether a piece that is itself a token becomes it without a merge (tiktoken; `ignore_merges`).

Of all pairs only those are kept that a text can reach. When a pair merges to a token, what stands in the token's place was made of its
bytes alone, by the merges of least rank, as it would be in a text of these bytes and no others. So at most one pair makes a token, the last
one when its own bytes are merged: 104,000 of the 233,000 of cl100k, in 2 MB instead of 4.

    pairs   open hash table of uint64: (left << 20 | right) + 1, in 40 bits, then the rank in 24. 0 = empty. At most half full
    filter  one bit a hash of 21 bits: most pairs of two tokens merge to nothing, and 256 KB stay in the second-level cache
    tokens  open hash table of int32: id + 1 by the hash of the token's bytes

Cost: 0.1 s for 100,000 tokens, 30 bytes of memory a token and 16 a merge.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.memory import peek8, peek32, peek64, peek_int, view
from codedev.kernels.pretokens import read_only

ID_BITS = 20
MAX_IDS = (1 << ID_BITS) - 1
MAX_MERGES = (1 << 24) - 2
LONGEST = 4096  # bytes of a token: parting it in two tries every place
NONE = 0xFFFFFF  # the rank of a pair that does not merge
FILTER_BITS = 21
_PARTED = 32  # bytes of the longest token whose pairs are looked through; there are few longer ones

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)

BYTES: Any = numba.types.Array(numba.uint8, 1, "C", readonly=True)
INTS: Any = numba.types.Array(numba.int64, 1, "C", readonly=True)
WORDS: Any = numba.types.Array(numba.uint32, 1, "C", readonly=True)
LONGS: Any = numba.types.Array(numba.uint64, 1, "C", readonly=True)
IDS: Any = numba.types.Array(numba.int32, 1, "C", readonly=True)


class BpeTables(NamedTuple):
    data: np.ndarray  # uint8: the tokens' bytes one after another
    offsets: np.ndarray  # int64[ids + 1]: those of each id; none for ids that are no text
    tokens: np.ndarray  # int32[2^n]: see above
    byte_ids: np.ndarray  # uint32[256]: the id of each byte
    byte_pairs: np.ndarray  # uint32[65536]: the rank of first byte << 8 | second, NONE for none
    pairs: np.ndarray  # uint64[2^n]
    filter: np.ndarray  # uint8[2^18]
    rank_ids: np.ndarray  # uint32[ranks]: the id that each makes
    whole: np.ndarray  # uint8[1]: 1 where a piece that is a token becomes it


# The same as numba sees it, read-only.
TABLES: Any = numba.types.Tuple([BYTES, INTS, IDS, WORDS, WORDS, LONGS, BYTES, WORDS, BYTES])  # type: ignore[no-untyped-call]


def tables_from_merges(data: np.ndarray, offsets: np.ndarray, merges: np.ndarray, whole: bool) -> BpeTables:
    """From the bytes of every id and int64[merges, 3] of (left, right, made) ids in the order of their ranks. ValueError as `_tables`."""
    data, offsets = read_only(data, offsets)
    return _tables(data, offsets, merges, np.arange(len(merges)), merges[:, 2].astype(np.uint32), whole)


def tables_from_ranks(data: np.ndarray, offsets: np.ndarray) -> BpeTables:
    """From the bytes of every id, which are tiktoken's ranks. ValueError as `_tables`."""
    data, offsets = read_only(data, offsets)
    tokens = _token_table(data, offsets)
    merges = _partings(data, offsets, tokens)
    return _tables(data, offsets, merges, merges[:, 2], np.arange(len(offsets) - 1, dtype=np.uint32), True)


def token_ids(tables: BpeTables, texts: list[bytes]) -> list[int]:
    """The id that stands for exactly these bytes, each; -1 for none."""
    found = []
    for text in texts:
        found.append(int(_find_token(np.frombuffer(text, np.uint8), tables.data, tables.offsets, tables.tokens)))
    return found


def _tables(data: np.ndarray, offsets: np.ndarray, merges: np.ndarray, ranks: np.ndarray, rank_ids: np.ndarray, whole: bool) -> BpeTables:
    """ValueError for more ids, merges or bytes a token than the tables hold, or a byte that is no token."""
    count = len(offsets) - 1
    if count > MAX_IDS or len(merges) > MAX_MERGES or count >= NONE:
        raise ValueError(f"{count} ids and {len(merges)} merges: at most {MAX_IDS} and {MAX_MERGES}")
    tokens = _token_table(data, offsets)
    byte_ids = np.array([_find_token(np.frombuffer(bytes([byte]), np.uint8), data, offsets, tokens) for byte in range(256)], np.int64)
    if (byte_ids < 0).any():
        raise ValueError(f"the byte {int(np.argmin(byte_ids))} is no token")
    merges, ranks = np.ascontiguousarray(merges, np.int64), np.ascontiguousarray(ranks, np.int64)
    pairs, sieve = _pair_table(merges, ranks)
    last = np.full(count, -1, np.int64)
    frozen_pairs, frozen_sieve, frozen_ids = read_only(pairs, sieve, rank_ids)
    _last_merges(data, offsets, byte_ids, frozen_pairs, frozen_sieve, frozen_ids, last)
    keys = (merges[:, 0] << ID_BITS) | merges[:, 1]
    reached = (last[merges[:, 2]] == keys) | (np.diff(offsets)[merges[:, 2]] > _PARTED)
    pairs, sieve = _pair_table(merges[reached], ranks[reached])
    byte_ids, pairs = read_only(byte_ids, pairs)
    byte_pairs = _byte_pairs(byte_ids, pairs)
    arrays = (data, offsets, tokens, byte_ids.astype(np.uint32), byte_pairs, pairs, sieve, rank_ids, np.array([whole], np.uint8))
    return BpeTables(*read_only(*arrays))


def checked(tables: BpeTables) -> BpeTables:
    """The tables, read-only, from a file that anyone may have written: the kernels read what they name without looking. ValueError where
    that would be outside them. 10 ms for 100,000 tokens."""
    data, offsets, tokens, byte_ids, byte_pairs, pairs, sieve, rank_ids, whole = tables
    kinds = (np.uint8, np.int64, np.int32, np.uint32, np.uint32, np.uint64, np.uint8, np.uint32, np.uint8)
    if any(array.dtype != kind or array.ndim != 1 for array, kind in zip(tables, kinds, strict=True)) or len(offsets) < 2:
        raise ValueError("tables of other types")
    count = len(offsets) - 1
    sizes = np.diff(offsets)
    used = pairs[pairs != 0]
    sound = (
        count <= MAX_IDS
        and offsets[0] == 0
        and 0 <= sizes.min() <= sizes.max() <= LONGEST
        and offsets[-1] == len(data)
        and _is_table(tokens)
        and 0 <= tokens.min() <= tokens.max() <= count
        and (len(byte_ids), len(byte_pairs), len(sieve), len(whole)) == (256, 65536, 1 << (FILTER_BITS - 3), 1)
        and byte_ids.max() < count
        and len(rank_ids) < NONE
        and (byte_pairs[byte_pairs != NONE] < len(rank_ids)).all()
        and _is_table(pairs)
        and ((used & np.uint64(NONE)) < len(rank_ids)).all()
        and (rank_ids < count).all()
    )
    if not sound:
        raise ValueError("tables that contradict themselves")
    return BpeTables(*read_only(*tables))


def _is_table(slots: np.ndarray) -> bool:
    """Of a size that is a power of two, with an empty slot, at which a search ends."""
    return len(slots) > 0 and len(slots) & (len(slots) - 1) == 0 and bool((slots == 0).any())


def _pair_table(merges: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.zeros(1 << max(10, int(2 * len(merges)).bit_length()), np.uint64)
    sieve = np.zeros(1 << (FILTER_BITS - 3), np.uint8)
    _fill_pairs(merges, ranks, pairs, sieve)
    return pairs, sieve


def _token_table(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    if len(offsets) > 1 and int(np.diff(offsets).max()) > LONGEST:
        raise ValueError(f"a token of {int(np.diff(offsets).max())} bytes: at most {LONGEST}")
    tokens = np.zeros(1 << max(10, (2 * len(offsets)).bit_length()), np.int32)
    _fill_tokens(data, offsets, tokens)
    return read_only(tokens)[0]


@numba.njit(nogil=True, cache=True)
def hash_step(value: Any, byte: Any) -> Any:
    return (value ^ np.uint64(byte)) * np.uint64(0x100000001B3)  # FNV-1a


@numba.njit(nogil=True, cache=True)
def hash_place(value: Any, mask: Any) -> Any:
    value = (value ^ (value >> np.uint64(32))) * _MIX
    return np.int64((value >> np.uint64(24)) & np.uint64(mask))


@numba.njit(nogil=True, cache=True)
def token_at(text: Any, at: Any, size: Any, value: Any, data: Any, offsets: Any, tokens: Any) -> Any:
    """The id whose bytes are text[at : at + size], of that hash; -1 for none."""
    mask = (tokens[1] >> 2) - 1
    place = hash_place(value, mask)
    while True:
        found = peek32(tokens, place)
        if found == 0:
            return np.int64(-1)
        begin = peek_int(offsets, found - 1)
        if peek_int(offsets, found) - begin == size:
            same = np.int64(0)
            while same < size and peek8(data, begin + same) == peek8(text, at + same):
                same += 1
            if same == size:
                return found - 1
        place = (place + 1) & mask


@numba.njit(nogil=True, cache=True)
def find_token(text: Any, at: Any, size: Any, data: Any, offsets: Any, tokens: Any) -> Any:
    """The id whose bytes are text[at : at + size]; -1 for none."""
    value = np.uint64(0xCBF29CE484222325)
    for place in range(at, at + size):
        value = hash_step(value, peek8(text, place))
    return token_at(text, at, size, value, data, offsets, tokens)


@numba.njit(numba.int64(BYTES, BYTES, INTS, IDS), nogil=True, cache=True)
def _find_token(text: Any, data: Any, offsets: Any, tokens: Any) -> Any:
    return find_token(view(text), 0, len(text), view(data), view(offsets), view(tokens))


@numba.njit(numba.void(BYTES, INTS, numba.int32[::1]), nogil=True, cache=True)
def _fill_tokens(data: Any, offsets: Any, tokens: Any) -> None:
    mask = len(tokens) - 1
    for number in range(len(offsets) - 1):
        begin, end = offsets[number], offsets[number + 1]
        if begin == end:
            continue
        value = np.uint64(0xCBF29CE484222325)
        for place in range(begin, end):
            value = hash_step(value, data[place])
        place = hash_place(value, mask)
        while tokens[place] != 0:
            place = (place + 1) & mask
        tokens[place] = number + 1


@numba.njit(numba.int64[:, ::1](BYTES, INTS, IDS), nogil=True, cache=True)
def _partings(data: Any, offsets: Any, tokens: Any) -> Any:
    """int64[pairs, 3]: every way to part a token in two tokens."""
    out = np.empty((len(offsets) + 16, 3), np.int64)
    count = np.int64(0)
    start = np.uint64(0xCBF29CE484222325)
    bytes_, places, table = view(data), view(offsets), view(tokens)
    for number in range(len(offsets) - 1):
        begin, end = offsets[number], offsets[number + 1]
        value = start
        for cut in range(begin + 1, end):
            value = hash_step(value, data[cut - 1])
            left = token_at(bytes_, begin, cut - begin, value, bytes_, places, table)
            if left < 0:
                continue
            right = find_token(bytes_, cut, end - cut, bytes_, places, table)
            if right < 0:
                continue
            if count == len(out):
                grown = np.empty((2 * count, 3), np.int64)
                grown[:count] = out
                out = grown
            out[count, 0], out[count, 1], out[count, 2] = left, right, number
            count += 1
    return out[:count].copy()


@numba.njit(nogil=True, cache=True)
def pair_key(left: Any, right: Any) -> Any:
    return ((np.uint64(left) << np.uint64(ID_BITS)) | np.uint64(right)) + np.uint64(1)


@numba.njit(numba.void(numba.int64[:, ::1], numba.int64[::1], numba.uint64[::1], numba.uint8[::1]), nogil=True, cache=True)
def _fill_pairs(merges: Any, ranks: Any, pairs: Any, sieve: Any) -> None:
    mask = len(pairs) - 1
    for number in range(len(merges)):
        key = pair_key(merges[number, 0], merges[number, 1])
        mixed = key * _GOLDEN
        bit = np.int64(mixed >> np.uint64(64 - FILTER_BITS))
        sieve[bit >> 3] |= np.uint8(1 << (bit & 7))
        place = np.int64((mixed >> np.uint64(20)) & np.uint64(mask))
        while pairs[place] != np.uint64(0) and (pairs[place] >> np.uint64(24)) != key:
            place = (place + 1) & mask
        pairs[place] = (key << np.uint64(24)) | np.uint64(ranks[number])


@numba.njit(nogil=True, cache=True)
def pair_rank(pairs: Any, sieve: Any, left: Any, right: Any) -> Any:
    """The rank of the pair, NONE where it does not merge."""
    key = pair_key(left, right)
    mixed = key * _GOLDEN
    bit = np.int64(mixed >> np.uint64(64 - FILTER_BITS))
    if ((peek8(sieve, bit >> 3) >> (bit & 7)) & 1) == 0:
        return np.int64(NONE)
    mask = (pairs[1] >> 3) - 1
    place = np.int64((mixed >> np.uint64(20)) & np.uint64(mask))
    while True:
        found = peek64(pairs, place)
        if found == np.uint64(0):
            return np.int64(NONE)
        if (found >> np.uint64(24)) == key:
            return np.int64(found & np.uint64(0xFFFFFF))
        place = (place + 1) & mask


@numba.njit(numba.uint32[::1](INTS, LONGS), nogil=True, cache=True)
def _byte_pairs(byte_ids: Any, pairs: Any) -> Any:
    sieve = np.full(1 << (FILTER_BITS - 3), 255, np.uint8)
    ranks = np.empty(65536, np.uint32)
    for first in range(256):
        for second in range(256):
            ranks[first << 8 | second] = pair_rank(view(pairs), view(sieve), byte_ids[first], byte_ids[second])
    return ranks


@numba.njit(numba.void(BYTES, INTS, numba.int64[::1], LONGS, BYTES, WORDS, numba.int64[::1]), nogil=True, cache=True)
def _last_merges(data: Any, offsets: Any, byte_ids: Any, pairs: Any, sieve: Any, rank_ids: Any, last: Any) -> None:
    """The pair whose merge gives each token of up to _PARTED bytes when its bytes are merged, as left << ID_BITS | right; -1 for none."""
    ids = np.empty(_PARTED, np.int64)
    pairs_, sieve_ = view(pairs), view(sieve)
    for token in range(len(offsets) - 1):
        size = offsets[token + 1] - offsets[token]
        if size < 2 or size > _PARTED:
            continue
        for i in range(size):
            ids[i] = byte_ids[data[offsets[token] + i]]
        pair = np.int64(-1)
        while size > 1:
            best, left = np.int64(NONE), 0
            for i in range(size - 1):
                rank = pair_rank(pairs_, sieve_, ids[i], ids[i + 1])
                if rank < best:
                    best, left = rank, i
            if best == NONE:
                break
            pair = (ids[left] << ID_BITS) | ids[left + 1]
            ids[left] = rank_ids[best]
            for i in range(left + 1, size - 1):
                ids[i] = ids[i + 1]
            size -= 1
        if size == 1 and ids[0] == token:
            last[token] = pair
