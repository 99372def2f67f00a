"""A run is a function of its recipe, data and seed: cut up, interrupted, killed, spread over processes or read back, it is the same."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from train_support import SEQ_LEN, TINY, recipe, write_shards

from codedev._errors import RecipeError, RunError
from codedev.train import checkpoint, pretrain, run, tune
from codedev.train import model as models
from codedev.train.compute import attention
from codedev.train.compute.parallel import World
from codedev.train.data import open_shards
from codedev.train.recipe import ModelRecipe, absolute
from codedev.train.use.merge import loss_of
from codedev.train.watch.metrics import read_metrics

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "loss_curves.json"
CPU, FLOAT = torch.device("cpu"), torch.float32
needs_4bit = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install -e '.[quant]'")
GLM = {**TINY, "model_type": "glm", "head_dim": 16}
BASE = {"config": {**TINY, "initializer_range": 0.1, "vocab_size": 256}}
LORA = {"r": 4, "alpha": 8.0}
# name -> (recipe keys, learning rate)
TUNINGS: dict[str, tuple[dict[str, Any], float]] = {
    "full": ({"tune": "full"}, 3e-3),
    "lora": ({"tune": "lora", "lora": LORA}, 5e-3),
    "dora": ({"tune": "lora", "lora": {**LORA, "dora": True}}, 5e-3),
    "qlora": ({"tune": "qlora", "lora": LORA}, 5e-3),
    "prompt": ({"tune": "prompt", "prompt": {"tokens": 4}}, 3e-2),
    "prefix": ({"tune": "prefix", "prefix": {"tokens": 4}}, 3e-2),
}
EVERY = [pytest.param(name, marks=needs_4bit if name == "qlora" else ()) for name in TUNINGS]


class StopError(Exception):
    pass


def stop_at(step: int) -> Any:
    def stop(row: dict[str, Any]) -> None:
        if row["step"] == step and "loss" in row:
            raise StopError

    return stop


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without the timings."""
    return [{k: v for k, v in row.items() if k not in ("tokens_per_second", "mfu")} for row in read_metrics(run_dir)]


def losses(run_dir: Path) -> list[float]:
    return [row.get("loss", row.get("bits_per_byte")) for row in read_metrics(run_dir)]


