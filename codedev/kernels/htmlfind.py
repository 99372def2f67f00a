"""The few elements of a page that say something of it: title, meta tags by name, JSON-LD, headings, marks of authors, dates and licences.

Two passes over a tape: `told` looks at html, head, body, titles, links, scripts and meta tags alone (11 µs for a page of 120 kB),
`marked` at the attributes of every element (45 µs: 2.7 GB of HTML a second and core). Content of a template is no part of a page. Linear
in the bytes; both stop after so many finds. Does not read what it finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.htmltape import TAG, TEXT, Tape, is_space, table_of

# What `told` finds: an element, or from META on a meta tag with a name that is known.
HTML, HEAD, BODY, TITLE, CANONICAL, JSON_LD, META = range(7)
# What `marked` finds of an element, as bits.
HEADING, SCRIPT, TIME, AUTHOR, DATE, NAME, LICENCE, CREATIVE_COMMONS = (1 << bit for bit in range(8))

_TOLD_TAGS = table_of("html head body title link script meta template")
_HTML, _HEAD, _BODY, _TITLE, _LINK, _SCRIPT = TAG["html"], TAG["head"], TAG["body"], TAG["title"], TAG["link"], TAG["script"]
_TEMPLATE, _A, _H1, _TIME = TAG["template"], TAG["a"], TAG["h1"], TAG["time"]

_MOST_TOLD, _MOST_MARKED = 2_000, 10_000
_LONGEST_NAMES = 10  # words of a meta tag's name
_PRIME = 1099511628211
_BASIS = 14695981039346656037
_SLOTS = 1024


class Names(NamedTuple):
    """Names of meta tags by their hashes."""

    keys: np.ndarray  # uint64[_SLOTS]
    numbers: np.ndarray  # int32[_SLOTS]
    alone: int  # from this number on, names that count as the whole value of `name` alone


def names(words: Iterable[str], alone: Iterable[str]) -> Names:
    """`words`: in lower case, looked for among the words of property, name, itemprop or http-equiv, whichever is first there; `alone`:
    the same of `name`, as its whole value. They are numbered in this order."""
    words = list(words)
    keys, numbers = np.zeros(_SLOTS, np.uint64), np.zeros(_SLOTS, np.int32)
    for number, word in enumerate([*words, *alone]):
        key = _BASIS
        for byte in word.encode():
            key = (key ^ byte) * _PRIME & (1 << 64) - 1
        slot = key % _SLOTS
        while keys[slot]:
            slot = (slot + 1) % _SLOTS
        keys[slot], numbers[slot] = key, number
    return Names(keys, numbers, len(words))


_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_i32 = numba.int32[::1]


def _word(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


_PROPERTY, _NAME, _ITEMPROP, _EQUIV, _CONTENT = map(_word, ("property", "name", "itemprop", "http-equiv", "content"))
_TYPE, _REL, _CLASS, _LD, _IS_CANONICAL = map(_word, ("type", "rel", "class", "application/ld+json", "canonical"))
_IS_AUTHOR, _IS_AUTOR, _IS_BYLINE, _IS_DATE = map(_word, ("author", "autor", "byline", "date"))
_IS_PUBLISH, _IS_TIMESTAMP, _IS_LICENSE = map(_word, ("publish", "timestamp", "license"))
_HREF, _HTTP, _WWW, _CC = map(_word, ("href", "http", "www.", "creativecommons.org/"))
_CC_LICENSE, _DCT_LICENSE, _DCTERMS_LICENSE = map(_word, ("cc:license", "dct:license", "dcterms:license"))


@numba.njit(inline="always")
def _small(byte: Any) -> Any:
    return byte + 32 if 65 <= byte <= 90 else byte


@numba.njit(inline="always")
def _is(data: Any, start: Any, end: Any, word: Any) -> bool:
    """Whether data[start:end] is `word`, its case aside."""
    if end - start != len(word):
        return False
    for at in range(len(word)):  # numba knows no all()
        if _small(data[start + at]) != word[at]:
            return False
    return True


@numba.njit(inline="always")
def _begins(data: Any, start: Any, end: Any, word: Any) -> bool:
    return end - start >= len(word) and _is(data, start, start + len(word), word)


@numba.njit(inline="always")
def _name_end(data: Any, at: Any, stop: Any) -> Any:
    """Behind the name of the tag that begins at `at`."""
    at += 1
    while at < stop and not is_space(data[at]) and data[at] != 47:
        at += 1
    return at


@numba.njit(inline="always")
def _attribute(data: Any, at: Any, stop: Any) -> Any:
    """(name's start, its end, value's start, its end) of the next attribute; a name without a value has an empty one."""
    while at < stop and (is_space(data[at]) or data[at] == 47):
        at += 1
    name = at
    while at < stop and (data[at] != 61 or at == name) and not is_space(data[at]):
        at += 1
    end = at
    if at + 1 >= stop or data[at] != 61 or data[at + 1] != 34:
        return name, end, at, at
    at += 2
    begin = at
    while at < stop and data[at] != 34:
        at += 1
    return name, end, begin, at


@numba.njit(inline="always")
def _number(data: Any, start: Any, end: Any, keys: Any, numbers: Any) -> Any:
    value = numba.uint64(_BASIS)
    for at in range(start, end):
        value = (value ^ numba.uint64(_small(data[at]))) * numba.uint64(_PRIME)
    slot = value % numba.uint64(_SLOTS)
    while keys[slot]:
        if keys[slot] == value:
            return numbers[slot]
        slot = (slot + numba.uint64(1)) % numba.uint64(_SLOTS)
    return -1


@numba.njit(inline="always")
def _has_word(data: Any, at: Any, stop: Any, word: Any) -> bool:
    """Whether `word` is one of the words with blanks between."""
    while at < stop:
        while at < stop and is_space(data[at]):
            at += 1
        begin = at
        while at < stop and not is_space(data[at]):
            at += 1
        if _is(data, begin, at, word):
            return True
    return False


@numba.njit(
    numba.int64(_bytes, numba.uint8[::1], _i32, _i32, _i32, numba.uint64[::1], _i32, numba.int64, numba.int32[:, ::1]),
    nogil=True,
    cache=True,
)
def _told(data: Any, tag: Any, after: Any, start: Any, inner: Any, keys: Any, numbers: Any, alone: Any, rows: Any) -> Any:
    found = 0
    node = 1
    while node < len(tag) and found + _LONGEST_NAMES < len(rows):
        kind = tag[node]
        if not _TOLD_TAGS[kind]:
            node += 1
            continue
        if kind == _TEMPLATE:
            node = after[node]
            continue
        what = -1
        stop = inner[node] - 1
        at = _name_end(data, start[node], stop)
        begin = end = 0
        if kind == _HTML:
            what = HTML
        elif kind == _HEAD:
            what = HEAD
        elif kind == _BODY:
            what = BODY
        elif kind == _TITLE:
            what = TITLE
        elif kind == _LINK:
            while at < stop:
                name, name_end, begin, at = _attribute(data, at, stop)
                if _is(data, name, name_end, _REL) and _has_word(data, begin, at, _IS_CANONICAL):
                    what = CANONICAL
                at += 1
        elif kind == _SCRIPT:
            while at < stop:
                name, name_end, begin, at = _attribute(data, at, stop)
                if _is(data, name, name_end, _TYPE) and _is(data, begin, at, _LD):
                    what = JSON_LD
                at += 1
        else:
            property_from = property_to = name_from = name_to = item_from = item_to = equiv_from = equiv_to = 0
            told = False
            while at < stop:
                name, name_end, value, at = _attribute(data, at, stop)
                if _is(data, name, name_end, _CONTENT):
                    begin, end, told = value, at, True
                elif _is(data, name, name_end, _NAME):
                    name_from, name_to = value, at
                elif _is(data, name, name_end, _PROPERTY):
                    property_from, property_to = value, at
                elif _is(data, name, name_end, _ITEMPROP):
                    item_from, item_to = value, at
                elif _is(data, name, name_end, _EQUIV):
                    equiv_from, equiv_to = value, at
                at += 1
            if told:
                at, to = name_from, name_to
                while at < to and is_space(data[at]):
                    at += 1
                while at < to and is_space(data[to - 1]):
                    to -= 1
                number = _number(data, at, to, keys, numbers)
                if number >= alone:
                    rows[found, 0], rows[found, 1], rows[found, 2], rows[found, 3] = META + number, node, begin, end
                    found += 1
                at, to = property_from, property_to
                if at == to:
                    at, to = name_from, name_to
                if at == to:
                    at, to = item_from, item_to
                if at == to:
                    at, to = equiv_from, equiv_to
                for _ in range(_LONGEST_NAMES):
                    while at < to and is_space(data[at]):
                        at += 1
                    word = at
                    while at < to and not is_space(data[at]):
                        at += 1
                    if at == word:
                        break
                    number = _number(data, word, at, keys, numbers)
                    if 0 <= number < alone:
                        rows[found, 0], rows[found, 1], rows[found, 2], rows[found, 3] = META + number, node, begin, end
                        found += 1
        if what >= 0:
            rows[found, 0], rows[found, 1], rows[found, 2], rows[found, 3] = what, node, 0, 0
            found += 1
        node += 1
    return found


@numba.njit(inline="always")
def _quote(data: Any, at: Any, stop: Any) -> Any:
    """Where the next quote is. Without a sign, since an index that may be negative costs a third more."""
    here, end = numba.uint64(at), numba.uint64(stop)
    while here < end and data[here] != 34:
        here += numba.uint64(1)
    return numba.int64(here)


@numba.njit(inline="always")
def _names(data: Any, end: Any, word: Any) -> bool:
    """Whether the name that ends at `end` is `word`."""
    begin = end - len(word)
    return begin > 0 and is_space(data[begin - 1]) and _is(data, begin, end, word)


@numba.njit(inline="always")
def _is_creative_commons(data: Any, at: Any, stop: Any) -> bool:
    while at < stop and is_space(data[at]):
        at += 1
    if _begins(data, at, stop, _HTTP):
        at += 4
        if at < stop and _small(data[at]) == 115:
            at += 1
        if at < stop and data[at] == 58:
            at += 1
    while at < stop and data[at] == 47:
        at += 1
    if _begins(data, at, stop, _WWW):
        at += 4
    return _begins(data, at, stop, _CC)


# Two letters in a row, rare ones, of every word that classes are looked through for: a bit for each such pair.
_FIRST, _SECOND = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
for _bit, (_letter, _next) in enumerate((("d", "a"), ("u", "tb"), ("y", "l"), ("i", "m"))):
    _FIRST[[ord(_letter), ord(_letter.upper())]] |= 1 << _bit
    _SECOND[[*_next.encode(), *_next.upper().encode()]] |= 1 << _bit


@numba.njit(inline="always")
def _of_class(data: Any, begin: Any, end: Any) -> Any:
    bits = 0
    for place in range(numba.uint64(begin), numba.uint64(end)):
        if not _FIRST[data[place]] & _SECOND[data[place + numba.uint64(1)]]:
            continue
        at = numba.int64(place)
        letter = data[at] | 32
        if letter == 100:
            if _begins(data, at, end, _IS_DATE):
                bits |= DATE
        elif at == begin:
            continue
        elif letter == 117:
            if _begins(data, at - 1, end, _IS_AUTHOR) or _begins(data, at - 1, end, _IS_AUTOR):
                bits |= AUTHOR
            elif _begins(data, at - 1, end, _IS_PUBLISH):
                bits |= DATE
        elif letter == 121:
            if _begins(data, at - 1, end, _IS_BYLINE):
                bits |= AUTHOR
        elif _begins(data, at - 1, end, _IS_TIMESTAMP):
            bits |= DATE
    return bits


@numba.njit(numba.int64(_bytes, numba.uint8[::1], _i32, _i32, _i32, numba.int32[:, ::1]), nogil=True, cache=True)
def _marked(data: Any, tag: Any, after: Any, start: Any, inner: Any, rows: Any) -> Any:
    found = 0
    node = 1
    while node < len(tag) and found < len(rows):
        kind = tag[node]
        if kind == TEXT:
            node += 1
            continue
        if kind == _TEMPLATE:
            node = after[node]
            continue
        bits = 0
        if kind == _H1:
            bits = HEADING
        elif kind == _TIME:
            bits = TIME
        # Quotes stand around values alone, so names are read backwards from them, and only where their last letters are right.
        at, stop = start[node] + 1, inner[node] - 1
        while True:
            at = _quote(data, at, stop)
            if at >= stop:
                break
            end = at - 1  # of the name
            begin = at + 1
            at = _quote(data, begin, stop)
            last = data[end - 1]
            if last == 115:
                if _names(data, end, _CLASS):
                    bits |= _of_class(data, begin, at)
            elif last == 102:
                if kind == _A and _names(data, end, _HREF) and _is_creative_commons(data, begin, at):
                    bits |= CREATIVE_COMMONS
            elif last == 108:
                if _names(data, end, _REL):
                    if _has_word(data, begin, at, _IS_AUTHOR):
                        bits |= AUTHOR
                    if (
                        _has_word(data, begin, at, _IS_LICENSE)
                        or _has_word(data, begin, at, _CC_LICENSE)
                        or _has_word(data, begin, at, _DCT_LICENSE)
                        or _has_word(data, begin, at, _DCTERMS_LICENSE)
                    ):
                        bits |= LICENCE
            elif last == 112:
                if _names(data, end, _ITEMPROP):
                    if _has_word(data, begin, at, _IS_AUTHOR):
                        bits |= AUTHOR
                    if _has_word(data, begin, at, _NAME):
                        bits |= NAME
                    if _has_word(data, begin, at, _IS_LICENSE):
                        bits |= LICENCE
                    for place in range(begin, at):
                        if _begins(data, place, at, _IS_DATE):
                            bits |= DATE
            elif last == 121:
                if _names(data, end, _PROPERTY) and _begins(data, max(begin, at - len(_IS_LICENSE)), at, _IS_LICENSE):
                    bits |= LICENCE
            elif last == 101 and kind == _SCRIPT and _names(data, end, _TYPE) and _is(data, begin, at, _LD):
                bits |= SCRIPT
            at += 1
        if bits:
            rows[found, 0], rows[found, 1] = bits, node
            found += 1
        node += 1
    return found


def told(tape: Tape, known: Names) -> list[list[int]]:
    """[what, node, start, end] in the order of the document; `what` is a kind of element, or META and the number of a meta tag's name,
    with the offsets of its content."""
    rows = np.empty((min(_MOST_TOLD, _LONGEST_NAMES * (len(tape.tag) + 2)), 4), np.int32)
    found = _told(tape.data, tape.tag, tape.after, tape.start, tape.inner, known.keys, known.numbers, known.alone, rows)
    rows_found: list[list[int]] = rows[:found].tolist()
    return rows_found


def marked(tape: Tape) -> list[list[int]]:
    """[bits, node] in the order of the document."""
    rows = np.empty((min(_MOST_MARKED, len(tape.tag)), 2), np.int32)
    found = _marked(tape.data, tape.tag, tape.after, tape.start, tape.inner, rows)
    rows_found: list[list[int]] = rows[:found].tolist()
    return rows_found
