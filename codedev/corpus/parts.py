"""Parquet parts whose bytes depend on their rows alone, not on the batches in which the rows came.

Row groups are cut by row count and text bytes, and each one's dictionary columns are encoded afresh in order of first appearance.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev._run import atomic_write

ROW_GROUP_ROWS = 4096
ROW_GROUP_BYTES = 16 << 20  # of text


def regroup(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of `batches` in tables of at most ROW_GROUP_ROWS rows, cut after the row whose text passes ROW_GROUP_BYTES."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        while batch.num_rows:
            taken, taken_bytes = _fitting(batch, ROW_GROUP_ROWS - rows, ROW_GROUP_BYTES - size)
            held.append(batch.slice(0, taken))
            rows, size = rows + taken, size + taken_bytes
            batch = batch.slice(taken)
            if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
                yield _encoded(pa.Table.from_batches(held), schema)
                held, rows, size = [], 0, 0
    if held:
        yield _encoded(pa.Table.from_batches(held), schema)


def _fitting(batch: pa.RecordBatch, max_rows: int, max_bytes: int) -> tuple[int, int]:
    """(rows, their text bytes): as many first rows as it takes to reach either bound, at least one."""
    if "text" not in batch.schema.names:
        return min(max_rows, batch.num_rows), 0
    sizes = np.cumsum(pc.fill_null(pc.binary_length(batch.column("text")), 0).to_numpy(zero_copy_only=False))
    rows = min(int(np.searchsorted(sizes, max_bytes)) + 1, max_rows, batch.num_rows)
    return rows, int(sizes[rows - 1])


def _encoded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        column = table.column(field.name).combine_chunks()
        if pa.types.is_dictionary(field.type):
            column = pc.dictionary_encode(column.cast(field.type.value_type))
        columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def write_part(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, *, regrouped: bool = True) -> int:
    """Write the rows to one Parquet file, atomically; no rows, no file. Returns the number of rows.

    With `regrouped=False` each batch becomes a row group as it is: for tables that are read side by side with another."""
    tables = regroup(batches, schema) if regrouped else (_encoded(pa.Table.from_batches([batch]), schema) for batch in batches)
    first = next(tables, None)
    if first is None:
        path.unlink(missing_ok=True)
        return 0
    rows = 0
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=3) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table, row_group_size=table.num_rows)
            rows += table.num_rows
    return rows


def read_part(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The part's rows, a batch a row group; nothing if the file does not exist."""
    if not path.exists():
        return
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, columns=columns, use_threads=False).combine_chunks().to_batches()
