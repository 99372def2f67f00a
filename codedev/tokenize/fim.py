"""Fill in the middle: a document's text told as prefix, suffix, middle, so that a model learns to write what stands between.

Bavarian et al. 2022 (arXiv 2207.14255): the text is cut at two places drawn uniformly from its characters; PSM writes prefix, suffix,
middle, SPM suffix, prefix, middle, the last two as one text. What is drawn depends on the seed and the document's id alone.
A text longer than a row would lose its order when it is cut: it is cut first, and each piece drawn for by itself.
"""

from __future__ import annotations

import numpy as np

from codedev.tokenize.hashing import mix
from codedev.tokenize.layout import TEXT, Span
from codedev.tokenize.markers import Fim
from codedev.tokenize.recipe import FimRecipe

_APPLY, _ORDER, _FIRST, _SECOND = 0x66696D30, 0x66696D31, 0x66696D32, 0x66696D33
MARKS = 3  # special tokens of a transformed text, beside those of every document
SLACK = 13  # tokens that cutting inside of words may add


def draws(hashes: np.ndarray, seed: int, piece: np.ndarray) -> np.ndarray:
    """float64[documents, 4] in [0, 1): is it transformed, which order, the two cuts. Of the hash of an id and the number of the piece."""
    base = mix(hashes ^ mix(piece.astype(np.uint64), seed), seed)
    return np.stack([mix(base, purpose).astype(np.float64) / 2.0**64 for purpose in (_APPLY, _ORDER, _FIRST, _SECOND)], axis=1)


def spans(data: np.ndarray, begin: int, end: int, drawn: np.ndarray, recipe: FimRecipe, ids: Fim) -> list[Span] | None:
    """The text data[begin:end] (UTF-8, whole characters) in the order it is told; None where it stays as it is."""
    if drawn[0] >= recipe.rate:
        return None
    first, second = sorted(_place(data, begin, end, share) for share in drawn[2:])
    if drawn[1] < recipe.spm:
        told = [Span(ids.prefix), Span(ids.suffix), Span(TEXT, second, end), Span(ids.middle), Span(TEXT, begin, second)]
    else:
        told = [Span(ids.prefix), Span(TEXT, begin, first), Span(ids.suffix), Span(TEXT, second, end), Span(ids.middle)]
        told.append(Span(TEXT, first, second))
    return [span for span in told if span.what != TEXT or span.end > span.begin]


def _place(data: np.ndarray, begin: int, end: int, share: float) -> int:
    """The byte at which the share of the text's characters ends; every border of characters is as likely, both ends included."""
    text = data[begin:end]
    starts = np.flatnonzero((text & 0xC0) != 0x80)
    number = int(share * (len(starts) + 1))
    return begin + (int(starts[number]) if number < len(starts) else len(text))


def cut(data: np.ndarray, begin: int, end: int, token_bytes: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Byte spans of data[begin:end], each of at most `most` of its tokens, ended at the start of a character. `token_bytes` are those
    of its tokens."""
    ends = begin + np.cumsum(token_bytes, dtype=np.int64)
    found, at = [], begin
    while at < end:
        last = int(np.searchsorted(ends, at, "right")) + most - 1
        stop = int(ends[last]) if last < len(ends) else end
        while at < stop < end and data[stop] & 0xC0 == 0x80:
            stop -= 1
        if stop == at:  # a character of more tokens than that
            stop = int(ends[last])
            while stop < end and data[stop] & 0xC0 == 0x80:
                stop += 1
        found.append((at, stop))
        at = stop
    return found
