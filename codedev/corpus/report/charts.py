"""Charts as inline SVG and HTML. Every length is in per cent or pixels of the place the chart stands in, so that type never scales and
nothing needs an inline style; every text goes through `esc`."""

from __future__ import annotations

import html
import math
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from codedev.corpus.report.text import count, counted, neutral, share, shown

FIRST = 8  # charts of a kind that stand open; the others are folded
NAMED = 4  # losses of a stage, or sources of a loss, that are named; the others are added up
OPEN = 3  # drop reasons whose examples stand open


def esc(value: Any) -> str:
    """Any value as literal text of an HTML element or attribute."""
    return html.escape(neutral(str(value)), quote=True)


def percent(part: float, whole: float) -> str:
    """A length in per cent of `whole`, short: 12.34%."""
    return f"{100 * part / whole if whole else 0:.2f}".rstrip("0").rstrip(".") + "%"


def tiles(data: dict[str, Any]) -> str:
    def tile(one: dict[str, Any]) -> str:
        exact = f' title="{esc(count(one["value"]))} bytes"' if one["unit"] == "bytes" else ""
        value = f'<dd class="value"{exact}>{esc(shown(one["value"], one["unit"]))}</dd>'
        return f'<div class="tile {one["tone"]}"><dt>{esc(one["label"])}</dt>{value}<dd class="note">{esc(one["note"])}</dd></div>'

    return f'<dl class="tiles">{"".join(map(tile, data["tiles"]))}</dl>'


def see(places: list[dict[str, Any]]) -> str:
    """Where to look further, a line each: words that may lead to another figure, and a command."""

    def line(one: dict[str, Any]) -> str:
        words = esc(one["text"])
        words = f'<a href="#{esc(one["figure"])}">{words}</a>' if one["figure"] else words
        return f"<li>{words}" + (f' <code class="command">{esc(one["command"])}</code>' if one["command"] else "") + "</li>"

    return f'<ul class="see">{"".join(map(line, places))}</ul>' if places else ""


def legend(*tones: tuple[str, str]) -> str:
    """A key to the colours: (class, words)."""
    return '<ul class="legend">' + "".join(f'<li><i class="swatch {tone}"></i>{esc(words)}</li>' for tone, words in tones) + "</ul>"


def waterfall(data: dict[str, Any]) -> str:
    flows = data["sources"]
    tones = {loss["tone"] for flow in flows for stage in flow["stages"] for loss in stage["losses"]}
    joined = [("joined", "joined into documents")] if "joined" in tones else []
    parts = [legend(("kept", "goes on"), *joined, ("drop", "dropped here"), ("error", "unreadable"), ("track", "lost before"))]
    for index, flow in enumerate(flows):
        read, out = flow["rows_in"], flow["rows_out"]
        kind = f'<span class="badge">{esc(flow["type"])}</span>' if flow["type"] and flow["type"] != flow["name"] else ""
        lost = {
            tone: sum(x["count"] for s in flow["stages"] for x in s["losses"] if x["tone"] == tone) for tone in ("joined", "drop", "error")
        }
        title = f"{count(out)} kept, {count(lost['drop'])} dropped, {count(lost['error'])} errors"
        if lost["joined"]:
            title += f", {count(lost['joined'])} joined into the documents of others"
        whole = _segments([(out, "kept", title), *((lost[tone], tone, title) for tone in lost)], read)
        mini = f'<svg class="mini" aria-hidden="true">{whole}</svg>'
        head = f'<span class="name">{esc(flow["name"])}</span>{kind}{mini}<span class="n">{count(out)} of {count(read)}</span>'
        head += f'<span class="n share">{share(out / read) if read else "–"}</span>'
        steps = "".join(_step(stage, read) for stage in flow["stages"])
        first = f'<li><span class="stage">records</span>{_bar([(read, "kept", f"{count(read)} records read")], read, "records read")}'
        first += f'<span class="n">{count(read)}</span><span class="n share">{share(1.0) if read else "–"}</span></li>'
        is_open = " open" if index == 0 or len(flows) <= 5 else ""
        parts.append(f'<details class="flow"{is_open}><summary>{head}</summary><ol class="steps">{first}{steps}</ol></details>')
    return "".join(parts)


