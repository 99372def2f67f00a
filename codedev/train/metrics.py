"""metrics.jsonl, and how much of the hardware's arithmetic a run uses.

    {"step":12,"loss":5.31,"lr":0.003,"grad_norm":0.41,"tokens_seen":98304,"supervised":8160,"tokens_per_second":51234.0,"mfu":null}
    {"step":100,"bits_per_byte":1.93,"heldout_loss":2.87,…}

`step` counts finished steps, `supervised` the tokens that this one learned. Rows after the checkpoint that a run goes on from are cut, so
that the file of an interrupted run equals that of an undisturbed one, timings apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import torch
from transformers import PreTrainedModel

from codedev._errors import RunError
from codedev._run import atomic_write

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


class Metrics:
    """The rows of metrics.jsonl up to `step`; later ones, and a line that a kill cut short, are removed on opening."""

    def __init__(self, run_dir: Path, step: int) -> None:
        self._path = run_dir / "metrics.jsonl"
        kept = [row for row in read_metrics(run_dir) if row["step"] <= step] if step else []
        with atomic_write(self._path) as temporary:
            temporary.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in kept))

    def write(self, row: dict[str, Any]) -> None:
        with open(self._path, "ab") as file:
            file.write(orjson.dumps(row) + b"\n")


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of RUN/metrics.jsonl; an unfinished last line is left out."""
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        return []
    try:
        return [orjson.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    except orjson.JSONDecodeError as error:
        raise RunError(f"{path}: a line is no JSON ({error}). Move the file away: the run goes on without its earlier rows") from None


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
