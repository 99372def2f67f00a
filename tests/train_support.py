"""Small shard directories and recipes for the tests of training, written straight with pyarrow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from codedev import _recipe
from codedev.train.recipe import TrainRecipe

BOS, EOS, PAD, VOCAB, SEQ_LEN = 0, 1, 2, 250, 64
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
UINT16 = pa.uint16()
SPAN = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))


def write_shards(
    directory: Path,
    rows: int = 40,
    seed: int = 0,
    *,
    dtype: Any = UINT16,
    files: int = 2,
    spans: list[Any] | None = None,
    bos: int | None = BOS,
    **manifest: Any,
) -> list[list[tuple[str, int, list[int]]]]:
    """Rows of random documents whose tokens rise by a fixed step, so that there is something to learn. Every fifth row ends in padding.

    Returns the segments (document, offset, tokens) of each row. A token covers two bytes, bos and eos none.
    """
    random = np.random.default_rng(seed)
    packed = []
    for row in range(rows):
        segments, left = [], SEQ_LEN if row % 5 else SEQ_LEN - 7
        while left:
            length = min(left, int(random.integers(1, 30)))
            start, step = int(random.integers(3, VOCAB)), int(random.integers(1, 4))
            tokens = [3 + (start + step * i) % (VOCAB - 3) for i in range(length)]
            cut = random.random() < 0.2  # the later piece of a document: no bos
            if not cut and bos is not None:
                tokens[0] = bos
            if length > 3:
                tokens[-1] = EOS
            segments.append((f"doc-{row}-{len(segments)}", 11 if cut else 0, tokens))
            left -= length
        packed.append(segments)
    directory.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, part in enumerate(np.array_split(np.arange(rows), files)):
        name = f"shard-{number:05d}.arrow"
        table = _table([packed[row] for row in part], [spans[row] for row in part] if spans else [None] * len(part), dtype)
        with pa.ipc.new_file(str(directory / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
        entries.append({"name": name, "rows": len(part), "hash": ""})
    whole = {
        "format": "codedev.shards/1",
        "seq_len": SEQ_LEN,
        "dtype": str(dtype),
        "rows": rows,
        "vocab_size": VOCAB,
        "bos_id": bos,
        "eos_id": EOS,
        "pad_id": PAD,
        "tokenizer": {"file": "tokenizer.json", "hash": "h"},
        "counts": {},
        "seed": seed,
        "files": entries,
        "corpus": None,
    }
    (directory / "manifest.json").write_text(json.dumps(whole | manifest))
    return packed


def _table(rows: list[list[tuple[str, int, list[int]]]], spans: list[Any], dtype: Any) -> pa.Table:
    ids = np.full((len(rows), SEQ_LEN), PAD)
    for i, segments in enumerate(rows):
        tokens = [token for _, _, piece in segments for token in piece]
        ids[i, : len(tokens)] = tokens
    covered = [[sum(2 for token in piece if token not in (BOS, EOS)) for _, _, piece in row] for row in rows]
    return pa.table(
        {
            "input_ids": pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1), dtype), SEQ_LEN),
            "segment_lengths": pa.array([[len(piece) for _, _, piece in row] for row in rows], pa.list_(pa.int32())),
            "segment_documents": pa.array([[name for name, _, _ in row] for row in rows], pa.list_(pa.string())),
            "segment_offsets": pa.array([[offset for _, offset, _ in row] for row in rows], pa.list_(pa.int64())),
            "segment_bytes": pa.array(covered, pa.list_(pa.int64())),
            "loss_spans": pa.array(spans, SPAN),
        }
    )


def recipe(directory: str = "run", **changes: Any) -> TrainRecipe:
    """A tiny recipe; `changes` are `section__key=value`."""
    data: dict[str, Any] = {
        "stage": "pt",
        "model": {"config": dict(TINY)},
        "data": {"shards": "shards"},
        "batch": {"rows": 8, "micro_rows": 8},
        "optim": {"lr": 3e-3, "warmup": 2, "cooldown": 0.3},
        "run": {"dir": directory, "steps": 12},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            data[section] = {k: v for k, v in {**data[section], name: value}.items() if v is not None}
        else:
            data[section] = value
    return _recipe.check(data, TrainRecipe, "recipe.yaml")


def on_two_processes(program: str, base: Path, *, fails: bool = False) -> subprocess.CompletedProcess[str]:
    """`program`, which can import these tests, run by torchrun on two processes with argument `base`; it succeeds unless it `fails`."""
    worker = base / "worker.py"
    worker.write_text(program)
    here = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(worker), str(base)]
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode != 0) is fails, done.stderr[-3000:]
    return done
