"""Where the `<row a="…" b="…"/>` elements of XML begin and end, and the integers in some of their attributes: 1 GB/s a core.

A row runs from `<row` to its `>`; what follows up to the next `<row` should be white space. `<` cannot stand in an attribute, so every
`<row` is the start of a row whatever came before it: damage never reaches beyond the next one, and a scan may begin anywhere.
Checks quotes, names and references (the five predefined ones and numeric ones; no other is known). Does not check UTF-8.
`unfold` decodes one row: 1 µs a KB.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

OK, MALFORMED, CUT, REFERENCE, TAIL = 0, 1, 2, 3, 4  # what a row is; TAIL: well-formed, but followed by more than white space
NONE = -(1 << 63)  # the attribute is missing or no integer of up to 18 digits

_LT, _GT, _SLASH, _AMP, _EQUALS, _MINUS, _SEMICOLON, _HASH, _X = 60, 62, 47, 38, 61, 45, 59, 35, 120
_IN_VALUE = np.ones(256, np.bool_)  # bytes that go on in a value whatever it stands in
_IN_VALUE[[34, 39, _LT, _AMP]] = False
_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)


@numba.njit(inline="always")
def _is_space(byte: int) -> bool:
    return byte == 32 or byte == 10 or byte == 13 or byte == 9


@numba.njit(inline="always")
def _is_name(byte: int) -> bool:
    return 97 <= byte <= 122 or 65 <= byte <= 90 or 48 <= byte <= 57 or byte == 95 or byte == 45 or byte == 46 or byte == 58 or byte >= 128


@numba.njit(numba.int64(_bytes, numba.int64, numba.int64), nogil=True, cache=True)
def find_row(data: Any, at: int, size: int) -> int:
    """Where the first `<row` at or after `at` is, -1 where there is none whose end of name can be seen."""
    while at + 4 < size:
        if data[at] == _LT and data[at + 1] == 114 and data[at + 2] == 111 and data[at + 3] == 119:
            after = data[at + 4]
            if _is_space(after) or after in (_SLASH, _GT):
                return at
        at += 1
    return -1


@numba.njit(numba.int64(_bytes, numba.int64, numba.int64), nogil=True, cache=True)
def _reference(data: Any, at: int, size: int) -> int:
    """Where the reference that begins at `at` has its `;`, -1 where it is none."""
    end = at + 1
    stop = min(size, at + 12)
    while end < stop and data[end] != _SEMICOLON:
        end += 1
    length = end - at - 1
    if end == stop or length < 2:
        return -1
    a, b = data[at + 1], data[at + 2]
    if a == _HASH:
        is_hex = b == _X
        first = at + (3 if is_hex else 2)
        if first == end:
            return -1
        for i in range(first, end):
            c = data[i]
            if not (48 <= c <= 57 or (is_hex and (97 <= c <= 102 or 65 <= c <= 70))):
                return -1
        return end
    if length == 2:
        return end if (a == 108 or a == 103) and b == 116 else -1  # lt gt
    c = data[at + 3]
    if length == 3:
        return end if a == 97 and b == 109 and c == 112 else -1  # amp
    d = data[at + 4]
    if length != 4:
        return -1
    if a == 113 and b == 117 and c == 111 and d == 116:  # quot
        return end
    return end if a == 97 and b == 112 and c == 111 and d == 115 else -1  # apos


@numba.njit(numba.int64(_bytes, numba.int64, numba.int64), nogil=True, cache=True)
def _integer(data: Any, start: int, end: int) -> int:
    negative = end > start and data[start] == _MINUS
    if negative:
        start += 1
    if not 0 < end - start <= 18:
        return NONE
    value = 0
    for i in range(start, end):
        digit = data[i] - 48
        if digit < 0 or digit > 9:
            return NONE
        value = value * 10 + digit
    return -value if negative else value


@numba.njit(
    numba.types.UniTuple(numba.int64, 2)(  # type: ignore[no-untyped-call]  # numba declares no types
        _bytes, numba.int64, numba.boolean, _bytes, numba.int64[::1], numba.int64[::1], numba.int64[::1], numba.int64[::1],
        numba.int8[::1], numba.int64[:, ::1],
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def scan(
    data: Any, size: int, final: bool, names: Any, name_offsets: Any, starts: Any, ends: Any, nexts: Any, states: Any, numbers: Any
) -> tuple[int, int]:
    """Fill the five outputs with the rows of `data[:size]`, which begins with one: (rows, bytes that are done with).

    `ends` are those of the rows, `nexts` those of what follows them. A row counts once the start of the next one is seen, or when
    `final` says that nothing follows. `numbers` holds one column for each of the wanted names, which stand in `names` end to end.
    """
    wanted = len(name_offsets) - 1
    rows = 0
    start = 0
    while rows < len(starts) and start < size:
        for k in range(wanted):
            numbers[rows, k] = NONE
        state = CUT
        at: Any = start + 4
        while True:
            spaced = False
            while at < size and _is_space(data[at]):
                at += 1
                spaced = True
            if at >= size:
                break
            byte = data[at]
            if byte == _GT:
                at += 1
                state = OK
                break
            if byte == _SLASH:
                if at + 1 >= size:
                    break
                state = OK if data[at + 1] == _GT else MALFORMED
                at += 2 if state == OK else 1
                break
            name = at
            while at < size and _is_name(data[at]):
                at += 1
            name_end = at
            while at < size and _is_space(data[at]):
                at += 1
            if at >= size:
                break
            if not spaced or name_end == name or data[at] != _EQUALS:
                state = MALFORMED
                break
            at += 1
            while at < size and _is_space(data[at]):
                at += 1
            if at >= size:
                break
            quote = data[at]
            if quote != 34 and quote != 39:
                state = MALFORMED
                break
            at += 1
            value = at
            while at < size:
                # Nearly all bytes pass here. Unsigned, since a signed index may count from the end and costs a test.
                place = numba.uint64(at)
                while place < numba.uint64(size) and _IN_VALUE[data[place]]:
                    place += numba.uint64(1)
                at = numba.int64(place)
                if at >= size:
                    break
                byte = data[at]
                if byte == quote:
                    break
                if byte == _LT:
                    state = MALFORMED
                    break
                if byte == _AMP:
                    end = _reference(data, at, size)
                    if end < 0:
                        if at + 12 >= size and not final:
                            at = size
                            break
                        state = REFERENCE
                        break
                    at = end
                at += 1
            if at >= size or state != CUT:
                break
            for k in range(wanted):
                length = name_offsets[k + 1] - name_offsets[k]
                if length == name_end - name:
                    same = True
                    for i in range(length):
                        if data[name + i] != names[name_offsets[k] + i]:
                            same = False
                            break
                    if same:
                        numbers[rows, k] = _integer(data, value, at)
            at += 1
        if state == CUT and not final:
            return rows, start
        following = find_row(data, min(at, size), size)
        if following < 0:
            if not final:
                return rows, start
            following = size
        if state == OK:
            for i in range(at, following):
                if not _is_space(data[i]):
                    state = TAIL
                    break
        else:
            at = following
        starts[rows], ends[rows], nexts[rows], states[rows] = start, at, following, state
        rows += 1
        start = following
    return rows, start


@numba.njit(inline="always")
def _put(out: Any, size: int, code: int) -> int:
    """Write a character in UTF-8. What no text may hold, NUL, surrogates and what lies beyond Unicode, is U+FFFD."""
    if code == 0 or 0xD800 <= code < 0xE000 or code > 0x10FFFF:
        code = 0xFFFD
    if code < 0x80:
        out[size] = code
        return size + 1
    if code < 0x800:
        out[size] = 0xC0 | code >> 6
        out[size + 1] = 0x80 | code & 63
        return size + 2
    if code < 0x10000:
        out[size] = 0xE0 | code >> 12
        out[size + 1] = 0x80 | code >> 6 & 63
        out[size + 2] = 0x80 | code & 63
        return size + 3
    out[size] = 0xF0 | code >> 18
    out[size + 1] = 0x80 | code >> 12 & 63
    out[size + 2] = 0x80 | code >> 6 & 63
    out[size + 3] = 0x80 | code & 63
    return size + 4


@numba.njit(numba.int64(_bytes, numba.int64, numba.int64), nogil=True, cache=True)
def _code(row: Any, at: int, semicolon: int) -> int:
    """The character that the reference from `at` to its semicolon stands for."""
    first = row[at + 1]
    if first == _HASH:
        value = 0
        is_hex = row[at + 2] == _X
        for i in range(at + (3 if is_hex else 2), semicolon):
            c = row[i]
            digit = c - 48 if c <= 57 else (c | 32) - 87
            value = min(value * (16 if is_hex else 10) + digit, 0x110000)
        return value
    if first == 108:
        return _LT
    if first == 103:
        return _GT
    if first == 113:
        return 34
    return _AMP if row[at + 2] == 109 else 39


@numba.njit(numba.int64(_bytes, numba.uint8[::1]), nogil=True, cache=True)
def unfold(row: Any, out: Any) -> int:
    """Write the names and values of a row that `scan` found sound, without references, a NUL behind each; the bytes written, -1 where
    the row is not sound. `out` needs three times the bytes of `row`. White space in a value is a blank, as XML has it."""
    end = len(row)
    size = 0
    at = 4
    while True:
        while at < end and _is_space(row[at]):
            at += 1
        if at >= end or row[at] == _SLASH or row[at] == _GT:
            return size if at < end else -1
        while at < end and _is_name(row[at]):
            out[size] = row[at]
            size += 1
            at += 1
        out[size] = 0
        size += 1
        while at < end and (_is_space(row[at]) or row[at] == _EQUALS):
            at += 1
        if at >= end or (row[at] != 34 and row[at] != 39):
            return -1
        quote = row[at]
        at += 1
        while at < end and row[at] != quote:
            byte = row[at]
            if byte == _AMP:
                semicolon = _reference(row, at, end)
                if semicolon < 0:
                    return -1
                size = _put(out, size, _code(row, at, semicolon))
                at = semicolon
            elif byte == 0:
                size = _put(out, size, 0)
            elif byte == 13 and at + 1 < end and row[at + 1] == 10:
                pass
            elif byte == 9 or byte == 10 or byte == 13:
                out[size] = 32
                size += 1
            else:
                out[size] = byte
                size += 1
            at += 1
        out[size] = 0
        size += 1
        at += 1


def warm() -> None:
    data = np.frombuffer(b'<row a="1"/>', np.uint8)
    places, states, numbers = np.zeros((3, 1), np.int64), np.zeros(1, np.int8), np.zeros((1, 1), np.int64)
    scan(data, len(data), True, data[5:6], np.array([0, 1]), places[0], places[1], places[2], states, numbers)
    unfold(data, np.zeros(36, np.uint8))
