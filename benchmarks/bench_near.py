"""Near-duplicates at scale: millions of synthetic documents through the barrier, with the time and the peak memory of each size.

    python benchmarks/bench_near.py [--scale 2000000 ...] [--memory 2GB] [--templated | --one-cluster] [--work FOLDER] [--json FILE]

Every document has a sketch of 112 values and a text of 24 words; one in seven is a copy of an earlier one with a word changed, so that
both the buckets and the verification have work. With --templated every document is one of 20 templates of 100 words with up to 12 of them
varied: each shares most of its buckets with a twentieth of all. With --one-cluster there is one template of which up to 60 words are
varied, so that buckets join all documents and most pairs are below `verify`: each that is dropped is then compared with its survivor, and
all pairs of a sample of those that stay.

Making the tables is not counted. Each size runs in a process of its own; peak memory is the process's greatest resident set, Python and
its libraries (about 250 MB) and mapped files counted. Needs about 0.6 GB of disk a million, templates 1.5 GB, and what `disk MB` says.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _bench import machine

WORDS = 24
TEMPLATE = 100
PART = 250_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, action="append", metavar="DOCUMENTS", help="may be repeated; default 500,000 and 2,000,000")
    parser.add_argument("--memory", default="2GB", metavar="SIZE", help="what the barrier may hold (2GB)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="for the tables; default a temporary one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--templated", action="store_const", dest="shape", const="templated", help="20 templates with varied words")
    parser.add_argument("--one-cluster", action="store_const", dest="shape", const="one", help="one template, most pairs below `verify`")
    arguments = parser.parse_args()
    memory = int(float(arguments.memory.upper()[:-2]) * {"MB": 1 << 20, "GB": 1 << 30}[arguments.memory.upper()[-2:]])
    shape = arguments.shape or "copies"
    print(f"near-duplicates ({shape}), --memory {arguments.memory}")
    print(f"{'documents':>12} {'dropped':>11} {'CPU s':>8} {'wall s':>8} {'docs/CPU s':>11} {'peak MB':>8} {'disk MB':>8}")
    rows = []
    for scale in arguments.scale or [500_000, 2_000_000]:
        with tempfile.TemporaryDirectory(prefix="codedev-near-", dir=arguments.work) as folder:
            _child(_make, Path(folder), scale, shape)
            row = _child(_run, Path(folder), memory)
            if shape == "one":
                row |= _child(_check, Path(folder))
        rows.append({"documents": scale, **row})
        rate = f"{row['cpu']:>8.1f} {row['wall']:>8.1f} {scale / row['cpu']:>11,.0f}"
        print(f"{scale:>12,} {row['dropped']:>11,} {rate} {row['peak_mb']:>8,.0f} {row['disk_mb']:>8,.0f}", flush=True)
        if shape == "one":
            print(
                f"  dropped with a Jaccard similarity below 0.8: {row['wrong']}; of 2,000 documents that stay, pairs of 0.8 and more: "
                f"{row['missed']} of {row['pairs']:,}"
            )
    if len(rows) > 1:
        grown = (rows[-1]["peak_mb"] - rows[0]["peak_mb"]) / (rows[-1]["documents"] - rows[0]["documents"]) * 1e6
        print(f"peak memory grows by {grown:.0f} MB a million documents")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "memory": memory, "rows": rows}, indent=1) + "\n")


def _child(task: Any, *given: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(task, given)


def _make(folder: Path, scale: int, shape: str) -> None:
    """Scored and judged tables as a build leaves them, PART documents each."""
    from codedev.corpus.buffers import text_buffers
    from codedev.kernels.sketch import sketches

    vocabulary = pa.array([f"w{a}{b}{c}" for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwxyz"])
    rng = np.random.default_rng(0)
    earlier = np.empty((0, WORDS), np.int64)
    for number, first in enumerate(range(0, scale, PART)):
        count = min(PART, scale - first)
        words = rng.integers(0, len(vocabulary), (count, WORDS if shape == "copies" else TEMPLATE))
        if shape != "copies":
            frames = np.random.default_rng(1).integers(0, len(vocabulary), (20 if shape == "templated" else 1, TEMPLATE))
            most = 12 if shape == "templated" else 60
            varied = rng.random((count, TEMPLATE)) < rng.integers(0, most, count)[:, None] / TEMPLATE
            words = np.where(varied, words, frames[rng.integers(0, len(frames), count)])
        elif len(earlier):
            copies = rng.random(count) < 1 / 7
            words[copies] = earlier[rng.integers(0, len(earlier), int(copies.sum()))]
            words[copies, -1] = rng.integers(0, len(vocabulary), int(copies.sum()))
        earlier = words if shape != "copies" else np.concatenate([earlier[-PART:], words])
        columns = [vocabulary.take(pa.array(words[:, i])) for i in range(words.shape[1])]
        text = pc.binary_join_element_wise(*columns, " ").cast(pa.large_string())
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
    disk, done = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(folder / "near", disk, done))
    watch.start()
    cpu, wall = time.process_time(), time.perf_counter()
    dropped = find_near(tables, found, config=MinHash(), memory=memory)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    done.set()
    watch.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"dropped": dropped, "cpu": cpu, "wall": wall, "peak_mb": peak, "disk_mb": disk[0]}


def _watch(folder: Path, most: list[float], done: threading.Event) -> None:
    """The most that the barrier's files took, in MB, looked at twice a second."""
    while not done.wait(0.5):
        total = 0
        for path in folder.glob("*"):
            with contextlib.suppress(OSError):
                total += path.stat().st_blocks * 512
        most[0] = max(most[0], total / 1e6)


def _check(folder: Path) -> dict[str, int]:
    """Dropped documents less like their survivors than 0.8, and pairs of 0.8 and more among a sample of what stays."""
    from codedev.corpus.buffers import text_buffers
    from codedev.kernels.overlap import jaccards
    from codedev.kernels.shingles import shingle_hashes

    def text_of(rows: np.ndarray) -> pa.Array:
        return pa.chunked_array(texts).take(pa.array(rows)).combine_chunks()

    texts = [pq.read_table(path, columns=["text"]).column(0).combine_chunks() for path in sorted(folder.glob("scored-*.parquet"))]
    changes = pq.read_table(folder / "found" / "near-0000.parquet")
    gone = changes.column("row").to_numpy()
    told = np.array([int(json.loads(one)["duplicate_of"]) for one in changes.column("evidence").to_pylist()])
    wrong = 0
    for low in range(0, len(gone), 20_000):
        part = slice(low, low + 20_000)
        hashes, bounds = shingle_hashes(*text_buffers(text_of(np.stack([gone[part], told[part]], axis=1).ravel())), unit="figures")
        wrong += int((jaccards(hashes, bounds, np.arange(len(bounds) - 1).reshape(-1, 2)) < 0.8).sum())
    stay = np.setdiff1d(np.arange(sum(map(len, texts))), gone)
    sample = np.sort(np.random.default_rng(2).choice(stay, min(2000, len(stay)), replace=False))
    hashes, bounds = shingle_hashes(*text_buffers(text_of(sample)), unit="figures")
    pairs = np.stack(np.triu_indices(len(sample), 1), axis=1)
    missed = sum(int((jaccards(hashes, bounds, pairs[low : low + 250_000]) >= 0.8).sum()) for low in range(0, len(pairs), 250_000))
    return {"wrong": wrong, "missed": missed, "pairs": len(pairs), "lost_to_a_dropped_one": int(np.isin(told, gone).sum())}


if __name__ == "__main__":
    main()
