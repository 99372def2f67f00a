"""The report as Markdown: every figure as tables, for a terminal, a pull request or a model to read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from codedev.corpus.report.figure import Figure
from codedev.corpus.report.text import clip, counted, neutral, share, shown

_SYNTAX = re.compile(r"[\\`*\[\]<>|&~]")
QUOTE = 160  # characters of an example


def render(report: dict[str, Any], figures: list[Figure]) -> str:
    corpus = report["corpus"]
    lines = [f"# Corpus report: {_text(corpus['name'])}", ""]
    lines += [f"codedev {_text(corpus['codedev'])} · recipe {_text(corpus['recipe_hash'])} · seed {corpus['seed']}", ""]
    if report["alarms"]:
        lines += ["## Alarms", "", *(f"- **{_text(alarm['said'])}** See: {_code(alarm['look'])}" for alarm in report["alarms"]), ""]
    for figure in figures:
        lines += [f"## {figure.title}", "", figure.guide, ""]
        if "empty" in figure.data:
            lines += [figure.data["empty"], ""]
        else:
            lines += _RENDER[figure.kind](figure.data)
            if "table" in figure.data and figure.kind != "table":
                lines += _data_table(figure.data)
            if "see" in figure.data:
                lines += [*(f"- {_seen(one)}" for one in figure.data["see"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _text(value: Any) -> str:
    """`value` as literal text in one line: Markdown's and HTML's own characters are escaped."""
    return _SYNTAX.sub(lambda match: f"\\{match[0]}", " ".join(neutral(str(value)).split()))


def _code(command: str) -> str:
    """A command in a line of its own type; where it holds a backtick itself, as literal text."""
    told = " ".join(neutral(command).split())
    return _text(told) if "`" in told else f"`{told}`"


def _seen(one: dict[str, Any]) -> str:
    return _text(one["text"]) + (f" {_code(one['command'])}" if one["command"] else "")


def _table(heads: Iterable[tuple[str, str]], rows: Iterable[Iterable[Any]]) -> list[str]:
    heads = list(heads)
    lines = ["| " + " | ".join(_text(title) for title, _ in heads) + " |"]
    lines.append("|" + "|".join("---" if unit in ("text", "verdict") else "---:" for _, unit in heads) + "|")
    for row in rows:
        cells = (_cell(value, unit) for value, (_, unit) in zip(row, heads, strict=True))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _cell(value: Any, unit: str) -> str:
    return ("holds" if value else "**broken**") if unit == "verdict" else _text(shown(value, unit))


def _data_table(data: dict[str, Any]) -> list[str]:
    heads = [(column["title"], column["unit"]) for column in data["table"]["columns"]]
    return [f"{data['table']['caption']}:", "", *_table(heads, data["table"]["rows"])]


def _tiles(data: dict[str, Any]) -> list[str]:
    rows = [(tile["label"], shown(tile["value"], tile["unit"]), tile["note"]) for tile in data["tiles"]]
    return _table([("", "text"), ("Value", "text"), ("Note", "text")], rows)


def _waterfall(data: dict[str, Any]) -> list[str]:
    return []  # its table has it all


def _examples(data: dict[str, Any]) -> list[str]:
    heads = [("Reason", "text"), ("Stage", "text"), ("Count", "count"), ("Of records", "share"), ("Sources", "text")]
    rows = []
    for group in data["groups"]:
        sources = counted({source["name"]: source["count"] for source in group["sources"]})
        rows.append((group["name"], group["place"], group["count"], group["share"], sources))
    lines = _table(heads, rows)
    quoted = []
    for group in data["groups"]:
        for example in group["examples"]:
            text = "(no text kept)" if example["text"] is None else clip(example["text"], QUOTE)
            quoted.append((group["name"], example["id"] or "", example["said"], example["origin"], text))
    heads = [(title, "text") for title in ("Reason", "Id", "Why", "Origin", "Text")]
    return lines + (["Examples:", "", *_table(heads, quoted)] if quoted else [])


def _bars(data: dict[str, Any]) -> list[str]:
    lines = []
    for group in data["groups"]:
        rows = [(bar["label"], bar["value"], bar["share"], bar["note"]) for bar in group["bars"]]
        lines += [f"### {_text(group['name'])}", "", _text(group["note"]), ""]
        lines += _table(
            [("", "text"), ("Bytes" if group["unit"] == "bytes" else "Documents", group["unit"]), ("Share", "share"), ("", "text")], rows
        )
    return lines


def _histogram(data: dict[str, Any]) -> list[str]:
    lines = []
    for panel in data["panels"]:
        heads = [("From", "number"), ("To", "number")]
        heads += [(series["name"], "text") for series in panel["series"] if series["count"]]
        rows = []
        for at in range(len(panel["edges"]) - 1):
            counts = [(series["counts"][at], series["count"]) for series in panel["series"] if series["count"]]
            if any(number for number, _ in counts):
                rows.append((*panel["edges"][at : at + 2], *(f"{number:,} ({share(number / whole)})" for number, whole in counts)))
        lines += [f"### {_text(panel['name'])}{', ' + panel['unit'] if panel['unit'] else ''}", "", *_table(heads, rows)]
    return lines


_RENDER = {
    "tiles": _tiles,
    "table": _data_table,
    "waterfall": _waterfall,
    "examples": _examples,
    "bars": _bars,
    "histogram": _histogram,
}