def _step(stage: dict[str, Any], read: int) -> str:
    losses = stage["losses"]
    named, others = losses[:NAMED], losses[NAMED:]
    segments = [(stage["rows_out"], "kept", f"{count(stage['rows_out'])} go on")]
    for index, loss in enumerate(named):
        tone = f"drop s{index % 3}" if loss["tone"] == "drop" else loss["tone"]
        title = f"{loss['name']}: {count(loss['count'])}, {share(loss['count'] / read)} of the records"
        segments.append((loss["count"], tone, title))
    if others:
        segments.append((sum(loss["count"] for loss in others), "drop s1", f"{len(others)} more reasons"))
    words = [f'<span class="{loss["tone"]}">{esc(loss["name"])} {count(loss["count"])}</span>' for loss in named]
    why = f'<span class="why">{" · ".join(words + [f"{len(others)} more"] * bool(others))}</span>' if words else ""
    label = f"{stage['stage']}: {count(stage['rows_out'])} of {count(stage['rows_in'])} go on"
    cells = (
        f'<span class="stage">{esc(stage["stage"])}</span>{_bar(segments, read, label)}<span class="n">{count(stage["rows_out"])}</span>'
    )
    cells += f'<span class="n share">{share(stage["rows_out"] / read) if read else "–"}</span>'
    return f"<li>{cells}{why}</li>"


def _bar(segments: list[tuple[int, str, str]], whole: int, label: str) -> str:
    track = '<rect class="track" width="100%" height="100%"/>'
    return f'<svg class="step" role="img" aria-label="{esc(label)}">{track}{_segments(segments, whole)}</svg>'


def _segments(segments: list[tuple[int, str, str]], whole: int) -> str:
    """Rectangles side by side; one for nothing is left out."""
    drawn, at = [], 0
    for value, tone, title in segments:
        if value:
            place = f'x="{percent(at, whole)}" width="{percent(value, whole)}" height="100%"'
            drawn.append(f'<rect class="{tone}" {place}><title>{esc(title)}</title></rect>')
            at += value
    return "".join(drawn)


def examples(data: dict[str, Any]) -> str:
    most = max(group["count"] for group in data["groups"])
    return '<div class="reasons">' + "".join(_reason(group, index, most) for index, group in enumerate(data["groups"])) + "</div>"


def _reason(group: dict[str, Any], index: int, most: int) -> str:
    place = f'<span class="badge">{esc(group["place"])}</span>' if group["place"] else ""
    head = f"<h3>{esc(group['name'])}</h3>{place}"
    head += f'<span class="n">{count(group["count"])}</span><span class="n share">{share(group["share"])} of records</span>'
    bar = f'<svg class="thin" aria-hidden="true">{_segments([(group["count"], group["tone"], "")], most)}</svg>'
    sources = counted({source["name"]: source["count"] for source in group["sources"]}, NAMED)
    body = f'<p class="note">{esc(sources)}</p>'
    if group["examples"]:
        number = len(group["examples"])
        quotes = "".join(map(_quote, group["examples"]))
        words = f"{number} example{'s' * (number != 1)}"
        body += f'<details{" open" if index < OPEN else ""}><summary>{words}</summary><ul class="quotes">{quotes}</ul></details>'
    return f'<article class="reason"><header>{head}</header>{bar}{body}</article>'


def _quote(example: dict[str, Any]) -> str:
    said = f'<p class="said">{esc(example["said"])}</p>' if example["said"] else ""
    name = f"<code>{esc(example['id'])}</code> " if example["id"] else ""
    if example["text"] is None:
        text = '<p class="note">No text is kept with it: its bytes are at the place above.</p>'
    else:
        text = f'<pre tabindex="0" dir="auto">{esc(example["text"])}</pre>' if example["text"] else '<p class="note">The text is empty.</p>'
    return f'<li>{said}<p class="from">{name}<span class="badge">{esc(example["source"])}</span> {esc(example["origin"])}</p>{text}</li>'


