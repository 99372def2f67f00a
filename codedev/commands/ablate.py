"""Which changes of a corpus make a better model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from codedev.commands.options import JSON, PATH, QUIET, WORKERS, default_workers, print_json

_KEYS = ("model", "batch", "optim")  # of a train recipe


@click.command("ablate")
@click.argument("recipe", type=PATH)
@click.option("--variants", "changes", type=PATH, required=True, help="YAML: names, and what of the recipe each changes.")
@click.option("--out", type=PATH, required=True, help="Where all of it goes; an interrupted ablation is resumed.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs of each variant.")
@click.option("--tokens", type=click.IntRange(1), default=None, help="Trained on in each run; default: what the smallest variant has.")
@click.option(
    "--train", "train_recipe", type=PATH, default=None, help="A train recipe of stage pt: its model, batch, optim; default: a small one."
)
@click.option("--tokenizer", type=PATH, default=None, help="One for all; default: learned from the recipe's own corpus.")
@click.option("--vocab-size", type=click.IntRange(400, 1 << 20), default=8192, show_default=True, help="Of the learned one.")
@click.option("--seq-len", type=click.IntRange(16, 1 << 20), default=256, show_default=True, help="Tokens of a row.")
@click.option(
    "--holdout", type=click.FloatRange(0, 0.5, min_open=True), default=0.05, show_default=True, help="Share of documents held out."
)
@click.option("--documents", type=click.IntRange(1), default=400, show_default=True, help="Held-out documents that are measured.")
@WORKERS
@click.option("--dry-run", is_flag=True, help="Say what would be done; build and train nothing.")
@JSON
@QUIET
def corpus_ablate(
    recipe: Path,
    changes: Path,
    out: Path,
    seeds: int,
    tokens: int | None,
    train_recipe: Path | None,
    tokenizer: Path | None,
    vocab_size: int,
    seq_len: int,
    holdout: float,
    documents: int,
    workers: int | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Does a filter help? Train the same small model on variants of a corpus, and see what it learned.

    RECIPE is the base. Each variant of the YAML changes keys of it: `no-quality: {quality: null}`. All are trained on as many tokens, in
    each seed from the same weights, and measured by bits per byte of the same held-out documents.

    \b
    Example: codedev corpus ablate recipe.yaml --variants variants.yaml --out ablation
             codedev corpus ablate recipe.yaml --variants variants.yaml --out ablation --seeds 5 --tokens 2000000
    """
    from codedev._terminal import note, watch
    from codedev.ablate.variants import variants

    found = variants(recipe, changes)
    settings = _settings(train_recipe)
    if dry_run:
        told = {"variants": list(found), "corpora": len(found), "runs": len(found) * seeds, "tokens": tokens, "train": settings}
        if as_json:
            print_json(told)
        else:
            budget = f"{tokens:,} tokens each" if tokens else "as many tokens each as the smallest variant has, 4,000,000 at most"
            print(f"{len(found)} corpora: {', '.join(found)}\n{len(found) * seeds} runs, {seeds} of each variant: {budget}")
        return
    from codedev.ablate.run import Asked, ablate
    from codedev.train.use.lm import open_lm

    given: dict[str, Any] = {"tokens": tokens, "tokenizer": tokenizer and tokenizer.resolve(), "vocab_size": vocab_size, "seq_len": seq_len}
    given |= {"holdout": holdout, "documents": documents, "workers": workers or default_workers()}
    asked = Asked(found, recipe.resolve().parent, out.resolve(), settings, seeds, **given)
    with watch(quiet=quiet or as_json) as progress:
        results = ablate(asked, lambda run: open_lm(str(run)), lambda step: None if quiet or as_json else note(step), progress)
    if as_json:
        print_json(results)
    else:
        show(results)


def _settings(train_recipe: Path | None) -> dict[str, Any]:
    if train_recipe is None:
        from codedev.demo.recipes import train  # measured: what learns most in minutes of a CPU

        return {name: value for name, value in train().items() if name in _KEYS}
    from codedev._recipe import check, read
    from codedev.train import TrainRecipe

    data = read(train_recipe)
    whole = check({"stage": "pt", "data": {"shards": "shards"}, "run": {"dir": "run", "steps": 1}, **data}, TrainRecipe, str(train_recipe))
    if whole.stage != "pt" or whole.batch.rows is None:
        raise click.UsageError("--train: give a recipe of stage pt with batch.rows")
    keys = {name: data[name] for name in _KEYS if name in data}
    run = {name: value for name, value in (data.get("run") or {}).items() if name not in ("dir", "steps", "epochs", "seed")}
    return keys | ({"run": run} if run else {})


def show(results: dict[str, Any]) -> None:
    """Two tables: what was learned, what was held."""
    from codedev._terminal import note, print_table
    from codedev.ablate.page import difference_told
    from codedev.ablate.run import COMMON

    rows = []
    for name, one in results["variants"].items():
        bits = results["bits"][name][next(iter(results["domains"]))]
        difference = bits["difference"]
        told = "" if difference is None else difference_told(difference)
        rows.append([name, one["documents"], one["tokens"], round(one["epochs"], 2), round(bits["bits_per_byte"]["mean"], 4), told])
    columns = ["variant", "documents", "tokens", "epochs", "bits/byte", "from base, 95 %"]
    print_table(f"{results['seeds']} seeds, {results['tokens']:,} tokens each", columns, rows)
    of = "that every variant keeps" if COMMON in results["domains"] else "of all variants"
    note(f"bits per byte of the held-out documents {of}; by source, kind and language: {results['out']}/index.html")
