"""Cross-entropy of a large vocabulary without its logits: they are computed, used and forgotten some rows at a time.

A model is called without its output matrix (`WithLoss`), only the hidden states whose next token counts are kept, and `cross_entropy`
multiplies these with the matrix piece by piece. The gradient of a piece needs nothing but the piece, so it is taken at once, in the forward
pass (as Liger kernels do, Hsu et al. 2024): no product is computed twice, and what is kept until the backward pass are gradients alone.
16,384 tokens of a vocabulary of 130,000 have 8.5 GB of logits in float32, three times while they are differentiated; here it is a piece of
CHUNK numbers. The result is that of torch.nn.functional.cross_entropy on whole logits, rounding of sums apart.

What a model does with its logits afterwards is read from its configuration (a scale: Cohere, Granite; a soft cap: Gemma 2) and compared
with its own logits before it is used (`attention.Call.check`); a model that does anything else is called whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import linear, log_softmax
from transformers import PreTrainedModel

CHUNK, ROWS = 1 << 22, 128  # logits of a piece on a CPU, 16 MB in float32, and the fewest rows of it: measured fastest
_SHARE = 64  # of a GPU's memory a piece may take in float32: large products are fast ones


class After(NamedTuple):
    """What a model does with its logits: cap * tanh(scale * logits / cap)."""

    scale: float = 1.0
    cap: float | None = None


Piece = Callable[[torch.Tensor, torch.Tensor, After, bool], tuple[torch.Tensor, torch.Tensor]]


class WithLoss(nn.Module):
    """`model`, called for logits, or for the loss of given positions without ever forming the logits of all.

    It is what is spread over processes, so that the output matrix is whole (FSDP2) and its gradient exchanged (DDP) like any other weight.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.ends = _ends(model)
        # Where the layers are compiled: one kernel over the logits in the place of five.
        self.piece: Piece = torch.compile(_piece) if any(m._compiled_call_impl is not None for m in model.modules()) else _piece
        self.checked = False  # that the loss comes out as supposed here, see attention.Call
        self.keep_gradients = True  # of FSDP2: whole gradients are kept between micro-batches, see parallel.gradients_later

    def forward(
        self, inputs: dict[str, Any], where: torch.Tensor | None = None, labels: torch.Tensor | None = None, each: bool = False
    ) -> torch.Tensor:
        """Logits (B, S, V); with `where` and `labels`, both (n,) int64: the summed nats, float32, of labels[i] at flat position where[i].

        `each`: the nats (n,) one by one.
        """
        if where is None or labels is None:
            logits: torch.Tensor = self.model(**inputs, use_cache=False).logits
            return logits
        if self.ends is None or (each and torch.is_grad_enabled()):
            logits = self.model(**inputs, use_cache=False).logits
            picked = logits.flatten(0, -2).index_select(0, where).float()
            return functional.cross_entropy(picked, labels, reduction="none" if each else "sum")
        with headless(*self.ends[:2]):
            hidden = self.model(**inputs, use_cache=False).logits
        _, head, after = self.ends
        picked = hidden.flatten(0, -2).index_select(0, where)
        return cross_entropy(picked, head.weight, head.bias, labels, after, each=each, piece=self.piece)


def cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    after: After | None = None,
    *,
    each: bool = False,
    chunk: int = 0,
    piece: Piece | None = None,
) -> torch.Tensor:
    """Summed nats, float32, of `labels` (n,) under softmax(after(hidden (n, D) @ weight (V, D).T + bias (V,))).

    `each`: the nats (n,) one by one, which cannot be differentiated. `chunk`: logits of a piece; 0 chooses.
    `piece`: `_piece`, perhaps compiled.
    """
    device = hidden.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    rows = max(1, chunk // len(weight)) if chunk else max(ROWS, chunk_of(hidden.device) // len(weight))
    given = (hidden, weight, bias, labels, after or After(), rows, kind, piece or _piece)
    if torch.is_grad_enabled() and not each:
        total: torch.Tensor = _Summed.apply(*given)  # type: ignore[no-untyped-call]
        return total
    nats = _run(*given, (False, False, False)).nats
    return nats if each else nats.sum()


class _Found(NamedTuple):
    nats: torch.Tensor
    hidden: torch.Tensor | None  # gradients of Σ nats
    weight: torch.Tensor | None
    bias: torch.Tensor | None


def _run(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    after: After,
    rows: int,
    kind: torch.dtype,
    piece: Piece,
    need: tuple[bool, bool, bool],
) -> _Found:
    """`need`: of which of hidden, weight, bias the gradient is wanted."""
    with torch.autocast(hidden.device.type, enabled=False):
        h_ND, w_VD, b_V = hidden.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
        nats = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        of_hidden = torch.empty_like(h_ND) if need[0] else None
        # Sums over pieces in float32, whatever the arithmetic.
        of_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if need[1] else None
        of_bias = torch.zeros(weight.shape[:1], dtype=torch.float32, device=weight.device) if need[2] else None
        for start in range(0, len(labels), rows):
            here = slice(start, start + rows)
            nats[here], d_NV = piece(linear(h_ND[here], w_VD, b_V), labels[here, None], after, any(need))
            if of_hidden is not None:
                torch.mm(d_NV, w_VD, out=of_hidden[here])
            if of_weight is not None and kind == torch.float32:
                of_weight.addmm_(d_NV.T, h_ND[here])
            elif of_weight is not None:
                of_weight += d_NV.T @ h_ND[here]
            if of_bias is not None:
                of_bias += d_NV.sum(0, dtype=torch.float32)
            del d_NV  # before the next piece is made
    return _Found(nats, of_hidden, of_weight, of_bias)


def _piece(logits: torch.Tensor, labels: torch.Tensor, after: After, gradient: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Nats (rows,) and the gradient of their sum by the logits (rows, V), in the logits' type."""
    kind, bent = logits.dtype, None
    if after.scale != 1.0:
        logits = logits.float() * after.scale
    if after.cap is not None:
        bent = torch.tanh(logits.float() / after.cap)
        logits = bent * after.cap
    scores = log_softmax(logits, -1, dtype=torch.float32)
    del logits
    own = scores.gather(1, labels)
    if not gradient:
        return -own[:, 0], scores
    scores.exp_().scatter_(1, labels, own.exp() - 1)
    if bent is not None:
        scores.mul_(1 - bent.square_())
    if after.scale != 1.0:
        scores.mul_(after.scale)
    return -own[:, 0], scores.to(kind)


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        after: After,
        rows: int,
        kind: torch.dtype,
        piece: Piece,
    ) -> torch.Tensor:
        found = _run(hidden, weight, bias, labels, after, rows, kind, piece, ctx.needs_input_grad[:3])
        ctx.found, ctx.kinds = found[1:], (hidden.dtype, weight.dtype, weight.dtype)
        return found.nats.sum()

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> Any:
        found, ctx.found = ctx.found, None  # used up: they are multiplied in place
        grads = [None if g is None else g.mul_(given[0]).to(kind) for g, kind in zip(found, ctx.kinds, strict=True)]
        return (*grads, None, None, None, None, None)


def chunk_of(device: torch.device) -> int:
    if device.type != "cuda":
        return CHUNK
    return int(torch.cuda.get_device_properties(device).total_memory) // _SHARE // 4


def _ends(model: nn.Module) -> tuple[Any, Any, After] | None:
    """The transformers model inside `model`, its output matrix, and what follows it; None where it has to be called whole."""
    owner: Any = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    head = None if owner is None else owner.get_output_embeddings()
    # Compiled as a whole it could not be called in two ways; a layer of another kind (4-bit, an adapter) computes something else.
    if owner is None or type(head) is not nn.Linear or owner._compiled_call_impl is not None:
        return None
    config = owner.config.get_text_config()
    scale = 1.0
    for name, power in (("logit_scale", 1), ("logits_scaling", -1), ("lm_head_multiplier", 1)):
        scale *= float(getattr(config, name, None) or 1.0) ** power
    return owner, head, After(scale, getattr(config, "final_logit_softcapping", None))


@contextmanager
def headless(owner: Any, head: Any) -> Iterator[None]:
    """Inside, `owner` gives what goes into `head` as its logits, however it is called (peft calls `forward` itself)."""
    taken: list[torch.Tensor] = []
    before = {module: module.__dict__.get("forward") for module in (owner, head)}
    inner: Callable[..., Any] = owner.forward

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        output = inner(*args, **kwargs)
        output.logits = taken.pop()
        return output

    def take(hidden: torch.Tensor) -> torch.Tensor:
        taken.append(hidden)
        return hidden

    owner.forward, head.forward = forward, take
    try:
        yield
    finally:
        for module, own in before.items():
            if own is None:
                del module.__dict__["forward"]
            else:
                module.forward = own
