"""Pieces that meet out of core, against a dictionary that holds them all."""

from __future__ import annotations

import random
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow.parquet as pq
import pytest

from codedev._errors import RunError
from codedev._files import expand
from codedev.corpus import join, sources
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.source import Document, Drop, Extent, Failure, Piece, SourceConfig


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "RUN_BYTES", 20_000)
    monkeypatch.setattr(join, "PART_BYTES", 30_000)
    monkeypatch.setattr(join, "_GROUP_BYTES", 2_000)


def test_groups_hold_every_piece_once_and_in_order(tmp_path: Path, small_runs: None) -> None:
    rng = random.Random(1)
    keys = [f"k{number}" for number in range(200)] + ["", "日本", "\ud800"]
    expected: dict[tuple[int, str], list[Piece]] = defaultdict(list)
    written: dict[int, list[join.Written]] = defaultdict(list)
    for unit in range(5):
        writer = join.PieceWriter(tmp_path / "scored" / f"unit{unit}")
        for number in range(300):
            key = rng.choice(keys) if rng.random() < 0.8 else "often"
            offset = None if number % 7 == 0 else number
            piece = Piece(
                number % 2, key, rng.randbytes(rng.randrange(60)), number % 3, f"file{unit % 3}", offset, 5, "m" if number % 5 else None
            )
            writer.add(piece._replace(file=None) if number % 4 == 0 else piece, f"file{unit % 3}")
            expected[piece.round, key].append(piece)
        writer.flush()
        for name, facts in writer.facts().items():
            written[int(name)].append(facts)
            assert len(facts.runs) > 1
            assert sorted(set(facts.runs)) == facts.runs
    for round_ in (0, 1):
        found: dict[str, list[Piece]] = {}
        spans = join.spans(tmp_path, round_, written[round_])
        assert len(spans) > 3
        for span in spans:
            for key, pieces in join.groups(tmp_path, span):
                assert key not in found
                found[key] = pieces
        assert set(found) == {key for number, key in expected if number == round_}
        for key, pieces in found.items():
            assert sorted(map(repr, pieces)) == sorted(map(repr, expected[round_, key]))
            order = [(p.file, p.offset is None, p.offset, p.member is None, p.member, p.data) for p in pieces]
            assert order == sorted(order, key=lambda o: (o[0], o[1], o[2] or 0, o[3], o[4] or "", o[5]))


def test_no_pieces_no_spans(tmp_path: Path) -> None:
    writer = join.PieceWriter(tmp_path / "unit")
    writer.flush()
    assert writer.facts() == {}
    assert join.spans(tmp_path, 0, []) == []


# A source of lines `<key> <number>`: one document a key. In round 0 those of a key's first letter come together and go on.


class LinesConfig(SourceConfig):
    type: Literal["lines"]
    lose: bool = False


def plan(config: LinesConfig, base: Path, unit_bytes: int) -> Iterator[Extent]:
    for found in expand(config.paths, base):
        yield Extent(found.path, found.name, 0, -1, found.size)


def read(extent: Extent, config: LinesConfig, base: Path) -> Iterator[Document | Drop | Failure | Piece]:
    offset = 0
    for line in Path(extent.file).read_bytes().splitlines(keepends=True):
        key, _, number = line.decode().strip().partition(" ")
        if key == "bad":
            yield Failure("bad", "a bad line", offset)
        elif key == "look":
            yield Piece(1, number, b"look", 0, offset=offset)
        else:
            yield Piece(0, key[:1], orjson.dumps([key, number]), offset=offset)
        offset += len(line)


