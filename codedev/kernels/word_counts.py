"""Distinct words and how often each occurs, over any number of batches in bounded memory, exactly.

A word is a piece of a text buffer. Open addressing; a slot is four int64: two of key, the count, and where a long word's bytes stand. A
word of up to 15 bytes is its own key (bytes and length); a longer one has a hash for its key and its bytes in a buffer, which are compared.
Slots are found by multilinear hashing with secret factors (Dietzfelbinger 1996; Lemire and Kaser, arXiv 1202.4961), so that no text can
be written to collide.

Memory: 43 to 85 bytes a distinct word in the table, and its bytes again where it has over 15. Where it would pass the bound, all words go
to files by their hash, and the table starts anew; at the end each file is counted by itself, in parts again if it must be. So the counts
are exact and the same for any batches, bounds and threads; only the order of the words is left open.
"""

from __future__ import annotations

import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.memory import peek8, peek_int, peek_word, poke_int, prefetch, view

PARTS = 16
_SLOT = 4
_FIRST_BITS = 12
_INLINE = 15  # bytes of a word that is its own key
_AHEAD = 64  # words between looking for a slot and reading it
_EXPORT = 1 << 16  # words written at a time
_MOVED, _UNFIT, _INVALID = -1, -2, -3

_DATA = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_INTS: Any = numba.types.Array(numba.int64, 1, "C", readonly=True)


class Words(NamedTuple):
    """Each word once: data[offsets[i]:offsets[i + 1]] occurs counts[i] times. Their order means nothing."""

    data: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray


class Kept(NamedTuple):
    words: Words
    least: int  # words that occur less often were dropped; 1 = none was
    dropped_words: int
    dropped_occurrences: int
    dropped_bytes: int


