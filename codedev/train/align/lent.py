"""A reward adapter on a base that another model has in memory already, so that policy, reference, values and reward share one.

The reward's low-rank updates stand beside those of the policy, in the same layers; which of them count is switched for the time of a call.
Nothing that is trained changes: neither weights, nor what has gradients, nor the mode of the policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from codedev._errors import InputError
from codedev._run import read_json
from codedev.train import extend, tune
from codedev.train.align.reward_head import number_at

NAME = "reward"  # of the adapters beside the policy's, with a number behind it
_HEAD = "base_model.model.score.weight"


class Lent(nn.Module):
    """Called as reward_head.Scores."""

    def __init__(self, live: Any, head: torch.Tensor, name: str) -> None:
        super().__init__()
        self._name = name
        self._live = (live,)  # not a part of this: what is done to it is undone
        self.keep_gradients = True
        self.weight = nn.Parameter(head, requires_grad=False)

    def forward(self, ids: torch.Tensor, lasts: torch.Tensor) -> torch.Tensor:
        """(B, L) padded at the end, (B,) -> (B,) float32."""
        live = self._live[0]
        inner = live.get_base_model()
        with _switched(live, self._name):
            hidden = getattr(inner, inner.base_model_prefix)(input_ids=ids, use_cache=False)[0]
        return number_at(hidden, lasts, self.weight, None)


def why_not(live: Any, folder: Path) -> str | None:
    """Why the reward adapter in `folder` cannot stand on the base of `live`; None where it can."""
    config = read_json(folder / tune.CONFIG) if (folder / tune.CONFIG).is_file() else None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        return "it is no adapter of low-rank updates"
    own = getattr(live, "peft_config", {}).get("default")
    if own is None or not tune.is_adapter(live) or str(getattr(own.peft_type, "value", own.peft_type)) != "LORA":
        return "the policy is none with low-rank updates"
    if Path(str(config.get("base_model_name_or_path"))).resolve() != Path(str(own.base_model_name_or_path)).resolve():
        return f"it was trained on {config.get('base_model_name_or_path')}, the policy on {own.base_model_name_or_path}"
    if (folder / tune.FOUR_BIT).is_file() != any(True for _ in tune.quantised(live)):
        return "one of them has 4-bit weights"
    if (folder / extend.RECORD).is_file() or extend.of(live) is not None:
        return "one of them has a vocabulary that grew"
    return None


def lend(live: Any, folder: Path) -> Lent:
    """The reward adapter in `folder` on the base of `live`, a peft model whose own adapter is `default`; not one that is split by FSDP."""
    if (why := why_not(live, folder)) is not None:
        raise InputError(f"{folder}: cannot share the policy's base: {why}")
    adapter = f"{NAME}{len(live.peft_config)}"
    peft = tune.load_peft()
    tensors = load_file(folder / tune.WEIGHTS)
    if _HEAD not in tensors:
        raise InputError(f"{folder / tune.WEIGHTS}: has no score.weight, it is no reward model's")
    head = tensors.pop(_HEAD)
    config = peft.PeftConfig.from_pretrained(str(folder))
    config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, True
    training = {name: parameter.requires_grad for name, parameter in live.named_parameters()}
    with tune.silent():
        live.add_adapter(adapter, config)
        found = peft.set_peft_model_state_dict(live, tensors, adapter_name=adapter)
    if found.unexpected_keys:
        raise InputError(f"{folder / tune.WEIGHTS}: {found.unexpected_keys[0]} fits no layer of the policy")
    for name, parameter in live.named_parameters():
        parameter.requires_grad_(training.get(name, training.get(name.replace(".base_layer.", "."), False)))
    return Lent(live, head, adapter)


@contextmanager
def _switched(live: Any, name: str) -> Iterator[None]:
    """Inside, the reward's updates count and the policy's do not. Not by peft's set_adapter, which says anew what has gradients."""
    layers = [module for module in live.modules() if hasattr(module, "_active_adapter")]
    before = [(module._active_adapter, module._disable_adapters) for module in layers]
    modes = [(module, module.training) for module in live.modules()]
    live.eval()
    try:
        for module in layers:
            module._active_adapter, module._disable_adapters = [name], False
        yield
    finally:
        for module, (active, disabled) in zip(layers, before, strict=True):
            module._active_adapter, module._disable_adapters = active, disabled
        for module, training in modes:
            module.training = training
