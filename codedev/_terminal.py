"""What a person sees: progress bars, tables, sizes. Results go to stdout, progress to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from codedev._run import Progress, no_progress

_BYTES = frozenset({"plan", "read", "encode", "sample"})  # what is counted in bytes; everything else in pieces
_LOG_SECONDS = 10.0  # between log lines where stderr is no terminal


@contextlib.contextmanager
def watch(*, quiet: bool = False) -> Iterator[Progress]:
    """A Progress that draws bars with rate and time left on a terminal, and logs a line every so often elsewhere."""
    if quiet:
        yield no_progress
    elif sys.stderr.isatty():
        yield from _bars()
    else:
        yield _log_lines()


@contextlib.contextmanager
def compiling(*, quiet: bool = False) -> Iterator[None]:
    """Says once, when the first kernel that is not in the cache is compiled, what a fresh installation waits for."""
    if quiet:
        yield
        return
    from numba.core.event import Event, Listener, install_listener

    class Told(Listener):
        done = os.getpid()  # of this process: its workers, if they inherit it, say nothing

        def on_start(self, event: Event) -> None:
            if self.done == os.getpid():
                self.done = 0
                note("compiling kernels, once an installation (a minute or two): `codedev doctor --warm` does it beforehand")

        def on_end(self, event: Event) -> None:
            pass

    with install_listener("numba:compile", Told()):
        yield


def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.table import Column
    from rich.text import Text

    class Note(ProgressColumn):
        """Gives way where the terminal is narrow, so that no other column does."""

        max_refresh = None

        def render(self, task: Task) -> Text:
            return Text(task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=max(6, min(32, console.width - 90))),  # 90: the other columns, and a note of 35
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rate]:>12}", style="cyan"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        Note(Column(no_wrap=False)),
    )
    tasks: dict[str, Any] = {}
    started: dict[str, float] = {}
    with Bars(*columns, console=console, refresh_per_second=5) as bars:

        def progress(what: str, done: int, total: int | None, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, rate="", note="")
                started[what] = time.monotonic()
            rate = done / max(time.monotonic() - started[what], 1e-3)
            bars.update(tasks[what], completed=done, total=total, rate=_rate(what, rate), note=note or _amount(what, done))

        yield progress
        for task in tasks.values():  # a stage that counted without knowing its end has ended now
            if bars.tasks[task].total is None:
                bars.update(task, total=max(bars.tasks[task].completed, 1), completed=max(bars.tasks[task].completed, 1))


def _log_lines() -> Progress:
    last: dict[str, float] = {}
    started: dict[str, float] = {}

    def progress(what: str, done: int, total: int | None, note: str = "") -> None:
        now = time.monotonic()
        started.setdefault(what, now)
        finished = total is not None and done >= total
        if now - last.get(what, started[what]) >= _LOG_SECONDS or finished:
            last[what] = now
            share = f" {done / total:.0%}" if total else ""
            rate = _rate(what, done / max(now - started[what], 1e-3)) if now - started[what] > 1 else ""
            print(f"{what}:{share} {note or _amount(what, done)} {rate}".rstrip(), file=sys.stderr, flush=True)

    return progress


def _rate(what: str, rate: float) -> str:
    return f"{size(rate)}/s" if what in _BYTES else f"{rate:,.0f}/s"


def _amount(what: str, done: int) -> str:
    return size(done) if what in _BYTES else f"{done:,}"


def size(count: float) -> str:
    """Bytes for people: decimal units, three digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 999.5 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def note(message: str) -> None:
    """A line for the person, on stderr."""
    print(message, file=sys.stderr, flush=True)


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table on stdout: the first column is text, numbers are right-aligned with thousands separators."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        numeric = any(isinstance(row[place], int | float) and not isinstance(row[place], bool) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # into a file or a pipe nothing is folded for want of width
    console.print(Text(title, style="bold"))
    console.print(table)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4g}"
        case _:
            return str(value)


