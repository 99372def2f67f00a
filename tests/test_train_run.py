"""A run on one process: what it writes, that it learns, that it resumes to the bit, and how it fails."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from train_support import TINY, recipe, write_shards

from codedev._errors import InputError, RecipeError, RunError
from codedev._run import TEMPORARY
from codedev.train import run
from codedev.train.watch.metrics import read_metrics

GOLDEN = Path(__file__).parent / "golden" / "loss_tiny.json"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_shards(tmp_path / "shards")
    write_shards(tmp_path / "shards" / "heldout", rows=9, seed=9)
    (tmp_path / "shards" / "tokenizer.json").write_text("{}")
    return tmp_path


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without the timings."""
    return [{k: v for k, v in row.items() if k not in ("tokens_per_second", "mfu")} for row in read_metrics(run_dir)]


def weights_of(directory: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(directory / "model.safetensors"), "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping


def test_a_run_from_end_to_end(base: Path) -> None:
    from transformers import AutoModelForCausalLM

    seen: list[dict[str, Any]] = []
    wanted = recipe(data__eval="shards/heldout", run__steps=20, run__save_every=4, run__eval_every=10, run__keep=2, run__peak_flops=1e12)
    ticks: list[tuple[str, int, int | None]] = []
    result = run(wanted, base, seen.append, lambda *tick: ticks.append(tick))
    assert [done for what, done, total, *_ in ticks if (what, total) == ("train", 20)] == list(range(1, 21))
    assert [done for what, done, total, *_ in ticks if (what, total) == ("evaluate", 9)] == [8, 9] * 3
    rows = read_metrics(base / "run")
    assert [row["step"] for row in rows] == [0, *range(1, 11), 10, *range(11, 21), 20]
    assert [{k: v for k, v in row.items() if k != "steps"} for row in seen] == rows
    assert {row["steps"] for row in seen} == {20}
    losses = [row["loss"] for row in rows if "loss" in row]
    assert sum(losses[-3:]) / 3 < losses[0] - 0.2
    assert result["bits_per_byte"]["after"] < result["bits_per_byte"]["before"] - 0.3
    assert (result["step"], result["loss"], result["tokens_seen"]) == (20, losses[-1], rows[-2]["tokens_seen"])
    assert all(0 < row["mfu"] < 1 for row in rows if "loss" in row)

    assert sorted(path.name for path in (base / "run" / "checkpoints").iterdir()) == ["step-00000016", "step-00000020"]
    for directory in ((base / "run" / "model"), (base / "run" / "checkpoints" / "step-00000020")):
        model, report = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
        assert not report["missing_keys"]
        assert sum(p.numel() for p in model.parameters()) == result["parameters"]
    assert (base / "run" / "model" / "tokenizer.json").is_file()

    golden = json.loads(GOLDEN.read_text())
    assert losses == pytest.approx(golden["losses"], abs=golden["tolerance"])


def test_nothing_written_is_a_pickle(base: Path) -> None:
    run(recipe(run__steps=2), base)
    written = [path for path in (base / "run").rglob("*") if path.is_file()]
    assert {path.suffix for path in written} <= {".json", ".jsonl", ".yaml", ".safetensors", ".html", ""}
    for path in written:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            with safe_open(str(path), "pt") as file:
                assert file.keys()
        elif not path.suffix:
            assert path.name == ".lock"
            assert not path.read_bytes()


@pytest.mark.parametrize("tied", [False, True])
def test_an_interrupted_run_equals_an_undisturbed_one(base: Path, tied: bool) -> None:
    settings = {"model": {"config": {**TINY, "tie_word_embeddings": tied, "attention_dropout": 0.1}}, "data__eval": "shards/heldout"}
    settings |= {"run__save_every": 5, "run__eval_every": 4}

    class StopError(Exception):
        pass

    def stop_at(step: int) -> Any:
        def stop(row: dict[str, Any]) -> None:
            if row["step"] == step and "loss" in row:
                raise StopError

        return stop

    run(recipe("whole", **settings), base)
    for step in (3, 7, 11, 12):
        with pytest.raises(StopError):
            run(recipe("cut", **settings), base, stop_at(step))
        (base / "cut" / "checkpoints" / f"{TEMPORARY}step-00000099").mkdir(parents=True)  # what a kill while saving leaves
        with open(base / "cut" / "metrics.jsonl", "ab") as file:
            file.write(b'{"step":99,"lo')  # and while writing a row
    run(recipe("cut", **settings), base)
    assert rows_of(base / "cut") == rows_of(base / "whole")
    a, b = weights_of(base / "cut" / "model"), weights_of(base / "whole" / "model")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not list((base / "cut").rglob(f"{TEMPORARY}*"))


@pytest.mark.slow
def test_a_run_killed_at_random_moments_equals_an_undisturbed_one(base: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from train_support import recipe; from codedev.train import run\n"
        "run(recipe('cut', data__eval='shards/heldout', run__steps=80, run__save_every=2, run__eval_every=3), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(base)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    kills, moments, metrics = 0, random.Random(), base / "cut" / "metrics.jsonl"
    for _ in range(2):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        written = time.time()
        while process.poll() is None and not (metrics.is_file() and metrics.stat().st_mtime > written):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills
    settings: dict[str, Any] = {"data__eval": "shards/heldout", "run__steps": 80, "run__save_every": 2, "run__eval_every": 3}
    run(recipe("cut", **settings), base)
    run(recipe("whole", **settings), base)
    assert rows_of(base / "cut") == rows_of(base / "whole")


def test_how_a_step_is_cut_up_changes_nothing(base: Path) -> None:
    for micro_rows in (8, 2, 3):
        run(recipe(f"micro{micro_rows}", batch__micro_rows=micro_rows), base)
    whole = [row["loss"] for row in rows_of(base / "micro8")]
    for micro_rows in (2, 3):
        assert [row["loss"] for row in rows_of(base / f"micro{micro_rows}")] == pytest.approx(whole, rel=1e-6)


def test_a_run_goes_on_with_more_steps_only_on_the_same_way(base: Path) -> None:
    constant = {"lr": 3e-3, "warmup": 2, "schedule": "constant"}
    run(recipe("short", optim=constant, run__steps=5), base)
    run(recipe("short", optim=constant, run__steps=9), base)
    run(recipe("long", optim=constant, run__steps=9), base)
    assert rows_of(base / "short") == rows_of(base / "long")
    run(recipe("wsd", run__steps=10), base)
    for message, changes in {
        "differs from step 9 on": {"run__steps": 14},
        "beyond the 4 steps": {"run__steps": 4},
        r"batch\.rows 8, the recipe says 4": {"run__steps": 10, "batch__rows": 4},
        r"optim\.lr 0\.003, the recipe says 0\.001": {"run__steps": 10, "optim__lr": 1e-3},
        "Choose another run.dir, remove it": {"run__steps": 10, "run__resume": "never"},
    }.items():
        with pytest.raises(RunError, match=message):
            run(recipe("wsd", **changes), base)
    write_shards(base / "shards", seed=1)
    with pytest.raises(RunError, match=r"data\.shards"):
        run(recipe("wsd", run__steps=10), base)
    with pytest.raises(RunError, match="no checkpoint to resume"):
        run(recipe("new", run__resume="must"), base)


def test_a_finished_run_is_left_as_it_is(base: Path) -> None:
    first = run(recipe(run__steps=3), base)
    shutil.rmtree(base / "run" / "model")
    again = run(recipe(run__steps=3), base)
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in first.items() if k != "seconds"}
    assert (base / "run" / "model" / "model.safetensors").is_file()


def test_the_recipe_in_the_run_directory_is_that_run(base: Path) -> None:
    from codedev import _recipe
    from codedev.train import TrainRecipe

    (base / "sub").mkdir()
    run(recipe("../out/run", data={"shards": "../shards"}, run__steps=2), base / "sub")
    stored = _recipe.load(base / "out" / "run" / "recipe.yaml", TrainRecipe, ("optim.schedule=constant", "run.steps=2"))
    assert run(stored, base / "out" / "run")["step"] == 2


def test_training_goes_on_from_a_local_model(base: Path) -> None:
    run(recipe("first", run__steps=4, data__eval="shards/heldout"), base)
    result = run(recipe("second", model={"path": "first/model"}, run__steps=2, data__eval="shards/heldout"), base)
    assert rows_of(base / "second")[0]["bits_per_byte"] == rows_of(base / "first")[-1]["bits_per_byte"]
    assert result["step"] == 2
    shutil.copy(base / "first" / "model" / "config.json", base / "config.json")
    run(recipe("third", model={"path": "config.json"}, run__steps=1), base)
    run(recipe("fourth", run__steps=1), base)
    assert rows_of(base / "third") == rows_of(base / "fourth")


def test_a_loss_that_is_no_number_stops_the_run(base: Path) -> None:
    from codedev.train import model as models

    run(recipe("first", run__steps=1), base)
    weights = weights_of(base / "first" / "model")
    weights["model.norm.weight"][:] = 1e38
    from transformers import AutoModelForCausalLM

    models.save(AutoModelForCausalLM.from_pretrained(base / "first" / "model"), weights, base / "broken")
    with pytest.raises(RunError) as caught:
        run(recipe("second", model={"path": "broken"}), base)
    assert "\n" not in str(caught.value)


def test_an_exploding_gradient_names_its_documents(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codedev.train import loop

    whole = loop.next_token_loss
    monkeypatch.setattr(loop, "next_token_loss", lambda forward, rows: whole(forward, rows) * float("inf"))
    with pytest.raises(RunError, match=r"step 1: the loss is (inf|nan).*doc-\d+-0") as caught:
        run(recipe(), base)
    assert "\n" not in str(caught.value)


def test_bad_input_is_one_clear_line(base: Path) -> None:
    with pytest.raises(InputError, match="there is no such directory"):
        run(recipe(data={"shards": "nowhere"}), base)
    write_shards(base / "unsupervised", spans=[[]] * 40)
    with pytest.raises(RunError, match="step 1: no token of its 8 rows is trained on"):
        run(recipe("none", data={"shards": "unsupervised"}), base)
    write_shards(base / "alien", tokenizer={"file": "tokenizer.json", "hash": "alien"})
    with pytest.raises(InputError, match="another tokenizer"):
        run(recipe(data__eval="alien"), base)
    with pytest.raises(RecipeError, match=r"batch\.tokens"):
        run(recipe(batch={"tokens": 100}), base)
    (base / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        run(recipe("file"), base)


def test_generating(base: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from codedev.train.use.generate import generate

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:247]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(["<bos>", "<eos>", "<pad>", *alphabet])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(["<bos>", "<eos>", "<pad>"])
    tokenizer.save(str(base / "shards" / "tokenizer.json"))
    run(recipe(run__steps=2), base)
    texts = [generate(base / "run", "ab", max_new_tokens=12, seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert generate(base / "run" / "model", "", max_new_tokens=5, temperature=0) == generate(base / "run", "", 5, 0, seed=7)
    (base / "run" / "model" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        generate(base / "run", "ab")
