"""Which columns of a table are what, and a record as a document.

One column is the text, or several in a template; id, url, lang, created and licence are taken from the columns named so or named by the
recipe; all others go to `meta`. Sets for training (see conversations.py) are told by their columns. What is not what its column's name
says stays in `meta`. The value of an id column becomes the id `<source>:<value>`; a record without one gets its position id.

Cost: 2 µs a record with four columns, beside its parser.
"""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field, field_serializer, model_validator

from codedev._errors import nearest
from codedev.corpus.document import DOCUMENT, ORIGIN, meta_json, position_id
from codedev.corpus.source import Document, Drop, Extent, Failure, SourceConfig
from codedev.corpus.sources import DEFAULT_KIND
from codedev.corpus.sources.tables import conversations

# Columns that are taken by name, in order of preference.
KNOWN = {
    "id": ("id",),
    "url": ("url",),
    "lang": ("lang", "language"),
    "created": ("created", "created_at", "date", "timestamp"),
    "licence": ("licence", "license"),
}
_TARGETS = ("text", *KNOWN, *conversations.PART_OF)
Thing: TypeAlias = Document | Drop | Failure | pa.RecordBatch
Layout = Literal["auto", "text", "instruction", "messages", "sharegpt", "preference", "hh", "kto", "reward", "prompts"]


class Config(SourceConfig):
    type: Literal["tables"]
    paths: tuple[str, ...] = ()  # or `uri`
    text: str | None = None  # the column that holds the text ("text"), or a template such as "{title}\n\n{body}"
    columns: dict[str, str] = Field(default={})  # text, id, url, lang, created, licence or a part of a conversation -> its column
    layout: Layout = "auto"  # what a row is; auto = told by its columns
    delimiter: str | None = Field(default=None, pattern=r'^[^"\r\n]$')  # of CSV; null = the one of , ; tab | that the header has most of
    encoding: str | None = None  # of CSV; null = told by its mark, UTF-8, or detected
    uri: str | None = None  # of a database: postgresql://… or sqlite:///path. ${NAME} is taken from the environment on connecting
    table: str | None = None  # of the database, or
    query: str | None = None  # a SELECT
    key: str | None = None  # column of the table or query by whose ranges it is split

    @model_validator(mode="after")
    def _check(self) -> Config:
        if bool(self.paths) == (self.uri is not None):
            raise ValueError(f"source '{self.name}' needs `paths`, or the `uri` of a database, and not both")
        if self.table is not None and self.query is not None:
            raise ValueError("give `table` or `query`, not both")
        if self.uri is not None and self.table is None and self.query is None:
            raise ValueError("a database needs `table` or `query`")
        for target in self.columns:
            if target not in _TARGETS:
                raise ValueError(f"columns has no '{target}': {nearest(target, _TARGETS)}")
        if self.text is not None and "text" in self.columns:
            raise ValueError("the text's column is given twice: as `text` and in `columns`")
        if self.text is not None and "{" in self.text:
            _template(self.text)
        if self.encoding is not None:
            _check_encoding(self.encoding)
        if self.uri is not None and not self.uri.startswith(("postgresql://", "postgres://", "sqlite://")):
            raise ValueError("uri begins with postgresql:// or sqlite:///")
        return self

    @field_serializer("uri")
    def _hide(self, uri: str | None) -> str | None:
        """A password in the uri is written nowhere."""
        return None if uri is None else redacted(uri)

    @property
    def text_column(self) -> str:
        return self.text or self.columns.get("text", "text")


def redacted(uri: str) -> str:
    """The uri of a database without what could be a password: `${NAME}` stays, as it is none."""
    scheme, separator, rest = uri.partition("://")
    if scheme == "sqlite":
        return uri
    # Whatever stands before the last @ may be a password: one with / or ? in it is wrong, and still a secret.
    user, at, rest = rest.rpartition("@")
    name, colon, password = user.partition(":")
    if colon and not _is_variable(password):
        user = f"{name}:***"
    location, question, query = rest.partition("?")
    pairs = []
    for pair in query.split("&") if question else ():
        key, _, value = pair.partition("=")
        pairs.append(f"{key}=***" if "pass" in key.lower() and not _is_variable(value) else pair)
    return f"{scheme}{separator}{user}{at}{location}{question}{'&'.join(pairs)}"


def _is_variable(value: str) -> bool:
    return value.startswith("${") and value.endswith("}") and value[2:-1].isidentifier()


def _check_encoding(name: str) -> None:
    import codecs

    try:
        known = codecs.lookup(name)
        "a\n".encode(known.name)
    except (LookupError, UnicodeError):
        raise ValueError(f"encoding: '{name}' is not known") from None
    if "utf-32" in known.name or not getattr(known, "_is_text_encoding", True):
        raise ValueError(f"encoding: '{name}' is not read")


