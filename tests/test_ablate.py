"""Ablations: a variant full of garbage comes out worse, one that is the same does not differ, and an interruption changes nothing."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from codedev._errors import InputError, RecipeError
from codedev.ablate import figures
from codedev.ablate.variants import merged, variants
from codedev.cli import cli

TINY = {
    "model": {
        "config": {
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.06, "tie_word_embeddings": True,
        }
    },
    "batch": {"rows": 8, "micro_rows": 8},
    "optim": {"lr": 4e-3, "warmup": 0.05},
}  # fmt: skip


def inputs(base: Path) -> Path:
    """Sentences of a grammar that a small model can learn, and rows of random letters that are told by their score."""
    draw = random.Random(4)
    who, does, what = "cat dog bird child king".split(), "sees likes hears calls".split(), "stone river house song lamp".split()
    rows: list[dict[str, Any]] = []
    for number in range(260):
        told = [f"The {draw.choice(who)} {draw.choice(does)} the {draw.choice(what)}." for _ in range(draw.randint(8, 20))]
        rows.append({"id": f"good-{number}", "text": " ".join(told)})
    for number in range(400):
        told = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz    ", k=draw.randint(20, 40))) for _ in range(10)]
        rows.append({"id": f"bad-{number}", "text": "\n".join(told)})
    for name, kept in (("good", rows[:260]), ("bad", rows[260:])):
        (base / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    recipe = {
        "name": "t",
        "sources": [{"name": "good", "type": "tables", "paths": ["good.jsonl"]}],
        "language": {"min_score": 0.0},
        "dedup": {"exact": {}},
    }
    (base / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    garbage = {"name": "bad", "type": "tables", "paths": ["bad.jsonl"]}
    changes = {"garbage": {"sources": [garbage, *recipe["sources"]]}, "same": {"dedup": {"exact": {}}}}  # type: ignore[misc]
    (base / "variants.yaml").write_text(yaml.safe_dump(changes))
    (base / "train.yaml").write_text(yaml.safe_dump(TINY))
    return base


def command(base: Path, *more: str) -> list[str]:
    words = ["corpus", "ablate", str(base / "recipe.yaml"), "--variants", str(base / "variants.yaml"), "--out", str(base / "out")]
    words += ["--train", str(base / "train.yaml"), "--vocab-size", "400", "--seq-len", "64", "--holdout", "0.1", "--tokens", "70000"]
    return [*words, "--documents", "60", "--workers", "1", *more]


@pytest.mark.slow
def test_garbage_is_worse_and_the_same_is_the_same(tmp_path: Path) -> None:
    base, run = inputs(tmp_path), CliRunner()
    done = run.invoke(cli, command(base, "--json"))
    assert done.exit_code == 0, (done.output, done.exception)
    told = json.loads(done.stdout)
    bits = told["bits"]
    good = "source=good"
    assert told["domains"]["kept by all"] == told["domains"][good]
    assert bits["base"][good]["difference"] is None
    worse = bits["garbage"][good]["difference"]
    assert worse["tells"]
    assert worse["low"] > 0
    assert not bits["same"]["all"]["difference"]["tells"]
    assert bits["same"]["all"]["seeds"] == pytest.approx(bits["base"]["all"]["seeds"], abs=1e-6)  # the same corpus, weights and rows
    assert len(set(bits["base"]["all"]["seeds"])) == 3
    assert told["variants"]["garbage"]["documents"] > 2 * told["variants"]["base"]["documents"]
    # What is held out is trained on nowhere.
    for name in ("base", "garbage", "same"):
        held, kept = _documents(base / "out/shards" / name / "heldout"), _documents(base / "out/shards" / name)
        assert held
        assert not held & kept
    assert _documents(base / "out/shards/base/heldout") <= _documents(base / "out/shards/garbage/heldout")
    page = (base / "out/index.html").read_text()
    assert "garbage" in page
    assert "Content-Security-Policy" in page
    # Again: nothing is trained again; a run that is gone is made anew, with the same figures.
    runs = sorted((base / "out/runs").iterdir())
    before = {run.name: (run / "model/model.safetensors").stat().st_mtime_ns for run in runs}
    shutil.rmtree(runs[0])
    (base / "out/measured" / f"{runs[0].name}.parquet").unlink()
    again = run.invoke(cli, command(base, "--json"))
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["bits"] == bits
    after = {run.name: (run / "model/model.safetensors").stat().st_mtime_ns for run in sorted((base / "out/runs").iterdir())}
    assert [name for name in before if before[name] != after[name]] == [runs[0].name]
    shown = run.invoke(cli, command(base, "-q"))
    assert "garbage" in shown.output


def _documents(shards: Path) -> set[str]:
    import pyarrow as pa

    found: set[str] = set()
    for file in sorted(shards.glob("*.arrow")):
        found |= {one for row in pa.ipc.open_file(str(file)).read_all().column("segment_documents").to_pylist() for one in row}
    return found


def test_the_plan_is_told_without_doing_it(tmp_path: Path) -> None:
    base = inputs(tmp_path)
    done = CliRunner().invoke(cli, command(base, "--dry-run"))
    assert done.exit_code == 0, done.output
    assert "3 corpora: base, garbage, same" in done.output
    assert "9 runs, 3 of each variant: 70,000 tokens each" in done.output
    assert not (base / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("{}", "names no variant"),
        ("base: {quality: null}", "'base' is no name of a variant"),
        ("'a/b': {quality: null}", "is no name of a variant"),
        ("a: 3", "a variant maps keys of the recipe"),
        ("a: {qualty: null, lang: 1}", "unknown key 'lang'"),
        ("a: {dedup: {exct: {}}}", "unknown key 'exct' in dedup"),
        ("[1]", "a recipe is a mapping"),
    ],
)
def test_a_wrong_variant_says_which(tmp_path: Path, changes: str, said: str) -> None:
    base = inputs(tmp_path)
    (base / "variants.yaml").write_text(changes)
    with pytest.raises(RecipeError, match=said):
        variants(base / "recipe.yaml", base / "variants.yaml")


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    base = inputs(tmp_path)
    (base / "out").mkdir()
    (base / "out/mine.txt").write_text("x")
    done = CliRunner().invoke(cli, command(base))
    assert isinstance(done.exception, InputError)
    assert "holds mine.txt" in str(done.exception)


def test_changes_are_merged_key_by_key() -> None:
    whole = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}
    assert merged(whole, {"a": {"b": None, "c": [3]}, "d": None, "f": {"g": 1}}) == {"a": {"c": [3]}, "f": {"g": 1}}
    assert whole == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}


def test_intervals_hold_what_they_say() -> None:
    random_ = np.random.default_rng(1)
    for seeds in (2, 3, 5, 12):
        holds = 0
        for _ in range(2000):
            found = figures.spread(random_.normal(0.7, 0.1, seeds).tolist())
            assert found.low is not None
            assert found.high is not None
            holds += found.low <= 0.7 <= found.high
        assert 0.935 < holds / 2000 < 0.965, seeds
    assert figures.spread([1.0]) == (1.0, None, None)
    assert not figures.spread([1.0]).tells
