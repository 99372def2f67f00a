"""The tables source against json, csv and pyarrow: the same records once and in order, whatever the extents; one thing for each record."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import gzip
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import lz4.frame
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codedev.corpus import records
from codedev.corpus.document import position_id
from codedev.corpus.source import Document, Drop, Extent, Failure
from codedev.corpus.sources.tables import source as tables

Thing = Document | Drop | Failure
BOM = b"\xef\xbb\xbf"


def config(**keys: Any) -> tables.Config:
    return tables.Config(type="tables", name="s", **{"paths": ("a",), **keys})


def read(folder: Path, content: bytes, unit_bytes: int = 1 << 40, **keys: Any) -> list[Thing]:
    """What the source makes of one file, its table rows as Documents too; all of it must fit into the corpus's schemas."""
    path = folder / "a"
    path.write_bytes(content)
    chosen = config(**keys)
    extents = [extent._replace(hash="h") for extent in tables.plan(chosen, folder, unit_bytes)]
    things: list[Thing] = []
    for extent in extents:
        things += read_extent(extent, chosen, folder)
    reader = records.Reader(chosen, folder)
    batches = [*reader.batches(extents), *reader.drop_batches(), *reader.failure_batches()]
    assert reader.counts["rows_in"] == len(things) == sum(batch.num_rows for batch in batches)
    for batch in batches:
        batch.validate(full=True)
    return things


def read_extent(extent: Extent, chosen: tables.Config, folder: Path) -> list[Thing]:
    things = tables.read(extent, chosen, folder)
    return [one for thing in things for one in (rows(thing) if isinstance(thing, pa.RecordBatch) else [thing])]


def rows(batch: pa.RecordBatch) -> list[Thing]:
    batch.validate(full=True)
    return [
        Document(
            row["id"], row["text"], row["origin"]["offset"], row["origin"]["length"],
            lang=row["lang"], licence=row["licence"], url=row["url"], created=row["created"], meta=row["meta"],
        )
        for row in batch.to_pylist()
    ]  # fmt: skip


def kinds(things: list[Thing]) -> list[str]:
    return ["ok" if isinstance(t, Document) else t.reason if isinstance(t, Drop) else t.kind for t in things]


def lines(*values: Any, end: str = "\n") -> bytes:
    return "".join(json.dumps(value) + end for value in values).encode()


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def as_csv(values: list[list[str]], **options: Any) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, **options).writerows(values)
    return buffer.getvalue().encode()


# -- oracles -------------------------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts
objects = st.dictionaries(st.sampled_from(["text", "a", "b", "é", ""]), scalars | st.lists(scalars, max_size=2), max_size=4)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.lists(objects, max_size=8), st.sampled_from(["\n", "\r\n", "\n\n", " \t\n"]), st.booleans(), st.booleans(), st.randoms())
def test_jsonl_against_json(tmp_path: Path, values: list[dict[str, Any]], end: str, bom: bool, ended: bool, rng: random.Random) -> None:
    content = "".join(json.dumps(value, ensure_ascii=rng.random() < 0.5) + end for value in values).encode()
    if values and not ended:
        content = content.rstrip(b"\r\n \t")
    content = BOM * bom + content
    things = read(tmp_path, content)
    if not values:
        assert kinds(things) == ["empty"]
        return
    assert len(things) == len(values)
    for thing, value in zip(things, values, strict=True):
        if isinstance(value.get("text"), str):
            assert isinstance(thing, Document)
            assert thing.text == value["text"]
            assert json.loads(thing.meta) == {k: v for k, v in value.items() if k != "text" and v is not None}
        else:
            assert isinstance(thing, Drop)
            assert json.loads(thing.evidence)["column"] == "text"
        assert thing.offset is not None
        assert thing.length is not None
        assert json.loads(content[thing.offset : thing.offset + thing.length].removeprefix(BOM)) == value
    for unit_bytes in (1, 2, 7, 23, 64):  # every extent of every size
        assert read(tmp_path, content, unit_bytes) == things


