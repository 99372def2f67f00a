"""Words and phrases of a list, found in texts: whole words, or runs of ideographs and syllables where a script writes no spaces.

The list is a set of hashed runs of tokens (tokens.py). A bit of the first token's hash answers nearly every look-up from the first-level
cache; of the runs that begin at a token the longest counts, once, and the search goes on behind it. Work is linear in the text times the
longest phrase, which is at most LONGEST tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.characters import DATA, OFFSETS, TABLE, properties
from codedev.kernels.tokens import END, LINE, WORD, mixed, next_token, tokens

LONGEST = 16  # tokens of a phrase; longer ones are refused by `listed`
_BITS = 1 << 15  # of the first look-up, 4 KB
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class WordList(NamedTuple):
    bits: np.ndarray  # uint64[_BITS / 64]: may a phrase begin with a token of this hash?
    slots: np.ndarray  # uint64[power of two]: hashes of phrases, open addressing, 0 where empty
    longest: int  # tokens of the longest phrase


def listed(phrases: Iterable[str]) -> WordList:
    """The phrases as the kernel looks them up; case is to be folded already. ValueError for one of more than LONGEST tokens."""
    hashes, first, longest = set(), set(), 0
    for phrase in phrases:
        text = np.frombuffer(phrase.replace("\n", " ").encode(), np.uint8)
        found = tokens(text, np.array([0, len(text)]))[0][:-1]
        if len(found) > LONGEST:
            raise ValueError(f"'{phrase[:80]}' is a phrase of {len(found)} words and marks; at most {LONGEST} are looked for")
        if len(found):
            hashes.add(_run_hash(found))
            first.add(int(found[0]))
            longest = max(longest, len(found))
    bits, slots = np.zeros(_BITS // 64, np.uint64), np.zeros(1 << max(4, (3 * len(hashes)).bit_length()), np.uint64)
    for value in first:
        bits[value % _BITS // 64] |= np.uint64(1 << (value % 64))
    for value in sorted(hashes):
        at = value % len(slots)
        while slots[at]:
            at = (at + 1) % len(slots)
        slots[at] = value
    return WordList(bits, slots, longest)


@numba.njit(numba.uint64(numba.uint64, numba.uint64), nogil=True, cache=True, inline="always")
def _joined(run: Any, token: Any) -> Any:
    return mixed(run * _FACTOR + token) | np.uint64(1)


@numba.njit(numba.uint64(numba.uint64[::1]), nogil=True, cache=True)
def _run(found: Any) -> Any:
    value = np.uint64(0)
    for token in found:
        value = _joined(value, token)
    return value


def _run_hash(found: np.ndarray) -> int:
    return int(_run(np.ascontiguousarray(found)))


def count(words: WordList, data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(phrases found int64[texts], words int64[texts]) of each text, whose case is folded."""
    texts = len(offsets) - 1
    hits, totals = np.zeros(texts, np.int64), np.zeros(texts, np.int64)
    if texts:
        _count(data, offsets, properties(), words.bits, words.slots, max(words.longest, 1), hits, totals)
    return hits, totals


@numba.njit(
    numba.void(DATA, OFFSETS, TABLE, numba.uint64[::1], numba.uint64[::1], numba.int64, numba.int64[::1], numba.int64[::1]),
    nogil=True,
    cache=True,
)
def _count(data: Any, offsets: Any, table: Any, bits: Any, slots: Any, longest: Any, hits: Any, totals: Any) -> None:
    mask = np.uint64(len(slots) - 1)
    ahead, words = np.empty(LONGEST, np.uint64), np.empty(LONGEST, np.int64)  # the next tokens, and which of them are words
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        held, over = 0, False
        while True:
            while held < longest and not over:
                kind, at, value = next_token(data, at, end, table, 0, False)
                if kind == END:
                    over = True
                elif kind != LINE:  # a phrase may go on in the next line
                    ahead[held], words[held] = value, kind == WORD
                    held += 1
            if held == 0:
                break
            taken = 1
            bit = ahead[0] & np.uint64((len(bits) << 6) - 1)
            if (bits[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
                run, best = np.uint64(0), 0
                for n in range(held):
                    run = _joined(run, ahead[n])
                    slot = run & mask
                    while slots[slot] != 0:
                        if slots[slot] == run:
                            best = n + 1
                            break
                        slot = (slot + np.uint64(1)) & mask
                if best:
                    hits[text] += 1
                    taken = best
            for n in range(taken):
                totals[text] += words[n]
            for n in range(taken, held):
                ahead[n - taken], words[n - taken] = ahead[n], words[n]
            held -= taken