def bars(data: dict[str, Any]) -> str:
    return _folded([_card(group) for group in data["groups"]])


def _card(group: dict[str, Any]) -> str:
    most = max(bar["value"] for bar in group["bars"])

    def row(bar: dict[str, Any]) -> str:
        title = " · ".join(filter(None, [bar["label"], shown(bar["value"], group["unit"]), share(bar["share"]), bar["note"]]))
        drawn = f'<svg aria-hidden="true"><rect class="{bar["tone"]}" width="{percent(bar["value"], most)}" height="100%"/></svg>'
        label = f'<span class="label" dir="auto">{_label(bar["label"])}</span>'
        numbers = f'<span class="n">{shown(bar["value"], group["unit"])}</span><span class="n share">{share(bar["share"])}</span>'
        return f'<li class="{bar["tone"]}" title="{esc(title)}">{drawn}{label}{numbers}</li>'

    head = f'<h3>{esc(group["name"])}</h3><p class="note">{esc(group["note"])}</p>'
    return f'<section class="card">{head}<ol class="bars">{"".join(map(row, group["bars"]))}</ol></section>'


def _label(label: str) -> str:
    """Of a long path the end tells most: where room is short, its folders are cut and not its name."""
    folder, slash, name = label.rpartition("/")
    return f'<i class="folder">{esc(folder)}</i><i class="file">{slash}{esc(name)}</i>' if folder and name else esc(label)


def histogram(data: dict[str, Any]) -> str:
    tones = {series["name"]: series["tone"] for panel in data["panels"] for series in panel["series"]}
    key = legend(*((tone, name) for name, tone in tones.items())) if len(tones) > 1 else ""
    return key + _folded([_panel(panel) for panel in data["panels"]])


def _folded(cards: list[str]) -> str:
    """The FIRST cards side by side, the others under a fold."""
    drawn = f'<div class="cards">{"".join(cards[:FIRST])}</div>'
    if cards[FIRST:]:
        drawn += (
            f'<details class="more"><summary>{len(cards) - FIRST} more</summary><div class="cards">{"".join(cards[FIRST:])}</div></details>'
        )
    return drawn


PLOT = 84  # pixels from the base line to the highest column
ROW = 14  # pixels of a line of small type


def _panel(panel: dict[str, Any]) -> str:
    """Columns above the base line for the first series and below it for the second, each as a share of its own count."""
    edges, series = panel["edges"], [one for one in panel["series"] if one["count"]]
    bins, mirrored = len(edges) - 1, len(panel["series"]) > 1
    marks = panel["marks"][:3]
    room = PLOT * 2 // 3 if mirrored else PLOT  # the same on both sides: the same share has the same height
    base = ROW * max(1, len(marks)) + room + 2
    floor = base + (room if mirrored else 0)
    tallest = max((number / one["count"] for one in series for number in one["counts"]), default=1) or 1
    drawn = []
    for one in series:
        up = one["tone"] == "kept"
        for at, number in enumerate(one["counts"]):
            if not number:
                continue
            height = max(1.0, number / one["count"] / tallest * room)
            title = f"{tick(edges[at])} – {tick(edges[at + 1])}: {count(number)} {one['name']}, {share(number / one['count'])}"
            place = f'x="{percent(at, bins)}" width="{percent(1, bins)}" y="{base - height if up else base:.1f}" height="{height:.1f}"'
            drawn.append(f'<rect class="{one["tone"]}" {place}><title>{esc(title)}</title></rect>')
    drawn.append(f'<line class="base" x1="0" x2="100%" y1="{base}" y2="{base}"/>')
    drawn += [_mark(mark, row, edges, base) for row, mark in enumerate(marks)]
    every = max(1, math.ceil(bins / 5))
    for at in range(0, bins + 1, every):
        more = "+" if at == bins and panel["clipped"] else ""
        anchor = "start" if at == 0 else "end" if at == bins else "middle"
        drawn.append(f'<text x="{percent(at, bins)}" y="{floor + ROW}" text-anchor="{anchor}">{tick(edges[at])}{more}</text>')
    unit = f" in {panel['unit']}" if panel["unit"] else ""
    label = f"Histogram of {panel['name']}{unit}: {panel['note']}; " + ", ".join(f"{mark['label']} {tick(mark['at'])}" for mark in marks)
    plot = f'<svg class="plot" role="img" aria-label="{esc(label)}" height="{floor + ROW + 4}">{"".join(drawn)}</svg>'
    head = f'<span class="name">{esc(panel["name"])}</span> <span class="note">{esc(panel["note"])}; highest column {share(tallest)}</span>'
    return f'<figure class="card"><figcaption>{head}</figcaption>{plot}</figure>'