def test_extents_around_every_byte(tmp_path: Path) -> None:
    content = lines({"text": "a"}, {"text": "b" * 50}) + b"\n\r\n" + b'{"text": bad\n' + lines({"text": "é"}, {"x": 1}) + b'{"text": "end"}'
    whole = read(tmp_path, content)
    assert kinds(whole) == ["ok", "ok", "invalid_json", "ok", "no_text", "ok"]
    for unit_bytes in range(1, len(content) + 2):
        assert read(tmp_path, content, unit_bytes) == whole
    chosen, extent = config(), tables.Extent(str(tmp_path / "a"), "a", 0, -1, len(content), hash="h")
    for start in range(len(content) + 1):  # two extents, the second one open
        halves = (extent._replace(end=start), extent._replace(start=start)) if start else (extent,)
        assert [thing for half in halves for thing in read_extent(half, chosen, tmp_path)] == whole


@quick
@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9), min_size=2, max_size=4), max_size=8
    ),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_csv_against_csv(tmp_path: Path, values: list[list[str]], delimiter: str, end: str, bom: bool) -> None:
    header = ["text", "b", "c"]
    content = BOM * bom + as_csv([header, *values], delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    things = read(tmp_path, content)
    oracle = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=delimiter))
    assert len(things) == len(oracle) == len(values)
    for thing, row, value in zip(things, oracle, values, strict=True):
        if len(value) == 3:
            assert isinstance(thing, Document)
            assert (thing.text, json.loads(thing.meta)) == (row["text"], {"b": row["b"], "c": row["c"]})
            assert thing.offset is not None
            assert thing.length is not None
            piece = content[thing.offset : thing.offset + thing.length].decode()
            assert list(csv.reader(io.StringIO(piece, newline=""), delimiter=delimiter)) == [value]
        else:
            assert isinstance(thing, Failure)
            assert thing.kind == "wrong_columns"


@quick
@given(st.lists(st.tuples(st.none() | texts, st.none() | st.integers(-(1 << 60), 1 << 60)), max_size=30), st.integers(1, 9), st.randoms())
def test_parquet_against_pyarrow(tmp_path: Path, values: list[tuple[str | None, int | None]], group: int, rng: random.Random) -> None:
    kind = rng.choice([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.binary()])
    data = [text if text is None or kind != pa.binary() else text.encode() for text, _ in values]
    table = pa.table({"text": pa.array(data, kind), "n": pa.array([n for _, n in values], pa.int64())})
    content = parquet(table, row_group_size=group)
    things = read(tmp_path, content)
    by_row = {thing.offset: thing for thing in things}
    assert len(by_row) == len(things) == len(values)
    for row, (text, number) in enumerate(values):
        thing = by_row[row]
        if text is None:
            assert isinstance(thing, Drop)
            assert thing.reason == "no_text"
        else:
            assert isinstance(thing, Document)
            assert (thing.text, thing.id) == (text, position_id("h", row))
            assert json.loads(thing.meta) == ({} if number is None else {"n": number})
    for unit_bytes in (1, 300):
        again = read(tmp_path, content, unit_bytes)
        assert {thing.offset: thing for thing in again} == by_row


