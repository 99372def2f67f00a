"""The kept blocks of a page as Markdown-like text: 1.6 GB of HTML a second and core where all is kept.

Headings, lists, quotes, code, tables of data and formulas keep their marks; emphasis, links' targets and images do not. A paragraph is one
line, nothing is escaped but `|` in cells. One walk over the tape. Indentation costs at most twice the bytes of the page: beyond that, and
beyond 20 lists or 10 quotes in each other, the text goes on unindented. Decides nothing about what is kept.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels import htmlwrite as w
from codedev.kernels.htmlcode import DISPLAY, VALUE, attribute, code_lines, code_text, is_highlighter, language
from codedev.kernels.htmllist import first_number, integer
from codedev.kernels.htmlpicture import is_unknown_inline, picture
from codedev.kernels.htmlscript import BRACED, PLAIN, power, script
from codedev.kernels.htmltable import SECTIONS, columns, in_order, place, span, workspace
from codedev.kernels.htmltape import INLINE, OTHER, RAW, SKIPPED, TAG, TEXT, Tape, is_space, table_of

_HEADING_BYTES = 500  # a longer one is a mistake of the page
# What is done when an element ends; the writer's three come first.
_END_LIST, _END_HEADING, _END_TABLE, _END_ROW, _END_CELL, _END_CODE, _END_QUOTED, _END_SCRIPT, _END_POWER, _END_UNKNOWN = range(3, 13)

_PRE = table_of("pre listing xmp plaintext")
_CODE_TAG = table_of("code tt samp")
_HEADING = np.zeros(256, np.int64)
for _level in range(1, 7):
    _HEADING[TAG[f"h{_level}"]] = _level
_NO_HEADING = table_of("h1 h2 h3 h4 h5 h6 ul ol dl table pre listing xmp blockquote form")
_LIST_TAG = table_of("ul ol dl menu")
_CELL_TAG = table_of("td th")
_GAP = table_of("input select textarea iframe video audio object canvas")  # seen between two words
_UNREAD = SKIPPED | table_of("rt rp")
_LINES_OF_CODE = table_of("div p td dd figure section code")
_FLOW = INLINE & ~table_of("label")
_BR, _LI, _OL, _DL, _DD, _DT, _BLOCKQUOTE = TAG["br"], TAG["li"], TAG["ol"], TAG["dl"], TAG["dd"], TAG["dt"], TAG["blockquote"]
_TABLE, _TR, _Q, _SUP, _SUB, _IMG, _FORMULA = TAG["table"], TAG["tr"], TAG["q"], TAG["sup"], TAG["sub"], TAG["img"], TAG["codedev-math"]
_PICTURE = table_of("svg picture")

_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_out = numba.uint8[::1]
_i32, _i64 = numba.int32[::1], numba.int64[::1]
_table = numba.int64[:, ::1]


@numba.njit(nogil=True, cache=True)
def _is_heading(data: Any, tag: Any, after: Any, start: Any, end: Any, node: int) -> bool:
    """Whether it is one line: pages close headings late. Stops at the next heading: each node is looked at once."""
    size = 0
    for i in range(node + 1, after[node]):
        if tag[i] == TEXT:
            size += end[i] - start[i]
            if size > _HEADING_BYTES:  # of which white space may be some
                for at in range(start[i], end[i]):
                    size -= is_space(data[at])
                if size > _HEADING_BYTES:
                    return False
        elif _NO_HEADING[tag[i]]:
            return False
    return True


@numba.njit(
    numba.int64(_bytes, _out, _i32, _i32, _i32, _i32, _i32, _i32, numba.boolean[::1], _out, _i64, _table, _table, _i32, _i32, _i64,
                numba.boolean[::1]),
    nogil=True,
    cache=True,
)  # fmt: skip
def _render(
    data: Any, tag: Any, parent: Any, after: Any, start: Any, inner: Any, end: Any, block: Any, keep: Any,
    out: Any, s: Any, box: Any, lists: Any, stack: Any, code_stack: Any, below: Any, filled: Any,
) -> int:  # fmt: skip
    nodes = len(tag)
    code = np.empty(0, np.uint8)
    spelled = np.empty(32, np.uint8)
    looked, column, table_end = 0, 0, 0
    single, other = 0, 0  # up to where no element has two lines of code; a text that is none
    parts = np.empty((SECTIONS, 2), np.int64)
    parted, part, part_end = -1, 0, nodes + 1
    depth = 0
    node = 1
    while True:
        while depth > 0 and (node >= nodes or node >= after[stack[2 * depth - 2]] or (node >= part_end and stack[2 * depth - 2] == parted)):
            if stack[2 * depth - 2] == parted:  # the parts of a table in the order that a browser shows them
                part += 1
                if part < len(parts) and parts[part, 0] >= 0:
                    node, part_end = parts[part, 0], parts[part, 1]
                    below[:] = 0
                    continue
                node, parted, part_end = after[parted], -1, nodes + 1
                continue
            depth -= 1
            left, act = stack[2 * depth], stack[2 * depth + 1]
            if act == _END_CODE:
                s[w.CODE] -= 1
                if s[w.CODE] == 0 and s[w.CODE_AT] >= 0:
                    w.close_code(out, s)
            elif act == _END_QUOTED:
                if s[w.QUOTES] > 0:
                    s[w.QUOTES] -= 1
                elif s[w.OPEN]:
                    size = s[w.SIZE]
                    out[size], out[size + 1], out[size + 2] = 0xE2, 0x80, 0x9D
                    s[w.SIZE] = size + 3
            elif act == _END_SCRIPT:
                if s[w.MARK] == 2:
                    out[s[w.SIZE]] = 93
                    s[w.SIZE] += 1
                s[w.SCRIPT] = s[w.MARK] = 0
            elif act == _END_POWER:
                out[s[w.SIZE]] = 41
                s[w.SIZE] += 1
                s[w.SPACE] = 0
            elif act == _END_UNKNOWN:
                s[w.SPACE] |= w.PICTURE
            elif act == _END_CELL:
                if s[w.OPEN]:
                    if s[w.CODE_AT] >= 0:
                        w.close_code(out, s)
                    out[s[w.SIZE]], out[s[w.SIZE] + 1] = 32, 124
                    s[w.SIZE] += 2
                    s[w.ROW] += 1
                s[w.CELL] = -1
                s[w.OPEN] = s[w.SPACE] = s[w.BREAKS] = 0
            elif act == _END_ROW:
                w.end_row(out, s, box)
                while column < s[w.COLUMNS]:
                    column = place(column, below) + 1
            elif act == _END_HEADING:
                s[w.FLAT] = 0
                w.boundary(out, s)
                s[w.LEVEL] = 0
            else:
                w.boundary(out, s)
                if act == w.END_BOX:
                    last_width = box[w.WIDTH, s[w.TOP] - 1]
                    w.take_out(s, box)
                    if tag[left] == _LI:
                        lists[w.LAST_WIDTH, s[w.LISTS]] = last_width
                elif act == w.END_ITEM_AGAIN:
                    box[w.PENDING, s[w.TOP] - 1] = 0
                elif act == _END_LIST:
                    s[w.LISTS] -= 1
                    if lists[w.ORDERED, s[w.LISTS] + 1] & 2:
                        w.take_out(s, box)
                elif act == _END_TABLE:
                    s[w.COLUMNS] = s[w.ROWS] = 0
        if node >= nodes:
            break
        kind = tag[node]
        if kind == TEXT:
            number_of = block[node]
            if number_of < 0:
                s[w.SPACE] |= w.BLANK
            elif keep[number_of]:
                if s[w.SCRIPT] == w.MATH_UP or s[w.SCRIPT] == w.MATH_DOWN:
                    w.put_script(out, s, box, lists, data, start[node], end[node])
                else:
                    w.put_text(out, s, box, lists, data, start[node], end[node], RAW[tag[parent[node]]])
            node += 1
            continue
        if _UNREAD[kind]:
            if _GAP[kind]:
                s[w.SPACE] |= w.BLANK
            elif _PICTURE[kind]:
                s[w.SPACE] |= w.PICTURE
            node = after[node]
            continue
        if kind == _BR:
            if s[w.FLAT] or s[w.CELL] >= 0:
                s[w.SPACE] |= w.BLANK
            elif s[w.OPEN]:
                s[w.BREAKS] += 1
                if s[w.BREAKS] == 2:
                    w.boundary(out, s)
            node += 1
            continue
        if kind == _FORMULA:
            display = False
            if not s[w.FLAT] and s[w.CELL] < 0:
                at, stop = attribute(data, start[node], inner[node], DISPLAY)
                display = at >= 0 and stop - at == 5 and data[at] == 98
            for i in range(node + 1, after[node]):
                if tag[i] == TEXT and block[i] >= 0 and keep[block[i]]:
                    w.put_math(out, s, box, lists, data, start[i], end[i], display)
            node = after[node]
            continue
        act = w.BOUNDARY
        # An element that shows lines of `<code>` and nothing else is a code block. No node is looked at a third time: what is within an
        # element of one line has no more, and what is around a text that is no code has it too.
        is_code = False
        one_line = s[w.FLAT] or s[w.CELL] >= 0 or s[w.CODE] or (INLINE[kind] and s[w.OPEN])
        if _LINES_OF_CODE[kind] and not one_line and node >= single and not node < other < after[node]:
            lines, looked_to = code_lines(data, tag, after, start, end, node)
            is_code = lines > 1
            if lines == 0 and looked_to < after[node]:
                other = looked_to
            elif not is_code:
                single = after[node]
        if (_FLOW[kind] or (kind == OTHER and is_unknown_inline(data, start[node], tag[parent[node]]))) and not is_code:
            if kind == OTHER:
                act = _END_UNKNOWN
                s[w.SPACE] |= w.PICTURE
            elif _CODE_TAG[kind]:
                act = _END_CODE
                s[w.CODE] += 1
            elif kind == _Q:
                act = _END_QUOTED
                s[w.QUOTES] += 1
            elif kind in (_SUP, _SUB) and s[w.SCRIPT] == 0:
                if s[w.CODE] == 0:
                    s[w.SCRIPT] = script(data, tag, parent, after, start, end, node)
                if s[w.SCRIPT]:
                    act = _END_SCRIPT
                    s[w.MARK] = s[w.SCRIPT] == w.NOTE
                elif s[w.OPEN] and s[w.SPACE] == 0 and s[w.BREAKS] == 0 and (s[w.CODE] == 0 or s[w.CODE_AT] >= 0):
                    how = power(data, tag, after, start, end, node, out, s[w.SIZE], s[w.CODE] > 0)
                    if how != PLAIN:
                        out[s[w.SIZE]] = 94 if kind == _SUP else 95
                        s[w.SIZE] += 1
                    if how == BRACED:
                        out[s[w.SIZE]] = 40
                        s[w.SIZE] += 1
                        act = _END_POWER
            elif kind == _IMG:
                at, stop = picture(data, tag, start, inner, block, keep, node, s[w.OPEN], s[w.SPACE])
                if at < stop:
                    w.put_text(out, s, box, lists, data, at, stop, False)
                elif at == 0:
                    s[w.SPACE] |= w.PICTURE
            elif _GAP[kind]:
                s[w.SPACE] |= w.BLANK
            if act != w.BOUNDARY:
                stack[2 * depth], stack[2 * depth + 1] = node, act
                depth += 1
            node += 1
            continue
        w.boundary(out, s)
        if _PRE[kind] and (s[w.FLAT] or s[w.CELL] >= 0):
            act = _END_CODE
            s[w.CODE] += 1
        elif is_code or _PRE[kind] or (kind == _TABLE and not s[w.FLAT] and is_highlighter(data, tag, after, start, inner, node)):
            if len(code) == 0:
                code = np.empty(len(data) + 1, np.uint8)
            begin, stop = code_text(data, tag, parent, after, start, inner, end, block, keep, node, code, code_stack)
            if begin < stop:
                looked += 1
                spell = language(data, tag, parent, after, start, inner, node, looked * 8192 < s[w.BUDGET] + 1_000_000, spelled)
                w.put_code(out, s, box, lists, code, begin, stop, spelled, spell)
            node = after[node]
            continue
        elif _HEADING[kind]:
            if not s[w.FLAT] and s[w.CELL] < 0 and _is_heading(data, tag, after, start, end, node):
                act = _END_HEADING
                s[w.FLAT] = 1
                s[w.LEVEL] = 0 if s[w.ITEMS] else _HEADING[kind]
        elif s[w.FLAT] or s[w.CELL] >= 0:
            pass
        elif _LIST_TAG[kind]:
            act = _END_LIST
            here = s[w.LISTS]
            within = here > 0 and parent[node] == lists[w.NODE, here] and lists[w.WRITTEN, here] and lists[w.LAST_WIDTH, here] > 0
            nested = 0
            if within and kind != _DL and w.put_in(s, box, lists, w.ITEM, lists[w.LAST_WIDTH, here], 0, w.BULLET) == w.END_BOX:
                nested = 2  # a list in a list belongs to the item before it
            here += 1
            s[w.LISTS] = here
            lists[w.NODE, here], lists[w.ORDERED, here] = node, (kind == _OL) + nested
            lists[w.COUNT, here], lists[w.STEP, here] = first_number(data, tag, after, start, inner, node) if kind == _OL else (1, 1)
            lists[w.LOOSE, here] = lists[w.LAST_WIDTH, here] = lists[w.WRITTEN, here] = 0
        elif kind == _LI:
            here = s[w.LISTS]
            count, width = w.BULLET, 2
            if lists[w.ORDERED, here] & 1:
                count = integer(data, start[node], inner[node], VALUE, lists[w.COUNT, here])
                lists[w.COUNT, here] = count + lists[w.STEP, here]
                width, rest = 3 + (count < 0), abs(count)
                while rest >= 10:
                    rest //= 10
                    width += 1
            act = w.put_in(s, box, lists, w.ITEM, width, 1, count)
        elif kind == _DD:
            act = w.put_in(s, box, lists, w.DEFINITION, 2, 1, w.BULLET)
        elif kind == _DT:
            act = w.put_in(s, box, lists, w.TERM, 0, 0, w.BULLET)
        elif kind == _BLOCKQUOTE:
            act = w.put_in(s, box, lists, w.QUOTE, 2, 0, w.BULLET)
        elif kind == _TABLE:
            s[w.COLUMNS] = columns(data, tag, parent, after, start, inner, end, node, below, filled)
            if s[w.COLUMNS]:
                act = _END_TABLE
                table_end = after[node]
                s[w.ROWS], s[w.ROW] = 0, -1
                below[:] = 0
                if not in_order(tag, after, node, parts):
                    stack[2 * depth], stack[2 * depth + 1] = node, act
                    depth += 1
                    parted, part = node, 0
                    node, part_end = parts[0, 0], parts[0, 1]
                    continue
        elif node < table_end and s[w.COLUMNS]:
            if kind == _TR:
                act = _END_ROW
                column, s[w.ROW] = 0, -1
            elif _CELL_TAG[kind]:
                act = _END_CELL
                column = place(column, below)
                s[w.CELL] = column
                column = span(data, start[node], inner[node], column, below)
        stack[2 * depth], stack[2 * depth + 1] = node, act
        depth += 1
        node += 1
    return int(s[w.SIZE])


def render(tape: Tape, block: np.ndarray, keep: np.ndarray) -> bytes:
    """The text of the kept blocks, UTF-8. `block`: int32, the block of every node, -1 = none; `keep`: bool, of every block."""
    if len(block) != len(tape.tag) or (len(block) and int(block.max()) >= len(keep)):
        raise ValueError("a block of every node and a decision of every block are needed")
    size = len(tape.data)
    out = np.empty(6 * size + (1 << 17), np.uint8)  # touched as far as it is written
    s = np.zeros(w.STATE, np.int64)
    s[w.BUDGET] = 2 * size + (1 << 16)
    s[[w.GONE, w.CODE_AT, w.CODE_END, w.CELL, w.ROW]] = -1
    deepest = int(tape.depth.max()) + 2
    box = np.zeros((w.BOX, w.MOST_ITEMS + w.MOST_QUOTES + 2), np.int64)
    lists = np.zeros((w.LIST_STATE, deepest + 1), np.int64)
    stack, code_stack = np.empty((2, 2 * deepest), np.int32)
    below, filled = workspace()
    tape_of = (tape.data, tape.tag, tape.parent, tape.after, tape.start, tape.inner, tape.end)
    written = _render(*tape_of, block, keep, out, s, box, lists, stack, code_stack, below, filled)
    return out[:written].tobytes()
