"""What a recipe expects of its corpus (`expect:`), held against what was built: in the exit code and in the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev import _recipe
from codedev.corpus.recipe import Expect, Range

UNKNOWN = "unknown"  # the name of no language or licence


class Held(NamedTuple):
    """One expectation."""

    name: str
    bound: float
    found: float
    holds: bool

    @property
    def told(self) -> str:
        shown = f"{self.found:.4f}" if isinstance(self.found, float) else str(self.found)
        return f"{self.name}: {shown} {'<' if self.found < self.bound else '>'} {self.bound}"


def expectations(recipe: Mapping[str, Any], manifest: Mapping[str, Any], corpus: Path) -> list[Held]:
    """Each expectation that is set in `recipe`, which has every default written out. Shares are of records, those of languages and licences
    of kept documents."""
    expect = Expect.model_validate(recipe.get("expect") or {})
    if expect == Expect():
        return []
    totals = manifest["totals"]
    records, kept = max(totals["records"], 1), max(totals["documents"], 1)
    found = [
        *_most("max_drop", expect.max_drop, totals["dropped"] / records),
        *_most("max_error", expect.max_error, totals["errors"] / records),
        *_most("max_unknown_licence", expect.max_unknown_licence, totals["unknown_licence"] / kept),
        *_least("min_documents", expect.min_documents, totals["documents"]),
        *_least("min_bytes", expect.min_bytes, totals["text_bytes"]),
        *_least("min_tokens", expect.min_tokens, int(totals["text_bytes"] / expect.bytes_per_token)),
    ]
    if expect.max_source_drop is not None:
        for name, stages in manifest["waterfall"].items():
            dropped, read = sum(sum(stage["drop"].values()) for stage in stages), stages[0]["rows_in"] if stages else 0
            found += _most(f"max_source_drop of {name}", expect.max_source_drop, dropped / max(read, 1))
    if expect.max_contaminated is not None:
        seen = sum(stage["drop"].get("seen_question", 0) for stages in manifest["waterfall"].values() for stage in stages)
        found += _most("max_contaminated", expect.max_contaminated, (seen + _tagged(recipe, manifest, corpus)) / records)
    for key, column in (("languages", "lang"), ("licences", "licence")):
        ranges: Mapping[str, Range] = getattr(expect, key)
        counts = _counts(manifest, corpus, column) if ranges else Counter()
        for name, bounds in ranges.items():
            share = counts[name] / kept
            found += _least(f"{key}.{name}.min", bounds.min, share) + _most(f"{key}.{name}.max", bounds.max, share)
    return found


def recipe_of(corpus: Path) -> dict[str, Any]:
    """The corpus's recipe.yaml; empty where it has none."""
    file = corpus / "recipe.yaml"
    return _recipe.read(file) if file.is_file() else {}


def _most(name: str, bound: float | None, found: float) -> list[Held]:
    return [] if bound is None else [Held(name, bound, found, found <= bound)]


def _least(name: str, bound: float | None, found: float) -> list[Held]:
    return [] if bound is None else [Held(name, bound, found, found >= bound)]


def _counts(manifest: Mapping[str, Any], corpus: Path, column: str) -> Counter[str]:
    """Kept documents by the value of a column, which alone is read."""
    counts: Counter[str] = Counter()
    for part in manifest["parts"]["documents"]:
        values = pc.value_counts(pq.read_table(corpus / part["path"], columns=[column]).column(column).cast("string"))
        for one in values.to_pylist():
            counts[one["values"] or UNKNOWN] += one["counts"]
    return counts


def _tagged(recipe: Mapping[str, Any], manifest: Mapping[str, Any], corpus: Path) -> int:
    """Kept documents in which `decontaminate: {action: tag}` found a question."""
    asked = recipe.get("decontaminate") or {}
    if asked.get("action") != "tag":
        return 0
    files = [corpus / part["path"] for part in manifest["parts"]["documents"]]
    scores = [pq.read_table(file, columns=["q.seen.score"]).column(0) for file in files]
    return sum(int(pc.sum(pc.greater_equal(one, asked["min_overlap"])).as_py() or 0) for one in scores)
