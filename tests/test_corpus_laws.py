"""The laws of the house, on whole builds: nothing lost, same bytes whatever the workers, batches and kills, bounded memory."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev.corpus import recipe as recipes
from codedev.corpus import records
from codedev.corpus.build import build

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "that",
    "have",
    "with",
    "a",
    "be",
    "in",
    "is",
    "it",
    "was",
    "for",
    "on",
    "are",
    "as",
    "his",
    "they",
    "at",
    "one",
    "this",
    "from",
    "by",
    "word",
    "but",
    "what",
    "some",
    "we",
    "can",
    "out",
    "other",
]


def write_inputs(folder: Path, *, documents: int = 3000, seed: int = 0) -> None:
    """Tables with duplicates inside and across sources, colliding ids, bad lines and every kind of drop."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 160))) for _ in range(documents)]
    with open(folder / "a.jsonl", "wb") as file:
        for number, text in enumerate(texts):
            if number % 11 == 0:
                text = texts[number // 2].replace(" ", "  ", 1)  # a duplicate but for white space
            record = {"id": number if number % 13 else 7, "text": text, "n": number}
            file.write(orjson.dumps(record) + b"\n")
            if number % 500 == 0:
                file.write(b'{"text": broken\n{"text": "\xff\xfe"}\n[1]\n{"body": "none"}\n\n')
    pq.write_table(
        pa.table({"text": [None if n % 97 == 0 else texts[-n - 1] for n in range(documents // 2)], "score": range(documents // 2)}),
        folder / "b.parquet",
        row_group_size=300,
    )
    with open(folder / "c.csv", "w", encoding="utf-8") as file:
        file.write("key,text\n")
        for number in range(200):
            file.write(f'{number},"line one of {rng.choice(WORDS)}\r\nline two, {"the of and to " * 20}{number}"\n')
        file.write("too,many,fields\n")


RECIPE: dict[str, Any] = {
    "name": "laws",
    "sources": [
        {"name": "lines", "type": "tables", "paths": ["a.jsonl"]},
        {"name": "others", "type": "tables", "paths": ["b.parquet", "c.csv"]},
    ],
    "unit_bytes": 60_000,
    "language": {"min_score": 0.2},
    "quality": {"gopher": {"min_words": 20, "min_mean_word_length": 2}},
    "dedup": {"exact": {}},
}


def run_build(folder: Path, out: Path, workers: int = 1, **changes: Any) -> dict[str, Any]:
    return build(recipes.check({**RECIPE, **changes}, "recipe"), folder, out, workers=workers)


def tree(out: Path) -> dict[str, bytes]:
    """Every file of a corpus but its log and its work folder."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    names = {path.relative_to(out).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if name.split("/")[0] not in (".work", ".lock", "events.jsonl")}


def rows(out: Path, part: str) -> int:
    return sum(pq.read_metadata(path).num_rows for path in (out / part).rglob("*.parquet"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "corpus"
    run_build(inputs, out)
    return out


def test_counts_balance_and_match_the_tables(undisturbed: Path) -> None:
    manifest = json.loads((undisturbed / "manifest.json").read_bytes())
    totals = manifest["totals"]
    assert totals["records"] == totals["documents"] + totals["dropped"] + totals["errors"]
    assert {part: rows(undisturbed, part) for part in ("documents", "dropped", "errors")} == {
        part: totals[part] for part in ("documents", "dropped", "errors")
    }
    counted: dict[tuple[str, str, str], int] = {}
    for source, stages in manifest["waterfall"].items():
        before = None
        for stage in stages:
            assert stage["rows_in"] == stage["rows_out"] + sum(stage["drop"].values()) + sum(stage["error"].values())
            assert before in (None, stage["rows_in"])
            before = stage["rows_out"]
            counted |= {(source, stage["stage"], reason): count for reason, count in stage["drop"].items()}
    table = pa.concat_tables(pq.read_table(path) for path in sorted((undisturbed / "dropped").rglob("*.parquet"))).select(
        ["source", "stage", "reason"]
    )
    stored: dict[tuple[str, str, str], int] = {}
    for row in table.to_pylist():
        key = (row["source"], row["stage"], row["reason"])
        stored[key] = stored.get(key, 0) + 1
    assert stored == counted
    # every kind of loss was really met
    assert {reason for _, _, reason in counted} >= {"no_text", "too_few_words", "duplicate"}
    assert rows(undisturbed, "errors") == 6 * 3 + 1


def test_the_input_decides_the_count(inputs: Path, undisturbed: Path) -> None:
    """Records counted by another reader: lines that are not blank, Parquet rows, CSV records."""
    lines = sum(bool(line.strip()) for line in (inputs / "a.jsonl").read_bytes().splitlines())
    expected = lines + 1500 + 201
    assert json.loads((undisturbed / "manifest.json").read_bytes())["totals"]["records"] == expected


def test_ids_are_unique(undisturbed: Path) -> None:
    ids = [i for path in (undisturbed / "documents").rglob("*.parquet") for i in pq.read_table(path, columns=["id"])["id"].to_pylist()]
    assert len(ids) == len(set(ids))
    assert any("~" in i for i in ids)  # colliding ids with different texts were told apart, not dropped


def test_exact_duplicates_against_brute_force(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Of equal squeezed texts among all that passed the filters the first stays: of the earliest source, in the order of its records."""
    run_build(inputs, tmp_path / "c", dedup={})
    groups: dict[str, list[str]] = {}
    for source in ("lines", "others"):
        for path in sorted((tmp_path / "c" / "documents" / source).glob("*.parquet")):
            for row in pq.read_table(path, columns=["id", "text"]).to_pylist():
                groups.setdefault(" ".join(row["text"].split()), []).append(row["id"])
    expected = {members[0] for members in groups.values()}
    kept = {i for path in (undisturbed / "documents").rglob("*.parquet") for i in pq.read_table(path, columns=["id"])["id"].to_pylist()}
    assert kept == expected
    losers = {i for members in groups.values() for i in members} - expected
    table = pa.concat_tables(pq.read_table(path) for path in (undisturbed / "dropped").rglob("*.parquet"))
    stated = {row["id"]: json.loads(row["evidence"])["duplicate_of"] for row in table.to_pylist() if row["reason"] == "duplicate"}
    assert stated.keys() == losers
    assert set(stated.values()) <= expected


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_do_not_change_a_byte(inputs: Path, undisturbed: Path, tmp_path: Path, workers: int) -> None:
    run_build(inputs, tmp_path / "c", workers=workers)
    assert tree(tmp_path / "c") == tree(undisturbed)


@pytest.mark.parametrize(("batch_rows", "batch_bytes"), [(1, 1 << 30), (17, 1 << 30), (4096, 1000)])
def test_batch_size_does_not_change_a_byte(
    inputs: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int, batch_bytes: int
) -> None:
    monkeypatch.setattr(records, "BATCH_ROWS", batch_rows)
    monkeypatch.setattr(records, "BATCH_BYTES", batch_bytes)
    run_build(inputs, tmp_path / "c")
    assert tree(tmp_path / "c") == tree(undisturbed)


def test_memory_bound_does_not_change_a_byte(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A bound so small that the barriers work in many parts."""
    build(recipes.check(RECIPE, "recipe"), inputs, tmp_path / "c", memory=200_000)
    assert len(list((tmp_path / "c/.work/found").glob("exact-*.parquet"))) > 3
    assert tree(tmp_path / "c") == tree(undisturbed)


def test_the_unit_size_does_not_change_a_document(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    def documents(out: Path) -> list[dict[str, Any]]:
        return [row for path in sorted((out / "documents").rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]

    run_build(inputs, tmp_path / "c", unit_bytes=1 << 30)
    assert documents(tmp_path / "c") == documents(undisturbed)


def command(folder: Path, out: Path) -> list[str]:
    (folder / "laws.yaml").write_text(json.dumps(RECIPE))  # JSON is YAML
    return [sys.executable, "-m", "codedev", "corpus", "build", str(folder / "laws.yaml"), "--out", str(out), "--workers", "2", "-q"]


@pytest.mark.slow
def test_twenty_kills_do_not_change_a_byte(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    """kill -9 of the parent alone, or of the parent and its workers, at 20 random moments; then the same command to its end."""
    rng = random.Random(5)
    out = tmp_path / "c"
    started = time.monotonic()
    subprocess.run(command(inputs, tmp_path / "timed"), check=True, capture_output=True)
    whole = time.monotonic() - started
    killed = 0
    while killed < 20:
        process = subprocess.Popen(command(inputs, out), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(0.2, 1.0) * whole)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL) if rng.random() < 0.5 else os.killpg(process.pid, signal.SIGKILL)
            killed += 1
            process.wait()
        else:
            assert process.returncode == 0
            if tree(out) != tree(undisturbed):
                break
            # finished before the kill: disturb it again, from another state
            for path in rng.sample(sorted((out / ".work").rglob("*.json")), 5):
                path.unlink()
            (out / "manifest.json").unlink()
    done = subprocess.run(command(inputs, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tree(out) == tree(undisturbed)


def test_a_changed_threshold_reads_nothing_again(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    run_build(inputs, out)
    before = {path.name: path.stat().st_mtime_ns for path in (out / ".work/scored").glob("*.json")}
    manifest = run_build(inputs, out, quality={"gopher": {"min_words": 60, "min_mean_word_length": 2}})
    assert {path.name: path.stat().st_mtime_ns for path in (out / ".work/scored").glob("*.json")} == before
    fresh = tmp_path / "fresh"
    assert run_build(inputs, fresh, quality={"gopher": {"min_words": 60, "min_mean_word_length": 2}}) == manifest
    assert tree(fresh) == tree(out)
    assert tree(out) != tree(undisturbed)


def test_a_changed_file_is_the_only_one_read_again(tmp_path: Path) -> None:
    write_inputs(tmp_path, documents=600)
    out = tmp_path / "c"
    run_build(tmp_path, out)
    before = {path.name for path in (out / ".work/scored").glob("*.json")}
    text = (tmp_path / "c.csv").read_text()
    (tmp_path / "c.csv").write_text(text.replace("line two", "line 2"))
    run_build(tmp_path, out)
    after = {path.name for path in (out / ".work/scored").glob("*.json")}
    assert len(before - after) == len(after - before) == 1
    run_build(tmp_path, tmp_path / "fresh")
    assert tree(tmp_path / "fresh") == tree(out)


def test_damaged_parts_are_made_again(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    run_build(inputs, out)
    victim = sorted((out / "documents").rglob("*.parquet"))[3]
    victim.write_bytes(victim.read_bytes()[:-100])
    (out / "documents/lines/part-99999.parquet").write_bytes(b"stale")
    run_build(inputs, out)
    assert tree(out) == tree(undisturbed)


def test_a_second_run_on_the_same_directory_is_refused(inputs: Path, tmp_path: Path) -> None:
    from codedev._errors import RunError
    from codedev._run import locked

    with locked(tmp_path / "c"), pytest.raises(RunError, match="another run"):
        run_build(inputs, tmp_path / "c")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Ten times the input, the same peak of the largest process to within 60 MB."""
    peaks = []
    for documents in (10_000, 100_000):
        folder = tmp_path / str(documents)
        folder.mkdir()
        rng = random.Random(1)
        pool = [" ".join(rng.choices(WORDS, k=200)) for _ in range(997)]
        with open(folder / "a.jsonl", "wb") as file:
            for number in range(documents):
                file.write(orjson.dumps({"id": number, "text": f"{number} {pool[number % 997]}"}) + b"\n")
        pq.write_table(pa.table({"text": ["x"]}), folder / "b.parquet")
        (folder / "c.csv").write_text("text\nx\n")
        recipe = {**RECIPE, "unit_bytes": 4 << 20, "language": None}
        (folder / "laws.yaml").write_text(json.dumps(recipe))
        arguments = [
            sys.executable,
            "-m",
            "codedev",
            "corpus",
            "build",
            str(folder / "laws.yaml"),
            "--out",
            str(folder / "out"),
            "--workers",
            "2",
            "-q",
        ]
        script = (
            "import resource, sys, subprocess\n"
            "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 60, peaks
