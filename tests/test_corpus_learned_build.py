"""Models of one's own in a corpus recipe: trained, scored, filtered, kept up with, and what is said where they cannot be used."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from codedev._errors import InputError, RecipeError, RunError
from codedev._run import file_hash, read_json
from codedev.corpus import recipe as recipes
from codedev.corpus import toxicity
from codedev.corpus.build import build
from codedev.corpus.learned import classifier, files, perplexity
from codedev.corpus.learned.config import Band, Perplexity
from codedev.corpus.learned.documents import is_held_out
from codedev.corpus.learned.train import train
from codedev.corpus.recipe import CorpusRecipe

GOOD = "harbour ferry crossing calm captain voyage island lighthouse tide anchor".split()
POOR = "click buy cheap offer subscribe login shipping deal checkout coupon".split()
BOTH = "the a of and to in it is that was for on are with as".split()
RUDE = "blockhead"


def _text(rng: random.Random, own: list[str], words: int = 60) -> str:
    drawn = [rng.choice(own) if rng.random() < 0.3 else rng.choice(BOTH) for _ in range(words)]
    return "\n".join(" ".join(drawn[n : n + 12]) + "." for n in range(0, words, 12))


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _rows(name: str, own: list[str], count: int, seed: int, **more: Any) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [{"id": f"{name}{n}", "text": _text(rng, own), **more} for n in range(count)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of both kinds, a list, and a corpus to judge: 40 good documents, 40 poor ones, 5 rude ones, code."""
    folder = tmp_path_factory.mktemp("trained")
    _lines(folder / "good.jsonl", _rows("g", GOOD, 200, 1))
    _lines(folder / "poor.jsonl", _rows("p", POOR, 200, 2))
    source = {side: [{"source": {"type": "tables", "paths": [f"{side}.jsonl"]}}] for side in ("good", "poor")}
    classifier = {"positive": source["good"], "negative": source["poor"], "bucket": 1000, "rate": 0.5, "epochs": 5}
    for name, recipe in (("ships", {"classifier": classifier}), ("sea", {"perplexity": {"texts": source["good"], "order": 3}})):
        (folder / "train.yaml").write_text(yaml.safe_dump({"name": name, **recipe}))
        train(folder / "train.yaml", folder / "models")
    (folder / "rude.txt").write_text(f"# rude\n{RUDE}\n")
    rows = [*_rows("good", GOOD, 40, 3, lang="en"), *_rows("poor", POOR, 40, 4, lang="en"), *_rows("fr", POOR, 5, 5, lang="fr")]
    rows += [{**row, "text": f"{row['text']} {RUDE} {RUDE}"} for row in _rows("rude", GOOD, 5, 6, lang="en")]
    _lines(folder / "crawl.jsonl", rows)
    (folder / "tree").mkdir()
    (folder / "tree/buy.py").write_text("def buy(cheap, offer):\n    return cheap + offer\n")
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to do as one likes with."""
    return shutil.copytree(trained, tmp_path / "here")


def _recipe(**changes: Any) -> CorpusRecipe:
    recipe: dict[str, Any] = {
        "name": "learned",
        "sources": [
            {"name": "crawl", "type": "tables", "paths": ["crawl.jsonl"], "kind": "web"},
            {"name": "tree", "type": "code", "paths": ["tree"]},
        ],
        "quality": {
            "learned": {"ships": {"model": "models/ships.bin", "languages": ["en"], "min_score": 0.5}},
            "perplexity": {"models": {"en": "models/sea.ngram"}, "bounds": {"max_percentile": 100.0}},
        },
        "toxicity": {"lists": {"en": ["rude.txt"]}, "max_words": 10.0},
        "unit_bytes": 16384,
    }
    for key, value in changes.items():
        at, *path = key.split("__")
        part = recipe
        for name in path:
            part, at = part.setdefault(at, {}), name
        part[at] = value
    return recipes.check(recipe, "recipe")


def _read(out: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Rows of the corpus by the id that the made data has."""
    parts = [pq.read_table(path).to_pylist() for path in sorted((out / kind).rglob("*.parquet"))]
    return {row["id"].rpartition(":")[2]: row for part in parts for row in part}


