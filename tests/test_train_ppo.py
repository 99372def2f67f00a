"""Stage ppo: it learns what is rewarded, goes on exactly, says what it did, and its arithmetic is that of plain loops in float64."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_train_examples as examples
import test_train_tune as tunes
import torch
from train_support import recipe
from transformers import AutoModelForCausalLM

from codedev._errors import RecipeError, RunError
from codedev.train import run
from codedev.train.align import alarms, rollouts
from codedev.train.align.policy import Policy, batch_of, told
from codedev.train.align.ppo import _minibatches
from codedev.train.compute import attention

KINDS: dict[str, dict[str, Any]] = {"llama": {}, "glm": {"model_type": "glm", "head_dim": 16, "partial_rotary_factor": 0.5}}
TUNES = ("full", "lora", "qlora", "prompt", "prefix")
REWARD = '''
def order(prompts, answers, references):
    """The share of an answer's characters that are an `e`, and a little for its length."""
    return [answer.count("e") / max(len(answer), 1) for answer in answers]

def short(prompts, answers, references):
    return [-len(answer) / 100 for answer in answers]

def raises(prompts, answers, references):
    raise KeyError("nothing there")

def no_number(prompts, answers, references):
    return [float("nan")] * len(answers)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, prompts, reward functions and a model that has seen nothing."""
    made = tmp_path_factory.mktemp("ppo")
    examples.make_tokenizer(made, 420)
    words = examples.WORDS
    examples.write_rows(made / "prompts.jsonl", [{"prompt": f"Say {words[i % 20]} {words[i % 7]}", "gold": str(i)} for i in range(60)])
    (made / "rewards.py").write_text(REWARD)
    shards = {"tables": "pairs.jsonl", "tokenizer": "tokenizer", "template": "chatml", "seq_len": 64}
    rows = [{"instruction": f"Say {words[i % 20]}", "output": f"{words[i % 19]} {words[i % 13]}"} for i in range(80)]
    examples.write_rows(made / "pairs.jsonl", rows)
    for kind, changes in KINDS.items():
        given = {"model": {"config": {**examples.MODEL, **changes}}, "data": shards, "batch": {"rows": 8, "micro_rows": 8}}
        run(recipe(f"base-{kind}", stage="sft", optim={"lr": 1e-2}, run__steps=25, **given), made)
    return made


def asked(directory: str, **changes: Any) -> Any:
    own = {"max_tokens": 12, "epochs": 2, "minibatches": 2, "kl": {"coef": 0.01}, **changes.pop("ppo", {})}
    given: dict[str, Any] = {
        "stage": "ppo",
        "model": {"path": "base-llama/model"},
        "data": {"tables": "prompts.jsonl", "seq_len": 48, "holdout": 0.2},
        "rewards": [{"function": "rewards.py:order"}],
        "batch": {"rows": 16, "micro_rows": 8},
        "optim": {"lr": 3e-3, "schedule": "constant", "warmup": 0, "weight_decay": 0.0},
        "run__steps": 3,
        "ppo": own,
    }
    return recipe(directory, **{**given, **changes})


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    """Rows of metrics without what a clock says."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    timed = ("tokens_per_second", "mfu", "seconds_sampling", "seconds_scoring", "seconds_training")
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


@pytest.fixture(scope="module")
def learned(folder: Path) -> tuple[Path, dict[str, Any]]:
    result = run(asked("learned", run__steps=20, run__save_every=10, run__keep=9), folder)
    return folder / "learned", result


def test_what_is_rewarded_is_learned(learned: tuple[Path, dict[str, Any]]) -> None:
    run_dir, result = learned
    rows = [row for row in rows_of(run_dir) if "reward" in row]
    early, late = (np.mean([row["reward"] for row in some]) for some in (rows[:3], rows[-3:]))
    assert late > early + 0.1, (early, late)
    assert result["heldout_reward"]["after"] > result["heldout_reward"]["before"] + 0.1
    assert all(row["mismatch"] < 1e-4 for row in rows)
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["kl"] > 0.1
    model = AutoModelForCausalLM.from_pretrained(run_dir / "model")
    assert not any("value" in name for name, _ in model.named_parameters())
    assert (run_dir / "model" / "chat_template.jinja").is_file()


