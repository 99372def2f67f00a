"""Stages dpo, kto, grpo and rloo: the losses are those of their papers, what is learned is learned, and a run is a run like any other."""

from __future__ import annotations

import gzip
import json
import math
import os
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_support import recipe

pytest.importorskip("trl")

from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from codedev import train
from codedev._errors import CodedevError, RecipeError, RunError
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.tokenize.train import train_tokenizer
from codedev.train.align import objectives, preference, rollouts, sampled, trl_trainers
from codedev.train.compute.parallel import World
from codedev.train.recipe import absolute
from codedev.train.watch.dryrun import examine
from codedev.train.watch.explain import explain
from codedev.train.watch.showdry import show
from codedev.train.watch.status import status

MODEL = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
}
REAL = Path(__file__).parent.parent / ".data/feedback/anthropics__hh-rlhf/harmless-base/test.jsonl.gz"
CPU = World(0, 1, torch.device("cpu"))
QUESTIONS = "how do I sort a list|what is a queue|name a colour|where do files go|who reads the rows|say it in order".split("|")
TIMES = ("tokens_per_second", "mfu")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is called, and torch keeps to one thread."""

    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokenizer/, base/ (a model), pairs.jsonl, labels.jsonl, prompts.jsonl, score.py."""
    base = tmp_path_factory.mktemp("preference")
    write(base / "words.jsonl", [{"text": " ".join(QUESTIONS)}] * 50)
    source = {"name": "t", "sources": [{"name": "t", "type": "tables", "paths": ["words.jsonl"]}]}
    build(recipes.check(source, "r"), base, base / "words")
    train_tokenizer(base / "words", base / "tokenizer", vocab_size=400, special_slots=64)
    answers = ["in order", "the queue reads", "a colour", "files go", "a list", "the rows"]
    write(
        base / "said.jsonl",
        [{"instruction": f"{q} {i}", "output": answers[(5 * i + 3 * j) % 6]} for i in range(20) for j, q in enumerate(QUESTIONS)],
    )
    made = recipe(
        stage="sft",
        model={"config": MODEL},
        data={"tables": [str(base / "said.jsonl")], "tokenizer": str(base / "tokenizer"), "template": "chatml", "seq_len": 64},
        batch={"rows": 8},
        optim={"lr": 5e-3},
        run={"dir": str(base / "sft"), "steps": 80},
    )
    (base / "base").symlink_to(train.run(made, base)["model_dir"])
    write(
        base / "pairs.jsonl",
        [{"prompt": f"{q} {i}", "chosen": f"in order {i}", "rejected": f"{i} files"} for i in range(8) for q in QUESTIONS],
    )
    write(
        base / "labels.jsonl",
        [
            {"prompt": f"{q} {i}", "completion": "in order" if (i + len(q)) % 3 else "files", "label": (i + len(q)) % 3 > 0}
            for i in range(12)
            for q in QUESTIONS
        ],
    )
    write(base / "prompts.jsonl", [{"prompt": f"{q}{' ' + q if i % 2 else ''}", "n": i} for i in range(5) for q in QUESTIONS])
    (base / "score.py").write_text(
        "def score(prompts, answers, references):\n    return [a.count('e') / max(len(a), 1) for a in answers]\n"
    )
    return base


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


TABLES = {"dpo": "pairs", "kto": "labels", "grpo": "prompts", "rloo": "prompts"}


def asked(
    folder: Path, stage: str, run: Path, tune: str = "full", *, steps: int = 6, lr: float = 5e-3, rows: int = 8, **changes: Any
) -> Any:
    given: dict[str, Any] = {
        "stage": stage,
        "tune": tune,
        "model": {"path": str(folder / "base")},
        "data": {"tables": [str(folder / f"{TABLES[stage]}.jsonl")], "template": "chatml", "holdout": 0.2},
        "batch": {"rows": rows, "micro_rows": 4},
        "optim": {"lr": lr, "warmup": 0, "weight_decay": 0.0},
        "run": {"dir": str(run), "steps": steps},
    }
    if stage in ("grpo", "rloo"):
        given |= {"rewards": [{"function": str(folder / "score.py") + ":score"}], stage: {"answers": 4, "max_tokens": 10}}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        given[section] = {**(given.get(section) or {}), name: value} if name else value
    return recipe(**given)


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in (run / "metrics.jsonl").read_text().splitlines()]


