"""`codedev train status`: where a run stands, by the files it leaves. Needs no torch and disturbs no run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from codedev import _recipe
from codedev._errors import CodedevError, InputError
from codedev._run import held, read_json
from codedev.train.align.preference_recipe import SampledRecipe
from codedev.train.data import open_shards
from codedev.train.recipe import ALIGN, TrainRecipe, absolute, run_steps, step_rows
from codedev.train.saved import steps_saved
from codedev.train.watch.rows import parsed


def status(run_dir: Path) -> dict[str, Any]:
    """run_dir, stage, tune, going (a process holds it), step, steps (None where the data are not there), tokens_seen, loss (of the last
    logged step), mean_loss (of the last 50), skipped, bits_per_byte {first, last} or None, heldout (of stage reward: the last measurement)
    or None, alarm (what is to be looked at) or None, tokens_per_second, mfu, seconds_since (the last row), seconds_left (while it goes),
    checkpoints (steps), model (whether it is there), page."""
    if not (run_dir / "recipe.yaml").is_file() or not (run_dir / "metrics.jsonl").is_file():
        raise InputError(f"{run_dir}: holds no run: there is no recipe.yaml and metrics.jsonl. Give the directory that run.dir names")
    recipe = absolute(_recipe.load(run_dir / "recipe.yaml", TrainRecipe), run_dir)
    found = _read(run_dir / "metrics.jsonl")
    row, steps, going = found["row"], _steps(recipe), held(run_dir)
    speed = row.get("tokens_per_second")
    left = None
    if going and steps is not None and speed and row["step"]:
        left = round((steps - row["step"]) * row["tokens_seen"] / row["step"] / speed)
    return {
        "run_dir": str(run_dir),
        "stage": recipe.stage,
        "tune": recipe.tune,
        "going": going,
        "step": row.get("step", 0),
        "steps": steps,
        "tokens_seen": row.get("tokens_seen", 0),
        "loss": row.get("loss"),
        "mean_loss": sum(found["losses"]) / len(found["losses"]) if found["losses"] else None,
        "skipped": found["skipped"],
        "bits_per_byte": {"first": found["bits"][0], "last": found["bits"][1]} if found["bits"] else None,
        "heldout": found["heldout"],
        "alarm": found["alarm"],
        "tokens_per_second": speed,
        "mfu": row.get("mfu"),
        "seconds_since": round(time.time() - (run_dir / "metrics.jsonl").stat().st_mtime),
        "seconds_left": left,
        "checkpoints": steps_saved(run_dir),
        "model": (run_dir / "model").is_dir(),
        "page": str(run_dir / "index.html") if (run_dir / "index.html").is_file() else None,
    }


def _read(path: Path) -> dict[str, Any]:
    """What metrics.jsonl says, line by line: 2 µs a row. A line that is being written, or is no row of a run, is passed over."""
    row: dict[str, Any] = {}
    losses: list[float] = []
    bits: tuple[float, float] | None = None
    heldout: dict[str, Any] | None = None
    alarm: str | None = None
    skipped = 0
    with open(path, "rb") as file:
        for line in file:
            one = parsed(line)
            if one is None:
                continue
            if one.get("loss") is not None:
                losses = [*losses[-49:], one["loss"]]
            if one.get("tokens_seen") is not None:
                row = one
            skipped += "skipped" in one
            if "heldout_loss" in one or "alarm" in one:
                alarm = one.get("alarm")
            if ("heldout_loss" in one or "heldout_reward" in one) and "bits_per_byte" not in one:
                heldout = {name: value for name, value in one.items() if name.startswith("heldout_")}
            if one.get("bits_per_byte") is not None:
                bits = (bits[0] if bits else one["bits_per_byte"], one["bits_per_byte"])
    return {"row": row, "losses": losses, "bits": bits, "skipped": skipped, "heldout": heldout, "alarm": alarm}


def _steps(recipe: TrainRecipe) -> int | None:
    if recipe.run.steps is not None:
        return recipe.run.steps
    if recipe.stage in ALIGN:
        return _steps_of_examples(recipe)
    try:
        shards = open_shards(tuple(map(Path, recipe.data.dirs)))
        return run_steps(recipe, shards.rows, step_rows(recipe, shards.seq_len))
    except CodedevError:
        return None


def _steps_of_examples(recipe: TrainRecipe) -> int | None:
    try:
        examples = int(read_json(Path(recipe.data.prepared or "", "prepared.json"))["counts"]["examples"])
    except (CodedevError, OSError, KeyError, TypeError, ValueError):
        return None
    section = getattr(recipe, recipe.stage)
    answers = (
        (section.answers if section is not None else SampledRecipe().answers)
        if recipe.stage in ("grpo", "rloo")
        else getattr(section, "answers", 1)
    )
    return run_steps(recipe, examples * answers, recipe.batch.rows) if recipe.batch.rows else None