def _hashes(out: Path) -> dict[str, str]:
    paths = [path for path in out.rglob("*") if path.is_file() and ".work" not in path.parts and path.name not in ("events.jsonl", ".lock")]
    return {path.relative_to(out).as_posix(): file_hash(path) for path in paths}


def _work(out: Path, folder: str) -> dict[str, tuple[int, int]]:
    """Which tables there are, and when each was written."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (out / ".work" / folder).glob("*")}


def test_what_models_drop_is_kept_with_value_and_bound(trained: Path, tmp_path: Path) -> None:
    manifest = build(_recipe(), trained, tmp_path / "c")
    kept, dropped = _read(tmp_path / "c", "documents"), _read(tmp_path / "c", "dropped")
    stages = {stage["stage"]: stage["drop"] for stage in manifest["waterfall"]["crawl"]}
    assert list(stages) == ["read", "normalise", "content", "learned", "perplexity", "toxicity", "identity"]
    assert stages["learned"]["low_ships"] >= 38
    assert {row["reason"] for row in dropped.values() if row["id"].partition(":")[2].startswith("poor")} <= {"low_ships", "high_perplexity"}
    assert stages["toxicity"] == {"toxic_words": 5}
    column = {"low_ships": "q.learned.ships", "high_perplexity": "q.perplexity.percentile", "toxic_words": "q.toxic.words"}
    bound = {"low_ships": 0.5, "high_perplexity": 100.0, "toxic_words": 10.0}
    for row in dropped.values():
        said = json.loads(row["evidence"])
        assert said == {column[row["reason"]]: pytest.approx(row[column[row["reason"]]]), "bound": bound[row["reason"]]}
        assert (said[column[row["reason"]]] < 0.5) if row["reason"] == "low_ships" else (said[column[row["reason"]]] > 0)
    assert sum(name.startswith("good") for name in kept) >= 36
    assert {f"fr{n}" for n in range(5)} <= set(kept)  # a language that no model is for
    scores = [kept["fr0"][name] for name in ("q.learned.ships", "q.perplexity", "q.perplexity.percentile", "q.toxic.words")]
    code = next(row for row in kept.values() if row["kind"] == "code")
    assert scores == [None] * 4 == [code[name] for name in ("q.learned.ships", "q.perplexity", "q.perplexity.percentile", "q.toxic.words")]


CLASSIFIER = {"model": "models/ships.bin", "labels": {"cc": 1.0}}
SEA = {"all": "models/sea.ngram"}
SINGLE: dict[str, tuple[dict[str, Any], str, str, float]] = {
    "high_ships": ({"quality": {"learned": {"ships": {"model": "models/ships.bin", "max_score": 0.5}}}}, "q.learned.ships", "good", 0.5),
    "low_ships": ({"quality": {"learned": {"ships": CLASSIFIER | {"min_score": 0.5}}}}, "q.learned.ships", "good", 0.5),
    "high_perplexity": (
        {"quality": {"perplexity": {"models": SEA, "bounds": {"max_percentile": 99.0}}}},
        "q.perplexity.percentile",
        "poor",
        99.0,
    ),
    "low_perplexity": ({"quality": {"perplexity": {"models": SEA, "bounds": {"min": 40.0}}}}, "q.perplexity", "good", 40.0),
    "toxic_score": ({"toxicity": {"classifier": CLASSIFIER, "max_score": 0.5}}, "q.toxic.score", "poor", 0.5),
}


@pytest.mark.parametrize("reason", SINGLE)
def test_each_bound_drops_what_breaks_it_and_nothing_else(reason: str, trained: Path, tmp_path: Path) -> None:
    changes, column, whose, bound = SINGLE[reason]
    build(_recipe(**{"quality": {}, "toxicity": None} | changes), trained, tmp_path / "c")
    kept, dropped = _read(tmp_path / "c", "documents"), _read(tmp_path / "c", "dropped")
    breaks = (lambda value: value < bound) if reason.startswith("low") else (lambda value: value > bound)
    assert dropped
    for row in dropped.values():
        assert (row["reason"], breaks(row[column])) == (reason, True)
        assert json.loads(row["evidence"]) == {column: pytest.approx(row[column]), "bound": bound}
    assert not [name for name, row in kept.items() if row[column] is not None and breaks(row[column])]
    assert sum(name.startswith(whose) for name in dropped) > 30


def test_scores_are_those_of_the_kept_text_and_of_the_fasttext_package(trained: Path, tmp_path: Path) -> None:
    """Also where C4 rewrites the text: what is scored is what is kept."""
    _lines(tmp_path / "c.jsonl", [{**row, "text": row["text"] + "\nno end of a line here\n"} for row in _rows("g", GOOD, 10, 9, lang="en")])
    rewriting = {"rewrite": True, "min_sentences": None}
    sources = [{"name": "crawl", "type": "tables", "paths": [str(tmp_path / "c.jsonl")], "kind": "web"}]
    build(_recipe(sources=sources, quality__c4=rewriting), trained, tmp_path / "c")
    kept = _read(tmp_path / "c", "documents")
    assert len(kept) >= 8
    library, model = fasttext.load_model(str(trained / "models/ships.bin")).f, perplexity.read(trained / "models/sea.ngram").model
    for row in kept.values():
        assert "no end" not in row["text"]
        found = {label: value for value, label in library.predict(row["text"].lower().replace("\n", " ") + "\n", 2, 0.0, "strict")}
        assert row["q.learned.ships"] == pytest.approx(found["__label__hq"], abs=1e-5)
        value = perplexity.perplexities(model, pa.array([row["text"]], pa.large_string()))[0]
        assert row["q.perplexity"] == np.float32(value)


@pytest.mark.parametrize(
    "change",
    [
        {"quality__learned__ships__min_score": 0.9},
        {"quality__learned__ships__min_score": None, "quality__learned__ships__max_score": 0.5},
        {"quality__perplexity__bounds": {"max": 10.0}},
        {"quality__perplexity__by_language": {"en": {"max_percentile": 50.0}}},
        {"toxicity__max_words": None},
    ],
)
def test_a_changed_bound_reads_no_text_again(change: dict[str, Any], here: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    build(_recipe(), here, out)
    before, kept = _work(out, "scored"), set(_read(out, "documents"))
    for suffix in ("bin", "json"):  # and where a model lies decides nothing
        (here / f"models/ships.{suffix}").rename(here / f"models/moved.{suffix}")
    build(_recipe(**change, quality__learned__ships__model="models/moved.bin"), here, out)
    assert _work(out, "scored") == before
    assert set(_read(out, "documents")) != kept
    build(_recipe(**change, quality__learned__ships__model="models/moved.bin"), here, tmp_path / "fresh")
    assert _hashes(out) == _hashes(tmp_path / "fresh")


def test_a_folder_that_moved_is_the_same_work(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    build(_recipe(), here, out)
    before = _work(out, "scored"), _work(out, "judged"), _work(out, "written"), _hashes(out)
    (out / "manifest.json").unlink()  # else there would be nothing to look at
    build(_recipe(), here.rename(tmp_path / "elsewhere"), out)
    assert before == (_work(out, "scored"), _work(out, "judged"), _work(out, "written"), _hashes(out))


def _train_again(folder: Path) -> None:
    recipe = yaml.safe_load((folder / "train.yaml").read_text())
    recipe["perplexity"]["order"] = 2
    (folder / "train.yaml").write_text(yaml.safe_dump(recipe))
    train(folder / "train.yaml", folder / "models")


def _other_classifier(folder: Path) -> None:
    """The same size, other weights."""
    before = file_hash(folder / "models/ships.bin")
    content = bytearray((folder / "models/ships.bin").read_bytes())
    content[-3] ^= 0x10
    (folder / "models/ships.bin").write_bytes(content)
    told = (folder / "models/ships.json").read_text()
    (folder / "models/ships.json").write_text(told.replace(before, file_hash(folder / "models/ships.bin")))


def _other_json(folder: Path) -> None:
    path = folder / "models/ships.json"
    path.write_text(path.read_text().replace('"prefix_bytes": 0', '"prefix_bytes": 40'))


def test_a_model_that_changes_between_units_stops_the_build(here: Path, tmp_path: Path) -> None:
    """The first unit has the old model's scores: the build says so, and the next one scores it anew."""
    changed = []

    def progress(what: str, done: int, *_: Any) -> None:
        if what == "read" and done and not changed:
            changed.append(done)
            _other_classifier(here)

    with pytest.raises(RunError, match="changed while documents were scored"):
        build(_recipe(), here, tmp_path / "c", workers=1, progress=progress)
    build(_recipe(), here, tmp_path / "c", workers=1)
    build(_recipe(), here, tmp_path / "fresh", workers=1)
    parts = [read_json(tmp_path / name / "manifest.json")["parts"] for name in ("c", "fresh")]
    assert parts[0] == parts[1]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (_train_again, "q.perplexity"),
        (_other_classifier, "q.learned.ships"),
        (_other_json, "q.learned.ships"),
        (lambda folder: (folder / "rude.txt").write_text("captain\n"), "q.toxic.words"),
    ],
)
def test_a_model_that_changed_is_noticed(change: Callable[[Path], None], column: str, here: Path, tmp_path: Path) -> None:
    """In a process that has read the old one, too."""
    out = tmp_path / "c"
    bounds = {"quality__learned__ships__min_score": None, "quality__perplexity__bounds": {}, "toxicity__max_words": None}
    build(_recipe(**bounds), here, out)
    before = {name: row[column] for name, row in _read(out, "documents").items()}
    change(here)
    build(_recipe(**bounds), here, out)
    after = {name: row[column] for name, row in _read(out, "documents").items()}
    assert set(before) == set(after)
    assert sum(before[name] != after[name] for name in before) > 20
    for cache in (files.content_hash, classifier._read, perplexity._read, toxicity._read):  # as a process that never saw the old one
        cache.cache_clear()
    build(_recipe(**bounds), here, tmp_path / "fresh")
    assert _hashes(out) == _hashes(tmp_path / "fresh")


