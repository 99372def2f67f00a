"""SQLite and PostgreSQL to documents through ADBC: record batches from the server to the corpus, never a whole result in memory.

Read-only: SQLite is opened so (and as immutable where no journal lies beside it); PostgreSQL reads in a read-only transaction by COPY of
one SELECT. Split by ranges of `key` with about as many rows each, found by one pass over the key; a table of SQLite that has a rowid needs
no key. Rows are read in the order of the key, so that a second reading gives the same documents.

Content hash: of the files for SQLite. PostgreSQL computes the number of rows and the sum of the hashes of their texts, in a pass over the
table. It holds for the whole query, since the ids of rows without one depend on it: a change anywhere is a new reading.

A password is taken from PGPASSWORD, ~/.pgpass or `${NAME}` in the uri, which the environment fills in on connecting; no message, plan or
recipe that is written holds one.

What it does not do: hold one snapshot over all workers. A range that has not as many rows as were planned is an error row. Without a key,
PostgreSQL's rows come in the order in which they lie on disk.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from codedev._errors import InputError, MissingExtraError, nearest
from codedev._files import Found, hash_of, shown
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.tables import batches
from codedev.corpus.sources.tables.columns import Config, Thing, missing_columns, redacted, shape_of

_ROWS = 2048  # made documents of at a time
_COUNTED = 300  # columns counted by one query: SQLite gives at most 2,000 values in a row
_FLAGS = 50  # bits of one column of flags: an expression of SQLite has at most 1,000 levels


class Query(NamedTuple):
    """What an extent reads: goes through the plan as the extent's context."""

    source: str  # the table's name in quotes, or the SELECT in brackets
    columns: list[str]  # an expression each
    names: list[str]  # of the columns that documents are made of
    nullable: list[bool]  # columns of which a bit says where they are null, in columns of such bits behind all others (SQLite)
    where: str = ""
    order: str = ""
    row: int = 0  # number of the first row in that order
    rows: int = -1  # planned; -1 = not known

    def sql(self) -> str:
        where = f" WHERE {self.where}" if self.where else ""
        return f"SELECT {', '.join(self.columns)} FROM {self.source} AS q{where}{self.order}"  # noqa: S608  quoted by `_name`


class _TableError(Exception):
    """The recipe asks for what the database does not have."""


# -- planning ----------------------------------------------------------------------------------------------------------------------


