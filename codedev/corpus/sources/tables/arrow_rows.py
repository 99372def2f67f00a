"""Arrow IPC files and streams and Feather (version 2 is an IPC file) to documents; positions are row numbers.

A file splits by record batches; the planner counts their rows, which costs a pass over one column where the file is larger than a unit.
A stream is read in one piece. A batch whose structure is damaged becomes one failure.

What it does not do: a record batch must fit into memory, as its writer's did; Feather version 1, deprecated since 2020, is read whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import orjson
import pyarrow as pa

from codedev._files import Found
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.tables import batches
from codedev.corpus.sources.tables.batches import first_line
from codedev.corpus.sources.tables.columns import Config, Shape, Thing, distinct, missing_columns, shape_of

_ROWS = 2048  # made documents of at a time


def form_of(head: bytes) -> str | None:
    """`arrow` (a file), `arrow_stream`, `feather1` or None, by the first bytes."""
    if head.startswith(b"ARROW1"):
        return "arrow"
    if head.startswith(b"FEA1"):
        return "feather1"
    # A message: a mark, its length, and a flatbuffer whose root lies near.
    if len(head) >= 12 and head.startswith(b"\xff\xff\xff\xff"):
        length, root = struct.unpack_from("<iI", head, 4)
        if 0 < length < 1 << 28 and root < length:
            return "arrow_stream"
    return None


def extents(found: Found, file: BinaryIO, unit_bytes: int) -> Iterator[Extent]:
    whole = Extent(found.path, found.name, 0, -1, found.size)
    if found.size <= unit_bytes:
        yield whole
        return
    reader = _counter(file)
    total = reader.num_record_batches
    share = max(1, total * unit_bytes // found.size)  # batches a unit, if they were of one size
    row = 0
    for start in range(0, total, share):
        end = min(start + share, total)
        context = orjson.dumps({"row": row}).decode()
        try:
            row += sum(reader.get_batch(number).num_rows for number in range(start, end))
        except (pa.ArrowException, OSError):
            end = total  # nothing is read behind a damaged batch
        yield Extent(found.path, found.name, start, end, found.size * (end - start) // total, context=context)
        if end == total:
            return
    yield whole


def _counter(file: BinaryIO) -> pa.RecordBatchFileReader:
    """A reader of one column alone, to count rows."""
    return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=[_narrowest(pa.ipc.open_file(file).schema)]))


def _narrowest(schema: pa.Schema) -> int:
    """The column that costs least to read."""
    widths = [field.type.bit_width if pa.types.is_primitive(field.type) else 1 << 30 for field in schema]
    return widths.index(min(widths)) if widths else 0


def read(file: BinaryIO, form: str, extent: Extent, config: Config) -> Iterator[Thing]:
    try:
        if form == "feather1":
            import pyarrow.feather

            table = pyarrow.feather.read_table(file)
            schema, found = table.schema, iter(table.to_batches())
        elif form == "arrow":
            reader = pa.ipc.open_file(file)
            numbers = range(extent.start, reader.num_record_batches if extent.end < 0 else extent.end)
            schema, found = reader.schema, _each(reader, _counter(file), numbers)
        else:
            stream = pa.ipc.open_stream(file)
            schema, found = stream.schema, iter(stream)
    except (pa.ArrowException, OSError, EOFError) as error:
        yield Failure("corrupt", f"not readable as Arrow: {first_line(error)}", 0)
        return
    shape = shape_of(distinct(schema.names), config)
    if missing := missing_columns(shape, schema.names):
        yield Failure("no_text_column", missing, 0)
        return
    yield from _batches(found, int(orjson.loads(extent.context).get("row", 0)), shape, extent, config)


def _each(reader: pa.RecordBatchFileReader, counter: pa.RecordBatchFileReader, numbers: range) -> Iterator[pa.RecordBatch | Failure]:
    """A batch that cannot be read is a failure; its `offset` is the number of its rows. Where not even they are known, nothing follows."""
    for number in numbers:
        try:
            yield reader.get_batch(number)
        except (pa.ArrowException, OSError, EOFError) as error:
            yield Failure("corrupt", first_line(error), counter.get_batch(number).num_rows)


def _batches(found: Iterator[pa.RecordBatch | Failure], row: int, shape: Shape, extent: Extent, config: Config) -> Iterator[Thing]:
    while True:
        try:
            batch = next(found, None)
        except (pa.ArrowException, OSError, EOFError) as error:
            yield Failure("corrupt", f"what follows row {row:,} is not readable as Arrow: {first_line(error)}", row)
            return
        if isinstance(batch, Failure):
            rows = batch.offset or 0
            yield Failure("corrupt", f"the record batch of rows {row:,} to {row + rows - 1:,} is damaged: {batch.message}", row)
            row += rows
            continue
        if batch is None:
            return
        try:
            _check_structure(batch)
        except (pa.ArrowException, ValueError) as error:
            yield Failure(
                "corrupt", f"the record batch of rows {row:,} to {row + batch.num_rows - 1:,} is damaged: {first_line(error)}", row
            )
        else:
            for start in range(0, batch.num_rows, _ROWS):
                # A slice keeps the buffers; `take` copies, which nested columns need to be validated by themselves.
                yield from batches.rows(batch.slice(start, _ROWS), row + start, shape, extent, config)
        row += batch.num_rows


def _check_structure(batch: pa.RecordBatch) -> None:
    """All but the UTF-8 of its texts, which costs a row alone."""
    for column in batch.columns:
        if isinstance(column, pa.DictionaryArray):
            column.indices.validate(full=True)
            _as_bytes(column.dictionary).validate(full=True)
            pa.DictionaryArray.from_arrays(column.indices, pa.nulls(len(column.dictionary)))  # checks the indices' range
        else:
            _as_bytes(column).validate(full=True)


def _as_bytes(column: pa.Array) -> pa.Array:
    kind = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}.get(column.type)
    return column if kind is None else column.view(kind)
