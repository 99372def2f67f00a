"""Second pass over a unit: the filters of the recipe, on score columns alone. A changed threshold costs this pass and the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from codedev._run import read_receipt, write_receipt
from codedev.corpus.parts import read_part, write_part
from codedev.corpus.stage import VERDICT, Filter, verdict
from codedev.corpus.unit import IDENTITY, JUDGED, Context, filters, judge_key, tables

_UNSEEN = ("text", "meta", "url", "origin", "created", "_sketch")  # filters judge by the other columns


def judge_unit(context: Context, scored: str) -> dict[str, Any]:
    """The receipt of the second pass over the scored unit with that key: key, rows, counters of every filter."""
    key = judge_key(context, scored)
    path = context.work / "judged" / f"{key}.parquet"
    receipt_path = path.with_suffix(".json")
    if receipt := read_receipt(receipt_path):
        return receipt
    chosen = filters(context.recipe)
    counts: dict[str, Counter[str]] = {name: Counter(rows_in=0, rows_out=0) for name, _ in chosen}
    columns = [name for name in tables(context.recipe).scored.names if name not in _UNSEEN]

    def judged() -> Iterator[pa.RecordBatch]:
        for batch in read_part(context.work / "scored" / f"{scored}.parquet", columns):
            yield _judge(batch, chosen, counts)

    rows = write_part(path, judged(), JUDGED, regrouped=False)
    return write_receipt(receipt_path, [path] if rows else [], {"key": key, "rows": rows, "counts": counts})


def _judge(batch: pa.RecordBatch, chosen: list[tuple[str, Filter]], counts: dict[str, Counter[str]]) -> pa.RecordBatch:
    """Every row, with the stage, reason and evidence of the first filter that drops it. A filter sees the rows still standing."""
    none = pa.scalar(None, pa.string())
    stage = reason = evidence = pa.nulls(batch.num_rows, pa.string())
    for name, judge in chosen:
        standing = pc.is_null(reason)
        said = verdict(judge, batch.filter(standing))
        reasons, seen = said.field(VERDICT.field(0).name), said.field(VERDICT.field(1).name)
        counts[name].update(rows_in=len(reasons), rows_out=reasons.null_count)
        for entry in reasons.drop_null().value_counts().to_pylist():
            counts[name][f"drop.{entry['values']}"] += entry["counts"]
        stage = pc.replace_with_mask(stage, standing, pc.if_else(pc.is_valid(reasons), name, none))
        reason = pc.replace_with_mask(reason, standing, reasons)
        evidence = pc.replace_with_mask(evidence, standing, seen)
    return pa.RecordBatch.from_arrays([stage, reason, evidence, *(batch.column(name) for name in ("id", *IDENTITY.names))], schema=JUDGED)
