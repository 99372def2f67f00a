"""Stage ppo beside the PPO of TRL 1.12, the last version that has one: the same model, prompts, reward model and number of answers.

    python benchmarks/bench_ppo.py [--trl DIR] [--work DIR] [--seeds N] [--updates N] [--json FILE]

A tiny model learns by SFT to answer in words. A reward model learns from pairs to like answers with many `e`s. Both trainers move the
model to where that reward is, by as many answers in as many steps at the same rates; TRL values answers by a copy of the reward model, we
by a head on the policy. What comes out is judged alike: answers drawn from each final model to prompts that neither saw, with the same
random numbers, by the same reward model; and how far they lie from the model that both began with, in nats an answer.

Each trainer is a process of its own with one thread. Seconds are those of the training loop, imports and loading left out. Memory is the
process's peak, and how much of it came after imports and models were there ("more"). `--trl`: where the older TRL lies, by
`pip install --target DIR --no-deps trl==1.12.0`; made where it is not there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _bench import _memory, machine, write_json

ROWS, TOKENS, EPOCHS, PARTS, RATE, KL = 32, 16, 2, 2, 1e-3, 0.02
WORDS = "seven green trees keep their needles even when winter comes to old stony ground and a fox digs for mice".split()
MODEL = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
}


def prepare(work: Path) -> None:
    """Tokenizer, tables, the model and the reward model below `work`."""
    from codedev.corpus import recipe as recipes
    from codedev.corpus.build import build
    from codedev.tokenize.train import train_tokenizer

    draw = random.Random(0)

    def some() -> str:
        return " ".join(draw.sample(WORDS, 4))

    shown = [{"instruction": f"Say {some()}", "output": some()} for _ in range(800)]
    pairs = []
    for _ in range(600):
        one, other = sorted((some(), some()), key=lambda text: text.count("e") / len(text))
        pairs.append({"prompt": f"Say {some()}", "chosen": other, "rejected": one})
    _write(work / "shown.jsonl", shown)
    _write(work / "pairs.jsonl", pairs)
    _write(work / "asked.jsonl", [{"prompt": f"Say {some()}"} for _ in range(1200)])
    _write(work / "words.jsonl", [{"text": f"{row['instruction']} {row['output']}"} for row in shown])
    source = {"name": "words", "sources": [{"name": "words", "type": "tables", "paths": ["words.jsonl"]}]}
    build(recipes.check(source, "bench"), work, work / "words")
    train_tokenizer(work / "words", work / "tokenizer", vocab_size=512, special_slots=64)
    table = {"tokenizer": "tokenizer", "template": "chatml", "seq_len": 64}
    _train(work, {"stage": "sft", "model": {"config": MODEL}, "data": {"tables": "shown.jsonl", **table},
                  "batch": {"rows": 16, "micro_rows": 16}, "optim": {"lr": 3e-3}, "run": {"dir": "base", "steps": 120}})  # fmt: skip
    _train(work, {"stage": "reward", "model": {"path": "base/model"}, "data": {"tables": "pairs.jsonl", "seq_len": 64, "holdout": 0.1},
                  "batch": {"rows": 16, "micro_rows": 16}, "optim": {"lr": 1e-3}, "run": {"dir": "judge", "epochs": 2}})  # fmt: skip


def ours(work: Path, seed: int, updates: int) -> dict[str, Any]:
    recipe = {
        "stage": "ppo",
        "model": {"path": "base/model"},
        "data": {"tables": "asked.jsonl", "seq_len": 64, "holdout": 0.1, "prepared": "asked"},
        "rewards": [{"model": "judge"}],
        "ppo": {"max_tokens": TOKENS, "epochs": EPOCHS, "minibatches": PARTS, "kl": {"coef": KL}, "value_lr": RATE},
        "batch": {"rows": ROWS, "micro_rows": ROWS},
        "optim": {"lr": RATE, "schedule": "constant", "warmup": 0, "weight_decay": 0.0, "betas": [0.9, 0.999]},
        "run": {"dir": f"ours-{seed}", "steps": updates, "seed": seed, "eval_every": 10**6},
    }
    held: list[int] = []

    def first(row: dict[str, Any]) -> None:  # the held-out prompts before the first update: all is loaded
        held.append(_memory("self", "VmRSS"))

    result = _train(work, recipe, first)
    rows = [json.loads(line) for line in (work / f"ours-{seed}" / "metrics.jsonl").read_text().splitlines()]
    seconds = sum(row["seconds_sampling"] + row["seconds_scoring"] + row["seconds_training"] for row in rows if "seconds_training" in row)
    return {"seconds": seconds, "peak": _memory("self", "VmHWM"), "before": held[0], "model": result["model_dir"]}


def theirs(work: Path, seed: int, updates: int) -> dict[str, Any]:
    """In a process whose path begins with the older TRL."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

    ppo: Any = importlib.import_module("trl.experimental.ppo")
    folder = work / "asked"
    ends = json.loads((work / "base/model/generation_config.json").read_text())["eos_token_id"]
    end = ends[0] if isinstance(ends, list) else ends
    from codedev.train.align.examples import opened

    prompts = opened(folder)[0].column("prompt_ids").to_pylist()
    plain = PreTrainedTokenizerFast(tokenizer_file=str(work / "base/model/tokenizer.json"))
    plain.eos_token, plain.pad_token, plain.padding_side = plain.convert_ids_to_tokens(end), "<|pad|>", "left"
    policy = AutoModelForCausalLM.from_pretrained(work / "base/model", dtype=torch.float32)
    reference = AutoModelForCausalLM.from_pretrained(work / "base/model", dtype=torch.float32)
    judge = AutoModelForSequenceClassification.from_pretrained(work / "judge/model", dtype=torch.float32)
    value = AutoModelForSequenceClassification.from_pretrained(work / "judge/model", dtype=torch.float32)
    arguments = ppo.PPOConfig(
        output_dir=str(work / f"theirs-{seed}"), per_device_train_batch_size=ROWS // PARTS, gradient_accumulation_steps=PARTS,
        num_mini_batches=PARTS, num_ppo_epochs=EPOCHS, total_episodes=ROWS * updates, response_length=TOKENS, temperature=1.0,
        kl_coef=KL, stop_token="eos", learning_rate=RATE, lr_scheduler_type="constant", weight_decay=0.0, num_sample_generations=0,
        bf16=False, use_cpu=True, gradient_checkpointing=False, report_to=[], save_strategy="no", seed=seed, disable_tqdm=True,
        missing_eos_penalty=None, logging_strategy="no",
    )  # fmt: skip
    data = Dataset.from_list([{"input_ids": ids} for ids in prompts])
    trainer = ppo.PPOTrainer(
        args=arguments, processing_class=plain, model=policy, ref_model=reference, reward_model=judge, value_model=value,
        train_dataset=data, eval_dataset=data.select(range(ROWS)),
    )  # fmt: skip
    before = _memory("self", "VmRSS")
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    out = work / f"theirs-{seed}" / "model"
    trainer.model.policy.save_pretrained(out) if hasattr(trainer.model, "policy") else policy.save_pretrained(out)
    return {"seconds": seconds, "peak": _memory("self", "VmHWM"), "before": before, "model": str(out)}


