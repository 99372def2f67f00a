"""Documents taken out of a corpus that `corpus build` made and of shards made from it: what is left is searched byte by byte for planted
texts, every other row is compared, and the work is killed before each of its steps."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from test_tokenize_shards import rows_of, tree

from codedev import cli
from codedev._errors import InputError, RunError
from codedev._run import file_hash, write_json
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.look import look
from codedev.corpus.remove import PENDING, copy_corpus, read_ids, remove_documents
from codedev.corpus.report import report_data
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.export.run import export_shards
from codedev.tokenize.recipe import FimRecipe, TokenizeRecipe
from codedev.tokenize.remove import MODES as MODES_OF_SHARDS
from codedev.tokenize.remove import check_shards, remove_from_shards
from codedev.tokenize.shards import schema
from codedev.tokenize.trace import trace
from codedev.tokenize.train import train_tokenizer
from codedev.tokenize.vocabulary import decode, load_vocabulary
from codedev.train.data import open_shards

ODD = "a b\t'\"ü/..%00~"
WORDS = ["river", "stone", "lamp", "winter", "bread", "north", "glass", "wheel", "letter", "garden", "salt", "under"]


def needle(name: str) -> str:
    """24 letters that stand in one text alone."""
    return "".join(random.Random(f"needle {name}").choices("bcdfghjklmnpqrstvwxz", k=24))


def text_of(name: str) -> str:
    drawn = random.Random(name)
    lines = [" ".join(drawn.choices(WORDS, k=9)) for _ in range(drawn.randrange(2, 14))]
    return "\n".join([*lines, f"{needle(name)} {drawn.random()}", *lines[::-1]])


def chat(name: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Tell me of {name}."}, {"role": "assistant", "content": f"It is {needle(name)}."}] * 2


NOTES = [*(f"n{i}" for i in range(60)), ODD, "empty"]
REMOVED = ["notes:n3", "notes:n4", "notes:n31", f"notes:{ODD}", "chats:c5", "chats:c11", "pairs:p2"]


def names_of(ids: list[str]) -> list[str]:
    return [name.partition(":")[2] for name in ids]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """recipe.yaml, its inputs, the corpus of it, and a tokenizer."""
    home = tmp_path_factory.mktemp("remove")
    notes = [{"id": name, "text": text_of(name) if name != "empty" else " "} for name in NOTES]
    notes.append({"id": "copy", "text": text_of("n3")})  # dropped as a duplicate of notes:n3
    notes.append({"id": "n4", "text": text_of("n4")})  # the same record again, dropped too
    lines = [json.dumps(row, ensure_ascii=False) for row in notes]
    (home / "notes.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
    (home / "chats.jsonl").write_text("".join(json.dumps({"id": f"c{i}", "messages": chat(f"c{i}")}) + "\n" for i in range(20)))
    pairs = [{"id": f"p{i}", "prompt": f"What is p{i}?", "chosen": needle(f"p{i}"), "rejected": "Nothing."} for i in range(8)]
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    for name in ("one", "two"):
        for file in ("a", "b"):
            path = home / "code" / name / f"{file}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'"""{needle(name + file)}"""\n\n\ndef {file}(x):\n    return x + {len(file)}\n')
    sources = [
        {"name": "notes", "type": "tables", "paths": ["notes.jsonl"]},
        {"name": "chats", "type": "tables", "paths": ["chats.jsonl"]},
        {"name": "pairs", "type": "tables", "paths": ["pairs.jsonl"]},
        {"name": "code", "type": "code", "paths": ["code/*"], "mode": "context"},
    ]
    told = {"name": "removal", "unit_bytes": 4096, "sources": sources, "dedup": {"exact": {}, "index": True}}
    (home / "recipe.yaml").write_text(yaml.safe_dump(told))
    build_at(home, home / "corpus")
    train_tokenizer(home / "corpus", home / "tokenizer", vocab_size=600, special_slots=64)
    return home


def build_at(home: Path, out: Path, **keys: Any) -> dict[str, Any]:
    return build(recipes.load(home / "recipe.yaml", tuple(f"{key}={value}" for key, value in keys.items())), home, out)


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "corpus", tmp_path / "corpus")
    return tmp_path / "corpus"


def shards_of(corpus: Path, made: Path, out: Path, **keys: Any) -> Path:
    tokenize_corpus(corpus, made / "tokenizer", out, TokenizeRecipe(**{"seq_len": 128, **keys}))
    return out


def everything(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file's bytes, and every value that its columns hold."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path, path.read_bytes()
        if path.suffix == ".parquet":
            yield path, repr(pq.read_table(path).to_pylist()).encode()


def search(folder: Path, names: list[str]) -> set[str]:
    """Those of the planted texts of which any 10 letters are found."""
    windows = {needle(name)[at : at + 10].encode(): name for name in names for at in range(15)}
    return {windows[window] for _, data in everything(folder) for window in windows if window in data}


def told_in(shards: Path) -> str:
    """All that the rows of shards or tables say."""
    vocabulary = load_vocabulary(shards)
    rows = [row for folder in (shards, shards / "heldout") if folder.is_dir() for row in rows_of(folder)]
    return "\n".join(decode(vocabulary, value) for row in rows for name, value in row.items() if name.endswith("_ids"))


def balanced(corpus: Path) -> dict[str, Any]:
    """The manifest, after it was compared with the files and the report found all of its balances true."""
    manifest: dict[str, Any] = orjson.loads((corpus / "manifest.json").read_bytes())
    for kind, parts in manifest["parts"].items():
        on_disk = {path.relative_to(corpus).as_posix() for path in (corpus / kind).rglob("*.parquet")}
        assert on_disk == {part["path"] for part in parts}
        for part in parts:
            table = pq.read_table(corpus / part["path"])
            assert (table.num_rows, file_hash(corpus / part["path"])) == (part["rows"], part["hash"])
            if kind == "documents":
                assert part["text_bytes"] == sum(len((text or "").encode()) for text in table.column("text").to_pylist())
        if kind != "index":
            assert manifest["totals"][kind] == sum(part["rows"] for part in parts)
    totals = manifest["totals"]
    gone = totals.get("removed", 0) + totals.get("erased", 0)
    assert totals["records"] == totals["documents"] + totals["joined"] + totals["dropped"] + totals["errors"] + gone
    nulls = sum(pq.read_table(corpus / part["path"]).column("licence").null_count for part in manifest["parts"]["documents"])
    assert manifest["totals"]["unknown_licence"] == nulls
    [figure] = [figure for figure in report_data(corpus)["figures"] if figure["id"] == "balance"]
    rows = figure["data"]["table"]["rows"]
    assert len(rows) >= 6
    assert all(row[3] is True for row in rows), rows
    return manifest


def documents(corpus: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for path in sorted((corpus / "documents").rglob("*.parquet")) for row in pq.read_table(path).to_pylist()}


def test_corpus(corpus: Path, made: Path) -> None:
    before, files = documents(corpus), tree(corpus)
    assert set(REMOVED) <= before.keys()
    assert search(corpus, names_of(REMOVED)) == set(names_of(REMOVED))  # so that not finding them says something
    told = remove_documents(corpus, REMOVED)
    assert (told["removed"], told["already"], told["unknown"], told["duplicates"]) == (7, 0, [], ["notes:copy"])
    assert search(corpus, names_of(REMOVED)) == {"n3"}  # the copy under dropped/, which is told of
    manifest = balanced(corpus)
    assert manifest["totals"]["removed"] == 7
    assert {name: stages[-1]["drop"] for name, stages in manifest["waterfall"].items() if stages[-1]["stage"] == "removed"} == {
        "notes": {"user": 4},
        "chats": {"user": 2},
        "pairs": {"user": 1},
    }
    assert manifest["waterfall"]["notes"][-1]["notes"] == {"dropped_erased": 1}
    after = documents(corpus)
    assert after == {name: row for name, row in before.items() if name not in REMOVED}
    assert list(after) == [name for name in before if name not in REMOVED]

    receipt = json.loads((corpus / "removed" / "receipt-00001.json").read_text())
    assert sorted({row["id"] for row in receipt["removed"]}) == sorted(REMOVED)
    changed = {part["path"] for part in receipt["parts"]}
    now = tree(corpus)
    parts = {name for name in files if name.split("/")[0] in ("documents", "dropped", "errors")}
    assert {name for name in parts if now.get(name) != files[name]} == changed
    assert changed < parts  # others were left as they were
    for part in receipt["parts"]:
        assert part["rows"] < part["rows_before"]
    # Index and documents go row group by row group.
    for part in manifest["parts"]["index"]:
        groups = [pq.read_metadata(corpus / kind / Path(part["path"]).relative_to("index")) for kind in ("index", "documents")]
        assert len({tuple(g.row_group(i).num_rows for i in range(g.num_row_groups)) for g in groups}) == 1
        assert pq.read_table(corpus / part["path"]).column("id").to_pylist() == [
            row["id"] for row in pq.read_table(corpus / "documents" / Path(part["path"]).relative_to("index")).to_pylist()
        ]
    with pytest.raises(InputError, match="no document"):
        look(corpus, dropped=None, errors=False, source=None, document_id="notes:n4", limit=3)

    told = remove_documents(corpus, REMOVED, duplicates=True)
    assert (told["removed"], told["already"], told["duplicates"]) == (0, 7, [])
    assert not search(corpus, names_of(REMOVED))
    assert balanced(corpus)["removed"]["receipts"] == ["receipt-00001.json", "receipt-00002.json"]
    told, files = remove_documents(corpus, [*REMOVED, "notes:copy"], duplicates=True), tree(corpus)
    assert told["receipt"] is None
    assert tree(corpus) == files


def test_what_errors_hold_of_the_record(corpus: Path) -> None:
    """An error beside a document of the same record quotes its raw bytes."""
    manifest = orjson.loads((corpus / "manifest.json").read_bytes())
    [part] = [part for part in manifest["parts"]["errors"] if "/notes/" in part["path"]]
    table = pq.read_table(corpus / part["path"])
    [other] = table.to_pylist()
    origin = documents(corpus)["notes:n31"]["origin"]
    row = {**other, **{name: origin[name] for name in ("file", "offset", "member")}, "raw": needle("n31").encode()}
    pq.write_table(pa.Table.from_pylist([row, other], table.schema), corpus / part["path"])
    part |= {"rows": 2, "hash": file_hash(corpus / part["path"])}
    read = manifest["waterfall"]["notes"][0]
    for counts, name in (
        (read, "rows_in"),
        (read["error"], other["kind"]),
        (manifest["totals"], "errors"),
        (manifest["totals"], "records"),
    ):
        counts[name] += 1
    write_json(corpus / "manifest.json", manifest)
    balanced(corpus)
    assert remove_documents(corpus, ["notes:n31"])["removed"] == 1
    assert not search(corpus, ["n31"])
    assert balanced(corpus)["waterfall"]["notes"][-1]["notes"] == {"errors_erased": 1}
    assert pq.read_table(corpus / part["path"]).to_pylist() == [other]


def test_changed_parts_are_refused(corpus: Path) -> None:
    [path] = [
        path for path in (corpus / "documents" / "chats").glob("*.parquet") if "chats:c5" in pq.read_table(path).column("id").to_pylist()
    ]
    pq.write_table(pq.read_table(path), path)
    files = tree(corpus)
    with pytest.raises(InputError, match="is not what the corpus wrote"):
        remove_documents(corpus, ["chats:c5"])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged"):
        remove_documents(corpus, ["chats:c5"])
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        remove_documents(corpus, ["chats:c5"])
    assert set(files) - set(tree(corpus)) == {path.relative_to(corpus).as_posix()}


def test_nothing_and_unknown_and_all(corpus: Path) -> None:
    files = tree(corpus)
    assert remove_documents(corpus, [])["receipt"] is None
    with pytest.raises(InputError, match=r"2 of 3 ids: 'nobody', 'notes'. --missing-ok"):
        remove_documents(corpus, ["nobody", "notes:n1", "notes"])
    assert tree(corpus) == files
    told = remove_documents(corpus, ["nobody", "notes:n1"], missing_ok=True)
    assert (told["removed"], told["unknown"]) == (1, ["nobody"])
    everyone = list(documents(corpus))
    assert remove_documents(corpus, everyone, duplicates=True)["removed"] == len(everyone)
    manifest = balanced(corpus)
    assert not manifest["parts"]["documents"]
    assert not manifest["parts"]["index"]
    assert not search(corpus, [*NOTES, *(f"c{i}" for i in range(20)), "onea", "twob"])


def test_a_build_keeps_them_out(corpus: Path, made: Path) -> None:
    remove_documents(corpus, REMOVED, duplicates=True)
    files = {name: hash_ for name, hash_ in tree(corpus).items() if not name.startswith((".work", "events"))}
    build_at(made, corpus)  # nothing to do
    assert {name: hash_ for name, hash_ in tree(corpus).items() if name in files} == files
    manifest = build_at(made, corpus, **{"dedup.index": "false"})  # another recipe: all is done anew
    assert manifest == balanced(corpus)
    assert manifest["totals"]["removed"] == 7
    assert not search(corpus, names_of(REMOVED))
    assert not set(REMOVED) & documents(corpus).keys()
    again = build_at(made, corpus, **{"dedup.index": "false"})
    assert again == manifest
    assert remove_documents(corpus, [*REMOVED, "notes:n9"])["removed"] == 1  # and then one more
    assert balanced(corpus)["totals"]["removed"] == 8


def test_out_is_a_corpus_of_its_own(corpus: Path, made: Path, tmp_path: Path) -> None:
    files = tree(corpus)
    out = tmp_path / "out"
    copy_corpus(corpus, out)
    shards = shards_of(corpus, made, tmp_path / "shards")
    remove_documents(out, REMOVED, duplicates=True)
    copy_corpus(corpus, out)  # as a second run does
    assert tree(corpus) == files
    assert not search(out, names_of(REMOVED))
    balanced(out)
    remove_from_shards(shards, out)
    assert trace(shards, 0, 0)["corpus"] == {"path": str(out), "same": True}
    assert not any(needle(name)[4:20] in told_in(shards) for name in names_of(REMOVED))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("x")
    with pytest.raises(InputError, match="is not empty"):
        copy_corpus(corpus, tmp_path / "other")


MODES = [
    {"mode": "pt", "fim": FimRecipe(rate=1.0, kinds=("table",)), "holdout": 0.2},
    {"mode": "pt"},
    {"mode": "sft", "seq_len": 512},
]


@pytest.mark.parametrize("keys", MODES)
def test_masked_rows(corpus: Path, made: Path, tmp_path: Path, keys: dict[str, Any]) -> None:
    repositories = [name for name in documents(corpus) if name.startswith("one@")]
    assert repositories
    gone = [*REMOVED, *repositories]
    shards = shards_of(corpus, made, tmp_path / "shards", **keys)
    folders = [shards, *([shards / "heldout"] if keys.get("holdout") else [])]
    before = {folder: rows_of(folder) for folder in folders}
    manifests = {folder: orjson.loads((folder / "manifest.json").read_bytes()) for folder in folders}
    export_shards(shards, tmp_path / "exported", "npy")
    remove_documents(corpus, gone)
    told = remove_from_shards(shards, corpus)
    assert told["stale"] == [str(tmp_path / "exported")]
    vocabulary = load_vocabulary(made / "tokenizer")
    masked = 0
    for folder, old_rows in before.items():
        manifest = orjson.loads((folder / "manifest.json").read_bytes())
        assert manifest["corpus"]["manifest_hash"] == file_hash(corpus / "manifest.json")
        assert all(file_hash(folder / file["name"]) == file["hash"] for file in manifest["files"])
        read = open_shards((folder,))
        new_rows = rows_of(folder)
        assert len(new_rows) == len(old_rows) == manifest["rows"]
        here = 0
        for number, (old, new) in enumerate(zip(old_rows, new_rows, strict=True)):
            held = [name in gone for name in old["segment_documents"]]
            if not any(held):
                assert new == old
                continue
            edges = np.concatenate([[0], np.cumsum(old["segment_lengths"])]).tolist()
            assert new["segment_lengths"] == old["segment_lengths"]
            loss = np.zeros(len(old["input_ids"]), bool)
            for span in [{"start": 0, "end": edges[-1]}] if old["loss_spans"] is None else old["loss_spans"]:
                loss[span["start"] : span["end"]] = True
            for i, is_gone in enumerate(held):
                at = slice(edges[i], edges[i + 1])
                row = {name: (new[name][i], old[name][i]) for name in new if name.startswith("segment_")}
                if not is_gone:
                    assert new["input_ids"][at] == old["input_ids"][at]
                    assert all(one == other for one, other in row.values())
                    continue
                here += edges[i + 1] - edges[i]
                loss[at] = False
                assert set(new["input_ids"][at]) == {vocabulary.pad_id}
                assert [row[f"segment_{name}"][0] for name in ("documents", "bytes", "positions")] == ["", 0, -1]
            spans = np.zeros(len(loss), bool)
            for span in new["loss_spans"]:
                spans[span["start"] : span["end"]] = True
            assert (spans == loss).all()
            rows = read.read(np.array([number]))
            assert (rows.targets[0] == (loss & (rows.positions[0] > 0))).all()  # what the trainer learns from
            kept = [part for part in old["parts"] or () if part["document"] not in gone]
            assert (new["parts"] or []) == kept
            at = edges[held.index(True)]
            with pytest.raises(InputError, match="was removed"):
                trace(folder, number, at)
            assert trace(folder, number)["segments"][held.index(True)]["document"] == ""
            if False in held and keys["mode"] == "pt":
                assert trace(folder, number, edges[held.index(False)] + 1)["corpus"]["same"]
        counts, old_counts = manifest["counts"], manifests[folder]["counts"]
        assert counts.get("tokens_masked", 0) == here
        assert counts["bytes"] - counts["bytes_truncated"] == sum(sum(row["segment_bytes"]) for row in new_rows)
        assert counts["documents"] == old_counts["documents"] - counts["documents_removed"]
        masked += here
    assert told["tokens"] == masked > 50
    said = told_in(shards)
    for name in [*names_of(REMOVED), "onea", "oneb"]:
        assert not any(needle(name)[at : at + 8] in said for at in range(17))
    others = {"pt": [f"n{i}" for i in range(40, 60)], "sft": ["c1", "c2"]}[str(keys["mode"])]
    assert any(needle(name) in said for name in others)  # as it stands, or at least what is not cut
    export_shards(shards, tmp_path / "exported", "npy")  # which checks every row and count
    files = tree(shards)
    shards_of(corpus, made, shards, **keys)  # there is nothing to do
    assert remove_from_shards(shards, corpus)["receipts"] == []
    assert tree(shards) == files


@pytest.mark.parametrize("keys", MODES)
def test_repacked_rows(corpus: Path, made: Path, tmp_path: Path, keys: dict[str, Any]) -> None:
    shards = shards_of(corpus, made, tmp_path / "shards", **keys)
    before = rows_of(shards)
    remove_documents(corpus, REMOVED)
    remove_from_shards(shards, corpus, mode="repack")
    after = rows_of(shards)
    manifest = orjson.loads((shards / "manifest.json").read_bytes())
    counts = manifest["counts"]

    def pieces(rows: list[dict[str, Any]]) -> list[Any]:
        """Each segment with all that is said of it, wherever it stands."""
        found = []
        for row in rows:
            at = 0
            for i, length in enumerate(row["segment_lengths"]):
                inside = range(at, at + length)
                spans = [[at, at + length]] if row["loss_spans"] is None else [list(span.values()) for span in row["loss_spans"]]
                loss = [any(low <= token < high for low, high in spans) for token in inside]
                parts = [{**part, "start": part["start"] - at} for part in row["parts"] or () if part["start"] in inside]
                columns = [row[name][i] for name in row if name.startswith("segment_")]
                found.append(repr((columns, row["input_ids"][at : at + length], loss, parts)))
                if columns[1] in REMOVED:
                    found.pop()
                at += length
            assert set(row["input_ids"][at:]) <= {manifest["pad_id"]}
        return sorted(found)

    assert pieces(after) == pieces(before)
    whole = [row for row in before if not set(row["segment_documents"]) & set(REMOVED)]
    assert [row for row in after if row in whole] == whole
    assert counts["tokens_packed"] == sum(sum(row["segment_lengths"]) for row in after) == counts["tokens_in"] - counts["tokens_truncated"]
    assert counts["padding"] == len(after) * manifest["seq_len"] - counts["tokens_packed"]
    assert counts["segments"] == sum(len(row["segment_lengths"]) for row in after)
    assert counts["tokens_removed"] > 50
    assert manifest["rows"] == len(after) <= len(before)
    for number in range(len(after)):  # a row is found by its number
        assert [one["document"] for one in trace(shards, number)["segments"]] == after[number]["segment_documents"]
    export_shards(shards, tmp_path / "exported", "npy")


@pytest.mark.parametrize("mode", ["mask", "repack"])
def test_many_batches_and_all_documents(corpus: Path, made: Path, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codedev.tokenize.shards.BATCH_BYTES", 1024)
    monkeypatch.setattr("codedev.tokenize.shards.FILE_BYTES", 9000)
    shards = shards_of(corpus, made, tmp_path / "shards")
    assert len(list(shards.glob("shard-*.arrow"))) > 2
    before = rows_of(shards)
    remove_documents(corpus, ["notes:n7", "notes:n8"])
    remove_from_shards(shards, corpus, mode=mode)
    remove_documents(corpus, REMOVED)  # a second one, on shards of the corpus before it
    remove_documents(corpus, ["notes:n9"])  # and a third
    check_shards(shards, corpus)
    remove_from_shards(shards, corpus, mode=mode)
    gone = {*REMOVED, "notes:n7", "notes:n8", "notes:n9"}
    after = rows_of(shards)
    whole = [row for row in before if not set(row["segment_documents"]) & gone]
    assert [row for row in after if row in whole] == whole
    for number in range(len(after)):
        assert [one["document"] for one in trace(shards, number)["segments"]] == after[number]["segment_documents"]
    remove_documents(corpus, list(documents(corpus)))
    remove_from_shards(shards, corpus, mode=mode)
    after = rows_of(shards)
    assert not {name for row in after for name in row["segment_documents"]} - {""}
    assert (mode == "mask") == bool(after)
    assert {token for row in after for token in row["input_ids"]} <= {load_vocabulary(made / "tokenizer").pad_id}


def test_parts_of_another_document(tmp_path: Path, corpus: Path, made: Path) -> None:
    """A segment that holds a part of a removed document goes whole, with all of its parts."""
    shards = shards_of(corpus, made, tmp_path / "shards")
    part = {"position": 0, "byte_begin": 0}
    row = {
        "input_ids": list(range(100, 108)),
        **{f"segment_{name}": [1, 2, 3] for name in ("lengths", "offsets", "bytes", "byte_offsets", "positions")},
        "segment_documents": ["a", "b", "c"],
        "loss_spans": [{"start": 0, "end": 2}, {"start": 4, "end": 5}],
        "parts": [
            {"start": 1, "document": "b", **part},
            {"start": 2, "document": "notes:n3", **part},
            {"start": 3, "document": "c", **part},
        ],
    }
    layout = schema(8, np.dtype(np.uint16))
    with pa.ipc.new_file(str(shards / "shard-00000.arrow"), layout) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist([row], layout))
    manifest = orjson.loads((shards / "manifest.json").read_bytes())
    file = {"name": "shard-00000.arrow", "rows": 1, "hash": file_hash(shards / "shard-00000.arrow")}
    write_json(shards / "manifest.json", {**manifest, "files": [file], "rows": 1, "seq_len": 8})
    remove_documents(corpus, ["notes:n3"])
    remove_from_shards(shards, corpus)
    [found] = rows_of(shards)
    pad = manifest["pad_id"]
    assert found["input_ids"] == [100, pad, pad, 103, 104, 105, 106, 107]
    assert found["segment_documents"] == ["a", "", "c"]
    assert found["loss_spans"] == [{"start": 0, "end": 1}, {"start": 4, "end": 5}]
    assert found["parts"] == [{"start": 3, "document": "c", **part}]


def test_tables_lose_the_rows(corpus: Path, made: Path, tmp_path: Path) -> None:
    shards = shards_of(corpus, made, tmp_path / "pairs", mode="preference")
    before = rows_of(shards)
    assert needle("p2") in told_in(shards)
    remove_documents(corpus, REMOVED)
    remove_from_shards(shards, corpus)
    assert rows_of(shards) == [row for row in before if row["document"] != "pairs:p2"]
    counts = orjson.loads((shards / "manifest.json").read_bytes())["counts"]
    assert counts["documents"] == counts["pairs"] + counts["dropped"]
    assert counts["pairs"] == 7
    tokens = {name: sum(len(row[name]) for row in rows_of(shards) if name in row) for name in counts["tokens"]}
    assert counts["tokens"] == tokens
    assert needle("p2")[4:16] not in told_in(shards)


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: Path | str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["codedev", "corpus", "remove", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), *capfd.readouterr()

    return run


def test_other_corpora_are_refused(corpus: Path, made: Path, tmp_path: Path, command: Command) -> None:
    shards = shards_of(corpus, made, tmp_path / "shards")
    build_at(made, tmp_path / "other", seed=7)
    (tmp_path / "ids.txt").write_text("notes:n3\n")
    files = tree(tmp_path / "other"), tree(shards)
    code, _, err = command(tmp_path / "other", "--ids", tmp_path / "ids.txt", "--shards", shards)
    assert code == 1
    assert "was not made from" in err
    assert (tree(tmp_path / "other"), tree(shards)) == files
    for where in (tmp_path / "nowhere", made):
        with pytest.raises(InputError):
            check_shards(where, corpus)


def test_lists_of_ids(tmp_path: Path) -> None:
    odd = [ODD, "x,y", "z\nz", " blank "]
    pq.write_table(pa.table({"other": [1, 2, 3, 4, 5], "id": [*odd, None]}), tmp_path / "a.parquet")
    assert read_ids(tmp_path / "a.parquet") == odd
    (tmp_path / "a.csv").write_text('n,id\n1,"x,y"\n2,"z\nz"\n3,007\n')
    assert read_ids(tmp_path / "a.csv") == ["x,y", "z\nz", "007"]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\n two\t\n\xc3\xbc\none")
    assert read_ids(tmp_path / "a.txt") == ["one", " two\t", "ü"]
    (tmp_path / "empty").write_text("")
    assert read_ids(tmp_path / "empty") == []
    (tmp_path / "bad").write_bytes(b"ok\n\xff\n")
    (tmp_path / "bad.csv").write_text("name\n1\n")
    (tmp_path / "bad.parquet").write_text("no")
    pq.write_table(pa.table({"name": [1]}), tmp_path / "none.parquet")
    for name in ("bad", "bad.csv", "bad.parquet", "none.parquet", "missing", "missing.csv"):
        with pytest.raises(InputError, match=name):
            read_ids(tmp_path / name)


class Killed(BaseException):
    """Nothing is done after it: what cleans up behind an exception fails too, as if the process were gone."""


@contextlib.contextmanager
def killed_before(step: int) -> Iterator[None]:
    """The process ends before the change of a directory with this number, counted from 1."""
    calls = 0

    def counted(function: Any) -> Any:
        def call(*paths: Any, **how: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= step:
                raise Killed
            return function(*paths, **how)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink", "rmdir"):
            patch.setattr(os, name, counted(getattr(os, name)))
        yield


def test_killed_anywhere(made: Path, tmp_path: Path) -> None:
    shards = shards_of(made / "corpus", made, tmp_path / "shards", holdout=0.2)

    def run(home: Path, mode: str, step: int = 1 << 30) -> bool:
        """Whether it ended."""
        if not home.is_dir():
            shutil.copytree(made / "corpus", home / "corpus")
            shutil.copytree(shards, home / "shards")
        try:
            with killed_before(step):
                remove_documents(home / "corpus", REMOVED, duplicates=True)
                remove_from_shards(home / "shards", home / "corpus", mode=mode)
        except Killed:
            return False
        return True

    def result(home: Path) -> dict[str, str]:
        found = tree(home)
        found.pop("corpus/events.jsonl")
        return found

    expected = {}
    for mode in MODES_OF_SHARDS:
        assert run(tmp_path / mode, mode)
        expected[mode] = result(tmp_path / mode)
    steps = killed = 0
    while True:
        steps += 1 + steps // 3
        mode = MODES_OF_SHARDS[killed % 2]
        home = tmp_path / f"killed{steps}"
        if run(home, mode, steps):
            break
        killed += 1
        for folder in ("corpus", "shards", "shards/heldout"):  # a manifest that is there names what is there
            if (home / folder / "manifest.json").is_file():
                manifest = orjson.loads((home / folder / "manifest.json").read_bytes())
                parts = [part for kind in manifest["parts"].values() for part in kind] if "parts" in manifest else manifest["files"]
                assert all(file_hash(home / folder / part.get("path", part.get("name"))) == part["hash"] for part in parts)
        if steps < 8 and (home / "corpus" / "removed" / PENDING).is_file():
            with pytest.raises(RunError, match="codedev corpus remove"):
                build_at(made, home / "corpus")
        if steps % 2:
            run(home, mode, 1 + steps // 2)  # killed again, elsewhere
        assert run(home, mode)
        assert result(home) == expected[mode]
        shutil.rmtree(home)
    assert killed > 8


def test_command(corpus: Path, made: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = shards_of(corpus, made, tmp_path / "shards")
    ids = tmp_path / "ids.txt"
    ids.write_text("notes:n3\nnobody\x1b\n")
    arguments = [corpus, "--ids", ids, "--shards", shards]
    code, _, err = command(*arguments)
    assert code == 1
    assert "1 of 2 ids" in err
    code, out, err = command(*arguments, "--missing-ok")
    assert code == 0, err
    assert "1 documents removed, 0 ids removed before, 1 unknown" in out
    assert "--duplicates" in err
    assert "\x1b" not in out + err
    code, out, err = command(*arguments, "--missing-ok", "--json", "--duplicates", "--out", tmp_path / "out")
    assert code == 0, err
    assert json.loads(out)["already"] == 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"notes:n9\n")))
    assert command(corpus, "--ids", "-")[0] == 0
    assert "notes:n9" not in documents(corpus)
