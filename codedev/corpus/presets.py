"""Named presets of quality filters: files of recipe keys in data/presets, one each, and of one a table of bounds by language."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from codedev import _recipe
from codedev._errors import nearest

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
    preset = _recipe.parse_yaml((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), f"preset {name}")
    merged: dict[str, Any] = _merged(preset, quality)
    return merged


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


def _merged(below: Any, above: Any) -> Any:
    if isinstance(above, dict):
        under = below if isinstance(below, dict) else {}
        return {key: _merged(under.get(key), above[key] if key in above else under[key]) for key in {**under, **above}}
    return tuple(_merged(None, value) for value in above) if isinstance(above, list) else above
