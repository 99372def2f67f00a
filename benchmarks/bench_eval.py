"""Multiple choice by codedev and by lm-eval: the same model, questions and prompts, CPU time of one core, decisions compared.

    python benchmarks/bench_eval.py [--questions N] [--json FILE]

The model is a Llama of 12 million weights at random, which answers as fast as a trained one; the questions are MMLU's of .data/. lm-eval
computes 8 sequences at a time, codedev as many as make 2,048 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from _bench import machine, write_json
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
MMLU = ROOT / ".data/eval/deepseek-ai__DeepSeek-Math/evaluation/datasets/mmlu_stem/test.jsonl"
SIZE = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6}
CASES = {
    "letters, 5 shots": {"style": "letters", "shots": 5},
    "letters": {"style": "letters", "shots": 0},
    "texts": {"style": "texts", "shots": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    told = machine()
    import eval_support

    with tempfile.TemporaryDirectory() as folder:
        model = eval_support.tiny(Path(folder) / "model", positions=2048, **SIZE)
        questions = _questions(Path(folder), asked.questions)
        lm = eval_support.lm_eval_model(model)
        rows = [_case(name, Path(folder), model, lm, questions, **how) for name, how in CASES.items()]
    table = Table("multiple choice", "questions", "codedev s", "lm-eval s", "times", "same decisions")
    for row in rows:
        times = f"{row['peer_s'] / row['own_s']:.1f}"
        table.add_row(
            row["name"], str(row["questions"]), f"{row['own_s']:.1f}", f"{row['peer_s']:.1f}", times, f"{row['same']} of {row['questions']}"
        )
    Console().print(table)
    if asked.json:
        write_json(asked.json, "eval", told, {"questions": asked.questions}, rows)


def _questions(folder: Path, count: int) -> Path:
    """Four choices each, of one subject, since lm-eval's shots are the first of the whole file."""
    rows = [json.loads(line) for line in MMLU.read_text().splitlines()]
    rows = [row for row in rows if row["topic"] == "high_school_biology" and len(row["options"]) == 4]
    for name, some in (("dev", rows[:5]), ("test", rows[5 : 5 + count])):
        told = [
            {
                "id": f"{name}{i}",
                "question": row["question"],
                "choices": [str(one) for one in row["options"]],
                "answer": "ABCD".index(row["answer"]),
            }
            for i, row in enumerate(some)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    return folder / "test.jsonl"


def _case(name: str, folder: Path, model: Path, lm: Any, questions: Path, *, style: str, shots: int) -> dict[str, Any]:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    from codedev import _recipe
    from codedev.eval.recipe import EvalRecipe
    from codedev.eval.run import evaluate, records_of
    from codedev.train.use.lm import open_lm

    task = {
        "name": "t",
        "kind": "choice",
        "paths": [str(questions)],
        "examples": [str(folder / "dev.jsonl")],
        "shots": shots,
        "style": style,
    }
    out = folder / name.replace(", ", "-")
    recipe = _recipe.check({"model": str(model), "out": str(out), "tasks": [task | {"language": "en"}]}, EvalRecipe, "bench")
    began = time.process_time()
    evaluate(recipe, folder, lambda path, template: open_lm(str(path), template))
    own = time.process_time() - began
    listed = "{{question.strip()}}\n{% for c in choices %}{{'ABCD'[loop.index0]}}. {{c.strip()}}\n{% endfor %}Answer:"
    config = {
        "task": "local",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(questions), "dev": str(folder / "dev.jsonl")}},
        "test_split": "test",
        "fewshot_split": "dev",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": shots,
        "output_type": "multiple_choice",
        "doc_to_text": listed if style == "letters" else "Question: {{question.strip()}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C", "D"] if style == "letters" else "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    began = time.process_time()
    found = simple_evaluate(lm, tasks=[config], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0, log_samples=True)
    peer = time.process_time() - began
    records = records_of(out, "t").to_pylist()
    samples = sorted(found["samples"]["local"], key=lambda one: one["doc_id"])
    same = sum(
        (row["score"], row["score_norm"]) == (one["acc"], one["acc_norm"]) and row["asked"] == one["arguments"][0][0]
        for row, one in zip(records, samples, strict=True)
    )
    return {"name": name, "questions": len(records), "own_s": own, "peer_s": peer, "same": same}


if __name__ == "__main__":
    main()
