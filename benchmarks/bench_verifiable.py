"""A verifiable task learned on a CPU: a tiny model from random weights, SFT on a format, then reinforcement by a grader alone.

    python benchmarks/bench_verifiable.py [--work DIR] [--seeds N] [--steps N] [--stages grpo,rloo,ppo] [--json FILE]

The task is the sum of two numbers from 0 to 9, answered as `answer: N`. SFT shows every other problem right and the rest with a
random number, so that the model learns the form of an answer and no more than a hint of the sums; one problem in five it never sees, nor do
the stages after it. These sample answers to the rest and are told by the grader `answer` whether a number is right, and nothing else.
Success is the share of right answers, four drawn to each problem at temperature 1, of the problems trained on and of those that were not.

Seconds are of the whole process on the wall, everything in one thread. Stages that this version does not have are left out, by name.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from _bench import machine, write_json
from rich.console import Console
from rich.table import Table

HIGHEST, RIGHT, UNSEEN = 9, 1 / 2, 5
MODEL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
}
ROWS, ANSWERS = 128, 8
STAGES: dict[str, dict[str, Any]] = {
    "grpo": {"grpo": {"answers": ANSWERS, "max_tokens": 12, "beta": 0.0}},
    "rloo": {"rloo": {"answers": ANSWERS, "max_tokens": 12, "beta": 0.0}},
    "ppo": {"ppo": {"answers": ANSWERS, "max_tokens": 12, "epochs": 1, "minibatches": 1, "kl": {"coef": 0.0}}},
}


def problems(seen: bool) -> list[tuple[str, str]]:
    """(question, sum) of those that are trained on, or of the others."""
    every = [(a, b) for a in range(HIGHEST + 1) for b in range(HIGHEST + 1)]
    random.Random(7).shuffle(every)
    return [(f"{a} + {b} =", str(a + b)) for i, (a, b) in enumerate(every) if (i % UNSEEN > 0) == seen]


def prepare(work: Path) -> None:
    """Tokenizer and tables below `work`."""
    from codedev.corpus import recipe as recipes
    from codedev.corpus.build import build
    from codedev.tokenize.train import train_tokenizer

    draw = random.Random(0)
    shown = []
    for _ in range(20):
        for question, right in problems(True):
            said = right if draw.random() < RIGHT else str(draw.randrange(2 * HIGHEST + 1))
            shown.append({"instruction": question, "output": f"answer: {said}"})
    _write(work / "shown.jsonl", shown)
    _write(work / "asked.jsonl", [{"prompt": question, "right": right} for question, right in problems(True)])
    _write(work / "words.jsonl", [{"text": f"{row['instruction']} {row['output']}"} for row in shown])
    source = {"name": "words", "sources": [{"name": "words", "type": "tables", "paths": ["words.jsonl"]}]}
    build(recipes.check(source, "bench"), work, work / "words")
    train_tokenizer(work / "words", work / "tokenizer", vocab_size=400, special_slots=64)


def trained(work: Path, name: str, seed: int, recipe: dict[str, Any]) -> tuple[Path, float]:
    """(the model of a run, its seconds)."""
    from codedev import _recipe, train

    began = time.perf_counter()
    recipe["run"] |= {"dir": str(work / f"{name}-{seed}"), "seed": seed}
    result = train.run(_recipe.check(recipe, train.TrainRecipe, "bench"), work)
    return Path(result["model_dir"]), time.perf_counter() - began


def sft(steps: int) -> dict[str, Any]:
    return {
        "stage": "sft",
        "model": {"config": MODEL},
        "data": {"tables": ["shown.jsonl"], "tokenizer": "tokenizer", "template": "chatml", "seq_len": 64},
        "batch": {"rows": 16, "micro_rows": 16},
        "optim": {"lr": 3e-3},
        "run": {"steps": steps},
    }


def reinforced(stage: str, start: Path, steps: int) -> dict[str, Any]:
    return {
        "stage": stage,
        "model": {"path": str(start)},
        "data": {"tables": ["asked.jsonl"], "template": "tokenizer"},
        "rewards": [{"grader": "answer", "column": "right"}],
        "batch": {"rows": ROWS, "micro_rows": ROWS},
        "optim": {"lr": 1e-3, "warmup": 0, "weight_decay": 0.0},
        "run": {"steps": steps},
        **STAGES[stage],
    }


def success(model: Path, seen: bool) -> float:
    from codedev.eval.graders import answer
    from codedev.train.use.answers import answer_all
    from codedev.train.use.generate import Sampling

    asked = problems(seen)
    lines = [json.dumps({"prompt": question}) for question, _ in asked]
    found = answer_all(model, lines, "problems", Sampling(max_new_tokens=12, temperature=1.0, top_p=1.0), n=4)
    scores = [answer([one["text"] for one in row["answers"]], [right] * 4) for row, (_, right) in zip(found, asked, strict=True)]
    return statistics.mean(number for some in scores for number in some)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sft-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import torch

    from codedev.train.recipe import STAGES as KNOWN

    torch.set_num_threads(1)
    missing = {stage for stage in options.stages.split(",") if importlib.util.find_spec(KNOWN[stage]) is None}
    stages = [stage for stage in options.stages.split(",") if stage not in missing]
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        prepare(work)
        for seed in range(options.seeds):
            start, seconds = trained(work, "sft", seed, sft(options.sft_steps))
            cases.append({"stage": "sft", "seed": seed, "seconds": seconds, "seen": success(start, True), "unseen": success(start, False)})
            for stage in stages:
                model, seconds = trained(work, stage, seed, reinforced(stage, start, options.steps))
                found = {"seconds": seconds, "seen": success(model, True), "unseen": success(model, False)}
                cases.append({"stage": stage, "seed": seed, **found})
    table = Table("stage", "seed", "right of trained on", "right of unseen", "seconds", title=f"{options.steps} steps of {ROWS} answers")
    for stage in ("sft", *stages):
        some = [case for case in cases if case["stage"] == stage]
        for case in some:
            table.add_row(stage, str(case["seed"]), f"{case['seen']:.1%}", f"{case['unseen']:.1%}", f"{case['seconds']:.1f}")
        means = [statistics.mean(case[name] for case in some) for name in ("seen", "unseen", "seconds")]
        table.add_row(stage, "mean", f"{means[0]:.1%}", f"{means[1]:.1%}", f"{means[2]:.1f}", style="bold", end_section=True)
    Console().print(table)
    for stage in sorted(missing):
        print(f"{stage}: this version has no such stage")
    if options.json:
        arguments = {"seeds": options.seeds, "sft_steps": options.sft_steps, "steps": options.steps, "stages": stages}
        write_json(options.json, "verifiable", machine(), arguments, cases)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
