"""Forms of tables beside lines: JSON arrays, objects over several lines, CSV in any encoding and with lost quotes, Arrow."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev.corpus.source import Document, Drop, Extent, Failure
from codedev.corpus.sources import json_array, lines
from codedev.corpus.sources.tables import source as tables

Thing = Document | Drop | Failure


def read(folder: Path, content: bytes, unit_bytes: int = 1 << 40, **keys: Any) -> list[Thing]:
    (folder / "a").write_bytes(content)
    config = tables.Config(type="tables", name="s", **{"paths": ("a",), **keys})
    things: list[Thing] = []
    for extent in tables.plan(config, folder, unit_bytes):
        for thing in tables.read(extent._replace(hash="h"), config, folder):
            if isinstance(thing, pa.RecordBatch):
                thing.validate(full=True)
                things += [
                    Document(r["id"], r["text"], r["origin"]["offset"], r["origin"]["length"], created=r["created"], meta=r["meta"])
                    for r in thing.to_pylist()
                ]
            else:
                things.append(thing)
    return things


def kinds(things: list[Thing]) -> list[str]:
    return ["ok" if isinstance(t, Document) else t.reason if isinstance(t, Drop) else t.kind for t in things]


def texts(things: list[Thing]) -> list[str]:
    return [thing.text for thing in things if isinstance(thing, Document)]


class Slow(io.BytesIO):
    """Gives few bytes at a time."""

    def __init__(self, content: bytes, rng: random.Random) -> None:
        super().__init__(content)
        self._rng = rng

    def read1(self, size: int | None = -1) -> bytes:
        most = self._rng.choice([1, 5, 100, 1 << 20])
        return super().read(most if size is None or size < 0 else min(size, most))


# -- lines -------------------------------------------------------------------------------------------------------------------------


def test_lines_against_split(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    for _ in range(1500):
        monkeypatch.setattr(lines, "_BLOCK", rng.choice([1, 2, 5, 16, 1 << 18]))
        data = bytes(rng.choice(b"ab\n\r") for _ in range(rng.randrange(60)))
        limit = rng.choice([1, 3, 10, 100])
        expected: list[Any] = []
        at = 0
        for line in data.split(b"\n"):
            whole = data[at : at + len(line) + 1]
            if whole:
                expected.append((at, whole) if len(line) <= limit else (at, "too_large", whole))
            at += len(whole)
        cuts = sorted({0, *(rng.randrange(len(data) + 1) for _ in range(3))})
        found: list[Any] = []
        for start, end in zip(cuts, [*cuts[1:], -1], strict=True):
            for line in lines.lines(Slow(data, rng), Extent("a", "a", start, end, 0), limit):
                found.append((line.offset, line.kind, line.raw) if isinstance(line, Failure) else line)
        assert found == expected, (data, limit, cuts)


# -- JSON --------------------------------------------------------------------------------------------------------------------------


def value(rng: random.Random, depth: int = 0) -> Any:
    match rng.randrange(8 if depth < 3 else 5):
        case 0:
            return rng.choice(["", 'q"x', "}, {", "\\", '\\"', "é", "\n],[", '{"id":'])
        case 1:
            return rng.randrange(1000)
        case 2:
            return None
        case 3:
            return 1.5
        case 4:
            return True
        case 5:
            return [value(rng, depth + 1) for _ in range(rng.randrange(3))]
        case _:
            return {rng.choice(["a", "b", "id"]): value(rng, depth + 1) for _ in range(rng.randrange(3))}


def test_arrays_against_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements, offsets and limits, with any layout and whatever the blocks; damage never raises, and never depends on the blocks."""
    rng = random.Random(2)
    for _ in range(1200):
        monkeypatch.setattr(json_array, "_BLOCK", rng.choice([1, 3, 17, 1 << 18]))
        monkeypatch.setattr(json_array, "_MARKS", rng.choice([1, 2, 4096]))
        form = rng.choice(["array", "wrapped", "values"])
        values: list[Any] = [{"id": n, **{rng.choice("abc"): value(rng) for _ in range(rng.randrange(3))}} for n in range(rng.randrange(6))]
        if form == "array" and rng.random() < 0.3:
            values = [value(rng) for _ in values]
        style: dict[str, Any] = {"indent": rng.choice([None, None, 1, 4]), "ensure_ascii": rng.random() < 0.5}
        if form == "values":
            text = "\n".join(json.dumps(one, **style) for one in values)
        else:
            beside = {"v": 1, "x": "s"} if rng.random() < 0.5 else {}
            text = json.dumps(
                values if form == "array" else {**beside, "data": values, **({"z": 2.5} if rng.random() < 0.5 else {})}, **style
            )
        raw = b"\xef\xbb\xbf" * (rng.random() < 0.2) + text.encode() + rng.choice([b"", b" \n\t"])
        found = [e for e in json_array.elements(Slow(raw, rng), 1 << 20, form) if not isinstance(e, json_array.Beside)]
        assert [json.loads(e[1]) for e in found if not isinstance(e, Failure)] == values, raw
        assert all(raw[e[0] : e[0] + len(e[1])] == e[1] for e in found if not isinstance(e, Failure))
        limit = rng.choice([1, 5, 20])
        limited = [e for e in json_array.elements(Slow(raw, rng), limit, form) if not isinstance(e, json_array.Beside)]
        for one, other in zip(found, limited, strict=True):
            assert not isinstance(one, Failure)
            if len(one[1]) > limit:
                assert isinstance(other, Failure)
                assert (other.kind, other.offset) == ("too_large", one[0])
            else:
                assert one == other
        damaged = bytearray(raw)
        if not damaged or form == "values":
            continue
        place = rng.randrange(len(damaged))
        match rng.randrange(3):
            case 0:
                del damaged[place]
            case 1:
                damaged[place] = rng.choice(b'"{}[],:x\n\\')
            case _:
                del damaged[place:]
        if b"[" not in damaged or (form == "wrapped" and json_array.wrapped(bytes(damaged)) is None):
            continue
        results = []
        for block in (1, 7, 1 << 18):
            monkeypatch.setattr(json_array, "_BLOCK", block)
            results.append(list(json_array.elements(io.BytesIO(bytes(damaged)), 1 << 20, form)))
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("damage", ["quote", "brace", "comma", "number", "utf8"])
def test_a_damaged_element_costs_itself_alone(tmp_path: Path, indent: int | None, wrap: bool, damage: str) -> None:
    rows = [{"text": f"text {n}", "tags": [{"a": n}], "n": n} for n in range(9)]
    content = json.dumps({"data": rows} if wrap else rows, indent=indent).encode()
    old, new = {
        "quote": (b'"text 4"', b'"text 4'),
        "brace": (b'"n": 4', b'"n": {4'),
        "comma": (b'"text 4",', b'"text 4"'),
        "number": (b'"n": 4', b'"n": 4.4.4'),
        "utf8": (b"text 4", b"text \xff"),
    }[damage]
    things = read(tmp_path, content.replace(old, new))
    assert texts(things) == [f"text {n}" for n in range(9) if n != 4]
    failures = [thing for thing in things if isinstance(thing, Failure)]
    assert [failure.kind for failure in failures] == ["invalid_utf8" if damage == "utf8" else "invalid_json"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"text": "a"}, {"text": "b"}]', ["ok", "ok"]),
        (b' \n[\n{"text": "a"}\n]\n', ["ok"]),
        (b"[]", []),
        (b'{"data": [{"text": "a"}, {"text": "b"}]}', ["ok", "ok"]),
        (b'{"version": "1", "train": [{"text": "a"}], "test": [\n{"text": "b"}], "n": 1}',
         ["beside_the_array", "ok", "ok", "beside_the_array"]),
        (b'{\n "data": []\n}', []),
        (b'{"text": "a", "tags": [{"x": 1}]}', ["ok"]),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}', ["ok"]),
        (b'{\n "text": "a"\n}\n{\n "text": "b",\n "n": [1,\n2]}', ["ok", "ok"]),
        (b'[{"text": "a"}, {"text": "b"}', ["ok", "ok", "truncated"]),
        (b'[{"text": "a"}, {"te', ["ok", "truncated"]),
        (b'[{"text": "a"}] rubbish', ["ok", "invalid_json"]),
        (b'[{"text": "a"},, 7, null, "x", [1], {"text": "b"}]', ["ok", "invalid_json", *["not_an_object"] * 4, "ok"]),
        (b'[{"text": "a"}{"text": "b"}\n{"text": "c"}]', ["ok", "ok", "ok"]),
        (b'[{"text": "a"}], {"text": "b"}]', ["ok", "invalid_json", "ok"]),
        (b"[" + b"[" * 100_000, ["truncated"]),
        (b'[{"text": "a", "n": ' + b"[" * 2000 + b"]" * 2000 + b'}, {"text": "b"}]', ["invalid_json", "ok"]),
        (b'[{"text": "a"}' + b" " * 300_000 + b',{"text": "b"}]', ["ok", "ok"]),
        (b'[{"text": "' + b"x" * 3000 + b'"}, {"text": "b"}]', ["too_large", "ok"]),
        (b'[{"text": "a"}, "' + b"x" * 3000, ["ok", "too_large", "truncated"]),
    ],
)  # fmt: skip
def test_documents_of_json(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    assert kinds(read(tmp_path, content, max_record_bytes=2500 if len(content) < 3500 else 1 << 20)) == expected
    assert kinds(read(tmp_path, gzip.compress(content), max_record_bytes=2500 if len(content) < 3500 else 1 << 20)) == expected


def test_a_hundred_megabytes_in_one_element(tmp_path: Path) -> None:
    content = b'[{"text": "a"}, {"text": "' + b"x" * 100_000_000 + b'"}, {"text": "b"}]'
    assert kinds(read(tmp_path, content)) == ["ok", "too_large", "ok"]


def test_identifiers_beyond_64_bits(tmp_path: Path) -> None:
    number = 123456789012345678901234567890
    things = read(tmp_path, b'{"text": "a", "id": %d}\n{"text": "b", "id": 1e300}\n{"text": "c", "id": 5}\n' % number)
    assert [thing.id for thing in things if isinstance(thing, Document)][::2] == [f"s:{number}", "s:5"]


# -- CSV ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "keys"),
    [("utf-8", {}), ("utf-8-sig", {}), ("utf-16", {}), ("utf-16-be", {"encoding": "utf-16-be"}), ("cp1252", {}),
     ("cp1252", {"encoding": "cp1252"}),
     ("gb18030", {"encoding": "gb18030"}), ("shift_jis", {"encoding": "shift_jis"}), ("koi8-r", {"encoding": "koi8-r"})],
)  # fmt: skip
def test_encodings_of_csv(tmp_path: Path, encoding: str, keys: dict[str, Any]) -> None:
    words = {"gb18030": "中文，数据", "shift_jis": "日本語のテキスト", "koi8-r": "Привет, мир"}.get(encoding, "Müßige Äpfel, café à Genève")
    rows = [["text", "n"], *([f'{words} "{n}"\nzweite', str(n)] for n in range(30))]
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    content = buffer.getvalue().encode(encoding)
    things = read(tmp_path, content, **keys)
    assert texts(things) == [row[0] for row in rows[1:]]
    for thing in things:
        assert thing.offset is not None
        assert isinstance(thing, Document)
        assert thing.length is not None
        piece = content[thing.offset : thing.offset + thing.length].decode("utf-16-le" if encoding == "utf-16" else encoding)
        assert next(csv.reader(io.StringIO(piece, newline="")))[0] == thing.text