def prepare(folder: Path) -> Path:
    """Shards for both stages, held-out ones, and a model to begin with."""
    write_shards(folder / "pt")
    write_shards(folder / "heldout", rows=6, seed=9)
    some = np.random.default_rng(4).integers(1, SEQ_LEN // 2, (40, 2))
    write_shards(folder / "sft", seed=5, spans=[[{"start": int(a), "end": int(a + b)}] for a, b in some])
    run(recipe("base", model=BASE, data={"shards": "pt"}, run__steps=2), folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("exact"))


def settings(stage: str, name: str, directory: str, **more: Any) -> Any:
    keys, rate = TUNINGS[name]
    given: dict[str, Any] = {
        "stage": stage,
        "model": {"path": "base/model"},
        "data": {"shards": stage},
        "batch": {"rows": 4, "micro_rows": 4},
        "optim": {"lr": rate, "warmup": 1, "cooldown": 0.3},
        "run": {"dir": directory, "steps": 6, "save_every": 2, "keep": 9},
    }
    return recipe(directory, **{**given, **keys, **more})


# -- the same losses, however it was come by ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "glm"])
def test_golden_curves(tmp_path: Path, kind: str) -> None:
    """Twenty steps. A change of the data, its order, the loss, the schedule or the optimizer moves these by more than the tolerance."""
    write_shards(tmp_path / "shards")
    run(recipe(model={"config": {**(TINY if kind == "llama" else GLM), "tie_word_embeddings": kind == "glm"}}, run__steps=20), tmp_path)
    golden = json.loads(GOLDEN.read_text())
    assert losses(tmp_path / "run") == pytest.approx(golden["losses"][kind], abs=golden["tolerance"])


@pytest.mark.parametrize("stage", ["pt", "sft"])
@pytest.mark.parametrize("name", EVERY)
def test_interrupted_accumulated_and_read_back(base: Path, stage: str, name: str) -> None:
    whole, cut = base / f"{stage}-{name}-whole", base / f"{stage}-{name}-cut"
    dropout = {"lora": {**LORA, "dropout": 0.1}} if name == "lora" else {}
    run(settings(stage, name, whole.name, **dropout), base)
    for step in (1, 3):  # before the first checkpoint, and after one
        with pytest.raises(StopError):
            run(settings(stage, name, cut.name, **dropout), base, stop_at(step))
    run(settings(stage, name, cut.name, **dropout), base)
    assert rows_of(cut) == rows_of(whole)
    assert len(losses(whole)) == 6
    for part in ("model", "checkpoints/step-00000006"):
        files = sorted(path.name for path in (whole / part).iterdir())
        assert files == sorted(path.name for path in (cut / part).iterdir())
        for file in files:
            assert (cut / part / file).read_bytes() == (whole / part / file).read_bytes(), file

    # Read back from the checkpoint as a run does, and from RUN/model as anybody does.
    shards, rows = open_shards((base / stage,)), np.arange(6)
    wanted = absolute(settings(stage, name, whole.name, **dropout), base)
    at = checkpoint.directory(whole, 6)
    live = pretrain._model(wanted, shards, "sdpa", at, World(0, 1, CPU), FLOAT)
    saved = models.load(whole / "model", "sdpa") if name == "full" else tune.open_adapter(whole / "model")
    assert loss_of(live, shards, rows, CPU) == loss_of(saved, shards, rows, CPU)

    if stage == "sft":  # rows of very different numbers of supervised tokens
        run(settings(stage, name, f"{name}-four", batch={"rows": 4, "micro_rows": 1}), base)
        if name != "lora":  # its dropout falls on other numbers
            assert losses(base / f"{name}-four") == pytest.approx(losses(whole), rel=2e-5)
        else:
            run(settings(stage, name, f"{name}-one"), base)
            assert losses(base / f"{name}-four") == pytest.approx(losses(base / f"{name}-one"), rel=2e-5)


# One launch for everything: starting two processes takes most of the time. Between the two halves the first process goes on alone.
WORKER = """
import os
import shutil
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch.distributed as dist
import test_train_exact as tests
from codedev.train import run
folder = Path(sys.argv[1])
dist.init_process_group("gloo")
for how, name in tests.SPREAD:
    tests.check_split(folder, how, name)
    run(tests.spread(how, name), folder)
    if name not in tests.ELASTIC:
        continue
    first = dist.get_rank() == 0
    if first:
        shutil.copytree(folder / f"{how}-{name}", folder / f"{how}-{name}-two")
        tests.forget(folder / f"{how}-{name}", 2)
        os.environ["WORLD_SIZE"] = "1"
        run(tests.spread(how, name), folder)
        os.environ["WORLD_SIZE"] = "2"
        shutil.copytree(folder / f"{how}-{name}", folder / f"{how}-{name}-one")
        tests.forget(folder / f"{how}-{name}", 4)
    dist.barrier()
    run(tests.spread(how, name), folder)
dist.destroy_process_group()
"""
SPREAD = [("ddp", "full"), ("fsdp", "full"), ("fsdp", "lora"), ("fsdp", "dora"), ("ddp", "qlora"), ("fsdp", "qlora")]
ELASTIC = ("full", "lora", "qlora")


def spread(how: str, name: str) -> Any:
    more: dict[str, Any] = {"run__parallel": how, "data": {"shards": "sft", "eval": "heldout"}, "batch": {"rows": 4, "micro_rows": 1}}
    return settings("sft", name, f"{how}-{name}", **more)


def forget(run_dir: Path, step: int) -> None:
    """Leave the run as one that was stopped after the checkpoint of `step`."""
    for path in (run_dir / "checkpoints").iterdir():
        if path.name > f"step-{step:08d}":
            shutil.rmtree(path)


def check_split(folder: Path, how: str, name: str) -> None:
    """FSDP2 holds half of every weight, frozen and 4-bit ones with them, after passes that had them whole."""
    from torch.distributed.tensor import DTensor

    from codedev.train.compute import parallel

    if how != "fsdp":
        return
    with parallel.world() as place:
        wanted = absolute(spread(how, name), folder)
        shards = open_shards((folder / "sft",))
        model = pretrain._model(wanted, shards, "sdpa", None, place, FLOAT)
        whole = {key: value.numel() for key, value in model.named_parameters()}
        wrapped = parallel.distribute(model, "fsdp", place, FLOAT)
        forward, ids = attention.forward_of(wrapped, "sdpa", CPU, FLOAT), torch.arange(16)[None]
        for _ in range(2):
            forward(ids, ids).sum().backward()
        parallel.reshard(wrapped)
        for key, value in model.named_parameters():
            assert isinstance(value, DTensor), key
            assert value.to_local().numel() <= (whole[key] + 1) // 2 + 256, key


@pytest.mark.slow
@needs_4bit
def test_two_processes_equal_one_and_a_run_goes_on_with_another_number(tmp_path: Path) -> None:
    """DDP and FSDP2; 2, then 1, then 2 processes. Both write what one process reads."""
    prepare(tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    command = [*launch, str(tmp_path / "worker.py"), str(tmp_path), str(here)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    for how, name in SPREAD:
        one = tmp_path / f"one-{name}"
        if not one.is_dir():
            wanted = spread(how, name)
            run(wanted.model_copy(update={"run": wanted.run.model_copy(update={"dir": one.name})}), tmp_path)
        told = losses(one)
        assert len(told) == 6 + 2
        runs = [f"{how}-{name}", *((f"{how}-{name}-two", f"{how}-{name}-one") if name in ELASTIC else ())]
        for directory in runs:
            assert losses(tmp_path / directory) == pytest.approx(told, rel=2e-5), directory
            for file in sorted((one / "model").glob("*.safetensors")):
                a, b = load_file(file), load_file(tmp_path / directory / "model" / file.name)
                assert a.keys() == b.keys()
                for key in a:
                    torch.testing.assert_close(a[key], b[key], atol=2e-4, rtol=2e-3, msg=f"{directory} {key}")


# -- documents of a packed row -------------------------------------------------------------------------------------------------------

WINDOW = {"sliding_window": 5}
KINDS: dict[str, dict[str, Any]] = {
    "llama": TINY,
    "qwen3": {**TINY, "model_type": "qwen3", "head_dim": 16},
    "glm": GLM,
    "glm4": {**TINY, "model_type": "glm4", "head_dim": 16},
    "mistral": {**TINY, "model_type": "mistral", "head_dim": 16, **WINDOW},
    "phi3": {**TINY, "model_type": "phi3", "pad_token_id": 2, **WINDOW},
    "qwen2": {**TINY, "model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1, **WINDOW},
    "gemma2": {**TINY, "model_type": "gemma2", "head_dim": 16, **WINDOW},
    "gemma3_text": {**TINY, "model_type": "gemma3_text", "head_dim": 16, **WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "olmo2": {**TINY, "model_type": "olmo2"},
    "cohere2": {**TINY, "model_type": "cohere2", "head_dim": 16, **WINDOW},
    "gpt_neox": {"model_type": "gpt_neox", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}
# Without positions that restart, or with a state that runs on: these cannot be packed, and must say so.
REFUSED: dict[str, dict[str, Any]] = {
    "mamba": {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "state_size": 4},
    "bloom": {"model_type": "bloom", "hidden_size": 64, "n_layer": 2, "n_head": 4},
}


# Gemma 2 caps its scores, which sdpa cannot: transformers refuses it.
@pytest.mark.parametrize(
    ("kind", "attn"), [(kind, attn) for kind in KINDS for attn in ("sdpa", "eager") if (kind, attn) != ("gemma2", "sdpa")]
)
def test_packed_logits_are_separate_logits(base: Path, kind: str, attn: str) -> None:
    """Documents of rows against each alone, by the model's own plain call. Windows are shorter than documents."""
    shards = open_shards((base / "pt",))
    model = models.build(ModelRecipe(config={**KINDS[kind], "initializer_range": 0.1}), shards, attn, seed=0).eval()
    forward = attention.forward_of(model, attn, CPU, FLOAT)
    rng = np.random.default_rng(0)
    lengths = [[1, 17, 30, 9, 7], [64], [20, 1, 1, 42]]
    ids = torch.from_numpy(rng.integers(0, 250, (len(lengths), 64)))
    positions = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in lengths])
    with torch.no_grad():
        packed = forward(ids, positions)
        for row, pieces in enumerate(lengths):
            at = 0
            for length in pieces:
                alone = model(input_ids=ids[row : row + 1, at : at + length], use_cache=False).logits[0]
                torch.testing.assert_close(packed[row, at : at + length], alone, atol=2e-5, rtol=1e-4)
                at += length


@pytest.mark.parametrize("kind", REFUSED)
def test_models_that_cannot_keep_documents_apart_are_refused(base: Path, kind: str) -> None:
    with pytest.raises((RunError, RecipeError)) as caught:
        run(recipe(f"refused-{kind}", model={"config": REFUSED[kind], "attn": "eager"}, data={"shards": "pt"}, run__steps=1), base)
    assert "\n" not in str(caught.value)
    assert not (base / f"refused-{kind}" / "model").exists()


# -- checkpoints that are damaged ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped at step 6, with the checkpoints of 2, 4 and 6, and the same run undisturbed."""
    folder = tmp_path_factory.mktemp("saved")
    write_shards(folder / "shards")
    run(recipe("whole", run__steps=8, run__save_every=2, run__keep=9), folder)
    with pytest.raises(StopError):
        run(recipe("cut", run__steps=8, run__save_every=2, run__keep=9), folder, stop_at(7))
    return folder


@pytest.fixture
def cut(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    return tmp_path


def damaged(file: Path, how: str) -> None:
    data = file.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "short":
        file.write_bytes(data[:-5])
    elif how == "flipped":  # a number that stays one
        at = data.rindex(b"0") if file.suffix == ".json" else len(data) - 30
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


GO_ON = {"run__steps": 8, "run__save_every": 2, "run__keep": 9}


@pytest.mark.parametrize("how", ["flipped", "short", "gone"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "config.json", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(cut: Path, capfd: Any, name: str, how: str) -> None:
    file = cut / "cut/checkpoints/step-00000006" / name
    damaged(file, how)
    run(recipe("cut", **GO_ON), cut)
    said = capfd.readouterr().err
    assert f"{file}: is" in said
    assert "It was set aside as damaged-step-00000006; the run goes on from step 4" in said
    assert rows_of(cut / "cut") == rows_of(cut / "whole")
    for part in ("model", "checkpoints/step-00000008"):
        for path in sorted((cut / "whole" / part).iterdir()):
            assert (cut / "cut" / part / path.name).read_bytes() == path.read_bytes()
    assert checkpoint.steps_saved(cut / "cut") == [2, 4, 6, 8]
    assert checkpoint.damage(cut / "cut/checkpoints/step-00000006") is None
    assert (cut / "cut/checkpoints/damaged-step-00000006").is_dir()


def test_several_damaged_checkpoints_and_none_that_is_whole(cut: Path, capfd: Any) -> None:
    checkpoints = cut / "cut/checkpoints"
    damaged(checkpoints / "step-00000006/model.safetensors", "flipped")
    damaged(checkpoints / "step-00000004/optimizer.safetensors", "short")
    shutil.copytree(cut / "cut", cut / "more")
    run(recipe("cut", **GO_ON), cut)
    assert rows_of(cut / "cut") == rows_of(cut / "whole")
    assert capfd.readouterr().err.count("the run goes on from step 2") == 2
    damaged(cut / "more/checkpoints/step-00000002/state.json", "flipped")
    for _ in range(2):  # nothing was moved, nothing begun
        with pytest.raises(RunError, match=r"step-00000006/model\.safetensors: is missing or damaged.*No checkpoint is whole") as caught:
            run(recipe("more", **GO_ON), cut)
        assert "\n" not in str(caught.value)
        assert checkpoint.steps_saved(cut / "more") == [2, 4, 6]
    with pytest.raises(RunError, match="holds a run at step 6"):
        run(recipe("more", run__resume="never", **GO_ON), cut)


def test_a_checkpoint_from_before_there_were_hashes(cut: Path) -> None:
    file = cut / "cut/checkpoints/step-00000006/state.json"
    content = {name: value for name, value in json.loads(file.read_text()).items() if name not in ("files", "hash")}
    file.write_text(json.dumps(content))
    run(recipe("cut", **GO_ON), cut)
    assert rows_of(cut / "cut") == rows_of(cut / "whole")
    assert not list((cut / "cut/checkpoints").glob("damaged-*"))
    file.write_text(json.dumps({**content, "format": "codedev.checkpoint/9"}))
    forget(cut / "cut", 6)
    with pytest.raises(RunError, match=r"its format is 'codedev\.checkpoint/9'"):
        run(recipe("cut", **GO_ON), cut)


def test_only_the_newest_checkpoints_are_kept(saved: Path) -> None:
    for keep in (1, 3):
        run(recipe(f"keep{keep}", run__steps=7, run__save_every=1, run__keep=keep), saved)
        assert checkpoint.steps_saved(saved / f"keep{keep}") == list(range(8 - keep, 8))
        assert all(checkpoint.damage(path) is None for path in (saved / f"keep{keep}/checkpoints").iterdir())


# Children of a process that has everything imported: a life costs what the run costs.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from train_support import recipe
from codedev.train import pretrain, run
from transformers.models.llama import modeling_llama
folder = Path(sys.argv[1])
moments = random.Random(int(sys.argv[3]))
def life(name):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(recipe(name, run__steps=200, run__save_every=1, run__keep=2), folder)
            code = 0
        finally:
            os._exit(code)
    return child
metrics = folder / "cut" / "metrics.jsonl"
kills = 0
while kills < 10:
    before = metrics.stat().st_size if metrics.is_file() else 0
    child = life("cut")
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if metrics.is_file() and metrics.stat().st_size > before + 300:
            time.sleep(moments.uniform(0, 0.3))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            kills += os.WIFSIGNALED(status)
            break
        time.sleep(0.002)
    else:
        raise SystemExit(f"the run ended after {kills} kills")
assert os.waitpid(life("cut"), 0)[1] == 0
assert os.waitpid(life("whole"), 0)[1] == 0
"""


@pytest.mark.slow
def test_a_run_killed_ten_times_while_it_saves_after_every_step(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    seed = random.randrange(1 << 30)
    command = [sys.executable, "-c", KILLER, str(tmp_path), str(Path(__file__).parent), str(seed)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, (seed, done.stdout[-500:], done.stderr[-3000:])
    assert len(losses(tmp_path / "whole")) == 200
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    assert (tmp_path / "cut/model/model.safetensors").read_bytes() == (tmp_path / "whole/model/model.safetensors").read_bytes()
    assert not list((tmp_path / "cut").rglob("damaged-*"))
    assert checkpoint.steps_saved(tmp_path / "cut") == [199, 200]
