"""The sample of near-duplicate drops against brute force, and what the report makes of it and of sources that lose too much."""

from __future__ import annotations

import json
import random
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev._errors import InputError
from codedev.corpus import recipe as recipes
from codedev.corpus.buffers import text_buffers
from codedev.corpus.build import build
from codedev.corpus.dedup import CHANGE, Changes
from codedev.corpus.near import audit
from codedev.corpus.near.find import CLUSTER
from codedev.corpus.report import report_data, write_report
from codedev.corpus.report.alarms import lines
from codedev.corpus.standing import Table, ids_of
from codedev.kernels.overlap import jaccard
from codedev.kernels.shingles import shingle_hashes

WORDS = [f"{a}{b}{c}" for a in ("ka", "lo", "mi", "ru", "te") for b in ("nt", "rd", "sh", "lm", "x") for c in ("o", "ei", "u", "a")]
Rows = dict[str, list[dict[str, str]]]


def text(rng: random.Random, words: int) -> list[str]:
    return rng.choices(WORDS, k=words)


def edited(rng: random.Random, words: list[str], share: float) -> list[str]:
    return [rng.choice(WORDS) if rng.random() < share else word for word in words]


def families(seed: int, count: int, name: str) -> list[dict[str, str]]:
    """Documents and copies of them with some words changed."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        base = text(rng, rng.randrange(40, 200))
        rows += [
            {"id": f"{name}{number}-{copy}", "text": " ".join(edited(rng, base, share))} for copy, share in enumerate((0, 0.005, 0.02))
        ]
    return rows


def run(
    folder: Path,
    sources: Rows,
    *,
    workers: int = 1,
    memory: int = 1 << 30,
    unit_bytes: int = 1 << 25,
    against: tuple[str, ...] = (),
    **minhash: Any,
) -> dict[str, Any]:
    """A build of {source: rows}; returns its manifest."""
    folder.mkdir(exist_ok=True)
    listed = []
    for name, rows in sources.items():
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        kind = "code" if name == "code" else "web"
        listed.append({"name": name, "type": "tables", "paths": [f"{name}.jsonl"], "text": "text", "columns": {"id": "id"}, "kind": kind})
    dedup = {"minhash": minhash, "against": against}
    recipe = {"name": "n", "sources": listed, "dedup": dedup, "unit_bytes": unit_bytes}
    return build(recipes.check(recipe, "recipe"), folder, folder / "out", workers=workers, memory=memory)


def rows_of(folder: Path, part: str) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "out" / part).rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def similarity(one: str, other: str, unit: str = "figures", ngram: int = 5) -> float:
    """By the kernels, which the audit does without."""
    hashes, bounds = shingle_hashes(*text_buffers(pa.array([one, other], pa.large_string())), unit=unit, ngram=ngram)
    return jaccard(hashes[: bounds[1]], hashes[bounds[1] :])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("audit")
    lines = [f"def f{i}(a, b):\n    return a + b * {i} - len('{WORDS[i]}')\n" for i in range(40)]
    code = ["".join(lines[i : i + 9]) for i in range(0, 36, 9)]
    code += [one.replace("return a", "return  a", 3).replace("len", "abs", 1) for one in code]
    sources = {
        "a": families(1, 150, "a"),
        "b": families(2, 12, "b") + [{"id": f"a-in-b{i}", "text": row["text"] + " mi."} for i, row in enumerate(families(1, 5, "a")[::3])],
        "none": [{"id": f"n{i}", "text": " ".join(text(random.Random(i), 80))} for i in range(20)],
        "code": [{"id": f"c{i}", "text": one} for i, one in enumerate(code)],
    }
    return folder, run(folder, sources)


# Wilson's intervals as Newcombe prints them (Statistics in Medicine 17, 1998, table I, method 3).
@pytest.mark.parametrize(
    ("hits", "draws", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_the_literature(hits: int, draws: int, low: float, high: float) -> None:
    assert audit.wilson(hits / draws, draws) == pytest.approx((low, high), abs=5e-5)
    assert audit.wilson(1 - hits / draws, draws) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_shingles_made_by_hand() -> None:
    told = audit.shingles("É-3٣ x\u0301y 文字! ẞ 가나", 2, "words")
    assert told == {("e", "33"), ("33", "xy"), ("xy", "文"), ("文", "字"), ("字", "ß"), ("ß", "가나")}
    assert audit.shingles("If a_1>=$b:\n\t x", 3, "code") == {
        ("If", "a_1", ">"), ("a_1", ">", "="), (">", "=", "$b"), ("=", "$b", ":"), ("$b", ":", "x"),
    }  # fmt: skip
    assert audit.shingles("one two", 5, "words") == {("one", "two")}
    assert audit.shingles(" .\n", 5, "words") == frozenset()


def test_shingles_agree_with_the_kernels_on_text_of_every_plane() -> None:
    """Two implementations of one rule, which share no line."""
    rng = random.Random(0)

    def character() -> str:
        ranges = (
            (32, 127),
            (0, 0x110000),
            (0, 0x3000),
            (32, 33),
            (0x300, 0x370),
            (0x660, 0x66A),
            (0x3040, 0x3100),
            (0x4E00, 0x4E80),
            (0xAC00, 0xAC40),
        )
        return chr(rng.randrange(*rng.choice(ranges)))

    for _ in range(40):
        one = "".join(character() for _ in range(600)).encode("utf-8", "ignore").decode()
        other = one[:250] + "".join(character() for _ in range(40)).encode("utf-8", "ignore").decode() + one[250:]
        for unit, kernel in (("words", "figures"), ("code", "code")):
            for ngram in (1, 5):
                mine, theirs = audit.shingles(one, ngram, unit), audit.shingles(other, ngram, unit)
                assert len(mine & theirs) / len(mine | theirs) == pytest.approx(similarity(one, other, kernel, ngram), abs=1e-12)


def naive_share(dropped: str, survivor: str) -> float:
    mine, theirs = "".join(dropped.split()), "".join(survivor.split())
    run = min(audit.RUN, len(mine))
    inside = set()
    for start in range(len(mine) - run + 1):
        if mine[start : start + run] in theirs:
            inside.update(range(start, start + run))
    return len(inside) / len(mine) if mine else 1.0


def test_the_share_of_text_that_stays_is_what_searching_every_run_finds() -> None:
    rng = random.Random(3)
    for _ in range(30):
        words = text(rng, rng.randrange(0, 90))
        pieces = [words, edited(rng, words, 0.05), words[20:] + words[:20], text(rng, 30), [], ["文" * 25, *words[:9]], ["aaaa"] * 11]
        for one in pieces:
            for other in pieces:
                assert audit.held_share(" ".join(one), "\n".join(other)) == naive_share(" ".join(one), " ".join(other))
    assert audit.held_share("a b c", "x abc y") == 1.0
    assert audit.held_share("a b c", "x ab y") == 0.0


def test_a_build_tells_what_brute_force_over_its_drops_finds(built: tuple[Path, dict[str, Any]]) -> None:
    folder, manifest = built
    told = manifest["audit"]["near"]
    kept, dropped = {row["id"]: row for row in rows_of(folder, "documents")}, rows_of(folder, "dropped")
    assert {row["stage"] for row in dropped} == {"near"}
    assert [source["source"] for source in told["sources"]] == ["a", "b", "code"]
    assert 100 < told["dropped"] == told["sampled"] == len(dropped) <= audit.SAMPLE
    for name, mine in [(None, dropped), *((name, [row for row in dropped if row["source"] == name]) for name in ("a", "b", "code"))]:
        entry = told if name is None else next(source for source in told["sources"] if source["source"] == name)
        found = []
        for row in mine:
            survivor = kept[json.loads(row["evidence"])["duplicate_of"]]
            unit = "code" if row["kind"] == "code" else "figures"
            found.append(
                (similarity(row["text"], survivor["text"], unit), naive_share(row["text"], survivor["text"]), row["id"], survivor["id"])
            )
        assert entry["dropped"] == entry["sampled"] == entry["alike"] == len(found)
        assert entry["skipped"] == 0
        assert entry["precision"] == entry["high"] == 1.0
        assert entry["low"] == pytest.approx(audit.wilson(1.0, len(found))[0], abs=1e-3 if name is None else 1e-6)
        assert entry["jaccard"] == pytest.approx(np.median([share for share, *_ in found]), abs=1e-4)
        assert entry["held"] == pytest.approx(np.median([share for _, share, *_ in found]), abs=1e-4)
        least = min(found)
        assert entry["least"]["jaccard"] == pytest.approx(least[0], abs=1e-4)
        assert (entry["least"]["jaccard"], entry["least"]["held"], entry["least"]["id"], entry["least"]["duplicate_of"]) in [
            (round(one, 4), round(other, 4), mine, theirs) for one, other, mine, theirs in found
        ]
        assert entry["differs"] < 1e-4
        assert entry["least"]["survivor"] == "stays"


def again(folder: Path, change: Any = None, verify: float = 0.8, also: str | None = None) -> dict[str, Any]:
    """The audit of a finished build's drops, of which `change` may give another evidence (row number, evidence) -> evidence; `also`
    is a dropped document that is listed among the survivors."""
    work = folder / "out" / ".work"
    found = folder / "doctored"
    shutil.rmtree(found, ignore_errors=True)
    shutil.copytree(work / "found", found)
    if change:
        path = found / "near-0000.parquet"
        rows = pq.read_table(path).to_pylist()
        rows = [row | {"evidence": json.dumps(change(place, json.loads(row["evidence"])))} for place, row in enumerate(rows)]
        pq.write_table(pa.Table.from_pylist(rows, schema=CHANGE), path, row_group_size=64)
    tables, starts = tables_of(folder)
    clusters = found / "clusters" / "near.parquet"
    if also:
        rows = pq.read_table(found / "near-0000.parquet", columns=["row"]).column(0).to_numpy()
        row = next(row for row, name in zip(rows.tolist(), ids_of(tables, rows, Changes(found)), strict=True) if name == also)
        listed = sorted([*pq.read_table(clusters).to_pylist(), {"row": row, "size": 2}], key=lambda one: one["row"])
        pq.write_table(pa.Table.from_pylist(listed, schema=CLUSTER), clusters)
    return audit.audit_near(tables, found, clusters, starts, verify=verify, ngram=5, seed=0)


def tables_of(folder: Path) -> tuple[list[Table], list[tuple[int, str]]]:
    """The units of a build that has one a source, in the recipe's order."""
    work = folder / "out" / ".work"
    by_source = {}
    for path in (work / "scored").glob("*.parquet"):
        first = pq.ParquetFile(path).read_row_group(0, columns=["source"]).column(0)[0].as_py()
        judged = [
            other
            for other in (work / "judged").glob("*.parquet")
            if pq.read_table(other, columns=["id"])["id"][0] == pq.read_table(path, columns=["id"])["id"][0]
        ]
        by_source[first] = (path, judged[0])
    tables, starts, row = [], [], 0
    for name in ("a", "b", "none", "code"):
        if name in by_source:
            tables.append(Table(*by_source[name], row))
            starts.append((row, name))
            row += pq.read_metadata(by_source[name][0]).num_rows
    return tables, starts


