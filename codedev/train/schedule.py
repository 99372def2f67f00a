"""The learning rate of a step. Warm-up is linear; WSD (warm-up, stable, decay) falls as 1 - sqrt over its last steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codedev.train.recipe import OptimRecipe


def lr_at(optim: OptimRecipe, step: int, steps: int) -> float:
    """The learning rate of `step`, counted from 0, in a run of `steps`."""
    warmup, cooldown = _steps(optim.warmup, steps), _steps(optim.cooldown, steps)
    if step < warmup:
        return optim.lr * (step + 1) / warmup
    match optim.schedule:
        case "constant":
            return optim.lr
        case "cosine":
            left = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
        case "wsd":
            left = 1 - math.sqrt(max(0, step - (steps - cooldown)) / max(1, cooldown))
    return optim.lr * (optim.final + (1 - optim.final) * left)


def _steps(value: float, steps: int) -> int:
    return value if isinstance(value, int) else round(value * steps)
