"""Toxicity: word lists against a search in plain Python, scripts without spaces, the stage, the filter, and real labelled sets."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev import _recipe
from codedev._errors import InputError, RecipeError
from codedev.corpus import toxicity
from codedev.corpus.buffers import text_buffers
from codedev.corpus.document import DOCUMENT
from codedev.corpus.learned.config import Toxicity
from codedev.corpus.learned.train import train
from codedev.corpus.stage import verdict
from codedev.kernels import wordlist

LDNOOBW = "pii/LDNOOBW__List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words"
SETS = {
    "surge": ("pii/surge-ai__toxicity/toxicity_en.csv", "text", "is_toxic", ["Toxic"], ["Not Toxic"]),
    "davidson": ("pii/t-davidson__hate-speech-and-offensive-language/data/labeled_data.csv", "tweet", "class", ["0", "1"], ["2"]),
}


def _count(phrases: list[str], texts: list[str]) -> list[tuple[int, int]]:
    hits, totals = wordlist.count(wordlist.listed(phrases), *text_buffers(pa.array(texts, pa.large_string())))
    return list(zip(hits.tolist(), totals.tolist(), strict=True))


def _plain(phrases: list[str], text: str) -> tuple[int, int]:
    """The longest phrase at each place, from left to right, over words of ASCII letters, single ideographs and marks."""
    cut = lambda part: re.findall(r"[a-z0-9]+|[^\sa-z0-9]", part)  # noqa: E731
    wanted, found = {tuple(cut(phrase)) for phrase in phrases}, cut(text)
    at = hits = 0
    while at < len(found):
        size = next((n for n in range(16, 0, -1) if tuple(found[at : at + n]) in wanted and at + n <= len(found)), 0)
        hits += size > 0
        at += size or 1
    return hits, sum(token.isalnum() for token in found)


WORDS = ["a", "ab", "b", "c", "cd", "漢", "字", "-", "'"]


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), max_size=6),
    st.lists(st.lists(st.sampled_from(WORDS), max_size=30), max_size=4),
)
def test_matches_are_those_of_plain_python(phrases: list[list[str]], texts: list[list[str]]) -> None:
    listed, joined = [" ".join(phrase) for phrase in phrases], [" ".join(text) for text in texts]
    assert _count(listed, joined) == [_plain(listed, text) for text in joined]


def test_whole_words_match_and_parts_of_them_do_not() -> None:
    assert _count(["bad", "very bad thing"], ["bad", "badly notbad bad-ish", "a very\nbad thing, bad.", "very bad", ""]) == [
        (1, 1), (1, 4), (2, 5), (1, 2), (0, 0),
    ]  # fmt: skip
    assert _count(["傻瓜", "ばか", "ไม่ดี"], ["他是傻瓜吗", "おばかさん", "เขาไม่ดีเลย", "傻 瓜"])[:3] != [(0, 0)] * 3
    assert [hits for hits, _ in _count(["傻瓜", "ばか", "ไม่ดี"], ["他是傻瓜吗", "おばかさん", "เขาไม่ดีเลย", "傻子"])] == [1, 1, 1, 0]
    assert _count([], ["a b"]) == [(0, 2)]
    with pytest.raises(ValueError, match="at most 16"):
        wordlist.listed(["x " * 17])


def test_large_lists_are_searched_in_linear_time() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=6)) for _ in range(20_000)]
    phrases = words[:5000] + [" ".join(rng.choices(words, k=3)) for _ in range(5000)]
    text = " ".join(words[5000:]) + " " + " ".join(phrases[:3000])
    assert _count(phrases, [text]) == [_plain(phrases, text)]
    hostile = ["a " * 300_000, "漢" * 200_000, "\0" * 600_000, "a" * 600_000, "\n" * 600_000]
    lists = wordlist.listed(["a a a a a a a a a a a a a a a b", *phrases])
    plain = min(_seconds(lists, (text * 3)[:600_000]) for _ in range(3))
    for case in hostile:
        assert min(_seconds(lists, case) for _ in range(3)) < 30 * plain + 0.05, repr(case[:2])


def _seconds(words: wordlist.WordList, text: str) -> float:
    data, offsets = text_buffers(pa.array([text], pa.large_string()))
    start = time.process_time()
    wordlist.count(words, data, offsets)
    return time.process_time() - start


def _batch(texts: list[str | None], langs: list[str | None], kind: str = "web") -> pa.RecordBatch:
    columns = {
        "kind": pa.array([kind] * len(texts)).dictionary_encode(),
        "text": pa.array(texts, pa.large_string()),
        "lang": pa.array(langs, pa.string()).dictionary_encode(),
    }
    fields = [field.with_nullable(True) for field in DOCUMENT]
    arrays = [columns[field.name].cast(field.type) if field.name in columns else pa.nulls(len(texts), field.type) for field in fields]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _config(**keys: Any) -> Toxicity:
    return _recipe.check(keys, Toxicity, "toxicity")


def test_stage_and_filter(tmp_path: Path) -> None:
    (tmp_path / "en").write_text("\ufeff# a comment\nDarn\nGosh Darn\n\n")
    (tmp_path / "de").write_text("Blödmann\nMißt")
    (tmp_path / "any").write_text("zut")
    config = _config(lists={"en": ["en"], "de": ["de"], "all": ["any"]}, max_words=200.0)
    stage, judge = toxicity.toxicity_stage(config, tmp_path), toxicity.toxicity_filter(config)
    texts = ["gosh DARN it all", "so ein BLÖDMANN", "darn darn", "zut alors zut", "zut", None, "..."]
    batch, counts = stage(_batch(texts, ["en", "de", "de", None, "en-US", "en", "en"]))
    assert counts["rows_in"] == counts["rows_out"] == 7
    assert batch.schema.names[len(DOCUMENT) :] == toxicity.columns(config).names == ["q.toxic.words"]
    found = batch.column("q.toxic.words").to_pylist()
    assert found == [250, pytest.approx(1000 / 3), 0, pytest.approx(2000 / 3), 0, None, None]
    said = verdict(judge, batch).to_pylist()
    assert [row["reason"] for row in said] == ["toxic_words", "toxic_words", None, "toxic_words", None, None, None]
    assert json.loads(said[0]["evidence"]) == {"q.toxic.words": 250.0, "bound": 200.0}
    assert stage(_batch(["darn"], ["en"], "code"))[0].column("q.toxic.words").to_pylist() == [None]
    before = toxicity.version(config, tmp_path)
    assert before == toxicity.version(config.model_copy(update={"max_words": 1.0}), tmp_path)
    (tmp_path / "en").write_text("darn")
    assert before != toxicity.version(config, tmp_path)


def test_what_is_no_list_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"d\xe4mlich\n")
    (tmp_path / "long").write_text("x " * 40)
    for name, message in (("none", "no such list"), ("latin", "not UTF-8"), ("long", "at most 16")):
        with pytest.raises(InputError, match=message):
            toxicity.toxicity_stage(_config(lists={"en": [name]}), tmp_path)
    with pytest.raises(RecipeError, match="no lists"):
        _config(max_words=1)
    with pytest.raises(RecipeError, match="no classifier"):
        _config(max_score=0.5)


def test_a_trained_classifier_scores_and_drops(tmp_path: Path) -> None:
    rng = random.Random(0)
    rude, kind = "stupid idiot moron hate awful".split(), "thanks lovely kind friend great".split()
    for name, own in (("rude", rude), ("kind", kind)):
        rows = [{"id": f"{name}{n}", "text": " ".join(rng.choices([*own, "you", "are", "a"], k=12))} for n in range(200)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sides = {
        side: [{"source": {"type": "tables", "paths": [f"{name}.jsonl"]}}] for side, name in (("positive", "rude"), ("negative", "kind"))
    }
    recipe = {"name": "toxic", "classifier": {**sides, "labels": ["toxic", "clean"], "bucket": 1000, "rate": 0.5}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert train(tmp_path / "recipe.yaml", tmp_path)["held_out"]["best"]["f1"] > 0.95
    config = _config(classifier={"model": "toxic.bin", "languages": ["en"]}, max_score=0.5)
    batch = toxicity.toxicity_stage(config, tmp_path)(_batch(["You Stupid IDIOT", "a lovely friend", "you stupid"], ["en", "en", "fr"]))[0]
    assert batch.schema.names[-1:] == toxicity.columns(config).names == ["q.toxic.score"]
    assert [row["reason"] for row in verdict(toxicity.toxicity_filter(config), batch).to_pylist()] == ["toxic_score", None, None]


def _recipe_of(data: Path, name: str, count: int = 3000) -> dict[str, Any]:
    path, text, key, toxic, clean = SETS[name]
    source = {"type": "tables", "paths": [str((data / path).resolve())], "text": text}
    sides = {
        side: [{"source": source, "where": {key: values}, "count": count}] for side, values in (("positive", toxic), ("negative", clean))
    }
    return {"name": name, "classifier": {**sides, "labels": ["toxic", "clean"], "held_out": 0.2, "bucket": 100_000, "rate": 0.3}}


@pytest.mark.realdata
def test_a_classifier_of_real_labels(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained on four fifths by the hash of the id, counted on the rest. Printed with -s."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(_recipe_of(data_dir, "davidson")))
    best = train(path, tmp_path)["held_out"]["best"]
    with capsys.disabled():
        print(f"\nt-davidson, held out: precision {best['precision']:.3f} recall {best['recall']:.3f} F1 {best['f1']:.3f}")
    assert best["f1"] > 0.85


@pytest.mark.realdata
def test_a_word_list_on_real_labels(data_dir: Path) -> None:
    words = toxicity.read_list(("en",), data_dir / LDNOOBW)
    frame = _labelled(data_dir)
    scores = toxicity.per_thousand(words, pa.array([text for text, _ in frame], pa.large_string()))
    truth, found = np.array([toxic for _, toxic in frame]), np.nan_to_num(scores) > 0
    assert (found & truth).sum() / found.sum() > 0.75  # precision
    assert (found & truth).sum() / truth.sum() > 0.25  # recall: most toxic text uses no listed word


def _labelled(data_dir: Path) -> list[tuple[str, bool]]:
    import pyarrow.csv

    path, text, key, toxic, _ = SETS["surge"]
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    rows = pyarrow.csv.read_csv(data_dir / path, parse_options=options).to_pylist()
    return [(row[text], row[key] in toxic) for row in rows]


@pytest.mark.realdata
def test_every_list_of_ldnoobw_is_read(data_dir: Path) -> None:
    for path in sorted((data_dir / LDNOOBW).iterdir()):
        if path.suffix == "" and path.name != "LICENSE":
            words = toxicity.read_list((path.name,), path.parent)
            lines = path.read_text().splitlines()
            hits = wordlist.count(words, *text_buffers(pa.array([line.lower() for line in lines], pa.large_string())))[0]
            assert (hits >= 1).all(), path.name
