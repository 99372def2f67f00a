"""One call of the model that keeps the documents of a packed row apart, and the check that it does.

Without a mask, with positions that restart at every segment and with use_cache=False, transformers builds the block-causal mask by
itself (sdpa, eager). Any attention mask, or a cache, switches that off in silence. `varlen`, `flex` (segments.py) and
`flash_attention_2` work on the rows laid end to end with the segments' bounds instead, and never form the mask.
Nothing of this is trusted: `check_isolation` compares packed with separate logits before every run, by the very call the run uses.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import cross_entropy

from codedev._errors import RecipeError, RunError
from codedev.train.compute import segments
from codedev.train.compute.loss import WithLoss

if TYPE_CHECKING:
    from codedev.train.data import Shards

VARLEN, FLEX = "codedev_varlen", "codedev_flex"
_FLAT = (VARLEN, FLEX, "flash_attention_2")

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(input_ids, positions), both (B, S) int64 on the CPU -> logits (B, S, V) on the device."""


@dataclass(frozen=True)
class Call:
    """A Forward that can also be asked for the loss alone, which needs no logits of all positions at once."""

    module: nn.Module  # a WithLoss, as wrapped for the processes
    attn: str
    device: torch.device
    dtype: torch.dtype

    def __call__(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._run(input_ids, positions)
        return logits.reshape(*input_ids.shape, -1)

    def nats(
        self, input_ids: torch.Tensor, positions: torch.Tensor, where: torch.Tensor, labels: torch.Tensor, *, each: bool = False
    ) -> torch.Tensor:
        """The summed nats, float32, of labels (n,) at the flat positions `where` (n,), both int64 on the CPU; `each`: one by one.

        The first call looks whether the loss without logits is that of the logits, by the beginning of a row.
        """
        if not self.inner.checked:
            self.check(input_ids[:1, :16], positions[:1, :16])
        found: torch.Tensor = self._run(input_ids, positions, sent(where, self.device), sent(labels, self.device), each)
        return found

    def ask(self, input_ids: torch.Tensor, positions: torch.Tensor, where: torch.Tensor, labels: torch.Tensor, *asked: Any) -> Any:
        """What a module that is more than a WithLoss gives of labels (n,) at flat positions `where` (n,), when it is asked so."""
        if not self.inner.checked:
            self.check(input_ids[:1, :16], positions[:1, :16])
        return self._run(input_ids, positions, sent(where, self.device), sent(labels, self.device), False, *asked)

    @property
    def inner(self) -> WithLoss:
        found: Any = self.module
        return getattr(found, "module", found)  # type: ignore[no-any-return]  # inside of what DDP makes

    def check(self, input_ids: torch.Tensor, positions: torch.Tensor) -> None:
        """Have the model called whole from now on where its loss does not come out of its hidden states as loss.py supposes."""
        where, labels = torch.arange(input_ids.numel()), input_ids.flatten().roll(-1)
        modes = [(module, module.training) for module in self.module.modules()]
        self.module.eval()
        try:
            with torch.no_grad(), self.eager():
                logits = self(input_ids, positions).flatten(0, 1).float()
                expected = cross_entropy(logits, sent(labels, logits.device), reduction="none")
                found = self._run(input_ids, positions, sent(where, self.device), sent(labels, self.device), True)
                if not isinstance(found, FakeTensor):
                    fits = bool((found - expected).abs().max() < limit_of(self.dtype) * logits.std().clamp(min=1e-3))
                    self.inner.ends = self.inner.ends if fits else None
        except (IndexError, AttributeError, TypeError, RuntimeError):  # what it gives has no logits, or its head is not called
            self.inner.ends = None
        finally:
            for module, training in modes:
                module.training = training
        self.inner.checked = True

    def eager(self) -> AbstractContextManager[Any]:
        """Inside, nothing is compiled: every tiny shape would be by itself, and what is compiled too often is not compiled any more."""
        stance: Any = torch.compiler.set_stance
        return stance("force_eager") if compiled(self.module) else nullcontext()

    def _run(self, input_ids: torch.Tensor, positions: torch.Tensor, *asked: Any) -> Any:
        inputs: dict[str, Any] = {"input_ids": input_ids, "position_ids": positions}
        if self.attn in _FLAT:
            inputs = segments.laid_out(input_ids, positions, self.device, self.attn == FLEX)
        inputs = {name: sent(value, self.device) if torch.is_tensor(value) else value for name, value in inputs.items()}
        if "cu_seq_lens_q" in inputs and compiled(self.module):
            for name in ("cu_seq_lens_q", "cu_seq_lens_k"):  # their number is another in every batch
                torch._dynamo.maybe_mark_dynamic(inputs[name], 0)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.module(inputs, *asked)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`; of a GPU through pinned memory, so that nothing waits for the copy."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


def compiled(model: nn.Module) -> bool:
    """Whether `model` or a part of it is compiled. Asked before anything that loads the compiler, which takes seconds."""
    return any(module._compiled_call_impl is not None for module in model.modules())


def choose(attn: str, device: torch.device, dtype: torch.dtype) -> str:
    """The name transformers knows the recipe's `attn` by. `auto`: varlen on CUDA, flex where torch is too old for it, sdpa elsewhere."""
    half = dtype != torch.float32
    if attn == "auto":
        if device.type != "cuda" or not half:
            return "sdpa"
        attn = "varlen" if segments.has_varlen() else "flex"
    if attn == "flash_attention_2" and (device.type != "cuda" or not half):
        raise RecipeError("model.attn: flash_attention_2 needs CUDA and dtype bfloat16. Set model.attn to sdpa")
    if attn == "flex" and device.type != "cuda":
        raise RecipeError("model.attn: flex has no backward pass on a CPU. Set model.attn to sdpa")
    if attn == "varlen" and device.type == "cuda":
        if not segments.has_varlen():
            raise RecipeError("model.attn: this torch has no torch.nn.attention.varlen. Set model.attn to flex, or install torch 2.11")
        if not half:
            raise RecipeError("model.attn: varlen needs dtype bfloat16 on CUDA. Set model.attn to flex or sdpa")
    if attn not in ("varlen", "flex"):
        return attn
    register()
    return VARLEN if attn == "varlen" else FLEX


def register() -> None:
    """Make `varlen` and `flex` known to transformers. As attention without a mask: it then builds none, and need not look for documents
    in the positions, for which it would wait for the GPU."""
    from transformers import AttentionInterface

    segments.prepare()
    AttentionInterface.register(VARLEN, segments.varlen)
    AttentionInterface.register(FLEX, segments.flex)


def forward_of(model: nn.Module, attn: str, device: torch.device, dtype: torch.dtype) -> Call:
    """The one way a run calls its model. `model` may be spread over processes (parallel.distribute) or plain."""
    inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    return Call(model if isinstance(inner, WithLoss) else WithLoss(model), attn, device, dtype)


def limit_of(dtype: torch.dtype) -> float:
    """How far logits that ought to be equal may lie apart, in standard deviations of the logits."""
    return 1e-3 if dtype == torch.float32 else 0.15


def check_isolation(forward: Forward, shards: Shards, device: torch.device, dtype: torch.dtype, name: str, attn: str) -> float:
    """The largest difference between packed and separate logits, in standard deviations of the logits.

    Two rows of four documents each, one of a single token; costs eleven tiny forwards, not compiled. Raises RunError when documents of a
    row see each other, or when the model does not count positions from the start of a document. A leak measures 0.3 or more on an
    untrained model.
    """
    unit = max(1, min(64, shards.seq_len) // 8)
    lengths = ((2 * unit, 4 * unit - 1, 1, 2 * unit), (unit, unit, 5 * unit, unit))
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, shards.vocab_size, (len(lengths), sum(lengths[0]))))
    positions = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in lengths])
    limit = limit_of(dtype)
    with torch.no_grad(), forward.eager() if isinstance(forward, Call) else nullcontext():
        try:
            packed = forward(ids, positions).float()
        except (RuntimeError, ValueError, TypeError, LookupError, AssertionError) as fault:
            if isinstance(fault, torch.OutOfMemoryError):
                raise
            said = " ".join(str(fault).split())[:200] or repr(fault)
            raise RunError(
                f"{name}: cannot be computed as its configuration has it: {said}. Look at heads and sizes in config.json or model.config"
            ) from fault
        if not packed.isfinite().all():
            raise RunError(
                f"{name}: its logits are no numbers: weights of it are NaN or infinite, or too large for {dtype}, or its configuration "
                "(rope, norm) is not theirs. Compare config.json with that of the model it was copied from"
            )
        worst = torch.zeros((), device=device)
        for row, pieces in enumerate(lengths):
            start = 0
            for length in pieces:
                here = slice(start, start + length)
                alone = forward(ids[row : row + 1, here], positions[row : row + 1, here]).float()
                worst = torch.maximum(worst, (packed[row, here] - alone[0]).abs().max())
                start += length
        error = float(worst / packed.std())
    if isinstance(forward, Call):
        forward.check(ids, positions)
    if not error < limit:
        raise RunError(
            f"{name} with model.attn '{attn}' does not keep the documents of a packed row apart: its logits differ by {error:.2g} standard "
            f"deviations from those of the documents alone. Try another model.attn (sdpa, eager), or train with one document a row"
        )
    return error
