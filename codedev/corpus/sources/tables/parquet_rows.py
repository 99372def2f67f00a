"""Parquet to documents, split by row groups; positions are row numbers.

What it does not do: a damaged page costs the rest of its row group, and the decompressed size of a page is trusted: a batch of 2,048 rows
must fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from codedev._files import Found
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.tables import batches
from codedev.corpus.sources.tables.batches import first_line
from codedev.corpus.sources.tables.columns import Config, Thing, missing_columns, shape_of

_ROWS = 2048  # held at a time


def extents(found: Found, file: BinaryIO, unit_bytes: int) -> Iterator[Extent]:
    metadata = pq.read_metadata(file)
    start = size = 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= unit_bytes or group == metadata.num_row_groups - 1:
            yield Extent(found.path, found.name, start, group + 1, size)
            start, size = group + 1, 0
    if metadata.num_row_groups == 0:
        yield Extent(found.path, found.name, 0, 0, found.size)


def read(file: BinaryIO, extent: Extent, config: Config) -> Iterator[Thing]:
    try:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
    except (pa.ArrowException, OSError) as error:
        yield Failure("corrupt", f"not readable as Parquet: {first_line(error)}", 0)
        return
    shape = shape_of(tuple(dict.fromkeys(names)), config)
    if missing := missing_columns(shape, names):
        yield Failure("no_text_column", missing, 0)
        return
    groups = range(extent.start, table.num_row_groups if extent.end < 0 else extent.end)
    row = sum(table.metadata.row_group(group).num_rows for group in range(extent.start))
    for group in groups:
        at, row = row, row + table.metadata.row_group(group).num_rows
        try:
            for batch in table.iter_batches(_ROWS, row_groups=[group], use_threads=False):
                yield from batches.rows(batch, at, shape, extent, config)
                at += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            yield Failure("corrupt", f"rows {at:,} to {row - 1:,} are not readable as Parquet: {first_line(error)}", at)
