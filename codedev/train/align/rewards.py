"""What answers earn: sources of rewards, each scoring a batch of answers as text, and their weighted sum.

A source that raises, hangs, or gives something that is no finite number for each answer is an error that names it and the answer's
document; the weights are those before the answers, so the run goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from codedev._errors import InputError, RunError
from codedev.eval import graders, sandbox
from codedev.train.align.reward_recipe import RewardRecipe

_LOADING = 120.0  # seconds in which a function's file may import what it needs
_LARGEST = 1e15  # of a reward: its square, summed over answers, is still a float32


class Asked(NamedTuple):
    """An answer, and what it is an answer to."""

    prompt: str
    answer: str
    reference: dict[str, Any]  # of the prompt's row: `answer`, and other columns
    document: str
    messages: str | None = None  # the prompt as a conversation, JSON; None: a user said `prompt`. For reward models, which have templates


Score = Callable[[Sequence[Asked]], Sequence[float]]


class Source(NamedTuple):
    name: str
    weight: float
    score: Score
    close: Callable[[], None]


class Earned(NamedTuple):
    scores: np.ndarray  # (answers,) float64, the weighted sum
    parts: dict[str, np.ndarray]  # of each source, without its weight


def open_source(recipe: RewardRecipe, base: Path, share: Any = None) -> Source:
    """A reward model, a function or a grader, ready to score. Paths are relative to `base`. `share`: a policy on whose
    base a reward model's adapter may stand (scoring.open_reward_model)."""
    if recipe.model is not None:
        from codedev.train.align.scoring import open_reward_model  # torch is needed for nothing else here

        model = open_reward_model(base / recipe.model, name=recipe.model, share=share)
        return Source(recipe.shown, recipe.weight, model.score, lambda: None)
    if recipe.function is not None:
        file, _, name = recipe.function.rpartition(":")
        function = Function(base / file, name, recipe.seconds)
        return Source(recipe.shown, recipe.weight, function.score, function.close)
    assert recipe.grader is not None
    column = recipe.column or recipe.grader
    if recipe.grader == "tests":
        sandbox.check(recipe.sandbox)

    def score(asked: Sequence[Asked]) -> Sequence[float]:
        right = [_right(one, column, recipe.grader or "") for one in asked]
        texts = [one.answer for one in asked]
        if recipe.grader == "answer":
            return graders.answer(texts, right)
        return graders.unit_tests(texts, right, seconds=min(recipe.seconds, 60.0), policy=recipe.sandbox)

    return Source(recipe.shown, recipe.weight, score, lambda: None)


def earn(sources: Sequence[Source], asked: Sequence[Asked]) -> Earned:
    """The scores of all sources and their weighted sum."""
    parts = {}
    for source in sources:
        given = source.score(asked)
        if len(given) != len(asked):
            raise RunError(f"reward {source.name}: gave {len(given)} numbers for {len(asked)} answers. Give one for each")
        for one, number in zip(asked, given, strict=True):
            if not abs(source.weight * number) <= _LARGEST:
                raise RunError(
                    f"reward {source.name}: gave {number:g} for the answer {one.answer[:40]!r} to the prompt {one.document}. Give a number "
                    + ("that is finite" if not math.isfinite(number) else f"that is with its weight no more than {_LARGEST:g}")
                )
        parts[source.name] = np.asarray(given, np.float64)
    return Earned(sum((source.weight * parts[source.name] for source in sources), np.zeros(len(asked))), parts)


