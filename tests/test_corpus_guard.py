"""Records that hang or crash native code cost their worker, never the run; the bytes do not depend on how."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from guard_support import SECONDS, Config, name_of_worker, read_lines, register, square_or_die, unregister

from codedev._errors import RunError
from codedev.corpus import guard
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.engines.local import engine
from codedev.corpus.source import Document, Failure


def write(folder: Path, **files: list[str]) -> Path:
    """Files of lines for the wild source, between lines that are documents."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        around = [f"{name} document {number} of some words, before and after" for number in range(40)]
        (folder / f"{name}.txt").write_text("\n".join([*around[:20], *lines, *around[20:]]) + "\n")
    return folder


def recipe(**changes: Any) -> dict[str, Any]:
    source = {"name": "wild", "type": "wild", "paths": ["*.txt"], "max_record_seconds": SECONDS, "max_record_bytes": 1 << 20}
    return {"name": "guarded", "sources": [source | changes], "unit_bytes": 1024, "dedup": {"exact": {}}}


def run_build(folder: Path, out: Path, workers: int, **changes: Any) -> dict[str, Any]:
    return build(recipes.check(recipe(**changes), "recipe"), folder, out, workers=workers, isolated=True)


def tree(out: Path) -> dict[str, bytes]:
    names = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if name.split("/")[0] not in (".work", ".lock", "events.jsonl")}


def errors(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "errors").rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def lost_workers(out: Path) -> list[dict[str, Any]]:
    events = map(json.loads, (out / "events.jsonl").read_text().splitlines())
    return [event for event in events if event["event"] == "lost_worker"]