def stopped_at(step: int) -> Any:
    def told(row: dict[str, Any]) -> None:
        if row["step"] == step and "loss" in row:
            os.kill(os.getpid(), signal.SIGTERM)

    return told


# -- learning ----------------------------------------------------------------------------------------------------------------------

RATES = {"full": 5e-3, "lora": 2e-2, "qlora": 2e-2, "prompt": 0.3, "prefix": 0.3}


@pytest.mark.parametrize("tune", RATES)
@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_preferences_are_learned(folder: Path, tmp_path: Path, stage: str, tune: str) -> None:
    """Held-out reward margin, beta times the gap of log-ratios, from 0 (or a prompt's and a prefix's own start) up by 0.1 and more, with a
    prompt by 0.03."""
    result = train.run(
        asked(folder, stage, tmp_path / "run", tune, steps=24 if tune == "prompt" else 12, lr=RATES[tune], rows=16), tmp_path
    )
    margin = result["heldout_reward_margin"]
    assert margin["after"] > margin["before"] + (0.03 if tune == "prompt" else 0.1)
    assert result["heldout_loss"]["after"] < result["heldout_loss"]["before"] - 0.01


@pytest.mark.parametrize("tune", RATES)
@pytest.mark.parametrize("stage", ["grpo", "rloo"])
def test_rewards_rise(folder: Path, tmp_path: Path, stage: str, tune: str) -> None:
    """The share of the letter e in answers, 0.2 at the beginning, rises by 0.15 and more in twelve steps."""
    changes = {"batch__micro_rows": 32, "data__holdout": 0.0, f"{stage}__beta": 0.0}
    train.run(asked(folder, stage, tmp_path / "run", tune, steps=12, lr=RATES[tune], rows=32, **changes), tmp_path)
    found = [row for row in rows_of(tmp_path / "run") if "reward" in row]
    assert np.mean([row["reward"] for row in found[-3:]]) > np.mean([row["reward"] for row in found[:3]]) + 0.15
    assert max(row["mismatch"] for row in found) < 1e-4  # prompts of two lengths, padded or not


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_file(), reason="needs .data")
def test_real_pairs_are_learned(folder: Path, tmp_path: Path) -> None:
    """24 real pairs of people's judgements: after 12 rounds nine in ten are told apart."""
    with gzip.open(REAL) as file:
        pairs = [row for line in file if len((row := json.loads(line))["chosen"]) + len(row["rejected"]) < 400][:24]
    write(tmp_path / "hh.jsonl", pairs)
    given = {"data": {"tables": [str(tmp_path / "hh.jsonl")], "template": "chatml"}}
    train.run(asked(folder, "dpo", tmp_path / "run", steps=36, rows=8, **given), tmp_path)
    assert np.mean([row["reward_accuracy"] for row in rows_of(tmp_path / "run")[-6:]]) > 0.9


# -- losses ------------------------------------------------------------------------------------------------------------------------


