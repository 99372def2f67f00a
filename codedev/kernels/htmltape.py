"""A parsed page as a flat list of nodes: 600 MB of HTML a second and core.

Reads what a parser of HTML has serialised, and nothing else: every tag closed, every value in double quotes, `<`, `>` and `&` escaped
in text. What a stranger's page looks like is the parser's affair. A node is an element or a run of text, in the order of the document;
the rest of the kernels on pages walk these arrays. Linear in the bytes; keeps a stack as deep as the page.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

TEXT, OTHER = 0, 1
# What is read of elements by name. The order is the model's: names are added at the end.
_NAMES = """
    a abbr address article aside b blockquote body button caption center cite code codedev-math col colgroup dd del details dfn dialog
    div dl dt em fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img input ins kbd label
    legend li main map mark menu nav noscript object ol option p picture pre q s samp script section select small source span strike
    strong style sub summary sup svg table tbody td template textarea tfoot th thead time title tr tt u ul var video audio canvas
    embed noembed noframes xmp plaintext font big ruby rt rp rb wbr br meta link base area param track frameset frame search optgroup
    datalist meter progress bdi bdo data output math nobr acronym listing math-field
    g-emoji relative-time time-ago local-time time-until d-cite d-footnote dt-cite dt-fn tool-tip clipboard-copy slot
"""
NAMES = _NAMES.split()
TAG = {name: number for number, name in enumerate(NAMES, OTHER + 1)}
TAGS = len(NAMES) + 2

_VOID = "area base br col embed frame hr img input link meta param source track wbr"
_RAW = "script style iframe noembed noframes xmp plaintext"  # serialised without escapes, up to their own end tag
# Content that is no text of the page.
_SKIPPED = """
    head script style iframe noscript noembed noframes template textarea select datalist svg object canvas video audio map title
    option picture math
"""
_INLINE = """
    a abbr acronym b bdi bdo big br cite code codedev-math data del dfn em font i img input ins kbd label mark meter nobr output
    progress q rb rp rt ruby s samp small span strike strong sub sup time tt u var wbr
    g-emoji relative-time time-ago local-time time-until d-cite d-footnote dt-cite dt-fn tool-tip clipboard-copy slot
