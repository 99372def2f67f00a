"""A build in shares: plan, run, finish."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from codedev.commands.options import JSON, MEMORY, OVERRIDES, PATH, QUIET, WORKERS, default_workers, print_json

_OUT = click.option("--out", type=PATH, required=True, help="The corpus directory, which all shares see.")


class _Units(click.ParamType[tuple[int, int]]):
    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(value))
        if not found or int(found[1]) >= int(found[2]):
            self.fail(f"'{value}' is no share: write I/N with I from 0 to N - 1, as in 3/8", param, ctx)
        return int(found[1]), int(found[2])


@click.command("plan")
@click.argument("recipe", type=PATH)
@_OUT
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Units in the table; 0 = all.")
@OVERRIDES
@JSON
@QUIET
def corpus_plan(recipe: Path, out: Path, limit: int, overrides: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """The units that the build of RECIPE has, for a build in shares: plan, run each share, finish.

    Reads every input once, to hash it. Needed again when the recipe or an input has changed; what is done stays done.

    \b
    Example: codedev corpus plan recipe.yaml --out /shared/corpus
    """
    from codedev._errors import printable
    from codedev._terminal import note, print_table, size, watch
    from codedev.corpus import recipe as recipes
    from codedev.corpus.shares import plan_shares

    loaded = recipes.load(recipe, overrides)
    with watch(quiet=quiet or as_json) as progress:
        planned = plan_shares(loaded, recipe.resolve().parent, out, progress=progress)
    if as_json:
        print_json(planned)
        return
    units = planned["units"]
    shown = units[: limit or None]
    rows = [
        [unit["unit"], unit["source"], size(unit["bytes"]), unit["files"], printable(unit["first"]), "yes" if unit["done"] else ""]
        for unit in shown
    ]
    print_table(f"{len(units):,} units, {size(planned['bytes'])}", ["unit", "source", "size", "files", "first file", "done"], rows)
    if len(shown) < len(units):
        note(f"the first {len(shown):,}; --limit 0 shows all, --json too")
    shares = min(len(units), 8) or 1
    note(f"next: codedev corpus run {recipe} --out {out} --units I/{shares}, I from 0 to {shares - 1}, then codedev corpus finish")


@click.command("run")
@click.argument("recipe", type=PATH)
@_OUT
@click.option("--units", type=_Units(), required=True, help="Which share: every N-th unit from unit I on; I from 0.")
@click.option("--wait", type=click.FloatRange(0), default=0, metavar="SECONDS", help="For the other shares, where a pass needs them.")
@WORKERS
@OVERRIDES
@JSON
@QUIET
def corpus_run(
    recipe: Path,
    out: Path,
    units: tuple[int, int],
    wait: float,
    workers: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Do a share of a planned build: on any machine that sees the corpus directory and the inputs, beside any other share.

    Passes that need what other shares have not done yet are left to the next run, or to `codedev corpus finish`. A share that was killed
    goes on with the same command.

    \b
    Example: codedev corpus run recipe.yaml --out /shared/corpus --units $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
    """
    from codedev._terminal import compiling, note, print_table, watch

    click.get_current_context().with_resource(compiling(quiet=quiet or as_json))
    from codedev.corpus import recipe as recipes
    from codedev.corpus.shares import Share, run_share

    loaded = recipes.load(recipe, overrides)
    with watch(quiet=quiet or as_json) as progress:
        how: dict[str, Any] = {"workers": workers or default_workers(), "isolated": True, "wait": wait}
        done = run_share(loaded, recipe.resolve().parent, out, Share(*units), **how, progress=progress)
    if as_json:
        print_json(done)
        return
    rows = [[one["pass"], one["units"], one["own"], one["worked"], one["left"]] for one in done["passes"]]
    print_table(f"Share {done['share']}", ["pass", "units", "of the share", "done now", "left to others"], rows)
    if done["next"] == "run":
        note("other shares have not finished this pass. When they have: codedev corpus finish, or this again for the passes behind it")
    else:
        note(f"next: codedev corpus finish {recipe} --out {out}")


@click.command("finish")
@click.argument("recipe", type=PATH)
@_OUT
@click.option("--rest", is_flag=True, help="Do here what no share has done; else it is an error that names the shares.")
@click.option("--barriers-only", is_flag=True, help="Stop before the parts are written: the shares do that when they are run again.")
@WORKERS
@MEMORY
@OVERRIDES
@JSON
@QUIET
def corpus_finish(
    recipe: Path,
    out: Path,
    rest: bool,
    barriers_only: bool,
    workers: int | None,
    memory: int,
    overrides: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Deduplicate what the shares have read, and end the build: parts, manifest, report.

    \b
    Example: codedev corpus finish recipe.yaml --out /shared/corpus
             codedev corpus finish recipe.yaml --out /shared/corpus --barriers-only   # then the shares again, then finish
    """
    from codedev._terminal import compiling, note, watch

    click.get_current_context().with_resource(compiling(quiet=quiet or as_json))
    from codedev.commands.corpus import show_build
    from codedev.corpus import recipe as recipes
    from codedev.corpus.shares import finish

    loaded = recipes.load(recipe, overrides)
    how: dict[str, Any] = {"rest": rest, "barriers_only": barriers_only, "workers": workers or default_workers(), "memory": memory}

    def run() -> dict[str, Any]:
        with watch(quiet=quiet or as_json) as progress:
            return finish(loaded, recipe.resolve().parent, out, **how, isolated=True, progress=progress)

    show_build(out, run, as_json=as_json)
    if barriers_only:
        note("next: codedev corpus run for each share, which write the parts, then codedev corpus finish")
