"""What strangers' files may hold, command by command: each case once hung, showed a traceback or wrote to the terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from codedev._errors import InputError, RecipeError
from codedev.corpus.extract.html import PageError, html_to_text
from codedev.corpus.look import look, manifest_of, visible
from codedev.corpus.repository import root_licence
from codedev.corpus.sources.code import source as code
from codedev.tokenize.shards import open_shards


def test_a_page_of_many_licence_links_costs_linear_time() -> None:
    link = '<p><a href="https://creativecommons.org/licenses/by/4.0/">x</a></p>'
    began = time.perf_counter()
    page = html_to_text(f"<html><body>{link * 3000}".encode())
    assert time.perf_counter() - began < 5  # it took 40 s
    assert page.meta["licence_links"] == ["https://creativecommons.org/licenses/by/4.0/"]


def test_a_key_without_end_in_package_metadata_costs_no_time(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(".".join(["a"] * 100_000) + " = 1\n")
    (tmp_path / "Cargo.toml").write_text('[package]\nlicense = "MIT"\n' + f'description = "{"a." * 500}"\n')
    began = time.perf_counter()
    assert root_licence(str(tmp_path), ["pyproject.toml", "Cargo.toml"], []).expression == "MIT"
    assert time.perf_counter() - began < 2


def test_document_text_gives_a_terminal_no_commands() -> None:
    assert visible("a\x1b[2J\u202eb\x9bc\nd\té") == "a\\x1b[2J\\u202eb\\x9bc\nd\té"


CORPUS = {
    "format": "codedev.corpus/1",
    "sources": [{"name": "c"}],
    "parts": {"documents": [], "dropped": [], "errors": []},
    "waterfall": {"c": []},
}


@pytest.mark.parametrize(
    "change",
    [
        {"sources": None},
        {"sources": [1]},
        {"parts": []},
        {"parts": {**CORPUS["parts"], "documents": [{"path": "../x.parquet"}]}},
        {"parts": {**CORPUS["parts"], "errors": [{"path": 5}]}},
        {"waterfall": {"c": [1]}},
    ],
)
def test_a_corpus_manifest_edited_by_hand_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(CORPUS))
    assert look(tmp_path, dropped=None, errors=False, source=None, document_id=None, limit=1) == []
    (tmp_path / "manifest.json").write_text(json.dumps(CORPUS | change))
    with pytest.raises(InputError, match="no complete manifest"):
        manifest_of(tmp_path)


SHARDS = {
    "format": "codedev.shards/1",
    "rows": 1,
    "seq_len": 8,
    "files": [{"name": "shard-00000.arrow", "rows": 1}],
    "corpus": {"path": "../c", "manifest_hash": "0"},
    "tokenizer": {"eos": "</s>"},
}


@pytest.mark.parametrize(
    "change",
    [{"rows": "x"}, {"files": None}, {"files": [1]}, {"files": [{"name": "../x", "rows": 1}]}, {"corpus": None}, {"tokenizer": []}],
)
def test_a_shard_manifest_edited_by_hand_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(SHARDS))
    assert open_shards(tmp_path).rows == 1
    (tmp_path / "manifest.json").write_text(json.dumps(SHARDS | change))
    with pytest.raises(InputError, match="no complete manifest"):
        open_shards(tmp_path)


def test_a_run_writes_over_no_model_that_is_not_its_own(tmp_path: Path) -> None:
    pretrain = pytest.importorskip("codedev.train.pretrain")
    pretrain._check_dir(tmp_path)
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match="holds model and no run"):
        pretrain._check_dir(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    pretrain._check_dir(tmp_path)


@pytest.mark.parametrize("temperature", [float("nan"), 1e-300, -1.0])
def test_a_temperature_that_no_sampling_stands_is_refused(tmp_path: Path, temperature: float) -> None:
    generate = pytest.importorskip("codedev.train.generate").generate
    with pytest.raises(RecipeError, match="temperature"):
        generate(tmp_path, "x", temperature=temperature)


def test_a_recipe_folder_whose_name_is_a_pattern(tmp_path: Path) -> None:
    base = tmp_path / "a[1]*"
    (base / "repos" / "one").mkdir(parents=True)
    (base / "repos" / "one" / "a.py").write_text("x = 1\n")
    found = list(code.plan(code.Config(name="c", paths=("repos/*",)), base, 1 << 20))
    assert [extent.name for extent in found] == ["repos/one/a.py"]


@pytest.mark.parametrize(
    "page",
    [
        "".join(f"<font a{n}=1><p>" for n in range(20_000)),
        "<b><i><a>" * 100_000,
        "<select>" + "<option>x" * 64_000,
        "".join(f"<body a{n}=1>" for n in range(30_000)),
        "<div>" * 1_900 + "</p>" * 64_000,
    ],
    ids=["fonts", "formatting", "options", "bodies", "stray-ends"],
)
def test_markup_that_costs_a_parser_quadratic_time_is_refused_at_once(page: str) -> None:
    started = time.process_time()
    with pytest.raises(PageError):
        html_to_text(page.encode())
    assert time.process_time() - started < 2
