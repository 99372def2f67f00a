"""The bundled samples: they are what their sources say, and the pipeline makes of them what was worked out by hand."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import io
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from fastwarc.warc import ArchiveIterator

from codedev import _recipe
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.learned.config import TrainRecipe as QualityRecipe
from codedev.corpus.learned.train import train as train_quality
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.source import SourceConfig
from codedev.corpus.sources import SOURCES, module_of
from codedev.train.recipe import TrainRecipe

SAMPLES = ROOT / "samples"
RECIPE = SAMPLES / "recipes/corpus.yaml"
ALL_SOURCES = SAMPLES / "recipes/sources.yaml"
LEARNED, TRAINING = SAMPLES / "recipes/learned.yaml", (SAMPLES / "recipes/prose.yaml", SAMPLES / "recipes/english.yaml")
BY_LEARNED = ("quality.learned", "quality.perplexity", "toxicity")


def _make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("samples_make", SAMPLES / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _make()


# --- the files


@pytest.mark.parametrize("name", sorted(make.FILES))
def test_rebuilding_gives_the_committed_bytes(name: str, tmp_path: Path) -> None:
    make.make(tmp_path)
    rebuilt, committed = (tmp_path / name).read_bytes(), (SAMPLES / name).read_bytes()
    if name.endswith(".parquet"):  # Arrow writes its version into the file
        assert pq.read_table(io.BytesIO(rebuilt)).equals(pq.read_table(io.BytesIO(committed)))
        sizes = [pq.read_metadata(io.BytesIO(data)).row_group(2).num_rows for data in (rebuilt, committed)]
        assert sizes == [4, 4]
    elif name.endswith(".gz") and "ng" in zlib.ZLIB_RUNTIME_VERSION:  # zlib-ng compresses in its own way
        assert _inflated(rebuilt) == _inflated(committed)
    else:
        assert rebuilt == committed


def _inflated(data: bytes) -> bytes:
    """All that is in the gzip members, a truncated last one included."""
    content = b""
    while data:
        member = zlib.decompressobj(31)
        content += member.decompress(data)
        data = member.unused_data
    return content


@pytest.mark.parametrize(
    ("name", "types"),
    [("pages.warc.gz", {"warcinfo": 1, "request": 16, "response": 16}), ("pages.warc.wet.gz", {"warcinfo": 1, "conversion": 3})],
)
def test_archives_are_sound(name: str, types: dict[str, int]) -> None:
    """FastWARC reads every record, its digest is that of its content, and no two have one id."""
    found: Counter[str] = Counter()
    ids = set()
    with open(SAMPLES / "web" / name, "rb") as file:
        for record in ArchiveIterator(file, parse_http=False):
            found[record.headers["WARC-Type"]] += 1
            ids.add(record.record_id)
            digest = hashlib.sha1(record.reader.read(), usedforsecurity=False).digest()
            assert record.headers["WARC-Block-Digest"] == "sha1:" + base64.b32encode(digest).decode()
    assert found == types
    assert len(ids) == found.total()


def test_every_record_is_a_gzip_member_without_a_time() -> None:
    data = (SAMPLES / "web/pages.warc.gz").read_bytes()
    members = 0
    while data:
        assert data[4:8] == bytes(4)
        inflater = zlib.decompressobj(31)
        assert inflater.decompress(data).startswith(b"WARC/1.1\r\n")
        data, members = inflater.unused_data, members + 1
    assert members == 33


def test_the_broken_file_is_broken() -> None:
    with pytest.raises(EOFError), gzip.open(SAMPLES / "tables/broken.jsonl.gz") as file:
        file.read()


def test_samples_are_small() -> None:
    sizes = [path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(sizes) < 600_000


# --- the recipes


def test_the_recipes_show_every_key() -> None:
    """corpus.yaml every key of a recipe, learned.yaml those of models of one's own, sources.yaml every key of every source."""
    known = {key for key in _known(CorpusRecipe) if not key.startswith("sources")}
    of_models = {key for key in known for part in BY_LEARNED if key.startswith(f"{part}.")}
    assert {*_keys(_recipe.read(RECIPE), CorpusRecipe)} - {"sources"} == known - of_models, (
        "corpus.yaml: add what is new, take out what is gone"
    )
    names, said = _known(CorpusRecipe), _keys(_recipe.read(LEARNED), CorpusRecipe)
    assert {names[key] for key in of_models} <= {*said.values()}, "learned.yaml: add what is new"
    shown: dict[str, set[str]] = {}
    for source in _recipe.read(ALL_SOURCES)["sources"]:
        shown.setdefault(source["type"], set()).update(source)
    common = set(SourceConfig.model_fields)
    for kind in SOURCES:
        keys = set(module_of(kind).Config.model_fields)
        assert keys - common <= shown[kind] <= keys, f"sources.yaml, {kind}: add what is new, take out what is gone"
    assert common <= set().union(*shown.values())


