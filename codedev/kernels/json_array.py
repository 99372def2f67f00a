"""Where the values of a JSON array begin and end, found without parsing them.

One pass over the bytes that follows strings, brackets and the order of tokens; 700 MB/s a core. It may be interrupted anywhere: what it
knows is in `state`. It checks no more than it must to notice that a bracket or a quote is missing; the values are for a parser to check.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

# What the scan stopped for.
MORE, FULL, DAMAGED, CLOSED = 0, 1, 2, 3
# Places in `state`
DEPTH, KINDS, TOKEN, BEGIN, ARRAY = range(5)
# The last token
_OPEN, _COLON, _VALUE, SCALAR, _STRING, _ESCAPE = range(6)
_CHECKED = 62  # levels whose brackets are told apart


def new_state(array: bool) -> np.ndarray:
    """Of a scan that starts behind the bracket of an array, or (not array) at the first of values that follow one another."""
    return np.array([0, 0, _OPEN, -1, array], np.int64)


def scan(data: np.ndarray, at: int, state: np.ndarray, marks: np.ndarray) -> tuple[int, int, int]:
    """(where it stopped, what for, values found). `marks` gets the begin and end of each value. Positions are relative to `data`; the
    caller moves BEGIN along when it drops bytes."""
    stopped, why, found = _scan(data, at, state, marks)
    return int(stopped), int(why), int(found)


@numba.njit(
    numba.types.UniTuple(numba.int64, 3)(  # type: ignore[no-untyped-call]  # numba declares no types
        numba.types.Array(numba.uint8, 1, "C", readonly=True), numba.int64, numba.int64[::1], numba.int64[:, ::1]
    ),
    nogil=True,
    cache=True,
)
def _scan(data: Any, at: Any, state: Any, marks: Any) -> Any:
    depth, kinds, token, begin, array = state[0], state[1], state[2], state[3], state[4]
    found, why = 0, MORE
    end = len(data)
    while at < end:
        if found == len(marks):
            why = FULL
            break
        byte = data[at]
        if token >= _STRING:
            if token == _ESCAPE:
                token = _STRING
            elif byte == 92:  # \
                token = _ESCAPE
            elif byte == 34:  # "
                token = _VALUE
                if depth == 0:
                    marks[found, 0], marks[found, 1] = begin, at + 1
                    found, begin = found + 1, -1
            elif byte == 10:  # no string goes over a line end: its quote is missing
                why = DAMAGED
                break
            at += 1
            continue
        blank = byte == 32 or 9 <= byte <= 13
        if depth == 0:
            if token == SCALAR and (blank or byte == 44 or byte == 93):  # , ]
                marks[found, 0], marks[found, 1] = begin, at
                found, begin, token = found + 1, -1, _VALUE
                continue
            if byte == 44:
                if token == _OPEN:  # nothing stands before this comma
                    marks[found, 0], marks[found, 1] = at, at
                    found += 1
                token = _OPEN
                at += 1
                continue
            if byte == 93 and array:
                at += 1
                why = CLOSED
                break
            if not blank and begin < 0:  # a value begins, after a comma or without one
                begin, token = at, _OPEN
        if blank:
            at += 1
            continue
        inside = 0 < depth <= _CHECKED and kinds & 1  # an object, where names come first
        if byte == 34:
            if token in (_VALUE, SCALAR):
                why = DAMAGED
                break
            token = _STRING
        elif byte == 123 or byte == 91:  # { [
            if token in (_VALUE, SCALAR) or (inside and token == _OPEN):
                why = DAMAGED
                break
            if depth < _CHECKED:
                kinds = kinds << 1 | (byte == 123)
            depth += 1
            token = _OPEN
        elif byte == 125 or byte == 93:  # } ]
            if depth == 0 or (depth <= _CHECKED and inside != (byte == 125)):
                why = DAMAGED
                break
            depth -= 1
            if depth < _CHECKED:
                kinds >>= 1
            token = _VALUE
            if depth == 0:
                marks[found, 0], marks[found, 1] = begin, at + 1
                found, begin = found + 1, -1
        elif byte == 44:
            token = _OPEN
        elif byte == 58:  # :
            token = _COLON
        elif token == _VALUE:
            why = DAMAGED
            break
        else:
            token = SCALAR
        at += 1
    state[0], state[1], state[2], state[3] = depth, kinds, token, begin
    return at, why, found


def warm() -> None:
    scan(np.frombuffer(b"1]", np.uint8), 0, new_state(True), np.empty((1, 2), np.int64))
