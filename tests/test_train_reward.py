"""Reward models: the loss of a plain reference, what plain transformers and peft load, learning, resuming, and what is refused."""

from __future__ import annotations

import gzip
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from test_train_examples import MODEL, WORDS, make_tokenizer, write_rows
from test_train_tune import needs_4bit
from torch.nn.functional import logsigmoid
from train_support import on_two_processes, recipe
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from codedev._errors import CodedevError, InputError, RecipeError, RunError
from codedev._run import no_progress
from codedev.cli import cli
from codedev.train import model as models
from codedev.train import run
from codedev.train import tune as tunes
from codedev.train.align import calibration, reward_head, reward_model
from codedev.train.align.examples import prepare
from codedev.train.align.reward_data import Scale
from codedev.train.align.reward_recipe import RewardRecipe
from codedev.train.align.rewards import Asked, earn, open_source
from codedev.train.align.scoring import open_reward_model
from codedev.train.compute.parallel import World
from codedev.train.recipe import absolute
from codedev.train.use.merge import merge
from codedev.train.watch.dryrun import examine
from codedev.train.watch.explain import explain
from codedev.train.watch.metrics import read_metrics
from codedev.train.watch.status import status

GLM = {
    **{name: value for name, value in MODEL.items() if name != "model_type"},
    "model_type": "glm",
    "head_dim": 8,
    "pad_token_id": 2,
    "eos_token_id": [1],
    "bos_token_id": None,
}
KINDS = {"llama": MODEL, "glm": GLM}
TUNES = ["full", "lora", pytest.param("qlora", marks=needs_4bit)]
CPU = World(0, 1, torch.device("cpu"))