def answer_logprobs(model: Any, prompt: list[int], answer: list[int]) -> float:
    """Σ ln p of an answer's tokens, in float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double()
    picked = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(-1, torch.tensor(answer)[:, None])
    return float(picked.sum())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def plain_loss(loss: str, beta: float, smoothing: float, pi: list[float], ref: list[float], lengths: list[int]) -> float:
    """The papers' formulas; of ipo with the mean ln p of a token in the place of the sum (Grinsztajn et al. 2024), as TRL has it."""
    chosen, rejected = pi[0] - ref[0], pi[1] - ref[1]
    h = beta * (chosen - rejected)
    return {
        "sigmoid": -math.log(sigmoid(h)),
        "hinge": max(0.0, 1 - h),
        "ipo": (chosen / lengths[0] - rejected / lengths[1] - 1 / (2 * beta)) ** 2,
        "robust": (-(1 - smoothing) * math.log(sigmoid(h)) + smoothing * math.log(sigmoid(-h))) / (1 - 2 * smoothing),
        "apo_zero": 1 - sigmoid(beta * chosen) + sigmoid(beta * rejected),
        "apo_down": sigmoid(beta * chosen) + 1 - sigmoid(h),
    }[loss]


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "hinge", "robust", "apo_zero", "apo_down"])
def test_dpo_loss_is_the_plain_formula(folder: Path, tmp_path: Path, loss: str) -> None:
    """The held-out loss after five steps, from log-probabilities of plain transformers' forward of RUN/model and of the model before."""
    smoothing = 0.1 if loss == "robust" else 0.0
    section = {"loss": loss, "beta": 0.3, "label_smoothing": smoothing}
    made = asked(folder, "dpo", tmp_path / "run", steps=5, dpo=section)
    train.run(made, tmp_path)
    policy, before = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (tmp_path / "run/model", folder / "base"))
    heldout = preference.feeds(absolute(made, tmp_path), lambda *_: None)[1]
    assert heldout is not None
    rows = heldout.read(np.arange(heldout.rows)).rows
    losses = []
    for row in rows:
        answers = row["chosen_ids"], row["rejected_ids"]
        pi, ref = ([answer_logprobs(model, row["prompt_ids"], answer) for answer in answers] for model in (policy, before))
        losses.append(plain_loss(loss, 0.3, smoothing, pi, ref, [len(answer) for answer in answers]))
    assert len(losses) > 5
    assert rows_of(tmp_path / "run")[-1]["heldout_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert abs(np.mean(losses) - plain_loss(loss, 0.3, smoothing, [0, 0], [0, 0], [1, 1])) > 1e-3  # it is no longer that of equals


@pytest.mark.parametrize("stage", ["grpo", "rloo"])
def test_advantages_are_our_own(folder: Path, tmp_path: Path, stage: str) -> None:
    made = absolute(asked(folder, stage, tmp_path / "run", **{f"{stage}__beta": 0.0}), tmp_path)
    feed, _, _ = preference.feeds(made, lambda *_: None)
    model, _ = preference.model_of(made, feed, "sdpa", None, CPU, torch.float32)
    trainer = trl_trainers.Trainer(made, feed, model, None, CPU, torch.float32)
    trainer.model_called = model
    rows = feed.drawn(np.arange(8), 0)
    assert [len(set(part)) for part in np.split(rows // 4, 2)] == [1, 1]  # four answers to each of two prompts
    drawn = sampled.answered(made, trainer, feed, rows, range(8))
    rewards = [0.5, 1.0, 0.0, 0.25, 3.0, 3.0, 3.0, 1.0]
    model.train()
    judged = trainer.judged(feed.prompts(rows), [ids.tolist() for ids in drawn.ids], rewards)
    expected = objectives.group_advantages(torch.tensor(rewards), 4, stage)  # type: ignore[arg-type]
    assert torch.allclose(judged["advantages"], expected, atol=1e-5)
    for row, (prompt, answer) in enumerate(zip(feed.prompts(rows), drawn.ids, strict=True)):
        assert judged["prompt_ids"][row][judged["prompt_mask"][row].bool()].tolist() == prompt.tolist()
        assert judged["completion_ids"][row][judged["completion_mask"][row].bool()].tolist() == answer.tolist()
    assert set(feed.stops) <= set(model.generation_config.eos_token_id)  # as stage sft left it


def plain_answer_loss(loss: str, lp: Any, old: Any, ref: Any, advantages: Any, mask: Any, beta: float) -> torch.Tensor:
    """The papers' formulas, of (answers, tokens) ln p in float64; clip 0.2, cispo's 5, 10 tokens an answer at most. The divergence is k3
    times the ratio."""
    if loss == "rloo":
        ratio = ((lp - old) * mask).sum(1).exp()
        return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    advantages, ratio = advantages[:, None], (lp - old).exp()
    token = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    if loss == "cispo":
        token = -ratio.clamp(max=5.0).detach() * advantages * lp
    token = (token + beta * ratio * ((ref - lp).exp() - (ref - lp) - 1)) * mask
    if loss == "grpo":
        return (token.sum(1) / mask.sum(1)).mean()
    return token.sum() / (len(token) * 10 if loss == "dr_grpo" else mask.sum())


@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "rloo"])
def test_losses_of_answers_are_the_plain_formulas(folder: Path, tmp_path: Path, loss: str) -> None:
    """After an update has moved the policy from the one that sampled, so that ratios are not 1 and some are clipped."""
    stage = "rloo" if loss == "rloo" else "grpo"
    section = {"answers": 4, "max_tokens": 10, "epochs": 2, "temperature": 0.7, **({} if loss == "rloo" else {"loss": loss, "beta": 0.1})}
    made = absolute(asked(folder, stage, tmp_path / "run", batch__micro_rows=8, **{stage: section}), tmp_path)
    feed, _, _ = preference.feeds(made, lambda *_: None)
    model, reference = preference.model_of(made, feed, "sdpa", None, CPU, torch.float32)
    trainer = trl_trainers.Trainer(made, feed, model, reference, CPU, torch.float32)
    trainer.model_called = model
    rows = feed.drawn(np.arange(8), 0)
    drawn = sampled.answered(made, trainer, feed, rows, range(8))
    judged = trainer.judged(feed.prompts(rows), [ids.tolist() for ids in drawn.ids], [float(i % 3) for i in range(8)])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator) * parameter.std()
    model.train()
    found = float(trainer.answer_loss(judged, slice(0, 8), 1))

    def logprobs(one: Any) -> torch.Tensor:
        out = torch.zeros(8, max(map(len, drawn.ids)), dtype=torch.float64)
        for row, (prompt, answer) in enumerate(zip(feed.prompts(rows), drawn.ids, strict=True)):
            with torch.no_grad():
                logits = one(input_ids=torch.tensor(np.concatenate([prompt, answer]))[None]).logits[0].double() / 0.7
            picked = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(-1, torch.tensor(answer)[:, None])
            out[row, : len(answer)] = picked[:, 0]
        return out

    mask = torch.tensor([[float(i < len(answer)) for i in range(max(map(len, drawn.ids)))] for answer in drawn.ids], dtype=torch.float64)
    before = preference.model_of(made, feed, "sdpa", None, CPU, torch.float32)[0].eval()
    old, now = logprobs(before), logprobs(model.eval())
    moved = ((now - old).exp() - 1).abs() > 0.2
    assert moved.any()
    plain = plain_answer_loss(loss, now, old, old, judged["advantages"].double(), mask, 0.1)
    assert found == pytest.approx(float(plain), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("stage", "section"), [("dpo", {}), ("grpo", {"epochs": 2}), ("rloo", {"epochs": 2})])
