"""`codedev corpus build`: a recipe to a corpus directory.

plan -> score every unit -> judge every unit -> barriers -> write every unit -> manifest -> report. Whatever is killed at whatever moment,
the same command run again redoes only what is missing or changed, and ends with the same bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from codedev import __version__
from codedev._errors import InputError, RunError
from codedev._recipe import M
from codedev._run import (
    Events,
    Progress,
    content_key,
    locked,
    no_progress,
    read_json,
    read_receipt,
    sweep,
    write_json,
    write_receipt,
    write_text,
)
from codedev.corpus import guard, join
from codedev.corpus.dedup import find_duplicates
from codedev.corpus.engines.local import Lost, Run, engine
from codedev.corpus.join import Written
from codedev.corpus.judge import judge_unit
from codedev.corpus.known import Known, index_all, known_key, parts_of
from codedev.corpus.language import DEFAULT, PLAIN
from codedev.corpus.manifest import FORMAT, Waterfall, add, add_barriers, check_balance, check_expectations, content, finished, manifest_of
from codedev.corpus.plan import Plan, make_plan, read_plan
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.remove import check_pending, keep_out
from codedev.corpus.report import write_report
from codedev.corpus.score import score_unit
from codedev.corpus.sources import rounds
from codedev.corpus.standing import Table
from codedev.corpus.status import EVENTS, began, logged
from codedev.corpus.unit import Context, Unit, barriers, cuts, filters, poisoned_path, score_key, scoring_stages
from codedev.corpus.unit import tables as unit_tables
from codedev.corpus.write import PARTS, Placed, part_facts, write_unit
from codedev.kernels import warm


def build(
    recipe: CorpusRecipe,
    base: Path,
    out: Path,
    *,
    workers: int = 1,
    isolated: bool | None = None,
    memory: int = 4 << 30,
    ray: str | None = None,
    barriers_only: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Build the corpus and return its manifest.

    `base` is the folder that relative input paths start from, `memory` a bound in bytes on what the barriers hold.
    With more than one worker, or where `isolated` says so, records are read in processes that one that hangs or crashes may cost; a
    single worker is this process otherwise, where a debugger sees everything and nothing guards it. `ray`: the address of a Ray cluster
    whose nodes do the work instead, `workers` of them at once (0: as many as it has CPUs); they see `out` and the inputs as we do.
    `barriers_only`: stop where the parts would be written, which others are to do (shares.py), and return nothing.
    Raises InputError, RunError, and ExpectationError after a complete run that breaks its `expect:`.
    """
    out = out if ray is None else out.absolute()  # the nodes have other working directories
    check_pending(out)
    check_out(out)
    with locked(out), told(Events(out), workers=workers, base=str(base.resolve())) as events:
        sweep(out)
        context = Context(located(recipe, base.resolve()), base.resolve(), out)
        progress = logged(progress, events)
        if recipe.dedup.minhash and recipe.dedup.minhash.keep:
            from codedev.corpus.near.prefer import check_keep

            check_keep(unit_tables(context.recipe).scored, recipe.dedup.minhash.keep)  # not after hours of reading
        plan = make_plan(context, context.work / "plan.jsonl", progress)
        identity = identity_of(context, recipe, plan.hash)
        events.log("planned", base=str(context.base), units=plan.units, bytes=plan.bytes, workers=workers)
        manifest = finished(out, identity)
        resolved = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        if manifest is None:
            with _engine(workers, isolated, plan.units, ray, out) as run:
                warm()
                scoring_stages(context.recipe)  # importing a stage compiles its kernels: once here, not in every worker
                (out / "manifest.json").unlink(missing_ok=True)  # from here on the directory is no finished corpus
                write_text(out / "recipe.yaml", resolved)
                if workers > 1:
                    threading.Thread(target=_import_barriers, args=(recipe,)).start()
                manifest = _build(recipe, context, plan, identity, run, memory, barriers_only, progress, events)
                if barriers_only:
                    return {}
                manifest |= {"identity": identity}
                check_balance(manifest)
                manifest = keep_out(out, manifest)  # what `corpus remove` took out of it before
                write_json(out / "manifest.json", manifest)
                events.log("built", **manifest["totals"])
                write_report(out, run)
        elif barriers_only:
            return {}
        else:
            write_text(out / "recipe.yaml", resolved)  # its `expect` may be new
            events.log("nothing_to_do")
            write_report(out)
        if not recipe.keep_work:
            shutil.rmtree(context.work)
    check_expectations(recipe, manifest, out)
    return manifest


