"""For bench_export.py, run by another Python: the formats' own libraries write the same, those of them that this Python has.

    python export.py SHARDS HF OUT      SHARDS: a shard directory; HF: its export with `--to hf`

Prints a line of JSON a library. A row's Python values are made outside of the time that is counted.
"""

import importlib.util
import json
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa


def main() -> None:
    shards, exported, out = map(Path, sys.argv[1:])
    for name, library, write in (
        ("datasets", "datasets", save_to_disk),
        ("megatron-core", "megatron", build_index),
        ("MDSWriter", "streaming", write_mds),
    ):
        if importlib.util.find_spec(library) is None:
            continue
        try:
            spent = write(exported if library == "datasets" else shards, out)
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        shutil.rmtree(out)
        print(json.dumps({"way": name, "cpu_s": spent[0], "wall_s": spent[1], "written_mb": written / 1e6}), flush=True)


class Clock:
    """Sums what runs inside of it."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> None:
        self.begin = self.now()

    def __exit__(self, *_: object) -> None:
        cpu, wall = self.now()
        self.cpu, self.wall = self.cpu + cpu - self.begin[0], self.wall + wall - self.begin[1]

    @staticmethod
    def now() -> tuple[float, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime, time.perf_counter()


def batches(shards: Path):  # type: ignore[no-untyped-def]
    for entry in json.loads((shards / "manifest.json").read_text())["files"]:
        reader = pa.ipc.open_file(pa.memory_map(str(shards / entry["name"])))
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            ids = batch.column("input_ids").flatten().to_numpy().reshape(batch.num_rows, -1)
            yield ids, *(batch.column(f"segment_{name}").to_pylist() for name in ("lengths", "documents", "offsets"))


def save_to_disk(exported: Path, out: Path) -> tuple[float, float]:
    import datasets

    datasets.disable_progress_bars()
    loaded, clock = datasets.load_from_disk(str(exported)), Clock()
    with clock:
        loaded.save_to_disk(str(out))
    return clock.cpu, clock.wall


def build_index(shards: Path, out: Path) -> tuple[float, float]:
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    out.mkdir()
    clock, builder = Clock(), None
    for ids, lengths, _, _ in batches(shards):
        builder = builder or IndexedDatasetBuilder(str(out / "tokens.bin"), dtype=np.uint16 if ids.dtype == np.uint16 else np.int32)
        with clock:
            for row, counts in zip(ids, lengths, strict=True):
                at = 0
                for count in counts:
                    builder.add_document(row[at : at + count], [count])
                    at += count
    with clock:
        builder.finalize(str(out / "tokens.idx"))
    return clock.cpu, clock.wall


def write_mds(shards: Path, out: Path) -> tuple[float, float]:
    from streaming import MDSWriter

    clock, writer = Clock(), None
    for ids, lengths, documents, offsets in batches(shards):
        width = ids.shape[1]
        columns = {"tokens": f"ndarray:{ids.dtype}:{width}", "seq_lengths": "ndarray:int32", "documents": "json"}
        writer = writer or MDSWriter(columns=columns, out=str(out), hashes=["xxh3_128"])
        made = [
            {"tokens": row, "seq_lengths": np.array([*counts, width - sum(counts)][: len(counts) + (sum(counts) < width)], np.int32),
             "documents": [list(pair) for pair in zip(names, begins, strict=True)]}
            for row, counts, names, begins in zip(ids, lengths, documents, offsets, strict=True)
        ]  # fmt: skip
        with clock:
            for sample in made:
                writer.write(sample)
    with clock:
        writer.finish()
    return clock.cpu, clock.wall


if __name__ == "__main__":
    main()