def gather(number: int, key: str, pieces: list[Piece], config: LinesConfig) -> Iterator[Document | Drop | Failure | Piece]:
    if number == 0:
        for piece in pieces:
            yield piece._replace(round=1, key=orjson.loads(piece.data)[0])
        return
    looks = sum(piece.data == b"look" for piece in pieces)
    records = [piece for piece in pieces if piece.records]
    for piece in records[3:]:
        yield Drop(f"{key}:{piece.file}:{piece.offset}", "too_many", offset=piece.offset, file=piece.file)
    if records:
        numbers = [orjson.loads(piece.data)[1] for piece in records[:3]]
        yield Document(
            key, f"{key}: {' '.join(numbers)}. Looked at {looks} times.", file=records[0].file, records=len(numbers) - config.lose
        )


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    module: Any = types.ModuleType("lines_source")
    module.Config, module.VERSION, module.plan, module.read, module.gather = LinesConfig, 1, plan, read, gather
    module.rounds = lambda config: 2
    monkeypatch.setitem(sys.modules, "lines_source", module)
    monkeypatch.setitem(sources.SOURCES, "lines", "lines_source")
    monkeypatch.setitem(sources.DEFAULT_KIND, "lines", "conversation")
    rng = random.Random(2)
    for file in range(6):
        words = [
            rng.choice(["bad", "look k1", "look k2", *(f"k{n}" for n in range(50)), *(f"z{n}" for n in range(30))]) for _ in range(200)
        ]
        (tmp_path / f"{file}.txt").write_text("".join(f"{w} {n}\n" if " " not in w else f"{w}\n" for n, w in enumerate(words)))
    return tmp_path


def recipe(**more: Any) -> recipes.CorpusRecipe:
    return recipes.check({"name": "j", "sources": [{"name": "l", "type": "lines", "paths": ["*.txt"], **more}], "unit_bytes": 1024}, "j")


def test_a_corpus_of_joined_documents(lines: Path, small_runs: None) -> None:
    manifest = build(recipe(), lines, lines / "out")
    text = "".join(path.read_text() for path in sorted(lines.glob("*.txt")))
    by_key: dict[str, int] = defaultdict(int)
    for line in text.splitlines():
        by_key[line.split()[0]] += 1
    bad, look = by_key.pop("bad"), by_key.pop("look")
    records = sum(by_key.values()) + bad
    totals = manifest["totals"]
    assert (totals["records"], totals["errors"], totals["documents"]) == (records, bad, len(by_key))
    assert totals["dropped"] == sum(max(0, count - 3) for count in by_key.values())
    assert totals["joined"] == records - bad - totals["documents"] - totals["dropped"]
    assert look > 0
    parts = sorted((lines / "out/documents/l").glob("*.parquet"))
    assert len(parts) > 1
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert {row["id"] for row in rows} == set(by_key)
    assert all(row["origin"]["file"].endswith(".txt") for row in rows)
    k1 = next(row for row in rows if row["id"] == "k1")
    assert f"Looked at {text.count('look k1' + chr(10))} times." in k1["text"]


def test_the_size_of_units_does_not_show(lines: Path) -> None:
    found = []
    for size in (1024, 4096, 1 << 20):
        build(recipe().model_copy(update={"unit_bytes": size}), lines, lines / f"out{size}")
        rows = [row for part in sorted((lines / f"out{size}/documents/l").glob("*")) for row in pq.read_table(part).to_pylist()]
        found.append(rows)
    assert found[0] == found[1] == found[2]


def test_lost_records_are_a_bug_that_reaches_no_corpus(lines: Path) -> None:
    with pytest.raises(RunError, match="records with the key"):
        build(recipe(lose=True), lines, lines / "out")
    assert not (lines / "out/manifest.json").exists()


def test_a_build_goes_on_between_rounds(lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build(recipe(), lines, lines / "whole")
    calls = []

    def interrupted(number: int, key: str, pieces: list[Piece], config: LinesConfig) -> Iterator[Any]:
        calls.append(key)
        if number == 1 and key == "k7":
            raise KeyboardInterrupt
        return gather(number, key, pieces, config)

    module = sys.modules["lines_source"]
    monkeypatch.setattr(module, "gather", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(recipe(), lines, lines / "again")
    monkeypatch.setattr(module, "gather", gather)
    again = build(recipe(), lines, lines / "again")
    assert again["parts"] == whole["parts"]
    assert again["totals"] == whole["totals"]
