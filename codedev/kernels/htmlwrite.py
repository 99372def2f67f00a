"""What writes Markdown-like text: lines within lists and quotes, blocks and the lines between them, rows, inline code, code, formulas.

The writer is an array of integers, `s`, with the open containers in `box` and the open lists in `lists`; `out` is given, long enough for
all that a page may come to. Knows nothing of HTML but how its text is spelled. A byte of text costs half a nanosecond.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.htmltape import is_space

# What the writer remembers, in `s`.
(SIZE, OPEN, SPACE, BREAKS, TOP, LOW, GONE, GONE_KIND, LEVEL, FLAT, CODE, CODE_AT, CODE_BEGIN, CODE_END, QUOTES, SCRIPT, MARK, CELL,
 ROW, ROWS, COLUMNS, SPENT, BUDGET, ITEMS, BLOCKQUOTES, LISTS, STATE) = range(27)  # fmt: skip
# Of an open container, in `box`; of an open list, in `lists`.
KIND, LIST, PLACE, WIDTH, PENDING, NUMBER, BOX = range(7)
NODE, COUNT, STEP, ORDERED, LOOSE, LAST_WIDTH, WRITTEN, LIST_STATE = range(8)
ITEM, QUOTE, DEFINITION, TERM = range(4)
NONE = -1
BULLET = -(1 << 40)  # the number of an item that has none
MOST_ITEMS, MOST_QUOTES = 20, 10
_JOINED_BYTES = 500  # of inline code that is put together from pieces
MATH_UP, MATH_DOWN, NOTE = 1, 2, 3  # what a <sup> or <sub> is
# What stands before the next word, in `s[SPACE]`: white space, the end of a paragraph in a cell, a picture.
BLANK, PARAGRAPH, PICTURE = 1, 2, 4

# What is done when an element ends.
BOUNDARY, END_BOX, END_ITEM_AGAIN = range(3)

_PLAIN = np.ones(256, np.bool_)  # bytes of text that are copied as they are
_PLAIN[[9, 10, 12, 13, 32, 38, 0xC2, 0xE2, 0xEF]] = False
_PLAIN_IN_CELL = _PLAIN.copy()
_PLAIN_IN_CELL[124] = False

_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_out = numba.uint8[::1]
_i64 = numba.int64[::1]
_table = numba.int64[:, ::1]


@numba.njit(numba.void(_out, _i64, _table, numba.int64, numba.boolean), nogil=True, cache=True)
def _prefix(out: Any, s: Any, box: Any, boxes: int, blank: bool) -> None:
    """Write what a line within the first `boxes` containers begins with; a `blank` one ends with its last `>`."""
    begin = last = size = s[SIZE]
    for k in range(boxes):
        if box[PENDING, k]:
            if box[KIND, k] == DEFINITION:
                out[size], out[size + 1] = 58, 32
                size += 2
            elif box[NUMBER, k] == BULLET:
                out[size], out[size + 1] = 45, 32
                size += 2
            else:
                count = abs(box[NUMBER, k])
                if box[NUMBER, k] < 0:
                    out[size] = 45
                    size += 1
                power = 1
                while power * 10 <= count:
                    power *= 10
                while power > 0:
                    out[size] = 48 + count // power % 10
                    size += 1
                    power //= 10
                out[size], out[size + 1] = 46, 32
                size += 2
            box[PENDING, k] = 0
        elif s[SPENT] <= s[BUDGET]:
            if box[KIND, k] == QUOTE:
                out[size], out[size + 1] = 62, 32
                last = size + 1
                size += 2
            else:
                for _ in range(box[WIDTH, k]):
                    out[size] = 32
                    size += 1
    s[SIZE] = last if blank else size
    s[SPENT] += s[SIZE] - begin


@numba.njit(numba.void(_out, _i64, _table), nogil=True, cache=True)
def new_line(out: Any, s: Any, box: Any) -> None:
    out[s[SIZE]] = 10
    s[SIZE] += 1
    _prefix(out, s, box, s[TOP], False)


@numba.njit(numba.void(_out, _i64, _table, _table), nogil=True, cache=True)
def begin_block(out: Any, s: Any, box: Any, lists: Any) -> None:
    """Begin a block: behind an empty line, unless it goes on with a list that has none between its items."""
    low, top = s[LOW], s[TOP]
    if s[SIZE] > 0:
        apart = True
        if top > low:
            kind = box[KIND, low]
            same = s[GONE] == box[LIST, low]
            if kind == ITEM:
                if same:
                    apart = lists[LOOSE, box[PLACE, low]] != 0
                else:
                    apart = s[GONE] != NONE or low == 0 or box[KIND, low - 1] != ITEM
            elif kind == DEFINITION:
                apart = not same or (s[GONE_KIND] == DEFINITION and lists[LOOSE, box[PLACE, low]] != 0)
            elif kind == TERM:
                apart = not same or s[GONE_KIND] != TERM
        out[s[SIZE]] = 10
        s[SIZE] += 1
        if apart:
            for k in range(low):
                if box[KIND, k] != QUOTE:
                    lists[LOOSE, box[PLACE, k]] = 1
            _prefix(out, s, box, low, True)
            out[s[SIZE]] = 10
            s[SIZE] += 1
    for k in range(top):
        if box[KIND, k] != QUOTE:
            lists[WRITTEN, box[PLACE, k]] = 1
    _prefix(out, s, box, top, False)
    s[LOW], s[GONE] = top, NONE
    size = s[SIZE]
    for _ in range(s[LEVEL]):
        out[size] = 35
        size += 1
    if s[LEVEL]:
        out[size] = 32
        size += 1
    s[SIZE], s[OPEN] = size, 1


@numba.njit(numba.void(_out, _i64), nogil=True, cache=True)
def _empty_cells(out: Any, s: Any) -> None:
    """Write the cells of the row up to the present one."""
    size = s[SIZE]
    while s[ROW] < s[CELL]:
        out[size], out[size + 1], out[size + 2] = 32, 32, 124
        size += 3
        s[ROW] += 1
    s[SIZE] = size


@numba.njit(numba.void(_out, _i64, _table, _table), nogil=True, cache=True)
def ready(out: Any, s: Any, box: Any, lists: Any) -> None:
    """Write what stands before the next character: the beginning of a block, row or cell, a blank, marks."""
    if not s[OPEN]:
        if s[CELL] < 0:
            begin_block(out, s, box, lists)
        else:
            if s[ROW] < 0:
                if s[ROWS] == 0:
                    begin_block(out, s, box, lists)
                else:
                    new_line(out, s, box)
                out[s[SIZE]] = 124
                s[SIZE] += 1
                s[ROW] = 0
            _empty_cells(out, s)
            out[s[SIZE]] = 32
            s[SIZE] += 1
            s[OPEN] = 1
    elif s[BREAKS]:
        new_line(out, s, box)
    elif s[SPACE]:
        size = s[SIZE]
        if s[SPACE] & PARAGRAPH and s[CELL] >= 0:
            out[size], out[size + 1], out[size + 2], out[size + 3] = 60, 98, 114, 62
            s[SIZE] = size + 4
        elif s[SPACE] != PICTURE:
            out[size] = 32
            s[SIZE] = size + 1
    s[SPACE] = s[BREAKS] = 0
    size = s[SIZE]
    while s[QUOTES] > 0:
        out[size], out[size + 1], out[size + 2] = 0xE2, 0x80, 0x9C
        size += 3
        s[QUOTES] -= 1
    if s[MARK] == 1:
        out[size] = 91
        size += 1
        s[MARK] = 2
    if s[CODE] and s[CODE_AT] < 0:
        if size == s[CODE_END] and size - s[CODE_BEGIN] < _JOINED_BYTES:  # one code right behind another
            size -= 1
            s[CODE_AT] = s[CODE_BEGIN]
        else:
            out[size] = 96
            size += 1
            s[CODE_AT] = size
    s[SIZE] = size


@numba.njit(numba.void(_out, _i64), nogil=True, cache=True)
def close_code(out: Any, s: Any) -> None:
    """End an inline code, between more backticks than it holds in a row."""
    begin, size = s[CODE_AT], s[SIZE]
    s[CODE_AT] = -1
    most = run = 0
    for at in range(begin, size):
        run = run + 1 if out[at] == 96 else 0
        most = max(most, run)
    if most:
        pad = 1 if out[begin] == 96 or out[size - 1] == 96 else 0
        for at in range(size - 1, begin - 1, -1):
            out[at + most + pad] = out[at]
        for at in range(begin, begin + most):
            out[at] = 96
        size += most + pad
        if pad:
            out[begin + most] = out[size] = 32
            size += 1
        for _ in range(most):
            out[size] = 96
            size += 1
    out[size] = 96
    s[SIZE] = size + 1
    s[CODE_BEGIN], s[CODE_END] = begin, NONE if most else size + 1


@numba.njit(numba.void(_out, _i64), nogil=True, cache=True)
def boundary(out: Any, s: Any) -> None:
    """What comes next is no more of this line, or, where all must be one line, of this word."""
    if s[OPEN] and (s[FLAT] or s[CELL] >= 0):
        s[SPACE] |= PARAGRAPH if s[CELL] >= 0 and s[CODE_AT] < 0 else BLANK
        return
    if s[CODE_AT] >= 0:
        close_code(out, s)
    s[OPEN] = s[SPACE] = s[BREAKS] = 0


@numba.njit(nogil=True, cache=True)
def _is_unspaced(data: Any, at: int) -> bool:
    """Whether the character at `at` is of a script of South-East Asia, which has no blanks between words."""
    if at < 0 or at + 2 >= len(data):
        return False
    if data[at] == 0xE0:
        return bool(0xB8 <= data[at + 1] <= 0xBB)  # Thai, Lao
    # Burmese, Khmer; Tai Le, New Tai Lue, Tai Tham
    second = data[at + 1]
    return bool(data[at] == 0xE1 and (0x80 <= second <= 0x82 or 0x9E <= second <= 0x9F or 0xA5 <= second <= 0xAA))


@numba.njit(nogil=True, cache=True)
def _parts_words(data: Any, at: int) -> bool:
    """Whether the blank of no width at `at` stands between two words and not just where a line may break."""
    return _is_unspaced(data, at + 3) and _is_unspaced(data, at - 3)


@numba.njit(nogil=True, cache=True)
def is_letter(byte: int) -> bool:
    """A letter or digit of ASCII, or the first byte of a letter of Europe."""
    return 48 <= byte <= 57 or 97 <= byte | 32 <= 122 or 0xC3 <= byte <= 0xD4


@numba.njit(nogil=True, cache=True)
def _shows_gap(last: int, first: int) -> bool:
    """Whether a picture between these two bytes stands for a blank: between words, behind a sentence; not before the comma that follows."""
    if not is_letter(first):
        return False
    return is_letter(last) or last >= 0x80 or last in (33, 41, 44, 46, 58, 59, 63, 93)


@numba.njit(numba.void(_out, _i64, _table, _table, _bytes, numba.int64, numba.int64, numba.boolean), nogil=True, cache=True)
def put_text(out: Any, s: Any, box: Any, lists: Any, data: Any, at: int, stop: int, raw: bool) -> None:
    plain = _PLAIN_IN_CELL if s[CELL] >= 0 else _PLAIN
    while at < stop:
        byte = data[at]
        if is_space(byte):
            s[SPACE] |= BLANK
            at += 1
            continue
        first, length = byte, 0  # the character as written, where it is not as it stands
        if plain[byte]:
            pass
        elif byte == 38:
            if not raw:
                following = data[at + 1] if at + 1 < stop else 0
                while at + 1 < stop and data[at] != 59:
                    at += 1
                at += 1
                if following == 110:
                    s[SPACE] |= BLANK
                    continue
                first = 60 if following == 108 else 62 if following == 103 else 34 if following == 113 else 38
                length = 1
        elif byte == 0xC2:
            if at + 1 < stop and (data[at + 1] == 0xA0 or data[at + 1] == 0xAD):
                s[SPACE] |= data[at + 1] == 0xA0
                at += 2
                continue
        elif byte == 0xE2:
            if at + 2 < stop and data[at + 1] == 0x80 and data[at + 2] == 0x8B and not _parts_words(data, at):
                at += 3
                continue
        elif byte == 0xEF and at + 2 < stop and data[at + 1] == 0xBB and data[at + 2] == 0xBF:
            at += 3
            continue
        if s[SPACE] == PICTURE and s[OPEN] and _shows_gap(out[s[SIZE] - 1], first):
            s[SPACE] = BLANK
        ready(out, s, box, lists)
        size = s[SIZE]
        if length:
            out[size] = first
            size += 1
        else:
            if byte == 124 and s[CELL] >= 0:
                out[size] = 92
                size += 1
            out[size] = byte
            size += 1
            at += 1
        # A run of words with single blanks between them.
        while at < stop:
            byte = data[at]
            if plain[byte]:
                out[size] = byte
            elif byte == 32 and at + 1 < stop and plain[data[at + 1]]:
                out[size] = 32
            else:
                break
            size += 1
            at += 1
        s[SIZE] = size


@numba.njit(nogil=True, cache=True)
def sign_at(data: Any, at: int, stop: int) -> Any:
    """A digit or sign at `at` and its bytes: 0 to 9, 10 +, 11 minus, 12 =, 13 (, 14 ); -1 for all else."""
    byte = data[at]
    if 48 <= byte <= 57:
        return byte - 48, 1
    if byte == 0xE2 and at + 2 < stop:
        if (data[at + 1] == 0x88 and data[at + 2] == 0x92) or (data[at + 1] == 0x80 and data[at + 2] == 0x93):
            return 11, 3
        return -1, 1
    return (10 if byte == 43 else 11 if byte == 45 else 12 if byte == 61 else 13 if byte == 40 else 14 if byte == 41 else -1), 1


@numba.njit(numba.void(_out, _i64, _table, _table, _bytes, numba.int64, numba.int64), nogil=True, cache=True)
def put_script(out: Any, s: Any, box: Any, lists: Any, data: Any, at: int, stop: int) -> None:
    """Write digits and signs as those that Unicode has above and below the line."""
    while at < stop:
        sign, length = sign_at(data, at, stop)
        at += length
        if sign < 0:
            continue
        ready(out, s, box, lists)
        size = s[SIZE]
        code = (0x2070 if s[SCRIPT] == MATH_UP else 0x2080) + sign
        if s[SCRIPT] == MATH_UP and 1 <= sign <= 3:
            out[size] = 0xC2
            out[size + 1] = 0xB9 if sign == 1 else 0xB0 + sign
            s[SIZE] = size + 2
        else:
            out[size], out[size + 1], out[size + 2] = 0xE2, 0x80 | code >> 6 & 63, 0x80 | code & 63
            s[SIZE] = size + 3


@numba.njit(numba.void(_out, _i64, _table, _table, _out, numba.int64, numba.int64, _out, numba.int64), nogil=True, cache=True)
def put_code(out: Any, s: Any, box: Any, lists: Any, code: Any, begin: int, stop: int, spelled: Any, spell: int) -> None:
    """Write a code block: a fence longer than any run of backticks in it, and its lines."""
    most, run = 2, 0
    for at in range(begin, stop):
        run = run + 1 if code[at] == 96 else 0
        most = max(most, run)
    level, s[LEVEL] = s[LEVEL], 0
    begin_block(out, s, box, lists)
    size = s[SIZE]
    for _ in range(most + 1):
        out[size] = 96
        size += 1
    for i in range(spell):
        out[size] = spelled[i]
        size += 1
    s[SIZE] = size
    at = begin
    while at <= stop:
        out[s[SIZE]] = 10
        s[SIZE] += 1
        _prefix(out, s, box, s[TOP], at < stop and code[at] == 10)
        size = s[SIZE]
        while at < stop and code[at] != 10:
            out[size] = code[at]
            size += 1
            at += 1
        at += 1
        s[SIZE] = size
    new_line(out, s, box)
    size = s[SIZE]
    for _ in range(most + 1):
        out[size] = 96
        size += 1
    s[SIZE], s[OPEN], s[LEVEL] = size, 0, level


@numba.njit(numba.void(_out, _i64, _table, _table, _bytes, numba.int64, numba.int64, numba.boolean), nogil=True, cache=True)
def put_math(out: Any, s: Any, box: Any, lists: Any, data: Any, at: int, stop: int, display: bool) -> None:
    """Write a formula as it is, between dollars."""
    while at < stop and is_space(data[at]):
        at += 1
    while stop > at and is_space(data[stop - 1]):
        stop -= 1
    if at == stop:
        return
    if display:
        boundary(out, s)
    ready(out, s, box, lists)
    out[s[SIZE]] = 36
    s[SIZE] += 1
    if display:
        out[s[SIZE]] = 36
        s[SIZE] += 1
        new_line(out, s, box)
    while at < stop:
        byte = data[at]
        at += 1
        if byte == 38:
            following = data[at] if at < stop else 0
            while at < stop and data[at] != 59:
                at += 1
            at += 1
            byte = 60 if following == 108 else 62 if following == 103 else 32 if following == 110 else 34 if following == 113 else 38
        elif byte == 13:
            continue
        elif byte == 10:
            if display:
                new_line(out, s, box)
                continue
            byte = 32
        elif byte == 124 and s[CELL] >= 0:
            out[s[SIZE]] = 92
            s[SIZE] += 1
        out[s[SIZE]] = byte
        s[SIZE] += 1
    if display:
        new_line(out, s, box)
        out[s[SIZE]] = 36
        s[SIZE] += 1
    out[s[SIZE]] = 36
    s[SIZE] += 1
    if display:
        boundary(out, s)


@numba.njit(numba.void(_out, _i64, _table), nogil=True, cache=True)
def end_row(out: Any, s: Any, box: Any) -> None:
    if s[ROW] < 0:
        return
    s[CELL] = s[COLUMNS]
    _empty_cells(out, s)
    s[CELL] = s[ROW] = -1
    s[ROWS] += 1
    if s[ROWS] == 1:
        new_line(out, s, box)
        size = s[SIZE]
        out[size] = 124
        size += 1
        for _ in range(s[COLUMNS]):
            for byte in (32, 45, 45, 45, 32, 124):
                out[size] = byte
                size += 1
        s[SIZE] = size


@numba.njit(numba.int64(_i64, _table, _table, numba.int64, numba.int64, numba.int64, numba.int64), nogil=True, cache=True)
def put_in(s: Any, box: Any, lists: Any, kind: int, width: int, pending: int, count: int) -> int:
    """Open a container: what is to be done at its end."""
    here = s[LISTS]
    if kind == QUOTE:
        if s[BLOCKQUOTES] == MOST_QUOTES:
            return BOUNDARY
        s[BLOCKQUOTES] += 1
    else:
        if s[ITEMS] == MOST_ITEMS:
            top = s[TOP] - 1
            if kind == ITEM and pending and box[KIND, top] == ITEM:  # as one more item at the deepest place
                box[PENDING, top], box[NUMBER, top], box[WIDTH, top] = 1, count, width
                s[LOW], s[GONE] = min(s[LOW], top), box[LIST, top]
                return END_ITEM_AGAIN
            return BOUNDARY
        s[ITEMS] += 1
    top = s[TOP]
    box[KIND, top], box[LIST, top], box[PLACE, top] = kind, lists[NODE, here] if kind != QUOTE else -2, here
    box[WIDTH, top], box[PENDING, top], box[NUMBER, top] = width, pending, count
    s[TOP] += 1
    return END_BOX


@numba.njit(numba.void(_i64, _table), nogil=True, cache=True)
def take_out(s: Any, box: Any) -> None:
    s[TOP] -= 1
    top = s[TOP]
    if box[KIND, top] == QUOTE:
        s[BLOCKQUOTES] -= 1
    else:
        s[ITEMS] -= 1
    box[PENDING, top] = 0
    if top <= s[LOW]:
        s[LOW], s[GONE], s[GONE_KIND] = top, box[LIST, top], box[KIND, top]
