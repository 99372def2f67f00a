"""A piece of LaTeX and what its neighbours must know of it, and the reading of a tag's attributes."""

from __future__ import annotations

import html
import re
from typing import NamedTuple

_ATTRIBUTE = re.compile(r"""([^\s="'<>/]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>]++)))?""")
_ESCAPED = re.compile(r"\\.", re.DOTALL)


class Piece(NamedTuple):
    latex: str
    kind: str = "row"  # id num op open close bar null apply text space atom row fenced choose table tr cell none prescripts limits content
    text: str = ""  # the characters of a token, a content element's tag
    tail: str = ""  # scripts that a token already carries; part of latex
    tall: bool = False  # higher than a line: fences around it stretch
    font: str = ""  # latex is font{text}: neighbours in one font share it
    attrs: str = ""
    parts: tuple[Piece, ...] = ()  # of a table, its rows; of a row, its cells; of a choice, both parts


EMPTY = Piece("")


def attribute(attrs: str, name: str) -> str | None:
    """The value of one attribute in a tag's text."""
    if name not in attrs:
        return None
    for key, double, single, bare in _ATTRIBUTE.findall(attrs):
        if key.lower().rpartition(":")[2] == name:
            return html.unescape(double or single or bare)
    return None


def balanced(tex: str) -> bool:
    """Whether braces pair off."""
    depth = 0
    for brace in re.findall(r"[{}]", _ESCAPED.sub("", tex)):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0 and not tex.endswith("\\")
