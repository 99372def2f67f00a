"""Which texts normalisation could change: those with carriage returns, with control characters, or perhaps not in NFC.

The quick check of Unicode Standard Annex #15 (§9): a text of characters that neither decompose nor compose with one before, whose marks
stand in canonical order, is in NFC. What it cannot rule out, and characters that the running Python does not know, are left to the real
normalisation. Input is the pair of buffers of an Arrow large_string array; nothing is read outside a document. ASCII takes 0.1 ns a byte.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import DATA, OFFSETS
from codedev.kernels.segment import decoded

RETURN, CONTROL, COMPOSE = 1, 2, 4  # what a text may hold: bits
_IS_CONTROL, _MAYBE = 254, 255  # in the table; below lie combining classes, 0 = a character that nothing changes
_BLOCK = 64  # bytes looked at together


@functools.cache
def _table() -> np.ndarray:
    """uint8[0x110000], read-only. 0.15 s once a process."""
    table = np.full(0x110000, _MAYBE, np.uint8)
    composing = {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}  # vowels and finals of Hangul
    for code in (*range(0x34000), *range(0xE0000, 0xE1000)):
        character = chr(code)
        if unicodedata.category(character) == "Cn":
            continue
        parts = unicodedata.decomposition(character)
        if parts and parts[0] != "<" and " " in parts:
            composing.add(int(parts.split()[1], 16))
        if unicodedata.is_normalized("NFC", character):
            table[code] = unicodedata.combining(character)
    table[0xF0000:] = 0  # private
    table[sorted(composing)] = _MAYBE
    for first, last in ((0, 8), (14, 0x1F), (0x7F, 0x9F), (0xFEFF, 0xFEFF), (0xFFFE, 0xFFFF)):
        table[first : last + 1] = _IS_CONTROL
    table.flags.writeable = False
    return table


def changeable(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint8[documents]: RETURN | CONTROL | COMPOSE of each text. COMPOSE says that NFC may be another text, the others that they stand
    there. With CONTROL, every text with a character from U+0300 on has COMPOSE too: taking out a control brings marks together."""
    out = np.zeros(len(offsets) - 1, np.uint8)
    _changeable(data, offsets, _table(), out)
    return out


@numba.njit(
    numba.void(DATA, OFFSETS, numba.types.Array(numba.uint8, 1, "C", readonly=True), numba.types.Array(numba.uint8, 1, "C")),
    nogil=True,
    cache=True,
)
def _changeable(data: Any, offsets: Any, table: Any, out: Any) -> None:
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        found = np.uint8(0)
        high = False
        last = np.uint8(0)
        while at < end:
            if at + _BLOCK <= end:
                odd = False  # anything but printable ASCII, tabs and line feeds; becomes vector instructions
                for place in range(at, at + _BLOCK):
                    odd |= (data[place] < 32) & (data[place] != 10) & (data[place] != 9) | (data[place] >= 127)
                if not odd:
                    last = np.uint8(0)
                    at += _BLOCK
                    continue
            stop = min(at + _BLOCK, end)
            while at < stop:
                if data[at] < 0x80:
                    code: Any = np.int64(data[at])
                    at += 1
                else:
                    code, at = decoded(data, at, end)
                what = table[code]
                high |= code >= 0x300
                if what == 0:
                    last = np.uint8(0)
                    if code == 13:
                        found |= np.uint8(RETURN)
                elif what == _IS_CONTROL:
                    found |= np.uint8(CONTROL)
                    last = np.uint8(0)
                elif what == _MAYBE or what < last:
                    found |= np.uint8(COMPOSE)
                else:
                    last = what
        if high and found & np.uint8(CONTROL):
            found |= np.uint8(COMPOSE)
        out[row] = found


def warm() -> None:
    changeable(np.frombuffer(b"a", np.uint8), np.array([0, 1]))
