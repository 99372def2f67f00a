"""Databases: SQLite files and a real PostgreSQL server of this test's own against what was put into them."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from postgres_support import SECRET, Server, server  # noqa: F401  # the fixture

from codedev._errors import InputError, RecipeError
from codedev.corpus import recipe, records
from codedev.corpus.build import build
from codedev.corpus.source import Document, Drop, Extent, Failure
from codedev.corpus.sources.tables import source as tables
from codedev.corpus.sources.tables.columns import redacted

pytest.importorskip("adbc_driver_sqlite")
Thing = Document | Drop | Failure


def config(**keys: Any) -> tables.Config:
    return tables.Config(type="tables", name="s", **keys)


def rows(batch: pa.RecordBatch) -> list[Document]:
    batch.validate(full=True)
    return [
        Document(row["id"], row["text"], row["origin"]["offset"], created=row["created"], meta=row["meta"]) for row in batch.to_pylist()
    ]


def read(chosen: tables.Config, folder: Path, unit_bytes: int = 1 << 30) -> list[Thing]:
    things: list[Thing] = []
    extents = list(tables.plan(chosen, folder, unit_bytes))
    assert all(extent.hash for extent in extents)
    for extent in extents:
        for thing in tables.read(extent, chosen, folder):
            things += rows(thing) if isinstance(thing, pa.RecordBatch) else [thing]
    reader = records.Reader(chosen, folder)
    assert sum(batch.num_rows for batch in (*reader.batches(extents), *reader.drop_batches(), *reader.failure_batches())) == len(things)
    return things


def kinds(things: list[Thing]) -> list[str]:
    return ["ok" if isinstance(t, Document) else t.reason if isinstance(t, Drop) else t.kind for t in things]


def texts(things: list[Thing]) -> list[str]:
    return [thing.text for thing in things if isinstance(thing, Document)]


# -- SQLite ------------------------------------------------------------------------------------------------------------------------


def sqlite(path: Path, *statements: str | tuple[str, list[Any]]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            if isinstance(statement, str):
                connection.execute(statement)
            else:
                connection.executemany(*statement)
        connection.commit()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.sqlite"
    values = [(n, f"text {n} é", n if n < 3000 else f"s{n}", None if n < 2000 else f"late {n}", n / 2 if n % 2 else n) for n in range(5000)]
    sqlite(
        path, "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT, mixed, late TEXT, number)", ("INSERT INTO t VALUES (?,?,?,?,?)", values)
    )
    return path


def test_a_table_of_every_type(notes: Path, tmp_path: Path) -> None:
    """The types of a column's values differ: a driver that goes by the first rows stumbles over them."""
    things = read(config(paths=("notes.sqlite",)), tmp_path)
    assert kinds(things) == ["ok"] * 5000
    for number, thing in enumerate(things):
        assert isinstance(thing, Document)
        assert (thing.id, thing.text, thing.offset) == (f"s:{number}", f"text {number} é", number)
        expected = {"mixed": str(number) if number < 3000 else f"s{number}", "number": float(number / 2 if number % 2 else number)}
        assert json.loads(thing.meta) == expected | ({} if number < 2000 else {"late": f"late {number}"})
    assert read(config(uri="sqlite:///notes.sqlite", table="t"), tmp_path) == things
    assert read(config(uri=f"sqlite:////{str(notes)[1:]}", query="SELECT * FROM t WHERE id >= 0;", key="id"), tmp_path) == things


@pytest.mark.parametrize("unit_bytes", [1, 20_000, 100_000])
@pytest.mark.parametrize("key", [None, "late", "mixed"])
def test_any_units_give_the_same_rows(notes: Path, tmp_path: Path, unit_bytes: int, key: str | None) -> None:
    chosen = config(uri="sqlite:///notes.sqlite", table="t", key=key, columns={"id": "none"})
    if unit_bytes == 1:
        sqlite(notes, "DELETE FROM t WHERE id % 50")
    whole = read(chosen, tmp_path)
    extents = list(tables.plan(chosen, tmp_path, unit_bytes))
    assert len(extents) > 1
    assert sum(extent.end - extent.start for extent in extents) == len(whole) >= 100
    assert read(chosen, tmp_path, unit_bytes) == whole
    assert [thing.offset for thing in whole] == list(range(len(whole)))
    assert len({thing.id for thing in whole if isinstance(thing, Document)}) == len(whole)


