"""An adapter made part of its model, checked: the loss of what is written must be that of the live adapter.

    dequant   the weights that the adapter was trained on (4-bit ones taken back to numbers) plus the adapter, float32
    bf16      the same rounded to bfloat16: half the size
    adapter   the adapter alone, as peft reads it; the only way of prompts and prefixes, which are no weights

A 4-bit model is never merged into the weights it was made from: the adapter has learned to make up for the rounding, which is not there.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from codedev import _recipe
from codedev._errors import InputError, RecipeError, RunError
from codedev._run import write_json
from codedev.train import checkpoint, extend, loop, tune
from codedev.train import model as models
from codedev.train.compute import attention
from codedev.train.compute.parallel import World
from codedev.train.data import Shards, open_shards
from codedev.train.recipe import TrainRecipe, absolute
from codedev.train.use.generate import GENERATION, ends_of

How = Literal["dequant", "bf16", "adapter"]
# Nats a token by which the loss of what is written may differ from that of the live adapter, both in float32 arithmetic.
TOLERANCE: dict[How, float] = {"dequant": 1e-4, "bf16": 3e-2, "adapter": 1e-6}
RECORD = "merge.json"


def merge(run: Path, how: How = "dequant", out: Path | None = None, rows: int = 16) -> dict[str, Any]:
    """Write the model that the run at `run` has tuned to `out` (default: RUN/merged), and read it back to compare.

    The losses are those of up to `rows` of the run's held-out rows, or of its training rows where it has none; of a reward model those of
    as many examples.
    Returns out, how, live_loss, merged_loss, difference, tolerance (nats a token), rows, bytes (of the weights written).
    Raises RecipeError when the tuning has nothing to merge, InputError when something is missing, RunError when the losses differ.
    """
    if how not in TOLERANCE:
        raise RecipeError(f"merge: there is no way '{how}'; there are {', '.join(TOLERANCE)}")
    run = run.parent if run.name == "model" and (run.parent / "recipe.yaml").is_file() else run
    recipe = _recipe_of(run)
    if recipe.tune == "full":
        raise RecipeError(f"{run}: was tuned in full, {run / 'model'} is the whole model already")
    if how != "adapter" and recipe.tune in ("prompt", "prefix"):
        raise RecipeError(f"merge: what tune: {recipe.tune} trains is no change of the model's weights. Use adapter")
    out = out or run / "merged"
    if out.exists() and not (out / RECORD).is_file():
        raise InputError(f"{out}: is there and no merged model. Choose another folder")
    tune.need(recipe.tune)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measure, sample = _measured(recipe, rows, device)
    head = models.SCORE if recipe.stage == "reward" else models.LM
    adapter, base = run / "model", Path(recipe.model.path or "")
    live = tune.open_adapter(adapter, "sdpa", base, device, head)
    before = measure(live)
    merged = None if how == "adapter" else _merged(live, adapter, base, torch.bfloat16 if how == "bf16" else torch.float32, head)
    del live
    place = World(0, 1, device)
    result: dict[str, Any] = {"out": str(out), "how": how}

    def write(target: Path) -> None:
        for file in adapter.glob("*"):
            if merged is None or file.name not in (tune.CONFIG, tune.WEIGHTS, tune.FOUR_BIT, GENERATION, extend.RECORD):
                shutil.copyfile(file, target / file.name)
        if merged is not None:
            if head is models.LM:  # what ends a turn was learned with the adapter, and stands beside it
                merged.generation_config.eos_token_id = ends_of(merged, adapter) or None
            models.save(merged, checkpoint.whole_weights(merged, place), target)
            if head is models.SCORE:
                from codedev.train.align.reward_model import complete

                complete(recipe, target)
            after = measure(models.load(target, "sdpa", head=head))
        else:
            after = measure(tune.open_adapter(target, "sdpa", base, device, head))
        result.update({"live_loss": before, "merged_loss": after, "difference": abs(after - before), "tolerance": TOLERANCE[how]})
        if not result["difference"] <= TOLERANCE[how]:
            shutil.rmtree(target)
            advice = "Use dequant" if how == "bf16" else "Look whether the model it was trained on has changed"
            raise RunError(f"merge: the loss was {before:.6f} and is {after:.6f} with {how}, more than {TOLERANCE[how]:g} apart. {advice}")
        result.update({"rows": sample, "bytes": sum(file.stat().st_size for file in target.glob("*.safetensors"))})
        write_json(target / RECORD, {name: value for name, value in result.items() if name != "out"})

    checkpoint.replace_directory(out, write, place)
    return result


def _measured(recipe: TrainRecipe, rows: int, device: torch.device) -> tuple[Callable[[Any], float], int]:
    """(model -> its loss on some rows, how many those are)."""
    if recipe.stage == "reward":
        from codedev.train.align.reward_model import loss_on_some

        return loss_on_some(recipe, rows, device)
    shards = open_shards((Path(recipe.data.heldout),) if recipe.data.heldout else tuple(map(Path, recipe.data.dirs)))
    sample = np.linspace(0, shards.rows - 1, min(rows, shards.rows)).astype(np.int64)
    return lambda model: loss_of(model, shards, sample, device), len(sample)


def loss_of(model: Any, shards: Shards, numbers: np.ndarray, device: torch.device) -> float:
    """Nats a supervised token of the rows with these numbers, in float32."""
    module = tune.apart(model).to(device).eval()
    forward = attention.forward_of(module, "sdpa", device, torch.float32)
    total, count = 0.0, 0
    with torch.no_grad():
        for number in numbers:
            rows = shards.read(number[None])
            total += float(loop.next_token_loss(forward, rows))
            count += int(rows.targets.sum())
    if not count:
        raise InputError(f"{shards.dirs[0]}: no token of {len(numbers)} rows is trained on, there is nothing to compare. Use more rows")
    return total / count


def _merged(live: Any, adapter: Path, base: Path, dtype: torch.dtype, head: models.Head) -> Any:
    """A plain transformers model: `base` with the numbers that the 4-bit weights of `live` stand for, and the adapter added."""
    plain = models.load(base, "sdpa", head=head)
    for name, layer in tune.quantised(live.get_base_model()):
        functional: Any = importlib.import_module("bitsandbytes.functional")
        weight = functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float().cpu()
        target: Any = plain.get_submodule(name.removesuffix(".base_layer"))
        with torch.no_grad():
            target.weight.copy_(weight)
    merged: Any = tune.laid_on(tune.load_peft(), plain, adapter).merge_and_unload()
    merged.to(dtype)
    return merged


def _recipe_of(run: Path) -> TrainRecipe:
    file = run / "recipe.yaml"
    if not file.is_file() or not (run / "model").is_dir():
        raise InputError(f"{run}: has no recipe.yaml and model, it is no finished run")
    return absolute(_recipe.load(file, TrainRecipe), run)
