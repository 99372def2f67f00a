"""`codedev corpus status` of builds that go on, were killed, failed and are done."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT

from codedev._errors import CodedevError, InputError
from codedev._run import Events, locked
from codedev.cli import cli
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.status import EVERY, logged, metrics, status

SAMPLES = ROOT / "samples/recipes"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "corpus"
    build(recipes.load(SAMPLES / "corpus.yaml"), SAMPLES, out)
    return out


def test_a_corpus_that_is_done(built: Path) -> None:
    told = status(built)
    manifest = json.loads((built / "manifest.json").read_bytes())
    assert told["state"] == "finished"
    assert told["documents"] == manifest["totals"]["documents"]
    assert told["units"] > 1
    assert told["bytes"] == manifest["totals"]["bytes_in"]
    assert told["error"] is told["phase"] is told["seconds_left"] is None
    build(recipes.load(SAMPLES / "corpus.yaml"), SAMPLES, built)  # nothing to do
    assert status(built)["state"] == "finished"


def test_a_build_that_goes_on_and_one_that_was_killed(tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(200))
    (tmp_path / "in").mkdir()
    for number in range(40):
        (tmp_path / f"in/{number}.jsonl").write_text("".join(json.dumps({"text": f"{number} {row} {words}"}) + "\n" for row in range(2000)))
    source = {"name": "rows", "type": "tables", "paths": ["in/*.jsonl"]}
    (tmp_path / "r.yaml").write_text(json.dumps({"name": "x", "sources": [source], "unit_bytes": 200_000, "quality": {"gopher": {}}}))
    command = [
        sys.executable,
        "-m",
        "codedev",
        "corpus",
        "build",
        str(tmp_path / "r.yaml"),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            assert started.poll() is None
            told = status(tmp_path / "out") if (tmp_path / "out/events.jsonl").exists() else {"phase": None}
            if told["phase"] == "read":
                break
            time.sleep(0.02)
        assert told["state"] == "running"
        assert told["workers"] == 1
        assert 0 <= told["done"] <= told["total"] == told["bytes"]
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    told = status(tmp_path / "out")
    assert told["state"] == "stopped"
    assert told["documents"] is told["seconds_left"] is None
    shown = CliRunner().invoke(cli, ["corpus", "status", str(tmp_path / "out")]).stdout
    assert "stopped" in shown
    assert "MB of" in shown


def test_what_failed_says_why(tmp_path: Path) -> None:
    recipe = {"name": "x", "sources": [{"name": "rows", "type": "tables", "paths": ["none/*.jsonl"]}]}
    with pytest.raises(CodedevError) as failed:
        build(recipes.check(recipe, "recipe"), tmp_path, tmp_path / "out")
    told = status(tmp_path / "out")
    assert (told["state"], told["error"]) == ("stopped", str(failed.value))
    assert str(failed.value)[:40] in CliRunner().invoke(cli, ["corpus", "status", str(tmp_path / "out")]).stdout
    (tmp_path / "none").mkdir()
    (tmp_path / "none/a.jsonl").write_text('{"text": "It is there now."}')
    assert build(recipes.check(recipe, "recipe"), tmp_path, tmp_path / "out")["totals"]["documents"] == 1  # the same directory again
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/events.jsonl").write_text('{"event": "click", "time": 1}')
    with pytest.raises(InputError, match="holds no corpus"):
        build(recipes.check(recipe, "recipe"), tmp_path, tmp_path / "strange")
    with pytest.raises(InputError, match=r"holds no corpus .* Give the directory"):
        status(tmp_path)


def test_speed_time_left_and_lost_workers_are_those_of_the_events(tmp_path: Path) -> None:
    now = time.time()
    rows = [
        {"time": now - 900, "event": "begun", "workers": 1},
        {"time": now - 899, "event": "failed", "error": "an older run"},
        {"time": now - 100, "event": "begun", "workers": 2},
        {"time": now - 95, "event": "progress", "phase": "plan", "done": 10_000_000, "total": 10_000_000},
        {"time": now - 95, "event": "planned", "units": 5, "bytes": 10_000_000, "workers": 2},
        *(
            {"time": now - at, "event": "progress", "phase": "read", "done": (90 - at) * 100_000, "total": 10_000_000}
            for at in range(90, 4, -5)
        ),
        {"time": now - 50, "event": "lost_worker", "source": "web", "file": 'a "b".warc', "offset": 7, "kind": "timeout", "detail": "x"},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"time": 1, "ev'
    (tmp_path / "events.jsonl").write_text("no json\n[]\n" + text)
    with locked(tmp_path):
        told = status(tmp_path)
    assert told["state"] == "running"
    assert told["error"] is None
    assert (told["phase"], told["done"], told["total"]) == ("read", 8_500_000, 10_000_000)
    assert told["per_second"] == pytest.approx(100_000, rel=1e-3)
    assert told["seconds_left"] == 15
    assert 99 <= told["seconds"] <= 105
    assert told["lost_workers"] == 1
    assert told["lost"][0]["offset"] == 7
    lines = metrics(told | {"corpus": 'odd "name"\n'}).splitlines()
    sample = re.compile(r'codedev_build_\w+\{corpus="(?:[^"\\\n]|\\["\\n])*"(?:,\w+="\w+")*\} \d+(?:\.\d+)?')
    assert [line for line in lines if not line.startswith("# ") and not sample.fullmatch(line)] == []
    assert 'codedev_build_state{corpus="odd \\"name\\"\\n",state="running"} 1' in lines
    (tmp_path / "events.jsonl").write_text(text)
    assert status(tmp_path)["state"] == "stopped"


def test_progress_is_logged_when_a_phase_begins_and_ends_and_now_and_then(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    clock = iter([0.0, 1.0, 2.0, EVERY + 0.5, EVERY + 1, EVERY + 2, EVERY + 3])
    report = logged(lambda what, done, total, note="": told.append((what, done)), Events(tmp_path), lambda: next(clock))
    for done in range(6):
        report("read", done, 5)
    report("write", 0, 9)
    assert len(told) == 7
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(row["phase"], row["done"]) for row in rows] == [("read", 0), ("read", 3), ("read", 5), ("write", 0)]
