"""The laws hold for every source: a corpus of the samples of all formats, built in different ways."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from codedev.corpus import recipe as recipes
from codedev.corpus import records
from codedev.corpus.build import build
from codedev.corpus.sources import SOURCES

RECIPE = ROOT / "samples/recipes/sources.yaml"


def tree(out: Path) -> dict[str, bytes]:
    """Every file of a corpus but its log and its work folder."""
    names = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if name.split("/")[0] not in (".work", ".lock", "events.jsonl")}


def rows(out: Path, kind: str) -> list[str]:
    return sorted(repr(row) for path in (out / kind).rglob("*.parquet") for row in pq.read_table(path).to_pylist())


def run_build(out: Path, **how: Any) -> dict[str, Any]:
    recipe = recipes.load(RECIPE, tuple(f"{key}={value}" for key, value in how.pop("change", {}).items()))
    return build(recipe, RECIPE.parent, out, **how)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("undisturbed") / "corpus"
    return out, run_build(out)


def test_every_type_of_source_is_there(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    assert {source["type"] for source in undisturbed[1]["sources"]} == set(SOURCES)


def test_every_record_is_accounted_for(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    out, manifest = undisturbed
    for name, stages in manifest["waterfall"].items():
        read = stages[0]
        assert read["rows_in"] == read["rows_out"] + read["joined"] + sum(read["drop"].values()) + sum(read["error"].values())
        kept = sum(pq.read_metadata(path).num_rows for path in (out / "documents" / name).glob("*.parquet"))
        assert kept == stages[-1]["rows_out"] > 0, name
        for kind, group in (("dropped", "drop"), ("errors", "error")):
            found = sum(pq.read_metadata(path).num_rows for path in (out / kind / name).glob("*.parquet"))
            assert found == sum(sum(stage[group].values()) for stage in stages), (name, kind)
    totals = manifest["totals"]
    assert totals["records"] == totals["documents"] + totals["joined"] + totals["dropped"] + totals["errors"]
    assert totals["joined"] > 0


def test_two_workers_write_the_same_bytes(undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    run_build(tmp_path / "c", workers=2)
    assert tree(tmp_path / "c") == tree(undisturbed[0])


def test_small_batches_write_the_same_bytes(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "BATCH_ROWS", 2)
    run_build(tmp_path / "c")
    assert tree(tmp_path / "c") == tree(undisturbed[0])


@pytest.mark.parametrize("size", [1 << 10, 1 << 30])
def test_the_size_of_units_changes_no_row(undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, size: int) -> None:
    run_build(tmp_path / "c", change={"unit_bytes": size})
    for kind in ("documents", "dropped", "errors"):
        assert rows(tmp_path / "c", kind) == rows(undisturbed[0], kind)


@pytest.mark.slow
def test_kills_do_not_change_a_byte(undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """kill -9 of the parent, with its workers or without, at eight random moments; then the same command to its end."""
    rng = random.Random(7)
    command = [sys.executable, "-m", "codedev", "corpus", "build", str(RECIPE), "--out", str(tmp_path / "c"), "--workers", "2", "-q"]
    started = time.monotonic()
    subprocess.run([*command[:7], str(tmp_path / "timed"), *command[8:]], check=True, capture_output=True)
    whole = time.monotonic() - started
    for _ in range(8):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(0.3, 0.9) * whole)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL) if rng.random() < 0.5 else os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            assert process.returncode == 0
            for path in rng.sample(sorted((tmp_path / "c/.work").rglob("*.json")), 9):
                path.unlink()
            (tmp_path / "c/manifest.json").unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "c") == tree(undisturbed[0])
