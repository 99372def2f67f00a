"""Tuning methods and instruction tuning: each learns, goes on to the bit, is read by plain peft, and merges into the same loss."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from train_support import SEQ_LEN, TINY, recipe, write_shards

from codedev import _recipe
from codedev._errors import InputError, MissingExtraError, RecipeError, RunError
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.train import train_tokenizer
from codedev.train import model as models
from codedev.train import run, tune
from codedev.train.compute import attention
from codedev.train.data import open_shards
from codedev.train.recipe import absolute
from codedev.train.sft import check_spans, supervised
from codedev.train.use.merge import TOLERANCE, loss_of, merge
from codedev.train.watch.metrics import matrix_parameters, read_metrics

SAMPLES = Path(__file__).parent.parent / "samples"
KINDS = {"llama": TINY, "qwen3": {**TINY, "model_type": "qwen3", "head_dim": 32}}  # heads wider than hidden_size / heads
needs_4bit = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install -e '.[quant]'")
# name -> (recipe keys, learning rate, nats a token by which the loss of the same rows must fall in 16 steps, on samples and on real rows)
METHODS: dict[str, tuple[dict[str, Any], float, float, float]] = {
    "full": ({"tune": "full"}, 3e-3, 0.6, 0.2),
    "lora": ({"tune": "lora"}, 5e-3, 0.4, 0.03),
    "dora": ({"tune": "lora", "lora": {"r": 8, "alpha": 16.0, "dropout": 0.1, "dora": True, "rslora": True}}, 5e-3, 0.3, 0.02),
    "qlora": ({"tune": "qlora", "lora": {"targets": ("q_proj", "v_proj", "down_proj")}}, 5e-3, 0.3, 0.02),
    "prompt": ({"tune": "prompt", "prompt": {"tokens": 8}}, 3e-2, 0.1, 0.005),
    "prefix": ({"tune": "prefix", "prefix": {"tokens": 8}}, 3e-2, 0.2, 0.004),
    "projected": ({"tune": "prefix", "prefix": {"tokens": 8, "projection": True}}, 1e-2, 0.05, 0.005),
}
ADAPTERS = [pytest.param(name, marks=needs_4bit if name == "qlora" else ()) for name in METHODS if name != "full"]
BASE_STEPS = 12
EVERY = ["full", *ADAPTERS]


class StopError(Exception):
    pass


def stop_at(step: int) -> Any:
    def stop(row: dict[str, Any]) -> None:
        if row["step"] == step and "loss" in row:
            raise StopError

    return stop


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("tokens_per_second", "mfu")} for row in read_metrics(run_dir)]


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Of separate documents (B, S), by the model's own call."""
    learned = tune.is_adapter(model) and model.active_peft_config.is_prompt_learning
    with torch.no_grad():
        return model(input_ids=ids, use_cache=learned).logits[:, -ids.shape[1] :].float()


def conversations(folder: Path, files: list[str], vocab_size: int = 400) -> Path:
    """Shards of the conversations in tables, through the whole pipeline."""
    sources = [{"name": "chats", "type": "tables", "paths": files}]
    build(recipes.check({"name": "sft", "sources": sources}, "recipe"), folder, folder / "corpus")
    train_tokenizer(folder / "corpus", folder / "tokenizer", vocab_size=vocab_size, special_slots=64)
    keys = {"mode": "sft", "seq_len": 128}
    tokenize_corpus(folder / "corpus", folder / "tokenizer", folder / "shards", _recipe.check(keys, TokenizeRecipe, "recipe"))
    return folder


def bases(folder: Path) -> None:
    """A model of each kind, trained a little in full."""
    for kind, config in KINDS.items():
        run(
            sft(
                f"base-{kind}",
                model={"config": {**config, "max_position_embeddings": 160, "initializer_range": 0.1}},
                run__steps=BASE_STEPS,
            ),
            folder,
        )


