"""`codedev train --dry-run` and `codedev train explain` of the stages dpo, kto, grpo and rloo; of ppo the first alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from codedev._run import Progress
from codedev.train import loop, pretrain
from codedev.train.align import ppo, trl_trainers
from codedev.train.align.examples import summary
from codedev.train.align.preference import documents, feeds, model_of, refuse
from codedev.train.align.preference_data import Feed
from codedev.train.align.trl_trainers import Trainer, micro_of, section_of
from codedev.train.compute.parallel import World
from codedev.train.recipe import SAMPLING, TrainRecipe, absolute, run_steps, step_rows
from codedev.train.watch import memory
from codedev.train.watch.dryrun import disk_of, plan_of, room, schedule_of

SHOWN, LETTERS = 2, 1200  # of the first batch; of a prompt's end and of an answer
_HEAD = 256  # tokens whose scores TRL forms at once


def examine(recipe: TrainRecipe, progress: Progress) -> dict[str, Any]:
    """plan, prepared, examples, memory, disk, batch, schedule, isolation, faults, warnings: see `codedev.train.watch.dryrun.examine`.
    `recipe` is absolute. Loads no TRL."""
    if recipe.stage == "ppo":
        ppo.refuse(recipe)
    else:
        refuse(recipe)
        trl_trainers.need()
    feed, heldout, told = feeds(recipe, progress)
    rows = step_rows(recipe, feed.seq_len)
    plan = loop.Plan(run_steps(recipe, feed.rows, rows), rows, recipe.batch.micro_rows, recipe.run.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = pretrain.dtype_of(recipe, device)
    faults: list[str] = []
    warnings: list[str] = []
    words: Any = feed
    first = _first(recipe, feed, plan)

    def loss(model: Any) -> torch.Tensor:
        found: torch.Tensor = model(input_ids=first, use_cache=recipe.tune == "prefix", logits_to_keep=1).logits.float().sum()
        return found

    found = memory.estimate(recipe, words, device, dtype, "sdpa", first, loss=loss)
    scores = 3 * 4 * min(_HEAD, first.numel()) * feed.vocab_size
    copy = found.weights if recipe.tune == "full" and (recipe.stage == "ppo" or section_of(recipe).beta) else 0
    found = found._replace(weights=found.weights + copy, logits=scores, peak=found.peak + copy + scores)
    takes = room(recipe, words, device, found, faults, warnings)
    if recipe.stage in SAMPLING:
        warnings.append("memory: the keys and values of answers that are being sampled come on top, 64 of them at once")
    if heldout is None:
        warnings.append(
            "no example is held out, so nothing tells what is learned and what is remembered. Set data.holdout, for example to 0.1"
        )
    numbers = plan.numbers(0, feed)
    shown = dict.fromkeys((numbers // feed.answers).tolist())
    tokens = sum(feed.segments(number)[0].end for number in numbers.tolist())  # of sampled answers nothing is known yet
    micro = micro_of(recipe) if recipe.stage in ("grpo", "rloo") else min(plan.micro_rows, plan.rows)
    plan_told = plan_of(recipe, feed, plan) | {"rows": len(feed.table), "tokens_a_step": tokens, "tokens": tokens * plan.steps}
    return {
        "plan": plan_told | {"micro_rows": micro, "micro_batches": -(-plan.rows // micro)},
        "prepared": told,
        "examples": _examples(feed, heldout, told),
        "memory": takes,
        "disk": disk_of(recipe, takes, warnings),
        "batch": [_row(feed, number) for number in list(shown)[:SHOWN]],
        "schedule": schedule_of(recipe, plan.steps),
        "isolation": {"ok": True, "said": "every example is a row of its own, padded at its end"},
        "faults": faults,
        "warnings": warnings,
    }


def step_documents(recipe: TrainRecipe, path: Path | None, numbers: np.ndarray) -> list[dict[str, Any]]:
    """The examples of a step: of dpo with the loss of each, by the weights of the checkpoint `path` or those of the beginning; of the other
    stages without one: the losses of kto are of answers together, those of grpo and rloo of answers that were sampled and are gone."""
    feed, _, _ = feeds(recipe, lambda *_: None)
    if recipe.stage != "dpo":
        found = [{"shards": str(feed.folder), **feed.segments(number)[0]._asdict()} for number in numbers[:: feed.answers].tolist()]
        return [{**one, "tokens": one["end"], "supervised": None, "loss": None} for one in found]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place, dtype = World(0, 1, device), pretrain.dtype_of(recipe, device)
    model, reference = model_of(recipe, feed, "sdpa", path, place, dtype)
    model = model.to(device)
    trainer = Trainer(recipe, feed, model, reference, place, dtype)
    trainer.model_called = model
    return documents(trainer, feed, numbers)


def explained(run_dir: Path, recipe: TrainRecipe) -> Feed:
    """What the run in `run_dir` reads; `recipe` is its own."""
    return feeds(absolute(recipe, run_dir), lambda *_: None)[0]


def _first(recipe: TrainRecipe, feed: Feed, plan: loop.Plan) -> torch.Tensor:
    """(sequences, tokens) the largest micro-batch that a step can have, as far as its first step shows."""
    numbers = plan.numbers(0, feed)
    longest = max(feed.segments(number)[0].end for number in numbers.tolist())
    if recipe.stage in SAMPLING:
        prompt = max(map(len, feed.prompts(numbers)))
        return torch.zeros(micro_of(recipe), prompt + section_of(recipe).max_tokens, dtype=torch.long)
    return torch.zeros(min(plan.micro_rows, plan.rows) * (2 if recipe.stage == "dpo" else 1), longest, dtype=torch.long)


def _examples(feed: Feed, heldout: Feed | None, told: dict[str, Any]) -> dict[str, Any]:
    said = [["tables", summary(told)], ["held out", f"{heldout.rows:,}" if heldout is not None else "none"]]
    if feed.stage == "kto":
        good = sum(feed.table.column("label").to_pylist())
        said.append(["good answers", f"{good:,} of {feed.rows:,}"])
    if feed.answers > 1:
        said.append(["sampled", f"{feed.answers} answers to each prompt"])
    return {"kind": told["kind"], "examples": len(feed.table), "heldout": 0 if heldout is None else heldout.rows, "said": said}


def _row(feed: Feed, number: int) -> dict[str, Any]:
    one = feed.table.slice(number, 1).to_pylist()[0]
    label = {True: " (good)", False: " (bad)", None: ""}[one["label"]]
    answers = [[f"{side}{label}", one[side][:LETTERS]] for side in ("chosen", "rejected", "answer") if one[side] is not None]
    if feed.answers > 1 or feed.stage in SAMPLING:
        answers = [["reference", (one["reference"] or "{}")[:LETTERS]]]
    tokens = feed.segments(number * feed.answers)[0].end
    return {"document": one["document"], "tokens": tokens, "prompt": one["prompt"][-LETTERS:], "answers": answers}
