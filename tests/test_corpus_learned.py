"""Learned quality: training from documents that a recipe names, the model against fastText's own predict, stages, filters and bounds."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev import _recipe
from codedev._errors import InputError, RecipeError
from codedev.corpus.buffers import text_buffers
from codedev.corpus.document import DOCUMENT
from codedev.corpus.learned import classifier, perplexity
from codedev.corpus.learned.config import ClassifierTraining, Learned, Perplexity, PerplexityTraining, TrainRecipe
from codedev.corpus.learned.documents import gather, is_held_out, passages
from codedev.corpus.learned.figures import figures
from codedev.corpus.learned.train import shown, train, warnings_of
from codedev.corpus.stage import verdict
from codedev.kernels import fasttext_binary, fasttext_documents
from codedev.kernels.fasttext import probabilities
from codedev.kernels.fasttext_file import FastText, parse

GOOD = "harbour ferry crossing sea calm captain voyage island lighthouse Tide anchor sail, chart. wind".split()
POOR = "click buy cheap offer subscribe login free shipping deal! cart checkout Coupon now best".split()
BOTH = "the a of and to in it is that was for on are with as".split()


def _text(rng: random.Random, own: list[str], words: int = 40) -> str:
    """Words of both kinds, a quarter of them telling; in lines."""
    drawn = [rng.choice(own) if rng.random() < 0.25 else rng.choice(BOTH) for _ in range(words)]
    return "\n".join(" ".join(drawn[n : n + 10]) for n in range(0, words, 10))


def _write(path: Path, own: list[str], number: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    rows = [{"id": f"{path.stem}-{n}", "body": _text(rng, own), "group": str(n % 2)} for n in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _source(path: str) -> dict[str, Any]:
    return {"type": "tables", "paths": [path], "text": "body"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learned")
    _write(folder / "good.jsonl", GOOD, 400, 1)
    _write(folder / "poor.jsonl", POOR, 600, 2)
    path = folder / "recipe.yaml"
    sides = {"positive": [{"source": _source("good.jsonl")}], "negative": [{"source": _source("poor.jsonl"), "count": 500}]}
    path.write_text(yaml.safe_dump({"name": "ships", "classifier": {**sides, "bucket": 2000, "rate": 0.5, "held_out": 0.2}}))
    return path


@pytest.fixture(scope="module")
def model(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("model")
    return out / "ships.bin", train(recipe, out)


def _batch(texts: list[str | None], kind: str = "web", lang: str | None = "en") -> pa.RecordBatch:
    rows = len(texts)
    columns = {
        "id": pa.array([f"d{n}" for n in range(rows)]),
        "source": pa.array(["s"] * rows).dictionary_encode(),
        "kind": pa.array([kind] * rows).dictionary_encode(),
        "text": pa.array(texts, pa.large_string()),
        "lang": pa.array([lang] * rows, pa.string()).dictionary_encode(),
    }
    arrays = [columns[field.name].cast(field.type) if field.name in columns else pa.nulls(rows, field.type) for field in DOCUMENT]
    return pa.RecordBatch.from_arrays(
        arrays, schema=pa.schema([field.with_nullable(True) for field in DOCUMENT], metadata=DOCUMENT.metadata)
    )


def _peer(path: Path, texts: list[str], label: str) -> list[float]:
    """fastText's own probability of the label."""
    library = fasttext.load_model(str(path)).f
    found = [library.predict(text.lower().replace("\n", " ") + "\n", 2, 0.0, "strict") for text in texts]
    return [{name: value for value, name in each}.get(f"__label__{label}", 0.0) for each in found]


