"""Train models and look into runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from codedev.commands.options import JSON, OVERRIDES, PATH, QUIET, OfRecipe, print_json


@click.group("train", cls=OfRecipe)
def train_command() -> None:
    """Train the model that RECIPE describes, or look into a run."""


@click.command("train")
@click.argument("recipe", type=PATH)
@OVERRIDES
@click.option("--dry-run", is_flag=True, help="Train nothing: say what the run would take, read and learn, and check that it can.")
@JSON
@QUIET
def _train_recipe(recipe: Path, overrides: tuple[str, ...], dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Train the model that RECIPE describes; an interrupted run is resumed exactly.

    Of a run there is more to see: `codedev train status RUN` and `codedev train explain RUN --step N`. RUN/index.html shows its curves.
    SIGTERM (exit code 143) and Ctrl-C (130) finish the step and save a checkpoint, from which the same command goes on.

    \b
    Example: codedev train train.yaml --dry-run
             codedev train train.yaml --set run.steps=2000
             torchrun --nproc-per-node 8 -m codedev train train.yaml
    """
    from codedev._recipe import load
    from codedev._terminal import note, watch
    from codedev.train import TrainRecipe, run

    loaded, base = load(recipe, TrainRecipe, overrides), recipe.resolve().parent
    first = int(os.environ.get("RANK", "0")) == 0
    if dry_run:
        if not first:
            return
        from codedev.train.watch.dryrun import examine
        from codedev.train.watch.showdry import show

        with watch(quiet=True) as progress:
            told = examine(loaded, base, progress)
        if as_json:
            print_json(told)
        else:
            show(told)
        if told["faults"]:
            click.get_current_context().exit(1)
        return
    try:
        with watch(quiet=quiet or as_json or not first) as progress:
            result = run(loaded, base, progress=progress)
    except KeyboardInterrupt as stopped:
        code = getattr(stopped, "exit_code", None)  # of codedev.train.watch.signals.StoppedError: everything is saved
        if code is None:
            raise
        if first:
            note(f"{stopped}: codedev train {recipe}{''.join(f' --set {one}' for one in overrides)}")
        click.get_current_context().exit(code)
    if not first:
        return
    if as_json:
        print_json(result)
    else:
        for name, value in result.items():
            print(f"{name:<28} {_told(name, value)}")


def _told(name: str, value: Any) -> str:
    """A value of a run's result, for a person."""
    if name == "data":
        if "examples" in value:
            from codedev.train.align.examples import summary as of_examples

            return of_examples(value)
        from codedev.train.instructions.tables import summary  # not for stage pt: half a second

        return summary(value)
    if isinstance(value, dict) and set(value) == {"before", "after"}:
        before, after = value["before"], value["after"]
        if not isinstance(after, dict):
            return f"{_told(name, before)} before, {_told(name, after)} after"
        both = [one for one in after if isinstance(after[one], float)]  # counts are what they were
        return ", ".join(f"{one.removeprefix('heldout_')} {_told(one, before.get(one))} -> {_told(one, after[one])}" for one in both) or "-"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


train_command.recipe = _train_recipe


@train_command.command("status")
@click.argument("run", type=PATH)
@JSON
def train_status(run: Path, as_json: bool) -> None:
    """Where the run in the directory RUN stands.

    \b
    Example: codedev train status runs/first
    """
    from codedev.train.watch.show import show_status
    from codedev.train.watch.status import status

    told = status(run)
    if as_json:
        print_json(told)
    else:
        show_status(told)


@train_command.command("explain")
@click.argument("run", type=PATH)
@click.option("--step", type=click.IntRange(1), required=True, help="The step, counted from 1 as in metrics.jsonl.")
@click.option("--limit", type=click.IntRange(1), default=30, show_default=True, help="Documents that are shown; --json gives all.")
@JSON
def train_explain(run: Path, step: int, limit: int, as_json: bool) -> None:
    """Which documents a step of RUN trained on, with their losses, the highest first.

    The losses are computed with the nearest checkpoint before the step; without one the documents are listed alone.

    \b
    Example: codedev train explain runs/first --step 1200
    """
    from codedev.train.watch.explain import explain
    from codedev.train.watch.show import show_step

    told = explain(run, step)
    if as_json:
        print_json(told)
    else:
        show_step(told, limit)