def _mark(mark: dict[str, Any], row: int, edges: list[float], base: int) -> str:
    """A value on the axis: a line and its words, each mark's words in a row of their own."""
    bins, value = len(edges) - 1, min(max(mark["at"], edges[0]), edges[-1])
    at = min(bisect_right(edges, value) - 1, bins - 1)
    inside = (value - edges[at]) / (edges[at + 1] - edges[at])
    x = percent(at + inside, bins)
    side, gap = ("start", 4) if at + inside < bins * 0.6 else ("end", -4)
    kind = "median" if mark["label"] == "median" else "bound"
    words = f"{mark['label']} {tick(mark['at'])}" if kind == "median" else mark["label"]
    line = f'<line class="{kind}" x1="{x}" x2="{x}" y1="{row * ROW + 2}" y2="{base}"/>'
    return f'{line}<text class="{kind}" x="{x}" dx="{gap}" y="{(row + 1) * ROW - 3}" text-anchor="{side}">{esc(words)}</text>'


def tick(value: float) -> str:
    """A number on an axis in at most three digits: 0.25, 16, 4.1k, 33k, 1.2M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f}".removesuffix(".0") + unit if abs(value) < 10 * limit else f"{value / limit:.0f}{unit}"
    return f"{value:.3g}"


def table(data: dict[str, Any], *, fold: int = 30) -> str:
    """A table with a caption; more than `fold` rows are folded."""
    columns = data["columns"]
    heads = "".join(f'<th scope="col"{_numeric(column["unit"])}>{esc(column["title"])}</th>' for column in columns)
    rows = "".join(f"<tr>{''.join(_cells(row, columns))}</tr>" for row in data["rows"])
    caption = esc(data["caption"])
    wide = ' class="wide"' if len(columns) > 10 else ""
    drawn = f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table{wide}><caption>{caption}</caption>'
    drawn += f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    if len(data["rows"]) <= fold:
        return drawn
    return f'<details class="more"><summary>{caption}: {len(data["rows"])} rows</summary>{drawn}</details>'


def _numeric(unit: str) -> str:
    return ' class="n"' if unit in ("count", "bytes", "share", "number") else ""


def _cells(row: list[Any], columns: list[dict[str, str]]) -> Iterable[str]:
    for index, (value, column) in enumerate(zip(row, columns, strict=True)):
        unit = column["unit"]
        if unit == "verdict":
            yield '<td class="holds">✓ holds</td>' if value else '<td class="broken">✗ broken</td>'
        elif _numeric(unit):
            exact = f' title="{count(value)} bytes"' if unit == "bytes" and value is not None else ""
            sort = "" if value is None else f' data-v="{value:.6g}"' if isinstance(value, float) else f' data-v="{value}"'
            zero = " zero" if value == 0 else ""
            yield f'<td class="n{zero}"{sort}{exact}>{esc(shown(value, unit))}</td>'
        elif index == 0:
            yield f'<th scope="row">{esc(value)}</th>'
        else:
            yield f"<td>{esc(value)}</td>"
