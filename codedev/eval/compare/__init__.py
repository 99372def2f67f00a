"""`codedev eval compare`: evaluations of several models side by side, and the questions on which they differ.

Models are compared on the questions that all of them were asked, so that a difference is one of models. Its interval is a bootstrap over
those questions, drawn for both models at once, which is narrower than the two intervals beside one another.

page.py renders it as one HTML file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError, printable
from codedev.eval import intervals
from codedev.eval.intervals import is_share
from codedev.eval.run import open_results, records_of
from codedev.tokenize.compare.tables import labels

FORMAT = "codedev.eval-comparison/1"
SHOWN = 60  # questions of a task on which models differ
_LOWER = ("bits_per_byte", "perplexity", "word_perplexity", "byte_perplexity")  # of which less is better
_TEXTS = ("asked", "gold", "said")


class Said(NamedTuple):
    said: str  # the answer taken out of
    text: str  # what was written, or "" where nothing more is kept
    score: float


class Differing(NamedTuple):
    """A question on which models differ."""

    id: str
    group: str
    asked: str
    gold: str
    said: list[Said]  # of each model


class Comparison(NamedTuple):
    figures: dict[str, Any]  # as JSON
    differing: dict[str, list[Differing]]  # by task, the largest differences first


def compare(paths: Sequence[Path], *, shown: int = SHOWN, seed: int = 0) -> Comparison:
    """Evaluations at `paths`, two or more. Raises InputError where one is none, or they have no task in common."""
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise InputError("give two or more evaluations, each once")
    results = [open_results(path) for path in paths]
    names = [name for name in results[0]["tasks"] if all(name in one["tasks"] for one in results)]
    if not names:
        told = "; ".join(f"{path}: {', '.join(one['tasks'])}" for path, one in zip(paths, results, strict=True))
        raise InputError(f"no task is in all of them. {told}")
    tasks, differing = [], {}
    for name in names:
        own, differing[name] = _task(name, paths, results, shown, seed)
        tasks.append(own)
    runs = [
        {"label": label, "path": str(path), "model": one["model"]["name"], "identity": one["model"]["identity"], "codedev": one["codedev"]}
        for label, path, one in zip(_labels(paths), paths, results, strict=True)
    ]
    alone = {run["label"]: sorted(set(one["tasks"]) - set(names)) for run, one in zip(runs, results, strict=True)}
    figures = {"format": FORMAT, "runs": runs, "tasks": tasks, "only": {label: own for label, own in alone.items() if own}}
    return Comparison(figures, differing)


def lower_is_better(metric: str) -> bool:
    return metric.split(",")[0] in _LOWER


def figure(metric: str, value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return f"{100 * value:.1f} %" if is_share(metric) else f"{value:.4f}"


def interval(metric: str, low: float | None, high: float | None) -> str:
    if low is None or high is None or low == high:
        return ""
    return f"{100 * low:.1f} to {100 * high:.1f}" if is_share(metric) else f"{low:.4f} to {high:.4f}"


def difference(metric: str, value: float, *, unit: bool = True) -> str:
    """With its sign; of shares in points, hundredths of them."""
    told = f"{100 * value:+.1f}{' points' * unit}" if is_share(metric) else f"{value:+.4f}"
    return told.replace("-", "−")


def between(metric: str, found: dict[str, Any]) -> str:
    """The interval of a difference."""
    if found["low"] is None:
        return ""
    return f"{difference(metric, found['low'], unit=False)} to {difference(metric, found['high'], unit=False)}"


def _labels(paths: Sequence[Path]) -> list[str]:
    return [printable(label) for label in labels([str(path) for path in paths])]


def _task(name: str, paths: Sequence[Path], results: list[dict[str, Any]], shown: int, seed: int) -> tuple[dict[str, Any], list[Differing]]:
    records = [records_of(path, name) for path in paths]
    both = _common(records)
    if not len(both):
        raise InputError(f"{name}: no question was asked of all models. Evaluate them by the same recipe")
    records = [table.take(pc.index_in(both, table.column("id"))) for table in records]
    scores = np.stack([table.column("score").to_numpy(zero_copy_only=False).astype(np.float64) for table in records])
    told = [one["tasks"][name] for one in results]
    metric = next(iter(told[0]["scores"][""]))
    values = [_values(table, row) for table, row in zip(records, scores, strict=True)]
    against = [None, *(_difference(values[0], own, metric, seed) for own in values[1:])]
    spread = np.nan_to_num(np.nanmax(scores, 0) - np.nanmin(scores, 0)) if len(both) else np.zeros(0)
    said = _other(records, "said") if told[0]["kind"] in ("answer", "choice") else np.zeros(len(both), bool)
    apart = np.flatnonzero((spread > 0) | said)
    order = apart[np.lexsort((apart, -spread[apart]))]
    groups = [group for group in told[0]["scores"] if group and all(group in one["scores"] for one in told)]
    figures = {
        "name": name,
        "kind": told[0]["kind"],
        "metric": metric,
        "questions": [one["questions"] for one in told],
        "common": len(both),
        "other_prompts": int(_other(records, "asked").sum()),
        "differ": int((spread > 0).sum()),
        "other_words": int((said & (spread == 0)).sum()),  # another answer, no other score
        "scores": {one: [run["scores"][""].get(one) for run in told] for one in told[0]["scores"][""]},
        "groups": {group: [run["scores"][group].get(metric) for run in told] for group in groups},
        "against_first": against,
        "contamination": [run.get("contamination") for run in told],
    }
    return figures, [_differing(records, scores, int(at)) for at in order[:shown]]


def _common(records: Sequence[pa.Table]) -> pa.Array:
    """The ids of all, in the order of the first."""
    found = records[0].column("id").combine_chunks()
    for table in records[1:]:
        found = found.filter(pc.is_in(found, table.column("id").combine_chunks()))
    return found


def _values(table: pa.Table, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the first metric is made of: a sum of the one over a sum of the other."""
    if {"bits", "bytes"} <= set(table.column_names):
        return table.column("bits").to_numpy().astype(np.float64), table.column("bytes").to_numpy().astype(np.float64)
    return scores, np.ones(len(scores))


