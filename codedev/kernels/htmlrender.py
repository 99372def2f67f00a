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
from codedev.kernels.htmlcode import DISPLAY, START, VALUE, attribute, code_lines, code_text, is_highlighter, language, number
from codedev.kernels.htmltable import columns, place, span, workspace
from codedev.kernels.htmltape import INLINE, RAW, SKIPPED, TAG, TEXT, Tape, is_space, table_of

_HEADING_BYTES = 500  # a longer one is a mistake of the page
# What is done when an element ends; the writer's three come first.
_END_LIST, _END_HEADING, _END_TABLE, _END_ROW, _END_CELL, _END_CODE, _END_QUOTED, _END_SCRIPT = range(3, 11)

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
_TABLE, _TR, _Q, _SUP, _SUB, _A, _FORMULA = TAG["table"], TAG["tr"], TAG["q"], TAG["sup"], TAG["sub"], TAG["a"], TAG["codedev-math"]

_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_out = numba.uint8[::1]
_i32, _i64 = numba.int32[::1], numba.int64[::1]
_table = numba.int64[:, ::1]


@numba.njit(nogil=True, cache=True)
def _script(data: Any, tag: Any, parent: Any, after: Any, start: Any, end: Any, node: int) -> int:
    """Whether a <sup> or <sub> holds digits and signs alone, or is the mark of a note: digits in a link."""
    is_sup = tag[node] == _SUP
    linked = tag[parent[node]] == _A and after[node] == after[parent[node]] and node == parent[node] + 1
    signs, others = 0, 0
    if after[node] > node + 16:
        return 0
    for i in range(node + 1, after[node]):
        if tag[i] == TEXT:
            at, stop = start[i], end[i]
            if stop - at > 40:
                return 0
            while at < stop:
                sign, length = w.sign_at(data, at, stop)
                if sign >= 0:
                    signs += 1
                elif data[at] == 44:
                    others += 1
                elif not is_space(data[at]):
                    return 0
                at += length
        elif tag[i] == _A:
            linked = True
        elif not INLINE[tag[i]] or tag[i] == _BR or tag[i] == _FORMULA:
            return 0
    if signs == 0:
        return 0
    if is_sup and linked:
        return w.NOTE
    return 0 if others else w.MATH_UP if is_sup else w.MATH_DOWN


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
    depth = 0
    node = 1
    while True:
        while depth > 0 and (node >= nodes or node >= after[stack[2 * depth - 2]]):
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
                s[w.SPACE] = 1
            elif keep[number_of]:
                if s[w.SCRIPT] == w.MATH_UP or s[w.SCRIPT] == w.MATH_DOWN:
                    w.put_script(out, s, box, lists, data, start[node], end[node])
                else:
                    w.put_text(out, s, box, lists, data, start[node], end[node], RAW[tag[parent[node]]])
            node += 1
            continue
        if _UNREAD[kind]:
            if _GAP[kind]:
                s[w.SPACE] = 1
            node = after[node]
            continue
        if kind == _BR:
            if s[w.FLAT] or s[w.CELL] >= 0:
                s[w.SPACE] = 1
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
        if _FLOW[kind] and not is_code:
            if _CODE_TAG[kind]:
                act = _END_CODE
                s[w.CODE] += 1
            elif kind == _Q:
                act = _END_QUOTED
                s[w.QUOTES] += 1
            elif kind in (_SUP, _SUB) and s[w.SCRIPT] == 0 and s[w.CODE] == 0:
                s[w.SCRIPT] = _script(data, tag, parent, after, start, end, node)
                if s[w.SCRIPT]:
                    act = _END_SCRIPT
                    s[w.MARK] = s[w.SCRIPT] == w.NOTE
            elif _GAP[kind]:
                s[w.SPACE] = 1
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
            if within and kind != _DL and w.put_in(s, box, lists, w.ITEM, lists[w.LAST_WIDTH, here], 0, w.NONE) == w.END_BOX:
                nested = 2  # a list in a list belongs to the item before it
            here += 1
            s[w.LISTS] = here
            lists[w.NODE, here], lists[w.ORDERED, here] = node, (kind == _OL) + nested
            lists[w.COUNT, here] = number(data, start[node], inner[node], START, 1) if kind == _OL else 1
            lists[w.LOOSE, here] = lists[w.LAST_WIDTH, here] = lists[w.WRITTEN, here] = 0
        elif kind == _LI:
            here = s[w.LISTS]
            count, width = w.NONE, 2
            if lists[w.ORDERED, here] & 1:
                count = number(data, start[node], inner[node], VALUE, lists[w.COUNT, here])
                lists[w.COUNT, here] = count + 1
                width, rest = 3, count
                while rest >= 10:
                    rest //= 10
                    width += 1
            act = w.put_in(s, box, lists, w.ITEM, width, 1, count)
        elif kind == _DD:
            act = w.put_in(s, box, lists, w.DEFINITION, 2, 1, w.NONE)
        elif kind == _DT:
            act = w.put_in(s, box, lists, w.TERM, 0, 0, w.NONE)
        elif kind == _BLOCKQUOTE:
            act = w.put_in(s, box, lists, w.QUOTE, 2, 0, w.NONE)
        elif kind == _TABLE:
            s[w.COLUMNS] = columns(data, tag, parent, after, start, inner, end, node, below, filled)
            if s[w.COLUMNS]:
                act = _END_TABLE
                table_end = after[node]
                s[w.ROWS], s[w.ROW] = 0, -1
                below[:] = 0
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