class WordCounts:
    """Counts words. One thread at a time may use it; threads that count each have their own, and one absorbs the others."""

    def __init__(self, memory: int = 1 << 30, folder: Path | None = None) -> None:
        """`memory`: bytes for counting, at least 1 MiB (a single longer word is held all the same); `folder`: where to put files, which
        are gone when the object is."""
        self.memory = max(memory, 1 << 20)
        self.spills = 0
        self._folder = folder
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self._factors = np.frombuffer(secrets.token_bytes(48), np.uint64) | np.uint64(1)
        self._long = np.empty(1 << 12, np.uint8)
        self._clear(_FIRST_BITS)

    def add(self, data: np.ndarray, ends: np.ndarray, begin: int = 0) -> None:
        """Count the pieces of `data`: the first begins at `begin`, each ends at ends[i] where the next begins. Empty ones count nothing.

        ValueError where the ends fall, or lie outside `data`; what was read before stays counted.
        """
        self._add(data, ends, begin, np.empty(0, np.int64))

    def absorb(self, other: WordCounts) -> None:
        """Add what another has counted, which stays as it is."""
        for words in other.tables():
            self._absorb(words)

    def tables(self) -> Iterator[Words]:
        """The distinct words and their counts in parts that share no word, each within the bound on memory. Can be repeated."""
        if self._files is None:
            yield from self._exported(-1)
            return
        if self._state[0]:
            self._spill()
        self._clear(_FIRST_BITS)  # the memory is for the parts now
        for part in range(PARTS):
            inner = WordCounts(self.memory, self._folder)
            with (Path(self._files.name) / f"{part}").open("rb") as file:
                for words in _blocks(file):
                    inner._absorb(words)
            yield from inner.tables()

    def keep(self, most_bytes: int) -> Kept:
        """The words that occur often enough that together they have `most_bytes` bytes or fewer, one for each word's end among them.

        What goes is decided by counts alone: with a word, all go that occur as often. Where words were in files they are read twice.
        """
        sizes: Counter[int] = Counter()
        for words in self.tables():
            values, where = np.unique(words.counts, return_inverse=True)
            sizes.update(dict(zip(values.tolist(), np.bincount(where, np.diff(words.offsets) + 1).astype(np.int64).tolist(), strict=True)))
        least, held = 1, 0
        for count in sorted(sizes, reverse=True):
            held += sizes[count]
            if held > most_bytes:
                least = count + 1
                break
        tables, dropped = [], np.zeros(3, np.int64)
        for words in self.tables():
            chosen = words.counts >= least
            if not chosen.all():
                dropped += [(~chosen).sum(), words.counts[~chosen].sum(), np.diff(words.offsets)[~chosen].sum()]
                words = _select(words, chosen)
            tables.append(words)
        return Kept(_joined(tables), least, *dropped.tolist())

    def _clear(self, bits: int) -> None:
        self._bits = bits
        self._slots = np.zeros(_SLOT << bits, np.int64)
        self._state = np.zeros(2, np.int64)  # words in the table, bytes of long ones

    def _absorb(self, words: Words) -> None:
        self._add(words.data, words.offsets[1:], int(words.offsets[0]), words.counts)

    def _add(self, data: np.ndarray, ends: np.ndarray, begin: int, weights: np.ndarray) -> None:
        data, ends, weights = _read_only(data, np.uint8), _read_only(ends, np.int64), _read_only(weights, np.int64)
        if not 0 <= begin <= len(data):
            raise ValueError(f"begin {begin} is outside the {len(data)} bytes of data")
        piece = 0
        while piece < len(ends):
            piece, why = _count(data, ends, begin, weights, piece, self._slots, self._bits, self._long, self._state, self._factors)
            if why == _INVALID:
                raise ValueError(f"piece {piece} does not lie in data behind the one before it")
            if why == _MOVED:
                self._make_room()
            elif why == _UNFIT:
                start = int(ends[piece - 1]) if piece else begin
                self._make_room_for(int(ends[piece]) - start)

    def _make_room(self) -> None:
        # The table, one twice as large beside it, and the long words; the rest is for what is being written.
        if 8 * _SLOT * 3 << self._bits <= self.memory * 7 // 8 - len(self._long):
            slots = np.zeros(len(self._slots) * 2, np.int64)
            _move(self._slots, slots, self._bits + 1, self._factors)
            self._slots, self._bits = slots, self._bits + 1
        else:
            self._spill()

    def _make_room_for(self, size: int) -> None:
        used = int(self._state[1])
        wanted = max(2 * len(self._long), used + size)
        if self._state[0] and self._slots.nbytes + len(self._long) + wanted > self.memory:
            self._spill()
            used = 0
            if size <= len(self._long):
                return
            wanted = size
        longer = np.empty(wanted, np.uint8)
        longer[:used] = self._long[:used]
        self._long = longer

    def _spill(self) -> None:
        self.spills += 1
        if self._files is None:
            self._files = tempfile.TemporaryDirectory(prefix="words-", dir=self._folder)
        for part in range(PARTS):
            with (Path(self._files.name) / f"{part}").open("ab") as file:
                for words in self._exported(part):
                    file.write(np.array([len(words.counts), len(words.data)], np.int64).tobytes())
                    for array in (words.counts, np.diff(words.offsets), words.data):
                        file.write(array.tobytes())
        self._slots[:] = 0
        self._state[:] = 0
        if len(self._long) > self.memory // 4:
            self._long = np.empty(1 << 12, np.uint8)

    def _exported(self, part: int) -> Iterator[Words]:
        """The words in the table of one part, -1 for all, some at a time."""
        places = np.empty(int(self._state[0]), np.int64)
        places = places[: _chosen(self._slots, self._bits, part, self._factors, places)]
        for first in range(0, len(places), _EXPORT):
            some = places[first : first + _EXPORT]
            counts, offsets = np.empty(len(some), np.int64), np.zeros(len(some) + 1, np.int64)
            _measure(self._slots, some, counts, offsets)
            data = np.empty(int(offsets[-1]), np.uint8)
            _copy(self._slots, some, self._long, offsets, data)
            yield Words(data, offsets, counts)


def _blocks(file: IO[bytes]) -> Iterator[Words]:
    while header := file.read(16):
        words, size = np.frombuffer(header, np.int64).tolist()
        counts = np.frombuffer(file.read(8 * words), np.int64)
        offsets = np.zeros(words + 1, np.int64)
        np.cumsum(np.frombuffer(file.read(8 * words), np.int64), out=offsets[1:])
        yield Words(np.frombuffer(file.read(size), np.uint8), offsets, counts)


def _select(words: Words, chosen: np.ndarray) -> Words:
    sizes = np.diff(words.offsets)
    offsets = np.zeros(int(chosen.sum()) + 1, np.int64)
    np.cumsum(sizes[chosen], out=offsets[1:])
    return Words(words.data[np.repeat(chosen, sizes)], offsets, words.counts[chosen])


