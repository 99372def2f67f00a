"""Builds in shares: processes that know nothing of each other make the bytes of one build."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import ROOT

from codedev._errors import InputError, RunError
from codedev._run import locked
from codedev.cli import cli
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.shares import Share, finish, plan_shares, run_share
from codedev.corpus.status import status

SAMPLES = ROOT / "samples/recipes"
NEAR = "dedup.minhash={}"


def sample(*changes: str) -> Any:
    return recipes.load(SAMPLES / "corpus.yaml", ("unit_bytes=3000", NEAR, *changes))


def tree(out: Path) -> dict[str, bytes]:
    names = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if name.split("/")[0] not in (".work", ".lock", "events.jsonl")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    build(sample(), SAMPLES, out)
    return tree(out)


def shared(out: Path, of: int, order: list[int], **how: Any) -> list[dict[str, Any]]:
    return [run_share(sample(), SAMPLES, out, Share(number, of), **how) for number in order]


def test_shares_in_any_order_are_one_build(whole: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    planned = plan_shares(sample(), SAMPLES, out)
    count = len(planned["units"])
    assert count > 6
    assert not any(unit["done"] for unit in planned["units"])
    told = shared(out, 3, [2, 0, 2, 1])
    assert [one["passes"][0]["worked"] for one in told] == [len(range(2, count, 3)), len(range(0, count, 3)), 0, len(range(1, count, 3))]
    assert [one["next"] for one in told] == ["run", "run", "run", "finish"]
    finish(sample(), SAMPLES, out)
    assert tree(out) == whole


def test_shares_write_the_parts_too_and_finish_writes_none_again(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    plan_shares(sample(), SAMPLES, out)
    shared(out, 2, [0, 1])
    assert finish(sample(), SAMPLES, out, barriers_only=True) == {}
    assert not (out / "manifest.json").exists()
    assert not list(out.glob("documents/**/*.parquet"))
    told = shared(out, 2, [0, 1])
    assert [[(one["pass"], one["worked"] > 0, one["left"] > 0) for one in share["passes"]] for share in told] == [
        [("read", False, False), ("write", True, True)],
        [("read", False, False), ("write", True, False)],
    ]
    before = {path: path.stat().st_mtime_ns for path in out.glob("documents/**/*.parquet")}
    monkeypatch.setattr("codedev.corpus.build.find_duplicates", lambda *_, **__: pytest.fail("the barriers ran again"))
    finish(sample(), SAMPLES, out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert tree(out) == whole


def test_what_the_barriers_found_is_found_again_when_it_was_damaged(whole: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(sample(), SAMPLES, out)
    found = next((out / ".work/found").glob("*.parquet"))
    found.write_bytes(found.read_bytes()[:-9])
    (out / "manifest.json").unlink()
    build(sample(), SAMPLES, out)
    assert tree(out) == whole


def test_a_missing_share_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan_shares(sample(), SAMPLES, out)
    with pytest.raises(RunError, match=r"units are not read: no share has run yet"):
        finish(sample(), SAMPLES, out)
    shared(out, 4, [0, 2])
    with pytest.raises(RunError, match=r"units are not read: --units 1/4 never begun, 3/4 never begun\. Run those shares"):
        finish(sample(), SAMPLES, out)
    assert not (out / "manifest.json").exists()


def test_what_is_missing_is_done_by_finish_on_demand(whole: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan_shares(sample(), SAMPLES, out)
    shared(out, 4, [0, 2])
    shared(out, 3, [1])  # another number of shares goes on
    finish(sample(), SAMPLES, out, rest=True)
    assert tree(out) == whole


def test_a_pass_that_joins_waits_for_all_shares(tmp_path: Path) -> None:
    """Threads of comments come together in rounds."""
    recipe = recipes.load(SAMPLES / "sources.yaml", ("unit_bytes=4000",))
    build(recipe, SAMPLES, tmp_path / "one")
    out = tmp_path / "out"
    plan_shares(recipe, SAMPLES, out)
    first = run_share(recipe, SAMPLES, out, Share(0, 2))
    assert [one["pass"] for one in first["passes"]] == ["read"]
    with pytest.raises(RunError, match=r"units of pass read are not done after 0\.1 s of waiting"):
        run_share(recipe, SAMPLES, out, Share(0, 2), wait=0.1)
    second = run_share(recipe, SAMPLES, out, Share(1, 2))
    assert second["passes"][1]["pass"] == "join 1"
    run_share(recipe, SAMPLES, out, Share(0, 2))
    run_share(recipe, SAMPLES, out, Share(1, 2))
    finish(recipe, SAMPLES, out)
    assert tree(out) == tree(tmp_path / "one")


def test_refusals(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="holds no plan"):
        shared(out, 2, [0])
    assert not out.exists()
    plan_shares(sample(), SAMPLES, out)
    with pytest.raises(InputError, match="another recipe"):
        run_share(sample("seed=7"), SAMPLES, out, Share(0, 2))
    with locked(out / ".work/shares/0-of-2"), pytest.raises(RunError, match="another run"):
        shared(out, 2, [0])
    with locked(out), pytest.raises(RunError, match="another run"):  # a build goes on
        shared(out, 2, [0])
    with locked(out, shared=True), pytest.raises(RunError, match="another run"):  # a share goes on
        finish(sample(), SAMPLES, out, rest=True)
    for wrong in ("2/2", "1", "-1/2", "a/b", "0/0"):
        said = CliRunner().invoke(cli, ["corpus", "run", str(SAMPLES / "corpus.yaml"), "--out", str(out), "--units", wrong])
        assert said.exit_code == 2
        assert "write I/N" in said.output or "No such option" in said.output


@pytest.mark.slow
@pytest.mark.realdata
def test_processes_at_once_and_one_that_is_killed(tmp_path: Path, data_dir: Path) -> None:
    """Four processes on one directory, of which one is killed while it reads and run again; status tells of each."""
    sources = [
        {"name": "books", "type": "books", "paths": [str(data_dir / "books/GITenberg__Moby-Dick--Or-The-Whale_2701")]},
        {"name": "threads", "type": "reddit", "paths": [str(ROOT / "samples/reddit")]},
    ]
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"name": "x", "unit_bytes": 200_000, "sources": sources, "dedup": {"exact": {}, "minhash": {}}}))
    recipe = recipes.load(path)
    build(recipe, tmp_path, tmp_path / "one", workers=2)
    out = tmp_path / "out"
    shell = [sys.executable, "-m", "codedev", "corpus"]
    said = subprocess.run([*shell, "plan", str(path), "--out", str(out)], capture_output=True, text=True, check=True)
    assert "units" in said.stdout
    assert "first file" in said.stdout

    def share(number: int) -> subprocess.Popen[str]:
        command = [*shell, "run", str(path), "--out", str(out), "--units", f"{number}/4", "--workers", "1", "-q", "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    running = [share(number) for number in range(4)]
    receipts = out / ".work/scored"
    while not list(receipts.glob("*.json")):
        time.sleep(0.05)
    running[1].send_signal(signal.SIGKILL)
    told = status(out)
    assert told["state"] == "running"
    for process in running:
        process.wait()
    assert [process.returncode for process in running] == [0, -9, 0, 0]
    assert [(one["share"], one["state"]) for one in status(out)["shares"]] == [
        ("0/4", "finished"), ("1/4", "stopped"), ("2/4", "finished"), ("3/4", "finished"),
    ]  # fmt: skip
    refused = subprocess.run([*shell, "finish", str(path), "--out", str(out), "-q"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "--units 1/4 stopped" in refused.stderr
    again = share(1)
    answer = json.loads(again.communicate()[0])
    assert answer["passes"][0]["left"] == 0
    subprocess.run([*shell, "finish", str(path), "--out", str(out), "-q"], capture_output=True, check=True)
    assert tree(out) == tree(tmp_path / "one")
