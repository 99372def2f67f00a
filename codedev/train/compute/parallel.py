"""The processes of a run: one alone, or those that torchrun starts, as DDP or FSDP2 (gloo on a CPU, NCCL on CUDA).

Gradients come out averaged over processes in both, so the loss is multiplied by their number before it is differentiated. FSDP2 splits
every parameter by its first dimension; a checkpoint gathers them one at a time on the first process, whose memory must hold the model
and its optimizer state.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from codedev._errors import RunError
from codedev.train.compute.loss import WithLoss


@dataclass(frozen=True)
class World:
    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Elementwise sum over the processes, in float64."""
        values = np.asarray(values, np.float64)
        if self.size == 1:
            return values
        tensor = torch.from_numpy(values.copy()).to(self.device)
        dist.all_reduce(tensor)
        return tensor.cpu().numpy()

    def total(self, value: torch.Tensor) -> float:
        """The sum over the processes of a scalar on the device, in float64."""
        value = value.detach().double()
        if self.size > 1:
            dist.all_reduce(value)
        return float(value)

    def totals(self, values: torch.Tensor) -> list[float]:
        """The same of each number of a vector."""
        values = values.detach().double()
        if self.size > 1:
            dist.all_reduce(values)
        found: list[float] = values.tolist()
        return found

    def from_first(self, value: int) -> int:
        """The first process's `value`."""
        return int(self.sum(np.array([value if self.first else 0]))[0])

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()


@contextmanager
def world() -> Iterator[World]:
    """This process's place among those that torchrun started."""
    size, local_rank = (int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0")))
    cuda = torch.cuda.is_available()
    if cuda and local_rank >= torch.cuda.device_count():
        raise RunError(
            f"process {local_rank} has no GPU: there are {torch.cuda.device_count()}. Start as many: torchrun --nproc-per-node gpu"
        )
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    started = size > 1 and not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(dist.get_rank() if size > 1 else 0, size, device)
    finally:
        if started:
            dist.destroy_process_group()


def choose(parallel: str, model: nn.Module, place: World) -> str:
    """`auto` decided: ddp while weights, gradients and AdamW state (16 bytes a parameter) take less than 40% of a GPU."""
    if place.size == 1:
        return "single"
    if parallel != "auto":
        return parallel
    if place.device.type != "cuda":
        return "ddp"
    memory = torch.cuda.get_device_properties(place.device).total_memory
    return "ddp" if 16 * sum(p.numel() for p in model.parameters()) < 0.4 * memory else "fsdp"


def distribute(model: nn.Module, how: str, place: World, dtype: torch.dtype) -> nn.Module:
    """`model` spread over the processes, as what gives logits and losses (loss.WithLoss) unless it is called as it is, which
    `keep_gradients` tells: inside a wrapper for ddp, with sharded parameters for fsdp."""
    called: Any = model if hasattr(model, "keep_gradients") else WithLoss(model)
    if how == "fsdp":
        mesh = init_device_mesh(place.device.type, (place.size,))
        half = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32) if dtype != torch.float32 else MixedPrecisionPolicy()
        called.keep_gradients = _room_for_gradients(model, place.device)
        for layer in layers(model):
            fully_shard(layer, mesh=mesh, mp_policy=half)
        fully_shard(called, mesh=mesh, mp_policy=half)
        return called  # type: ignore[no-any-return]
    called = called.to(place.device)
    if how == "ddp":
        ids = [place.device.index] if place.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(called, device_ids=ids, gradient_as_bucket_view=True)
    return called  # type: ignore[no-any-return]


def _room_for_gradients(model: nn.Module, device: torch.device) -> bool:
    """Whether the gradients of all weights, whole and in float32, take less than a fifth of a GPU."""
    if device.type != "cuda":
        return True
    return 4 * sum(p.numel() for p in model.parameters()) < 0.2 * torch.cuda.get_device_properties(device).total_memory


def layers(model: nn.Module) -> list[nn.Module]:
    """The blocks that a transformers model repeats."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]


@contextmanager
def gradients_later(model: nn.Module) -> Iterator[None]:
    """Inside, gradients are added up and not exchanged: for every micro-batch but the last.

    FSDP2 keeps them whole meanwhile, which a large model has no room for: then every micro-batch exchanges its own.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        with model.no_sync():
            yield
    elif isinstance(model, FSDPModule) and getattr(model, "keep_gradients", False):
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
    else:
        yield


def whole(tensor: torch.Tensor, place: World) -> torch.Tensor | None:
    """A parameter or its state on the CPU of the first process, None on the others. Every process must call it."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.cpu().contiguous() if place.first else None


def number(scalar: torch.Tensor) -> float:
    """A scalar that may be spread over the processes. Every process must call it."""
    return float(scalar.full_tensor() if isinstance(scalar, DTensor) else scalar)


def reshard(model: nn.Module) -> None:
    """After a forward pass that no backward pass follows: FSDP2 keeps the outermost parameters whole until one does, as other objects
    than those the optimizer knows."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole `tensor` placed, and split, as `parameter` is."""
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)
    return tensor.to(parameter.device)
