"""Lines of a plain text book: cleaned, joined into paragraphs where they are wrapped prose, and its chapters found.

Lines are joined only where a paragraph shows that a machine or a careful hand filled it: the first word of each line would not have gone
into the line before, the lines are near the book's full width, and none is indented by itself. A paragraph whose lines all begin with a
capital is left alone, as is one with columns: verse, tables, letters' heads and title pages keep their lines, and now and then some prose.
Cost: 15 to 20 ms a megabyte each for cleaning, joining and chapters. What it does not do: mend hyphens that a book's printer put in
(`WAISTCOAT-` `POCKET` becomes `WAISTCOAT-POCKET`), and find chapters whose headings look like any other line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from codedev.corpus.extract.book.gutenberg import Span


class Chapter(NamedTuple):
    offset: int  # characters from the beginning of the text
    title: str


# --- lines

_NO_TEXT = dict.fromkeys([*range(9), 11, *range(14, 27), *range(28, 32), 127, 0xFEFF])


def tidy(text: str) -> tuple[str, Counter[str]]:
    """One kind of line end, no blanks at the end of lines; a form feed becomes a blank line. Control characters go and are counted."""
    if "\r" in text:
        text = text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    if "\f" in text:
        text = text.replace("\f", "\n\n")
    removed: Counter[str] = Counter()
    if _CONTROLS.search(text):
        before = len(text)
        text = text.translate(_NO_TEXT)
        removed["controls"] = before - len(text)
    if _BLANK_ENDS.search(text):
        text = "\n".join(map(str.rstrip, text.split("\n")))
    return text.rstrip(), removed


_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f\ufeff]")
_BLANK_ENDS = re.compile(r"\s\n(?<!\n\n)")
_GAP = re.compile(r"\n{4,}")


def cut(text: str, spans: Sequence[Span], places: Sequence[int] = ()) -> tuple[str, list[int], Counter[str]]:
    """`text` without the spans, which are in order; `places` in it moved along; and the characters removed by part.

    At most two blank lines stay together, and none at the beginning and the end: blanks are not counted."""
    pieces: list[str] = []
    starts: list[int] = []  # of the pieces in the old text
    at = 0
    removed: Counter[str] = Counter()
    for span in spans:
        pieces.append(text[at : span.start])
        starts.append(at)
        removed[span.part] += span.end - span.start
        at = span.end
    pieces.append(text[at:])
    starts.append(at)
    joined = "".join(pieces)
    moved = places
    if len(pieces) > 1 and places:
        news = [0]
        for piece in pieces[:-1]:
            news.append(news[-1] + len(piece))
        ends = [start + len(piece) for start, piece in zip(starts, pieces, strict=True)]
        found = [bisect_right(starts, place) - 1 for place in places]
        moved = [news[piece] + min(place, ends[piece]) - starts[piece] for piece, place in zip(found, places, strict=True)]
    return *_closed(joined, moved), removed


def _closed(text: str, places: Sequence[int]) -> tuple[str, list[int]]:
    """`text` without superfluous blank lines, and `places` in it moved along."""
    begin = len(text) - len(text.lstrip())
    if begin:
        begin = max(text.rfind("\n", 0, begin) + 1, 0)  # the indentation of the first line stays
    if not places:
        return _GAP.sub("\n\n\n", text[begin:].rstrip()), []
    gaps = [(match.start() + 3, match.end()) for match in _GAP.finditer(text)]
    befores, lost, total = [0], [0], 0
    for start, end in gaps:
        befores.append(end)
        total += end - start
        lost.append(total)
    head = lost[bisect_right(befores, begin) - 1]
    closed = _GAP.sub("\n\n\n", text)
    closed = closed[begin - head :] if begin else closed
    moved = [max(0, place - lost[bisect_right(befores, place) - 1] - (begin - head)) for place in places]
    closed = closed.rstrip()
    return closed, [min(place, len(closed)) for place in moved]


# --- paragraphs

_BLOCK = re.compile(r"[^\n]+(?:\n[^\n]+)*")
_NARROWEST = 55  # characters: in narrower columns verse and prose look alike
_COLUMN_SIGNS = ("   ", "\t", "---", "===")  # without which the pattern matches nothing
_COLUMNS = re.compile(r"\S {3,}\S|\t|[|+][-=]{3}")
_CJK = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")


def unwrap(text: str) -> str:
    """`text` with the lines of prose paragraphs joined."""
    width = _width(text)
    if width < _NARROWEST:
        return text
    pieces: list[str] = []
    at = 0
    for block in _BLOCK.finditer(text):
        said = block[0]
        if "\n" in said and not (any(map(said.__contains__, _COLUMN_SIGNS)) and _COLUMNS.search(said)):
            pieces += (text[at : block.start()], _unwrapped(said, width))
            at = block.end()
    return "".join(pieces) + text[at:]


def _width(text: str) -> int:
    """The width that lines were filled to: nine of ten lines that others follow in their block are at most that long."""
    lengths: Counter[int] = Counter()
    for block in _BLOCK.finditer(text, 0, 500_000):
        lines = block[0].split("\n")
        lengths.update(map(len, lines[:-1]))
    rest = sum(lengths.values()) // 10
    for length in sorted(lengths, reverse=True):
        rest -= lengths[length]
        if rest < 0:
            return length
    return 0


def _unwrapped(block: str, width: int) -> str:
    """A block's lines, joined where they are a paragraph, or paragraphs told by the indentation of their first lines."""
    lines = block.split("\n")
    if "\n " not in block:  # nine of ten
        return _joined(lines) if not block.startswith(" " * 9) and _is_prose(lines, width) else block
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    margin = min(indents[1:])
    parts = [0, *(n for n in range(1, len(lines)) if margin < indents[n] <= margin + 8 and indents[n - 1] == margin)]
    joined: list[str] = []
    for start, end in pairwise([*parts, len(lines)]):
        part = lines[start:end]
        even = len(set(indents[start + 1 : end])) == 1 and indents[start] <= indents[start + 1] + 8
        joined += [_joined(part)] if even and _is_prose(part, width) else part
    return "\n".join(joined)


