"""How near an extracted text comes to gold: words, segments, tables, code and fields, and how sure a mean of it is.

`shingle_scores` and `article_f1` are the metric of the article-extraction-benchmark: shingles of four words, of each page the shares of
those that are common, surplus and missing. `segments` is trafilatura's: white space does not count. Tables are compared by cells and by
rows, code by its exact text, fields but for case and white space. Cost: 12 MB of text a second for shingles. What it does not do: compare
the order of paragraphs, or formulas.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from lxml import etree
from lxml import html as lxml_html


class Scores(NamedTuple):
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


# --- words


class Shares(NamedTuple):
    """Of one page: what is common, surplus and missing, as shares of their sum; all zero where neither text has a word."""

    common: float
    surplus: float
    missing: float

    def scores(self) -> Scores:
        if not self.surplus and not self.missing:
            return Scores(1.0, 1.0)
        return Scores(*(self.common / whole if (whole := self.common + other) else 0.0 for other in (self.surplus, self.missing)))


_WORD = re.compile(r"\w+")
_SHINGLE = 4


def shingle_scores(gold: str, predicted: str) -> Shares:
    wanted, got = _shingles(gold), _shingles(predicted)
    common = sum((wanted & got).values())
    surplus, missing = got.total() - common, wanted.total() - common
    whole = common + surplus + missing
    return Shares(common / whole, surplus / whole, missing / whole) if whole else Shares(0.0, 0.0, 0.0)


def _shingles(text: str) -> Counter[tuple[str, ...]]:
    words = _WORD.findall(text)
    if len(words) < _SHINGLE:
        return Counter([tuple(words)] if words else [])
    return Counter(zip(*(words[start:] for start in range(_SHINGLE)), strict=False))


def article_f1(pages: Sequence[Shares]) -> Scores:
    """The benchmark's figures of a set: F1 is that of the mean precision and the mean recall."""
    return Scores(*_means(_by_page(pages))[0].tolist())


def article_interval(pages: Sequence[Shares], rounds: int = 2000, seed: int = 0) -> list[tuple[float, float]]:
    """95 % intervals of precision, recall and F1, by drawing pages anew."""
    table = _by_page(pages)
    means = _means(table[_drawn(len(table), rounds, seed)])
    return _middle(np.column_stack([means, _f1(means)]))


