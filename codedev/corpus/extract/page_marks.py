"""Authors and dates by the marks that elements carry: microdata, rel, classes, time.

Cost: 5 µs a mark that is looked at, of which there are at most 200. Of a mark only the first 40 nodes are read, so that marks inside each
other cost no more than others. Does not look at marks in comments, teasers and side columns, where their classes say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from codedev.corpus.extract import page_dates
from codedev.corpus.extract.page_jsonld import words
from codedev.corpus.extract.page_nodes import Nodes
from codedev.kernels import htmlfind
from codedev.kernels.htmltape import TAG

_MOST, _MOST_SHOWN = 200, 10
_LEVELS = 8  # of parents that tell what a mark belongs to

_BYLINE = re.compile(
    r"(?:\A|[\s_-])(?:byline|by-line|author|authors|autor|auteur|vcard|p-author|author[-_]*(?:name|link|title|info|meta)|"
    r"(?:post|entry|article|meta|story|news|blog|article-meta|content)[-_]{1,2}(?:author|byline|autor)(?:[-_]{1,2}(?:name|link))?)(?=\s|\Z)",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(
    r"comment|kommentar|related|recommend|sidebar|footer|widget|recent|popular|teaser|promo|reply|respon|avatar|quote", re.IGNORECASE
)
# Of names in lower case.
_PUBLISHING = re.compile(r"publish|posted|pubdate|created|entry-?date|post-?date|article-?date|dateline|date-?time|timestamp|issued")
_CHANGING = re.compile(r"modif|updat|changed|revis")
_DATE = re.compile(r"(?<!up)(?<!vali)(?:date|datum|fecha)")


class Mark(NamedTuple):
    node: int
    told: dict[str, str]  # its attributes
    names: str  # by which it is a date


def found(nodes: Nodes, wanted: int) -> list[int]:
    """The body's elements of which one of htmlfind's bits `wanted` holds, in the document's order."""
    body = nodes.first(htmlfind.BODY)
    if body is None:
        return []
    behind = nodes.after[body]
    return [node for bits, node in nodes.marked if bits & wanted and body < node < behind]


def marks(nodes: Nodes, wanted: int) -> list[Mark]:
    """The first of them with what they say."""
    told = ((node, nodes.attributes(node)) for node in found(nodes, wanted)[:_MOST])
    return [Mark(node, attributes, _names(attributes)) for node, attributes in told]


def bylines(nodes: Nodes, marks: list[Mark]) -> Iterator[list[str]]:
    """What the first mark of each sort shows, the surest sort first."""
    for shows in (_is_item, _is_rel, _is_byline):
        yield [*_shown(nodes, marks, shows)]


def _is_item(told: dict[str, str]) -> bool:
    return "author" in told.get("itemprop", "").lower()


def _is_rel(told: dict[str, str]) -> bool:
    return "author" in told.get("rel", "").lower()


def _is_byline(told: dict[str, str]) -> bool:
    return _BYLINE.search(told.get("class", "")[:500]) is not None


_NOT_SHOWN = frozenset({"body", "img", "form", "article", "main", "meta", "time", "script"})
_BODY, _TIME = TAG["body"], TAG["time"]
_SIDES = frozenset(TAG[name] for name in ("aside", "footer", "nav"))


def _shown(nodes: Nodes, marks: list[Mark], shows: Callable[[dict[str, str]], bool]) -> Iterator[str]:
    found = (mark for mark in marks if shows(mark.told) and nodes.name(mark.node) not in _NOT_SHOWN and not _is_elsewhere(nodes, mark.node))
    for _, mark in zip(range(_MOST_SHOWN), found, strict=False):
        named = _named(nodes, mark.node) if mark.told.get("itemprop") else None
        text = nodes.text(mark.node if named is None else named) or (words(nodes.attributes(named).get("content", "")) if named else "")
        if text and len(text) < 200:
            yield text
            return


def _named(nodes: Nodes, mark: int) -> int | None:
    """The element in it that holds its name."""
    behind = nodes.after[mark]
    return next((node for bits, node in nodes.marked if bits & htmlfind.NAME and mark < node < behind), None)


def _is_elsewhere(nodes: Nodes, mark: int) -> bool:
    at = mark
    for _ in range(_LEVELS):
        if at <= 0 or nodes.tag[at] == _BODY:
            return False
        if nodes.tag[at] in _SIDES:
            return True
        told = nodes.attributes(at)
        if _ELSEWHERE.search(f"{told.get('class', '')} {told.get('id', '')}"[:500]):
            return True
        at = nodes.parent[at]
    return False


def published(nodes: Nodes, marks: list[Mark]) -> list[str]:
    """Dates by their marks: microdata, then a publication's, then a date's; the first on the page of each."""
    ranked: list[tuple[int, str]] = []
    for mark in marks:
        rank = _rank(nodes, mark)
        if rank is None or any(rank >= known for known, _ in ranked) or _CHANGING.search(mark.names):
            continue
        if (value := _date(nodes, mark)) and not _is_elsewhere(nodes, mark.node):
            ranked.append((rank, value))
    return [value for _, value in sorted(ranked)]


def _rank(nodes: Nodes, mark: Mark) -> int | None:
    if "datepublished" in mark.names:
        return 0
    if _PUBLISHING.search(mark.names):
        return 1
    if nodes.tag[mark.node] == _TIME:
        return 2
    return 3 if _DATE.search(mark.names) else None


def changed(nodes: Nodes, marks: Iterable[Mark]) -> Iterator[str | None]:
    """Dates whose marks speak of a change."""
    for mark in marks:
        if _CHANGING.search(mark.names):
            yield _date(nodes, mark)


def _names(told: dict[str, str]) -> str:
    said = (told.get("itemprop"), told.get("class"), "pubdate" if "pubdate" in told else None)
    return " ".join(name for name in said if name)[:500].lower()


def _date(nodes: Nodes, mark: Mark) -> str | None:
    """What a mark says as a date; a long text is none."""
    for name in ("datetime", "content", "title"):
        if date := page_dates.iso(mark.told.get(name)):
            return date
    text = nodes.text(mark.node)
    return page_dates.iso(text) if len(text) < 200 else None
