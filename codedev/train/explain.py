"""Which documents a step trained on: a pure function of the recipe's seed, its shards and the step. Needs no log and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from codedev import _recipe
from codedev._errors import RecipeError
from codedev.train.data import open_shards
from codedev.train.order import shuffled
from codedev.train.recipe import TrainRecipe, absolute, step_rows


def documents_of_step(run_dir: Path, step: int) -> list[dict[str, Any]]:
    """The segments that step `step` (counted from 1, as in metrics.jsonl) of the run in `run_dir` was computed from.

    Each has: shards (directory) and row (number in it), start and end (tokens of the row), document (id), offset (the first token's
    place in the document). Their lengths add up to the tokens of the step.
    """
    recipe = absolute(_recipe.load(run_dir / "recipe.yaml", TrainRecipe), run_dir)
    if step < 1:
        raise RecipeError(f"there is no step {step}: steps count from 1")
    shards = open_shards(tuple(map(Path, recipe.data.dirs)))
    rows = step_rows(recipe, shards.seq_len)
    numbers = shuffled(np.arange((step - 1) * rows, step * rows), shards.rows, recipe.run.seed)
    segments = []
    for number in numbers.tolist():
        directory, row = shards.place_of(number)
        segments += [{"shards": str(directory), **segment._asdict(), "row": row} for segment in shards.segments(number)]
    return segments