def article_lead(ours: Sequence[Shares], theirs: Sequence[Shares], rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the difference of F1 on the same pages: they are drawn in pairs, so it is narrower than two intervals apart."""
    drawn = _drawn(len(ours), rounds, seed)
    first, second = (_f1(_means(_by_page(side)[drawn])) for side in (ours, theirs))
    return _middle((first - second)[:, None])[0]


def _drawn(pages: int, rounds: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, pages, (rounds, pages))


def _f1(means: np.ndarray) -> np.ndarray:
    both = means.sum(axis=1)
    f1: np.ndarray = np.divide(2 * means[:, 0] * means[:, 1], both, out=np.zeros(len(means)), where=both > 0)
    return f1


def _by_page(pages: Sequence[Shares]) -> np.ndarray:
    """Rows of precision and recall; NaN where a page does not count: nothing came out, or nothing was to."""
    rows = []
    for shares in pages:
        precision, recall = shares.scores()
        rows.append((precision if shares.common + shares.surplus else np.nan, recall if shares.common + shares.missing else np.nan))
    return np.array(rows, np.float64).reshape(-1, 2)


def _means(tables: np.ndarray) -> np.ndarray:
    """Of each table of pages, the last two axes, the means of its columns without NaN; 0 where there is none."""
    tables = tables.reshape(-1, *tables.shape[-2:])
    known = ~np.isnan(tables)
    count = known.sum(axis=1)
    means: np.ndarray = np.divide(np.where(known, tables, 0).sum(axis=1), count, out=np.zeros(count.shape), where=count > 0)
    return means


def interval(rows: np.ndarray, statistic: Callable[[np.ndarray], float], rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of `statistic` of a set whose pages are `rows`, by drawing rows anew."""
    draw = np.random.default_rng(seed)
    values = [statistic(rows[draw.integers(0, len(rows), len(rows))]) for _ in range(rounds)]
    return _middle(np.array(values)[:, None])[0]


def _middle(values: np.ndarray) -> list[tuple[float, float]]:
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


# --- segments


class Segments(NamedTuple):
    """Counts; those of several pages are added."""

    found: int  # of what must come out
    missed: int
    let_in: int  # of what must not
    kept_out: int

    def scores(self) -> Scores:
        return Scores(*(self.found / whole if (whole := self.found + other) else 0.0 for other in (self.let_in, self.missed)))

    @property
    def accuracy(self) -> float:
        return (self.found + self.kept_out) / sum(self) if sum(self) else 0.0


def segments(must: Iterable[str], must_not: Iterable[str], predicted: str | None) -> Segments:
    """None for a page that could not be extracted: nothing came out, of either kind."""
    text = "" if predicted is None else _one_line(predicted)
    inside = [[_one_line(segment) in text for segment in kind] for kind in (must, must_not)]
    found, let_in = map(sum, inside)
    return Segments(found, len(inside[0]) - found, let_in, len(inside[1]) - let_in)


def added(pages: Iterable[Segments]) -> Segments:
    return Segments(*(sum(column) for column in zip(Segments(0, 0, 0, 0), *pages, strict=True)))


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- Markdown

_FENCE = re.compile(r"(?m)^([ \t]*(?:[-*+]|\d+[.)])?[ \t]*)(`{3,}|~{3,})([^\n`]*)$")
_TABLE_TAG = re.compile(r"</?(?:table|thead|tbody|tfoot|tr|t[dh]|caption|colgroup|col|br|p|b|i|em|strong|a|sub|sup|ul|ol|li)\b[^<>]*>")
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,1000})\]\([^()\s]{0,4000}(?:[ ]+\"[^\"\n]{0,1000}\")?\)")
_LINK = re.compile(r"\[([^\[\]\n]{0,1000})\]\([^()\s]{0,4000}(?:\([^()\s]{0,1000}\)[^()\s]{0,1000})?(?:[ ]+\"[^\"\n]{0,1000}\")?\)")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")


def words_of_markdown(markdown: str) -> str:
    """The text for a comparison of words: without languages of code blocks, addresses of links and pictures, captions of pictures and
    the tags of tables, which one extractor writes and another does not."""
    text = _FENCE.sub(r"\1\2", markdown)
    text = _LINK.sub(r"\1", _IMAGE.sub("", text))
    return html.unescape(_TABLE_TAG.sub(" ", text))


class Block(NamedTuple):
    text: str
    language: str | None


def code_blocks(markdown: str) -> list[Block]:
    """The fenced blocks. Those in lists lose their fence's indentation; one that is left open reaches to the end."""
    found: list[Block] = []
    lines: list[str] = []
    opened: re.Match[str] | None = None
    for line in markdown.split("\n"):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, lines = fence, []
        elif fence and fence[2].startswith(opened[2]) and not fence[3].strip():
            found.append(Block("\n".join(lines), opened[3].strip() or None))
            opened = None
        else:
            indent = len(opened[1])
            lines.append(line[indent:] if not line[:indent].strip() else line)
    if opened is not None:
        found.append(Block("\n".join(lines), opened[3].strip() or None))
    return found


class Code(NamedTuple):
    """Counts of gold blocks; those of several pages are added."""

    identical: int  # a block of its own with the same text, but for line ends at the end
    verbatim: int  # the same lines anywhere in the text, fenced or not
    legible: int  # the same letters in the same order, whatever the white space
    gold: int


def code_equality(gold: Iterable[str], predicted: str) -> Code:
    """A predicted block answers one gold block."""
    wanted = [text.strip("\n") for text in gold if text.strip()]
    blocks = Counter(block.text.strip("\n") for block in code_blocks(predicted))
    text, letters = f"\n{predicted}\n", "".join(predicted.split())
    identical = (Counter(wanted) & blocks).total()
    verbatim = sum(block in blocks or f"\n{block}\n" in text for block in wanted)
    return Code(identical, verbatim, sum("".join(block.split()) in letters for block in wanted), len(wanted))


# --- tables

Table = list[tuple[str, ...]]
_ROW = re.compile(r"^[ \t>]*(\|.*\|)[ \t]*$")
_BETWEEN = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"[\s|:-]+")
_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)")


