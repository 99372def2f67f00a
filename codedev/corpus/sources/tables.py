"""Tables: JSON lines, CSV/TSV and Parquet, told by content, compressed or not (Parquet as it is).

One column is the text; id, url, lang, created and licence are taken from the columns named so; all others go to `meta`. The value of an
id column becomes the id `<source>:<value>`; a row without one gets its position id. Of two columns of one name the last one counts.
Parquet splits by row groups and its texts stay in Arrow; plain JSON lines split by byte ranges; CSV and compressed lines are read in one
piece, since a place to split them cannot be told without reading them. Offsets are bytes of the (decompressed) file, and row numbers in
Parquet.

What it does not do: a damaged page of Parquet costs the rest of its row group, a CSV quote that is never closed the rest of the file (the
error row says so), and the decompressed size of a Parquet page is trusted: a batch of 2,048 rows must fit into memory.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from codedev._files import Found, compression, decompressed, expand, is_damage, open_raw
from codedev.corpus.document import DOCUMENT, meta_json, position_id
from codedev.corpus.source import Document, Drop, Extent, Failure, SourceConfig
from codedev.corpus.sources import DEFAULT_KIND

VERSION = 2
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
    delimiter: str | None = Field(default=None, pattern=r'^[^"\r\n]$')  # of CSV; null = the one of , ; tab | that the header has most of


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
    except (OSError, pa.ArrowException):
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
    if head.startswith((b"PAR1", b"PARE")):  # the second has an encrypted footer: its reader will say so
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
    lines = _lines(decompressed(file, codec), extent, config.max_record_bytes)
    match form:
        case "empty":
            damage = [line for line in lines if isinstance(line, Failure)]
            yield from damage or [Failure("empty", "the file holds no records", 0)]
        case "json":
            yield Failure("unsupported", "one JSON array; write one record a line: jq -c '.[]' FILE > FILE.jsonl", 0, raw=head)
        case "jsonl":
            yield from _read_jsonl(lines, extent, config)
        case _:
            yield from _read_csv(lines, extent, config)


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
        at += _skip_line(stream, extent.end - at + 1 if extent.end >= 0 else 1 << 62) - 1
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


def _skip_line(stream: BinaryIO, most: int) -> int:
    """Bytes of what is left of the line; of one longer than `most`, some number beyond that."""
    length = 0
    while length <= most and (part := stream.readline(min(_BLOCK, most - length + 1))):
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
        length = len(raw)
        if offset == 0:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw.strip():
            continue  # a blank line is no record
        try:
            record = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            yield _bad_json(raw, offset, error)
            continue
        if not isinstance(record, dict):
            yield Failure("not_an_object", f"a JSON {type(record).__name__} where a record should be", offset, raw=raw)
            continue
        try:
            yield _document(record, offset, length, extent, config)
        except TypeError as error:  # orjson reads 1,024 levels and writes 254
            yield Failure("too_deep", f"a column that cannot be kept in meta: {error}", offset, raw=raw)


def _bad_json(raw: bytes, offset: int, error: orjson.JSONDecodeError) -> Failure:
    try:
        raw.decode()
    except UnicodeDecodeError as bad:
        return Failure("invalid_utf8", f"byte {bad.start} of the line: {bad.reason}", offset, raw=raw)
    return Failure("invalid_json", str(error), offset, raw=raw)


def _read_csv(lines: Iterator[Line | Failure], extent: Extent, config: Config) -> Iterator[Document | Drop | Failure]:
    """Records may span lines. A Python loop over documents: 3 µs each beside the csv module's own work."""
    feed = _Feed(lines)
    first_line = feed.first_line.decode("utf-8-sig", "replace")
    delimiter = config.delimiter or max(",;\t|", key=first_line.count)
    csv.field_size_limit(config.max_record_bytes)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        offset, raw = feed.offset, feed.first_line
        try:
            fields = next(reader, None)
        except csv.Error as error:
            kind = "too_large" if "field larger" in str(error) else "invalid_csv"
            yield Failure(kind, f"{error}; a record of {feed.offset - offset:,} bytes", offset, raw=raw)
            continue
        yield from feed.failures()
        if fields is None:
            return
        if not fields:
            continue  # a blank line is no record
        if any(not field.isascii() and _has_escapes(field) for field in fields):
            yield Failure("invalid_utf8", f"the {'record' if header else 'header'} is not UTF-8", offset, raw=raw)
            if not header:
                return
            continue
        if not header:
            header = fields
            if config.text not in header:
                yield Failure("no_text_column", _no_column(config.text, header), offset)
                return
            continue
        if len(fields) != len(header):
            yield Failure("wrong_columns", f"{len(fields)} fields where the header has {len(header)}", offset, raw=raw)
            continue
        yield _document(dict(zip(header, fields, strict=True)), offset, feed.offset - offset, extent, config)


