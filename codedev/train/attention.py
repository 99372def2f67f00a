"""One call of the model that keeps the documents of a packed row apart, and the check that it does.

Without a mask, with positions that restart at every segment and with use_cache=False, transformers builds the block-causal mask by
itself (sdpa, eager). Any attention mask, or a cache, switches that off in silence. On CUDA `varlen` (torch.nn.attention.varlen) and
`flash_attention_2` work on the rows laid end to end with the segments' bounds instead, and never form the mask.
Nothing of this is trusted: `check_isolation` compares packed with separate logits before every run, by the very call the run uses.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from codedev._errors import RecipeError, RunError
from codedev.train.data import Shards

VARLEN = "codedev_varlen"

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(input_ids, positions), both (B, S) int64 on the CPU -> logits (B, S, V) on the device."""


def choose(attn: str, device: torch.device, dtype: torch.dtype) -> str:
    """The name transformers knows the recipe's `attn` by."""
    half = dtype != torch.float32
    if attn == "auto":
        attn = "varlen" if device.type == "cuda" and half and _has_varlen() else "sdpa"
    if attn == "flash_attention_2" and (device.type != "cuda" or not half):
        raise RecipeError("model.attn: flash_attention_2 needs CUDA and dtype bfloat16. Set model.attn to sdpa")
    if attn == "varlen" and device.type == "cuda":
        if not _has_varlen():
            raise RecipeError(
                "model.attn: this torch has no torch.nn.attention.varlen. Set model.attn to sdpa, or install torch 2.10 or later"
            )
        if not half:
            raise RecipeError("model.attn: varlen needs dtype bfloat16 on CUDA. Set model.attn to sdpa")
    if attn == "varlen":
        _register()
        return VARLEN
    return attn


def forward_of(model: nn.Module, attn: str, device: torch.device, dtype: torch.dtype) -> Forward:
    """The one way a run calls its model."""
    flat = attn in (VARLEN, "flash_attention_2")

    def forward(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        inputs: dict[str, Any] = {"input_ids": input_ids, "position_ids": positions}
        if flat:
            starts = (positions.flatten() == 0).nonzero().flatten()
            bounds = torch.cat([starts, torch.tensor([positions.numel()])]).to(torch.int32)
            longest = int(bounds.diff().max())
            inputs = {name: value.reshape(1, -1) for name, value in inputs.items()}
            inputs |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
        inputs = {name: value.to(device, non_blocking=True) if torch.is_tensor(value) else value for name, value in inputs.items()}
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(**inputs, use_cache=False).logits
        shaped: torch.Tensor = logits.reshape(*input_ids.shape, -1)
        return shaped

    return forward


def check_isolation(forward: Forward, shards: Shards, device: torch.device, dtype: torch.dtype, name: str, attn: str) -> float:
    """The largest difference between packed and separate logits, in standard deviations of the logits.

    Two rows of four documents each, one of a single token; costs nine tiny forwards. Raises RunError when documents of a row see each
    other, or when the model does not count positions from the start of a document. A leak measures 0.3 or more on an untrained model.
    """
    unit = max(1, min(64, shards.seq_len) // 8)
    lengths = ((2 * unit, 4 * unit - 1, 1, 2 * unit), (unit, unit, 5 * unit, unit))
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, shards.vocab_size, (len(lengths), sum(lengths[0]))))
    positions = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in lengths])
    with torch.no_grad():
        packed = forward(ids, positions).float()
        worst = torch.zeros((), device=device)
        for row, pieces in enumerate(lengths):
            start = 0
            for length in pieces:
                here = slice(start, start + length)
                alone = forward(ids[row : row + 1, here], positions[row : row + 1, here]).float()
                worst = torch.maximum(worst, (packed[row, here] - alone[0]).abs().max())
                start += length
        error = float(worst / packed.std())
    limit = 1e-3 if dtype == torch.float32 else 0.15
    if not error < limit:
        raise RunError(
            f"{name} with model.attn '{attn}' does not keep the documents of a packed row apart: its logits differ by {error:.2g} standard "
            f"deviations from those of the documents alone. Try another model.attn (sdpa, eager), or train with one document a row"
        )
    return error


def _has_varlen() -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "window_size" in inspect.signature(varlen_attn).parameters  # without it there is no causal window


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(VARLEN, _varlen)
    AttentionMaskInterface.register(VARLEN, lambda *args, **kwargs: None)


def _varlen(
    module: nn.Module,
    q_1HTD: torch.Tensor,
    k_1KTD: torch.Tensor,
    v_1KTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each segment of one long row; K key heads serve H query heads."""
    if cu_seq_lens_q is None or max_length_q is None:
        raise RunError("this model does not hand the segments' bounds to its attention. Set model.attn to sdpa")
    q, k, v = q_1HTD, k_1KTD, v_1KTD
    if q.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        if dropout:
            raise RunError("model.attn 'varlen' has no dropout. Set attention_dropout to 0, or model.attn to sdpa")
        q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))  # enable_gqa is younger than the function
        window = (-1 if sliding_window is None else sliding_window - 1, 0)
        out: Any = varlen_attn(q, k, v, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q, scale=scaling, window_size=window)
        return out[None], None
    if sliding_window is not None:
        raise RunError("model.attn 'varlen' has no sliding window on a CPU. Set model.attn to sdpa")
    gqa = q.shape[1] != k.shape[1]
    pieces = [  # one call a segment: right, and slow for many
        scaled_dot_product_attention(
            q[:, :, start:end], k[:, :, start:end], v[:, :, start:end], dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=gqa
        )
        for start, end in itertools.pairwise(cu_seq_lens_q.tolist())
    ]
    return torch.cat(pieces, 2).transpose(1, 2), None
