"""Of source text: tokens, the longest string literal, and the characters that a page of HTML shows.

Input is the pair of buffers of an Arrow large_string array. No language is parsed: what looks like a string in a comment is one.

    tokens      those of `code` shingles (symbols.py): a run of letters, digits, marks, _ and $, and each other character that is no space
                nor control. For fertility: SantaCoder (arXiv 2301.03988) asks for characters to a token of its own tokenizer, 2.5 to 2.9
    max_string  characters between two equal quotes of one line, or of lines that a backslash joins; between backticks or three quotes over
                many lines, where the document's language has such. A backslash takes the next character's meaning. Three quotes that open
                a line hold a docstring, and are left out
    visible     characters outside tags, comments, and the contents of script and style, blanks and all, entities as written

Linear in the bytes: where a quote is not closed, none of its kind is tried again before the place where the search ended.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import DATA, OFFSETS, TABLE
from codedev.kernels.segment import decoded
from codedev.kernels.symbols import FLAG_SHIFT, SINGLE, WORD, tables

COLUMNS = ("tokens", "max_string", "visible")
BACKTICK, TRIPLE = 1, 2  # quotes beside ' and "

_BYTES: Any = numba.types.Array(numba.uint8, 1, "C")
_HIDDEN = (b"script", b"style")
_NAMES = np.zeros((len(_HIDDEN), 6), np.uint8)
_WIDTHS = np.array([len(name) for name in _HIDDEN])
for _row, _name in enumerate(_HIDDEN):
    _NAMES[_row, : len(_name)] = np.frombuffer(_name, np.uint8)


def literal_stats(data: np.ndarray, offsets: np.ndarray, wanted: np.ndarray, quotes: np.ndarray, html: np.ndarray) -> np.ndarray:
    """int64[documents, len(COLUMNS)]; zeros where `wanted` bool[documents] is not set. `quotes` uint8[documents]: BACKTICK or TRIPLE or 0;
    `html` bool[documents]: whose visible characters are counted."""
    out = np.zeros((len(offsets) - 1, len(COLUMNS)), np.int64)
    if wanted.any():
        of_rows = (np.ascontiguousarray(wanted, np.uint8), np.ascontiguousarray(quotes, np.uint8), np.ascontiguousarray(html, np.uint8))
        _literals(data, offsets, tables("code")[0], of_rows[0], of_rows[1], of_rows[2], out)
    return out


@numba.njit(numba.int64(DATA, numba.int64, numba.int64, TABLE), nogil=True, cache=True)
def _tokens(data: Any, at: Any, end: Any, table: Any) -> Any:
    count, inside = 0, False
    while at < end:
        if data[at] < 0x80:
            code = np.int64(data[at])
            at += 1
        else:
            code, at = decoded(data, at, end)
        flags = table[code] >> FLAG_SHIFT
        word = flags & WORD != 0
        count += (word and not inside) or flags & SINGLE != 0
        inside = word
    return count


@numba.njit("UniTuple(int64, 3)(Array(uint8, 1, 'C', readonly=True), int64, int64, int64, boolean)", nogil=True, cache=True)
def _closed(data: Any, at: Any, end: Any, width: Any, lines: Any) -> Any:
    """(1 if the quote of `width` bytes that opens at `at` is closed, where the search ended, characters between). `lines`: it may hold
    lines' ends."""
    quote = data[at]
    place = at + width
    chars = 0
    while place < end:
        byte = data[place]
        if byte == 92 and place + 1 < end:
            place += 2
            chars += 1 + (data[place - 1] & 0xC0 != 0x80)
            continue
        if byte == 10 and not lines:
            return 0, place, chars
        if byte == quote and (width == 1 or (place + 2 < end and data[place + 1] == quote and data[place + 2] == quote)):
            return 1, place + width, chars
        chars += byte & 0xC0 != 0x80
        place += 1
    return 0, end, chars


