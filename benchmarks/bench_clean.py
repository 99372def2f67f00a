"""The clean stage: MB of text a second of one core, stage by stage and as whole builds with one and two workers, and a build of gigabytes.

    python benchmarks/bench_clean.py [--data .data] [--mb 300] [--rounds 3] [--size 5GB] [--memory 4GB] [--work DIR] [--json FILE]

Real documents of five kinds, drawn again and again with words changed (see _clean_input.py). The recipe masks personal data, identifies the
language, scores and filters (preset fineweb, code rules) and takes out exact and near duplicates. "Stages" are the first pass over text,
batches in memory, one thread, the quickest of the rounds; "build" is `codedev corpus build` from Parquet to Parquet, runs with one and with
two workers in turns, the quickest of each: MB a CPU second of all processes, start of Python and of the workers counted. "By CPU time" is
what two workers gain on two cores that do nothing else: one worker's time to that of the parent and half of the workers'. `--size` adds one
build of that much text with two workers, and prints what it needed: the sum of the resident memory of all its processes (shared pages
counted once a process, mapped files too), looked up every 0.2 s, and disk. MB are 10**6 bytes of UTF-8 text.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from _bench import _THREADS, machine, write_json
from _clean_input import KINDS, make, seeds

Row = dict[str, Any]
RULES: dict[str, Any] = {
    "pii": dict.fromkeys(("email", "ip", "phone", "card", "iban", "national_id", "secret"), "mask"),
    "language": {"min_score": 0.3},
    "quality": {"preset": "fineweb", "code": {}},
    "dedup": {"exact": {}, "minhash": {}},
}
STAGE_BYTES = 40_000_000  # of text, for the stages one by one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent.parent / ".data", help="folder of the real data")
    parser.add_argument("--mb", type=float, default=300, help="MB of text of the builds (300); 0 = none")
    parser.add_argument("--rounds", type=int, default=3, help="of which the quickest counts (3)")
    parser.add_argument("--size", default=None, metavar="SIZE", help="also one build of so much text, such as 5GB")
    parser.add_argument("--memory", default="4GB", metavar="SIZE", help="of that build (4GB)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="kept: inputs; the disk holds three times --size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    arguments = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory(prefix="codedev-clean-") as scratch:
        work = (arguments.work or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        seeded = seeds(arguments.data.resolve(), work)
        print(f"{about['cpu']}, load {about['load']}\n", flush=True)
        rows = _stages(work, seeded, min(STAGE_BYTES, int(arguments.mb * 1e6) or STAGE_BYTES), arguments.rounds)
        if arguments.mb:
            rows += _builds(work, seeded, int(arguments.mb * 1e6), arguments.rounds)
        if arguments.size:
            rows.append(_large(work, seeded, _bytes(arguments.size), arguments.memory))
    if arguments.json:
        write_json(arguments.json, "clean", about, {"mb": arguments.mb, "rounds": arguments.rounds, "size": arguments.size}, rows)


def _bytes(size: str) -> int:
    return int(float(size.upper().removesuffix("GB")) * 1e9)


def _recipe() -> Row:
    sources = [{"name": kind, "type": "tables", "kind": kind, "paths": [f"{kind}/*.parquet"]} for kind in KINDS]
    return {"name": "clean", "sources": sources, **RULES}


# -- stages ------------------------------------------------------------------------------------------------------------------------


def _stages(work: Path, seeded: Path, size: int, rounds: int) -> list[Row]:
    """Every stage of the first pass on batches as the source gives them, and what the table of scores costs to write."""
    from codedev.corpus.parts import PartWriter
    from codedev.corpus.plan import make_plan, read_plan
    from codedev.corpus.recipe import check
    from codedev.corpus.records import Reader
    from codedev.corpus.score import with_identity
    from codedev.corpus.unit import Context, scoring_stages, tables

    folder = work / "stages"
    shutil.rmtree(folder, ignore_errors=True)
    make(folder, seeded, size)
    recipe = check(_recipe(), "bench")
    context = Context(recipe, folder, folder / "out")
    plan = make_plan(context, folder / "plan.jsonl", lambda *_: None)
    units = list(read_plan(plan.path))

    def read() -> list[Any]:
        return [batch for unit in units for batch in Reader(recipe.sources[unit.source], folder).batches(unit.extents)]

    spent: dict[str, float] = {}

    def timed(name: str, run: Callable[[], Any]) -> Any:
        for number in range(rounds + 1):
            started = time.thread_time()
            result = run()
            if number:  # the first run compiles, loads and warms up
                spent[name] = min(spent.get(name, 1e9), time.thread_time() - started)
        return result

    batches = timed("read Parquet", read)
    text = sum(pc.sum(pc.binary_length(batch.column("text"))).as_py() for batch in batches)
    for scoring in scoring_stages(recipe):
        batches = timed(scoring.name, lambda: [scoring.stage(batch)[0] for batch in batches])  # noqa: B023
    batches = timed("hash", lambda: [with_identity(batch) for batch in batches])

    def write() -> None:
        with PartWriter(folder / "scored.parquet", tables(recipe).scored, passing=True) as part:
            for batch in batches:
                part.add(batch)

    timed("write Parquet", write)
    shutil.rmtree(folder)
    total = sum(spent.values())
    inner = sum(cpu for name, cpu in spent.items() if "Parquet" not in name)
    spent |= {"clean (all but Parquet)": inner, "first pass": total}
    mb = text / 1e6
    rows = [{"part": "stage", "name": name, "mb": mb, "rate": mb / cpu, "share": cpu / total} for name, cpu in spent.items()]
    print(f"{f'stage, {mb:.0f} MB of text':<28} {'MB/s a core':>12} {'share':>7}\n{'-' * 50}")
    for row in rows:
        print(f"{row['name']:<28} {row['rate']:>12.1f} {row['share']:>7.1%}", flush=True)
    return rows


# -- builds ------------------------------------------------------------------------------------------------------------------------


def _builds(work: Path, seeded: Path, size: int, rounds: int) -> list[Row]:
    folder = work / f"mb{size // 1_000_000}"
    if not folder.is_dir():
        make(work / "making", seeded, size)
        (work / "making").rename(folder)
    best: dict[int, Row] = {}
    for _ in range(rounds):
        for workers in (1, 2):
            row = _build(folder, work / "out", workers, "4GB")
            if workers not in best or row["wall_s"] < best[workers]["wall_s"]:
                best[workers] = row
    head = " ".join(f"{name:>6}" for name in ("score", "judge", "dedup", "write", "rest"))
    print(f"\n{'build; wall s of its parts':<28} {'MB/s a core':>12} {'MB/s':>7} {'CPU s':>7} {'wall s':>7} {head}\n{'-' * 100}")
    rows = []
    for workers, row in best.items():
        row = {"part": "build", "name": f"{workers} worker{'s' * (workers > 1)}", "mb": row["text_mb"], **row}
        rows.append(row)
        phases = " ".join(f"{row['phases'][phase]:>6.2f}" for phase in ("scored", "judged", "deduplicated", "written", "rest"))
        speed = f"{row['rate']:>12.1f} {row['mb'] / row['wall_s']:>7.1f} {row['cpu_s']:>7.1f} {row['wall_s']:>7.1f}"
        print(f"{row['name']:<28} {speed} {phases}")
    one, two = best[1], best[2]
    rows[-1]["speedup"] = one["wall_s"] / two["wall_s"]
    rows[-1]["speedup_cpu"] = one["cpu_s"] / (two["parent_cpu_s"] + (two["cpu_s"] - two["parent_cpu_s"]) / 2)
    print(f"2 workers are {rows[-1]['speedup']:.2f} times as fast as 1; by CPU time {rows[-1]['speedup_cpu']:.2f} times", flush=True)
    return rows


def _large(work: Path, seeded: Path, size: int, memory: str) -> Row:
    folder = work / "large"
    shutil.rmtree(folder, ignore_errors=True)
    make(folder, seeded, size)
    row = {"part": "large", "name": f"{size / 1e9:g} GB, --memory {memory}", **_build(folder, work / "out", 2, memory)}
    shutil.rmtree(folder)
    print(f"\n{row['name']}, 2 workers: {row['wall_s']:.0f} s, {row['cpu_s']:.0f} s of CPU, {row['rate']:.1f} MB/s a core")
    print(f"peak memory {row['peak_mb']:,.0f} MB, disk {row['disk_mb']:,.0f} MB; {row['records']:,} documents, {row['kept']:,} kept")
    print(f"every record accounted for: {row['balanced']}", flush=True)
    return row


def _build(folder: Path, out: Path, workers: int, memory: str) -> Row:
    """One build in processes of their own."""
    shutil.rmtree(out, ignore_errors=True)
    (folder / "recipe.yaml").write_text(json.dumps(_recipe()))
    command = [sys.executable, "-m", "codedev", "corpus", "build", str(folder / "recipe.yaml"), "--out", str(out)]
    # One thread a library for each worker that was asked for: a pool of threads would make one worker two.
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(workers))}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    command += ["--workers", str(workers), "--memory", memory]
    with open(folder / "stderr", "wb") as said:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
    peak, parent = 0, 0.0
    while child.poll() is None:
        peak, parent = max(peak, _resident(child.pid)), max(parent, _cpu(child.pid))
        time.sleep(0.2)
    ended, after = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode:
        raise SystemExit((folder / "stderr").read_text())
    manifest = json.loads((out / "manifest.json").read_text())
    cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    text = _text_bytes(folder)
    row = {
        "text_mb": text / 1e6,
        "rate": text / 1e6 / cpu,
        "cpu_s": cpu,
        "parent_cpu_s": parent,  # of the process that the others work for: with two workers, what they wait for
        "wall_s": ended - started,
        "peak_mb": peak / 1e6,
        "disk_mb": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6,
        "records": manifest["totals"]["records"],
        "kept": manifest["totals"]["documents"],
        "dropped": manifest["totals"]["dropped"],
        "balanced": _balanced(manifest, out),
        "phases": _phases(out, started, ended),
    }
    shutil.rmtree(out)
    return row


def _text_bytes(folder: Path) -> int:
    """Of text in the input, measured once."""
    known = folder / "text_bytes"
    if not known.exists():
        import pyarrow.parquet as pq

        total = 0
        for path in folder.glob("*/*.parquet"):
            with pq.ParquetFile(path) as file:
                total += sum(pc.sum(pc.binary_length(batch.column(0))).as_py() for batch in file.iter_batches(1024, columns=["text"]))
        known.write_text(str(total))
    return int(known.read_text())


def _phases(out: Path, started: float, ended: float) -> dict[str, float]:
    """Seconds that each part of the build took, by its own log."""
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    phases, last = {}, next(event["time"] for event in events if event["event"] == "planned")
    phases["rest"] = last - started
    for event in events:
        if event["event"] in ("scored", "judged", "deduplicated", "written"):
            phases[event["event"]], last = event["time"] - last, event["time"]
    phases["rest"] += ended - last
    return phases


def _balanced(manifest: Row, out: Path) -> bool:
    """Every record is in the parts or in the count of a stage: read from the files themselves."""
    import pyarrow.parquet as pq

    kinds = ("documents", "dropped", "errors")
    held = sum(pq.read_metadata(path).num_rows for kind in kinds for path in (out / kind).rglob("*.parquet"))
    for stages in manifest["waterfall"].values():
        for stage, after in zip(stages, [*stages[1:], None], strict=True):
            lost = sum(stage["drop"].values()) + sum(stage["error"].values())
            if stage["rows_in"] != stage["rows_out"] + lost or (after and after["rows_in"] != stage["rows_out"]):
                return False
    return bool(held == manifest["totals"]["records"])


def _cpu(process: int) -> float:
    """Seconds that the process itself has spent, without its children; 0 once it has gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(process: int) -> int:
    """Bytes of resident memory of the process and all below it, page tables and file pages counted; 0 once it has gone."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident(int(child)) for child in children)


if __name__ == "__main__":
    main()
