"""Pretokenization: a text cut into the pieces inside which byte pairs are merged, as a tokenizer's regex cuts it.

One machine reads all patterns; a Shape says in which respects one differs from the next:

    contractions   (?i:'s|'t|'re|'ve|'m|'ll|'d) first ("any" case, "lower"), or behind a cased word ("suffix"); U+017F is an s without case
    words          runs of letters ("plain"), of letters and marks ("marks"), or cut where small letters end ("cased")
    lead           what one character may go before a word: "any" but newline, letter and digit; a "blank"; a "blank or _"
    digits         the most in a piece; 0 = any number, and a blank may go before them
    from_right     digits in groups counted from the end of their run
    tail           what ends a run of signs: "" nothing, "newlines", "newlines and /", "line" = newlines that no indentation follows
    newlines       blanks up to the last newline among them are a piece: \\s*[\\r\\n]+
    indentation    … and with what blanks and tabs follow, up to the first visible character: \\s*[\\r\\n][ \\t]+(?=\\S)
    backslash      starts a piece of its own with the letters or the one sign after it, and ends a run of signs

All patterns end in \\s+(?!\\S)|\\s+. Each reads on from the end of a piece as from the start of a text, so a machine needs no state, but
for `threes`: where the digits end that are known to be a multiple of a group; without it a number of n digits would take n * n / 6 steps.
Time is linear in the text for any bytes; what is no UTF-8 is OTHER, and nothing is read outside a text.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numba
import numpy as np

from codedev.kernels.memory import peek8, view
from codedev.kernels.unicode_classes import BLANK, CLASSES, CODE_POINTS, DIGIT, LETTER, LOWER, MARK, NEWLINE, OTHER, UPPER, classes


class Shape(NamedTuple):
    contractions: Literal["", "any", "lower", "suffix"]
    words: Literal["plain", "marks", "cased"]
    lead: Literal["any", "blank", "blank or _"]
    digits: int
    from_right: bool
    tail: Literal["", "newlines", "newlines and /", "line"]
    newlines: bool
    indentation: bool
    backslash: bool


_U7 = Shape("any", "marks", "any", 3, True, "line", True, True, True)
_CL100K = Shape("any", "plain", "any", 3, False, "newlines", True, False, False)
_O200K = Shape("suffix", "cased", "any", 3, False, "newlines and /", True, False, False)
SHAPES = {
    "u7": _U7,
    "u7-aligned": _U7._replace(lead="blank or _"),
    "gpt2": Shape("lower", "plain", "blank", 0, False, "", False, False, False),
    "cl100k": _CL100K,
    "llama3": _CL100K,
    "qwen": _CL100K._replace(digits=1),
    "qwen3.5": _CL100K._replace(digits=1, words="marks"),
    "o200k": _O200K,
    "tekken": _O200K._replace(contractions="", digits=1),
}

# A shape as one int64: three bits of digits, then these.
FROM_RIGHT, PREFIX, SUFFIX, EXACT_CASE, CASED, ANY_LEAD, LINE_LEAD, NEWLINES, INDENTATION, BACKSLASH = (1 << bit for bit in range(3, 13))
TAIL_NEWLINES, TAIL_SLASH, TAIL_LINE = (1 << bit for bit in range(13, 16))

DATA = numba.types.Array(numba.uint8, 1, "C", readonly=True)
OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)


def rules_of(shape: Shape) -> int:
    """What the kernels take."""
    assert 0 <= shape.digits <= 7
    chosen = {
        FROM_RIGHT: shape.from_right,
        PREFIX: shape.contractions in ("any", "lower"),
        SUFFIX: shape.contractions == "suffix",
        EXACT_CASE: shape.contractions == "lower",
        CASED: shape.words == "cased",
        ANY_LEAD: shape.lead == "any",
        LINE_LEAD: shape.lead == "blank or _",
        NEWLINES: shape.newlines,
        INDENTATION: shape.indentation,
        BACKSLASH: shape.backslash,
        TAIL_NEWLINES: shape.tail in ("newlines", "newlines and /"),
        TAIL_SLASH: shape.tail == "newlines and /",
        TAIL_LINE: shape.tail == "line",
    }
    return shape.digits + sum(bit for bit, is_so in chosen.items() if is_so)


def table_of(shape: Shape) -> np.ndarray:
    """uint8[CODE_POINTS]: the classes that the shape's machine reads."""
    return classes(shape.words == "marks", shape.words == "cased")


