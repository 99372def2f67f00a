"""Attention over packed rows laid end to end, each segment by itself, registered with transformers as `codedev_varlen` and `codedev_flex`.

`varlen` is torch.nn.attention.varlen on CUDA (FlashAttention with the segments' bounds, bfloat16) and one call a segment on a CPU. `flex`
is torch's flex_attention, compiled, with a mask of blocks of 128 by 128 tokens that is made from the bounds: O(tokens / 128 + pairs of
blocks that see each other), never tokens². Both want causal attention and no dropout on CUDA.
"""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention

from codedev._errors import RunError

BLOCK = 128  # tokens of a side of flex's blocks


def laid_out(input_ids: torch.Tensor, positions: torch.Tensor, device: torch.device, flex: bool) -> dict[str, Any]:
    """What the model is called with for rows (B, S) laid end to end: (1, B*S) tokens and positions, and where their segments begin.

    A segment begins at every position 0. Computed on the CPU, so that nothing waits for a GPU.
    """
    flat = positions.flatten()
    starts = (flat == 0).nonzero().flatten()
    bounds = torch.cat([starts, torch.tensor([len(flat)])]).to(torch.int32)
    # A bound of few values, since code that is compiled is compiled again for new ones: a power of two, or the row.
    longest = min(1 << (int(bounds.diff().max()) - 1).bit_length(), positions.shape[1])
    inputs = {"input_ids": input_ids.reshape(1, -1), "position_ids": flat[None]}
    if flex:
        return inputs | {"codedev_blocks": block_mask(starts.numpy(), len(flat), device)}
    return inputs | {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}


def has_varlen() -> bool:
    """Whether torch has varlen_attn with a causal window (2.11)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "window_size" in inspect.signature(varlen_attn).parameters


# Torch's functions for a GPU, found once: code that is compiled cannot look for them.
_found: dict[str, Any] = {}


def prepare() -> None:
    """Find torch's functions. Before the first call on a GPU."""
    if has_varlen():
        from torch.nn.attention.varlen import varlen_attn

        _found["varlen"] = varlen_attn
        _found["shares heads"] = "enable_gqa" in inspect.signature(varlen_attn).parameters
    if torch.cuda.is_available() and "flex" not in _found:
        from torch.nn.attention.flex_attention import flex_attention

        _found["flex"] = torch.compile(flex_attention)


def varlen(
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
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each segment of one long row; K key heads serve H query heads. Gives (1, T, H, D)."""
    if cu_seq_lens_q is None or max_length_q is None:
        raise RunError("this model does not hand the segments' bounds to its attention. Set model.attn to sdpa")
    _check_plain("varlen", softcap, dropout if q_1HTD.is_cuda else 0.0)
    if q_1HTD.is_cuda:
        # A norm of the heads leaves float32 beside bfloat16 under autocast, which knows nothing of this function.
        q, k, v = (x[0].transpose(0, 1) for x in _halves(q_1HTD, k_1KTD, v_1KTD))
        more: dict[str, Any] = {}
        if q.shape[1] != k.shape[1]:
            if _found["shares heads"]:
                more = {"enable_gqa": True}
            else:
                k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        window = (-1 if sliding_window is None else sliding_window - 1, 0)
        bounds, longest = (cu_seq_lens_q, cu_seq_lens_q), (max_length_q, max_length_q)
        out = _found["varlen"](q, k, v, *bounds, *longest, scale=scaling, window_size=window, **more)
        return out[None], None
    if sliding_window is not None:
        raise RunError("model.attn 'varlen' has no sliding window on a CPU. Set model.attn to sdpa")
    q, k, v = q_1HTD, k_1KTD, v_1KTD
    pieces = [  # one call a segment: right, and slow for many
        scaled_dot_product_attention(
            q[:, :, start:end],
            k[:, :, start:end],
            v[:, :, start:end],
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        for start, end in itertools.pairwise(cu_seq_lens_q.tolist())
    ]
    return torch.cat(pieces, 2).transpose(1, 2), None


def flex(
    module: nn.Module,
    q_1HTD: torch.Tensor,
    k_1KTD: torch.Tensor,
    v_1KTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    codedev_blocks: Any = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As `varlen`, with a mask of blocks from `block_mask`. A row that is no multiple of BLOCK is filled up here, as the mask is."""
    from torch.nn.attention.flex_attention import flex_attention

    if codedev_blocks is None:
        raise RunError("this model does not hand the segments' bounds to its attention. Set model.attn to sdpa")
    _check_plain("flex", softcap, dropout)
    if sliding_window is not None:
        raise RunError("model.attn 'flex' has no sliding window here. Set model.attn to varlen or sdpa")
    attend = _found["flex"] if q_1HTD.is_cuda else flex_attention  # what is not compiled forms the whole matrix
    tokens = q_1HTD.shape[2]
    q, k, v = (pad(x, (0, 0, 0, -tokens % BLOCK)) for x in _halves(q_1HTD, k_1KTD, v_1KTD))
    out: Any = attend(q, k, v, block_mask=codedev_blocks, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])
    return out[:, :, :tokens].transpose(1, 2), None


def _halves(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """All in the type of autocast, or in that of the last."""
    device = tensors[-1].device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensors[-1].dtype
    return tuple(tensor.to(kind) for tensor in tensors)


def _check_plain(attn: str, softcap: float | None, dropout: float) -> None:
    if softcap is not None:
        raise RunError(f"model.attn '{attn}' has no soft cap, which this model has. Set model.attn to eager")
    if dropout:
        raise RunError(f"model.attn '{attn}' has no dropout. Set attention_dropout to 0, or model.attn to sdpa")


def block_mask(starts: np.ndarray, tokens: int, device: torch.device) -> Any:
    """A BlockMask of causal attention inside segments that begin at `starts` (rising, the first 0) of `tokens` tokens.

    The blocks that a block of queries sees are a range: from the block in which the first query's segment begins to its own. Of these a
    block is seen whole where it lies before the queries and after the beginning of the last query's segment.
    """
    from torch.nn.attention.flex_attention import BlockMask

    padded = tokens + -tokens % BLOCK
    begins = np.zeros(padded, np.int64)
    begins[:tokens] = np.repeat(starts, np.diff(starts, append=tokens))
    begins[tokens:] = tokens  # what fills up the last block is a segment of its own
    own = np.arange(padded // BLOCK)
    first = begins[::BLOCK] // BLOCK
    whole = np.clip(-(-begins[BLOCK - 1 :: BLOCK] // BLOCK), first, own)
    # Full blocks are [whole, own), partial ones [first, whole) and own; a row of indices holds them first and anything after.
    partial_count, full_count = whole - first + 1, own - whole
    steps = own[None, :]
    partial = np.where(steps < (partial_count - 1)[:, None], first[:, None] + steps, own[:, None])
    partial = np.where(steps < partial_count[:, None], partial, 0)
    full = np.where(steps < full_count[:, None], whole[:, None] + steps, 0)
    tables = [torch.from_numpy(table.astype(np.int32))[None, None] for table in (partial_count, partial, full_count, full)]
    begin = torch.from_numpy(begins.astype(np.int32))
    if device.type == "cuda":
        tables, begin = [table.pin_memory().to(device, non_blocking=True) for table in tables], begin.pin_memory()
    begin = begin.to(device, non_blocking=True)

    def seen(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (key <= query) & (key >= begin[query])

    make: Any = BlockMask.from_kv_blocks
    return make(*tables, BLOCK_SIZE=BLOCK, mask_mod=seen, seq_lengths=(padded, padded))