@numba.njit(numba.int64(DATA, numba.int64, numba.int64, numba.uint8), nogil=True, cache=True)
def _longest_string(data: Any, at: Any, end: Any, quotes: Any) -> Any:
    longest = np.int64(0)
    failed = np.zeros(5, np.int64)  # of ", ', `, three of ", three of ': where a search that found nothing ended
    opens = True  # nothing but blanks stands before in this line
    while at < end:
        byte = data[at]
        kind = 0 if byte == 34 else 1 if byte == 39 else 2 if byte == 96 and quotes & BACKTICK else -1
        if kind < 0:
            if byte == 92 and at + 1 < end and data[at + 1] != 10:
                at += 1  # the next is no quote
                opens = False
            elif byte == 10:
                opens = True
            elif byte != 32 and byte != 9:
                opens = False
            at += 1
            continue
        if kind < 2 and quotes & TRIPLE and at + 2 < end and data[at + 1] == byte and data[at + 2] == byte and at >= failed[3 + kind]:
            closed, place, chars = _closed(data, at, end, 3, True)
            if closed:
                if not opens:
                    longest = max(longest, chars)
                at, opens = place, False
                continue
            failed[3 + kind] = place
        opens = False
        if at >= failed[kind]:
            closed, place, chars = _closed(data, at, end, 1, kind == 2)
            if closed:
                longest = max(longest, chars)
                at = place
                continue
            failed[kind] = place
        at += 1
    return longest


@numba.njit(numba.boolean(DATA, numba.int64, numba.int64, numba.int64), nogil=True, cache=True)
def _is_name(data: Any, at: Any, end: Any, which: Any) -> Any:
    """Whether the hidden element's name stands at `at`, and no longer one."""
    width = _WIDTHS[which]
    if at + width > end:
        return False
    for step in range(width):
        if data[at + step] | 32 != _NAMES[which, step]:
            return False
    return at + width == end or data[at + width] in (32, 9, 10, 13, 47, 62)


@numba.njit(numba.int64(DATA, numba.int64, numba.int64), nogil=True, cache=True)
def _after_tag(data: Any, at: Any, end: Any) -> Any:
    """The byte after the tag's ">"; one in a value between quotes does not count."""
    value = False
    while at < end:
        byte = data[at]
        if value and (byte == 34 or byte == 39):
            at += 1
            while at < end and data[at] != byte:
                at += 1
        elif byte == 62:
            return at + 1
        if byte != 32 and byte != 9 and byte != 10:
            value = byte == 61
        at += 1
    return end


@numba.njit(numba.int64(DATA, numba.int64, numba.int64), nogil=True, cache=True)
def _visible(data: Any, at: Any, end: Any) -> Any:
    chars = 0
    while at < end:
        byte = data[at]
        after = data[at + 1] if at + 1 < end else np.uint8(0)
        letter = 65 <= after <= 90 or 97 <= after <= 122
        if byte != 60 or not (letter or after == 47 or after == 33 or after == 63):
            chars += byte & 0xC0 != 0x80
            at += 1
            continue
        if after == 33 and at + 3 < end and data[at + 2] == 45 and data[at + 3] == 45:
            at += 4
            while at < end and not (data[at] == 45 and at + 2 < end and data[at + 1] == 45 and data[at + 2] == 62):
                at += 1
            at = min(at + 3, end)
            continue
        hidden = -1
        for which in range(len(_WIDTHS)):
            if letter and _is_name(data, at + 1, end, which):
                hidden = which
        at = _after_tag(data, at + 1, end)
        if hidden >= 0:
            while at < end and not (data[at] == 60 and at + 1 < end and data[at + 1] == 47 and _is_name(data, at + 2, end, hidden)):
                at += 1
    return chars


@numba.njit(numba.void(DATA, OFFSETS, TABLE, _BYTES, _BYTES, _BYTES, numba.types.Array(numba.int64, 2, "C")), nogil=True, cache=True)
def _literals(data: Any, offsets: Any, table: Any, wanted: Any, quotes: Any, html: Any, out: Any) -> None:
    for row in range(len(offsets) - 1):
        if wanted[row]:
            at, end = offsets[row], offsets[row + 1]
            out[row, 0] = _tokens(data, at, end, table)
            out[row, 1] = _longest_string(data, at, end, quotes[row])
            if html[row]:
                out[row, 2] = _visible(data, at, end)


def warm() -> None:
    none = np.zeros(1, np.uint8)
    literal_stats(np.frombuffer(b"a", np.uint8), np.array([0, 1]), np.ones(1, bool), none, none)
