"""The demo's last steps: pairs to learn a reward from, and how answers changed."""

from __future__ import annotations

import json
from pathlib import Path

from codedev._run import write_text
from codedev._terminal import print_table
from codedev.demo.instructions import in_form
from codedev.train.use.answers import answer_all
from codedev.train.use.generate import Sampling

PAIRS = 600
QUESTIONS = [
    f"What is {module}.{name} for?"
    for module in ("parsing.text", "files", "network.client", "times", "storage")
    for name in ("read_lines", "Reader", "open_all", "is_valid", "split", "copy_to", "Server", "parse_date")
]


def write_pairs(out: Path) -> int:
    """Write OUT/pairs.jsonl: to every so manieth instruction what its docstring says, and what the tuned model says. Returns how many."""
    lines = (out / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:: max(1, len(lines) // PAIRS)]]
    asked = [json.dumps({"prompt": row["instruction"]}) for row in rows]
    pairs = [
        {"prompt": row["instruction"], "chosen": row["output"], "rejected": made["answers"][0]["text"]}
        for row, made in zip(rows, answer_all(out / "tuned", asked, "instructions", Sampling(64, 1.0, 1.0, 0)), strict=True)
    ]
    pairs = [pair for pair in pairs if pair["rejected"] and pair["rejected"] != pair["chosen"]]
    write_text(out / "pairs.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs))
    return len(pairs)


def ask(models: dict[str, Path]) -> None:
    """Ask each model what it was not taught, drawing answers as PPO did, and show how many have the form of those it was taught."""
    rows, shown = [], {}
    for name, model in models.items():
        made = list(answer_all(model, map(json.dumps, QUESTIONS), "questions", Sampling(64, 1.0, 1.0, 1)))
        answers = [row["answers"][0] for row in made]
        right = sum(answer["ended"] == "end" and in_form(answer["text"]) for answer in answers)
        rows.append([name, f"{right} of {len(answers)}"])
        shown[name] = answers[0]["text"]
    print(QUESTIONS[0])
    for name, text in shown.items():
        print(f"  {name}: {text}")
    print_table("Answers drawn at temperature 1", ["model", "in the form `name(…)`: what it is for, ended by itself"], rows)
