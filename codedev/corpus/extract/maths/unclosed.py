"""What a `math` element that was never closed holds besides its formula: the rest of a paragraph, or of the page.

A parser ends `math` where an element of HTML begins that breaks out of it; text, links and sections do not, and in a token (`<mi>`) or in
`<m:math>`, which is no MathML to a parser of HTML, nothing does. What begins with three words in a row, or with an element that has no
place in a formula, is taken out again. Only the last of an element's children can be unclosed, so that the search is one path down.
So is a word behind all elements of `math`. Does not find one or two words elsewhere: they stay in the formula as text.
"""

from __future__ import annotations

import re
from typing import Any

_WORDS = re.compile(r"(?:[^\W\d_]{2,}[,;:.]?\s+){2}[^\W\d_]{2,}")
_WORD = re.compile(r"[^\W\d_]{2}")
_ALIEN = frozenset(
    "p div table tbody tr td th ul ol li dl dd dt h1 h2 h3 h4 h5 h6 pre blockquote hr center section article main aside header footer nav "
    "form input button label select textarea figure figcaption iframe video audio canvas details summary address fieldset body html".split()
)
_ALIEN_TAG = re.compile(rf"<(?:{'|'.join(sorted(_ALIEN))})[ >]")
_NAMES = frozenset(("mi", "mn", "mo"))  # tokens that hold no sentence
_PROSE_HOLDERS = frozenset(("mtext", "ms"))
_CLOSED = frozenset(("annotation", "annotation-xml"))
_DEEPEST = 200


def swallowed(element: Any) -> list[Any]:
    """Takes the nodes that are no part of the formula out of `element`, and returns them in their order."""
    source = element.html
    if not _WORDS.search(element.text or "") and not _ALIEN_TAG.search(source):
        end = source.rfind("</")
        last = source.rfind(">", 0, end) + 1
        if not _WORD.search(source, last, max(last, end)) or source.count("<") == 2:
            return []
        return _taken(element.child_nodes[-1:])
    around = element
    for _ in range(_DEEPEST):
        tag = _local(around)
        children = around.child_nodes[:]
        for index, child in enumerate(children):
            if child.tag == "#text":
                text = child.value or ""
                if tag in _PROSE_HOLDERS or not _WORDS.search(text):
                    continue
                if tag in _NAMES:
                    name, rest = _split(text)
                    child.value = name
                    if not rest:
                        continue
                    child.after(element.owner_document.create_text_node(rest))
                    return _taken(around.child_nodes[index + 1 :])
                return _taken(children[index:])
            if child.tag.lower() in _ALIEN or (child.tag.lower() == "a" and tag not in _PROSE_HOLDERS and _WORDS.search(child.text or "")):
                return _taken(children[index:])
        elements = [child for child in children if child.tag[:1] != "#"]
        if not elements or _local(elements[-1]) in _CLOSED:
            return []
        around = elements[-1]
    return []


def _local(element: Any) -> str:
    return str(element.tag).lower().rpartition(":")[2]


def _split(text: str) -> tuple[str, str]:
    """A name, and what follows it behind a blank."""
    found = re.match(r"\s*\S{0,40}", text)
    end = found.end() if found else 0
    return text[:end], text[end:]


def _taken(nodes: list[Any]) -> list[Any]:
    for node in nodes:
        node.remove()
    return nodes
