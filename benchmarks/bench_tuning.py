"""Continued pre-training on real source trees of a model that knows English books: what every tuning makes of it.

    python benchmarks/bench_tuning.py [--data .data] [--work DIR] [--first-steps N] [--steps N] [--only WORD] [--json FILE]

A small Llama learns English from novels, with a tokenizer of novels. Every tuning then goes on from that model for the same number of steps
on the same rows of Python source trees. Bits per byte are those of a project none of them has seen, before and after; bytes do not depend
on the tokenizer, so the last rows, whose vocabulary was extended with tokens of code, can be compared. Seconds of CPU and the peak of
memory are those of a process of its own (beside what it takes to import the libraries); the size is that of the weights the run leaves.

The second table: nats a token of the held-out project before the first step of an extended vocabulary, new rows as the mean of their old
pieces and as transformers makes them at random.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _bench import machine, write_json
from rich.console import Console
from rich.table import Table

NOVELS = ("GITenberg__Moby-Dick--Or-The-Whale_2701/2701-0.txt", "GITenberg__Pride-and-Prejudice_1342/1342-0.txt")
TREES = ("click", "networkx", "flask", "sqlalchemy")
HELD_OUT = ("requests",)
SEQ_LEN, ROWS = 256, 8
MODEL = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
BASE = {"tune": "full", "lr": 1.5e-3, "shards": "code"}
TUNINGS: dict[str, dict[str, Any]] = {
    "full": BASE,
    "lora": {**BASE, "tune": "lora", "lora": {"r": 16}, "lr": 5e-3},
    "qlora": {**BASE, "tune": "qlora", "lora": {"r": 16}, "lr": 5e-3},
    "prompt": {**BASE, "tune": "prompt", "prompt": {"tokens": 16}, "lr": 3e-2},
    "prefix": {**BASE, "tune": "prefix", "prefix": {"tokens": 16}, "lr": 3e-2},
    "full, +500 tokens": {**BASE, "shards": "extended-code"},
    "lora, +500 tokens": {**BASE, "tune": "lora", "lora": {"r": 16}, "lr": 5e-3, "shards": "extended-code"},
}


def prepare(data: Path, work: Path) -> None:
    """Corpora, tokenizers and shards below `work`."""
    from codedev import _recipe
    from codedev.corpus import recipe as recipes
    from codedev.corpus.build import build
    from codedev.tokenize.build import tokenize_corpus
    from codedev.tokenize.extend import extend_tokenizer
    from codedev.tokenize.recipe import TokenizeRecipe
    from codedev.tokenize.train import train_tokenizer

    code = {"name": "code", "type": "code", "languages": ["Python"]}
    sources = {
        "novels": {"name": "novels", "type": "books", "paths": [str(data / "books" / name) for name in NOVELS], "split": "chapter"},
        "code": {**code, "paths": [str(data / "code" / name) for name in TREES]},
        "held-out": {**code, "paths": [str(data / "code" / name) for name in HELD_OUT]},
    }
    for name, source in sources.items():
        build(recipes.check({"name": name, "sources": [source]}, "recipe"), work, work / "corpora" / name)
    train_tokenizer(work / "corpora/novels", work / "tokenizer", vocab_size=2048, special_slots=32)
    extend_tokenizer(work / "tokenizer", work / "extended", corpus=work / "corpora/code", add=500)
    keys = _recipe.check({"mode": "pt", "seq_len": SEQ_LEN, "fim": {"rate": 0.0}}, TokenizeRecipe, "recipe")
    for tokenizer, corpus, out in (
        ("tokenizer", "novels", "shards/novels"),
        ("tokenizer", "code", "shards/code"),
        ("tokenizer", "held-out", "shards/code-held-out"),
        ("extended", "code", "shards/extended-code"),
        ("extended", "held-out", "shards/extended-code-held-out"),
    ):
        tokenize_corpus(work / "corpora" / corpus, work / tokenizer, work / out, keys)


def trained(work: Path, name: str, steps: int) -> dict[str, Any]:
    """One run, in this process."""
    from codedev import _recipe
    from codedev.train import TrainRecipe, run
    from codedev.train.tune import load_peft

    if name == "base":
        keys: dict[str, Any] = {"tune": "full", "lr": 3e-3, "model": {"config": MODEL | {"tie_word_embeddings": True}}, "shards": "novels"}
        held = "shards/code-held-out"
    else:
        keys = {**TUNINGS[name], "model": {"path": "runs/base/model"}}
        held = f"shards/{keys['shards']}-held-out"
    recipe = {
        "stage": "pt",
        "tune": keys["tune"],
        **{section: keys[section] for section in ("lora", "prompt", "prefix") if section in keys},
        "model": keys["model"],
        "data": {"shards": f"shards/{keys['shards']}", "eval": held},
        "batch": {"rows": ROWS, "micro_rows": ROWS},
        "optim": {"lr": keys["lr"], "warmup": 0.05, "cooldown": 0.3},
        "run": {"dir": f"runs/{name.replace(', +', '-').replace(' ', '-')}", "steps": steps, "log_every": 10},
    }
    if name != "base":
        load_peft()  # as much a part of the libraries as torch
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    result = run(_recipe.check(recipe, TrainRecipe, "recipe"), work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = sum(file.stat().st_size for file in Path(result["model_dir"]).glob("*.safetensors"))
    return {**result, "cpu_seconds": time.process_time() - began, "peak_mb": (peak - before) / 1024, "weights_mb": size / 1e6}


def first_losses(work: Path) -> list[dict[str, Any]]:
    import numpy as np
    import torch

    from codedev.train import model as models
    from codedev.train.data import open_shards
    from codedev.train.recipe import ModelRecipe
    from codedev.train.use.merge import loss_of

    shards = open_shards((work / "shards/extended-code-held-out",))
    rows, device = np.arange(min(shards.rows, 100)), torch.device("cpu")
    mean = models.build(ModelRecipe(path=str(work / "runs/base/model")), shards, "sdpa", 0)
    random = models.load(work / "runs/base/model", "sdpa")
    torch.manual_seed(0)
    with models.quiet():
        random.resize_token_embeddings(mean.config.vocab_size, mean_resizing=False)
    return [{"rows": name, "loss": loss_of(model, shards, rows, device)} for name, model in (("mean of pieces", mean), ("random", random))]


def apart(arguments: argparse.Namespace, work: Path, name: str) -> Any:
    """A run in a process of its own."""
    steps = arguments.first_steps if name == "base" else arguments.steps
    command = [sys.executable, __file__, "--work", str(work), "--steps", str(steps), "--one", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--work", type=Path)
    parser.add_argument("--first-steps", type=int, default=300, help="of the model of novels")
    parser.add_argument("--steps", type=int, default=100, help="of every tuning")
    parser.add_argument("--only", help="tunings whose name holds this word")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    if arguments.one:
        print(
            json.dumps(
                first_losses(arguments.work) if arguments.one == "first" else trained(arguments.work, arguments.one, arguments.steps)
            )
        )
        return
    where = machine()
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).resolve()
        if not (work / "shards/extended-code-held-out").is_dir():
            prepare(arguments.data.resolve(), work)
        base = apart(arguments, work, "base")
        names = [name for name in TUNINGS if not arguments.only or arguments.only in name]
        rows = [{"tuning": name, **apart(arguments, work, name)} for name in names]
        first = apart(arguments, work, "first")
    console = Console(width=140)
    first_part = (
        f"{base['parameters'] / 1e6:.2f} M parameters, {arguments.first_steps} steps on novels ({base['cpu_seconds']:.0f} s of CPU)"
    )
    about = f"{first_part}, then {arguments.steps} steps of {ROWS} x {SEQ_LEN} tokens"
    table = Table(title=f"bits per byte of unseen Python ({', '.join(HELD_OUT)}): {about}")
    for title in ("tuning", "before", "after", "trained", "CPU seconds", "peak MB", "weights MB"):
        table.add_column(title, justify="left" if title == "tuning" else "right")
    for row in rows:
        bits = row["bits_per_byte"]
        numbers = (f"{bits['before']:.3f}", f"{bits['after']:.3f}", f"{row['trained_parameters']:,}")
        table.add_row(row["tuning"], *numbers, f"{row['cpu_seconds']:.0f}", f"{row['peak_mb']:.0f}", f"{row['weights_mb']:.2f}")
    console.print(table)
    table = Table("new rows", "nats a token before the first step", title="the same project, vocabulary extended with 500 tokens of code")
    for row in first:
        table.add_row(row["rows"], f"{row['loss']:.3f}")
    console.print(table)
    if arguments.json:
        told = {"first_steps": arguments.first_steps, "steps": arguments.steps}
        write_json(arguments.json, "tuning", where, told, [{"tuning": "base", **base}, *rows, *first])


if __name__ == "__main__":
    main()
