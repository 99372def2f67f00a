"""Questions that a training corpus holds are counted and scored apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from click.testing import CliRunner
from eval_support import tiny

from codedev.cli import cli
from codedev.eval.run import records_of

SEEN = 7


def question(number: int) -> dict[str, Any]:
    words = ("apples", "pears", "stones", "books", "lamps", "coins", "shoes", "boats", "chairs", "cups", "kites", "drums")
    thing, other = words[number % 12], words[(number * 5 + 1) % 12]
    asked = (
        f"On day {number} of the fair in town {number * 7 % 31} Maria carried {number + 3} {thing} and {2 * number + 1} {other} home, "
        f"then she gave every third of the {other} to her neighbour number {number % 5}. How many {thing} are left with her?"
    )
    return {"id": f"q{number}", "question": asked, "choices": [str(number + n) for n in range(4)], "answer": "ABCD"[number % 4]}


def test_seen_questions_are_scored_apart(tmp_path: Path) -> None:
    rows = [question(number) for number in range(20)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [f"A page that has nothing to do with it, number {n}, but for this. {row['question']} And more." for n, row in enumerate(rows)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:SEEN]))
    recipe = {"name": "c", "sources": [{"name": "a", "type": "tables", "paths": ["in.jsonl"]}], "language": {"min_score": 0.0}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(recipe))
    run = CliRunner()
    built = run.invoke(cli, ["corpus", "build", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "corpus"), "--workers", "1", "-q"])
    assert built.exit_code == 0, built.output
    asked = {
        "model": str(tiny(tmp_path / "model")),
        "out": "out",
        "corpora": ["corpus"],
        "tasks": [{"name": "sums", "kind": "choice", "paths": ["q.jsonl"], "style": "texts"}],
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(asked))
    done = run.invoke(cli, ["eval", str(tmp_path / "e.yaml"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["tasks"]["sums"]
    held = told["contamination"]
    assert (held["seen"], held["looked_for"], held["too_short"]) == (SEEN, 20, 0)
    assert (held["scores"]["seen"]["acc"]["n"], held["scores"]["unseen"]["acc"]["n"]) == (SEEN, 20 - SEEN)
    records = records_of(tmp_path / "out", "sums")
    own = pc.is_in(records["id"], pa.array([f"q{number}" for number in range(SEEN)]))
    for part, mask in (("seen", own), ("unseen", pc.invert(own))):
        assert held["scores"][part]["acc"]["value"] == pytest.approx(pc.mean(records.filter(mask)["score"]).as_py())
    shown = run.invoke(cli, ["eval", str(tmp_path / "e.yaml"), "-q"])
    assert "seen in training" in shown.output
    assert f"{SEEN} of 20 questions are in the training corpora" in shown.output
    before = (tmp_path / "out/seen.json").stat().st_mtime_ns
    assert run.invoke(cli, ["eval", str(tmp_path / "e.yaml"), "-q"]).exit_code == 0
    assert (tmp_path / "out/seen.json").stat().st_mtime_ns == before  # not looked for again
    # Without corpora nothing is said of it.
    (tmp_path / "f.yaml").write_text(yaml.safe_dump({**asked, "out": "other", "corpora": []}))
    plain = json.loads(run.invoke(cli, ["eval", str(tmp_path / "f.yaml"), "--json"]).stdout)["tasks"]["sums"]
    assert "contamination" not in plain
    assert plain["scores"] == told["scores"]
