"""Marks of mathematics, and how far a text compresses: two counts over the bytes of UTF-8 text.

Input is the pair of buffers of an Arrow large_string array, `data` uint8[bytes] and `offsets` int64[documents + 1], and which documents are
wanted; the rows of others are zeros. Integers alone: the same text gives the same numbers on every machine and in every version of a
library.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import DATA, MATHS, OFFSETS, TABLE, properties
from codedev.kernels.segment import decoded

MATHS_COLUMNS = ("chars", "formula_chars", "commands", "command_chars", "symbols")
HEAD = 1 << 16  # bytes of a document that are compressed
INLINE = 1000  # bytes of a formula between single dollar signs
DISPLAY = 10_000  # of one between other delimiters

_COMMANDS = """
alpha beta gamma delta epsilon varepsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi varphi chi psi omega Gamma Delta Theta
Lambda Sigma Phi Psi Omega frac dfrac tfrac sqrt sum prod int oint lim sup inf partial nabla infty cdot cdots ldots dots times div pm leq
geq le ge neq ne approx equiv sim simeq cong propto in notin subset subseteq cup cap wedge vee to rightarrow leftarrow Rightarrow
Leftrightarrow mapsto forall exists mathbb mathcal mathbf mathrm mathfrak operatorname left right begin end hat bar tilde vec dot overline
underline overset underset binom log ln exp sin cos tan det dim ker max min mod pmod quad text ell hbar circ perp parallel langle rangle
""".split()  # what formulas are written with


@functools.cache
def _command_hashes() -> np.ndarray:
    """Sorted uint64."""
    return np.sort(np.array([_hash(command) for command in _COMMANDS], np.uint64))


def _hash(word: str) -> int:
    value = 0
    for letter in word:
        value = (value * 0x100000001B3 + ord(letter)) % (1 << 64)
    return value


def maths_stats(data: np.ndarray, offsets: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
    r"""int64[documents, len(MATHS_COLUMNS)]. formula_chars: bytes between $…$, $$…$$, \(…\) and \[…\], delimiters included; commands: LaTeX
    commands of mathematics, inside or outside; command_chars: bytes of those outside; symbols: operators and mathematical letters of
    Unicode, outside."""
    out = np.zeros((len(offsets) - 1, len(MATHS_COLUMNS)), np.int64)
    _maths(data, offsets, _mask(wanted, offsets), properties(), _command_hashes(), out)
    return out


def compressed_sizes(data: np.ndarray, offsets: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
    """int64[documents, 2]: bytes of the head of each document, and what LZ4's block format would need for it with a greedy search in a
    table of 8,192 four-byte strings."""
    out = np.zeros((len(offsets) - 1, 2), np.int64)
    _compressed(data, offsets, _mask(wanted, offsets), out)
    return out


def _mask(wanted: np.ndarray | None, offsets: np.ndarray) -> np.ndarray:
    return np.ones(len(offsets) - 1, np.uint8) if wanted is None else np.ascontiguousarray(wanted, np.uint8)


@numba.njit(numba.int64(DATA, numba.int64, numba.int64), nogil=True, cache=True)
def _formula_end(data: Any, at: Any, end: Any) -> Any:
    """Where the formula ends that starts at the dollar sign or backslash; `at` if none does."""
    first = data[at]
    second = data[at + 1] if at + 1 < end else np.uint8(0)
    if first == 36:
        width = 2 if second == 36 else 1
        inside = at + width
        last = min(end, at + (DISPLAY if width == 2 else INLINE))
        if inside >= end or (width == 1 and (data[inside] <= 32 or 48 <= data[inside] <= 57)):
            return at  # "$ 5" and "$5" are money
    elif second == 40 or second == 91:
        width, inside, last = 2, at + 2, min(end, at + DISPLAY)
    else:
        return at
    closer = np.uint8(36) if first == 36 else np.uint8(41) if second == 40 else np.uint8(93)
    place = inside
    while place < last:
        byte = data[place]
        if byte == 10 and place + 1 < end and data[place + 1] == 10:
            return at  # a formula holds no blank line
        if first == 36:
            if byte == 92:
                place += 2
                continue
            if byte == 36 and (width == 1 or (place + 1 < end and data[place + 1] == 36)):
                return place + width if width == 2 or data[place - 1] > 32 else at
        elif byte == 92 and place + 1 < end:
            if data[place + 1] == closer:
                return place + 2
            place += 2
            continue
        place += 1
    return at


@numba.njit(
    numba.void(
        DATA,
        OFFSETS,
        numba.types.Array(numba.uint8, 1, "C"),
        TABLE,
        numba.types.Array(numba.uint64, 1, "C"),
        numba.types.Array(numba.int64, 2, "C"),
    ),
    nogil=True,
    cache=True,
)
def _maths(data: Any, offsets: Any, wanted: Any, table: Any, known: Any, out: Any) -> None:
    for row in range(len(offsets) - 1):
        if not wanted[row]:
            continue
        at, end = offsets[row], offsets[row + 1]
        chars = formula_chars = commands = command_chars = found = 0
        formula = at  # bytes before this one belong to a formula
        blind = at  # no formula starts before this one: what was searched once is not searched again
        while at < end:
            byte = data[at]
            chars += 1
            if byte >= 0x80:
                code, after = decoded(data, at, end)
                found += at >= formula and table[code] & MATHS != 0
                at = after
                continue
            if (byte == 36 or byte == 92) and at >= formula and at >= blind:
                stop = _formula_end(data, at, end)
                if stop > at:
                    formula = stop
                    formula_chars += stop - at
                elif byte == 36 or (at + 1 < end and (data[at + 1] == 40 or data[at + 1] == 91)):
                    blind = at + 64
            if byte == 92:
                value, stop = np.uint64(0), at + 1
                while stop < end and stop < at + 16 and (65 <= data[stop] <= 90 or 97 <= data[stop] <= 122):
                    value = value * np.uint64(0x100000001B3) + np.uint64(data[stop])
                    stop += 1
                place = np.searchsorted(known, value)
                if place < len(known) and known[place] == value:
                    commands += 1
                    if at >= formula:
                        command_chars += stop - at
            at += 1
        out[row, 0], out[row, 1], out[row, 2], out[row, 3], out[row, 4] = chars, formula_chars, commands, command_chars, found


@numba.njit(
    numba.void(DATA, OFFSETS, numba.types.Array(numba.uint8, 1, "C"), numba.types.Array(numba.int64, 2, "C")), nogil=True, cache=True
)
def _compressed(data: Any, offsets: Any, wanted: Any, out: Any) -> None:
    seen = np.zeros(8192, np.int64)
    for row in range(len(offsets) - 1):
        if not wanted[row]:
            continue
        start = offsets[row]
        end = min(offsets[row + 1], start + HEAD)
        seen[:] = -1
        at, literal = start, start
        size: Any = np.int64(0)
        tries: Any = np.int64(0)
        while at + 4 <= end:
            word = np.uint32(data[at]) | np.uint32(data[at + 1]) << 8 | np.uint32(data[at + 2]) << 16 | np.uint32(data[at + 3]) << 24
            place = ((np.uint64(word) * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)) >> np.uint64(19)
            before = seen[place]
            seen[place] = at
            if (
                before < 0
                or data[before] != data[at]
                or data[before + 1] != data[at + 1]
                or data[before + 2] != data[at + 2]
                or data[before + 3] != data[at + 3]
            ):
                tries += 1
                at += 1 + (tries >> 6)  # faster where nothing repeats, as LZ4 goes
                continue
            tries = 0
            length = 4
            while at + length < end and data[before + length] == data[at + length]:
                length += 1
            literals = at - literal
            # A token, its literals, two bytes of offset; lengths beyond 15 take more bytes.
            size += 3 + literals + (0 if literals < 15 else 1 + (literals - 15) // 255) + (0 if length < 19 else 1 + (length - 19) // 255)
            at += length
            literal = at
        literals = end - literal
        if literals:
            size += 1 + literals + (0 if literals < 15 else 1 + (literals - 15) // 255)
        out[row, 0], out[row, 1] = end - start, size


def warm() -> None:
    data, offsets = np.frombuffer(b"a", np.uint8), np.array([0, 1])
    maths_stats(data, offsets)
    compressed_sizes(data, offsets)
