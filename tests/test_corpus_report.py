"""The report against brute force over the rows it was made from, against hostile text, and in a real browser."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import math
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev._errors import InputError
from codedev.corpus.document import DOCUMENT, DROPPED, ERROR
from codedev.corpus.engines.local import engine
from codedev.corpus.report import report_data, write_report
from codedev.corpus.report.sketch import Sketch, TopSums
from codedev.corpus.report.text import evidence, neutral, share, size

STAGES = ("read", "normalise", "language", "gopher", "identity", "exact")
ROWS_A_PART = 700


def document(name: str, text: str | None, **columns: Any) -> dict[str, Any]:
    row = dict.fromkeys(DOCUMENT.names) | {"id": name, "text": text, "kind": "web", "meta": "{}"}
    return row | {"origin": {"file": f"{name}.warc", "offset": 7, "length": None, "member": None}} | columns


def drop(row: dict[str, Any], stage: str, reason: str, **seen: Any) -> dict[str, Any]:
    return {name: row.get(name) for name in DOCUMENT.names} | {"stage": stage, "reason": reason, "evidence": json.dumps(seen)}


def error(file: str, kind: str, message: str = "no", **columns: Any) -> dict[str, Any]:
    return {"file": file, "offset": 5, "member": None, "kind": kind, "message": message, "raw": b"raw"} | columns


def write_corpus(
    root: Path,
    sources: dict[str, dict[str, list[dict[str, Any]]]],
    *,
    multiply: int = 1,
) -> Path:
    """A corpus directory of {source: {kept, dropped, errors}}; `multiply` inflates the counters of the manifest alone."""
    manifest: dict[str, Any] = {
        "format": "codedev.corpus/1",
        "name": root.name,
        "codedev": "0.1.0",
        "recipe_hash": "0123456789abcdef",
        "seed": 0,
        "sources": [],
        "waterfall": {},
        "totals": Counter(records=0, documents=0, dropped=0, errors=0, bytes_in=0, text_bytes=0),
        "parts": {"documents": [], "dropped": [], "errors": []},
    }
    for name, rows in sources.items():
        kept, dropped, errors = (rows.get(table, []) for table in ("kept", "dropped", "errors"))
        extra = sorted({column for row in kept for column in row if column.startswith("q.")})
        schema = pa.schema([*DOCUMENT, *(pa.field(column, pa.float32()) for column in extra)], metadata=DOCUMENT.metadata)
        for table, found, form in (("documents", kept, schema), ("dropped", dropped, DROPPED), ("errors", errors, ERROR)):
            for part, start in enumerate(range(0, len(found), ROWS_A_PART)):
                path = f"{table}/{name}/part-{part:05d}.parquet"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                block = [
                    {column: row.get(column) for column in form.names} | {"source": name} for row in found[start : start + ROWS_A_PART]
                ]
                pq.write_table(pa.Table.from_pylist(block, schema=form), root / path, compression="zstd")
                manifest["parts"][table].append({"path": path, "rows": len(block), "hash": "0"})
        left, steps = (len(kept) + len(dropped) + len(errors)) * multiply, []
        for stage in STAGES:
            lost = Counter(row["reason"] for row in dropped if row["stage"] == stage)
            failed = Counter(row["kind"] for row in errors) if stage == "read" else Counter()
            step = {"stage": stage, "rows_in": left, "drop": {reason: number * multiply for reason, number in lost.items()}}
            step["error"] = {kind: number * multiply for kind, number in failed.items()}
            left -= (lost.total() + failed.total()) * multiply
            steps.append(step | {"rows_out": left} | ({"notes": {"nfc_changed": 3}} if stage == "normalise" else {}))
        manifest["waterfall"][name] = steps
        manifest["sources"].append({"name": name, "type": "code" if name == "github" else "web", "files": 12, "bytes_in": 123_456})
        text = sum(len(row["text"].encode()) for row in kept)
        totals = {
            "records": steps[0]["rows_in"],
            "documents": left,
            "dropped": len(dropped),
            "errors": len(errors),
            "bytes_in": 123_456,
            "text_bytes": text,
        }
        manifest["totals"].update(totals)
    root.mkdir(parents=True, exist_ok=True)
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


def made_up(seed: int, documents: int = 900) -> dict[str, list[dict[str, Any]]]:
    """Documents with skewed lengths, languages, licences, domains and scores; drops of four reasons, errors of two kinds."""
    draw = random.Random(seed)
    kept, dropped, errors = [], [], []
    for index in range(documents):
        text = "wörd 文 " * max(1, int(draw.lognormvariate(3, 1.4)))
        words = float(len(text.split()))
        row = document(
            f"{seed}-{index}",
            text,
            lang=draw.choice(["en"] * 6 + ["fr", "zh", None]),
            licence=draw.choice(["CC-BY-4.0", "MIT", None]),
            url=f"https://www.site{min(int(draw.expovariate(0.1)), 40)}.example.org/page/{index}",
        )
        if words < 10:
            dropped.append(drop(row, "gopher", "too_few_words", **{"q.gopher.words": words, "bound": 10}))
        elif index % 17 == 0:
            dropped.append(drop(row, "exact", "duplicate", duplicate_of=f"{seed}-0"))
        elif index % 29 == 0:
            dropped.append(drop(row | {"text": None}, "read", "not_html", type="image/png"))
        elif index % 97 == 0:
            errors.append(
                error(f"f{index}.warc.gz", draw.choice(["truncated", "invalid_utf8"]), f"record {index} ends early", offset=index)
            )
        else:
            kept.append(row | {"q.gopher.words": words, "q.gopher.symbol_ratio": draw.random() ** 3})
    return {"kept": kept, "dropped": dropped, "errors": errors}


def figures(corpus: Path) -> dict[str, dict[str, Any]]:
    return {figure["id"]: figure["data"] for figure in report_data(corpus)["figures"]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, list[dict[str, Any]]]]]:
    sources = {"web": made_up(1), "more-web": made_up(2, 400)}
    return write_corpus(tmp_path_factory.mktemp("report") / "two-sources", sources), sources


def test_sketch_quantiles_are_within_a_cell_of_numpys() -> None:
    draw = np.random.default_rng(0)
    for values in (
        draw.integers(0, 256, 5000),
        draw.lognormal(6, 3, 5000).astype(np.int64),
        draw.normal(0, 40, 5000),
        draw.random(4999).astype(np.float32),
    ):
        sketch = Sketch()
        for part in np.array_split(values, 7):
            sketch.add(part)
        for at in (0.001, 0.1, 0.5, 0.9, 0.99, 1.0):
            true = float(np.quantile(values, at, method="inverted_cdf"))
            found = sketch.quantile(at)
            assert found is not None
            assert abs(found - true) <= abs(true) / 128
            if values.dtype.kind == "i" and true < 256:
                assert found == true
        assert sketch.high == values.max()
        assert sketch.low == values.min()
        assert sketch.count == len(values)
    assert Sketch().quantile(0.5) is None


def test_sketch_histograms_count_every_value_once() -> None:
    values = np.array([0, 1, 2, 3, 4, 7, 8, 1023, 1024, np.nan, np.inf])
    sketch = Sketch()
    sketch.add(values)
    assert sketch.octaves() == {None: 1, 0: 1, 1: 2, 2: 2, 3: 1, 9: 1, 10: 1}
    tenths = Sketch()
    tenths.add(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert tenths.linear(0, 1, 4) == [1, 1, 1, 2]


@pytest.mark.parametrize("merged", [False, True])
def test_top_sums_never_lose_a_heavy_name_and_say_how_far_they_are_off(merged: bool) -> None:
    draw = random.Random(0)
    true: Counter[str] = Counter()
    sums = TopSums(capacity=50)
    parts = [TopSums(capacity=50) for _ in range(4)]
    for number in range(20_000):
        name, weight = f"n{int(draw.paretovariate(0.7))}", draw.randrange(1, 100)
        true[name] += weight
        (parts[number % 4] if merged else sums).add([(name, weight, 1)])
    for part in parts:
        sums.merge(part)
    assert len(sums.sums) < 100 < len(true)
    assert sums.documents == 20_000
    assert sums.bytes == true.total()
    assert 0 < sums.short_by < true.total() / 50
    found = {name: weight for name, weight, _ in sums.top()}
    for name, weight in true.items():
        assert 0 <= weight - found.get(name, 0) <= sums.short_by


def test_figures_agree_with_brute_force(corpus: tuple[Path, dict[str, dict[str, list[dict[str, Any]]]]]) -> None:
    root, sources = corpus
    found = figures(root)
    kept = [row for rows in sources.values() for row in rows["kept"]]
    dropped = [row for rows in sources.values() for row in rows["dropped"]]
    errors = [row for rows in sources.values() for row in rows["errors"]]
    tiles = {tile["label"]: tile["value"] for tile in found["headline"]["tiles"]}
    assert tiles["Records read"] == len(kept) + len(dropped) + len(errors)
    assert (tiles["Documents kept"], tiles["Dropped"], tiles["Errors"]) == (len(kept), len(dropped), len(errors))
    assert tiles["Text kept"] == sum(len(row["text"].encode()) for row in kept)
    assert tiles["Unknown licence"] == sum(row["licence"] is None for row in kept) / len(kept)
    assert tiles["The books"] == "balance"

    reasons = Counter((row["stage"], row["reason"]) for row in dropped)
    assert [(group["place"], group["name"], group["count"]) for group in found["drops"]["groups"]] == [
        (*key, number) for key, number in sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))
    ]
    kinds = Counter(row["kind"] for row in errors)
    assert {group["name"]: group["count"] for group in found["errors"]["groups"]} == kinds

    for group in found["languages"]["groups"]:
        true = Counter(row["lang"] or "unknown" for row in sources[group["name"]]["kept"])
        assert {bar["label"]: bar["value"] for bar in group["bars"]} == true
    (domains,) = found["concentration"]["groups"]
    weights: Counter[str] = Counter()
    for row in kept:
        weights[row["url"].split("/")[2].removeprefix("www.")] += len(row["text"].encode())
    top = [(bar["label"], bar["value"]) for bar in domains["bars"] if bar["tone"] == "kept"]
    assert top == sorted(weights.items(), key=lambda entry: (-entry[1], entry[0]))[:15]
    assert sum(bar["value"] for bar in domains["bars"]) == weights.total()

    panel = next(panel for panel in found["lengths"]["panels"] if panel["name"] == "All sources")
    for series, rows in zip(panel["series"], (kept, dropped), strict=True):
        true = [len(row["text"]) for row in rows if row["text"] is not None]
        edges = panel["edges"]
        assert series["counts"] == [sum(low <= n < high for n in true) for low, high in itertools.pairwise(edges)]
    (row,) = (row for row in found["lengths"]["table"]["rows"] if row[:2] == ["web", "kept"])
    true_chars = [len(row["text"]) for row in sources["web"]["kept"]]
    for at, value in zip((0.1, 0.5, 0.9, 0.99), row[3:7], strict=True):
        assert value == pytest.approx(np.quantile(true_chars, at, method="inverted_cdf"), rel=1 / 128)

    words = next(panel for panel in found["scores"]["panels"] if panel["name"] == "gopher.words")
    assert {"at": 10.0, "label": "bound 10"} in words["marks"]
    assert sum(words["series"][0]["counts"]) == len(kept)


def test_moved_bounds_change_what_polars_counts(corpus: tuple[Path, dict[str, dict[str, list[dict[str, Any]]]]]) -> None:
    root, _ = corpus
    curves = {figure["id"]: figure["data"] for figure in report_data(root)["figures"]}["change"]["curves"]
    kept = pl.read_parquet(root / "documents/**/*.parquet", missing_columns="insert")
    dropped = pl.read_parquet(root / "dropped/**/*.parquet")
    assert curves
    for curve in curves:
        column, bound = curve["column"], curve["bound"]
        said = dropped.filter(stage=curve["stage"], reason=curve["reason"])["evidence"]
        lost = pl.Series([json.loads(line)[column] for line in said if json.loads(line).get("bound") == bound], dtype=pl.Float64)
        assert len(lost) == curve["dropped"] > 0
        changes = []
        for point, move in zip(curve["points"], (0.5, 0.8, 0.9, 1.1, 1.25, 2.0), strict=True):
            at = point["at"]
            assert bound * move * (1 - 1 / 128) < at <= bound * move
            if curve["side"] == "at least":
                counted = (lost >= at).sum() if move < 1 else -(kept[column] < at).sum()
            else:
                counted = (lost < at).sum() if move > 1 else -(kept[column] >= at).sum()
            assert point["change"] == counted
            changes.append(counted)
        assert changes == sorted(changes, reverse=curve["side"] == "at least")
        assert any(changes)


def test_examples_are_those_whose_id_hashes_lowest(corpus: tuple[Path, dict[str, dict[str, list[dict[str, Any]]]]]) -> None:
    import xxhash

    root, sources = corpus
    dropped = [row for rows in sources.values() for row in rows["dropped"]]
    groups = figures(root)["drops"]["groups"]
    for group in groups:
        ids = [row["id"] for row in dropped if row["reason"] == group["name"]]
        assert [example["id"] for example in group["examples"]] == sorted(ids, key=lambda name: xxhash.xxh3_64_intdigest(name.encode()))[:3]
        assert all(len(example["text"] or "") <= 401 for example in group["examples"])
    few = next(group for group in groups if group["name"] == "too_few_words")
    assert re.fullmatch(r"gopher\.words = \d+, bound 10", few["examples"][0]["said"])
    assert next(group for group in groups if group["name"] == "not_html")["examples"][0]["text"] is None


def test_the_same_corpus_gives_the_same_bytes(corpus: tuple[Path, Any], tmp_path: Path) -> None:
    root, sources = corpus
    twin = write_corpus(tmp_path / root.name, sources)
    index = write_report(root)
    assert index == root / "report" / "index.html"
    write_report(twin)
    write_report(twin)  # a report in the directory changes nothing
    for name in ("index.html", "report.json", "report.md"):
        assert (root / "report" / name).read_bytes() == (twin / "report" / name).read_bytes()
    assert json.loads((root / "report" / "report.json").read_bytes()) == report_data(root)


def test_whoever_gathers_the_parts_the_report_is_the_same(corpus: tuple[Path, Any], tmp_path: Path) -> None:
    root, sources = corpus
    write_report(root)
    backwards = write_corpus(tmp_path / "backwards" / root.name, sources)
    write_report(backwards, lambda task, arguments: iter([task(argument) for argument in arguments][::-1]))
    workers = write_corpus(tmp_path / "workers" / root.name, sources)
    with engine(2, ready=2) as run:
        write_report(workers, run)
    for name in ("index.html", "report.json", "report.md"):
        assert (root / "report" / name).read_bytes() == (backwards / "report" / name).read_bytes()
        assert (root / "report" / name).read_bytes() == (workers / "report" / name).read_bytes()


class _Page(HTMLParser):
    """Elements and attributes of a page; fails where they are not closed in order."""

    VOID = frozenset({"meta", "rect", "line"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in self.VOID or (tag == "rect" and not self.get_starttag_text().endswith("/>")):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> _Page:
    """What holds for every page: well-formed, no request, no inline style or handler, and a policy that names its script and style."""
    parsed = _Page(page)
    for tag, name, value in parsed.attributes:
        assert not name.startswith("on"), (tag, name, value)
        assert name not in ("style", "src", "srcset", "xlink:href"), (tag, name, value)
        if name == "href":
            assert value.startswith("#")
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//|url\(|@import""", page.replace("&quot;", '"').split("<body>")[0])
    assert parsed.tags["script"] == parsed.tags["style"] == 1
    assert not parsed.tags.keys() & {"img", "iframe", "object", "embed", "link", "form", "base"}
    policy = next(value for tag, name, value in parsed.attributes if tag == "meta" and name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        inline = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert inline is not None
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode()}'" in policy
    names = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(names) == len(set(names))
    for tag, name, value in parsed.attributes:
        if name == "href" or name == "aria-labelledby":
            assert value.removeprefix("#") in names, (tag, value)
    return parsed