"""


def table_of(names: str) -> np.ndarray:
    """Whether a tag is one of `names`, which have blanks between them, by its number."""
    flags = np.zeros(256, np.bool_)
    flags[[TAG[name] for name in names.split()]] = True
    return flags


VOID, RAW, SKIPPED, INLINE = table_of(_VOID), table_of(_RAW), table_of(_SKIPPED), table_of(_INLINE)

_SLOTS = 1024
_BASIS, _PRIME = 14695981039346656037, 1099511628211
_SCRIPT = TAG["script"]


def _hash(name: bytes) -> int:
    value = _BASIS
    for byte in name:
        value = (value ^ byte) * _PRIME & (1 << 64) - 1
    return value


def _slots() -> tuple[np.ndarray, np.ndarray]:
    keys, values = np.zeros(_SLOTS, np.uint64), np.zeros(_SLOTS, np.uint8)
    for name, number in TAG.items():
        key = _hash(name.encode())
        slot = key % _SLOTS
        while keys[slot]:
            slot = (slot + 1) % _SLOTS
        keys[slot], values[slot] = key, number
    return keys, values


_KEYS, _VALUES = _slots()


class Tape(NamedTuple):
    """Nodes in the order of the document; node 0 is the document itself. Offsets are into `data`."""

    data: np.ndarray  # uint8: the serialised page
    tag: np.ndarray  # uint8: TEXT, OTHER, or the number of a name
    parent: np.ndarray  # int32; -1 of node 0
    after: np.ndarray  # int32: the first node behind the subtree
    start: np.ndarray  # int32: of the tag or the text
    inner: np.ndarray  # int32: where the content of an element begins; of a text, its end
    end: np.ndarray  # int32: where the content of an element ends; of a text, its end
    depth: np.ndarray  # int32


_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_i32 = numba.int32[::1]


@numba.njit(numba.int64(_bytes), nogil=True, cache=True)
def _count(data: Any) -> Any:
    tags = 0
    for byte in data:
        tags += byte == 60
    return tags


@numba.njit(inline="always")
def is_space(byte: int) -> bool:
    return byte == 32 or (9 <= byte <= 13 and byte != 11)


@numba.njit(inline="always")
def _ends_name(byte: int) -> bool:
    return byte == 62 or byte == 47 or is_space(byte)


@numba.njit(inline="always")
def _number(value: Any, keys: Any, values: Any) -> Any:
    """That of the name with this hash."""
    slot = value % numba.uint64(_SLOTS)
    while keys[slot]:
        if keys[slot] == value:
            return values[slot]
        slot = (slot + numba.uint64(1)) % numba.uint64(_SLOTS)
    return numba.uint8(OTHER)


@numba.njit(inline="always")
def _named(data: Any, at: int, name: int, length: int) -> bool:
    """Whether a name is at `at` that is the one at `name`."""
    if at + length >= len(data) or not _ends_name(data[at + length]):
        return False
    for i in range(length):  # numba knows no all()
        if data[at + i] != data[name + i]:
            return False
    return True


@numba.njit(inline="always")
def _raw_end(data: Any, at: Any, name: Any, length: Any, script: bool) -> Any:
    """Where the end tag is of an element without escapes; a script may hold scripts between `<!--` and `-->`."""
    size = len(data)
    comment, nested = False, False
    while at < size:
        if data[at] == 60 and at + 1 < size:
            if data[at + 1] == 47 and _named(data, at + 2, name, length):
                if not nested:
                    break
                nested = False
            elif script and data[at + 1] == 33 and at + 3 < size and data[at + 2] == 45 and data[at + 3] == 45:
                comment = True
                at += 2  # its dashes may be those of `-->`
            elif comment and _named(data, at + 1, name, length):
                nested = True
        elif comment and data[at] == 62 and data[at - 1] == 45 and data[at - 2] == 45:
            comment = nested = False
        at += 1
    return at


@numba.njit(
    numba.int64(_bytes, numba.uint64[::1], numba.uint8[::1], numba.uint8[::1], _i32, _i32, _i32, _i32, _i32, _i32),
    nogil=True,
    cache=True,
)
def _scan(data: Any, keys: Any, values: Any, tag: Any, parent: Any, after: Any, start: Any, inner: Any, end: Any, depth: Any) -> Any:
    size, one = numba.uint64(len(data)), numba.uint64(1)  # without a sign: an offset that may be negative costs a test a byte
    two, three, six = numba.uint64(2), numba.uint64(3), numba.uint64(6)
    nodes = 1
    tag[0], parent[0], start[0], inner[0], depth[0] = OTHER, -1, 0, 0, 0
    top = 0  # the open element
    at = numba.uint64(0)
    while at < size:
        begin = at
        while at < size and data[at] != 60:
            at += one
        if at > begin:
            tag[nodes], parent[nodes], start[nodes], inner[nodes], end[nodes] = TEXT, top, begin, at, at
            depth[nodes], after[nodes] = depth[top] + 1, nodes + 1
            nodes += 1
        if at >= size:
            break
        begin = at
        at += one
        if at < size and data[at] == 47:  # an end tag: of the open element, in a serialised page
            at += one
            value = numba.uint64(_BASIS)
            while at < size and data[at] != 62:
                value = (value ^ data[at]) * numba.uint64(_PRIME)
                at += one
            at += one
            number = _number(value, keys, values)
            if top > 0 and not VOID[number] and not RAW[number]:  # in SVG and MathML these have content; they are never left open here
                end[top], after[top] = begin, nodes
                top = parent[top]
            continue
        if at < size and data[at] == 33:
            if at + two < size and data[at + one] == 45 and data[at + two] == 45:
                at += three
                while at < size and not (data[at] == 62 and data[at - one] == 45 and data[at - two] == 45 and at >= begin + six):
                    at += one
            else:
                while at < size and data[at] != 62:
                    at += one
            at += one
            continue
        if at < size and data[at] == 63:
            while at < size and data[at] != 62:
                at += one
            at += one
            continue
        name = at
        value = numba.uint64(_BASIS)
        while at < size and not _ends_name(data[at]):
            value = (value ^ data[at]) * numba.uint64(_PRIME)
            at += one
        length = at - name
        number = _number(value, keys, values)
        quoted = False
        while at < size and (quoted or data[at] != 62):
            if data[at] == 34 and (quoted or data[at - one] == 61):  # a quote opens a value behind `=` alone
                quoted = not quoted
            at += one
        at = min(at + one, size)
        tag[nodes], parent[nodes], start[nodes], inner[nodes], depth[nodes] = number, top, begin, at, depth[top] + 1
        end[nodes], after[nodes] = at, nodes + 1
        this = nodes
        nodes += 1
        if VOID[number]:
            continue
        if RAW[number]:
            begin = at
            at = numba.uint64(_raw_end(data, numba.int64(at), numba.int64(name), numba.int64(length), number == _SCRIPT))
            if at > begin:
                tag[nodes], parent[nodes], start[nodes], inner[nodes], end[nodes] = TEXT, this, begin, at, at
                depth[nodes], after[nodes] = depth[this] + 1, nodes + 1
                nodes += 1
            end[this], after[this] = at, nodes
            while at < size and data[at] != 62:
                at += one
            at += one
            continue
        top = this
    while top > 0:
        end[top], after[top] = size, nodes
        top = parent[top]
    end[0], after[0] = size, nodes
    return nodes


def tape(data: np.ndarray) -> Tape:
    """`data`: uint8, a page as a parser serialises it, under 2 GB."""
    most = 2 * int(_count(data)) + 2
    tag = np.empty(most, np.uint8)
    columns = [np.empty(most, np.int32) for _ in range(6)]
    nodes = _scan(data, _KEYS, _VALUES, tag, *columns)
    return Tape(data, tag[:nodes], *(column[:nodes] for column in columns))
