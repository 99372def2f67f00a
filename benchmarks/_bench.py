"""What every benchmark shares: CPU time and peak memory of a case in a process of its own, the machine, the table, the JSON.

CPU time is user + system of the process, its threads and its ended children: on a shared machine it moves far less than the wall clock,
and amount / CPU time is the rate of one core. A case runs once to warm up (its peak memory is taken there) and then REPEATS times, fewer
when that would take longer than its budget; a first run that takes half the budget counts itself. Medians are reported. Linux alone.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

REPEATS = 3
_SHORTEST = 0.05  # seconds: quicker runs are measured several at a time
_PACKAGES = (
    "numpy",
    "numba",
    "pyarrow",
    "polars",
    "orjson",
    "xxhash",
    "zstandard",
    "FastWARC",
    "Resiliparse",
    "trafilatura",
    "jusText",
    "fasttext-predict",
    "tokenizers",
    "torch",
)
# One thread for each library, in the children too: what is reported is the work of one core.
_THREADS = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "MKL_NUM_THREADS")


class Case(NamedTuple):
    """One thing to measure."""

    run: Callable[[], Any]  # may return a Spent, when a part of what it does is not to be counted
    amount: float  # of work that one run does, in units
    unit: str  # "MB of text", "k rows", …
    before: Callable[[], Any] | None = None  # before each run, not counted
    peers: Mapping[str, Callable[[], Any]] = {}  # the floor, or another tool, for the same amount of work


class Spent(NamedTuple):
    cpu: float  # seconds
    wall: float


class SkipError(Exception):
    """The case cannot be measured here; the message says why."""


def clock() -> Spent:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Spent(sum(usage.ru_utime + usage.ru_stime for usage in usages), time.perf_counter())


def measure(case: Case, budget: float) -> dict[str, Any]:
    """The case's row, measured in this process in about `budget` seconds; each peer gets a third of that."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    base = _memory("self", "VmRSS")
    with _children_peak() as largest:
        first = _timed(case.run, case.before, 1)
    peak = max(_memory("self", "VmHWM"), *largest)
    spent, repeats = _median(case.run, case.before, first, budget)
    peers = {}
    for name, run in case.peers.items():
        peers[name] = case.amount / _median(run, None, _timed(run, None, 1), budget / 3)[0].cpu
    return {
        "amount": case.amount,
        "unit": case.unit,
        "rate": case.amount / spent.cpu,  # units a second of CPU time
        "cpu_s": spent.cpu,
        "wall_s": spent.wall,
        "repeats": repeats,
        "peak_mb": peak / 1e6,  # of the largest process, with Python and its libraries
        "own_mb": max(peak - base, 0) / 1e6,  # of that, what was not there before the run: inputs held in memory are not counted
        "peers": peers,
    }


def _median(run: Callable[[], Any], before: Callable[[], Any] | None, first: Spent, budget: float) -> tuple[Spent, int]:
    if first.wall > budget / 2:
        return first, 1
    number = 1 if before else max(1, min(1000, round(_SHORTEST / max(first.wall, 1e-6))))
    deadline, spent = time.perf_counter() + budget - first.wall, [_timed(run, before, number)]
    while len(spent) < REPEATS and time.perf_counter() + first.wall < deadline:
        spent.append(_timed(run, before, number))
    return Spent(*(statistics.median(values) for values in zip(*spent, strict=True))), len(spent)


def _timed(run: Callable[[], Any], before: Callable[[], Any] | None, number: int) -> Spent:
    if before:
        before()
    gc.collect()
    started = clock()
    for _ in range(number):
        said = run()
    ended = clock()
    if isinstance(said, Spent):
        return said
    return Spent(max(ended.cpu - started.cpu, 1e-6) / number, (ended.wall - started.wall) / number)


def _memory(process: int | str, field: str) -> int:
    """Bytes; 0 for a process that has gone. Not getrusage: its maximum is inherited from the process that started this one."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


@contextmanager
def _children_peak() -> Iterator[list[int]]:
    """A list of one number: the peak memory of the largest child process, looked up every 50 ms, known when the block ends."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for process in filter(str.isdigit, os.listdir("/proc")):
                try:
                    parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                if parent == os.getpid():
                    peak[0] = max(peak[0], _memory(process, "VmHWM"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def print_profile(case: Case) -> None:
    """To stderr: the functions that most of the second run's time goes to; the first one loads what is loaded once."""
    import cProfile
    import pstats

    profile = cProfile.Profile()
    for collect in (False, True):
        if case.before:
            case.before()
        if collect:
            profile.runcall(case.run)
        else:
            case.run()
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(30)


def peers_python(folder: Path, packages: Sequence[str], bare: Sequence[str] = ()) -> str:
    """The Python of an environment for other tools, made with these packages where there is none; `bare` ones without what they ask for."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        if bare:
            subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *bare], check=True)
    return str(python)


def in_child(script: str, *arguments: str) -> dict[str, Any]:
    """What the script, run with these arguments in a process of its own with one thread a library, prints as JSON on its last line; its
    stderr goes through."""
    environment = {**os.environ, **dict.fromkeys(_THREADS, "1"), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, script, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{Path(script).name} {' '.join(arguments[:2])} failed")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions; nothing that names the machine or its folders."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),  # processes that want a core already: beside others, rates are lower
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "packages": versions,
    }


_COLUMNS = (("stage", 34), ("per core", 20), ("of", 14), ("CPU s", 8), ("wall s", 8), ("peak MB", 8), ("own MB", 7))


def print_header() -> None:
    cells = [name.ljust(width) if index in (0, 2) else name.rjust(width) for index, (name, width) in enumerate(_COLUMNS)]
    print("  ".join([*cells, "floor or peer"]))
    print("-" * 140, flush=True)


def print_row(title: str, row: dict[str, Any]) -> None:
    if "skipped" in row:
        print(f"{title:<34}  skipped: {row['skipped']}", flush=True)
        return
    kind, _, of = row["unit"].partition(" of ")
    cells = [
        f"{title:<34}",
        f"{_number(row['rate'])} {kind}/s".rjust(20),
        f"{_number(row['amount'])} {of or kind}".ljust(14),
        *(f"{row[name]:.2f}".rjust(8) for name in ("cpu_s", "wall_s")),
        f"{row['peak_mb']:.0f}".rjust(8),
        f"{row['own_mb']:.0f}".rjust(7),
        "; ".join(f"{name} {_number(rate)}" for name, rate in row["peers"].items()),
    ]
    print("  ".join(cells).rstrip(), flush=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def write_json(path: Path, name: str, machine: dict[str, Any], arguments: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """`rows` with the `machine()` they were measured on, asked before the first of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {"format": "codedev.bench/1", "benchmark": name, "machine": machine, "arguments": arguments, "rows": _rounded(rows)}
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Four significant digits: more are noise."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