def test_a_lost_quote_costs_its_own_record(tmp_path: Path) -> None:
    """Wherever it is lost: most rows stay, none is made up, and what is passed over is counted."""
    rng = random.Random(4)
    rows = [[f"row {n}", rng.choice(["plain", "with, comma", "with\nline\nends", 'with "quotes"']), str(n)] for n in range(200)]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["text", "b", "c"], *rows])
    content = buffer.getvalue()
    known = {tuple(row) for row in rows}
    for place in [at for at, character in enumerate(content) if character == '"'][::7]:
        things = read(tmp_path, (content[:place] + content[place + 1 :]).encode())
        good = [t for t in things if isinstance(t, Document) and (t.text, *json.loads(t.meta).values()) in known]
        assert len(good) >= 196, content[place - 30 : place + 30]
        assert len(things) <= 206


def test_a_quote_that_never_ends_in_a_large_file(tmp_path: Path) -> None:
    head = b'text,n\na,1\n"lost,2\n'
    content = head + b"".join(b"row %d,%d\n" % (n, n) for n in range(60_000))
    things = read(tmp_path, content)
    assert len(texts(things)) == 60_001
    [failure] = [t for t in things if isinstance(t, Failure)]
    assert (failure.kind, failure.offset) == ("invalid_csv", 11)
    things = read(tmp_path, content, max_record_bytes=10_000)
    assert len(texts(things)) == 60_001
    assert [t.kind for t in things if isinstance(t, Failure)] == ["too_large"]


