"""Each rule at its bound: the value on it stays, the next one goes, with its reason and evidence; kinds and languages it does not touch."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from codedev.corpus import quality
from codedev.corpus.document import DOCUMENT, KINDS, PROSE_KINDS
from codedev.corpus.normalise import normalise
from codedev.corpus.recipe import Code, Gopher
from codedev.corpus.stage import Filter, Rule, filter_stage, rule_filter, verdict


def scored(texts: list[str], kind: str = "web", lang: str | None = "en") -> pa.RecordBatch:
    columns: dict[str, Any] = {"id": [str(n) for n in range(len(texts))], "kind": [kind] * len(texts), "lang": [lang] * len(texts)}
    plain = {name: pa.array(values, pa.string()) for name, values in columns.items()} | {"text": pa.array(texts, pa.large_string())}
    arrays = [plain[f.name].cast(f.type) if f.name in plain else pa.nulls(len(texts), f.type) for f in DOCUMENT]
    return quality.score_stage(pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT))[0]


def reasons(judge: Filter, *texts: str, kind: str = "web", lang: str | None = "en") -> list[str | None]:
    return verdict(judge, scored(list(texts), kind, lang)).field("reason").to_pylist()


OFF: dict[str, Any] = dict.fromkeys(
    [
        "min_words", "max_words", "min_mean_word_length", "max_mean_word_length", "max_symbol_ratio", "max_bullet_lines",
        "max_ellipsis_lines", "min_alpha_words", "min_stop_words",
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("bound", "stays", "goes", "reason"),
    [
        ({"min_words": 5}, "a a a a a", "a a a a", "too_few_words"),
        ({"max_words": 5}, "a a a a a", "a a a a a a", "too_many_words"),
        ({"min_mean_word_length": 3.0}, "aa aaaa", "aa aaa", "short_words"),
        ({"max_mean_word_length": 3.0}, "aa aaaa", "aaa aaaa", "long_words"),
        ({"max_symbol_ratio": 0.1}, "# a a a a a a a a a", "#a a a a a a a a a", "symbols"),
        ({"max_symbol_ratio": 0.1}, "a... a a a a a a a a a", "a... a… a a a a a a a a a a a a a a a a a", "symbols"),
        ({"max_bullet_lines": 0.5}, "- a\nb", "- a\n* b\nc", "bullets"),
        ({"max_ellipsis_lines": 0.5}, "a...\nb", "a...\nb…\nc", "ellipses"),
        ({"min_alpha_words": 0.8}, "a a a a 1", "a a a 1", "few_alpha_words"),
        ({"min_stop_words": 2}, "The cat, OF", "the the the", "few_stop_words"),
    ],
)
def test_gopher_rules_at_their_bounds(bound: dict[str, Any], stays: str, goes: str, reason: str) -> None:
    judge = quality.gopher_filter(Gopher(**{**OFF, **bound}))
    assert reasons(judge, stays, goes, stays) == [None, reason, None]
    # off is off, and other kinds and languages are not judged
    assert reasons(quality.gopher_filter(Gopher(**OFF)), stays, goes) == [None, None]
    for kind in KINDS:
        assert reasons(judge, goes, kind=kind) == [reason if kind in PROSE_KINDS else None]
    assert reasons(judge, goes, lang="de") == reasons(judge, goes, lang=None) == [None]
    assert reasons(quality.gopher_filter(Gopher(**{**OFF, **bound}, languages=("de",))), goes, lang="de") == [reason]
    [evidence] = verdict(judge, scored([goes])).field("evidence").to_pylist()
    found = json.loads(evidence)
    [column] = set(found) - {"bound"}
    assert column.startswith("q.")
    assert found["bound"] == next(iter(bound.values()))
    assert found[column] == pytest.approx(scored([goes]).column(column)[0].as_py())


def test_the_first_broken_rule_speaks() -> None:
    judge = quality.gopher_filter(Gopher())
    assert reasons(judge, "# # #", "") == ["too_few_words"] * 2
    prose = "The rain had stopped and the people of the village went out to see what had become of their gardens that night. " * 4
    assert reasons(judge, prose) == [None]


@pytest.mark.parametrize(
    ("bound", "stays", "goes", "reason"),
    [
        ({"max_line": 10}, "x" * 10 + "\n", "x" * 11, "long_line"),
        ({"max_line": 10}, "é" * 10, "y\n" + "𝒳" * 11 + "\ny", "long_line"),
        ({"max_mean_line": 5.0}, "xxxx\nxxxx\n", "xxxxx\nxxxxx\n", "long_lines"),
        ({"min_alnum": 0.25}, "a+++", "a++++", "few_letters"),
    ],
)
def test_code_rules_at_their_bounds(bound: dict[str, Any], stays: str, goes: str, reason: str) -> None:
    judge = quality.code_filter(Code(**{"max_line": None, "max_mean_line": None, "min_alnum": None, **bound}))
    assert reasons(judge, stays, goes, kind="code") == [None, reason]
    for kind in set(KINDS) - {"code"}:
        assert reasons(judge, goes, kind=kind) == [None]


def test_a_document_without_a_visible_character_is_empty() -> None:
    texts = ["", " \n\t", "\u2003\u3000", "\x0c", ".", "\u200b"]
    for kind in KINDS:
        assert reasons(quality.content_filter(), *texts, kind=kind) == ["empty"] * 4 + [None, None]


def test_scores_are_null_where_they_do_not_apply() -> None:
    for kind in KINDS:
        batch = scored(["a b\nc"], kind)
        for name in quality.SCORES.names:
            applies = {"q.gopher": kind in PROSE_KINDS, "q.code": kind == "code"}.get(name.rpartition(".")[0], True)
            assert batch.column(name).is_valid()[0].as_py() == applies, (kind, name)


def test_scores_of_degenerate_texts_are_numbers() -> None:
    for kind in ("web", "code"):
        batch = scored(["", "\n", "\n\n\n", " ", "#", "…", "\0"], kind)
        for name in quality.SCORES.names:
            values = batch.column(name).drop_null().to_numpy()
            assert np.isfinite(values).all(), name


def test_rules_on_nulls_and_equal_bounds() -> None:
    batch = pa.record_batch({"x": pa.array([None, 1.0, 2.0, 3.0], pa.float32())})
    assert verdict(rule_filter([Rule("x", 2, 2, "low", "high")]), batch).field("reason").to_pylist() == [None, "low", None, "high"]
    assert verdict(rule_filter([]), batch).field("reason").to_pylist() == [None] * 4
    # a bound that float32 cannot hold is met by the value that was stored with the same loss
    batch = pa.record_batch({"x": pa.array([0.1, 0.3], pa.float32())})
    assert verdict(rule_filter([Rule("x", None, 0.1, "", "high")]), batch).field("reason").to_pylist() == [None, "high"]


def test_the_adapter_balances() -> None:
    stage = filter_stage(quality.gopher_filter(Gopher()))
    kept, counts = stage(scored(["a", "b", "the of " * 30]))
    assert counts["rows_in"] == 3 == counts["rows_out"] + sum(value for name, value in counts.items() if name.startswith("drop."))
    assert kept.num_rows == counts["rows_out"]
    kept, counts = stage(scored([]))
    assert (kept.num_rows, counts["rows_in"], counts["rows_out"]) == (0, 0, 0)


def test_scores_come_after_normalisation_unharmed() -> None:
    batch, _ = normalise(scored(["a\r\nb"]).select(DOCUMENT.names))
    assert quality.score_stage(batch)[0].column("q.lines").to_pylist() == [2]