# -- lines -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"text": "a\x00b"}', "invalid_json"),  # a bare control character
        (b'{"text": "a\\u0000b"}', "ok"),
        (b'{"text": "\xff\xfe"}', "invalid_utf8"),
        (b'{"text": "\xed\xa0\x80"}', "invalid_utf8"),  # an encoded surrogate
        (b'{"text": "\xc0\xaf"}', "invalid_utf8"),  # an overlong form
        (b'{"text": "\\ud800"}', "invalid_json"),  # a lone one, escaped
        (b'{"text": "\\ud83d\\ude00"}', "ok"),
        (b'{"\\ud800": 1, "text": "a"}', "invalid_json"),
        (b'{"text": "a", "n": NaN}', "invalid_json"),
        (b'{"text": "a", "n": -Infinity}', "invalid_json"),
        (b'{"text": "a", "n": 1e999}', "invalid_json"),
        (b'{"text": "a", "n": 123456789012345678901234567890}', "ok"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"text": "a", "n": ' + b"[" * 200 + b"]" * 200 + b"}", "ok"),
        (b'{"text": "a", "n": ' + b"[" * 500 + b"]" * 500 + b"}", "too_deep"),
        (b'{"text": "a", "n": ' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
        (b'{"text": "a", "n": ' + b"[" * 100_000, "invalid_json"),
        (b'{"text": "a"', "invalid_json"),
        (b'{"text": "a"} {"text": "b"}', "invalid_json"),
        (b'{"text": 1}', "no_text"),
        (b'{"text": null}', "no_text"),
        (b'{"text": ["a"]}', "no_text"),
        (b'{"text": ""}', "ok"),
        (b'{"Text": "a"}', "no_text"),
        (b"{}", "no_text"),
        (b"[1]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"rubbish", "invalid_json"),
        (BOM + b'{"text": "a"}', "invalid_json"),  # in the midst of a file
    ],
)
def test_hostile_lines(tmp_path: Path, line: bytes, kind: str) -> None:
    good = lines({"text": "good"})
    things = read(tmp_path, good + line + b"\n" + good)
    assert kinds(things) == ["ok", kind, "ok"]
    assert things[1].offset == len(good)
    if isinstance(things[1], Failure):
        assert things[1].raw[:200] == line[:200] or things[1].raw.startswith(line)


def test_the_last_of_two_equal_keys_counts(tmp_path: Path) -> None:
    [thing] = read(tmp_path, b'{"text": "a", "text": "b"}')
    assert isinstance(thing, Document)
    assert thing.text == json.loads(b'{"text": "a", "text": "b"}')["text"]


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_a_line_beyond_the_limit(tmp_path: Path, ending: bytes) -> None:
    long = lines({"text": "x" * 5_000_000}).rstrip()
    content = lines({"text": "a"}) + long + (b"\n" + lines({"text": "b"}) if ending else b"")
    whole = read(tmp_path, content, max_record_bytes=1_000_000)
    assert kinds(whole) == ["ok", "too_large", *(["ok"] if ending else [])]
    assert isinstance(whole[1], Failure)
    assert "5,000,0" in whole[1].message
    assert whole[1].raw == long[:256]
    for unit_bytes in (100_000, 999_999, 3_000_000):
        assert read(tmp_path, content, unit_bytes, max_record_bytes=1_000_000) == whole
    assert kinds(read(tmp_path, content, max_record_bytes=len(long)))[1] == "ok"  # just fits
    assert kinds(read(tmp_path, content, max_record_bytes=len(long) - 1))[1] == "too_large"


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n", BOM, BOM + b"\n", b"\n" * 10_000])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress, lz4.frame.compress])
def test_a_file_without_records_says_so(tmp_path: Path, content: bytes, compress: Any) -> None:
    assert kinds(read(tmp_path, compress(content))) == ["empty"]


def test_blanks_before_the_first_record(tmp_path: Path) -> None:
    content = b"\n" * 10_000 + lines({"text": "a"}, {"text": "b"})
    assert kinds(read(tmp_path, content)) == ["ok", "ok"]
    assert kinds(read(tmp_path, content, 4096)) == ["ok", "ok"]
    assert kinds(read(tmp_path, gzip.compress(content))) == ["ok", "ok"]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress, lz4.frame.compress])
def test_a_clipped_compressed_file(tmp_path: Path, compress: Any, share: float) -> None:
    whole = [{"text": random.Random(n).randbytes(40).hex(), "n": n} for n in range(2000)]
    packed = compress(lines(*whole))
    things = read(tmp_path, packed[: int(len(packed) * share)])
    assert kinds(things)[:-1] == ["ok"] * (len(things) - 1)
    assert isinstance(things[-1], Failure)
    assert things[-1].kind == "truncated"
    assert [t.text for t in things[:-1] if isinstance(t, Document)] == [value["text"] for value in whole[: len(things) - 1]]
    assert things[-1].offset == len(lines(*whole[: len(things) - 1]))


def test_a_compressed_file_that_is_rubbish(tmp_path: Path) -> None:
    for magic in (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh91AY&SY", b"\x04\x22\x4d\x18"):
        [thing] = read(tmp_path, magic + random.Random(1).randbytes(300))
        assert isinstance(thing, Failure)
        assert thing.kind in ("corrupt", "truncated"), magic


def test_compression_in_the_midst_of_records(tmp_path: Path) -> None:
    content = lines(*({"text": f"t{n}"} for n in range(100)))
    assert kinds(read(tmp_path, gzip.compress(content[:777]) + gzip.compress(content[777:]))) == ["ok"] * 100
    assert kinds(read(tmp_path, gzip.compress(content) + b"rubbish")) == ["ok"] * 100 + ["corrupt"]


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "broken").symlink_to("nowhere")
    chosen = config(paths=("fifo", "broken"))
    things = [thing for extent in tables.plan(chosen, tmp_path, 1 << 20) for thing in tables.read(extent, chosen, tmp_path)]
    assert [thing.kind for thing in things if isinstance(thing, Failure)] == ["unreadable", "unreadable"]


