"""ChatGLM2-6B and ChatGLM3-6B (and glm-4-9b as released) as transformers' Glm: the same arithmetic under other names.

Query, key and value come in one matrix, [heads | groups | groups] rows of kv_channels each; gate and up in the order that Glm has them.
Rotary embeddings turn the first half of a head, two neighbouring numbers at a time, in both.

rope_ratio, of the variants for long texts, means two things. ChatGLM2-6B-32k divides positions by it (positional interpolation: `linear` of
transformers), ChatGLM3-6B-32k and glm-4 multiply the base of the angles with it. The configuration does not say which; the released
modeling_chatglm.py beside it does, and is looked into as text. Without it the generation decides, where names tell that, else it has to
be given. Established from four public implementations that agree (the released code, rtp-llm, fastllm, a MindSpore port).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codedev._errors import InputError
from codedev.train.chatglm.family import Copy, Plan, whole_number
from codedev.train.chatglm.store import DTYPES, part
from codedev.train.weights import CONFIG, Tensor

# What the released models say, and what Glm is: key -> the only value that can be converted, and that of a configuration without the key.
_FIXED: dict[str, tuple[Any, Any]] = {
    "rmsnorm": (True, True),
    "post_layer_norm": (True, True),
    "apply_residual_connection_post_layernorm": (False, False),
    "add_bias_linear": (False, False),
    "original_rope": (True, True),
    "use_dynamic_ntk": (False, False),
    "quantization_bit": (0, 0),
    "interleaved_qkv": (False, False),
}
_MOST_CODE = 1 << 20  # bytes of a source file that is looked into
_DIVIDED, _MULTIPLIED = re.compile(r"/\s*self\.rope_ratio"), re.compile(r"base\s*\*\s*self\.rope_ratio")


def plan(source: Path, fields: Mapping[str, Any], tensors: Mapping[str, Tensor], given: str) -> Plan:
    """What to copy, and Glm's configuration. InputError for what Glm cannot compute."""
    path = source / CONFIG
    for key, (needed, usual) in _FIXED.items():
        if (value := fields.get(key, usual)) != needed:
            raise InputError(
                f"{path}: its {key} is {value!r}, and Glm can only do {needed!r}. No released ChatGLM2/3-6B needs it otherwise"
            )
    sizes = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "kv_channels", "padded_vocab_size", "seq_length")
    layers, width, inner, heads, channels, vocab, length = (whole_number(path, fields, key) for key in sizes)
    groups = whole_number(path, fields, "multi_query_group_num") if fields.get("multi_query_attention") else heads
    bias = fields.get("add_qkv_bias", False)
    if layers > len(tensors) or heads % groups or channels % 4:
        raise InputError(
            f"{path}: {layers} layers, {heads} heads in {groups} groups of {channels} are no ChatGLM. Copy the checkpoint again"
        )
    generation = generation_of(source, fields)
    rope, told = _rope(source, fields, generation, given)
    copies = _copies(tensors, layers, (heads * channels, groups * channels), width, inner, vocab, bool(bias))
    config = {
        "architectures": ["GlmForCausalLM"],
        "model_type": "glm",
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": channels,
        "hidden_act": "silu",
        "attention_bias": bool(bias),
        "attention_dropout": _number(path, fields, "attention_dropout", 0.0),
        "max_position_embeddings": length,
        "rms_norm_eps": _number(path, fields, "layernorm_epsilon", 1e-5),
        "rope_parameters": {**rope, "partial_rotary_factor": 0.5},
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": _ends(path, fields, vocab),
        "pad_token_id": fields.get("pad_token_id", 0) or 0,
        "dtype": DTYPES[copies[0].dtype],
    }
    name = "ChatGLM2 or ChatGLM3" if generation is None else "GLM-4" if generation == 4 else f"ChatGLM{generation}"
    return Plan(name, copies, config, told, generation)


def generation_of(source: Path, fields: Mapping[str, Any]) -> int | None:
    """2, 3 or 4 (glm-4) where a name or the released tokenizer tells."""
    if fields.get("padded_vocab_size") == 151552:
        return 4
    found = re.search(r"chatglm([23])-6b", f"{fields.get('_name_or_path', '')}".lower())
    if found is not None:
        return int(found[1])
    text = _text(source / "tokenization_chatglm.py")
    if "<|assistant|>" in text or "<|assistant|>" in _text(source / "tokenizer_config.json"):
        return 3
    return 2 if text else None


