"""A verifiable task learned on a CPU: a tiny model from random weights, SFT on a format, then reinforcement by a grader alone.

    python benchmarks/bench_verifiable.py [--work DIR] [--seeds N] [--steps N] [--stages grpo,rloo,ppo] [--json FILE] [--page FILE]

The task is the sum of two numbers from 0 to 9, answered as `answer: N`. SFT shows every other problem right and the rest with a
random number, so that the model learns the form of an answer and no more than a hint of the sums; one problem in five it never sees, nor do
the stages after it. These sample answers to the rest and are told by the grader `answer` whether a number is right, and nothing else.
Success is the share of right answers, four drawn to each problem at temperature 1, of the problems trained on and of those that were not.

The page draws the share of right answers among those that each step samples, all seeds, and has the table below.
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


def trained(work: Path, name: str, seed: int, recipe: dict[str, Any]) -> tuple[Path, float, list[float]]:
    """(the model of a run, its seconds, its reward by step where it has one)."""
    from codedev import _recipe, train

    began = time.perf_counter()
    recipe["run"] |= {"dir": str(work / f"{name}-{seed}"), "seed": seed}
    result = train.run(_recipe.check(recipe, train.TrainRecipe, "bench"), work)
    seconds = time.perf_counter() - began
    rows = map(json.loads, (Path(result["run_dir"]) / "metrics.jsonl").read_text().splitlines())
    return Path(result["model_dir"]), seconds, [row["reward"] for row in rows if "reward" in row]


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
    parser.add_argument("--page", type=Path)
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
            start, seconds, _ = trained(work, "sft", seed, sft(options.sft_steps))
            cases.append({"stage": "sft", "seed": seed, "seconds": seconds, "seen": success(start, True), "unseen": success(start, False)})
            for stage in stages:
                model, seconds, curve = trained(work, stage, seed, reinforced(stage, start, options.steps))
                found = {"seconds": seconds, "seen": success(model, True), "unseen": success(model, False), "curve": curve}
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
    if options.page:
        options.page.write_text(page(cases, ["sft", *stages]), encoding="utf-8")


WIDE, HIGH, LEFT, FOOT = 720, 320, 48, 40
COLOURS = {"grpo": "#0b5cad", "rloo": "#8a4b00", "ppo": "#1a7340"}
STYLE = """
:root { color-scheme: light dark; --ink: #16191d; --page: #fff; --line: #cfd5dd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --page: #14171a; --line: #3a4149; }
  svg path, svg rect { filter: brightness(1.7); }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 13px; } svg line { stroke: var(--line); }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
td:first-child, th:first-child { text-align: left; }
"""


def page(cases: list[dict[str, Any]], stages: list[str]) -> str:
    """The figure: success by step, a thin line a seed and a thick one their mean; the level of SFT; and the means as a table."""
    steps = max((len(case["curve"]) for case in cases if "curve" in case), default=1)

    def at(step: float, share: float) -> tuple[float, float]:
        return LEFT + step / max(steps - 1, 1) * (WIDE - LEFT - 8), 8 + (1 - share) * HIGH

    def path(values: list[float], colour: str, width: float, opacity: float) -> str:
        points = " ".join(
            f"{'M' if not step else 'L'}{x:.1f} {y:.1f}" for step, (x, y) in enumerate(at(i, v) for i, v in enumerate(values))
        )
        return f'<path d="{points}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}"/>'

    drawn = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        (x, y), (end, _) = at(0, share), at(max(steps - 1, 1), share)
        drawn.append(f'<line x1="{x}" y1="{y}" x2="{end}" y2="{y}"/><text x="{x - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
    for place, stage in enumerate(stages[1:]):
        curves = [_smooth(case["curve"]) for case in cases if case["stage"] == stage]
        colour = COLOURS[stage]
        drawn += [path(curve, colour, 1, 0.4) for curve in curves]
        drawn.append(path([statistics.mean(values) for values in zip(*curves, strict=True)], colour, 3, 1))
        x = LEFT + 90 * place
        drawn.append(
            f'<rect x="{x}" y="{HIGH + 36}" width="22" height="4" fill="{colour}"/><text x="{x + 28}" y="{HIGH + 42}">{stage}</text>'
        )
    drawn.append(
        f'<text x="{LEFT}" y="{HIGH + 24}">step 1</text><text x="{WIDE - 8}" y="{HIGH + 24}" text-anchor="end">step {steps}</text>'
    )
    rows = []
    for stage in stages:
        some = [case for case in cases if case["stage"] == stage]
        cells = []
        for name in ("seen", "unseen"):
            values = [case[name] for case in some]
            cells.append(f"<td>{statistics.mean(values):.0%} ({min(values):.0%} to {max(values):.0%})</td>")
        seconds = statistics.mean(case["seconds"] for case in some)
        rows.append(f"<tr><td>{stage}</td>{''.join(cells)}<td>{seconds:.0f}</td></tr>")
    seeds = len({case["seed"] for case in cases})
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Sums learned from a grader alone</title><style>{STYLE}</style>
<h1>Sums learned from a grader alone</h1>
<p>Share of right answers among the {ROWS} that a step samples, averaged over ten steps; thin: each of {seeds} seeds, thick: their mean.</p>
<svg viewBox="0 0 {WIDE} {HIGH + FOOT + 10}" role="img" aria-label="Share of right answers by step">{"".join(drawn)}</svg>
<p>Of four answers to each problem, after training; in brackets the lowest and the highest seed:</p>
<table><tr><th>stage</th><th>trained on</th><th>never seen</th><th>seconds</th></tr>{"".join(rows)}</table>
</html>
"""


def _smooth(values: list[float]) -> list[float]:
    return [statistics.mean(values[max(0, step - 9) : step + 1]) for step in range(len(values))]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
