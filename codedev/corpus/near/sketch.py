"""The stage of near-duplicate detection: a sketch of every document that is compared, kept beside it until the barrier has spoken."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.buffers import text_buffers
from codedev.corpus.recipe import MinHash
from codedev.corpus.stage import Stage
from codedev.kernels.sketch import EMPTY, sketches

VERSION = 1
# What a shingle is made of, by kind. A protein is one word; preferences that differ in the rejected answer alone are no duplicates.
UNITS = {"code": "code", "protein": None, "preference": None}


def columns(config: MinHash) -> pa.Schema:
    return pa.schema([pa.field("_sketch", pa.binary(4 * config.bands * config.rows))])


def sketch_stage(config: MinHash) -> Stage:
    """A Stage: appends `_sketch`, K values of 32 bits (K = bands x rows); null where a document is not compared."""
    width = config.bands * config.rows

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        out = np.full((batch.num_rows, width), EMPTY, np.uint32)
        kinds = batch.column("kind").cast(pa.string())
        for unit in ("words", "code"):
            rows = of_unit(kinds, unit)
            if rows.any():
                texts = batch.column("text").filter(pa.array(rows))
                out[rows] = sketches(
                    *text_buffers(texts), ngram=config.ngram, unit=unit, num_hashes=width, seed=config.seed, method=config.method
                )
        unknown = (out == EMPTY).all(axis=1)
        values = pa.Array.from_buffers(pa.binary(4 * width), batch.num_rows, [None, pa.py_buffer(out)])
        values = pc.if_else(pa.array(unknown), pa.scalar(None, values.type), values)
        schema = pa.schema([*batch.schema, *columns(config)], metadata=batch.schema.metadata)
        return pa.RecordBatch.from_arrays([*batch.columns, values], schema=schema), Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)

    return stage


def of_unit(kinds: pa.Array, unit: str) -> np.ndarray:
    """bool[rows]: the rows whose shingles are made of that unit."""
    apart = pa.array([kind for kind, other in UNITS.items() if other != "words"], pa.string())
    if unit == "words":
        return np.asarray(pc.invert(pc.is_in(kinds, apart)).to_numpy(zero_copy_only=False), np.bool_)
    mine = pa.array([kind for kind, other in UNITS.items() if other == unit], pa.string())
    return np.asarray(pc.is_in(kinds, mine).to_numpy(zero_copy_only=False), np.bool_)


def values(column: pa.Array) -> np.ndarray:
    """uint32[rows, K] of a `_sketch` column; EMPTY where it is null."""
    width = column.type.byte_width // 4
    data = column.buffers()[1]
    flat = np.frombuffer(data, np.uint32, len(column) * width, column.offset * 4 * width).reshape(-1, width)
    if column.null_count:
        flat = flat.copy()
        flat[~column.is_valid().to_numpy(zero_copy_only=False)] = EMPTY
    return flat
