"""Hostile and unlucky inputs of learned quality, perplexity, toxicity and language models: files that change, lie or collide, lists that
are none, recipes without effect, training on next to nothing."""

from __future__ import annotations

import json
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from test_corpus_learned import GOOD, POOR, _batch, _source, _text, _write
from test_kernels_fasttext import model_file

from codedev import _recipe
from codedev._errors import InputError, RecipeError, RunError
from codedev.corpus import language, score, toxicity
from codedev.corpus import recipe as recipes
from codedev.corpus.buffers import text_buffers
from codedev.corpus.build import build
from codedev.corpus.document import DOCUMENT
from codedev.corpus.language import tags
from codedev.corpus.language.train import train_identifier
from codedev.corpus.learned import classifier, files, perplexity
from codedev.corpus.learned.config import ClassifierTraining, Learned, Perplexity, Toxicity, ToxicityModel
from codedev.corpus.learned.train import train
from codedev.corpus.recipe import Language
from codedev.corpus.stage import verdict
from codedev.kernels import fasttext_file, wordlist
from codedev.kernels.fasttext_file import ModelError

# --- training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 good documents, 100 poor ones, and a model that has learnt them with nothing but defaults."""
    path = tmp_path_factory.mktemp("attack")
    _write(path / "good.jsonl", GOOD, 130, 1)
    _write(path / "poor.jsonl", POOR, 130, 2)
    train(_recipe_file(path), path / "models")
    return path


def _recipe_file(path: Path, name: str = "ships", kind: str = "classifier", **keys: Any) -> Path:
    good, poor = [{"source": _source(keys.pop("positive", "good.jsonl"))}], [{"source": _source(keys.pop("negative", "poor.jsonl"))}]
    sides = {"positive": good, "negative": poor, "bucket": 1000} if kind == "classifier" else {"texts": good, "order": 3}
    (path / "train.yaml").write_text(yaml.safe_dump({"name": name, kind: sides | keys}))
    return path / "train.yaml"


