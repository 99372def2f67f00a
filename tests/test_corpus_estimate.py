"""`codedev doctor RECIPE` beside builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT

from codedev._errors import InputError
from codedev.cli import cli
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.estimate import LEAST, estimate

SAMPLES = ROOT / "samples/recipes"


def test_a_sample_that_is_all_of_the_input_tells_what_the_build_gives(tmp_path: Path) -> None:
    """Every source, joined records too."""
    recipe = recipes.load(SAMPLES / "sources.yaml", ("dedup.minhash={}",))
    told = estimate(recipe, SAMPLES)
    assert told["sampled"] == told["bytes"]
    manifest = build(recipe, SAMPLES, tmp_path / "out")
    assert told["bytes"] == manifest["totals"]["bytes_in"]
    assert told["records"] == manifest["totals"]["records"]
    by_source = {name: stages[-1]["rows_out"] for name, stages in manifest["waterfall"].items()}
    assert {source["name"]: source["documents"] for source in told["sources"]} == by_source
    assert {source["name"]: source["files"] for source in told["sources"]} == {one["name"]: one["files"] for one in manifest["sources"]}
    parts = [path for kind in ("documents", "dropped", "errors") for path in (tmp_path / "out" / kind).rglob("*.parquet")]
    assert told["output_bytes"] == pytest.approx(sum(path.stat().st_size for path in parts), rel=0.05)
    assert 0 < told["barrier_cpu_seconds"] < told["cpu_seconds"]


def test_a_share_of_the_input_is_the_same_each_time_and_grows(tmp_path: Path) -> None:
    words = [" ".join(f"word{(row * 7 + place) % 997}" for place in range(60)) for row in range(997)]
    (tmp_path / "in").mkdir()
    for number in range(24):
        rows = (json.dumps({"text": f"{number} {row} {words[row % 997]}"}) for row in range(2000))
        (tmp_path / f"in/{number}.jsonl").write_text("\n".join(rows) + "\n")
    source = {"name": "rows", "type": "tables", "paths": ["in/*.jsonl"]}
    recipe = recipes.check({"name": "x", "sources": [source], "dedup": {"exact": {}}}, "x")
    told = estimate(recipe, tmp_path)
    assert LEAST <= told["sampled"] < told["bytes"] / 4
    assert told["records"] == pytest.approx(48_000, rel=0.03)
    assert told["documents"] == pytest.approx(48_000, rel=0.03)
    again = estimate(recipe, tmp_path)
    counted = ("bytes", "sampled", "records", "rows", "documents", "work_bytes", "output_bytes")
    assert [again[name] for name in counted] == [told[name] for name in counted]
    build(recipe, tmp_path, tmp_path / "out")
    work = sum(path.stat().st_size for folder in ("scored", "judged") for path in (tmp_path / "out/.work" / folder).glob("*"))
    output = sum(path.stat().st_size for path in (tmp_path / "out/documents").rglob("*.parquet"))
    assert told["work_bytes"] == pytest.approx(work, rel=0.3)
    assert told["output_bytes"] == pytest.approx(output, rel=0.3)


def test_the_command_tells_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codedev.corpus.estimate.room", lambda _: 10)
    command = ["doctor", str(SAMPLES / "corpus.yaml"), "--out", str(tmp_path / "none/yet"), "--workers", "2"]
    said = CliRunner().invoke(cli, command)
    assert said.exit_code == 0
    assert "10 B free, and the build needs about" in said.stderr
    assert "under .work" in said.stdout
    assert not list(tmp_path.iterdir())  # nothing is left behind, and nothing was made
    assert CliRunner().invoke(cli, [*command, "--strict"]).exit_code == 1


def test_builds_beside_earlier_corpora_are_not_estimated() -> None:
    recipe = recipes.load(SAMPLES / "corpus.yaml", ("dedup.against=[/tmp]",))
    with pytest.raises(InputError, match=r"dedup\.against"):
        estimate(recipe, SAMPLES)
