"""Judgements -> tables that stages read: what most raters think of a task, one row a task.

    OUT/preferences.parquet   prompt, chosen, rejected                 for reward, dpo
    OUT/judged.parquet        prompt, completion, label                for kto: chosen is good, rejected is not, `bad` is neither
    OUT/rated.parquet         messages, reward                         for reward (regression), ppo: the mean rating, 1 to 5
    OUT/manifest.json         counts: what was judged, and what came to nothing and why

and in all of them `task`, `models` (who answered), `raters` (how many) and `comments`. Every judged task is in a table or counted: skipped,
tie (no preference), disputed (raters are equally many on both sides).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codedev._errors import InputError
from codedev._run import atomic_write, write_json
from codedev.feedback.agreement import agreement
from codedev.feedback.store import Judgement, Store
from codedev.feedback.tasks import Task

FORMAT = "codedev.feedback/1"
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_ABOUT = [("task", pa.string()), ("models", pa.list_(pa.string())), ("raters", pa.int32()), ("comments", pa.list_(pa.string()))]
SCHEMAS = {
    "preferences": pa.schema([("prompt", _MESSAGES), ("chosen", pa.string()), ("rejected", pa.string()), *_ABOUT]),
    "judged": pa.schema([("prompt", _MESSAGES), ("completion", pa.string()), ("label", pa.bool_()), *_ABOUT]),
    "rated": pa.schema([("messages", _MESSAGES), ("reward", pa.float64()), *_ABOUT]),
}


def export(store: Store, out: Path, raters: tuple[str, ...] = ()) -> dict[str, Any]:
    """Write the tables to `out`, those of the given raters alone or of all. Returns the manifest.

    Raises InputError when nothing is judged, or when `out` holds something else.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "manifest.json").is_file())):
        raise InputError(f"{out}: is there and holds no exported feedback. Choose another --out")
    judgements = [judgement for judgement in store.judgements() if not raters or judgement.rater in raters]
    known = {judgement.rater for judgement in judgements}
    if missing := sorted(set(raters) - known):
        raise InputError(f"{store.where}: has no judgement of {', '.join(missing)}. Leave the name out")
    if not judgements:
        raise InputError(f"{store.where}: nothing is judged yet. Open the page of codedev feedback serve")
    of_task: defaultdict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        of_task[judgement.task].append(judgement)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMAS}
    counts: Counter[str] = Counter()
    kinds = store.kinds()
    for task in store.tasks():
        if given := of_task.pop(task.id, None):
            counts[_place(task, given, rows)] += 1
    if of_task:
        counts["unknown_task"] += len(of_task)  # of a database whose tasks were taken out by hand
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)
    for name, schema in SCHEMAS.items():
        path = out / f"{name}.parquet"
        path.unlink(missing_ok=True)
        if rows[name]:
            with atomic_write(path) as temporary:
                pq.write_table(pa.Table.from_pylist(rows[name], schema), temporary, compression="zstd")
    manifest = {
        "format": FORMAT,
        "store": store.where,
        "tasks": len(kinds),
        "judgements": len(judgements),
        "raters": sorted(known),
        "rows": {name: len(found) for name, found in rows.items()},
        "outcomes": dict(sorted(counts.items())),
        "agreement": agreement(judgements, kinds),
    }
    write_json(out / "manifest.json", manifest)
    return manifest


def _place(task: Task, given: list[Judgement], rows: dict[str, list[dict[str, Any]]]) -> str:
    """Put a judged task into the tables; returns what became of it."""
    opinions = [judgement for judgement in given if judgement.verdict != "skip"]
    if not opinions:
        return "skipped"
    about = {
        "task": task.id,
        "models": [answer.model for answer in task.answers],
        "raters": len(opinions),
        "comments": [judgement.comment for judgement in opinions if judgement.comment.strip()],
    }
    if task.kind == "rate":
        reward = sum(float(judgement.verdict) for judgement in opinions) / len(opinions)
        messages = [*task.prompt, {"role": "assistant", "content": task.answers[0].text}]
        rows["rated"].append({"messages": messages, "reward": reward, **about})
        return "rated"
    votes = Counter(judgement.verdict for judgement in opinions)
    (first, most), *others = votes.most_common()
    if others and others[0][1] == most:
        return "disputed"
    if first == "tie":
        return "tie"
    a, b = (answer.text for answer in task.answers)
    good, poor = {"a": ([a], [b]), "b": ([b], [a]), "bad": ([], [a, b])}[first]
    for text, label in [*((text, True) for text in good), *((text, False) for text in poor)]:
        rows["judged"].append({"prompt": task.prompt, "completion": text, "label": label, **about})
    if good:
        rows["preferences"].append({"prompt": task.prompt, "chosen": good[0], "rejected": poor[0], **about})
    return "neither" if first == "bad" else "preferred"
