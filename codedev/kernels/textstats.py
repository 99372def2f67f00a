"""Counts of one pass over UTF-8 text: characters, words, lines, and what the rules for code need.

Input is the pair of buffers of an Arrow large_string array: `data` uint8[bytes] and `offsets` int64[documents + 1]. Output is
int64[documents, len(COLUMNS)]; rows of documents that are not wanted are zeros. Words are runs of non-blank characters (`str.split`), lines
are split at "\\n" alone (the text is normalised before). Bytes that are no UTF-8 count as U+FFFD.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import ALNUM, ALPHA, DATA, OFFSETS, SPACE, TABLE, properties
from codedev.kernels.segment import decoded

COLUMNS = (
    "chars",
    "words",
    "lines",  # non-blank lines
    "max_line",  # characters of the longest line
    "alnum",  # letters and digits
    "alpha",  # letters
    "comment_chars",  # of lines that are comments as a whole; by the documents' comment styles
    "encoded_chars",  # in base64 of at least 64 characters, or lists of at least 8 hexadecimal bytes or \\u escapes
    "max_encoded",  # characters of the longest of these
)
RUN = 64  # characters of base64 at least
NUMBERS = 8  # hexadecimal numbers in a list at least

# Comment styles: what a line comment starts with; what a block starts with at the beginning of a line, and ends with.
STYLES = {
    "none": (b"", b"", b""),
    "c": (b"//", b"/*", b"*/"),
    "hash": (b"#", b"", b""),
    "python": (b"#", b'"""', b'"""'),
    "dash": (b"--", b"", b""),
    "haskell": (b"--", b"{-", b"-}"),
    "lua": (b"--", b"--[[", b"]]"),
    "sql": (b"--", b"/*", b"*/"),
    "percent": (b"%", b"", b""),
    "semicolon": (b";", b"", b""),
    "ml": (b"", b"(*", b"*)"),
    "html": (b"", b"<!--", b"-->"),
    "css": (b"", b"/*", b"*/"),
    "bang": (b"!", b"", b""),
}
_MARKS = np.zeros((len(STYLES), 3, 4), np.uint8)
_WIDTHS = np.zeros((len(STYLES), 3), np.int64)
for _row, _style in enumerate(STYLES.values()):
    for _column, _mark in enumerate(_style):
        _MARKS[_row, _column, : len(_mark)] = np.frombuffer(_mark, np.uint8)
        _WIDTHS[_row, _column] = len(_mark)

# Of base64: 1 digit, 2 upper, 4 lower, 8 other; 16 for what a number may begin with.
_KINDS = np.zeros(256, np.uint8)
_KINDS[48:58], _KINDS[65:91], _KINDS[97:123] = 1, 2, 4
_KINDS[[43, 47, 61]], _KINDS[48], _KINDS[92] = 8, 17, 16

_BYTES = numba.types.Array(numba.uint8, 1, "C")


def text_stats(
    data: np.ndarray,
    offsets: np.ndarray,
    *,
    wanted: np.ndarray | None = None,
    code: np.ndarray | None = None,
    styles: np.ndarray | None = None,
) -> np.ndarray:
    """int64[documents, len(COLUMNS)]. `wanted` bool[documents], all by default; `code` bool[documents]: where comments and encoded data are
    looked for, nowhere by default; `styles` uint8[documents]: the comments to look for, an index of STYLES, "none" by default."""
    rows = len(offsets) - 1
    out = np.zeros((rows, len(COLUMNS)), np.int64)
    mask = np.ones(rows, np.uint8) if wanted is None else np.ascontiguousarray(wanted, np.uint8)
    _text_stats(data, offsets, properties(), mask, out)
    if code is not None:
        looked = np.ascontiguousarray(code, np.uint8) & mask
        _comments(data, offsets, looked, np.zeros(rows, np.uint8) if styles is None else np.ascontiguousarray(styles, np.uint8), out)
        _encoded(data, offsets, looked, out)
    return out


@numba.njit(numba.void(DATA, OFFSETS, TABLE, _BYTES, numba.types.Array(numba.int64, 2, "C")), nogil=True, cache=True)
def _text_stats(data: Any, offsets: Any, table: Any, wanted: Any, out: Any) -> None:
    for row in range(len(offsets) - 1):
        if not wanted[row]:
            continue
        at, end = offsets[row], offsets[row + 1]
        chars = words = lines = max_line = alnum = alpha = line_chars = 0
        in_word, blank = False, True
        while at < end:
            if data[at] < 0x80:
                code = np.int64(data[at])
                at += 1
            else:
                code, at = decoded(data, at, end)
            chars += 1
            bits = table[code]
            if bits & SPACE:
                in_word = False
                if code == 10:
                    lines += not blank
                    max_line = max(max_line, line_chars)
                    line_chars, blank = 0, True
                else:
                    line_chars += 1
            else:
                words += not in_word
                in_word, blank = True, False
                line_chars += 1
                alpha += (bits & ALPHA) != 0
                alnum += (bits & ALNUM) != 0
        out[row, 0], out[row, 1], out[row, 2] = chars, words, lines + (not blank)
        out[row, 3], out[row, 4], out[row, 5] = max(max_line, line_chars), alnum, alpha


@numba.njit(numba.boolean(DATA, numba.int64, numba.int64, numba.int64, numba.int64), nogil=True, cache=True)
def _mark_at(data: Any, at: Any, end: Any, style: Any, which: Any) -> Any:
    width = _WIDTHS[style, which]
    if width == 0 or at + width > end:
        return False
    for step in range(width):
        if data[at + step] != _MARKS[style, which, step]:
            return False
    return True


@numba.njit(numba.void(DATA, OFFSETS, _BYTES, _BYTES, numba.types.Array(numba.int64, 2, "C")), nogil=True, cache=True)
def _comments(data: Any, offsets: Any, wanted: Any, styles: Any, out: Any) -> None:
    for row in range(len(offsets) - 1):
        style = np.int64(styles[row])
        if not wanted[row] or style == 0 or style >= len(_WIDTHS):
            continue
        at, end = offsets[row], offsets[row + 1]
        count = 0
        inside = False
        while at < end:
            while at < end and (data[at] == 32 or data[at] == 9):
                at += 1
            comment = inside
            if not inside and _mark_at(data, at, end, style, 1):
                inside = comment = True
                at += _WIDTHS[style, 1]
                count += _WIDTHS[style, 1]
            elif not inside:
                comment = _mark_at(data, at, end, style, 0)
            while at < end and data[at] != 10:
                if inside and _mark_at(data, at, end, style, 2):
                    inside = comment = False
                    at += _WIDTHS[style, 2]
                    count += _WIDTHS[style, 2]
                    continue
                count += comment and data[at] & 0xC0 != 0x80
                at += 1
            at += 1
        out[row, 6] = count


@numba.njit(numba.boolean(numba.uint8), nogil=True, cache=True, inline="always")
def _is_hex(byte: Any) -> Any:
    return 48 <= byte <= 57 or 65 <= byte <= 70 or 97 <= byte <= 102


@numba.njit(numba.void(DATA, OFFSETS, _BYTES, numba.types.Array(numba.int64, 2, "C")), nogil=True, cache=True)
def _encoded(data: Any, offsets: Any, wanted: Any, out: Any) -> None:
    """A run of base64 counts if it holds a digit and letters of both cases: rulers of one character and long names do not. A list is of
    numbers such as 0x1f, \\x1f and \\u1f00 with at most four separators between two of them."""
    for row in range(len(offsets) - 1):
        if not wanted[row]:
            continue
        at, end = offsets[row], offsets[row + 1]
        total = longest = run = 0
        seen = 0  # 1 digit, 2 upper, 4 lower
        numbers = number_chars = gap = 0
        while at <= end:
            byte = data[at] if at < end else np.uint8(0)
            kind = _KINDS[byte]
            if kind & 15:
                run += 1
                seen |= kind
            elif run:
                if run >= RUN and seen & 7 == 7:
                    total += run
                    longest = max(longest, run)
                run = seen = 0
            # A number: 0x or \\x and hexadecimal digits, \\u and four of them
            width = 0
            if kind < 16:
                pass
            elif run <= 1 and at + 3 < end and (data[at + 1] == 120 and (byte == 48 or byte == 92)) and _is_hex(data[at + 2]):
                width = 3
                while width < 18 and at + width < end and _is_hex(data[at + width]):
                    width += 1
            elif at + 5 < end and byte == 92 and data[at + 1] == 117:
                width = 6
                for step in range(2, 6):
                    if not _is_hex(data[at + step]):
                        width = 0
            if width:
                numbers += 1
                number_chars += width + (gap if numbers > 1 else 0)
                gap = run = seen = 0
                at += width
                continue
            if numbers:
                gap += 1
                if gap > 4 or at == end or not (byte == 44 or byte == 32 or byte == 10 or byte == 9 or byte == 34):
                    if numbers >= NUMBERS:
                        total += number_chars
                        longest = max(longest, number_chars)
                    numbers = number_chars = gap = 0
            at += 1
        out[row, 7], out[row, 8] = total, longest


def warm() -> None:
    text_stats(np.frombuffer(b"a", np.uint8), np.array([0, 1]), code=np.ones(1, bool))
