"""A page's view as a terminal shows it. What comes from the page is shown as it is, but for what a terminal would obey."""

from __future__ import annotations

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from codedev._errors import printable
from codedev._terminal import size
from codedev.corpus.page.seen import Block, Entry, Only, View, chosen, facts

_FILE_WIDTH = 200  # of tables in files and pipes
_TEXT = 300  # characters of a block that can reach the screen


def show_facts(view: View) -> None:
    """On stderr, so that stdout is the text alone."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts(view):
        table.add_row(name, Text(printable(value)))
    _print(table, stderr=True)


def show_text(view: View) -> None:
    """The bytes of the text into a file or a pipe; on a terminal, what it would obey is spelled out."""
    text = view.text.rstrip("\n")
    if sys.stdout.isatty():
        from codedev.corpus.look import visible

        text = visible(text)
    print(text)


def show_blocks(view: View, only: Only | None = None) -> None:
    """The blocks in the page's order. K is kept, d is dropped, also where there is no colour; `rule` is what overruled the score."""
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
    table.add_column("")
    for name, justify in (("score", "right"), ("rule", "left"), ("tag", "left"), ("words", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # one of rich's words
    table.add_column("text, and why", ratio=1, overflow="fold")
    for block in chosen(view, only):
        letter = Text("K", style="bold green") if block.kept else Text("d", style="red")
        table.add_row(
            letter, f"{block.score:.2f}", "" if block.reason == "score" else block.reason, block.tag, f"{block.words:,}", _told(block)
        )
    _print(table)


def _told(block: Block) -> Group:
    words = Text(printable(" ".join(block.text[:_TEXT].split())), style="" if block.kept else "dim", no_wrap=True, overflow="ellipsis")
    return Group(words, Text("; ".join(block.because[:2]), style="italic cyan" if block.kept else "italic yellow"))


def show_pages(entries: list[Entry]) -> None:
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("record", "offset", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("page", overflow="fold")
    for entry in entries:
        page = Group(
            Text(printable(entry.url), style="bold"),
            *([Text(printable(entry.title), no_wrap=True, overflow="ellipsis")] * bool(entry.title)),
            *([Text(f"no title: {printable(entry.error)}", style="yellow")] if entry.error else []),
        )
        table.add_row(f"{entry.record:,}", str(entry.offset), size(entry.bytes), page)
    _print(table)


def _print(table: Table, *, stderr: bool = False) -> None:
    """Into a file or a pipe, without the blanks that fill a line up."""
    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(stderr=stderr, highlight=False, width=_FILE_WIDTH)
    with wide.capture() as held:
        wide.print(table)
    lines = [line.rstrip() for line in held.get().splitlines()]
    print("\n".join(line for line in lines if line), file=sys.stderr if stderr else sys.stdout)
