"""What a <sup> or <sub> is: digits that Unicode has above the line, a power or an index, the mark of a note, or letters as they are.

A power or an index is told from an ordinal (1st, XXe, No), a title (Mme, Dr), a trade mark and the letter of a note by what it holds,
by what stands directly before it, and by italics, which formulas have and ordinals do not. Looks at 16 nodes and 48 bytes at the most.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels import htmlwrite as w
from codedev.kernels.htmltape import INLINE, TAG, TEXT, is_space, table_of

PLAIN, BARE, BRACED = range(3)  # written as it is; as ^x or _x; as ^(…) or _(…)
_SUP, _SUB, _A, _BR, _FORMULA = TAG["sup"], TAG["sub"], TAG["a"], TAG["br"], TAG["codedev-math"]
_ITALIC = table_of("i em var")
_MOST_NODES, _MOST_BYTES = 16, 48
_BASE_LETTERS = 5  # of a name that an index belongs to, as lim and log
_POWERS = 24  # letters and signs
# Raised letters that are no power: ordinals, titles, marks of trade. As numbers to the base 32.
_WORDS = np.array(
    [
        sum((ord(letter) & 31) << 5 * place for place, letter in enumerate(reversed(word)))
        for word in "st nd rd th er re me le lle nde ers res mes eme os as mo ma mos to do da dr rs gr tm sm mc new".split()
    ],
    np.int64,
)


@numba.njit(nogil=True, cache=True)
def script(data: Any, tag: Any, parent: Any, after: Any, start: Any, end: Any, node: int) -> int:
    """Whether a <sup> or <sub> holds digits and signs alone, or is the mark of a note: digits in a link."""
    is_sup = tag[node] == _SUP
    linked = tag[parent[node]] == _A and after[node] == after[parent[node]] and node == parent[node] + 1
    signs, others = 0, 0
    if after[node] > node + _MOST_NODES:
        return 0
    for i in range(node + 1, after[node]):
        if tag[i] == TEXT:
            at, stop = start[i], end[i]
            if stop - at > 40:
                return 0
            while at < stop:
                sign, length = w.sign_at(data, at, stop)
                if sign >= 0:
                    signs += 1
                elif data[at] == 44:
                    others += 1
                elif not is_space(data[at]):
                    return 0
                at += length
        elif tag[i] == _A:
            linked = True
        elif not INLINE[tag[i]] or tag[i] in (_BR, _FORMULA, _SUP, _SUB):
            return 0
    if signs == 0:
        return 0
    if is_sup and linked:
        return w.NOTE
    return 0 if others else w.MATH_UP if is_sup else w.MATH_DOWN


@numba.njit(nogil=True, cache=True)
def _base(out: Any, size: int) -> Any:
    """What stands directly before a script: how many letters, 0 for none; whether it is a thing to have a power: a number, a bracket."""
    at = size - 1
    last = out[at]
    if 48 <= last <= 57:
        return 0, True
    if last == 41:  # a short bracket: a long one is a remark with a note
        while at >= 0 and at > size - 16 and out[at] != 40:
            at -= 1
        return 0, at >= 0 and out[at] == 40
    if last >= 0x80 and size >= 3 and out[size - 3] == 0xE2 and 0x81 <= out[size - 2] <= 0x82:  # a digit above or below the line
        return 0, True
    letters = 0
    while at >= 0 and letters <= _BASE_LETTERS:
        byte = out[at]
        if byte >= 0x80:
            while at > 0 and out[at] < 0xC0:
                at -= 1
            if not 0xC3 <= out[at] <= 0xD4:
                break
        elif not 97 <= byte | 32 <= 122:
            break
        letters += 1
        at -= 1
    return letters, letters == 1


@numba.njit(nogil=True, cache=True)
def _is_followed(data: Any, tag: Any, after: Any, start: Any, end: Any, node: int) -> bool:
    """Whether a letter or a digit stands directly behind an element."""
    at = after[node]
    for _ in range(4):
        if at >= len(tag) or not (INLINE[tag[at]] and tag[at] != _SUP and tag[at] != _SUB):
            break
        at += 1
    return at < len(tag) and tag[at] == TEXT and start[at] < end[at] and w.is_letter(data[start[at]])


@numba.njit(nogil=True, cache=True)
def power(data: Any, tag: Any, after: Any, start: Any, end: Any, node: int, out: Any, size: int, in_code: bool) -> int:
    """How to write a <sup> or <sub> behind out[:size]: PLAIN, BARE or BRACED."""
    is_sup = tag[node] == _SUP
    if size == 0 or after[node] > node + _MOST_NODES:
        return PLAIN
    word = 0
    letters = digits = signs = commas = bytes_of = opened = closed = 0
    first, last = 0, 0
    italic = nested = gap = gapped = False
    for i in range(node + 1, after[node]):
        kind = tag[i]
        if kind != TEXT:
            if kind in (_A, _BR, _FORMULA) or not INLINE[kind]:
                return PLAIN
            italic |= _ITALIC[kind]
            nested |= kind in (_SUP, _SUB)
            continue
        at, stop = start[i], end[i]
        bytes_of += stop - at
        if bytes_of > _MOST_BYTES:
            return PLAIN
        while at < stop:
            byte, length = data[at], 1
            following = data[at + 1] if at + 1 < stop else 0
            if is_space(byte) or (byte == 0xC2 and following == 0xA0):
                gap = True
                at += 1 if byte != 0xC2 else 2
                continue
            if byte == 38:
                while at < stop and data[at] != 59:
                    at += 1
                at += 1
                if following == 110:
                    gap = True
                    continue
                if following != 108 and following != 103:  # < and >
                    return PLAIN
                signs += 1
                length = 0
            elif 97 <= byte | 32 <= 122:
                letters += 1
                word = (word << 5 | byte & 31) & 0x7FFFFFFF
            elif 48 <= byte <= 57:
                digits += 1
            elif byte in (42, 43, 45, 46, 47, 61, 124, 33, 39, 58):  # * + - . / = | ! ' :
                signs += 1
            elif byte == 44 or byte == 59:
                commas += 1
            elif byte == 40:
                opened += 1
            elif byte == 41:
                closed += 1
            elif byte == 0xCE or byte == 0xCF:  # Greek
                letters += 1
                length = 2
                italic = True
            elif (byte == 0xC2 and following == 0xB7) or (byte == 0xC3 and following == 0x97):
                signs += 1
                length = 2
            elif byte == 0xE2 and (following == 0x88 or following == 0x86 or (following == 0x80 and at + 2 < stop and data[at + 2] > 0x90)):
                signs += 1
                length = 3
            else:
                return PLAIN
            if first == 0:
                first = byte
            elif gap:
                gapped = True
            gap = False
            last = byte
            at += length
    things = letters + digits
    if things == 0 or things + signs > _POWERS or opened != closed or (closed and last == 40):
        return PLAIN
    base_letters, has_power = _base(out, size)
    if base_letters == 0 and not has_power:
        return PLAIN
    only_letters = letters == things and signs + commas + opened == 0
    if gapped and only_letters:
        return PLAIN
    if in_code:
        pass
    elif is_sup:
        if not has_power and not (italic and base_letters <= _BASE_LETTERS - 1):
            return PLAIN
        if commas and letters == 0:
            return PLAIN
        if only_letters and not italic:
            if letters > 3 or (letters > 1 and first < 97) or np.any(word == _WORDS):
                return PLAIN
            base = out[size - 1]
            small = first | 32
            if letters == 1 and base_letters == 0 and 48 <= base <= 57 and small in (97, 101, 111, 114):  # 1a, 2e, 3o, 1r
                return PLAIN
            if letters == 1 and base_letters == 1:
                roman = base in (67, 68, 73, 76, 77, 86, 88)
                if (small == 101 and roman) or (small == 111 and base | 32 == 110) or (first == 114 and base in (68, 77)):
                    return PLAIN
                if first == 116 and base == 83:
                    return PLAIN
    elif base_letters > _BASE_LETTERS or letters > 12:
        return PLAIN
    if nested or _is_followed(data, tag, after, start, end, node):
        return BRACED
    if opened == 1 and first == 40 and last == 41:
        return BARE
    if signs + commas + opened or gapped:
        return BARE if digits and letters == 0 and commas + opened == 0 and signs == 1 and first == 45 else BRACED
    return BARE if things == 1 or letters == 0 or not is_sup else BRACED
