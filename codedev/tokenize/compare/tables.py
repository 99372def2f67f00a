"""The figures of a comparison as tables, the same for the terminal and the page."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, NamedTuple

from codedev.corpus.report.text import shown
from codedev.tokenize.compare.figures import BY, METRICS

TITLES = {"kind": "By kind", "source": "By source", "language": "By language", "programming_language": "By programming language"}
LABEL = 16  # characters of a tokenizer's label


class Row(NamedTuple):
    title: str
    values: list[Any]  # of each tokenizer
    unit: str  # number, share, count
    best: list[bool]


def labels(names: list[str]) -> list[str]:
    """Short names for columns: as many of each path's last parts as tell them apart."""
    parts = [[part for part in PurePath(name).parts if part not in ("tokenizer.json", "tokenizer.model")] or [name] for name in names]
    for depth in range(1, max(map(len, parts)) + 1):
        short = ["/".join(some[-depth:]) for some in parts]
        if len(set(short)) == len(short):
            break
    cut = [name if len(name) <= LABEL else "…" + name[1 - LABEL :] for name in short]
    return cut if len(set(cut)) == len(cut) else [f"{number + 1} {name}"[:LABEL] for number, name in enumerate(short)]


def overall(figures: dict[str, Any]) -> list[Row]:
    """What every tokenizer is, and its figures over the whole sample; without what the sample has nothing of."""
    told = figures["tokenizers"]
    rows = [
        _row("vocabulary", [one["size"] for one in told], "count", 0),
        _row("of it used", [one["used_share"] for one in told], "share", 0),
    ]
    rows += [metric_row(metric.key, [one["overall"] for one in told], metric.title) for metric in METRICS]
    rows += [
        _row(f"MB a second and core, {words}", [one["speed"][key] for one in told], "number", 1)
        for key, words in (("first_mb_s", "first pass"), ("warm_mb_s", "again"))
    ]
    return [row for row in rows if any(value is not None for value in row.values)]


def by_group(figures: dict[str, Any], by: str, key: str) -> list[tuple[int, Row]]:
    """(bytes of the sample, a figure of each tokenizer) of every group of `by`, one of BY."""
    found = []
    for group, facts in figures["facts"][by].items():
        row = metric_row(key, [one[by][group] for one in figures["tokenizers"]], group)
        if any(value is not None for value in row.values):
            found.append((facts["bytes"], row))
    return found


def metric_row(key: str, figures: list[dict[str, Any]], title: str) -> Row:
    metric = next(metric for metric in METRICS if metric.key == key)
    return _row(title, [one[key] for one in figures], metric.unit, metric.better)


def _row(title: str, values: list[Any], unit: str, better: int) -> Row:
    known = [value for value in values if value is not None]
    best = None
    if better and len(known) > 1 and len(set(known)) > 1:
        best = max(known) if better > 0 else min(known)
    return Row(title, values, unit, [best is not None and value == best for value in values])


def cell(value: Any, unit: str) -> str:
    """Figures of one row with the same number of decimals, so that they can be read one below another."""
    if value is not None and unit == "number" and abs(value) < 1000:
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return shown(value, unit)


__all__ = ["BY", "TITLES", "Row", "by_group", "cell", "labels", "metric_row", "overall"]
