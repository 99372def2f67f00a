"""The numbers of a list's items, as the HTML standard counts them: `start`, `reversed` and `value`, below zero too."""

from __future__ import annotations

from typing import Any

import numba

from codedev.kernels.htmlcode import START, attribute, name
from codedev.kernels.htmltape import TAG, is_space

_REVERSED = name("reversed")
_LI = TAG["li"]


@numba.njit(nogil=True, cache=True)
def integer(data: Any, start: int, stop: int, wanted: Any, otherwise: int) -> int:
    """The value of an attribute that begins with an integer of at most nine digits, whatever stands behind it."""
    at, end = attribute(data, start, stop, wanted)
    if at < 0:
        return otherwise
    while at < end and is_space(data[at]):
        at += 1
    minus = at < end and data[at] == 45
    at += minus or (at < end and data[at] == 43)
    value, digits = 0, 0
    while at < end and digits < 10 and 48 <= data[at] <= 57:
        value = value * 10 + data[at] - 48
        digits += 1
        at += 1
    if not 0 < digits < 10:
        return otherwise
    return -value if minus else value


@numba.njit(nogil=True, cache=True)
def first_number(data: Any, tag: Any, after: Any, start: Any, inner: Any, node: int) -> Any:
    """That of the first item of an `<ol>`, and by how much the next one's is more. A reversed list ends with 1: its items are counted."""
    if attribute(data, start[node], inner[node], _REVERSED)[0] < 0:
        return integer(data, start[node], inner[node], START, 1), 1
    items = 0
    child = node + 1
    while child < after[node]:
        items += tag[child] == _LI
        child = after[child]
    return integer(data, start[node], inner[node], START, items), -1
