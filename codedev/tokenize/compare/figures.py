"""Counts of documents -> the figures of a comparison: plain data, sums over groups of documents divided by one another.

A figure is null where there is nothing to divide by: the LaTeX commands of a corpus without any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from codedev.tokenize.compare.measure import COUNTS, FACTS, Measured
from codedev.tokenize.compare.sample import Sample
from codedev.tokenize.compare.spans import NOT_NATURAL
from codedev.tokenize.vocabulary import Vocabulary

UNKNOWN = "unknown"


class Metric(NamedTuple):
    key: str
    title: str
    unit: str  # number, share, count
    better: int  # 1: more is better, -1: less is, 0: neither
    above: str  # what is counted, over
    below: str  # of what


METRICS = (
    Metric("bytes_per_token", "bytes per token", "number", 1, "bytes", "tokens"),
    Metric("characters_per_token", "characters per token", "number", 1, "characters", "tokens"),
    Metric("tokens_per_document", "tokens per document", "number", -1, "tokens_of_whole", "documents"),
    Metric("fertility", "tokens per word (fertility)", "number", -1, "word_tokens", "words"),
    Metric("words_whole", "words that are one token", "share", 1, "lettered_whole", "lettered"),
    Metric("tokens_per_ideograph", "tokens per ideograph or kana", "number", -1, "single_tokens", "single"),
    Metric("commands_aligned", "LaTeX commands aligned", "share", 1, "commands_aligned", "commands"),
    Metric("commands_whole", "LaTeX commands that are one token", "share", 1, "commands_whole", "commands"),
    Metric("lexemes_aligned", "code lexemes aligned", "share", 1, "lexemes_aligned", "lexemes"),
    Metric("lexeme_ends", "ends of code lexemes at token ends", "share", 1, "lexeme_ends", "two_lexemes"),
    Metric("numbers_right", "numbers in threes from the right", "share", 1, "numbers_right", "numbers"),
    Metric("numbers_left", "numbers in threes from the left", "share", 0, "numbers_left", "numbers"),
    Metric("numbers_single", "numbers in single digits", "share", 0, "numbers_single", "numbers"),
    Metric("numbers_whole", "numbers not cut", "share", 0, "numbers_whole", "numbers"),
    Metric("one_byte_tokens", "tokens of one byte", "share", -1, "one_byte", "tokens"),
    Metric("partial_tokens", "tokens of parts of a character", "share", -1, "partial", "tokens"),
    Metric("lossless", "documents decoded to themselves", "share", 1, "lossless", "decoded"),
)
BY = ("kind", "source", "language", "programming_language")


def groups(sample: Sample) -> dict[str, dict[str, np.ndarray]]:
    """Group by group of BY: name -> bool[documents], the largest first in the order of `sizes`."""
    kinds = np.array(sample.kinds, object)
    natural = np.array([kind not in NOT_NATURAL for kind in sample.kinds], np.bool_)
    languages = np.array([language or UNKNOWN for language in sample.languages], object)
    return {
        "kind": _split(np.array([kind or UNKNOWN for kind in sample.kinds], object), np.ones(len(kinds), np.bool_)),
        "source": _split(np.array(sample.sources, object), np.ones(len(kinds), np.bool_)),
        "language": _split(languages, natural),
        "programming_language": _split(languages, kinds == "code"),
    }


def _split(names: np.ndarray, where: np.ndarray) -> dict[str, np.ndarray]:
    return {str(name): where & (names == name) for name in sorted(set(names[where]))}


def figures(sample: Sample, facts: np.ndarray, measured: Sequence[tuple[str, Vocabulary, Measured]]) -> dict[str, Any]:
    """{facts: {overall, kind, …: what the sample holds}, tokenizers: [{name, …, overall, kind, …: figures}]}, groups by falling bytes."""
    whole = np.ones(len(sample.ids), np.bool_)
    by: dict[str, dict[str, np.ndarray]] = {"overall": {"": whole}, **groups(sample)}
    for name, some in by.items():
        by[name] = dict(sorted(some.items(), key=lambda entry: (-int(facts[entry[1], FACTS.index("bytes")].sum()), entry[0])))
    held = {name: {group: _facts(facts[rows]) for group, rows in some.items()} for name, some in by.items()}
    scale = sample.bytes / np.maximum(facts[:, FACTS.index("bytes")], 1)  # of documents of which the beginning was encoded
    tokenizers = []
    for label, vocabulary, found in measured:
        of_whole = found.counts[:, COUNTS.index("tokens")] * scale
        told = {
            name: {group: _metrics(facts[rows], found.counts[rows], of_whole[rows]) for group, rows in some.items()}
            for name, some in by.items()
        }
        tokenizers.append(_vocabulary(label, vocabulary, found) | told | {"overall": told["overall"][""]})
    return {"facts": held | {"overall": held["overall"][""]}, "tokenizers": tokenizers}


def _facts(rows: np.ndarray) -> dict[str, int]:
    return {name: int(value) for name, value in zip(FACTS, rows.sum(axis=0), strict=True)}


def _metrics(facts: np.ndarray, counts: np.ndarray, of_whole: np.ndarray) -> dict[str, float | int | None]:
    totals: dict[str, float] = {**_facts(facts), **{name: int(value) for name, value in zip(COUNTS, counts.sum(axis=0), strict=True)}}
    totals["tokens_of_whole"], totals["two_lexemes"] = float(of_whole.sum()), 2 * totals["lexemes"]
    return {"tokens": totals["tokens"], **{metric.key: _ratio(totals[metric.above], totals[metric.below]) for metric in METRICS}}


def _ratio(above: float, below: float) -> float | None:
    return float(f"{above / below:.6g}") if below else None


def _vocabulary(label: str, vocabulary: Vocabulary, found: Measured) -> dict[str, Any]:
    return {
        "name": label,
        "hash": vocabulary.hash,
        "size": vocabulary.size,
        "used": found.used,
        "used_share": _ratio(found.used, vocabulary.size),
        "encoder": "kernels" if vocabulary.engine is not None else "library",
        "why_library": vocabulary.why_library,
        "speed": {
            "first_mb_s": float(f"{found.speed.first / 1e6:.4g}"),
            "warm_mb_s": float(f"{found.speed.warm / 1e6:.4g}"),
            "warm_bytes": found.speed.warm_bytes,
        },
    }