# -- CSV -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"text\na\n\n\nb\n", ["ok", "ok"]),
        (b"text\r\na\r\n\r\nb", ["ok", "ok"]),
        (b'text,n\n"a\nb\r\nc",1\nd,2\n', ["ok", "ok"]),
        (b"text,n\na\nb,2\nc,3,4\nd,5\n", ["wrong_columns", "ok", "wrong_columns", "ok"]),
        (b'text,n\na,1\n"b,2\nc,3\nd,4\n', ["ok", "invalid_csv", "ok", "ok"]),  # the quote is never closed: one line is lost
        (b'text,n\n"a"b,1\nc,2\n', ["invalid_csv", "ok"]),
        ("text,n\né,é\n".encode() + b"a,\xff\nb,2\n", ["ok", "invalid_utf8", "ok"]),
        ("text,\nä,ö\n".encode() + b"te\xffxt,n\n" * 3, ["ok"] + ["invalid_utf8"] * 3),
        (b"\xff\xfet\x00e\x00x\x00t\x00\n\x00a\x00\n\x00", ["ok"]),  # UTF-16
        (b"body,n\na,1\n", ["no_text_column"]),
        (b"text,n\n", []),
        (b"text", []),
        (b"n,text,text\n1,a,b\n", ["ok"]),
        (b"text\na\rb\n", ["invalid_csv"]),
        (b"text\na\x00b\n", ["ok"]),
        (b"text,n\n" + b"x" * 3000 + b",1\nb,2\n", ["too_large", "ok"]),
        (b'text,n\n"' + b"x\n" * 1500 + b'",1\nb,2\n', ["too_large"]),
    ],
)
def test_hostile_csv(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    things = read(tmp_path, content, max_record_bytes=2000)
    assert kinds(things)[: len(expected)] == expected
    # Behind a record over many lines that grew too large the reader cannot know where the next one starts: its lines fail one by one.
    assert len(things) == len(expected) or expected == ["too_large"]


def test_failures_show_the_beginning_of_their_record(tmp_path: Path) -> None:
    things = read(tmp_path, b'text,n\n"first\nsecond",1,2\n"never\nclosed\n')
    assert kinds(things) == ["wrong_columns", "invalid_csv"]
    assert [t.raw for t in things if isinstance(t, Failure)] == [b'"first\n', b'"never\n']
    assert [t.offset for t in things] == [7, 26]
    assert isinstance(things[1], Failure)
    assert "14 bytes" in things[1].message


def test_the_delimiter_may_be_told(tmp_path: Path) -> None:
    [thing] = read(tmp_path, b"text:a,b,c\nx:y\n", delimiter=":")
    assert isinstance(thing, Document)
    assert json.loads(thing.meta) == {"a,b,c": "y"}


# -- Parquet -------------------------------------------------------------------------------------------------------------------------


def test_columns_of_every_kind(tmp_path: Path) -> None:
    far = 1 << 62  # microseconds: beyond Python's calendar
    table = pa.table(
        {
            "text": ["a", "b"],
            "null": pa.nulls(2),
            "integer": pa.array([1, (1 << 64) - 1], pa.uint64()),
            "float": [1.5, float("nan")],
            "bytes": [b"ab", b"\xff"],
            "dictionary": pa.array(["x", None]).dictionary_encode(),
            "list": [[1, None], []],
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
            "struct": [{"a": b"\xfe", "b": {"c": dt.date(2020, 1, 2)}}, None],
            "nanoseconds": pa.array([1_577_836_800_000_000_001, None], pa.timestamp("ns")),
            "decimal": [decimal.Decimal("1.10"), None],
            "duration": pa.array([5, None], pa.duration("s")),
        }
    )
    things = read(tmp_path, parquet(table))
    assert kinds(things) == ["ok", "ok"]
    metas = [json.loads(t.meta) for t in things if isinstance(t, Document)]
    assert metas[0]["integer"] == 1
    assert metas[1]["integer"] == (1 << 64) - 1
    assert metas[1]["bytes"] == "\ufffd"
    assert metas[0]["map"] == [["k", 1]]
    assert metas[0]["struct"] == {"a": "\ufffd", "b": {"c": "2020-01-02"}}
    assert metas[0]["nanoseconds"].startswith("2020-01-01T00:00:00")
    assert metas[0]["decimal"] == "1.10"
    things = read(tmp_path, parquet(pa.table({"text": ["a", "b"], "when": pa.array([0, far], pa.timestamp("us"))})))
    assert kinds(things) == ["ok", "unreadable_value"]  # the one row alone


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2]),
        pa.array([1.5, None]),
        pa.array([True, False]),
        pa.array([["a"], ["b"]]),
        pa.array([dt.date(2020, 1, 1)] * 2),
        pa.array([{"a": 1}] * 2),
        pa.nulls(2),
        pa.array([1, 2]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_a_text_column_that_is_no_text(tmp_path: Path, column: pa.Array) -> None:
    """As in JSON lines, a number is no text."""
    things = read(tmp_path, parquet(pa.table({"text": column, "id": ["x", "y"]})))
    assert kinds(things) == ["no_text", "no_text"]
    assert [t.id for t in things if isinstance(t, Drop)] == ["s:x", "s:y"]


def bad_strings(*values: bytes, kind: pa.DataType | None = None) -> pa.Array:
    kind = kind or pa.string()
    return pa.array(values, pa.binary() if kind == pa.string() else pa.large_binary()).view(kind)


def test_invalid_utf8_costs_its_own_row_alone(tmp_path: Path) -> None:
    """Whatever column it is in, and no row's fate hangs on its neighbours: ids, times and languages are the same with and without them."""
    count = 100
    rng = random.Random(3)
    clean = {
        "text": [f"text {n}" for n in range(count)],
        "id": pa.array([None if n % 7 == 0 else float(n) for n in range(count)]),
        "created": pa.array([1_600_000_000_000 + n for n in range(count)], pa.timestamp("ms")),
        "lang": ["" if n % 5 == 0 else "de" for n in range(count)],
        "url": [f"u{n}" for n in range(count)],
        "blob": [rng.randbytes(5) for _ in range(count)],
        "tags": [[f"é{n}"] for n in range(count)],
    }
    expected = {t.offset: t for t in read(tmp_path, parquet(pa.table(clean)))}
    bad = {17, 18, 64, 99}
    values = [b"\xff bad" if n in bad else b"text %d" % n for n in range(count)]
    tags = [b"\xff" if n in bad else f"é{n}".encode() for n in range(count)]
    columns = {
        "text": bad_strings(*values),
        "url": bad_strings(*(b"\xfe" if n in bad else b"u%d" % n for n in range(count))),
        "tags": pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), bad_strings(*tags)),
    }
    for name, column in [
        *columns.items(),
        ("text", bad_strings(*values, kind=pa.large_string())),
        ("text", bad_strings(*values).cast(pa.binary())),
    ]:
        things = read(tmp_path, parquet(pa.table({**clean, name: column}), row_group_size=60))
        found = {t.offset: t for t in things}
        assert len(things) == len(found) == count
        for row in range(count):
            if row in bad:
                failure = found[row]
                assert isinstance(failure, Failure)
                assert failure.kind == "invalid_utf8"
            else:
                assert found[row] == expected[row]
    assert sorted(t.id for t in expected.values() if isinstance(t, Document) and t.id.startswith("s:"))[:2] == ["s:1", "s:10"]


