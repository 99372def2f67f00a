"""Parquet to documents, split by row groups; positions are row numbers.

A row group that unfolds to more than 64 MiB and max_ratio of its bytes is a failure `bomb`, by what its footer says and by what the
entries of its dictionaries come to.

What it does not do: a damaged page costs the rest of its row group, and a footer that lies about the size of a page is believed.
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
from codedev.corpus.sources.tables.columns import Config, Thing, distinct, missing_columns, shape_of

_ROWS = 2048  # held at a time
_FREE = 64 << 20  # bytes that a row group may unfold to, whatever its size
_OVER = "over max_ratio"


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


def _sizes(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Bytes of a row group in the file, and out of it."""
    columns = [group.column(place) for place in range(group.num_columns)]
    return sum(column.total_compressed_size for column in columns), sum(column.total_uncompressed_size for column in columns)


def read(file: BinaryIO, extent: Extent, config: Config) -> Iterator[Thing]:
    try:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        # Texts of which each is held once, however often it occurs.
        again = [field.name for field in table.schema_arrow if batches.is_text(field.type)]
        table = pq.ParquetFile(file, read_dictionary=again, metadata=table.metadata)
    except (pa.ArrowException, OSError) as error:
        yield Failure("corrupt", f"not readable as Parquet: {first_line(error)}", 0)
        return
    shape = shape_of(distinct(names), config)
    if missing := missing_columns(shape, names):
        yield Failure("no_text_column", missing, 0)
        return
    groups = range(extent.start, table.num_row_groups if extent.end < 0 else extent.end)
    row = sum(table.metadata.row_group(group).num_rows for group in range(extent.start))
    for group in groups:
        at, row = row, row + table.metadata.row_group(group).num_rows
        packed, unpacked = _sizes(table.metadata.row_group(group))
        free = max(_FREE, config.max_ratio * packed)
        if unpacked > free:
            yield Failure("bomb", f"rows {at:,} to {row - 1:,}: {packed:,} bytes unfold to {unpacked:,}: {_OVER}", at)
            continue
        made = 0
        try:
            for batch in table.iter_batches(_ROWS, row_groups=[group], use_threads=False):
                for part, size in batches.parts(batch):
                    made += size
                    if made > free:
                        break
                    yield from batches.rows(part, at, shape, extent, config)
                    at += part.num_rows
                if made > free:
                    yield Failure("bomb", f"rows {at:,} to {row - 1:,}: {packed:,} bytes unfold to more than {free:,}: {_OVER}", at)
                    break
        except (pa.ArrowException, OSError) as error:
            yield Failure("corrupt", f"rows {at:,} to {row - 1:,} are not readable as Parquet: {first_line(error)}", at)
