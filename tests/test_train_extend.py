"""A model whose vocabulary grows with its shards' tokenizer: what the new rows begin as, that they are trained, saved, merged and go on."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_tokenize_documents import document, stdlib_texts, write_corpus
from train_support import TINY, recipe

from codedev import _recipe
from codedev._errors import InputError, RecipeError
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.extend import extend_tokenizer, mean_of_pieces
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.train import train_tokenizer
from codedev.train import extend, run, tune
from codedev.train import model as models
from codedev.train.data import open_shards
from codedev.train.recipe import ModelRecipe
from codedev.train.use.merge import loss_of, merge
from codedev.train.watch.metrics import read_metrics

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
needs_4bit = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install -e '.[quant]'")
KINDS: dict[str, dict[str, Any]] = {
    "llama": {**TINY, "vocab_size": 500},  # no room in its matrices
    "glm": {**TINY, "model_type": "glm", "head_dim": 16, "tie_word_embeddings": True},  # 512 rows: room for some
}
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"tune": "lora", "lora": {"r": 4}},
    "dora": {"tune": "lora", "lora": {"r": 4, "dora": True}},
    "qlora": {"tune": "qlora", "lora": {"r": 4}},
}


class StopError(Exception):
    pass


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("tokens_per_second", "mfu")} for row in read_metrics(run_dir)]


def tokenized(folder: Path, corpus: str, tokenizer: str, out: str) -> None:
    keys = {"seq_len": 64, "fim": {"rate": 0.0}}
    tokenize_corpus(folder / corpus, folder / tokenizer, folder / out, _recipe.check(keys, TokenizeRecipe, "recipe"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that know prose, with a tokenizer of prose, and shards of programs whose tokenizer extends it."""
    folder = tmp_path_factory.mktemp("extend")
    prose = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
    write_corpus(folder / "prose", [document(i, text[:20_000]) for i, text in enumerate(prose)])
    write_corpus(folder / "code", [document(i, text[:20_000]) for i, text in enumerate(stdlib_texts(12))])
    train_tokenizer(folder / "prose", folder / "tokenizer", vocab_size=500, special_slots=30)
    extend_tokenizer(folder / "tokenizer", folder / "extended", corpus=folder / "code", add=60, special=["<|unit|>"])
    tokenized(folder, "prose", "tokenizer", "prose-shards")
    tokenized(folder, "code", "extended", "shards")
    for kind, config in KINDS.items():
        wanted = recipe(
            f"base-{kind}", model={"config": config}, data={"shards": "prose-shards"}, run__steps=60, optim__schedule="constant"
        )
        run(wanted, folder)
    return folder


def settings(directory: str, kind: str, **more: Any) -> Any:
    defaults: dict[str, Any] = {"model": {"path": f"base-{kind}/model"}, "batch": {"rows": 8, "micro_rows": 4}, "run__steps": 6}
    return recipe(directory, **{**defaults, "optim__schedule": "constant", **more})


def built(folder: Path, kind: str) -> Any:
    return models.build(ModelRecipe(path=str(folder / f"base-{kind}/model")), open_shards((folder / "shards",)), "sdpa", 0)


@pytest.mark.parametrize("kind", KINDS)
def test_new_rows_are_the_mean_of_their_old_pieces(base: Path, kind: str) -> None:
    old, new = models.load(base / f"base-{kind}/model", "sdpa"), built(base, kind)
    told = json.loads((base / "extended/extension.json").read_text())
    found = extend.of(new)
    assert found
    size = told["size"]
    assert (found.old, found.size) == (500, size)
    assert size == 561
    by_id = {told["first"] + number: pieces for number, pieces in enumerate(told["pieces"])}
    assert found.pieces.keys() == by_id.keys()
    # What the old tokenizer makes of a name by itself is almost always what it made of it in the words that the token was learned from.
    same = [number for number in by_id if found.pieces[number] == by_id[number]]
    assert len(same) > 0.9 * len(by_id)
    rows = 561 if kind == "llama" else 576
    for before, after in (
        (old.get_input_embeddings().weight, new.get_input_embeddings().weight),
        (old.get_output_embeddings().weight, new.get_output_embeddings().weight),
    ):
        expected = mean_of_pieces(before.detach().numpy()[:500], told)
        assert after.shape[0] == rows
        assert torch.equal(after[:500], before[:500])
        np.testing.assert_array_equal(after.detach().numpy()[same], expected[same])
        assert torch.allclose(after[size:], before[:500].mean(0), atol=1e-6)  # padding
    assert (new.get_input_embeddings().weight is new.get_output_embeddings().weight) == (kind == "glm")
    assert new.config.vocab_size == rows
    assert new.get_output_embeddings().out_features == rows


