"""Tables: JSON (lines, an array, objects one after another), CSV/TSV, Parquet, Arrow and Feather, told by content, compressed or not
(Parquet and Arrow as they are); SQLite files and databases. What is made of their columns: see columns.py and conversations.py.

    module          split by             origin.offset
    jsonl.py        byte ranges (lines)  bytes of the (decompressed) file
    csv_rows.py     not                  bytes of the (decompressed) file
    parquet_rows.py row groups           row number
    arrow_rows.py   record batches       row number
    database.py     ranges of a key      row number in the order of the key

Plain JSON lines split by byte ranges; arrays, CSV and compressed files are read in one piece, since a place to split them cannot be told
without reading them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import orjson
import pyarrow as pa

from codedev._files import Found, compression, decompressed, expand, is_damage, open_raw
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources import json_array, lines
from codedev.corpus.sources.tables import arrow_rows, csv_rows, database, jsonl, parquet_rows
from codedev.corpus.sources.tables.columns import Config, Thing

__all__ = ["VERSION", "Config", "plan", "read"]

VERSION = 4
_HEAD = 1 << 18  # bytes that tell the form
_BLANK = b"\xef\xbb\xbf \t\r\n"


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    if config.uri is not None:
        yield from database.extents(config, base, unit_bytes)
    for found in expand(config.paths, base) if config.paths else ():
        yield from _extents(found, config, unit_bytes)


def _extents(found: Found, config: Config, unit_bytes: int) -> Iterator[Extent]:
    whole = Extent(found.path, found.name, 0, -1, found.size)
    try:
        with open_raw(found.path) as file:
            form = _form_of(file)
            if form == "parquet":
                yield from parquet_rows.extents(found, file, unit_bytes)
            elif form == "arrow":
                yield from arrow_rows.extents(found, file, unit_bytes)
            elif form == "sqlite":
                yield from database.file_extents(found, config, unit_bytes)
            elif form == "text" and found.size > unit_bytes and text_form(_first(file)) == "jsonl":
                for start in range(0, found.size, unit_bytes):
                    end = min(start + unit_bytes, found.size)
                    yield whole._replace(start=start, end=end, size=end - start)
            else:
                yield whole
    except (OSError, pa.ArrowException):
        yield whole  # its reader will say what is wrong


def _form_of(file: BinaryIO) -> str:
    """`parquet`, `arrow`, `arrow_stream`, `feather1`, `sqlite`, the name of a compression, or `text`."""
    head = file.read(64)
    file.seek(0)
    return _binary_form(head) or compression(head) or "text"


def _binary_form(head: bytes) -> str | None:
    if head.startswith((b"PAR1", b"PARE")):  # the second has an encrypted footer: its reader will say so
        return "parquet"
    return "sqlite" if head.startswith(b"SQLite format 3\0") else arrow_rows.form_of(head)


def _first(stream: BinaryIO) -> bytes:
    """The first bytes of which some are visible; what comes before a damage, if there is one."""
    head = b""
    try:
        while len(head) < _HEAD and (block := stream.read1(_HEAD)):  # type: ignore[attr-defined]
            head = head + block if head.strip(_BLANK) else block
    except Exception as error:
        if not is_damage(error):
            raise
    return head


def text_form(head: bytes) -> str:
    """`jsonl`, `array`, `wrapped` (an array under a key of one object), `values` (objects over several lines), `csv` or `empty`."""
    head = head.lstrip(_BLANK)
    if not head:
        return "empty"
    if head[:1] not in (b"{", b"["):
        return "csv"
    line, _, rest = head.partition(b"\n")
    if head[:1] == b"[":
        return "array"
    if _is_object(line):
        # One line is one record, unless it is all there is and holds nothing but an array of records.
        return "wrapped" if not rest.strip() and _holds_records(line) else "jsonl"
    key = json_array.wrapped(head)
    if key is not None and key.strip(b'"').lower() not in _INSIDE_RECORDS:
        return "wrapped"
    if not rest.strip():
        return "jsonl"
    # A first line that is no object is damaged where others are objects; else the object goes on.
    return "jsonl" if any(other[:1] == b"{" and _is_object(other) for other in rest.split(b"\n")[:100]) else "values"


_INSIDE_RECORDS = {b"messages", b"conversations", b"conversation", b"chosen", b"rejected", b"prompt", b"history", b"tools", b"instances"}


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _holds_records(line: bytes) -> bool:
    record = orjson.loads(line)
    values = list(record.values())
    arrays = [name for name, value in record.items() if isinstance(value, list) and value and all(isinstance(v, dict) for v in value)]
    return len(values) == len(arrays) == 1 and arrays[0].lower().encode() not in _INSIDE_RECORDS


def read(extent: Extent, config: Config, base: Path) -> Iterator[Thing]:
    if config.uri is not None:
        yield from database.read(extent, config, base)
        return
    try:
        with open_raw(extent.file) as file:
            form = _form_of(file)
            match form:
                case "parquet":
                    yield from parquet_rows.read(file, extent, config)
                case "arrow" | "arrow_stream" | "feather1":
                    yield from arrow_rows.read(file, form, extent, config)
                case "sqlite":
                    yield from database.read(extent, config, base)
                case _:
                    yield from _read_text(file, None if form == "text" else form, extent, config)
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))


def _read_text(file: BinaryIO, codec: str | None, extent: Extent, config: Config) -> Iterator[Thing]:
    head = _first(decompressed(file, codec, config.max_ratio))
    file.seek(0)
    stream = decompressed(file, codec, config.max_ratio)
    form = (_binary_form(head) if codec else None) or text_form(head)
    match form:
        case "empty":
            damage = [line for line in lines.lines(stream, extent, config.max_record_bytes) if isinstance(line, Failure)]
            yield from damage or [Failure("empty", "the file holds no records", 0)]
        case "jsonl":
            yield from jsonl.read_lines(stream, extent, config)
        case "csv":
            yield from csv_rows.read(stream, head, extent, config)
        case "arrow_stream":
            yield from arrow_rows.read(stream, "arrow_stream", extent, config)
        case "parquet" | "arrow" | "feather1" | "sqlite":
            yield Failure("unsupported", f"{form} inside {codec}: it is read from its end, so unpack it first", 0)
        case _:
            yield from jsonl.read_elements(stream, form, extent, config)
