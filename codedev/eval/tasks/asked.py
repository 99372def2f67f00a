"""What tasks share: questions from files, those that are asked, the answered ones before them, tables of records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from codedev._errors import InputError
from codedev.corpus.questions import LeftOut, files_of, read_questions
from codedev.eval.intervals import Estimate
from codedev.eval.recipe import AnswerTask, ChoiceTask, CodeTask

_CHINESE = re.compile("[\u4e00-\u9fff]")

_ITSELF = ("passage", "question", "choices")  # ids say nothing across files: anatomy/0 is there in dev and in test

Row = dict[str, Any]
Measured = dict[str, dict[str, Estimate]]


class Asked(NamedTuple):
    """The questions of a task."""

    table: pa.Table
    examples: dict[str, list[Row]]  # answered questions by group; under "" those of all
    left_out: Sequence[LeftOut] = ()
    files: Sequence[Path] = ()

    def rows(self, at: range) -> list[Row]:
        found: list[Row] = self.table.slice(at.start, len(at)).to_pylist()
        return found


def questions(task: ChoiceTask | AnswerTask | CodeTask) -> Asked:
    """The questions of kind `task.kind` in the task's files. Raises InputError where there is none, or fewer examples than shots."""
    paths = [Path(path) for path in task.paths]
    found = read_questions(paths, task.columns)
    table = of_kind(found.table, task.kind, task.name)
    files, examples = files_of(paths), {}
    if task.shots:
        if task.examples:
            others = [Path(path) for path in task.examples]
            files += files_of(others)
            shown = of_kind(read_questions(others, task.columns).table, task.kind, f"{task.name}: examples").to_pylist()
        else:
            shown = table.to_pylist()
        examples = {"": shown}
        for row in shown:
            examples.setdefault(row["group"], []).append(row)
        if len(shown) < task.shots:
            raise InputError(f"{task.name}: {task.shots} shots are asked for, and there are {len(shown)} examples")
    if task.limit is not None:
        table = table.take(chosen(table.column("id").to_pylist(), task.limit))
    return Asked(table, examples, found.left_out, files)


def of_kind(table: pa.Table, kind: str, name: str) -> pa.Table:
    own = table.filter(pc.field("kind") == kind)
    if not own.num_rows:
        others = ", ".join(sorted(set(table.column("kind").to_pylist())))
        raise InputError(f"{name}: there is no question of kind {kind} in its files, they are of kind {others}")
    return own


def chosen(ids: Sequence[str], limit: int) -> np.ndarray:
    """The places, in their order, of the `limit` ids with the smallest hashes: the same whatever else is there."""
    hashes = np.array([xxhash.xxh3_64_intdigest(one.encode("utf-8", "surrogatepass")) for one in ids], np.uint64)
    return np.sort(np.argsort(hashes, kind="stable")[:limit])


def shots(task: ChoiceTask | AnswerTask | CodeTask, asked: Asked, row: Row) -> list[Row]:
    """The first examples of the question's group, or of all where that has too few; never the question itself."""
    for pool in (asked.examples.get(row["group"], []), asked.examples.get("", [])):
        found = [one for one in pool if any(one[name] != row[name] for name in _ITSELF)][: task.shots]
        if len(found) == task.shots:
            return found
    raise InputError(f"{task.name}: there are not {task.shots} examples beside question {row['id']}. Set shots lower or give `examples`")


def prompt(instruction: str, told: Sequence[str]) -> str:
    """Instruction, answered questions and the question, a blank line between them."""
    return "\n\n".join([*([instruction.strip()] if instruction.strip() else []), *told])


def chinese(language: str, row: Row) -> bool:
    return language == "zh" or (language == "auto" and len(_CHINESE.findall(row["question"])) * 4 > len(row["question"]))


def details(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["details"])
    return found


def by_group(records: pa.Table, measure: Callable[[pa.Table], Mapping[str, Estimate]]) -> Measured:
    """`measure` of all records under "", and of each group where there are several."""
    groups = pc.unique(records.column("group")).to_pylist()
    found = {"": dict(measure(records))}
    if len(groups) > 1:
        found |= {group: dict(measure(records.filter(pc.field("group") == group))) for group in groups}
    return found
