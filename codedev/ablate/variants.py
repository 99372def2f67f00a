"""Variants of a corpus recipe: the recipe itself, `base`, and named changes of it.

A file of variants maps names to what is different, as the recipe writes it. Mappings are merged key by key, lists and values replaced, null
takes a key out:

    no-quality: {quality: null}
    english:    {language: {keep: [en]}}
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

from codedev import _recipe
from codedev._errors import RecipeError
from codedev.corpus import recipe as recipes
from codedev.corpus.recipe import CorpusRecipe

BASE = "base"
_NAME = re.compile(r"[\w.+-]{1,60}")


def variants(recipe: Path, changes: Path) -> dict[str, CorpusRecipe]:
    """The recipes by name, `base` first. Raises RecipeError, InputError, with the name of the variant."""
    whole = _recipe.read(recipe)
    found = {BASE: recipes.check(copy.deepcopy(whole), str(recipe))}
    for name, change in _recipe.read(changes).items():
        if name == BASE or not _NAME.fullmatch(name):
            raise RecipeError(f"{changes}: '{name}' is no name of a variant: letters, digits, dots and dashes, and not '{BASE}'")
        if not isinstance(change, dict) or not change:
            raise RecipeError(f"{changes}: {name}: a variant maps keys of the recipe to other values, such as {{quality: null}}")
        found[name] = recipes.check(merged(whole, change), f"{changes}: {name}")
    if len(found) == 1:
        raise RecipeError(f"{changes}: names no variant. Write one a line: no-quality: {{quality: null}}")
    return found


def merged(whole: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`whole` with `change` in it."""
    found = copy.deepcopy(whole)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = copy.deepcopy(value)
    return found
