"""Which tables of a page hold data, and where their cells stand. Linear in the bytes of the table.

Data: two rows and two columns with text at the least, no table, list, heading of a section or third paragraph within a cell, and no cell
over 500 bytes of text, or 160 in two paragraphs. All others lay out a page. Looks at tags alone, never at styles.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.htmlcode import COLSPAN, ROLE, ROWSPAN, attribute, number
from codedev.kernels.htmltape import INLINE, SKIPPED, TAG, TEXT, is_space, table_of

COLUMNS = 1000  # of a table, at the most
_CELLS = 100_000
_CELL_BYTES = 500
_PARTED_BYTES = 160  # of a cell of two paragraphs
_CELL = table_of("td th")
_PRE = table_of("pre listing xmp plaintext")
_TOO_MUCH = table_of("table ul ol li dl dt dd blockquote article section aside nav form figure header footer")
_TR, _CAPTION, _THEAD, _TFOOT = TAG["tr"], TAG["caption"], TAG["thead"], TAG["tfoot"]
_ROWS = table_of("thead tbody tfoot tr")
SECTIONS = 8  # parts that a table is read in, at the most
_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_i32 = numba.int32[::1]


@numba.njit(nogil=True, cache=True)
def place(column: int, below: Any) -> int:
    """The first column from `column` on that no cell of a row above reaches into; `below` counts the rows that they reach on."""
    while column < COLUMNS and below[column] > 0:
        below[column] -= 1
        column += 1
    return column


@numba.njit(nogil=True, cache=True)
def span(data: Any, start: int, stop: int, column: int, below: Any) -> int:
    """Put a cell at `column`: the column behind it."""
    rows = number(data, start, stop, ROWSPAN, 1)
    if rows == 0:
        rows = 65534  # to the end
    last = min(COLUMNS, column + max(1, min(COLUMNS, number(data, start, stop, COLSPAN, 1))))
    while column < last:
        below[column] = min(rows, 65534) - 1
        column += 1
    return column


@numba.njit(
    numba.int64(_bytes, numba.uint8[::1], _i32, _i32, _i32, _i32, _i32, numba.int64, numba.int64[::1], numba.boolean[::1]),
    nogil=True,
    cache=True,
)
def columns(
    data: Any, tag: Any, parent: Any, after: Any, start: Any, inner: Any, end: Any, table: int, below: Any, filled: Any
) -> int:  # fmt: skip
    """How many columns a table of data has, 0 for one that is not of data. `below` and `filled` need COLUMNS."""
    at, stop = attribute(data, start[table], inner[table], ROLE)
    if at >= 0 and at < stop and (data[at] == 112 or data[at] == 110):  # presentation, none
        return 0
    below[:] = 0
    filled[:] = False
    wide = rows = lines = cells = column = 0
    row_end = cell_end = caption_end = part_end = pre_end = 0
    cell = 0
    size = paragraphs = 0
    row_filled = False
    apart = False
    node = table + 1
    while True:
        if row_end and node >= row_end:
            while column < wide:
                column = place(column, below)
                column += 1
            cells += max(wide, 1)
            lines += 1
            rows += row_filled
            row_end = 0
            if cells > _CELLS:
                return 0
        if node >= after[table]:
            break
        kind = tag[node]
        if kind == TEXT:
            at, stop = start[node], end[node]
            while at < stop and is_space(data[at]):
                at += 1
            if at < stop and node >= caption_end:
                if node >= cell_end:
                    return 0
                if part_end and node >= part_end:
                    apart = True
                paragraphs += apart and size > 0
                if paragraphs > 1:
                    return 0
                if node >= part_end:
                    part_end = 0
                apart = False
                size += stop - at
                if size > (_PARTED_BYTES if paragraphs else _CELL_BYTES):
                    return 0
                if node < pre_end:
                    while at < stop:
                        if data[at] == 10:
                            return 0
                        at += 1
                filled[cell] = row_filled = True
        elif SKIPPED[kind]:
            node = after[node]
            continue
        elif kind == _TR:
            if node < cell_end or row_end:
                return 0
            row_end, column, row_filled = after[node], 0, False
        elif _CELL[kind]:
            if node < cell_end or not row_end:
                return 0
            column = place(column, below)
            if column >= COLUMNS:
                return 0
            cell = column
            wide = max(wide, column + 1)
            column = span(data, start[node], inner[node], column, below)
            cells += column - cell
            cell_end, size, paragraphs, part_end, apart = after[node], 0, 0, 0, False
        elif kind == _CAPTION:
            caption_end = after[node]
        elif _TOO_MUCH[kind]:
            return 0
        elif not INLINE[kind] and node < cell_end:
            apart, part_end = True, after[node]
            if _PRE[kind]:
                pre_end = after[node]
        node += 1
    full = 0
    for k in range(wide):
        full += filled[k]
    if rows < 2 or full < 2 or 2 * lines * wide > end[table] - inner[table]:
        return 0
    return wide


@numba.njit(numba.boolean(numba.uint8[::1], _i32, numba.int64, numba.int64[:, ::1]), nogil=True, cache=True)
def in_order(tag: Any, after: Any, table: int, parts: Any) -> bool:
    """Whether the first head of a table comes before its rows and the first foot behind them. If not, `parts` are the ranges of nodes,
    SECTIONS of them, in which a browser shows them; -1 behind the last."""
    head = foot = rows = -1
    last = -1
    node = table + 1
    while node < after[table]:
        kind = tag[node]
        if _ROWS[kind]:
            if rows < 0:
                rows = node
            if kind == _THEAD and head < 0:
                head = node
            elif kind == _TFOOT and foot < 0:
                foot = node
            last = node
        node = after[node]
    if (head < 0 or head == rows) and (foot < 0 or foot == last):
        return True
    count = 0
    parts[:] = -1
    if rows > table + 1:
        parts[count, 0], parts[count, 1] = table + 1, rows
        count += 1
    if head >= 0:
        parts[count, 0], parts[count, 1] = head, after[head]
        count += 1
    begin = node = rows
    while True:
        if node >= after[table] or node in (head, foot):
            if node > begin:
                parts[count, 0], parts[count, 1] = begin, node
                count += 1
            if node >= after[table]:
                break
            begin = after[node]
        node = after[node]
    if foot >= 0:
        parts[count, 0], parts[count, 1] = foot, after[foot]
    return False


def workspace() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(COLUMNS, np.int64), np.zeros(COLUMNS, np.bool_)