def test_page_is_self_contained_and_well_formed(corpus: tuple[Path, Any]) -> None:
    page = write_report(corpus[0]).read_text(encoding="utf-8")
    parsed = check_page(page)
    assert parsed.tags["h1"] == 1
    assert parsed.tags["h2"] == len(report_data(corpus[0])["figures"])
    assert parsed.tags["caption"] == parsed.tags["table"]


HOSTILE = (
    "</script></style><img src=x onerror=alert(1)><svg/onload=alert(2)> \u202egnp.exe\u2066 \x00\x1b[31m ]]> --> ' \" & `|` "
    "\u2028 [a](javascript:x) ﷽"
)


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    row = document(
        HOSTILE, HOSTILE, lang=HOSTILE, licence=HOSTILE, url=f"https://{HOSTILE}/", kind=HOSTILE, meta=json.dumps({"repo": HOSTILE})
    )
    row["origin"] = {"file": HOSTILE, "offset": 1, "length": 1, "member": HOSTILE}
    rows = {
        "kept": [row | {"q." + HOSTILE: 1.0}],
        "dropped": [
            drop(row | {"id": "x"}, "read", HOSTILE, **{HOSTILE: HOSTILE}),
            drop(row | {"id": "y", "text": "\u202e" * 600}, "read", "bidi"),
        ],
        "errors": [error(HOSTILE, HOSTILE, HOSTILE, member=HOSTILE, raw=HOSTILE.encode() + b"\xff")],
    }
    root = write_corpus(tmp_path / "hostile", {"web": rows})
    manifest = json.loads((root / "manifest.json").read_text())
    manifest |= {"name": HOSTILE, "codedev": HOSTILE, "recipe_hash": HOSTILE}
    (root / "manifest.json").write_text(json.dumps(manifest))
    page = write_report(root).read_text(encoding="utf-8")
    check_page(page)
    assert "<img" not in page
    assert "<svg/onload" not in page
    markdown = (root / "report" / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(?:img|svg)", markdown)
    check_markdown(markdown)
    for text in (page, markdown):
        assert not set(text) & {"\u202e", "\u2066", "\x00", "\x1b", "\u2028"}
        assert "⟨U+202E⟩" in text
    examples = json.dumps(figures(root)["drops"]["groups"][0]["examples"], ensure_ascii=False)
    assert "\u202e" not in examples


def check_markdown(text: str) -> None:
    """Every row of a table has as many cells as its head: nothing in a cell ended it."""
    widths: set[int] = set()
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            widths.add(len(re.findall(r"(?<!\\)\|", line)))
        else:
            assert len(widths) <= 1
            widths = set()


def test_markdown_tables_are_whole(corpus: tuple[Path, Any]) -> None:
    index = write_report(corpus[0])
    text = index.with_name("report.md").read_text(encoding="utf-8")
    check_markdown(text)
    assert text.count("\n## ") == len(report_data(corpus[0])["figures"])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"kept": [], "dropped": [drop(document("a", "x"), "exact", "duplicate")], "errors": []}, "No document was kept"),
        ({"kept": [document("a", "x")], "dropped": [], "errors": []}, "Every record could be read"),
        ({"kept": [document("a", "")], "dropped": [], "errors": []}, "No document was dropped"),
        ({"kept": [], "dropped": [], "errors": []}, "No document was kept"),
        ({"kept": [], "dropped": [], "errors": [error("f", "corrupt", raw=None)]}, "corrupt"),
    ],
    ids=["none kept", "no drops, no errors", "empty text", "nothing at all", "errors alone"],
)
def test_extremes_are_reported(tmp_path: Path, rows: dict[str, list[dict[str, Any]]], says: str) -> None:
    page = write_report(write_corpus(tmp_path / "extreme", {"web": rows})).read_text(encoding="utf-8")
    check_page(page)
    assert says in page
    assert not re.search(r"\b(?:nan|inf|None)\b", re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL))