def _rope(source: Path, fields: Mapping[str, Any], generation: int | None, given: str) -> tuple[dict[str, Any], str]:
    path = source / CONFIG
    ratio = _number(path, fields, "rope_ratio", 1.0)
    if not 0 < ratio < 1e6:
        raise InputError(f"{path}: its rope_ratio is {ratio!r}. Copy the checkpoint again")
    base = _number(path, fields, "rope_theta", 10000.0)
    plain = {"rope_type": "default", "rope_theta": base}
    if ratio == 1:
        return plain, "plain"
    text = _text(source / "modeling_chatglm.py")
    seen = {"positions": bool(_DIVIDED.search(text)), "base": bool(_MULTIPLIED.search(text))}
    found = [how for how, there in seen.items() if there]
    how = given if given != "auto" else found[0] if len(found) == 1 else {2: "positions", 3: "base", 4: "base"}.get(generation or 0)
    if how is None:
        raise InputError(
            f"{path}: its rope_ratio is {ratio:g}, by which ChatGLM2-6B-32k divides positions and ChatGLM3-6B-32k multiplies the base; "
            "nothing says which this is. Put the released modeling_chatglm.py beside it (it is looked into, not run), or give --rope"
        )
    if how == "base":
        return {**plain, "rope_theta": base * ratio}, f"base times {ratio:g}"
    return {**plain, "rope_type": "linear", "factor": float(ratio)}, f"positions divided by {ratio:g}"


def _copies(
    tensors: Mapping[str, Tensor], layers: int, rows: tuple[int, int], width: int, inner: int, vocab: int, bias: bool
) -> list[Copy]:
    """`rows`: of a query, and of a key or value."""
    query, key = rows
    copies: list[Copy] = []
    left = {name for name in tensors if not name.endswith("inv_freq")}
    somewhere = next(iter(tensors.values())).file.parent

    def take(source: str, shape: tuple[int, ...]) -> Tensor:
        found = tensors.get(source)
        if found is None or found.shape != shape:
            told = "is missing" if found is None else f"has the shape {found.shape}, its {CONFIG} says {shape}"
            raise InputError(f"{somewhere}: {source} {told}. Copy the checkpoint again")
        left.discard(source)
        return found

    def add(name: str, source: str, *shape: int) -> None:
        copies.append(part(name, source, take(source, shape)))

    add("model.embed_tokens.weight", "transformer.embedding.word_embeddings.weight", vocab, width)
    for layer in range(layers):
        there, here = f"transformer.encoder.layers.{layer}.", f"model.layers.{layer}."
        add(f"{here}input_layernorm.weight", f"{there}input_layernorm.weight", width)
        for kind, shape in (("weight", (query + 2 * key, width)), *((("bias", (query + 2 * key,)),) if bias else ())):
            source = f"{there}self_attention.query_key_value.{kind}"
            found = take(source, shape)
            for letter, begin, count in (("q", 0, query), ("k", query, key), ("v", query + key, key)):
                copies.append(part(f"{here}self_attn.{letter}_proj.{kind}", source, found, begin, count))
        add(f"{here}self_attn.o_proj.weight", f"{there}self_attention.dense.weight", width, query)
        add(f"{here}post_attention_layernorm.weight", f"{there}post_attention_layernorm.weight", width)
        add(f"{here}mlp.gate_up_proj.weight", f"{there}mlp.dense_h_to_4h.weight", 2 * inner, width)
        add(f"{here}mlp.down_proj.weight", f"{there}mlp.dense_4h_to_h.weight", width, inner)
    add("model.norm.weight", "transformer.encoder.final_layernorm.weight", width)
    add("lm_head.weight", "transformer.output_layer.weight", vocab, width)
    if left:
        raise InputError(f"{somewhere}: {min(left)} is no weight of ChatGLM2/3-6B. Other models of its kind cannot be converted")
    return copies


def _number(path: Path, fields: Mapping[str, Any], key: str, usual: float) -> float:
    value = fields.get(key, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise InputError(f"{path}: its {key} is {value!r}, which is no number that it can be. Copy the checkpoint again")
    return value


def _ends(path: Path, fields: Mapping[str, Any], vocab: int) -> int | list[int]:
    given = fields.get("eos_token_id", 2)
    numbers = given if isinstance(given, list) and given else [given]
    if not all(type(number) is int and 0 <= number < vocab for number in numbers):
        raise InputError(f"{path}: its eos_token_id is {given!r}, which is none of its {vocab} tokens. Copy the checkpoint again")
    return numbers if len(numbers) > 1 else int(numbers[0])


def _text(file: Path) -> str:
    """Of a source file, which is never run; "" where there is none."""
    try:
        with open(file, "rb") as stream:
            return stream.read(_MOST_CODE).decode("utf-8", "replace")
    except OSError:
        return ""
