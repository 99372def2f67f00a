"""Tags and words in the bytes of an HTML page, counted without Python strings: 1.2 GB/s of a core for tags, 2.2 for any number of words.

A parser compares each attribute of a tag with those before it, so its time goes with the sum of squares of their numbers. Pages
in any charset of which ASCII is a part. What looks like a tag in a comment or a script counts as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)


def _code(name: str) -> int:
    code = 0
    for letter in name:
        code = code << 5 | (ord(letter) & 31)
    return code


_FORMATTING = tuple(map(_code, ("a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u")))
_SELF_CLOSING = tuple(map(_code, ("title", "script", "style", "textare", "iframe", "noscrip")))  # of longer names the beginning
_OPTION, _BODY, _HTML, _LONGEST = _code("option"), _code("body"), _code("html"), 7

# What `counts` gives, in order.
TAGS, UNCLOSED, OPTIONS, ROOTS, STRAY_ENDS, SELF_CLOSED, SQUARES = range(7)

_FEW = 64  # attributes of a tag that cost nothing
# Bytes in a tag: 0 goes on in a name or in a value without quotes, 1 ends it, 2 is `<`.
_KIND = np.zeros(256, np.uint8)
_KIND[[*range(9, 14), 32, 34, 39, 47, 61, 62]] = 1
_KIND[60] = 2


@numba.njit(inline="always")
def _count(data: Any, start: Any, found: Any) -> None:
    """Counts the tag whose `<` is at `start`. Offsets have no sign here and below, since one that may be negative costs a test a byte."""
    size = numba.uint64(len(data))
    found[TAGS] += 1
    at = start + numba.uint64(1)
    closing = at < size and data[at] == 47
    if closing:
        at += numba.uint64(1)
    code, length = 0, 0
    while at < size and length < _LONGEST:
        letter = data[at] | 32
        if letter < 97 or letter > 122:
            break
        code = code << 5 | (letter & 31)
        length += 1
        at += numba.uint64(1)
        if length == 1 and letter == 112:
            found[STRAY_ENDS] += 1 if closing else -1
        elif length == 4 and not closing and code in (_BODY, _HTML):
            found[ROOTS] += 1
        elif length == 6 and not closing and code == _OPTION:
            found[OPTIONS] += 1
    if length == 0 or at >= size:
        return
    after = data[at]
    if (after == 62 or after == 47 or after == 32 or 9 <= after <= 13 or 28 <= after <= 31) and code in _FORMATTING:
        found[UNCLOSED] += -1 if closing else 1
    elif not closing and code in _SELF_CLOSING:
        while at < size and data[at] != 60 and data[at] != 62:
            at += numba.uint64(1)
        if at < size and data[at] == 62 and data[at - numba.uint64(1)] == 47:
            found[SELF_CLOSED] += 1


@numba.njit(
    numba.types.UniTuple(numba.int64, 7)(_bytes),  # type: ignore[no-untyped-call]  # numba declares no types
    nogil=True,
    cache=True,
)
def counts(data: Any) -> Any:
    """How many `<` there are; formatting elements begun less those ended; options; html and body tags begun; `</p` less `<p`; tags of
    elements without markup inside them that end in `/>` (of names that begin as theirs, too); and the sum, over all tags with more than
    `_FEW` attributes, of the square of their number. Quotes around values are those behind `=` alone."""
    size, at, one = numba.uint64(len(data)), numba.uint64(0), numba.uint64(1)
    found = np.zeros(7, np.int64)
    while True:
        while at < size and data[at] != 60:
            at += one
        if at >= size:
            break
        _count(data, at, found)
        at += one
        if at >= size or not 97 <= (data[at] | 32) <= 122:
            continue
        attributes = -1  # the first run is the tag's name
        is_value = False  # the next run belongs to the `=` before it
        while at < size:
            start = at
            while at < size:
                kind = _KIND[data[at]]
                if kind:
                    if kind == 1:
                        break
                    _count(data, at, found)
                at += one
            if at > start:
                attributes += not is_value
                is_value = False
            if at >= size or data[at] == 62:
                break
            byte = data[at]
            at += one
            if byte == 61:
                is_value = True
            elif byte == 34 or byte == 39:
                if is_value:
                    while at < size and data[at] != byte:
                        if data[at] == 60:
                            _count(data, at, found)
                        at += one
                    at += one
                    is_value = False
                elif at - one == start:
                    attributes += 1  # a name that begins with a quote
        if attributes > _FEW:
            found[SQUARES] += attributes * attributes
    return found[0], found[1], found[2], found[3], found[4], found[5], found[6]


# A set of words is searched for by pairs of bytes: a pair that is not the last of the first _WIDTH bytes of any word says how far to go on.
_WIDTH = 6


class Words:
    """Words to look for, all at once; each has at least six bytes. `bits`: of each word the bit that it sets, below 63; its number by
    default."""

    def __init__(self, *words: bytes, bits: Sequence[int] | None = None) -> None:
        bits = range(len(words)) if bits is None else bits
        if len(bits) != len(words) or max(bits) >= 63 or min(map(len, words)) < _WIDTH:
            raise ValueError(
                f"{len(words)} words of at least {min(map(len, words))} bytes, with {len(bits)} bits up to {max(bits)}: each needs "
                f"{_WIDTH} bytes and one of 63 bits"
            )
        self.words, self._bits = words, np.array([1 << bit for bit in bits], np.int64)
        self._text = np.frombuffer(b"".join(words), np.uint8)
        self._ends = np.cumsum([0, *map(len, words)])
        self._shift = np.full(1 << 16, _WIDTH - 1, np.uint8)  # from a pair that is looked at to the next one; 0 = a word may be here
        self._first = np.full(1 << 16, -1, np.int16)  # the word whose window ends in the pair, and from one to the next such word
        self._next = np.full(len(words), -1, np.int16)
        for number, word in enumerate(words):
            last = word[_WIDTH - 2] << 8 | word[_WIDTH - 1]
            self._first[last], self._next[number] = number, self._first[last]
            for index in range(_WIDTH - 1):
                pair = word[index] << 8 | word[index + 1]
                self._shift[pair] = min(self._shift[pair], _WIDTH - 2 - index)

    def found(self, data: bytes) -> int:
        """Bit k is set where a word of bit k is in `data`."""
        return int(_found(np.frombuffer(data, np.uint8), self._text, self._ends, self._shift, self._first, self._next, self._bits))


@numba.njit(
    numba.int64(_bytes, numba.int64, numba.int64, _bytes, numba.int64[::1], numba.int16[::1], numba.int64[::1]),  # type: ignore[no-untyped-call]
    nogil=True,
    cache=True,
)
def _at(data: Any, start: Any, word: Any, text: Any, ends: Any, following: Any, bits: Any) -> Any:
    """Which of `word` and the words following it are at `start`."""
    mask = 0
    while word >= 0:
        length = ends[word + 1] - ends[word]
        if start + length <= len(data):
            index = 0
            while index < length and data[start + index] == text[ends[word] + index]:
                index += 1
            if index == length:
                mask |= bits[word]
        word = following[word]
    return mask


@numba.njit(
    numba.int64(_bytes, _bytes, numba.int64[::1], numba.uint8[::1], numba.int16[::1], numba.int16[::1], numba.int64[::1]),
    nogil=True,
    cache=True,
)
def _found(data: Any, text: Any, ends: Any, shift: Any, first: Any, following: Any, bits: Any) -> Any:
    """Four quarters at once: each step waits for the one before it, so that a core has time for the other three."""
    size, mask, back = len(data), 0, _WIDTH - 1
    quarter = size // 4
    a, b, c, d = back, quarter, 2 * quarter, 3 * quarter
    a_end, b_end, c_end = b, c, d
    if quarter <= back:
        a_end, b, c, d = size, b_end, c_end, size
    else:
        while a < a_end and b < b_end and c < c_end and d < size:
            a_pair = numba.int64(data[a - 1]) << 8 | data[a]
            b_pair = numba.int64(data[b - 1]) << 8 | data[b]
            c_pair = numba.int64(data[c - 1]) << 8 | data[c]
            d_pair = numba.int64(data[d - 1]) << 8 | data[d]
            if not shift[a_pair]:
                mask |= _at(data, a - back, first[a_pair], text, ends, following, bits)
            if not shift[b_pair]:
                mask |= _at(data, b - back, first[b_pair], text, ends, following, bits)
            if not shift[c_pair]:
                mask |= _at(data, c - back, first[c_pair], text, ends, following, bits)
            if not shift[d_pair]:
                mask |= _at(data, d - back, first[d_pair], text, ends, following, bits)
            a += max(shift[a_pair], 1)
            b += max(shift[b_pair], 1)
            c += max(shift[c_pair], 1)
            d += max(shift[d_pair], 1)
    for part in range(4):
        at = a if part == 0 else b if part == 1 else c if part == 2 else d
        end = a_end if part == 0 else b_end if part == 1 else c_end if part == 2 else size
        while at < end:
            pair = numba.int64(data[at - 1]) << 8 | data[at]
            if not shift[pair]:
                mask |= _at(data, at - back, first[pair], text, ends, following, bits)
            at += max(shift[pair], 1)
    return mask