def pairs(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """The chosen answer has the word `order` somewhere, the rejected one has not."""
    rng = random.Random(seed)
    words = [word for word in WORDS if word != "order"]
    made = []
    for _ in range(count):
        chosen, rejected = ([rng.choice(words) for _ in range(rng.randint(2, 8))] for _ in range(2))
        chosen.insert(rng.randrange(len(chosen) + 1), "order")
        row = {"prompt": f"Sort {rng.choice(words)}", "chosen": " ".join(chosen), "rejected": " ".join(rejected)}
        made.append({**row, "by": round(rng.random(), 2)})
    return made


def rated(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """The reward is 30 and two more for every `order` in the answer."""
    rng = random.Random(seed)
    words = [word for word in WORDS if word != "order"]
    made = []
    for _ in range(count):
        answer = [rng.choice(words) for _ in range(rng.randint(2, 6))] + ["order"] * rng.randint(0, 3)
        rng.shuffle(answer)
        made.append({"prompt": f"Sort {rng.choice(words)}", "answer": " ".join(answer), "reward": 30 + 2 * answer.count("order")})
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokenizer, base-llama and base-glm with it, pairs.jsonl, rated.jsonl."""
    base = tmp_path_factory.mktemp("reward")
    tokenizer = make_tokenizer(base)
    for name, fields in KINDS.items():
        torch.manual_seed(0)
        config = AutoConfig.for_model(fields["model_type"], vocab_size=512, **{k: v for k, v in fields.items() if k != "model_type"})
        AutoModelForCausalLM.from_config(config).save_pretrained(base / f"base-{name}")
        for file in tokenizer.iterdir():
            shutil.copyfile(file, base / f"base-{name}" / file.name) if file.is_file() else None
    write_rows(base / "pairs.jsonl", pairs(300))
    write_rows(base / "rated.jsonl", rated(300))
    return base


def wanted(directory: str, **changes: Any) -> Any:
    data = {"tables": ["pairs.jsonl"], "template": "chatml", "holdout": 0.2, **changes.pop("data", {})}
    given = {"stage": "reward", "model": {"path": "base-llama"}, "data": data, "batch": {"rows": 16, "micro_rows": 16}, "optim__lr": 1e-2}
    return recipe(directory, **{**given, "run__steps": 40, **changes})


def trained(folder: Path, tune: str) -> dict[str, Any]:
    """A run of each tuning that several tests look at."""
    known = folder / f"known-{tune}.json"
    if not known.is_file():
        result = run(wanted(tune, tune=tune, run__eval_every=20, run__save_every=20, run__keep=9), folder)
        known.write_text(json.dumps(result))
    found: dict[str, Any] = json.loads(known.read_text())
    return found


def asked(rows: list[dict[str, Any]], side: str) -> list[Asked]:
    return [Asked(row["prompt"], row[side], {}, f"row {number}") for number, row in enumerate(rows)]


# -- the arithmetic


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", ["pairs", "rated"])
def test_loss_and_gradient_are_those_of_a_plain_reference(folder: Path, kind: str, table: str) -> None:
    """One sequence at a time through the model as transformers has it."""
    given = {"reward": {"margin": "by", "center": 0.05}} if table == "pairs" else {}
    asked = absolute(wanted(f"oracle-{kind}-{table}", model={"path": f"base-{kind}"}, data={"tables": [f"{table}.jsonl"]}, **given), folder)
    found = prepare(asked, ("pairs", "rated"))
    _, train, _ = reward_model.opened(asked)
    model = reward_head.build(asked, train, train.manifest, "sdpa", None, CPU, torch.float32)
    assert type(model).__name__ == f"{kind.capitalize()}ForSequenceClassification"
    numbers = np.array([5, 3, 11, 7])
    own = reward_model.loss_of(reward_head.call_of(reward_head.Scores(model), CPU.device, torch.float32), train.read(numbers), 0.05)
    own = own[0] if table == "pairs" else own
    own.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    def number(ids: list[int]) -> Any:
        return model(input_ids=torch.tensor([ids])).logits[0, 0]

    rewards = np.array(found.table.column("reward").to_pylist(), float)
    expected: Any = 0.0
    for row in found.table.take(numbers).to_pylist():
        if table == "pairs":
            chosen, rejected = (number(row["prompt_ids"] + row[f"{side}_ids"]) for side in ("chosen", "rejected"))
            margin = json.loads(row["reference"])["by"]
            expected = expected - logsigmoid(chosen - rejected - margin) + 0.05 * (chosen + rejected) ** 2
        else:
            expected = expected + (number(row["prompt_ids"] + row["answer_ids"]) - (row["reward"] - rewards.mean()) / rewards.std()) ** 2
    expected.backward()
    assert float(own.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_calibration_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(0.7, 2, 501)
    margins[:3] = 0, 30, -30
    found = calibration.of_pairs(margins, np.zeros(501))
    p = [1 / (1 + math.exp(-m)) for m in margins.tolist()]
    assert found["brier"] == pytest.approx(sum((1 - one) ** 2 for one in p) / 501)
    assert found["loss"] == pytest.approx(sum(-math.log(one) if one > 0 else 30 for one in p) / 501)
    error = 0.0
    for low in range(10):
        inside = [i for i in range(501) if 0.5 + low / 20 <= max(p[i], 1 - p[i]) < 0.5 + (low + 1) / 20 + (low == 9)]
        if inside:
            right = sum(0.5 if margins[i] == 0 else float(margins[i] > 0) for i in inside) / len(inside)
            error += len(inside) / 501 * abs(right - sum(max(p[i], 1 - p[i]) for i in inside) / len(inside))
    assert found["ece"] == pytest.approx(error)
    given, wanted_ = np.array([1.0, 2, 2, 5]), np.array([1.0, 3, 2, 4])
    told = calibration.of_rewards(given, wanted_, Scale(0, 2))
    assert told["mse"] == pytest.approx(0.5)
    assert told["r2"] == pytest.approx(1 - 0.5 / 1.25)
    assert told["loss"] == pytest.approx(0.125)
    assert told["spearman"] == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 3, 2, 4])[0, 1])
    assert calibration.spearman(np.ones(4), wanted_) is None


def test_padding_that_matters_is_found(folder: Path) -> None:
    """A model that looks ahead."""

    def call(ids: np.ndarray, lasts: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(ids.sum(1).astype(np.float32))

    words: Any = type("Words", (), {"seq_len": 64, "vocab_size": 100})
    with pytest.raises(RunError, match="depends on what follows"):
        reward_head.check_padding(call, words, torch.float32, "M")


# -- runs


@pytest.mark.parametrize("tune", TUNES)
def test_it_learns_what_is_better(folder: Path, tune: str) -> None:
    result = trained(folder, tune)
    before, after = result["heldout"]["before"], result["heldout"]["after"]
    assert before["heldout_accuracy"] < 0.75
    assert after["heldout_accuracy"] >= 0.9
    assert after["heldout_brier"] < 0.1 < before["heldout_brier"]
    assert result["alarms"] == []
    assert (result["kind"], result["data"]["examples"] + result["data"]["heldout"]) == ("pairs", 300)
    rows = [row for row in read_metrics(folder / tune) if "loss" in row]
    assert {"accuracy", "margin", "loss", "grad_norm", "supervised"} <= set(rows[-1])
    assert rows[-1]["supervised"] == 16
    assert np.mean([row["accuracy"] for row in rows[-5:]]) >= 0.9
    page = (folder / tune / "index.html").read_text()
    assert all(f'data-curve="heldout_{name}"' in page for name in ("accuracy", "margin", "ece", "brier"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_rewards_in_their_own_scale(folder: Path, kind: str) -> None:
    name = f"rated-{kind}"
    result = run(wanted(name, model={"path": f"base-{kind}"}, data={"tables": ["rated.jsonl"]}, run__steps=80), folder)
    before, after = result["heldout"]["before"], result["heldout"]["after"]
    assert before["heldout_r2"] < 0.3
    assert after["heldout_r2"] > 0.8
    assert after["heldout_spearman"] > 0.8
    rows = rated(40, seed=5)
    scores = np.array(open_reward_model(folder / name).score(asked(rows, "answer")))
    assert 1 - ((scores - [row["reward"] for row in rows]) ** 2).mean() / np.var([row["reward"] for row in rows]) > 0.7
    told = json.loads((folder / name / "model/config.json").read_text())["codedev_reward"]
    plain = AutoModelForSequenceClassification.from_pretrained(folder / name / "model").eval()
    reader = AutoTokenizer.from_pretrained(folder / name / "model")
    with torch.no_grad():
        numbers = plain(**_texts(reader, rows, "answer")).logits[:, 0].numpy()
    np.testing.assert_allclose(told["mean"] + told["deviation"] * numbers, scores, atol=1e-3)


def _texts(reader: Any, rows: list[dict[str, Any]], side: str) -> Any:
    talks = [[{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}] for row in rows]
    texts = [reader.apply_chat_template(talk, tokenize=False).rstrip("\n") for talk in talks]
    return reader(texts, padding=True, return_tensors="pt", add_special_tokens=False).to("cpu")


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_plain_transformers_and_peft_give_the_same(folder: Path, tune: str) -> None:
    """Padded texts of several lengths, read by the tokenizer beside the model."""
    trained(folder, tune)
    rows = pairs(12, seed=3)
    model = folder / tune / "model"
    scores = open_reward_model(folder / tune, batch=5).score(asked(rows, "chosen"))
    reader = AutoTokenizer.from_pretrained(model)
    if tune == "full":
        plain = AutoModelForSequenceClassification.from_pretrained(model)
        assert plain.config.num_labels == 1
    else:
        from peft import PeftModel

        bare = AutoModelForSequenceClassification.from_pretrained(folder / "base-llama", num_labels=1)
        plain = PeftModel.from_pretrained(bare, str(model))
        bare.config.pad_token_id = reader.pad_token_id
    with torch.no_grad():
        found = plain.eval()(**_texts(reader, rows, "chosen")).logits[:, 0]
    np.testing.assert_allclose(found.numpy(), scores, atol=2e-5)


@pytest.mark.parametrize("tune", TUNES)
def test_a_run_that_was_stopped_ends_alike(folder: Path, tune: str) -> None:
    trained(folder, tune)
    shutil.copytree(folder / tune, folder / f"again-{tune}")
    again = folder / f"again-{tune}"
    shutil.rmtree(again / "checkpoints/step-00000040")
    shutil.rmtree(again / "model")
    result = run(wanted(f"again-{tune}", tune=tune, run__eval_every=20, run__save_every=20, run__keep=9), folder)
    assert result["data"]["reused"]
    one, other = ([{**row, "tokens_per_second": 0} for row in read_metrics(path)] for path in (folder / tune, again))
    assert one == other
    weights = "model.safetensors" if tune == "full" else "adapter_model.safetensors"
    assert (again / "model" / weights).read_bytes() == (folder / tune / "model" / weights).read_bytes()


def test_micro_batches_change_nothing(folder: Path) -> None:
    losses = []
    for micro in (16, 3):
        run(wanted(f"micro-{micro}", batch={"rows": 16, "micro_rows": micro}, run__steps=6), folder)
        losses.append([row["loss"] for row in read_metrics(folder / f"micro-{micro}") if "loss" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


WORKER = """
import sys
from pathlib import Path
import torch.distributed as dist
from test_train_reward import wanted
from codedev.train import model as models
from codedev.train import run
from codedev.train import tune as tunes
dist.init_process_group("gloo")
for parallel in ("ddp", "fsdp"):
    run(wanted(parallel, run__parallel=parallel, run__steps=6, batch={"rows": 16, "micro_rows": 3}), Path(sys.argv[1]))
run(wanted("lora-ddp", tune="lora", run__steps=6), Path(sys.argv[1]))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one(folder: Path, tmp_path: Path) -> None:
    on_two_processes(WORKER, folder)
    run(wanted("one", run__steps=6), folder)
    run(wanted("lora-one", tune="lora", run__steps=6), folder)

    def numbers(name: str) -> list[float]:
        return [value for row in read_metrics(folder / name) for key, value in row.items() if key in ("loss", "margin", "heldout_margin")]

    for name, like in (("ddp", "one"), ("fsdp", "one"), ("lora-ddp", "lora-one")):
        assert numbers(name) == pytest.approx(numbers(like), abs=2e-4)
    one, two = (load_file(folder / name / "model/model.safetensors") for name in ("one", "fsdp"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-3, rtol=1e-2)


def test_the_next_round_begins_with_the_last_reward_model(folder: Path) -> None:
    trained(folder, "full")
    result = run(wanted("round-2", model={"path": "full/model"}, run__steps=1, data={"template": None}), folder)
    assert result["heldout"]["before"] == trained(folder, "full")["heldout"]["after"]


# -- at work


def test_scores_do_not_depend_on_their_company(folder: Path) -> None:
    trained(folder, "full")
    model, rows = open_reward_model(folder / "full", batch=4), pairs(9, seed=4)
    together = model.score(asked(rows, "chosen"))
    alone = [model.score([one])[0] for one in asked(rows, "chosen")]
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.mean(np.array(together) > np.array(model.score(asked(rows, "rejected")))) >= 0.8
    talk = json.dumps([{"role": "system", "content": "Sort."}, {"role": "user", "content": "files"}])
    empty, said = model.score([Asked("x", "", {}, "d", talk), Asked("x", "order", {}, "d", talk)])
    assert math.isfinite(empty)
    assert empty != said
    _, train, _ = reward_model.opened(absolute(wanted("full"), folder))
    row = train.table.slice(0, 1).to_pylist()[0]
    ids = model.sequences([Asked("unused", row["chosen"], {}, "d", row["messages"])])[0]
    assert ids.tolist() == row["prompt_ids"] + row["chosen_ids"]


def test_it_is_a_source_of_rewards(folder: Path) -> None:
    trained(folder, "lora")
    source = open_source(RewardRecipe(model="lora", weight=2.0), folder)
    rows = pairs(3, seed=8)
    found = earn([source], asked(rows, "chosen"))
    assert found.scores.tolist() == [2 * one for one in open_reward_model(folder / "lora/model").score(asked(rows, "chosen"))]


@pytest.mark.parametrize("tune", ["lora", pytest.param("qlora", marks=needs_4bit)])
def test_a_base_is_shared_with_the_policy(folder: Path, tune: str) -> None:
    """Both give what they give alone, and nothing that the policy trains is touched."""
    trained(folder, tune)
    trained(folder, "full")
    other: Any = {"r": 4, "dropout": 0.3, "targets": ("q_proj", "v_proj")}
    asked_ = absolute(wanted("policy", stage="sft", tune=tune, lora=other, data={"tables": ["pairs.jsonl"]}), folder)
    _, train, _ = reward_model.opened(absolute(wanted(tune, tune=tune), folder))
    extra = tunes.four_bit(CPU.device, torch.float32) if tune == "qlora" else None
    policy = tunes.attach(models.build(asked_.model, train, "sdpa", 0, extra), asked_, train, torch.float32).eval()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    ids = torch.arange(20)[None]
    before = policy(input_ids=ids).logits
    learned = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    model, rows = open_reward_model(folder / tune, share=policy), pairs(6, seed=6)
    policy.train()
    scores = model.score(asked(rows, "chosen"))
    assert scores == pytest.approx(open_reward_model(folder / tune).score(asked(rows, "chosen")), abs=1e-6)
    assert policy.training
    assert [id(one) for one in policy.parameters() if one.requires_grad] == [id(one) for one in learned]
    assert policy.active_adapters == ["default"]
    assert torch.equal(policy.eval()(input_ids=ids).logits, before)
    with policy.disable_adapter():
        reference = policy(input_ids=ids).logits
        assert model.score(asked(rows, "chosen")) == scores
    assert not torch.equal(reference, before)
    assert open_reward_model(folder / "full", share=policy).model is not policy


def test_models_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    trained(folder, "full")
    with pytest.raises(InputError, match="gives no number"):
        open_reward_model(folder / "base-llama")
    with pytest.raises(InputError, match="neither config"):
        open_reward_model(tmp_path)
    shutil.copytree(folder / "full/model", tmp_path / "m")
    (tmp_path / "m/chat_template.jinja").unlink()
    with pytest.raises(InputError, match="how it reads a conversation"):
        open_reward_model(tmp_path / "m")
    small = AutoConfig.for_model("llama", vocab_size=300, num_labels=1, **{k: v for k, v in MODEL.items() if k != "model_type"})
    AutoModelForSequenceClassification.from_config(small).save_pretrained(tmp_path / "big")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(folder / "full/model" / name, tmp_path / "big" / name)
    with pytest.raises(InputError, match=r"ids up to .*, its embedding 300 rows"):
        open_reward_model(tmp_path / "big")
    model = open_reward_model(folder / "full")
    with pytest.raises(RunError, match=r"the prompt row 0 .* tokens long, and the model has 512 positions"):
        model.score([Asked("queue " * 900, "order", {}, "row 0")])
    with torch.no_grad():
        model.model.score.weight.fill_(math.nan)
    with pytest.raises(RunError, match=r"reward model .*full: gave nan for the answer .* to the prompt row 0"):
        model.score(asked(pairs(1), "chosen"))


# -- to be looked at


@pytest.mark.parametrize("tune", ["lora", pytest.param("qlora", marks=needs_4bit)])
def test_an_adapter_is_merged(folder: Path, tmp_path: Path, tune: str) -> None:
    trained(folder, tune)
    told = merge(folder / tune, "dequant", tmp_path / "merged")
    assert told["difference"] <= told["tolerance"]
    rows = pairs(6, seed=2)
    live, merged = (open_reward_model(path).score(asked(rows, "chosen")) for path in (folder / tune, tmp_path / "merged"))
    assert merged == pytest.approx(live, abs=1e-3)
    config = json.loads((tmp_path / "merged/config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["pad_token_id"] == AutoTokenizer.from_pretrained(tmp_path / "merged").pad_token_id


def test_steps_are_explained_the_worst_first(folder: Path) -> None:
    trained(folder, "full")
    told = explain(folder / "full", 21)
    assert told["exact"]
    assert told["loss"] == pytest.approx(told["loss_recorded"], rel=1e-4)
    losses = [one["loss"] for one in told["documents"]]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 16
    for one in told["documents"]:
        assert one["margin"] == pytest.approx(one["chosen"] - one["rejected"])
        middle = one["chosen"] + one["rejected"]
        assert one["loss"] == pytest.approx(math.log1p(math.exp(-one["margin"])) + 0.01 * middle**2, rel=1e-4)
    found = status(folder / "full")
    assert (found["step"], found["steps"], found["alarm"]) == (40, 40, None)
    assert found["heldout"]["heldout_accuracy"] >= 0.9
    shown = CliRunner().invoke(cli, ["train", "explain", str(folder / "full"), "--step", "21", "--limit", "2"]).output
    assert "rejected" in shown
    assert "14 more" in shown
    assert "accuracy" in CliRunner().invoke(cli, ["train", "status", str(folder / "full")]).output


@pytest.mark.parametrize("table", ["pairs", "rated"])
def test_a_dry_run_says_what_would_happen(folder: Path, table: str) -> None:
    told = examine(wanted(f"dry-{table}", data={"tables": [f"{table}.jsonl"]}), folder, no_progress)
    assert told["faults"] == []
    assert told["warnings"] == []
    assert told["isolation"]["ok"]
    assert told["memory"]["how"] == "counted"
    assert told["examples"]["kind"] == table
    assert [row["answers"][0][0].split()[0] for row in told["batch"]] == ["chosen" if table == "pairs" else "answer"] * 2
    assert sorted(path.name for path in (folder / f"dry-{table}").iterdir()) == ["data"]
    file = folder / f"dry-{table}.yaml"
    file.write_text(json.dumps(wanted(f"dry-{table}", data={"tables": [f"{table}.jsonl"], "holdout": 0.0}).model_dump(mode="json")))
    done = CliRunner().invoke(cli, ["train", str(file), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "no example is held out" in done.output


def test_swapped_columns_raise_an_alarm(folder: Path) -> None:
    """Learned from one table, measured on one whose columns are swapped."""
    rows = [{**row, "id": number} for number, row in enumerate(pairs(200))]
    write_rows(folder / "swapped.jsonl", rows)
    asked_ = wanted("swapped", data={"tables": ["swapped.jsonl"]}, run__steps=30)
    found = prepare(absolute(asked_, folder), ("pairs", "rated"))
    known = {row["chosen"] for row in found.heldout.to_pylist()}
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} if row["chosen"] in known else row for row in rows]
    write_rows(folder / "swapped.jsonl", swapped)
    shutil.rmtree(folder / "swapped")
    result = run(asked_, folder)
    assert result["heldout"]["after"]["heldout_accuracy"] < 0.4
    assert ["alarm" in row for row in read_metrics(folder / "swapped") if "heldout_loss" in row] == [False, True]
    assert "columns chosen and rejected are swapped" in result["alarms"][0]
    assert "columns chosen and rejected are swapped" in (folder / "swapped/index.html").read_text()
    assert "swapped" in (status(folder / "swapped")["alarm"] or "")


REFUSED: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    ([{"prompt": "a", "chosen": "b", "rejected": "b"}] * 3, {}, "3 same_answers"),
    ([{"prompt": "a", "chosen": "b", "rejected": ""}] * 3, {}, "3 empty_answer"),
    ([{"prompt": "a", "answer": "b", "reward": "good"}] * 2, {}, "2 no_reward"),
    ([{"prompt": "a", "answer": f"b {i}", "reward": 3} for i in range(5)], {}, "all 5 rewards are 3"),
    ([{"prompt": "a", "answer": f"b {i}", "reward": (-1) ** i * 1e308} for i in range(4)], {}, "too large"),
    (pairs(1), {}, "one example is nothing to learn from"),
    (pairs(4), {"reward": {"margin": "far"}}, "'far' of .* is None, which is no number; it has by"),
    (rated(4), {"reward": {"margin": "by"}}, "is of pairs of answers"),
    (pairs(4), {"tune": "prompt"}, "trains vectors before a text and no head"),
    (pairs(4), {"tune": "prefix"}, "trains vectors before a text and no head"),
    (pairs(4), {"batch": {"tokens": 1024}}, r"Give batch\.rows"),
    (pairs(4), {"model__attn": "varlen"}, "is for packed rows"),
]


@pytest.mark.parametrize(("rows", "changes", "said"), REFUSED)
def test_what_cannot_be_learned_is_refused(folder: Path, tmp_path: Path, rows: Any, changes: dict[str, Any], said: str) -> None:
    write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(CodedevError, match=said):
        run(wanted(str(tmp_path / "run"), data={"tables": [str(tmp_path / "a.jsonl")], "holdout": 0.0}, **changes), folder)
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_bad_step_names_its_pairs(folder: Path) -> None:
    """The weights leave all bounds."""
    with pytest.raises(RunError, match=r"(the loss is|its gradient) (nan|inf).*Its 16 documents begin with [0-9a-f]{32}"):
        run(wanted("bad", optim__lr=1e6, optim__clip=1e9, run__steps=12), folder)
    assert "failed" in (folder / "bad/index.html").read_text()


def test_a_model_without_such_a_head_is_refused(folder: Path) -> None:
    config = {"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 1}
    data = {"tokenizer": "tokenizer"}
    with pytest.raises(RecipeError, match="no 'mamba' that gives a number"):
        run(wanted("mamba", model={"config": config}, data=data), folder)


def test_other_data_or_another_loss_is_another_run(folder: Path) -> None:
    trained(folder, "full")
    shutil.copytree(folder / "full", folder / "other")
    with pytest.raises(RunError, match="made with reward"):
        run(wanted("other", reward={"center": 0.5}, run__eval_every=20, run__save_every=20, run__keep=9), folder)
    with pytest.raises(RunError, match="has checkpoints of a run on other data"):
        run(wanted("other", data={"holdout": 0.3}), folder)


@pytest.mark.realdata
def test_it_learns_real_feedback(folder: Path, data_dir: Path) -> None:
    """HH-RLHF by accuracy, rated answers of auto-j by squared error, both of what is learned: a tiny model by heart."""
    with gzip.open(data_dir / "feedback/anthropics__hh-rlhf/harmless-base/test.jsonl.gz", "rt") as file:
        (folder / "hh.jsonl").write_text("".join(sorted((next(file) for _ in range(200)), key=len)[:24]))
    given: dict[str, Any] = {"run__steps": 30, "batch": {"rows": 8, "micro_rows": 8}}
    run(wanted("hh", data={"tables": ["hh.jsonl"], "holdout": 0.0}, **given), folder)
    rows = [row for row in read_metrics(folder / "hh") if "loss" in row]
    assert np.mean([row["accuracy"] for row in rows[-7:]]) >= 0.9
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    lines = (data_dir / "feedback/GAIR-NLP__auto-j/data/training/single_traindata.jsonl").read_text().splitlines()
    few = [{**json.loads(line), "usrmsg": json.loads(line)["usrmsg"][-300:]} for line in lines[:24]]
    write_rows(folder / "auto.jsonl", few)
    table = {"paths": ["auto.jsonl"], "columns": {"prompt": "usrmsg", "reward": "pred_score"}}
    result = run(wanted("auto", data={"tables": [table], "holdout": 0.2}, **given), folder)
    rows = [row for row in read_metrics(folder / "auto") if "loss" in row]
    assert np.mean([row["loss"] for row in rows[-5:]]) < 0.3
    assert result["heldout"]["after"]["heldout_rewards"] == result["data"]["heldout"]