def sft(directory: str, **changes: Any) -> Any:
    defaults: dict[str, Any] = {"stage": "sft", "run__steps": 16, "optim__schedule": "constant", "batch": {"rows": 4, "micro_rows": 2}}
    return recipe(directory, **{**defaults, **changes})


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = conversations(tmp_path_factory.mktemp("samples"), [str(SAMPLES / "tables/chats.jsonl")])
    bases(folder)
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("real")
    rows = json.loads((data_dir / "instruction/sahil280114__codealpaca/data/code_alpaca_2k.json").read_text())
    (folder / "alpaca.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:600]))
    conversations(folder, [str(folder / "alpaca.jsonl")], 600)
    bases(folder)
    return folder


def tuned(folder: Path, kind: str, name: str) -> Path:
    """The run of a method, made by the first test that asks for it."""
    directory = folder / f"{kind}-{name}"
    if not directory.is_dir():
        run(settings(kind, name, directory.name), folder)
    return directory


def settings(kind: str, name: str, directory: str, **more: Any) -> Any:
    keys, rate, *_ = METHODS[name]
    return sft(directory, model={"path": f"base-{kind}/model"}, optim__lr=rate, run__dir=directory, **keys, **more)


def gain(folder: Path, kind: str, name: str) -> float:
    """Nats a token by which the loss of the same rows fell in a run, beside that of the adapter as it began."""
    directory, device, shards = tuned(folder, kind, name), torch.device("cpu"), open_shards((folder / "shards",))
    rows = np.arange(min(24, shards.rows))
    model = models.load(directory / "model", "sdpa") if name == "full" else tune.open_adapter(directory / "model")
    return loss_of(began(folder, kind, name), shards, rows, device) - loss_of(model, shards, rows, device)


def began(folder: Path, kind: str, name: str) -> Any:
    """The model and adapter of a run before its first step."""
    wanted, shards = absolute(settings(kind, name, "again"), folder), open_shards((folder / "shards",))
    extra = tune.four_bit(torch.device("cpu"), torch.float32) if name == "qlora" else None
    return tune.attach(models.build(wanted.model, shards, "sdpa", 0, extra), wanted, shards, torch.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
def test_every_method_learns(samples: Path, kind: str, name: str) -> None:
    assert gain(samples, kind, name) > METHODS[name][2]
    assert all(row["supervised"] > 0 for row in read_metrics(samples / f"{kind}-{name}"))


@pytest.mark.realdata
@pytest.mark.parametrize(("kind", "name"), [*(("llama", name) for name in ("full", "lora", "prompt", "prefix")), ("qwen3", "projected")])
def test_every_method_learns_from_real_instructions(real: Path, kind: str, name: str) -> None:
    assert gain(real, kind, name) > METHODS[name][3]


@pytest.mark.parametrize("name", [param for param in ADAPTERS if param.values[0] not in ("lora", "prefix")])
def test_an_interrupted_run_equals_an_undisturbed_one(samples: Path, name: str) -> None:
    more = {"run__save_every": 2, "run__keep": 9, "run__steps": 5}
    run(settings("qwen3", name, f"whole-{name}", **more), samples)
    with pytest.raises(StopError):
        run(settings("qwen3", name, f"cut-{name}", **more), samples, stop_at(3))
    assert read_metrics(samples / f"cut-{name}")[-1]["step"] == 3  # after the checkpoint of step 2
    run(settings("qwen3", name, f"cut-{name}", **more), samples)
    assert rows_of(samples / f"cut-{name}") == rows_of(samples / f"whole-{name}")
    for part in ("model", "checkpoints/step-00000005"):
        a, b = samples / f"cut-{name}" / part, samples / f"whole-{name}" / part
        files = sorted(path.name for path in a.iterdir())
        assert files == sorted(path.name for path in b.iterdir())
        for file in files:
            assert (a / file).read_bytes() == (b / file).read_bytes(), file
    weights = {path.name for path in (samples / f"cut-{name}/checkpoints/step-00000005").glob("*.safetensors")}
    assert weights == {"adapter_model.safetensors", "trainable.safetensors", "optimizer.safetensors"}
    for path in (samples / f"cut-{name}").rglob("*.safetensors"):  # adapters alone: not one weight of the base
        with safe_open(str(path), "pt") as file:
            assert not [key for key in file.keys() if "norm" in key or "base_layer" in key or "lm_head" in key]  # noqa: SIM118


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ADAPTERS)
def test_plain_peft_reads_what_was_trained(samples: Path, kind: str, name: str) -> None:
    """Logits of the run's own model, of ours read back, and of plain peft on plain transformers."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    folder = tuned(samples, kind, name)
    assert not list(folder.rglob("*.bin"))
    ids = torch.randint(0, 300, (3, 40), generator=torch.Generator().manual_seed(0))
    ours = logits_of(tune.open_adapter(folder / "model"), ids)
    more: dict[str, Any] = {}
    if name == "qlora":
        assert (folder / "model" / "four_bit.json").is_file()
        more = {"quantization_config": BitsAndBytesConfig(**json.loads((folder / "model" / "four_bit.json").read_text()))}
        more["device_map"] = {"": "cpu"}
    config = json.loads((folder / "model" / "adapter_config.json").read_text())
    plain = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"], dtype=torch.float32, **more)
    tune.keep_exact(plain)  # else bitsandbytes rounds the scales on CPUs with AVX512-BF16
    theirs = logits_of(PeftModel.from_pretrained(plain, str(folder / "model")).eval(), ids)
    assert torch.equal(ours, theirs)
    untouched = logits_of(models.load(samples / f"base-{kind}/model", "sdpa"), ids)
    assert float((ours - untouched).abs().max()) > 1e-3

    live = began(samples, kind, name)
    tune.restore(live, folder / "checkpoints" / "step-00000016")
    assert torch.equal(logits_of(live.eval(), ids), ours)


@pytest.mark.parametrize("how", TOLERANCE)
@pytest.mark.parametrize("name", ["dora", pytest.param("qlora", marks=needs_4bit)])
def test_a_merged_model_has_the_loss_of_the_adapter(samples: Path, name: str, how: Any) -> None:
    from transformers import AutoModelForCausalLM

    folder = tuned(samples, "llama", name)
    found = merge(folder, how, samples / f"merged-{name}-{how}")
    assert found["difference"] <= TOLERANCE[how]
    assert found["difference"] == abs(found["live_loss"] - found["merged_loss"])
    out = Path(found["out"])
    assert (out / "tokenizer.json").is_file()
    if how == "adapter":
        assert (out / "adapter_model.safetensors").read_bytes() == (folder / "model/adapter_model.safetensors").read_bytes()
        return
    assert not list(out.glob("adapter*"))
    model = AutoModelForCausalLM.from_pretrained(out)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16 if how == "bf16" else torch.float32}
    assert model.config.to_dict().get("quantization_config") is None
    ids = torch.randint(0, 300, (3, 40), generator=torch.Generator().manual_seed(1))
    live = logits_of(tune.open_adapter(folder / "model"), ids)
    assert float((logits_of(model, ids) - live).abs().max()) < (0.2 if how == "bf16" else 1e-4)


@needs_4bit
def test_qlora_is_four_bits_in_memory_and_merging_into_the_original_weights_would_be_another_model(samples: Path) -> None:
    import bitsandbytes

    model = models.load(samples / "base-llama/model", "sdpa", tune.four_bit(torch.device("cpu"), torch.float32))
    layers = dict(tune.quantised(model))
    assert len(layers) == 7 * TINY["num_hidden_layers"]
    for layer in layers.values():
        assert isinstance(layer, bitsandbytes.nn.Linear4bit)
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() * 2 == layer.in_features * layer.out_features
        assert (layer.weight.quant_state.quant_type, layer.weight.quant_state.nested) == ("nf4", True)
    plain = models.load(samples / "base-llama/model", "sdpa")
    assert tune.counts(model).total == sum(p.numel() for p in plain.parameters()) == tune.counts(plain).total
    ids = torch.randint(0, 300, (3, 40))
    first = logits_of(model, ids)
    assert float((first - logits_of(plain, ids)).abs().max()) > 0.01
    assert torch.equal(logits_of(model.eval(), ids), first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["dora", "prompt", "prefix"])
def test_documents_of_a_packed_row_do_not_see_each_other(samples: Path, kind: str, name: str) -> None:
    """The run's own forward on packed rows against each document alone, by the model's own call, after training."""
    folder = tuned(samples, kind, name)
    model = tune.open_adapter(folder / "model")
    forward = attention.forward_of(tune.apart(model), "sdpa", torch.device("cpu"), torch.float32)
    rng = np.random.default_rng(0)
    lengths = [[1, 17, 30, 9, 7], [64], [20, 1, 1, 42], [5, 3, 56]]
    ids = torch.from_numpy(rng.integers(0, 300, (len(lengths), 64)))
    positions = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in lengths])
    with torch.no_grad():
        packed = forward(ids, positions)
    for row, pieces in enumerate(lengths):
        at = 0
        for length in pieces:
            alone = logits_of(model, ids[row : row + 1, at : at + length])[0]
            assert float((packed[row, at : at + length] - alone).abs().max()) < 1e-5
            at += length


def test_what_cannot_go_together_is_refused(samples: Path) -> None:
    base = {"model": {"path": "base-llama/model"}}
    for message, keys in {
        "give model.path": {"tune": "lora"},
        "lora: has no effect with tune: full. Leave it out, or set tune to lora or qlora": {"lora": {"r": 8}, **base},
        "prompt: has no effect with tune: lora": {"tune": "lora", "prompt": {"tokens": 3}, **base},
        "run.parallel: with fsdp every process": {"tune": "prefix", **base, "run__parallel": "fsdp"},
        "has no place before each document": {"tune": "prefix", "model": {"path": "b", "attn": "varlen"}},
        "run.compile": {"tune": "prompt", **base, "run__compile": True},
        "there is no tuning 'loar': did you mean 'lora'": {"tune": "loar", **base},
    }.items():
        with pytest.raises(RecipeError) as caught:
            sft("x", **keys)
        assert message in str(caught.value)
    for message, keys in {
        "lora.targets: the model has no layer 'q_projj'": {"tune": "lora", "lora": {"targets": ("q_projj", "v_proj")}},
        "peft cannot tune this LlamaForCausalLM": {"tune": "lora", "lora": {"targets": ("nothing",)}},
        "lora.targets: names the input embedding": {"tune": "lora", "lora": {"targets": ("embed_tokens",)}},
        "lora.targets: names the output matrix": {"tune": "lora", "lora": {"targets": ("lm_head", "q_proj")}},
        "prefix.tokens: 90 before rows of 128 are more than the 160 positions": {"tune": "prefix", "prefix": {"tokens": 90}},
    }.items():
        with pytest.raises(RecipeError) as caught:
            run(sft("refused", **keys, **base), samples)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    run(sft("short", tune="prompt", **base, run__steps=2), samples)
    with pytest.raises(RunError, match=r"prompt\.tokens 20, the recipe says 21"):
        run(sft("short", tune="prompt", prompt={"tokens": 21}, **base, run__steps=2), samples)
    for how in ("dequant", "bf16"):
        with pytest.raises(RecipeError, match="no change of the model's weights"):
            merge(samples / "short", how)  # type: ignore[arg-type]
    assert merge(samples / "short", "adapter", samples / "short-out")["difference"] == 0
    with pytest.raises(RecipeError, match="whole model already"):
        merge(samples / "base-llama")
    with pytest.raises(InputError, match="is there and no merged model"):
        merge(samples / "short", "adapter", samples / "corpus")
    (samples / "short/checkpoints/step-00000002/trainable.safetensors").write_bytes(b"12345")
    with pytest.raises(RunError, match=r"trainable\.safetensors: is missing or damaged"):
        run(sft("short", tune="prompt", **base, run__steps=2), samples)


def test_a_merge_that_changes_the_model_is_not_written(samples: Path) -> None:
    run(sft("honest", tune="lora", model={"path": "base-llama/model"}, run__steps=2), samples)
    import codedev.train.use.merge as merging

    real = merging._merged

    def wrong(*arguments: Any) -> Any:
        model = real(*arguments)
        with torch.no_grad():
            model.lm_head.weight.mul_(1.05)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_merged", wrong)
        with pytest.raises(RunError, match="apart"):
            merge(samples / "honest")
    assert not (samples / "honest/merged").exists()
    assert not [path for path in (samples / "honest").iterdir() if "merged" in path.name]


def test_the_prompt_begins_as_asked(samples: Path) -> None:
    shards = open_shards((samples / "shards",))
    for init in ("vocabulary", "random", "Answer the question."):
        wanted = absolute(sft("x", tune="prompt", prompt={"tokens": 30, "init": init}, model={"path": "base-llama/model"}), samples)
        base: Any = models.build(wanted.model, shards, "sdpa", 0)
        table = base.get_input_embeddings().weight.detach().clone()
        weight = tune.attach(base, wanted, shards, torch.float32).prompt_encoder["default"].embedding.weight
        known = [bool((row == table).all(1).any()) for row in weight]
        assert all(known) if init != "random" else not any(known)
        assert 0.5 < float(weight.detach().std() / table.std()) < 2
        if init == "Answer the question.":
            assert len({tuple(row.tolist()) for row in weight}) < 25  # a short text is repeated


def test_rows_without_a_supervised_token_are_refused(samples: Path, tmp_path: Path) -> None:
    shards = open_shards((samples / "shards",))
    counted = np.concatenate([supervised(batch, shards.seq_len) for batch in shards.batches])
    assert counted.tolist() == shards.read(np.arange(shards.rows)).targets.sum(1).tolist()

    write_shards(tmp_path / "plain")
    with pytest.raises(InputError, match=r"shard-00000\.arrow: row 0 \(document doc-0-0\) has no loss_spans"):
        run(sft("x", data={"shards": "plain"}), tmp_path)
    whole = [{"start": 0, "end": SEQ_LEN}]
    packed = write_shards(tmp_path / "spans", spans=[[whole[0]]] * 40)
    check_spans(open_shards((tmp_path / "spans",)))
    second = len(packed[27][0][2])  # a span of the first token of a document alone
    heads = [[whole[0]]] * 27 + [[{"start": second, "end": second + 1}]] + [[whole[0]]] * 12
    write_shards(tmp_path / "heads", spans=heads)
    with pytest.raises(InputError, match=r"shard-00001\.arrow: row 7 \(document doc-27-0\) has no supervised token"):
        run(sft("x", data={"shards": "heads"}), tmp_path)
    nothing = [[whole[0]]] * 39 + [[]]
    write_shards(tmp_path / "nothing", spans=nothing)
    with pytest.raises(InputError, match=r"row 19 \(document doc-39-0\) has no supervised token"):
        run(sft("x", data={"shards": "nothing"}), tmp_path)
    rng = np.random.default_rng(3)
    marks = [[{"start": int(a), "end": int(b)} for a, b in np.sort(rng.integers(0, SEQ_LEN + 1, (3, 2)))[:1]] for _ in range(40)]
    write_shards(tmp_path / "random", spans=marks)
    random = open_shards((tmp_path / "random",))
    counted = np.concatenate([supervised(batch, random.seq_len) for batch in random.batches])
    assert counted.tolist() == random.read(np.arange(random.rows)).targets.sum(1).tolist()


def test_supervised_tokens_are_counted_by_step(samples: Path) -> None:
    wanted = sft("counted", tune="lora", model={"path": "base-llama/model"}, run__steps=3)
    run(wanted, samples)
    from codedev.train.loop import Plan

    shards = open_shards((samples / "shards",))
    plan = Plan(3, 4, 2, 0)
    for row in read_metrics(samples / "counted"):
        rows = shards.read(plan.numbers(row["step"] - 1, shards))
        assert row["supervised"] == rows.targets.sum() < rows.real.sum()


def test_what_a_tuning_needs_is_named(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in ("bitsandbytes", "peft") else real(name, *more))
    with pytest.raises(MissingExtraError, match="peft is not installed"):
        run(sft("x", tune="lora", model={"path": "base-llama/model"}), samples)


def test_arithmetic_of_frozen_weights_is_counted(samples: Path) -> None:
    wanted = sft("x", tune="lora", lora={"r": 4}, model={"path": str(samples / "base-llama/model")})
    model = tune.attach(models.load(samples / "base-llama/model", "sdpa"), wanted, open_shards((samples / "shards",)), torch.float32)
    total, trained = tune.counts(model)
    assert trained == sum(4 * (m.in_features + m.out_features) for m in model.modules() if hasattr(m, "lora_A"))
    frozen = total - trained - model.get_input_embeddings().weight.numel()
    assert tune.work(model, matrix_parameters(model)) == pytest.approx(trained + frozen * 2 / 3, abs=1)


@pytest.mark.parametrize("name", ["dora", "prompt", "prefix", "projected", pytest.param("qlora", marks=needs_4bit)])
def test_text_from_an_adapter(samples: Path, name: str) -> None:
    """With a cache, from the run's directory, against the likeliest token of the whole text each time."""
    from codedev.tokenize.vocabulary import decode, load_vocabulary
    from codedev.train.use.generate import generate

    directory = tuned(samples, "qwen3", name)
    vocabulary, model = load_vocabulary(directory / "model" / "tokenizer.json"), tune.open_adapter(directory / "model")
    assert vocabulary.tokenizer is not None
    ids = [vocabulary.bos_id, *vocabulary.tokenizer.encode("Why does a kettle", add_special_tokens=False).ids]
    start = len(ids)
    while len(ids) < start + 10 and ids[-1] != vocabulary.eos_id:
        ids.append(int(logits_of(model, torch.tensor([ids]))[0, -1].argmax()))
    assert generate(directory, "Why does a kettle", 10, temperature=0) == decode(vocabulary, ids[start:], specials=False)


@pytest.mark.parametrize("name", ["dora", "prompt", "prefix", pytest.param("qlora", marks=needs_4bit)])
def test_bfloat16_arithmetic_keeps_what_is_trained_in_float32(samples: Path, name: str) -> None:
    wanted = settings("llama", name, f"half-{name}", run__steps=4)
    wanted = wanted.model_copy(update={"model": wanted.model.model_copy(update={"dtype": "bfloat16"})})
    run(wanted, samples)
    with safe_open(str(samples / f"half-{name}/checkpoints/step-00000004/trainable.safetensors"), "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float32}  # noqa: SIM118
    half = [row["loss"] for row in read_metrics(samples / f"half-{name}")]
    single = [row["loss"] for row in read_metrics(tuned(samples, "llama", name))][:4]
    if name != "dora":  # its dropout depends on the arithmetic
        assert half == pytest.approx(single, abs=0.05)


# One launch for both: starting two processes takes most of the time.
WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch.distributed as dist
import test_train_tune as tests
from codedev.train import run
dist.init_process_group("gloo")
for name in ("lora", "prompt", "prefix"):
    run(tests.settings("llama", name, f"two-{name}", run__steps=5), Path(sys.argv[1]))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one(samples: Path) -> None:
    (samples / "worker.py").write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(samples / "worker.py"), str(samples), str(here)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("lora", "prompt", "prefix"):
        run(settings("llama", name, f"one-{name}", run__steps=5), samples)
        one, two = ([row["loss"] for row in read_metrics(samples / f"{count}-{name}")] for count in ("one", "two"))
        assert two == pytest.approx(one, rel=1e-5), name
