"""The Ray engine on a real cluster of three nodes on this machine, of which nodes, hosts and the driver are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from guard_support import SECONDS, register, square_or_die, unregister

from codedev._errors import RunError
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.engines import ray as cluster
from codedev.corpus.guard import Death

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
SAMPLES = ROOT / "samples/recipes"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head that runs nothing and two nodes with a CPU each."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *([before] if before else [])])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    sizes = {"object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **sizes})
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80 << 20)
    yield made
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def sample(*changes: str) -> Any:
    return recipes.load(SAMPLES / "corpus.yaml", ("unit_bytes=3000", *changes))


def tree(out: Path) -> dict[str, bytes]:
    names = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if name.split("/")[0] not in (".work", ".lock", "events.jsonl")}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("local") / "out"
    build(sample(), SAMPLES, out, workers=2)
    return tree(out)


def test_the_bytes_of_a_local_build(nodes: Any, local: dict[str, bytes], tmp_path: Path) -> None:
    build(sample(), SAMPLES, tmp_path / "out", workers=0, ray=nodes.address)
    assert tree(tmp_path / "out") == local


def test_a_node_that_is_lost_loses_nothing(nodes: Any, local: dict[str, bytes], tmp_path: Path) -> None:
    lost, read = nodes.add_node(num_cpus=1, object_store_memory=80 << 20), threading.Event()

    def progress(phase: str, done: int, of: int, *more: Any) -> None:
        if phase == "read" and done:
            read.set()

    def kill() -> None:
        read.wait(60)
        nodes.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    build(sample(), SAMPLES, tmp_path / "out", workers=0, ray=nodes.address, progress=progress)
    killer.join()
    assert read.is_set()
    assert tree(tmp_path / "out") == local


def test_a_driver_that_is_killed_goes_on(nodes: Any, local: dict[str, bytes], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codedev", "corpus", "build", str(SAMPLES / "corpus.yaml"), "--out", str(tmp_path / "out"), "-q"]
    command += ["--engine", "ray", "--ray-address", nodes.address, "--set", "unit_bytes=3000"]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out/.work/scored").glob("*.parquet")) and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "out/manifest.json").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert tree(tmp_path / "out") == local


def test_tasks_that_die_and_tasks_that_fail_are_told_as_by_local_workers(nodes: Any, tmp_path: Path) -> None:
    with cluster.engine(nodes.address, 2, tmp_path) as run:
        assert sorted(run(square_or_die, range(1, 13))) == [number**2 for number in range(1, 13)]
        deaths: list[tuple[Any, Death]] = []

        def lost(argument: Any, death: Death) -> None:
            deaths.append((argument, death))
            if len(deaths) == 2:
                raise RunError("twice is enough")

        with pytest.raises(RunError, match="twice is enough"):
            list(run(square_or_die, [-1], lost))
        assert [argument for argument, _ in deaths] == [-1, -1]
        with pytest.raises(RunError, match="a worker process"):
            list(run(square_or_die, [2, -1]))
        with pytest.raises(ValueError, match="thirteen") as failed:
            list(run(square_or_die, [12, 13]))
        assert any("in a worker" in note for note in failed.value.__notes__)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_hangs_costs_its_process_alone(nodes: Any, tmp_path: Path) -> None:
    lines = [f"document {number} of some words, before and after" for number in range(20)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("\n".join([*lines[:10], "hang", "segfault", *lines[10:]]) + "\n")
    source = {"name": "wild", "type": "wild", "paths": ["*.txt"], "max_record_seconds": SECONDS, "max_record_bytes": 1 << 20}
    register()
    try:
        recipe = recipes.check({"name": "guarded", "sources": [source], "dedup": {"exact": {}}}, "recipe")
        manifest = build(recipe, tmp_path / "in", tmp_path / "out", workers=1, ray=nodes.address)
    finally:
        unregister()
    [read] = [stage for stage in manifest["waterfall"]["wild"] if stage["stage"] == "read"]
    assert read["error"] == {"timeout": 1, "crash": 1}
    assert manifest["totals"]["documents"] == 20


def test_where_no_cluster_is_or_a_node_cannot_take_part(nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = cluster._facts()
    assert "does not see" in str(cluster._unfit(tmp_path / "no/marker", facts))
    assert "has codedev" in str(cluster._unfit(tmp_path, facts | {"codedev": "0.0.0"}))
    monkeypatch.setattr(cluster, "_facts", lambda: facts | {"polars": "0.1"})
    with pytest.raises(RunError, match="has polars"), cluster.engine(nodes.address, 1, tmp_path) as run:
        list(run(square_or_die, [1]))
    command = [sys.executable, "-m", "codedev", "corpus", "build", str(SAMPLES / "corpus.yaml"), "--out", str(tmp_path / "out"), "-q"]
    command += ["--engine", "ray", "--ray-address", "127.0.0.1:1"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert said.returncode == 1
    assert "no Ray cluster answers there" in said.stderr
    assert "Traceback" not in said.stderr
