"""What a build will take, by a sample of its input: `codedev doctor RECIPE`.

Of every source some of the extents are drawn, by a hash of where they lie, until they are `share` of its bytes and LEAST bytes; so the same
input gives the same sample. The sample goes through the passes of a build; each unit's CPU time and peak memory are taken in a worker, and
barriers and parts follow. Sizes and times grow with the bytes of the source. What does not: duplicates are rarer in a sample, so output and
the time of writing are upper bounds; what the barriers hold and spill follows from the numbers that near/find.py and dedup.py state.
A file that cannot be cut (a compressed one) is read whole, however small the share, and no more of its source.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from codedev._errors import InputError
from codedev._run import Events, Progress, no_progress
from codedev.corpus.build import compare, joined_units, located, lost_worker
from codedev.corpus.dedup import find_duplicates
from codedev.corpus.engines.local import engine
from codedev.corpus.join import Written
from codedev.corpus.judge import judge_unit
from codedev.corpus.plan import hashed, packed
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.score import score_unit
from codedev.corpus.source import Extent
from codedev.corpus.sources import module_of, rounds
from codedev.corpus.standing import Table
from codedev.corpus.unit import Context, Unit, scoring_stages
from codedev.corpus.write import Placed, write_unit

SHARE = 0.01
LEAST = 2_000_000  # bytes of each source
_CUT = 1 << 20  # bytes of an extent, where a file can be cut
_UNIT = 8 << 20  # bytes of extents that make a unit, as in a build
_START_SECONDS = 3.0  # of CPU, for each worker: Python, libraries, kernels out of their cache
_START_BYTES = 60_000_000  # that a process holds beside what the parent and the largest worker were seen to
_ROW_BYTES = 300  # of memory a row in the exact barrier (dedup.py)
_KEY_BYTES = 12  # on disk a band and row in the near barrier, while a part is sorted twice that (near/find.py)


class _Spent(NamedTuple):
    """Of a unit: CPU seconds, rows, bytes of its tables, peak memory of the process."""

    unit: Unit
    cpu: float
    receipt: dict[str, Any]
    judged: str
    bytes: int
    memory: int


def estimate(
    recipe: CorpusRecipe,
    base: Path,
    *,
    share: float = SHARE,
    workers: int = 1,
    memory: int = 4 << 30,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """sources (name, files, bytes, sampled, records, documents, cpu_seconds) and of the whole build bytes, sampled, records, documents,
    cpu_seconds, barrier_cpu_seconds, seconds (with `workers` cores of its own), memory_bytes (of all its processes), work_bytes (the most
    under `.work`), output_bytes. InputError where a path names nothing or the recipe compares with earlier corpora."""
    if recipe.dedup.against:
        raise InputError("dedup.against: builds beside earlier corpora are not estimated. Leave it out with --set dedup.against=[]")
    with tempfile.TemporaryDirectory(prefix="codedev-estimate-") as scratch:
        out = Path(scratch) / "out"
        out.mkdir()
        context = Context(located(recipe, base.resolve()), base.resolve(), out)
        sizes, units = _sample(context, share)
        scoring_stages(context.recipe)
        parent = _peak()
        with engine(1, isolated=True) as run:
            lost = lost_worker(context, Events(out))
            spent: list[_Spent] = []
            for unit in units[:1]:  # what is loaded and compiled once is no cost of the input
                list(run(partial(_read, context), [unit], lost))
                shutil.rmtree(context.work)
            for told in run(partial(_read, context), units, lost):
                spent.append(told)
                progress("estimate", len(spent), len(units))
            spent += _joined(context, spent, run, lost)
            placed, cpu_barriers = _barriers(context, spent, memory)
            written = {told[0]: told[1:] for told in run(partial(_write, context), placed)}
        names = [source.name for source in recipe.sources]
        factors = {name: sizes[name][1] / max(sizes[name][2], 1) for name in names}
        sources = [_of_source(name, number, sizes[name], factors[name], spent, written) for number, name in enumerate(names)]
    return _total(recipe, sources, spent, cpu_barriers, parent, workers=workers, memory=memory)


# -- the sample ------------------------------------------------------------------------------------------------------------------------


def _sample(context: Context, share: float) -> tuple[dict[str, tuple[int, int, int]], list[Unit]]:
    """(files, bytes, bytes drawn) of each source, and the units of what was drawn."""
    sizes: dict[str, tuple[int, int, int]] = {}
    units: list[Unit] = []
    for number, source in enumerate(context.recipe.sources):
        extents = list(module_of(source.type).plan(source, context.base, min(_CUT, context.recipe.unit_bytes)))
        total = sum(extent.size for extent in extents)
        drawn: list[Extent] = []
        held = 0
        for extent in sorted(extents, key=lambda one: xxhash.xxh3_64_intdigest(f"{one.name}\0{one.start}".encode("utf-8", "replace"))):
            if held >= max(share * total, min(LEAST, total)):
                break
            drawn.append(extent)
            held += extent.size
        drawn.sort(key=lambda one: (one.file, one.start))
        sizes[source.name] = (len({extent.file for extent in extents}), total, held)
        cut = min(_UNIT, context.recipe.unit_bytes)
        units += [Unit(number, index, extents) for index, extents in enumerate(packed(hashed(iter(drawn)), cut))]
    return sizes, units


def _read(context: Context, unit: Unit) -> _Spent:
    started = time.process_time()
    receipt = score_unit(context, unit)
    judged = judge_unit(context, receipt["key"])["key"]
    spent = time.process_time() - started
    stems = (context.work / "scored" / receipt["key"], context.work / "judged" / judged)
    size = sum(path.stat().st_size for stem in stems for path in stem.parent.glob(f"{stem.name}*"))
    facts = {name: receipt[name] for name in ("key", "rows", "counts", "pieces")}
    return _Spent(unit, spent, facts, judged, size, _peak())


def _joined(context: Context, spent: list[_Spent], run: Any, lost: Any) -> list[_Spent]:
    written = {
        (one.unit.source, one.unit.number): {number: Written(*told) for number, told in one.receipt["pieces"].items()} for one in spent
    }
    found: list[_Spent] = []
    for number, source in enumerate(context.recipe.sources):
        for round_ in range(rounds(source)):
            for one in run(partial(_read, context), joined_units(context, number, round_, written), lost):
                found.append(one)
                pieces = one.receipt["pieces"].items()
                written[one.unit.source, one.unit.number] = {name: Written(*told) for name, told in pieces}
    return found


def _barriers(context: Context, spent: list[_Spent], memory: int) -> tuple[list[Placed], float]:
    placed: list[Placed] = []
    row = 0
    for one in sorted(spent, key=lambda one: (one.unit.source, one.unit.number)):
        name, rows = context.recipe.sources[one.unit.source].name, one.receipt["rows"]
        placed.append(Placed(name, one.unit.number, one.receipt["key"], one.judged, row, rows))
        row += rows
    scored, judged, found = (context.work / name for name in ("scored", "judged", "found"))
    tables = [Table(scored / f"{one.scored}.parquet", judged / f"{one.judged}.parquet", one.first_row) for one in placed if one.rows]
    found.mkdir(parents=True)
    spent_before = time.process_time()
    exact = context.recipe.dedup.exact is not None
    find_duplicates([table.judged for table in tables], [table.first_row for table in tables], found, exact=exact, memory=memory // 2)
    compare(context, tables, found, memory // 2)
    return placed, time.process_time() - spent_before


def _write(context: Context, placed: Placed) -> tuple[tuple[str, int], float, int, int]:
    """(source, number), CPU seconds, documents, bytes of the parts."""
    started = time.process_time()
    receipt = write_unit(context, context.work / "found", placed)
    spent = time.process_time() - started
    size = sum((context.work / "written" / placed.source / name).stat().st_size for name in receipt["outputs"])
    return (placed.source, placed.number), spent, receipt["rows"]["documents"], size


# -- the whole -------------------------------------------------------------------------------------------------------------------------


def _of_source(
    name: str, number: int, sizes: tuple[int, int, int], factor: float, spent: list[_Spent], written: dict[Any, tuple[float, int, int]]
) -> dict[str, Any]:
    own = [one for one in spent if one.unit.source == number]
    parts = [facts for (source, _), facts in written.items() if source == name]
    return {
        "name": name,
        "files": sizes[0],
        "bytes": sizes[1],
        "sampled": sizes[2],
        "records": round(factor * sum(one.receipt["counts"]["read"]["rows_in"] for one in own)),
        "rows": round(factor * sum(one.receipt["rows"] for one in own)),
        "documents": round(factor * sum(documents for _, documents, _ in parts)),
        "cpu_seconds": factor * (sum(one.cpu for one in own) + sum(cpu for cpu, _, _ in parts)),
        "work_bytes": round(factor * sum(one.bytes for one in own)),
        "output_bytes": round(factor * sum(size for _, _, size in parts)),
    }


def _total(
    recipe: CorpusRecipe,
    sources: list[dict[str, Any]],
    spent: list[_Spent],
    cpu_barriers: float,
    parent: int,
    *,
    workers: int,
    memory: int,
) -> dict[str, Any]:
    total = {name: sum(source[name] for source in sources) for name in ("bytes", "sampled", "records", "rows", "documents")}
    sampled_rows = sum(one.receipt["rows"] for one in spent)
    barrier = cpu_barriers * total["rows"] / max(sampled_rows, 1)
    units = max(1, -(-total["bytes"] // recipe.unit_bytes))
    busy = min(workers, units)
    shared = sum(source["cpu_seconds"] for source in sources)
    started = _START_SECONDS * (busy + 1)
    minhash = recipe.dedup.minhash
    near = total["rows"] * (2 * _KEY_BYTES * minhash.bands + minhash.bands * minhash.rows // 8) if minhash else 0
    held = min(memory // 2, total["rows"] * max(_ROW_BYTES, 15 * minhash.bands if minhash else 0)) + 20 * total["rows"]
    largest = max((one.memory for one in spent), default=0)
    return {
        "sources": sources,
        **total,
        "workers": workers,
        "cpu_seconds": shared + barrier + started,
        "barrier_cpu_seconds": barrier,
        "seconds": shared / busy + barrier + 2 * _START_SECONDS,
        "memory_bytes": max(parent + held, parent + busy * largest) + _START_BYTES,
        "work_bytes": sum(source["work_bytes"] for source in sources) + near,
        "output_bytes": sum(source["output_bytes"] for source in sources),
    }


def _peak() -> int:
    """Bytes that this process has held at most; 0 where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def room(out: Path) -> int:
    """Free bytes of the disk that the directory is or would be on."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    found = os.statvfs(there)
    return found.f_bavail * found.f_frsize


def show(told: dict[str, Any]) -> None:
    from codedev._terminal import clock, print_table, size

    rows = [
        [one["name"], one["files"], size(one["bytes"]), size(one["sampled"]), one["records"], one["documents"], clock(one["cpu_seconds"])]
        for one in told["sources"]
    ]
    print_table("Estimate from a sample", ["source", "files", "size", "sampled", "records", "kept", "CPU"], rows)
    print(f"time    {clock(told['seconds'])} with {told['workers']} workers of a core each; {clock(told['cpu_seconds'])} of CPU")
    print(f"        of it {clock(told['barrier_cpu_seconds'])} in barriers, on one core")
    print(f"memory  {size(told['memory_bytes'])}, all processes together")
    free = f"; {size(told['free_bytes'])} free" if "free_bytes" in told else ""
    print(f"disk    {size(told['work_bytes'])} under .work while it runs, {size(told['output_bytes'])} of output{free}")