def test_micro_batches_do_not_change_the_result(folder: Path, tmp_path: Path, stage: str, section: dict[str, Any]) -> None:
    found = []
    for size in (2, 8):
        changes = {f"{stage}__{name}": value for name, value in section.items()}
        train.run(asked(folder, stage, tmp_path / f"{size}", steps=3, batch__micro_rows=size, **changes), tmp_path)
        found.append([(row["loss"], row["grad_norm"]) for row in rows_of(tmp_path / f"{size}") if "loss" in row])
    assert np.allclose(*found, atol=2e-5)


def test_positions_that_are_learned(folder: Path, tmp_path: Path) -> None:
    """GPT-2 adds a vector for each position: a prompt that is padded must not move. Prompts differ in length."""
    config = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "initializer_range": 0.3}
    given = {"model": {"config": config}, "data__tokenizer": str(folder / "tokenizer"), "data__seq_len": 64}
    train.run(asked(folder, "grpo", tmp_path / "run", steps=4, **given), tmp_path)
    assert max(row["mismatch"] for row in rows_of(tmp_path / "run") if "mismatch" in row) < 1e-4


# -- runs --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "tune", "changes"),
    [("dpo", "full", {}), ("dpo", "lora", {}), ("kto", "qlora", {}), ("grpo", "full", {"grpo__epochs": 2}), ("rloo", "prefix", {})],
)
def test_an_interrupted_run_is_the_undisturbed_one(folder: Path, tmp_path: Path, stage: str, tune: str, changes: dict[str, Any]) -> None:
    """To the bit: losses, measures and weights; the reference is the model of the beginning."""
    whole, cut = (asked(folder, stage, tmp_path / name, tune, steps=5, **changes) for name in ("whole", "cut"))
    train.run(whole, tmp_path)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train.run(cut, tmp_path, stopped_at(2))
    assert stopped.value.exit_code == 143  # type: ignore[attr-defined]
    assert not list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.pth")) + list(tmp_path.rglob("*.bin"))  # nothing is pickled
    train.run(cut, tmp_path)
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    file = "model.safetensors" if tune == "full" else "adapter_model.safetensors"
    first, second = (load_file(tmp_path / name / "model" / file) for name in ("whole", "cut"))
    assert first.keys() == second.keys()
    assert not any("ref" in name.split(".") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_the_saved_model_is_the_one_that_was_measured(folder: Path, tmp_path: Path, tune: str) -> None:
    """Plain transformers and peft reload it: mean ln p of the held-out answers is that of the last row of metrics."""
    made = asked(folder, "dpo", tmp_path / "run", tune)
    train.run(made, tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "base" if tune == "lora" else tmp_path / "run/model")
    if tune == "lora":
        import peft

        model = peft.PeftModel.from_pretrained(model, str(tmp_path / "run/model"))
    heldout = preference.feeds(absolute(made, tmp_path), lambda *_: None)[1]
    assert heldout is not None
    rows = heldout.read(np.arange(heldout.rows)).rows
    mean = np.mean([answer_logprobs(model.eval(), row["prompt_ids"], row["chosen_ids"]) for row in rows])
    assert rows_of(tmp_path / "run")[-1]["heldout_logp_chosen"] == pytest.approx(mean, rel=1e-5)
    assert "im_start" in (tmp_path / "run/model/chat_template.jinja").read_text()


def test_rewards_that_fail_lose_nothing(folder: Path, tmp_path: Path) -> None:
    """One that raises, one that gives no number, one that hangs: each is named, what was learned is saved, and the run goes on."""
    score = tmp_path / "mine.py"
    good = "def score(prompts, answers, references):\n    return [float(len(a)) for a in answers]\n"
    count = f"import pathlib\nfile = pathlib.Path({str(tmp_path / 'calls')!r})\n"
    bad = count + "def score(p, a, r):\n    n = int(file.read_text()) if file.exists() else 0\n    file.write_text(str(n + 1))\n"
    ends = {"raises": "raise ValueError('no')", "NaN": "return [float('nan')] * len(a)", "hangs": "__import__('time').sleep(60)"}
    said = {"raises": "ValueError: no", "NaN": "gave nan", "hangs": "longer than 1 s"}
    changes = {"rewards": [{"function": f"{score}:score", "seconds": 1}], "data__holdout": 0.0, "run__steps": 4}
    score.write_text(good)
    train.run(asked(folder, "grpo", tmp_path / "whole", **changes), tmp_path)
    for name, end in ends.items():
        (tmp_path / "calls").unlink(missing_ok=True)
        score.write_text(bad + f"    if n == 2:\n        {end}\n    return [float(len(x)) for x in a]\n")
        with pytest.raises(RunError, match=f"reward mine.py:score: .*{said[name]}|reward score: {said[name]}"):
            train.run(asked(folder, "grpo", tmp_path / name, **changes), tmp_path)
        assert [path.name for path in (tmp_path / name / "checkpoints").iterdir()] == ["step-00000002"]
        train.run(asked(folder, "grpo", tmp_path / name, **changes), tmp_path)  # the file counts on, and nothing is wrong any more
        assert rows_of(tmp_path / name) == rows_of(tmp_path / "whole")


@pytest.mark.parametrize(("stage", "tune"), [("dpo", "lora"), ("grpo", "full"), ("kto", "full")])
def test_layers_computed_again_change_nothing(folder: Path, tmp_path: Path, stage: str, tune: str) -> None:
    for name, again in (("once", False), ("again", True)):
        train.run(asked(folder, stage, tmp_path / name, tune, steps=3, run__activation_checkpointing=again), tmp_path)
    once, again = (rows_of(tmp_path / name) for name in ("once", "again"))
    assert [row.get("loss") for row in once] == [row.get("loss") for row in again]


@pytest.mark.parametrize("stage", ["dpo", "grpo"])
def test_half_precision(folder: Path, tmp_path: Path, stage: str) -> None:
    """The arithmetic is bfloat16, the weights float32: losses are near those of float32, and answers learned from as they were drawn."""
    for dtype in ("float32", "bfloat16"):
        train.run(asked(folder, stage, tmp_path / dtype, steps=2, model__dtype=dtype), tmp_path)
    exact, half = (rows_of(tmp_path / dtype) for dtype in ("float32", "bfloat16"))
    assert exact[-1] != half[-1]
    if stage == "dpo":
        assert [row["loss"] for row in half if "loss" in row] == pytest.approx([row["loss"] for row in exact if "loss" in row], abs=0.02)
    else:
        assert max(row["mismatch"] for row in half if "mismatch" in row) < 0.2
    assert all(tensor.dtype == torch.float32 for tensor in load_file(tmp_path / "bfloat16/model/model.safetensors").values())


def test_rewards_of_a_model_and_a_function_are_added(folder: Path, tmp_path: Path) -> None:
    """The reward of a step is the weighted sum of its parts, each of which is told."""
    taught = asked(folder, "dpo", tmp_path / "taught", steps=4, rows=8).model_copy(update={"stage": "reward"})
    train.run(taught, tmp_path)
    sources = [{"model": str(tmp_path / "taught"), "weight": 0.5}, {"function": str(folder / "score.py") + ":score", "weight": 2.0}]
    train.run(asked(folder, "grpo", tmp_path / "run", steps=2, rewards=sources), tmp_path)
    for row in rows_of(tmp_path / "run"):
        if "reward" in row:
            assert row["reward"] == pytest.approx(0.5 * row["reward/model"] + 2 * row["reward/score"], rel=1e-5)


def test_a_loss_that_is_no_number_names_the_step(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"step \d+: the loss is .*nan.*documents begin with"):
        train.run(asked(folder, "dpo", tmp_path / "run", lr=1e6, optim__clip=None), tmp_path)


def test_the_collator_is_looked_at(folder: Path, tmp_path: Path) -> None:
    made = absolute(asked(folder, "kto", tmp_path / "run"), tmp_path)
    feed, _, _ = preference.feeds(made, lambda *_: None)
    model, reference = preference.model_of(made, feed, "sdpa", None, CPU, torch.float32)
    trainer = trl_trainers.Trainer(made, feed, model, reference, CPU, torch.float32)
    preference.check_collated(trainer, feed)
    trainer.trl.data_collator.max_length = 12  # as TRL would have it, with 1,024
    with pytest.raises(RecipeError, match="own tokens"):
        preference.check_collated(trainer, feed)


REFUSED = {
    "run__compile": (True, "run.compile"),
    "model__attn": ("flex", "model.attn: flex"),
    "run__parallel": ("fsdp", "run.parallel"),
    "batch": ({"tokens": 512}, "batch.tokens"),
}


@pytest.mark.parametrize("key", REFUSED)
@pytest.mark.parametrize("stage", ["dpo", "grpo"])
def test_what_is_known_to_fail_is_refused(folder: Path, tmp_path: Path, stage: str, key: str) -> None:
    value, said = REFUSED[key]
    with pytest.raises(CodedevError, match=said):
        train.run(asked(folder, stage, tmp_path / "run", **{key: value}), tmp_path)
    assert not (tmp_path / "run").exists()


def test_several_processes_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="computes in one process"):
        train.run(asked(folder, "dpo", tmp_path / "run"), tmp_path)


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        ("dpo", {"tune": "lora", "lora": {"dropout": 0.1}}, "lora.dropout"),
        ("dpo", {"tune": "prefix", "run__activation_checkpointing": True}, "run.activation_checkpointing"),
        ("dpo", {"dpo": {"loss": "hinge", "label_smoothing": 0.1}}, "label_smoothing"),
        ("dpo", {"dpo": {"loss": "robust"}}, "label_smoothing"),
        ("dpo", {"dpo": {"padding_free": True}}, "padding_free"),
        ("kto", {"batch__micro_rows": 1}, "batch.micro_rows"),
        ("kto", {"batch": {"rows": 9, "micro_rows": 4}}, "batch.micro_rows"),
        ("grpo", {"batch__rows": 6}, "batch.rows"),
        ("grpo", {"run__spike": 3.0}, "run.spike"),
        ("rloo", {"rloo__max_tokens": 5000}, "rloo.max_tokens"),
    ],
)
def test_recipes_that_cannot_be_are_refused(folder: Path, tmp_path: Path, stage: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CodedevError, match=said):
        train.run(asked(folder, stage, tmp_path / "run", **changes), tmp_path)


