"""From scores to a choice of blocks: 20 µs a page.

A table of data is kept or dropped whole, and kept sooner where the text around it is; formulas are kept unless they are links or next to
impossible, and so is code near to what is kept; a heading goes with what it heads; a page of which nothing would be left keeps what comes
nearest to content.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.htmlblocks import LINK_CHARS, CHARS, MATH, WORDS, Blocks  # isort: skip
from codedev.kernels.htmltape import TAG, Tape, table_of

# Why a block was kept or dropped.
REASONS = ("score", "table", "code", "formula", "heading", "nothing better")
_SCORE, _TABLE, _CODE, _FORMULA, _HEADING, _BEST = range(6)
_T, _PRE = TAG["table"], TAG["pre"]
_HEADINGS = table_of("h1 h2 h3 h4 h5 h6")
_NEAR = 10  # blocks before or behind that may draw code with them
_LIKELY, _HEAD_LIKELY = 0.05, 0.35  # the least score of code and formulas, which frames of pages seldom hold, and of headings
_TABLE_LIKELY = 0.2  # and of a table beside what is kept, on average
_LEAST_WORDS, _WEAK = 25, 0.4  # a page that keeps fewer words lowers the bar to this share of it


@numba.njit(nogil=True, cache=True)
def _keep_nearest(counts: Any, scores: Any, threshold: float, is_empty: bool, keep: Any, reason: Any) -> None:
    """Keep what is no link and scores best: over a lower bar, which for a page of which nothing is kept is no higher than its best."""
    best = 0.0
    for b in range(len(scores)):
        if counts[b, LINK_CHARS] * 2 < counts[b, CHARS]:
            best = max(best, numba.float64(scores[b]))
    bar = min(threshold, best) * _WEAK if is_empty else threshold * _WEAK
    for b in range(len(scores)):
        if not keep[b] and scores[b] > bar and counts[b, LINK_CHARS] * 2 < counts[b, CHARS]:
            keep[b], reason[b] = True, _BEST


@numba.njit(
    numba.void(
        numba.uint8[::1], numba.int32[::1], numba.int32[::1], numba.int32[:, ::1], numba.float32[::1], numba.float64,
        numba.boolean[::1], numba.uint8[::1],
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def _choose(tag: Any, parent: Any, element: Any, counts: Any, scores: Any, threshold: Any, keep: Any, reason: Any) -> None:
    n, nodes = len(element), len(tag)
    kept_words, words = 0, 0
    for b in range(n):
        keep[b], reason[b] = scores[b] > threshold, _SCORE
        words += counts[b, WORDS]
        if keep[b]:
            kept_words += counts[b, WORDS]
    if kept_words < _LEAST_WORDS and (words > 2 * _LEAST_WORDS or kept_words == 0):
        _keep_nearest(counts, scores, threshold, kept_words == 0, keep, reason)
    # the innermost table around each node; tables that hold tables are layout
    inside = np.zeros(nodes, np.int32)
    layout = np.zeros(nodes, np.bool_)
    for node in range(1, nodes):
        around = inside[parent[node]]
        if tag[node] == _T:
            layout[around] = True
            inside[node] = node
        else:
            inside[node] = around
    start = 0
    while start < n:
        table = inside[element[start]]
        end = start + 1
        if table == 0 or layout[table]:
            start = end
            continue
        while end < n and inside[element[end]] == table:
            end += 1
        mass, total, longest, chars, linked = 0.0, 0.0, 0, 0, 0
        for b in range(start, end):
            weight = counts[b, WORDS] + 1
            mass += weight * scores[b]
            total += weight
            longest = max(longest, counts[b, WORDS])
            chars += counts[b, CHARS]
            linked += counts[b, LINK_CHARS]
        if end - start >= 4 and longest <= 60:
            around = (start > 0 and keep[start - 1]) or (end < n and keep[end])
            kept = mass / total > (_TABLE_LIKELY if around and linked * 2 < chars else threshold)
            for b in range(start, end):
                if keep[b] != kept:
                    keep[b], reason[b] = kept, _TABLE
        start = end
    for b in range(n):
        if keep[b] or scores[b] < _LIKELY:
            continue
        if counts[b, LINK_CHARS] * 2 > counts[b, CHARS]:
            continue
        if counts[b, MATH]:
            keep[b], reason[b] = True, _FORMULA
        elif tag[element[b]] == _PRE:
            for other in range(max(0, b - _NEAR), min(n, b + _NEAR + 1)):
                if keep[other] and counts[other, WORDS] >= 3:
                    keep[b], reason[b] = True, _CODE
                    break
    for b in range(n - 1, -1, -1):
        if not _HEADINGS[tag[element[b]]] or keep[b] or scores[b] < _HEAD_LIKELY:
            continue
        if b + 1 < n and keep[b + 1] and not _HEADINGS[tag[element[b + 1]]]:
            keep[b], reason[b] = True, _HEADING
    for b in range(n):
        if keep[b]:
            return
    _keep_nearest(counts, scores, threshold, True, keep, reason)  # all there was stood in tables that were dropped


def choose(tape: Tape, blocks: Blocks, scores: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """(bool[blocks] kept, uint8[blocks] why: an index into REASONS)."""
    keep, reason = np.empty(len(scores), np.bool_), np.empty(len(scores), np.uint8)
    _choose(tape.tag, tape.parent, blocks.element, blocks.counts, scores, threshold, keep, reason)
    return keep, reason
