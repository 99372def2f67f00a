"""The optimizers of a run, and what of them a checkpoint keeps.

    adamw                                AdamW (Loshchilov and Hutter 2019), fused into one kernel
    adamw8bit lion8bit ademamix8bit      of bitsandbytes: moments of 8 bits in blocks of 256 (Dettmers et al. 2022); embeddings keep 32
    muon                                 momentum made orthogonal (muon.py) for the matrices of hidden layers, AdamW for all else

Weight decay is of matrices alone. Lion wants about a tenth of AdamW's learning rate; Muon is scaled to take AdamW's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from codedev._errors import MissingExtraError, RecipeError
from codedev.train.compute.muon import Muon
from codedev.train.compute.parallel import like

if TYPE_CHECKING:
    from codedev.train.recipe import OptimRecipe

EIGHT_BIT = {"adamw8bit": "AdamW", "lion8bit": "Lion", "ademamix8bit": "AdEMAMix"}
BETA3 = 0.9999  # of AdEMAMix: its slow average (Pagliardini et al. 2024)
# Tables that bitsandbytes makes anew, alike for all weights.
_TABLES = ("qmap1", "qmap2")


class Several(torch.optim.Optimizer):
    """Optimizers that each have some of the weights, stepped together."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]  # their own: what sets a learning rate sets theirs

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()


def make(model: nn.Module, optim: OptimRecipe, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer that the recipe names, of the weights of `model` that are trained; after they are spread."""
    name: str = getattr(optim, "name", "adamw")
    if name == "adamw":
        return adamw(model, optim, device)
    trained = [p for p in model.parameters() if p.requires_grad]
    if name == "muon":
        ends = ends_of(model)
        hidden = [p for p in trained if p.ndim == 2 and id(p) not in ends]
        rest = [p for p in trained if p.ndim != 2 or id(p) in ends]
        parts: list[torch.optim.Optimizer] = [Muon(hidden, lr=optim.lr, weight_decay=optim.weight_decay)] if hidden else []
        return Several(parts + ([_adamw(rest, optim, device)] if rest else []))
    if any(isinstance(p, DTensor) for p in trained):
        raise RecipeError(f"optim.name: {name} cannot work on weights split by run.parallel fsdp. Set it to adamw or muon, or use ddp")
    return _eight_bit(name, model, trained, optim)


def adamw(model: nn.Module, optim: OptimRecipe, device: torch.device) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices alone."""
    return _adamw([p for p in model.parameters() if p.requires_grad], optim, device)


def _adamw(trained: list[nn.Parameter], optim: OptimRecipe, device: torch.device) -> torch.optim.Optimizer:
    fused = device.type in ("cuda", "cpu") and all(p.is_floating_point() for p in trained)
    return torch.optim.AdamW(_groups(trained, optim), lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused)


def _eight_bit(name: str, model: nn.Module, trained: list[nn.Parameter], optim: OptimRecipe) -> torch.optim.Optimizer:
    from codedev.train.tune import load_peft  # which loads bitsandbytes without its code from the hub

    try:
        load_peft()
        import bitsandbytes
    except ImportError:
        raise MissingExtraError("bitsandbytes", "quant") from None
    kind: Any = EIGHT_BIT[name]
    settings: dict[str, Any] = {"lr": optim.lr, "betas": optim.betas}
    if kind != "Lion":
        settings["eps"] = optim.eps
    if kind == "AdEMAMix":
        settings["betas"] = (*optim.betas, BETA3)
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    shares = ([p for p in trained if id(p) not in tables], f"{kind}8bit"), ([p for p in trained if id(p) in tables], kind)
    return Several([getattr(bitsandbytes.optim, made)(_groups(share, optim), **settings) for share, made in shares if share])


def _groups(trained: list[nn.Parameter], optim: OptimRecipe) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def ends_of(model: nn.Module) -> set[int]:
    """Ids of the weights of embeddings and of the output matrix."""
    owner: Any = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    head = None if owner is None else owner.get_output_embeddings()
    modules = [module for module in model.modules() if isinstance(module, nn.Embedding) or module is head]
    return {id(p) for module in modules for p in module.parameters(recurse=False)}


def state_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    """What a checkpoint keeps of the state of a weight: tensors by name, split as the weight is."""
    state = _part(optimizer, parameter).state.get(parameter, {})
    return {name: torch.as_tensor(value) for name, value in sorted(state.items()) if name not in _TABLES}


def restore(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, name: str, tensor: torch.Tensor) -> bool:
    """Put what `state_of` gave back, whole and on the CPU; False where it does not fit."""
    part = _part(optimizer, parameter)
    state = part.state[parameter]
    if type(part).__module__.startswith("bitsandbytes"):
        maker: Any = part
        if not state:
            group = next(g for g in part.param_groups if any(p is parameter for p in g["params"]))
            at = next(i for i, p in enumerate(group["params"]) if p is parameter)
            maker.init_state(group, parameter, next(i for i, g in enumerate(part.param_groups) if g is group), at)
        if name not in state or (name != "step" and (state[name].shape != tensor.shape or state[name].dtype != tensor.dtype)):
            return False
        state[name] = int(tensor) if name == "step" else tensor.to(parameter.device)
        return True
    if name == "step":
        # AdamW counts its steps on the CPU unless it is fused, when the count lies beside the weight.
        state[name] = tensor.to(parameter.device) if part.defaults.get("fused") else tensor
        return tensor.ndim == 0
    if tensor.shape != parameter.shape:
        return False
    state[name] = like(tensor, parameter)
    return True


def _part(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> torch.optim.Optimizer:
    if not isinstance(optimizer, Several):
        return optimizer
    has = (part for part in optimizer.parts if any(p is parameter for group in part.param_groups for p in group["params"]))
    return next(has, optimizer.parts[0])
