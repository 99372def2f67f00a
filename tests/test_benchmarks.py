"""The benchmark of the stages runs on any source trees and measures every stage."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "bench_stages.py"
STAGES = {
    *("plan", "code", "docstrings", "normalise", "language", "scores", "identity", "judge", "exact", "exact_synthetic", "write"),
    *("build", "build_2", "build_again", "report", "web_records", "web", "jsonl", "csv", "parquet", "tokenizer", "encode", "pack", "train"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two megabytes of the standard library as source trees, and the bundled web pages."""
    folder = tmp_path_factory.mktemp("data")
    library = Path(sysconfig.get_path("stdlib"))
    for name in ("asyncio", "email", "idlelib", "json", "unittest", "xml"):
        shutil.copytree(library / name, folder / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "samples" / "web", folder / "web")
    return folder


def _rows(data: Path, tmp_path: Path, *arguments: str) -> tuple[str, dict[str, dict]]:
    out = tmp_path / "results" / "stages.json"
    command = [sys.executable, str(SCRIPT), "--data", str(data), "--mb", "1", "--json", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert 0.9 < result["arguments"]["raw_mb"] <= 1
    assert result["machine"]["cores"] > 0
    assert str(data) not in out.read_text()  # results name neither folders nor the machine
    return done.stdout, {row["stage"]: row for row in result["rows"]}


@pytest.mark.slow
def test_every_stage_is_measured(data: Path, tmp_path: Path) -> None:
    table, rows = _rows(data, tmp_path)
    assert set(rows) == STAGES
    if not importlib.util.find_spec("torch"):
        assert "torch" in rows.pop("train")["skipped"]
    for name, row in rows.items():
        numbers = [row[key] for key in ("amount", "rate", "cpu_s", "wall_s", "peak_mb", "repeats")]
        assert all(number > 0 for number in numbers), (name, row)
        assert row["own_mb"] >= 0
        assert all(rate > 0 for rate in row["peers"].values()), (name, row)
        assert row["rate"] == pytest.approx(row["amount"] / row["cpu_s"], rel=0.01)
        assert 20 < row["peak_mb"] < 4000, (name, row)  # Python and its libraries at least
    assert len([line for line in table.splitlines() if "/s " in line]) == len(rows)


def test_chosen_stages_alone_and_missing_archives(data: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "code").symlink_to(data / "code")
    table, rows = _rows(bare, tmp_path, "--only", "web")
    assert set(rows) == {"web_records", "web"}
    assert all("WARC" in row["skipped"] for row in rows.values())
    assert table.count("skipped") == 2


def test_no_source_trees_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--data", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.realdata
@pytest.mark.slow
def test_sources_are_measured_beside_their_peers(data_dir: Path, tmp_path: Path) -> None:
    script, out = ROOT / "benchmarks" / "bench_sources.py", tmp_path / "sources.json"
    command = [sys.executable, str(script), "--data", str(data_dir), "--only", "protein", "--budget", "0.5", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) > 1
    for row in rows:
        assert row["rate"] > 0
        assert row["times_faster"] == {peer: pytest.approx(row["rate"] / rate, rel=0.01) for peer, rate in row["peers"].items()}
