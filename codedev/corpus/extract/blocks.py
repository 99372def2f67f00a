"""Blocks of text as markup is walked: paragraphs, headings, verse, lists, tables, and where each heading and anchor came to lie.

The walkers of HTML and TEI books (`book_html`, `tei`) share it. Text is added in pieces; `flush` ends a block. White space is as in HTML:
any run of it is one blank, line ends come from `line_break` alone, and in `verbatim` text all of it counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

MAX_DEPTH = 2_000  # elements in elements; books stay under 100


class MarkupError(ValueError):
    """Markup that is not read; `kind` as in Failure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Heading(NamedTuple):
    offset: int  # characters from the beginning of the text
    level: int
    title: str


class Text(NamedTuple):
    text: str
    headings: list[Heading]
    anchors: dict[str, int]  # id -> offset of the block that it stands in
    removed: Counter[str]  # characters left out, by part


_BREAK = "\x0b"  # a line break inside a block; no XML may hold it
_BLANKS = re.compile(r" {2,}")
_BREAKS = re.compile(rf"(?: *{_BREAK} *){{2,}}")


class Blocks:
    def __init__(self, wanted: frozenset[str] = frozenset()) -> None:
        self.removed: Counter[str] = Counter()
        self.verbatim = 0  # depth of elements whose white space counts
        self._wanted = wanted  # ids whose place is asked for
        self._pieces: list[str] = []
        self._texts: list[str] = []
        self._tight: list[bool] = []  # whether only a line end stands before the block
        self._headings: list[tuple[int, int, str]] = []
        self._anchors: dict[str, int] = {}
        self._prefix = ""  # of the next block: the mark of a list item
        self._held: list[list[str]] = []  # pieces of what surrounds a cell

    # --- inside a block

    def add(self, text: str | None) -> None:
        if text:
            self._pieces.append(text)

    def line_break(self) -> None:
        self._pieces.append(_BREAK if not self.verbatim else "\n")

    def remove(self, part: str, characters: int) -> None:
        if characters:
            self.removed[part] += characters

    def anchor(self, name: str) -> None:
        if name in self._wanted:
            self._anchors.setdefault(name, len(self._texts))

    @property
    def begun(self) -> bool:
        """Whether the block holds more than blanks so far."""
        return any(piece.strip() for piece in self._pieces)

    # --- whole blocks

    def prefix(self, mark: str) -> None:
        self._prefix = mark

    def flush(self, *, tight: bool = False, verse: bool = False) -> bool:
        """End the block; `tight` sets it under the one before without a blank line, `verse` keeps its indentation. False where empty."""
        text = self._taken(verse)
        if not text.strip():
            return False
        if self._prefix:
            text, self._prefix = self._prefix + text.strip(), ""
        self.emit(text, tight=tight)
        return True

    def heading(self, level: int) -> None:
        title = " ".join(self._taken().split())
        if title:
            self._headings.append((len(self._texts), level, title[:300]))
            self.emit("#" * min(level, 6) + " " + title)

    def emit(self, text: str, *, tight: bool = False) -> None:
        self._texts.append(text)
        self._tight.append(tight)

    def hold(self) -> None:
        """Begin a cell: what is added from now on is taken by `cell`."""
        self._held.append(self._pieces)
        self._pieces = []

    def cell(self) -> str:
        text = " ".join(self._taken().split())
        self._pieces = self._held.pop() if self._held else []
        return text

    @property
    def count(self) -> int:
        return len(self._texts)

    def text_of(self, block: int) -> str:
        return self._texts[block]

    def take_out(self, first: int, last: int, part: str) -> None:
        """Leave the blocks [first, last) out of the text; their places stay, empty."""
        for number in range(first, last):
            self.remove(part, len(self._texts[number]))
            self._texts[number] = ""
        self._headings = [heading for heading in self._headings if not first <= heading[0] < last]

    def done(self) -> Text:
        self.flush()
        offsets: list[int] = []
        pieces: list[str] = []
        at = 0
        for text, tight in zip(self._texts, self._tight, strict=True):
            if text and pieces:
                gap = "\n" if tight else "\n\n"
                pieces.append(gap)
                at += len(gap)
            offsets.append(at)
            if text:
                pieces.append(text)
                at += len(text)
        offsets.append(at)
        headings = [Heading(offsets[block], level, title) for block, level, title in self._headings]
        return Text("".join(pieces), headings, {name: offsets[block] for name, block in self._anchors.items()}, self.removed)

    def _taken(self, verse: bool = False) -> str:
        if not self._pieces:
            return ""
        text, self._pieces = "".join(self._pieces), []
        if self.verbatim:
            return "\n".join(map(str.rstrip, text.replace("\r\n", "\n").replace(_BREAK, "\n").split("\n"))).strip("\n")
        text = one_line(text)
        if _BREAK not in text and not verse:
            return text.replace("\xa0", " ").strip()
        text = _BREAKS.sub(_BREAK * 2, text)
        # No-break spaces at the beginning of a line are the indentation of verse.
        return "\n".join(line.strip(" ").replace("\xa0", " ").rstrip() for line in text.split(_BREAK)).strip("\n")


def walk(root: Any, start: Callable[[Any], bool], end: Callable[[Any], None], text: Callable[[str], None]) -> None:
    """Call back for each element and each piece of text in document order; `start` says whether to look inside, else `end` is not called.

    Raises MarkupError past MAX_DEPTH. 1 µs an element."""
    stack: list[tuple[Any, Iterator[Any]]] = []
    if start(root):
        if root.text:
            text(root.text)
        stack.append((root, iter(root)))
    while stack:
        element, children = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            end(element)
            child = element if stack else None
        elif isinstance(child.tag, str) and start(child):  # no comment, no instruction, no entity that stayed
            if len(stack) >= MAX_DEPTH:
                raise MarkupError("too_deep", f"elements are nested more than {MAX_DEPTH:,} deep")
            if child.text:
                text(child.text)
            stack.append((child, iter(child)))
            continue
        if child is not None and child.tail:
            text(child.tail)


def beginning(element: Any, size: int) -> str:
    """`visible`, or its first characters, more than `size`, where it is longer: nested elements must not cost the square of their depth."""
    pieces, found, most = [], 0, 2 * size + 100
    for piece in element.itertext():
        pieces.append(piece[:most])
        found += len(piece.strip()) if len(piece) < most else most
        if found > size:
            break
    return " ".join("".join(pieces).split())


def one_line(text: str) -> str:
    """Each run of white space as one blank; other spaces, such as those that forbid a break, stay."""
    for white in "\n\t\r\f":
        if white in text:
            text = text.replace(white, " ")
    return _BLANKS.sub(" ", text) if "  " in text else text


def visible(element: Any) -> str:
    """All text inside, one blank for each run of white space."""
    return one_line("".join(element.itertext()).replace("\xa0", " ")).strip(" ")
