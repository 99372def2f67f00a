"""Which blocks of a page its gold holds, and how much each counts in training.

A block is as much content as the share of its 4-word shingles that the gold has: the unit of the article benchmark's metric. Of a short
block the shingles run on into its neighbours. Texts that a page repeats are content as often as the gold repeats them, where most of their
neighbours are. Pages without whole gold lend what trafilatura makes of them, at less weight, and the segments that people marked.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from codedev._errors import MissingExtraError
from codedev.corpus.extract.learn.gold import GoldPage, text_of_html

_WORD = re.compile(r"\w+")
_SHINGLE, _SHORT = 4, 8  # words
# What a page of each set weighs, and one whose gold is a tool's: what a people's gold says of a whole page is worth most.
_SETS = {"article_benchmark": 1.0, "webmainbench": 0.5, "llm_webkit": 0.5, "readability": 0.4}
_TAUGHT, _MARKED = 0.12, 0.1  # a page by trafilatura; a block by a marked segment, at least
_MOST = 0.5  # of one block


class Labels(NamedTuple):
    content: np.ndarray  # float32[blocks], 0 to 1
    weight: np.ndarray  # float32[blocks], 0 = not known


def labels(page: GoldPage, texts: Sequence[str]) -> Labels:
    """`texts`: those of the page's blocks."""
    words = [_WORD.findall(text) for text in texts]
    sizes = np.array([len(block) for block in words], np.float32)
    gold = page.text or (text_of_html(page.html_gold) if page.html_gold else None)
    if gold is not None:
        content, scale = shares(words, gold), _SETS.get(page.set, 0.4)
    else:
        content = shares(words, _taught(page.html))
        scale = _TAUGHT if len(content) and content.max() > 0.5 else 0
    weight = scale * (sizes + 1) / max(50, float(sizes[content > 0.5].sum()))
    lines = [" ".join(text.split()) for text in texts]
    for segments, is_content in ((page.must, 1), (page.must_not, 0)):
        for segment in map(" ".join, map(str.split, segments)):
            for block, line in enumerate(lines):
                if segment and segment in line:
                    content[block], weight[block] = is_content, max(1.5 * weight[block], _MARKED)
    return Labels(content, np.minimum(weight, _MOST).astype(np.float32))


def _taught(html: bytes) -> str:
    """What trafilatura takes for a page's content. MissingExtraError where it is not installed: other uses of this module need it not."""
    try:
        import trafilatura
    except ImportError:
        raise MissingExtraError("trafilatura", "learn") from None
    return trafilatura.extract(html, include_tables=True, include_comments=False) or ""


def shares(words: Sequence[Sequence[str]], gold: str) -> np.ndarray:
    """float32[blocks]: how much of each block the gold holds."""
    tokens = _WORD.findall(gold)
    known = Counter(_shingles(tokens))
    share = np.zeros(len(words), np.float32)
    for block, own in enumerate(words):
        if len(own) >= _SHINGLE:
            shingles = _shingles(own)
            share[block] = sum(shingle in known for shingle in shingles) / len(shingles)
    for turn in range(3):  # first among all blocks, then without those that parted what belongs together
        chosen = [b for b, own in enumerate(words) if own and (turn == 0 or share[b] > 0.3 or (len(own) < _SHORT and turn == 1))]
        run = [(word, block) for block in chosen for word in words[block]]
        covered = np.zeros(len(run), np.bool_)
        for start, shingle in enumerate(_shingles([word for word, _ in run])):
            if shingle in known:
                covered[start : start + _SHINGLE] = True
        hits = Counter(block for (_, block), hit in zip(run, covered, strict=True) if hit)
        for block in chosen:
            size = len(words[block])
            if size < _SHORT and (hits[block] == size or size >= _SHINGLE):
                share[block] = max(share[block], hits[block] / size)
    _once(share, words, known)
    return share


def _shingles(words: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(_SHINGLE)), strict=False))


def _once(share: np.ndarray, words: Sequence[Sequence[str]], known: Counter[tuple[str, ...]]) -> None:
    """Of equal blocks, content are as many as the gold has, those with the most content around."""
    equal: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for block, own in enumerate(words):
        if share[block] > 0.5 and len(own) >= _SHINGLE:
            equal[tuple(own)].append(block)
    mass = share * np.array([len(own) + 1 for own in words], np.float32)
    around = np.convolve(mass, np.ones(9), "same") if len(mass) >= 9 else mass
    for own, same in equal.items():
        if len(same) > 1:
            allowed = max(1, min(known[shingle] for shingle in _shingles(own)))
            for block in sorted(same, key=lambda block: -around[block])[allowed:]:
                share[block] = 0
