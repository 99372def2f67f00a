"""Exports: MB of token ids a second of one core, peak memory at two sizes, and what the formats' own libraries take to write the same.

    python benchmarks/bench_export.py [--mb 200] [--seq-len 2048] [--shards DIR] [--peer PYTHON ...] [--work FOLDER] [--json FILE]

The shards are those of the standard library's source files, or of --shards, their record batches repeated until they hold --mb of ids;
the smaller size is an eighth. Each run is a process of its own: median of three, CPU time of user and system, the disk's flush not waited
for in it. Own MB is what the process held at most beyond what it held before. --peer names a Python that has one or more of datasets,
megatron-core, mosaicml-streaming (they ask for packages that exclude each other), and runs what it has in the same run (peers/export.py):
`save_to_disk` of the same columns, IndexedDatasetBuilder segment by segment, MDSWriter row by row; reading the rows is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _bench import in_child, machine, write_json

WAYS = {
    "hf": ("hf", {}), "hf --labels": ("hf", {"labels": True}), "megatron": ("megatron", {}), "mds": ("mds", {}), "npy": ("npy", {}),
    "npy --flat": ("npy", {"flat": True}),
}  # fmt: skip
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=200, help="of token ids")
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--shards", type=Path, metavar="DIR", help="instead of the standard library's")
    parser.add_argument("--peer", action="append", default=[], metavar="PYTHON", help="may be repeated")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="for the data; default a temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)  # in a child: shards, out, way
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(Path(arguments.run[0]), Path(arguments.run[1]), arguments.run[2])))
        return
    where, rows = machine(), []
    with tempfile.TemporaryDirectory(prefix="codedev-export-", dir=arguments.work) as work:
        folder = Path(work)
        source = arguments.shards or standard_library(folder / "base", arguments.seq_len)
        sizes = {name: repeated(source, folder / name, mb) for name, mb in (("small", arguments.mb / 8), ("large", arguments.mb))}
        print(f"{sizes['large']['mb']:.0f} MB of ids, {sizes['large']['rows']:,} rows, {sizes['large']['segments']:,} segments")
        print(f"{'':<14} {'MB/s':>8} {'CPU s':>7} {'wall s':>7} {'written MB':>11} {'own MB':>7} {'an eighth':>10}")
        for way in WAYS:
            runs = [in_child(__file__, "--run", str(folder / "large"), str(folder / "out"), way) for _ in range(REPEATS)]
            small = in_child(__file__, "--run", str(folder / "small"), str(folder / "out"), way)
            row = {"way": way, "own_small_mb": small["own_mb"]}
            row |= {name: statistics.median(one[name] for one in runs) for name in ("cpu_s", "wall_s", "written_mb", "own_mb")}
            rows.append(row | {"rate": sizes["large"]["mb"] / row["cpu_s"]})
            show(rows[-1])
        in_child(__file__, "--run", str(folder / "large"), str(folder / "keep"), "hf")
        for python in arguments.peer:
            script = Path(__file__).parent / "peers" / "export.py"
            done = subprocess.run(
                [python, "-W", "ignore", script, folder / "large", folder / "keep", folder / "peer"],
                check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            for line in filter(lambda line: line.startswith("{"), done.stdout.splitlines()):
                row = json.loads(line)
                rows.append({**row, "rate": sizes["large"]["mb"] / row["cpu_s"]})
                show(rows[-1])
    if arguments.json:
        write_json(arguments.json, "export", where, {"mb": sizes["large"]["mb"], "seq_len": arguments.seq_len}, rows)


def show(row: dict[str, Any]) -> None:
    cells = [
        f"{row['way']:<14}",
        f"{row['rate']:>8,.0f}",
        f"{row['cpu_s']:>7.2f}",
        f"{row['wall_s']:>7.2f}",
        f"{row['written_mb']:>11,.0f}",
    ]
    own = [f"{row[name]:>{width},.0f}" for name, width in (("own_mb", 7), ("own_small_mb", 10)) if name in row]
    print(" ".join(cells + own), flush=True)


def run(shards: Path, out: Path, way: str) -> dict[str, float]:
    import shutil

    from _bench import clock

    from codedev.tokenize.export.run import export_shards

    to, options = WAYS[way]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, base = clock(), memory("VmRSS")
    manifest = export_shards(shards, out, to, **options)["manifest"]
    after = clock()
    own, written = memory("VmHWM") - base, sum(entry["bytes"] for entry in manifest["files"])
    if out.name != "keep":
        shutil.rmtree(out)
    return {"cpu_s": after.cpu - before.cpu, "wall_s": after.wall - before.wall, "own_mb": own, "written_mb": written / 1e6}


def memory(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1.024e-3


def standard_library(folder: Path, seq_len: int) -> Path:
    """Shards of the source files of the standard library."""
    from codedev._run import file_hash
    from codedev._run import write_json as canonical
    from codedev.corpus.document import DOCUMENT
    from codedev.tokenize.build import tokenize_corpus
    from codedev.tokenize.recipe import TokenizeRecipe
    from codedev.tokenize.train import train_tokenizer

    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py"))[:600]
    texts = [path.read_text("utf-8", errors="replace") for path in files]
    documents = [{"id": f"std/{i}", "source": "std", "kind": "code", "text": text, "meta": "{}"} for i, text in enumerate(texts)]
    part = folder / "corpus" / "documents" / "std" / "part-00000.parquet"
    part.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(documents, schema=DOCUMENT), part)
    size = sum(len(text.encode()) for text in texts)
    entry = {"path": "documents/std/part-00000.parquet", "rows": len(texts), "text_bytes": size, "hash": file_hash(part)}
    canonical(folder / "corpus" / "manifest.json", {"format": "codedev.corpus/1", "parts": {"documents": [entry]}})
    train_tokenizer(folder / "corpus", folder / "tokenizer", vocab_size=8192)
    tokenize_corpus(folder / "corpus", folder / "tokenizer", folder / "shards", TokenizeRecipe(seq_len=seq_len))
    return folder / "shards"


def repeated(source: Path, folder: Path, mb: float) -> dict[str, Any]:
    """A shard directory of about `mb` of ids: the batches of `source` again and again, in files of up to 256 MB."""
    import shutil

    from codedev._run import file_hash, read_json
    from codedev._run import write_json as canonical

    manifest = read_json(source / "manifest.json")
    width = manifest["seq_len"] * np.dtype(manifest["dtype"]).itemsize
    folder.mkdir()
    shutil.copyfile(source / manifest["tokenizer"]["file"], folder / manifest["tokenizer"]["file"])
    readers = [pa.ipc.open_file(pa.memory_map(str(source / entry["name"]))) for entry in manifest["files"]]
    batches = [reader.get_batch(i) for reader in readers for i in range(reader.num_record_batches)]
    files: list[dict[str, Any]] = []
    rows = tokens = segments = 0
    while rows * width < mb * 1e6:
        path, begin = folder / f"shard-{len(files):05d}.arrow", rows
        with pa.ipc.new_file(str(path), readers[0].schema) as writer:
            while (rows - begin) * width < 250e6 and rows * width < mb * 1e6:
                for batch in batches:
                    writer.write_batch(batch)
                    lengths = batch.column("segment_lengths").flatten().to_numpy()
                    rows, tokens, segments = rows + batch.num_rows, tokens + int(lengths.sum()), segments + len(lengths)
        files.append({"name": path.name, "rows": rows - begin, "hash": file_hash(path)})
    counts = {**manifest["counts"], "tokens_packed": tokens, "padding": rows * manifest["seq_len"] - tokens, "segments": segments}
    canonical(folder / "manifest.json", {**manifest, "rows": rows, "counts": counts, "files": files, "holdout": 0.0})
    return {"mb": rows * width / 1e6, "rows": rows, "segments": segments}


if __name__ == "__main__":
    sys.exit(main())
