"""Single elements of a page on its tape: their attributes and their text.

Cost: 1 µs an attribute's or a text's reading. A start tag is read up to 20,000 bytes, so that long ones around many marks cost no more than
others. Does not walk the page; which elements to read, `kernels/htmlfind.py` finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from codedev.corpus.extract.page_jsonld import words
from codedev.kernels import htmlfind
from codedev.kernels.htmltape import NAMES, OTHER, RAW, TAG, TEXT, Tape

_ATTRIBUTE = re.compile(r'([^\s"=/]++)(?:="([^"]*+)")?+')
_LONGEST_TAG = 20_000  # bytes
_LONGEST_CONTENT = 60_000  # bytes of a meta tag
_NODES = 40  # of an element, that its text is read from
_RAW = frozenset(int(number) for number in RAW.nonzero()[0])
_TEMPLATE = TAG["template"]


class Nodes:
    """A page's nodes by number, and the elements among them that say something of the page."""

    def __init__(self, tape: Tape, known: htmlfind.Names) -> None:
        self.tape = tape
        # Their numbers are read in half the time, and as Python's.
        self.data, self.tag, self.parent, self.after = tape.data.data, tape.tag.data, tape.parent.data, tape.after.data
        self.start, self.inner, self.end = tape.start.data, tape.inner.data, tape.end.data
        self.told = htmlfind.told(tape, known)
        self._alone = htmlfind.META + known.alone
        self._read: dict[int, dict[str, str]] = {}

    @cached_property
    def marked(self) -> list[list[int]]:
        return htmlfind.marked(self.tape)

    def first(self, what: int) -> int | None:
        """The first element of a kind that `htmlfind.told` tells."""
        return next((row[1] for row in self.told if row[0] == what), None)

    def named(self) -> Iterator[tuple[int, int, str]]:
        """(number, node, content) of the meta tags whose whole name is known, numbered from 0."""
        for what, node, start, end in self.told:
            if what >= self._alone:
                yield what - self._alone, node, plain(self.string(start, min(end, start + _LONGEST_CONTENT)))

    def attributes(self, node: int) -> dict[str, str]:
        known = self._read.get(node)
        if known is None:
            start = self.start[node]
            source = self.string(start + 1, min(self.inner[node], start + _LONGEST_TAG))
            known = dict(_ATTRIBUTE.findall(source))
            if "&" in source:
                known = {name: plain(value) for name, value in known.items()}
            self._read[node] = known
        return known

    def name(self, node: int) -> str:
        """Of its tag; empty where it is none of `htmltape.NAMES`."""
        number = self.tag[node]
        return NAMES[number - OTHER - 1] if number > OTHER else ""

    def string(self, start: int, end: int) -> str:
        return str(self.data[start:end], "utf-8", "replace")

    def value(self, node: int, most: int) -> str:
        """Of a text: at least its first `most` characters, if it has them, at most six times so many."""
        start, end = self.start[node], self.end[node]
        source = self.string(start, min(end, start + 6 * most))
        return plain(source) if "&" in source and self.tag[self.parent[node]] not in _RAW else source

    def script(self, node: int) -> str:
        return self.string(self.inner[node], self.end[node])

    def parts(self, node: int) -> list[str]:
        """The texts among its first nodes, each cut to 1,000 characters."""
        found = []
        tag, at, stop = self.tag, node + 1, min(self.after[node], node + 1 + _NODES)
        while at < stop:
            if tag[at] == TEXT:
                found.append(self.value(at, 1000)[:1000])
            at = self.after[at] if tag[at] == _TEMPLATE else at + 1
        return found

    def text(self, node: int) -> str:
        """The text in its first nodes."""
        return words(" ".join(self.parts(node)))


def plain(value: str) -> str:
    """`value` without the escapes that a serialised page has."""
    if "&" not in value:
        return value
    return value.replace("&nbsp;", "\xa0").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
