"""Evaluate models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codedev.commands.options import JSON, OVERRIDES, PATH, QUIET, OfRecipe, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codedev.eval.lm import LM
    from codedev.eval.recipe import Endpoint
    from codedev.eval.wins import Score


@click.group("eval", cls=OfRecipe)
def eval_command() -> None:
    """Ask a model the tasks of RECIPE, or look into evaluations."""


@click.command("eval")
@click.argument("recipe", type=PATH)
@click.option("--model", default=None, help="Evaluate this model in place of the recipe's.")
@click.option("--out", default=None, help="Where the records and results go; default: the recipe's `out`.")
@click.option("--limit", type=click.IntRange(1), default=None, help="Ask so many questions of each task.")
@OVERRIDES
@JSON
@QUIET
def _eval_recipe(
    recipe: Path, model: str | None, out: str | None, limit: int | None, overrides: tuple[str, ...], as_json: bool, quiet: bool
) -> None:
    """Ask a model the tasks that RECIPE names: bits per byte, multiple choice, exact answers, programs that pass tests.

    Every question, what the model said and its score lie in OUT/tasks/<name>/records.parquet, the scores with intervals of 95 % in
    OUT/results.json. A finished task is not asked again, an interrupted one goes on. `codedev eval compare A B` puts models side by side.

    \b
    Example: codedev eval eval.yaml
             codedev eval eval.yaml --model runs/tuned --out evals/tuned --limit 100
             codedev eval compare evals/first evals/tuned --out compared.html
    """
    from codedev._recipe import check, overridden, read
    from codedev._terminal import watch
    from codedev.eval.recipe import EvalRecipe
    from codedev.eval.run import evaluate

    data = overridden(read(recipe), overrides)
    # What the command line names is where the person stands, what the recipe names is beside it.
    given = {"model": None if model is None else _here(model), "out": None if out is None else str(Path(out).resolve())}
    data |= {name: value for name, value in given.items() if value is not None}
    if limit is not None:
        data["tasks"] = [task | {"limit": limit} if isinstance(task, dict) else task for task in data.get("tasks") or ()]
    loaded, base = check(data, EvalRecipe, str(recipe)), recipe.resolve().parent
    with watch(quiet=quiet or as_json) as progress:
        results = evaluate(loaded, base, lambda asked, template: _open(asked, template, base), progress=progress)
    if as_json:
        print_json(results)
    else:
        show(results)


eval_command.recipe = _eval_recipe


@eval_command.command("compare")
@click.argument("evaluations", metavar="EVALUATION...", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, metavar="FILE", default=None, help="Write all of it as a page to open in a browser.")
@click.option("--limit", type=click.IntRange(0), default=60, show_default=True, help="Questions of each task that the page shows.")
@JSON
def eval_compare(evaluations: tuple[Path, ...], out: Path | None, limit: int, as_json: bool) -> None:
    """Put two or more evaluations side by side: scores, whether they differ by more than chance, the questions on which models differ.

    \b
    Example: codedev eval compare evals/first evals/tuned --out compared.html
    """
    from codedev._errors import printable
    from codedev._run import write_text
    from codedev._terminal import note
    from codedev.eval.compare import compare
    from codedev.eval.compare.page import render

    if out is not None and out.is_dir():
        raise click.UsageError(f"--out {printable(str(out))}: is a folder; give the file to write")
    found = compare(evaluations, shown=limit)
    if out is not None:
        write_text(out, render(found))
    if as_json:
        print_json(found.figures)
        return
    show_comparison(found.figures)
    if out is not None:
        note(f"page: {printable(str(out))}")


def show_comparison(figures: dict[str, Any]) -> None:
    """Tables of scores and of differences."""
    from codedev._terminal import print_table
    from codedev.eval.compare import between, difference, figure

    labels = [run["label"] for run in figures["runs"]]
    rows = [
        [task["name"], metric, *(figure(metric, None if one is None else one["value"]) for one in found)]
        for task in figures["tasks"]
        for metric, found in task["scores"].items()
    ]
    print_table("Scores", ["task", "metric", *labels], rows)
    rows = []
    for task in figures["tasks"]:
        for label, one in zip(labels[1:], task["against_first"][1:], strict=True):
            if one is not None:
                told = [difference(task["metric"], one["value"]), between(task["metric"], one)]
                rows.append([task["name"], label, *told, one["better"], one["worse"], task["common"]])
    print_table(f"Less {labels[0]}, on the same questions", ["task", "", "difference", "95 %", "better", "worse", "n"], rows)


_GROUPS = 20  # groups of a task that a table shows, at most


def _here(model: str) -> str:
    return str(Path(model).resolve()) if Path(model).exists() else model


def _open(asked: str | Endpoint, template: str | None, base: Path) -> LM:
    if not isinstance(asked, str):
        from codedev.eval.endpoint import open_endpoint

        return open_endpoint(asked)
    from codedev.train.model_path import located
    from codedev.train.use.lm import open_lm

    local: LM = open_lm(located(asked, base), template)
    return local


def show(results: dict[str, Any]) -> None:
    """A table of the tasks' scores."""
    from codedev._terminal import note, print_table

    rows = []
    for name, told in results["tasks"].items():
        if len(told["scores"]) > _GROUPS:
            note(f"{name}: the scores of {len(told['scores']) - 1} groups are in {results['out']}/results.json")
        for group, measured in told["scores"].items():
            for metric, one in measured.items():
                if group and (metric != next(iter(measured)) or len(told["scores"]) > _GROUPS):
                    continue  # of groups the first metric alone
                rows.append(_row(f"  {group}" if group else name, metric, one))
        for part, measured in told.get("contamination", {}).get("scores", {}).items():
            if measured is not None and told["contamination"]["seen"]:
                metric = next(iter(measured))
                rows.append(_row(f"  {part} in training", metric, measured[metric]))
    name = results["model"]["name"]
    shown = min(name, os.path.relpath(name), key=len) if os.path.isabs(name) else name
    print_table(shown, ["task", "metric", "score", "95 %", "n"], rows)
    for name, told in results["tasks"].items():
        if (held := told.get("contamination")) is not None:
            asked = f"{held['seen']} of {told['questions']} questions are in the training corpora"
            note(f"{name}: {asked}" + (f" ({held['too_short']} are too short to be looked for)" if held["too_short"] else ""))
        if told["left_out"]:
            first = told["left_out"][0]
            note(f"{name}: left out {len(told['left_out'])} rows that are no questions: {first['file']} row {first['row']}: {first['why']}")
    note(f"{results['out']}/results.json; every question: {results['out']}/tasks/<task>/records.parquet")


