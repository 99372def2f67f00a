"""Named presets of quality filters: files of recipe keys in data/presets, one each."""

from __future__ import annotations

from importlib import resources
from typing import Any

from codedev import _recipe
from codedev._errors import nearest

_FOLDER = resources.files("codedev.corpus") / "data/presets"


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


def _merged(below: Any, above: Any) -> Any:
    if isinstance(above, dict):
        under = below if isinstance(below, dict) else {}
        return {key: _merged(under.get(key), above[key] if key in above else under[key]) for key in {**under, **above}}
    return tuple(_merged(None, value) for value in above) if isinstance(above, list) else above