def test_bad_values(tmp_path: Path) -> None:
    sqlite(
        tmp_path / "a.db",
        "CREATE TABLE t (text, blob)",
        "INSERT INTO t VALUES ('good', x'ff00'), (CAST(x'ff41' AS TEXT), NULL), (NULL, x''), ('a' || char(0) || 'b', NULL), ('', x'41')",
    )
    things = read(config(paths=("a.db",)), tmp_path)
    assert sorted((t.offset, k) for t, k in zip(things, kinds(things), strict=True)) == [
        (0, "ok"), (1, "invalid_utf8"), (2, "no_text"), (3, "ok"), (4, "ok"),
    ]  # fmt: skip
    assert sorted(texts(things)) == ["", "a\0b", "good"]


def test_damaged_and_odd_files(notes: Path, tmp_path: Path) -> None:
    content = notes.read_bytes()
    (tmp_path / "clipped.db").write_bytes(content[: len(content) // 2])
    (tmp_path / "head.db").write_bytes(content[:16])
    (tmp_path / "zeros.db").write_bytes(content[:100] + bytes(len(content) - 100))
    sqlite(tmp_path / "two.db", "CREATE TABLE a (text)", "CREATE TABLE b (text)")
    sqlite(tmp_path / "empty.db", "CREATE TABLE a (text)")
    sqlite(tmp_path / "column.db", "CREATE TABLE a (body)", "INSERT INTO a VALUES ('x')")
    for name in ("clipped", "head", "zeros"):
        things = read(config(paths=(f"{name}.db",)), tmp_path)
        assert kinds(things)[-1] == "database", name
    [failure] = read(config(paths=("two.db",)), tmp_path)
    assert isinstance(failure, Failure)
    assert "2 tables (a, b)" in failure.message
    assert read(config(paths=("two.db",), table="a"), tmp_path) == []
    assert read(config(paths=("empty.db",)), tmp_path) == []
    assert kinds(read(config(paths=("column.db",)), tmp_path)) == ["no_text_column"]
    with pytest.raises(InputError, match="no such table"):
        read(config(uri="sqlite:///two.db", table="c"), tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read(config(uri="sqlite:///none.db", table="c"), tmp_path)
    for query in ("DELETE FROM t", "SELECT 1); DROP TABLE t; --", "SELECT 1) x UNION SELECT (2", "PRAGMA user_version", "SELECT 'a"):
        with pytest.raises(InputError):
            read(config(uri="sqlite:///notes.sqlite", query=query), tmp_path)
    assert notes.read_bytes() == content


def test_what_lies_in_a_write_ahead_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wal.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (text)")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    first = [extent.hash for extent in tables.plan(config(paths=("wal.db",)), tmp_path, 1 << 30)]
    connection.execute("INSERT INTO t VALUES ('not in the file yet')")
    connection.commit()
    assert texts(read(config(paths=("wal.db",)), tmp_path)) == ["not in the file yet"]
    assert [extent.hash for extent in tables.plan(config(paths=("wal.db",)), tmp_path, 1 << 30)] != first
    connection.close()


def test_names_that_need_quotes(tmp_path: Path) -> None:
    sqlite(tmp_path / "a.db", 'CREATE TABLE "od""d; --" ("te""xt", "select", "k; DROP")', """INSERT INTO "od""d; --" VALUES ('a', 1, 2)""")
    [thing] = read(config(paths=("a.db",), text='te"xt', key="k; DROP"), tmp_path, 1)
    assert isinstance(thing, Document)
    assert (thing.text, json.loads(thing.meta)) == ("a", {"select": 1, "k; DROP": 2})


def test_conversations_and_columns_from_a_table(tmp_path: Path) -> None:
    sqlite(tmp_path / "a.db", "CREATE TABLE t (q, a, made)", "INSERT INTO t VALUES ('1+1?', 2, '2020-01-02'), ('', 'x', NULL)")
    things = read(config(paths=("a.db",), columns={"prompt": "q", "completion": "a", "created": "made"}), tmp_path)
    assert kinds(things) == ["ok", "empty_prompt"]
    assert isinstance(things[0], Document)
    assert things[0].created == dt.datetime(2020, 1, 2, tzinfo=dt.UTC)


def test_a_change_between_plan_and_reading_is_noticed(notes: Path, tmp_path: Path) -> None:
    chosen = config(uri="sqlite:///notes.sqlite", table="t")
    [extent] = tables.plan(chosen, tmp_path, 1 << 30)
    sqlite(notes, "DELETE FROM t WHERE id > 10")
    *_, last = tables.read(extent, chosen, tmp_path)
    assert isinstance(last, Failure)
    assert last.kind == "changed"


def test_what_a_recipe_must_say(tmp_path: Path) -> None:
    for keys, message in [
        ({}, "needs `paths`"),
        ({"uri": "mysql://x", "table": "t"}, "uri begins with"),
        ({"uri": "sqlite:///a"}, "needs `table` or `query`"),
        ({"uri": "sqlite:///a", "table": "t", "query": "SELECT 1"}, "not both"),
        ({"uri": "sqlite:///a", "table": "t", "paths": ["x"]}, "not both"),
    ]:
        with pytest.raises(RecipeError, match=message):
            recipe.check({"name": "r", "sources": [{"type": "tables", "name": "s", **keys}]}, "r")


# -- PostgreSQL --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:  # noqa: F811
    monkeypatch.setenv("CODEDEV_TEST_PASSWORD", SECRET)
    server.run(
        """
        DROP TABLE IF EXISTS posts; DROP TABLE IF EXISTS types; DROP TABLE IF EXISTS hidden;
        CREATE TABLE posts AS SELECT n AS number, 'text ' || n || ' é' AS body, (n % 7)::text AS few,
            CASE WHEN n % 10 = 0 THEN NULL ELSE timestamptz '2020-01-01 00:00+00' + n * interval '1 hour' END AS made
            FROM generate_series(1, 3000) n;
        CREATE TABLE hidden (text text);
        GRANT SELECT ON posts TO reader;
        """
    )
    return server


@pytest.mark.parametrize("key", [None, "number", "made", "few"])
def test_postgresql_against_what_was_put_in(table: Server, tmp_path: Path, key: str | None) -> None:
    keys = {"text": "body", "columns": {"created": "made"}, "key": key}
    whole = read(config(uri=table.uri(), table="posts", **keys), tmp_path)
    assert sorted(texts(whole)) == sorted(f"text {n} é" for n in range(1, 3001))
    for thing in whole:
        assert isinstance(thing, Document)
        number = json.loads(thing.meta)["number"]
        assert thing.created == (None if number % 10 == 0 else dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=number))
    assert [thing.offset for thing in whole] == list(range(3000))
    for unit_bytes in (50_000,):
        chosen = config(uri=table.uri(), query="SELECT * FROM public.posts -- all", **keys)
        extents = list(tables.plan(chosen, tmp_path, unit_bytes))
        assert len(extents) > 2 or key is None
        assert read(chosen, tmp_path, unit_bytes) == whole
    if key == "number":
        assert [json.loads(t.meta)["number"] for t in whole if isinstance(t, Document)] == list(range(1, 3001))


def test_types_of_postgresql(table: Server, tmp_path: Path) -> None:
    table.run(
        r"""
        DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('sad', 'fine');
        CREATE TABLE types (text text, numeric numeric, json json, jsonb jsonb, ints int[], texts text[], bytes bytea, uuid uuid, mood mood,
            float float8, real real, small smallint, flag boolean, span interval, address inet, numbers numeric[], short varchar(9),
            clock time, day date, naive timestamp, zoned timestamptz, point point, nothing text);
        INSERT INTO types VALUES ('t', 123456789012345678901234567890.5, '{"a": [1]}', '{"b": null}', '{1,NULL}', '{x,"y,z"}', '\x4142',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'fine', 0.1, 0.5, 3, true, '1 day 2 hours', '10.0.0.1', '{1.50,2}', 'é', '12:30',
            '2020-01-02',             '2020-01-02 03:04:05.678', '2020-01-02 03:04:05+02', '(1,2)', NULL);
        INSERT INTO types (text) VALUES ('u');
        GRANT SELECT ON types TO reader;
        """
    )
    things = read(config(uri=table.uri(), table="types"), tmp_path)
    assert kinds(things) == ["ok", "ok"]
    assert isinstance(things[0], Document)
    assert json.loads(things[0].meta) == {
        "numeric": "123456789012345678901234567890.5", "json": '{"a": [1]}', "jsonb": '{"b": null}', "ints": [1, None],
        "texts": ["x", "y,z"],
        "bytes": "AB", "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "mood": "fine", "float": 0.1, "real": 0.5, "small": 3, "flag": True,
        "span": "1 day 02:00:00", "address": "10.0.0.1/32", "numbers": "{1.50,2}", "short": "é", "clock": "12:30:00", "day": "2020-01-02",
        "naive": "2020-01-02T03:04:05.678000", "zoned": "2020-01-02T01:04:05+00:00", "point": "(1,2)",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"table": "none"}, "does not exist"),
        ({"table": "hidden"}, "permission denied"),
        ({"table": "posts", "key": "none"}, "no column 'none'"),
        ({"query": "SELECT * FROM posts WHERE"}, "syntax error"),
        ({"query": "DELETE FROM posts RETURNING *"}, "only a SELECT"),
        ({"query": "WITH d AS (DELETE FROM posts RETURNING *) SELECT * FROM d"}, "read-only|WITH clause|permission"),
        ({"query": "SELECT 1) TO '/tmp/x'; --"}, "brackets"),
        ({"query": "SELECT pg_sleep(5)", "uri": "?options=-c%20statement_timeout%3D100"}, "statement timeout"),
        ({"table": "posts", "uri": "none"}, "authentication failed"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(table: Server, tmp_path: Path, keys: dict[str, str], message: str) -> None:
    keys = dict(keys)
    more = keys.pop("uri", "")
    uri = table.uri(password="wr0ng-pass") if more == "none" else table.uri() + more
    with pytest.raises(InputError, match=message) as raised:
        read(config(uri=uri, **keys), tmp_path)
    assert SECRET not in str(raised.value)
    assert "wr0ng" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_server_and_no_variable(tmp_path: Path) -> None:
    pytest.importorskip("adbc_driver_postgresql")
    with pytest.raises(InputError, match=r"u:\*\*\*@127\.0\.0\.1:1/d") as raised:
        read(config(uri=f"postgresql://u:{SECRET}@127.0.0.1:1/d", table="t"), tmp_path)
    assert SECRET not in str(raised.value)
    with pytest.raises(InputError, match="no CODEDEV_NONE"):
        read(config(uri="postgresql://u:${CODEDEV_NONE}@127.0.0.1:1/d", table="t"), tmp_path)


def test_a_lost_connection_and_a_changed_table(table: Server, tmp_path: Path) -> None:
    chosen = config(uri=table.uri(), table="posts", text="body", key="number")
    extents = list(tables.plan(chosen, tmp_path, 10_000))
    before = [extent.hash for extent in extents]
    table.run("ALTER ROLE reader NOLOGIN")
    try:
        [failure] = tables.read(extents[0], chosen, tmp_path)
        assert isinstance(failure, Failure)
        assert failure.kind == "database"
        assert SECRET not in failure.message
    finally:
        table.run("ALTER ROLE reader LOGIN")
    table.run("DELETE FROM posts WHERE number = 5")
    *_, last = tables.read(extents[0], chosen, tmp_path)
    assert isinstance(last, Failure)
    assert last.kind == "changed"
    assert [extent.hash for extent in tables.plan(chosen, tmp_path, 10_000)] != before


@pytest.mark.parametrize("how", ["literal", "variable"])
def test_no_password_in_anything_that_is_written(table: Server, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole output directory is searched, after a build with an unreadable extent in it."""
    from urllib.parse import quote

    written = quote(SECRET, safe="")
    uri = table.uri() if how == "variable" else table.uri(password=written)
    out = tmp_path / "out"
    source = {"type": "tables", "name": "posts", "uri": uri, "table": "posts", "text": "body", "key": "number"}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"name": "r", "sources": [source], "unit_bytes": 10240}))
    build(recipe.load(tmp_path / "r.yaml"), tmp_path, out, workers=1)
    names = [path for path in out.rglob("*") if path.is_file()]
    assert len(names) > 5
    for path in names:
        content = path.read_bytes()
        for secret in (SECRET.encode(), written.encode()):
            assert secret not in content, path
    assert ("***" if how == "literal" else "${CODEDEV_TEST_PASSWORD}") in (out / "recipe.yaml").read_text()


def test_what_is_redacted() -> None:
    for uri, shown in [
        ("postgresql://u:p@h:1/d?x=1", "postgresql://u:***@h:1/d?x=1"),
        ("postgresql://u:${PW}@h/d", "postgresql://u:${PW}@h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h/d?user=u&password=p&sslpassword=q&a=b", "postgresql://h/d?user=u&password=***&sslpassword=***&a=b"),
        ("postgresql://u:a/b@c?d@h/x", "postgresql://u:***@h/x"),
        ("postgresql://u:x${PW}@h/d", "postgresql://u:***@h/d"),
        ("sqlite:///a@b:c.db", "sqlite:///a@b:c.db"),
    ]:
        assert redacted(uri) == shown
        assert redacted(shown) == shown
        assert config(uri=uri, table="t").model_dump(mode="json")["uri"] == shown


def test_a_plan_of_files_and_of_a_database_has_hashes(notes: Path, tmp_path: Path) -> None:
    [extent] = tables.plan(config(paths=("notes.sqlite",)), tmp_path, 1 << 30)
    assert isinstance(extent, Extent)
    assert len(extent.hash) == 32


# -- columns that drivers stumble over ------------------------------------------------------------------------------------------------


def test_a_wide_table_of_sqlite(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(1200)]
    sqlite(tmp_path / "w.sqlite", f"CREATE TABLE t (text, {', '.join(names)})", "INSERT INTO t (text, c3) VALUES ('a', 1), ('b', NULL)")
    things = read(config(uri="sqlite:///w.sqlite", table="t"), tmp_path)
    assert [(thing.text, thing.meta) for thing in things if isinstance(thing, Document)] == [("a", '{"c3":1}'), ("b", "{}")]


def test_a_key_that_sqlite_does_not_know(tmp_path: Path) -> None:
    sqlite(tmp_path / "k.sqlite", "CREATE TABLE t (number, text)", "INSERT INTO t VALUES (1, 'a')")
    with pytest.raises(InputError, match=r"no column 'numbr' to split by: did you mean 'number'\?"):
        read(config(uri="sqlite:///k.sqlite", table="t", key="numbr"), tmp_path)
    assert texts(read(config(uri="sqlite:///k.sqlite", table="t", key="ROWID"), tmp_path)) == ["a"]


def test_large_integers_beside_real_numbers(tmp_path: Path) -> None:
    values = [(9007199254740993, "a"), (0.1, "b"), (1 / 3, "c"), (None, "d")]
    sqlite(tmp_path / "n.sqlite", "CREATE TABLE t (n, text)", ("INSERT INTO t VALUES (?,?)", values))
    metas = [json.loads(thing.meta) for thing in read(config(paths=("n.sqlite",)), tmp_path) if isinstance(thing, Document)]
    assert metas[0] == {"n": "9007199254740993"}
    assert metas[3] == {}
    assert [float(meta["n"]) for meta in metas[1:3]] == [0.1, 1 / 3]


def test_times_outside_the_calendar(table: Server, tmp_path: Path) -> None:
    first, second = "('a', timestamptz '2020-01-01 00:00+00', date '2020-01-01')", "('b', 'infinity', '0044-03-15 BC')"
    query = f"SELECT * FROM (VALUES {first}, {second}) AS v (text, date, day)"
    made = [thing for thing in read(config(uri=table.uri(), query=query), tmp_path) if isinstance(thing, Document)]
    assert [thing.text for thing in made] == ["a", "b"]
    assert [thing.created for thing in made] == [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None]
    assert json.loads(made[1].meta) == {"date": "infinity", "day": "0044-03-15 BC"}
