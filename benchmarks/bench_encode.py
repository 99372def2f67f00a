"""Encoding: MB of text a second of one core, first pass and warm, beside tokenizers, tiktoken, gigatoken and snaptokens; the same ids.

    python benchmarks/bench_encode.py --peers PYTHON [--work DIR] [--mb 100] [--rounds 3] [--presets cl100k,u7] [--json FILE]
    python benchmarks/bench_encode.py --exact [--presets …]      # ids against tokenizers on every text of .data and on made-up ones

PYTHON is that of an environment with `pip install tokenizers tiktoken gigatoken snaptokens pyarrow numpy`. Texts are 100 MB of source files
and 100 MB of code, LaTeX, books and a hundred languages from .data (_texts.py; nothing stands twice). Each engine is a process of its own,
in rounds one after another; CPU seconds of one thread, medians. A first pass begins with cold caches; making the tables is not counted, but
is in the JSON. Two threads are judged by wall clock beside one thread in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _texts import documents, every_text
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from pretoken_support import REGEX_OF, fuzz, tokenizer_of_ranks  # noqa: E402  # the reference, built as in the tests

RANKS = {"cl100k": "openai/cl100k_base", "o200k": "openai/o200k_base", "gpt2": "openai/r50k_base", "qwen": "qwen/qwen"}
PEERS = ("tokenizers", "tiktoken", "gigatoken", "snaptokens")
_OURS = """
import json, sys, threading, time, zlib
import numpy as np, pyarrow as pa
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from codedev.corpus.buffers import text_buffers
from codedev.tokenize.engine import Engine, encode, load_engine