def test_drops_that_are_not_alike_show(built: tuple[Path, dict[str, Any]]) -> None:
    """Evidence that names another survivor, or a document that is none, lowers the precision by as much."""
    folder, manifest = built
    honest = manifest["audit"]["near"]
    assert again(folder) == honest
    total = honest["dropped"]
    other = {"duplicate_of": "a:a0-0", "jaccard": 0.9, "cluster_size": 2}
    wrong = again(folder, lambda place, told: other if place % 10 == 5 else told)
    expected = total - sum(place % 10 == 5 for place in range(total))
    assert wrong["alike"] == expected < total
    assert wrong["sampled"] == total
    assert wrong["low"] < wrong["precision"] < wrong["high"] < 1
    assert wrong["precision"] == pytest.approx(expected / total, abs=1e-6)
    assert wrong["least"]["jaccard"] < 0.2
    assert wrong["least"]["held"] < 0.5
    assert wrong["least"]["duplicate_of"] == "a:a0-0"
    assert wrong["differs"] > 0.7
    dropped = next(row["id"] for row in rows_of(folder, "dropped"))
    for name in ("a:nowhere", dropped, "none:n1"):  # none of them stands for a cluster
        missing = again(folder, lambda place, told, name=name: told | {"duplicate_of": name} if place == 0 else told)
        assert missing["alike"] == total - 1
        assert missing["least"]["survivor"] == "missing"
        assert (missing["least"]["jaccard"], missing["least"]["held"]) == (0.0, 0.0)
    gone = again(folder, lambda place, told: told | {"duplicate_of": dropped} if place == 1 else told, also=dropped)
    assert (gone["alike"], gone["least"]["survivor"]) == (total - 1, "missing")