def test_the_training_recipes_show_every_key() -> None:
    shown = {key for path in TRAINING for key in _keys(_recipe.read(path), QualityRecipe).values()}
    assert shown == {*_known(QualityRecipe).values()}, "prose.yaml, english.yaml: add what is new, take out what is gone"


def _keys(data: dict[str, Any], model: Any, before: str = "") -> dict[str, str]:
    """Dotted keys, as far as they are keys of models (names that a recipe gives are left out), each with its model's name and its own."""
    found = {}
    for name, value in data.items():
        found[f"{before}{name}"] = f"{model.__name__}.{name}"
        field = model.model_fields[name]
        if name != "sources" and (inner := _recipe._models_in(field.annotation)):
            named = get_origin(field.annotation) is dict
            for part in value.values() if named else value if isinstance(value, list) else [value]:
                found |= _keys(part, inner[0], f"{before}{name}.") if isinstance(part, dict) else {}
    return found


def _known(model: Any, before: str = "") -> dict[str, str]:
    found = {}
    for name, field in model.model_fields.items():
        found[f"{before}{name}"] = f"{model.__name__}.{name}"
        if name != "sources":
            for inner in _recipe._models_in(field.annotation):
                found |= _known(inner, f"{before}{name}.")
    return found


def test_keys_of_models_are_shown_with_their_defaults() -> None:
    """Every value is the default, or its line says in its comment what that is; `models` and `model` have none."""
    for path, model in ((LEARNED, CorpusRecipe), *((path, QualityRecipe) for path in TRAINING)):
        lines = path.read_text().splitlines()
        for key, value, default in _values(_recipe.read(path), model):
            told = [line for line in lines if re.match(rf" *(- )?{key}:.*\(default: ", line)]
            assert value == default or told, f"{path.name}: {key} is {value}, the default is {default}"


def _values(data: dict[str, Any], model: Any) -> Iterator[tuple[str, Any, Any]]:
    """(key, value, default) of every key that has a default and holds no models that are shown themselves."""
    for name, value in data.items():
        field = model.model_fields[name]
        inner = [] if name == "sources" else _recipe._models_in(field.annotation)
        parts = value.values() if inner and get_origin(field.annotation) is dict else value if isinstance(value, list) else [value]
        if inner and any(isinstance(part, dict) for part in parts):
            for part in parts:
                yield from _values(part, inner[0])
        elif name != "sources" and not field.is_required():
            default = field.get_default(call_default_factory=True)
            yield name, value, list(default) if isinstance(default, tuple) else default


def test_values_shown_are_the_defaults_where_no_comment_says_otherwise() -> None:
    loaded = recipes.load(RECIPE)
    assert (loaded.unit_bytes, loaded.seed, loaded.keep_work) == tuple(
        CorpusRecipe.model_fields[name].default for name in ("unit_bytes", "seed", "keep_work")
    )
    assert loaded.quality.gopher == recipes.Gopher(min_words=12)
    assert loaded.quality.code == recipes.Code()
    assert loaded.language is not None
    assert loaded.language.min_score == recipes.Language().min_score


