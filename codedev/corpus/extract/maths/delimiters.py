"""Formulas in running text: where they begin and end, by the delimiters of the page's settings.

Pairs are found as MathJax does: from the left, the earliest right delimiter that is not inside braces and not escaped; `\\$` is never a
delimiter. What dollars and the marks of forums enclose must look like mathematics besides (`dollars.py`). A formula has at most 20,000
characters. Linear: failed searches stop for good at sixteen times the length of the text.
Does not know macros, and does not check that the LaTeX is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from codedev.corpus.extract.maths import asciimath, dollars
from codedev.corpus.extract.maths.settings import MARKS, Delimiter, Settings

LONGEST = 20_000


class Formula(NamedTuple):
    start: int  # of the delimiter on the left
    end: int  # behind that on the right
    latex: str  # empty: it shows nothing
    display: bool


# Delimiters that other things have too, and what tells a formula from them.
_JUDGES: dict[str, Callable[[str, int, str, int], bool]] = {"$": dollars.may_be, "$$": dollars.display_may_be}
_JUDGES |= {one.left: dollars.mark_may_be for one in MARKS.delimiters}
_ENVIRONMENT = re.compile(r"\\begin\{([a-zA-Z]{1,20}\*?)\}")
_ENVIRONMENTS = frozenset(
    name + star
    for name in ("equation", "align", "alignat", "gather", "multline", "eqnarray", "displaymath", "math", "flalign", "CD", "subequations")
    for star in ("", "*")
)


class _Scanner(NamedTuple):
    start: re.Pattern[str]
    pairs: dict[str, Delimiter]
    ends: dict[str, re.Pattern[str]]
    ascii: tuple[str, ...]


@lru_cache(64)
def _scanner(settings: Settings) -> _Scanner:
    pairs = {one.left: one for one in reversed(settings.delimiters)}
    pairs |= {mark: Delimiter(mark, mark, False) for mark in settings.ascii}
    starts = [re.escape(left) for left in sorted(pairs, key=len, reverse=True)]
    if settings.environments:
        starts.append(_ENVIRONMENT.pattern)
    # A backslash before a dollar or a grave accent makes it a character.
    escaped = r"\\[$`\\#]" if not any(left.startswith("\\\\") for left in pairs) else r"\\[$`#]"
    start = re.compile(f"({'|'.join(starts)})|{escaped}" if starts else r"(?!)")
    ends = {one.left: _end(re.escape(one.right)) for one in pairs.values()}
    return _Scanner(start, pairs, ends, settings.ascii)


@lru_cache(64)
def _end(right: str) -> re.Pattern[str]:
    return re.compile(rf"({right})|\\[^a-zA-Z]|[{{}}]")


def find(text: str, settings: Settings) -> list[Formula]:
    scanner = _scanner(settings)
    found: list[Formula] = []
    at, spare = 0, 16 * len(text) + 1000
    while spare > 0 and (start := scanner.start.search(text, at)):
        at = start.end()
        if not start[1]:
            continue
        environment = _ENVIRONMENT.match(start[1]) if start[1].startswith("\\begin") else None
        if environment:
            closing = _end(re.escape(f"\\end{{{environment[1]}}}")) if environment[1] in _ENVIRONMENTS else None
        else:
            closing = scanner.ends[start[1]]
        if closing is None:
            continue
        end = _closed(text, at, closing)
        if end is None:
            spare -= min(LONGEST, len(text) - at) + 10
            continue
        inside = text[at : end[0]]
        if environment:
            formula = Formula(start.start(), end[1], canonical(text[start.start() : end[1]]), True)
        elif start[1] in scanner.ascii:
            spare -= len(inside)
            if not inside.strip() or (start[1] == "$" and not dollars.may_be(text, start.start(), inside, end[1])):
                continue
            made = asciimath.latex(inside.strip()).strip()
            if not made:
                continue
            formula = Formula(start.start(), end[1], made, False)
        else:
            judge = _JUDGES.get(start[1])
            if judge is not None and not judge(text, start.start(), inside, end[1]):
                spare -= len(inside)
                continue
            formula = Formula(start.start(), end[1], canonical(inside), scanner.pairs[start[1]].display)
        found.append(formula)
        at = end[1]
    return found


def _closed(text: str, at: int, closing: re.Pattern[str]) -> tuple[int, int] | None:
    """(start, end) of the right delimiter."""
    depth = 0
    for mark in closing.finditer(text, at, at + LONGEST):
        if mark[1]:
            if not depth:
                return mark.span()
        elif mark[0] == "{":
            depth += 1
        elif mark[0] == "}" and depth:
            depth -= 1
    return None


# --- LaTeX as it is kept

_COMMENT = re.compile(r"<!--(?s:.*?)-->")
_WRAPPED = re.compile(r"\{\s*\\(?:displaystyle|textstyle)\b\s*((?s:.*))\}", re.DOTALL)
_GROUPS = ("\\begingroup", "\\endgroup")  # Stack Exchange wraps posts in formulas that show nothing
_INVISIBLE = re.compile("[\u200b\ufeff\u2060]")


def canonical(latex: str) -> str:
    """As it is written, less what is not part of it: outer white space, HTML comments, invisible characters."""
    if "<!--" in latex:
        latex = _COMMENT.sub("", latex)
    latex = latex.strip() if latex.isascii() else _INVISIBLE.sub("", latex).strip()
    if latex.endswith("\\") and (len(latex) - len(latex.rstrip("\\"))) % 2:
        latex = latex[:-1].rstrip()  # of a "\\ ", whose space is gone
    return "" if latex in _GROUPS else latex


def unwrapped(latex: str) -> str:
    """Less the {\\displaystyle …} that Wikipedia puts around every formula."""
    latex = canonical(latex)
    found = _WRAPPED.fullmatch(latex)
    return found[1].strip() if found and _balanced(found[1]) else latex


def _balanced(latex: str) -> bool:
    """Whether its braces pair without those around it."""
    depth = 0
    for mark in re.finditer(r"\\.|[{}]", latex, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth < 0:
            return False
    return not depth


# --- one formula in delimiters of its own

_WHOLE: tuple[tuple[str, str, bool], ...] = (("$$", "$$", True), (r"\[", r"\]", True), (r"\(", r"\)", False), ("$", "$", False))


def stripped(text: str) -> tuple[str, bool | None] | None:
    """(LaTeX, display) of a text that is one formula in its delimiters; display is None of one without; None where there are several."""
    text = canonical(text)
    for left, right, display in _WHOLE:
        if text.startswith(left) and text.endswith(right) and len(text) > len(left) + len(right):
            inside = text[len(left) : -len(right)]
            end = _closed(text, len(left), _end(re.escape(right)))
            return (inside.strip(), display) if end is None or end[1] == len(text) else None
    environment = _ENVIRONMENT.match(text)
    if environment and environment[1] in _ENVIRONMENTS:
        return text, True
    return text, None