def tables(markdown: str) -> list[Table]:
    """The rows of cells of all tables, piped ones and those of HTML; cells without marks and doubled white space, fenced code left out."""
    found: list[Table] = []
    rows: Table = []
    inside: str | None = None
    for line in [*markdown.split("\n"), ""]:
        if fence := _FENCE.match(line):
            inside = fence[2] if inside is None else None if fence[2].startswith(inside) else inside
        row = _ROW.match(line) if inside is None else None
        if row:
            if not _RULE.fullmatch(row[1]):
                rows.append(tuple(_cell(_ESCAPED.sub(r"\1", cell)) for cell in _BETWEEN.split(row[1])[1:-1]))
        elif rows:
            found.append(rows)
            rows = []
    return found + _html_tables(markdown)


def _html_tables(text: str) -> list[Table]:
    start, end = text.find("<table"), text.rfind("</table>")
    if not 0 <= start < end:
        return []
    try:
        tree = lxml_html.fragment_fromstring(text[start:end], create_parent="div")
    except (etree.ParserError, ValueError):
        return []
    return [
        [tuple(_cell(" ".join(cell.itertext())) for cell in row.iterchildren("td", "th")) for row in table.iter("tr")]
        for table in tree.iter("table")
    ]


def _cell(text: str) -> str:
    return _one_line(html.unescape(_MARKS.sub("", _TABLE_TAG.sub(" ", html.unescape(_LINK.sub(r"\1", text))))))


class Cells(NamedTuple):
    """Counts; those of several pages are added."""

    common: int
    predicted: int
    gold: int

    def scores(self) -> Scores:
        return Scores(*(self.common / whole if whole else 0.0 for whole in self[1:]))


def cell_scores(gold: Sequence[Table], predicted: Sequence[Table]) -> Cells:
    """Cells that are not empty, as a multiset."""
    return _compared(*(Counter(cell for table in side for row in table for cell in row if cell) for side in (gold, predicted)))


def row_scores(gold: Sequence[Table], predicted: Sequence[Table]) -> Cells:
    """Rows whose cells are all the same, in the same order; empty cells are left out on both sides, since spans fill differently."""
    rows = ([tuple(filter(None, row)) for table in side for row in table] for side in (gold, predicted))
    return _compared(*(Counter(filter(None, side)) for side in rows))


def _compared(gold: Counter[str] | Counter[tuple[str, ...]], predicted: Counter[str] | Counter[tuple[str, ...]]) -> Cells:
    return Cells((gold & predicted).total(), predicted.total(), gold.total())  # type: ignore[operator]  # both of one kind


# --- fields


def same_title(gold: str, predicted: str | None) -> bool:
    """But for case, white space and typographic variants. The site's name may stand before or behind it, set off by a dash or the like;
    what is less than half of the gold is not its title."""
    wanted, got = _plain(gold), _plain(predicted or "")
    shorter, longer = sorted((wanted, got), key=len)
    if wanted == got or 2 * len(got) < len(wanted):
        return wanted == got
    if longer.startswith(shorter) and _BEFORE_SITE.match(longer, len(shorter)):
        return True
    return longer.endswith(shorter) and _BEHIND_SITE.search(longer[: len(longer) - len(shorter)]) is not None


def same_date(gold: str, predicted: str | None) -> bool:
    """The day; both begin with it as YYYY-MM-DD."""
    return bool(predicted) and gold[:10] == str(predicted)[:10]


def same_byline(gold: str, predicted: str | None) -> bool:
    """The same names in any order, each once."""
    return bool(predicted) and _names(gold) == _names(predicted or "")


_BEFORE_SITE = re.compile(r"(?: [-|·»›>/]|:) ")
_BEHIND_SITE = re.compile(r"(?: [-|·»›>/]|:) \Z")
_BY = re.compile(r"^(?:by|von|par|por|di)\b[: ]*")
_AND = re.compile(r"\s*[,;/&|]\s*|\s+(?:and|und|et|y|e)\s+")
_FORMS = str.maketrans("‘’‚“”„–—‐‑…\xad", "'''\"\"\"----.\x00")


def _plain(text: str) -> str:
    return _one_line(unicodedata.normalize("NFKC", html.unescape(text)).translate(_FORMS).replace("\0", "")).casefold()


def _names(text: str) -> frozenset[str]:
    return frozenset(filter(None, _AND.split(_BY.sub("", _plain(text)))))
