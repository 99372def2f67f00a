"""`codedev tokenize` whole: Parquet in, packed shards out; packing beside concatenation; memory of a corpus and of one ten times as large.

    python benchmarks/bench_tokenize.py --work DIR [--mb 120] [--grow 10] [--rounds 3] [--json FILE]

The corpus is made of real texts below .data (_texts.py), larger ones of the same texts under other ids. A tokenizer of 65,536 tokens
is trained on it. Every run is a process of its own; the output is removed between runs. MB/s are bytes of text by wall clock, and by CPU
time of the process; the peak is VmHWM, mapped files included; "private" is the most of what is not (RssAnon), looked at ten times a second.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from _texts import split
from rich.console import Console
from rich.table import Table

from codedev._run import file_hash, write_json
from codedev.corpus.document import DOCUMENT

_RUN = """
import json, os, sys, threading, time
from pathlib import Path
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.recipe import TokenizeRecipe

corpus, tokenizer, out, workers, keys = sys.argv[1:]
private, done = [0], threading.Event()

def status(name):
    line = next(line for line in open('/proc/self/status') if line.startswith(name))
    return int(line.split()[1]) / 1e3

def watch():
    while not done.wait(0.1):
        private[0] = max(private[0], status('RssAnon'))

threading.Thread(target=watch, daemon=True).start()
wall, cpu = time.perf_counter(), time.process_time()
result = tokenize_corpus(Path(corpus), Path(tokenizer), Path(out), TokenizeRecipe(**json.loads(keys)), workers=int(workers))
found = {'wall': time.perf_counter() - wall, 'cpu': time.process_time() - cpu, 'peak': status('VmHWM'), 'private': private[0]}
done.set()
print(json.dumps({**found, 'rows': result['manifest']['rows'], 'counts': result['manifest']['counts']}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--mb", type=int, default=120)
    parser.add_argument("--grow", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    megabytes = _corpora(work, arguments.data, arguments.mb, arguments.grow)
    if not (work / "tokenizer/tokenizer.json").exists():
        from codedev.tokenize.train import train_tokenizer

        train_tokenizer(work / "corpus1", work / "tokenizer")
    usual: dict[str, Any] = {"seq_len": arguments.seq_len}
    cases = [(f"{workers} thread{'s' * (workers > 1)}", 1, workers, usual) for workers in (1, 2)]
    cases += [("concatenate, 2 threads", 1, 2, {**usual, "packing": "concatenate"}), ("fim, 2 threads", 1, 2, {**usual, "fim": {}})]
    cases += [(f"{arguments.grow} times the text, 2 threads", arguments.grow, 2, usual)] if arguments.grow > 1 else []
    found: dict[str, list[dict[str, Any]]] = {name: [] for name, *_ in cases}
    for round_ in range(arguments.rounds):
        for name, times, workers, keys in cases:
            if times == 1 or round_ == 0:
                found[name].append(_run(work, times, workers, keys))
    rows = [_row(name, megabytes * times, found[name]) for name, times, _, _ in cases]
    _print(rows)
    if arguments.json:
        write_json(arguments.json, {"megabytes": megabytes, "rows": rows})


def _corpora(work: Path, data: Path, megabytes: int, grow: int) -> float:
    """corpus1, and corpusN of the same documents N times; MB of text of the first."""
    learn, held = split(data)
    texts = [(kind, text) for kind in sorted(learn) for text in [*learn[kind], *held.get(kind, [])]]
    chosen, size = [], 0
    for kind, text in sorted(texts, key=lambda pair: hash_of(pair[1])):
        if size < megabytes * 1e6:
            chosen.append((kind, text))
            size += len(text.encode())
    for times in {1, grow}:
        folder = work / f"corpus{times}"
        if not (folder / "manifest.json").exists():
            _write(folder, chosen, times)
    return size / 1e6


def hash_of(text: str) -> int:
    import xxhash

    return int(xxhash.xxh3_64_intdigest(text.encode()))


def _write(folder: Path, texts: list[tuple[str, str]], times: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "documents/all").mkdir(parents=True)
    parts = []
    for number in range(times):
        path = folder / f"documents/all/part-{number:05d}.parquet"
        columns: dict[str, Any] = {name: pa.nulls(len(texts), DOCUMENT.field(name).type) for name in DOCUMENT.names}
        columns["id"] = pa.array([f"{number}:{i}" for i in range(len(texts))])
        columns["source"] = pa.array(["all"] * len(texts)).dictionary_encode()
        columns["kind"] = pa.array(["code" if kind == "code" else "web" for kind, _ in texts]).dictionary_encode()
        columns["text"] = pa.array([text for _, text in texts], pa.large_string())
        columns["meta"] = pa.array(["{}"] * len(texts))
        pq.write_table(pa.table(columns, schema=DOCUMENT), path, compression="zstd", row_group_size=2000)
        size = sum(len(text.encode()) for _, text in texts)
        entry = {"path": str(path.relative_to(folder)), "rows": len(texts), "text_bytes": size, "hash": file_hash(path)}
        parts.append(entry)
    write_json(folder / "manifest.json", {"format": "codedev.corpus/1", "parts": {"documents": parts}})


def _run(work: Path, times: int, workers: int, keys: dict[str, Any]) -> dict[str, Any]:
    out = work / "shards"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", _RUN, str(work / f"corpus{times}"), str(work / "tokenizer"), str(out), str(workers), json.dumps(keys)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    shutil.rmtree(out)
    return found


def _row(name: str, megabytes: float, runs: list[dict[str, Any]]) -> dict[str, Any]:
    counts = runs[0]["counts"]
    middle = {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu", "peak", "private")}
    return {
        "case": name,
        "mb": megabytes,
        "mb_a_second": megabytes / middle["wall"],
        "mb_a_cpu_second": megabytes / middle["cpu"],
        "peak_mb": middle["peak"],
        "private_mb": middle["private"],
        "tokens": counts["tokens_packed"],
        "efficiency": counts["tokens_packed"] / (counts["tokens_packed"] + counts["padding"]),
        "documents": counts["documents"],
        "cut": counts["documents_cut"],
    }


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(title="codedev tokenize")
    for name in ("", "MB", "MB/s", "MB/CPU s", "peak MB", "private MB", "slots filled", "documents", "cut though they fit"):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        table.add_row(
            row["case"],
            f"{row['mb']:,.0f}",
            f"{row['mb_a_second']:.1f}",
            f"{row['mb_a_cpu_second']:.1f}",
            f"{row['peak_mb']:,.0f}",
            f"{row['private_mb']:,.0f}",
            f"{row['efficiency']:.4%}",
            f"{row['documents']:,}",
            f"{row['cut']:,} ({row['cut'] / max(1, row['documents']):.1%})",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