def test_a_recorded_update_is_that_of_plain_loops(learned: tuple[Path, dict[str, Any]]) -> None:
    """Rewards by token, advantages, returns and whitening of an update from its log-probabilities and values alone, in float64."""
    run_dir, _ = learned
    table = rollouts.read(run_dir, 12).to_pylist()
    row = next(row for row in rows_of(run_dir) if row["step"] == 12)
    plain, wanted_returns = [], []
    for answer in table:
        n = len(answer["ids"])
        assert all(len(answer[name]) == n for name in ("drawn", "logprobs", "reference", "values", "rewards", "advantages", "returns"))
        kl = [a - b for a, b in zip(answer["logprobs"], answer["reference"], strict=True)]
        rewards = [-row["kl_coef"] * one for one in kl]
        rewards[-1] += answer["score"]
        assert answer["rewards"] == pytest.approx(rewards, abs=1e-5)
        assert answer["kl"] == pytest.approx(sum(kl), abs=1e-4)
        assert answer["score"] == pytest.approx(answer["reward.order"])
        running, found = 0.0, []
        for t in reversed(range(n)):
            after = answer["values"][t + 1] if t + 1 < n else 0.0
            running = rewards[t] + after - answer["values"][t] + 0.95 * running
            found.insert(0, running)
        plain += found
        wanted_returns += [a + v for a, v in zip(found, answer["values"], strict=True)]
    mean = sum(plain) / len(plain)
    deviation = math.sqrt(sum((one - mean) ** 2 for one in plain) / len(plain) + 1e-8)
    assert [one for answer in table for one in answer["advantages"]] == pytest.approx([(one - mean) / deviation for one in plain], abs=1e-3)
    assert [one for answer in table for one in answer["returns"]] == pytest.approx(wanted_returns, abs=1e-4)
    assert row["reward"] == pytest.approx(np.mean([answer["score"] for answer in table]))
    assert row["kl"] == pytest.approx(np.mean([answer["kl"] for answer in table]), abs=1e-4)
    assert row["unended"] == pytest.approx(np.mean([not answer["ended"] for answer in table]))


def test_what_an_update_tells_of_its_answers_is_what_plain_transformers_computes(
    learned: tuple[Path, dict[str, Any]], folder: Path
) -> None:
    """ln p of the first update's answers by the model that the run began with, one by one and whole."""
    run_dir, _ = learned
    model = AutoModelForCausalLM.from_pretrained(folder / "base-llama/model").eval()
    prompts = {row["document"]: row["prompt_ids"] for row in examples.examples.opened(run_dir / "data")[0].to_pylist()}
    for answer in rollouts.read(run_dir, 1).to_pylist()[:5]:
        ids = prompts[answer["document"]] + answer["ids"]
        with torch.no_grad():
            scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = len(prompts[answer["document"]])
        wanted = [float(scores[start - 1 + t, token]) for t, token in enumerate(answer["ids"])]
        for name in ("drawn", "logprobs", "reference"):
            assert answer[name] == pytest.approx(wanted, abs=1e-4), name


def test_a_run_that_goes_on_is_the_undisturbed_one(folder: Path, learned: tuple[Path, dict[str, Any]]) -> None:
    stop = tunes.stop_at(13)
    with pytest.raises(tunes.StopError):
        run(asked("again", run__steps=20, run__save_every=10, run__keep=9), folder, on_step=stop)
    result = run(asked("again", run__steps=20, run__save_every=10, run__keep=9), folder)
    assert rows_of(folder / "again") == rows_of(learned[0])
    assert result["heldout_reward"] == learned[1]["heldout_reward"]
    for name in ("model/model.safetensors", "checkpoints/step-00000020/value.safetensors", "rollouts/step-00000015-0.arrow"):
        assert (folder / "again" / name).read_bytes() == (learned[0] / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["llama", "glm"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=tunes.needs_4bit if name == "qlora" else ()) for name in TUNES])
