"""Which documents a step trained on: a pure function of the recipe's seed, its shards and the step. Needs no log and no torch.

With their losses, which need the weights: those of the nearest checkpoint at or before the step began, or the model that the run began with
where that is the same. Weights at exactly that moment give the loss that the step had, dropout apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codedev import _recipe
from codedev._errors import InputError, RecipeError
from codedev.train.data import Shards, open_shards
from codedev.train.recipe import SAMPLING, TrainRecipe, absolute, run_steps, step_rows
from codedev.train.saved import steps_saved
from codedev.train.watch.rows import parsed

JUDGED = ("reward",)  # stages whose rows are judged examples
PREFERENCE = ("dpo", "kto", "grpo", "rloo")  # those of TRL's losses; of the first alone an example has one by itself

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(input_ids, positions), both (B, S) -> (B, S) nats of every token, as of codedev.eval.perplexity."""


class _Run(NamedTuple):
    recipe: TrainRecipe
    shards: Any  # or what stands for them: loop.Data
    numbers: np.ndarray  # int64, the rows of the step


def documents_of_step(run_dir: Path, step: int) -> list[dict[str, Any]]:
    """The segments that step `step` (counted from 1, as in metrics.jsonl) of the run in `run_dir` was computed from.

    Each has: shards (directory) and row (number in it), start and end (tokens of the row), document (id), offset (the first token's
    place in the document). Their lengths add up to the tokens of the step.
    """
    found = _run(run_dir, step)
    segments = []
    for number in found.numbers.tolist():
        directory, row = found.shards.place_of(number)
        segments += [{"shards": str(directory), **segment._asdict(), "row": row} for segment in found.shards.segments(number)]
    return segments


def explain(run_dir: Path, step: int) -> dict[str, Any]:
    """The segments of a step with their losses, the highest first.

    run_dir, step, loss_recorded (in metrics.jsonl; None where it is not), loss (the same from these losses), weights (which), weights_step
    (finished steps that they have learned; None = no weights, so no losses), exact (they are those the step began with), why (of no
    losses), documents: as of `documents_of_step` with tokens, supervised (of those, trained on) and loss (mean nats of these; None = none,
    or with `no_number` one that is no number). Of stages that sample answers what rollouts.explain returns. Of stage reward they are
    examples, with chosen, rejected and margin, or reward and wanted.
    """
    if (stage := _recipe_of(run_dir).stage) in SAMPLING and (stage == "ppo" or (run_dir / "rollouts").is_dir()):
        from codedev.train.align import rollouts

        return rollouts.explain(run_dir, step)
    found = _run(run_dir, step)
    row = _recorded(run_dir, step)
    told: dict[str, Any] = {
        "run_dir": str(run_dir),
        "step": step,
        "loss_recorded": row.get("loss", row.get("bad_loss")),
        **({"skipped": row["skipped"]} if "skipped" in row else {}),
    }
    saved = steps_saved(run_dir)
    before = [number for number in saved if number < step]
    if found.recipe.stage in PREFERENCE[1:]:
        from codedev.train.align.preference_look import step_documents

        documents = step_documents(found.recipe, None, found.numbers)
        told |= {"loss": None, "weights": None, "weights_step": None, "exact": False}
        told["why"] = f"examples of stage {found.recipe.stage} have none by themselves"
    elif before or step == 1:
        from codedev.train.pretrain import opened

        weights_step = before[-1] if before else 0
        path = run_dir / "checkpoints" / f"step-{weights_step:08d}" if before else None
        if found.recipe.stage in JUDGED:
            from codedev.train.align.reward_model import step_documents

            documents = step_documents(found.recipe, path, found.numbers)
        elif found.recipe.stage in PREFERENCE:
            from codedev.train.align.preference_look import step_documents

            documents = step_documents(found.recipe, path, found.numbers)
        else:
            score = opened(found.recipe, found.shards, path)
            documents = segment_losses(score, found.shards, found.numbers, found.recipe.batch.micro_rows)
        supervised = sum(one["supervised"] for one in documents)
        loss = sum(one["loss"] * one["supervised"] for one in documents if one["supervised"]) / max(supervised, 1)
        told |= {"loss": loss, "weights": str(path) if path else "the model that the run began with", "weights_step": weights_step}
        told |= {"exact": weights_step == step - 1, "why": None}
    else:
        documents = [
            {**one, "tokens": one["end"] - one["start"], "supervised": None, "loss": None} for one in documents_of_step(run_dir, step)
        ]
        kept = f"the oldest that is kept is of step {saved[0]}" if saved else "none is kept"
        why = f"no checkpoint is as old as step {step - 1}: {kept}. More stay with run.save_every and run.keep"
        told |= {"loss": None, "weights": None, "weights_step": None, "exact": False, "why": why}
    documents.sort(key=lambda one: math.inf if one["loss"] is None else -one["loss"] if math.isfinite(one["loss"]) else -math.inf)
    return {**_finite(told), "documents": list(map(_finite, documents))}


