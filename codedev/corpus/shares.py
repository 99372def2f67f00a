"""A build in shares: processes that see one directory and nothing of each other, as in a Slurm array or a Kubernetes job.

    plan     cuts the inputs into units and writes them down
    run      a share of the units, at any time, beside any other share; passes follow each other:
                 read      every unit read, scored and judged
                 join      pieces of units come together, once for every round of the sources; after all units of the pass before
                 write     the parts of the corpus; after the barriers
    finish   the barriers, what is left of the other passes, manifest and report

Of N shares number i has the units i, i + N, i + 2 N …. A share does its units of every pass that is open; a pass that others have not
finished closes those behind it. Nobody tells anybody anything: what is done is what has a receipt. So a share that was killed is run again,
one that is run twice finds nothing to do, another number of shares may go on where some stopped, and the bytes are those of one build.

A share holds its own directory under `.work/shares`, with events as a build has them, and the corpus together with the other shares: plan,
build and finish are refused as long as one runs.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from codedev import __version__
from codedev._errors import InputError, RunError
from codedev._run import Events, Progress, content_key, held, locked, no_progress, read_json, sweep, write_json
from codedev.corpus.build import build, check_out, found_receipt, identity_of, joined_units, located, lost_worker, told
from codedev.corpus.engines.local import engine
from codedev.corpus.join import Written
from codedev.corpus.judge import judge_unit
from codedev.corpus.manifest import content
from codedev.corpus.plan import make_plan, read_plan
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.remove import check_pending
from codedev.corpus.score import score_unit
from codedev.corpus.sources import rounds
from codedev.corpus.status import logged
from codedev.corpus.unit import Context, Unit, judge_key, score_key, scoring_stages
from codedev.corpus.write import Placed, write_unit

_POLL = 5.0  # seconds between two looks at what other shares have done
_NAMED = 8  # shares or units that a message names


class Share(NamedTuple):
    number: int  # from 0
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class _Pass(NamedTuple):
    name: str
    units: list[Any]
    done: Callable[[Any], bool]
    task: Callable[[Any], Any]


def plan_shares(recipe: CorpusRecipe, base: Path, out: Path, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Write the plan of a build in shares into `out`. Returns units (unit, source, number, bytes, files, first, done), bytes and the plan's
    hash. Raises InputError where a path names nothing or `out` holds something else."""
    check_pending(out)
    check_out(out)
    with locked(out), told(Events(out), base=str(base.resolve())) as events:
        sweep(out)
        context = Context(located(recipe, base.resolve()), base.resolve(), out)
        plan = make_plan(context, _plan_path(context), logged(progress, events))
        facts = {
            "codedev": __version__,
            "recipe": content_key(content(recipe)),
            "plan": plan.hash,
            "units": plan.units,
            "bytes": plan.bytes,
        }
        write_json(_facts_path(context), facts)
        events.log("planned", base=str(context.base), units=plan.units, bytes=plan.bytes, workers=None)
    units = [
        {
            "unit": number,
            "source": recipe.sources[unit.source].name,
            "number": unit.number,
            "bytes": sum(extent.size for extent in unit.extents),
            "files": len({extent.file for extent in unit.extents}),
            "first": unit.extents[0].name,
            "done": _is_read(context, unit),
        }
        for number, unit in enumerate(read_plan(plan.path))
    ]
    return {"corpus": str(out), "plan": plan.hash, "bytes": plan.bytes, "units": units}


def run_share(
    recipe: CorpusRecipe,
    base: Path,
    out: Path,
    share: Share,
    *,
    workers: int = 1,
    isolated: bool | None = None,
    wait: float = 0,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Do the share's units of every pass that is open. Returns share, passes (name, units, own, worked: units done just now, left: units of
    other shares that are not done) and next: `run` again when the others are done, or `finish`.

    `wait`: seconds to wait for the other shares wherever a pass is closed; RunError when they have passed.
    Raises InputError where there is no plan for the recipe, RunError where the share is being run already.
    """
    context = Context(located(recipe, base.resolve()), base.resolve(), out)
    facts = _facts(context, recipe)
    own = _shares(context) / f"{share.number}-of-{share.of}"
    passes: list[dict[str, Any]] = []
    with locked(out, shared=True), locked(own, "--units"), told(Events(own), share=str(share), workers=workers) as events:
        events.log("planned", units=facts["units"], bytes=facts["bytes"], workers=workers)
        progress = logged(progress, events)
        with engine(workers, isolated=isolated) as run:
            ready = False
            for one in _passes(context, recipe, facts):
                mine = one.units[share.number :: share.of]
                todo = [unit for unit in mine if not one.done(unit)]
                progress(f"{one.name} units", len(mine) - len(todo), len(mine))
                if todo and not ready:
                    scoring_stages(context.recipe)  # compiles kernels: here, not in every worker; and a missing model is told at once
                    ready = True
                lost = lost_worker(context, events) if one.name != "write" else None
                for count, _ in enumerate(run(one.task, todo, lost), len(mine) - len(todo) + 1):
                    progress(f"{one.name} units", count, len(mine))
                left = _left(one, wait, share)
                passes.append({"pass": one.name, "units": len(one.units), "own": len(mine), "worked": len(todo), "left": len(left)})
                if left:
                    break
        events.log("built", documents=None)
    closed = bool(passes and passes[-1]["left"])
    return {"share": str(share), "corpus": str(out), "passes": passes, "next": "run" if closed else "finish"}


def finish(
    recipe: CorpusRecipe,
    base: Path,
    out: Path,
    *,
    rest: bool = False,
    barriers_only: bool = False,
    workers: int = 1,
    isolated: bool | None = None,
    memory: int = 4 << 30,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """The barriers of a build in shares and whatever pass is left; its manifest. RunError where units are not read, which names the shares;
    with `rest` they are read here. `barriers_only`: the shares write the parts; returns nothing. Else as `build`."""
    context = Context(located(recipe, base.resolve()), base.resolve(), out)
    _facts(context, recipe)
    units = list(read_plan(_plan_path(context)))
    left = [number for number, unit in enumerate(units) if not _is_read(context, unit)]
    if left and not rest and not (out / "manifest.json").exists():
        raise RunError(
            f"{out}: {len(left):,} of {len(units):,} units are not read{_whose(context, left)}. Run those shares with codedev corpus run, "
            "or give --rest to read them here"
        )
    how: dict[str, Any] = {"workers": workers, "isolated": isolated, "memory": memory, "barriers_only": barriers_only}
    return build(recipe, base, out, **how, progress=progress)


def _plan_path(context: Context) -> Path:
    return context.work / "plan.jsonl"


def _facts_path(context: Context) -> Path:
    return context.work / "plan.json"


def _shares(context: Context) -> Path:
    return context.work / "shares"


def _facts(context: Context, recipe: CorpusRecipe) -> dict[str, Any]:
    """Of the plan. InputError where it is missing or another recipe's."""
    path = _facts_path(context)
    if not path.exists():
        raise InputError(f"{context.out}: holds no plan. Make one first: codedev corpus plan RECIPE --out {context.out}")
    facts: dict[str, Any] = read_json(path)
    if facts["codedev"] != __version__:
        raise InputError(
            f"{context.out}: was planned by codedev {facts['codedev']}, this is {__version__}. Plan it again: codedev corpus plan"
        )
    if facts["recipe"] != content_key(content(recipe)):
        raise InputError(f"{context.out}: was planned for another recipe, or other --set. Plan it again: codedev corpus plan")
    return facts


