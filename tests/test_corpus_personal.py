"""Personal data in whole builds: masked before anything else sees the text, recorded by type and place, dropped with evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev._errors import RecipeError
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.normalise import normalise
from codedev.corpus.personal import personal_stage
from codedev.corpus.recipe import Personal

TEXTS = {
    "mail": "Ask joe@home.org or ann@home.de, 漢字 before.",
    "same": "Ask bob@home.org or eve@home.de, 漢字 before.",
    "card": "It was 4111 1111 1111 1111 that paid.",
    "call": "Ring 212-555-0123 at noon.",
    "none": "Nothing of anybody here.",
}


def run(folder: Path, workers: int = 1, **pii: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    with (folder / "in.jsonl").open("wb") as file:
        for name, text in TEXTS.items():
            file.write(orjson.dumps({"id": name, "text": text, "author": "joe"}) + b"\n")
    recipe = {
        "name": "p",
        "sources": [{"name": "s", "type": "tables", "paths": ["in.jsonl"], "text": "text", "columns": {"id": "id"}, "kind": "qa"}],
        "pii": pii,
        "dedup": {"exact": {}},
    }
    return build(recipes.check(recipe, "recipe"), folder, folder / "out", workers=workers)


def table(folder: Path, part: str) -> dict[str, dict[str, Any]]:
    paths = sorted((folder / "out" / part).rglob("*.parquet"))
    return {row["id"].removeprefix("s:"): row for path in paths for row in pq.read_table(path).to_pylist()}


def test_masked_tagged_dropped(tmp_path: Path) -> None:
    manifest = run(tmp_path, email="mask", card="drop", phone="tag", username="mask", masks={"email": "<a mail>"})
    kept, dropped = table(tmp_path, "documents"), table(tmp_path, "dropped")
    assert set(kept) == {"mail", "call", "none"}
    assert kept["mail"]["text"] == "Ask <a mail> or <a mail>, 漢字 before."
    assert kept["call"]["text"] == TEXTS["call"]
    assert "joe" not in json.dumps([row["meta"] for row in kept.values()])
    for row in kept.values():
        data = row["text"].encode()
        for span in row["q.pii.spans"]:
            found = data[span["offset"] : span["offset"] + span["length"]].decode()
            assert found == ("<a mail>" if span["type"] == "email" else "212-555-0123")
        assert row["q.pii.email"] == sum(span["type"] == "email" for span in row["q.pii.spans"])
    assert [row["q.pii.phone"] for row in kept.values()].count(1) == 1
    assert "q.pii.iban" not in kept["mail"]  # not looked for
    assert (dropped["card"]["stage"], dropped["card"]["reason"]) == ("pii", "pii_card")
    assert json.loads(dropped["card"]["evidence"]) == {"q.pii.card": 1, "bound": 0}
    # Documents that differ in an address alone are duplicates once it is masked.
    assert (dropped["same"]["stage"], dropped["same"]["reason"]) == ("exact", "duplicate")
    stage = next(stage for stage in manifest["waterfall"]["s"] if stage["stage"] == "pii")
    assert (stage["rows_in"], stage["rows_out"], stage["drop"]) == (5, 4, {"pii_card": 1})
    assert stage["notes"] == {"email": 4, "masked": 2, "phone": 1, "card": 1}


def test_workers_and_a_second_masking_change_nothing(tmp_path: Path) -> None:
    one = run(tmp_path / "one", email="mask", phone="mask")
    two = run(tmp_path / "two", 2, email="mask", phone="mask")
    assert one["parts"] == two["parts"]
    texts = [row["text"] for row in table(tmp_path / "one", "documents").values()]
    batch = pa.RecordBatch.from_pydict(
        {"text": pa.array(texts, pa.large_string()), "kind": pa.array(["web"] * len(texts)).dictionary_encode()}
    )
    again, counts = personal_stage(Personal(email="mask", phone="mask"))(normalise(batch)[0])
    assert again.column("text").to_pylist() == texts
    assert counts["note.masked"] == 0


def test_null_and_sliced_texts() -> None:
    texts = pa.array(["x", None, "me@home.org", "", "and you@home.org"], pa.large_string())
    batch = pa.RecordBatch.from_pydict({"text": texts, "kind": pa.array(["web"] * 5).dictionary_encode(), "meta": pa.array(["{}"] * 5)})
    stage = personal_stage(Personal(email="mask", username="mask"))
    assert stage(batch)[0].column("text").to_pylist() == ["x", None, "<EMAIL>", "", "and <EMAIL>"]
    assert stage(batch.slice(2))[0].column("text").to_pylist() == ["<EMAIL>", "", "and <EMAIL>"]
    assert stage(batch.slice(3, 1))[0].column("text").to_pylist() == [""]
    assert stage(batch.slice(0, 0))[0].num_rows == 0


def test_a_mask_for_an_unknown_type() -> None:
    with pytest.raises(RecipeError, match="unknown type 'mail': did you mean 'email'"):
        recipes.check(
            {"name": "p", "sources": [{"name": "s", "type": "tables", "paths": ["x"]}], "pii": {"masks": {"mail": "x"}}}, "recipe"
        )
