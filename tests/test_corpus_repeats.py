"""Barriers that cut lines and spans out of texts and drop documents of one URL."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev.corpus.dedup import CHANGE, Changes
from codedev.corpus.repeats.config import Lines, Substring, Url
from codedev.corpus.repeats.cuts import CUT, Cuts, apply_cuts, before, cuts_path, find_short
from codedev.corpus.repeats.lines import find_lines
from codedev.corpus.repeats.substring import find_repeats
from codedev.corpus.repeats.url import canonical_urls, find_urls
from codedev.corpus.standing import Table


def written(tmp: Path, rows: list[dict[str, Any]], *, per_table: int = 5, group: int = 3) -> tuple[list[Table], Path]:
    """The rows as scored and judged tables; a row with `reason` was dropped by a filter."""
    tables = []
    for number, low in enumerate(range(0, len(rows), per_table)):
        part = rows[low : low + per_table]
        ids = [row.get("id", f"d{low + i}") for i, row in enumerate(part)]
        scored = pa.table({
            "id": ids,
            "text": pa.array([row["text"] for row in part], pa.large_string()),
            "kind": pa.array([row.get("kind", "web") for row in part]).dictionary_encode(),
            "url": pa.array([row.get("url") for row in part], pa.string()),
            "created": pa.array([row.get("created") for row in part], pa.timestamp("us", tz="UTC")),
        })  # fmt: skip
        judged = pa.table({"id": ids, "reason": pa.array([row.get("reason") for row in part], pa.string())})
        table = Table(tmp / f"s{number}.parquet", tmp / f"j{number}.parquet", low)
        pq.write_table(scored, table.scored, row_group_size=group)
        pq.write_table(judged, table.judged, row_group_size=group)
        tables.append(table)
    found = tmp / "found"
    found.mkdir(exist_ok=True)
    return tables, found


def cut(tables: list[Table], found: Path) -> tuple[list[str], list[list[dict[str, int]]], dict[str, int]]:
    """The texts without their cuts, q.cuts, and the bytes cut by stage."""
    cuts, changes = Cuts(found), Changes(found)
    texts, places, counts = [], [], {}
    for table in tables:
        batch = pq.read_table(table.scored).combine_chunks().to_batches()[0]
        kept = pq.read_table(table.judged).column("reason").combine_chunks().is_null().to_numpy(zero_copy_only=False).copy()
        gone = changes.between(table.first_row, table.first_row + len(kept))
        kept[gone.filter(gone.column("reason").is_valid()).column("row").to_numpy() - table.first_row] = False
        new, counted = apply_cuts(batch, cuts.between(table.first_row, table.first_row + len(kept)), table.first_row, kept)
        assert new.schema.field("q.cuts").type == pa.list_(CUT)
        new.validate(full=True)
        texts += new.column("text").to_pylist()
        places += new.column("q.cuts").to_pylist()
        for stage, size in counted.items():
            counts[stage] = counts.get(stage, 0) + size
    return texts, places, counts


def evidence(found: Path, stage: str) -> dict[int, dict[str, Any]]:
    table = pq.read_table(cuts_path(found, stage))
    assert set(table.column("stage").to_pylist()) == {stage}
    assert table.column("row").to_pylist() == sorted(set(table.column("row").to_pylist()))
    return {
        row: orjson.loads(said) for row, said in zip(table.column("row").to_pylist(), table.column("evidence").to_pylist(), strict=True)
    }


# -- URLs


def test_of_one_url_the_newest_the_longest_or_the_first_stays(tmp_path: Path) -> None:
    day = [datetime.datetime(2020, 1, n, tzinfo=datetime.UTC) for n in range(1, 9)]
    rows: list[dict[str, Any]] = [
        {"text": "aaaa", "url": "http://www.x.org/a/index.html?utm_source=z", "created": day[1]},
        {"text": "aaaaaa", "url": "https://x.org/a", "created": day[0]},
        {"text": "a", "url": "https://X.org/a/", "created": day[2]},
        {"text": "b", "url": "https://x.org/b", "created": None},
        {"text": "bb", "url": "https://x.org/b#c", "created": None},
        {"text": "aaaaaaaaaaaaaa", "url": "https://x.org/a", "created": day[5], "reason": "short"},
        {"text": "aaaaaaaaaaaaaa", "url": "https://x.org/a", "created": day[5], "kind": "qa"},
        {"text": "none", "url": None},
        {"text": "none", "url": None},
    ]
    for keep, gone in (
        ("newest", {0: "d2", 1: "d2", 4: "d3"}),
        ("longest", {0: "d1", 2: "d1", 3: "d4"}),
        ("first", {1: "d0", 2: "d0", 4: "d3"}),
    ):
        for memory in (1 << 30, 1000):
            folder = tmp_path / f"{keep}{memory}"
            folder.mkdir()
            tables, found = written(folder, rows, per_table=4)
            assert find_urls(tables, found, config=Url(keep=keep), memory=memory) == 3  # type: ignore[arg-type]
            told = Changes(found).between(0, 100)
            assert told.schema.equals(CHANGE)
            said = {row["row"]: orjson.loads(row["evidence"])["duplicate_of"] for row in told.to_pylist()}
            assert said == gone
            assert {(row["stage"], row["reason"]) for row in told.to_pylist()} == {("url", "duplicate_url")}


def test_canonical_urls_keeps_nulls_and_slices() -> None:
    urls = pa.array(["x", "http://A.org/", None, "https://b.org/?b=1&a=1"]).slice(1)
    assert canonical_urls(urls).to_pylist() == ["a.org", None, "b.org?a=1&b=1"]


# -- Lines


FOOTER = "All rights reserved by Example Media Ltd., 2019. Terms apply."
LINE = "This very line stands twice in one document, and once would do."


def test_lines_that_stood_before_and_boilerplate_go(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": f"Document number {i} is about {'xyz'[i % 3] * 40}.\n}}\n{FOOTER.replace('2019', str(2010 + i))}\n}}\n"} for i in range(8)
    ]
    rows[2]["text"] += f"{LINE}\nmore\n  {LINE.upper()}\n{LINE}"
    rows[3]["reason"] = "short"  # not counted, not cut
    rows[4]["kind"] = "code"
    rows[5]["text"] = f"```\n{FOOTER}\n{FOOTER}\n```\n"
    tables, found = written(tmp_path, rows)
    assert find_lines(tables, found, config=Lines(max_documents=3, keep=2, digits=True), memory=1 << 30) == 3
    texts, cuts, counts = cut(tables, found)
    for row, old in enumerate(rows):
        if row == 2:
            assert texts[row] == f"Document number 2 is about {'z' * 40}.\n}}\n}}\n{LINE}\nmore\n"
        elif row in (6, 7):  # the first two of 0 1 2 6 7 keep it
            assert texts[row] == "".join(line for line in old["text"].splitlines(True) if "reserved" not in line)
        else:
            assert texts[row] == old["text"]
    assert evidence(found, "lines")[2] == {"repeated": 2, "shared": 1, "documents": 5}
    assert counts == {"lines": sum(len(old["text"].encode()) - len(new.encode()) for old, new in zip(rows, texts, strict=True))}
    assert [bool(cut) for cut in cuts] == [row in (2, 6, 7) for row in range(8)]


def test_lines_do_not_depend_on_memory_and_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"text": "\n".join(f"A line of some length, number {'abcdefghij'[n]}" for n in rng.integers(0, 10, rng.integers(1, 8)))}
        for _ in range(60)
    ]
    written_bytes = set()
    for memory, per_table, group in ((1 << 30, 60, 60), (10_000, 7, 2), (1_000, 13, 5)):
        folder = tmp_path / str(per_table)
        folder.mkdir()
        tables, found = written(folder, rows, per_table=per_table, group=group)
        find_lines(tables, found, config=Lines(max_documents=5, min_chars=10), memory=memory)
        written_bytes.add(cuts_path(found, "lines").read_bytes())
        assert [path.name for path in folder.iterdir() if path.is_dir()] == ["found"]
    assert len(written_bytes) == 1


def test_paragraphs_go_as_a_whole(tmp_path: Path) -> None:
    shared = "The first line of a long paragraph\nand the second line of this long paragraph."
    rows: list[dict[str, Any]] = [{"text": f"Opening {i} of this text here.\n\n{shared}\n\nEnd {i}."} for i in range(3)]
    rows.append({"text": shared.splitlines()[0] + "\n\nalone"})
    tables, found = written(tmp_path, rows)
    assert find_lines(tables, found, config=Lines(max_documents=1, digits=False), memory=1 << 30, stage="paragraphs") == 2
    texts, _, counts = cut(tables, found)
    assert texts == [rows[0]["text"], "Opening 1 of this text here.\n\nEnd 1.", "Opening 2 of this text here.\n\nEnd 2.", rows[3]["text"]]
    assert counts == {"paragraphs": 2 * (len(shared) + 2)}


# -- Substring


def brute(texts: list[bytes], window: int) -> list[set[int]]:
    first: dict[bytes, int] = {}
    out: list[set[int]] = []
    for number, text in enumerate(texts):
        mine: set[int] = set()
        for at in range(len(text) - window + 1):
            if first.setdefault(text[at : at + window], number) < number:
                mine.update(range(at, at + window))
        out.append(mine)
    return out


def corpus(rng: np.random.Generator, rows: int) -> list[dict[str, Any]]:
    words = ["alpha", "beta", "gamma", "delta", "日本", "naïve", "x"]
    parts = [" ".join(words[i] for i in rng.integers(0, 7, rng.integers(3, 40))) for _ in range(12)]
    made: list[dict[str, Any]] = []
    for _ in range(rows):
        text = "; ".join(parts[i] for i in rng.integers(0, 12, rng.integers(1, 5))) + f" {rng.integers(0, 9**9)}"
        made.append({"text": text, "reason": "short" if rng.random() < 0.1 else None, "kind": "code" if rng.random() < 0.1 else "web"})
    return made


@pytest.mark.parametrize(("memory", "per_table", "group"), [(1 << 30, 50, 50), (50_000, 9, 4), (2_000, 16, 3)])
def test_what_is_cut_is_what_the_definition_says(tmp_path: Path, memory: int, per_table: int, group: int) -> None:
    rows = corpus(np.random.default_rng(5), 80)
    tables, found = written(tmp_path, rows, per_table=per_table, group=group)
    find_repeats(tables, found, config=Substring(min_bytes=30, snap="character"), memory=memory)
    texts, cuts, counts = cut(tables, found)
    standing = [i for i, row in enumerate(rows) if row["reason"] is None and row["kind"] == "web"]
    expected = dict(zip(standing, brute([rows[i]["text"].encode() for i in standing], 30), strict=True))
    for number, row in enumerate(rows):
        raw = row["text"].encode()
        gone = {place for span in cuts[number] for place in range(span["offset"], span["offset"] + span["length"])}
        # At a span's ends, bytes of a character that is not whole in it stay.
        wanted = expected.get(number, set())
        assert gone <= wanted
        assert all(raw[place] >= 0x80 for place in wanted - gone)
        assert texts[number].encode() == bytes(byte for place, byte in enumerate(raw) if place not in gone)
    assert sum(map(len, expected.values())) > 3000
    assert counts["substring"] == sum(len(row["text"].encode()) - len(text.encode()) for row, text in zip(rows, texts, strict=True))


def test_substring_files_do_not_depend_on_memory_and_tables(tmp_path: Path) -> None:
    rows = corpus(np.random.default_rng(6), 60)
    written_bytes = set()
    for memory, per_table, group in ((1 << 30, 60, 60), (100_000, 7, 2), (1_000, 13, 5)):
        folder = tmp_path / str(per_table)
        folder.mkdir()
        tables, found = written(folder, rows, per_table=per_table, group=group)
        assert find_repeats(tables, found, config=Substring(min_bytes=40), memory=memory) > 20
        written_bytes.add(cuts_path(found, "substring").read_bytes())
        assert [path.name for path in folder.iterdir() if path.is_dir()] == ["found"]
    assert len(written_bytes) == 1


def test_cuts_end_at_words_and_formulas_stay_whole(tmp_path: Path) -> None:
    shared = "quick brown foxes jump over $a^2 + b^2 = c^2$ and lazy dogs all day"
    rows: list[dict[str, Any]] = [{"text": f"one {shared}"}, {"text": f"unre{shared}ish"}, {"text": shared[:35] + "d^3$ other"}]
    tables, found = written(tmp_path, rows)
    find_repeats(tables, found, config=Substring(min_bytes=30), memory=1 << 30)
    texts, _, _ = cut(tables, found)
    assert texts == [rows[0]["text"], "unrequick dayish", "$a^2 + d^3$ other"]
    told = evidence(found, "substring")
    assert told[1]["longest_kept_in"] == told[2]["longest_kept_in"] == "d0"
    assert told[1]["spans"] == 1


# -- Cuts


def test_a_document_with_too_little_left_is_dropped_whole(tmp_path: Path) -> None:
    shared = "Some boilerplate that everybody has under his pages, word for word."
    rows: list[dict[str, Any]] = [
        {"text": shared + " The first."},
        {"text": shared + " ok"},
        {"text": shared + " A second text of its own."},
    ]
    tables, found = written(tmp_path, rows)
    pq.write_table(pa.table([[1], [None], [None], [None], ["d1~new"]], schema=CHANGE), found / "identity-0000.parquet")
    find_repeats(tables, found, config=Substring(min_bytes=50), memory=1 << 30)
    assert find_short(tables, found, min_chars=10) == 1
    told = [row for row in Changes(found).between(0, 9).to_pylist() if row["reason"]]
    assert told == [
        {"row": 1, "stage": "repeats", "reason": "too_little_left", "evidence": told[0]["evidence"], "new_id": "d1~new"}
    ]  # fmt: skip
    assert orjson.loads(told[0]["evidence"]) == {"chars": 2, "bound": 10, "bytes_cut": len(shared) + 1}
    texts, cuts, _ = cut(tables, found)
    assert texts[:2] == [rows[0]["text"], rows[1]["text"]]
    assert texts[2] == "A second text of its own."
    assert cuts[1] == []
    assert find_short(tables, found, min_chars=1) == 0
    assert not (found / "repeats-0000.parquet").exists()


def test_two_stages_count_a_byte_once_and_offsets_lead_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    rows = [{"text": row["text"].replace("; ", "\n")} for row in corpus(rng, 60)]
    tables, found = written(tmp_path, rows, per_table=17)
    find_lines(tables, found, config=Lines(max_documents=2), memory=1 << 30)
    alone = cut(tables, found)[2]["lines"]
    find_repeats(tables, found, config=Substring(min_bytes=40), memory=1 << 30)
    texts, cuts, counts = cut(tables, found)
    assert counts["lines"] == alone > 0
    assert counts["substring"] > 0
    assert sum(counts.values()) == sum(len(row["text"].encode()) - len(text.encode()) for row, text in zip(rows, texts, strict=True))
    for row, text, spans in zip(rows, texts, cuts, strict=True):
        old, new = row["text"].encode(), text.encode()
        assert all(a["offset"] + a["length"] < b["offset"] for a, b in itertools.pairwise(spans))
        assert bytes(old[before(spans, at)] for at in range(len(new))) == new


def test_places_of_personal_data_move_along(tmp_path: Path) -> None:
    shared = "This sentence stands in both of the documents <EMAIL>, as you see. "
    rows: list[dict[str, Any]] = [{"text": shared}, {"text": "Write <IP> first. " + shared + "Then <PHONE>."}]
    tables, found = written(tmp_path, rows)
    find_repeats(tables, found, config=Substring(min_bytes=50), memory=1 << 30)
    batch = pq.read_table(tables[0].scored).combine_chunks().to_batches()[0]
    span = pa.struct([pa.field("type", pa.string()), pa.field("offset", pa.int64()), pa.field("length", pa.int64())])
    masks = [("EMAIL", "<EMAIL>"), ("IP", "<IP>"), ("PHONE", "<PHONE>")]
    lists = [[{"type": n, "offset": row["text"].index(m), "length": len(m)} for n, m in masks if m in row["text"]] for row in rows]
    batch = batch.append_column("q.pii.spans", pa.array(lists, pa.list_(span)))
    new, _ = apply_cuts(batch, Cuts(found).between(0, 2), 0, np.ones(2, bool))
    text = new.column("text")[1].as_py()
    assert "<EMAIL>" not in text
    assert [(s["type"], text[s["offset"] : s["offset"] + s["length"]]) for s in new.column("q.pii.spans")[1].as_py()] == [
        ("IP", "<IP>"),
        ("PHONE", "<PHONE>"),
    ]
    assert new.column("q.pii.spans")[0].as_py() == lists[0]


def test_no_rows_and_no_repeats_leave_no_files(tmp_path: Path) -> None:
    for rows in ([], [{"text": "alone"}, {"text": ""}, {"text": None}]):
        tables, found = written(tmp_path, rows)
        assert find_urls(tables, found, config=Url(), memory=1 << 20) == 0
        assert find_lines(tables, found, config=Lines(max_documents=1), memory=1 << 20) == 0
        assert find_repeats(tables, found, config=Substring(), memory=1 << 20) == 0
        assert find_short(tables, found, min_chars=10) == 0
        assert not [path for path in found.rglob("*") if path.is_file()]
        texts, cuts, counts = cut(tables, found)
        assert texts == [row["text"] for row in rows]
        assert cuts == [[] for _ in rows]
        assert counts == {}
