"""The benchmark of the stages runs on any source trees and measures every stage."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "bench_stages.py"
STAGES = {
    *("plan", "code", "docstrings", "normalise", "language", "scores", "identity", "judge", "exact", "exact_synthetic", "write"),
    *("build", "build_2", "build_again", "report", "web_records", "web", "jsonl", "csv", "parquet", "tokenizer", "encode", "pack", "train"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two megabytes of the standard library as source trees, and the bundled web pages."""
    folder = tmp_path_factory.mktemp("data")
    library = Path(sysconfig.get_path("stdlib"))
    for name in ("asyncio", "email", "idlelib", "json", "unittest", "xml"):
        shutil.copytree(library / name, folder / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "samples" / "web", folder / "web")
    return folder


def _rows(data: Path, tmp_path: Path, *arguments: str) -> tuple[str, dict[str, dict]]:
    out = tmp_path / "results" / "stages.json"
    command = [sys.executable, str(SCRIPT), "--data", str(data), "--mb", "1", "--json", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert 0.9 < result["arguments"]["raw_mb"] <= 1
    assert result["machine"]["cores"] > 0
    assert str(data) not in out.read_text()  # results name neither folders nor the machine
    return done.stdout, {row["stage"]: row for row in result["rows"]}


@pytest.mark.slow
def test_every_stage_is_measured(data: Path, tmp_path: Path) -> None:
    table, rows = _rows(data, tmp_path)
    assert set(rows) == STAGES
    if not importlib.util.find_spec("torch"):
        assert "torch" in rows.pop("train")["skipped"]
    for name, row in rows.items():
        numbers = [row[key] for key in ("amount", "rate", "cpu_s", "wall_s", "peak_mb", "repeats")]
        assert all(number > 0 for number in numbers), (name, row)
        assert row["own_mb"] >= 0
        assert all(rate > 0 for rate in row["peers"].values()), (name, row)
        assert row["rate"] == pytest.approx(row["amount"] / row["cpu_s"], rel=0.01)
        assert 20 < row["peak_mb"] < 4000, (name, row)  # Python and its libraries at least
    assert len([line for line in table.splitlines() if "/s " in line]) == len(rows)


def test_chosen_stages_alone_and_missing_archives(data: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "code").symlink_to(data / "code")
    table, rows = _rows(bare, tmp_path, "--only", "web")
    assert set(rows) == {"web_records", "web"}
    assert all("WARC" in row["skipped"] for row in rows.values())
    assert table.count("skipped") == 2


def test_no_source_trees_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--data", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.realdata
@pytest.mark.slow
def test_sources_are_measured_beside_their_peers(data_dir: Path, tmp_path: Path) -> None:
    script, out = ROOT / "benchmarks" / "bench_sources.py", tmp_path / "sources.json"
    command = [sys.executable, str(script), "--data", str(data_dir), "--only", "protein", "--budget", "0.5", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) > 1
    for row in rows:
        assert row["rate"] > 0
        assert row["times_faster"] == {peer: pytest.approx(row["rate"] / rate, rel=0.01) for peer, rate in row["peers"].items()}


@pytest.fixture
def gold(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gold.exact")


def test_exact_likeness_is_that_of_the_kernels_and_all_pairs_are_found(gold: ModuleType) -> None:
    """Two implementations of one definition: Python's tables and sets, and the kernels that decide."""
    from codedev.corpus.buffers import text_buffers
    from codedev.kernels.overlap import jaccards
    from codedev.kernels.shingles import shingle_hashes

    rng = random.Random(0)
    words = [*"Éa e\u0301a x_1 x 1 २३ 漢字 かな 한국 ﬁ İi $a a.b() 𠀀 ß \u200d naïve हिन्दी !".split(), "\n"]
    texts = []
    for _ in range(40):
        pieces = rng.choices(words, k=rng.randrange(0, 60))
        texts += [" ".join(pieces), " ".join([*pieces[:3], "x", *pieces[3:]]), "".join(pieces)]
    every = np.array(list(itertools.combinations(range(len(texts)), 2)))
    for unit, kernel in (("words", "figures"), ("code", "code")):
        sets = gold.shingle_sets(texts, [unit] * len(texts))
        hashes, bounds = shingle_hashes(*text_buffers(pa.array(texts, pa.large_string())), unit=kernel)
        found = np.array([gold.jaccard(sets[one], sets[other]) for one, other in every])
        np.testing.assert_allclose(found, jaccards(hashes, bounds, every), atol=1e-9)
        later, earlier, shares = gold.all_pairs(sets, 0.3)
        alike = found >= 0.3
        assert alike.sum() > 30
        told = dict(zip(zip(earlier.tolist(), later.tolist(), strict=True), shares.tolist(), strict=True))
        assert told == pytest.approx(dict(zip(map(tuple, every[alike].tolist()), found[alike].tolist(), strict=True)))


def test_a_greedy_pass_drops_for_those_that_stay(gold: ModuleType) -> None:
    later, earlier, shares = np.array([1, 2, 3, 3]), np.array([0, 1, 1, 2]), np.array([0.9, 0.9, 0.95, 0.85])
    survivor, best = gold.greedy(4, later, earlier, shares)  # 1 goes for 0; so 2 stays, and 3 goes for 2, not for 1
    assert survivor.tolist() == [0, 0, 2, 2]
    assert best.tolist() == [1, 0.9, 1, 0.85]


def test_near_duplicates_against_what_is_known_to_be_alike(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "gold.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_near_gold.py"), "--data", str(data), "--no-peers", "--json", str(out)]
    command += ["--part", "brute", "--part", "template", "--seeds", "1", "--documents", "400", "--templated", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    brute, template = json.loads(out.read_text())["rows"]
    assert brute["precision"] == 1
    assert brute["recall"] >= 0.9
    assert brute["alike"] >= 10
    assert template["lost"] == 0
    assert template["again_found"] == 1
    assert template["dropped"] >= 30


@pytest.mark.realdata
@pytest.mark.slow
def test_near_duplicates_by_label_and_of_clones(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "gold.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_near_gold.py"), "--data", str(data_dir), "--no-peers", "--json", str(out)]
    command += ["--part", "labels", "--part", "clones", "--files", "20", "--only", "default"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    for row in rows:
        if row["contender"].startswith("codedev 14x8"):
            exact = next(one for one in rows if one["contender"].startswith("exact J >= 0.8") and one.get("set") == row.get("set"))
            assert row["levels"] == pytest.approx(exact["levels"], abs=0.11), row  # what the bands miss close to 0.8
    assert min(row["precision"] for row in rows if row["part"] == "clones" and "codedev" in row["contender"]) == 1


@pytest.mark.slow
def test_the_clean_stage_is_measured_stage_by_stage_and_as_builds(tmp_path: Path) -> None:
    """On text of this project as the seeds, a megabyte of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    script, work, out = ROOT / "benchmarks" / "bench_clean.py", tmp_path / "work", tmp_path / "clean.json"
    (work / "seeds").mkdir(parents=True)
    for kind in ("web", "conversation", "qa", "book", "code"):
        texts = [path.read_text() for path in sorted(ROOT.glob("codedev/*.py" if kind == "code" else "docs/*.md"))]
        table = pa.table({"text": pa.array(texts, pa.large_string()), "lang": ["Python"] * len(texts), "url": [None] * len(texts)})
        pq.write_table(table.set_column(2, "url", table["url"].cast(pa.string())), work / "seeds" / f"{kind}.parquet")
    command = [sys.executable, str(script), "--work", str(work), "--mb", "1", "--rounds", "1", "--size", "0.001GB", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    stages = {row["name"]: row for row in rows if row["part"] == "stage"}
    assert {"normalise", "pii", "language", "scores", "sketch", "hash", "first pass"} <= stages.keys()
    assert sum(row["share"] for row in stages.values()) == pytest.approx(2 + stages["clean (all but Parquet)"]["share"], rel=0.01)
    builds = [row for row in rows if row["part"] in ("build", "large")]
    assert [row["part"] for row in builds] == ["build", "build", "large"]
    for row in builds:
        assert row["balanced"]
        assert row["records"] == row["kept"] + row["dropped"] > 10
        assert min(row["rate"], row["disk_mb"]) > 0
        assert 50 < row["peak_mb"] < 4000
    assert builds[0]["kept"] == builds[1]["kept"]
    assert builds[1]["speedup"] > 0
    assert "first pass" in done.stdout
    assert "2 workers are" in done.stdout
