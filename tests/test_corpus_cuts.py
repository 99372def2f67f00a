"""Barriers that cut text out of documents, and the one on URLs, in whole builds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.repeats.cuts import before

RNG = random.Random(0)
WORDS = ["sun", "moon", "rain", "wind", "hill", "brook", "stone", "leaf", "bird", "road", "village", "morning"]


def prose(words: int) -> str:
    return " ".join(RNG.choice(WORDS) + str(RNG.randrange(1000)) for _ in range(words))


SHARED = prose(120)  # about 1,000 bytes
OWN = [prose(60) for _ in range(8)]
LICENCE = "This page may be copied under the terms that its author has set."
TEXTS = {
    "first": f"{OWN[0]} {SHARED} {OWN[1]}",
    "second": f"{OWN[2]} mail@home.org {SHARED} {OWN[3]}",
    "twice": f"{OWN[4]}\n{LICENCE}\nand more: {OWN[5]}\n{LICENCE}\n",
    "left": SHARED,
    "other": OWN[6],
}


def run(folder: Path, workers: int = 1, **dedup: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    rows = [{"id": name, "text": text, "url": f"https://home.org/{name}"} for name, text in TEXTS.items()]
    rows.append({"id": "again", "text": OWN[7], "url": "http://www.home.org:80/other?utm_source=x#top"})
    (folder / "in.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    source = {"name": "s", "type": "tables", "paths": ["in.jsonl"], "text": "text", "columns": {"id": "id", "url": "url"}, "kind": "web"}
    recipe = {"name": "c", "sources": [source], "pii": {"email": "tag"}, "dedup": dedup, "unit_bytes": 1500}
    return build(recipes.check(recipe, "recipe"), folder, folder / "out", workers=workers)


def table(folder: Path, part: str) -> dict[str, dict[str, Any]]:
    paths = sorted((folder / "out" / part).rglob("*.parquet"))
    return {row["id"].removeprefix("s:"): row for path in paths for row in pq.read_table(path).to_pylist()}


def test_what_repeats_is_cut_and_told(tmp_path: Path) -> None:
    manifest = run(tmp_path, url={"keep": "first"}, lines={"max_documents": 100}, substring={"min_bytes": 300})
    kept, dropped = table(tmp_path, "documents"), table(tmp_path, "dropped")
    assert set(kept) == {"first", "second", "twice", "other"}
    assert kept["first"]["text"] == TEXTS["first"]
    assert kept["second"]["text"].split() == [*OWN[2].split(), "mail@home.org", *OWN[3].split()]
    assert kept["twice"]["text"].count(LICENCE) == 1
    assert OWN[5] in kept["twice"]["text"]
    # Every byte that is left can be found in the text before the cuts; what was found in it before stands where it says.
    for name, row in kept.items():
        data, whole = row["text"].encode(), TEXTS[name].encode()
        assert len(data) + sum(cut["length"] for cut in row["q.cuts"]) == len(whole)
        assert all(whole[before(row["q.cuts"], place)] == byte for place, byte in enumerate(data))
        for span in row["q.pii.spans"]:
            assert data[span["offset"] : span["offset"] + span["length"]] == b"mail@home.org"
    assert [len(row["q.pii.spans"]) for row in kept.values()].count(1) == 1
    assert (dropped["left"]["stage"], dropped["left"]["reason"], dropped["left"]["text"]) == ("repeats", "too_little_left", SHARED)
    assert (dropped["again"]["stage"], dropped["again"]["reason"]) == ("url", "duplicate_url")
    assert json.loads(dropped["again"]["evidence"])["duplicate_of"] == "s:other"
    stages = {stage["stage"]: stage for stage in manifest["waterfall"]["s"]}
    assert list(stages)[-5:] == ["identity", "url", "lines", "substring", "repeats"]
    cut = sum(cut["length"] for row in kept.values() for cut in row["q.cuts"])
    assert stages["lines"]["notes"]["cut_bytes"] + stages["substring"]["notes"]["cut_bytes"] == cut
    assert (stages["repeats"]["rows_in"], stages["repeats"]["rows_out"], stages["repeats"]["drop"]) == (5, 4, {"too_little_left": 1})


def test_workers_and_a_second_run_change_nothing(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"lines": {}, "paragraphs": {}, "substring": {"min_bytes": 300}, "min_chars": 0}
    one = run(tmp_path / "one", **asked)
    assert run(tmp_path / "two", 2, **asked)["parts"] == one["parts"]
    assert run(tmp_path / "one", **asked)["parts"] == one["parts"]
    # Another bound reads nothing raw again and cuts anew; without the barriers the texts are whole.
    run(tmp_path / "one", substring={"min_bytes": 100_000})
    assert table(tmp_path / "one", "documents")["second"]["text"] == TEXTS["second"]
    run(tmp_path / "one")
    assert "q.cuts" not in table(tmp_path / "one", "documents")["second"]


def test_lines_that_differ_in_a_number_stay(tmp_path: Path) -> None:
    """A diary is no boilerplate, unless the recipe says so."""
    diary = "\n".join(f"On {day} May the temperature at noon was {day % 7 + 12} degrees in the shade." for day in range(1, 31))
    tmp_path.joinpath("in.jsonl").write_bytes(orjson.dumps({"text": diary}) + b"\n")
    source = {"name": "s", "type": "tables", "paths": ["in.jsonl"], "text": "text", "kind": "web"}
    left = {}
    for digits in (False, True):
        asked = {"digits": digits} if digits else {}
        recipe = {"name": "c", "sources": [source], "dedup": {"lines": asked, "paragraphs": asked, "min_chars": 0}}
        build(recipes.check(recipe, "recipe"), tmp_path, tmp_path / "out")
        (row,) = table(tmp_path, "documents").values()
        left[digits] = row["text"]
    assert left[False] == diary
    assert left[True].count("On ") == 1