@contextlib.contextmanager
def told(events: Events, **facts: Any) -> Iterator[Events]:
    """The events of a run, which begins, and may fail."""
    events.log("begun", codedev=__version__, **facts)
    try:
        yield events
    except BaseException as error:
        with contextlib.suppress(OSError):  # the disk may be what is full
            events.log("failed", error=str(error) or type(error).__name__)
        raise


@contextlib.contextmanager
def _engine(workers: int, isolated: bool | None, units: int, ray: str | None, out: Path) -> Iterator[Run]:
    if ray is None:
        with engine(workers, isolated=isolated, ready=units) as run:
            yield run
    else:
        from codedev.corpus.engines import ray as cluster

        with cluster.engine(ray, workers or None, out) as run:
            yield run


def check_out(out: Path) -> None:
    """InputError when `out` holds something that is no corpus: what a build does not know there, it would remove or write over."""
    if not os.fsencode(out.absolute()).decode("utf-8", "ignore") == str(out.absolute()):
        raise InputError(f"{out}: Parquet files cannot be written below a name that is not UTF-8. Choose another --out")
    if not out.is_dir() or (out / ".work" / "plan.jsonl").is_file():
        return
    names = sorted(entry.name for entry in out.iterdir() if not entry.name.startswith("."))
    if names == [EVENTS] and began(out):  # a run that failed before it had anything
        return
    if "manifest.json" in names:
        manifest = read_json(out / "manifest.json")
        if isinstance(manifest, dict) and manifest.get("format") == FORMAT:
            return
    if names:
        raise InputError(f"{out}: is not empty and holds no corpus ({', '.join(names[:3])} …). Choose another --out")


def located(recipe: CorpusRecipe, base: Path) -> CorpusRecipe:
    """The recipe with the paths of models from the recipe's folder. What is found there decides, not where it lies: see score_key."""

    def at(path: str) -> str:
        return str(base / path)

    def moved(config: M, **paths: Any) -> M:
        return config.model_copy(update=paths)

    spoken, quality, toxic = recipe.language, recipe.quality, recipe.toxicity
    if spoken and spoken.model not in (DEFAULT, PLAIN):
        spoken = moved(spoken, model=at(spoken.model))
    quality = moved(quality, learned={name: moved(own, model=at(own.model)) for name, own in quality.learned.items()})
    if asked := quality.perplexity:
        quality = moved(quality, perplexity=moved(asked, models={tag: at(path) for tag, path in asked.models.items()}))
    if toxic:
        toxic = moved(toxic, lists={tag: tuple(map(at, paths)) for tag, paths in toxic.lists.items()})
        if toxic.classifier:
            toxic = moved(toxic, classifier=moved(toxic.classifier, model=at(toxic.classifier.model)))
    if looked_for := recipe.decontaminate:
        looked_for = moved(looked_for, against=tuple(map(at, looked_for.against)))
    return moved(recipe, language=spoken, quality=quality, toxicity=toxic, decontaminate=looked_for)


def identity_of(context: Context, recipe: CorpusRecipe, plan: str) -> dict[str, str]:
    """What decides the corpus; `recipe` as it was given, `plan` its plan's hash."""
    return {"plan": plan, "recipe": content_key(content(recipe)), "known": known_key(parts_of(recipe, context.base, context.out))}


