"""How much arithmetic a step is, and how much a device can do: mfu is the one by the other."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

# Dense bfloat16 peak of one GPU in FLOP/s, from the makers' data sheets; the first name that occurs in the device's counts.
PEAK_FLOPS = (
    ("B200", 2250e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H800", 989e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("MI300X", 1307e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("A6000", 155e12),
    ("A40", 150e12),
    ("A10", 125e12),
    ("RTX 5090", 210e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
)


def peak_flops(device: torch.device, given: float | None) -> float | None:
    """FLOP/s of one device at its best, or None where it is not known."""
    if given is not None or device.type != "cuda":
        return given
    name = torch.cuda.get_device_name(device)
    return next((flops for part, flops in PEAK_FLOPS if part in name), None)


def flops_of_step(parameters: int, attention_width: int, tokens: float, squares: float) -> float:
    """FLOPs of forward and backward: 6 a parameter and token, and attention inside documents alone, its causal half:
    6 * attention_width * Σ length². Padding and recomputation do not count."""
    return 6 * parameters * tokens + 6 * attention_width * squares


def matrix_parameters(model: PreTrainedModel) -> int:
    """Parameters that multiply every token: all but an input embedding that is not the output matrix too."""
    total = sum(p.numel() for p in model.parameters())
    ends: Any = model
    inputs, outputs = ends.get_input_embeddings(), ends.get_output_embeddings()
    tied = outputs is not None and outputs.weight is inputs.weight
    return total if tied else total - inputs.weight.numel()


def attention_width(config: Any) -> int:
    """Layers times heads times head size."""
    config = config.get_text_config()
    heads = getattr(config, "num_attention_heads", 0)
    head_dim = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // max(heads, 1)
    return getattr(config, "num_hidden_layers", 0) * heads * head_dim
