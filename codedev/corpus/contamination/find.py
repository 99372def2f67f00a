"""Questions in documents, with evidence.

A document holds a question when of the question's tokens, by weight, a share of `bound(tokens, min_overlap)` lies in n-grams that a stretch
of it has: all of a question of at most PERFECT tokens, `min_overlap` of one of at least RELAXED, in proportion between. `score` says the
same with one number for all lengths: it is at least `min_overlap` exactly where the overlap is at least the bound. Of the distinct numbers
of the question NUMBERS are to be in that stretch: with other numbers it is another question.

Where a question says little by itself, CONTEXT of the distinct pairs of tokens of its passage and choices are to stand near that stretch
too: for a question of fewer than PERFECT tokens that has choices, for one with a passage, and where several questions begin with the same
words.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev.corpus.buffers import text_buffers
from codedev.corpus.contamination.config import FLOOR, Matching
from codedev.corpus.contamination.texts import Texts
from codedev.kernels import contamination as kernel

VERSION = 1  # of what counts as seen
PERFECT, RELAXED = 16, 32  # tokens; decon has 20 and 50. On real text no false match lies between the two
NUMBERS = 0.75
CONTEXT = 0.8
TRIES = 256  # a document may repeat the words that a question begins with without end: so often its context is looked for
SHOWN = 400  # characters of each side in the evidence
_SPREAD = 3  # a context of n bytes lies within this many times n of the stretch, and NEAR more
_NEAR = 512

FOUND = pa.schema(
    [
        ("row", pa.int64()),  # of the batch
        ("question", pa.int32()),  # row of Texts.questions
        ("part", pa.string()),  # question, program
        ("score", pa.float32()),
        ("overlap", pa.float32()),  # of the text's tokens, by weight
        ("context", pa.float32()),  # share of the context's pairs that stand near; null where none is needed
        ("start", pa.int64()),  # bytes of the document
        ("end", pa.int64()),
        ("found", pa.string()),  # the first SHOWN characters of that stretch
        ("asked", pa.string()),  # and of what of the question was met there
    ]
)


def ease(tokens: np.ndarray) -> np.ndarray:
    """The share of an overlap that counts for nothing: 1 up to PERFECT tokens, 0 from RELAXED on."""
    return np.clip((RELAXED - tokens) / (RELAXED - PERFECT), 0.0, 1.0)


def bound(tokens: int, min_overlap: float) -> float:
    """The overlap that a question of so many tokens needs."""
    free = float(ease(np.array(tokens)))
    return free + (1 - free) * min_overlap


def scores(overlap: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    free = ease(tokens)
    return np.where(overlap >= 1, 1.0, np.maximum(overlap - free, 0) / np.maximum(1 - free, 1e-9))


class _Match(NamedTuple):
    row: int
    question: int
    part: str
    score: float
    overlap: float
    context: float | None
    start: int
    end: int
    found: str
    asked: str


def find(texts: Texts, documents: pa.Array, matching: Matching) -> pa.Table:
    """FOUND of a large_string array: of each document, question and part the best match, of equals the first, in the order of row,
    question and part. Matches of a score below FLOOR are none. A Python loop over matches alone, 0.1 ms each."""
    if texts.lookup is None or not len(documents):
        return FOUND.empty_table()
    data, offsets = text_buffers(documents)
    hits = kernel.scan(texts.lookup, data, offsets, matching.step, matching.max_misses, FLOOR)
    score = scores(hits.overlap, texts.lookup.lengths[hits.text])
    best: dict[tuple[int, int, str], _Match] = {}
    tries: Counter[tuple[int, int, str]] = Counter()
    for hit in np.flatnonzero(score >= FLOOR).tolist():
        row, text, start, end = int(hits.row[hit]), int(hits.text[hit]), int(hits.start[hit]), int(hits.end[hit])
        begin, stop = int(offsets[row]), int(offsets[row + 1])
        if len(numbers := texts.numbers[text]) and score[hit] < 1 and _share(numbers, data, start, end) < NUMBERS:
            continue
        for owner in texts.owners[text]:
            place = (row, owner.question, owner.part)
            if (place in best and best[place].score >= score[hit]) or tries[place] >= TRIES:
                continue
            tries[place] += len(owner.context) > 0
            share = _beside(owner.context, data, start, end, begin, stop) if len(owner.context) else None
            if share is not None and share < CONTEXT:
                continue
            found = _shown(data[start:end].tobytes())
            asked = _shown(texts.bytes[int(hits.first[hit]) : int(hits.last[hit])])
            overlap = float(hits.overlap[hit])
            best[place] = _Match(
                row, owner.question, owner.part, float(score[hit]), overlap, share, start - begin, end - begin, found, asked
            )
    rows = [best[place] for place in sorted(best)]
    columns = zip(*rows, strict=True) if rows else [[] for _ in FOUND]
    return pa.Table.from_arrays([pa.array(column, field.type) for column, field in zip(columns, FOUND, strict=True)], schema=FOUND)


def _beside(context: np.ndarray, data: np.ndarray, start: int, end: int, begin: int, stop: int) -> float:
    """The share of the context that the document has near data[start:end]. A token is taken for 8 bytes."""
    reach = _SPREAD * 8 * len(context) + _NEAR
    return _share(context, data, max(begin, start - reach), min(stop, end + reach))


def _share(wanted: np.ndarray, data: np.ndarray, start: int, end: int) -> float:
    """Of distinct tokens, or pairs of them, the share that data[start:end] has."""
    there, _, _ = kernel.tokens(data, np.array([start, end], np.int64))
    there = np.concatenate([there, kernel.pairs(there)])
    at = np.minimum(np.searchsorted(wanted, there), len(wanted) - 1)  # `wanted` is in order
    return float(np.count_nonzero(np.bincount(at[wanted[at] == there])) / len(wanted))


def _shown(text: bytes) -> str:
    return text[: 4 * SHOWN].decode("utf-8", "replace").strip()[:SHOWN]