def _template(text: str) -> list[tuple[str, str | None]]:
    """(literal, column after it or None) parts of a template."""
    try:
        parts = [(literal, name, spec, conversion) for literal, name, spec, conversion in string.Formatter().parse(text)]
    except ValueError as error:
        raise ValueError(f"text: the template is not whole: {error}") from None
    for _, name, spec, conversion in parts:
        if name == "" or spec or conversion or (name and any(mark in name for mark in "[]!:")):
            raise ValueError("text: a template holds names of columns in braces and nothing else in them; write {{ for a brace")
    return [(literal, name) for literal, name, _, _ in parts]


class Shape(NamedTuple):
    """What the columns of a record are for."""

    layout: str
    text: tuple[str, ...]  # the columns whose text it is
    template: tuple[tuple[str, str | None], ...]  # empty = the one column as it is
    named: tuple[tuple[str, str], ...]  # (field, column) of id, url, lang, created, licence
    parts: Mapping[str, str]  # of a conversation: part -> column
    names: tuple[str, ...]


class Shapes:
    """The shape for each list of columns that occurs."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._known: dict[tuple[str, ...], Shape] = {}

    def of(self, names: tuple[str, ...]) -> Shape:
        shape = self._known.get(names)
        if shape is None:
            if len(self._known) >= 1000:  # records without any common form
                self._known.clear()
            shape = self._known[names] = shape_of(names, self._config)
        return shape


def shape_of(names: Sequence[str], config: Config) -> Shape:
    has = set(names)
    own = config.text is not None or "text" in config.columns  # the recipe names the text's column
    parts = {
        conversations.PART_OF[name]: column for name, column in config.columns.items() if name in conversations.PART_OF and column in has
    }
    layout: str = config.layout
    if layout == "auto":
        layout = "text" if own or ("text" in has and "text" not in config.columns.values()) else conversations.layout_of(has, parts)
    template: tuple[tuple[str, str | None], ...] = ()
    text: tuple[str, ...] = (config.text_column,)
    if config.text is not None and "{" in config.text:
        template = tuple(_template(config.text))
        text = tuple(dict.fromkeys(name for _, name in template if name is not None))
    used = set(text) if layout == "text" else set()
    found = {} if layout == "text" else conversations.parts_of(layout, has, parts, config.text_column)
    used |= set(found.values())
    named = []
    for field, known in KNOWN.items():
        wanted = (config.columns[field],) if field in config.columns else known
        column = next((name for name in wanted if name in has and name not in used), None)
        if column is not None:
            named.append((field, column))
    return Shape(layout, text, template, tuple(named), found, tuple(names))


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Each column's name. Of several of one name the last one bears it; the others become `name.2`, `name.3`, …"""
    taken = set(names)
    if len(taken) == len(names):
        return tuple(names)
    found = list(names)
    last = {name: place for place, name in enumerate(names)}
    numbers = dict.fromkeys(names, 2)
    for place, name in enumerate(names):
        if last[name] == place:
            continue
        while (other := f"{name}.{numbers[name]}") in taken:
            numbers[name] += 1
        found[place] = other
        taken.add(other)
    return tuple(found)


def missing_columns(shape: Shape, has: Sequence[str]) -> str | None:
    """Why no record of a table with these columns can be a document; None when it can."""
    if shape.layout != "text" or all(name in has for name in shape.text):
        return None
    missing = next(name for name in shape.text if name not in has)
    return f"no column '{missing}' (has: {', '.join(has[:20])}). Set text: in the recipe's source"


# -- a record ----------------------------------------------------------------------------------------------------------------------


class Fields(NamedTuple):
    """What a record says beside its text."""

    id: str | None  # its own
    lang: str | None
    licence: str | None
    url: str | None
    created: dt.datetime | None


_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # microseconds of the calendar's years 1 to 9999
_NOTHING = Fields(None, None, None, None, None)


def take_fields(record: dict[str, Any], shape: Shape) -> Fields:
    """Take the fields out of the record. What is not what its column's name says stays in it, for `meta`."""
    if not shape.named:
        return _NOTHING
    used: dict[str, Any] = dict.fromkeys(Fields._fields)
    for field, name in shape.named:
        value = record[name]
        if field == "id":
            meant: Any = own_id(value)
        elif field == "created":
            meant = when(value)
        else:
            meant = value if isinstance(value, str) and value else None
        used[field] = meant
        if meant is not None or value is None or value == "":
            del record[name]
    return Fields(**used)