class _Feed:
    """Decoded lines for the csv module, which asks for just the lines of a record: so `offset` is where the next record starts."""

    def __init__(self, lines: Iterator[Line | Failure]) -> None:
        self._lines = lines
        self._next: Line | None = None
        self._failures: list[Failure] = []
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

    @property
    def first_line(self) -> bytes:
        """The line at `offset`: the next record's first."""
        return self._next[1] if self._next else b""

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self._next is None:
            raise StopIteration
        offset, raw = self._next
        self._advance()
        return raw.decode("utf-8-sig" if offset == 0 else "utf-8", "surrogateescape")

    def failures(self) -> Iterator[Failure]:
        """Those met since the last call."""
        yield from self._failures
        self._failures = []


def _has_escapes(field: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in field)


# -- Parquet -----------------------------------------------------------------------------------------------------------------------


def _read_parquet(file: BinaryIO, extent: Extent, config: Config) -> Iterator[Drop | Failure | pa.RecordBatch]:
    try:
        table = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        yield Failure("corrupt", f"not readable as Parquet: {_first_line(error)}", 0)
        return
    if config.text not in table.schema_arrow.names:
        yield Failure("no_text_column", _no_column(config.text, table.schema_arrow.names), 0)
        return
    groups = range(extent.start, table.num_row_groups if extent.end < 0 else extent.end)
    row = sum(table.metadata.row_group(group).num_rows for group in range(extent.start))
    for group in groups:
        at, row = row, row + table.metadata.row_group(group).num_rows
        try:
            for batch in table.iter_batches(_PARQUET_ROWS, row_groups=[group], use_threads=False):
                yield from _parquet_rows(_flat(batch), at, extent, config)
                at += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            yield Failure("corrupt", f"rows {at:,} to {row - 1:,} are not readable as Parquet: {_first_line(error)}", at)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns as the rows below need them: one of each name, dictionaries decoded (a bad entry spoils the rows that use it alone), no
    nanoseconds, which Python's times do not hold."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name, column in columns.items():
        if pa.types.is_dictionary(column.type):
            columns[name] = column.dictionary_decode()
        elif pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            columns[name] = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return pa.RecordBatch.from_pydict(columns)


def _parquet_rows(batch: pa.RecordBatch, first: int, extent: Extent, config: Config) -> Iterator[Drop | Failure | pa.RecordBatch]:
    """The rows as documents. Where some of them cannot be, the batch is halved until they stand alone, so that no row's fate depends on
    its neighbours."""
    try:
        # Arrow does not check UTF-8 on reading; kernels rely on it.
        batch.validate(full=True)
        things = list(_parquet_batch(batch, first, extent, config))
    except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
        if batch.num_rows == 1:
            yield _bad_row(batch, first, config, error)
            return
        half = batch.num_rows // 2
        # `take` copies: a slice of nested columns would be validated with its neighbours.
        yield from _parquet_rows(batch.take(pa.array(range(half))), first, extent, config)
        yield from _parquet_rows(batch.take(pa.array(range(half, batch.num_rows))), first + half, extent, config)
        return
    yield from things


def _bad_row(batch: pa.RecordBatch, row: int, config: Config, error: Exception) -> Failure:
    kind = "invalid_utf8" if "UTF8" in str(error) or isinstance(error, UnicodeError) else "unreadable_value"
    column = batch.column(config.text)
    raw = column.cast(pa.large_binary())[0].as_py() if _is_text(column.type) else None
    return Failure(kind, f"row {row}: {_first_line(error)}", row, raw=raw or b"")


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())


