"""Tables: JSON lines, CSV/TSV and Parquet, told by content, compressed or not (Parquet as it is).

One column is the text; id, url, lang, created and licence are taken from the columns named so; all others go to `meta`. The value of an id column
becomes the id `<source>:<value>`; a row without one gets its position id. Parquet stays in Arrow and splits by row groups; plain JSON lines
split by byte ranges; CSV and compressed lines are read in one piece, since a place to split them cannot be told without reading them.
Offsets are bytes of the (decompressed) file, and row numbers in Parquet.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev._files import Found, compression, decompressed, expand, is_damage, open_raw
from codedev.corpus.document import DOCUMENT, meta_json, position_id
from codedev.corpus.source import Document, Drop, Extent, Failure, SourceConfig

VERSION = 1
_BLOCK = 1 << 20
_PARQUET_ROWS = 2048  # rows held at a time

# Columns that are taken by name, in order of preference.
_KNOWN = {
    "id": ("id",),
    "url": ("url",),
    "lang": ("lang", "language"),
    "created": ("created", "created_at", "date", "timestamp"),
    "licence": ("licence", "license"),
}


class Config(SourceConfig):
    type: Literal["tables"]
    text: str = "text"  # the column that holds the text
    delimiter: str | None = None  # of CSV; null = the one of , ; tab | that the header has most of


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    for found in expand(config.paths, base):
        yield from _extents(found, unit_bytes)


def _extents(found: Found, unit_bytes: int) -> Iterator[Extent]:
    whole = Extent(found.path, found.name, 0, -1, found.size)
    try:
        with open_raw(found.path) as file:
            form = _form(file)
            if form == "parquet":
                yield from _row_groups(found, pq.read_metadata(file), unit_bytes)
            elif form == "jsonl" and found.size > unit_bytes:
                for start in range(0, found.size, unit_bytes):
                    end = min(start + unit_bytes, found.size)
                    yield whole._replace(start=start, end=end, size=end - start)
            else:
                yield whole
    except (OSError, pa.ArrowInvalid):
        yield whole  # its reader will say what is wrong


def _row_groups(found: Found, metadata: pq.FileMetaData, unit_bytes: int) -> Iterator[Extent]:
    start = size = 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= unit_bytes or group == metadata.num_row_groups - 1:
            yield Extent(found.path, found.name, start, group + 1, size)
            start, size = group + 1, 0
    if metadata.num_row_groups == 0:
        yield Extent(found.path, found.name, 0, 0, found.size)


def _form(file: BinaryIO) -> str:
    """`parquet`, `jsonl`, `csv`, `json` (one array), `empty`, or the name of a compression."""
    head = file.read(4096)
    file.seek(0)
    if head.startswith(b"PAR1"):
        return "parquet"
    return compression(head) or _text_form(head)


def _text_form(head: bytes) -> str:
    visible = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not visible:
        return "empty"
    return {b"{": "jsonl", b"[": "json"}.get(visible[:1], "csv")


def read(extent: Extent, config: Config, base: Path) -> Iterator[Document | Drop | Failure | pa.RecordBatch]:
    try:
        with open_raw(extent.file) as file:
            yield from _read_parquet(file, extent, config) if _form(file) == "parquet" else _read_lines(file, extent, config)
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))


# -- lines -------------------------------------------------------------------------------------------------------------------------

Line = tuple[int, bytes]  # byte offset, the line with its end


def _read_lines(file: BinaryIO, extent: Extent, config: Config) -> Iterator[Document | Drop | Failure]:
    head = file.read(8)
    file.seek(0)
    codec = compression(head)
    form = _text_form(_first_block(decompressed(file, codec)))
    file.seek(0)
    match form:
        case "empty" if codec is None or file.seek(0, 2) == 0:
            yield Failure("empty", "the file holds no records", 0)
        case "json":
            yield Failure("unsupported", "one JSON array; write one record a line: jq -c '.[]' FILE > FILE.jsonl", 0, raw=head)
        case "jsonl":
            yield from _read_jsonl(_lines(decompressed(file, codec), extent, config.max_record_bytes), extent, config)
        case _:
            yield from _read_csv(_lines(decompressed(file, codec), extent, config.max_record_bytes), extent, config)


def _first_block(stream: BinaryIO) -> bytes:
    """Up to 4 KB that hold something visible, if the file does; what comes before a damage, if it has one."""
    head = b""
    try:
        while not head.strip(b"\xef\xbb\xbf \t\r\n") and (block := stream.read1(4096)):  # type: ignore[attr-defined]
            head = head.strip() + block
    except Exception as error:
        if not is_damage(error):
            raise
    return head


def _lines(stream: BinaryIO, extent: Extent, limit: int) -> Iterator[Line | Failure]:
    """The lines that start inside the extent. A line over the limit and a damaged end are failures."""
    at = extent.start
    if at > 0:  # a line belongs to the extent in which it starts: the one running into this extent is not ours
        stream.seek(at - 1)
        at += _skip_line(stream) - 1
    while extent.end < 0 or at < extent.end:
        start = at
        try:
            line = stream.readline(limit + 1)
            at += len(line)
            if len(line) > limit and not line.endswith(b"\n"):
                raw = line[:256]
                while line and not line.endswith(b"\n"):
                    line = stream.readline(_BLOCK)
                    at += len(line)
                yield Failure("too_large", f"a line of {at - start:,} bytes; max_record_bytes is {limit:,}", start, raw=raw)
                continue
        except Exception as error:
            if not is_damage(error):
                raise
            kind = "truncated" if isinstance(error, EOFError) else "corrupt"
            yield Failure(kind, f"the stream ends damaged after {start:,} bytes: {error}", start)
            return
        if not line:
            return
        yield start, line


def _skip_line(stream: BinaryIO) -> int:
    """Bytes of what is left of the line; streams over a long one."""
    length = 0
    while part := stream.readline(_BLOCK):
        length += len(part)
        if part.endswith(b"\n"):
            break
    return length


def _read_jsonl(lines: Iterator[Line | Failure], extent: Extent, config: Config) -> Iterator[Document | Drop | Failure]:
    """A Python loop over documents: 3 µs and the parser's 1 ns a byte each."""
    for line in lines:
        if isinstance(line, Failure):
            yield line
            continue
        offset, raw = line
        if offset == 0:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.isspace():
            continue  # a blank line is no record
        try:
            record = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            yield _bad_json(raw, offset, error)
            continue
        if not isinstance(record, dict):
            yield Failure("not_an_object", f"a JSON {type(record).__name__} where a record should be", offset, raw=raw)
            continue
        yield _document(record, offset, len(raw), extent, config)


