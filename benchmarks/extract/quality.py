"""What the extractors give of the gold pages, and how it scores: one function a table, each giving rows of plain numbers."""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from extract import extractors
from extract.extractors import OURS
from extract.formulas import gold_formulas, normalised

from codedev.corpus.extract.learn import gold, metrics
from codedev.corpus.extract.learn.gold import GoldPage

Row = dict[str, Any]
Outputs = dict[str, list[str | None]]  # of each extractor, a text for each page; None where it failed


def outputs(names: Iterable[str], pages: Sequence[GoldPage], models: Path | None = None, *, markup: bool = False) -> Outputs:
    return {name: _output(name, pages, models, markup=markup) for name in names}


def _output(name: str, pages: Sequence[GoldPage], models: Path | None, *, markup: bool) -> list[str | None]:
    by_fold: dict[int | None, extractors.Extract] = {}
    texts: list[str | None] = []
    for page in pages:
        fold = gold.fold(page) if models else None
        if fold not in by_fold:
            by_fold[fold] = extractors.extractor(name, fold, models, markup=markup)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                texts.append(by_fold[fold](page.html))
        except Exception as error:  # a page that an extractor dies of is a page it gives nothing of
            print(f"{name}: {page.set}/{page.id}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
            texts.append(None)
    return texts


def _failed(texts: Sequence[str | None]) -> int:
    return sum(text is None for text in texts)


# --- words


def words(pages: Sequence[GoldPage], of: Outputs, plain: Callable[[str], str] = str) -> list[Row]:
    """The article benchmark's metric. `plain` is done to both sides."""
    wanted = [plain(gold_text(page)) for page in pages]
    rows = []
    for name, texts in of.items():
        shares = [metrics.shingle_scores(want, plain(text or "")) for want, text in zip(wanted, texts, strict=True)]
        scores, (precision, recall, f1) = metrics.article_f1(shares), metrics.article_interval(shares)
        rows.append(
            {
                "extractor": name,
                "precision": scores.precision,
                "recall": scores.recall,
                "f1": scores.f1,
                "precision_95": precision,
                "recall_95": recall,
                "f1_95": f1,
                "pages": len(pages),
                "failed": _failed(texts),
            }
        )
    return rows


def gold_text(page: GoldPage) -> str:
    return page.text if page.text is not None else gold.text_of_html(page.html_gold or "")


def leads(pages: Sequence[GoldPage], of: Outputs, over: str) -> Row:
    """By how much our F1 is above another's on the same pages."""
    ours, theirs = (
        [metrics.shingle_scores(gold_text(page), text or "") for page, text in zip(pages, of[name], strict=True)] for name in (OURS, over)
    )
    lead = metrics.article_f1(ours).f1 - metrics.article_f1(theirs).f1
    return {"over": over, "f1_lead": lead, "f1_lead_95": metrics.article_lead(ours, theirs)}


def segments(pages: Sequence[GoldPage], of: Outputs) -> list[Row]:
    rows = []
    for name, texts in of.items():
        counts = [metrics.segments(page.must, page.must_not, text) for page, text in zip(pages, texts, strict=True)]
        whole, table = metrics.added(counts), np.array(counts)
        row: Row = {"extractor": name, **whole.scores()._asdict(), "f1": whole.scores().f1, "accuracy": whole.accuracy}
        row["f1_95"] = metrics.interval(table, lambda drawn: metrics.Segments(*drawn.sum(axis=0).tolist()).scores().f1)
        rows.append(row | whole._asdict() | {"pages": len(pages), "failed": _failed(texts)})
    return rows


def by_kind(pages: Sequence[GoldPage], of: Outputs) -> list[Row]:
    """F1 of words for each kind of page; marks of Markdown do not count on either side."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for index, page in enumerate(pages):
        if page.text is not None:
            kinds[page.kind or "other"].append(index)
    rows = []
    every = [index for index, page in enumerate(pages) if page.text is not None]
    for kind, chosen in [*sorted(kinds.items()), ("all", every)]:
        part = {name: [texts[index] for index in chosen] for name, texts in of.items()}
        found = words([pages[index] for index in chosen], part, metrics.words_of_markdown)
        rows.append({"kind": kind, "pages": len(chosen), **{row["extractor"]: row["f1"] for row in found}})
    return rows


# --- what the text must keep


def formulas(pages: Sequence[GoldPage], of: Outputs) -> list[Row]:
    """Share of the gold's formulas that come out, for each collection and for all."""
    rows: list[Row] = []
    for name in [*dict.fromkeys(map(_collection, pages)), "all"]:
        chosen = [index for index, page in enumerate(pages) if name in (_collection(page), "all")]
        row: Row = {"set": name, "pages": len(chosen), "formulas": sum(gold_of(pages[index]).total() for index in chosen)}
        for extractor, texts in of.items():
            matched = sum((gold_of(pages[index]) & found_in(pages[index], texts[index])).total() for index in chosen)
            row[extractor] = matched / max(1, row["formulas"])
        rows.append(row)
    return rows


def _collection(page: GoldPage) -> str:
    """The set; but a page of hundreds of numbers with units by itself, and one whose gold is one tool's translation of AsciiMath."""
    return {
        "packages/siunitx.tex": "engrafo: siunitx",
        "math_mathjax_asciimath_1": "llm_webkit: AsciiMath",
        "wikipedia-3": "Wikipedia",
    }.get(page.id, page.set)


def gold_of(page: GoldPage) -> Counter[str]:
    return Counter(_bare(element.text) for element in page.elements if "formula" in element.kind)


def found_in(page: GoldPage, text: str | None) -> Counter[str]:
    """Formulas between dollars; those of the gold that have dollars inside are looked up in the text, where no pattern tells their end."""
    found = Counter(map(_bare, gold_formulas(_WRAPPED.sub("", text or ""))))
    nested = [formula for formula in gold_of(page) if "$" in formula]
    squeezed = "".join(_WRAPPED.sub("", text or "").split()) if nested else ""
    return found + Counter({formula: squeezed.count(f"${formula}") for formula in nested})


def _bare(latex: str) -> str:
    """Without white space, and the wrapper that Wikipedia puts around all of its formulas in one place and not in another."""
    formula = normalised(_WRAPPED.sub("", latex))
    return normalised(formula[14:].removesuffix("}")) if formula.startswith("{\\displaystyle") else formula  # its comma may stand inside


_WRAPPED = re.compile(r"(?<!\\)%\n\s*")  # TeX's own way to break a line: it is no space


def code(pages: Sequence[GoldPage], of: Outputs) -> list[Row]:
    """Code blocks of `<pre>`, and those that the gold has out of other elements, where white space is the tool's guess."""
    rows = []
    for title, chosen in {"pre": is_pre, "other": lambda element: not is_pre(element)}.items():
        for extractor, texts in of.items():
            count = metrics.Code(0, 0, 0, 0)
            for page, text in zip(pages, texts, strict=True):
                wanted = [element.text for element in page.elements if element.kind == "code" and chosen(element)]
                count = metrics.Code(*(a + b for a, b in zip(count, metrics.code_equality(wanted, text or ""), strict=True)))
            shares = {name: getattr(count, name) / count.gold if count.gold else 0.0 for name in ("identical", "verbatim", "legible")}
            rows.append({"blocks": title, "extractor": extractor, "gold": count.gold, **shares})
    return rows


def is_pre(element: gold.Element) -> bool:
    return (element.source or "").startswith("tag_pre")


def tables(pages: Sequence[GoldPage], of: Outputs) -> list[Row]:
    rows = []
    for extractor, texts in of.items():
        cells, whole = metrics.Cells(0, 0, 0), metrics.Cells(0, 0, 0)
        number = 0
        for page, text in zip(pages, texts, strict=True):
            wanted = [
                table
                for element in page.elements
                if element.kind == "table"
                for table in metrics.tables(_REAL_BREAK.sub(" ", element.text))
            ]
            if not wanted:
                continue
            number += len(wanted)
            got = metrics.tables(text or "")
            cells = metrics.Cells(*(a + b for a, b in zip(cells, metrics.cell_scores(wanted, got), strict=True)))
            whole = metrics.Cells(*(a + b for a, b in zip(whole, metrics.row_scores(wanted, got), strict=True)))
        row: Row = {"extractor": extractor, "tables": number, "cells": cells.gold, **cells.scores()._asdict(), "f1": cells.scores().f1}
        rows.append(row | {"rows_f1": whole.scores().f1})
    return rows


_REAL_BREAK = re.compile(r"&lt;br/?&gt;")  # the gold's tool wrote its line breaks as text


# --- what the page says of itself


def facts(pages: Sequence[GoldPage]) -> list[Row]:
    """Shares of the given titles, bylines and dates that are found, and of what is found that is right."""
    rules = {"title": metrics.same_title, "byline": metrics.same_byline, "date": metrics.same_date}
    rows = []
    for extractor, read in {OURS: _our_facts, "trafilatura": _trafilatura_facts}.items():
        told = [read(page.html) for page in pages]
        row: Row = {"extractor": extractor}
        for field, same in rules.items():
            asked = [(page.meta[field], said.get(field)) for page, said in zip(pages, told, strict=True) if page.meta.get(field)]
            right = sum(same(wanted, got) for wanted, got in asked)
            row |= {field: right / max(1, len(asked)), f"{field}_precision": right / max(1, sum(bool(got) for _, got in asked))}
            row[f"{field}_asked"] = len(asked)
        rows.append(row)
    return rows


def _our_facts(html: bytes) -> dict[str, str | None]:
    from codedev.corpus.extract.html import PageError, html_to_text

    try:
        meta = html_to_text(html).meta
    except PageError:
        return {}
    authors = meta.get("authors") or meta.get("byline")
    byline = ", ".join(map(str, authors)) if isinstance(authors, (list, tuple)) else authors
    date = meta.get("published") or meta.get("date") or meta.get("modified")
    return {field: str(value) if value else None for field, value in {"title": meta.get("title"), "byline": byline, "date": date}.items()}


def _trafilatura_facts(html: bytes) -> dict[str, str | None]:
    from trafilatura import extract_metadata

    said = extract_metadata(html)
    return {"title": said.title, "byline": said.author, "date": said.date} if said else {}