def _joined(tables: list[Words]) -> Words:
    sizes = [np.diff(words.offsets) for words in tables]
    offsets = np.zeros(sum(map(len, sizes)) + 1, np.int64)
    if not tables:
        return Words(np.empty(0, np.uint8), offsets, np.empty(0, np.int64))
    np.cumsum(np.concatenate(sizes), out=offsets[1:])
    return Words(np.concatenate([words.data for words in tables]), offsets, np.concatenate([words.counts for words in tables]))


def _read_only(array: np.ndarray, kind: Any) -> np.ndarray:
    found = np.ascontiguousarray(array, kind).view()
    found.flags.writeable = False
    return found


@numba.njit(nogil=True, cache=True)
def _key(data: Any, at: Any, size: Any, limit: Any, factors: Any) -> Any:
    """(low, high) of the word of `size` bytes at `at` of `limit` bytes of data."""
    if size <= _INLINE:
        low = high = np.uint64(0)
        if at + 16 <= limit:
            low = peek_word(data, at)
            if size >= 8:
                if size > 8:
                    high = peek_word(data, at + 8) & ((np.uint64(1) << np.uint64(8 * (size - 8))) - np.uint64(1))
            else:
                low &= (np.uint64(1) << np.uint64(8 * size)) - np.uint64(1)
        else:
            for place in range(min(size, 8)):
                low |= np.uint64(peek8(data, at + place)) << np.uint64(8 * place)
            for place in range(8, size):
                high |= np.uint64(peek8(data, at + place)) << np.uint64(8 * (place - 8))
        return low, high | np.uint64(size) << np.uint64(56)
    low = factors[4] ^ np.uint64(size)
    place = at
    while place + 8 <= at + size:
        low = (low ^ peek_word(data, place)) * factors[5]
        low ^= low >> np.uint64(32)
        place += 8
    rest = np.uint64(0)
    while place < at + size:
        rest = rest << np.uint64(8) | np.uint64(peek8(data, place))
        place += 1
    low = (low ^ rest) * factors[5]
    return low ^ low >> np.uint64(29), np.uint64(size) | np.uint64(255) << np.uint64(56)


@numba.njit(nogil=True, cache=True)
def _hash(low: Any, high: Any, factors: Any) -> Any:
    half = np.uint64(0xFFFFFFFF)
    return (
        (low & half) * factors[0] + (low >> np.uint64(32)) * factors[1] + (high & half) * factors[2] + (high >> np.uint64(32)) * factors[3]
    )


@numba.njit(nogil=True, cache=True)
def _size_of(high: Any) -> Any:
    top = high >> np.uint64(56)
    return np.int64(top) if top <= np.uint64(_INLINE) else np.int64(high & ((np.uint64(1) << np.uint64(56)) - np.uint64(1)))


@numba.njit(nogil=True, cache=True)
def _same(data: Any, at: Any, stored: Any, place: Any, size: Any) -> Any:
    index = 0
    while index + 8 <= size:
        if peek_word(data, at + index) != peek_word(stored, place + index):
            return False
        index += 8
    while index < size:
        if peek8(data, at + index) != peek8(stored, place + index):
            return False
        index += 1
    return True


_TABLE = (numba.int64[::1], numba.int64)
_FACTORS = numba.types.Array(numba.uint64, 1, "C")


