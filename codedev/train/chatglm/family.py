"""Which ChatGLM a config.json is of; what a plan of conversion is. Knows nothing of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from codedev._errors import InputError

NATIVE, GLM = "chatglm-6b", "glm"  # of `family`


def family(fields: Mapping[str, Any]) -> str | None:
    """NATIVE for the config.json of ChatGLM-6B, GLM for one that `convert` makes a Glm (ChatGLM2/3, glm-4), None for any other."""
    if fields.get("model_type") != "chatglm":
        return None
    return GLM if {"multi_query_attention", "padded_vocab_size", "ffn_hidden_size"} & set(fields) else NATIVE


def check_converted(path: Path, fields: Mapping[str, Any]) -> None:
    """InputError for ChatGLM2/3 as released: it is not what the name chatglm stands for here."""
    if family(fields) == GLM:
        raise InputError(
            f"{path}: is ChatGLM2 or ChatGLM3 as released. Make it a native Glm: codedev convert chatglm {path.parent} --out DIR"
        )


class Copy(NamedTuple):
    """One tensor to write: rows [begin, end) of the first dimension of `source`'s."""

    name: str
    source: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    numbers: int
    bytes: int


class Plan(NamedTuple):
    name: str
    copies: list[Copy]
    config: dict[str, Any]
    rope: str  # in words
    generation: int | None  # 1, 2, 3; None where it cannot be told


def whole_number(path: Path, fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key)
    if type(value) is not int or not 0 < value < 1 << 31:
        raise InputError(f"{path}: its {key} is {value!r}, not a whole number above 0. Copy the checkpoint again")
    return value