@pytest.fixture(scope="module", autouse=True)
def _wild_source() -> Any:
    """Known to this module's tests alone."""
    register()
    yield
    unregister()


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Any:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child for child in left if "resource_tracker" not in " ".join(child.cmdline())] == []


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Units with pages that make a real parser hang or eat memory, and units without."""
    return write(tmp_path_factory.mktemp("wild"), a=["extract", "drop this"], b=["drop that"], c=["parse"], d=["refused"])


@pytest.fixture(scope="module")
def built(wild: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "corpus"
    run_build(wild, out, 2)
    return out


# --- builds


def test_each_becomes_an_error_row_in_its_place(wild: Path, built: Path) -> None:
    found = {}
    for row in errors(built):
        line = (wild / row["file"]).read_bytes()[row["offset"] :].split(b"\n")[0]
        assert row["raw"] == line + b"\n"
        found[line.decode()] = (row["kind"], row["message"])
    assert {line: kind for line, (kind, _) in found.items()} == {
        "extract": "timeout", "parse": "memory", "refused": "memory"
    }  # fmt: skip
    assert "max_record_seconds = 0.3" in found["extract"][1]
    assert "67,108,864 bytes of memory" in found["parse"][1]


def test_nothing_else_is_lost(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_bytes())
    totals = manifest["totals"]
    assert totals["records"] == 4 * 40 + 5
    assert (totals["errors"], totals["dropped"]) == (3, 2)
    assert totals["documents"] == totals["records"] - 3 - 2
    assert manifest["waterfall"]["wild"][0]["error"] == {"memory": 2, "timeout": 1}
    assert "timeout" in (built / "report/report.md").read_text()


def test_the_log_names_each_worker_that_was_lost(wild: Path, built: Path) -> None:
    lost = sorted((event["file"], event["kind"], event["detail"]) for event in lost_workers(built))
    assert lost == [("a.txt", "timeout", "over its limit"), ("c.txt", "memory", "over its limit")]
    offsets = {row["offset"] for row in errors(built) if row["file"] != "d.txt"}
    assert {event["offset"] for event in lost_workers(built)} == offsets


def test_one_worker_writes_the_same_bytes(wild: Path, built: Path, tmp_path: Path) -> None:
    run_build(wild, tmp_path / "c", 1)
    assert tree(tmp_path / "c") == tree(built)


def test_a_poisoned_record_is_passed_over_in_this_process_too(wild: Path, built: Path, tmp_path: Path) -> None:
    """What workers found out serves a build that has no guard."""
    out = tmp_path / "c"
    shutil.copytree(built, out)
    (out / "manifest.json").unlink()
    for path in (out / ".work/scored").glob("*.json"):
        path.unlink()
    build(recipes.check(recipe(), "recipe"), wild, out)
    assert tree(out) == tree(built)


def command(folder: Path, out: Path, **changes: Any) -> list[str]:
    (folder / "guarded.yaml").write_text(json.dumps(recipe(**changes)))
    script = [sys.executable, str(ROOT / "tests/guard_support.py")]
    return [*script, "corpus", "build", str(folder / "guarded.yaml"), "--out", str(out), "--workers", "2"]


@pytest.mark.slow
def test_what_cost_a_worker_costs_no_other_when_the_run_is_resumed(wild: Path, built: Path, tmp_path: Path) -> None:
    """kill -9 at the first worker lost, and again at the second; then the command to its end. No record is given a second chance."""
    out = tmp_path / "c"
    for enough in (1, 2):
        process = subprocess.Popen(command(wild, out), stderr=subprocess.DEVNULL)
        workers: list[psutil.Process] = []
        while process.poll() is None and not ((out / "events.jsonl").exists() and len(lost_workers(out)) >= enough):
            workers = psutil.Process(process.pid).children(recursive=True) or workers
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert psutil.wait_procs(workers, timeout=5)[1] == []
    done = subprocess.run(command(wild, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 records given up" in done.stderr
    assert tree(out) == tree(built)
    assert len(lost_workers(out)) <= 2 + 2  # an event stands in the log before the list is on disk: a kill may fall in between


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_workers_deep_in_native_code_end_with_the_command(tmp_path: Path, how: signal.Signals) -> None:
    """They hold the GIL: no thread and no handler of Python would come to its turn."""
    folder = write(tmp_path / "in", a=[f"hang {tmp_path}/1"], b=[f"hang {tmp_path}/2"])
    process = subprocess.Popen(command(folder, tmp_path / "c", max_record_seconds=60), start_new_session=True, stderr=subprocess.DEVNULL)
    while not ((tmp_path / "1").exists() and (tmp_path / "2").exists()):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
    assert process.wait(timeout=5) != 0
    assert psutil.wait_procs(workers, timeout=5)[1] == []


# --- units


def run_units(folder: Path, *units: list[str], workers: int = 2) -> tuple[list[list[Any]], list[guard.Death]]:
    """What each of the units gives in the end, and the deaths on the way; as build.py has it."""
    config = Config(name="wild", paths=("a",), max_record_seconds=SECONDS, max_record_bytes=1 << 20)
    before: dict[int, guard.Death] = {}
    deaths = []

    def lost(number: int, death: guard.Death) -> None:
        deaths.append(death)
        if not guard.poison(folder / f"{number}.poisoned", config, death, before.get(number)):
            before[number] = death

    with engine(workers, isolated=True) as run:
        found = dict(run(partial(read_lines, folder, units), range(len(units)), lost))
    return [[thing if isinstance(thing, Failure) else thing.text for thing in found[number]] for number in sorted(found)], deaths


@pytest.mark.parametrize(
    ("line", "kind", "says", "lost"),
    [
        ("hang", "timeout", "max_record_seconds = 0.3", 1),
        ("segfault", "crash", "SIGSEGV", 1),
        ("abort", "crash", "SIGABRT", 1),
        ("exit", "crash", "exit code 3", 1),
        ("killed", "memory", "killed twice", 2),
    ],
)
def test_what_a_record_can_do_to_its_worker(tmp_path: Path, line: str, kind: str, says: str, lost: int) -> None:
    [things], deaths = run_units(tmp_path, ["one", line, "two", "three"])
    assert things == ["one", Failure(kind, things[1].message, 1, raw=line.encode()), "two", "three"]
    assert says in things[1].message
    assert len(deaths) == lost


def test_several_in_one_unit_and_in_several(tmp_path: Path) -> None:
    """Whatever the order in which they are found, every record that can be read is."""
    units = ["abort", "a", "abort", "b"], ["c", "d", "segfault"], ["e"]
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        things, deaths = run_units(folder, *units, workers=workers)
        assert [[thing if isinstance(thing, str) else thing.kind for thing in unit] for unit in things] == [
            ["crash", "a", "crash", "b"], ["c", "d", "crash"], ["e"]
        ]  # fmt: skip
        assert len(deaths) == 3


def test_a_record_that_only_sleeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_ASLEEP", 2)
    [[failure]], _ = run_units(tmp_path, ["sleep"])
    assert failure.kind == "timeout"


def test_records_below_the_limit_are_kept(tmp_path: Path) -> None:
    """CPU time counts, of one record alone: five records of half the limit each, on a machine as busy as it may be."""
    lines = [f"slow {SECONDS / 2} {number}" for number in range(5)]
    assert run_units(tmp_path, lines, lines) == ([lines, lines], [])


def test_a_worker_killed_from_outside_is_nobodys_fault_once(tmp_path: Path) -> None:
    line = f"killed-once {tmp_path / 'flag'}"
    things, deaths = run_units(tmp_path, ["a", line])
    assert things == [["a", line]]
    assert deaths == [guard.Death("killed", "SIGKILL", guard.Place(0, 2), 1)]


def test_a_death_that_no_record_explains_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"wild: a worker process crashed \(SIGSEGV\)"):
        run_units(tmp_path, ["a"], ["unguarded"])


def test_kills_from_outside_at_different_records_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"killed \(SIGKILL\), most likely for want of memory.*fewer --workers"):
        run_units(tmp_path, [f"killed-once {tmp_path / name}" for name in "ab"])


def test_too_many_poisoned_records_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_POISONED", 2)
    with pytest.raises(RunError, match="wild: more than 2 records of one work unit"):
        run_units(tmp_path, ["abort"] * 3)


# --- the engine


def test_results_come_from_as_many_workers_as_asked_for() -> None:
    with engine(3) as run:
        assert sorted(run(square_or_die, range(10))) == [number**2 for number in range(10)]
        workers = set(run(name_of_worker, range(60)))
        assert os.getpid() not in workers
        assert len(workers) == 3
        assert set(run(name_of_worker, range(9))) <= workers  # they are kept from one pass to the next
    with engine(1) as run:
        assert set(run(name_of_worker, range(3))) == {os.getpid()}


def test_an_error_in_a_task_is_raised_here_with_its_traceback() -> None:
    with pytest.raises(ValueError, match="thirteen") as raised, engine(2) as run:
        list(run(square_or_die, range(20)))
    assert any("square_or_die" in note for note in raised.value.__notes__)


def test_a_worker_lost_without_anybody_to_ask_ends_the_run() -> None:
    with pytest.raises(RunError, match=r"killed.*fewer --workers"), engine(2) as run:
        list(run(square_or_die, [1, -1, 2]))


def test_arguments_are_taken_as_they_are_needed() -> None:
    taken = itertools.count()
    with engine(2) as run:
        results = run(square_or_die, (next(taken) * 0 + 2 for _ in range(1000)))
        for _ in range(5):
            next(results)
        assert next(taken) < 12


# --- what it costs


def test_a_guarded_record_costs_less_than_3_microseconds() -> None:
    document = Document("a", "b")

    def nothing(line: bytes, offset: int) -> Document:
        return document

    def seconds(read: Any) -> float:
        started = time.process_time()
        for offset in range(20_000):
            read(offset)
        return (time.process_time() - started) / 20_000

    bare = statistics.median(seconds(lambda offset: nothing(b"", offset)) for _ in range(9))
    held = statistics.median(seconds(lambda offset: guard.guarded(offset, b"", nothing, b"", offset)) for _ in range(9))
    print(f"{(held - bare) * 1e6:.2f} µs a record")
    assert held - bare < 3e-6


def test_without_poison_a_record_is_what_its_reader_says(tmp_path: Path) -> None:
    config = Config(name="a", paths=("x",))
    with guard.limits(config, tmp_path / "none"):
        assert guard.guarded(5, b"raw", lambda: "what it is") == "what it is"
        with pytest.raises(ZeroDivisionError):
            guard.guarded(5, b"raw", lambda: 1 / 0)
    listed = tmp_path / "a.poisoned"
    assert guard.poison(listed, config, guard.Death("crash", "SIGBUS", guard.Place(0, 2), 7), None)
    with guard.limits(config, listed):
        found = [guard.guarded(offset, b"raw", lambda: "read") for offset in (0, 7, 9)]
    assert found == ["read", Failure("crash", "native code crashed while reading it (SIGBUS)", 7, raw=b"raw"), "read"]