def test_every_tuning_moves_and_keeps_its_reference(folder: Path, kind: str, name: str) -> None:
    run(asked(f"{kind}-{name}", tune=name, model={"path": f"base-{kind}/model"}, run__steps=2, optim__lr=2e-2), folder)
    first, second = (rollouts.read(folder / f"{kind}-{name}", step).to_pylist() for step in (1, 2))
    apart = [abs(a - b) for row in first for a, b in zip(row["logprobs"], row["reference"], strict=True)]
    moved = [abs(a - b) for row in second for a, b in zip(row["logprobs"], row["reference"], strict=True)]
    if name in ("full", "lora", "qlora"):  # a prompt is another policy from its beginning
        assert max(apart) < 1e-4
    assert max(moved) > 1e-3
    assert all(row["mismatch"] < 1e-3 for row in rows_of(folder / f"{kind}-{name}") if "mismatch" in row)


def test_a_policy_gives_what_logits_give(folder: Path) -> None:
    """ln p, entropy and gradients of a few tokens, in pieces that are computed again, against whole logits."""
    model = AutoModelForCausalLM.from_pretrained(folder / "base-llama/model")
    policy = Policy(model)
    call = attention.forward_of(policy, "sdpa", torch.device("cpu"), torch.float32)
    random = np.random.default_rng(0)
    prompts = [random.integers(0, 300, n) for n in (5, 1, 9)]
    answers = [random.integers(0, 300, n) for n in (3, 150, 60)]
    batch = batch_of(prompts, answers)
    found = told(call, batch, 0.7)
    weights = torch.randn(len(batch.labels), generator=torch.Generator().manual_seed(0))
    (found.logprobs * weights + 0.3 * found.entropy * weights).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    total, at = torch.zeros(()), 0
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor(np.concatenate([prompt, answer]))[None]
        scores = (model(ids).logits[0, len(prompt) - 1 : -1] / 0.7).log_softmax(-1)
        own, entropy = scores[torch.arange(len(answer)), torch.tensor(answer)], -(scores.exp() * scores).sum(-1)
        here = slice(at, at + len(answer))
        assert torch.allclose(found.logprobs[here], own, atol=1e-5)
        assert torch.allclose(found.entropy[here], entropy, atol=1e-5)
        total = total + ((own + 0.3 * entropy) * weights[here]).sum()
        at += len(answer)
    total.backward()
    assert set(gradients) == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(gradients[name], parameter.grad, atol=2e-4 * float(parameter.grad.abs().max()) + 1e-6), name


def test_minibatches_have_everything_once_and_the_same_of_every_share() -> None:
    found = list(_minibatches(24, 4, (1, 2, 3)))
    assert sorted(np.concatenate(found).tolist()) == list(range(24))
    for part in found:
        assert [int(((part >= at) & (part < at + 12)).sum()) for at in (0, 12)] == [3, 3]
    assert [part.tolist() for part in _minibatches(24, 4, (1, 2, 4))] != [part.tolist() for part in found]


def test_rewards_that_fail_end_the_run_and_lose_nothing(folder: Path) -> None:
    run(asked("fails", run__steps=2, run__save_every=1), folder)
    before = (folder / "fails/checkpoints/step-00000002/model.safetensors").read_bytes()
    kept = rows_of(folder / "fails")
    text = (folder / "rewards.py").read_text()
    longer = asked("fails", run__steps=4, run__save_every=1)
    try:
        for wrong, said in (
            ("raise ValueError('gone')", "gone"),
            ("return [float('nan')] * len(answers)", "gave nan"),
            ("return [1]", "numbers"),
        ):
            (folder / "rewards.py").write_text(f"def order(prompts, answers, references):\n    {wrong}\n")
            with pytest.raises(RunError, match=r"made with rewards|order"):
                run(longer, folder)
            del said
        assert (folder / "fails/checkpoints/step-00000002/model.safetensors").read_bytes() == before
    finally:
        (folder / "rewards.py").write_text(text)
    run(longer, folder)
    assert rows_of(folder / "fails")[: len(kept) - 1] == kept[:-1]


