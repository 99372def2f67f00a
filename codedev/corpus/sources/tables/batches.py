"""Rows of an Arrow record batch (of a Parquet or Arrow file, or from a database) to documents.

The text stays in Arrow. `meta` is put together by columns: numbers and texts that need no escapes in Arrow, all else value by value. The
batch must be sound in its structure; what no document can hold, such as text that is no UTF-8, costs its own row alone.
Cost: 1 µs a row and 0.1 to 1 µs a further column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.document import meta_json
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.tables.columns import Config, Shape, Thing, batch, distinct, document, fields_of

_TEXTS = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())
_DECODED = 64 << 20
_ESCAPED = np.zeros(256, np.bool_)  # bytes that JSON writes as an escape
_ESCAPED[:32] = _ESCAPED[[34, 92]] = True


def is_text(kind: pa.DataType) -> bool:
    return kind in _TEXTS


def rows(table: pa.RecordBatch, first: int, shape: Shape, extent: Extent, config: Config) -> Iterator[Thing]:
    """The rows as documents; `first` is the position of the first one. Where some of them cannot be, the batch is halved until they
    stand alone, so that no row's fate depends on its neighbours."""
    try:
        flat = _flat(table, shape)
        # Arrow does not check UTF-8 on reading; kernels rely on it.
        flat.validate(full=True)
        things = list(_documents(flat, first, shape, extent, config))
    except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
        if table.num_rows == 1:
            yield _bad_row(table, first, shape, error)
            return
        half = table.num_rows // 2
        # `take` copies: a slice of nested columns would be validated with its neighbours.
        yield from rows(table.take(pa.array(range(half))), first, shape, extent, config)
        yield from rows(table.take(pa.array(range(half, table.num_rows))), first + half, shape, extent, config)
        return
    yield from things


