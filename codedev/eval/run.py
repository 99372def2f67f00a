"""An evaluation: every task of a recipe asked of one model.

    OUT/recipe.yaml                  with every default written out
    OUT/results.json                 written last: scores with their intervals, what they depend on
    OUT/seen.json                    with `corpora`: the questions that they hold
    OUT/tasks/<name>/records.parquet a row a question: what was asked, the gold answer, what the model said, the score
    OUT/tasks/<name>/result.json     the scores of a finished task, with its key
    OUT/tasks/<name>/.parts/         records of a task that is being asked, for the next run

A task's key holds all that decides its records: the task, the bytes of its files, the model, the version of its kind. A finished task with
the same key is not asked again, an interrupted one goes on after its last part.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from codedev import __version__
from codedev._errors import InputError
from codedev._run import Progress, atomic_write, content_key, file_hash, locked, no_progress, read_json, sweep, write_json, write_text
from codedev.eval.intervals import Estimate
from codedev.eval.lm import LM
from codedev.eval.recipe import Endpoint, EvalRecipe, Task, absolute
from codedev.eval.seen import apart, seen
from codedev.eval.tasks import KINDS
from codedev.eval.tasks.asked import Asked, Measured

FORMAT = "codedev.eval/1"
_AT_ONCE = 256  # questions of a part
_OWN = {"recipe.yaml", "results.json", "seen.json", "tasks", "index.html"}

Open = Callable[[str | Endpoint, str | None], LM]
Did = Callable[[dict[str, Any]], None]


def evaluate(
    recipe: EvalRecipe, base: Path, opened: Open, on_task: Did = lambda told: None, progress: Progress = no_progress
) -> dict[str, Any]:
    """Ask every task; what results.json holds. Paths of the recipe are taken from `base`.

    `opened` opens the model. Raises InputError for a task whose files are no questions, before the first is asked.
    """
    recipe = absolute(recipe, base)
    out = Path(recipe.out)
    if out.exists() and (others := sorted({one.name for one in out.iterdir() if not one.name.startswith(".")} - _OWN)):
        raise InputError(f"{out}: holds {others[0]}, so it is no evaluation. Choose another directory")
    began = time.perf_counter()
    tables = {task.name: KINDS[task.kind].questions(task) for task in recipe.tasks}
    with locked(out):
        sweep(out)
        held = seen(recipe, out, progress)
        lm = opened(recipe.model, recipe.template)
        write_text(out / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
        told = {}
        for task in recipe.tasks:
            told[task.name] = _task(task, tables[task.name], recipe, lm, out / "tasks" / task.name, progress)
            if task.name in held:

                def measure(some: pa.Table, task: Task = task) -> dict[str, Any]:
                    return _told(KINDS[task.kind].measure(task, some, recipe.seed))[""]

                told[task.name]["contamination"] = apart(held[task.name], records_of(out, task.name), measure)
            on_task(told[task.name])
        model = {"name": lm.name, "identity": lm.identity, "template": recipe.template}
        results = {"format": FORMAT, "codedev": __version__, "model": model, "tasks": told}
        kept = {name: {key: value for key, value in one.items() if key != "again"} for name, one in told.items()}
        write_json(out / "results.json", results | {"tasks": kept})  # the same bytes, however often it was interrupted
    return results | {"out": str(out), "seconds": round(time.perf_counter() - began, 2)}


def _task(task: Task, asked: Asked, recipe: EvalRecipe, lm: LM, folder: Path, progress: Progress) -> dict[str, Any]:
    kind = KINDS[task.kind]
    files = sorted({(file.name, file_hash(file)) for file in asked.files})
    own = task.model_dump(mode="json", exclude={"name", "paths", "examples", "shards", "corpus", "task"})
    key = content_key(FORMAT, kind.VERSION, own, files, asked.table.column("id").to_pylist(), lm.identity)
    done = folder / "result.json"
    if done.is_file() and (folder / "records.parquet").is_file():
        before = read_json(done)
        if isinstance(before, dict) and before.get("key") == key:
            return {**before, "again": False}
    parts = folder / ".parts" / key
    records = []
    for at in range(0, asked.table.num_rows, _AT_ONCE):
        file = parts / f"part-{at // _AT_ONCE:05d}.parquet"
        if not file.is_file():
            until = min(at + _AT_ONCE, asked.table.num_rows)

            def during(what: str, step: int, total: int | None, note: str = "", at: int = at, until: int = until) -> None:
                share = step / total if total else 0.0
                progress(task.name, at + int(share * (until - at)), asked.table.num_rows, what)

            with atomic_write(file) as temporary:
                pq.write_table(kind.ask(task, asked, range(at, until), lm, during), temporary)
        records.append(pq.read_table(file))
    table = pa.concat_tables(records)
    progress(task.name, table.num_rows, asked.table.num_rows)
    scores = kind.measure(task, table, recipe.seed)
    done.unlink(missing_ok=True)  # it speaks of the records before
    with atomic_write(folder / "records.parquet") as temporary:
        pq.write_table(table, temporary)
    left_out = [one._asdict() | {"file": Path(one.file).name} for one in asked.left_out]
    result = {"task": task.name, "kind": task.kind, "key": key, "questions": table.num_rows, "left_out": left_out, "scores": _told(scores)}
    write_json(done, result)
    shutil.rmtree(folder / ".parts")
    return {**result, "again": True}


def _told(scores: Measured) -> dict[str, dict[str, dict[str, Any]]]:
    return {group: {metric: _finite(one) for metric, one in measured.items()} for group, measured in scores.items()}


def _finite(one: Estimate) -> dict[str, Any]:
    """JSON has no nan: the interval of a single question is null."""
    return {name: None if value != value else value for name, value in one._asdict().items()}


def open_results(out: Path) -> dict[str, Any]:
    """The results of a finished evaluation. InputError."""
    file = out / "results.json"
    if not file.is_file():
        raise InputError(f"{out}: has no results.json, so it is no evaluation or an unfinished one. Run `codedev eval` again")
    found = read_json(file)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{file}: is not the result of an evaluation ('{FORMAT}')")
    return found


def records_of(out: Path, task: str) -> pa.Table:
    """The records of a task. InputError."""
    try:
        return pq.read_table(out / "tasks" / task / "records.parquet")
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{out}: the records of {task} cannot be read: {str(error).splitlines()[0]}") from None
