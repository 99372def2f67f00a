"""Training. `run` takes a checked recipe to its stage, which alone imports torch and transformers: importing this is cheap."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codedev import _recipe
from codedev._errors import MissingExtraError
from codedev._run import Progress, no_progress
from codedev.train.recipe import STAGES, TrainRecipe

# Before torch is loaded: its threads sleep while they wait for one another instead of spinning. With another process on the same cores
# spinning costs a training run nine tenths of its speed (measured: two cores, two runs at once, 300 against 2,700 tokens a second).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["TrainRecipe", "load_recipe", "run"]


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> TrainRecipe:
    """The train recipe at `path` with `--set key.sub=value` overrides."""
    return _recipe.load(path, TrainRecipe, overrides)


def run(
    recipe: TrainRecipe, base: Path, on_step: Callable[[dict[str, Any]], None] | None = None, progress: Progress = no_progress
) -> dict[str, Any]:
    """Train as `recipe` says; its paths are relative to `base`, the folder of the recipe file.

    On the first process alone, `on_step` receives each row of `metrics.jsonl` with `steps`, the length of the run, added, and `progress`
    the steps of `train` and the rows of `evaluate`.
    Returns run_dir, model_dir, step, tokens_seen, loss, parameters, trained_parameters, bits_per_byte {before, after} (or None), seconds;
    of stage sft with held-out rows heldout_answer_loss {before, after}, nats a supervised token.
    Raises RecipeError, InputError or RunError with one line for the user, MissingExtraError without torch.
    """
    for package in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")
    stage = importlib.import_module(STAGES[recipe.stage])
    result: dict[str, Any] = stage.run(recipe, base, on_step or (lambda row: None), progress)
    return result