def assert_answers(run: Path, answers: list[dict[str, Any]], step: int) -> None:
    """What is explained of a step is what was sampled, earned and measured in it."""
    row = next(row for row in rows_of(run) if row["step"] == step and "reward" in row)
    table = rollouts.read(run, step).to_pylist()
    assert len(answers) == len(table) == 8
    for answer in table:
        text = answer["answer"]
        assert answer["score"] == answer["reward.score"] == pytest.approx(text.count("e") / max(len(text), 1))
        assert answer["kl"] == pytest.approx(sum(answer["logprobs"]) - sum(answer["reference"]), abs=1e-4)
        assert len(answer["ids"]) == len(answer["drawn"]) == len(answer["advantages"])
    for name in ("score", "kl"):
        assert row["reward" if name == "score" else name] == pytest.approx(np.mean([answer[name] for answer in table]), abs=1e-6)
    assert row["unended"] == np.mean([not answer["ended"] for answer in table])
    scores = np.reshape([answer["score"] for answer in table], (2, 4))
    assert row["groups_alike"] == np.mean([len(set(group)) == 1 for group in scores])
    apart = [np.abs(np.subtract(answer["drawn"], answer["logprobs"])).max() for answer in table]
    assert row["mismatch"] == pytest.approx(max(apart), rel=1e-6)
    assert max(apart) < 1e-4
    assert [one["score"] for one in answers] == sorted(answer["score"] for answer in table)


