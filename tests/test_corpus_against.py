"""A new crawl against earlier corpora: what they hold is not kept again. The oracle is one build of both, the earlier source first."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from codedev._errors import InputError
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.dedup_files import dedup_files

WORDS = ["".join(letters) for letters in itertools.product("bdfgklmnprstvz", "aeiou", "lmnr", "ao")]
DEDUP = {"exact": {}, "url": {"keep": "longest"}, "minhash": {"keep": ["longest"]}}


def documents(seed: int, count: int, of: list[dict[str, str]]) -> list[dict[str, str]]:
    """New ones, and of those given: copies, copies with other blanks, edited copies, other texts under an old id or URL."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        text = " ".join(rng.choices(WORDS, k=rng.randrange(80, 300)))
        row = {"id": f"{seed}-{number}", "text": text, "url": f"https://home{seed}.org/{number}"}
        old = rng.choice(of) if of else row
        match rng.randrange(12) if of else 11:
            case 0:
                row = dict(old)
            case 1:
                row["text"] = old["text"].replace(" ", "  ", 3)
            case 2 | 3 | 4:
                words = old["text"].split()
                words[rng.randrange(len(words))] = "changed"
                row["text"] = " ".join(words) + " and longer" * rng.randrange(2)
            case 5:
                row["id"] = old["id"]
            case 6:
                row["url"] = old["url"] + "?utm_source=new"
            case 7:
                row["text"] = " ".join(old["text"].split()[: rng.randrange(20, 300)])
            case 8 if made:  # near another new one
                row["text"] = rng.choice(made)["text"] + " once more"
        made.append(row)
    return made


OLD = documents(1, 120, [])
OLDER = documents(2, 60, [])
NEW = documents(3, 400, OLD + OLDER)


