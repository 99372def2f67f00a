"""How builds grow: time, memory and disk by gigabytes of text, with one and two workers and on a Ray cluster of this machine.

    python benchmarks/bench_growth.py [--sizes 0.1 0.3] [--ways 1 2 ray] [--data .data] [--work DIR] [--json FILE]

Real documents drawn again and again with words changed, and the recipe of the clean stage: personal data masked, language, scores, filters,
exact and near duplicates (see _clean_input.py, bench_clean.py). Every build is `codedev corpus build` from Parquet to Parquet. "CPU" is
that of all its processes, Ray's own counted too, looked up every 0.2 s: beside other work on the machine it moves far less than the wall
clock, and the overhead of an engine is a ratio of CPU seconds. "memory" is the sum of what the processes hold themselves (anonymous pages)
at its peak, "work" the most that `.work` held on disk, "near" the most that the barrier of near-duplicates did of it. GB are 10**9 bytes of
UTF-8 text.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _bench import _THREADS, machine, write_json
from _clean_input import make, seeds
from bench_clean import _balanced, _phases, _recipe, _text_bytes

Row = dict[str, Any]
_LOOK = 0.2  # seconds
_PHASES = ("scored", "judged", "deduplicated", "written", "rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.1, 0.3], metavar="GB", help="of text (0.1 0.3)")
    parser.add_argument("--ways", nargs="+", default=["1", "2", "ray"], help="workers of this machine, or ray: a cluster of two CPUs")
    parser.add_argument("--memory", default="1GB", metavar="SIZE", help="of the builds (1GB)")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent.parent / ".data", help="folder of the real data")
    parser.add_argument("--work", type=Path, metavar="DIR", help="kept: inputs; the disk holds four times the largest size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    arguments = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory(prefix="codedev-growth-") as scratch:
        work = (arguments.work or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        seeded = seeds(arguments.data.resolve(), work)
        print(f"{about['cpu']}, load {about['load']}, --memory {arguments.memory}\n")
        print(
            f"{'GB':>5} {'way':>4} {'CPU s':>7} {'wall s':>7} {'CPU s/GB':>9} {'memory MB':>10} {'work MB':>8} {'near MB':>8} {'out MB':>7}"
        )
        print("-" * 73, flush=True)
        rows = []
        for size in arguments.sizes:
            folder = work / f"g{size:g}"
            if not folder.is_dir():
                shutil.rmtree(work / "making", ignore_errors=True)
                make(work / "making", seeded, int(size * 1e9))
                (work / "making").rename(folder)
            for way in arguments.ways:
                rows.append(row := {"gb": _text_bytes(folder) / 1e9, "way": way, **_built(folder, work / "out", way, arguments.memory)})
                print(
                    f"{row['gb']:>5.2f} {way:>4} {row['cpu_s']:>7.0f} {row['wall_s']:>7.0f} {row['cpu_s'] / row['gb']:>9.1f} "
                    f"{row['memory_mb']:>10,.0f} {row['work_mb']:>8,.0f} {row['near_mb']:>8,.0f} {row['out_mb']:>7,.0f}",
                    flush=True,
                )
                if arguments.json:
                    write_json(arguments.json, "growth", about, {"sizes": arguments.sizes, "memory": arguments.memory}, rows)
        _compare(rows)


def _compare(rows: list[Row]) -> None:
    by = {(row["gb"], row["way"]): row for row in rows}
    print()
    for (size, way), row in by.items():
        if way == "ray" and (local := by.get((size, "2"))):
            print(f"Ray beside 2 workers at {size:.2f} GB: {row['cpu_s'] / local['cpu_s'] - 1:+.1%} CPU")
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        if len(own) > 1:
            first, last = own[0], own[-1]
            rates = [row["cpu_s"] / row["gb"] for row in (first, last)]
            held = last["memory_mb"] / first["memory_mb"]
            more = last["gb"] / first["gb"]
            print(f"{way}: {more:.1f} times the text takes {rates[1] / rates[0]:.2f} times the CPU a GB, {held:.2f} times the memory")
    for row in rows:
        print(f"phases of {row['gb']:.2f} GB, {row['way']} (wall s): " + ", ".join(f"{name} {row['phases'][name]:.1f}" for name in _PHASES))


def _built(folder: Path, out: Path, way: str, memory: str) -> Row:
    shutil.rmtree(out, ignore_errors=True)
    (folder / "recipe.yaml").write_text(json.dumps(_recipe() | {"unit_bytes": 32 << 20}))
    command = [sys.executable, "-m", "codedev", "corpus", "build", str(folder / "recipe.yaml"), "--out", str(out), "--memory", memory]
    with _cluster() if way == "ray" else _nothing() as address:
        command += ["--engine", "ray", "--ray-address", address] if address else ["--workers", way]
        environment = {**os.environ, **dict.fromkeys(_THREADS, "1" if way == "1" else "2")}
        seen = {process: _cpu(process) for process in _below(os.getpid())}  # the cluster's own start does not count
        before, cpu = dict(seen), dict(seen)
        peak = work_bytes = near_bytes = 0
        started = time.time()
        with open(folder / "stderr", "wb") as said:
            child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        while child.poll() is None:
            processes = _below(os.getpid())
            cpu |= {process: spent for process in processes if (spent := _cpu(process))}
            peak = max(peak, sum(map(_anonymous, processes)))
            held = _size(out / ".work")
            work_bytes, near_bytes = max(work_bytes, held), max(near_bytes, _size(out / ".work/near"))
            time.sleep(_LOOK)
        ended = time.time()
    if child.returncode:
        raise SystemExit((folder / "stderr").read_text())
    manifest = json.loads((out / "manifest.json").read_text())
    row = {
        "cpu_s": sum(spent - before.get(process, 0.0) for process, spent in cpu.items()),
        "wall_s": ended - started,
        "memory_mb": peak / 1e6,
        "work_mb": work_bytes / 1e6,
        "near_mb": near_bytes / 1e6,
        "out_mb": sum(_size(out / kind) for kind in ("documents", "dropped", "errors")) / 1e6,
        "records": manifest["totals"]["records"],
        "kept": manifest["totals"]["documents"],
        "balanced": _balanced(manifest, out),
        "phases": _phases(out, started, ended),
    }
    shutil.rmtree(out)
    return row


@contextmanager
def _nothing() -> Iterator[str]:
    yield ""


@contextmanager
def _cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with a CPU each, whose processes are children of this one."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    sizes = {"object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **sizes})
    made.add_node(num_cpus=1, object_store_memory=80 << 20)
    try:
        yield made.address
    finally:
        made.shutdown()


def _below(process: int) -> list[int]:
    """All processes that it started, and those that they did, itself not counted."""
    found: list[int] = []
    waiting = [process]
    while waiting:
        try:
            tasks = [f"/proc/{waiting[-1]}/task/{task}/children" for task in os.listdir(f"/proc/{waiting[-1]}/task")]
            children = [int(child) for path in tasks for child in Path(path).read_text().split()]
        except OSError:
            children = []
        waiting.pop()
        found += children
        waiting += children
    return found


def _cpu(process: int) -> float:
    """Seconds that the process itself has spent; 0 once it has gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _anonymous(process: int) -> int:
    """Bytes of memory that are in no file; 0 once it has gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def _size(folder: Path) -> int:
    total = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(inside, name)).st_blocks * 512
            except OSError:
                continue
    return total


if __name__ == "__main__":
    main()
