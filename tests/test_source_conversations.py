"""Instruction, preference and reward sets: one form from every layout, checked row by row; every real set is read to its last row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev._errors import RecipeError
from codedev.corpus import recipe
from codedev.corpus.source import Document, Drop, Failure
from codedev.corpus.sources.tables import source as tables

Thing = Document | Drop | Failure


def config(**keys: Any) -> tables.Config:
    return tables.Config(type="tables", name="s", **{"paths": ("a",), **keys})


def read_file(path: Path, unit_bytes: int = 1 << 40, **keys: Any) -> list[Thing]:
    chosen = config(**{"paths": (str(path),), **keys})
    things: list[Thing] = []
    for extent in tables.plan(chosen, path.parent, unit_bytes):
        for thing in tables.read(extent._replace(hash="h"), chosen, path.parent):
            if isinstance(thing, pa.RecordBatch):
                things += [
                    Document(r["id"], r["text"], r["origin"]["offset"], r["origin"]["length"], meta=r["meta"]) for r in thing.to_pylist()
                ]
            else:
                things.append(thing)
    return things


def read(folder: Path, *records: dict[str, Any], **keys: Any) -> list[Thing]:
    (folder / "a").write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_file(folder / "a", **keys)


def one(folder: Path, record: dict[str, Any], **keys: Any) -> tuple[str | None, dict[str, Any]]:
    """(kind, meta) of the record's document, or ("drop", {reason: evidence})."""
    [thing] = read(folder, record, **keys)
    if isinstance(thing, Drop):
        return "drop", {thing.reason: json.loads(thing.evidence)}
    assert isinstance(thing, Document)
    return thing.kind, json.loads(thing.meta)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


@pytest.mark.parametrize(
    ("record", "messages"),
    [
        ({"instruction": "i", "input": "", "output": "o"}, [user("i"), bot("o")]),
        ({"instruction": "i", "input": "x", "output": "o"}, [user("i\n\nx"), bot("o")]),
        ({"prompt": "p", "completion": "c"}, [user("p"), bot("c")]),
        ({"question": "1+1", "answer": 2}, [user("1+1"), bot("2")]),
        ({"instruction": "i", "response": "r", "system": "s", "history": [["a", "b"]]},
         [system("s"), user("a"), bot("b"), user("i"), bot("r")]),
        ({"messages": [system("s"), user("u"), bot("a")]}, [system("s"), user("u"), bot("a")]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "u"}]}, bot("a")]}, [user("u"), bot("a")]),
        ({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}], "system": "s"},
         [system("s"), user("u"), bot("a")]),
        (
            {"conversations": [{"from": "human", "value": "u"}, {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                               {"from": "observation", "value": "7"}, {"from": "gpt", "value": "a"}]},
            [user("u"), {**bot(""), "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
             {"role": "tool", "content": "7"}, bot("a")],
        ),
        (
            {"messages": [user("u"), {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                          {"role": "tool", "content": "7", "tool_call_id": "1"}, bot("a")]},
            [user("u"), {**bot(""), "tool_calls": [{"id": "1"}]}, {"role": "tool", "content": "7", "tool_call_id": "1"}, bot("a")],
        ),
        ({"messages": [user("u"), bot("a")], "label": "physics"}, [user("u"), bot("a")]),
    ],
)  # fmt: skip
def test_instructions_in_one_form(tmp_path: Path, record: dict[str, Any], messages: list[Any]) -> None:
    kind, meta = one(tmp_path, record)
    assert kind == "instruction"
    assert meta.pop("messages") == messages
    assert meta == ({"label": "physics"} if "label" in record else {})
    [document] = read(tmp_path, record)
    assert isinstance(document, Document)
    for message in messages:
        assert message["content"] in document.text


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, ([user("p")], [bot("c")], [bot("r")])),
        ({"question": "p", "chosen": "c", "rejected": "r"}, ([user("p")], [bot("c")], [bot("r")])),
        ({"prompt": "p", "chosen": [user("p"), bot("c")], "rejected": [user("p"), bot("r")]}, ([user("p")], [bot("c")], [bot("r")])),
        (
            {"prompt": [system("s"), user("p")], "chosen": [bot("c")], "rejected": [bot("r")]},
            ([system("s"), user("p")], [bot("c")], [bot("r")]),
        ),
        (
            {
                "conversations": [{"from": "human", "value": "p"}],
                "chosen": {"from": "gpt", "value": "c"},
                "rejected": {"from": "gpt", "value": "r"},
            },
            ([user("p")], [bot("c")], [bot("r")]),
        ),
        ({"chosen": "\n\nHuman: p\n\nAssistant: c", "rejected": "\n\nHuman: p\n\nAssistant: r"}, ([user("p")], [bot("c")], [bot("r")])),
        (
            {
                "chosen": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant: c",
                "rejected": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant:  r",
            },
            ([user("p"), bot("a"), user("q")], [bot("c")], [bot("r")]),
        ),
    ],
)
def test_preferences_in_one_form(tmp_path: Path, record: dict[str, Any], expected: tuple[Any, ...]) -> None:
    kind, meta = one(tmp_path, record)
    assert (kind, meta) == ("preference", dict(zip(("prompt", "chosen", "rejected"), expected, strict=True)))