# -- Arrow -------------------------------------------------------------------------------------------------------------------------


def arrow(table: pa.Table, rows: int, *, stream: bool = False, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema, options=options) as writer:
        writer.write_table(table, rows)
    return sink.getvalue()


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_arrow_files_and_streams(tmp_path: Path, compression: str | None) -> None:
    table = pa.table(
        {
            "text": [None if n % 50 == 7 else f"text {n} é" for n in range(3000)],
            "n": range(3000),
            "l": [[n] for n in range(3000)],
            "d": pa.array([f"k{n % 3}" for n in range(3000)]).dictionary_encode(),
        }
    )
    content = arrow(table, 250, compression=compression)
    whole = sorted(read(tmp_path, content), key=lambda thing: thing.offset or 0)
    assert kinds(whole) == ["no_text" if n % 50 == 7 else "ok" for n in range(3000)]
    assert json.loads(whole[8].meta) == {"n": 8, "l": [8], "d": "k2"}
    for unit_bytes in (1, 20_000):
        assert sorted(read(tmp_path, content, unit_bytes), key=lambda thing: thing.offset or 0) == whole
    stream = arrow(table, 250, stream=True, compression=compression)
    assert sorted(read(tmp_path, stream), key=lambda thing: thing.offset or 0) == whole
    assert sorted(read(tmp_path, gzip.compress(stream)), key=lambda thing: thing.offset or 0) == whole
    assert kinds(read(tmp_path, gzip.compress(content))) == ["unsupported"]


