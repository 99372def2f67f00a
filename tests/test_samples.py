"""The bundled samples: they are what their sources say, and the pipeline makes of them what was worked out by hand."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import io
import re
import zlib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from fastwarc.warc import ArchiveIterator

from codedev import _recipe
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.source import SourceConfig
from codedev.corpus.sources import SOURCES, module_of
from codedev.train.recipe import TrainRecipe

SAMPLES = ROOT / "samples"
RECIPE = SAMPLES / "recipes/corpus.yaml"
ALL_SOURCES = SAMPLES / "recipes/sources.yaml"


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
    """corpus.yaml every key of a recipe, sources.yaml every key of every source."""
    known = {key for key in _known(CorpusRecipe) if not key.startswith("sources")}
    assert {key for key in _keys(_recipe.read(RECIPE)) if key != "sources"} == known, "corpus.yaml: add what is new, take out what is gone"
    shown: dict[str, set[str]] = {}
    for source in _recipe.read(ALL_SOURCES)["sources"]:
        shown.setdefault(source["type"], set()).update(source)
    common = set(SourceConfig.model_fields)
    for kind in SOURCES:
        keys = set(module_of(kind).Config.model_fields)
        assert keys - common <= shown[kind] <= keys, f"sources.yaml, {kind}: add what is new, take out what is gone"
    assert common <= set().union(*shown.values())


def _keys(data: dict[str, Any], before: str = "") -> list[str]:
    nested = [key for name, value in data.items() if isinstance(value, dict) for key in _keys(value, f"{before}{name}.")]
    return [f"{before}{name}" for name in data] + nested


def _known(model: Any, before: str = "") -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        names.append(f"{before}{name}")
        if name != "sources":
            for inner in _recipe._models_in(field.annotation):
                names += _known(inner, f"{before}{name}.")
    return [name for name in names if name != "sources"]


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