def test_several_rewards_are_summed_by_weight_and_a_missing_end_costs(folder: Path) -> None:
    sources = [{"function": "rewards.py:order", "weight": 2.0}, {"function": "rewards.py:short", "weight": 0.5, "name": "brief"}]
    run(asked("sums", rewards=sources, run__steps=1, ppo={"missing_end": 0.75, "max_tokens": 4}), folder)
    answers = rollouts.read(folder / "sums", 1).to_pylist()
    assert any(not answer["ended"] for answer in answers)
    for answer in answers:
        cost = 0.0 if answer["ended"] else 0.75
        assert answer["score"] == pytest.approx(2 * answer["reward.order"] + 0.5 * answer["reward.brief"] - cost, abs=1e-6)
    row = next(row for row in rows_of(folder / "sums") if "reward" in row)
    assert row["reward/brief"] == pytest.approx(np.mean([answer["reward.brief"] for answer in answers]))
    explained = rollouts.explain(folder / "sums", 1)["answers"]
    assert [one["score"] for one in explained] == sorted(answer["score"] for answer in answers)
    assert explained[0]["rewards"].keys() == {"order", "brief"}


def test_what_cannot_go_together_is_refused(folder: Path) -> None:
    for changes, said in (
        ({"batch": {"rows": 15, "micro_rows": 8}}, "no whole number of 2 minibatches"),
        ({"ppo": {"max_tokens": 1000}}, "positions of the model"),
        ({"run__spike": 3.0}, "run.spike"),
        ({"run__parallel": "fsdp"}, "run.parallel"),
        ({"tune": "lora", "lora": {"dropout": 0.1}}, "lora.dropout"),
    ):
        with pytest.raises(RecipeError, match=said):
            run(asked("refused", **changes), folder)
    for changes, said in (({"rewards": []}, "needs to know what an answer earns"), ({"dpo": {}}, "dpo: has no effect in stage ppo")):
        with pytest.raises(Exception, match=said):
            asked("refused", **changes)


def test_alarms_are_raised_once_and_when_they_should() -> None:
    calm = {"reward": 0.0, "reward_std": 0.5, "reward/a": 0.0, "reward/b": 0.0, "entropy": 3.0, "kl": 1.0, "unended": 0.1,
            "repetition": 0.1, "answer_tokens": 20.0}  # fmt: skip
    known: dict[str, Any] = {}
    for _ in range(alarms.FIRST + 5):
        assert alarms.raised(known, calm, 50.0) == []
    known = json.loads(json.dumps(known))
    for changes, said in (
        ({"kl": 60.0}, "nats from the reference"),
        ({"unended": 0.99}, "before they end"),
        ({"repetition": 0.8}, "said before"),
        ({"entropy": 0.01}, "little new is sampled"),
        ({"reward": 2.0, "reward/a": 3.0, "reward/b": -1.0}, "its part b fell"),
    ):
        fresh = json.loads(json.dumps(known))
        found: list[str] = []
        for _ in range(30):
            found += alarms.raised(fresh, {**calm, **changes}, 50.0)
        assert len(found) == 1, found
        assert said in found[0]
    assert alarms.repetition([np.array([1, 2, 3, 4] * 5), np.arange(20)]) == (13, 34)
    assert alarms.repetition([np.array([1, 2])]) == (0, 0)


@pytest.mark.slow
def test_two_processes_equal_one(folder: Path) -> None:
    changes = {"run__steps": 3, "rewards": [{"function": "rewards.py:order"}], "optim__lr": 1e-3}
    run(asked("one", **changes), folder)
    path = folder / "two.json"
    path.write_text(asked("two", **changes).model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "127.0.0.1:0", "-m", "codedev", "train", str(path), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = rows_of(folder / "one"), rows_of(folder / "two")
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            counted = name.endswith("share")  # of tokens beyond a threshold: rounding decides of those that lie on it
            assert a[name] == pytest.approx(b[name], rel=2e-3, abs=0.02 if counted else 2e-4), name
    texts = [[row["answer"] for row in rollouts.read(folder / name, 2).to_pylist()] for name in ("one", "two")]
    assert texts[0] == texts[1]
