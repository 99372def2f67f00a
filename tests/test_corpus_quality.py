"""Each rule at its bound: the value on it stays, the next one goes, with its reason and evidence; kinds and languages it does not touch."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from codedev import _recipe
from codedev._errors import RecipeError
from codedev.corpus import presets, quality
from codedev.corpus.document import DOCUMENT, KINDS, PROSE_KINDS
from codedev.corpus.normalise import normalise
from codedev.corpus.recipe import C4, FAMILIES, Code, FineWeb, Gopher, Quality
from codedev.corpus.stage import Filter, Rule, filter_stage, rule_filter, verdict


def plain(texts: list[str], kind: str = "web", lang: str | None = "en") -> pa.RecordBatch:
    columns: dict[str, Any] = {"id": [str(n) for n in range(len(texts))], "kind": [kind] * len(texts), "lang": [lang] * len(texts)}
    given = {name: pa.array(values, pa.string()) for name, values in columns.items()} | {"text": pa.array(texts, pa.large_string())}
    arrays = [given[f.name].cast(f.type) if f.name in given else pa.nulls(len(texts), f.type) for f in DOCUMENT]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT)


def scored(texts: list[str], kind: str = "web", lang: str | None = "en") -> pa.RecordBatch:
    return quality.score_stage(plain(texts, kind, lang))[0]


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
        ({"max_bullet_lines": 0.5}, "- a\nb", "- a\n • b\nc", "bullets"),
        ({"max_ellipsis_lines": 0.5}, "a...\nb", "a...\nb…\nc", "ellipses"),
        ({"min_alpha_words": 0.8}, "a a a a 1", "a a a 1", "few_alpha_words"),
        ({"min_stop_words": 2}, "the cat of it", "the the The, OF", "few_stop_words"),
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
            if name == "q.code.comments" or name.startswith("q.code.visible"):
                continue  # of a language whose comments are known, of HTML: see below
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


# -- every family and preset


PROSE = (
    "The rain had stopped, and the people of the village went out to see what had become of their gardens that night. "
    "Nobody had expected so much water. Have the walls held? They have! It was late, and the baker was still up."
)
BOUNDS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("repetition", {"max_dup_lines": 0.5}, "a\nb\na\nb", "a\nb\na\nb\na", "dup_lines"),
    ("repetition", {"max_dup_paragraphs": 0.5}, "a\n\nb\n\na\n\nb", "a\n\nb\n\na\n\nb\n\nb", "dup_paragraphs"),
    ("repetition", {"max_dup_line_chars": 0.4}, "ab\nab\n", "abcdefgh\nabcdefgh\n", "dup_line_chars"),
    ("repetition", {"max_dup_paragraph_chars": 0.4}, "ab\n\nab", "abcdefgh\n\nabcdefgh", "dup_paragraph_chars"),
    ("repetition", {"max_top_2": 0.5}, "a b c d a b e f", "a b a b a b", "top_2"),
    ("repetition", {"max_dup_5": 0.2}, "a b c d e f g h i j", "a b c d e a b c d e", "dup_5"),
    ("c4", {"min_sentences": 2}, "One two three. Four five.", "One two three four.", "too_few_sentences"),
    ("c4", {"lorem_ipsum": True}, "the lorem of ipsum.", "the Lorem Ipsum of it.", "lorem_ipsum"),
    ("c4", {"curly_bracket": True}, "no such bracket.", "there is { one.", "curly_bracket"),
    ("fineweb", {"min_terminal_lines": 0.5}, "a.\nb", "a.\nb\nc", "few_terminal_lines"),
    ("fineweb", {"max_short_lines": 0.5}, "a" * 31 + "\nb", "a" * 31 + "\nb\nc", "short_lines"),
    ("fineweb", {"max_dup_line_chars": 0.2}, "abcd\ne\ne", "ab\ne\ne", "dup_line_chars"),
    ("fineweb", {"max_newlines_per_word": 0.5}, "a b\nc d\n", "a b\nc\n", "newlines"),
    ("refinedweb", {"max_flagged_words": 0.1}, "A line of nine words that says a thing.\nHome", "A line.\nHome", "flagged_words"),
    ("maths", {"min_share": 0.1}, "so $x^2$", "so it is", "little_maths"),
    ("compression", {"min_ratio": 0.2}, PROSE, "abc " * 500, "compressible"),
    ("compression", {"max_ratio": 0.99}, PROSE * 3, "a7", "incompressible"),
]


def recipe_of(family: str, bound: dict[str, Any]) -> Quality:
    fields = type(getattr(Quality(**{family: {}}), family)).model_fields
    off = {
        name: False if field.annotation is bool else None for name, field in fields.items() if name[:3] in ("min", "max") or family == "c4"
    }
    everywhere = {"languages": None} if "languages" in fields else {}
    return Quality(**{family: {**off, **everywhere, **bound}})


def judged(recipe: Quality, batch: pa.RecordBatch) -> list[str | None]:
    """The first reason of any filter."""
    said = [verdict(judge, quality.scoring(recipe)(batch)[0]).field("reason").to_pylist() for _, judge in quality.filters(recipe)]
    return [next(filter(None, row), None) for row in zip(*said, strict=True)]


@pytest.mark.parametrize(("family", "bound", "stays", "goes", "reason"), BOUNDS)
def test_every_family_at_its_bounds(family: str, bound: dict[str, Any], stays: str, goes: str, reason: str) -> None:
    recipe = recipe_of(family, bound)
    assert judged(recipe, plain([stays, goes, stays])) == [None, reason, None]
    assert judged(recipe_of(family, {}), plain([goes])) == [None]
    assert judged(recipe, plain([goes], kind="code")) == [None]
    scored_batch, counts = quality.scoring(recipe)(plain([goes]))
    assert counts["rows_in"] == counts["rows_out"] == 1
    [evidence] = verdict(quality.filters(recipe)[0][1], scored_batch).field("evidence").to_pylist()
    assert any(name.startswith(f"q.{family}.") for name in json.loads(evidence))


@pytest.mark.parametrize(
    ("bound", "lang", "stays", "goes", "reason"),
    [
        ({"min_alpha": 0.5}, None, "ab1", "a12", "few_letters"),
        ({"min_comments": 0.2}, "Python", "# abc\nx = 1", "x = 12345", "few_comments"),
        ({"max_comments": 0.5}, "C", "// abc\nint x;", "// abcdef\nx", "many_comments"),
        ({"max_encoded": 0.5}, None, "aB3" * 30 + " " * 90, "aB3" * 30, "encoded"),
        ({"max_encoded_run": 90}, None, "aB3" * 30, "aB3" * 31, "encoded_run"),
    ],
)
def test_more_rules_for_code(bound: dict[str, Any], lang: str | None, stays: str, goes: str, reason: str) -> None:
    recipe = recipe_of("code", bound)
    assert judged(recipe, plain([stays, goes], "code", lang)) == [None, reason]
    assert judged(recipe, plain([goes], "web", lang)) == [None]
    if "comments" in reason:  # a language whose comments are not known is not judged
        assert judged(recipe, plain([goes], "code", "Brainfuck")) == judged(recipe, plain([goes], "code", None)) == [None]


def test_all_columns_are_those_that_were_announced() -> None:
    everything = Quality(**{family: {} for family in FAMILIES})
    for recipe in (Quality(), everything, *(Quality(**{family: {}}) for family in FAMILIES)):
        for texts in ([], ["", "\n", " ", "\0", "…", PROSE]):
            batch, _ = quality.scoring(recipe)(plain(texts))
            assert batch.schema == pa.schema([*DOCUMENT, *quality.scores(recipe)], metadata=DOCUMENT.metadata)
            for field in quality.scores(recipe):
                assert np.isfinite(batch.column(field.name).drop_null().to_numpy()).all(), field.name
    together, _ = quality.scoring(everything)(plain([PROSE, "a b\nc"]))
    for family in FAMILIES:  # a family's columns do not depend on the others
        alone, _ = quality.scoring(Quality(**{family: {}}))(plain([PROSE, "a b\nc"]))
        for field in quality.scores(Quality(**{family: {}})):
            assert alone.column(field.name).equals(together.column(field.name)), field.name


def test_base_columns_are_the_same_whoever_counts_them() -> None:
    texts = ["", "a b\n\nc", PROSE, "x\u2028y\x85z 1", "\n\n"]
    recipes = (Quality(), Quality(gopher={}), Quality(preset="fineweb-2", words="whitespace"))
    counted = [quality.scoring(recipe)(plain(texts))[0] for recipe in recipes]
    for name in ("q.chars", "q.words", "q.lines"):
        assert counted[0].column(name).equals(counted[1].column(name))
        assert counted[0].column(name).equals(counted[2].column(name))


def test_c4_rewrites_what_it_keeps() -> None:
    texts = ["One two three. [1]\nmenu\nOne more line here.[2]", "menu\nmore", PROSE]
    recipe = Quality(c4={"rewrite": True, "min_sentences": 1}, fineweb={})
    batch, counts = quality.scoring(recipe)(plain(texts))
    assert batch.column("text").to_pylist() == ["One more line here.", "menu\nmore", PROSE]
    assert counts["note.rewritten"] == 1
    assert batch.column("q.chars").to_pylist() == [19, 9, len(PROSE)]  # of the text as it is now
    assert judged(recipe, plain(texts))[1] == "too_few_sentences"
    for kind, lang in (("code", "en"), ("web", "de")):
        assert quality.scoring(recipe)(plain(texts, kind, lang))[0].column("text").to_pylist() == texts
    assert quality.scoring(Quality(c4={}))(plain(texts))[0].column("text").to_pylist() == texts


def test_gopher_sees_what_c4_removes_and_fineweb_does_not() -> None:
    text = "# # # # # # # # #\n" + PROSE
    batch, _ = quality.scoring(Quality(preset="fineweb"))(plain([text]))
    assert batch.column("q.gopher.symbol_ratio")[0].as_py() > 0.1
    assert batch.column("text").to_pylist() == [text]  # nine words: without the rule of terminal punctuation the line stays
    batch, _ = quality.scoring(Quality(preset="fineweb", c4={"terminal_punctuation": True}))(plain([text]))
    assert batch.column("text").to_pylist() == [PROSE]
    assert batch.column("q.gopher.symbol_ratio")[0].as_py() > 0.1
    assert batch.column("q.fineweb.terminal_lines")[0].as_py() == 1


@pytest.mark.parametrize(
    ("words", "lang", "expected"), [("whitespace", "en", 4), ("spacy-like", "en", 6), ("spacy-like", "zh", 7), ("whitespace", "zh-TW", 7)]
)
def test_word_definitions(words: str, lang: str, expected: int) -> None:
    """Chinese has its own, whatever the recipe says."""
    recipe = Quality(words=words, gopher={"languages": None})
    batch, _ = quality.scoring(recipe)(plain(["well-known 今天天气 a b"], lang=lang))
    assert batch.column("q.words").to_pylist() == [expected]


def test_presets() -> None:
    assert presets.names() == ["c4", "dclm", "fineweb", "fineweb-2", "gopher", "openwebmath", "starcoder"]
    for name in presets.names():
        recipe = Quality(preset=name)
        assert quality.filters(recipe)
        assert Quality.model_validate(recipe.model_dump()) == recipe
    assert Quality(preset="gopher") == Quality(preset="gopher", gopher={}, repetition={})
    two = Quality(preset="fineweb-2", gopher=None, fineweb={"max_short_lines": 0.5})
    assert (two.gopher, two.c4) == (None, None)
    assert two.fineweb == FineWeb(max_short_lines=0.5, max_dup_line_chars=0.1)
    with pytest.raises(RecipeError, match="did you mean 'fineweb'"):
        _recipe.check({"preset": "finweb"}, Quality, "recipe.yaml")
    with pytest.raises(RecipeError, match="did you mean 'spacy-like'"):
        _recipe.check({"words": "spacy"}, Quality, "recipe.yaml")


def test_bounds_by_language() -> None:
    recipe = Quality(fineweb={"max_short_lines": 0.1}, by_language={"de": {"fineweb": {"max_short_lines": None}}, "fr": {}})
    texts = ["Kurze Zeile.\nNoch eine andere kurze Zeile."]
    assert judged(recipe, plain(texts, lang="en")) == judged(recipe, plain(texts, lang="fr")) == ["short_lines"]
    assert judged(recipe, plain(texts, lang=None)) == ["short_lines"]
    assert judged(recipe, plain(texts, lang="de")) == judged(recipe, plain(texts, lang="de-AT")) == [None]
    for wrong in (
        {"de": {"gopher": {}}},
        {"de": {"fineweb": {"languages": ("de",)}}},
        {"de": {"fineweb": {"max_lines": 1}}},
        {"de": {"x": {}}},
    ):
        with pytest.raises(RecipeError, match=r"by_language\.de"):
            _recipe.check({"fineweb": {}, "by_language": wrong}, Quality, "recipe.yaml")
    with pytest.raises(RecipeError):
        _recipe.check({"fineweb": {}, "by_language": {"de": {"fineweb": {"max_short_lines": "x"}}}}, Quality, "recipe.yaml")


def test_the_version_names_what_the_columns_depend_on_and_no_bound() -> None:
    base = Quality(gopher={}, c4={})
    assert quality.version(base) == quality.version(
        Quality(gopher={"min_words": 5, "languages": None}, c4={"min_sentences": 1}, by_language={"de": {"gopher": {"min_words": 1}}})
    )
    others = [
        Quality(gopher={}),
        Quality(gopher={}, c4={"policy": False}),
        Quality(gopher={}, c4={"rewrite": True}),
        base.model_copy(update={"words": "spacy-like"}),
    ]
    assert len({quality.version(recipe) for recipe in [base, *others]}) == 5


GOLDEN = json.loads((Path(__file__).parent / "golden" / "datatrove_quality.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("gopher", {"gopher": {}}),
        ("repetition", {"repetition": {}}),
        ("fineweb", {"fineweb": {}}),
        ("c4", {"c4": {}}),
        ("c4-no-punctuation", {"c4": {"terminal_punctuation": False}}),
    ],
)
def test_texts_that_datatrove_keeps_are_kept_and_no_others(name: str, keys: dict[str, Any]) -> None:
    """Its decisions on texts of this project with words by str.split, frozen by benchmarks/peers/datatrove_quality.py."""
    kept = [reason is None for reason in judged(Quality(**keys), plain(GOLDEN["texts"]))]
    assert kept == [not reason for reason in GOLDEN["reasons"][name]]
    assert len(set(GOLDEN["reasons"][name])) > 2


def test_spans_move_with_the_lines_that_c4_keeps() -> None:
    """Against the text itself: each span is where its bytes are in the rewritten text, in order; what was cut has none."""
    from codedev.corpus.quality.moved import moved_spans

    rng = random.Random(5)
    bits = [
        "Ein Satz mit Größe",
        "[12]",
        " und noch viel mehr.",
        "kurz",
        "[edit]",
        "\n",
        "  ",
        "\r\n",
        "\u2028",
        "日本語の文です。",
        "Cookie policy",
        "<MAIL{}>",
    ]
    texts = []
    for _ in range(400):
        made = "".join(rng.choices(bits, k=rng.randrange(1, 60)))
        for number in range(made.count("<MAIL{}>")):
            made = made.replace("{}", str(number), 1)
        texts.append(made)
    before = pa.array(texts, pa.large_string())
    column = pa.array(
        [[{"offset": len(text[: m.start()].encode()), "length": len(m[0])} for m in re.finditer("<MAIL[0-9]+>", text)] for text in texts]
    )
    batch = pa.record_batch({"text": before, "kind": pa.array(["web"] * 400), "lang": pa.array(["en"] * 400)})
    told, _ = quality.scoring(Quality(c4=C4(rewrite=True, terminal_punctuation=False, min_line_words=2)))(batch)
    after = told.column("text")
    moved = moved_spans(column, before, after)
    assert sum(map(len, moved.to_pylist())) > 300
    for old, new, spans in zip(texts, after.to_pylist(), moved.to_pylist(), strict=True):
        found = [(len(new[: m.start()].encode()), len(m[0])) for m in re.finditer("<MAIL[0-9]+>", new)]
        assert [(span["offset"], span["length"]) for span in spans] == found, (old, new)