@pytest.mark.parametrize("stage", ["grpo", "rloo"])
def test_alarms_of_sampled_answers(folder: Path, tmp_path: Path, stage: str) -> None:
    """Said once, also when the run goes on from a checkpoint between; on_alarm: stop ends it, saved."""
    (tmp_path / "flat.py").write_text("def flat(prompts, answers, references): return [1.0] * len(answers)\n")
    changes = {"data__holdout": 0.0, "batch__micro_rows": 8}
    made = asked(folder, stage, tmp_path / "run", steps=12, rewards=[{"function": f"{tmp_path / 'flat.py'}:flat"}], **changes)
    with pytest.raises(KeyboardInterrupt):
        train.run(made, tmp_path, on_step=stopped_at(6))
    train.run(made, tmp_path)
    said = {row["step"]: row["alarm"] for row in rows_of(tmp_path / "run") if "alarm" in row}
    assert list(said) == [11]
    assert "nearly all answers to a prompt earn the same, 1," in said[11]
    assert "earn the same" in (tmp_path / "run/index.html").read_text()
    ended = asked(folder, stage, tmp_path / "ended", steps=12, **changes, **{f"{stage}__on_alarm": "stop", f"{stage}__max_kl": 1e-4})
    with pytest.raises(RunError, match=rf"nats from the reference, above {stage}\.max_kl 0\.0001\..* The run ends by {stage}.on_alarm"):
        train.run(ended, tmp_path)
    last = rows_of(tmp_path / "ended")[-1]["step"]
    assert last < 12
    assert (tmp_path / f"ended/checkpoints/step-{last:08d}/alarms.json").is_file()