def _is_prose(lines: list[str], width: int) -> bool:
    longest = max(map(len, lines))
    if longest < 0.8 * width or (len(lines) > 2 and all(map(_begins_large, lines))):
        return False
    full = max(longest - 6, 0.86 * width) - 1
    short = len(lines) // 10 if len(lines) >= 10 else 0  # lines that may be
    for line, after in pairwise(lines):
        after = after.lstrip(" ")
        word = after.find(" ")
        if len(line) + (min(word, 20) if word >= 0 else min(len(after), 20)) <= full:
            if not short:
                return False
            short -= 1
    return True


def _begins_large(line: str) -> bool:
    letter = next((c for c in line if c.isalpha()), "a")
    return letter.isupper()


def _joined(lines: list[str]) -> str:
    text = " ".join(map(str.strip, lines))
    # A hyphen between letters and a dash hold their words together. Only at line ends: elsewhere the book put the blank there.
    if any(line.endswith(("-", "—")) for line in lines) or not text.isascii():
        out = [lines[0].strip()]
        for before, line in pairwise(lines):
            line = line.strip()
            tight = (before.endswith("-") and before[-2:-1].isalpha()) or (
                before.endswith(("--", "—")) and before.rstrip("-—")[-1:] not in ("", " ")
            )
            tight = tight or (before[-1] >= "\u2e80" and line[0] >= "\u2e80" and bool(_CJK.match(before[-1])) and bool(_CJK.match(line)))
            out.append(line if tight else " " + line)
        return "".join(out)
    return text


# --- chapters