def extents(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    """Of the database at config.uri. Raises InputError when it cannot be read."""
    uri = config.uri or ""
    if uri.startswith("sqlite://"):
        path = os.path.normpath(base / uri.removeprefix("sqlite://").removeprefix("/"))
        if not os.path.isfile(path):
            raise InputError(f"{uri}: there is no such file (looked for {path})")
        planned = list(_sqlite_extents(Found(path, shown(path, base), os.path.getsize(path)), config, unit_bytes, strict=True))
    else:
        planned = _postgresql_extents(config, unit_bytes)
    yield from planned


def file_extents(found: Found, config: Config, unit_bytes: int) -> Iterator[Extent]:
    """Of a SQLite file among a source's paths; its reader will say what is wrong with it."""
    yield from _sqlite_extents(found, config, unit_bytes, strict=False)


def _sqlite_extents(found: Found, config: Config, unit_bytes: int, *, strict: bool) -> Iterator[Extent]:
    whole = Extent(found.path, found.name, 0, -1, found.size, hash=_sqlite_hash(found.path))
    try:
        with _sqlite(found.path) as cursor:
            query, key = _sqlite_query(cursor, config)
            ranges = list(_ranges(cursor, query, key, math.ceil(found.size / unit_bytes), "quote(k)"))
    except (_driver_error(), OSError, _TableError) as error:
        if strict:
            raise InputError(f"{found.name}: {said(error)}") from None
        yield whole
        return
    for part in ranges:
        share = found.size * part.rows // max(1, sum(other.rows for other in ranges))
        yield whole._replace(start=part.row, end=part.row + part.rows, size=share, context=orjson.dumps(tuple(part)).decode())


def _sqlite_hash(path: str) -> str:
    """Of the file and of the journal that holds what is not in it yet; empty where they cannot be read."""
    try:
        hashes = [hash_of(name) for name in (path, f"{path}-wal") if name == path or _has(name)]
    except OSError:
        return ""
    return hashes[0] if len(hashes) == 1 else xxhash.xxh3_128_hexdigest("".join(hashes).encode())


def _sqlite_query(cursor: Any, config: Config) -> tuple[Query, str | None]:
    """The query over all rows, and the expression by which it is split and ordered."""
    key = None if config.key is None else _name(config.key)
    if config.query is not None:
        source = _bracketed(config.query)
    else:
        table = config.table if config.table is not None else _only_table(cursor)
        source = _name(table)
        if key is None and not _fails(cursor, f"SELECT rowid FROM {source} LIMIT 0"):  # noqa: S608
            key = "rowid"
    names = list(_schema(cursor, f"SELECT * FROM {source} AS q LIMIT 0").names)  # noqa: S608
    own = ("rowid", "_rowid_", "oid") if config.query is None else ()
    if config.key is not None and config.key.lower() not in (*map(str.lower, names), *own):
        # SQLite takes a name in quotes that it does not know for a text.
        raise _TableError(f"no column '{config.key}' to split by: {nearest(config.key, names)}")
    # Every value of SQLite has a type of its own, and a driver that takes a column's from its first rows stumbles over the others.
    total, seen = 0, list[int]()
    for start in range(0, len(names), _COUNTED):
        counts = [
            f"count(*) FILTER (WHERE {test.format(name=_name(name))})"
            for name in names[start : start + _COUNTED]
            for test in _SQLITE_KINDS.values()
        ]
        total, *found = _row(cursor, f"SELECT count(*), {', '.join(counts)} FROM {source} AS q")  # noqa: S608
        seen += found
    columns, nullable, flags = [], [], list[str]()
    width = len(_SQLITE_KINDS)
    for place, name in enumerate(names):
        of_kind = dict(zip(_SQLITE_KINDS, seen[place * width : (place + 1) * width], strict=True))
        value, zero = _sqlite_value(_name(name), [kind for kind, count in of_kind.items() if count])
        nullable.append(sum(of_kind.values()) - of_kind["wide"] < total)
        # A null must not be what the driver meets first.
        columns.append(f"coalesce({value}, {zero})" if nullable[-1] else value)
        if nullable[-1]:
            flags.append(f"({_name(name)} IS NULL) << {len(flags) % _FLAGS}")
    columns += [" | ".join(f"({flag})" for flag in flags[start : start + _FLAGS]) for start in range(0, len(flags), _FLAGS)]
    order = "" if key is None else f" ORDER BY {key} NULLS FIRST"
    return Query(source, columns, names, nullable, order=order, rows=total), key


_SQLITE_KINDS = {
    **{kind: f"typeof({{name}}) = '{kind}'" for kind in ("integer", "real", "text", "blob")},
    # Beyond 2^53, where not every integer is a real number of 64 bits.
    "wide": "typeof({name}) = 'integer' AND {name} NOT BETWEEN -9007199254740992 AND 9007199254740992",
}


def _sqlite_value(name: str, kinds: list[str]) -> tuple[str, str]:
    """An expression of one type for a column's values, and a value of that type."""
    match kinds:
        case ["integer"] | ["integer", "wide"]:
            return name, "0"
        case ["real"] | ["integer", "real"]:
            return f"CAST({name} AS REAL)", "0.0"
        case ["integer", "real", "wide"]:
            text = f"CAST({name} AS TEXT)"  # of a real number, 15 digits
            return (
                f"CASE WHEN typeof({name}) = 'real' AND CAST({text} AS REAL) <> {name} THEN printf('%!.17g', {name}) ELSE {text} END",
                "''",
            )
        case ["blob"]:
            return name, "x''"
        case ["text"]:
            return name, "''"
        case _:
            return f"CAST({name} AS TEXT)", "''"


def _only_table(cursor: Any) -> str:
    names = [
        row[0] for row in _all(cursor, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    ]
    if len(names) != 1:
        raise _TableError(f"it holds {len(names)} tables ({', '.join(sorted(names)[:20])}): set `table` or `query` in the recipe")
    return str(names[0])


def _postgresql_extents(config: Config, unit_bytes: int) -> list[Extent]:
    uri = config.uri or ""
    label = redacted(uri)
    try:
        with _postgresql(uri) as cursor:
            query, total, size, digest = _postgresql_query(cursor, config)
            key = None if config.key is None else _name(config.key)
            ranges = list(_ranges(cursor, query, key, math.ceil(size / unit_bytes), "quote_literal(k::text)"))
    except (_driver_error(), OSError, _TableError) as error:
        raise InputError(f"{label}: {said(error, uri)}") from None
    name = f"{label}#{config.table}" if config.table is not None else label
    return [
        Extent(label, name, part.row, part.row + part.rows, size * part.rows // max(1, total), orjson.dumps(tuple(part)).decode(), digest)
        for part in ranges
    ]


def _postgresql_query(cursor: Any, config: Config) -> tuple[Query, int, int, str]:
    """The query over all rows, their number, their bytes and their hash."""
    source = _bracketed(config.query) if config.query is not None else ".".join(map(_name, (config.table or "").split(".")))
    schema = _schema(cursor, f"SELECT * FROM {source} AS q LIMIT 0")  # noqa: S608
    names = list(schema.names)
    if len(set(names)) != len(names):
        raise _TableError("the query gives two columns of one name")
    if config.key is not None and config.key not in names:
        raise _TableError(f"no column '{config.key}' to split by: {nearest(config.key, names)}")
    timed = [name for name in names if pa.types.is_date(kind := schema.field(name).type) or pa.types.is_timestamp(kind)]
    far: set[str] = set()
    for start in range(0, len(timed), _COUNTED):
        part = timed[start : start + _COUNTED]
        tests = [f"coalesce(bool_or({_name(name)} < '0001-01-01' OR {_name(name)} >= '10000-01-01'), false)" for name in part]
        is_far = _row(cursor, f"SELECT {', '.join(tests)} FROM {source} AS q")  # noqa: S608
        far |= {name for name, found in zip(part, is_far, strict=True) if found}
    # A column with times that no calendar of Arrow or Python holds (infinity, before Christ) comes as the server's text.
    plain = [name not in far and _is_plain(schema.field(name).type) for name in names]
    columns = [_name(name) if own else f"{_name(name)}::text AS {_name(name)}" for name, own in zip(names, plain, strict=True)]
    key = None if config.key is None else _name(config.key)
    unique = f"count(DISTINCT {key}) = count({key}) AND count(*) - count({key}) < 2" if key else "true"
    total, size, digest, is_unique = _row(
        cursor,
        "SELECT count(*), coalesce(sum(octet_length(q::text)), 0)::bigint, "  # noqa: S608
        f"coalesce(sum(hashtextextended(q::text, 0)::numeric), 0)::text, {unique} FROM {source} AS q",
    )
    # Rows of one key are put in order by all they hold.
    order = "" if key is None else f" ORDER BY {key} NULLS FIRST" + ("" if is_unique else ', q::text COLLATE "C"')
    said = f"{total}:{digest}:{names}"
    return (
        Query(source, columns, names, [False] * len(names), order=order, rows=total),
        total,
        size,
        xxhash.xxh3_128_hexdigest(said.encode()),
    )


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a type becomes what it means; all others come as the server's text."""
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if pa.types.is_list(kind):
        return _is_plain(kind.value_type)
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_large_string)
    return any(check(kind) for check in (*plain, pa.types.is_binary, pa.types.is_date, pa.types.is_timestamp))


def _ranges(cursor: Any, query: Query, key: str | None, parts: int, literal: str) -> Iterator[Query]:
    """The query in about so many ranges of its key, in order; rows without a key come first. `literal` writes a key `k` as SQL."""
    if key is None or parts < 2 or query.rows < 2:
        yield query
        return
    step = max(1, query.rows // parts)
    [nulls] = _row(cursor, f"SELECT count(*) FROM {query.source} AS q WHERE {key} IS NULL")  # noqa: S608
    # `below`: the rows up to this key and those that share it.
    bounds = _all(
        cursor,
        f"SELECT DISTINCT {literal} AS bound, below FROM (SELECT {key} AS k, row_number() OVER (ORDER BY {key}) AS n, "  # noqa: S608
        f"count(*) OVER (ORDER BY {key}) AS below FROM {query.source} AS q WHERE {key} IS NOT NULL) AS r "
        f"WHERE n % {step} = 0 ORDER BY below",
    )
    if nulls:
        yield query._replace(where=f"{key} IS NULL", row=0, rows=nulls)
    last, done = None, 0
    filled = query.rows - nulls
    for bound, below in [*bounds, (None, filled)]:
        if below == done or (bound is not None and below == filled):
            continue  # the last range is open
        limits = [f"{key} > {last}"] * (last is not None) + [f"{key} <= {bound}"] * (bound is not None)
        yield query._replace(where=" AND ".join(limits) or f"{key} IS NOT NULL", row=nulls + done, rows=below - done)
        last, done = bound, below


# -- reading -----------------------------------------------------------------------------------------------------------------------


def read(extent: Extent, config: Config, base: Path) -> Iterator[Thing]:
    """The rows of an extent. One without a context is a SQLite file that the planner could not plan."""
    uri = config.uri or ""
    local = not uri or uri.startswith("sqlite://")
    row = extent.start
    try:
        with _sqlite(extent.file) if local else _postgresql(uri) as cursor:
            known = orjson.loads(extent.context)
            query = Query(*known) if known else _sqlite_query(cursor, config)[0]
            shape = shape_of(tuple(query.names), config)
            if missing := missing_columns(shape, query.names):
                yield Failure("no_text_column", missing, row)
                return
            cursor.execute(query.sql())
            for batch in cursor.fetch_record_batch():
                table = _with_nulls(batch, query)
                for start in range(0, table.num_rows, _ROWS):
                    yield from batches.rows(table.slice(start, _ROWS), row + start, shape, extent, config)
                row += batch.num_rows
            if query.rows >= 0 and row - query.row != query.rows:
                message = f"{row - query.row:,} rows where {query.rows:,} were planned: the table has changed. Build again"
                yield Failure("changed", message, row)
    except (_driver_error(), OSError, pa.ArrowException, _TableError, InputError) as error:
        yield Failure("database", f"after row {row:,}: {said(error, uri)}", row)


def _with_nulls(batch: pa.RecordBatch, query: Query) -> pa.RecordBatch:
    """The columns under their names, null where the flags say so."""
    columns, number = [], 0
    flags = [batch.column(place).to_numpy(zero_copy_only=False) for place in range(len(query.names), batch.num_columns)]
    for place, nullable in enumerate(query.nullable):
        column = batch.column(place)
        if nullable:
            mask = pa.array((flags[number // _FLAGS] >> number % _FLAGS & 1).astype(np.bool_))
            column = column.take(pc.if_else(mask, None, pa.array(range(len(mask)), pa.int32())))
            number += 1
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=query.names)


# -- connections -------------------------------------------------------------------------------------------------------------------


@contextmanager
def _sqlite(path: str) -> Iterator[Any]:
    try:
        from adbc_driver_sqlite import dbapi
    except ImportError:
        raise MissingExtraError("adbc-driver-sqlite", "sql") from None
    # A write-ahead log or a journal with something in it is part of the database; without one nothing beside the file is touched.
    settled = not _has(f"{path}-wal") and not _has(f"{path}-journal")
    uri = f"file:{quote(path)}?mode=ro{'&immutable=1' if settled else ''}"
    with dbapi.connect(uri) as connection, connection.cursor() as cursor:
        yield cursor


def _has(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


@contextmanager
def _postgresql(uri: str) -> Iterator[Any]:
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise MissingExtraError("adbc-driver-postgresql", "sql") from None
    full = filled(uri)
    if "connect_timeout=" not in full:
        full += ("&" if "?" in full else "?") + "connect_timeout=20"
    with dbapi.connect(full) as connection, connection.cursor() as cursor:
        # Before anything else: no write, and texts of rows that do not depend on the server's settings.
        for setting in (
            "TRANSACTION READ ONLY",
            "standard_conforming_strings = on",
            "synchronize_seqscans = off",
            "max_parallel_workers_per_gather = 0",
            "TimeZone = 'UTC'",
            "DateStyle = 'ISO, YMD'",
            "IntervalStyle = 'postgres'",
            "extra_float_digits = 1",
            "bytea_output = 'hex'",
        ):
            cursor.execute(f"SET {'' if setting.startswith('TRANSACTION') else 'LOCAL '}{setting}")
        yield cursor
        connection.rollback()


def filled(uri: str) -> str:
    """The uri with `${NAME}` from the environment; in the user's part percent-encoded."""
    user, at, rest = uri.rpartition("@")
    scheme, separator, user = user.partition("://")

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in os.environ:
            raise InputError(f"{redacted(uri)}: the environment has no {name}")
        return os.environ[name]

    encoded = re.sub(r"\$\{(\w+)\}", lambda found: quote(value(found), safe=""), user)
    return f"{scheme}{separator}{encoded}{at}" + re.sub(r"\$\{(\w+)\}", value, rest)


def _driver_error() -> type[Exception]:
    """What ADBC raises; nothing that is ever raised where it is not installed."""
    try:
        from adbc_driver_manager import Error
    except ImportError:
        return _TableError
    return Error  # type: ignore[no-any-return]


def said(error: Exception, uri: str = "") -> str:
    """The message in one line, without a password."""
    text = " ".join(str(error).split())[:500] or type(error).__name__
    for secret in _secrets(uri):
        text = text.replace(secret, "***")
    return text


def _secrets(uri: str) -> list[str]:
    found = [os.environ.get("PGPASSWORD", "")]
    for whole in {uri, _filled_or_not(uri)}:
        user = whole.partition("://")[2].rpartition("@")[0]
        found.append(user.partition(":")[2])
        found += re.findall(r"[?&][^=&]*pass[^=&]*=([^&]+)", whole, re.IGNORECASE)
    found += [os.environ.get(name, "") for name in re.findall(r"\$\{(\w+)\}", uri)]
    return sorted({secret for secret in found if len(secret) > 2}, key=len, reverse=True)


def _filled_or_not(uri: str) -> str:
    try:
        return filled(uri)
    except InputError:
        return uri


# -- SQL ---------------------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/|[();]", re.DOTALL)


def _bracketed(query: str) -> str:
    """A SELECT in brackets, to select from. Refuses what would end before its bracket does."""
    query = query.strip().rstrip(";").rstrip()
    if not re.match(r"(?:select|with|values)\b", query, re.IGNORECASE):
        raise _TableError("query: only a SELECT is read")
    depth = 0
    for token in _TOKEN.finditer(query):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth < 0 or token[0] == ";":
            raise _TableError("query: one SELECT whose brackets match")
    if depth:
        raise _TableError("query: one SELECT whose brackets match")
    return f"({query}\n)"


def _name(name: str) -> str:
    if "\0" in name:
        raise _TableError("a name holds a NUL")
    return '"' + name.replace('"', '""') + '"'


def _schema(cursor: Any, sql: str) -> pa.Schema:
    cursor.execute(sql)
    return cursor.fetch_record_batch().schema


def _all(cursor: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return [tuple(row) for row in cursor.fetchall()]


def _row(cursor: Any, sql: str) -> tuple[Any, ...]:
    return _all(cursor, sql)[0]


def _fails(cursor: Any, sql: str) -> bool:
    try:
        cursor.execute(sql)
        cursor.fetchall()
    except (_driver_error(), OSError):
        return True
    return False
