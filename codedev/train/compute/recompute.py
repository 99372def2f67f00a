"""Activation checkpointing: a layer keeps its input alone, and is computed again when its gradient is due. A third more arithmetic, the
same numbers to the bit, dropout included."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from codedev._errors import RecipeError


def recompute_layers(model: nn.Module) -> None:
    """Have every layer of the transformers model in `model` computed again in the backward pass."""
    owner: Any = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if owner is None or not getattr(owner, "supports_gradient_checkpointing", False):
        raise RecipeError(f"run.activation_checkpointing: {type(owner or model).__name__} cannot compute its layers again. Set it to false")
    # Its name until transformers 5.2x, and since.
    enable = getattr(owner, "activation_checkpointing_enable", None) or owner.gradient_checkpointing_enable
    enable({"use_reentrant": False})