def judged(work: Path, model: Path) -> tuple[float, float]:
    """(mean reward, nats an answer from the base) of answers to held-out prompts."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from codedev.tokenize.vocabulary import decode, load_vocabulary
    from codedev.train.align.examples import opened
    from codedev.train.align.reward_recipe import RewardRecipe
    from codedev.train.align.rewards import Asked, earn, open_source
    from codedev.train.align.rollout import sample

    heldout = opened(work / "asked")[1].to_pylist()
    vocabulary = load_vocabulary(work / "base/model", need_eos=False)
    policy, base = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in (model, work / "base/model"))
    ends = json.loads((work / "base/model/generation_config.json").read_text())["eos_token_id"]
    ends = ends if isinstance(ends, list) else [ends]
    prompts = [np.array(row["prompt_ids"], np.int64) for row in heldout for _ in range(4)]
    drawn = sample(policy, prompts, range(len(prompts)), seed=99, max_tokens=TOKENS, stop=ends, pad=0)
    kl = []
    with torch.no_grad():
        for prompt, ids, logprobs in zip(prompts, drawn.ids, drawn.logprobs, strict=True):
            scores = base(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            kl.append(float(logprobs.sum() - scores[torch.arange(len(ids)), torch.tensor(ids)].sum()))
    source = open_source(RewardRecipe(model=str(work / "judge")), work)
    answers = [decode(vocabulary, ids.tolist(), specials=False) for ids in drawn.ids]
    rows = [row for row in heldout for _ in range(4)]
    found = earn([source], [Asked(row["prompt"], text, {}, row["document"]) for row, text in zip(rows, answers, strict=True)])
    source.close()
    return float(found.scores.mean()), statistics.mean(kl)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trl", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("WHO", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        who, seed = options.child
        print(json.dumps({"ours": ours, "theirs": theirs}[who](options.work, int(seed), options.updates)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        trl = options.trl or work / "trl"
        if not trl.exists():
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", trl, "--no-deps", "trl==1.12.0"], check=True)
        prepare(work)
        _train(work, {"stage": "ppo", "model": {"path": "base/model"}, "rewards": [{"model": "judge"}], "ppo": {"max_tokens": 8},
                      "data": {"tables": "asked.jsonl", "seq_len": 64, "holdout": 0.1, "prepared": "asked"},
                      "batch": {"rows": 4, "micro_rows": 4}, "optim": {"lr": 1e-9}, "run": {"dir": "first", "steps": 1}})  # fmt: skip
        start = judged(work, work / "base/model")
        cases = []
        for seed in range(options.seeds):
            for who in ("ours", "theirs"):  # side by side, so that the machine's mood is the same for both
                found = _child(work, who, seed, options.updates, trl)
                reward, kl = judged(work, Path(found["model"]))
                cases.append(
                    {
                        "who": who,
                        "seed": seed,
                        "reward": reward,
                        "kl": kl,
                        "seconds": found["seconds"],
                        "peak_mb": found["peak"] / 1e6,
                        "more_mb": (found["peak"] - found["before"]) / 1e6,
                    }
                )
    _show(start[0], cases, options.updates)
    if options.json:
        write_json(options.json, "ppo", machine(), {"seeds": options.seeds, "updates": options.updates, "start": start[0]}, cases)


def _child(work: Path, who: str, seed: int, updates: int, trl: Path) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    if who == "theirs":
        environment["PYTHONPATH"] = os.pathsep.join([str(trl.resolve()), environment.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, "--work", str(work), "--updates", str(updates), "--child", who, str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _show(start: float, cases: list[dict[str, Any]], updates: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "",
        "seed",
        "reward",
        "kl, nats",
        "seconds",
        "memory, MB",
        "more, MB",
        title=f"{updates} updates of {ROWS} answers; reward before {start:.3f}",
    )
    medians = {}
    for who, name in (("ours", "codedev"), ("theirs", "TRL 1.12")):
        some = [case for case in cases if case["who"] == who]
        for case in some:
            numbers = [f"{case[key]:.3f}" for key in ("reward", "kl")] + [
                f"{case['seconds']:.1f}",
                f"{case['peak_mb']:.0f}",
                f"{case['more_mb']:.0f}",
            ]
            table.add_row(name, str(case["seed"]), *numbers)
        medians[who] = {key: statistics.median(case[key] for case in some) for key in ("reward", "kl", "seconds", "peak_mb", "more_mb")}
        numbers = [f"{medians[who][key]:.3f}" for key in ("reward", "kl")] + [
            f"{medians[who][key]:.1f}" for key in ("seconds", "peak_mb", "more_mb")
        ]
        table.add_row(name, "median", *numbers, style="bold", end_section=True)
    Console().print(table)
    ratios = {key: medians["ours"][key] / medians["theirs"][key] for key in ("seconds", "peak_mb")}
    print(f"codedev takes {ratios['seconds']:.2f} of TRL's time and {ratios['peak_mb']:.2f} of its memory")


def _train(work: Path, recipe: dict[str, Any], on_step: Any = None) -> dict[str, Any]:
    from codedev import _recipe, train

    return train.run(_recipe.check(recipe, train.TrainRecipe, "bench"), work, on_step)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
