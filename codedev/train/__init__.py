"""Training. `run` takes a checked recipe to its stage, which alone imports torch and transformers: importing this is cheap."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codedev._errors import MissingExtraError
from codedev.train.recipe import STAGES, TrainRecipe

__all__ = ["TrainRecipe", "run"]


def run(recipe: TrainRecipe, base: Path, on_step: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Train as `recipe` says; its paths are relative to `base`, the folder of the recipe file.

    `on_step` receives each row of `metrics.jsonl` with `steps`, the length of the run, added; on the first process alone.
    Returns run_dir, model_dir, step, tokens_seen, loss, parameters, bits_per_byte {before, after} (or None), seconds.
    Raises RecipeError, InputError or RunError with one line for the user, MissingExtraError without torch.
    """
    for package in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")
    stage = importlib.import_module(STAGES[recipe.stage])
    result: dict[str, Any] = stage.run(recipe, base, on_step or (lambda metrics: None))
    return result