class Function:
    """A user's function in a process of its own."""

    def __init__(self, file: Path, name: str, seconds: float) -> None:
        if not file.is_file():
            raise InputError(f"{file}: there is no such file. Write reward functions as FILE.py:NAME, the file relative to the recipe")
        self._called, self._seconds = f"{file.name}:{name}", seconds
        host = Path(__file__).with_name("host.py")
        self._process = subprocess.Popen(
            [sys.executable, str(host), str(file), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the run, which finishes its step with it
        )
        self._kept = b""
        self._reply(_LOADING, "to be loaded")

    def score(self, asked: Sequence[Asked]) -> Sequence[float]:
        fields = {
            "prompts": [one.prompt for one in asked],
            "answers": [one.answer for one in asked],
            "references": [one.reference for one in asked],
        }
        assert self._process.stdin is not None
        try:
            self._send(json.dumps(fields).encode() + b"\n")
        except BrokenPipeError:
            raise self._ended() from None
        scores: Sequence[float] = self._reply(self._seconds, f"to score {len(asked)} answers")["scores"]
        return scores

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # and what it has started
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _send(self, data: bytes) -> None:
        """Write all of it, unless the function reads nothing for too long."""
        assert self._process.stdin is not None
        until, at = time.monotonic() + self._seconds, 0
        while at < len(data):
            _, ready, _ = select.select([], [self._process.stdin], [], max(0.0, until - time.monotonic()))
            if not ready:
                self.close()
                raise RunError(f"reward {self._called}: took no answers for {self._seconds:g} s. Look whether it hangs, or raise `seconds`")
            at += self._process.stdin.write(data[at : at + 4096]) or 0  # a pipe that can be written takes so many at once

    def _reply(self, seconds: float, what: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        until = time.monotonic() + seconds
        while b"\n" not in self._kept:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self.close()
                raise RunError(f"reward {self._called}: took longer than {seconds:g} s {what}. Look whether it hangs, or raise `seconds`")
            piece = self._process.stdout.read(1 << 16)
            if not piece:
                raise self._ended()
            self._kept += piece
        line, _, self._kept = self._kept.partition(b"\n")
        try:
            reply: dict[str, Any] = json.loads(line)
            fault = f"{reply['error']}, in {reply['where']} it" if "error" in reply else None
            if not fault and "ready" not in reply:
                reply["scores"] = [float(score) for score in reply["scores"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            fault = "something in it writes where its numbers go: to a file descriptor that is not its own"
        if fault:
            raise RunError(f"reward {self._called}: {fault}. Mend the function, and run the same command again")
        return reply

    def _ended(self) -> RunError:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return RunError(
                f"reward {self._called}: closed what its numbers are sent by. Mend the function, and run the same command again"
            )
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        return RunError(
            f"reward {self._called}: its process ended {how}. Look at what it printed above, mend it, and run the same command again"
        )


def check_graded(sources: Sequence[RewardRecipe], prompts: pa.Table) -> None:
    """InputError where prompts (examples.SCHEMA) do not say to graders what is right: before a run, not in the midst of it."""
    for source in sources:
        if source.grader is None:
            continue
        column = source.column or source.grader
        lacking = [
            row
            for row, reference in enumerate(prompts.column("reference").to_pylist())  # 3 µs each
            if _said(orjson.loads(reference or "{}"), column) is None
        ]
        if lacking:
            first, document = (prompts.column(name)[lacking[0]].as_py() for name in ("reference", "document"))
            raise InputError(
                f"rewards: grader {source.grader}: {len(lacking):,} of {len(prompts):,} prompts do not say what is right in '{column}'; "
                f"the first, {document}, has {_known(orjson.loads(first or '{}'))}. Name another column, or leave those rows out"
            )


def _right(one: Asked, column: str, grader: str) -> str:
    """What the reference says is right."""
    found = _said(one.reference, column)
    if found is None:
        raise RunError(
            f"reward {grader}: the prompt {one.document} does not say what is right in '{column}'; its reference has "
            f"{_known(one.reference)}. Name the column, or keep it beside the conversation when the corpus is built"
        )
    return found


def _said(reference: dict[str, Any], column: str) -> str | None:
    """What is right, as one text: unit tests may be a list of lines."""
    found = reference.get(column)
    if isinstance(found, list) and all(isinstance(line, str) for line in found):
        found = "\n".join(found)
    if isinstance(found, int | float) and not isinstance(found, bool):
        found = str(found)
    return found if isinstance(found, str) and found.strip() else None


def _known(reference: dict[str, Any]) -> str:
    return ", ".join(sorted(name for name, value in reference.items() if value is not None)) or "nothing"
