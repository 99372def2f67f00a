"""Exact Jaccard similarity of texts by Python's own means: what docs/cleaning.md says of shingles, written again without codedev.

    words   runs of letters, marks and numbers, lower-cased, without combining marks, every digit counted; an ideograph or a kana is a word
    code    runs of letters, marks, numbers, _ and $ as they are written; each punctuation mark and symbol is a token of its own

A shingle is five of those in a row (all of them where there are fewer). Its 64-bit identity is an exclusive or of random numbers, one for
each token and place (tabulation hashing): of the 10^7 shingles here two fall together with a probability of 10^-5.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numba
import numpy as np

NGRAM = 5
# Written without spaces: radicals and marks, kana, bopomofo, ideographs of all planes.
_SINGLE = ((0x2E80, 0x3130), (0x31A0, 0xA000), (0xF900, 0xFB00), (0xFF66, 0xFFA0), (0x1AFF0, 0x1B170), (0x20000, 0x40000))


class _Words(dict[int, str]):
    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Mn":
            made = ""
        elif category[0] not in "LMN":
            made = " "
        elif category == "Nd":
            made = str(unicodedata.digit(character))
        elif category[0] == "L" and any(first <= code < last for first, last in _SINGLE):
            made = f" {unicodedata.normalize('NFD', character)[0]} "
        elif 0xAC00 <= code < 0xD7A4:  # a syllable of Hangul
            made = character
        else:
            made = unicodedata.normalize("NFD", character.lower()[0])[0]
        self[code] = made
        return made


class _Code(dict[int, str]):
    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)[0]
        self[code] = character if kind in "LMN" or character in "_$" else f" {character} " if kind in "PS" else " "
        return self[code]


_TABLES = {"words": _Words(), "code": _Code()}


class Shingler:
    """Gives equal shingles equal numbers, whatever text they stand in."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._random = np.random.default_rng(5).integers(1 << 64, size=(1 << 16, NGRAM), dtype=np.uint64)

    def shingles(self, text: str, unit: str) -> np.ndarray:
        """uint64[n]: sorted, each once; none of a text without a token."""
        numbers = self._numbers
        tokens = text.translate(_TABLES[unit]).split()
        ids = np.fromiter((numbers.setdefault(token, len(numbers)) for token in tokens), np.int64, len(tokens))
        while len(numbers) > len(self._random):
            more = np.random.default_rng(len(self._random)).integers(1 << 64, size=self._random.shape, dtype=np.uint64)
            self._random = np.concatenate([self._random, more])
        count = max(len(ids) - NGRAM + 1, min(len(ids), 1))
        made = np.zeros(count, np.uint64)
        for place in range(min(NGRAM, len(ids))):
            made ^= self._random[ids[place : place + count], place]
        return np.unique(made)


def shingle_sets(texts: Sequence[str], units: Sequence[str]) -> list[np.ndarray]:
    """A text of one unit has no shingle in common with one of another."""
    shinglers = {unit: Shingler() for unit in ("words", "code")}
    apart = np.uint64(1 << 63)
    low = apart - np.uint64(1)
    made = (shinglers[unit].shingles(text, unit) for text, unit in zip(texts, units, strict=True))
    return [np.unique(one & low | (apart if unit == "code" else np.uint64(0))) for one, unit in zip(made, units, strict=True)]


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)


def all_pairs(sets: Sequence[np.ndarray], least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(later int64[m], earlier int64[m], jaccard float64[m]), sorted: every pair of that similarity or more, no pair passed over.

    By an inverted index: for each document all documents before it are counted in the lists of its shingles. Time is the sum of the
    squares of those lists' lengths.
    """
    flat = np.concatenate(sets)
    sizes = np.array([len(one) for one in sets], np.int64)
    _, ids, counts = np.unique(flat, return_inverse=True, return_counts=True)
    documents = np.repeat(np.arange(len(sets)), sizes)
    shared = counts[ids] > 1
    ids, documents = ids[shared], documents[shared]
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(documents, minlength=len(sets)))])
    order = np.argsort(ids, kind="stable")
    postings = documents[order]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(ids, minlength=len(counts)))])
    later: list[np.ndarray] = []
    earlier: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    common = np.zeros(len(sets), np.int64)
    for document in range(len(sets)):
        _count(ids, bounds, postings, ends, document, common)
        met = np.flatnonzero(common[:document])
        share = common[met] / (sizes[document] + sizes[met] - common[met])
        good = share >= least
        later.append(np.full(int(good.sum()), document))
        earlier.append(met[good])
        shares.append(share[good])
    return np.concatenate(later), np.concatenate(earlier), np.concatenate(shares)


@numba.njit(nogil=True)
def _count(ids, bounds, postings, ends, document, common):  # type: ignore[no-untyped-def]  # compiled by numba
    """common[j]: the shingles that document and j < document share."""
    common[:document] = 0
    for at in range(bounds[document], bounds[document + 1]):
        for place in range(ends[ids[at]], ends[ids[at] + 1]):
            other = postings[place]
            if other >= document:
                break
            common[other] += 1


def greedy(count: int, later: np.ndarray, earlier: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(survivor int64[count], jaccard float64[count]): each in turn is dropped for the kept one that it is most like; itself = kept."""
    survivor, best = np.arange(count), np.ones(count)
    ends = np.searchsorted(later, np.arange(count + 1))
    for document in range(count):
        pairs = slice(ends[document], ends[document + 1])
        kept = survivor[earlier[pairs]] == earlier[pairs]
        if kept.any():
            at = int(np.argmax(np.where(kept, shares[pairs], -1)))
            survivor[document], best[document] = earlier[pairs][at], shares[pairs][at]
    return survivor, best
