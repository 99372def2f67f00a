"""The short texts around a page's heading, where a visible date and byline stand.

Cost: 3 µs a node, and none is read behind the first paragraph. Does not leave the heading's surroundings, and reads no
paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from codedev.corpus.extract.page_nodes import Nodes
from codedev.kernels.htmltape import TAG, TEXT

_LONGEST = 120  # characters; longer texts are the text itself
_NAMES = ("script", "style", "noscript", "select", "svg", "template", "iframe", "form", "nav", "footer", "aside")
_SKIPPED = frozenset(TAG[name] for name in _NAMES)
_BYLINE = re.compile(
    r"(?:by|von|par|por|door|di|text|autor|autorin|author|auteur|geschrieben von|escrito por|posted by|written by|published by|"
    r"veröffentlicht von|von:|by:)(?:\s?:)?(?=\s|\Z)",
    re.IGNORECASE,
)


def near(nodes: Nodes, heading: int, behind: int, before: int) -> list[str]:
    """Short texts of so many nodes in the document's order, those behind the heading first, then those before it, nearest first."""
    return [*_texts(nodes, _following(nodes, heading), behind), *_texts(nodes, _preceding(nodes, heading), before)]


def bylines(texts: Iterable[str]) -> Iterator[str]:
    """Those that begin as a byline does, with the next text where the name is there."""
    begun = ""
    for text in texts:
        if begun:
            yield f"{begun} {text}"
            begun = ""
        elif found := _BYLINE.match(text):
            if found.end() == len(text):
                begun = text
            elif text[found.end() :].strip()[:1].isupper():
                yield text


def _texts(nodes: Nodes, walk: Iterator[int], most: int) -> Iterator[str]:
    for _, node in zip(range(most), walk, strict=False):
        if nodes.tag[node] == TEXT and (text := nodes.value(node, 4 * _LONGEST)) and not text.isspace():
            text = " ".join(text[: 4 * _LONGEST].split())
            if len(text) > 3 * _LONGEST:
                return
            if 1 < len(text) < _LONGEST:
                yield text


def _following(nodes: Nodes, node: int) -> Iterator[int]:
    tag, after, last = nodes.tag, nodes.after, len(nodes.tag)
    while (node := after[node] if tag[node] in _SKIPPED else node + 1) < last:
        yield node


def _preceding(nodes: Nodes, node: int) -> Iterator[int]:
    tag, parent = nodes.tag, nodes.parent
    while node > 1:
        around = parent[node]
        node = at = node - 1
        while at > around:  # content of what is skipped is passed over
            if tag[at] in _SKIPPED:
                node = at
            at = parent[at]
        yield node