def own_id(value: Any) -> str | None:
    """An id column's value as text. pandas turns integers into floats where one is missing; any other float is no identity."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else None
    return None if value is None or value == "" else str(value)


def document(record: dict[str, Any], offset: int, length: int | None, shape: Shape, extent: Extent, config: Config) -> Document | Drop:
    """What a record is; it is used up. TypeError: a column that no JSON holds."""
    kind = None
    if shape.layout == "text":
        text, reason, evidence = _text(record, shape)
    else:
        made = conversations.read(shape.layout, record, shape.parts, auto=config.layout == "auto")
        text, reason, evidence = made.text, made.reason, made.evidence
        kind = made.kind
    own = take_fields(record, shape)
    key = position_id(extent.hash, offset) if own.id is None else f"{config.name}:{own.id}"
    if text is None:
        return Drop(key, reason, evidence, offset, length)
    if kind is not None:
        record.update(made.meta)
    return Document(
        key, text, offset, length, kind=kind, lang=own.lang, licence=own.licence, url=own.url, created=own.created, meta=meta_json(record)
    )  # fmt: skip


def _text(record: dict[str, Any], shape: Shape) -> tuple[str | None, str, str]:
    """(text or None, reason, evidence); its columns are taken out of the record."""
    values = {name: record.pop(name, None) for name in shape.text}
    for name, value in values.items():
        if isinstance(value, str) or (shape.template and isinstance(value, int | float) and not isinstance(value, bool)):
            continue
        found = "missing" if value is None else type(value).__name__
        return None, "no_text", no_text(name, found, shape.names)
    if not shape.template:
        return next(iter(values.values())), "", ""
    return "".join(literal + (str(values[name]) if name is not None else "") for literal, name in shape.template), "", ""


def no_text(column: str, found: str, names: Sequence[str]) -> str:
    return orjson.dumps({"column": column, "found": found, "columns": [name for name in names if name != column][:20]}).decode()


def when(value: Any) -> dt.datetime | None:
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


# -- many ----------------------------------------------------------------------------------------------------------------------------


def batch(columns: Mapping[str, Any], offsets: Any, lengths: Any, extent: Extent, config: Config) -> pa.RecordBatch:
    """Documents from columns (lists or Arrow arrays) named as in DOCUMENT; `offsets` and `lengths` (or None) are of `origin`."""
    rows = len(offsets)
    same = {
        "source": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [config.name]),
        "kind": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [config.kind or DEFAULT_KIND["tables"]]),
        "origin": pa.StructArray.from_arrays(
            [
                pa.repeat(extent.name, rows),
                pa.array(offsets, pa.int64()),
                pa.nulls(rows, pa.int64()) if lengths is None else pa.array(lengths, pa.int64()),
                columns.get("member") or pa.nulls(rows, pa.string()),
            ],
            fields=list(ORIGIN),
        ),
    }
    arrays = []
    for field in DOCUMENT:
        values = same.get(field.name, columns.get(field.name))
        if field.name == "licence" and config.licence:
            values = [config.licence] * rows if values is None else [own or config.licence for own in values]
        if values is None:
            arrays.append(pa.nulls(rows, field.type))
        elif isinstance(values, pa.Array):
            arrays.append(values if values.type == field.type else values.cast(field.type))
        elif pa.types.is_dictionary(field.type):
            arrays.append(pa.array(values, pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT)


def position_ids(extent: Extent, offsets: Sequence[int]) -> list[str]:
    """As document.position_id, 0.3 µs each."""
    digest, start = xxhash.xxh3_128_hexdigest, f"{extent.hash}:"
    return [digest((start + str(offset)).encode()) for offset in offsets]


def fields_of(
    named: Mapping[str, list[Any]], offsets: Sequence[int], extent: Extent, config: Config
) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The columns id, lang, licence, url and created from the values of the columns taken for them (None = the record has none): what
    `take_fields` makes of each record. And the rows of each whose value is not used, and so belongs into `meta`."""
    made: dict[str, Any] = {}
    left: dict[str, list[int]] = {}
    for field, values in named.items():
        kinds = set(map(type, values))
        if field == "id":
            prefix = f"{config.name}:"
            if kinds <= {int, str} and "" not in values:
                made["id"] = [prefix + str(value) for value in values]
                continue
            own = [own_id(value) for value in values]
            ids = position_ids(extent, offsets)
            made["id"] = [place if value is None else prefix + value for value, place in zip(own, ids, strict=True)]
        elif field == "created":
            if kinds == {str} and (times := _times(values)) is not None:
                made[field] = times
                continue
            own = made[field] = [when(value) for value in values]
        else:
            if kinds == {str} and "" not in values:
                made[field] = values
                continue
            own = made[field] = [value if isinstance(value, str) and value else None for value in values]
        if unused := [row for row, value in enumerate(values) if own[row] is None and value is not None and value != ""]:
            left[field] = unused
    if "id" not in made:
        made["id"] = position_ids(extent, offsets)
    return made, left


def _times(values: list[str]) -> pa.Array | None:
    """ISO 8601 with or without a zone, if all values are; None where `when` must look at each."""
    zone = len(values[0]) > 19 and (values[0][-1] == "Z" or values[0][-6] in "+-")
    try:
        times = pa.array(values).cast(pa.timestamp("us", "UTC" if zone else None)).cast(pa.timestamp("us", "UTC"))
    except (pa.ArrowException, UnicodeEncodeError):
        return None
    bounds = pc.min_max(times.cast(pa.int64())).as_py()
    inside = bounds["min"] >= _FIRST and bounds["max"] <= _LAST
    return times if inside else None
