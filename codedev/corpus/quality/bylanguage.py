"""Which rows of a batch have bounds, and stop words, of a language of their own: `by_language` of the recipe, the table of its preset."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from codedev.corpus import presets
from codedev.corpus.language.tags import MACRO
from codedev.corpus.recipe import Quality
from codedev.kernels.segment import STOP_WORDS

_MACRO_OF = {member: macro for macro, members in MACRO.items() for member in members}


def languages(quality: Quality, family: str) -> Mapping[str, object]:
    """Those with bounds of their own for the family, as the keys."""
    own = {language: keys for language, keys in quality.by_language.items() if family in keys}
    table = presets.table(quality.preset) if family in presets.TABLE_FAMILIES else {}
    return {**table, **own}


def groups(tags: pa.Array, own: Mapping[str, object]) -> tuple[list[str | None], np.ndarray]:
    """(languages that the batch holds of `own`, None for the others; int[rows] of the language's place in that list)."""
    coded = tags.dictionary_encode()
    owners = [*(_owner(tag, own) for tag in coded.dictionary.to_pylist()), None]
    of_row = coded.indices.fill_null(len(owners) - 1).to_numpy(zero_copy_only=False)
    used = dict.fromkeys(owners[place] for place in np.unique(of_row))
    found = [*used] or [None]
    places = {language: number for number, language in enumerate(found)}
    return found, np.array([places.get(owner, 0) for owner in owners])[of_row]


def _owner(tag: str, own: Mapping[str, object]) -> str | None:
    """The most exact of `own` that covers the tag: itself, the language without its subtags, the macrolanguage."""
    base = tag.partition("-")[0]
    for name in (tag, base, _MACRO_OF.get(tag), _MACRO_OF.get(base)):
        if name is not None and name in own:
            return name
    return None


def stop_lists(tags: pa.Array, quality: Quality) -> tuple[list[tuple[str, ...]], np.ndarray | None]:
    """(lists of stop words, int[rows] of each row's; None where there is but one list)."""
    if quality.gopher is None:
        return [STOP_WORDS], None
    own = languages(quality, "gopher")
    if not own:
        return [quality.gopher.stop_words or STOP_WORDS], None
    found, rows = groups(tags, own)
    gophers = [(quality.of_language(language) if language is not None else quality).gopher for language in found]
    return [(gopher.stop_words if gopher else None) or STOP_WORDS for gopher in gophers], rows


def stop_words_of(quality: Quality) -> str:
    """What the column q.gopher.stop_words depends on beside the text; empty for the English words alone."""
    if quality.gopher is None:
        return ""
    of_languages = {language: keys["gopher"].get("stop_words") for language, keys in quality.by_language.items() if keys.get("gopher")}
    given = {language: list(words) for language, words in sorted(of_languages.items()) if words}
    if quality.gopher.stop_words or given or presets.table(quality.preset):
        return f"{list(quality.gopher.stop_words or ())}{given}{_table_hash(quality.preset)}"
    return ""


@functools.cache
def _table_hash(preset: str | None) -> str:
    return presets.table_hash(preset)
