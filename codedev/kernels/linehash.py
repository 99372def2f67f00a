"""Lines and paragraphs of texts as 128-bit hashes of their normal form, and which of them are one too many.

The normal form of a line: runs of ASCII white space are one blank, none at the ends; A-Z are a-z; with `digits`, a run of 0-9 is one 0.
That of a paragraph, the lines between two blank ones, is the same. Equality of hashes stands for equality: among 10^12 lines the odds of
one mistake are 1 to 10^14.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

WITHIN, ACROSS = 1, 2  # why a line goes: it stood before in its text, or in enough texts before

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_INTS: Any = numba.types.Array(numba.int64, 1, "C")
_TWO: Any = numba.types.Array(numba.int64, 2, "C")


class Lines(NamedTuple):
    high: np.ndarray  # uint64[lines]
    low: np.ndarray
    text: np.ndarray  # int64[lines]: the text
    start: np.ndarray  # int64[lines]: bytes within the text
    end: np.ndarray  # with the line feed


def lines(
    data: np.ndarray, offsets: np.ndarray, wholes: np.ndarray, wanted: np.ndarray, *, min_chars: int, digits: bool, paragraphs: bool
) -> Lines:
    """The lines, or paragraphs, of `wanted` texts whose normal form has `min_chars` characters or more and that cut none of `wholes`
    (int64[n, 2], see wholes.py) into pieces, in order."""
    room = 1024
    mask = np.ascontiguousarray(wanted, np.uint8)
    while True:
        hashes, places = np.empty((room, 2), np.uint64), np.empty((room, 3), np.int64)
        count = _lines(data, offsets, wholes, mask, min_chars, digits, paragraphs, hashes, places)
        if count <= room:
            break
        room = count
    columns = [np.ascontiguousarray(column[:count]) for column in (*hashes.T, *places.T)]
    return Lines(*columns)


@numba.njit(
    numba.int64(
        _BYTES, _OFFSETS, _TWO, numba.uint8[::1], numba.int64, numba.boolean, numba.boolean,
        numba.types.Array(numba.uint64, 2, "C"), _TWO,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def _lines(
    data: Any, offsets: Any, wholes: Any, wanted: Any, min_chars: Any, digits: Any, paragraphs: Any, hashes: Any, places: Any
) -> Any:
    count = whole = np.int64(0)
    for text in range(len(offsets) - 1):
        if not wanted[text]:
            continue
        at, end = offsets[text], offsets[text + 1]
        while at < end:
            start = at
            high, low = np.uint64(0x243F6A8885A308D3), np.uint64(0x13198A2E03707344)
            chars = np.int64(0)
            blank: Any = False
            number: Any = False
            line_chars: Any = np.int64(0)  # visible bytes of the line
            while at < end:
                byte = data[at]
                at += 1
                if byte == 10:
                    if not paragraphs:
                        break
                    if line_chars == 0 and chars > 0:
                        break
                    line_chars = 0
                if byte == 32 or 9 <= byte <= 13:
                    blank, number = chars > 0, False
                    continue
                line_chars += 1
                if digits and 48 <= byte <= 57:
                    if number and not blank:
                        continue
                    byte, number = np.uint8(48), True
                else:
                    number = False
                if 65 <= byte <= 90:
                    byte = np.uint8(byte + 32)
                if blank:
                    high = (high ^ np.uint64(32)) * np.uint64(0x9FB21C651E98DF25)
                    high ^= high >> np.uint64(32)
                    low = (low + np.uint64(32)) * np.uint64(0xD6E8FEB86659FD93)
                    low ^= low >> np.uint64(29)
                    chars += 1
                    blank = False
                high = (high ^ np.uint64(byte)) * np.uint64(0x9FB21C651E98DF25)
                high ^= high >> np.uint64(32)
                low = (low + np.uint64(byte)) * np.uint64(0xD6E8FEB86659FD93)
                low ^= low >> np.uint64(29)
                chars += (byte & 0xC0) != 0x80
            if chars < min_chars or chars == 0:
                continue
            while whole < len(wholes) and wholes[whole, 1] <= start:
                whole += 1
            near, cuts = whole, False
            while near < len(wholes) and wholes[near, 0] < at:
                cuts = cuts or wholes[near, 0] < start or wholes[near, 1] > at
                near += 1
            if cuts:
                continue
            if count < len(hashes):
                hashes[count, 0], hashes[count, 1] = high, low
                places[count, 0], places[count, 1], places[count, 2] = text, start - offsets[text], at - offsets[text]
            count += 1
    return count


class Counted(NamedTuple):
    """A hash table of lines: `seen` holds for each the texts that have it, the last of them, and those so far in the second turn."""

    keys: np.ndarray  # uint64[slots, 2]
    seen: np.ndarray  # int64[slots, 3]


def counted(slots: int = 1 << 10) -> Counted:
    """An empty table; `slots` a power of two."""
    return Counted(np.zeros((slots, 2), np.uint64), np.zeros((slots, 3), np.int64))


def count(table: Counted, high: np.ndarray, low: np.ndarray, row: np.ndarray) -> Counted:
    """The table with these lines, which come in order of row: the same one, or a larger one. 80 to 160 bytes a distinct line."""
    at, used = 0, np.array([np.count_nonzero(table.seen[:, 0])])
    while (at := _count(high, low, row, at, table.keys, table.seen, used)) < len(row):
        larger = counted(4 * len(table.keys))
        _move(table.keys, table.seen, larger.keys, larger.seen)
        table = larger
    return table


def second_turn(table: Counted) -> None:
    """Say that all lines are counted: `surplus` may be asked, from the first row on."""
    table.seen[:, 1] = -1


def surplus(
    table: Counted, high: np.ndarray, low: np.ndarray, row: np.ndarray, *, within: bool, more_than: int, keep: int
) -> tuple[np.ndarray, np.ndarray]:
    """(uint8[lines]: 0, WITHIN or ACROSS; int64[lines]: texts that hold the line), in the order in which they were counted.

    With `within`, a line goes that stood in its text before. One that stands in more than `more_than` texts stays in the first `keep`."""
    verdicts, texts = np.zeros(len(row), np.uint8), np.zeros(len(row), np.int64)
    _surplus(high, low, row, within, more_than, keep, table.keys, table.seen, verdicts, texts)
    return verdicts, texts


_KEYS: Any = numba.types.Array(numba.uint64, 2, "C")
_HASHES: Any = numba.types.Array(numba.uint64, 1, "C")


@numba.njit(numba.uint64(_KEYS, _TWO, numba.uint64, numba.uint64), nogil=True, cache=True)
def _slot(keys: Any, seen: Any, high: Any, low: Any) -> Any:
    mask = np.uint64(len(keys) - 1)
    slot = (low ^ (low >> np.uint64(32))) & mask
    while seen[slot, 0] and (keys[slot, 0] != high or keys[slot, 1] != low):
        slot = (slot + np.uint64(1)) & mask
    return slot


@numba.njit(numba.int64(_HASHES, _HASHES, _INTS, numba.int64, _KEYS, _TWO, _INTS), nogil=True, cache=True)
def _count(high: Any, low: Any, row: Any, at: Any, keys: Any, seen: Any, used: Any) -> Any:
    """Where it stopped because half the slots are taken."""
    for number in range(at, len(row)):
        slot = _slot(keys, seen, high[number], low[number])
        if seen[slot, 0] == 0:
            if 2 * used[0] >= len(keys):
                return number
            used[0] += 1
            keys[slot, 0], keys[slot, 1] = high[number], low[number]
            seen[slot, 1] = -1
        if seen[slot, 1] != row[number]:
            seen[slot, 0] += 1
            seen[slot, 1] = row[number]
    return len(row)


@numba.njit(numba.void(_KEYS, _TWO, _KEYS, _TWO), nogil=True, cache=True)
def _move(keys: Any, seen: Any, new_keys: Any, new_seen: Any) -> None:
    for old in range(len(keys)):
        if seen[old, 0]:
            slot = _slot(new_keys, new_seen, keys[old, 0], keys[old, 1])
            new_keys[slot] = keys[old]
            new_seen[slot] = seen[old]


@numba.njit(
    numba.void(
        _HASHES, _HASHES, _INTS, numba.boolean, numba.int64, numba.int64, _KEYS, _TWO, numba.types.Array(numba.uint8, 1, "C"), _INTS
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def _surplus(
    high: Any, low: Any, row: Any, within: Any, more_than: Any, keep: Any, keys: Any, seen: Any, verdicts: Any, texts: Any
) -> None:
    for number in range(len(row)):
        slot = _slot(keys, seen, high[number], low[number])
        texts[number] = seen[slot, 0]
        again = seen[slot, 1] == row[number]
        if not again:
            seen[slot, 2] += 1
            seen[slot, 1] = row[number]
        if seen[slot, 0] > more_than and seen[slot, 2] > keep:
            verdicts[number] = 2
        elif again and within:
            verdicts[number] = 1
