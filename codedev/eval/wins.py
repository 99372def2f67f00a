"""How often one model's answers are better than another's: as a reward model scores them, or as people said on the feedback page.

Answers are those of `codedev generate --prompts`. Of a prompt with several answers of a model every pair counts, and all its pairs together
as one prompt. A tie counts half. The interval is the bootstrap's over prompts, since answers to one prompt are no independent cases.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from codedev._errors import InputError
from codedev._run import write_text
from codedev.eval import intervals
from codedev.feedback.store import Store
from codedev.feedback.tasks import Answer, read_tasks

Messages = list[dict[str, str]]
Score = Callable[[Sequence[tuple[Messages, str]]], Sequence[float]]
"""(prompt, answer) each -> what the answers are worth."""


class Wins(NamedTuple):
    """Of model `one` against model `other`, over pairs of answers to the same prompt."""

    one: str
    other: str
    wins: int
    ties: int
    losses: int
    rate: intervals.Estimate  # mean over prompts of wins + ties / 2; n: prompts

    def as_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "rate": self.rate._asdict()}


class Prompt(NamedTuple):
    said: Messages
    one: list[Answer]
    other: list[Answer]


def answers_of(one: Path, other: Path) -> tuple[str, str, list[Prompt]]:
    """(the models' names, the prompts that both files answer). Raises InputError where they share none."""
    found = [_by_prompt(path) for path in (one, other)]
    shared = [prompt for prompt in found[0] if prompt in found[1]]
    if not shared:
        raise InputError(f"{one} and {other}: no prompt is answered in both. Ask both models the same --prompts")
    names = [_name(path, answers) for path, answers in zip((one, other), found, strict=True)]
    if names[0] == names[1]:
        names = [str(one), str(other)]
    return names[0], names[1], [Prompt(json.loads(prompt), found[0][prompt], found[1][prompt]) for prompt in shared]


def by_score(one: str, other: str, prompts: Sequence[Prompt], score: Score, margin: float = 0.0, seed: int = 0) -> Wins:
    """Answers whose scores are at most `margin` apart, and answers of the same text, are ties."""
    asked = [(prompt.said, answer.text) for prompt in prompts for answer in (*prompt.one, *prompt.other)]
    scores = iter(score(asked))
    outcomes = []
    for prompt in prompts:
        own, others = ([(answer.text, next(scores)) for answer in side] for side in (prompt.one, prompt.other))
        pairs = itertools.product(own, others)
        outcomes.append([_outcome(0.0 if a == b else x - y, margin) for (a, x), (b, y) in pairs])
    return _counted(one, other, outcomes, seed)


def by_people(store: Store, seed: int = 0) -> list[Wins]:
    """Of each two models whose answers were compared, as the judgements that stand say; both bad is a tie, a skipped one does not count."""
    tasks = {task.id: task for task in store.tasks() if task.kind == "compare"}
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for judgement in store.judgements():
        task = tasks.get(judgement.task)
        if task is None or judgement.verdict == "skip" or task.answers[0].model == task.answers[1].model:
            continue
        left, right = (answer.model for answer in task.answers)
        value = {"a": 1.0, "b": 0.0}.get(judgement.verdict, 0.5)
        one, other = sorted((left, right))
        found[one, other][json.dumps(task.prompt)].append(value if left == one else 1.0 - value)
    if not found:
        raise InputError(f"{store.where}: nobody has compared answers of two models yet. Serve them with `codedev feedback serve`")
    return [_counted(one, other, list(own.values()), seed) for (one, other), own in sorted(found.items())]


def write_pairs(one: str, other: str, prompts: Sequence[Prompt], path: Path) -> int:
    """The first answers of both to each prompt, as `codedev feedback serve` reads them, which of the two stands first by a hash of the
    prompt; how many. The same text on both sides is nothing to compare and left out."""
    lines = []
    for prompt in prompts:
        pair = [(one, prompt.one[0].text), (other, prompt.other[0].text)]
        if pair[0][1] == pair[1][1]:
            continue
        if xxhash.xxh3_64_intdigest(json.dumps(prompt.said).encode()) & 1:
            pair.reverse()
        lines.append(json.dumps({"messages": prompt.said, "answers": [{"model": m, "text": t} for m, t in pair]}, ensure_ascii=False))
    write_text(path, "".join(f"{line}\n" for line in lines))
    return len(lines)


def _by_prompt(path: Path) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = defaultdict(list)
    for task in read_tasks([path], "rate"):
        found[json.dumps(task.prompt)].append(task.answers[0])
    if not found:
        raise InputError(f"{path}: holds no answers. Make them with `codedev generate MODEL --prompts FILE --out {path}`")
    return found


def _name(path: Path, answers: Mapping[str, Sequence[Answer]]) -> str:
    names = {answer.model for own in answers.values() for answer in own}
    return names.pop() if len(names) == 1 and "" not in names else str(path)


def _outcome(difference: float, margin: float) -> float:
    return 0.5 if abs(difference) <= margin else float(difference > 0)


def _counted(one: str, other: str, outcomes: Sequence[Sequence[float]], seed: int) -> Wins:
    each = [value for own in outcomes for value in own]
    rate = intervals.mean(np.array([np.mean(own) for own in outcomes]), seed)
    return Wins(one, other, each.count(1.0), each.count(0.5), each.count(0.0), rate)