# -- passes ----------------------------------------------------------------------------------------------------------------------------


def _passes(context: Context, recipe: CorpusRecipe, facts: dict[str, Any]) -> Iterator[_Pass]:
    """In order; each may be asked for when all units of those before are done."""
    units = list(read_plan(_plan_path(context)))
    yield _Pass("read", units, partial(_is_read, context), partial(_read, context))
    written: dict[tuple[int, int], dict[str, Written]] = {}
    sources = context.recipe.sources
    for round_ in range(max(map(rounds, sources))):
        for unit in units:
            if rounds(sources[unit.source]) > round_:
                pieces = read_json(context.work / "scored" / f"{score_key(context, unit)}.json")["pieces"]
                written[unit.source, unit.number] = {number: Written(*told) for number, told in pieces.items()}
        units = [
            unit
            for number, source in enumerate(sources)
            if rounds(source) > round_
            for unit in joined_units(context, number, round_, written)
        ]
        if units:
            yield _Pass(f"join {round_ + 1}", units, partial(_is_read, context), partial(_read, context))
    receipt = found_receipt(context)
    if receipt.exists():
        found = read_json(receipt)
        if found["identity"] == identity_of(context, recipe, facts["plan"]):
            placed = [Placed(*one) for one in found["placed"]]
            began = receipt.stat().st_mtime_ns
            yield _Pass("write", placed, partial(_is_written, context, began), partial(_write, context))


def _is_read(context: Context, unit: Unit) -> bool:
    """By its receipts alone: what they name is looked at where the unit is worked on, and by `finish`."""
    key = score_key(context, unit)
    return all((context.work / folder / f"{one}.json").exists() for folder, one in (("scored", key), ("judged", judge_key(context, key))))


def _read(context: Context, unit: Unit) -> None:
    judge_unit(context, score_unit(context, unit)["key"])


def _is_written(context: Context, began: int, placed: Placed) -> bool:
    """Since the barriers ended."""
    receipt = _written_path(context, placed)
    return receipt.exists() and receipt.stat().st_mtime_ns >= began


def _written_path(context: Context, placed: Placed) -> Path:
    return context.work / "written" / placed.source / f"{placed.number:05d}.json"


def _write(context: Context, placed: Placed) -> None:
    write_unit(context, context.work / "found", placed)
    os.utime(_written_path(context, placed))  # one of a build before may have been good still


# -- other shares ----------------------------------------------------------------------------------------------------------------------


def _left(one: _Pass, wait: float, share: Share) -> list[Any]:
    """The units of other shares that are not done, after so many seconds at most."""
    deadline = time.monotonic() + wait
    left = [unit for unit in one.units if not one.done(unit)]
    while left and time.monotonic() < deadline:
        time.sleep(min(_POLL, max(deadline - time.monotonic(), 0.01)))
        left = [unit for unit in left if not one.done(unit)]
    if left and wait:
        raise RunError(
            f"{len(left):,} units of pass {one.name} are not done after {wait:g} s of waiting. Share {share} has done its own: run it "
            "again when the others have"
        )
    return left


def _whose(context: Context, left: list[int]) -> str:
    """The shares of these units, if it is known how many shares there are, and how they stand."""
    folders = list(_shares(context).glob("*-of-*"))
    if not folders:
        return ": no share has run yet. Start with --units 0/1"
    newest = max(folders, key=lambda path: path.stat().st_mtime)
    of = int(newest.name.split("-of-")[1])
    shares = sorted({number % of for number in left})
    named = []
    for number in itertools.islice(shares, _NAMED):
        folder = _shares(context) / f"{number}-of-{of}"
        state = "runs" if held(folder) else "stopped" if folder.exists() else "never begun"
        named.append(f"{number}/{of} {state}")
    more = f", and {len(shares) - _NAMED:,} more" if len(shares) > _NAMED else ""
    return f": --units {', '.join(named)}{more}"
