"""FASTA records of the usual kind, many at a time: residues without line ends, and for UniProt's headers and those of a word and a
description an identity and `meta` as JSON. What is not usual is only said to be so, for a slower reader.

1.2 GB/s a core over residues, 0.3 µs a header. A header is usual when it is printable ASCII without quotes and backslashes, and says
nothing twice, empty or in other than plain decimal numbers.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

# Columns of `spans`: where a record starts, its header ends and it ends; where its residues begin and end in `residues`; their classes
START, HEADER_END, END, FIRST, LAST, CLASSES = range(6)
# What a header is, and what `table` says of a byte: 0 is blank, the others add up in CLASSES.
OTHER, UNIPROT, PLAIN = range(3)
LETTER, TELLING, STRANGE = 1, 2, 4

_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_QUOTE, _BAR = 34, 124

# The keys of `meta`, in order, with what stands around their values.
_KEYS = (
    b'{"accession":"', b'","database":"uniprot"', b',"description":"', b',"existence":', b',"gene":"', b',"length":', b',"molecule":"',
    b'","name":"', b'","organism":"', b',"taxon":', b',"version":', b'{"description":"', b'{"length":', b"uniprot:",
)  # fmt: skip
_TEXT = np.frombuffer(b"".join(_KEYS), np.uint8)
_ENDS = np.cumsum([0, *map(len, _KEYS)])
_ACCESSION, _DATABASE, _DESCRIPTION, _EXISTENCE, _GENE, _LENGTH, _MOLECULE = range(7)
_NAME, _ORGANISM, _TAXON, _VERSION, _DESCRIPTION_1, _LENGTH_1, _ID = range(7, 14)
ROOM = 192  # bytes of `metas` that a record needs beside its header


@numba.njit(
    numba.int64(_bytes, _bytes, numba.uint8[::1], numba.int64[:, ::1]),
    nogil=True,
    cache=True,
)
def scan(data: Any, table: Any, residues: Any, spans: Any) -> Any:
    """How many records `data`, which begins with a `>`, holds; `spans` and `residues` get them."""
    size, at, put, count = len(data), 0, 0, 0
    while at < size:
        header_end = at
        while header_end < size and data[header_end] != 10 and data[header_end] != 13:
            header_end += 1
        first, classes, index = put, 0, header_end
        while index < size:
            byte = data[index]
            kind = table[byte]
            if kind:
                residues[put] = byte
                put += 1
                classes |= kind
            elif (byte == 10 or byte == 13) and index + 1 < size and data[index + 1] == 62:
                index += 1
                break
            index += 1
        spans[count, 0], spans[count, 1], spans[count, 2] = at, header_end, index
        spans[count, 3], spans[count, 4], spans[count, 5] = first, put, classes
        count += 1
        at = index
    return count


@numba.njit(inline="always")
def _constant(out: Any, at: Any, key: Any) -> Any:
    for index in range(_ENDS[key], _ENDS[key + 1]):
        out[at] = _TEXT[index]
        at += 1
    return at


@numba.njit(inline="always")
def _copy(out: Any, at: Any, data: Any, start: Any, end: Any) -> Any:
    for index in range(start, end):
        out[at] = data[index]
        at += 1
    return at


@numba.njit(inline="always")
def _quoted(out: Any, at: Any, key: Any, data: Any, start: Any, end: Any) -> Any:
    at = _copy(out, _constant(out, at, key), data, start, end)
    out[at] = _QUOTE
    return at + 1


@numba.njit(inline="always")
def _decimal(out: Any, at: Any, value: Any) -> Any:
    digits = 1
    rest = value
    while rest >= 10:
        rest //= 10
        digits += 1
    for index in range(digits):
        out[at + digits - 1 - index] = 48 + value % 10
        value //= 10
    return at + digits


@numba.njit(inline="always")
def _key(first: Any, second: Any) -> Any:
    """0 to 4 for OS, OX, GN, PE and SV; else -1."""
    if first == 79:
        return 0 if second == 83 else 1 if second == 88 else -1
    if first == 71 and second == 78:
        return 2
    if first == 80 and second == 69:
        return 3
    return 4 if first == 83 and second == 86 else -1


@numba.njit(
    numba.types.void(
        _bytes, numba.int64[:, ::1], numba.int64, _bytes, numba.int64,
        numba.uint8[::1], numba.int64[::1], numba.uint8[::1], numba.int64[::1], numba.uint8[::1],
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def describe(
    data: Any, spans: Any, count: Any, molecule: Any, level: Any, ids: Any, id_ends: Any, metas: Any, meta_ends: Any, kinds: Any
) -> None:
    """For each record what its header is, and unless it is OTHER its `meta`, and of UNIPROT its id. Existence above `level` is OTHER."""
    value = np.empty((5, 2), np.int64)
    id_at, meta_at = 0, 0
    for row in range(count):
        start, end = spans[row, 0] + 1, spans[row, 1]
        kinds[row] = OTHER
        id_ends[row + 1], meta_ends[row + 1] = id_at, meta_at
        while start < end and data[start] == 32:
            start += 1
        while end > start and data[end - 1] == 32:
            end -= 1
        usual = end > start
        for index in range(start, end):
            byte = data[index]
            usual &= 32 <= byte < 127 and byte != _QUOTE and byte != 92
        if not usual:
            continue
        word = start  # the end of the first word
        bars = 0
        second = 0  # where its second bar is
        dotted = False
        while word < end and data[word] != 32:
            if data[word] == _BAR:
                bars += 1
                if bars == 2:
                    second = word
            dotted |= data[word] == 46
            word += 1
        text, text_end = word, end
        while text < end and data[text] == 32:
            text += 1
        length = spans[row, 4] - spans[row, 3]
        at = meta_at

        if bars == 0:
            known = (
                word - start > 2 and data[start] < 97 and (data[start] == 85 or (data[start] == 69 and data[start + 1] == 78))
            )  # UniRef, UPI, ENS
            if dotted or known or data[end - 1] == 93:
                continue
            if text < end:
                at = _quoted(metas, at, _DESCRIPTION_1, data, text, end)
                at = _constant(metas, at, _LENGTH)
            else:
                at = _constant(metas, at, _LENGTH_1)
            at = _decimal(metas, at, length)
            at = _copy(metas, _constant(metas, at, _MOLECULE), molecule, 0, len(molecule))
            at = _quoted(metas, at, _NAME, data, start, word)
            kinds[row] = PLAIN
        else:
            first = data[start]
            if (
                bars != 2
                or data[start + 2] != _BAR
                or not ((first == 115 and data[start + 1] == 112) or (first == 116 and data[start + 1] == 114))
            ):
                continue
            fits = 6 <= second - start - 3 <= 10 and second + 1 < word
            for index in range(start + 3, second):
                fits &= 65 <= data[index] <= 90 or 48 <= data[index] <= 57
            value[:] = -1
            last = -1
            index = text
            while index + 2 < end and fits:
                if data[index + 2] == 61 and data[index - 1] == 32:
                    key = _key(data[index], data[index + 1])
                    if key >= 0:
                        fits = value[key, 0] < 0
                        stop = index
                        while stop > text and data[stop - 1] == 32:
                            stop -= 1
                        if last < 0:
                            text_end = stop
                        else:
                            value[last, 1] = stop
                        begin = index + 3
                        while begin < end and data[begin] == 32:
                            begin += 1
                        value[key, 0], last, index = begin, key, index + 2
                index += 1
            if last >= 0:
                value[last, 1] = end
            for key in range(5):
                begin, stop = value[key, 0], value[key, 1]
                if begin < 0:
                    continue
                fits &= stop > begin
                if key == 1 or key > 2:
                    fits &= stop - begin < 10 and (stop - begin == 1 or data[begin] != 48)
                    for index in range(begin, stop):
                        fits &= 48 <= data[index] <= 57
            if not fits or (value[3, 0] >= 0 and (value[3, 1] - value[3, 0] > 1 or data[value[3, 0]] - 48 > level)):
                continue
            at = _copy(metas, _constant(metas, at, _ACCESSION), data, start + 3, second)
            at = _constant(metas, at, _DATABASE)
            if text_end > text:
                at = _quoted(metas, at, _DESCRIPTION, data, text, text_end)
            if value[3, 0] >= 0:
                at = _copy(metas, _constant(metas, at, _EXISTENCE), data, value[3, 0], value[3, 1])
            if value[2, 0] >= 0:
                at = _quoted(metas, at, _GENE, data, value[2, 0], value[2, 1])
            at = _decimal(metas, _constant(metas, at, _LENGTH), length)
            at = _copy(metas, _constant(metas, at, _MOLECULE), molecule, 0, len(molecule))
            at = _copy(metas, _constant(metas, at, _NAME), data, second + 1, word)
            if value[0, 0] >= 0:
                at = _copy(metas, _constant(metas, at, _ORGANISM), data, value[0, 0], value[0, 1])
            metas[at] = _QUOTE
            at += 1
            if value[1, 0] >= 0:
                at = _copy(metas, _constant(metas, at, _TAXON), data, value[1, 0], value[1, 1])
            if value[4, 0] >= 0:
                at = _copy(metas, _constant(metas, at, _VERSION), data, value[4, 0], value[4, 1])
            id_at = _copy(ids, _constant(ids, id_at, _ID), data, start + 3, second)
            kinds[row] = UNIPROT
        metas[at] = 125  # }
        meta_at = at + 1
        id_ends[row + 1], meta_ends[row + 1] = id_at, meta_at