file, source = sys.argv[1:]
texts = pa.ipc.open_file(pa.memory_map(source)).read_all().column('text').combine_chunks()
texts = texts.chunk(0) if isinstance(texts, pa.ChunkedArray) else texts
_, ends = text_buffers(texts)
cuts = [0, *(np.flatnonzero(np.diff(ends // (1 << 20))) + 1).tolist(), len(texts)]
batches = [texts.slice(a, b - a) for a, b in zip(cuts, cuts[1:]) if b > a]
before = time.process_time()
engine = load_engine(Path(file))
made = time.process_time() - before
small = pa.array(['warm the kernels 123 é'], pa.large_string())
encode(engine, *text_buffers(small))

def run(engine, threads=1):
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda batch: encode(engine, *text_buffers(batch)), batches))

passes, walls, found = [], {}, []
fresh = Engine(engine.shape, engine.tables, [])
for _ in range(2):
    before = time.process_time()
    found = run(fresh)
    passes.append(time.process_time() - before)
for threads in (1, 2):
    before = time.perf_counter()
    run(Engine(engine.shape, engine.tables, []), threads)
    first = time.perf_counter() - before
    warm = Engine(engine.shape, engine.tables, [])
    run(warm, threads)
    before = time.perf_counter()
    run(warm, threads)
    walls[threads] = [first, time.perf_counter() - before]
hashes = [zlib.crc32(ids[starts[i]:starts[i + 1]].tobytes()) for ids, starts in found for i in range(len(starts) - 1)]
tokens = sum(len(ids) for ids, _ in found)
print(json.dumps({'passes': passes, 'tokens': tokens, 'hash': hashes, 'tables': made, 'walls': walls}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--peers", type=Path, metavar="PYTHON")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--mb", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--presets", default="cl100k,u7")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        presets = arguments.presets.split(",")
        for preset in presets:
            _tokenizer(work, arguments.data, preset)
        found = _exact(work, arguments.data, presets) if arguments.exact else _speeds(work, arguments, presets)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=2))


def _speeds(work: Path, arguments: argparse.Namespace, presets: list[str]) -> list[dict[str, Any]]:
    sizes = _inputs(work, arguments.data, arguments.mb)
    peers = PEERS if arguments.peers else ()
    rows = []
    for name, size in sizes.items():
        for preset in presets:
            runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for round_ in range(arguments.rounds):
                runs["codedev"].append(_run([sys.executable, "-c", _OURS], work, preset, name, both=True))
                for peer in peers:
                    if peer == "tokenizers" and round_:
                        continue  # half a minute a run
                    script = str(ROOT / "benchmarks/peers/encode.py")
                    runs[peer].append(_run([str(arguments.peers), script, peer], work, preset, name))
            rows += [{"texts": name, "preset": preset, **row} for row in _rows(runs, size)]
    _print(rows)
    return rows


def _rows(runs: dict[str, list[dict[str, Any]]], size: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    reference = next((runs[peer][0]["hash"] for peer in ("tokenizers", "tiktoken") if runs.get(peer) and "hash" in runs[peer][0]), None)
    slow = next((size / run["passes"][0] for run in runs.get("tokenizers", []) if "passes" in run), None)
    for engine, found in runs.items():
        good = [run for run in found if "passes" in run]
        if not good:
            rows.append({"engine": engine, "error": found[0]["error"]})
            continue
        first = size / statistics.median(run["passes"][0] for run in good)
        warm = size / statistics.median(run["passes"][-1] for run in good)
        differing = None if reference is None else sum(a != b for a, b in zip(good[0]["hash"], reference, strict=True))
        row = {"engine": engine, "first": first, "warm": warm, "documents_differing": differing}
        row |= {"ratio_first": first / slow, "ratio_warm": warm / slow} if slow else {}
        if "walls" in good[0]:
            row["tables_seconds"] = statistics.median(run["tables"] for run in good)
            for i, name in enumerate(("threads_first", "threads_warm")):
                row[name] = statistics.median(run["walls"]["1"][i] / run["walls"]["2"][i] for run in good)
        rows.append(row)
    return rows


def _run(command: list[str], work: Path, preset: str, texts: str, *, both: bool = False) -> dict[str, Any]:
    arguments = [str(work / preset / "tokenizer.json"), str(work / f"{texts}.arrow"), *([] if both else [preset])]
    pinned = [] if both else ["taskset", "-c", "0"]
    done = subprocess.run(
        [*pinned, *command, *arguments], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT) if both else ""}
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][:60]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _tokenizer(work: Path, data: Path, preset: str) -> None:
    folder = work / preset
    if (folder / "tokenizer.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if preset in RANKS:
        path = data / "tokenizers" / f"{RANKS[preset]}.tiktoken"
        tokenizer_of_ranks(path, REGEX_OF[preset]).save(str(folder / "tokenizer.json"))
        ranks = dict(line.split() for line in path.read_text().splitlines() if line.strip())
    else:
        from codedev.tokenize.bpe import learn_bpe
        from codedev.tokenize.presets import PATTERNS
        from codedev.tokenize.shapes import shape_of
        from codedev.tokenize.train import _assemble, _ranks

        texts = (pa.array([text], pa.large_string()) for kind, _, text in documents(data))
        learned = learn_bpe(texts, shape_of(PATTERNS[preset]), 65_229)  # type: ignore[arg-type]
        (folder / "tokenizer.json").write_text(_assemble(learned, PATTERNS[preset], 256).to_str())
        ranks = dict(line.split() for line in _ranks(learned).splitlines())
    regex = REGEX_OF[preset]
    (folder / "ranks.json").write_text(json.dumps({"regex": regex, "ranks": {text: int(rank) for text, rank in ranks.items()}}))


def _inputs(work: Path, data: Path, megabytes: float) -> dict[str, float]:
    """code.arrow and mixed.arrow; MB of each."""
    sizes: dict[str, float] = {}
    for name in ("code", "mixed"):
        texts, size = [], 0
        for kind, _, text in documents(data, code=0 if name == "mixed" else megabytes * 1e6):
            if (kind == "code" or name == "mixed") and size < megabytes * 1e6:
                texts.append(text)
                size += len(text.encode())
        table = pa.table({"text": pa.array(texts, pa.large_string())})
        with pa.OSFile(str(work / f"{name}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        sizes[name] = size / 1e6
    return sizes


def _exact(work: Path, data: Path, presets: list[str]) -> list[dict[str, Any]]:
    """Differing texts of each preset: every text of .data, and 100,000 made-up ones."""
    from tokenizers import Tokenizer

    from codedev.corpus.buffers import text_buffers
    from codedev.tokenize.engine import encode, load_engine

    rows = []
    for preset in presets:
        engine, reference = load_engine(work / preset / "tokenizer.json"), Tokenizer.from_file(str(work / preset / "tokenizer.json"))
        reference.encode_special_tokens = True
        counts = {"preset": preset, "texts": 0, "mb": 0.0, "differing": 0, "made_up": 0, "made_up_differing": 0}
        for made_up, source in ((False, every_text(data)), (True, iter(fuzz(100_000, 7)))):
            batch: list[str] = []
            for text in (*source, None):
                if text is not None:
                    batch.append(text)
                if text is None or len(batch) == 64:
                    ids, starts = encode(engine, *text_buffers(pa.array(batch, pa.large_string())))
                    wanted = reference.encode_batch_fast(batch, add_special_tokens=False)
                    wrong = sum(not np.array_equal(ids[starts[i] : starts[i + 1]], found.ids) for i, found in enumerate(wanted))
                    counts["made_up" if made_up else "texts"] += len(batch)
                    counts["made_up_differing" if made_up else "differing"] += wrong
                    counts["mb"] += 0 if made_up else sum(len(one.encode()) for one in batch) / 1e6
                    batch = []
        print(counts, flush=True)
        rows.append(counts)
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Encoding, MB a second of one core")
    for name in ("texts", "vocabulary", "engine", "first", "warm", "x tokenizers", "warm", "documents differing", "two threads", "warm"):
        table.add_column(name, justify="left" if name in ("texts", "vocabulary", "engine") else "right")
    for row in rows:
        cells = [row["texts"], row["preset"], row["engine"]]
        if "error" in row:
            table.add_row(*cells, row["error"])
            continue
        ratios = [f"{row[name]:.1f}" if name in row else "" for name in ("ratio_first", "ratio_warm")]
        threads = [f"{row[name]:.2f}" if name in row else "" for name in ("threads_first", "threads_warm")]
        differing = "" if row["documents_differing"] is None else f"{row['documents_differing']:,}"
        table.add_row(*cells, f"{row['first']:.1f}", f"{row['warm']:.1f}", *ratios, differing, *threads)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