def parts(table: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The batch in pieces whose dictionaries of texts decode to at most 64 MiB (or one row), each with the bytes that they decode to."""
    sizes = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if pa.types.is_dictionary(column.type) and is_text(column.type.value_type):
            lengths = pc.binary_length(column.dictionary)
            sizes += pc.fill_null(lengths.take(column.indices), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    start = 0
    while start < table.num_rows:
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + _DECODED, "right")))
        yield table.slice(start, end - start), int(ends[end - 1]) - before
        start = end


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _bad_row(table: pa.RecordBatch, row: int, shape: Shape, error: Exception) -> Failure:
    kind = "invalid_utf8" if "UTF8" in str(error) or isinstance(error, UnicodeError) else "unreadable_value"
    raw = None
    if shape.text[0] in table.schema.names:
        column = table.column(distinct(table.schema.names).index(shape.text[0]))
        raw = column.cast(pa.large_binary())[0].as_py() if is_text(column.type) else None
    return Failure(kind, f"row {row}: {first_line(error)}", row, raw=raw or b"")


def _flat(table: pa.RecordBatch, shape: Shape) -> pa.RecordBatch:
    """Columns as the rows below need them: each of its own name, dictionaries decoded (a bad entry spoils the rows that use it alone), no
    nanoseconds, which Python's times do not hold, and text as text."""
    columns = dict(zip(distinct(table.schema.names), table.columns, strict=True))
    wanted = {*shape.text, *shape.parts.values()}
    for name, column in columns.items():
        if pa.types.is_dictionary(column.type):
            column = columns[name] = column.dictionary_decode()
        if isinstance(column, pa.ExtensionArray):
            column = columns[name] = column.storage
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            columns[name] = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        elif name in wanted and is_text(column.type):
            columns[name] = column.cast(pa.large_string())
    return pa.RecordBatch.from_pydict(columns)


def _documents(table: pa.RecordBatch, first: int, shape: Shape, extent: Extent, config: Config) -> Iterator[Thing]:
    text = table.column(shape.text[0]) if shape.layout == "text" and not shape.template else None
    if text is None or text.type != pa.large_string():
        yield from _by_rows(table, range(first, first + table.num_rows), shape, extent, config)
        return
    sizes = pc.fill_null(pc.binary_length(text), -1).to_numpy()
    good = (sizes >= 0) & (sizes <= config.max_record_bytes)
    places = np.arange(first, first + table.num_rows)
    if not good.all():
        odd = pa.array(np.flatnonzero(~good))
        yield from _by_rows(table.take(odd), places[~good].tolist(), shape, extent, config)
        if not good.any():
            return
        places, table = places[good], table.take(pa.array(np.flatnonzero(good)))
    yield _by_columns(table, places, shape, extent, config)


def _by_rows(table: pa.RecordBatch, places: Any, shape: Shape, extent: Extent, config: Config) -> Iterator[Thing]:
    """A Python loop over rows: 7 µs each with five columns."""
    for place, record in zip(places, table.to_pylist(), strict=True):
        size = max((_size(record.get(name), config.max_record_bytes) for name in shape.text), default=0)
        if size > config.max_record_bytes:
            yield Failure("too_large", f"a text of {size:,} bytes; max_record_bytes is {config.max_record_bytes:,}", place)
            continue
        yield document(record, place, None, shape, extent, config)


def _size(value: Any, limit: int) -> int:
    """Bytes of a text, exact where they may be over the limit."""
    if not isinstance(value, str):
        return 0
    return len(value.encode()) if 4 * len(value) > limit else len(value)


def _by_columns(table: pa.RecordBatch, places: np.ndarray, shape: Shape, extent: Extent, config: Config) -> pa.RecordBatch:
    columns = dict(zip(table.schema.names, table.columns, strict=True))
    made: dict[str, Any] = {"text": columns.pop(shape.text[0])}
    named = dict(shape.named)
    taken = {field: columns[name].to_pylist() for field, name in named.items()}
    fields, unused = fields_of(taken, places.tolist(), extent, config)
    left = {name: np.zeros(table.num_rows, np.bool_) for name in named.values()}  # the rows whose value stays in meta
    for field, rows in unused.items():
        left[named[field]][rows] = True
    made |= fields
    made["meta"] = _metas(columns, left, table.num_rows)
    return batch(made, places, None, extent, config)


def _metas(columns: dict[str, pa.Array], left: dict[str, np.ndarray], rows: int) -> pa.Array | list[str]:
    """Each row's values as canonical JSON: as document.meta_json makes it."""
    parts = []
    for name in sorted(columns):
        if columns[name].null_count == rows or (name in left and not left[name].any()):
            continue
        values = _json(columns[name])
        if name in left:
            values = pc.if_else(pa.array(left[name]), values, None)
        part = pc.binary_join_element_wise(orjson.dumps(name).decode() + ":", values, ",", "")
        parts.append(part.fill_null("") if part.null_count else part)
    if not parts:
        return ["{}"] * rows
    inside = pc.utf8_rtrim(pc.binary_join_element_wise(*parts, ""), ",")
    return pc.binary_join_element_wise("{", inside, "}", "")


def _json(column: pa.Array) -> pa.Array:
    """Each value as JSON."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string())
    if kind in (pa.string(), pa.large_string()) and not _needs_escapes(column):
        return pc.binary_join_element_wise('"', column.cast(pa.string()), '"', "")
    # meta_json({"a": value}) is {"a":…}
    return pa.array([None if value is None else meta_json({"a": value})[5:-1] for value in column.to_pylist()], pa.string())


def _needs_escapes(column: pa.Array) -> bool:
    _, offsets, data = column.buffers()
    if data is None:
        return False
    width = np.int64 if column.type == pa.large_string() else np.int32
    bounds = np.frombuffer(offsets, width)
    used = np.frombuffer(data, np.uint8)[bounds[column.offset] : bounds[column.offset + len(column)]]
    return bool(_ESCAPED[used].any())