@numba.njit(
    numba.types.UniTuple(numba.int64, 2)(  # type: ignore[no-untyped-call]
        _DATA, _INTS, numba.int64, _INTS, numba.int64, *_TABLE, numba.uint8[::1], numba.int64[::1], _FACTORS
    ),
    nogil=True,
    cache=True,
)
def _count(data: Any, ends: Any, begin: Any, weights: Any, piece: Any, slots: Any, bits: Any, long: Any, state: Any, factors: Any) -> Any:
    """(the first piece that is not counted, why it stopped there: 0 = at the end)."""
    text, table, stored = view(data), view(slots), view(long)
    limit, mask = np.int64(len(data)), (np.int64(1) << bits) - 1
    lows, highs = np.empty(_AHEAD, np.uint64), np.empty(_AHEAD, np.uint64)
    starts, homes = np.empty(_AHEAD, np.int64), np.empty(_AHEAD, np.int64)
    at = ends[piece - 1] if piece > 0 else begin
    while piece < len(ends):
        if (state[0] + _AHEAD) * 4 > 3 * (mask + 1):
            return piece, np.int64(_MOVED)
        some = min(np.int64(_AHEAD), len(ends) - piece)
        valid = some
        for index in range(some):
            end = ends[piece + index]
            if end < at or end > limit:
                valid = index
                break
            low, high = _key(text, at, end - at, limit, factors)
            home = np.int64(_hash(low, high, factors) >> np.uint64(64 - bits))
            prefetch(table, home * _SLOT)
            lows[index], highs[index], starts[index], homes[index] = low, high, at, home
            at = end
        for index in range(valid):
            low, high = np.int64(lows[index]), np.int64(highs[index])
            weight = weights[piece + index] if len(weights) > 0 else np.int64(1)
            if high == 0 or weight == 0:  # an empty piece
                continue
            size = ends[piece + index] - starts[index]
            slot = homes[index] * _SLOT
            while peek_int(table, slot + 2) != 0:
                if (
                    peek_int(table, slot) == low
                    and peek_int(table, slot + 1) == high
                    and (size <= _INLINE or _same(text, starts[index], stored, peek_int(table, slot + 3), size))
                ):
                    break
                slot = (slot + _SLOT) & (mask * _SLOT + _SLOT - 1)
            count = peek_int(table, slot + 2)
            if count == 0:
                if size > _INLINE:
                    if state[1] + size > len(long):
                        return piece + index, np.int64(_UNFIT)
                    long[state[1] : state[1] + size] = data[starts[index] : starts[index] + size]
                    poke_int(table, slot + 3, state[1])
                    state[1] += size
                poke_int(table, slot, low)
                poke_int(table, slot + 1, high)
                state[0] += 1
            poke_int(table, slot + 2, count + weight)
        piece += valid
        if valid < some:
            return piece, np.int64(_INVALID)
    return piece, np.int64(0)


@numba.njit(numba.void(numba.int64[::1], *_TABLE, _FACTORS), nogil=True, cache=True)
def _move(old: Any, new: Any, bits: Any, factors: Any) -> None:
    mask = (np.int64(_SLOT) << bits) - 1
    for place in range(0, len(old), _SLOT):
        if old[place + 2] != 0:
            slot = np.int64(_hash(np.uint64(old[place]), np.uint64(old[place + 1]), factors) >> np.uint64(64 - bits)) * _SLOT
            while new[slot + 2] != 0:
                slot = (slot + _SLOT) & mask
            for column in range(_SLOT):
                new[slot + column] = old[place + column]


@numba.njit(numba.int64(*_TABLE, numba.int64, _FACTORS, numba.int64[::1]), nogil=True, cache=True)
def _chosen(slots: Any, bits: Any, part: Any, factors: Any, places: Any) -> Any:
    """How many slots hold a word of that part (-1 = any), written to `places`.

    A part is told by bits that the place in a table does not use: a file would fill one end of its table otherwise.
    """
    count = np.int64(0)
    for place in range(0, len(slots), _SLOT):
        if slots[place + 2] != 0:
            found = _hash(np.uint64(slots[place]), np.uint64(slots[place + 1]), factors) >> np.uint64(27)
            if part < 0 or np.int64(found & np.uint64(PARTS - 1)) == part:
                places[count] = place
                count += 1
    return count


@numba.njit(numba.void(numba.int64[::1], numba.int64[::1], numba.int64[::1], numba.int64[::1]), nogil=True, cache=True)
def _measure(slots: Any, places: Any, counts: Any, offsets: Any) -> None:
    for index in range(len(places)):
        counts[index] = slots[places[index] + 2]
        offsets[index + 1] = offsets[index] + _size_of(np.uint64(slots[places[index] + 1]))


@numba.njit(numba.void(numba.int64[::1], numba.int64[::1], numba.uint8[::1], numba.int64[::1], numba.uint8[::1]), nogil=True, cache=True)
def _copy(slots: Any, places: Any, long: Any, offsets: Any, data: Any) -> None:
    for index in range(len(places)):
        at, size, place = offsets[index], offsets[index + 1] - offsets[index], places[index]
        if size > _INLINE:
            data[at : at + size] = long[slots[place + 3] : slots[place + 3] + size]
        else:
            for byte in range(size):
                shift = np.uint64(8 * (byte & 7))
                data[at + byte] = np.uint8(np.uint64(slots[place + byte // 8]) >> shift & np.uint64(255))
