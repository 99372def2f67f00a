"""The figure of near-duplicates: what the build's sample of its drops showed (near/audit.py)."""

from __future__ import annotations

import shlex
from typing import Any

from codedev.corpus.report.alarms import NEAR, PRECISE, command_for
from codedev.corpus.report.data import CorpusData
from codedev.corpus.report.figure import Figure, table
from codedev.corpus.report.text import NONE, clip, count, neutral, ratio, share


def near_duplicates(data: CorpusData) -> Figure:
    told = data.near
    guide = "A sample of the drops, read again and compared with the document that stayed: by sets of their words, and by what they share."
    compared = {name: stage.rows_in for name, stages in data.waterfall.items() for stage in stages if stage.stage == NEAR}
    if not told or not told.together.dropped:
        empty = "No document was dropped as a near-duplicate." if told else "Near-duplicates were not looked for."
        empty = "This corpus was built by a codedev that drew no sample. Build it again." if compared and not told else empty
        return Figure("near", "Near-duplicates", guide, "tiles", {"empty": empty})
    every, least = told.together, told.together.least or {}
    whole = sum(compared.values())
    read = f"{count(every.sampled)} read again" + (f", {count(every.skipped)} skipped as too long" if every.skipped else "")
    interval = f"95 % interval {share(every.low or 0.0)} to {share(every.high or 0.0)}; " if every.precision is not None else ""
    imprecise = every.precision is not None and every.precision < PRECISE
    tiles = [
        ("Near-duplicates dropped", every.dropped, "count", f"{share(ratio(every.dropped, whole))} of the documents compared", "drop"),
        ("Sampled precision", every.precision, "share", interval + read, "error" if imprecise else "kept"),
        ("Least alike", least.get("jaccard"), "number", f"Jaccard similarity; the recipe asks for {told.verify:g}", ""),
        ("Text that stays", every.held, "share", "median: of a dropped text's characters in the survivor too", "kept"),
    ]
    rows = []
    for one in [every, *told.sources] if len(told.sources) > 1 else told.sources:
        here = compared.get(one.source, 0) if one.source else whole
        pair = one.least or {}
        row = [one.source or "All sources", one.dropped, ratio(one.dropped, here), one.sampled, one.alike, one.precision, one.low, one.high]
        rows.append([*row, one.jaccard, pair.get("jaccard"), one.held, pair.get("held"), _named(pair["id"]) if pair else NONE])
    columns = [("Source", "text"), ("Dropped", "count"), ("Of compared", "share"), ("Read again", "count"), ("As alike", "count")]
    columns += [("Precision", "share"), ("From", "share"), ("To", "share"), ("Jaccard, median", "number"), ("Jaccard, least", "number")]
    columns += [("Held, median", "share"), ("Held, least alike", "share"), ("The least alike", "text")]
    look = []
    if least:
        said = f"The pair least alike: {_named(least['id'])} went for {_named(least['duplicate_of'])}."
        look = [{"text": said, "command": command_for(f"--id {shlex.quote(least['id'])}"), "figure": None}]
    look.append({"text": "Examples with their evidence: Drop reasons", "command": None, "figure": "drops"})
    shown = [dict(zip(("label", "value", "unit", "note", "tone"), tile, strict=True)) for tile in tiles]
    drawn: dict[str, Any] = {"tiles": shown, "table": table("Sampled near-duplicates", columns, rows), "see": look}
    return Figure("near", "Near-duplicates", guide, "tiles", drawn)


def _named(name: str) -> str:
    return neutral(clip(name, 120))
