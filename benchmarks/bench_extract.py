"""Pages to text: what comes out right, and MB of HTML a second of one core, beside trafilatura, Resiliparse, jusText and OpenWebMath's way.

    python benchmarks/bench_extract.py [--data .data] [--only WORD] [--pages N] [--rounds N] [--worst N] [--models DIR] [--json FILE]

The gold is that of public sets (codedev/corpus/extract/learn/gold.py); each table says which. Intervals hold 95 % of what comes out when
pages are drawn anew. With --models every page is extracted by the model that was trained without its site; without it by the one that is
shipped, which may know the page: such scores flatter. Rates are medians of rounds in which the extractors take turns, on one core.
trafilatura's own settings let readers' comments in; it is scored without them too, as its authors do.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _bench import machine, write_json
from extract import archive, quality, rates, worst
from extract.extractors import FORMULAS, MARKUP, OURS, TEXT
from rich.console import Console
from rich.table import Table

from codedev.corpus.extract.learn import gold
from codedev.corpus.extract.learn.gold import GoldPage

Row = dict[str, Any]
HERE = Path(__file__).parent
TABLES = ("articles", "segments", "readability", "kinds", "formulas", "code", "tables", "facts", "warc")
SEGMENTS = (OURS, "trafilatura no comments", "trafilatura fast no comments", "Resiliparse", "jusText", "all text")


class Bench:
    """The pages, read once, and what the tables need to know."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.models: Path | None = arguments.models
        self.work = Path(arguments.work)
        self._pages: dict[str, list[GoldPage]] = {}
        self.notes: list[str] = []  # of the worst pages, printed behind all tables

    def pages(self, *sets: str) -> list[GoldPage]:
        for name in sets:
            if name not in self._pages:
                self._pages[name] = list(gold.read(self.arguments.data / "web", [name]))[: self.arguments.pages]
        return [page for name in sets for page in self._pages[name]]

    def outputs(self, names: Sequence[str], pages: Sequence[GoldPage], *, markup: bool = False) -> quality.Outputs:
        return quality.outputs(names, pages, self.models, markup=markup)


# --- tables


def articles(bench: Bench) -> list[Row]:
    pages = bench.pages("article_benchmark")
    of = bench.outputs(TEXT, pages)
    rows = quality.words(pages, of)
    speed = rates.rates(TEXT, [page.html for page in pages], bench.arguments.rounds, "trafilatura")
    for row in rows:
        row |= speed[row["extractor"]]
        if row["extractor"] != OURS:
            row |= quality.leads(pages, of, row["extractor"])
    bench.notes += worst.worst_words(pages, of[OURS], bench.arguments.worst)
    return rows


def segments(bench: Bench) -> list[Row]:
    pages = bench.pages("trafilatura")
    of = bench.outputs(SEGMENTS, pages)
    bench.notes += worst.worst_segments(pages, of[OURS], bench.arguments.worst)
    return quality.segments(pages, of)


def readability(bench: Bench) -> list[Row]:
    pages = bench.pages("readability")
    of = bench.outputs(TEXT, pages)
    bench.notes += worst.worst_words(pages, of[OURS], bench.arguments.worst)
    return quality.words(pages, of)


def kinds(bench: Bench) -> list[Row]:
    pages = bench.pages("webmainbench", "llm_webkit")
    of = bench.outputs(MARKUP, pages, markup=True)
    known = [(page, text) for page, text in zip(pages, of[OURS], strict=True) if page.text is not None]
    bench.notes += worst.worst_words([page for page, _ in known], [text for _, text in known], bench.arguments.worst)
    return quality.by_kind(pages, of)


def formulas(bench: Bench) -> list[Row]:
    sets = bench.pages("llm_webkit", "webmainbench", "engrafo", "readability")
    pages = [page for page in sets if _has(page, "formula", "inline_formula")]
    of = bench.outputs(FORMULAS, pages, markup=True)
    bench.notes += worst.lost_formulas(pages, of[OURS], bench.arguments.worst)
    return quality.formulas(pages, of)


def code(bench: Bench) -> list[Row]:
    pages = [page for page in bench.pages("llm_webkit", "webmainbench") if _has(page, "code")]
    of = bench.outputs(MARKUP, pages, markup=True)
    bench.notes += worst.altered_code(pages, of[OURS], bench.arguments.worst)
    return quality.code(pages, of)


