"""JSON records, as lines or as elements of an array, to documents.

Records of one text column become a record batch, some hundred at a time; a group in which one is no document, and sets of conversations,
go through the row path, which gives the same documents. Cost: 3 µs a record of five columns and 430 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from codedev.corpus.source import Document, Drop, Extent, Failure
from codedev.corpus.sources import json_array, lines
from codedev.corpus.sources.tables.columns import Config, Shape, Shapes, Thing, batch, document, fields_of, position_ids

_GROUP_BYTES = 1 << 18
_GROUP_ROWS = 4096
_META = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS

Record = tuple[int, int, bytes]  # byte offset, length there, what to parse


def read_lines(stream: BinaryIO, extent: Extent, config: Config) -> Iterator[Thing]:
    shapes = Shapes(config)
    group: list[Record] = []
    size = 0
    for block in lines.blocks(stream, extent, config.max_record_bytes):
        if isinstance(block, Failure):
            yield from _records(group, shapes, extent, config)
            group, size = [], 0
            yield block
            continue
        for at, data in lines.without_blank_runs(*block):
            parts = lines.split(data)
            sizes = list(map(len, parts))
            if at == 0:
                parts[0] = parts[0].removeprefix(b"\xef\xbb\xbf")
            group += zip(accumulate(sizes, initial=at), sizes, parts)  # noqa: B905  the last of the sums is the block's end
            size += len(data)
        if size >= _GROUP_BYTES or len(group) >= _GROUP_ROWS:
            yield from _records(group, shapes, extent, config)
            group, size = [], 0
    yield from _records(group, shapes, extent, config)


def read_elements(stream: BinaryIO, form: str, extent: Extent, config: Config) -> Iterator[Thing]:
    shapes = Shapes(config)
    group: list[Record] = []
    size = 0
    for element in json_array.elements(stream, config.max_record_bytes, form):
        if isinstance(element, Failure | json_array.Beside):
            yield from _records(group, shapes, extent, config)
            group, size = [], 0
            yield element if isinstance(element, Failure) else _beside(element, extent)
            continue
        offset, data = element
        group.append((offset, len(data), data))
        size += len(data)
        if size >= _GROUP_BYTES or len(group) >= _GROUP_ROWS:
            yield from _records(group, shapes, extent, config)
            group, size = [], 0
    yield from _records(group, shapes, extent, config)


def _beside(element: json_array.Beside, extent: Extent) -> Drop:
    key = position_ids(extent, [element.offset])[0]
    evidence = orjson.dumps({"beside": element.data[:500].decode("utf-8", "replace")}).decode()
    return Drop(key, "beside_the_array", evidence, element.offset, len(element.data))


def _records(group: list[Record], shapes: Shapes, extent: Extent, config: Config) -> Iterator[Thing]:
    if any(map(bytes.isspace, parts := [raw for _, _, raw in group])) or b"" in parts:
        group = [record for record in group if record[2].strip()]  # a blank line is no record
    if not group:
        return
    made = _batch(group, shapes, extent, config)
    if made is not None:
        yield made
        return
    for record in group:
        yield _row(record, shapes, extent, config)


def _batch(group: list[Record], shapes: Shapes, extent: Extent, config: Config) -> pa.RecordBatch | None:
    """The records as one batch; None when one of them is anything but an object with its text."""
    loads, dumps = orjson.loads, orjson.dumps
    try:
        records: list[dict[str, Any]] = [loads(raw) for _, _, raw in group]
    except orjson.JSONDecodeError:
        return None
    if set(map(type, records)) != {dict}:
        return None
    text, named = "", dict[str, str]()
    for names in set(map(tuple, records)):
        shape = shapes.of(names)
        if shape.layout != "text" or shape.template or any(named.setdefault(field, name) != name for field, name in shape.named):
            return None
        text = shape.text[0]
    texts = [record.pop(text, None) for record in records]
    if set(map(type, texts)) != {str}:
        return None
    taken = {field: [record.pop(name, None) for record in records] for field, name in named.items()}
    if any(type(value) is float and abs(value) >= 1 << 63 for value in taken.get("id", ())):
        return None
    offsets = [offset for offset, _, _ in group]
    columns, left = fields_of(taken, offsets, extent, config)
    for field, rows in left.items():
        for row in rows:
            records[row][named[field]] = taken[field][row]
    try:
        metas = [
            b"{}" if not record else dumps(record if None not in record.values() else _known(record), option=_META) for record in records
        ]
        columns |= {"text": texts, "meta": pa.array(metas, pa.binary()).view(pa.string())}
        return batch(columns, offsets, [length for _, length, _ in group], extent, config)
    except (TypeError, pa.ArrowException, OverflowError, ValueError):
        return None


def _known(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None}


def _row(record: Record, shapes: Shapes, extent: Extent, config: Config) -> Document | Drop | Failure:
    offset, length, raw = record
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _bad_json(raw, offset, error)
    if not isinstance(parsed, dict):
        return Failure("not_an_object", f"a JSON {type(parsed).__name__} where a record should be", offset, raw=raw)
    shape = shapes.of(tuple(parsed))
    if _is_huge(parsed, shape):
        name = next(name for field, name in shape.named if field == "id")
        parsed[name] = json.loads(raw)[name]
    try:
        return document(parsed, offset, length, shape, extent, config)
    except TypeError as error:  # orjson reads 1,024 levels and writes 254
        return Failure("too_deep", f"a column that cannot be kept in meta: {error}", offset, raw=raw)


def _is_huge(record: dict[str, Any], shape: Shape | None) -> bool:
    """Whether the id may be an integer of more than 64 bits, which orjson reads as a float."""
    name = next((name for field, name in shape.named if field == "id"), None) if shape else None
    value = record.get(name) if name is not None else None
    return isinstance(value, float) and abs(value) >= 1 << 63


def _bad_json(raw: bytes, offset: int, error: orjson.JSONDecodeError) -> Failure:
    try:
        raw.decode()
    except UnicodeDecodeError as bad:
        return Failure("invalid_utf8", f"byte {bad.start} of the record: {bad.reason}", offset, raw=raw)
    return Failure("invalid_json", str(error), offset, raw=raw)
