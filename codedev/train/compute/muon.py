"""Muon: the momentum of a matrix made orthogonal (Jordan et al. 2024), scaled so that it takes AdamW's learning rate (Liu et al. 2025).

    m <- 0.95 m + 0.05 g;  u = 0.05 g + 0.95 m, its singular values brought near 1
    w <- (1 - lr decay) w - 0.2 lr sqrt(max(rows, columns)) u

as torch.optim.Muon does it with adjust_lr_fn="match_rms_adamw". That one works on the pieces of a matrix that FSDP2 has split, in bfloat16,
and comes out differently; here a split matrix is gathered first, so that the number of processes changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

MOMENTUM = 0.95
A, B, C = 3.4445, -4.7750, 2.0315  # of x <- a x + b x³ + c x⁵, which takes singular values of 0.01 to 1 into about 0.7 to 1.2
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """State: momentum_buffer, of the shape of the weight. Every process calls `step`."""

    def __init__(self, params: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - MOMENTUM)
                update = _orthogonal_of(parameter.grad.lerp(momentum, MOMENTUM))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-0.2 * group["lr"] * max(parameter.shape) ** 0.5)


def _orthogonal_of(update: torch.Tensor) -> torch.Tensor:
    if isinstance(update, DTensor):
        whole = orthogonal(update.full_tensor())
        split: Any = distribute_tensor(whole, update.device_mesh, update.placements, src_data_rank=None)
        return split  # type: ignore[no-any-return]
    return orthogonal(update)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """U p(S) Vᵀ of `matrix` = U S Vᵀ scaled to norm 1, p the polynomial ROUNDS times; bfloat16 on a GPU, float32 on a CPU."""
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return (x if wide else x.T).to(matrix.dtype)
