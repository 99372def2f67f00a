"""How much memory a run takes, told without taking it: one step of the very model on fake tensors, which have shapes and no data.

Every tensor that forward and backward make is counted while it lives, so that what attention, loss and adapters keep is what this model
keeps, whatever its architecture; only where the model's code looks at data (experts that choose their tokens, say) is the rule of
thumb of Korthikanti et al. 2022 used instead, and `how` says so. Not counted: the libraries themselves (about 0.6 GB of a process), what
kernels hold inside, and what the allocator leaves between.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from codedev.train import loop, tune
from codedev.train import model as models
from codedev.train.compute import attention, optim, parallel
from codedev.train.compute.loss import WithLoss, chunk_of
from codedev.train.compute.recompute import recompute_layers
from codedev.train.data import Rows
from codedev.train.recipe import TrainRecipe

FOUR_BITS = 4.127 / 8  # bytes of a 4-bit weight, its scales with it
LIBRARIES = 600_000_000  # bytes of a process with torch and transformers
SMALL = 4096  # weights with fewer numbers keep moments of 32 bits


class Estimate(NamedTuple):
    """Bytes of one process at the moment that takes most, but for `disk`."""

    weights: int
    gradients: int
    optimizer: int
    activations: int  # what forward keeps for backward
    logits: int  # scores and their gradients in float32, of as many tokens as are looked at at once
    peak: int  # all of it together, temporary tensors with it
    parameters: int
    trained: int
    disk: int  # a checkpoint
    how: str  # `counted`, or `rule of thumb`


def estimate(
    recipe: TrainRecipe,
    shards: models.Words,
    device: torch.device,
    dtype: torch.dtype,
    attn: str,
    first: Any,
    head: models.Head = models.LM,
    loss: Callable[[Any], torch.Tensor] | None = None,
) -> Estimate:
    """Of a run on one process, by its `first` micro-batch; `attn` as of attention.choose. `recipe` is absolute. `loss`: model -> that of
    `first`, where it is not of its next tokens."""
    with torch.device("meta"):
        model = models.skeleton(recipe.model, shards, attn if attn == "eager" else "sdpa", head)
        counts, packed = _tuned(model, recipe, shards, dtype)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _faked(counts.model, device)
        if recipe.run.activation_checkpointing:
            recompute_layers(counts.model)
        model = counts.model
        trained = [p for p in model.parameters() if p.requires_grad]
        weights = sum(p.numel() * p.element_size() for p in model.parameters()) - packed.saved
        moments, working = _state(model, trained, recipe)
        gradients = sum(p.numel() * p.element_size() for p in trained)
        share = _micro_batches(recipe, shards)
        try:
            held = _step(model, recipe, first, device, dtype, min(2, share), loss)
            how = "counted"
        except Exception:  # models and libraries raise what they like where there are no data
            logits = 3 * 4 * first.input_ids.size * counts.vocabulary if head is models.LM else 0
            kept = _thumb(model, first, dtype)
            held = _Held(kept + logits + gradients * (share > 1), kept, logits)
            how = "rule of thumb"
    own = weights + moments
    total = own + max(held.peak + packed.largest, gradients + working)  # when the optimizer steps, no activations are left
    whole = 4 * counts.total if recipe.tune == "full" else 4 * counts.trained * 2
    return Estimate(
        weights=weights,
        gradients=gradients,
        optimizer=moments,
        activations=held.kept,
        logits=held.logits,
        peak=total,
        parameters=counts.total,
        trained=counts.trained,
        disk=whole + moments,
        how=how,
    )


def spread(of: Estimate, processes: int, layer: int) -> int:
    """Peak of each process where FSDP2 splits what is trained among `processes`. `layer`: bytes of the largest block, which
    is whole while it is computed, and the next one with it."""
    own = of.weights + of.optimizer + of.gradients
    return of.peak - own + own // processes + 2 * layer


def machine(device: torch.device) -> tuple[int, int]:
    """(bytes, of them free) of the memory that a process on `device` can have; of a CPU within the limits of its control group."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total, free
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        found = [line for path in (limit, used) for line in _lines(path)[:1]]
        if len(found) == 2 and found[0].isdigit() and int(found[0]) < total:
            total, free = int(found[0]), min(free, int(found[0]) - int(found[1]))
    return total, max(0, free)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _faked(model: nn.Module, device: torch.device) -> None:
    """The weights of a model on the device meta, as fake tensors of `device`: its own `to` refuses them."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    made[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device=device), parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer, device=device)


class _Counts(NamedTuple):
    model: Any
    total: int
    trained: int
    vocabulary: int


class _Packed(NamedTuple):
    """What 4-bit weights take less, and the largest of them unpacked."""

    saved: int
    largest: int


def _tuned(model: Any, recipe: TrainRecipe, shards: models.Words, dtype: torch.dtype) -> tuple[_Counts, _Packed]:
    total, vocabulary = tune.counts(model).total, models.vocabulary(model)
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear) and m is not model.get_output_embeddings()]
    if recipe.prompt is not None:  # noise is made in the size of the embeddings, which have none
        recipe = recipe.model_copy(update={"prompt": recipe.prompt.model_copy(update={"init": "vocabulary"})})
    adapted = tune.attach(model, recipe, shards, dtype)
    packed = _Packed(0, 0)
    if recipe.tune == "qlora":
        held = sum(weight.numel() * weight.element_size() for weight in matrices)
        numbers = sum(weight.numel() for weight in matrices)
        size = 4 if dtype == torch.float32 else 2
        packed = _Packed(held - round(numbers * FOUR_BITS), size * max((weight.numel() for weight in matrices), default=0))
    found = tune.counts(adapted)
    return _Counts(adapted, total if recipe.tune == "full" else found.total, found.trained, vocabulary), packed


def _state(model: nn.Module, trained: list[nn.Parameter], recipe: TrainRecipe) -> tuple[int, int]:
    """(bytes that the optimizer keeps, bytes that it makes for the largest weight while it steps), as optim.py has them."""
    name, ends = recipe.optim.name, optim.ends_of(model)
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters(recurse=False)}
    moments = {"adamw": 2, "adamw8bit": 2, "lion8bit": 1, "ademamix8bit": 3, "muon": 2}[name]
    kept = working = 0
    for weight in trained:
        size = weight.numel()
        if name == "muon" and weight.ndim == 2 and id(weight) not in ends:
            kept += 4 * size
            working = max(working, 5 * 4 * size)  # the update, its orthogonal form and what makes it
        elif name.endswith("8bit") and size >= SMALL and id(weight) not in tables:
            kept += round(moments * size * (1 + 4 / 256))  # a scale for 256 numbers
        else:
            kept += 4 * moments * size
    return kept, working


def _micro_batches(recipe: TrainRecipe, shards: models.Words) -> int:
    rows = recipe.batch.rows or (recipe.batch.tokens or 0) // shards.seq_len
    return max(1, math.ceil(rows / recipe.batch.micro_rows))


class _Held(NamedTuple):
    peak: int  # bytes beyond weights and optimizer at the worst moment of forward and backward
    kept: int  # of those, what forward leaves for backward
    logits: int  # as in Estimate


def _step(
    model: Any,
    recipe: TrainRecipe,
    first: Any,
    device: torch.device,
    dtype: torch.dtype,
    micro_batches: int,
    own: Callable[[Any], torch.Tensor] | None,
) -> _Held:
    if own is not None:
        return _Held(*_held(model, lambda: own(model), micro_batches), 0)
    batch = first._replace(targets=first.positions > 0)  # which of them does not matter
    module = _Apart(model, first) if recipe.tune in ("prompt", "prefix") else model
    forward = attention.forward_of(module, "sdpa", device, dtype)
    peak, kept = _held(model, lambda: loop.next_token_loss(forward, batch), micro_batches)
    tokens, vocabulary = first.input_ids.size, models.vocabulary(model)
    if isinstance(forward.module, WithLoss) and forward.module.ends is not None:
        tokens = min(tokens, max(1, chunk_of(device) // vocabulary))
    # Scores, the logarithms of their probabilities, and the gradient.
    return _Held(peak, kept, 3 * 4 * tokens * vocabulary)


def _held(model: Any, loss_of: Callable[[], torch.Tensor], micro_batches: int) -> tuple[int, int]:
    """(bytes at the worst moment of forward and backward, of those what forward leaves for backward)."""
    tracker, kept = _Tracker(), 0
    model.train()
    with tracker:
        for _ in range(micro_batches):
            loss = loss_of()
            kept = kept or tracker.live
            torch.autograd.backward(loss)
            del loss
    model.zero_grad(set_to_none=True)
    return tracker.peak, kept


class _Apart(nn.Module):
    """What tune.Apart does, without looking at the data: the documents' lengths are known."""

    def __init__(self, model: Any, first: Rows) -> None:
        super().__init__()
        starts = np.flatnonzero(first.positions.reshape(-1) == 0)
        lengths = -np.sort(-np.diff(starts, append=first.positions.size))
        self.model = model
        self.shapes = [
            (group.stop - group.start, int(lengths[group.start])) for group in tune.groups(lengths.tolist(), first.positions.size)
        ]

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool = False) -> SimpleNamespace:
        pieces, left = [], input_ids.numel()
        for documents, longest in self.shapes:
            ids = torch.zeros(documents, longest, dtype=torch.int64, device=input_ids.device)
            logits = self.model(input_ids=ids, use_cache=self.model.active_peft_config.peft_type == "PREFIX_TUNING").logits
            pieces.append(logits[:, -longest:].flatten(0, 1)[: min(left, documents * longest)].clone())
            left -= len(pieces[-1])
        order = torch.zeros(input_ids.numel(), dtype=torch.int64, device=input_ids.device)
        return SimpleNamespace(logits=torch.cat(pieces)[order].reshape(*input_ids.shape, -1))


def _thumb(model: Any, first: Rows, dtype: torch.dtype) -> int:
    """34 bytes a token, layer and unit of width where numbers take two bytes each (Korthikanti et al. 2022, without attention's matrix)."""
    config = model.config.get_text_config()
    wide = getattr(config, "hidden_size", 0) * getattr(config, "num_hidden_layers", 0)
    return 34 * (2 if dtype == torch.float32 else 1) * wide * first.input_ids.size


def largest_block(recipe: TrainRecipe, shards: models.Words) -> int:
    """Bytes of the largest of the blocks that the model repeats."""
    with torch.device("meta"):
        model = models.skeleton(recipe.model, shards, "sdpa")
    return max((sum(4 * p.numel() for p in layer.parameters()) for layer in parallel.layers(model)), default=0)


class _Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages made inside it that are alive, and the most that were at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):  # what was there before is not counted
            self._see(tensor, 0)
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._see(tensor, tensor.untyped_storage().nbytes())
        return result

    def _see(self, tensor: torch.Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return

        def gone(_: Any) -> None:
            self._known.pop(key, None)
            self.live -= size

        self._known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def _tensors(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    tree_map_only(torch.Tensor, found.append, tree)
    return found
