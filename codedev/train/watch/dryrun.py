"""`codedev train RECIPE --dry-run`: what a run would take, read and learn, and whether it can. Trains nothing and writes nothing (tables of
instructions are made into shards, which the run then finds).

The model is built and called only for the check that documents of a row do not see each other, and only where it fits into memory;
everything else is told by the shards and by fake tensors (memory.py).
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codedev._errors import CodedevError
from codedev._run import Progress, read_json
from codedev.tokenize.vocabulary import Vocabulary, decode, load_vocabulary
from codedev.train import loop, pretrain
from codedev.train.data import Rows, Shards, open_shards
from codedev.train.instructions.spans import supervised
from codedev.train.instructions.tables import prepare
from codedev.train.instructions.turns import check_turns
from codedev.train.recipe import ALIGN, TrainRecipe, absolute, run_steps, step_rows
from codedev.train.schedule import lr_at
from codedev.train.watch import memory

SHOWN_ROWS, SHOWN_TOKENS = 2, 400  # of the first batch
SKETCH = 60  # learning rates
LOOKED = 1_000_000  # rows whose supervised tokens are counted: a few seconds


def examine(recipe: TrainRecipe, base: Path, progress: Progress) -> dict[str, Any]:
    """plan, data, memory, disk, batch, schedule, isolation, turns, faults (why the run would fail or learn the wrong thing), warnings.

    Raises RecipeError or InputError where there is nothing to look at: no shards, an impossible recipe.
    """
    recipe = absolute(recipe, base)
    if recipe.stage == "reward":
        from codedev.train.align.reward_look import examine_reward

        return examine_reward(recipe, progress)
    if recipe.stage in ALIGN:
        from codedev.train.align.preference_look import examine as examine_preference

        return examine_preference(recipe, progress)
    prepared = prepare(recipe, progress) if recipe.data.tables else None
    shards = open_shards(tuple(map(Path, recipe.data.dirs)), recipe.data.weights)
    rows = step_rows(recipe, shards.seq_len)
    plan = loop.Plan(run_steps(recipe, shards.rows, rows), rows, recipe.batch.micro_rows, recipe.run.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    first = shards.read(plan.numbers(0, shards)[: plan.micro_rows])
    faults: list[str] = []
    warnings: list[str] = []
    data = _data(shards)
    if recipe.stage == "sft" and (data["rows_unsupervised"] or data["rows_without_spans"]):
        bad = f"{data['rows_unsupervised']:,} rows have no supervised token, {data['rows_without_spans']:,} no loss spans"
        faults.append(f"{bad}. Stage sft needs both: make the shards with codedev tokenize --mode sft")
    elif data["rows_unsupervised"]:
        warnings.append(f"{data['rows_unsupervised']:,} rows have no supervised token: nothing is learned from them")
    dtype = pretrain.dtype_of(recipe, device)
    found = memory.estimate(recipe, shards, device, dtype, pretrain.attn_of(recipe, device, dtype), first)
    takes = room(recipe, shards, device, found, faults, warnings)
    told: dict[str, Any] = {
        "plan": plan_of(recipe, shards, plan),
        "prepared": prepared,
        "data": data,
        "memory": takes,
        "disk": disk_of(recipe, takes, warnings),
        "batch": _batch(shards, plan),
        "schedule": schedule_of(recipe, plan.steps),
        "isolation": _isolation(recipe, shards, takes, faults),
    }
    if recipe.stage == "sft":
        turns = check_turns(shards)
        told["turns"] = turns
        if not turns["ok"]:
            faults.append(turns["said"])
    return {**told, "faults": faults, "warnings": warnings}


def plan_of(recipe: TrainRecipe, shards: loop.Data, plan: loop.Plan) -> dict[str, Any]:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return {
        "stage": recipe.stage,
        "tune": recipe.tune,
        "run_dir": recipe.run.dir,
        "steps": plan.steps,
        "rows_a_step": plan.rows,
        "micro_rows": min(plan.micro_rows, plan.rows),
        "micro_batches": -(-plan.rows // (plan.micro_rows * processes)),
        "processes": processes,
        "seq_len": shards.seq_len,
        "tokens_a_step": plan.rows * shards.seq_len,  # padding with them
        "tokens": plan.steps * plan.rows * shards.seq_len,
        "rows": shards.rows,
        "epochs": plan.steps * plan.rows / shards.rows,
    }


def _data(shards: Shards) -> dict[str, Any]:
    """Counts from the manifests, and of supervised tokens from the rows themselves (LOOKED of them at most)."""
    counts: dict[str, int] = {}
    cut = 0
    for directory in shards.dirs:
        manifest = read_json(directory / "manifest.json")
        told, made = manifest.get("counts"), manifest.get("made")
        for name, value in told.items() if isinstance(told, dict) else ():
            if isinstance(value, int):
                counts[name] = counts.get(name, 0) + value
        lost = made.get("tokens_cut") if isinstance(made, dict) else None
        cut += lost if isinstance(lost, int) else 0
    looked = learned = empty = without = real = 0
    for batch in shards.batches:
        if looked >= LOOKED:
            break
        spans, lengths = batch.column("loss_spans"), batch.column("segment_lengths")
        offsets = lengths.offsets.to_numpy().astype(np.int64)
        pieces = lengths.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]].astype(np.int64)
        used = np.diff(np.concatenate([[0], np.cumsum(pieces)])[offsets - offsets[0]])
        every = used - np.diff(offsets)  # the first token of a segment is not predicted
        valid = spans.is_valid().to_numpy(zero_copy_only=False)
        of_row = np.where(valid, supervised(batch, shards.seq_len), every) if valid.any() else every
        looked += batch.num_rows
        learned += int(of_row.sum())
        real += int(used.sum())
        empty += int((of_row == 0).sum())
        without += int((~valid).sum())
    return {
        "documents": counts.get("documents"),
        "tokens": counts.get("tokens_packed", real if looked == shards.rows else None),
        "padding": counts.get("padding", looked * shards.seq_len - real if looked == shards.rows else None),
        "truncated": counts["tokens_truncated"] + cut if "tokens_truncated" in counts else None,
        "rows": shards.rows,
        "rows_looked_at": looked,
        "supervised": learned,
        "supervised_share": learned / max(real, 1),
        "rows_unsupervised": empty,
        "rows_without_spans": without,
    }


def room(
    recipe: TrainRecipe, shards: Any, device: torch.device, found: memory.Estimate, faults: list[str], warnings: list[str]
) -> dict[str, Any]:
    """What the run takes and the machine has; faults and warnings are added."""
    total, free = memory.machine(device)
    needs = found.peak + (memory.LIBRARIES if device.type == "cpu" else 0)
    if needs > total:
        faults.append(
            f"memory: the run takes {needs / 1e9:.1f} GB of a process, the {'GPU' if device.type == 'cuda' else 'machine'} has "
            f"{total / 1e9:.1f} GB. Lower batch.micro_rows, set tune to lora or qlora, or run.parallel to fsdp with more processes"
        )
    elif needs > free:
        warnings.append(f"memory: the run takes {needs / 1e9:.1f} GB, of {total / 1e9:.1f} GB only {free / 1e9:.1f} GB are free now")
    split = {}
    if recipe.tune == "full":
        block = memory.largest_block(recipe, shards)
        split = {number: memory.spread(found, number, block) for number in (2, 4, 8)}
    return {**found._asdict(), "device": device.type, "total": total, "free": free, "libraries": memory.LIBRARIES, "fsdp": split}


def disk_of(recipe: TrainRecipe, takes: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    """A new checkpoint is written before an old one is removed."""
    place = Path(recipe.run.dir)
    while not place.is_dir():
        place = place.parent
    saves = recipe.run.keep + 1 if recipe.run.save_every else 1
    weights = (4 * takes["parameters"]) if recipe.tune == "full" else 4 * takes["trained"]
    needs, free = saves * takes["disk"] + weights, shutil.disk_usage(place).free
    if needs > free:
        warnings.append(
            f"disk: {needs / 1e9:.1f} GB for checkpoints and model, {free / 1e9:.1f} GB are free at {place}. Make room, or lower run.keep"
        )
    return {"checkpoint": takes["disk"], "checkpoints": saves, "model": weights, "needs": needs, "free": free}


def _batch(shards: Shards, plan: loop.Plan) -> list[dict[str, Any]]:
    """The first rows of the first step, decoded piece by piece: what is trained on and what is not."""
    try:
        vocabulary = load_vocabulary(shards.tokenizer_file, need_eos=False)
    except CodedevError:
        vocabulary = None  # shards of another make: ids have to do
    numbers = plan.numbers(0, shards)[:SHOWN_ROWS]
    rows = shards.read(numbers)
    return [_row(shards, rows, at, vocabulary) for at in range(len(numbers))]


def _row(shards: Shards, rows: Rows, at: int, vocabulary: Vocabulary | None) -> dict[str, Any]:
    segments = []
    for segment in shards.segments(int(rows.numbers[at])):
        if segment.start >= SHOWN_TOKENS:
            break
        end = min(segment.end, SHOWN_TOKENS)
        targets, ids = rows.targets[at, segment.start : end], rows.input_ids[at, segment.start : end].tolist()
        edges = [0, *(np.flatnonzero(np.diff(targets)) + 1).tolist(), len(ids)]  # a segment has at least one token
        pieces = [
            {"supervised": bool(targets[a]), "tokens": b - a, "text": _text(ids[a:b], vocabulary)} for a, b in itertools.pairwise(edges)
        ]
        place = {"document": segment.document, "start": segment.start, "end": segment.end, "offset": segment.offset}
        segments.append({**place, "pieces": pieces})
    directory, row = shards.place_of(int(rows.numbers[at]))
    used = int(rows.real[at].sum())
    counts = {"tokens": used, "supervised": int(rows.targets[at].sum()), "padding": shards.seq_len - used}
    return {"shards": str(directory), "row": row, **counts, "shown": min(used, SHOWN_TOKENS), "segments": segments}


def _text(ids: list[int], vocabulary: Vocabulary | None) -> str:
    return decode(vocabulary, ids) if vocabulary is not None else " ".join(map(str, ids))


def schedule_of(recipe: TrainRecipe, steps: int) -> dict[str, Any]:
    at = sorted({round(step) for step in np.linspace(0, steps - 1, min(SKETCH, steps))})
    rates = [lr_at(recipe.optim, step, steps) for step in at]
    return {"steps": [step + 1 for step in at], "lr": rates, "highest": max(rates), "last": rates[-1], "schedule": recipe.optim.schedule}


def _isolation(recipe: TrainRecipe, shards: Shards, takes: dict[str, Any], faults: list[str]) -> dict[str, Any]:
    if 1.5 * takes["weights"] > takes["free"]:
        return {"ok": None, "said": "not checked: the model does not fit into the memory that is free; the run checks it before it trains"}
    try:
        error = pretrain.isolation(recipe, shards)
    except CodedevError as fault:
        faults.append(str(fault))
        return {"ok": False, "said": str(fault)}
    return {
        "ok": True,
        "error": error,
        "said": f"documents of a row do not see each other: logits differ by {error:.2g} standard deviations",
    }