def test_a_bad_dictionary_entry(tmp_path: Path) -> None:
    entries = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), bad_strings(b"good", b"\xff"))
    content = parquet(pa.table({"text": entries}))
    assert sorted(kinds(read(tmp_path, content))) == ["invalid_utf8", "ok", "ok"]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array([1]), pa.array([2])], names=["text", "text", "n", "n"])
    [thing] = read(tmp_path, parquet(table))
    assert isinstance(thing, Document)
    assert (thing.text, thing.meta) == ("b", '{"n":2,"n.2":1,"text.2":"a"}')


def test_a_text_beyond_the_limit(tmp_path: Path) -> None:
    things = read(tmp_path, parquet(pa.table({"text": ["é" * 50, "b", "x" * 101]})), max_record_bytes=100)
    assert sorted((t.offset, k) for t, k in zip(things, kinds(things), strict=True)) == [(0, "ok"), (1, "ok"), (2, "too_large")]


def test_no_rows_and_no_text_column(tmp_path: Path) -> None:
    assert read(tmp_path, parquet(pa.table({"text": pa.array([], pa.string())}))) == []
    assert kinds(read(tmp_path, parquet(pa.table({"body": ["a"]})))) == ["no_text_column"]
    buffer = io.BytesIO()
    pq.ParquetWriter(buffer, pa.schema([("text", pa.string())])).close()
    assert read(tmp_path, buffer.getvalue()) == []