def test_feather(tmp_path: Path) -> None:
    import pyarrow.feather

    pyarrow.feather.write_feather(pa.table({"text": ["a", "b"]}), tmp_path / "f")
    assert texts(read(tmp_path, (tmp_path / "f").read_bytes())) == ["a", "b"]


def test_damaged_arrow(tmp_path: Path) -> None:
    rng = random.Random(5)
    table = pa.table({"text": [f"text {n}" for n in range(1000)], "l": [[f"x{n}"] for n in range(1000)]})
    for stream in (False, True):
        whole = arrow(table, 100, stream=stream)
        for _ in range(60):
            content = bytearray(whole)
            place = rng.randrange(12, len(content))
            if rng.random() < 0.5:
                del content[place:]
            else:
                content[place : place + 8] = rng.randbytes(len(content[place : place + 8]))
            things = read(tmp_path, bytes(content))
            offsets = [t.offset for t in things if isinstance(t, Document)]
            assert len(offsets) == len(set(offsets))
            if not stream:
                assert read(tmp_path, bytes(content), 1) == things


def test_text_of_arrow_that_is_no_utf8(tmp_path: Path) -> None:
    bad = pa.array([b"good", b"\xff", b"fine"]).view(pa.string())
    things = read(tmp_path, arrow(pa.table({"text": bad}), 10))
    assert kinds(things) == ["ok", "invalid_utf8", "ok"]


# -- what would cost time or memory out of proportion -----------------------------------------------------------------------------------


def test_many_ragged_rows_cost_linear_time(tmp_path: Path) -> None:
    started = time.monotonic()
    things = read(tmp_path, b"id,text\n" + b"1,a,b\n2\n" * 4000 + b"3,c\n")
    assert Counter(kinds(things)) == {"wrong_columns": 8000, "ok": 1}
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("end", "limit", "expected"),
    [
        ('"\n', 1 << 22, ["ok", "ok"]),
        ('"\n', 1 << 20, ["too_large", "ok"]),
        ('",3\n', 1 << 22, ["wrong_columns", "ok"]),
        ("\n", 1 << 22, ["invalid_csv", "ok"]),
    ],
)
def test_a_field_of_many_short_lines(tmp_path: Path, encoding: str, end: str, limit: int, expected: list[str]) -> None:
    content = 'id,text\n1,"' + "a\n" * 600_000 + end + "2,x\n"
    things = read(tmp_path, content.encode(encoding), max_record_bytes=limit)
    assert kinds(things) == expected
    assert isinstance(last := things[-1], Document)
    assert (last.text, last.offset) == ("x", len(content.removesuffix("2,x\n").encode(encoding)))


def test_nothing_behind_many_blanks_is_lost(tmp_path: Path) -> None:
    content = b'[{"text":"a"}]' + b" " * 70_000 + b'[{"text":"lost"},{"text":"b"}]'
    assert kinds(read(tmp_path, content)) == ["ok", "invalid_json", "ok"]


def test_columns_of_one_name_are_kept(tmp_path: Path) -> None:
    [thing] = read(tmp_path, b"text,n,n,n\na,1,2,3\n")
    assert isinstance(thing, Document)
    assert thing.meta == '{"n":"3","n.2":"1","n.3":"2"}'


def test_a_dictionary_that_is_a_bomb(tmp_path: Path) -> None:
    entries = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 1_000_000]))
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": entries}), sink, compression="zstd")
    found = Counter(kinds(read(tmp_path, sink.getvalue())))
    assert found["bomb"] == 1
    assert found["ok"] < 100