def test_two_workers_write_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        build(_recipe(), trained, tmp_path / str(workers), workers=workers)
    assert len({row.name for row in (tmp_path / "2/.work/scored").glob("*.json")}) > 2  # units to share out
    assert _hashes(tmp_path / "1") == _hashes(tmp_path / "2")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _words(path: Path) -> None:
    path.write_text("these are no weights\n")


UNUSABLE: dict[str, tuple[str, Callable[[Path], Any], dict[str, Any], str]] = {
    "no classifier": ("ships.bin", Path.unlink, {}, r"ships\.bin: there is no such model; train one with `codedev corpus quality train"),
    "a folder": ("ships.bin", Path.exists, {"quality__learned__ships__model": "models"}, "models: there is no such model"),
    "cut off": ("ships.bin", _cut, {}, r"ships\.bin: .* not a fastText model, or damaged: get it again"),
    "no fastText": ("ships.bin", _words, {}, r"ships\.bin: .* not a fastText model"),
    "an n-gram model": (
        "ships.bin",
        Path.exists,
        {"quality__learned__ships__model": "models/sea.ngram"},
        r"sea\.ngram: .* not a fastText model",
    ),
    "another label": ("ships.bin", Path.exists, {"quality__learned__ships__labels": {"good": 1.0}}, "has no label 'good'.*labels: {hq: 1}"),
    "no n-gram model": ("sea.ngram", Path.unlink, {}, r"sea\.ngram: there is no such n-gram model; train one with"),
    "a classifier": (
        "sea.ngram",
        Path.exists,
        {"quality__perplexity__models": {"en": "models/ships.bin"}},
        "is no n-gram model of codedev; train",
    ),
    "n-grams cut off": ("sea.ngram", _cut, {}, "the n-gram model is damaged; train it again"),
    "no list": (
        "ships.bin",
        Path.exists,
        {"toxicity__lists": {"en": ["none.txt"]}},
        "none.txt: there is no such list; a list has one word",
    ),
    "no toxic label": ("ships.bin", Path.exists, {"toxicity__classifier": {"model": "models/ships.bin"}}, "has no label 'toxic'"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_used_is_said_in_a_line_and_costs_no_corpus(case: str, here: Path, tmp_path: Path) -> None:
    name, damage, changes, message = UNUSABLE[case]
    out = tmp_path / "c"
    build(_recipe(quality__learned={}, quality__perplexity=None, toxicity=None), here, out)
    before = _hashes(out)
    damage(here / "models" / name)
    with pytest.raises(InputError) as raised:
        build(_recipe(**changes), here, out)
    assert re.search(message, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)
    assert _hashes(out) == before


def test_recipes_that_cannot_be() -> None:
    for changes, message in (
        ({"quality__learned": {"a.b": {"model": "m.bin"}}}, "'a.b' is no name"),
        ({"quality__perplexity": {"models": {"english": "m"}}}, "'english' is no BCP-47 tag"),
        ({"quality__perplexity": {"models": {"en": "m"}, "by_language": {"all": {}}}}, "by_language.all: those are `bounds`"),
        ({"quality__perplexity": {"models": {}}}, "is empty"),
        ({"toxicity": {"lists": {"English": ["m"]}}}, "'English' is no BCP-47 tag"),
        ({"quality__by_language": {"en": {"perplexity": {}}}}, "under quality.perplexity.by_language"),
        ({"quality__by_language": {"en": {"learned": {}}}}, "twice under quality.learned"),
        ({"quality__learned__ships__minscore": 0.5}, "unknown key 'minscore' in quality.learned.ships: .*min_score"),
    ):
        with pytest.raises(RecipeError) as raised:
            _recipe(**changes)
        assert re.search(message, str(raised.value)), str(raised.value)


def test_languages_are_identified_where_a_model_asks_for_them(trained: Path, tmp_path: Path) -> None:
    """The recipe names no `language:`; documents come without one."""
    english = "It was a calm evening in the harbour, and the captain waited for the ferry to come in with the tide before he went home."
    german = "Es war ein ruhiger Abend im Hafen, und der Kapitän wartete auf die Fähre, ehe er mit den anderen nach Hause ging."
    _lines(tmp_path / "c.jsonl", [{"id": "en", "text": english}, {"id": "de", "text": german}])
    (tmp_path / "de.txt").write_text("Hafen\n")
    lists = {"en": [str(trained / "rude.txt")], "de": [str(tmp_path / "de.txt")]}
    sources = [{"name": "crawl", "type": "tables", "paths": [str(tmp_path / "c.jsonl")], "kind": "web"}]
    off = {"quality__learned": {}, "quality__perplexity": None}
    build(_recipe(sources=sources, **off, toxicity={"lists": lists}), trained, tmp_path / "c")
    found = {name: (row["lang"], row["q.toxic.words"]) for name, row in _read(tmp_path / "c", "documents").items()}
    assert found == {"en": ("en", 0.0), "de": ("de", pytest.approx(1000 / len(german.split())))}
    everyone = {"lists": {"all": [str(tmp_path / "de.txt")]}}
    build(_recipe(sources=sources, **off, toxicity=everyone), trained, tmp_path / "d")
    assert {row["lang"] for row in _read(tmp_path / "d", "documents").values()} == {None}


def test_the_narrowest_tag_has_the_document(trained: Path, tmp_path: Path) -> None:
    rows = [{"id": lang or "none", "text": "harbour ferry", "lang": lang} for lang in ("en", "en-GB", "nb", "no", "fr")]
    _lines(tmp_path / "c.jsonl", rows)
    words = {"en": "harbour\nferry", "en-GB": "harbour", "no": "ferry", "nb": "zut", "all": "zut"}
    for tag, listed in words.items():
        (tmp_path / f"{tag}.txt").write_text(listed)
    sources = [{"name": "crawl", "type": "tables", "paths": [str(tmp_path / "c.jsonl")], "kind": "web"}]
    for number, tags in enumerate((list(words), list(reversed(words)))):
        lists = {tag: [str(tmp_path / f"{tag}.txt")] for tag in tags}
        build(_recipe(sources=sources, quality={}, toxicity={"lists": lists}), trained, tmp_path / str(number))
        found = {name: row["q.toxic.words"] for name, row in _read(tmp_path / str(number), "documents").items()}
        assert found == {"en": 1000, "en-GB": 500, "no": 500, "nb": 0, "fr": 0}
    bands = {"en": Band(max=10.0), "en-GB": Band()}
    for order in (bands, dict(reversed(bands.items()))):
        judge = perplexity.perplexity_filter(Perplexity(models={"en": "m"}, by_language=order))
        columns = {"lang": ["en", "en-GB"], "q.perplexity": [20.0, 20.0], "q.perplexity.percentile": [50.0, 50.0]}
        assert [said["reason"] for said in judge(pa.RecordBatch.from_pydict(columns)).to_pylist()] == ["high_perplexity", None]


def test_the_report_shows_models_and_reasons(trained: Path, tmp_path: Path) -> None:
    build(_recipe(), trained, tmp_path / "c")
    told = (tmp_path / "c/report/report.json").read_text()
    page = (tmp_path / "c/report/index.html").read_text()
    text = (tmp_path / "c/report/report.md").read_text()
    for name in ("learned.ships", "perplexity", "perplexity.percentile", "toxic.words"):
        assert f'"name": "{name}"' in told
        assert name in page
    for reason in ("low_ships", "toxic_words"):
        assert reason in told
        assert reason in page
        assert reason in text


def test_of_documents_alike_the_best_by_a_model_stays(trained: Path, tmp_path: Path) -> None:
    rng = random.Random(8)
    whole = _text(rng, GOOD, 300)
    rows = [{"id": f"d{n}", "text": f"{whole} {' '.join(POOR[:n])}", "lang": "en"} for n in (6, 0, 3)]
    _lines(tmp_path / "c.jsonl", rows)
    sources = [{"name": "crawl", "type": "tables", "paths": [str(tmp_path / "c.jsonl")], "kind": "web"}]
    for keep, best in (([], "d6"), (["q.learned.ships"], "d0"), (["-q.learned.ships"], "d6")):
        build(_recipe(sources=sources, dedup={"minhash": {"keep": keep}}), trained, tmp_path / "c")
        assert set(_read(tmp_path / "c", "documents")) == {best}


def test_who_uses_no_model_imports_no_kernel_of_theirs(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: t\nsources: [{name: a, type: tables, paths: [a.jsonl]}]\n")
    (tmp_path / "a.jsonl").write_text('{"text": "the cat and the dog"}\n')
    code = (
        "import sys; from pathlib import Path; from codedev.corpus import recipe as r; from codedev.corpus.build import build\n"
        "build(r.load(Path('r.yaml')), Path('.'), Path('out'))\n"
        "print(*[m for m in sys.modules if m.split('.')[-1] in ('ngram', 'wordlist', 'fasttext_binary', 'fasttext_documents', 'toxicity')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- real data

LEARNT = ("Moby-Dick--Or-The-Whale_2701/2701-0.txt", "Alice-s-Adventures-in-Wonderland_11/11-0.txt")
UNSEEN = "Pride-and-Prejudice_1342/1342-0.txt"
COMMENTS = "reddit/tanaym42__anlp-project/RC_2005-12.zst"


def _spoilt(text: str, rng: random.Random) -> str:
    """As a bad scan has it: every twelfth letter another."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz1|") if one.isalpha() and rng.random() < 1 / 12 else one for one in text)


@pytest.fixture(scope="module")
def real(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """(corpus, rows by source) of a book that no model has seen, as it is, its words shuffled, and as a bad scan; and of comments, half of
    them seen. The models have learnt from two other books."""
    folder = tmp_path_factory.mktemp("real")
    books = [{"source": {"type": "books", "paths": [str(data_dir / f"books/GITenberg__{name}")]}, "cut": 1000} for name in LEARNT]
    told = (data_dir / f"books/GITenberg__{UNSEEN}").read_text("utf-8").partition("*** END OF")[0]  # without the licence behind it
    paragraphs = [part.replace("\n", " ") for part in told.split("\n\n")]
    prose = [part for part in paragraphs if len(part) > 300][:400]
    rng = random.Random(0)
    sides = {
        "prose": prose,
        "shuffled": [" ".join(rng.sample(text.split(), len(text.split()))) for text in prose],
        "spoilt": [_spoilt(text, rng) for text in prose],
    }
    for name, texts in sides.items():
        _lines(folder / f"{name}.jsonl", [{"id": f"{name}{n}", "text": text, "lang": "en"} for n, text in enumerate(texts)])
    board = {"type": "reddit", "paths": [str(data_dir / COMMENTS)]}
    crawl = [{"source": {"type": "tables", "paths": [f"{name}.jsonl"]}} for name in sides] + [{"source": board}]
    classifier = {"positive": books, "negative": [{"source": board}], "held_out": 0.5, "bucket": 100_000, "rate": 0.5}
    for name, recipe in (
        ("books", {"classifier": classifier}),
        ("english", {"perplexity": {"texts": books, "calibrate": crawl, "held_out": 0.05}}),
    ):
        (folder / "train.yaml").write_text(yaml.safe_dump({"name": name, **recipe}))
        train(folder / "train.yaml", folder)
    recipe = {
        "name": "real",
        "sources": [{"name": name, "type": "tables", "paths": [f"{name}.jsonl"]} for name in sides] + [{"name": "board", **board}],
        "quality": {
            "learned": {"books": {"model": "books.bin", "min_score": 0.5}},
            "perplexity": {"models": {"all": "english.ngram"}, "bounds": {"max_percentile": 60.0}},
        },
    }
    build(recipes.check(recipe, "real"), folder, folder / "corpus")
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((folder / "corpus").glob("d*/*/*.parquet")):  # documents and dropped
        columns = [name for name in pq.read_schema(path).names if name.startswith("q.") or name in ("id", "reason")]
        rows.setdefault(path.parent.name, []).extend(pq.read_table(path, columns=columns).to_pylist())
    return folder / "corpus", rows


@pytest.mark.realdata
def test_a_classifier_tells_a_book_from_comments_it_has_not_seen(real: tuple[Path, dict[str, list[dict[str, Any]]]]) -> None:
    scores = {name: [row["q.learned.books"] for row in rows if row.get("q.learned.books") is not None] for name, rows in real[1].items()}
    unseen = [row["q.learned.books"] for row in real[1]["board"] if row.get("q.learned.books") is not None and is_held_out(row["id"], 0.5)]
    assert len(unseen) > 200
    assert np.mean(np.array(scores["prose"]) >= 0.5) > 0.8
    assert np.mean(np.array(unseen) >= 0.5) < 0.1


@pytest.mark.realdata
def test_perplexity_rises_with_what_is_wrong(real: tuple[Path, dict[str, list[dict[str, Any]]]]) -> None:
    """A clean book < comments < the book with its words shuffled or misread; CCNet's head is clean, its tail is not."""
    found = {name: np.array([row["q.perplexity"] for row in rows if row.get("q.perplexity")]) for name, rows in real[1].items()}
    median = {name: float(np.median(values)) for name, values in found.items()}
    assert median["prose"] * 1.2 < min(median["board"], median["shuffled"], median["spoilt"]), median
    pairs = {
        name: {row["id"].rpartition(name)[2]: row["q.perplexity"] for row in real[1][name]} for name in ("prose", "shuffled", "spoilt")
    }
    for name in ("shuffled", "spoilt"):  # each paragraph against itself
        assert np.mean([pairs[name][number] > value for number, value in pairs["prose"].items()]) > 0.99
    percentile = [(row["q.perplexity.percentile"], name) for name, rows in real[1].items() for row in rows if row.get("q.perplexity")]
    head, tail = ([name for at, name in percentile if low <= at <= high] for low, high in ((0, 30), (60, 100)))
    assert head.count("prose") / len(head) > 0.5, (len(head), head.count("prose"))
    assert tail.count("prose") / len(tail) < 0.02
    dropped = [row for row in real[1]["spoilt"] if row.get("reason") == "high_perplexity"]
    assert all(row["q.perplexity.percentile"] > 60 for row in dropped)