def _bad_json(raw: bytes, offset: int, error: orjson.JSONDecodeError) -> Failure:
    try:
        raw.decode()
    except UnicodeDecodeError as bad:
        return Failure("invalid_utf8", f"byte {bad.start} of the line: {bad.reason}", offset, raw=raw)
    return Failure("invalid_json", str(error), offset, raw=raw)


def _read_csv(lines: Iterator[Line | Failure], extent: Extent, config: Config) -> Iterator[Document | Drop | Failure]:
    """Records may span lines. A Python loop over documents: 3 µs each beside the csv module's own work."""
    feed = _Feed(lines)
    header_line = feed.peek()
    delimiter = config.delimiter or max(",;\t|", key=header_line.count)
    csv.field_size_limit(config.max_record_bytes)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        offset = feed.offset
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield Failure("too_large" if "field larger" in str(error) else "invalid_csv", str(error), offset, raw=feed.raw(offset))
            continue
        yield from feed.failures()
        if fields is None:
            return
        if not fields:
            continue  # a blank line is no record
        if not header:
            header = fields
            if config.text not in header:
                yield Failure("no_text_column", _no_column(config.text, header), offset)
                return
            continue
        if len(fields) != len(header):
            yield Failure("wrong_columns", f"{len(fields)} fields where the header has {len(header)}", offset, raw=feed.raw(offset))
            continue
        record: dict[str, Any] = dict(zip(header, fields, strict=True))
        if any(not field.isascii() and _has_escapes(field) for field in fields):
            yield Failure("invalid_utf8", "the record is not UTF-8", offset, raw=feed.raw(offset))
            continue
        yield _document(record, offset, feed.offset - offset, extent, config)