def test_labels_and_rewards(tmp_path: Path) -> None:
    assert one(tmp_path, {"prompt": "p", "completion": "c", "label": True}) == (
        "preference", {"prompt": [user("p")], "completion": [bot("c")], "label": True},
    )  # fmt: skip
    assert one(tmp_path, {"messages": [user("p"), bot("c")], "label": False})[1]["label"] is False
    assert one(tmp_path, {"input": "x", "reward": "0.5"}) == ("preference", {"messages": [user("x")], "reward": 0.5})
    assert one(tmp_path, {"prompt": "p", "response": "r", "reward": 1}) == ("preference", {"messages": [user("p"), bot("r")], "reward": 1})
    assert one(tmp_path, {"text": "t", "score": 0.5}, layout="reward") == ("preference", {"messages": [user("t")], "reward": 0.5})
    assert one(tmp_path, {"input": "\n\nHuman: a\n\nAssistant: b", "reward": 2})[1]["messages"] == [user("a"), bot("b")]
    assert one(tmp_path, {"text": "t", "score": 0.5}) == (None, {"score": 0.5})  # a table with a text


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"instruction": "i", "output": " "}, "empty_answer"),
        ({"instruction": "i", "output": None}, "empty_answer"),
        ({"instruction": "", "output": "o"}, "empty_prompt"),
        ({"instruction": "i", "output": {"a": 1}}, "unknown_role"),
        ({"instruction": ["i"], "output": "o"}, "not_messages"),
        ({"messages": "hello"}, "not_messages"),
        ({"messages": []}, "empty_prompt"),
        ({"messages": [user("a"), user("b"), bot("c")]}, "roles_not_alternating"),
        ({"messages": [user("a"), bot("b"), bot("c")]}, "roles_not_alternating"),
        ({"messages": [bot("a"), user("b"), bot("c")]}, "roles_not_alternating"),
        ({"messages": [user("a"), system("b"), bot("c")]}, "roles_not_alternating"),
        ({"messages": [user("a"), bot("b"), user("c")]}, "no_answer"),
        ({"messages": [user("a"), {"role": "narrator", "content": "x"}]}, "unknown_role"),
        ({"messages": [user("a"), {"role": "assistant", "content": [{"type": "image"}]}]}, "not_text"),
        ({"messages": [user("a"), {"role": "assistant", "content": 7}]}, "not_text"),
        ({"prompt": "p", "chosen": "c", "rejected": "c"}, "same_answers"),
        ({"prompt": "p", "chosen": "c", "rejected": ""}, "empty_answer"),
        ({"chosen": "\n\nHuman: p\n\nAssistant: c", "rejected": "\n\nHuman: other\n\nAssistant: r"}, "empty_prompt"),
        ({"chosen": "no dialogue", "rejected": "\n\nHuman: p\n\nAssistant: r"}, "no_dialogue"),
        ({"chosen": "\n\nHuman: p\n\nAssistant: a\n\nHuman: x\n\nAssistant: c",
          "rejected": "\n\nHuman: p\n\nAssistant: a\n\nHuman: y\n\nAssistant: r"},
         ""),
        ({"prompt": "p", "completion": "c", "label": "maybe"}, "no_label"),
        ({"input": "x", "reward": "good"}, "no_reward"),
        ({"input": "x", "reward": None}, "no_reward"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_says_why(tmp_path: Path, record: dict[str, Any], reason: str) -> None:
    kind, meta = one(tmp_path, record)
    if reason:
        assert kind == "drop"
        assert list(meta) == [reason]
    else:  # whole dialogues that part at an earlier answer: what follows belongs to each side
        assert meta["prompt"] == [user("p")]


def test_what_auto_leaves_alone(tmp_path: Path) -> None:
    for record in [
        {"text": "t", "instruction": "i", "output": "o"},
        {"text": "t", "messages": [user("a"), bot("b")]},
        {"text": "t", "chosen": "a", "rejected": "b"},
    ]:
        [thing] = read(tmp_path, record)
        assert isinstance(thing, Document)
        assert (thing.text, thing.kind) == ("t", None)
        [thing] = read(tmp_path, {**record, "body": "b"}, text="body")
        assert isinstance(thing, Document)
        assert (thing.text, thing.kind) == ("b", None)
    assert one(tmp_path, {"question": "q", "options": ["a"], "answer": "A"})[0] == "drop"
    assert one(tmp_path, {"text": "t", "instruction": "i", "output": "o"}, layout="instruction")[1]["messages"] == [user("i"), bot("o")]


def test_columns_named_by_the_recipe(tmp_path: Path) -> None:
    mapping = {"prompt": "content", "completion": "summary", "id": "number", "created": "when", "url": "link", "lang": "tongue"}
    row = {"content": "c", "summary": "s", "number": 7, "when": "2020-01-02", "link": "u", "tongue": "zh", "x": 1}
    [thing] = read(tmp_path, row, columns=mapping)
    assert isinstance(thing, Document)
    assert (thing.id, thing.url, thing.lang, str(thing.created)) == ("s:7", "u", "zh", "2020-01-02 00:00:00+00:00")
    assert json.loads(thing.meta) == {"messages": [user("c"), bot("s")], "x": 1}
    [thing] = read(tmp_path, {"title": "T", "body": "B", "n": 3, "x": None}, text="{title} ({n})\n\n{{{body}}}")
    assert isinstance(thing, Document)
    assert (thing.text, thing.meta) == ("T (3)\n\n{B}", "{}")
    assert one(tmp_path, {"title": "T"}, text="{title}{body}") == (
        "drop",
        {"no_text": {"column": "body", "found": "missing", "columns": ["title"]}},
    )
    for keys, message in [
        ({"columns": {"txet": "a"}}, "did you mean 'text'"),
        ({"text": "a", "columns": {"text": "b"}}, "given twice"),
        ({"text": "{a.b}{"}, "template"),
        ({"text": "{a!r}"}, "template"),
        ({"encoding": "rot13"}, "encoding"),
        ({"layout": "chat"}, "layout"),
    ]:
        with pytest.raises(RecipeError, match=message):
            recipe.check({"name": "r", "sources": [{"type": "tables", "name": "s", "paths": ["a"], **keys}]}, "r")


def test_the_same_set_in_every_form(tmp_path: Path) -> None:
    rows = [{"instruction": f"i {n}", "input": "x" if n % 2 else "", "output": f"o\n{n}", "n": n} for n in range(50)]
    expected = [json.loads(t.meta)["messages"] for t in read(tmp_path, *rows) if isinstance(t, Document)]
    assert len(expected) == 50
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "rows.csv").write_text(buffer.getvalue())
    (tmp_path / "rows.json").write_text(json.dumps({"version": 1, "data": rows}, indent=2))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for name in ("rows.csv", "rows.json", "rows.parquet"):
        things = read_file(tmp_path / name)
        assert [json.loads(t.meta)["messages"] for t in things if isinstance(t, Document)] == expected, name
    chats = pa.Table.from_pylist([{"messages": [user("a"), {**bot("b"), "name": "x"}]}])
    pq.write_table(chats, tmp_path / "chats.parquet")
    [thing] = read_file(tmp_path / "chats.parquet")
    assert isinstance(thing, Document)
    assert json.loads(thing.meta)["messages"] == [user("a"), {**bot("b"), "name": "x"}]