def test_scores_are_those_of_the_fasttext_package(model: tuple[Path, dict[str, Any]]) -> None:
    rng = random.Random(7)
    texts = [_text(rng, rng.choice([GOOD, POOR]), rng.randrange(1, 80)) for _ in range(300)]
    texts += [
        "harbour",
        "unknown words alone",
        "tab\tand  blanks",
        "漢字 ß É",
        "a __label__hq b",
        "a </s> click buy",
        "x" * 5000,
    ]
    ours = classifier.scorer(Learned(model=str(model[0]))).score(pa.array(texts, pa.large_string()))
    assert np.abs(ours - np.minimum(_peer(model[0], texts, "hq"), 1)).max() < 1e-5
    empty = pa.array(["", "\n \t"], pa.large_string())  # fastText scores the line's end; here no word says nothing
    assert classifier.scorer(Learned(model=str(model[0]))).score(empty).tolist() == [0, 0]
    assert 0 < ours[:300].min() < 0.2 and ours[:300].max() > 0.8  # noqa: PT018


def test_held_out_figures_are_counted_on_documents_that_were_not_learnt(recipe: Path, model: tuple[Path, dict[str, Any]]) -> None:
    path, facts = model
    rows = {name: [json.loads(line) for line in (recipe.parent / f"{name}.jsonl").read_text().splitlines()] for name in ("good", "poor")}
    config = _recipe.load(recipe, TrainRecipe).classifier
    assert config
    seen: set[bytes] = set()
    good, poor = (gather(side, recipe.parent, config.seed, config.held_out, seen) for side in (config.positive, config.negative))
    by_text = {row["body"]: row["id"] for part in rows.values() for row in part}
    for texts in (good, poor):
        assert all(is_held_out("examples:" + by_text[text], 0.2) for text in texts.held_out)
        assert not any(is_held_out("examples:" + by_text[text], 0.2) for text in texts.learnt)
    assert len(good.learnt) + len(good.held_out) == 400 == facts["data"]["positive"]["documents"]
    assert len(poor.learnt) + len(poor.held_out) == 500 == facts["data"]["negative"]["documents"]
    assert 50 <= len(good.held_out) <= 110
    scores = np.array(_peer(path, good.held_out + poor.held_out, "hq"))
    truth = np.arange(len(scores)) < len(good.held_out)
    for row in facts["held_out"]["by_threshold"]:
        kept = scores >= row["threshold"]
        right = int((kept & truth).sum())
        assert row["recall"] == pytest.approx(right / truth.sum(), abs=0.01)
        assert row["kept"] == pytest.approx(kept.mean(), abs=0.01)
        assert row["precision"] is None or row["precision"] == pytest.approx(right / kept.sum(), abs=0.01)
    assert facts["held_out"]["best"]["f1"] > 0.95
    assert facts["held_out"]["auc"] > 0.99
    assert "AUC" in shown(facts)


def test_figures_are_those_of_counting() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.random(200).round(2), rng.random(200) < 0.3
    found = figures(scores, truth)
    pairs = [(a > b) + (a == b) / 2 for a in scores[truth] for b in scores[~truth]]
    assert found["auc"] == pytest.approx(np.mean(pairs))
    for row in found["by_share"]:
        assert row["negatives"] == np.mean(scores[~truth] >= row["threshold"])
        assert abs(row["negatives"] - row["share"]) < 0.05
    half = next(row for row in found["by_threshold"] if row["threshold"] == 0.5)
    tp, fp, fn = (int(((scores >= 0.5) & truth).sum()), int(((scores >= 0.5) & ~truth).sum()), int(((scores < 0.5) & truth).sum()))
    assert (half["precision"], half["recall"], half["f1"]) == pytest.approx((tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn)))


