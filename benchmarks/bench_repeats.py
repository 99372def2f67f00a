"""Repeats: spans of N bytes that an earlier document holds, lines, URLs: MB a second of one core, beside the suffix array's method.

    python benchmarks/bench_repeats.py [--data .data] [--peers PYTHON] [--json FILE]      two minutes with the peer

PYTHON is that of an environment with `pip install pydivsufsort`; without it codedev is measured alone. Both see the same real texts in the
same run, one core each, and must name the same bytes: `differ` counts those that only one of them does. MB are 10**6 bytes, CPU time is
the median of three runs for codedev, one for the peer. `barrier` is the whole of `find_repeats`, on Parquet with zstd, disk and all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS"), "1"))

import _bench
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from codedev.corpus.repeats.config import Lines, Substring
from codedev.corpus.repeats.lines import find_lines
from codedev.corpus.repeats.substring import find_repeats
from codedev.corpus.standing import Table
from codedev.kernels.repeats import anchors, repeated
from codedev.kernels.urls import canonical

SETS = {
    "books, old editions": ("books", ("*.txt", "*.asciidoc", "*.tex", "*.htm", "*.xhtml", "LICENSE*")),
    "licences, C sources": ("code", ("LICEN*", "COPYING*", "*.c", "*.h")),
    "web pages, HTML": ("web", ("*.html", "*.htm")),
}
MOST = 40_000_000  # bytes of a set


def texts_of(folder: Path, patterns: tuple[str, ...]) -> list[bytes]:
    held, size = [], 0
    for path in sorted({path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}):
        text = path.read_bytes().decode("utf-8", "ignore").encode()
        if size + len(text) > MOST:
            break
        held.append(text)
        size += len(text)
    return held


def packed(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    data, offsets = np.frombuffer(b"".join(texts), np.uint8), np.cumsum([0, *map(len, texts)]).astype(np.int64)
    data.flags.writeable = offsets.flags.writeable = False
    return data, offsets


def spent(run: Callable[[], Any]) -> tuple[float, Any]:
    """(CPU seconds, the median of three; what the last one returned), after one that does not count."""
    run()
    times = []
    for _ in range(3):
        before = time.process_time()
        out = run()
        times.append(time.process_time() - before)
    return statistics.median(times), out


def substring(name: str, texts: list[bytes], window: int, peers: str | None) -> dict[str, Any]:
    data, offsets = packed(texts)
    size = len(data) / 1e6
    first, told = spent(lambda: anchors(data, offsets, window))
    second, (spans, _) = spent(lambda: repeated(data, offsets, told, window))
    edges = np.zeros(len(data) + 1, np.int64)
    np.add.at(edges, spans[:, 0], 1)
    np.add.at(edges, spans[:, 1], -1)
    marks = edges[:-1].cumsum() > 0
    row: dict[str, Any] = {
        "set": name, "texts": len(texts), "mb": size, "window": window, "repeated": float(marks.mean()),
        "kernels_mb_s": size / (first + second), "barrier_mb_s": size / barrier(texts, window),
    }  # fmt: skip
    if peers:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/data.npy", data)
            np.save(f"{folder}/offsets.npy", offsets)
            script = Path(__file__).parent / "peers" / "repeats.py"
            done = subprocess.run([peers, str(script), folder, str(window)], stdout=subprocess.PIPE, check=True)
            said = json.loads(done.stdout.splitlines()[-1])
            row |= {
                "peer_mb_s": size / said["cpu_s"],
                "peer_suffix_array_mb_s": size / said["suffix_array_s"],
                "peer_peak_mb": said["peak_mb"],
            }
            row |= {"differ": int((np.load(f"{folder}/marks.npy") != marks).sum()), "ratio": said["cpu_s"] / (first + second)}
    return row


def tables(folder: Path, texts: list[bytes]) -> tuple[list[Table], Path]:
    column = pa.array([text.decode() for text in texts], pa.large_string())
    ids = [f"d{number}" for number in range(len(texts))]
    scored = pa.table({"id": ids, "text": column, "kind": pa.array(["web"] * len(texts)).dictionary_encode()})
    pq.write_table(scored, folder / "scored.parquet", compression="zstd", row_group_size=512)
    judged = pa.table({"id": ids, "reason": pa.nulls(len(texts), pa.string())})
    pq.write_table(judged, folder / "judged.parquet", row_group_size=512)
    (folder / "found").mkdir(exist_ok=True)
    return [Table(folder / "scored.parquet", folder / "judged.parquet", 0)], folder / "found"


def barrier(texts: list[bytes], window: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        made, found = tables(Path(folder), texts)
        return spent(lambda: find_repeats(made, found, config=Substring(min_bytes=window), memory=1 << 30))[0]


def others(name: str, texts: list[bytes]) -> Iterator[dict[str, Any]]:
    size = sum(map(len, texts)) / 1e6
    for stage in ("lines", "paragraphs"):
        with tempfile.TemporaryDirectory() as folder:
            made, found = tables(Path(folder), texts)
            cpu, cut = spent(lambda made=made, found=found, stage=stage: find_lines(
                made, found, config=Lines(max_documents=3), memory=1 << 30, stage=stage))  # type: ignore[misc]  # fmt: skip
            yield {"set": name, "stage": stage, "documents_cut": cut, "mb_s": size / cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--peers", help="the Python of an environment with pydivsufsort")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    machine = _bench.machine()
    rows: list[dict[str, Any]] = []
    print(
        f"{'set':<22}{'N':>5}{'texts':>7}{'MB':>7}{'repeated':>10}{'kernels':>9}{'barrier':>9}{'suffix array':>14}"
        f"{'ratio':>7}{'differ':>8}   (MB/s of one core)"
    )
    sets = {name: texts_of(arguments.data / folder, patterns) for name, (folder, patterns) in SETS.items()}
    for name, texts in sets.items():
        for window in (100, 500):
            row = substring(name, texts, window, arguments.peers)
            rows.append(row)
            peer = f"{row['peer_mb_s']:>14.2f}{row['ratio']:>7.1f}{row['differ']:>8}" if arguments.peers else ""
            print(
                f"{name:<22}{window:>5}{row['texts']:>7}{row['mb']:>7.1f}{row['repeated']:>10.1%}{row['kernels_mb_s']:>9.1f}{row['barrier_mb_s']:>9.1f}{peer}",
                flush=True,
            )
    for name, texts in sets.items():
        for row in others(name, texts):
            rows.append(row)
            print(f"{name:<22}{row['stage']:<12}{row['documents_cut']:>7} documents cut{row['mb_s']:>9.1f} MB/s", flush=True)
    urls = [f"https://www.example{n % 997}.com/a/page-{n}.html?utm_source=x&id={n}&ref=%7eb".encode() for n in range(300_000)]
    data, offsets = packed(urls)
    cpu, _ = spent(lambda: canonical(data, offsets))
    rows.append({"stage": "url", "million_s": len(urls) / cpu / 1e6})
    print(f"canonical URLs: {rows[-1]['million_s']:.2f} million a second")
    if arguments.json:
        _bench.write_json(arguments.json, "repeats", machine, {"data": str(arguments.data.name), "peers": bool(arguments.peers)}, rows)


if __name__ == "__main__":
    main()
