"""What a figure is: plain data that html.py, markdown.py and JSON show each in its own way.

`data` by kind; every kind may also hold a `table`, `see`: [{text, command, figure}] (where to look further: a command, another figure's
id, or null) and, in place of everything, `empty`: why there is nothing to show.

    tiles      tiles: [{label, value, unit, note, tone}]
    table      table: {caption, columns: [{title, unit}], rows: [[value]]}
               of `change` also curves: [{stage, reason, column, bound, side, dropped, points: [{at, change}]}], all of them
    waterfall  sources: [{name, type, rows_in, rows_out, stages: [{stage, rows_in, rows_out, losses: [{name, count, tone}]}]}]
    examples   groups: [{name, place, count, share, tone, sources, examples: [{source, id, origin, said, text, cut}]}]
    bars       groups: [{name, note, unit, bars: [{label, value, share, note, tone}]}]
    histogram  panels: [{name, note, unit, edges: [n + 1 numbers], clipped, series: [{name, tone, count, counts: [n numbers]}],
                         marks: [{at, label}]}]; the bins are drawn equally wide

Units: count, bytes, share (of 1), number, text, verdict (true or false). Tones: kept, drop, error, unknown, other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["tiles", "table", "waterfall", "examples", "bars", "histogram"]


@dataclass(frozen=True)
class Figure:
    id: str  # the anchor in the page and the key in the JSON
    title: str
    guide: str  # one sentence: how to read it
    kind: Kind
    data: dict[str, Any]


def table(caption: str, columns: list[tuple[str, str]], rows: list[list[Any]]) -> dict[str, Any]:
    """A table from its (title, unit) columns and its rows."""
    return {"caption": caption, "columns": [{"title": title, "unit": unit} for title, unit in columns], "rows": rows}