def test_no_source_at_all(tmp_path: Path) -> None:
    check_page(write_report(write_corpus(tmp_path / "empty", {})).read_text(encoding="utf-8"))


def test_thirty_sources_with_long_names_and_millions_stay_below_a_megabyte(tmp_path: Path) -> None:
    base = made_up(3, 300)
    base["kept"] = [row | {"lang": f"lang-{i % 60}", "licence": f"Licence-{i % 40}-or-later"} for i, row in enumerate(base["kept"])]
    base["dropped"] += [drop(document(f"r{i}", "&<>'\"" * 90), STAGES[i % 6], f"a_rather_long_reason_{i % 60}") for i in range(240)]
    names = [f"source-number-{i:02d}-with-a-name-nobody-shortened-{'x' * 60}" for i in range(30)]
    root = write_corpus(tmp_path / "thirty", dict.fromkeys(names, base), multiply=1_234_567)
    index = write_report(root)
    check_page(index.read_text(encoding="utf-8"))
    assert index.stat().st_size < 1_000_000
    tiles = {tile["label"]: tile["value"] for tile in figures(root)["headline"]["tiles"]}
    assert tiles["The books"] == "do not balance"  # the files hold a 1,234,567th of what the counters say


def test_books_that_do_not_balance_are_named(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "off", {"web": made_up(4, 300)})
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["waterfall"]["web"][3]["drop"]["too_few_words"] -= 1
    (root / "manifest.json").write_text(json.dumps(manifest))
    broken = [row for row in figures(root)["balance"]["table"]["rows"] if not row[3]]
    assert len(broken) == 3
    assert broken[0][4].startswith("web / gopher: ")
    assert "broken" in write_report(root).read_text(encoding="utf-8")