class _Feed:
    """Decoded lines for the csv module, which asks for just the lines of a record: so `offset` is where the next record starts."""

    def __init__(self, lines: Iterator[Line | Failure]) -> None:
        self._lines = lines
        self._next: Line | None = None
        self._failures: list[Failure] = []
        self._last = b""
        self.offset = 0
        self._advance()

    def _advance(self) -> None:
        for line in self._lines:
            if isinstance(line, Failure):
                self._failures.append(line)
                continue
            self._next = line
            self.offset = line[0]
            return
        if self._next is not None:
            self.offset = self._next[0] + len(self._next[1])
        self._next = None

    def peek(self) -> str:
        return self._next[1].decode("utf-8-sig", "replace") if self._next else ""

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self._next is None:
            raise StopIteration
        offset, raw = self._next
        self._last = raw
        self._advance()
        return raw.decode("utf-8-sig" if offset == 0 else "utf-8", "surrogateescape")

    def failures(self) -> Iterator[Failure]:
        """Those met since the last call."""
        yield from self._failures
        self._failures = []

    def raw(self, offset: int) -> bytes:
        return self._last


def _has_escapes(field: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in field)


# -- Parquet -----------------------------------------------------------------------------------------------------------------------


def _read_parquet(file: BinaryIO, extent: Extent, config: Config) -> Iterator[Drop | Failure | pa.RecordBatch]:
    row = 0
    try:
        table = pq.ParquetFile(file)
        if config.text not in table.schema_arrow.names:
            yield Failure("no_text_column", _no_column(config.text, table.schema_arrow.names), 0)
            return
        end = table.num_row_groups if extent.end < 0 else extent.end
        row = sum(table.metadata.row_group(group).num_rows for group in range(extent.start))
        for batch in table.iter_batches(_PARQUET_ROWS, row_groups=list(range(extent.start, end)), use_threads=False):
            yield from _parquet_batch(batch, row, extent, config)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        yield Failure("corrupt", f"not readable as Parquet from row {row}: {str(error).splitlines()[0]}", row)


def _parquet_batch(batch: pa.RecordBatch, first: int, extent: Extent, config: Config) -> Iterator[Drop | Failure | pa.RecordBatch]:
    try:
        # Arrow does not check UTF-8 on reading; kernels rely on it.
        batch.validate(full=True)
        text = batch.column(config.text).cast(pa.large_string())
    except pa.ArrowException:
        yield from _rows_apart(batch, first, extent, config)
        return
    missing = pc.is_null(text).to_pylist()
    ids = _ids(batch, first, extent, config)
    if any(missing):
        for row, absent in enumerate(missing):
            if absent:
                yield Drop(ids[row], "no_text", offset=first + row)
        keep = pa.array([not absent for absent in missing])
        batch, text = batch.filter(keep), text.filter(keep)
        ids = [key for key, absent in zip(ids, missing, strict=True) if not absent]
        rows = [first + row for row, absent in enumerate(missing) if not absent]
    else:
        rows = list(range(first, first + batch.num_rows))
    if not rows:
        return
    named = _named_columns(batch.schema.names, config)
    others = [name for name in batch.schema.names if name != config.text and name not in named.values()]
    columns: dict[str, pa.Array] = {
        "id": pa.array(ids, pa.string()),
        "source": pa.array([config.name] * len(rows)),
        "kind": pa.array([config.kind or "table"] * len(rows)),
        "text": text,
        "lang": _strings(batch, named.get("lang")),
        "licence": pc.fill_null(_strings(batch, named.get("licence")), config.licence)
        if config.licence
        else _strings(batch, named.get("licence")),
        "url": _strings(batch, named.get("url")),
        "created": pa.array([_when(value.as_py()) for value in batch.column(named["created"])], DOCUMENT.field("created").type)
        if "created" in named
        else pa.nulls(len(rows), DOCUMENT.field("created").type),
        "origin": pa.array([{"file": extent.name, "offset": row} for row in rows], DOCUMENT.field("origin").type),
        # A Python loop over rows: 1 µs a value. Arrow has no JSON writer that keeps every type.
        "meta": pa.array([meta_json(_plain(record)) for record in batch.select(others).to_pylist()], pa.string()),
    }
    arrays = []
    for field in DOCUMENT:
        column = columns.get(field.name, pa.nulls(len(rows), field.type))
        arrays.append(column.dictionary_encode() if pa.types.is_dictionary(field.type) and column.type == pa.string() else column)
    yield pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT)