def print_waterfall(manifest: dict[str, Any]) -> None:
    """Read, dropped by reason, errors, kept, for every source and stage; then the totals."""
    rows: list[list[Any]] = []
    for source, stages in manifest["waterfall"].items():
        for stage in stages:
            if stage["stage"] != "read" and not (stage["drop"] or stage["error"] or stage["notes"]):
                continue  # nothing happened here
            lost = [("drop", *pair) for pair in stage["drop"].items()] + [("error", *pair) for pair in stage["error"].items()]
            lost.sort(key=lambda entry: -entry[2])
            text = ", ".join(f"{word} {count:,}" for kind, word, count in lost if kind == "drop")
            errors = ", ".join(f"{word} {count:,}" for kind, word, count in lost if kind == "error")
            notes = ", ".join(f"{word.replace('_', ' ')} {count:,}" for word, count in stage["notes"].items())
            if stage.get("joined"):
                notes = ", ".join(filter(None, [f"joined into documents {stage['joined']:,}", notes]))
            rows.append([source, stage["stage"], stage["rows_in"], text, errors, stage["rows_out"], notes])
            source = ""
        rows.append(["", "kept", None, "", "", stages[-1]["rows_out"], ""])
    print_table("Waterfall", ["source", "stage", "in", "dropped", "errors", "out", "changed"], rows)
    totals = manifest["totals"]
    print(
        f"records {totals['records']:,} = kept {totals['documents']:,} + dropped {totals['dropped']:,} + errors {totals['errors']:,}"
        + (f" + joined into documents {totals['joined']:,}" if totals.get("joined") else "")
        + (f" + removed {totals['removed'] + totals['erased']:,}" if "removed" in totals else "")
        + f"    raw {size(totals['bytes_in'])} -> text {size(totals['text_bytes'])}"
    )


def print_tokens(out: str, result: dict[str, Any]) -> None:
    """The balance of a shard directory and of its held-out part; of a directory of tables what each kind of them holds."""
    if result["manifest"]["mode"] in ("preference", "prompt"):
        _print_token_tables(out, result)
        return
    rows = []
    for name, manifest in ((out, result["manifest"]), (f"{out}/heldout", result["heldout"])):
        if manifest is not None:
            counts = manifest["counts"]
            cells = max(manifest["rows"] * manifest["seq_len"], 1)
            rows.append([
                name, counts["documents"], counts["bytes"], counts["tokens_in"], counts["tokens_packed"], counts["tokens_truncated"],
                manifest["rows"], f"{counts['padding'] / cells:.2%}",
            ])  # fmt: skip
    print_table("Tokens", ["shards", "documents", "bytes", "tokens in", "packed", "truncated", "rows", "padding"], rows)
    manifest = result["manifest"]
    if "mixture" in manifest:
        groups = manifest["mixture"]["groups"].items()
        cells = [
            [
                name, group["tokens"], group["tokens_asked"] or "", group["tokens_mixed"],
                f"{group['tokens_mixed'] / max(group['tokens'], 1):.3g}", f"{group['share']:.2%}",
            ]
            for name, group in groups
        ]  # fmt: skip
        print_table(f"Mixture by {manifest['mixture']['by']}", ["", "tokens", "asked", "mixed", "epochs", "share"], cells)
        short = [name for name, group in groups if group["tokens_mixed"] < 0.9 * (group["tokens_asked"] or 0)]
        if short:
            print(f"more than a tenth short of what was asked, as documents are taken whole: {', '.join(short)}")
    _print_dropped(result)


def _print_token_tables(out: str, result: dict[str, Any]) -> None:
    rows = []
    for name, manifest in ((out, result["manifest"]), (f"{out}/heldout", result["heldout"])):
        if manifest is not None:
            counts = manifest["counts"]
            rows += [[name, kind, counts[kind]] for kind in sorted(counts) if kind not in ("documents", "tokens", "dropped")]
    print_table("Tables", ["directory", "table", "rows"], rows)
    _print_dropped(result)


def _print_dropped(result: dict[str, Any]) -> None:
    dropped: dict[str, int] = {}
    for manifest in (result["manifest"], result["heldout"]):
        for reason, count in (manifest or {}).get("dropped", {}).items():
            dropped[reason] = dropped.get(reason, 0) + count
    if dropped:
        print_table("Documents that give no tokens", ["reason", "documents"], sorted(([*pair] for pair in dropped.items()), key=str))


def clock(seconds: float) -> str:
    """4:05, 2:04:05, 3 d 4 h"""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole % 86400 // 3600, whole % 3600 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
