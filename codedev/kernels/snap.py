"""Spans shrunk to where a cut may begin and end: whole characters, words or lines, and nothing that must stay whole in two."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

MODES = ("character", "word", "line")

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_INTS: Any = numba.types.Array(numba.int64, 1, "C")
_TWO: Any = numba.types.Array(numba.int64, 2, "C")


def snapped(
    data: np.ndarray, offsets: np.ndarray, spans: np.ndarray, wholes: np.ndarray, mode: str, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """(int64[n, 2], which of `spans` they come from): sorted spans (start, end) in `data`, none over two texts, shrunk; those of which
    fewer than `least` bytes are left are left out. With "word", what parts two words stays behind. `wholes` int64[m, 2] sorted and apart
    (wholes.py)."""
    out = np.ascontiguousarray(spans, np.int64).copy()
    text = np.searchsorted(offsets, out[:, 0], side="right") - 1
    _snapped(data, offsets, text, wholes, MODES.index(mode), out)
    stays = np.flatnonzero(out[:, 1] - out[:, 0] >= max(least, 1))
    return out[stays], stays


@numba.njit(numba.boolean(_BYTES, numba.int64, numba.int64), nogil=True, cache=True)
def _in_word(data: Any, start: Any, at: Any) -> Any:
    """Whether the byte belongs to a character of a word of a script that writes blanks between words: letters, digits, "_", and all
    beyond ASCII below U+3000."""
    byte = data[at]
    if byte < 0x80:
        return 48 <= byte <= 57 or 65 <= byte <= 90 or byte == 95 or 97 <= byte <= 122
    while at > start and (data[at] & 0xC0) == 0x80:
        at -= 1
    return data[at] < 0xE3


@numba.njit(numba.boolean(_BYTES, numba.int64, numba.int64, numba.int64, numba.int64), nogil=True, cache=True)
def _may_cut(data: Any, start: Any, end: Any, at: Any, mode: Any) -> Any:
    if at in (start, end):
        return True
    if (data[at] & 0xC0) == 0x80:
        return False
    if mode == 2:
        return data[at - 1] == 10
    return mode == 0 or not (_in_word(data, start, at - 1) and _in_word(data, start, at))


@numba.njit(numba.void(_BYTES, _OFFSETS, _INTS, _TWO, numba.int64, _TWO), nogil=True, cache=True)
def _snapped(data: Any, offsets: Any, text: Any, wholes: Any, mode: Any, spans: Any) -> None:
    whole = np.int64(0)
    for number in range(len(spans)):
        low, high = spans[number, 0], spans[number, 1]
        if low >= high:
            continue  # an empty one may stand behind the last text
        start, end = offsets[text[number]], offsets[text[number] + 1]
        while whole < len(wholes) and wholes[whole, 1] <= low:
            whole += 1
        last = whole
        while last < len(wholes) and wholes[last, 0] < high:
            last += 1
        last -= 1
        while high > low:
            while last >= 0 and wholes[last, 0] >= high:
                last -= 1
            if last >= 0 and wholes[last, 1] > high:
                high = wholes[last, 0]
            elif not _may_cut(data, start, end, high, mode):
                high -= 1
            else:
                break
        near = whole
        while low < high:
            while near < len(wholes) and wholes[near, 1] <= low:
                near += 1
            if near < len(wholes) and wholes[near, 0] < low:
                low = wholes[near, 1]
            elif not _may_cut(data, start, end, low, mode):
                low += 1
            elif mode == 1 and low > start and high < end and _in_word(data, start, low - 1) and _in_word(data, start, high):
                low += 1  # else two words would become one: the blank between them stays
            else:
                break
        spans[number, 0], spans[number, 1] = low, max(high, low)