def test_two_hundred_texts_are_learnt_by_default(folder: Path, tmp_path: Path) -> None:
    facts = json.loads((folder / "models/ships.json").read_text())
    assert facts["held_out"]["auc"] > 0.95
    best = facts["held_out"]["best"]
    assert best["f1"] > 0.9
    half = next(row for row in facts["held_out"]["by_threshold"] if row["threshold"] == 0.5)
    assert half["precision"] > 0.9
    assert half["recall"] > 0.9
    assert facts["held_out"]["epochs"] == 100
    assert facts["warnings"] == []
    five = train(_recipe_file(folder, epochs=5), tmp_path)  # what was the default: a number for each text, all alike
    assert any("next to nothing was learnt" in warning for warning in five["warnings"])
    config = _recipe.check({"positive": [{"source": {}}], "negative": [{"source": {}}]}, ClassifierTraining, "x")
    assert [classifier.epochs_of(config, texts) for texts in (1, 1000, 10_000, 10**6)] == [100, 100, 10, 5]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"negative": "good.jsonl"}, "all 130 documents stand among the positive ones"),
        ({"positive": "empty.jsonl"}, r"empty\.jsonl: no documents to learn from; it holds 20 documents without text"),
        ({"positive": "null.jsonl"}, r"null\.jsonl: no documents to learn from; it holds 20 drop\.no_text"),
        ({"positive": "three.jsonl"}, "positive texts held out of 3 documents; name more"),
        ({"held_out": 0.9999}, "lower held_out: none is left to learn from"),
        ({"positive": "marks.jsonl", "negative": "ends.jsonl"}, "no text holds a word to learn"),
        ({"rate": 1e30}, "grows beyond all numbers: lower `rate`"),
    ],
)
def test_what_cannot_be_learnt_is_told_and_the_model_before_stays(keys: dict[str, Any], message: str, folder: Path) -> None:
    rows = {
        "empty": [{"id": str(n), "body": " \n\t\u3000"} for n in range(20)],
        "null": [{"id": str(n), "body": None} for n in range(20)],
        "three": [{"id": str(n), "body": f"text {n}"} for n in range(3)],
        "marks": [{"id": str(n), "body": f"__label__x{n}"} for n in range(300)],
        "ends": [{"id": str(n), "body": f"</s> {n}"} for n in range(300)],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    before = {path.name: path.read_bytes() for path in (folder / "models").iterdir()}
    with pytest.raises(InputError, match=message):
        train(_recipe_file(folder, **keys), folder / "models")
    assert {path.name: path.read_bytes() for path in (folder / "models").iterdir()} == before


def test_records_that_could_not_be_read_are_counted(folder: Path, tmp_path: Path) -> None:
    (folder / "half.jsonl").write_text("{not json\n" * 5 + (folder / "good.jsonl").read_text() + '{"id": "n", "body": null}\n')
    facts = train(_recipe_file(folder, positive="half.jsonl"), tmp_path)
    assert facts["data"]["positive"]["unread"] == {"drop.no_text": 1, "error.invalid_json": 5}
    assert facts["data"]["positive"]["documents"] == 130
    assert any(warning.startswith("positive: 5 records could not be read (5 invalid_json)") for warning in facts["warnings"])


def test_where_a_model_cannot_be_written_nothing_is_learnt(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "taken/ships.bin").mkdir(parents=True)
    for out, message in (("file", "cannot be written"), ("file/below", "cannot be written"), ("taken", "is a folder")):
        with pytest.raises(InputError, match=message):
            train(_recipe_file(folder, positive="none.jsonl"), tmp_path / out)  # told before the documents are looked for
    with pytest.raises(InputError, match=r"ships\.json: tells of ships\.bin, which needs it"):
        train(_recipe_file(folder, kind="perplexity"), folder / "models")


def test_where_a_language_model_cannot_be_written_nothing_is_learnt(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out, message in ((tmp_path, "is a folder"), (tmp_path / "file/m.ftz", "cannot be written")):
        with pytest.raises(InputError, match=message):
            train_identifier(tmp_path / "no texts", out)


def test_training_keys_that_cannot_be(folder: Path) -> None:
    for keys, message in (
        ({"labels": ["__label__hq", "cc"]}, "leave `__label__` out"),
        ({"bucket": 1 << 28, "dim": 1024}, "1100 GB; at most"),
        ({"bucket": 1 << 28, "dim": 1}, "17 GB; at most"),  # rows are padded
    ):
        with pytest.raises(RecipeError, match=message):
            train(_recipe_file(folder, **keys), folder / "models")


def test_perplexity_without_words_is_told(folder: Path, tmp_path: Path) -> None:
    for keys, message in (
        ({"min_words": 10**6}, "no word of the texts to learn from occurs 1000000 times"),
        ({"min_counts": [2, 1]}, "begin with 1"),
    ):
        with pytest.raises(InputError, match=message):
            train(_recipe_file(folder, kind="perplexity", held_out=0.3, **keys), tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- files that changed


def _copied(folder: Path, to: Path) -> Path:
    for path in (folder / "models").iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to / "ships.bin"


def _score(path: Path, text: str, **keys: Any) -> float:
    return float(classifier.scorer(Learned(model=str(path), **keys)).score(pa.array([text], pa.large_string()))[0])


def test_a_json_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    """As after a run that was killed between the two files, or a model that was copied without its JSON."""
    path = _copied(folder, tmp_path)
    right = _score(path, "HARBOUR FERRY")
    train(_recipe_file(folder, lower=False, seed=5), tmp_path / "other")
    path.write_bytes((tmp_path / "other/ships.bin").read_bytes())
    with pytest.raises(InputError, match=r"ships\.json: tells of another model than ships\.bin is"):
        _score(path, "HARBOUR FERRY")
    assert _score(path, "HARBOUR FERRY", lower=False, prefix_bytes=0) != right  # the recipe says it: the JSON is not read
    (tmp_path / "ships.json").write_bytes((tmp_path / "other/ships.json").read_bytes())
    assert _score(path, "harbour ferry") != _score(path, "HARBOUR FERRY")  # this one was not lower-cased


@pytest.mark.parametrize(
    ("content", "fine"),
    [("", False), ("{", False), ('{"format": "codedev.learned/1"}', False), ("[]", True), ('{"architectures": []}', True), ("null", True)],
)
def test_a_json_that_is_damaged_is_told_and_one_of_others_is_theirs(content: str, fine: bool, folder: Path, tmp_path: Path) -> None:
    path = _copied(folder, tmp_path)
    (tmp_path / "ships.json").write_text(content)
    if fine:
        assert _score(path, "harbour") == _score(path, "harbour", lower=False, prefix_bytes=0)
    else:
        with pytest.raises(InputError, match=r"ships\.json: is damaged"):
            _score(path, "harbour")
    (tmp_path / "ships.json").unlink()
    (tmp_path / "ships.json").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        _score(path, "harbour")


def test_a_language_model_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    """In one process, under one name, of the same size, at once."""
    path, text = tmp_path / "m.bin", "the ferry море"
    seen = set()
    for seed in range(6):
        path.write_bytes(content := model_file(seed=seed))
        (tmp_path / f"{seed}.bin").write_bytes(content)
        told, fresh = (language.identify(text, str(name)) for name in (path, tmp_path / f"{seed}.bin"))
        assert told == fresh
        assert language.version_of(str(path)) == language.version_of(str(tmp_path / f"{seed}.bin"))
        seen.add((told, language.version_of(str(path))))
    assert len(seen) == 6
    path.unlink()
    for call in (language.version_of, lambda name: language.identify("a", name)):
        with pytest.raises(InputError, match=r"m\.bin: there is no such model"):
            call(str(path))


def test_a_file_that_changes_within_a_tick_has_another_stamp(tmp_path: Path) -> None:
    path, stamps = tmp_path / "f", set()
    for letter in b"abcdefgh":
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
        os.pwrite(descriptor, bytes([letter]), 0)  # in place: the same inode and size
        os.close(descriptor)
        stamps.add(files.stamp(path, ""))
    assert len(stamps) == 8
    for name in ("none", "f/below", "a\0b", "x" * 5000):
        with pytest.raises(InputError):
            files.stamp(tmp_path / name, "no file")


def _corpus_recipe() -> recipes.CorpusRecipe:
    source = {"name": "c", "type": "tables", "paths": ["good.jsonl"], "kind": "web", "text": "body"}
    return recipes.check({"name": "x", "sources": [source], "quality": {"learned": {"ships": {"model": "m/ships.bin"}}}}, "x")


def test_a_model_that_changes_while_it_scores_costs_no_silence(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    path = _copied(folder, tmp_path / "m")
    (tmp_path / "good.jsonl").write_bytes((folder / "good.jsonl").read_bytes())
    train(_recipe_file(folder, seed=9), tmp_path / "other")
    made = score.scoring_stages

    def changed(recipe: recipes.CorpusRecipe) -> Any:
        stages = made(recipe)
        for suffix in ("json", "bin"):
            path.with_suffix(f".{suffix}").write_bytes((tmp_path / f"other/ships.{suffix}").read_bytes())
        return stages

    with monkeypatch.context() as patch:
        patch.setattr(score, "scoring_stages", changed)
        with pytest.raises(RunError, match="changed while documents were scored: run the build again"):
            build(_corpus_recipe(), tmp_path, tmp_path / "c")
    for out in ("c", "fresh"):
        build(_corpus_recipe(), tmp_path, tmp_path / out)
    parts = [[path.read_bytes() for path in sorted((tmp_path / out / "documents").rglob("*.parquet"))] for out in ("c", "fresh")]
    assert parts[0]
    assert parts[0] == parts[1]
    path.unlink()
    with pytest.raises(InputError, match="there is no such model"):
        build(_corpus_recipe(), tmp_path, tmp_path / "c")


# --- model files made to hurt


def _fasttext(words: list[bytes], labels: list[bytes], pairs: list[tuple[int, int]] | None = None, bucket: int = 0) -> bytes:
    """A model of zeros in fastText's layout, dim 2."""
    head = struct.pack("<ii12id", 793712314, 12, 2, 5, 1, 1, 5, 1, 3, 3, bucket, 1, 3 if pairs is not None else 0, 100, 1e-4)
    head += struct.pack("<3i2q", len(words) + len(labels), len(words), len(labels), 9, -1 if pairs is None else len(pairs))
    head += b"".join(word + struct.pack("<xqb", 1, kind) for kind, part in enumerate((words, labels)) for word in part)
    rows = len(words) + len(pairs or ())
    matrices = [struct.pack("<?qq", False, height, 2) + bytes(8 * height) for height in (rows, len(labels))]
    return head + np.array(pairs or [], "<i4").tobytes() + b"".join(matrices)


LABELS = [b"__label__a", b"__label__b"]


def _colliding(count: int) -> list[bytes]:
    """Words that all begin in one place of the table."""
    slots = 1 << max(4, (3 * (count + 2)).bit_length())
    blob = np.frombuffer("".join(f"{n:07x}" for n in range(count * slots * 11 // 10)).encode(), np.uint8)
    hashes = fasttext_file.word_hashes(blob, np.arange(0, len(blob) + 1, 7))
    found = np.flatnonzero(hashes % np.uint64(slots) == 5)[:count]
    assert len(found) == count
    return [f"{n:07x}".encode() for n in found.tolist()]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: _fasttext([b"w"] * 200_000, LABELS), "stands twice in the dictionary"),
        (lambda: _fasttext([], [b"__label__a"] * 2), "stands twice in the dictionary"),
        (lambda: _fasttext(_colliding(1100), LABELS), "too many words of the dictionary collide"),
        (lambda: _fasttext([], LABELS, [(n << 15, n) for n in range(8000)], 1 << 30), "too many keys of the pruned index collide"),
    ],
    ids=["one word", "one label", "colliding words", "colliding n-grams"],
)
def test_tables_that_are_made_to_be_slow_are_refused(content: Any, message: str) -> None:
    made = content()
    start = time.thread_time()
    with pytest.raises(ModelError, match=message):
        fasttext_file.parse(made, "slow")
    assert time.thread_time() - start < 5  # 200,000 times one word would take hours


def test_a_few_codes_ask_for_no_gigabytes() -> None:
    dim, rows = 1 << 14, 100_000
    words = b"".join(f"{n:x}".encode() + struct.pack("<xqb", 1, 0) for n in range(rows))
    head = struct.pack("<ii12id", 793712314, 12, dim, 5, 1, 1, 5, 1, 3, 3, 0, 1, 0, 100, 1e-4)
    head += struct.pack("<3i2q", rows + 1, rows, 1, 9, -1) + words + b"__label__a" + struct.pack("<xqb", 1, 1)
    matrix = struct.pack("<??qqi", True, False, rows, dim, rows) + bytes(rows) + struct.pack("<4i", dim, 1, dim, dim) + bytes(4 * 256 * dim)
    dense = struct.pack("<?qq", False, 1, dim) + bytes(4 * dim)
    start = time.thread_time()
    with pytest.raises(ModelError, match="the input matrix would take 6553600000 bytes"):
        fasttext_file.parse(head + matrix + dense, "bomb")
    assert time.thread_time() - start < 5


def test_labels_of_odd_names_are_scored_by_name(tmp_path: Path) -> None:
    names = ["x y", "a\nb", "(.*)", "é\u202e", "__label__hq", "hq", ""]
    (tmp_path / "odd.bin").write_bytes(_fasttext([b"w"], [b"__label__" + name.encode() for name in names]))
    model = fasttext_file.parse((tmp_path / "odd.bin").read_bytes())
    assert list(model.labels) == names
    for number, name in enumerate(names):
        weights = classifier.scorer(Learned(model=str(tmp_path / "odd.bin"), labels={name: 1.0})).weights
        assert weights.tolist() == [float(n == number) for n in range(len(names))]
    with pytest.raises(InputError) as caught:
        classifier.scorer(Learned(model=str(tmp_path / "odd.bin"), labels={"none": 1.0}))
    assert str(caught.value).isprintable()
    (tmp_path / "twice.bin").write_bytes(_fasttext([b"w"], [b"__label__x", b"x"]))  # two names in the file, one to whoever scores
    with pytest.raises(InputError, match="more than one label 'x'"):
        classifier.scorer(Learned(model=str(tmp_path / "twice.bin"), labels={"x": 1.0}))


def _ngram(path: Path, marks: np.ndarray, **changes: Any) -> Path:
    head = {"order": 2, "piece": 0, "slots": len(marks), "scale": [-20.0, 0.07, -9.0, 0.03], "unknown": -5.0}
    head |= {"percentiles": np.linspace(5, 900, 101).tolist()} | changes
    line = perplexity.MAGIC + json.dumps(head).encode() + b"\n"
    path.write_bytes(line + marks.astype("<u4").tobytes() + bytes(2 * len(marks)))
    return path


def test_ngram_models_that_lie_or_hang_are_refused(tmp_path: Path) -> None:
    sparse = np.arange(200_000) % 3
    perplexity.read(_ngram(tmp_path / "fine", sparse))
    nearly = np.ones(200_000)
    nearly[77] = 0  # a word that is not there would be looked for in 200,000 places
    for name, marks, changes in (
        ("nearly full", nearly, {}),
        ("full round the end", np.roll(np.r_[np.ones(20_000), np.zeros(180_000)], -10_000), {}),
        ("falling", sparse, {"percentiles": np.linspace(900, 5, 101).tolist()}),
        ("vast", sparse, {"scale": [-1e300, 0.07, -9.0, 0.03]}),
        ("steep", sparse, {"scale": [-20.0, 1e300, -9.0, 0.03]}),
        ("pieces", sparse, {"piece": 1 << 40}),
        ("true", sparse, {"order": True}),
    ):
        with pytest.raises(InputError, match="damaged"):
            perplexity.read(_ngram(tmp_path / name, marks, **changes))
    later = (tmp_path / "fine").read_bytes().replace(b"ngram/1", b"ngram/7")
    (tmp_path / "later").write_bytes(later)
    with pytest.raises(InputError, match=r"of format codedev\.ngram/7, which this codedev does not read"):
        perplexity.read(tmp_path / "later")


@pytest.mark.parametrize("size", [0, 1, 2, 999, 1000, 1001, 5000])
def test_the_longest_run_is_that_of_plain_python(size: int) -> None:
    rng = np.random.default_rng(size)
    for share in (0.0, 0.1, 0.9, 1.0):
        marks = (rng.random(max(size, 1)) < share).astype(np.uint32)
        runs = "".join(map(str, marks.tolist())) * 2  # twice: a run may go round the end
        assert min(perplexity._longest_run(marks), len(marks)) == min(max(map(len, runs.split("0"))), len(marks))


# --- lists


def _hits(path: Path, text: str) -> int:
    return int(wordlist.count(toxicity.read_list((str(path),)), *text_buffers(pc.utf8_lower(pa.array([text], pa.large_string()))))[0][0])


@pytest.mark.parametrize(
    ("content", "text", "hits"),
    [
        ("straße", "STRASSE Straße straße Strasse Strase", 4),
        ("κακός", "ΚΑΚΌΣ κακός Κακός κακο", 3),
        ("ılık", "ılık ilik", 1),
        ("BAD\r\nWorse\r\n", "bad worse BADLY", 2),
        ("\ufeffbad\n\n \t\n# note\n#\n", "bad # note", 1),
        ("(.*)\n[a-z]+\n\\b\na.b", "word a.b ab (.*)", 2),
        ("bad\nvery bad\nbad bad\nbad", "very bad bad bad x", 2),  # the longest at each place, once
        ("傻瓜", "他是 傻瓜 吗", 1),
        ("cafe\u0301", "café CAFÉ", 2),  # composed, as texts are
        ("#hash", "#hash hash", 1),
    ],
)
def test_lists_as_people_write_them(content: str, text: str, hits: int, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(content.encode())
    assert _hits(tmp_path / "list", text) == hits


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no word"),
        (b"\n# only\n#\n\n", "holds no word"),
        (b"\xff\xfea\0", r"not UTF-8 text \(at byte 0\)"),
        (b"fine\nd\xe4mlich", r"not UTF-8 text \(at byte 6\)"),
        (b"a " * 500_000, "a phrase of 500000 words and marks"),
    ],
)
def test_lists_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "fine").write_text("word")
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        toxicity.read_list(("fine", "list"), tmp_path)  # and the other one makes up for nothing
    assert str(tmp_path / "list") in str(caught.value)
    assert len(str(caught.value)) < 500


def test_large_lists_are_read_fast() -> None:
    phrases = [f"w{n:x} of{n % 7}" for n in range(200_000)]
    start = time.thread_time()
    words = wordlist.listed(phrases)
    assert time.thread_time() - start < 5
    texts = pa.array([" . ".join(phrases[:1000]), "x " * 100], pa.large_string())
    assert toxicity.per_thousand(words, texts).tolist() == [500.0, 0.0]


# --- tags


@pytest.mark.parametrize(
    ("wanted", "tag", "covered"),
    [
        ("zh-Hant", "zh-Hant-TW", True), ("zh-hant", "zh-Hant", True), ("zh-Hant", "zh", False), ("zh", "zh-Hant-TW", True),
        ("zh-Hant", "zh-Hans", False), ("en", "en_US", True), ("en", "EN", True), ("en", "eng", True), ("de", "ger", True),
        ("en-GB", "en-US", False), ("en", "enm", False), ("no", "nb", True), ("no", "nn-NO", True), ("nb", "no", False),
        ("sh", "sr-Latn", True), ("sr", "sr-Latn", True), ("sr-Latn", "sr", False), ("he", "iw", True), ("zh", "cmn", True),
        ("en", "eng_Latn-x", True), ("z", "zh", False), ("en", "", False),
    ],
)  # fmt: skip
def test_a_tag_covers_its_kinds_however_they_are_written(wanted: str, tag: str, covered: bool) -> None:
    assert tags.covers(wanted, tag) == covered
    assert language.is_among(pa.array([tag, None, tag]), [wanted]).to_pylist() == [covered, False, covered]


def test_the_narrowest_tag_has_its_way_whatever_the_order(tmp_path: Path) -> None:
    bounds = {"sr": 0.9, "sr-Latn": 0.2, "no": 0.8, "nb": 0.1}
    found = ["sr", "sr-Latn", "sr_Latn", "sr-Cyrl", "nb-NO", "nn", "de"]
    rows = len(found)
    columns = {"kind": pa.array(["web"] * rows).dictionary_encode(), "lang": pa.array(found).dictionary_encode()}
    columns["lang_score"] = pa.array([0.5] * rows, pa.float32())
    fields = [field.with_nullable(True) for field in DOCUMENT]
    arrays = [columns[one.name].cast(one.type) if one.name in columns else pa.nulls(rows, one.type) for one in fields]
    batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    for order in (sorted(bounds), sorted(bounds, reverse=True)):
        config = _recipe.check({"min_score": 0.0, "min_scores": {tag: bounds[tag] for tag in order}}, Language, "language")
        said = [row["reason"] for row in verdict(language.language_filter(config), batch).to_pylist()]
        assert said == ["language_score", None, None, "language_score", None, "language_score", None]
    for name in ("wide", "narrow"):
        (tmp_path / name).write_text("darn" if name == "wide" else "drat")
    for lists in ({"sr": "wide", "sr-Latn": "narrow"}, {"sr-Latn": "narrow", "sr": "wide"}):
        own = _recipe.check({"lists": {tag: [name] for tag, name in lists.items()}}, Toxicity, "toxicity")
        stage = toxicity.toxicity_stage(own, tmp_path)
        counted = [stage(_batch(["darn"], lang=tag))[0].column("q.toxic.words")[0].as_py() for tag in ("sr", "sr_Latn", "sr-Cyrl", "de")]
        assert counted == [1000, 0, 1000, None]


# --- recipes without effect


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        (Learned, {"model": ""}, "no path"),
        (Learned, {"model": "a\0b"}, "no path"),
        (Learned, {"model": "m", "languages": []}, "languages: names none"),
        (Learned, {"model": "m", "labels": {"hq": 0.0}}, "every weight is 0"),
        (Learned, {"model": "m", "labels": {"hq": 1.0, "__label__hq": 2.0}}, "stands twice"),
        (Learned, {"model": "m", "min_score": 1.5}, "no score is above 1, so nothing would be kept"),
        (Learned, {"model": "m", "labels": {"bad": -1.0}, "max_score": -1.5}, "no score is below -1"),
        (ToxicityModel, {"model": "m", "languages": []}, "languages: names none"),
        (Toxicity, {}, "neither lists nor a classifier"),
        (Toxicity, {"lists": {"en": []}}, "lists.en: names no file"),
        (Toxicity, {"lists": {"zh-Hant": ["a"], "zh-hant": ["b"]}}, "are one language"),
        (Toxicity, {"lists": {"en_US": ["a"]}}, "no BCP-47 tag"),
        (Toxicity, {"classifier": {"model": "m"}, "max_score": -0.5}, "no score is below 0"),
        (Perplexity, {"models": {"en": "m"}, "by_language": {"de": {"max": 9.0}}}, "by_language.de: no model is of that language"),
    ],
)
def test_keys_without_effect_are_refused(model: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _recipe.check(keys, model, "x")


def test_keys_that_have_an_effect_are_not() -> None:
    _recipe.check({"model": "m", "labels": {"4": 4.0, "5": 5.0}, "min_score": 4.5}, Learned, "x")
    _recipe.check({"models": {"no": "m"}, "by_language": {"nb": {"max": 9.0}, "no": {}}}, Perplexity, "x")
    _recipe.check({"models": {"all": "m"}, "by_language": {"de": {"max": 9.0}}}, Perplexity, "x")


# --- texts


def test_any_rows_of_a_batch_have_the_scores_of_the_whole(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("ferry\nthe sea")
    rng = random.Random(0)
    odd = [None, "", " \n", "\0" * 50, "</s> ferry", "__label__hq", "x" * 100_000, "漢字かな ไม่ดี", "\U0010ffff\u0300", None]
    texts: list[str | None] = [*odd, *(_text(rng, rng.choice([GOOD, POOR])) for _ in range(30)), *odd]
    stages = [
        classifier.learned_stage("a", Learned(model=str(folder / "models/ships.bin"))),
        classifier.learned_stage("b", Learned(model=str(folder / "models/ships.bin"), prefix_bytes=7)),
        perplexity.perplexity_stage(Perplexity(models={"all": str(_ngram(tmp_path / "m", np.arange(1000) % 3))}, prefix_bytes=9)),
        toxicity.toxicity_stage(Toxicity(lists={"all": (str(tmp_path / "list"),)}), tmp_path),
    ]
    for stage in stages:
        whole = _columns(stage(_batch(texts))[0])
        for start, rows in ((0, 1), (1, 1), (3, 9), (9, 30), (0, 0), (45, 5)):
            assert _columns(stage(_batch(texts).slice(start, rows))[0]) == [column[start : start + rows] for column in whole]
        assert _columns(stage(_batch([None, None]))[0]) == [[None, None]] * len(whole)


def _columns(batch: pa.RecordBatch) -> list[list[Any]]:
    return [batch.column(name).to_pylist() for name in batch.schema.names if name.startswith("q.")]
