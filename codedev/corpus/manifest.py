"""What a build did, counted: the waterfall of every source, the manifest, and whether it adds up to what the recipe expects."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from codedev import __version__
from codedev._errors import ExpectationError, RunError
from codedev._run import content_key, file_hash
from codedev.corpus.expect import expectations
from codedev.corpus.plan import Plan
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.unit import barriers, filters
from codedev.corpus.write import PARTS

FORMAT = "codedev.corpus/1"
Waterfall = dict[str, dict[str, Counter[str]]]  # source -> stage -> counters


def content(recipe: CorpusRecipe) -> dict[str, Any]:
    """What of the recipe decides the corpus."""
    return recipe.model_dump(mode="json", exclude={"expect", "keep_work"})


def finished(out: Path, identity: dict[str, str]) -> dict[str, Any] | None:
    """The manifest of an earlier run over the same inputs and recipe, if every part it lists is still as it was."""
    try:
        manifest: dict[str, Any] = orjson.loads((out / "manifest.json").read_bytes())
        parts = [part for kind in PARTS for part in manifest["parts"][kind]]
        whole = manifest["identity"] == identity and all(file_hash(out / part["path"]) == part["hash"] for part in parts)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def add(stages: dict[str, Counter[str]], counts: dict[str, dict[str, int]]) -> None:
    for stage, counted in counts.items():
        stages.setdefault(stage, Counter()).update(counted)


def add_barriers(waterfall: Waterfall, receipts: dict[tuple[str, int], dict[str, Any]], last_filter: str, stages_of: list[str]) -> None:
    """Append the barriers' stages: what came in is what the last filter let out."""
    dropped: dict[str, dict[str, Counter[str]]] = {name: {} for name in waterfall}
    renamed: Counter[str] = Counter()
    for (name, _), receipt in receipts.items():
        add(dropped[name], receipt["counts"])
        renamed[name] += receipt["renamed"]
    for name, stages in waterfall.items():
        rows = stages.get(last_filter, Counter())["rows_out"]
        for stage in stages_of:
            counts = dropped[name].get(stage, Counter())
            drops = sum(count for counter, count in counts.items() if counter.startswith("drop."))
            stages[stage] = Counter(rows_in=rows, rows_out=rows - drops) + counts
            rows -= drops
        if renamed[name]:
            stages["identity"]["note.new_ids"] = renamed[name]


def _stage_rows(stages: dict[str, Counter[str]], order: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name in order:
        counts = stages.get(name, Counter())
        grouped: dict[str, dict[str, int]] = {"drop": {}, "error": {}, "note": {}}
        for counter, value in sorted(counts.items()):
            group, dot, word = counter.partition(".")
            if dot:
                grouped[group][word] = value
        rows.append({
            "stage": name, "rows_in": counts["rows_in"], "rows_out": counts["rows_out"],
            "joined": counts["joined"], "drop": grouped["drop"], "error": grouped["error"], "notes": grouped["note"],
        })  # fmt: skip
    return rows


def manifest_of(
    recipe: CorpusRecipe,
    plan: Plan,
    waterfall: Waterfall,
    parts: dict[str, list[dict[str, Any]]],
    receipts: dict[tuple[str, int], dict[str, Any]],
) -> dict[str, Any]:
    order = ["read", "normalise", *(name for name, _ in filters(recipe)), *barriers(recipe)]
    rows = {kind: sum(part["rows"] for part in listed) for kind, listed in parts.items() if kind != "index"}
    return {
        "format": FORMAT,
        "codedev": __version__,
        "name": recipe.name,
        "seed": recipe.seed,
        "recipe_hash": content_key(content(recipe)),
        "sources": [
            {"name": source.name, "type": source.type, "files": plan.files[source.name], "bytes_in": plan.bytes_in[source.name]}
            for source in recipe.sources
        ],
        "waterfall": {name: _stage_rows(stages, order) for name, stages in waterfall.items()},
        "totals": {
            "records": sum(stages.get("read", Counter())["rows_in"] for stages in waterfall.values()),
            **rows,
            "joined": sum(stages.get("read", Counter())["joined"] for stages in waterfall.values()),
            "bytes_in": plan.bytes,
            "text_bytes": sum(receipt["text_bytes"] for receipt in receipts.values()),
            "unknown_licence": sum(receipt["unknown_licence"] for receipt in receipts.values()),
        },
        "parts": parts,
    }


def check_balance(manifest: dict[str, Any]) -> None:
    """Law 1. A broken balance is a bug; it must never reach a user as a corpus."""
    kept = dropped = failed = 0
    for name, stages in manifest["waterfall"].items():
        before = None
        for stage in stages:
            lost, errors = sum(stage["drop"].values()), sum(stage["error"].values())
            if stage["rows_in"] != stage["rows_out"] + stage["joined"] + lost + errors or before not in (None, stage["rows_in"]):
                raise RunError(f"{name}: stage {stage['stage']} does not balance: {stage}. This is a bug in codedev; please report it")
            before = stage["rows_out"]
            dropped, failed = dropped + lost, failed + errors
        kept += before or 0
    totals = manifest["totals"]
    if (kept, dropped, failed) != (totals["documents"], totals["dropped"], totals["errors"]):
        counted = (kept, dropped, failed)
        raise RunError(f"the parts do not hold what was counted: {counted} against {totals}. This is a bug in codedev; please report it")


def check_expectations(recipe: CorpusRecipe, manifest: dict[str, Any], corpus: Path) -> None:
    """ExpectationError where the finished corpus breaks one."""
    broken = [one.told for one in expectations(recipe.model_dump(mode="json"), manifest, corpus) if not one.holds]
    if broken:
        raise ExpectationError(f"the corpus is complete, but it breaks the recipe's expect: {'; '.join(broken)}. See the report")