def piece_ends(data: np.ndarray, offsets: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """(int64[pieces]: where each ends in `data`, int64[texts + 1]: the first piece of each text) of Arrow text buffers."""
    ends = np.empty(int(offsets[-1] - offsets[0]) if len(offsets) else 0, np.int64)
    firsts = np.zeros(len(offsets), np.int64)
    data, offsets = read_only(data, offsets)
    count = _ends(data, offsets, table_of(shape), rules_of(shape), ends, firsts)
    return ends[:count], firsts


def read_only(*arrays: np.ndarray) -> list[np.ndarray]:
    """Views of the arrays that are not to be written."""
    views = [array.view() for array in arrays]
    for one in views:
        one.flags.writeable = False
    return views


@numba.njit(nogil=True, cache=True)
def kind_at(data: Any, at: Any, end: Any, table: Any) -> Any:
    """(class of the character at `at`, where the next one starts). Bytes that are no UTF-8 are OTHER, one by one."""
    byte = peek8(data, at)
    if byte < 0x80:
        return peek8(table, byte), at + 1
    size = 2 + np.int64(byte >= 0xE0) + np.int64(byte >= 0xF0)
    code = byte & (0x7F >> size)
    if byte < 0xC2 or at + size > end:
        return np.int64(OTHER), at + 1
    for place in range(at + 1, at + size):
        code = (code << 6) | (peek8(data, place) & 0x3F)
    if code >= CODE_POINTS:
        return np.int64(OTHER), at + 1
    return peek8(table, code), at + size


@numba.njit(nogil=True, cache=True)
def contraction(data: Any, at: Any, end: Any, exact: Any) -> Any:
    """Bytes of s, t, re, ve, m, ll or d at `at`, just after an apostrophe; 0 for none."""
    if at >= end:
        return 0
    fold = 0 if exact else 0x20
    first = peek8(data, at) | fold
    if first in (0x73, 0x64, 0x6D, 0x74):
        return 1
    if at + 1 >= end:
        return 0
    second = peek8(data, at + 1) | fold
    if (first == 0x6C and second == 0x6C) or ((first == 0x76 or first == 0x72) and second == 0x65):
        return 2
    if not exact and peek8(data, at) == 0xC5 and peek8(data, at + 1) == 0xBF:  # U+017F, a long s
        return 2
    return 0


@numba.njit(nogil=True, cache=True)
def _run(data: Any, at: Any, end: Any, table: Any, kind: Any) -> Any:
    """The end of the characters of that class from `at` on."""
    while at < end:
        found, after = kind_at(data, at, end, table)
        if found != kind:
            break
        at = after
    return at


@numba.njit(nogil=True, cache=True)
def _signs(data: Any, at: Any, end: Any, table: Any, rules: Any) -> Any:
    """The end of the signs from `at` on."""
    while at < end:
        kind, after = kind_at(data, at, end, table)
        if kind not in (OTHER, MARK) or (rules & BACKSLASH and peek8(data, at) == 0x5C):
            break
        at = after
    return at


@numba.njit(nogil=True, cache=True)
def _capitals(data: Any, at: Any, end: Any, table: Any) -> Any:
    """(end of the capitals and letters without case from `at` on, end of the last one without case among them or -1)."""
    last = np.int64(-1)
    while at < end:
        kind, after = kind_at(data, at, end, table)
        if kind in (LETTER, MARK):
            last = after
        elif kind != UPPER:
            break
        at = after
    return at, last


@numba.njit(nogil=True, cache=True)
def _cased_word(data: Any, at: Any, lead: Any, end: Any, table: Any) -> Any:
    """The end of the word at `at`, or behind the one character that ends at `lead` (0 = none may lead); -1 for no word.

    [Lu Lt Lm Lo M]*[Ll Lm Lo M]+ with and without the lead, then [Lu Lt Lm Lo M]+[Ll Lm Lo M]* likewise, as backtracking finds them.
    """
    capitals_led, last_led = np.int64(-1), np.int64(-1)
    if lead > 0:
        capitals_led, last_led = _capitals(data, lead, end, table)
        if capitals_led < end and kind_at(data, capitals_led, end, table)[0] == LOWER:
            return _small(data, capitals_led, end, table)
        if last_led >= 0:
            return last_led
    capitals, last = _capitals(data, at, end, table)
    if capitals < end and kind_at(data, capitals, end, table)[0] == LOWER:
        return _small(data, capitals, end, table)
    if last >= 0:
        return last
    if lead > 0 and capitals_led > lead:
        return capitals_led
    return capitals if capitals > at else np.int64(-1)


@numba.njit(nogil=True, cache=True)
def _small(data: Any, at: Any, end: Any, table: Any) -> Any:
    """The end of the small letters and letters without case from `at` on."""
    while at < end:
        kind, after = kind_at(data, at, end, table)
        if kind != LOWER and kind != LETTER and kind != MARK:
            break
        at = after
    return at


@numba.njit(nogil=True, cache=True)
def _digits(data: Any, at: Any, end: Any, table: Any, rules: Any, threes: Any) -> Any:
    """(end of the group of digits at `at`, where the digits end that come in whole groups)."""
    most = rules & 7
    take = most
    if rules & FROM_RIGHT and at >= threes:
        place, count = at, 0
        while place < end:
            kind, after = kind_at(data, place, end, table)
            if kind != DIGIT:
                break
            place = after
            count += 1
        threes = place
        take = count % most
        if take == 0:
            take = most
    while take > 0 and at < end:
        kind, after = kind_at(data, at, end, table)
        if kind != DIGIT:
            break
        at = after
        take -= 1
    return at, threes


@numba.njit(nogil=True, cache=True)
def _tail(data: Any, at: Any, end: Any, rules: Any) -> Any:
    """The end of what belongs to a run of signs that ends at `at`."""
    after = at
    while after < end:
        byte = peek8(data, after)
        if byte != 10 and byte != 13 and not (rules & TAIL_SLASH and byte == 0x2F):
            break
        after += 1
    if rules & TAIL_LINE and after < end and (peek8(data, after) == 0x20 or peek8(data, after) == 9):
        return at
    return after


@numba.njit(nogil=True, cache=True)
def _blanks(data: Any, at: Any, end: Any, table: Any, rules: Any) -> Any:
    """The end of the piece of white space at `at`."""
    place, previous = at, at
    line_end, plain = np.int64(0), True  # behind the last newline; nothing but blanks and tabs since
    while place < end:
        kind, after = kind_at(data, place, end, table)
        if kind == NEWLINE:
            line_end, plain = after, True
        elif kind == BLANK:
            byte = peek8(data, place)
            plain &= byte == 0x20 or byte == 9
        else:
            break
        previous, place = place, after
    if rules & NEWLINES and line_end > 0:
        if rules & INDENTATION and plain and line_end < place < end:
            return place
        return line_end
    if place >= end or previous == at:
        return place
    return previous


@numba.njit(nogil=True, cache=True)
def next_end(data: Any, at: Any, end: Any, table: Any, rules: Any, threes: Any) -> Any:
    """(end of the piece that starts at `at`, `threes` for the next one) in a text that ends at `end` > `at`."""
    kind, after = kind_at(data, at, end, table)
    first = peek8(data, at)
    if first == 0x27 and rules & PREFIX:
        size = contraction(data, after, end, rules & EXACT_CASE)
        if size:
            return after + size, threes
    next_kind, beyond = np.int64(NEWLINE), after
    if after < end:
        next_kind, beyond = kind_at(data, after, end, table)

    if rules & ANY_LEAD:
        leads = kind in (OTHER, BLANK, MARK)
    else:
        leads = first == 0x20 or (rules & LINE_LEAD and first == 0x5F)
    if rules & CASED:
        if kind == LETTER or kind >= UPPER or leads:
            found = _cased_word(data, at, after if leads else 0, end, table)
            if found >= 0:
                if rules & SUFFIX and found < end and peek8(data, found) == 0x27:
                    size = contraction(data, found + 1, end, 0)
                    if size:
                        found += 1 + size
                return found, threes
    elif kind == LETTER:
        return _run(data, after, end, table, LETTER), threes
    elif leads and next_kind == LETTER:
        return _run(data, beyond, end, table, LETTER), threes

    if kind == DIGIT:
        if rules & 7:
            return _digits(data, at, end, table, rules, threes)
        return _run(data, after, end, table, DIGIT), threes
    if rules & 7 == 0 and first == 0x20 and next_kind == DIGIT:
        return _run(data, beyond, end, table, DIGIT), threes

    begin = at
    if first == 0x20 and next_kind in (OTHER, MARK):  # a blank before signs
        begin, kind = after, next_kind
    if kind in (OTHER, MARK):
        if rules & BACKSLASH and peek8(data, begin) == 0x5C:
            begin += 1
            if begin < end:
                kind, after = kind_at(data, begin, end, table)
                if kind == LETTER:
                    return _run(data, after, end, table, LETTER), threes
                if kind == OTHER:
                    return after, threes
            return begin, threes
        found = _signs(data, begin, end, table, rules)
        if rules & (TAIL_NEWLINES | TAIL_LINE):
            found = _tail(data, found, end, rules)
        return found, threes
    return _blanks(data, at, end, table, rules), threes


@numba.njit(numba.int64(DATA, OFFSETS, CLASSES, numba.int64, numba.int64[::1], numba.int64[::1]), nogil=True, cache=True)
def _ends(data: Any, offsets: Any, table: Any, rules: Any, ends: Any, firsts: Any) -> Any:
    count = np.int64(0)
    text_bytes, kinds = view(data), view(table)
    for text in range(len(offsets) - 1):
        at, end, threes = offsets[text], offsets[text + 1], np.int64(0)
        while at < end:
            at, threes = next_end(text_bytes, at, end, kinds, rules, threes)
            ends[count] = at
            count += 1
        firsts[text + 1] = count
    return count
