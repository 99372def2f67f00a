"""What in a Markdown text must stay whole or go whole: code blocks, tables, formulas, code in a line.

Read are fences of ``` and ~~~ (an open one reaches to the end, CommonMark 0.31 §4.5), lines indented by four columns, runs of lines that
start with "|", display formulas $$ … $$, \\[ … \\] and \\begin{name} … \\end{name} that start a line and end within REACH bytes, and inside
a line `…`, $…$ (by Pandoc's rule: no blank inside next to a dollar, no digit after the last one) and \\( … \\). Linear time.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

REACH = 10_000  # bytes of a display formula: beyond it the end is not looked for
FAILURES = 32  # of them in a text that do not end: then no more are looked for

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)


def wholes(data: np.ndarray, offsets: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64[n, 2]: (start, end) in `data`, sorted and apart. `offsets` int64[texts + 1]; `wanted` bool[texts]: the texts looked at."""
    room = 1024
    mask = np.ascontiguousarray(wanted, np.uint8)
    while True:
        out = np.empty((room, 2), np.int64)
        count = _wholes(data, offsets, mask, out)
        if count <= room:
            return out[:count]
        room = count


@numba.njit(numba.int64(_BYTES, numba.int64, numba.int64, numba.int64, numba.int64), nogil=True, cache=True)
def _closing(data: Any, at: Any, end: Any, first: Any, second: Any) -> Any:
    """Place behind the next two bytes `first`, `second` from `at` on; -1 where there are none before `end`."""
    for place in range(at, end - 1):
        if data[place] == first and data[place + 1] == second:
            return place + 2
    return np.int64(-1)


@numba.njit(numba.int64(_BYTES, numba.int64, numba.int64), nogil=True, cache=True)
def _environment(data: Any, at: Any, end: Any) -> Any:
    """Place behind the \\end{name} of the \\begin{name} at `at`; -1 where `at` is none or it has none before `end`."""
    begin = b"\\begin{"
    if at + 8 > end:
        return np.int64(-1)
    for step in range(7):
        if data[at + step] != begin[step]:
            return np.int64(-1)
    name = at + 7
    stop = name
    while stop < end and stop - name < 40 and data[stop] != 125 and data[stop] != 10:
        stop += 1
    if stop >= end or data[stop] != 125:
        return np.int64(-1)
    size = stop + 1 - name
    closing = b"\\end{"
    for place in range(stop, end - size - 4):
        if data[place] == 92:
            same = True
            for step in range(5):
                same = same and data[place + step] == closing[step]
            if same:
                for step in range(size):
                    same = same and data[place + 5 + step] == data[name + step]
                if same:
                    return place + 5 + size
    return np.int64(-1)


@numba.njit(numba.int64(_BYTES, numba.int64, numba.int64), nogil=True, cache=True)
def _inline(data: Any, at: Any, end: Any) -> Any:
    """Place behind the code or formula that starts at `at` in a line that ends at `end`; `at` where none does."""
    byte = data[at]
    if byte == 96:  # `
        ticks = np.int64(0)
        while at + ticks < end and data[at + ticks] == 96:
            ticks += 1
        run: Any = np.int64(0)
        for place in range(at + ticks, end):
            run = run + 1 if data[place] == 96 else 0
            if run == ticks and (place + 1 == end or data[place + 1] != 96):
                return place + 1
    elif byte == 36 and at + 1 < end and data[at + 1] > 32 and data[at + 1] != 36:  # $
        for place in range(at + 1, end):
            if data[place] == 36 and data[place - 1] != 92:
                if data[place - 1] > 32 and (place + 1 == end or not 48 <= data[place + 1] <= 57):
                    return place + 1
                return at
    elif byte == 92 and at + 1 < end and data[at + 1] == 40:  # \(
        return max(at, _closing(data, at + 2, end, 92, 41))
    return at


