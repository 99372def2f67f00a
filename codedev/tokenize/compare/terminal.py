"""A comparison as a terminal shows it. Names come from the command line and the corpus: what a terminal would obey in them is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from codedev._errors import printable
from codedev._terminal import size
from codedev.tokenize.compare.figures import BY
from codedev.tokenize.compare.tables import TITLES, Row, by_group, cell, labels, overall

GROUPS = 25  # rows of a table by group; the others are counted
_FILE_WIDTH = 200  # of tables in files and pipes


def show(figures: dict[str, Any], console: Console | None = None) -> None:
    """Print all tables on stdout."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_FILE_WIDTH, file=console.file)
    told = figures["tokenizers"]
    short = labels([one["name"] for one in told])
    sample, corpus = figures["sample"], figures["corpus"]
    _print(
        console,
        f"{corpus['path']}: a sample of {size(sample['bytes'])}, {sample['documents']:,} documents"
        f" of {size(corpus['bytes'])}, {corpus['documents']:,}; seed {sample['seed']}",
    )
    for label, one in zip(short, told, strict=True):
        why = f", encoded by the library: {one['why_library']}" if one["why_library"] else ""
        _print(console, f"  {label:<{max(map(len, short))}}  {one['name']}{why}")
    _tables(console, "Overall", short, [(None, row) for row in overall(figures)])
    for by in BY:
        rows = by_group(figures, by, "bytes_per_token")
        if len(rows) > 1 or (rows and by in ("language", "programming_language")):
            _tables(console, f"{TITLES[by]}: bytes per token", short, list(rows[:GROUPS]))
            if rows[GROUPS:]:
                _print(console, f"{len(rows) - GROUPS} more are in --json and --out\n")
    console.print(Text("Documents with most tokens beside the others", style="bold"))
    for label, one in zip(short, told, strict=True):
        for bad in one["worst"]:
            kind = " ".join(filter(None, (bad["kind"], bad["language"])))
            _print(console, f"  {label:<{max(map(len, short))}}  {bad['ratio']:.2f} times  {kind}  {bad['document']}")
    missing = sample["not_parsed"]
    if missing:
        _print(console, f"\nLexemes were not looked at in: {', '.join(f'{name} ({why})' for name, why in missing.items())}")


def _tables(console: Console, title: str, short: list[str], rows: list[tuple[int | None, Row]]) -> None:
    """One table, or several where the columns of all tokenizers have no room."""
    first = min(max(len(title), *(len(printable(row.title)) for _, row in rows)), max(24, console.width // 2))
    for begin, end in _fitting(short, console.width - first - (10 if rows[0][0] is not None else 0)):
        table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(Text(title), overflow="fold", max_width=first)
        if rows[0][0] is not None:
            table.add_column("bytes", justify="right", no_wrap=True)
        for label in short[begin:end]:
            table.add_column(Text(label), justify="right", overflow="fold", min_width=8)
        for count, row in rows:
            values = [
                Text(cell(value, row.unit), style="bold green" if best else "")
                for value, best in zip(row.values[begin:end], row.best[begin:end], strict=True)
            ]
            table.add_row(Text(printable(row.title)), *([] if count is None else [size(count)]), *values)
        console.print(table)


def _fitting(short: list[str], width: int) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < len(short):
        end, used = begin, 0
        while end < len(short) and (end == begin or used + max(8, len(short[end])) + 2 <= width):
            used += max(8, len(short[end])) + 2
            end += 1
        yield begin, end
        begin = end


def _print(console: Console, line: str) -> None:
    console.print(Text("\n".join(map(printable, line.split("\n")))), soft_wrap=True)