_ROMAN = r"[ivxlcIVXLC]{1,8}"
_ORDINAL = (
    r"(?:the\s+)?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|one|two|three|four|five|six|seven|eight|nine|ten"
    r"|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|(?:twen|thir|for|fif|six|seven|eigh|nine)t?y\S{0,8}|last|final"
    r"|prim\w{2,4}|segund[oa]|tercer\w?|cuart[oa]|quint[oa]|premi\w+|deuxi\w+|second[eo]?|troisi\w+|erste\w?|zweite\w?|dritte\w?|viertes?)"
)
_KIND = (
    r"chapter|chap\.|book|part|volume|vol\.|canto|act|scene|letter|section|stave|cap[ií]tulo|capitolo|cap\.|chapitre|kapitel|hoofdstuk|kapittel"
    r"|luku|livre|libro|liber|teil|parte|partie|acte|sc[eè]ne|canto|chant|gesang|buch|глава|часть|книга|том|rozdział|fejezet"
)
_HEADING = re.compile(
    rf"[#*_\s]*(?:(?:{_KIND})[\s:]+(?:{_ROMAN}|\d{{1,4}}|{_ORDINAL})\b(?:[.:—–-][^\n]{{0,260}}|[^\n]{{0,80}})(?:\n[^\n]{{1,80}}){{0,2}}"
    rf"|(?:{_ORDINAL})\s+(?:{_KIND})[.:]?"
    rf"|[IVXLC]{{1,8}}\.?|(?:[IVXLC]{{1,8}}|\d{{1,3}})[.:—-]\s+[A-ZÀ-ÞΑ-ΩА-Я][^\n]{{1,80}}"
    r"|第[\d一二三四五六七八九十百千零〇兩两]{1,6}[章回卷節节][^\n]{0,60}"
    r"|(?:the\s+)?(?:preface|introduction|foreword|prologue|epilogue|conclusion|afterword|postscript|appendix(?:\s+\w{1,5})?|dedication|glossary"
    r"|index|footnotes|endnotes|notes|etymology|extracts|bibliography|introducci[oó]n|pr[oó]logo|ep[ií]logo|pr[eé]face|avertissement|avant-propos"
    r"|vorwort|einleitung"
    r"|nachwort|anhang|voorwoord|inleiding|prefazione|introduzione)[.:]?(?:\s[^\n]{0,60})?)[*_\s]*\Z",
    re.IGNORECASE,
)
_NUMERAL = re.compile(r"[#*_\s]*(?:[IVXLC]{1,8}\.?|(?:[IVXLC]{1,8}|\d{1,3})[.:—-]\s+\S[^\n]*)[*_\s]*\Z")
_MARKDOWN = re.compile(r"#{1,6} ")
_MOST_CHAPTERS = 5_000
_NEAR, _RUN = 300, 5  # headings this near to one another, that many in a row, are a table of contents


def chapters(text: str) -> list[Chapter]:
    """Headings that stand alone between blank lines, without those of a table of contents."""
    found: list[Chapter] = []
    last_end = -2
    for block in _BLOCK.finditer(text):
        gap, last_end = block.start() - last_end, block.end()
        size = block.end() - block.start()
        if size > 320:
            continue
        head = block[0]
        if head.count("\n") <= 2 and _is_heading(head, gap):
            found.append(Chapter(block.start(), " ".join(_MARKDOWN.sub("", head, count=1).split())[:200]))
            if len(found) == _MOST_CHAPTERS:
                break
    return _without_contents(found, len(text))


def _is_heading(head: str, gap: int) -> bool:
    if _MARKDOWN.match(head):
        return "\n" not in head
    if _HEADING.match(head):
        # A numeral must be written in capitals, or it is a word: "I", "mix", "civil".
        return head[-1] not in ",;" and (not _ANY_NUMERAL.match(head) or bool(_NUMERAL.match(head)))
    letters = sum(map(str.isalpha, head))
    return gap >= 3 and "\n" not in head and len(head) <= 70 and letters >= 3 and head.isupper() and head[-1] not in ",;:-"


_ANY_NUMERAL = re.compile(rf"[#*_\s]*{_ROMAN}[.:—-]?(?:\s|\Z)")


def _without_contents(found: list[Chapter], size: int) -> list[Chapter]:
    later = Counter(chapter.title.casefold() for chapter in found)  # of the chapters behind the one that is looked at
    kept: list[Chapter] = []
    run: list[Chapter] = []
    ends = [*(chapter.offset for chapter in found[1:]), size][: len(found)]
    for chapter, end in zip(found, ends, strict=True):
        run.append(chapter)
        later[chapter.title.casefold()] -= 1
        if end - chapter.offset - len(chapter.title) < _NEAR and end != size:
            continue
        if len(run) >= _RUN:  # the last of them is the first heading of the text, unless it comes again
            run = [] if later[chapter.title.casefold()] else [chapter]
        kept += run
        run = []
    return kept + run
