"""ChatGLM-6B (v1) as it is read here: its own names of weights, its configuration without what names code, and a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codedev._errors import InputError
from codedev.train.chatglm.family import Copy, Plan, whole_number
from codedev.train.chatglm.store import DTYPES, part
from codedev.train.weights import CONFIG, Tensor

_SIZES = ("num_layers", "hidden_size", "inner_hidden_size", "num_attention_heads", "vocab_size", "max_sequence_length")
_EMBEDDING, _HEAD = "transformer.word_embeddings.weight", "lm_head.weight"


def plan(source: Path, fields: Mapping[str, Any], tensors: Mapping[str, Tensor], _: str) -> Plan:
    """What to copy, and the configuration. InputError for what is no ChatGLM-6B."""
    path = source / CONFIG
    if fields.get("quantization_bit"):
        raise InputError(
            f"{path}: its weights are of {fields['quantization_bit']!r} bits by code of its own. Take the checkpoint in float16"
        )
    if not fields.get("position_encoding_2d", True):
        raise InputError(f"{path}: has one position a token (position_encoding_2d: false), as no released ChatGLM-6B does")
    sizes = {key: whole_number(path, fields, key) for key in _SIZES}
    if sizes["num_layers"] > len(tensors):
        raise InputError(
            f"{path}: num_layers is {sizes['num_layers']}, and the weights are {len(tensors)} tensors. Copy the checkpoint again"
        )
    copies = _copies(source, tensors, sizes)
    bos = whole_number(path, fields, "bos_token_id")
    config = {
        **sizes,
        "architectures": ["ChatGLMForConditionalGeneration"],
        "model_type": "chatglm",
        "layernorm_epsilon": float(fields.get("layernorm_epsilon", 1e-5)),
        "position_encoding_2d": True,
        "bos_token_id": bos,
        "eos_token_id": whole_number(path, fields, "eos_token_id"),
        "pad_token_id": fields.get("pad_token_id", 3),
        "mask_token_id": fields.get("mask_token_id", bos - 4),
        "gmask_token_id": fields.get("gmask_token_id", bos - 3),
        "use_cache": True,
        "dtype": DTYPES[copies[0].dtype],
    }
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "mask_token_id", "gmask_token_id"):
        if type(config[key]) is not int or not 0 <= config[key] < sizes["vocab_size"]:
            raise InputError(f"{path}: its {key} is {config[key]!r}, which is none of its {sizes['vocab_size']} tokens")
    return Plan("ChatGLM-6B", copies, config, "two positions a token", 1)


def _copies(source: Path, tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> list[Copy]:
    width, inner, vocab = sizes["hidden_size"], sizes["inner_hidden_size"], sizes["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {_EMBEDDING: (vocab, width)}
    for layer in range(sizes["num_layers"]):
        of = f"transformer.layers.{layer}."
        shapes |= {
            f"{of}{norm}.{kind}": (width,) for norm in ("input_layernorm", "post_attention_layernorm") for kind in ("weight", "bias")
        }
        linear = [
            ("attention.query_key_value", 3 * width, width),
            ("attention.dense", width, width),
            ("mlp.dense_h_to_4h", inner, width),
            ("mlp.dense_4h_to_h", width, inner),
        ]
        for name, rows, columns in linear:
            shapes |= {f"{of}{name}.weight": (rows, columns), f"{of}{name}.bias": (rows,)}
    shapes |= {"transformer.final_layernorm.weight": (width,), "transformer.final_layernorm.bias": (width,), _HEAD: (vocab, width)}
    copies = []
    for name, shape in shapes.items():
        # Written by a program that takes both matrices for one, the output matrix is left out.
        stored = _EMBEDDING if name == _HEAD and _HEAD not in tensors else name
        found = tensors.get(stored)
        if found is None or found.shape != shape:
            told = "is missing" if found is None else f"has the shape {found.shape}, its {CONFIG} says {shape}"
            raise InputError(f"{source}: {stored} {told}. Copy the checkpoint again")
        copies.append(part(name, stored, found))
    left = sorted(name for name in tensors if name not in shapes and not name.endswith("inv_freq"))
    if left:
        why = "a prefix: convert the model it was tuned on" if "prefix_encoder" in left[0] else "no weight of ChatGLM-6B"
        raise InputError(f"{source}: {left[0]} is {why}")
    return copies
