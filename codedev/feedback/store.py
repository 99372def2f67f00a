"""Tasks and judgements in SQLite (a file) or PostgreSQL (a URI). A judgement is on disk before the page hears of it.

    codedev_tasks        id, kind, place (their order), body (JSON: prompt and answers)
    codedev_judgements   key, task, rater, verdict, comment, seconds, at, undone

Rows are added and never changed but for `undone`, the time of an undo (0 = it stands). The page makes the key of a judgement before it
sends it: sent twice, because the server died before it answered, it is stored once. Times are microseconds since 1970, UTC.

Verdicts: a, b, tie, bad (neither is good) of a comparison; 1 to 5 of a rating; skip of both. `a` is the task's first answer, wherever it
stood on the screen.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from codedev._errors import InputError, MissingExtraError, RunError
from codedev.corpus.sources.tables.columns import redacted
from codedev.corpus.sources.tables.database import filled, said
from codedev.feedback.tasks import Answer, Task

VERDICTS = {"compare": ("a", "b", "tie", "bad", "skip"), "rate": ("1", "2", "3", "4", "5", "skip")}
_TABLES = (
    "create table if not exists codedev_tasks (id text primary key, kind text not null, place bigint not null, body text not null)",
    "create index if not exists codedev_tasks_in_order on codedev_tasks (place, id)",
    "create table if not exists codedev_judgements (key text primary key, task text not null, rater text not null, verdict text not null,"
    " comment text not null, seconds double precision not null, at bigint not null, undone bigint not null)",
    "create index if not exists codedev_judgements_of_rater on codedev_judgements (rater, task)",
)
_JUDGEMENTS = "select key, task, rater, verdict, comment, seconds, at, undone from codedev_judgements"


class Judgement(NamedTuple):
    key: str
    task: str
    rater: str
    verdict: str
    comment: str
    seconds: float  # from when the task was shown
    at: int
    undone: int


class Store:
    """One connection, used by one thread at a time; a PostgreSQL that went away is looked for again once."""

    def __init__(self, where: str) -> None:
        """`where`: the path of an SQLite file, which is made if need be, or postgresql://… with ${NAME} taken from the environment."""
        if "://" in where and not _is_uri(where):
            raise InputError(f"{redacted(where)}: is no database that judgements are kept in. Give the path of a file, or postgresql://…")
        self.where = redacted(where) if _is_uri(where) else where
        self._uri = where if _is_uri(where) else ""
        self._connect = _postgresql(where) if _is_uri(where) else _sqlite(Path(where))
        self._lock = threading.Lock()
        self._connection = self._connect()
        with self._told():
            for statement in _TABLES:
                self._do(statement)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def add(self, tasks: Iterable[Task]) -> int:
        """Store the tasks that are new, behind those that are there. Returns how many they were."""
        before, place = self._do("select count(*), coalesce(max(place), -1) from codedev_tasks")[0]
        rows: list[tuple[Any, ...]] = []
        for task in tasks:
            place += 1
            body = {"prompt": task.prompt, "answers": [answer._asdict() for answer in task.answers]}
            rows.append((task.id, task.kind, place, orjson.dumps(body).decode()))
            if len(rows) == 500:
                self._insert_tasks(rows)
                rows = []
        self._insert_tasks(rows)
        return int(self._do("select count(*) from codedev_tasks")[0][0] - before)

    def _insert_tasks(self, rows: list[tuple[Any, ...]]) -> None:
        self._do("insert into codedev_tasks (id, kind, place, body) values (?, ?, ?, ?) on conflict (id) do nothing", many=rows)

    def tasks(self) -> Iterator[Task]:
        """All of them, in their order."""
        for row in self._do("select id, kind, body from codedev_tasks order by place, id"):
            yield _task(row)

    def kinds(self) -> dict[str, str]:
        """The kind of every task, by its id."""
        return dict(self._do("select id, kind from codedev_tasks"))

    def task(self, identity: str) -> Task | None:
        found = self._do("select id, kind, body from codedev_tasks where id = ?", (identity,))
        return _task(found[0]) if found else None

    def next_task(self, rater: str) -> Task | None:
        """The first task that `rater` has not judged, nor skipped."""
        found = self._do(
            "select id, kind, body from codedev_tasks t where not exists (select 1 from codedev_judgements j where j.task = t.id"
            " and j.rater = ? and j.undone = 0) order by place, id limit 1",
            (rater,),
        )
        return _task(found[0]) if found else None

    def judge(self, key: str, task: Task, rater: str, verdict: str, comment: str, seconds: float) -> None:
        """Store a judgement; one with the same key is there already. A rater's earlier one of the same task is undone by it."""
        if verdict not in VERDICTS[task.kind]:
            raise InputError(f"verdict: '{verdict}' is none of {', '.join(VERDICTS[task.kind])}")
        if self._do("select 1 from codedev_judgements where key = ?", (key,)):
            return
        now = time.time_ns() // 1000
        self._do(
            "update codedev_judgements set undone = ? where task = ? and rater = ? and undone = 0",
            (now, task.id, rater),
            then=(
                "insert into codedev_judgements (key, task, rater, verdict, comment, seconds, at, undone)"
                " values (?, ?, ?, ?, ?, ?, ?, 0) on conflict (key) do nothing",
                (key, task.id, rater, verdict, comment, seconds, now),
            ),
        )

    def undo(self, rater: str) -> Judgement | None:
        """Take back the rater's newest judgement that stands; the judgement, or None where there is none."""
        found = self._do(_JUDGEMENTS + " where rater = ? and undone = 0 order by at desc, key desc limit 1", (rater,))
        if not found:
            return None
        last = Judgement(*found[0])
        self._do("update codedev_judgements set undone = ? where key = ?", (time.time_ns() // 1000, last.key))
        return last

    def judgements(self) -> list[Judgement]:
        """Those that stand, oldest first."""
        return [Judgement(*row) for row in self._do(_JUDGEMENTS + " where undone = 0 order by at, key")]

    def counts(self) -> tuple[int, dict[str, dict[str, int]]]:
        """How many tasks there are, and for each rater how many are judged and skipped."""
        raters: dict[str, dict[str, int]] = {}
        for rater, skipped, count in self._do(
            "select rater, case when verdict = 'skip' then 1 else 0 end as skipped, count(*) from codedev_judgements where undone = 0"
            " group by rater, case when verdict = 'skip' then 1 else 0 end order by rater"
        ):
            raters.setdefault(rater, {"judged": 0, "skipped": 0})["skipped" if skipped else "judged"] = int(count)
        return int(self._do("select count(*) from codedev_tasks")[0][0]), raters

    def _do(
        self,
        statement: str,
        values: tuple[Any, ...] = (),
        *,
        many: list[tuple[Any, ...]] | None = None,
        then: tuple[str, tuple[Any, ...]] | None = None,
    ) -> list[tuple[Any, ...]]:
        """One transaction: a statement, for every row of `many` where that is given, and `then` another."""
        if many == []:
            return []
        with self._lock, self._told():
            for attempt in (0, 1):
                try:
                    cursor = self._connection.cursor()
                    try:
                        if many is not None:
                            cursor.executemany(self._sql(statement), many)
                        else:
                            cursor.execute(self._sql(statement), values)
                        rows = list(cursor.fetchall()) if many is None and cursor.description else []
                        if then is not None:
                            cursor.execute(self._sql(then[0]), then[1])
                    finally:
                        cursor.close()
                    self._connection.commit()
                    return rows
                except _errors():
                    # The connection may be gone; every statement here may be said twice.
                    try:
                        self._connection.rollback()
                        self._connection.close()
                    except _errors():
                        pass
                    self._connection = self._connect()
                    if attempt:
                        raise
        raise AssertionError("unreachable")

    def _sql(self, statement: str) -> str:
        if isinstance(self._connection, sqlite3.Connection):
            return statement
        first, *rest = statement.split("?")
        return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except _errors() as error:
            raise RunError(f"{self.where}: {said(error, self._uri)}. Judgements before this one are kept") from None


def _is_uri(where: str) -> bool:
    return where.startswith(("postgresql://", "postgres://"))


def _task(row: tuple[Any, ...]) -> Task:
    body = orjson.loads(row[2])
    return Task(row[0], row[1], body["prompt"], [Answer(**answer) for answer in body["answers"]])


def _errors() -> tuple[type[Exception], ...]:
    try:
        from adbc_driver_manager import Error
    except ImportError:
        return (sqlite3.Error,)
    return (sqlite3.Error, Error)


def _sqlite(path: Path) -> Callable[[], Any]:
    def connect() -> sqlite3.Connection:
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}. Make it, or choose another --db")
        try:
            connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
            # A write-ahead log that is flushed at every commit: a judgement survives the machine, and raters do not wait for readers.
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
        except sqlite3.Error as error:
            raise InputError(f"{path}: is no SQLite database that can be written ({error}). Choose another --db") from None
        return connection

    return connect


def _postgresql(uri: str) -> Callable[[], Any]:
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise MissingExtraError("adbc-driver-postgresql", "sql") from None

    def connect() -> Any:
        full = filled(uri)
        if "connect_timeout=" not in full:
            full += ("&" if "?" in full else "?") + "connect_timeout=20"
        try:
            return dbapi.connect(full)
        except _errors() as error:
            raise RunError(f"{redacted(uri)}: cannot be reached: {said(error, uri)}") from None

    return connect