@pytest.mark.parametrize(("stage", "tune"), [("dpo", "full"), ("dpo", "prefix"), ("kto", "lora"), ("grpo", "full"), ("rloo", "prompt")])
def test_what_is_told_of_a_run(folder: Path, tmp_path: Path, stage: str, tune: str) -> None:
    """Dry run, status and explain: the same steps, the documents of a step, and of dpo their losses, whose mean is the step's."""
    made = asked(folder, stage, tmp_path / "run", tune, steps=2, run__save_every=1, batch__micro_rows=8)
    told = examine(made, tmp_path, lambda *_: None)
    assert not told["faults"]
    assert told["memory"]["peak"] > told["memory"]["weights"] > 4 * 40_000
    assert "<|im_start|>user" in told["batch"][0]["prompt"]
    show(told)
    assert told["plan"]["steps"] == 2
    train.run(made, tmp_path)
    assert status(tmp_path / "run")["step"] == 2
    found = explain(tmp_path / "run", 2)
    if stage in ("grpo", "rloo"):
        assert_answers(tmp_path / "run", found["answers"], 2)
    else:
        assert len(found["documents"]) == 8
        assert all(one["tokens"] > 5 for one in found["documents"])
    if stage == "dpo":
        assert found["exact"]
        assert found["loss"] == pytest.approx(found["loss_recorded"], rel=1e-5)
    assert "reward" in (tmp_path / "run/index.html").read_text()
