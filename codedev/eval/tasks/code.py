"""Programs that pass tests, run in the sandbox.

pass@k is the unbiased estimator of Chen et al. 2021: of n samples of which c pass, 1 - C(n-c, k) / C(n, k), the mean over questions.
Other languages than Python are written and not run: their questions are refused by name.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from codedev._errors import InputError
from codedev._run import Progress
from codedev.eval import graders, intervals, sandbox
from codedev.eval.lm import LM, Sampling
from codedev.eval.recipe import CodeTask
from codedev.eval.sandbox.outside import Policy
from codedev.eval.tasks.asked import Asked, Measured, Row, by_group, details, prompt, shots
from codedev.eval.tasks.asked import questions as read

VERSION = 2
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("asked", pa.large_string()),
        ("gold", pa.large_string()),
        ("said", pa.large_string()),  # the program of the first sample
        ("score", pa.float64()),  # share of samples that pass
        ("samples", pa.int64()),
        ("passed", pa.int64()),
        ("texts", pa.list_(pa.large_string())),  # all that was written
        ("statuses", pa.list_(pa.large_string())),  # passed, time, memory, output, or the last line printed
    ]
)


def questions(task: CodeTask) -> Asked:
    found = read(task)
    languages = Counter(details(row)["language"] for row in found.table.to_pylist())
    others = {name: count for name, count in languages.items() if name not in ("python", "py")}
    if others:
        told = ", ".join(f"{name} ({count} questions)" for name, count in others.items())
        raise InputError(f"{task.name}: the sandbox runs Python; these questions are of {told}. Leave their files out of `paths`")
    return found


def ask(task: CodeTask, asked: Asked, at: range, lm: LM, progress: Progress) -> pa.Table:
    policy: Policy = "strict" if task.strict else "lenient"
    sandbox.check(policy)  # before anything is written
    rows = asked.rows(at)
    prompts = [prompt(task.instruction, [*(_shown(shot) for shot in _shots(task, asked, row)), _told(row)]) for row in rows]
    sampling = Sampling(task.samples, task.max_tokens, task.temperature, task.top_p, task.seed, ())
    written = lm.write(prompts, sampling, progress, first=at.start)
    programs = [program(row, one.text) for row, own in zip(rows, written, strict=True) for one in own]
    tests = [details(row)["test"] for row in rows for _ in range(task.samples)]
    run = (f"{text}\n\n{test}\n" for text, test in zip(programs, tests, strict=True))
    outcomes = []
    for outcome in sandbox.run_many(run, seconds=task.timeout, memory=task.memory << 20, policy=policy):
        outcomes.append(outcome)
        progress("test", len(outcomes), len(programs))
    found = []
    for number, (row, before) in enumerate(zip(rows, prompts, strict=True)):
        own = slice(number * task.samples, (number + 1) * task.samples)
        passed = sum(one.passed for one in outcomes[own])
        found.append(
            {
                "id": row["id"],
                "group": row["group"],
                "asked": before,
                "gold": row["golds"][0],
                "said": programs[own][0],
                "score": passed / task.samples,
                "samples": task.samples,
                "passed": passed,
                "texts": [one.text for one in written[number]],
                "statuses": [one.status for one in outcomes[own]],
            }
        )
    return pa.Table.from_pylist(found, _SCHEMA)


def measure(task: CodeTask, records: pa.Table, seed: int) -> Measured:
    def each(some: pa.Table) -> dict[str, intervals.Estimate]:
        n, c = some.column("samples").to_numpy(), some.column("passed").to_numpy()
        found = {}
        for k in sorted(set(task.k)):
            values = np.array([pass_at(int(of), int(right), k) for of, right in zip(n, c, strict=True)])
            found[f"pass@{k}"] = intervals.share(values) if task.samples == 1 else intervals.mean(values, seed)
        return found

    return by_group(records, each)


def pass_at(n: int, c: int, k: int) -> float:
    """The chance that of k samples, drawn from n of which c pass, one passes."""
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def program(row: Row, text: str) -> str:
    """The program that a text makes of a question's prompt: its fenced block, or what goes on from the prompt up to where it ends."""
    own = details(row)
    fenced = graders.fenced(text)
    if not own.get("shown"):  # what goes on from the beginning of a program
        before: str = row["question"]
        if fenced is not None:
            name = own.get("entry_point")
            return fenced if name is None or f"def {name}" in fenced else before + fenced
        return before + _until(text, own["stop"])
    return fenced if fenced is not None else _until(text, _MBPP_STOPS)


_MBPP_STOPS = ("\nassert ", '\n"""', "\nprint(", "\nif __name__", "\n[DONE]", "\n```")


def _until(text: str, stops: tuple[str, ...] | list[str]) -> str:
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def _shots(task: CodeTask, asked: Asked, row: Row) -> list[Row]:
    return shots(task, asked, row) if task.shots else []


def _told(row: Row) -> str:
    """A prompt to go on from: as it is where it begins a program, else what is asked and its tests as a comment before one."""
    tests = details(row).get("shown")
    if not tests:
        question: str = row["question"]
        return question
    listed = "\n".join(tests)
    return f'"""\n{row["question"].strip()}\n{listed}\n"""\n'


def _shown(row: Row) -> str:
    gold: str = row["golds"][0]
    return _told(row) + gold.rstrip().replace("\r\n", "\n")