def _build(
    recipe: CorpusRecipe,
    context: Context,
    plan: Plan,
    identity: dict[str, str],
    run: Run,
    memory: int,
    barriers_only: bool,
    progress: Progress,
    events: Events,
) -> dict[str, Any]:
    names = [source.name for source in context.recipe.sources]
    waterfall: Waterfall = {name: {} for name in names}

    scored = _score(context, plan, run, progress, events, waterfall)
    if any(score_key(context, unit) != scored[unit.source, unit.number][0] for unit in read_plan(plan.path)):
        raise RunError("a model or list of the recipe changed while documents were scored. Run the build again: it scores those anew")
    events.log("scored", units=len(scored))
    judged = _judge(context, scored, run, progress, waterfall)
    events.log("judged")

    known = index_all(context, run, progress)
    placed = _place(context, scored, judged, known.rows)
    found = context.work / "found"
    tables = known.tables + _tables(context, placed)
    _find(context, tables, known, placed, identity, memory, progress)
    events.log("deduplicated")
    if barriers_only:
        return {}

    receipts: dict[tuple[str, int], dict[str, Any]] = {}
    audit: dict[str, Any] = {}
    progress("write", 0, len(placed))
    jobs = [partial(_audit, context, tables, found, placed)] if context.recipe.dedup.minhash else []  # the longest one first
    for unit, told in run(_call, itertools.chain(jobs, (partial(_write, context, found, unit) for unit in placed))):
        if unit is None:
            audit = told
            continue
        receipts[unit] = told
        progress("write", len(receipts), len(placed))
    add_barriers(waterfall, receipts, filters(context.recipe)[-1][0], barriers(context.recipe))
    events.log("written")

    parts: dict[str, list[dict[str, Any]]] = {kind: [] for kind in PARTS}
    for unit in placed:
        for kind, facts in part_facts(context, unit, receipts[unit.source, unit.number]).items():
            parts[kind] += facts
    _remove_stale(context, placed, parts)
    return manifest_of(recipe, plan, waterfall, parts, receipts) | audit


def found_receipt(context: Context) -> Path:
    """Written when `.work/found` holds all that the barriers found: the identity of the build, its units and the places of their rows."""
    return context.work / "found.json"


