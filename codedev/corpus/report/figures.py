"""The figures of the report. To add one: write a function `CorpusData -> Figure` and name it in FIGURES, at the end.

A figure is plain data (figure.py); nothing here knows of HTML. Sources keep the recipe's order, everything else is ranked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson

from codedev.corpus.report.checks import checks
from codedev.corpus.report.data import CorpusData, Example, Lengths, StageCounts
from codedev.corpus.report.figure import Figure, table
from codedev.corpus.report.near import near_duplicates
from codedev.corpus.report.panels import panel
from codedev.corpus.report.sketch import TopSums
from codedev.corpus.report.text import NONE, clip, count, counted, evidence, neutral, ratio, share, size

TOP = 15  # bars of a group; with many sources TOP_OF_MANY, to keep the page small
TOP_OF_MANY = 8
MANY = 12  # sources
NAMED = 4  # losses of a stage in the table; the figure's data has all
MOVES = (0.5, 0.8, 0.9, 1.1, 1.25, 2.0)  # times a bound
BOUNDS = 60  # thresholds in the table; bounds by language may be thousands
QUOTED = 30  # drop reasons and error kinds that are shown with examples
_BLANK = re.compile(r"(?:[^\S\n]*\n){3,}")  # lines that would fill an excerpt with nothing


def headline(data: CorpusData) -> Figure:
    records, kept = _records(data), _documents(data)
    dropped = sum(sum(stage.drop.values()) for stages in data.waterfall.values() for stage in stages)
    errors = sum(sum(stage.error.values()) for stages in data.waterfall.values() for stage in stages)
    text = sum(source.bytes for source in data.kept.values())
    unknown = [source.licences.sums.get(None, (0, 0)) for source in data.kept.values()]
    unknown_bytes, unknown_documents = (sum(part) for part in zip(*unknown, strict=True)) if unknown else (0, 0)
    files, bytes_in = sum(source.files for source in data.sources), sum(source.bytes_in for source in data.sources)
    checked = checks(data)
    broken = sum(not check[3] for check in checked)
    many = f"{len(data.sources)} source{'s' * (len(data.sources) != 1)}"
    tiles = [
        ("Records read", records, "count", f"{count(files)} files, {size(bytes_in)}, {many}", ""),
        ("Documents kept", kept, "count", f"of {count(records)} records", "kept"),
        ("Text kept", text, "bytes", f"{size(ratio(text, kept))} a document on average" if kept else "no document was kept", "kept"),
        ("Dropped", dropped, "count", f"{share(ratio(dropped, records))} of the records, each with its reason", "drop"),
        ("Errors", errors, "count", f"{share(ratio(errors, records))} of the records could not be read", "error" if errors else ""),
        (
            "Unknown licence",
            ratio(unknown_documents, kept) if kept else None,
            "share",
            f"{count(unknown_documents)} documents, {share(ratio(unknown_bytes, text))} of the text",
            "unknown" if unknown_documents else "",
        ),
        ("Share kept", ratio(kept, records) if records else None, "share", "documents kept ÷ records read", ""),
        (
            "The books",
            "do not balance" if broken else "balance",
            "text",
            f"{len(checked) - broken} of {len(checked)} checks hold",
            "error" if broken else "",
        ),
    ]
    shown = [dict(zip(("label", "value", "unit", "note", "tone"), tile, strict=True)) for tile in tiles]
    return Figure("headline", "Overview", "The whole corpus in eight numbers.", "tiles", {"tiles": shown})


def waterfall(data: CorpusData) -> Figure:
    flows = [_flow(source.name, source.type, data.waterfall[source.name]) for source in data.sources if data.waterfall[source.name]]
    if len(flows) > 1:
        flows.insert(0, _flow("All sources", "", _together(list(data.waterfall.values()))))
    rows: list[list[Any]] = []
    for source in data.sources:
        for stage in data.waterfall[source.name]:
            read = data.waterfall[source.name][0].rows_in
            drops, errors = sum(stage.drop.values()), sum(stage.error.values())
            reasons = counted(Counter(stage.drop) + Counter(stage.error), NAMED)
            left = ratio(stage.rows_out, read)
            changed = counted(Counter(stage.notes) + Counter({"joined into documents": stage.joined}))
            rows.append([source.name, stage.stage, stage.rows_in, drops, errors, stage.rows_out, left, reasons, changed])
    columns = [("Source", "text"), ("Stage", "text"), ("In", "count"), ("Dropped", "count"), ("Errors", "count"), ("Out", "count")]
    columns += [("Left of records", "share"), ("Lost to", "text"), ("Changed, not lost", "text")]
    guide = "Each bar is as long as the records that were read; a stage's losses hang at the end of what it let through."
    shown: dict[str, Any] = {"sources": flows, "table": table("Every stage of every source", columns, rows)}
    return Figure("waterfall", "Waterfall", guide, "waterfall", shown if rows else {"empty": "No source read a record."})


def drop_reasons(data: CorpusData) -> Figure:
    found: dict[tuple[str, str], Counter[str]] = {}
    for source, stages in data.waterfall.items():
        for stage in stages:
            for reason, dropped in stage.drop.items():
                found.setdefault((stage.stage, reason), Counter())[source] += dropped
    guide = "Ranked by documents lost. Examples are drawn by the hash of their id: nobody picked them."
    groups = _groups(data, found, data.drop_examples, "drop")
    return Figure("drops", "Drop reasons", guide, "examples", {"groups": groups} if groups else {"empty": "No document was dropped."})


def errors(data: CorpusData) -> Figure:
    found: dict[tuple[str, str], Counter[str]] = {}
    for source, stages in data.waterfall.items():
        for stage in stages:
            for kind, failed in stage.error.items():
                found.setdefault(("", kind), Counter())[source] += failed
    guide = "Records that could not be read, by kind, with the file, the byte offset and the first bytes of each."
    groups = _groups(data, found, data.error_examples, "error")
    return Figure("errors", "Errors", guide, "examples", {"groups": groups} if groups else {"empty": "Every record could be read."})


def composition(data: CorpusData) -> Figure:
    text, documents = sum(kept.bytes for kept in data.kept.values()), _documents(data)
    kinds = TopSums()
    for kept in data.kept.values():
        kinds.add(kept.kinds.top())
    by_source = TopSums()
    by_source.add((name, kept.bytes, kept.documents) for name, kept in data.kept.items())
    groups = [_bars("By source", by_source, by="bytes", top=len(data.sources)), _bars("By kind", kinds, by="bytes", top=TOP)]
    rows = []
    for source in data.sources:
        kept, stages = data.kept[source.name], data.waterfall[source.name]
        read = stages[0].rows_in if stages else 0
        row = [source.name, source.type, source.files, source.bytes_in, read, kept.documents, ratio(kept.documents, read) if read else None]
        rows.append([*row, kept.bytes, ratio(kept.documents, documents), ratio(kept.bytes, text)])
    columns = [("Source", "text"), ("Type", "text"), ("Files", "count"), ("Bytes in", "bytes"), ("Records", "count")]
    columns += [("Documents", "count"), ("Kept", "share"), ("Text", "bytes"), ("Of documents", "share"), ("Of text", "share")]
    shown: dict[str, Any] = {"groups": [group for group in groups if group["bars"]], "table": table("Sources", columns, rows)}
    guide = "What the corpus is made of: the bars show bytes of kept text."
    return Figure("composition", "Composition", guide, "bars", shown)


def languages(data: CorpusData) -> Figure:
    groups = [_bars(name, kept.languages, by="documents", top=_top(data)) for name, kept in data.kept.items() if kept.documents]
    guide = "Kept documents by language: of prose the natural language, of code the programming language."
    return Figure("languages", "Languages", guide, "bars", {"groups": groups} if groups else _NOTHING_KEPT)


def licences(data: CorpusData) -> Figure:
    groups = [_bars(name, kept.licences, by="documents", top=_top(data)) for name, kept in data.kept.items() if kept.documents]
    guide = "Kept documents by licence; unknown means that neither the record nor its source names one."
    return Figure("licences", "Licences", guide, "bars", {"groups": groups} if groups else _NOTHING_KEPT)


def lengths(data: CorpusData) -> Figure:
    everything = (Lengths(), Lengths())
    for name in data.kept:
        everything[0].merge(data.kept[name].lengths)
        everything[1].merge(data.dropped[name])
    pairs = {"All sources": everything} if len(data.sources) > 1 else {}
    pairs |= {name: (data.kept[name].lengths, data.dropped[name]) for name in data.kept}
    panels, rows = [], []
    quantiles = (0.1, 0.5, 0.9, 0.99)
    for name, pair in pairs.items():
        if not any(half.bytes.count for half in pair):
            continue
        panels.append(panel(name, [("kept", pair[0].characters), ("dropped", pair[1].characters)], "characters"))
        for what, half in zip(("kept", "dropped"), pair, strict=True):
            if half.bytes.count:
                values = [sketch.quantile(at) for sketch in (half.characters, half.bytes) for at in quantiles]
                rows.append([name, what, half.bytes.count, *values[:4], half.characters.high, *values[4:], half.bytes.high])
    columns = [("Source", "text"), ("", "text"), ("Documents", "count")]
    for unit, prefix in (("count", "Chars"), ("bytes", "Bytes")):
        columns += [(f"{prefix} {at}", unit) for at in ("p10", "median", "p90", "p99", "max")]
    caption = "Lengths of kept documents, and of dropped ones that had a text. Exact to 255, above that rounded down by less than 1 %"
    guide = (
        "Characters a document, every bin twice as wide as the one before: kept above the line, dropped below, each as a share of its own."
    )
    shown = {"panels": panels, "table": table(caption, columns, rows)}
    return Figure("lengths", "Lengths", guide, "histogram", shown if panels else {"empty": "No document has a text."})


def scores(data: CorpusData) -> Figure:
    bounds = _bounds(data)
    panels, rows = [], []
    for column, sketch in data.scores.items():
        if not sketch.count:
            continue
        name = column.removeprefix("q.")
        shown = panel(name, [("kept", sketch)])
        shown["marks"] += [{"at": bound, "label": f"bound {bound:g}"} for bound in bounds.get(column, [])]
        panels.append(shown)
        values = [sketch.low, *(sketch.quantile(at) for at in (0.1, 0.5, 0.9, 0.99)), sketch.high]
        rows.append([name, sketch.count, *values, ", ".join(f"{bound:g}" for bound in bounds.get(column, [])) or NONE])
    columns = [("Score", "text"), ("Documents", "count"), *((title, "number") for title in ("min", "p10", "median", "p90", "p99", "max"))]
    caption = "Scores of the kept documents, quantiles rounded towards 0 by less than 1 %"
    guide = "Scores of the kept documents; a dashed line is a bound that a dropped document broke: a heap beside it asks for a closer look."
    shown = {"panels": panels, "table": table(caption, [*columns, ("Bounds seen", "text")], rows)}
    return Figure("scores", "Scores", guide, "histogram", shown if panels else {"empty": "No stage scored a kept document."})


def change(data: CorpusData) -> Figure:
    """Documents that enter (+) or leave (-) when one bound alone moves by MOVES; exact at the edges that `curves` name."""
    curves, rows = [], []
    refused = sorted(data.refused.items(), key=lambda entry: (-entry[1].count, entry[0]))
    for bound, lost in ((bound, lost) for bound, lost in refused if bound.bound > 0 and bound.column in data.scores):
        kept, least = data.scores[bound.column], lost.high < bound.bound
        points = []
        for move in MOVES:
            at, kept_below, kept_above = kept.split(bound.bound * move)
            _, lost_below, lost_above = lost.split(bound.bound * move)
            gained, given = (lost_above, kept_below) if least else (lost_below, kept_above)
            points.append({"at": at, "change": gained if (move < 1) == least else -given})
        side = "at least" if least else "at most"
        curves.append({**bound._asdict(), "side": side, "dropped": lost.count, "points": points})
        moved = [point["change"] for point in points]
        rows.append([bound.column.removeprefix("q."), side, bound.bound, f"{bound.stage}: {bound.reason}", lost.count, *moved])
    columns = [("Score", "text"), ("Keeps", "text"), ("Bound", "number"), ("Reason", "text"), ("Drops", "count")]
    columns += [(f"Bound × {move:g}", "count") for move in MOVES]
    guide = (
        "Each threshold above 0 that dropped a document, moved alone: a looser bound lets in at most so many of those that it was "
        "the first to drop, a stricter one takes away the kept documents beyond it, whatever their kind or language. "
        "Moved bounds are rounded down by less than 1 %."
    )
    shown: dict[str, Any] = {"curves": curves, "table": table("Documents that enter, or leave with a minus", columns, rows[:BOUNDS])}
    return Figure("change", "What would change", guide, "table", shown if rows else {"empty": "No threshold dropped a document."})


def concentration(data: CorpusData) -> Figure:
    names = {"domain": "Web domains", "repository": "Repositories", "file": "Files"}
    groups = [_bars(names[kind], sums, by="bytes", top=TOP) for kind, sums in data.origins.items() if sums.documents]
    for group, sums in zip(groups, (sums for sums in data.origins.values() if sums.documents), strict=True):
        held = sum(bar["share"] for bar in group["bars"] if bar["tone"] != "other")
        known = f"{count(len(sums.sums))}" if not sums.short_by else f"more than {count(sums.capacity)}"
        group["note"] = f"{known} in all; those named hold {share(held)} of their {size(sums.bytes)}"
        if sums.short_by:
            group["note"] += f"; each may hold up to {size(sums.short_by)} more than shown"
    guide = "Where the kept text comes from: one name with a large share will be learned by heart."
    return Figure("concentration", "Concentration", guide, "bars", {"groups": groups} if groups else _NOTHING_KEPT)


def expected(data: CorpusData) -> Figure:
    """What `expect:` of the recipe asks for."""
    columns = [("Expectation", "text"), ("Bound", "number"), ("Found", "number"), ("", "verdict")]
    rows: list[list[Any]] = [[one.name, one.bound, one.found, one.holds] for one in sorted(data.expected, key=lambda one: one.holds)]
    guide = "What the recipe's expect: asks of this corpus. A broken one ends the build with exit code 3."
    shown: dict[str, Any] = {"table": table("Expectations", columns, rows)} if rows else {"empty": "The recipe expects nothing."}
    return Figure("expected", "Is it what was expected?", guide, "table", shown)


def balance(data: CorpusData) -> Figure:
    columns = [("Check", "text"), ("Expected", "count"), ("Found", "count"), ("", "verdict"), ("Where it fails", "text")]
    guide = "Nothing may be lost in silence: the counters of the build against each other and against the rows counted in the files."
    return Figure("balance", "Do the books balance?", guide, "table", {"table": table("Checks", columns, checks(data))})


_NOTHING_KEPT = {"empty": "No document was kept."}


def _top(data: CorpusData) -> int:
    return TOP if len(data.sources) <= MANY else TOP_OF_MANY


def _records(data: CorpusData) -> int:
    return sum(stages[0].rows_in for stages in data.waterfall.values() if stages)


def _documents(data: CorpusData) -> int:
    return sum(kept.documents for kept in data.kept.values())


def _flow(name: str, kind: str, stages: list[StageCounts]) -> dict[str, Any]:
    shown = []
    for stage in stages:
        losses = [
            {"name": reason, "count": lost, "tone": tone}
            for counts, tone in (({"joined into documents": stage.joined}, "joined"), (stage.drop, "drop"), (stage.error, "error"))
            for reason, lost in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
            if lost
        ]
        shown.append({"stage": stage.stage, "rows_in": stage.rows_in, "rows_out": stage.rows_out, "losses": losses})
    return {"name": name, "type": kind, "rows_in": stages[0].rows_in, "rows_out": stages[-1].rows_out, "stages": shown}


def _together(waterfalls: list[list[StageCounts]]) -> list[StageCounts]:
    """One waterfall of several; through a stage that a source does not have, its records pass unharmed."""
    order: list[str] = []
    for stages in waterfalls:
        at = 0
        for stage in stages:
            if stage.stage not in order:
                order.insert(at, stage.stage)
            at = order.index(stage.stage) + 1
    together, left = [], sum(stages[0].rows_in for stages in waterfalls if stages)
    for name in order:
        drop: Counter[str] = Counter()
        error: Counter[str] = Counter()
        for stage in (stage for stages in waterfalls for stage in stages if stage.stage == name):
            drop.update(stage.drop)
            error.update(stage.error)
        joined = sum(stage.joined for stages in waterfalls for stage in stages if stage.stage == name)
        lost = drop.total() + error.total() + joined
        together.append(StageCounts(name, left, left - lost, drop, error, {}, joined))
        left -= lost
    return together


def _groups(
    data: CorpusData, found: dict[tuple[str, str], Counter[str]], examples: dict[tuple[str, str], list[Example]], tone: str
) -> list[dict[str, Any]]:
    """Drop reasons or error kinds, ranked, with examples for the first QUOTED."""
    records = _records(data)
    ranked = sorted(((key, sources) for key, sources in found.items() if sources.total()), key=lambda entry: (-entry[1].total(), entry[0]))
    return [
        {
            "name": reason,
            "place": stage,
            "count": sources.total(),
            "share": ratio(sources.total(), records),
            "tone": tone,
            "sources": [{"name": name, "count": lost} for name, lost in sources.most_common() if lost and len(data.sources) > 1],
            "examples": [_example(example, tone) for example in examples.get((stage, reason), [])] if rank < QUOTED else [],
        }
        for rank, ((stage, reason), sources) in enumerate(ranked)
    ]


def _example(example: Example, tone: str) -> dict[str, Any]:
    origin = clip(example.file or "unknown file", 200)
    origin += f" › {clip(example.member, 120)}" if example.member else ""
    origin += f" @ {example.offset:,}" if example.offset is not None else ""
    said = clip(example.said or "", 300) if tone == "error" else evidence(example.said)
    text = None if example.text is None else neutral(_BLANK.sub("\n\n", example.text).strip("\n")) + "…" * example.cut
    name = None if example.id is None else neutral(clip(example.id, 120))
    return {"source": example.source, "id": name, "origin": neutral(origin), "said": neutral(said), "text": text}


def _bars(name: str, sums: TopSums, *, by: str, top: int) -> dict[str, Any]:
    """The `top` names by bytes or documents, then all others as one bar; the unknown where it ranks, or last."""
    field = ("bytes", "documents").index(by)
    whole = (sums.bytes, sums.documents)[field]
    ranked = sums.top(top, by=by)
    if None in sums.sums and all(label is not None for label, _, _ in ranked):
        ranked.append((None, *sums.sums[None]))
    bars = []
    for label, text, documents in ranked:
        value, other = (text, f"{count(documents)} documents") if by == "bytes" else (documents, size(text))
        shown = "unknown" if label is None else clip(neutral(label), 120)
        bars.append(_bar(shown, value, whole, other, "unknown" if label is None else "kept"))
    rest, names = whole - sum(bar["value"] for bar in bars), len(sums.sums) - len(bars)
    if rest > 0:
        bars.append(_bar(f"{count(names)} others" if names > 1 else "others", rest, whole, "", "other"))
    note = f"{count(sums.documents)} documents, {size(sums.bytes)}"
    return {"name": name, "note": note, "unit": "bytes" if by == "bytes" else "count", "bars": bars}


def _bar(label: str, value: int, whole: int, note: str, tone: str) -> dict[str, Any]:
    return {"label": label, "value": value, "share": ratio(value, whole), "note": note, "tone": tone}


def _bounds(data: CorpusData) -> dict[str, list[float]]:
    """Bounds by score column, from the evidence of the example documents that broke them."""
    bounds: dict[str, set[float]] = {}
    for example in (example for examples in data.drop_examples.values() for example in examples):
        try:
            seen = orjson.loads(example.said or "{}")
        except orjson.JSONDecodeError:
            continue
        if isinstance(seen, dict) and isinstance(seen.get("bound"), int | float):
            for column in seen:
                if column in data.scores:
                    bounds.setdefault(column, set()).add(float(seen["bound"]))
    return {column: sorted(values) for column, values in bounds.items()}


FIGURES: list[Callable[[CorpusData], Figure]] = [
    headline,
    expected,
    waterfall,
    drop_reasons,
    near_duplicates,
    errors,
    composition,
    languages,
    licences,
    lengths,
    scores,
    change,
    concentration,
    balance,
]
