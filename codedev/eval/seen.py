"""Which questions of a task the model may have seen: those that its training corpora hold (corpus/contamination), and the scores with and
without them.

    OUT/seen.json    {key, tasks: {name: {seen: ids, looked_for, too_short}}}: found once for the same corpora and files
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from codedev._run import Progress, content_key, file_hash, read_json, write_json
from codedev.corpus.contamination.search import MIN_OVERLAP, VERSION, Contamination, seen_questions
from codedev.corpus.questions import files_of
from codedev.eval.recipe import AnswerTask, ChoiceTask, CodeTask, EvalRecipe

_FILE = "seen.json"


def seen(recipe: EvalRecipe, out: Path, progress: Progress) -> dict[str, dict[str, Any]]:
    """Of each task of questions {seen: ids, looked_for, too_short}. `recipe` is absolute. Nothing where it names no corpora."""
    tasks = [task for task in recipe.tasks if isinstance(task, ChoiceTask | AnswerTask | CodeTask)]
    if not recipe.corpora or not tasks:
        return {}
    corpora = [Path(corpus) for corpus in recipe.corpora]
    files = {task.name: [file_hash(file) for file in files_of([Path(path) for path in task.paths])] for task in tasks}
    marks = [file_hash(corpus / "manifest.json") if (corpus / "manifest.json").is_file() else str(corpus) for corpus in corpora]
    columns = {task.name: sorted(task.columns.items()) for task in tasks}
    key = content_key(1, VERSION, files, columns, marks, MIN_OVERLAP)
    before = read_json(out / _FILE) if (out / _FILE).is_file() else None
    if isinstance(before, dict) and before.get("key") == key:
        found: dict[str, dict[str, Any]] = before["tasks"]
        return found
    found = {task.name: {"seen": set(), "looked_for": 0, "too_short": 0} for task in tasks}
    for own in {tuple(one) for one in columns.values()}:
        alike = [task for task in tasks if tuple(columns[task.name]) == own]
        paths = list(dict.fromkeys(path for task in alike for path in task.paths))
        for corpus in corpora:
            told = seen_questions(corpus, [Path(path) for path in paths], columns=dict(own), threads=2, progress=progress)
            for task in alike:
                _add(found[task.name], told, [paths.index(path) for path in task.paths])
    found = {name: one | {"seen": sorted(one["seen"])} for name, one in found.items()}
    write_json(out / _FILE, {"key": key, "tasks": found})
    return found


def _add(into: dict[str, Any], told: Contamination, paths: Sequence[int]) -> None:
    into["looked_for"] = into["too_short"] = 0
    for own in (told.tasks[at] for at in paths):
        into["seen"] |= told.seen(own["task"])
        into["looked_for"] += own["questions"] - own["too_short"]
        into["too_short"] += own["too_short"]


def apart(found: dict[str, Any], records: pa.Table, measure: Callable[[pa.Table], dict[str, Any]]) -> dict[str, Any]:
    """Of a task's records {seen, looked_for, too_short, scores: {seen, unseen}}, the scores by `measure`, None where there is no record.
    Questions that are too short to be looked for count as unseen."""
    held = pc.is_in(records.column("id"), pa.array(found["seen"], pa.string()))
    parts = {"seen": records.filter(held), "unseen": records.filter(pc.invert(held))}
    scores = {name: measure(some) if some.num_rows else None for name, some in parts.items()}
    return {"seen": parts["seen"].num_rows, "looked_for": found["looked_for"], "too_short": found["too_short"], "scores": scores}
