"""AsciiDoc of books, as GITenberg has them -> plain text with Markdown headings.

Only what such books use is read: section titles, attributes, block delimiters and attribute lines, images, a colophon. Inline marks stay.
"""

from __future__ import annotations

import re
from collections import Counter

# Possessive: a text of blanks would have as many ways to part them as there are numbers of so many bits.
_DETECT = re.compile(r"\A(?:\s++|:[\w-]+:[^\n]*\n)*+= \S[^\n]*\n")
_SECTION = re.compile(r"^==+ \S", re.MULTILINE)
_TITLE = re.compile(r"(={1,6}) (\S.*)")
_MARKS = re.compile(
    r":[\w!-]{1,40}:(?:\s.*)?|\[\[?[\w#.,=% \"':-]{0,80}\]\]?|(?:_{4,}|-{4,}|\*{4,}|={4,}|\.{4,}|\+{1,4}|'{3,}|<<<)"
    r"|v\d+(?:\.\d+){1,3}.{0,60}|//(?!/).*|image::\S+\[.*\]"
)
MARKUP, BOILERPLATE = "markup", "boilerplate"


def is_asciidoc(text: str) -> bool:
    head = text[:4000]
    return _DETECT.match(head) is not None and _SECTION.search(text, 0, 20_000) is not None


def to_text(text: str, *, boilerplate: bool = False) -> tuple[str, Counter[str]]:
    """The text, and the characters removed by part. A section marked as the colophon goes, unless `boilerplate` stays."""
    removed: Counter[str] = Counter()
    out: list[str] = []
    colophon = 0  # 1 = its title comes next, 2 = inside
    for line in text.split("\n"):
        title = _TITLE.fullmatch(line)
        if title:
            colophon = 2 if colophon == 1 else 0
        elif line == "[colophon]" and not boilerplate:
            colophon = 1
        if colophon:
            removed[BOILERPLATE] += len(line) + 1
        elif title:
            out.append(f"{'#' * len(title[1])} {title[2]}")
        elif line and len(line) < 300 and _MARKS.fullmatch(line):
            removed[MARKUP] += len(line) + 1
        else:
            out.append(line)
    return "\n".join(out), removed