def test_programs_are_likelier_than_with_random_rows(base: Path) -> None:
    """The loss of real source files before the first step; of a model that was trained for 60 steps, so with tied matrices alone."""
    shards, numbers, kind = open_shards((base / "shards",)), np.arange(24), "glm"
    model = built(base, kind)
    mean = loss_of(model, shards, numbers, CPU)
    random = models.load(base / f"base-{kind}/model", "sdpa")
    torch.manual_seed(0)
    random.resize_token_embeddings(model.config.vocab_size, mean_resizing=False)
    assert mean < loss_of(random, shards, numbers, CPU) - 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_training_in_full_saves_the_larger_model_and_goes_on(base: Path, kind: str, capfd: Any) -> None:
    from transformers import AutoModelForCausalLM

    def stop(row: dict[str, Any]) -> None:
        if row["step"] == 5:
            raise StopError

    more = {"run__save_every": 2}
    run(settings(f"whole-{kind}", kind, **more), base)
    said = capfd.readouterr().err
    rows = 561 if kind == "llama" else 576
    assert (
        f"the shards' tokenizer extends the model's: 61 new tokens, each beginning as the mean of its old pieces; vocab_size {rows}" in said
    )
    with pytest.raises(StopError):
        run(settings(f"cut-{kind}", kind, **more), base, stop)
    capfd.readouterr()
    run(settings(f"cut-{kind}", kind, **more), base)
    assert "new tokens" not in capfd.readouterr().err
    assert rows_of(base / f"cut-{kind}") == rows_of(base / f"whole-{kind}")
    a, b = (load_file(base / name / "model/model.safetensors") for name in (f"whole-{kind}", f"cut-{kind}"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    model, report = AutoModelForCausalLM.from_pretrained(base / f"whole-{kind}/model", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert model.config.vocab_size == rows == len(model.get_input_embeddings().weight)
    before = built(base, kind).get_input_embeddings().weight
    assert bool((model.get_input_embeddings().weight[500:560] != before[500:560]).any(1).all())
    # The saved model has the larger tokenizer: there is nothing to extend any more.
    run(settings(f"next-{kind}", kind, model={"path": f"whole-{kind}/model"}, run__steps=1), base)
    assert "new tokens" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_4bit if name == "qlora" else ()) for name in ADAPTERS])
def test_an_adapter_trains_the_new_rows_and_merges_exactly(base: Path, kind: str, name: str) -> None:
    from transformers import AutoModelForCausalLM

    folder = base / f"{name}-{kind}"
    wanted = settings(folder.name, kind, **ADAPTERS[name], optim__lr=1e-2, run__save_every=3)
    run(wanted, base)

    def stop(row: dict[str, Any]) -> None:
        if row["step"] == 5:
            raise StopError

    cut = wanted.model_copy(update={"run": wanted.run.model_copy(update={"dir": f"{name}-{kind}-cut"})})
    with pytest.raises(StopError):
        run(cut, base, stop)
    run(cut, base)
    assert rows_of(base / f"{name}-{kind}-cut") == rows_of(folder)
    for file in sorted((folder / "model").iterdir()):
        assert (base / f"{name}-{kind}-cut/model" / file.name).read_bytes() == file.read_bytes()

    weights = load_file(folder / "model/adapter_model.safetensors")
    deltas = {key: value for key, value in weights.items() if "trainable_tokens_delta" in key}
    assert len(deltas) == (1 if kind == "glm" else 2)
    assert all(value.shape == (61, 64) for value in deltas.values())
    first = built(base, kind).get_input_embeddings().weight[500:561]
    table = next(value for key, value in deltas.items() if "embed_tokens" in key)
    assert bool((table != first).any(1)[:60].all())
    assert not [key for key in weights if value_is_large(weights[key])]

    shards, rows = open_shards((base / "shards",)), np.arange(12)
    live = tune.open_adapter(folder / "model")
    found = merge(folder, "dequant", base / f"{name}-{kind}-merged", rows=12)
    assert found["difference"] <= 1e-5
    assert found["live_loss"] == loss_of(live, shards, np.linspace(0, shards.rows - 1, 12).astype(np.int64), CPU)
    assert not list((base / f"{name}-{kind}-merged").glob("*adapter*"))
    assert not (base / f"{name}-{kind}-merged" / extend.RECORD).exists()
    plain = AutoModelForCausalLM.from_pretrained(base / f"{name}-{kind}-merged")
    assert torch.equal(plain.get_input_embeddings().weight[500:561], table)
    assert loss_of(plain, shards, rows, CPU) == pytest.approx(loss_of(live, shards, rows, CPU), abs=1e-5)
    assert merge(folder, "adapter", base / f"{name}-{kind}-copy", rows=4)["difference"] == 0
    assert read_metrics(folder)[-1]["loss"] < read_metrics(folder)[0]["loss"]


def value_is_large(value: torch.Tensor) -> bool:
    return value.numel() >= 500 * 64