def test_keys_of_sources_are_shown_with_their_defaults() -> None:
    """Of each key some entry shows the default value, or says in its comment what the default is."""
    told: dict[tuple[str, str], bool] = {}
    entries = ALL_SOURCES.read_text().split("\n  - ")[1:]
    for entry, config in zip(entries, recipes.load(ALL_SOURCES).sources, strict=True):
        for key, line in re.findall(r"^(?:    )?((?!name|type|paths)[a-z_]+)(:.*)$", entry, re.MULTILINE):
            default = type(config).model_fields[key].get_default(call_default_factory=True)
            told[config.type, key] = told.get((config.type, key), False) or "default" in line or getattr(config, key) == default
    assert not [key for key, shown in told.items() if not shown]


def test_the_train_recipe_loads() -> None:
    recipe = _recipe.load(SAMPLES / "recipes/train.yaml", TrainRecipe)
    assert recipe.stage == "pt"
    assert recipe.model.config is not None
    assert recipe.model.config["hidden_size"] % recipe.model.config["num_attention_heads"] == 0


# --- the pipeline

# Worked out from the samples by hand, record by record: (records, what became of those that were not kept, kept).
EXPECTED: dict[str, tuple[int, dict[str, int], int]] = {
    # 13 pages, one of them again under another URL, a 404 and an image: 16 requests and answers behind the archive's own record.
    "pages": (
        33,
        {
            "read.warcinfo": 1,
            "read.request": 16,
            "read.http_status": 1,
            "read.not_html": 1,
            "gopher.too_few_words": 1,  # soon
            "exact.duplicate": 1,  # write-ahead-log
        },
        12,
    ),
    "almanac": (4, {"read.warcinfo": 1, "language.language": 1}, 2),  # reloj-de-sol is Spanish
    # 61 lines and 20 rows.
    "notes": (
        81,
        {
            "read.no_text": 2,  # n-058, p-14
            "content.empty": 1,  # n-055
            "language.language": 1,  # n-056, Latin
            "language.language_score": 1,  # n-057, four languages
            "gopher.too_few_words": 2,  # n-046, n-047
            "gopher.symbols": 1,  # n-048
            "gopher.bullets": 1,  # n-049
            "gopher.ellipses": 1,  # n-050
            "gopher.few_alpha_words": 1,  # n-051
            "gopher.few_stop_words": 1,  # n-052
            "gopher.long_words": 1,  # n-053
            "gopher.short_words": 1,  # n-054
            "identity.duplicate_id": 1,  # n-006, the same record twice
            "exact.duplicate": 2,  # n-059, and p-17 with other white space, both of n-023
        },
        64,
    ),
    "abstracts": (10, {"gopher.too_few_words": 1}, 9),  # a-08
    "broken": (9, {"read.invalid_json": 1, "read.invalid_utf8": 1, "read.not_an_object": 1, "read.truncated": 1}, 5),
    # Two projects, notebooks (one of them broken), a tarball and a table of files.
    "code": (
        37,
        {
            **{f"read.{reason}": 1 for reason in ("binary", "empty", "generated", "minified", "vendored")},
            **{f"read.{reason}": 1 for reason in ("invalid_notebook", "unknown_language")},
            **{f"read.{reason}": 1 for reason in ("test_data", "link", "unsafe_path")},
            "read.no_text": 1,
        },
        26,
    ),
    # Three folders are left out; LICENSE, README.md and check.c are no Python, test_ring.py has no docstring, __init__.py's has five words.
    "docstrings": (7, {"read.other_language": 3, "read.no_docstrings": 1, "gopher.too_few_words": 1}, 2),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("samples") / "corpus"
    return out, build(recipes.load(RECIPE), RECIPE.parent, out)


@pytest.mark.parametrize("source", sorted(EXPECTED))
def test_every_record_ends_where_it_should(source: str, corpus: tuple[Path, dict[str, Any]]) -> None:
    stages = corpus[1]["waterfall"][source]
    lost = {f"{stage['stage']}.{reason}": count for stage in stages for reason, count in [*stage["drop"].items(), *stage["error"].items()]}
    assert (stages[0]["rows_in"], lost, stages[-1]["rows_out"]) == EXPECTED[source]


def test_no_source_is_left_out(corpus: tuple[Path, dict[str, Any]]) -> None:
    assert list(corpus[1]["waterfall"]) == list(EXPECTED)


def test_what_was_changed_is_counted(corpus: tuple[Path, dict[str, Any]]) -> None:
    notes = {note: count for stage in corpus[1]["waterfall"]["notes"] for note, count in stage["notes"].items()}
    # n-042, n-044, n-043, the second n-024; three rows come without a language
    assert notes == {"line_ends": 1, "control_characters": 1, "nfc": 1, "new_ids": 1, "identified": 3}


def _documents(corpus: tuple[Path, dict[str, Any]], source: str) -> pa.Table:
    return pa.concat_tables(pq.read_table(part) for part in sorted((corpus[0] / "documents" / source).glob("*.parquet")))


def test_pages_keep_their_articles_and_lose_their_frames(corpus: tuple[Path, dict[str, Any]]) -> None:
    pages = {row["url"].rstrip("/").rpartition("/")[2].partition("?")[0]: row for row in _documents(corpus, "pages").to_pylist()}
    assert set(pages) == ({*make.PAGES} - {"soon", "forum-thread"}) | {"4711"}
    for word in ("Skip to the article", "Related notes", "No cookies", "Sign up", "Suggested topics", "Privacy", "Search the handbook"):
        assert not [name for name, page in pages.items() if word in page["text"]], word
    assert "die Bauern säen" in pages["schaltjahre"]["text"]  # Latin-1
    assert "will not agree on Friday" in pages["clock-drift"]["text"]  # chunked and compressed
    assert "        length, checksum = struct" in pages["write-ahead-log"]["text"]  # code keeps its indentation
    assert "77,163" in pages["birthday-bounds"]["text"]  # a table
    for words in ("We copy a table", "Do you sort the rows?", "We sort by date", "The same plan over the same pages"):
        assert words in pages["4711"]["text"], words  # every post of the thread
    languages = {name: page["lang"] for name, page in pages.items() if page["lang"] != "en"}
    assert languages == {"schaltjahre": "de", "moyenne-mediane": "fr", "erfen-chazhao": "zh"}
    licences = {name: page["licence"] for name, page in pages.items() if page["licence"]}
    assert licences == {"tide-gauges": "CC-BY-4.0"}


def test_code_comes_with_its_licence(corpus: tuple[Path, dict[str, Any]]) -> None:
    found = {(row["id"].partition("@")[0], row["licence"]) for row in _documents(corpus, "code").to_pylist()}
    public = {("notebooks", "CC0-1.0"), ("queue", "CC0-1.0"), ("sample/sums", "CC0-1.0"), ("sample/units", "CC0-1.0")}
    assert found == {("ringbuffer", "MIT"), ("matrix", "Apache-2.0"), *public}


def test_models_that_the_samples_train_tell_prose_from_html(tmp_path: Path) -> None:
    """The road of learned.yaml: train, then build with what was trained."""
    shutil.copytree(SAMPLES, tmp_path / "samples")
    recipe = tmp_path / "samples/recipes/learned.yaml"
    for path in TRAINING:
        train_quality(recipe.parent / path.name, tmp_path / "models")
    stages = build(recipes.load(recipe), recipe.parent, tmp_path / "corpus")["waterfall"]
    lost = {name: Counter({reason: n for stage in of for reason, n in stage["drop"].items()}) for name, of in stages.items()}
    # 14 pages, 11 of them in English, once as text and once as HTML.
    assert lost["pages"]["low_prose"] <= 2
    assert lost["raw"]["low_prose"] >= 8
    assert [stage["stage"] for stage in stages["raw"]][3:6] == ["learned", "perplexity", "toxicity"]
