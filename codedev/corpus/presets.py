"""Named presets of quality filters: files of recipe keys in data/presets, one each, and of one a table of bounds by language."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from codedev import _recipe
from codedev._errors import nearest
from codedev._recipe import Model

_FOLDER = resources.files("codedev.corpus") / "data/presets"
_TABLES = {"fineweb-2": resources.files("codedev.corpus") / "data/fineweb2_bounds.tsv"}
_REPETITION = ("dup_lines", "top_2", "top_3", "top_4", "dup_5", "dup_6", "dup_7", "dup_8", "dup_9", "dup_10")
TABLE_FAMILIES = ("gopher", "repetition", "fineweb")  # of the tables
# Written without spaces: their tokens here are characters and clusters, and no bound on a number of words of a dictionary means the same.
_OTHER_WORDS = frozenset(("zh", "ja", "th", "lo", "km", "my", "bo", "dz", "yue", "wuu", "lzh", "shn", "ksw"))


def names() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))


def completed(quality: dict[str, Any]) -> dict[str, Any]:
    """The keys under `quality:` on top of those of the preset that they name; ValueError for a name that there is not. A filter that is
    null stays off."""
    name = quality.get("preset")
    if not isinstance(name, str):
        return quality
    if name not in names():
        raise ValueError(f"there is no preset '{name}': {nearest(name, names())}")
    merged: dict[str, Any] = _merged(_preset(name), quality)
    return merged


@functools.cache
def _family(name: str | None, family: str) -> Mapping[str, Any]:
    """The keys that a preset gives a filter; none without a preset."""
    keys: dict[str, Any] = _merged(None, _preset(name).get(family) or {}) if name in names() else {}
    return keys


def _preset(name: str | None) -> Any:
    return _recipe.parse_yaml((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), f"preset {name}")


@functools.cache
def table(preset: str | None) -> Mapping[str, str]:
    """Language (BCP-47): its line of the preset's table; empty for presets without one. 2 ms once a process."""
    if preset not in _TABLES:
        return {}
    lines = [line for line in _TABLES[preset].read_text(encoding="utf-8").split("\n") if line and line[0] != "#"]
    return {line.partition("\t")[0]: line for line in lines[1:]}


def table_hash(preset: str | None) -> str:
    return hashlib.sha256(_TABLES[preset].read_bytes()).hexdigest()[:16] if preset in _TABLES else ""


@functools.lru_cache(4096)
def of_language(preset: str | None, language: str) -> Mapping[str, Mapping[str, Any]]:
    """Filter: its keys, as the preset's table has them for the language. An empty field is a bound that is off."""
    if (line := table(preset).get(language)) is None:
        return {}
    _, _, *fields, stop_words = line.split("\t")
    numbers: list[float | None] = [float(field) if field else None for field in fields]
    terminal, newlines, shortest, longest, alpha = numbers[len(_REPETITION) :]
    repetition = dict(zip((f"max_{name}" for name in _REPETITION), numbers, strict=False))
    fineweb = {"min_terminal_lines": terminal, "max_newlines_per_word": newlines}
    if language.partition("-")[0] in _OTHER_WORDS:
        return {"repetition": {"max_dup_lines": repetition["max_dup_lines"]}, "fineweb": fineweb}
    gopher: dict[str, Any] = {"min_mean_word_length": shortest, "max_mean_word_length": longest, "min_alpha_words": alpha}
    if words := tuple(stop_words.split(" ") if stop_words else ()):
        gopher |= {"stop_words": words, "min_stop_words": 2}
    return {"repetition": repetition, "gopher": gopher, "fineweb": fineweb}


def own_keys(preset: str | None, language: str, name: str, base: Model) -> dict[str, Any]:
    """What the preset's table puts over the filter `base`: its stop words, and its bounds where the recipe has left the preset's own. A
    bound of the table that the recipe's other one contradicts is off; no more stop words are asked for than there are."""
    keys = dict(of_language(preset, language).get(name, {}))
    given = _family(preset, name)
    for key in [key for key in keys if key != "stop_words"]:
        bound = getattr(base, key)
        if bound != given.get(key, type(base).model_fields[key].default):
            del keys[key]
            other = {"min_": "max_", "max_": "min_"}[key[:4]] + key[4:]
            if bound is not None and keys.get(other) is not None and (bound > keys[other]) == (key[:4] == "min_"):
                keys[other] = None
    if (words := keys.get("stop_words")) and "min_stop_words" not in keys and (least := getattr(base, "min_stop_words", None)):
        keys["min_stop_words"] = min(least, len(words))
    return keys


def _merged(below: Any, above: Any) -> Any:
    if isinstance(above, dict):
        under = below if isinstance(below, dict) else {}
        return {key: _merged(under.get(key), above[key] if key in above else under[key]) for key in {**under, **above}}
    return tuple(_merged(None, value) for value in above) if isinstance(above, list) else above