def test_same_documents_same_bytes_in_any_order(recipe: Path, model: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    for name in ("good", "poor"):
        lines = (recipe.parent / f"{name}.jsonl").read_text().splitlines(keepends=True)
        random.Random(5).shuffle(lines)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    (tmp_path / "recipe.yaml").write_text(recipe.read_text())
    again = train(tmp_path / "recipe.yaml", tmp_path / "out")
    assert again == model[1]
    assert (tmp_path / "out/ships.bin").read_bytes() == model[0].read_bytes()
    assert (tmp_path / "out/ships.json").read_bytes() == model[0].with_suffix(".json").read_bytes()
    other = train(tmp_path / "recipe.yaml", tmp_path / "other", ("classifier.seed=1",))
    assert other["model"]["xxh3_128"] != again["model"]["xxh3_128"]


def test_the_models_json_names_recipe_data_and_figures(model: tuple[Path, dict[str, Any]]) -> None:
    facts = json.loads(model[0].with_suffix(".json").read_text())
    assert facts["recipe"]["classifier"]["word_ngrams"] == 2
    assert facts["recipe"]["classifier"]["negative"][0]["count"] == 500
    assert len(facts["data"]["positive"]["xxh3_128"]) == 32
    assert facts["model"]["bytes"] == model[0].stat().st_size


def test_stage_and_filter(model: tuple[Path, dict[str, Any]]) -> None:
    config = Learned(model=str(model[0]), languages=("en",), min_score=0.5)
    stage, judge = classifier.learned_stage("ships", config), classifier.learned_filter({"ships": config})
    rng = random.Random(3)
    good, poor = _text(rng, GOOD).upper(), _text(rng, POOR)
    batch, counts = stage(_batch([good, poor, None, ""]))
    assert counts["rows_in"] == counts["rows_out"] == 4
    assert batch.schema.names == [*DOCUMENT.names, *classifier.columns("ships").names]
    scores = batch.column("q.learned.ships")
    assert scores.type == pa.float32()
    assert scores[0].as_py() > 0.5 > scores[1].as_py()
    assert scores.to_pylist()[2:] == [None, 0]
    assert scores[0].as_py() == stage(_batch([good.lower()]))[0].column("q.learned.ships")[0].as_py()
    said = verdict(judge, batch).to_pylist()
    assert [row["reason"] for row in said] == [None, "low_ships", None, "low_ships"]
    assert json.loads(said[1]["evidence"])["bound"] == 0.5
    for other in (_batch([poor], lang="de"), _batch([poor], lang=None), _batch([poor], kind="code")):
        assert stage(other)[0].column("q.learned.ships").to_pylist() == [None]
    sliced = stage(_batch(["x", good, poor]).slice(1, 1))[0]
    assert sliced.column("q.learned.ships").to_pylist() == scores.to_pylist()[:1]
    assert stage(_batch([]))[0].num_rows == 0


def test_published_models_name_their_labels_and_take_text_as_it_is(model: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """A model without a .json of ours, of several labels, whose score is a weighted sum: FineWeb-Edu's layout."""
    texts = ["low words here", "Middle words there", "high words everywhere"] * 20
    data, offsets = text_buffers(pa.array(texts, pa.large_string()))
    made = fasttext_documents.train(fasttext_documents.read(data, offsets), np.arange(60, dtype=np.int32) % 3, 3, 16, 20, 0.5, 1, 10)
    path = tmp_path / "edu.bin"
    path.write_bytes(fasttext_documents.binary(made, ["0", "1", "2"], [20, 20, 20], 1))
    scores = classifier.scorer(Learned(model="edu.bin", labels={"__label__1": 1.0, "2": 2.0}), tmp_path).score(
        pa.array(texts[:3], pa.large_string())
    )
    assert np.abs(scores - [0, 1, 2]).max() < 0.2
    library = fasttext.load_model(str(path)).f
    for text, score in zip(texts, scores.tolist(), strict=False):
        found = {name: value for value, name in library.predict(text + "\n", 3, 0.0, "strict")}
        assert score == pytest.approx(found["__label__1"] + 2 * found["__label__2"], abs=1e-4)
    upper = classifier.scorer(Learned(model="edu.bin", labels={"1": 1.0}), tmp_path)
    assert upper.score(pa.array(["Middle"], pa.large_string()))[0] > 0.6 > upper.score(pa.array(["middle"], pa.large_string()))[0]
    with pytest.raises(InputError, match="has no label 'hq'"):
        classifier.scorer(Learned(model="edu.bin"), tmp_path)
    with pytest.raises(InputError, match="no such model"):
        classifier.scorer(Learned(model="none.bin"), tmp_path)


def test_a_prefix_is_learnt_and_scored_alike(tmp_path: Path) -> None:
    config = ClassifierTraining.model_construct(labels=("hq", "cc"), prefix_bytes=10, bucket=100, lower=True)
    good, poor = ["ÄÖÜ äö " + "x " * n for n in range(50)], ["zzz yyy w " + "q " * n for n in range(50)]
    path = tmp_path / "m.bin"
    path.write_bytes(classifier.fit(good, poor, config))
    cut = classifier.fit([text.lower().encode()[:10].decode("utf-8", "ignore") for text in good], [text[:10] for text in poor], config)
    assert path.read_bytes() == cut
    told = Learned(model=str(path), lower=True, prefix_bytes=10)
    scores = classifier.scorer(told).score(pa.array(good, pa.large_string()))
    assert len(set(scores.tolist())) == 1


TOKENS = ["a", "b ", "ß", "漢 ", "word ", "word\n", " ", "\0", "</s>", " </s> ", "__label__x ", "__label__", "\t", "x" * 70, "unseen "]


@settings(max_examples=100)
@given(
    st.lists(st.lists(st.sampled_from(TOKENS), max_size=12), min_size=1, max_size=5), st.integers(1, 4), st.sampled_from([0, 1, 5, 9, 30])
)
def test_two_labels_in_short_are_the_whole_model(texts: list[list[str]], word_ngrams: int, prefix: int) -> None:
    data, offsets = text_buffers(pa.array(["".join(text) for text in texts], pa.large_string()))
    for bucket in (64, 77):
        model = _small(word_ngrams, bucket)
        short = fasttext_binary.projected(model)
        assert short is not None
        assert (
            np.abs(fasttext_binary.probabilities(short, data, offsets, prefix) - probabilities(model, data, offsets, prefix)).max() < 1e-6
        )


@functools.cache
def _small(word_ngrams: int, bucket: int) -> FastText:
    texts = pa.array(["a b word ß 漢 a b", "word b b a c", "c c d word"] * 5, pa.large_string())
    documents = fasttext_documents.read(*text_buffers(texts))
    made = fasttext_documents.train(documents, np.arange(15, dtype=np.int32) % 2, 2, 24, 3, 0.5, word_ngrams, bucket)
    return parse(fasttext_documents.binary(made, ["x", "y"], [8, 7], word_ngrams))


def test_word_counts_are_those_of_split() -> None:
    """Words, their numbers and their counts, past the point where the table grows."""
    rng = random.Random(0)
    texts = [" ".join(f"w{rng.randrange(9000)}" for _ in range(rng.randrange(30))) for _ in range(2000)] + [
        "",
        " ",
        "__label__x y",
        "a </s> b",
    ]
    found = fasttext_documents.read(*text_buffers(pa.array(texts, pa.large_string())))
    for number, text in enumerate(texts):
        want = [word for word in text.split(" </s>")[0].split() if not word.startswith("__label__")] + ["</s>"]
        tokens = found.tokens[found.starts[number] : found.starts[number + 1]]
        assert [found.spelt[token].decode() for token in tokens] == want
    assert len(set(found.spelt)) == len(found.spelt) > 4096


def test_recipes_that_cannot_be(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="either"):
        _recipe.check({"name": "x"}, TrainRecipe, "x")
    with pytest.raises(RecipeError, match="two different words"):
        train(recipe, tmp_path, ("classifier.labels=[a, a]",))
    with pytest.raises(InputError, match="no documents"):
        train(recipe, tmp_path, ("classifier.positive.0.where={group: ['9']}",))
    with pytest.raises(InputError, match="held out"):
        train(recipe, tmp_path, ("classifier.positive.0.count=12",))
    with pytest.raises(RecipeError, match="unknown type"):
        train(recipe, tmp_path, ("classifier.positive.0.source.type=tabels",))


def test_a_split_that_says_little_is_told(recipe: Path, model: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    assert model[1]["warnings"] == []
    assert "note:" not in shown(model[1])
    books = tmp_path / "books"
    books.mkdir()
    rng = random.Random(4)
    for number, words in enumerate((9000, 400, 400, 6000)):
        (books / f"{number}.txt").write_text("\n".join(_text(rng, GOOD) for _ in range(words // 40)))
    sources = [{"source": {"type": "books", "paths": [f"{books}/*.txt"]}, "cut": 500}]
    given = yaml.safe_load(recipe.read_text())["classifier"]
    given["negative"][0]["source"]["paths"] = [str(recipe.parent / "poor.jsonl")]
    path = tmp_path / "few.yaml"
    for share in (0.3, 0.5, 0.7):
        path.write_text(yaml.safe_dump({"name": "few", "classifier": {**given, "positive": sources, "held_out": share}}))
        texts = gather(_recipe.load(path, TrainRecipe).classifier.positive, tmp_path, 0, share, set())  # type: ignore[union-attr]
        if texts.learnt and len(texts.held_out) >= 10:
            break
    facts = train(path, tmp_path / "out")
    [warning] = facts["warnings"]
    assert warning.startswith(f"positive: {texts.held_out_documents} of 4 documents held out")
    assert "Name more files" in warning
    found = len(texts.held_out) / (len(texts.held_out) + len(texts.learnt))
    assert ("of the texts held out" in warning) == (not share / 1.5 <= found <= share * 1.5)
    assert facts["data"]["positive"]["held_out_documents"] == texts.held_out_documents < 5
    assert f"note: {warning}" in shown(facts)
    far = texts._replace(held_out=["x"] * 30, learnt=["x"] * 70, held_out_documents=9)
    assert "30% of the texts held out where held_out is 0.1" in warnings_of("texts", far, 0.1)[0]
    assert warnings_of("texts", far, 0.25) == []
    assert "none of 4 documents" in warnings_of("texts", texts._replace(held_out=[], held_out_documents=0), 0.1)[0]


def test_where_picks_documents_and_texts_of_both_sides_count_once(recipe: Path) -> None:
    side = _recipe.check(
        {"positive": [{"source": _source("good.jsonl"), "where": {"group": ["1"]}}], "negative": [{"source": _source("good.jsonl")}]},
        ClassifierTraining,
        "x",
    )
    seen: set[bytes] = set()
    first = gather(side.positive, recipe.parent, 0, 0.1, seen)
    second = gather(side.negative, recipe.parent, 0, 0.1, seen)
    assert (first.documents, second.documents) == (200, 200)
    assert not {*first.learnt, *first.held_out} & {*second.learnt, *second.held_out}


@given(st.text("aä漢 \n", max_size=200), st.integers(10, 60))
def test_passages_lose_nothing_but_blanks(text: str, size: int) -> None:
    parts = list(passages(text, size))
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(len(part.encode()) <= size for part in parts)


@pytest.fixture(scope="module")
def model_of_ships(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = recipe.parent / "perplexity.yaml"
    path.write_text(
        yaml.safe_dump({"name": "ships", "perplexity": {"texts": [{"source": _source("good.jsonl")}], "order": 3, "held_out": 0.2}})
    )
    out = tmp_path_factory.mktemp("ngram")
    return out / "ships.ngram", train(path, out)


def test_perplexity_tells_like_from_unlike(model_of_ships: tuple[Path, dict[str, Any]]) -> None:
    path, facts = model_of_ships
    config = Perplexity(models={"all": str(path)}, bounds={"max_percentile": 95.0})  # type: ignore[arg-type]  # pydantic takes mappings
    stage, judge = perplexity.perplexity_stage(config), perplexity.perplexity_filter(config)
    rng = random.Random(11)
    same, other = [_text(rng, GOOD) for _ in range(50)], [_text(rng, POOR) for _ in range(50)]
    batch = stage(_batch([*same, *other, "", None]))[0]
    found, percentile = batch.column("q.perplexity").to_pylist(), batch.column("q.perplexity.percentile").to_pylist()
    assert batch.schema.names[-2:] == perplexity.perplexity_columns(config).names
    assert np.median(found[:50]) * 1.5 < np.median(found[50:100])
    assert facts["held_out"]["learnt"] < facts["held_out"]["held_out"] == pytest.approx(np.median(found[:50]), rel=0.1)
    assert 25 < np.median(percentile[:50]) < 75
    assert min(percentile[50:100]) > 95
    assert found[100:] == percentile[100:] == [None, None]
    reasons = [row["reason"] for row in verdict(judge, batch).to_pylist()]
    assert reasons[50:] == ["high_perplexity"] * 50 + [None, None]
    assert sum(reason is None for reason in reasons[:50]) > 40
    assert "median perplexity" in shown(facts)


def test_perplexity_by_language(model_of_ships: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    config = _recipe.check(
        {"models": {"en": str(model_of_ships[0])}, "bounds": {"max": 1e9}, "by_language": {"en": {"max": 1.0}}}, Perplexity, "perplexity"
    )
    stage, judge = perplexity.perplexity_stage(config), perplexity.perplexity_filter(config)
    for lang, told in (("en", True), ("en-GB", True), ("de", False), (None, False)):
        batch = stage(_batch(["the sea is calm"], lang=lang))[0]
        assert (batch.column("q.perplexity")[0].as_py() is not None) == told
        assert verdict(judge, batch).to_pylist()[0]["reason"] == ("high_perplexity" if told else None)


def test_an_ngram_file_is_read_as_it_was_written_and_damage_is_told(model_of_ships: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    content = model_of_ships[0].read_bytes()
    trained = perplexity.read(model_of_ships[0])
    perplexity.save(tmp_path / "again.ngram", trained)
    assert (tmp_path / "again.ngram").read_bytes() == content
    slots = len(trained.model.marks)
    full = content[: -6 * slots] + b"\1" * (6 * slots)
    head = content[: content.index(b"\n", 20)]
    for number, damaged in enumerate(
        [content[:-1], content + b"x", b"", b"codedev.ngram/1\n{}\n", full, content.replace(b'"order":3', b'"order":9'), head]
    ):
        path = tmp_path / f"{number}.ngram"
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged|is no n-gram model"):
            perplexity.read(path)


def test_versions_follow_models_and_what_changes_scores(
    model: tuple[Path, dict[str, Any]], model_of_ships: tuple[Path, dict[str, Any]]
) -> None:
    path = str(model[0])
    base = classifier.version(Learned(model=path))
    assert base == classifier.version(Learned(model=path, min_score=0.3))
    assert base != classifier.version(Learned(model=path, prefix_bytes=100))
    config = Perplexity(models={"en": str(model_of_ships[0])})
    assert perplexity.perplexity_version(config) == perplexity.perplexity_version(config.model_copy(update={"bounds": None}))
    assert perplexity.perplexity_version(config) != perplexity.perplexity_version(config.model_copy(update={"prefix_bytes": 10}))


@pytest.mark.realdata
@pytest.mark.slow
def test_perplexity_of_real_books(data_dir: Path) -> None:
    """Held-out text of the same book < another book of the time < the same words shuffled."""
    texts = {}
    for name in ("Pride-and-Prejudice_1342/1342-0.txt", "Moby-Dick--Or-The-Whale_2701/2701-0.txt"):
        paragraphs = (data_dir / "books" / f"GITenberg__{name}").read_text("utf-8").split("\n\n")
        texts[name] = [paragraph.replace("\n", " ") for paragraph in paragraphs if len(paragraph) > 80]
    own, other = texts.values()
    training = _recipe.check({"texts": [{"source": {}}]}, PerplexityTraining, "x")
    trained = perplexity.fit([text for n, text in enumerate(own) if n % 10], own[::10], training)
    shuffled = [" ".join(random.Random(n).sample(text.split(), len(text.split()))) for n, text in enumerate(own[::10])]
    found = [np.median(perplexity.perplexities(trained.model, pa.array(part, pa.large_string()))) for part in (own[::10], other, shuffled)]
    assert found[0] * 3 < min(found[1:])
