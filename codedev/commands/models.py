"""Train models and generate with them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from codedev.commands.options import JSON, OVERRIDES, PATH, QUIET, print_json


@click.command("train")
@click.argument("recipe", type=PATH)
@OVERRIDES
@JSON
@QUIET
def train_command(recipe: Path, overrides: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Train the model that RECIPE describes; an interrupted run is resumed exactly.

    \b
    Example: codedev train train.yaml --set run.steps=2000
             torchrun --nproc-per-node 8 -m codedev train train.yaml
    """
    from codedev._recipe import load
    from codedev._terminal import watch
    from codedev.train import TrainRecipe, run

    loaded = load(recipe, TrainRecipe, overrides)
    with watch(quiet=quiet or as_json or int(os.environ.get("RANK", "0")) > 0) as progress:
        result = run(loaded, recipe.resolve().parent, progress=progress)
    if int(os.environ.get("RANK", "0")) > 0:
        return
    if as_json:
        print_json(result)
    else:
        for name, value in result.items():
            print(f"{name:<28} {value}")


@click.command()
@click.argument("model", type=PATH)
@click.option("--prompt", default="", help="The text to go on from; '-' reads it from stdin.")
@click.option("--max-tokens", type=click.IntRange(1), default=128, show_default=True, help="At most so many tokens are made.")
@click.option("--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0 = always the most probable token.")
@click.option("--top-p", type=click.FloatRange(0, 1), default=0.95, show_default=True, help="Choose among tokens of this much probability.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice.")
def generate(model: Path, prompt: str, max_tokens: int, temperature: float, top_p: float, seed: int) -> None:
    """Go on from a prompt with a trained MODEL.

    \b
    Example: codedev generate runs/first/model --prompt 'def main('
    """
    from codedev.train.generate import generate as continue_text

    text = sys.stdin.read() if prompt == "-" else prompt
    print(text + continue_text(model, text, max_new_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed))