def test_damaged_parquet(tmp_path: Path) -> None:
    table = pa.table({"text": [random.Random(n).randbytes(200).hex() for n in range(600)], "n": range(600)})
    whole = parquet(table, row_group_size=100, compression="zstd", use_dictionary=False)
    for content in (
        whole[:-1],
        whole[: len(whole) // 2],
        b"PAR1",
        b"PAR1" * 3,
        b"PAR1" + bytes(500) + b"PAR1",
        b"PARE" + bytes(90) + b"PARE",
    ):
        assert kinds(read(tmp_path, content)) == ["corrupt"], content[:8]
    rng = random.Random(2)
    for _ in range(40):  # bytes gone wrong anywhere: never an exception, never a row twice
        damaged = bytearray(whole)
        at = rng.randrange(4, len(whole))
        damaged[at : at + 40] = rng.randbytes(len(damaged[at : at + 40]))
        things = read(tmp_path, bytes(damaged))
        offsets = Counter(t.offset for t in things if isinstance(t, Document))
        assert max(offsets.values(), default=1) == 1
        assert things


def test_a_damaged_row_group_does_not_take_the_next_ones_along(tmp_path: Path) -> None:
    """And so two extents give what one over both gives."""
    table = pa.table({"text": [random.Random(n).randbytes(200).hex() for n in range(600)]})
    content = bytearray(parquet(table, row_group_size=100, compression="zstd", use_dictionary=False))
    place = pq.read_metadata(io.BytesIO(bytes(content))).row_group(2).column(0).data_page_offset
    content[place : place + 400] = bytes(400)
    things = read(tmp_path, bytes(content))
    assert kinds(things) == ["ok"] * 200 + ["corrupt"] + ["ok"] * 300
    assert things[200].offset == 200
    assert read(tmp_path, bytes(content), 1) == things


# -- fields --------------------------------------------------------------------------------------------------------------------------


def fields_of(folder: Path, **record: Any) -> Document:
    """The record's document, read as a line; Parquet must say the same."""
    [thing] = read(folder, orjson.dumps({"text": "t", **record}))
    assert isinstance(thing, Document)
    try:
        table = pa.table({"text": ["t"], **{name: [value] for name, value in record.items()}})
    except (pa.ArrowException, OverflowError):
        return thing
    [same] = read(folder, parquet(table))
    assert isinstance(same, Document)
    assert same._replace(offset=0, length=None) == thing._replace(length=None)
    return thing


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("2020-01-02T03:04:05Z", dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ("2020-01-02T03:04:05+02:00", dt.datetime(2020, 1, 2, 1, 4, 5, tzinfo=dt.UTC)),
        (" 2020-01-02 03:04:05.5 ", dt.datetime(2020, 1, 2, 3, 4, 5, 500000, tzinfo=dt.UTC)),
        ("2020-01-02", dt.datetime(2020, 1, 2, tzinfo=dt.UTC)),
        ("20200102", dt.datetime(2020, 1, 2, tzinfo=dt.UTC)),
        (1577934245, dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ("1577934245", dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (1577934245000, dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (1577934245.5, dt.datetime(2020, 1, 2, 3, 4, 5, 500000, tzinfo=dt.UTC)),
        (2020, None),  # a year, not the first hour of 1970
        ("2020", None),
        (20200102, None),
        (0, None),
        ("yesterday", None),
        ("²", None),
        ("9" * 400, None),
        (1e300, None),
        (-(1 << 60), None),
        (True, None),
        (["2020-01-01"], None),
        ("0001-01-01T00:00:00+10:00", None),
    ],
)
def test_created(tmp_path: Path, value: Any, meant: dt.datetime | None) -> None:
    document = fields_of(tmp_path, created_at=value)
    assert document.created == meant
    assert json.loads(document.meta) == ({} if meant else {"created_at": value})  # what is no time is not lost


def test_times_of_parquet(tmp_path: Path) -> None:
    moment = dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    kinds_of_time = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Asia/Tokyo")]
    for kind in kinds_of_time:
        column = (
            pa.array([moment], pa.timestamp("us", "UTC")).cast(pa.timestamp("us", kind.tz) if kind.tz else pa.timestamp("us")).cast(kind)
        )
        [thing] = read(tmp_path, parquet(pa.table({"text": ["a"], "date": column})))
        assert isinstance(thing, Document)
        assert thing.created == moment, kind
    [thing] = read(tmp_path, parquet(pa.table({"text": ["a"], "date": [dt.date(2020, 1, 2)]})))
    assert isinstance(thing, Document)
    assert thing.created == dt.datetime(2020, 1, 2, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("x", "s:x"),
        (7, "s:7"),
        (7.0, "s:7"),  # pandas' way with a column in which one is missing
        ((1 << 64) - 1, f"s:{(1 << 64) - 1}"),
        ("é/~ 1", "s:é/~ 1"),
        ("", None),
        (None, None),
        (1.5, None),
        (1e300, None),
    ],
)
def test_ids(tmp_path: Path, value: Any, meant: str | None) -> None:
    assert fields_of(tmp_path, id=value).id == (meant or position_id("h", 0))


def test_ids_beyond_64_bits_are_not_taken_for_one_another(tmp_path: Path) -> None:
    things = read(tmp_path, b'{"text": "a", "id": 123456789012345678901234567890}\n{"text": "b", "id": 123456789012345678901234567891}\n')
    assert len({t.id for t in things if isinstance(t, Document)}) == 2


def test_named_columns(tmp_path: Path) -> None:
    document = fields_of(tmp_path, language="no", license="MIT", url="http://x", lang="en", more=1)
    assert (document.lang, document.licence, document.url) == ("en", "MIT", "http://x")
    assert json.loads(document.meta) == {"language": "no", "more": 1}
    document = fields_of(tmp_path, lang="", licence=None, url=5, language=None)
    assert (document.lang, document.licence, document.url) == (None, None, None)
    assert json.loads(document.meta) == {"url": 5}  # what is no address is not lost
    document = fields_of(tmp_path, licence=["MIT", "GPL"])
    assert json.loads(document.meta) == {"licence": ["MIT", "GPL"]}


def test_the_text_may_stand_in_any_column(tmp_path: Path) -> None:
    for content in (
        lines({"id": "the text", "text": "no"}),
        b"id,text\nthe text,no\n",
        parquet(pa.table({"id": ["the text"], "text": ["no"]})),
    ):
        [thing] = read(tmp_path, content, text="id")
        assert isinstance(thing, Document)
        assert (thing.text, thing.id, json.loads(thing.meta)) == ("the text", position_id("h", thing.offset or 0), {"text": "no"})


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_the_recipes_licence_fills_gaps_alone(tmp_path: Path, form: str) -> None:
    values = [{"text": "a", "licence": "MIT"}, {"text": "b", "licence": ""}]
    content = {
        "jsonl": lines(*values),
        "csv": as_csv([["text", "licence"], ["a", "MIT"], ["b", ""]]),
        "parquet": parquet(pa.Table.from_pylist(values)),
    }[form]
    (tmp_path / "a").write_bytes(content)
    chosen = config(licence="CC0-1.0")
    reader = records.Reader(chosen, tmp_path)
    found = [row["licence"] for batch in reader.batches(tables.plan(chosen, tmp_path, 1 << 30)) for row in batch.to_pylist()]
    assert found == ["MIT", "CC0-1.0"]


def test_lone_surrogates_of_a_source_become_errors_not_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No reader should give them; if one does, the row alone is lost, and said to be."""
    bad = "a\udcffb"
    given_ = [
        Document("1", "good", member=bad),
        Document("2", bad),
        Document(bad, "x"),
        Drop(bad, "why", url=bad, member=bad),
        Failure("corrupt", bad, member=bad),
    ]
    reader = records.Reader(config(), tmp_path)
    monkeypatch.setattr(tables, "read", lambda *_: iter(given_))
    [extent] = [tables.Extent("f", "f", 0, -1, 1)]
    [batch] = list(reader.batches([extent]))
    assert batch["id"].to_pylist() == ["1"]
    counts = {name: count for name, count in reader.counts.items() if count}
    assert counts == {"rows_in": 5, "rows_out": 1, "drop.why": 1, "error.corrupt": 1, "error.invalid_unicode": 2}
    [drops], [failures] = list(reader.drop_batches()), list(reader.failure_batches())
    assert drops["id"].to_pylist() == ["a\\udcffb"]
    assert failures["message"].to_pylist()[0] == "a\\udcffb"
