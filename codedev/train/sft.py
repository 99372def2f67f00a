"""Stage `sft`: instruction tuning. The run is that of `pt`; the loss is that of the answers alone, as the shards' loss spans say.

Shards come from `codedev tokenize --mode sft`, or are made of `data.tables` first (tables.py). A row that supervises nothing is refused,
with its place, before anything is computed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from codedev._errors import RunError
from codedev._run import Progress
from codedev.train import pretrain
from codedev.train.compute import parallel
from codedev.train.compute.parallel import World
from codedev.train.data import open_shards
from codedev.train.instructions.spans import check_spans, supervised
from codedev.train.instructions.tables import prepare
from codedev.train.recipe import TrainRecipe, absolute
from codedev.train.use.chat_files import leave

__all__ = ["check_spans", "run", "supervised"]

_PATIENCE = dt.timedelta(days=30)  # for the first process to prepare the tables: they may be large


def run(recipe: TrainRecipe, base: Path, on_step: pretrain.OnStep, progress: Progress) -> dict[str, Any]:
    """See `codedev.train.run`. With `data.tables` the result has `data`: what `codedev.train.instructions.tables.prepare` returns."""
    recipe = absolute(recipe, base)
    with parallel.world() as place:
        told = {"data": prepared(recipe, place, progress)} if recipe.data.tables else {}
        shards = open_shards(tuple(map(Path, recipe.data.dirs)))
        if not told:  # else they were checked when they were made
            check_spans(shards)
        result = pretrain.run(recipe, base, on_step, progress)
        if place.first:
            leave(recipe, shards, Path(result["model_dir"]))
        place.wait()
        return result | told


def prepared(recipe: TrainRecipe, place: World, progress: Progress) -> dict[str, Any]:
    """`prepare` on the first process, for which the others wait; empty on those."""
    return first_prepares(lambda: prepare(recipe, progress), place)


def first_prepares(make: Callable[[], dict[str, Any]], place: World) -> dict[str, Any]:
    """`make` on the first process, for which the others wait; empty on those."""
    if place.size == 1:
        return make()
    # Of the processes' own: the usual group gives up after minutes.
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    done = torch.zeros(1)
    told: dict[str, Any] = {}
    try:
        if place.first:
            told = make()
            done += 1
    finally:
        dist.all_reduce(done, group=group)
        dist.destroy_process_group(group)
    if not done:
        raise RunError("the first process could not prepare the tables: see what it says")
    return told
