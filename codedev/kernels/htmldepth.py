"""What closing tags cost the parser: it looks for the element they end among all that are open, so that n tags at depth n take n^2 steps;
and what different names do: the parser's table of them has few places, so that n names take n^2 steps.

A model of HTML's stack of open elements (WHATWG HTML 13.2.6), near enough to count: which tags open, which close what, that tables
hide what is outside, and that a formatting element leaves the blocks inside it open. Elements that others close by themselves
(p, li, td) are not on it. Comments, scripts and values of attributes are passed over.
Cost: 0.7 GB/s of a core (1.4 ms for 1 MB of real pages), 1 ns a step.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)


def _code(name: str) -> int:
    code = 0
    for letter in name:
        code = (code << 5 | (ord(letter) & 31)) & (1 << 60) - 1
    return code


def _codes(names: str) -> tuple[int, ...]:
    return tuple(map(_code, names.split()))


_VOID = _codes("area base br col embed hr img input link meta param source track wbr frame keygen image basefont bgsound")
_IMPLIED = _codes(
    "p li dt dd option optgroup tr td th thead tbody tfoot colgroup caption rt rp rb rtc body html head form button select frameset"
)
_RAW = _codes("script style textarea title iframe noembed noframes xmp")
_FORMATTING = _codes("a b big code em font i nobr s small strike strong tt u")
_BLOCKS = _codes(
    "address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer header hgroup main menu nav ol "
    "pre listing search section summary ul h1 h2 h3 h4 h5 h6 table object applet marquee template noscript"
)
_SCOPES = _codes("table object applet marquee template")
_FOREIGN = _codes("svg math")

# Names are told apart by a hash (FNV-1a, 32 bits).
_SEED, _PRIME, _TABLE = np.uint32(2166136261), np.uint32(16777619), 1 << 20
_MASK = np.uint32(_TABLE - 1)

_PLAIN, _IS_BLOCK, _IS_FORMATTING, _IS_FOREIGN = range(4)


@numba.njit(inline="always")
def _kind(code: Any) -> Any:
    if code in _BLOCKS:
        return _IS_BLOCK
    if code in _FORMATTING:
        return _IS_FORMATTING
    return _IS_FOREIGN if code in _FOREIGN else _PLAIN


@numba.njit(inline="always")
def _behind_raw(data: Any, at: Any, code: Any) -> Any:
    """Where the closing tag of an element without markup inside it begins, or the end."""
    size = len(data)
    while at + 1 < size:
        if data[at] == 60 and data[at + 1] == 47:
            found, end = 0, at + 2
            while end < size and 97 <= (data[end] | 32) <= 122:
                found = (found << 5 | (data[end] & 31)) & ((1 << 60) - 1)
                end += 1
            if found == code:
                return at
        at += 1
    return size


@numba.njit(
    numba.types.UniTuple(numba.int64, 2)(_bytes, numba.int64, numba.int64, numba.int64, numba.int64),  # type: ignore[no-untyped-call]  # numba declares no types
    nogil=True,
    cache=True,
)
def costs(data: Any, tags: Any, free: Any, limit: Any, most_names: Any) -> Any:
    """(steps through the open elements that closing tags take while more than `free` are open; different names of tags and attributes, of
    which some in a thousand count as one). Either is counted up to its limit. `tags`: at least as many as there are `<`."""
    size, at, depth, cost, foreign = len(data), 0, 0, 0, 0
    names = np.empty(tags + 1, np.int64)
    kinds = np.empty(tags + 1, np.uint8)
    seen, different = np.zeros(_TABLE, np.uint8), 0
    while True:
        while at < size and data[at] != 60:
            at += 1
        at += 1
        if at >= size or cost > limit or different > most_names:
            return cost, different
        if data[at] == 33:  # a comment ends at --> or --!>, or at once
            if at + 2 < size and data[at + 1] == 45 and data[at + 2] == 45:
                at += 3
                if at < size and data[at] == 62:
                    continue
                at -= 1 if at + 1 < size and data[at] == 45 and data[at + 1] == 62 else 0
                while at + 2 < size and not (
                    data[at] == 45
                    and data[at + 1] == 45
                    and (data[at + 2] == 62 or (data[at + 2] == 33 and at + 3 < size and data[at + 3] == 62))
                ):
                    at += 1
                at += 2
            continue
        closing = data[at] == 47
        at += closing
        code, mixed = 0, _SEED
        if at >= size or not 97 <= (data[at] | 32) <= 122:
            continue
        while at < size and data[at] != 62 and data[at] != 47 and data[at] != 32 and not 9 <= data[at] <= 13:
            code = (code << 5 | (data[at] & 31)) & ((1 << 60) - 1)
            mixed = (mixed ^ numba.uint32(data[at] | 32)) * _PRIME
            at += 1
        slot = (mixed ^ mixed >> numba.uint32(15)) & _MASK
        different += not seen[slot]
        seen[slot] = 1
        while at < size and data[at] != 62:  # attributes; a value in quotes may hold anything
            byte = data[at]
            at += 1
            if byte != 61 and byte != 47 and byte != 32 and not 9 <= byte <= 13:
                mixed = _SEED
                while True:
                    mixed = (mixed ^ numba.uint32(byte | 32)) * _PRIME
                    if at >= size or data[at] == 61 or data[at] == 62 or data[at] == 47 or data[at] == 32 or 9 <= data[at] <= 13:
                        break
                    byte = data[at]
                    at += 1
                slot = (mixed ^ mixed >> numba.uint32(15)) & _MASK
                different += not seen[slot]
                seen[slot] = 1
                continue
            if byte == 61:
                while at < size and (data[at] == 32 or 9 <= data[at] <= 13):
                    at += 1
                if at < size and (data[at] == 34 or data[at] == 39):
                    quote = data[at]
                    at += 1
                    while at < size and data[at] != quote:
                        at += 1
                    at += 1
                else:
                    while at < size and data[at] != 62 and data[at] != 32 and not 9 <= data[at] <= 13:
                        at += 1
        if at >= size:
            return cost, different
        kind = _kind(code)
        if not closing:
            if code in _VOID or code in _IMPLIED or (kind == _PLAIN and foreign and data[at - 1] == 47):
                continue
            if code in _RAW and not foreign:
                at = _behind_raw(data, at, code)
                continue
            names[depth], kinds[depth] = code, kind
            depth += 1
            foreign += kind == _IS_FOREIGN
            continue
        if depth and names[depth - 1] == code:
            depth -= 1
            foreign -= kind == _IS_FOREIGN
            continue
        below, blocks = depth - 1, 0
        if code in _VOID or code in _IMPLIED:
            cost += depth if depth > free else 0
            continue
        while below >= 0 and names[below] != code:
            if kinds[below] == _IS_BLOCK:
                blocks += 1
                if kind == _PLAIN or names[below] in _SCOPES:
                    below = -1
                    break
            below -= 1
        if depth > free:
            cost += depth if kind != _PLAIN or below < 0 else depth - below
        if below < 0:
            continue
        if kind == _IS_FORMATTING and blocks:  # it ends alone, what is inside it stays open
            for index in range(below, depth - 1):
                names[index], kinds[index] = names[index + 1], kinds[index + 1]
            depth -= 1
        else:
            for index in range(below, depth):
                foreign -= kinds[index] == _IS_FOREIGN
            depth = below