def _rows_apart(batch: pa.RecordBatch, first: int, extent: Extent, config: Config) -> Iterator[Document | Drop | Failure]:
    """The slow way through a batch that holds what cannot be text: row by row, so that only the bad ones are lost."""
    binary = [
        pa.binary() if pa.types.is_string(field.type) or pa.types.is_large_string(field.type) else field.type for field in batch.schema
    ]
    columns = {
        field.name: batch.column(field.name).view(_as_binary(field.type)) if kind == pa.binary() else batch.column(field.name)
        for field, kind in zip(batch.schema, binary, strict=True)
    }
    for row in range(batch.num_rows):
        try:
            record = {name: _decoded(column[row].as_py()) for name, column in columns.items()}
        except UnicodeDecodeError as error:
            yield Failure("invalid_utf8", f"row {first + row}: {error.reason}", first + row, raw=bytes(error.object[:256]))
            continue
        yield _document(_plain(record), first + row, None, extent, config)


def _as_binary(kind: pa.DataType) -> pa.DataType:
    return pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _strings(batch: pa.RecordBatch, name: str | None) -> pa.Array:
    if name is None:
        return pa.nulls(batch.num_rows, pa.string())
    column = batch.column(name)
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


def _ids(batch: pa.RecordBatch, first: int, extent: Extent, config: Config) -> list[str]:
    named = _named_columns(batch.schema.names, config)
    own = _strings(batch, named.get("id")).to_pylist()
    return [f"{config.name}:{key}" if key else position_id(extent.hash, first + row) for row, key in enumerate(own)]


# -- a record ----------------------------------------------------------------------------------------------------------------------


def _named_columns(columns: list[str], config: Config) -> dict[str, str]:
    """Which of the file's columns hold the id, url, lang, created and licence."""
    named = {}
    for field, names in _KNOWN.items():
        name = next((name for name in names if name in columns and name != config.text), None)
        if name is not None:
            named[field] = name
    return named


def _document(record: dict[str, Any], offset: int, length: int | None, extent: Extent, config: Config) -> Document | Drop:
    named = _named_columns(list(record), config)
    taken = {field: record.pop(name) for field, name in named.items()}
    text = record.pop(config.text, None)
    key = taken.get("id")
    own_id = f"{config.name}:{key}" if key not in (None, "") else position_id(extent.hash, offset)
    if not isinstance(text, str):
        found = "missing" if text is None else type(text).__name__
        evidence = orjson.dumps({"column": config.text, "found": found, "columns": list(record)[:20]}).decode()
        return Drop(own_id, "no_text", evidence, offset, length)
    created = _when(taken.get("created"))
    if created is None and taken.get("created") is not None:
        record[named["created"]] = taken["created"]  # not a time we can read: it stays what it was
    lang, licence, url = (value if isinstance(value := taken.get(field), str) and value else None for field in ("lang", "licence", "url"))
    return Document(
        own_id, text, offset, length, lang=lang, licence=licence, url=url, created=created, meta=meta_json(record)
    )  # fmt: skip


def _when(value: Any) -> dt.datetime | None:
    """A time from ISO 8601, epoch seconds or milliseconds, or a datetime; naive ones are taken as UTC."""
    try:
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value.strip()) if not value.strip().isdigit() else int(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = dt.datetime.fromtimestamp(value / 1000 if abs(value) > 1e11 else value, dt.UTC)
        if isinstance(value, dt.datetime):
            return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        if isinstance(value, dt.date):
            return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _plain(value: Any) -> Any:
    """`value` with what JSON cannot hold written as text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str | int | float | bool | None) and not _too_big(value) else str(value)


def _too_big(value: Any) -> bool:
    return isinstance(value, int) and not -(1 << 63) <= value < 1 << 64


def _no_column(name: str, columns: list[str]) -> str:
    return f"no column '{name}' (has: {', '.join(columns[:20])}). Set text: in the recipe's source"