def _finite(one: dict[str, Any]) -> dict[str, Any]:
    """For JSON, which knows no such numbers: a loss that is none is None, and `no_number` says so."""
    return one | {"loss": None, "no_number": True} if one["loss"] is not None and not math.isfinite(one["loss"]) else one


def segment_losses(score: Score, shards: Shards, numbers: np.ndarray, group: int) -> list[dict[str, Any]]:
    """The segments of the rows `numbers` with tokens, supervised and loss, `group` rows scored at a time."""
    found = []
    for at in range(0, len(numbers), group):
        some = numbers[at : at + group]
        rows = shards.read(some)
        nats = score(rows.input_ids, rows.positions)
        for i, number in enumerate(some.tolist()):
            directory, row = shards.place_of(number)
            for segment in shards.segments(number):
                here = slice(segment.start, segment.end)
                own = nats[i, here][rows.targets[i, here]]
                counts = {"tokens": segment.end - segment.start, "supervised": len(own)}
                loss = float(own.mean()) if len(own) else None
                found.append({"shards": str(directory), **segment._asdict(), "row": row, **counts, "loss": loss})
    return found


def _recipe_of(run_dir: Path) -> TrainRecipe:
    if not (run_dir / "recipe.yaml").is_file():
        raise InputError(f"{run_dir}: holds no run: there is no recipe.yaml. Give the directory that run.dir names")
    return absolute(_recipe.load(run_dir / "recipe.yaml", TrainRecipe), run_dir)


def _run(run_dir: Path, step: int) -> _Run:
    recipe = _recipe_of(run_dir)
    if step < 1:
        raise RecipeError(f"there is no step {step}: steps count from 1")
    shards: Any
    if recipe.stage in JUDGED:
        from codedev.train.align.reward_model import opened

        shards = opened(recipe)[1]
    elif recipe.stage in PREFERENCE:
        from codedev.train.align.preference_look import explained

        shards = explained(run_dir, recipe)
    else:
        shards = open_shards(tuple(map(Path, recipe.data.dirs)), recipe.data.weights)
    rows = step_rows(recipe, shards.seq_len)
    steps = run_steps(recipe, shards.rows, rows)
    if step > steps:
        raise RecipeError(f"there is no step {step}: the run has {steps}")
    return _Run(recipe, shards, shards.drawn(np.arange((step - 1) * rows, step * rows), recipe.run.seed))


def _recorded(run_dir: Path, step: int) -> dict[str, Any]:
    """The step's row of metrics.jsonl; empty where it has none."""
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        return {}
    with open(path, "rb") as file:
        for line in file:  # 2 µs each that is passed over
            if line.startswith(b'{"step":%d,' % step):
                row = parsed(line) or {}
                if "loss" in row or "skipped" in row:
                    return row
    return {}