def _row(label: str, metric: str, one: dict[str, Any]) -> list[Any]:
    return [label, metric, _figure(metric, one["value"]), _interval(metric, one), one["n"]]


def _figure(metric: str, value: float) -> str:
    from codedev.eval.intervals import is_share

    return f"{100 * value:.1f} %" if is_share(metric) else f"{value:.4f}"


def _interval(metric: str, one: dict[str, Any]) -> str:
    if one["low"] is None or one["low"] == one["high"]:
        return ""
    from codedev.eval.intervals import is_share

    if is_share(metric):
        return f"{100 * one['low']:.1f}–{100 * one['high']:.1f}"
    return f"{one['low']:.4f}–{one['high']:.4f}"


@eval_command.command("wins")
@click.argument("answers", nargs=-1, type=PATH)
@click.option("--judge", type=PATH, default=None, help="A reward model: a run of stage reward, or its folder.")
@click.option("--margin", type=click.FloatRange(0), default=0.0, show_default=True, help="Rewards at most so far apart are a tie.")
@click.option("--pairs", type=PATH, default=None, help="Write the pairs for people: `codedev feedback serve` shows them.")
@click.option("--judged", default=None, help="What people said: the feedback page's SQLite file or postgresql:// URI.")
@JSON
def eval_wins(answers: tuple[Path, ...], judge: Path | None, margin: float, pairs: Path | None, judged: str | None, as_json: bool) -> None:
    """How often the answers of one model are better than those of another: two files of `codedev generate --prompts`, the same prompts.

    A reward model tells (--judge), or people do: --pairs writes what they are shown, --judged counts what they said.

    \b
    Example: codedev eval wins new.jsonl old.jsonl --judge runs/judge
             codedev eval wins new.jsonl old.jsonl --pairs pairs.jsonl
             codedev feedback serve pairs.jsonl --db said.sqlite
             codedev eval wins --judged said.sqlite
    """
    from codedev._terminal import note, print_table
    from codedev.eval import wins

    if len(answers) != (0 if judged else 2) or sum(given is not None for given in (judge, pairs, judged)) != 1:
        raise click.UsageError("give two files of answers and --judge or --pairs, or --judged alone")
    if judged:
        from codedev.feedback.store import Store

        found = wins.by_people(Store(judged))
    else:
        one, other, prompts = wins.answers_of(*answers)
        if pairs:
            count = wins.write_pairs(one, other, prompts, pairs)
            same = f" ({len(prompts) - count} more have the same answer twice)" if count < len(prompts) else ""
            note(f"{count} pairs to compare{same}: codedev feedback serve {pairs} --db said.sqlite")
            return
        assert judge is not None
        found = [wins.by_score(one, other, prompts, _judge(judge), margin)]
    if as_json:
        print_json([one.as_dict() for one in found])
        return
    rows = [
        [
            one.one,
            one.other,
            one.wins,
            one.ties,
            one.losses,
            _figure("acc", one.rate.value),
            _interval("acc", one.rate._asdict()),
            one.rate.n,
        ]
        for one in found
    ]
    print_table("wins", ["model", "against", "wins", "ties", "losses", "rate", "95 %", "prompts"], rows)


def _judge(path: Path) -> Score:
    import json

    from codedev.train.align.rewards import Asked
    from codedev.train.align.scoring import open_reward_model

    judge = open_reward_model(path)

    def score(asked: Sequence[tuple[list[dict[str, str]], str]]) -> Sequence[float]:
        return judge.score([Asked(said[-1]["content"], answer, {}, "", json.dumps(said)) for said, answer in asked])

    return score
