"""Recipes: YAML and `--set` overrides to frozen, strict models. An unknown key is an error that names the nearest known one.

YAML 1.2 scalars: only `true` and `false` are booleans (so that the language `no` stays a word), `1e-3` is a number, integers have 64 bits.
Anchors and aliases may be used; a recipe of more than MAX_VALUES values, its aliases written out, is refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from codedev._errors import InputError, RecipeError, nearest


class Model(BaseModel):
    """Base of every recipe model: frozen, strict, no unknown keys, no infinities."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


M = TypeVar("M", bound=BaseModel)

MAX_VALUES = 100_000
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML's core schema alone: the types below and their tags, no dates, sets, binaries or merge keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML's own attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag == f"{_TAG}null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012  PyYAML's own attribute
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag in (f"{_TAG}null", f"{_TAG}str", f"{_TAG}seq", None)
    }


_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def _scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))  # type: ignore[no-untyped-call]


def _construct_bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    word = _scalar(loader, node).lower()
    if word not in ("true", "false"):
        raise _not_a(node, "boolean")
    return word == "true"


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits = _scalar(loader, node)
    try:
        value = int(digits[:40])  # decimal: YAML 1.1 would read 010 as eight
    except ValueError:
        raise _not_a(node, "integer") from None
    if len(digits) > 40 or not -(1 << 63) <= value < 1 << 63:
        raise _not_a(node, "64-bit integer")
    return value


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    try:
        return float(_scalar(loader, node).lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise _not_a(node, "number") from None


def _not_a(node: yaml.Node, kind: str) -> RecipeError:
    return RecipeError(f"line {node.start_mark.line + 1}: {_shown(node.value)} is no {kind}")


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(f"line {node.start_mark.line + 1}: a mapping is expected here")
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if not isinstance(key, str):
            raise RecipeError(f"line {key_node.start_mark.line + 1}: the key {_shown(key)} must be text")
        if key in mapping:
            raise RecipeError(f"line {key_node.start_mark.line + 1}: the key '{key}' stands twice")
        mapping[key] = loader.construct_object(value_node, deep=True)  # type: ignore[no-untyped-call]
    return mapping


_Loader.add_constructor(f"{_TAG}bool", _construct_bool)
_Loader.add_constructor(f"{_TAG}int", _construct_int)
_Loader.add_constructor(f"{_TAG}float", _construct_float)
_Loader.add_constructor(f"{_TAG}map", _construct_mapping)


def parse_yaml(text: str, where: str) -> Any:
    try:
        return _written_out(yaml.load(text, Loader=_Loader), itertools.count(1))  # noqa: S506  a SafeLoader with fewer types
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    except RecursionError:
        raise RecipeError(f"{where}: is nested too deep for a recipe") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" line {mark.line + 1} column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(f"{where}:{at} is not valid YAML: {problem}") from None


def _written_out(data: Any, count: Iterator[int]) -> Any:
    """A copy of `data` in which no alias is shared any more, so that `--set` changes one place and work has a bound."""
    if next(count) > MAX_VALUES:
        raise RecipeError(f"holds more than {MAX_VALUES:,} values once its aliases are written out")
    if isinstance(data, dict):
        return {key: _written_out(value, count) for key, value in data.items()}
    return [_written_out(value, count) for value in data] if isinstance(data, list) else data


def load(path: Path, model: type[M], overrides: tuple[str, ...] = ()) -> M:
    """The recipe at `path` with `--set key.sub=value` overrides, checked against `model`."""
    return check(read(path, overrides), model, str(path))


def read(path: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The mapping in the recipe at `path`, with `--set key.sub=value` overrides, not yet checked."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such recipe") from None
    except IsADirectoryError:
        here = f": {path / 'recipe.yaml'}" if (path / "recipe.yaml").is_file() else ""
        raise InputError(f"{path}: cannot be read as a recipe: it is a directory. Give a YAML file{here}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a recipe: {error}") from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values, this is {_shown(data)}")
    return overridden(data, overrides)


def overridden(data: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """`data` with each KEY=VALUE of `overrides` set in it; RecipeError for one that is none."""
    for override in overrides:
        _override(data, override)
    return data


def _override(data: dict[str, Any], override: str) -> None:
    """Set `a.b.0.c=value` in place; the value is read as YAML."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override}: write --set key.sub=value")
    *parents, last = key.split(".")
    at: Any = data
    for part in parents:
        if _is_index(part, at):
            at = at[int(part)]
        elif isinstance(at, dict):
            if at.get(part) is None:
                at[part] = {}
            at = at[part]
        else:
            raise RecipeError(f"--set {override}: there is no '{part}' in {_shown(at)}")
    parsed = parse_yaml(value, f"--set {key}")
    if _is_index(last, at):
        at[int(last)] = parsed
    elif isinstance(at, dict):
        at[last] = parsed
    else:
        raise RecipeError(f"--set {override}: there is no '{last}' in {_shown(at)}")


def _is_index(part: str, at: Any) -> bool:
    return isinstance(at, list) and part.isdecimal() and len(part) < 7 and int(part) < len(at)


def check(data: Any, model: type[M], where: str) -> M:
    """`data` as a `model`; the first fault as a one-line RecipeError."""
    try:
        # JSON mode in strict models lets lists stand for tuples, as a YAML list must.
        return model.model_validate(_tuples(data))
    except ValidationError as error:
        raise RecipeError(f"{where}: {_first_fault(error, data, model)}") from None


def _tuples(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _tuples(value) for key, value in data.items()}
    return tuple(_tuples(value) for value in data) if isinstance(data, list) else data


def _lists(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _lists(value) for key, value in data.items()}
    return [_lists(value) for value in data] if isinstance(data, list | tuple) else data


def _first_fault(error: ValidationError, data: Any, model: type[BaseModel]) -> str:
    faults = error.errors()
    # An unknown key says most about what went wrong: it goes first.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(part) for part in _real_keys(list(fault["loc"]), data)) or "the recipe"
    match fault["type"]:
        case "extra_forbidden":
            parent, _, key = place.rpartition(".")
            known = _known_keys(model, fault["loc"])
            return f"unknown key '{key}'{f' in {parent}' if parent else ''}: {nearest(key, known)}"
        case "missing":
            return f"'{place}' is missing"
        case "value_error":
            return f"{place}: {fault['ctx']['error']}"
        case "tuple_type" | "list_type":
            return f"{place} is {_shown(fault['input'])}: it should be a list"
        case "model_type" | "dict_type":
            return f"{place} is {_shown(fault['input'])}: it should be a mapping of keys to values"
        case "too_short":
            return f"{place} is empty: it should hold at least {fault['ctx']['min_length']}"
        case _:
            return f"{place} is {_shown(fault['input'])}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _real_keys(location: list[Any], data: Any) -> list[Any]:
    """`location` without the parts that pydantic adds and the recipe does not hold: tags of unions, names of types."""
    keys, at = [], data
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(at, dict) and (part in at or last):
            keys.append(part)
            at = at.get(part)
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            keys.append(part)
            at = at[part]
        elif last and not isinstance(at, list | dict) and not keys:
            keys.append(part)
    return keys


def _known_keys(model: type[BaseModel], location: tuple[Any, ...]) -> set[str]:
    """The keys of the model that holds the last part of `location`."""
    candidates: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        inside: list[type[BaseModel]] = []
        for candidate in candidates:
            if isinstance(part, str) and part in candidate.model_fields:
                inside += _models_in(candidate.model_fields[part].annotation)
        candidates = inside or candidates
    return {name for candidate in candidates for name in candidate.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]


def _shown(value: Any) -> str:
    shown = repr(_lists(value)) if not isinstance(value, bool | None) else {True: "true", False: "false", None: "empty"}[value]
    return shown if len(shown) <= 60 else shown[:57] + "..."