def test_a_directory_that_is_no_finished_corpus_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such directory.*codedev corpus build RECIPE --out"):
        write_report(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no finished corpus.*codedev corpus build RECIPE --out"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "other/9"}')
    with pytest.raises(InputError, match=r"'other/9'.*codedev.corpus/1"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "codedev.corpus/1"}')
    with pytest.raises(InputError, match="no complete manifest"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        write_report(tmp_path)
    root = write_corpus(tmp_path / "c", {"web": made_up(5, 50)})
    part = root / "documents" / "web" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"part-00000.parquet: cannot be read as Parquet"):
        write_report(root)
    part.unlink()
    with pytest.raises(InputError, match=r"part-00000.parquet: is named in the manifest and missing"):
        write_report(root)
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["parts"]["documents"] = [{"path": "../elsewhere/web/part-00000.parquet"}]
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="belongs to no source"):
        write_report(root)
    assert not (root / "report").exists()


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Eight times the documents, the same peak (in a process of its own)."""
    draw = random.Random(0)
    words = [f"w{draw.randrange(10**6)}" for _ in range(5000)]
    rows = [document(f"{i}", " ".join(draw.choices(words, k=300)), lang="en", url=f"https://h{i}.org/") for i in range(ROWS_A_PART * 12)]
    root = write_corpus(tmp_path / "small", {"web": {"kept": rows}})
    large = tmp_path / "large"
    shutil.copytree(root, large)
    manifest = json.loads((large / "manifest.json").read_text())
    manifest["parts"]["documents"] *= 8
    (large / "manifest.json").write_text(json.dumps(manifest))
    program = "import resource, sys, pathlib; from codedev.corpus.report import report_data; report_data(pathlib.Path(sys.argv[1])); "
    program += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    peaks = [
        int(subprocess.run([sys.executable, "-c", program, str(at)], capture_output=True, text=True, check=True).stdout)
        for at in (root, large)
    ]
    assert peaks[1] < peaks[0] + 32_000, peaks  # kB; the texts are 16 MB and 130 MB


def test_words_and_numbers() -> None:
    assert [size(n) for n in (0, 999, 1000, 12_345, 123_456, 999_600, 1_234_567_890)] == [
        "0 B",
        "999 B",
        "1.00 kB",
        "12.3 kB",
        "123 kB",
        "1.00 MB",
        "1.23 GB",
    ]
    assert [share(n) for n in (0.0, 0.00001, 0.5, 0.9999, 1.0)] == ["0.0 %", "<0.1 %", "50.0 %", ">99.9 %", "100.0 %"]
    assert evidence('{"q.gopher.words": 12, "bound": 50}') == "gopher.words = 12, bound 50"
    assert evidence('{"duplicate_of": "a/b"}') == "duplicate_of = a/b"
    assert evidence('{"q.x": 0.123456, "bound": 0.1}') == "x = 0.123, bound 0.1"
    assert evidence("no json") == "no json"
    assert evidence(None) == evidence("{}") == ""
    assert neutral("a\u202eb\tc\n\u200d") == "a⟨U+202E⟩b\tc\n⟨U+200D⟩"


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("chromium is not installed: the page is not rendered")
    return found


def browse(chromium: str, page: Path, profile: Path, *flags: str, query: str = "") -> tuple[str, str]:
    """(stdout, what the console said) of the page in a headless browser."""
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    command = [chromium, *quiet.split(), "--disable-sync", f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", *flags]
    done = subprocess.run([*command, f"{page.resolve().as_uri()}{query}"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_a_browser_runs_the_page_without_a_complaint(corpus: tuple[Path, Any], chromium: str, tmp_path: Path) -> None:
    """The policy lets our script and style through (the script leaves its traces) and nothing else is asked for."""
    rendered, console = browse(chromium, write_report(corpus[0]), tmp_path, "--dump-dom", query="?theme=dark")
    assert console == ""
    assert 'data-theme="dark"' in rendered
    assert "Theme: dark" in rendered
    assert 'aria-current="true"' in rendered
    assert rendered.count('title="Sort"') > 20
    assert "Every stage of every source" in rendered


def test_a_click_sorts_a_table(corpus: tuple[Path, Any], chromium: str, tmp_path: Path) -> None:
    """In a copy without the policy, to which a script is added that clicks: numbers fall, then rise; words rise."""
    page = write_report(corpus[0]).read_text(encoding="utf-8")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    click = """<script>
      const heads = [...document.querySelectorAll("#waterfall th button")];
      const read = (title) => {
        const head = heads.find((button) => button.textContent === title).parentElement;
        head.firstChild.click();
        const cells = [...document.querySelectorAll("#waterfall tbody tr")].map((row) => row.cells[head.cellIndex].textContent);
        return [head.ariaSort, ...cells].join(";");
      };
      document.body.dataset.found = JSON.stringify([read("Out"), read("Out"), read("Stage")]);
    </script></body>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", click), encoding="utf-8")
    rendered, console = browse(chromium, tmp_path / "page.html", tmp_path / "profile", "--dump-dom")
    assert console == ""
    found = re.search(r'data-found="([^"]*)"', rendered)
    assert found is not None
    down, up, words = (text.split(";") for text in json.loads(html.unescape(found[1])))
    out = [stage["rows_out"] for stages in json.loads((corpus[0] / "manifest.json").read_text())["waterfall"].values() for stage in stages]
    assert down == ["descending", *(f"{number:,}" for number in sorted(out, reverse=True))]
    assert up == ["ascending", *(f"{number:,}" for number in sorted(out))]
    assert words == ["ascending", *sorted(2 * STAGES)]


