"""The score below which a language is not believed, language by language: data/language_thresholds.tsv.

Each is the least score above which nine of ten held-out lines that the default identifier gives to the language are in it. Languages
without enough held-out text have OTHERWISE. Scores of single sentences are lower than those of documents: the thresholds err on the safe
side.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from codedev._run import file_hash
from codedev.corpus.language.identify import Identifier
from codedev.corpus.language.tags import canonical

TABLE = Path(__file__).parent.parent / "data" / "language_thresholds.tsv"
OTHERWISE = 0.5
PRECISION, LEAST_LINES = 0.9, 3
LOWEST, HIGHEST = 0.3, 0.9


@functools.cache
def thresholds() -> dict[str, float]:
    """Tag: least score."""
    rows = (line.split("\t") for line in TABLE.read_text().splitlines() if line and not line.startswith("#"))
    return {tag: float(score) for tag, score in rows}


@functools.cache
def thresholds_hash() -> str:
    return file_hash(TABLE)


def of_tags(tags: pa.Array) -> np.ndarray:
    """float32[rows]: the threshold of each tag's language; a tag with subtags has its language's. One lookup a distinct tag."""
    table = thresholds()
    coded = tags.dictionary_encode()
    bounds = [table.get(tag) or table.get(canonical(tag).split("-")[0]) or OTHERWISE for tag in coded.dictionary.to_pylist()]
    numbers = coded.indices.fill_null(len(bounds)).to_numpy(zero_copy_only=False)
    least: np.ndarray = np.array([*bounds, OTHERWISE], np.float32)[numbers]
    return least


def calibrate(identifier: Identifier, held_out: Iterable[tuple[str, list[str]]]) -> dict[str, float]:
    """The table, from (tag, lines) that no model was trained on. A language weighs what it has of lines."""
    said: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for truth, lines in held_out:
        if not lines:
            continue
        tags, scores = identifier.identify(pa.array(lines, pa.large_string()))
        for tag, score in zip(tags.to_pylist(), scores.to_pylist(), strict=True):
            if tag:
                said[tag].append((score, tag == truth.split("-")[0]))
    table = {}
    for tag, found in sorted(said.items()):
        found.sort(reverse=True)
        precision = np.cumsum([right for _, right in found]) / np.arange(1, len(found) + 1)
        if sum(right for _, right in found) >= LEAST_LINES:
            enough = np.flatnonzero(precision >= PRECISION)
            least = LOWEST if precision[-1] >= PRECISION else found[enough[-1]][0] if len(enough) else HIGHEST
            table[tag] = round(float(np.clip(least, LOWEST, HIGHEST)), 2)
    return table