@numba.njit(numba.int64(_BYTES, _OFFSETS, numba.uint8[::1], numba.types.Array(numba.int64, 2, "C")), nogil=True, cache=True)
def _wholes(data: Any, offsets: Any, wanted: Any, out: Any) -> Any:
    """Fills `out` as far as it reaches; returns how many there are."""
    count = np.int64(0)
    for text in range(len(offsets) - 1):
        if not wanted[text]:
            continue
        at, end = offsets[text], offsets[text + 1]
        stop: Any = at - 1  # end of the line
        failed = np.int64(0)  # openings of display formulas that nothing closes
        run: Any = np.int64(0)  # 1 in a table, 2 in indented code: they grow by a line
        while at < end:
            if stop < at:  # what stands behind a formula ends where its line does: a line of formulas is searched once
                stop = at
                while stop < end and data[stop] != 10:
                    stop += 1
            after = min(stop + 1, end)
            first, columns = at, 0
            while first < stop and (data[first] == 32 or data[first] == 9):
                columns = columns + 1 if data[first] == 32 else columns + 4
                first += 1
            kind: Any = np.int64(0)
            if first < stop and columns >= 4:
                kind = 2
            elif first < stop and data[first] == 124:
                kind = 1
            if kind:
                if kind == run:
                    if count <= len(out):
                        out[count - 1, 1] = after
                else:
                    if count < len(out):
                        out[count, 0], out[count, 1] = at, after
                    count += 1
                run = kind
                at = after
                continue
            run = 0
            closed = np.int64(-1)
            if first + 1 < stop:
                one, two = data[first], data[first + 1]
                if (one == 96 or one == 126) and first + 2 < stop and two == one and data[first + 2] == one:
                    ticks = np.int64(3)
                    while first + ticks < stop and data[first + ticks] == one:
                        ticks += 1
                    plain = True  # no tick behind the fence: `` ```x``` `` is code in a line
                    for place in range(first + ticks, stop):
                        plain = plain and (one == 126 or data[place] != 96)
                    if plain:
                        closed = end
                        line = after
                        while line < end:
                            place = line
                            while place < end and data[place] == 32 and place - line < 4:
                                place += 1
                            marks = np.int64(0)
                            while place < end and data[place] == one:
                                place += 1
                                marks += 1
                            bare = marks >= ticks
                            while place < end and data[place] != 10:
                                bare = bare and (data[place] == 32 or data[place] == 9)
                                place += 1
                            line = min(place + 1, end)
                            if bare:
                                closed = line
                                break
                elif failed < FAILURES and one == 36 and two == 36:
                    closed = _closing(data, first + 2, min(end, first + REACH), 36, 36)
                elif failed < FAILURES and one == 92 and two == 91:
                    closed = _closing(data, first + 2, min(end, first + REACH), 92, 93)
                elif failed < FAILURES and one == 92 and two == 98:
                    closed = _environment(data, first, min(end, first + REACH))
                if closed < 0 and ((one == 36 and two == 36) or (one == 92 and (two == 91 or two == 98))):
                    failed += 1
            if closed >= 0:
                if count < len(out):
                    out[count, 0], out[count, 1] = at, closed
                count += 1
                at = closed  # a line's rest behind a formula is read as a line
                continue
            place = first
            tries = np.int64(0)  # of openings in the line that nothing closes: a few, then the rest of it is plain
            while place < stop and tries < 16:
                byte = data[place]
                if byte == 96 or byte == 36 or byte == 92:
                    past = _inline(data, place, stop)
                    if past > place:
                        if count < len(out):
                            out[count, 0], out[count, 1] = place, past
                        count += 1
                        place = past
                        continue
                    tries += byte != 92 or (place + 1 < stop and data[place + 1] == 40)
                    if byte == 92 or byte == 96:
                        place += 1
                        while byte == 96 and place < stop and data[place] == 96:
                            place += 1
                        place += byte == 92
                        continue
                place += 1
            at = after
    return count
