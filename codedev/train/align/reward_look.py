"""`codedev train --dry-run` of stage reward: what the run would take, read and learn, and whether it can. Trains nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from codedev._errors import CodedevError
from codedev._run import Progress
from codedev.train import loop, pretrain
from codedev.train import model as models
from codedev.train.align import reward_head
from codedev.train.align.examples import prepare, summary
from codedev.train.align.reward_data import Judged
from codedev.train.align.reward_model import KINDS, check, loss_of, opened
from codedev.train.compute import parallel
from codedev.train.recipe import TrainRecipe, run_steps, step_rows
from codedev.train.watch import memory
from codedev.train.watch.dryrun import disk_of, plan_of, room, schedule_of

SHOWN, LETTERS = 2, 1200  # of the first batch; of a prompt's end and of an answer


def examine_reward(recipe: TrainRecipe, progress: Progress) -> dict[str, Any]:
    """plan, prepared, examples, memory, disk, batch, schedule, isolation, faults, warnings: see `codedev.train.watch.dryrun.examine`.
    `recipe` is absolute."""
    check(recipe)
    told = prepare(recipe, KINDS, progress).told
    _, train, heldout = opened(recipe)
    rows = step_rows(recipe, train.seq_len)
    plan = loop.Plan(run_steps(recipe, train.rows, rows), rows, recipe.batch.micro_rows, recipe.run.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = pretrain.dtype_of(recipe, device)
    faults: list[str] = []
    warnings: list[str] = []
    attn = reward_head.choose_attn(recipe, device, dtype)
    first = train.read(train.arranged(plan.numbers(0, train))[: plan.micro_rows])  # the longest of the step

    def loss(model: Any) -> torch.Tensor:
        found = loss_of(reward_head.call_of(reward_head.Scores(model), device, dtype), first, 0.01)
        return found[0] if found.ndim else found

    found = memory.estimate(recipe, train, device, dtype, attn, first, models.SCORE, loss)
    takes = room(recipe, train, device, found, faults, warnings)
    if heldout is None:
        warnings.append("no example is held out, so nothing tells how far the model can be trusted. Set data.holdout, for example to 0.1")
    return {
        "plan": plan_of(recipe, train, plan),
        "prepared": told,
        "examples": _examples(told, train, heldout),
        "memory": takes,
        "disk": disk_of(recipe, takes, warnings),
        "batch": [_row(train, int(number)) for number in plan.numbers(0, train)[:SHOWN]],
        "schedule": schedule_of(recipe, plan.steps),
        "isolation": _padding(recipe, train, takes, attn, device, dtype, faults),
        "faults": faults,
        "warnings": warnings,
    }


def _examples(told: dict[str, Any], train: Judged, heldout: Judged | None) -> dict[str, Any]:
    kind = told["kind"]
    said = [["tables", summary(told)], ["held out", f"{heldout.rows:,}" if heldout is not None else "none"]]
    if not train.pairs:
        low, middle, high = np.quantile(train.wanted, (0, 0.5, 1))
        said.append(
            ["rewards", f"{low:g} to {high:g}, half of them up to {middle:g}; mean {train.scale.mean:.4g} ± {train.scale.deviation:.4g}"]
        )
    return {"kind": kind, "examples": train.rows, "heldout": 0 if heldout is None else heldout.rows, "said": said}


def _row(train: Judged, number: int) -> dict[str, Any]:
    one = train.table.slice(number, 1).to_pylist()[0]
    sides = ["chosen", "rejected"] if train.pairs else ["answer"]
    given = "" if train.pairs else f" ({one['reward']:g})"
    answers = [[f"{side}{given}", one[side][:LETTERS]] for side in sides]
    prompt = one["prompt"][-LETTERS:]
    return {"document": one["document"], "tokens": sum(map(len, train.sequences(number))), "prompt": prompt, "answers": answers}


def _padding(
    recipe: TrainRecipe, train: Judged, takes: dict[str, Any], attn: str, device: torch.device, dtype: torch.dtype, faults: list[str]
) -> dict[str, Any]:
    if 1.5 * takes["weights"] > takes["free"]:
        return {"ok": None, "said": "not checked: the model does not fit into the memory that is free; the run checks it before it trains"}
    place = parallel.World(0, 1, device)
    try:
        model = reward_head.build(recipe, train, train.manifest, attn, None, place, dtype)
        module = parallel.distribute(reward_head.Scores(model), "single", place, dtype).eval()
        error = reward_head.check_padding(reward_head.call_of(module, device, dtype), train, dtype, type(model).__name__)
    except CodedevError as fault:
        faults.append(str(fault))
        return {"ok": False, "said": str(fault)}
    return {"ok": True, "error": error, "said": f"what follows a sequence does not change its number: {error:.2g} of the largest apart"}
