"""Text cut into the tokens of n-gram models and word lists: words, single ideographs and syllables, and marks, each as a 64-bit hash.

A word is a run of letters, digits and marks; an ideograph, a kana and a letter of Thai, Lao, Khmer, Myanmar or Tibetan (with its marks)
is a word of its own, since these scripts write no spaces; any other visible character is a token that is no word. Digits count as 0.
Case is folded by whoever calls. With `piece` > 0 a word is cut into pieces of so many characters, those after the first hashed apart.

Any bytes are read without leaving the array; what is no UTF-8 gives some token or other. The `@njit` functions here are compiled into those
of ngram.py and wordlist.py: numba does not see that they changed, clear its cache then.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import ALNUM, CLUSTER, DATA, DECIMAL, MARK, OFFSETS, SINGLE, SPACE, TABLE, properties

END, LINE, WORD, OTHER, PART = range(
    5
)  # kinds: a text's end, a line's end, a word, a mark or symbol, a word's piece that may not be the last

_PRIME = np.uint64(0x100000001B3)
_BASIS, _REST = np.uint64(0xCBF29CE484222325), np.uint64(0x84222325CBF29CE4)  # where a word's hash begins, and a later piece's


@numba.njit("UniTuple(int64, 2)(Array(uint8, 1, 'C', readonly=True), int64, int64)", nogil=True, cache=True, inline="always")
def decoded(data: Any, at: Any, end: Any) -> Any:
    """(code point, bytes) of the character at `at` < `end`."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, 1
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    code = first & (0x3F >> (size - 1))
    n = 1
    while n < size and at + n < end:
        code = (code << 6) | (np.int64(data[at + n]) & 0x3F)
        n += 1
    return min(code, 0x10FFFF), n


@numba.njit(numba.uint64(numba.uint64), nogil=True, cache=True, inline="always")
def mixed(value: Any) -> Any:
    """All bits of a hash from all bits of it (splitmix64's last step)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(
    "Tuple((int64, int64, uint64))"
    "(Array(uint8, 1, 'C', readonly=True), int64, int64, Array(uint32, 1, 'C', readonly=True), int64, boolean)",
    nogil=True,
    cache=True,
)
def next_token(data: Any, at: Any, end: Any, table: Any, piece: Any, inside: Any) -> Any:
    """(kind, byte after the token, hash) of the token that begins at `at` or after the blanks there. `inside`: the last token was a piece
    of a word that may go on at `at`."""
    value = _REST if inside else _BASIS
    characters = 0
    kind = END
    while at < end:
        code, size = decoded(data, at, end)
        bits = table[code]
        letter = bits & (ALNUM | MARK)
        alone = bits & (SINGLE | CLUSTER) and not bits & MARK
        if characters == 0:
            if inside and (not letter or alone):
                inside = False
                value = _BASIS
            if bits & SPACE or code < 32:
                if code == 10:
                    return LINE, at + 1, np.uint64(0)
                at += size
                continue
            kind = WORD if letter or alone else OTHER
        elif not letter or alone:
            break
        elif characters == piece:
            return PART, at, mixed(value)
        if bits & DECIMAL:
            value = (value ^ np.uint64(48)) * _PRIME
        else:
            value = (value ^ np.uint64(code)) * _PRIME
        characters += 1
        at += size
        if kind == OTHER:
            break
        if alone:  # and its marks
            while at < end:
                code, size = decoded(data, at, end)
                if not table[code] & MARK:
                    break
                value = (value ^ np.uint64(code)) * _PRIME
                at += size
            break
    if characters == 0:
        return END, at, np.uint64(0)
    return kind, at, mixed(value)


@numba.njit(numba.int64(DATA, OFFSETS, TABLE, numba.int64, numba.uint64[::1], numba.uint8[::1]), nogil=True, cache=True)
def _tokens(data: Any, offsets: Any, table: Any, piece: Any, hashes: Any, kinds: Any) -> Any:
    """The number of tokens, line ends among them; with room in `hashes` and `kinds`, the tokens themselves. A text ends with LINE."""
    count = 0
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        inside = False
        while True:
            kind, at, value = next_token(data, at, end, table, piece, inside)
            inside = kind == PART
            if len(hashes):
                hashes[count], kinds[count] = value, LINE if kind == END else kind
            count += 1
            if kind == END:
                break
    return count


def tokens(data: np.ndarray, offsets: np.ndarray, piece: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(hashes uint64, kinds uint8) of all tokens of all texts, in their order; a line's end and a text's end are tokens of kind LINE."""
    table = properties()
    count = _tokens(data, offsets, table, piece, np.empty(0, np.uint64), np.empty(0, np.uint8))
    hashes, kinds = np.empty(count, np.uint64), np.empty(count, np.uint8)
    if count:
        _tokens(data, offsets, table, piece, hashes, kinds)
    return hashes, kinds