# -- real sets -----------------------------------------------------------------------------------------------------------------------


def rows_in(path: Path) -> int:
    """By another reader."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    if path.suffix == ".csv":
        return sum(1 for _ in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))) - 1
    try:
        value = json.loads(content)
        return len(value) if isinstance(value, list) else 1
    except ValueError:
        return sum(1 for line in content.split(b"\n") if line.strip())


@pytest.mark.realdata
@pytest.mark.parametrize("category", ["instruction", "feedback", "eval"])
def test_every_real_row_is_accounted_for(data_dir: Path, category: str) -> None:
    found = [
        path
        for path in sorted((data_dir / category).rglob("*"))
        if path.suffix in (".json", ".jsonl", ".csv") or path.name.endswith(".jsonl.gz")
    ]
    assert found
    documents = 0
    for path in found:
        keys: dict[str, Any] = {"text": "{Question}\nA {A}\nB {B}\nC {C}\nD {D}"} if path.suffix == ".csv" else {}
        things = read_file(path, **keys)
        assert len(things) == rows_in(path), path
        assert not any(isinstance(t, Failure) and t.kind != "invalid_json" for t in things), path
        if "conversations" in path.name or path.parent.name == "harmless-base":
            assert sum(isinstance(t, Document) for t in things) > 0.9 * len(things)
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for thing in [t for t in things if isinstance(t, Document)][:: max(1, len(things) // 20)]:
            documents += 1
            assert thing.offset is not None
            assert thing.length is not None
            raw = content[thing.offset : thing.offset + thing.length].decode("utf-8-sig")
            if path.suffix != ".csv":  # every text of the meta's messages is in the raw record
                values = json.dumps(json.loads(raw), ensure_ascii=False)
                for part in re.findall(r"\w{5,}", thing.text)[:20]:
                    assert part in values or part in ("Assistant", "System", "Chosen", "Rejected", "assistant", "function", "arguments"), (
                        path,
                        part,
                    )
    assert documents > 100


@pytest.mark.realdata
def test_hh_rlhf_against_the_text_itself(data_dir: Path) -> None:
    path = data_dir / "feedback" / "anthropics__hh-rlhf" / "harmless-base" / "test.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    things = read_file(path)
    assert len(things) == len(lines)
    for thing, line in zip(things, lines, strict=True):
        if not isinstance(thing, Document):
            continue
        row, meta = json.loads(line), json.loads(thing.meta)
        for side in ("chosen", "rejected"):
            names = {"user": "Human", "assistant": "Assistant"}
            written = "".join(f"{names[m['role']]}:{m['content']}" for m in meta["prompt"] + meta[side])
            assert re.sub(r"\s", "", written) == re.sub(r"\s", "", row[side])