def fault(kind: type[Exception], part: str, folder: Path, **changes: Any) -> None:
    with pytest.raises(kind) as caught:
        run(settings("refused", changes.pop("kind", "llama"), **changes), folder)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_extended_is_refused(base: Path, tmp_path: Path) -> None:
    for name in ("shards", "base-llama"):
        shutil.copytree(base / name, tmp_path / name)
    for name in ("prompt", "prefix"):
        fault(RecipeError, f"tune: {name} leaves the model's embeddings as they are, and the shards have 61 tokens", tmp_path, tune=name)
    file = tmp_path / "shards/tokenizer.json"
    good = json.loads(file.read_text())
    # An old token is gone, and others are new: it is no extension.
    bad = json.loads(file.read_text())
    last = max((number, token) for token, number in bad["model"]["vocab"].items() if number < 500)[1]
    del bad["model"]["vocab"][last]
    bad["model"]["merges"] = [pair for pair in bad["model"]["merges"] if last not in pair and "".join(pair) != last]
    bad["model"]["merges"] = [pair for pair in bad["model"]["merges"] if {*pair, "".join(pair)} <= bad["model"]["vocab"].keys()]
    file.write_text(json.dumps(bad))
    fault(InputError, "its tokenizer is no extension of the model's", tmp_path)
    # An old id is another token.
    swapped = json.loads(json.dumps(good))
    swapped["model"]["vocab"][last], swapped["model"]["vocab"]["!"] = swapped["model"]["vocab"]["!"], swapped["model"]["vocab"][last]
    file.write_text(json.dumps(swapped))
    fault(InputError, "its tokens are not the model's", tmp_path)
    file.write_text(json.dumps(good))
    # The model has a tokenizer of more tokens than itself.
    config = tmp_path / "base-llama/model/config.json"
    kept = config.read_text()
    own = tmp_path / "base-llama/model/tokenizer.json"
    own_kept = own.read_text()
    own.write_text(json.dumps(good))
    fault(RecipeError, "its vocabulary has 500 entries, the shards need 561", tmp_path)
    # None that would say which tokens are new.
    own.unlink()
    fault(RecipeError, "its vocabulary has 500 entries, the shards need 561", tmp_path)
    own.write_text(own_kept)
    assert config.read_text() == kept
    assert run(settings("fine", "llama", run__steps=1), tmp_path)["step"] == 1


def test_a_record_that_is_none(base: Path, tmp_path: Path) -> None:
    run(settings("adapter", "llama", **ADAPTERS["lora"], run__steps=1), base)
    model = tmp_path / "model"
    shutil.copytree(base / "adapter/model", model)
    good = json.loads((model / extend.RECORD).read_text())
    for change in (
        {"size": 1 << 40},
        {"size": "561"},
        {"old": 0},
        {"old": 700, "size": 800},
        {"pieces": {"9999": [1]}},
        {"pieces": {"520": [555]}},
        {"pieces": {"520": ["1"]}},
        {"pieces": [1]},
        {"format": "x"},
    ):
        (model / extend.RECORD).write_text(json.dumps({**good, **change}))
        with pytest.raises(InputError) as caught:
            tune.open_adapter(model, base=base / "base-llama/model")
        assert "\n" not in str(caught.value)
    (model / extend.RECORD).write_text("[]")
    with pytest.raises(InputError):
        tune.open_adapter(model, base=base / "base-llama/model")
    (model / extend.RECORD).unlink()  # the trained rows have no place
    with pytest.raises(InputError):
        tune.open_adapter(model, base=base / "base-llama/model")


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch.distributed as dist
import test_train_extend as tests
from codedev.train import run
dist.init_process_group("gloo")
for how, kind, name in tests.SPREAD:
    run(tests.spread(how, kind, name), Path(sys.argv[1]))
dist.destroy_process_group()
"""
SPREAD = [("fsdp", "llama", "full"), ("fsdp", "glm", "full"), ("fsdp", "llama", "lora"), ("fsdp", "glm", "lora"), ("ddp", "glm", "lora")]


def spread(how: str, kind: str, name: str) -> Any:
    keys = ADAPTERS.get(name, {})
    parallel = {} if how == "one" else {"run__parallel": how}
    return settings(f"spread-{how}-{kind}-{name}", kind, **keys, run__steps=4, **parallel)


@pytest.mark.slow
def test_two_processes_train_new_rows_as_one_does(base: Path) -> None:
    (base / "worker.py").write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    command = [*launch, str(base / "worker.py"), str(base), str(Path(__file__).parent)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("61 new tokens") == len(SPREAD)  # told once a run
    for how, kind, name in SPREAD:
        one = base / f"spread-one-{kind}-{name}"
        if not one.is_dir():
            run(spread("one", kind, name), base)
        two = base / f"spread-{how}-{kind}-{name}"
        assert [row["loss"] for row in read_metrics(two)] == pytest.approx([row["loss"] for row in read_metrics(one)], rel=2e-5)
        for file in sorted((one / "model").glob("*.safetensors")):
            a, b = load_file(file), load_file(two / "model" / file.name)
            assert a.keys() == b.keys()
            for key in a:
                torch.testing.assert_close(a[key], b[key], atol=2e-4, rtol=2e-3, msg=f"{two.name} {key}")