def crawl(folder: Path, name: str, rows: dict[str, list[dict[str, str]]], workers: int = 1, **dedup: Any) -> dict[str, Any]:
    """One source, as a crawl has month after month, of a file for each key."""
    folder.mkdir(exist_ok=True)
    for file, told in rows.items():
        (folder / f"{file}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in told))
    columns = {"id": "id", "url": "url"}
    source = {"name": "pages", "type": "tables", "paths": [f"{file}.jsonl" for file in rows], "text": "text", "columns": columns}
    recipe = {"name": "c", "sources": [source | {"kind": "web"}], "dedup": DEDUP | dedup, "unit_bytes": 20_000}
    return build(recipes.check(recipe, "recipe"), folder, folder / name, workers=workers)


def kept(out: Path, file: str = "new") -> dict[str, str]:
    return {name: row["text"] for name, row in _rows(out, "documents", file)}


def lost(out: Path, file: str = "new") -> list[dict[str, Any]]:
    return [row for _, row in _rows(out, "dropped", file)]


def _rows(out: Path, folder: str, file: str) -> list[tuple[str, dict[str, Any]]]:
    rows = [row for path in sorted((out / folder).rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return [(row["id"], row) for row in rows if row["origin"]["file"] == f"{file}.jsonl"]


@pytest.fixture(scope="module")
def crawls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crawls")
    crawl(folder, "old", {"old": OLD}, index=True)
    crawl(folder, "older", {"older": OLDER})
    crawl(folder, "joint", {"1": OLD, "2": OLDER, "new": NEW}, minhash={}, url={})
    crawl(folder, "month", {"new": NEW}, against=["old", "older"], minhash={}, url={})
    return folder


def test_what_stays_is_what_one_build_of_both_would_keep(crawls: Path) -> None:
    assert len(kept(crawls / "joint", "1")) == len(OLD), "nothing in the earlier corpora resembles anything there"
    assert kept(crawls / "month") == kept(crawls / "joint")
    assert any("~" in name for name in kept(crawls / "month")), "another text under an old id has an id of its own"
    assert 50 < len(kept(crawls / "month")) < 350


def test_every_drop_names_the_document_that_it_lost_to(crawls: Path) -> None:
    earlier = {**kept(crawls / "old", "old"), **kept(crawls / "older", "older")}
    stages = ["identity", "exact", "url", "near"]  # what won at one may lose at a later one
    mine = dict.fromkeys(kept(crawls / "month"), 4) | {row["id"]: stages.index(row["stage"]) for row in lost(crawls / "month")}
    reasons = set()
    for row, joint in zip(lost(crawls / "month"), lost(crawls / "joint"), strict=True):
        survivor = json.loads(row["evidence"])["duplicate_of"]
        reasons.add(row["reason"])
        assert survivor in earlier if row["reason"].startswith("known_") else mine[survivor] > stages.index(row["stage"]), row
        assert row["reason"].removeprefix("known_") == joint["reason"]
        assert {**row, "reason": joint["reason"]} == joint
    assert reasons >= {"known_duplicate", "known_duplicate_id", "known_duplicate_url", "known_near_duplicate", "near_duplicate"}


def test_an_index_and_the_texts_lead_to_the_same(crawls: Path, tmp_path: Path) -> None:
    """`old` has an index of its own, `older` none; without it, with 2 workers, and from a copy elsewhere: the same bytes."""
    assert sorted(path.name for path in (crawls / "old" / "index" / "pages").iterdir()) == sorted(
        path.name for path in (crawls / "old" / "documents" / "pages").iterdir()
    )
    shutil.copytree(crawls / "old", tmp_path / "there" / "old")
    shutil.copytree(crawls / "older", tmp_path / "there" / "older")
    shutil.rmtree(tmp_path / "there" / "old" / "index")
    crawl(tmp_path, "month", {"new": NEW}, workers=2, against=["there/old", "there/older"], minhash={}, url={})
    for folder in ("documents", "dropped"):
        names = sorted(path.relative_to(crawls / "month") for path in (crawls / "month" / folder).rglob("*.parquet"))
        assert names == sorted(path.relative_to(tmp_path / "month") for path in (tmp_path / "month" / folder).rglob("*.parquet"))
        assert all((crawls / "month" / name).read_bytes() == (tmp_path / "month" / name).read_bytes() for name in names)


def test_an_earlier_document_stays_whatever_keep_prefers(crawls: Path) -> None:
    """A longer copy in the new crawl goes: its shorter original is in the world already."""
    crawl(crawls, "longest", {"new": NEW}, against=["old", "older"])
    mine = {row["id"]: row for row in lost(crawls / "longest") if row["reason"] == "known_near_duplicate"}
    earlier = {**kept(crawls / "old", "old"), **kept(crawls / "older", "older")}
    longer = [row for row in mine.values() if len(row["text"]) > len(earlier[json.loads(row["evidence"])["duplicate_of"]])]
    assert len(longer) > 5
    assert mine.keys() >= {row["id"] for row in lost(crawls / "month") if row["reason"] == "known_near_duplicate"}


def test_an_index_of_another_corpus_is_not_used(crawls: Path, tmp_path: Path) -> None:
    """Rows and description equal: its hash is not the one that the corpus lists. A corpus named twice is no other than once."""
    shutil.copytree(crawls / "old", tmp_path / "old")
    crawl(tmp_path, "backwards", {"1": OLD[::-1]}, index=True)
    for path in (tmp_path / "backwards" / "index").rglob("*.parquet"):
        shutil.copy(path, tmp_path / "old" / path.relative_to(tmp_path / "backwards"))
    shutil.copytree(crawls / "older", tmp_path / "older")
    crawl(tmp_path, "month", {"new": NEW}, workers=2, against=["old", "older", "older"], minhash={}, url={})
    assert kept(tmp_path / "month") == kept(crawls / "month")
    assert [row["evidence"] for row in lost(tmp_path / "month")] == [row["evidence"] for row in lost(crawls / "month")]


def test_a_changed_earlier_corpus_is_noticed(crawls: Path, tmp_path: Path) -> None:
    crawl(tmp_path, "old", {"old": OLD[:1]})
    first = crawl(tmp_path, "month", {"new": NEW}, against=["old"], minhash={}, url={})
    again = crawl(tmp_path, "month", {"new": NEW}, against=["old"], minhash={}, url={})
    assert again == first
    crawl(tmp_path, "old", {"old": OLD})
    second = crawl(tmp_path, "month", {"new": NEW}, against=["old"], minhash={}, url={})
    assert second["totals"]["documents"] < first["totals"]["documents"]
    events = [json.loads(line)["event"] for line in (tmp_path / "month" / "events.jsonl").read_text().splitlines()]
    assert events.count("nothing_to_do") == 1


def test_a_corpus_that_cannot_be_compared_with_is_said_in_one_line(crawls: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(crawls / "old", tmp_path / "torn")
    torn = next((tmp_path / "torn" / "documents").rglob("*.parquet"))
    torn.write_bytes(torn.read_bytes()[:1000])
    shutil.copytree(crawls / "old", tmp_path / "fewer")
    fewer = next((tmp_path / "fewer" / "documents").rglob("*.parquet"))
    pq.write_table(pq.read_table(fewer).slice(1), fewer)
    shutil.copytree(crawls / "old", tmp_path / "other")
    other = next((tmp_path / "other" / "documents").rglob("*.parquet"))
    table = pq.read_table(other)
    pq.write_table(table.set_column(3, "text", table.column("text").take(list(range(table.num_rows))[::-1])), other)
    shutil.rmtree(tmp_path / "other" / "index")
    shutil.copytree(crawls / "old", tmp_path / "outside")
    manifest = tmp_path / "outside" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"documents/pages/', '"../outside/documents/pages/', 1))
    for name, said in [
        ("other", "is not what its corpus wrote"),
        ("outside", "is no part of it"),
        ("none", "holds no finished corpus"),
        ("empty", "holds no finished corpus"),
        ("torn", "cannot be read"),
        ("fewer", "where its manifest says"),
        ("out", "is the corpus that is built here"),
    ]:
        with pytest.raises(InputError, match=said):
            crawl(tmp_path, "out", {"new": NEW[:3]}, against=[name])


def test_parquet_files_against_an_earlier_run(tmp_path: Path) -> None:
    import pyarrow as pa

    for name, rows in (("first", OLD), ("second", NEW)):
        pq.write_table(pa.table({"text": [row["text"] for row in rows]}), tmp_path / f"{name}.parquet")
    dedup_files([tmp_path / "first.parquet"], tmp_path / "one", minhash={})
    report = dedup_files([tmp_path / "second.parquet"], tmp_path / "two", minhash={}, against=[tmp_path / "one"])
    joint = dedup_files([tmp_path / "first.parquet", tmp_path / "second.parquet"], tmp_path / "both", minhash={})
    print(report, joint)
    assert report["kept"] == joint["files"][1]["kept"] < len(NEW)
    assert pq.read_table(tmp_path / "two" / "second.parquet") == pq.read_table(tmp_path / "both" / "second.parquet")
    assert report["dropped"].keys() >= {"known_duplicate", "known_near_duplicate"}


def test_the_same_id_and_text_again_names_the_new_id(tmp_path: Path) -> None:
    rows = [{"id": "x", "text": text, "url": ""} for text in ("first text of many words", "second text", "second text")]
    crawl(tmp_path, "out", {"new": rows}, minhash=None, url=None)
    (row,) = lost(tmp_path / "out")
    assert row["reason"] == "duplicate_id"
    assert kept(tmp_path / "out")[json.loads(row["evidence"])["duplicate_of"]] == "second text"