@pytest.mark.realdata
def test_a_real_corpus_is_reported(data_dir: Path, tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "real", from_real_files(data_dir))
    page = write_report(root).read_text(encoding="utf-8")
    check_page(page)
    assert len(page) < 1_000_000
    assert {tile["label"]: tile["value"] for tile in figures(root)["headline"]["tiles"]}["The books"] == "balance"


def from_real_files(data: Path, files: int = 600) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Sources of real text, judged by a few rules of the kind a build applies."""
    sources: dict[str, dict[str, list[dict[str, Any]]]] = {}
    endings = {".py": "Python", ".js": "JavaScript", ".ts": "TypeScript", ".rs": "Rust", ".go": "Go", ".c": "C", ".h": "C", ".rb": "Ruby"}
    endings |= {
        ".java": "Java",
        ".scala": "Scala",
        ".hs": "Haskell",
        ".ml": "OCaml",
        ".ex": "Elixir",
        ".php": "PHP",
        ".R": "R",
        ".md": "Markdown",
    }
    for name, folder, kind in (("github", "code", "code"), ("books", "books", "book"), ("pages", "web", "web")):
        rows: dict[str, list[dict[str, Any]]] = {"kept": [], "dropped": [], "errors": []}
        seen: dict[str, str] = {}
        paths = sorted(path for path in (data / folder).rglob("*") if path.is_file() and not path.is_symlink())
        for path in random.Random(0).sample(paths, min(files, len(paths))):
            where = str(path.relative_to(data))
            raw = path.read_bytes()[: 1 << 20]
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as fault:
                rows["errors"].append(error(where, "invalid_utf8", str(fault)[:200], offset=fault.start, raw=raw[:256]))
                continue
            repo = path.relative_to(data / folder).parts[0]
            row = document(where, text, kind=kind, origin={"file": where, "offset": 0, "length": len(raw), "member": None})
            row |= {"lang": endings.get(path.suffix) if kind == "code" else "en", "licence": "MIT" if len(repo) % 2 else None}
            row |= {
                "meta": json.dumps({"repo": repo}) if kind == "code" else "{}",
                "url": f"https://{repo}.org/{path.name}" if kind == "web" else None,
            }
            words = text.split()
            mean = sum(map(len, words)) / max(1, len(words))
            digest = hashlib.sha256(text.encode()).hexdigest()
            if kind == "code" and path.suffix not in endings:
                rows["dropped"].append(drop(row | {"text": None}, "read", "unknown_language", suffix=path.suffix))
            elif kind == "code" and max(map(len, text.splitlines()), default=0) > 1000:
                rows["dropped"].append(drop(row | {"text": None}, "read", "minified", longest_line=max(map(len, text.splitlines()))))
            elif not text.strip():
                rows["dropped"].append(drop(row, "normalise", "empty"))
            elif len(words) < 50:
                rows["dropped"].append(drop(row, "gopher", "too_few_words", **{"q.gopher.words": len(words), "bound": 50}))
            elif mean > 10:
                rows["dropped"].append(drop(row, "gopher", "long_words", **{"q.gopher.mean_word_length": mean, "bound": 10}))
            elif digest in seen:
                rows["dropped"].append(drop(row, "exact", "duplicate", duplicate_of=seen[digest]))
            else:
                seen[digest] = where
                symbols = sum(text.count(symbol) for symbol in ("#", "...", "…")) / len(words)
                row |= {"q.gopher.words": len(words), "q.gopher.mean_word_length": mean, "q.gopher.symbol_ratio": min(1.0, symbols)}
                rows["kept"].append(row | {"q.log_words": math.log(len(words)) - 6})
        sources[name] = rows
    return sources