def tables(bench: Bench) -> list[Row]:
    pages = [page for page in bench.pages("llm_webkit", "webmainbench") if _has(page, "table")]
    return quality.tables(pages, bench.outputs(MARKUP, pages, markup=True))


def facts(bench: Bench) -> list[Row]:
    return quality.facts(bench.pages("trafilatura", "readability"))


def warc(bench: Bench) -> list[Row]:
    path = bench.work / "pages.warc.gz"
    amount = archive.make(bench.pages(*gold.SETS), path)
    return archive.rows(path, amount, max(1, bench.arguments.rounds // 2))


def _has(page: GoldPage, *kinds: str) -> bool:
    return any(element.kind in kinds for element in page.elements)


TITLES: dict[str, tuple[Callable[[Bench], list[Row]], str, tuple[str, ...]]] = {
    "articles": (
        articles,
        "article-extraction-benchmark, its own metric, and MB of HTML a second of one core",
        ("extractor", "precision", "recall", "f1", "f1_95", "f1_lead", "f1_lead_95", "failed", "rate", "times"),
    ),
    "segments": (
        segments,
        "trafilatura's annotated pages: segments that must and must not come out",
        ("extractor", "precision", "recall", "f1", "f1_95", "accuracy", "missed", "let_in", "failed"),
    ),
    "readability": (
        readability,
        "readability's pairs: shingles of four words against expected.html",
        ("extractor", "precision", "recall", "f1", "f1_95", "failed"),
    ),
    "kinds": (kinds, "WebMainBench's sample and llm-web-kit's bench: F1 of shingles by kind of page", ("kind", "pages", *MARKUP)),
    "formulas": (formulas, "formulas of the gold that come out equal", ("set", "formulas", *FORMULAS)),
    "code": (code, "code blocks: same text in a fence; same lines anywhere; same letters", ()),
    "tables": (tables, "cells of tables, and rows in which all cells agree", ()),
    "facts": (facts, "titles, bylines, dates: share of those given, and share right of those found", ()),
    "warc": (warc, "WARC to text: MB of HTML a second of one core; two processes by the clock and by CPU time", ()),
}


def shown(title: str, columns: Sequence[str], rows: Sequence[Row]) -> Table:
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="left" if name in ("extractor", "way", "set", "kind", "blocks") else "right")
    for row in rows:
        table.add_row(*(_cell(name, row.get(name)) for name in names))
    return table


def _cell(name: str, value: Any) -> str:
    match value:
        case (low, high):
            return f"{low:+.3f} … {high:+.3f}" if "lead" in name else f"{low:.3f} … {high:.3f}"
        case float():
            return (
                f"{value:.1f}" if name in ("rate", "times", "times_trafilatura") else f"{value:+.3f}" if "lead" in name else f"{value:.3f}"
            )
        case None:
            return ""
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / ".data", help="folder of the real data")
    parser.add_argument("--only", default="", metavar="WORD", help=f"tables whose name holds WORD: {', '.join(TABLES)}")
    parser.add_argument("--pages", type=int, metavar="N", help="the first N pages of each set, for a quick look")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="in which rates are measured (5)")
    parser.add_argument(
        "--worst", type=int, default=0, metavar="N", help="also: the N pages of each set that we do worst on, and what is wrong"
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="our models of the folds, each trained without the pages it is used for")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    arguments = parser.parse_args()
    if not (arguments.data / "web").is_dir():
        raise SystemExit(f"{arguments.data}: no folder of real data with web/ in it. Name it with --data")
    logging.disable(logging.CRITICAL)  # trafilatura logs every page it gives up
    about = machine()
    cores = os.sched_getaffinity(0)
    console = Console(width=None if os.isatty(1) else 160)
    console.print(f"{about['cpu']}, {about['cores']} cores, load {about['load']}. Python {about['python']}", highlight=False)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="codedev-bench-") as folder:
        arguments.work = folder
        bench = Bench(arguments)
        for name in TABLES:
            if arguments.only not in name:
                continue
            make, title, columns = TITLES[name]
            os.sched_setaffinity(0, cores if name == "warc" else {max(cores)})
            made = make(bench)
            os.sched_setaffinity(0, cores)
            console.print(shown(title, columns, made), "", highlight=False)
            rows += [{"table": name, **row} for row in made]
    for note in bench.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    if arguments.json:
        settings = {"pages": arguments.pages, "rounds": arguments.rounds, "cross_validated": arguments.models is not None}
        write_json(arguments.json, "extract", about, settings, rows)


if __name__ == "__main__":
    main()
