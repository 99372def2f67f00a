"""Near-duplicates at scale: millions of synthetic documents through the barrier, with the time and the peak memory of each size.

    python benchmarks/bench_near.py [--scale 2000000 ...] [--memory 2GB] [--work FOLDER] [--json FILE]

Every document has a sketch of 112 values and a text of 24 words; one in seven is a copy of an earlier one with a word changed, so that
both the buckets and the verification have work. Making the tables is not counted. Each size runs in a process of its own; peak memory is
the process's greatest resident set, Python and its libraries (about 250 MB) and mapped files counted. Needs about 0.6 GB of disk a million.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _bench import machine

WORDS = 24
PART = 250_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, action="append", metavar="DOCUMENTS", help="may be repeated; default 500,000 and 2,000,000")
    parser.add_argument("--memory", default="2GB", metavar="SIZE", help="what the barrier may hold (2GB)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="for the tables; default a temporary one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    arguments = parser.parse_args()
    memory = int(float(arguments.memory.upper().removesuffix("GB")) * (1 << 30))
    print(f"near-duplicates, --memory {arguments.memory}")
    print(f"{'documents':>12} {'dropped':>11} {'CPU s':>8} {'wall s':>8} {'docs/CPU s':>11} {'peak MB':>8}")
    rows = []
    for scale in arguments.scale or [500_000, 2_000_000]:
        with tempfile.TemporaryDirectory(prefix="codedev-near-", dir=arguments.work) as folder:
            _child(_make, Path(folder), scale)
            row = _child(_run, Path(folder), memory)
        rows.append({"documents": scale, **row})
        rate = f"{row['cpu']:>8.1f} {row['wall']:>8.1f} {scale / row['cpu']:>11,.0f}"
        print(f"{scale:>12,} {row['dropped']:>11,} {rate} {row['peak_mb']:>8,.0f}", flush=True)
    if len(rows) > 1:
        grown = (rows[-1]["peak_mb"] - rows[0]["peak_mb"]) / (rows[-1]["documents"] - rows[0]["documents"]) * 1e6
        print(f"peak memory grows by {grown:.0f} MB a million documents")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "memory": memory, "rows": rows}, indent=1) + "\n")


def _child(task: Any, *given: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(task, given)


def _make(folder: Path, scale: int) -> None:
    """Scored and judged tables as a build leaves them, PART documents each."""
    from codedev.corpus.buffers import text_buffers
    from codedev.kernels.sketch import sketches

    vocabulary = pa.array([f"w{a}{b}{c}" for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwxyz"])
    rng = np.random.default_rng(0)
    earlier = np.empty((0, WORDS), np.int64)
    for number, first in enumerate(range(0, scale, PART)):
        count = min(PART, scale - first)
        words = rng.integers(0, len(vocabulary), (count, WORDS))
        if len(earlier):
            copies = rng.random(count) < 1 / 7
            words[copies] = earlier[rng.integers(0, len(earlier), int(copies.sum()))]
            words[copies, -1] = rng.integers(0, len(vocabulary), int(copies.sum()))
        earlier = np.concatenate([earlier[-PART:], words])
        text = pc.binary_join_element_wise(*(vocabulary.take(pa.array(words[:, i])) for i in range(WORDS)), " ").cast(pa.large_string())
        sketch = sketches(*text_buffers(text))
        values = pa.Array.from_buffers(pa.binary(448), count, [None, pa.py_buffer(sketch)])
        ids = pa.array(np.arange(first, first + count)).cast(pa.string())
        kind = pa.array(["web"] * count).dictionary_encode()
        table = pa.table({"id": ids, "kind": kind, "text": text, "_sketch": values})
        pq.write_table(table, folder / f"scored-{number:04d}.parquet", compression="zstd", row_group_size=4096)
        judged = pa.table({"id": ids, "reason": pa.nulls(count, pa.string())})
        pq.write_table(judged, folder / f"judged-{number:04d}.parquet", row_group_size=4096)


def _run(folder: Path, memory: int) -> dict[str, float]:
    from codedev.corpus.near.find import find_near
    from codedev.corpus.recipe import MinHash
    from codedev.corpus.standing import Table

    tables, first = [], 0
    for path in sorted(folder.glob("scored-*.parquet")):
        tables.append(Table(path, path.with_name(path.name.replace("scored", "judged")), first))
        first += pq.read_metadata(path).num_rows
    found = folder / "found"
    found.mkdir()
    cpu, wall = time.process_time(), time.perf_counter()
    dropped = find_near(tables, found, config=MinHash(), memory=memory)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    shutil.rmtree(found)
    return {"dropped": dropped, "cpu": cpu, "wall": wall, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