def _difference(
    first: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], metric: str, seed: int
) -> dict[str, Any] | None:
    """The other's figure less the first's, over the same questions; None where questions have no score of their own."""
    (above, below), (own, under) = first, other
    if not np.isfinite(above).all() or not np.isfinite(own).all():
        return None
    value = float(own.sum() / under.sum() - above.sum() / below.sum())
    found: dict[str, Any] = {"value": value, "low": None, "high": None}
    if len(above) > 1:
        random, n = np.random.default_rng([seed, 0xE57]), len(above)
        drawn = np.empty(intervals.RESAMPLES)
        for at in range(intervals.RESAMPLES):
            some = random.integers(0, n, n)
            drawn[at] = own[some].sum() / under[some].sum() - above[some].sum() / below[some].sum()
        found["low"], found["high"] = map(float, np.quantile(drawn, [0.025, 0.975]))
    better, worse = (own / under < above / below, own / under > above / below)
    if not lower_is_better(metric):
        better, worse = worse, better
    return found | {"better": int(better.sum()), "worse": int(worse.sum())}  # questions


def _other(records: Sequence[pa.Table], name: str) -> np.ndarray:
    """Where a column of text is not the same in all."""
    first, found = records[0].column(name), np.zeros(records[0].num_rows, bool)
    for table in records[1:]:
        found |= pc.fill_null(pc.not_equal(first, table.column(name)), False).to_numpy(zero_copy_only=False)
    return found


def _differing(records: Sequence[pa.Table], scores: np.ndarray, at: int) -> Differing:
    rows: list[dict[str, Any]] = [table.select(["id", "group", *_TEXTS]).slice(at, 1).to_pylist()[0] for table in records]
    said = [Said(row["said"], _written(table, at), float(score)) for table, row, score in zip(records, rows, scores[:, at], strict=True)]
    return Differing(rows[0]["id"], rows[0]["group"], rows[0]["asked"], rows[0]["gold"], said)


def _written(table: pa.Table, at: int) -> str:
    texts = table.column("texts")[at].as_py() if "texts" in table.column_names else None
    return texts[0] or "" if texts else ""
