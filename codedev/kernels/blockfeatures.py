"""What a model is told of each block of a page: 0.05 ms for a page of 170 blocks.

Its own text and element, the elements around it and their share of the page, the blocks before and behind, how often its shape and its
text come again, and where it lies beside the densest part of the page. `FEATURES` names the columns.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.htmlblocks import (
    BARS,
    BREAKS,
    CAPITALISED,
    CHARS,
    CODE,
    COMMAS,
    DIGITS,
    ELEMENT_MARKS,
    EMPHASIS,
    FIRST,
    FOREIGN,
    IMAGES,
    INPUTS,
    LAST,
    LINK_CHARS,
    LINK_WORDS,
    LINKS,
    LONGEST,
    MATH,
    PLACES,
    SENTENCES,
    SHORT,
    TEXT_MARKS,
    WORDS,
    Blocks,
)  # fmt: skip
from codedev.kernels.htmltape import INLINE, TAG, Tape

_N_ELEMENT, _N_TEXT, _N_PLACES = len(ELEMENT_MARKS), len(TEXT_MARKS), len(PLACES)
_FAR = 20  # how far a mark is that is nowhere above
_ATTRIBUTE_PLACES = ("hidden", "aria_hidden", "article_body", "role_main")
_OFFSETS = (-3, -2, -1, 1, 2, 3)
_LEVELS = 4

FEATURES = (
    *("tag", "heading", "words", "chars", "link_share", "links", "link_words", "word_length", "longest", "capitalised", "digits", "commas"),
    *("sentences", "emphasis", "code", "math", "breaks", "images", "inputs", "first", "last", "foreign", "short", "bars", "paragraph"),
    *("depth", "index", "from_end", "position", "words_before", "same_text", "same_shape", "shape_words", "shape_links", "shape_share"),
    *("is_title", "from_heading", "from_first", "from_last", "in_core9", "in_core7", "in_core5", "steps_to_core", "in_top", "steps_to_top"),
    *("score1", "score2", "article_share", "articles"),
    *(f"{name}{level}" for level in range(1, _LEVELS + 1) for name in ("words", "link_share", "blocks", "share", "mean", "place", "tag")),
    *(f"{name}{offset:+}" for offset in _OFFSETS for name in ("words", "link_share", "tag", "near", "same_shape")),
    *("page_blocks", "page_words", "page_link_share", "page_paragraphs", "page_longest"),
    *(f"in_{name}" for name in (*PLACES, *_ATTRIBUTE_PLACES)),
    *(f"mark_{group.split()[0].strip('^')}" for group in ELEMENT_MARKS),
    *(f"says_{group.split()[0].strip('^')}" for group in TEXT_MARKS),
)
_HEADINGS = np.zeros(256, np.int64)
for _level in range(1, 7):
    _HEADINGS[TAG[f"h{_level}"]] = _level
_ARTICLE = TAG["article"]

_u8, _i32, _u64 = numba.uint8[::1], numba.int32[::1], numba.uint64[::1]
_counts, _table = numba.int32[:, ::1], numba.float32[:, ::1]


@numba.njit(inline="always")
def _meets(other: Any, parent: Any, after: Any) -> Any:
    """Of each node, the innermost element around it that `other` is in too, itself included."""
    nodes = len(parent)
    meets = np.zeros(nodes, np.int32)
    for node in range(1, nodes):
        meets[node] = node if node <= other < after[node] else meets[parent[node]]
    return meets


@numba.njit(numba.void(_u64, _i32), nogil=True, cache=True)
def _groups(keys: Any, group: Any) -> None:
    """The number of the first equal key, for each."""
    n = len(keys)
    size, bits = 16, 4
    while size < 2 * n:
        size, bits = 2 * size, bits + 1
    slots = np.full(size, -1, np.int32)
    for i in range(n):
        # the upper bits, which depend on all of the key: the lower ones of such keys are easily made equal
        slot = ((keys[i] ^ keys[i] >> numba.uint64(32)) * numba.uint64(0x9E3779B97F4A7C15)) >> numba.uint64(64 - bits)
        while slots[slot] >= 0 and keys[slots[slot]] != keys[i]:
            slot = (slot + numba.uint64(1)) % numba.uint64(size)
        if slots[slot] < 0:
            slots[slot] = i
        group[i] = slots[slot]


@numba.njit(
    numba.void(_u8, _i32, _i32, _i32, _i32, _i32, _counts, _u64, _u64, _u64, _u64, _u64, _u64, numba.int64, _table),
    nogil=True,
    cache=True,
)
def _features(
    tag: Any, parent: Any, after: Any, depth: Any, first: Any, element: Any, counts: Any, text_marks: Any, hashes: Any, marks: Any,
    places: Any, shape: Any, titles: Any, start: int, out: Any,
) -> None:  # fmt: skip
    nodes, n = len(tag), len(first)
    if n == 0:
        return
    above = np.zeros(nodes, np.int32)  # the block-level element around each; 0 at the top
    for node in range(1, nodes):
        up = parent[node]
        above[node] = above[up] if INLINE[tag[up]] else up
    # what each element holds
    e_words, e_links, e_blocks = np.zeros(nodes, np.float32), np.zeros(nodes, np.float32), np.zeros(nodes, np.float32)
    e_para, score = np.zeros(nodes, np.float32), np.zeros(nodes, np.float32)
    link_share, para = np.zeros(n, np.float32), np.zeros(n, np.bool_)
    before = np.zeros(n + 1, np.float64)
    longest_block, paragraphs = 0, 0
    for b in range(n):
        words = numba.float32(counts[b, WORDS])
        before[b + 1] = before[b] + words
        link_share[b] = counts[b, LINK_CHARS] / max(1, counts[b, CHARS])
        para[b] = words >= 12 and link_share[b] < 0.35 and counts[b, SENTENCES] + counts[b, COMMAS] > 0
        e = element[b]
        e_words[e] += words
        e_links[e] += counts[b, LINK_WORDS]
        e_blocks[e] += 1
        longest_block = max(longest_block, counts[b, WORDS])
        if para[b]:
            paragraphs += 1
            e_para[e] += words
            gain = 1 + counts[b, COMMAS] + min(3, words / 20)
            up = above[e]
            score[up] += gain
            score[above[up]] += gain / 2
    articles = 0
    for node in range(nodes - 1, 0, -1):
        if tag[node] == 0:
            continue
        up = parent[node]
        e_words[up] += e_words[node]
        e_links[up] += e_links[node]
        e_blocks[up] += e_blocks[node]
        e_para[up] += e_para[node]
        articles += tag[node] == _ARTICLE
    total, total_para = max(e_words[0], 1), max(e_para[0], 1)
    best, top = numba.float32(1e-9), 0
    for node in range(1, nodes):
        score[node] *= 1 - e_links[node] / max(e_words[node], 1)
        if score[node] > best:
            best, top = score[node], node
    # the smallest elements that hold so much of the paragraphs
    core = np.zeros(3, np.int64)
    for level in range(3):
        share = 0.9 if level == 0 else (0.7 if level == 1 else 0.5)
        here, moved = 0, True
        while moved:
            moved = False
            child = here + 1
            while child < after[here]:
                if e_para[child] >= share * total_para:
                    here, moved = child, True
                    break
                child = after[child]
        core[level] = here
    at_core, at_top = _meets(core[2], parent, after), _meets(top, parent, after)
    heading, first_para, last_para = -1, -1, -1
    for b in range(n):
        if heading < 0 and _HEADINGS[tag[element[b]]] == 1:
            heading = b
        if para[b] and core[2] <= first[b] < after[core[2]]:
            if first_para < 0:
                first_para = b
            last_para = b
    # shapes and texts that come again
    shapes = np.empty(n, np.uint64)
    for b in range(n):
        shapes[b] = shape[element[b]]
    same_shape, same_text = np.empty(n, np.int32), np.empty(n, np.int32)
    _groups(shapes, same_shape)
    _groups(hashes, same_text)
    shape_count, shape_words, shape_links = np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32)
    text_count = np.zeros(n, np.float32)
    for b in range(n):
        g = same_shape[b]
        shape_count[g] += 1
        shape_words[g] += counts[b, WORDS]
        shape_links[g] += counts[b, LINK_WORDS]
        text_count[same_text[b]] += 1
    # the element of an <article> around, by its share of the paragraphs
    article_share = np.zeros(nodes, np.float32)
    for node in range(1, nodes):
        article_share[node] = e_para[node] / total_para if tag[node] == _ARTICLE else article_share[parent[node]]
    seen_at = np.empty(64, np.float32)
    for row in range(len(out)):
        b = start + row
        e = element[b]
        words, chars = numba.float32(counts[b, WORDS]), numba.float32(max(1, counts[b, CHARS]))
        g = same_shape[b]
        k = 0
        out[row, 0], out[row, 1], out[row, 2], out[row, 3] = tag[e], _HEADINGS[tag[e]], words, chars
        out[row, 4], out[row, 5], out[row, 6], out[row, 7] = link_share[b], counts[b, LINKS], counts[b, LINK_WORDS], chars / max(words, 1)
        out[row, 8], out[row, 9], out[row, 10] = counts[b, LONGEST], counts[b, CAPITALISED] / max(words, 1), counts[b, DIGITS] / chars
        out[row, 11], out[row, 12], out[row, 13] = counts[b, COMMAS] / max(words, 1), counts[b, SENTENCES], counts[b, EMPHASIS] / chars
        out[row, 14], out[row, 15], out[row, 16] = counts[b, CODE] / chars, counts[b, MATH], counts[b, BREAKS]
        out[row, 17], out[row, 18], out[row, 19], out[row, 20] = counts[b, IMAGES], counts[b, INPUTS], counts[b, FIRST], counts[b, LAST]
        out[row, 21], out[row, 22], out[row, 23] = counts[b, FOREIGN] / chars, counts[b, SHORT] / max(words, 1), counts[b, BARS]
        out[row, 24] = para[b]
        out[row, 25], out[row, 26], out[row, 27], out[row, 28] = depth[e], b, n - b, b / n
        out[row, 29], out[row, 30], out[row, 31] = before[b] / total, text_count[same_text[b]], shape_count[g]
        out[row, 32], out[row, 33] = shape_words[g] / shape_count[g], shape_links[g] / max(1, shape_words[g])
        out[row, 34] = shape_words[g] / total
        is_title = False
        for title in titles:
            is_title = is_title or title == hashes[b]
        out[row, 35] = is_title
        out[row, 36] = b - heading if heading >= 0 else -999
        out[row, 37] = b - first_para if first_para >= 0 else -999
        out[row, 38] = b - last_para if first_para >= 0 else -999
        for level in range(3):
            out[row, 39 + level] = core[level] <= first[b] < after[core[level]]
        up = at_core[e]
        out[row, 42] = depth[e] - depth[up] if out[row, 41] else -depth[core[2]] + depth[up] - 1
        out[row, 43] = top <= first[b] < after[top]
        up = at_top[e]
        out[row, 44] = depth[e] - depth[up] if out[row, 43] else -depth[top] + depth[up] - 1
        up = above[e]
        out[row, 45], out[row, 46] = score[up] / best, score[above[up]] / best
        out[row, 47], out[row, 48] = article_share[e], articles
        k = 49
        up = e
        for _ in range(_LEVELS):
            up = above[up]
            out[row, k], out[row, k + 1] = e_words[up], e_links[up] / max(e_words[up], 1)
            out[row, k + 2], out[row, k + 3], out[row, k + 4] = e_blocks[up], e_para[up] / total_para, e_words[up] / max(e_blocks[up], 1)
            out[row, k + 5] = (first[b] - up) / max(after[up] - up, 1)
            out[row, k + 6] = tag[up]
            k += 7
        for offset in _OFFSETS:
            other = b + offset
            if 0 <= other < n:
                out[row, k], out[row, k + 1], out[row, k + 2] = counts[other, WORDS], link_share[other], tag[element[other]]
                out[row, k + 3] = above[element[other]] == above[e]
                out[row, k + 4] = same_shape[other] == g
            else:
                out[row, k], out[row, k + 1], out[row, k + 2], out[row, k + 3], out[row, k + 4] = -1, -1, -1, -1, -1
            k += 5
        out[row, k], out[row, k + 1], out[row, k + 2] = n, total, e_links[0] / total
        out[row, k + 3], out[row, k + 4] = paragraphs, longest_block
        k += 5
        place = places[first[b]]
        for bit in range(_N_PLACES):
            out[row, k + bit] = (place >> numba.uint64(bit)) & numba.uint64(1)
        k += _N_PLACES
        for bit in range(4):
            out[row, k + bit] = (place >> numba.uint64(60 + bit)) & numba.uint64(1)
        k += 4
        for bit in range(_N_ELEMENT):
            seen_at[bit] = _FAR
        known = numba.uint64(0)
        up, steps = parent[first[b]], 0
        while up > 0 and steps < _FAR:
            new = marks[up] & ~known
            known |= new
            bit = 0
            while new:
                if new & numba.uint64(1):
                    seen_at[bit] = steps
                new >>= numba.uint64(1)
                bit += 1
            up = parent[up]
            steps += 1
        for bit in range(_N_ELEMENT):
            out[row, k + bit] = seen_at[bit]
        k += _N_ELEMENT
        for bit in range(_N_TEXT):
            out[row, k + bit] = (text_marks[b] >> numba.uint64(bit)) & numba.uint64(1)


def features(tape: Tape, blocks: Blocks, titles: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
    """float32[blocks, FEATURES], 1 kB a block; of those from `start` to `stop` alone, at the cost of looking through the page once more.
    `titles`: uint64, hashes of what the page's title may call its heading."""
    out = np.empty((len(blocks.first[start:stop]), len(FEATURES)), np.float32)
    _features(
        tape.tag, tape.parent, tape.after, tape.depth, blocks.first, blocks.element, blocks.counts, blocks.text_marks, blocks.hashes,
        blocks.marks, blocks.places, blocks.shape, titles, start, out,
    )  # fmt: skip
    return out