def test_a_little_less_alike_than_asked_is_not_alike(built: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = built
    kept = {row["id"]: row["text"] for row in rows_of(folder, "documents")}
    said = [
        similarity(row["text"], kept[json.loads(row["evidence"])["duplicate_of"]], "code" if row["kind"] == "code" else "figures")
        for row in rows_of(folder, "dropped")
    ]
    for verify in (0.85, 0.9, 0.95):
        told = again(folder, verify=verify)
        alike = sum(share >= verify - audit.TOLERANCE for share in said)
        assert 0.2 * len(said) < told["alike"] == alike < 0.95 * len(said)
        assert sum(source["alike"] for source in told["sources"]) == alike


def test_the_sample_is_the_same_whatever_the_workers_units_and_memory(tmp_path: Path) -> None:
    sources = {"a": families(5, 270, "a"), "b": families(6, 10, "b")}
    told = run(tmp_path / "one", sources)
    near = told["audit"]["near"]
    assert near["dropped"] > audit.SAMPLE == near["sampled"]
    run(tmp_path / "two", sources, workers=2, memory=40 << 20)
    manifests = [(tmp_path / name / "out" / "manifest.json").read_bytes() for name in ("one", "two")]
    assert manifests[0] == manifests[1]
    assert run(tmp_path / "small", sources, unit_bytes=150_000)["audit"] == told["audit"]
    few = {entry["source"]: entry for entry in near["sources"]}
    assert few["b"]["sampled"] == few["b"]["dropped"] < 30
    assert few["a"]["sampled"] == audit.SAMPLE - few["b"]["sampled"]


def test_survivors_in_an_earlier_corpus_are_found(tmp_path: Path) -> None:
    rows = families(7, 30, "a")
    run(tmp_path / "old", {"s": rows[::3]})
    told = run(tmp_path / "new", {"a": rows[1::3], "b": rows[2::3]}, against=("../old/out",))["audit"]["near"]
    dropped = rows_of(tmp_path / "new", "dropped")
    assert {"known_near_duplicate"} <= {row["reason"] for row in dropped}
    assert told["dropped"] == told["alike"] == len([row for row in dropped if row["stage"] == "near"]) > 30
    assert [source["source"] for source in told["sources"]] == ["a", "b"]
    assert told["differs"] < 1e-4
    assert told["least"]["duplicate_of"].startswith("s:")


def test_every_source_that_loses_is_in_the_sample() -> None:
    rng = random.Random(4)
    for _ in range(300):
        dropped = [int(rng.lognormvariate(3, 3)) + 1 for _ in range(rng.choice([1, 2, 7, 40, 399, 600]))]
        counts = audit._shares(dropped)
        assert all(1 <= count <= lost for count, lost in zip(counts, dropped, strict=True))
        assert sum(counts) == min(sum(dropped), max(audit.SAMPLE, len(dropped)))
    assert audit._shares([10**9, 10**9]) == [200, 200]
    assert audit._shares([3 * 10**6, 10**6]) == [250, 150]  # 100 each; the other 200 by what is left
    assert audit._shares([10**6, 5]) == [395, 5]


def test_shares_of_sources_are_weighed_by_what_they_lose() -> None:
    assert audit._weighed([(900, 100, 100), (100, 100, 50)]) == (
        pytest.approx(0.95),
        pytest.approx(1000**2 / (900**2 / 100 + 100**2 / 100)),
    )
    assert audit._weighed([(7, 7, 7)]) == (1.0, 7.0)
    assert audit._weighed([(10, 0, 0), (30, 10, 10)]) == (1.0, 10.0)
    assert audit._weighed([(10, 0, 0)]) == (None, 0.0)


def test_the_draw_is_even(tmp_path: Path) -> None:
    """Of 100,000 drops every tenth of the rows is drawn from alike, and another seed draws others."""
    path = tmp_path / "near-0000.parquet"
    nulls = [pa.nulls(100_000, pa.string())] * 4
    pq.write_table(pa.Table.from_arrays([pa.array(range(100_000)), *nulls], schema=CHANGE), path, row_group_size=4096)
    draws = [set(audit._draw(path, [(0, "s")], seed)[0]) for seed in range(50)]
    tenths = np.bincount([row // 10_000 for rows in draws for row in rows], minlength=10)
    assert len(draws[0]) == audit.SAMPLE
    assert tenths.min() > 0.9 * 40 * 50
    assert tenths.max() < 1.1 * 40 * 50
    assert len(draws[0] & draws[1]) < 20


def test_long_texts_are_skipped_and_counted(built: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, manifest = built
    dropped = rows_of(folder, "dropped")
    kept = {row["id"]: row for row in rows_of(folder, "documents")}
    sizes = [max(len(row["text"]), len(kept[json.loads(row["evidence"])["duplicate_of"]]["text"])) for row in dropped]
    monkeypatch.setattr(audit, "LONGEST", 600)
    told = again(folder)
    assert told["skipped"] == sum(size > 600 for size in sizes) > 20
    assert told["sampled"] + told["skipped"] == told["dropped"]
    assert told["precision"] == 1.0
    monkeypatch.undo()
    monkeypatch.setattr(audit, "HELD", 20_000)
    few = again(folder)
    assert 25 < few["sampled"] < told["dropped"] / 2  # the longest go: some 36 are left, and 15 if the shortest went
    assert few["sampled"] + few["skipped"] == few["dropped"]
    monkeypatch.setattr(audit, "HELD", 0)
    none = again(folder)
    assert (none["sampled"], none["precision"], none["low"], none["least"], none["jaccard"]) == (0, None, None, None, None)
    assert none["skipped"] == manifest["audit"]["near"]["dropped"]


def test_no_drops_no_sample(tmp_path: Path) -> None:
    rows = {"s": [{"id": str(i), "text": " ".join(text(random.Random(i), 90))} for i in range(9)]}
    told = run(tmp_path, rows)["audit"]["near"]
    assert (told["dropped"], told["sampled"], told["precision"], told["sources"]) == (0, 0, None, [])
    figure = next(one for one in report_data(tmp_path / "out")["figures"] if one["id"] == "near")
    assert figure["data"] == {"empty": "No document was dropped as a near-duplicate."}


# -- the report ------------------------------------------------------------------------------------------------------------------------


def losing(folder: Path, dropped: int, of: int) -> Path:
    """A corpus whose source `s` loses that many of its documents to near-duplicates; `t` loses none."""
    base = text(random.Random(0), 200)
    rows = [{"id": f"copy {i}", "text": " ".join([*base[:100], f"w{i}", *base[100:]])} for i in range(dropped + 1)]
    rows += [{"id": f"own{i}", "text": " ".join(text(random.Random(i + 1), 90))} for i in range(of - len(rows))]
    run(folder, {"s": rows, "t": [{"id": f"t{i}", "text": " ".join(text(random.Random(i + 999), 90))} for i in range(9)]})
    return folder / "out"


def test_an_alarm_at_more_than_half_and_not_at_half(tmp_path: Path) -> None:
    half, more = losing(tmp_path / "half", 10, 20), losing(tmp_path / "more", 11, 20)
    assert report_data(half)["alarms"] == []
    assert "Alarms" not in (half / "report" / "report.md").read_text()
    assert 'class="alarms"' not in (half / "report" / "index.html").read_text()
    alarms = report_data(more)["alarms"]
    assert json.loads((more / "report" / "report.json").read_text())["alarms"] == alarms
    told = {"source": "s", "lost": 11, "of": 20, "share": 0.55, "stage": "near", "reason": "near_duplicate", "count": 11}
    look = "codedev corpus inspect CORPUS --source s --dropped near_duplicate"
    assert [{name: alarm[name] for name in (*told, "look")} for alarm in alarms] == [told | {"look": look}] * 2
    assert [alarm["alarm"] for alarm in alarms] == ["lost", "near_duplicates"]
    assert set(alarms[0]) == {*told, "alarm", "said", "look"}
    for alarm in alarms:
        assert alarm["said"] in (more / "report" / "report.md").read_text()
        assert alarm["said"] in (more / "report" / "index.html").read_text()
    assert (more / "report" / "index.html").read_text().index('class="alarms"') < (more / "report" / "index.html").read_text().index(
        'id="headline"'
    )
    first = lines(alarms, Path("my corpora/one"))[0]
    assert first.startswith("alarm: Source s lost 55.0 % of its 20 records, 11 of them at stage near (near_duplicate 11). See: ")
    assert first.endswith("codedev corpus inspect 'my corpora/one' --source s --dropped near_duplicate")


def test_the_command_of_an_alarm_shows_what_it_means(tmp_path: Path) -> None:
    out = losing(tmp_path / "a folder", 12, 20)
    command = shlex.split(lines(report_data(out)["alarms"], out)[0].partition(" See: ")[2])
    assert command[0] == "codedev"
    done = subprocess.run([sys.executable, "-m", *command, "--limit", "50", "--json"], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert len(rows) == 12
    assert {(row["source"], row["reason"]) for row in rows} == {("s", "near_duplicate")}
    figure = next(one for one in report_data(out)["figures"] if one["id"] == "near")
    shown = shlex.split(figure["data"]["see"][0]["command"].replace("CORPUS", shlex.quote(str(out)), 1))
    done = subprocess.run([sys.executable, "-m", *shown, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0]["id"].startswith("s:copy ")


def test_the_terminal_says_it(tmp_path: Path) -> None:
    import yaml

    out = losing(tmp_path / "in", 12, 20)
    expected = lines(report_data(out)["alarms"], out)
    done = subprocess.run([sys.executable, "-m", "codedev", "corpus", "report", str(out)], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == expected
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    (tmp_path / "in" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    again = [
        sys.executable,
        "-m",
        "codedev",
        "corpus",
        "build",
        str(tmp_path / "in" / "recipe.yaml"),
        "--out",
        str(out),
        "--workers",
        "1",
        "-q",
    ]
    done = subprocess.run(again, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[:2] == expected
    quiet = subprocess.run([*again, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(quiet.stdout)["audit"]["near"]["dropped"] == 12
    assert "alarm" not in quiet.stderr


def test_a_loss_to_other_stages_names_the_stage_that_took_most(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(built[0] / "out", out, ignore=shutil.ignore_patterns(".work"))
    manifest = json.loads((out / "manifest.json").read_text())
    stages = manifest["waterfall"]["none"]
    stages[0] |= {"rows_in": 50, "error": {"truncated": 26, "corrupt": 1}, "drop": {"not_html": 3}}
    (out / "manifest.json").write_text(json.dumps(manifest))
    alarm = next(alarm for alarm in report_data(out)["alarms"] if alarm["source"] == "none")
    assert (alarm["stage"], alarm["reason"], alarm["count"], alarm["lost"], alarm["of"]) == ("read", "truncated", 26, 27, 47)
    assert alarm["look"] == "codedev corpus inspect CORPUS --source none --errors"
    stages[0]["joined"] = 40  # comments that went into their threads are not lost, and no documents either
    stages[0] |= {"rows_in": 90}
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert next(alarm for alarm in report_data(out)["alarms"] if alarm["source"] == "none")["of"] == 47


def test_the_section_shows_the_sample(built: tuple[Path, dict[str, Any]]) -> None:
    folder, manifest = built
    told = manifest["audit"]["near"]
    report = report_data(folder / "out")
    data = next(figure for figure in report["figures"] if figure["id"] == "near")["data"]
    tiles = {tile["label"]: tile for tile in data["tiles"]}
    assert tiles["Near-duplicates dropped"]["value"] == told["dropped"]
    assert tiles["Sampled precision"]["value"] == 1.0
    assert f"{told['low'] * 100:.1f} % to 100.0 %" in tiles["Sampled precision"]["note"]
    assert tiles["Least alike"]["value"] == told["least"]["jaccard"]
    assert [row[0] for row in data["table"]["rows"]] == ["All sources", "a", "b", "code"]
    assert [row[1] for row in data["table"]["rows"]] == [told["dropped"], *(source["dropped"] for source in told["sources"])]
    assert told["least"]["id"] in data["see"][0]["text"]
    assert told["least"]["duplicate_of"] in data["see"][0]["text"]
    page, words = (folder / "out" / "report" / name for name in ("index.html", "report.md"))
    for shown in (page.read_text(), words.read_text()):
        assert "Near-duplicates" in shown
        assert f"codedev corpus inspect CORPUS --id {told['least']['id']}" in shown
    assert '<a href="#drops">' in page.read_text()


def test_a_sample_that_is_not_alike_is_an_alarm(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(built[0] / "out", out, ignore=shutil.ignore_patterns(".work"))
    other = {"duplicate_of": "a:a0-0", "jaccard": 0.9, "cluster_size": 2}
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["audit"]["near"] = again(built[0], lambda place, told: other if place % 10 == 5 else told)
    (out / "manifest.json").write_text(json.dumps(manifest))
    write_report(out)
    alarms = [alarm for alarm in report_data(out)["alarms"] if alarm["alarm"] == "near_precision"]
    assert "a" in {alarm["source"] for alarm in alarms}
    assert all(alarm["look"].startswith("codedev corpus inspect CORPUS --id ") for alarm in alarms)
    data = next(figure for figure in report_data(out)["figures"] if figure["id"] == "near")["data"]
    assert next(tile for tile in data["tiles"] if tile["label"] == "Sampled precision")["tone"] == "error"
    for name in ("report.md", "index.html"):
        assert "less alike than the recipe asks" in (out / "report" / name).read_text()


def test_ids_of_strangers_run_nothing_in_the_page(tmp_path: Path) -> None:
    base = text(random.Random(0), 200)
    names = ["<script>alert(1)</script>", "`rm -rf`\u202e|[x](y)", '\'; echo "hi" $(id)']
    rows = [{"id": name, "text": " ".join([*base, "x" * i])} for i, name in enumerate(["first", *names])]
    run(tmp_path, {"s": rows})
    page, words = ((tmp_path / "out" / "report" / name).read_text() for name in ("index.html", "report.md"))
    assert page.count("<script") == 1
    assert "\u202e" not in page + words
    assert "\x1b" not in lines([{"said": "\x1b[2J", "look": "codedev corpus inspect CORPUS --id '\x1b]0;x\x07'"}], tmp_path)[0]
    assert "<script>" not in words


def test_a_manifest_with_a_broken_audit_says_so(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(built[0] / "out", out, ignore=shutil.ignore_patterns(".work"))
    manifest = json.loads((out / "manifest.json").read_text())
    for broken in ({"near": {"verify": 0.8}}, {"near": manifest["audit"]["near"] | {"precision": "<b>"}}, ["near"]):
        (out / "manifest.json").write_text(json.dumps(manifest | {"audit": broken}))
        with pytest.raises(InputError, match="no complete manifest"):
            report_data(out)
    del manifest["audit"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    figure = next(one for one in report_data(out)["figures"] if one["id"] == "near")
    assert "drew no sample" in figure["data"]["empty"]
