"""Whole builds of hostile texts: every kind of cleaning at work, little memory, one worker and two. Nothing hangs, every record is
accounted for, and what is dropped or cut says rightly why."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_support import RAW, TEXTS

from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.kernels.overlap import jaccard
from codedev.kernels.shingles import shingle_hashes

MEMORY = 64 << 20
_NONE = {"languages": None}
# Scored in every way, dropped by nothing, so that all of it meets the barriers.
OPEN = {
    "gopher": {**_NONE, **dict.fromkeys(("min_words", "max_words", "min_mean_word_length", "max_mean_word_length", "max_symbol_ratio",
        "max_bullet_lines", "max_ellipsis_lines", "min_alpha_words", "min_stop_words"))},
    "repetition": {**_NONE, **dict.fromkeys(("max_dup_lines", "max_dup_paragraphs", "max_dup_line_chars", "max_dup_paragraph_chars",
        "max_top_2", "max_top_3", "max_top_4", *(f"max_dup_{n}" for n in range(5, 11))))},
    "c4": {**_NONE, "min_sentences": None, "lorem_ipsum": False, "curly_bracket": False},
    "fineweb": {**_NONE, **dict.fromkeys(("min_terminal_lines", "max_short_lines", "max_dup_line_chars", "max_newlines_per_word"))},
    "refinedweb": {**_NONE, "max_flagged_words": None},
    "maths": {"min_share": None},
    "compression": {},
    "code": dict.fromkeys(("max_line", "max_mean_line", "min_alnum")),
}  # fmt: skip
ALL_FAMILIES = {name: {} for name in OPEN}
PII = dict.fromkeys(("email", "ip", "phone", "card", "iban", "national_id", "secret", "username"), "mask")
DEDUP = {
    "exact": {},
    "url": {},
    "minhash": {},
    "lines": {"max_documents": 3},
    "paragraphs": {},
    "substring": {"min_bytes": 100},
    "min_chars": 5,
}


def run(folder: Path, out: str, sources: list[dict[str, Any]], workers: int = 1, memory: int = MEMORY, **keys: Any) -> dict[str, Any]:
    recipe = {"name": "hostile", "sources": sources, "unit_bytes": 300_000, **keys}
    return build(recipes.check(recipe, "recipe"), folder, folder / out, workers=workers, memory=memory)


def table(folder: Path, part: str) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / part).rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def rows(folder: Path, part: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in table(folder, part)}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("documents", "dropped", "errors")
        for path in sorted((folder / part).rglob("*.parquet"))
    }


def lines_of(path: Path, texts: dict[str, str]) -> dict[str, Any]:
    told = ({"id": name, "text": text, "url": f"http://a.b/{name}"} for name, text in texts.items())
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in told))
    return {"name": path.stem, "type": "tables", "paths": [path.name], "text": "text", "columns": {"id": "id", "url": "url"}, "kind": "web"}


def everything(folder: Path, size: int) -> list[dict[str, Any]]:
    """The texts in JSON lines, Parquet, plain text and code; broken UTF-8 in each of them."""
    texts = {name: make(size).decode() for name, make in TEXTS.items()}
    lines_of(folder / "lines.jsonl", texts)
    with (folder / "lines.jsonl").open("ab") as file:
        odd = (b'"\\ud800"', b'"a\\udfffb"', b'"\\ud83d\\ude00 whole pair"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\u0000"', b"null")
        for number, text in enumerate(odd):
            file.write(b'{"id": "s%d", "text": %s}\n' % (number, text))
    table = pa.table({"id": [f"p {name}" for name in RAW], "text": pa.array([make(size) for make in RAW.values()], pa.binary())})
    columns = [table.column("id").chunk(0), table.column("text").chunk(0).view(pa.string())]  # said to be UTF-8
    pq.write_table(pa.table(columns, names=["id", "text"]), folder / "broken.parquet")
    (folder / "plain").mkdir()
    (folder / "tree" / "repo").mkdir(parents=True)
    for number, make in enumerate((*TEXTS.values(), *RAW.values())):
        (folder / "plain" / f"{number:03d}.txt").write_bytes(make(size))
        (folder / "tree" / "repo" / f"{number:03d}.py").write_bytes(make(size))
    base = {"type": "tables", "text": "text", "columns": {"id": "id"}, "kind": "web"}
    return [
        {**base, "name": "lines", "paths": ["lines.jsonl"], "columns": {"id": "id", "url": "url"}},
        {**base, "name": "broken", "paths": ["broken.parquet"]},
        {"name": "plain", "type": "books", "paths": ["plain"]},
        {"name": "code", "type": "code", "paths": ["tree/*"]},
    ]


@pytest.mark.parametrize("quality", [OPEN, ALL_FAMILIES], ids=["open", "all"])
def test_every_text_through_every_stage(tmp_path: Path, quality: dict[str, Any]) -> None:
    sources = everything(tmp_path, 1500)
    keys = {"language": {"min_score": 0, "passages": True}, "pii": PII, "quality": quality, "dedup": DEDUP}
    manifest = run(tmp_path, "one", sources, **keys)
    if quality is OPEN:
        again = run(tmp_path, "two", sources, 2, **keys)
        assert tree(tmp_path / "one") == tree(tmp_path / "two")
        assert manifest["waterfall"] == again["waterfall"]
    kept, dropped, errors = (table(tmp_path / "one", part) for part in ("documents", "dropped", "errors"))
    records = len(TEXTS) + 7 + len(RAW) + 2 * len({**TEXTS, **RAW})
    assert manifest["totals"]["records"] == len(kept) + len(dropped) + len(errors) == records
    said = Counter(row["kind"] for row in errors)
    assert said["invalid_utf8"] + said["invalid_unicode"] + said["invalid_encoding"] + said["invalid_json"] >= len(RAW), said
    for row in (*kept, *dropped):
        size = len((row["text"] or "").encode())
        for name, value in row.items():
            if name.startswith("q.") and isinstance(value, float):
                assert np.isfinite(value), (row["id"], name)
            if name.startswith("q.") and isinstance(value, int):
                assert value >= 0, (row["id"], name)
        for span in row.get("q.pii.spans") or []:
            assert 0 <= span["offset"] <= span["offset"] + span["length"] <= size
        if row.get("reason"):
            json.loads(row["evidence"])
    if quality is OPEN:
        assert len(kept) > 100


# -- duplicates that are made to take good text with them --------------------------------------------------------------------------------

_RNG = random.Random(8)
_WORDS = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in ("n", "rt", "ss", "l")]


def prose(words: int) -> str:
    return " ".join(_RNG.choice(_WORDS) for _ in range(words))


def right_reasons(folder: Path, texts: dict[str, str]) -> tuple[set[str], dict[str, dict[str, Any]]]:
    """(ids kept, rows dropped), after a look that each near-duplicate is as like to a kept document as it says."""
    kept, dropped = rows(folder, "documents"), rows(folder, "dropped")
    assert kept.keys() | dropped.keys() == {f"s:{name}" for name in texts}
    for row in dropped.values():
        told = json.loads(row["evidence"])
        if row["reason"] == "near_duplicate":
            assert told["duplicate_of"] in kept
            both = [texts[name.removeprefix("s:")] for name in (row["id"], told["duplicate_of"])]
            found = [shingle_hashes(np.frombuffer(text.encode(), np.uint8), np.array([0, len(text)]), unit="figures")[0] for text in both]
            assert round(jaccard(*found), 4) == told["jaccard"] >= 0.8
        elif row["reason"] == "duplicate":
            assert told["duplicate_of"] in kept
    return set(kept), dropped


def built(folder: Path, texts: dict[str, str], **dedup: Any) -> tuple[set[str], dict[str, dict[str, Any]]]:
    run(folder, "out", [lines_of(folder / "s.jsonl", texts)], dedup=dedup)
    return right_reasons(folder / "out", texts)


@pytest.mark.parametrize("number", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dedup", [{"exact": {}}, {"minhash": {}}, {"exact": {}, "minhash": {}}], ids=["exact", "near", "both"])
def test_many_equal_documents_leave_one(tmp_path: Path, number: int, dedup: dict[str, Any]) -> None:
    text = prose(40)
    kept, dropped = built(tmp_path, {f"{n:06d}": text for n in range(number)}, **dedup)
    assert kept == {"s:000000"}
    assert {json.loads(row["evidence"])["duplicate_of"] for row in dropped.values()} == kept


def test_documents_that_begin_alike_are_compared_with_what_stays(tmp_path: Path) -> None:
    words = prose(2000).split()
    kept, dropped = built(tmp_path, {f"{size:05d}": " ".join(words[:size]) for size in range(20, 2001, 20)}, minhash={"keep": ["longest"]})
    assert "s:02000" in kept
    assert dropped
    # Of what goes, each is 0.8 of the survivor's: a chain down to the shortest would leave one document alone.
    assert len(kept) > 10


def test_documents_of_other_figures_stay(tmp_path: Path) -> None:
    texts = {
        f"{n}": f"On day {n} the ferry {n * 7} carried {n * 13} cars and {n + 5} lorries to island {n % 9} in {n * 3} minutes."
        for n in range(500)
    }
    kept, dropped = built(tmp_path, texts, minhash={}, exact={}, substring={"min_bytes": 40})
    assert (len(kept), dropped) == (500, {})


def test_lines_that_all_documents_share_stay_in_the_first(tmp_path: Path) -> None:
    shared = [prose(12) for _ in range(6)]
    texts = {f"{n:03d}": "\n".join(shared) + "\n" for n in range(50)} | {"own": prose(60), "mixed": shared[0] + "\n" + prose(60) + "\n"}
    kept, dropped = built(tmp_path, texts, lines={"max_documents": 3}, min_chars=50)
    assert kept == {"s:000", "s:own", "s:mixed"}
    left = rows(tmp_path / "out", "documents")
    assert left["s:000"]["text"] == texts["000"]
    assert left["s:own"]["text"] == texts["own"]
    assert left["s:mixed"]["text"] == texts["mixed"].split("\n", 1)[1]
    for row in dropped.values():
        assert row["reason"] == "too_little_left"
        assert row["text"] == texts[row["id"].removeprefix("s:")]  # as it was
        told = json.loads(row["evidence"])
        assert (told["chars"], told["bytes_cut"]) == (0, len(row["text"].encode()))


def test_paragraphs_of_one_character_are_never_cut(tmp_path: Path) -> None:
    texts = {f"{n}": "\n\n".join("abcde"[n % 5] for _ in range(200)) for n in range(20)}
    kept, dropped = built(tmp_path, texts, lines={"max_documents": 1}, paragraphs={"max_documents": 1}, min_chars=5)
    assert (len(kept), dropped) == (20, {})


def test_spans_in_circles_keep_a_copy_of_each(tmp_path: Path) -> None:
    """Every document is made of what others hold: of each piece the first copy stays."""
    parts = [prose(40) for _ in range(12)]
    texts = {f"{n:02d}": "\n".join([*parts[n:], *parts[:n]]) for n in range(12)}
    kept, _ = built(tmp_path, texts, substring={"min_bytes": 100}, min_chars=5)
    left = "\n".join(row["text"] for row in rows(tmp_path / "out", "documents").values())
    assert "s:00" in kept
    assert all(part in left for part in parts)


@pytest.mark.parametrize("blank", [" ", "\n", "\t \n", ":a:\n", ":a: \n\n"])
def test_a_book_of_blanks_is_no_asciidoc_at_once(blank: str) -> None:
    """It took two to the power of their number."""
    from codedev.corpus.extract.book.asciidoc import is_asciidoc

    began = time.process_time()
    assert not is_asciidoc(blank * 2000)
    assert is_asciidoc(blank * 20 + "= A title\n\n== A chapter\n") == (blank in "\t \n" or blank.endswith("\n"))
    assert time.process_time() - began < 1
