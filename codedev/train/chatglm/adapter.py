"""A prompt or prefix of ChatGLM-6B as tune trains and keeps it: a model frozen but for `transformer.prompt_encoder` or `.prefix_encoder`.

peft's own would not do: its prompts drop the positions, its prefixes do not fit two of them. A directory holds, as of any adapter,

    adapter_config.json         peft_type (CHATGLM_PREFIX or CHATGLM_PROMPT, which peft does not know), the base, pre_seq_len, …
    adapter_model.safetensors   transformer.prefix_encoder.embedding.weight, … : the names that the released fine-tuning code writes

A prefix of that code is read as well: its tensors in a safetensors file of that name, beside such a configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from codedev._errors import InputError
from codedev._run import write_json
from codedev.train.chatglm.config import ChatGLMConfig
from codedev.train.chatglm.lead import PrefixEncoder, PromptEncoder
from codedev.train.recipe import PrefixRecipe, PromptRecipe

PREFIX, PROMPT = "CHATGLM_PREFIX", "CHATGLM_PROMPT"
_FIELDS = {PREFIX: ("pre_seq_len", "prefix_projection"), PROMPT: ("prompt_len",)}
_WHERE = {PREFIX: "prefix_encoder", PROMPT: "prompt_encoder"}
_MOST = 1 << 16  # tokens of either, as in recipes


def native(model: Any) -> bool:
    """Whether `model` is ChatGLM-6B itself, with no adapter of peft around it."""
    return isinstance(getattr(model, "config", None), ChatGLMConfig) and type(model).__name__ == "ChatGLMForConditionalGeneration"


def is_lead(model: Any) -> bool:
    """Whether `model` is ChatGLM-6B with a prompt or prefix of its own."""
    return native(model) and getattr(model, "lead_of", None) is not None


def attach(model: Any, method: PromptRecipe | PrefixRecipe, base: str | None, seed: int, fill: Callable[[Any], None]) -> Any:
    """`model` frozen, with a new prompt or prefix; `fill(encoder)` gives a prompt its beginning."""
    torch.manual_seed(seed)
    if isinstance(method, PrefixRecipe):
        return _with(model, PREFIX, {"pre_seq_len": method.tokens, "prefix_projection": method.projection}, base)
    _with(model, PROMPT, {"prompt_len": method.tokens}, base)
    fill(model.transformer.prompt_encoder)
    return model


def save(model: Any, config_file: Path, weights_file: Path) -> None:
    kind = PREFIX if model.config.pre_seq_len else PROMPT
    told = {name: getattr(model.config, name) for name in _FIELDS[kind]}
    write_json(config_file, {"peft_type": kind, "base_model_name_or_path": model.lead_of, **told})
    trained = model.transformer.get_submodule(_WHERE[kind]).state_dict(prefix=f"transformer.{_WHERE[kind]}.")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in trained.items()}, weights_file, {"format": "pt"})


def laid_on(model: Any, config: dict[str, Any], weights_file: Path) -> Any:
    """`model` with the prompt or prefix of a directory. InputError where they do not fit."""
    kind = config["peft_type"]
    if not native(model):
        raise InputError(
            f"{weights_file.parent}: is a {_WHERE[kind].partition('_')[0]} of ChatGLM-6B, its base is a {type(model).__name__}"
        )
    fields = {name: config.get(name) for name in _FIELDS[kind]}
    tokens = fields[_FIELDS[kind][0]]
    if type(tokens) is not int or not 0 < tokens <= _MOST or not isinstance(fields.get("prefix_projection", False), bool):
        raise InputError(
            f"{weights_file.parent}: {_FIELDS[kind][0]} is {tokens!r}, which is no number of tokens that a prompt or prefix has"
        )
    try:
        tensors = load_file(weights_file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{weights_file}: is damaged: {error}. Copy it again") from None
    where = _WHERE[kind]
    adapted = _with(model, kind, fields, str(config.get("base_model_name_or_path")))
    encoder = adapted.transformer.get_submodule(where)
    try:
        encoder.load_state_dict({name.removeprefix("transformer.").removeprefix(f"{where}."): tensor for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise InputError(f"{weights_file}: does not fit the model: {' '.join(str(error).split())[:300]}") from None
    return adapted.eval()


def of_chatglm(config: Any) -> bool:
    """Whether an adapter_config.json is of the kind that is kept here."""
    return isinstance(config, dict) and config.get("peft_type") in _FIELDS


def _with(model: Any, kind: str, fields: dict[str, Any], base: str | None) -> Any:
    model.requires_grad_(False)
    model.config.update(fields)
    encoder: Any = PrefixEncoder(model.config) if kind == PREFIX else PromptEncoder(model.config)
    setattr(model.transformer, _WHERE[kind], encoder)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=model.config.initializer_range)
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.zeros_(module.bias)
    model.lead_of = base or ""
    # What others ask of an adapter of peft. This one is part of the model: it takes no positions, and rows of any lengths fit together.
    model.active_peft_config = SimpleNamespace(peft_type=kind, is_prompt_learning=False, num_virtual_tokens=0)
    model.merge_and_unload = lambda: model
    return model
