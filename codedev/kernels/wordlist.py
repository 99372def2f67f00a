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
    """The phrases as the kernel looks them up; case is to be folded already. 3 µs each. ValueError for one of more than LONGEST tokens."""
    chosen = list(dict.fromkeys(phrase.replace("\n", " ") for phrase in phrases))
    spelt = [phrase.encode() for phrase in chosen]
    offsets = np.zeros(len(spelt) + 1, np.int64)
    np.cumsum([len(phrase) for phrase in spelt], out=offsets[1:])
    hashes, kinds = tokens(np.frombuffer(b"".join(spelt), np.uint8), offsets)
    ends = np.flatnonzero(kinds == LINE)  # one a phrase
    starts = np.r_[0, ends[:-1] + 1][: len(ends)]
    sizes = ends - starts
    longest = int(sizes.max(initial=0))
    if longest > LONGEST:
        phrase = chosen[int(sizes.argmax())]
        raise ValueError(f"'{phrase[:80]}' is a phrase of {longest} words and marks; at most {LONGEST} are looked for")
    starts, ends = starts[sizes > 0], ends[sizes > 0]
    runs = np.empty(len(starts), np.uint64)
    _runs(hashes, starts, ends, runs)
    runs = np.unique(runs)
    bits, slots = np.zeros(_BITS // 64, np.uint64), np.zeros(1 << max(4, (3 * len(runs)).bit_length()), np.uint64)
    for value in np.unique(hashes[starts] % np.uint64(_BITS)).tolist():
        bits[value // 64] |= np.uint64(1 << (value % 64))
    _fill(runs, slots)
    return WordList(bits, slots, longest)


@numba.njit(numba.uint64(numba.uint64, numba.uint64), nogil=True, cache=True, inline="always")
def _joined(run: Any, token: Any) -> Any:
    return mixed(run * _FACTOR + token) | np.uint64(1)


@numba.njit(numba.void(numba.uint64[::1], numba.int64[::1], numba.int64[::1], numba.uint64[::1]), nogil=True, cache=True)
def _runs(hashes: Any, starts: Any, ends: Any, runs: Any) -> None:
    """The hash of each phrase."""
    for phrase in range(len(starts)):
        value = np.uint64(0)
        for at in range(starts[phrase], ends[phrase]):
            value = _joined(value, hashes[at])
        runs[phrase] = value


@numba.njit(numba.void(numba.uint64[::1], numba.uint64[::1]), nogil=True, cache=True)
def _fill(runs: Any, slots: Any) -> None:
    mask = np.uint64(len(slots) - 1)
    for value in runs:
        at = value & mask
        while slots[at] != 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = value


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