def _find(
    context: Context, tables: list[Table], known: Known, placed: list[Placed], identity: dict[str, str], memory: int, progress: Progress
) -> None:
    """What all barriers find, in `.work/found`; that of an earlier run over the same rows stands."""
    progress("deduplicate", 0, 1)
    dedup = context.recipe.dedup
    key = content_key(__version__, known.key, placed, dedup.model_dump(mode="json", exclude={"index"}))
    found, receipt = context.work / "found", found_receipt(context)
    before = read_receipt(receipt)
    if before is None or before["key"] != key:
        receipt.unlink(missing_ok=True)
        shutil.rmtree(found, ignore_errors=True)
        found.mkdir(parents=True)
        judged_files, first_rows = [table.judged for table in tables], [table.first_row for table in tables]
        find_duplicates(judged_files, first_rows, found, exact=dedup.exact is not None, memory=memory // 2, known=known.rows)
        compare(context, tables, found, memory // 2)
    facts = {"key": key, "identity": identity, "placed": placed}
    if before is None or before["key"] != key or before["identity"] != identity:
        write_receipt(receipt, sorted(path for path in found.rglob("*") if path.is_file()), facts)
    progress("deduplicate", 1, 1)


def _tables(context: Context, placed: list[Placed]) -> list[Table]:
    scored, judged = context.work / "scored", context.work / "judged"
    return [Table(scored / f"{unit.scored}.parquet", judged / f"{unit.judged}.parquet", unit.first_row) for unit in placed if unit.rows]


def compare(context: Context, tables: list[Table], found: Path, memory: int) -> None:
    """The barriers that read more of a document than its hashes, in the order of `barriers`. Their kernels are imported when asked for."""
    dedup = context.recipe.dedup
    if not (dedup.url or dedup.minhash or cuts(context.recipe)):
        return
    units = [table for table in tables if not table.known]
    known = units[0].first_row if units else 0
    if dedup.url:
        from codedev.corpus.repeats.url import find_urls

        find_urls(tables, found, config=dedup.url, memory=memory, known=known)
    if dedup.minhash:
        from codedev.corpus.near.find import find_near

        find_near(tables, found, config=dedup.minhash, memory=memory, known=known)
    for stage, config in (("lines", dedup.lines), ("paragraphs", dedup.paragraphs)):
        if config:
            from codedev.corpus.repeats.lines import find_lines

            find_lines(units, found, config=config, memory=memory, stage=stage)
    if dedup.substring:
        from codedev.corpus.repeats.substring import find_repeats

        find_repeats(units, found, config=dedup.substring, memory=memory)
    if cuts(context.recipe):
        from codedev.corpus.repeats.cuts import find_short

        find_short(units, found, min_chars=dedup.min_chars)


def _import_barriers(recipe: CorpusRecipe) -> None:
    """What the barriers need, made while the workers read: 0.5 s that they would wait for."""
    with contextlib.suppress(Exception):  # the barrier itself will tell
        if recipe.dedup.minhash:
            from codedev.corpus.near import find  # noqa: F401
            from codedev.kernels.symbols import tables as symbols

            symbols("figures")
            symbols("code")


def _audit(context: Context, tables: list[Table], found: Path, placed: list[Placed]) -> tuple[None, dict[str, Any]]:
    """The manifest's entry of what a barrier dropped, read again and compared another way."""
    config = context.recipe.dedup.minhash
    assert config
    from codedev.corpus.near.audit import audit_near
    from codedev.corpus.near.find import clusters_path

    starts = [(unit.first_row, unit.source) for unit in placed if unit.rows]
    seed = context.recipe.seed
    told = audit_near(tables, found, clusters_path(found), starts, verify=config.verify, ngram=config.ngram, seed=seed)
    return None, {"audit": {"near": told}}


# Tasks carry back what the parent needs to place their result.


def _call(job: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    return job()


def _score(
    context: Context, plan: Plan, run: Run, progress: Progress, events: Events, waterfall: Waterfall
) -> dict[tuple[int, int], tuple[str, int]]:
    """(source, number) -> (key, rows) of every unit: those of the plan, and those in which pieces of theirs come together."""
    scored: dict[tuple[int, int], tuple[str, int]] = {}
    written: dict[tuple[int, int], dict[str, Written]] = {}

    def each(units: Iterable[Unit]) -> Iterator[dict[str, Any]]:
        for place, receipt in run(partial(_score_one, context), units, lost_worker(context, events)):
            scored[place] = (receipt["key"], receipt["rows"])
            written[place] = {number: Written(*facts) for number, facts in receipt["pieces"].items()}
            add(waterfall[context.recipe.sources[place[0]].name], receipt["counts"])
            yield receipt

    done = 0
    progress("read", 0, plan.bytes)
    for receipt in each(read_plan(plan.path)):
        done += receipt["bytes_in"]
        progress("read", done, plan.bytes, _given_up(waterfall))
    for number, source in enumerate(context.recipe.sources):
        for round_ in range(rounds(source)):
            units = joined_units(context, number, round_, written)
            progress(f"join {source.name}", 0, len(units))
            for count, _ in enumerate(each(units), 1):
                progress(f"join {source.name}", count, len(units))
    return scored


def joined_units(context: Context, source: int, round_: int, written: dict[tuple[int, int], dict[str, Written]]) -> list[Unit]:
    """The units in which the source's pieces of a round come together, of all that its units before have `written`, by round."""
    places = sorted(place for place in written if place[0] == source)
    spans = join.spans(context.work, round_, (written[place][str(round_)] for place in places if str(round_) in written[place]))
    first = places[-1][1] + 1 if places else 0
    return [Unit(source, first + number, (), span) for number, span in enumerate(spans)]


def _score_one(context: Context, unit: Unit) -> tuple[tuple[int, int], dict[str, Any]]:
    receipt = score_unit(context, unit)
    return (unit.source, unit.number), {name: receipt[name] for name in ("key", "rows", "counts", "bytes_in", "pieces")}


def lost_worker(context: Context, events: Events) -> Lost:
    """What is done about a unit whose worker died: the record at fault is given up and the unit is done again. RunError where none is."""
    killed: dict[tuple[int, int], guard.Death] = {}

    def lost(unit: Unit, death: guard.Death) -> None:
        place = (unit.source, unit.number)
        config = context.recipe.sources[unit.source]
        extent = unit.extents[death.record.extent] if death.record and unit.extents else None
        facts = {"source": config.name, "file": extent and extent.name, "offset": death.offset}
        events.log("lost_worker", **facts, kind=death.kind, detail=death.detail)
        if guard.poison(poisoned_path(context, score_key(context, unit)), config, death, killed.get(place)):
            killed.pop(place, None)
        else:
            killed[place] = death

    return lost


def _given_up(waterfall: Waterfall) -> str:
    """A word for who watches."""
    lost = sum(stages["read"][f"error.{kind}"] for stages in waterfall.values() if "read" in stages for kind in guard.KINDS)
    return f"{lost:,} {'record' if lost == 1 else 'records'} given up: see `timeout`, `memory`, `crash` under errors/" if lost else ""


def _judge(
    context: Context,
    scored: dict[tuple[int, int], tuple[str, int]],
    run: Run,
    progress: Progress,
    waterfall: Waterfall,
) -> dict[tuple[int, int], str]:
    """(source, number) -> key of every unit."""
    judged = {}
    progress("filter", 0, len(scored))
    for place, receipt in run(partial(_judge_one, context), ((place, key) for place, (key, _) in scored.items())):
        judged[place] = receipt["key"]
        add(waterfall[context.recipe.sources[place[0]].name], receipt["counts"])
        progress("filter", len(judged), len(scored))
    return judged


def _judge_one(context: Context, argument: tuple[tuple[int, int], str]) -> tuple[tuple[int, int], dict[str, Any]]:
    place, key = argument
    return place, judge_unit(context, key)


def _write(context: Context, found: Path, placed: Placed) -> tuple[tuple[str, int], dict[str, Any]]:
    return (placed.source, placed.number), write_unit(context, found, placed)


def _place(
    context: Context, scored: dict[tuple[int, int], tuple[str, int]], judged: dict[tuple[int, int], str], known: int
) -> list[Placed]:
    """The units in plan order with the place of their first row, after `known` rows of earlier corpora."""
    placed: list[Placed] = []
    row = known
    for place in sorted(scored):
        source, number = place
        key, rows = scored[place]
        placed.append(Placed(context.recipe.sources[source].name, number, key, judged[place], row, rows))
        row += rows
    return placed


def _remove_stale(context: Context, placed: Iterable[Placed], parts: dict[str, list[dict[str, Any]]]) -> None:
    """Parts and work of earlier recipes or inputs. What this run wrote is named; nothing else in these folders is codedev's to keep."""
    listed = {part["path"] for kind in PARTS for part in parts[kind]}
    for kind in PARTS:
        _remove(path for path in (context.out / kind).rglob("part-*.parquet") if path.relative_to(context.out).as_posix() not in listed)
    for name in ("near", "lines-work", "paragraphs-work", "substring-work"):  # of a barrier that was killed
        shutil.rmtree(context.work / name, ignore_errors=True)
    keys = {key for unit in placed for key in (unit.scored, unit.judged)}
    _remove(path for folder in ("scored", "judged") for path in (context.work / folder).glob("*") if path.name.split(".")[0] not in keys)
    written = {(unit.source, f"{unit.number:05d}.json") for unit in placed}
    _remove(path for path in (context.work / "written").glob("*/*.json") if (path.parent.name, path.name) not in written)


def _remove(paths: Iterator[Path]) -> None:
    for path in list(paths):
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
