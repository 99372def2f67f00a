"""Feedback without a browser: answers to tasks, both databases, agreement against worked examples, tables that the next stage reads."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from postgres_support import SECRET, Server, server  # noqa: F401  # the fixture

from codedev._errors import InputError, RunError
from codedev.cli import cli
from codedev.corpus import recipe as corpus_recipes
from codedev.corpus.build import build
from codedev.feedback.agreement import agreement, alpha, interval, nominal
from codedev.feedback.export import export
from codedev.feedback.store import Judgement, Store
from codedev.feedback.tasks import Answer, Task, read_tasks

ROWS: list[dict[str, Any]] = [
    {"prompt": "Add two numbers", "answers": [{"text": "a + b", "model": "new"}, {"text": "a - b", "model": "old"}, "a + b"]},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A colour?"}], "answers": ["Red", "I", "Blue"]},
    {"instruction": "Name", "input": "a fruit", "output": "Apple", "model": "one"},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n\n")
    return path


def task(number: int, kind: str = "compare") -> Task:
    answers = [Answer(f"x{number}", "m"), Answer(f"y{number}", "n")][: 2 if kind == "compare" else 1]
    return Task(f"t{number}", kind, [{"role": "user", "content": f"question {number}"}], answers)  # type: ignore[arg-type]


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "f.sqlite")
    running: Server = request.getfixturevalue("server")
    running.run("DROP TABLE IF EXISTS codedev_tasks, codedev_judgements; GRANT ALL ON SCHEMA public TO reader; ")
    monkeypatch.setenv("CODEDEV_TEST_PASSWORD", SECRET)
    return running.uri()


def test_answers_become_tasks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    tasks = list(read_tasks([path]))
    assert [(made.kind, [answer.text for answer in made.answers]) for made in tasks] == [
        ("compare", ["a + b", "a - b"]),
        ("compare", ["Red", "I"]),
        ("rate", ["Apple"]),
    ]
    assert tasks[0].answers[0].model == "new"
    assert tasks[2].prompt == [{"role": "user", "content": "Name\n\na fruit"}]
    assert list(read_tasks([path])) == tasks
    # The same answers in another order are the same task.
    turned = write(tmp_path / "b.jsonl", [{**ROWS[0], "answers": ["a - b", "a + b"]}])
    assert next(read_tasks([turned])).id == tasks[0].id
    assert [len(made.answers) for made in read_tasks([path], "rate")] == [1] * 6
    pairs = [tuple(answer.text for answer in made.answers) for made in read_tasks([path], "compare", 9)]
    assert pairs == [("a + b", "a - b"), ("Red", "I"), ("I", "Blue"), ("Red", "Blue")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no object"),
        ('{"answers": ["a"]}', "has no prompt"),
        ('{"prompt": " ", "answers": ["a"]}', "has no prompt"),
        ('{"prompt": "p"}', "has no answers"),
        ('{"prompt": "p", "answers": []}', "has no answers"),
        ('{"prompt": "p", "answers": [1]}', "an answer is no text"),
        ('{"messages": [{"role": "user"}], "answers": ["a"]}', "no role and content"),
        ('{"prompt": "p", "answer": "' + "x" * (9 << 20) + '"}', "longer than"),
    ],
)
def test_bad_answers_are_told_with_their_place(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"a\.jsonl, line 4: .*{said}"):
        list(read_tasks([write(tmp_path / "a.jsonl", ["", *ROWS[:2], line])]))
    with pytest.raises(InputError, match="there is no such file"):
        list(read_tasks([tmp_path / "none.jsonl"]))


def test_both_databases_keep_what_is_said(where: str) -> None:
    store = Store(where)
    assert SECRET not in store.where
    assert store.add(task(n, "rate" if n % 3 == 0 else "compare") for n in range(1200)) == 1200
    assert store.add([task(5), task(2000)]) == 1
    assert [made.id for made in store.tasks()] == [f"t{n}" for n in [*range(1200), 2000]]
    assert store.task("t5") == task(5)
    assert store.task("none") is None
    for number, verdict in enumerate(["3", "a", "skip", "5"]):
        shown = store.next_task("ann")
        assert shown is not None
        assert shown.id == f"t{number}"
        store.judge(f"key-ann-{number}", shown, "ann", verdict, "é 'quoted' ; drop table x" if number == 1 else "", 1.5)
    store.judge("key-ann-1", task(1), "ann", "b", "", 0)  # sent twice: once
    store.judge("key-bob-1", task(1), "bob; --", "b", "", 0)
    assert store.counts() == (1201, {"ann": {"judged": 3, "skipped": 1}, "bob; --": {"judged": 1, "skipped": 0}})
    with pytest.raises(InputError, match="verdict: '7' is none of 1, 2, 3, 4, 5, skip"):
        store.judge("key-ann-9", task(0, "rate"), "ann", "7", "", 0)
    undone = store.undo("ann")
    assert undone is not None
    assert (undone.key, undone.verdict) == ("key-ann-3", "5")
    again = store.next_task("ann")
    assert again is not None
    assert again.id == "t3"
    store.judge("key-ann-1b", task(1), "ann", "tie", "", 2)  # another mind: the earlier one no longer stands
    store.close()
    store = Store(where)  # as after a restart
    standing = {(row.rater, row.task): (row.verdict, row.comment, row.seconds) for row in store.judgements()}
    assert standing == {
        ("ann", "t0"): ("3", "", 1.5),
        ("ann", "t1"): ("tie", "", 2.0),
        ("ann", "t2"): ("skip", "", 1.5),
        ("bob; --", "t1"): ("b", "", 0.0),
    }
    assert store.undo("nobody") is None
    store.close()


def test_a_connection_that_was_cut_is_made_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    server.run("DROP TABLE IF EXISTS codedev_tasks, codedev_judgements; GRANT ALL ON SCHEMA public TO reader;")
    monkeypatch.setenv("CODEDEV_TEST_PASSWORD", SECRET)
    store = Store(server.uri())
    store.add([task(1)])
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")
    store.judge("key-after", task(1), "ann", "a", "", 0)
    assert [row.key for row in store.judgements()] == ["key-after"]
    store.close()
    with pytest.raises(RunError, match="cannot be reached") as told:
        Store(f"postgresql://reader:{SECRET.replace('/', '%2F').replace('@', '%40')}@127.0.0.1:1/x")
    assert SECRET not in str(told.value)


def test_raters_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    stores = [Store(str(tmp_path / "f.sqlite")) for _ in range(2)]  # two servers on one file
    stores[0].add(task(n) for n in range(40))

    def rate(name: str, store: Store) -> None:
        for number in itertools.count():
            shown = store.next_task(name)
            if shown is None:
                return
            store.judge(f"{name}-{number:08}", shown, name, "a", "", 0)
            if number % 7 == 3:
                store.undo(name)

    threads = [threading.Thread(target=rate, args=(f"r{n}", stores[n % 2])) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(row.rater for row in stores[0].judgements()) == {f"r{n}": 40 for n in range(6)}
    for store in stores:
        store.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, " * 100)
    with pytest.raises(InputError, match="is no SQLite database"):
        Store(str(tmp_path / "text"))
    assert (tmp_path / "text").read_text() == "this is no database, " * 100
    with pytest.raises(InputError, match="there is no folder"):
        Store(str(tmp_path / "none" / "f.sqlite"))


def test_alpha_is_that_of_the_worked_example() -> None:
    """Krippendorff (2011), section C: four observers, twelve units, missing data: alpha .743 nominal and .849 interval."""
    rows = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    units = [[value for value in column if value != "."] for column in zip(*map(str.split, rows), strict=True)]
    assert alpha(units, nominal) == pytest.approx(0.743, abs=5e-4)
    assert alpha(units, interval) == pytest.approx(0.849, abs=5e-4)
    assert alpha([["a", "a"], ["b", "b"]], nominal) == 1
    assert alpha([["a"], ["b"]], nominal) is None
    assert alpha([["a", "a"]], nominal) is None
    given = [
        Judgement(f"{n}", unit, f"r{n}", verdict, "", 0, n, 0)
        for n, (unit, verdict) in enumerate([("u", "a"), ("u", "a"), ("v", "skip"), ("v", "b")])
    ]
    assert agreement(given, {"u": "compare", "v": "compare"}) == {"compare": {"tasks": 1, "same": 1.0, "alpha": None}}


def test_judgements_become_tables_that_the_next_stage_reads(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "f.sqlite"))
    rows = [
        {"prompt": f"Question number {n} about colours?", "answers": [f"The first answer {n}", f"The second one {n}"]} for n in range(8)
    ]
    rows += [{"prompt": f"Rate this please, {n}", "answer": f"An answer of its own {n}"} for n in range(2)]
    store.add(read_tasks([write(tmp_path / "a.jsonl", rows)]))
    tasks = list(store.tasks())
    said = {"ann": "a b a a tie bad skip a 4 5", "bob": "a b b skip tie bad skip . 2 ."}
    for rater, verdicts in said.items():
        for number, (shown, verdict) in enumerate(zip(tasks, verdicts.split(), strict=True)):
            if verdict != ".":
                store.judge(f"{rater}-{number:06}", shown, rater, verdict, f"because {number}" if number == 1 else "", 1)
    manifest = export(store, tmp_path / "out")
    assert manifest["outcomes"] == {"disputed": 1, "neither": 1, "preferred": 4, "rated": 2, "skipped": 1, "tie": 1}
    assert manifest["rows"] == {"preferences": 4, "judged": 10, "rated": 2}
    assert manifest["agreement"]["compare"]["tasks"] == 5
    preferences = pq.read_table(tmp_path / "out" / "preferences.parquet").to_pylist()
    assert [(row["chosen"], row["raters"]) for row in preferences] == [
        ("The first answer 0", 2), ("The second one 1", 2), ("The first answer 3", 1), ("The first answer 7", 1)
    ]  # fmt: skip
    assert preferences[1]["comments"] == ["because 1", "because 1"]
    assert [row["reward"] for row in pq.read_table(tmp_path / "out" / "rated.parquet").to_pylist()] == [3.0, 5.0]
    # The corpus reads every one of them as what it is.
    sources = [{"name": name, "type": "tables", "paths": [f"out/{name}.parquet"]} for name in manifest["rows"]]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"name": "f", "sources": sources}))
    build(corpus_recipes.load(tmp_path / "r.yaml"), tmp_path, tmp_path / "corpus", workers=1)
    for name, rows_of in manifest["rows"].items():
        found = [row for path in (tmp_path / "corpus" / "documents" / name).glob("*.parquet") for row in pq.read_table(path).to_pylist()]
        assert len(found) == rows_of, name
        assert {row["kind"] for row in found} == {"preference"}, name
        keys = {
            "preferences": {"prompt", "chosen", "rejected"},
            "judged": {"prompt", "completion", "label"},
            "rated": {"messages", "reward"},
        }
        assert all(keys[name] <= json.loads(row["meta"]).keys() for row in found), name
    # Written again it is the same; one rater alone; something else is not written over.
    before = (tmp_path / "out" / "preferences.parquet").read_bytes()
    assert export(store, tmp_path / "out") == manifest
    assert (tmp_path / "out" / "preferences.parquet").read_bytes() == before
    assert export(store, tmp_path / "bob", ("bob",))["rows"] == {"preferences": 3, "judged": 8, "rated": 1}
    with pytest.raises(InputError, match="has no judgement of eve"):
        export(store, tmp_path / "eve", ("eve",))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("x")
    with pytest.raises(InputError, match="holds no exported feedback"):
        export(store, tmp_path / "mine")
    store.close()
    with pytest.raises(InputError, match="nothing is judged yet"):
        export(Store(str(tmp_path / "empty.sqlite")), tmp_path / "none")


def test_the_commands(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "f.sqlite"))
    store.add([task(1), task(2, "rate")])
    store.judge("key-0001", task(1), "ann", "b", "", 0)
    store.judge("key-0002", task(1), "bob", "b", "", 0)
    store.close()
    done = CliRunner().invoke(cli, ["feedback", "export", "--db", str(tmp_path / "f.sqlite"), "--out", str(tmp_path / "o")])
    assert done.exit_code == 0, done.output
    assert "preferred" in done.output
    assert "compare: 1 tasks judged by several raters, all agree on 100%" in done.output
    done = CliRunner().invoke(cli, ["feedback", "export", "--db", str(tmp_path / "f.sqlite"), "--out", str(tmp_path / "o"), "--json"])
    assert json.loads(done.output)["rows"] == {"preferences": 1, "judged": 2, "rated": 0}
    for arguments, said in (
        (["export", "--db", str(tmp_path / "none.sqlite"), "--out", "o"], "there is no such file"),
        (["serve", "--db", str(tmp_path / "empty.sqlite")], "has nothing to judge"),
        (["serve", "--db", str(tmp_path / "empty.sqlite"), "--token", "short"], "shorter than 8"),
    ):
        done = CliRunner().invoke(cli, ["feedback", *arguments])
        assert done.exit_code == 1
        assert said in str(done.exception)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    store = Store(str(path))
    store.add([task(1), task(2)])
    store.judge("key-0001", task(1), "ann", "a", "", 0)
    pages = sqlite3.connect(path).execute("pragma page_count").fetchone()[0]
    real = store._connect

    def small() -> Any:  # a file that may not grow, as SQLite sees a full disk
        connection = real()
        connection.execute(f"pragma max_page_count = {pages}")
        return connection

    store._connect = small
    store._connection = small()
    with pytest.raises(RunError, match=r"full.*Judgements before this one are kept"):
        store.judge("key-0002", task(2), "ann", "b", "x" * 100_000, 0)
    store._connect, store._connection = real, real()
    store.judge("key-0002", task(2), "ann", "b", "x" * 1000, 0)
    assert [row.key for row in store.judgements()] == ["key-0001", "key-0002"]