def _parquet_batch(batch: pa.RecordBatch, first: int, extent: Extent, config: Config) -> Iterator[Drop | Failure | pa.RecordBatch]:
    column = batch.column(config.text)
    is_text = _is_text(column.type)
    text = column.cast(pa.large_string()) if is_text else pa.nulls(batch.num_rows, pa.large_string())
    named = _named_columns(batch.schema.names, config)
    sizes = pc.fill_null(pc.binary_length(text), -1).to_pylist()
    places: list[int] = []  # of the rows that become documents
    fields: list[Fields] = []
    # A Python loop over rows: 7 µs each with five columns. Arrow has no JSON writer that keeps every type.
    for place, record in enumerate(batch.drop_columns([config.text]).to_pylist() if batch.num_columns > 1 else [{}] * batch.num_rows):
        row = first + place
        taken = _fields(record, named, row, extent, config)
        if sizes[place] < 0:
            found = "missing" if is_text or column[place].as_py() is None else str(column.type)
            yield Drop(taken.id, "no_text", _no_text(config, found, list(record)), row)
        elif sizes[place] > config.max_record_bytes:
            yield Failure("too_large", f"a text of {sizes[place]:,} bytes; max_record_bytes is {config.max_record_bytes:,}", row)
        else:
            places.append(place)
            fields.append(taken)
    if not places:
        return
    columns: dict[str, Any] = dict(zip(Fields._fields, zip(*fields, strict=True), strict=True))
    columns["licence"] = [own or config.licence for own in columns["licence"]]
    columns["source"] = [config.name] * len(places)
    columns["kind"] = [config.kind or DEFAULT_KIND["tables"]] * len(places)
    columns["origin"] = [{"file": extent.name, "offset": first + place} for place in places]
    arrays = []
    for field in DOCUMENT:
        if field.name == "text":
            arrays.append(text if len(places) == len(text) else text.take(pa.array(places)))
        elif pa.types.is_dictionary(field.type):
            arrays.append(pa.array(columns.get(field.name, [None] * len(places)), pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(columns.get(field.name, [None] * len(places)), field.type))
    yield pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT)


# -- a record ----------------------------------------------------------------------------------------------------------------------


def _named_columns(columns: list[str], config: Config) -> dict[str, str]:
    """Which of the file's columns hold the id, url, lang, created and licence."""
    named = {}
    for field, names in _KNOWN.items():
        name = next((name for name in names if name in columns and name != config.text), None)
        if name is not None:
            named[field] = name
    return named


class Fields(NamedTuple):
    """What a record says beside its text."""

    id: str
    lang: str | None
    licence: str | None
    url: str | None
    created: dt.datetime | None
    meta: str


def _fields(record: dict[str, Any], named: dict[str, str], position: int, extent: Extent, config: Config) -> Fields:
    """The fields of a record without its text, which is taken apart. What is not what its column's name says stays in `meta`."""
    taken = {field: record[name] for field, name in named.items()}
    created = _when(taken.get("created"))
    lang, licence, url = (value if isinstance(value := taken.get(field), str) and value else None for field in ("lang", "licence", "url"))
    own = _own_id(taken.get("id"))
    used = {"id": own, "lang": lang, "licence": licence, "url": url, "created": created}
    for field, name in named.items():
        if used[field] is not None or taken[field] in (None, ""):
            del record[name]
    key = position_id(extent.hash, position) if own is None else f"{config.name}:{own}"
    return Fields(key, lang, licence, url, created, meta_json(record))


def _own_id(value: Any) -> str | None:
    """An id column's value as text. pandas turns integers into floats where one is missing; any other float is no identity."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else None
    return None if value is None or value == "" else str(value)


def _document(record: dict[str, Any], offset: int, length: int | None, extent: Extent, config: Config) -> Document | Drop:
    columns = list(record)
    text = record.pop(config.text, None)
    taken = _fields(record, _named_columns(columns, config), offset, extent, config)
    if not isinstance(text, str):
        found = "missing" if text is None else type(text).__name__
        return Drop(taken.id, "no_text", _no_text(config, found, columns), offset, length)
    return Document(
        taken.id, text, offset, length, lang=taken.lang, licence=taken.licence, url=taken.url, created=taken.created, meta=taken.meta
    )  # fmt: skip


def _no_text(config: Config, found: str, columns: list[str]) -> str:
    return orjson.dumps({"column": config.text, "found": found, "columns": [name for name in columns if name != config.text][:20]}).decode()


def _when(value: Any) -> dt.datetime | None:
    """A time from ISO 8601, epoch seconds or milliseconds, or a datetime; naive ones are taken as UTC. A number below 10^8 (1973) is more
    likely a year, a count or a date such as 20200131, and is no time; the text "20200131" is ISO 8601."""
    try:
        if isinstance(value, str):
            value = value.strip()
            value = int(value) if value.isdecimal() and len(value) != 8 else dt.datetime.fromisoformat(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if abs(value) < 1e8:
                return None
            value = dt.datetime.fromtimestamp(value / 1000 if abs(value) > 1e11 else value, dt.UTC)
        if isinstance(value, dt.datetime):
            return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        if isinstance(value, dt.date):
            return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _no_column(name: str, columns: list[str]) -> str:
    return f"no column '{name}' (has: {', '.join(columns[:20])}). Set text: in the recipe's source"
