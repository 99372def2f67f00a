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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import yaml

from codedev import __version__
from codedev._errors import ExpectationError, InputError, RunError
from codedev._recipe import M
from codedev._run import Events, Progress, content_key, file_hash, locked, no_progress, read_json, sweep, write_json, write_text
from codedev.corpus import guard, join
from codedev.corpus.dedup import find_duplicates
from codedev.corpus.engines.local import Lost, Run, engine
from codedev.corpus.join import Written
from codedev.corpus.judge import judge_unit
from codedev.corpus.known import index_all, known_key, parts_of
from codedev.corpus.language import DEFAULT, PLAIN
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

FORMAT = "codedev.corpus/1"


def build(
    recipe: CorpusRecipe,
    base: Path,
    out: Path,
    *,
    workers: int = 1,
    isolated: bool | None = None,
    memory: int = 4 << 30,
    ray: str | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Build the corpus and return its manifest.

    `base` is the folder that relative input paths start from, `memory` a bound in bytes on what the barriers hold.
    With more than one worker, or where `isolated` says so, records are read in processes that one that hangs or crashes may cost; a
    single worker is this process otherwise, where a debugger sees everything and nothing guards it. `ray`: the address of a Ray cluster
    whose nodes do the work instead, `workers` of them at once (0: as many as it has CPUs); they see `out` and the inputs as we do.
    Raises InputError, RunError, and ExpectationError after a complete run that breaks its `expect:`.
    """
    out = out if ray is None else out.absolute()  # the nodes have other working directories
    check_pending(out)
    _check_out(out)
    with locked(out), _told(Events(out), workers=workers, base=str(base.resolve())) as events:
        sweep(out)
        context = Context(_located(recipe, base.resolve()), base.resolve(), out)
        progress = logged(progress, events)
        if recipe.dedup.minhash and recipe.dedup.minhash.keep:
            from codedev.corpus.near.prefer import check_keep

            check_keep(unit_tables(context.recipe).scored, recipe.dedup.minhash.keep)  # not after hours of reading
        plan = make_plan(context, context.work / "plan.jsonl", progress)
        identity = {"plan": plan.hash, "recipe": content_key(_content(recipe)), "known": known_key(parts_of(recipe, context.base, out))}
        events.log("planned", base=str(context.base), units=plan.units, bytes=plan.bytes, workers=workers)
        manifest = _finished(out, identity)
        resolved = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        if manifest is None:
            with _engine(workers, isolated, plan.units, ray, out) as run:
                warm()
                scoring_stages(context.recipe)  # importing a stage compiles its kernels: once here, not in every worker
                (out / "manifest.json").unlink(missing_ok=True)  # from here on the directory is no finished corpus
                write_text(out / "recipe.yaml", resolved)
                if workers > 1:
                    threading.Thread(target=_import_barriers, args=(recipe,)).start()
                manifest = _build(recipe, context, plan, run, memory, progress, events)
                manifest |= {"identity": identity}
                _check_balance(manifest)
                manifest = keep_out(out, manifest)  # what `corpus remove` took out of it before
                write_json(out / "manifest.json", manifest)
                events.log("built", **manifest["totals"])
                write_report(out, run)
        else:
            write_text(out / "recipe.yaml", resolved)  # its `expect` may be new
            events.log("nothing_to_do")
            write_report(out)
        if not recipe.keep_work:
            shutil.rmtree(context.work)
    _check_expectations(recipe, manifest)
    return manifest


@contextlib.contextmanager
def _told(events: Events, **facts: Any) -> Iterator[Events]:
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


def _check_out(out: Path) -> None:
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


def _located(recipe: CorpusRecipe, base: Path) -> CorpusRecipe:
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


def _content(recipe: CorpusRecipe) -> dict[str, Any]:
    """What of the recipe decides the corpus."""
    return recipe.model_dump(mode="json", exclude={"expect", "keep_work"})


def _finished(out: Path, identity: dict[str, str]) -> dict[str, Any] | None:
    """The manifest of an earlier run over the same inputs and recipe, if every part it lists is still as it was."""
    try:
        manifest: dict[str, Any] = orjson.loads((out / "manifest.json").read_bytes())
        parts = [part for kind in PARTS for part in manifest["parts"][kind]]
        whole = manifest["identity"] == identity and all(file_hash(out / part["path"]) == part["hash"] for part in parts)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def _build(recipe: CorpusRecipe, context: Context, plan: Plan, run: Run, memory: int, progress: Progress, events: Events) -> dict[str, Any]:
    names = [source.name for source in context.recipe.sources]
    waterfall: dict[str, dict[str, Counter[str]]] = {name: {} for name in names}

    scored = _score(context, plan, run, progress, events, waterfall)
    if any(score_key(context, unit) != scored[unit.source, unit.number][0] for unit in read_plan(plan.path)):
        raise RunError("a model or list of the recipe changed while documents were scored. Run the build again: it scores those anew")
    events.log("scored", units=len(scored))
    judged = _judge(context, scored, run, progress, waterfall)
    events.log("judged")

    known = index_all(context, run, progress)
    placed = _place(context, scored, judged, known.rows)
    found = context.work / "found"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir(parents=True)
    progress("deduplicate", 0, 1)
    tables = known.tables + _tables(context, placed)
    exact = context.recipe.dedup.exact is not None
    judged_files, first_rows = [table.judged for table in tables], [table.first_row for table in tables]
    find_duplicates(judged_files, first_rows, found, exact=exact, memory=memory // 2, known=known.rows)
    _compare(context, tables, found, memory // 2)
    progress("deduplicate", 1, 1)
    events.log("deduplicated")

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
    _add_barriers(waterfall, receipts, filters(context.recipe)[-1][0], barriers(context.recipe))
    events.log("written")

    parts: dict[str, list[dict[str, Any]]] = {kind: [] for kind in PARTS}
    for unit in placed:
        for kind, facts in part_facts(context, unit, receipts[unit.source, unit.number]).items():
            parts[kind] += facts
    _remove_stale(context, placed, parts)
    return _manifest(recipe, plan, waterfall, parts, receipts) | audit


def _tables(context: Context, placed: list[Placed]) -> list[Table]:
    scored, judged = context.work / "scored", context.work / "judged"
    return [Table(scored / f"{unit.scored}.parquet", judged / f"{unit.judged}.parquet", unit.first_row) for unit in placed if unit.rows]


def _compare(context: Context, tables: list[Table], found: Path, memory: int) -> None:
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
    context: Context, plan: Plan, run: Run, progress: Progress, events: Events, waterfall: dict[str, dict[str, Counter[str]]]
) -> dict[tuple[int, int], tuple[str, int]]:
    """(source, number) -> (key, rows) of every unit: those of the plan, and those in which pieces of theirs come together."""
    scored: dict[tuple[int, int], tuple[str, int]] = {}
    written: dict[tuple[int, int], dict[str, Written]] = {}

    def finished(units: Iterable[Unit]) -> Iterator[dict[str, Any]]:
        for place, receipt in run(partial(_score_one, context), units, _lost(context, events)):
            scored[place] = (receipt["key"], receipt["rows"])
            written[place] = {number: Written(*facts) for number, facts in receipt["pieces"].items()}
            _add(waterfall[context.recipe.sources[place[0]].name], receipt["counts"])
            yield receipt

    done = 0
    progress("read", 0, plan.bytes)
    for receipt in finished(read_plan(plan.path)):
        done += receipt["bytes_in"]
        progress("read", done, plan.bytes, _given_up(waterfall))
    for number, source in enumerate(context.recipe.sources):
        for round_ in range(rounds(source)):
            places = sorted(place for place in written if place[0] == number)
            spans = join.spans(context.work, round_, (written[place][str(round_)] for place in places if str(round_) in written[place]))
            first = places[-1][1] + 1 if places else 0
            progress(f"join {source.name}", 0, len(spans))
            for count, _ in enumerate(finished(Unit(number, first + i, (), span) for i, span in enumerate(spans)), 1):
                progress(f"join {source.name}", count, len(spans))
    return scored


def _score_one(context: Context, unit: Unit) -> tuple[tuple[int, int], dict[str, Any]]:
    receipt = score_unit(context, unit)
    return (unit.source, unit.number), {name: receipt[name] for name in ("key", "rows", "counts", "bytes_in", "pieces")}


def _lost(context: Context, events: Events) -> Lost:
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


def _given_up(waterfall: dict[str, dict[str, Counter[str]]]) -> str:
    """A word for who watches."""
    lost = sum(stages["read"][f"error.{kind}"] for stages in waterfall.values() if "read" in stages for kind in guard.KINDS)
    return f"{lost:,} {'record' if lost == 1 else 'records'} given up: see `timeout`, `memory`, `crash` under errors/" if lost else ""


def _judge(
    context: Context,
    scored: dict[tuple[int, int], tuple[str, int]],
    run: Run,
    progress: Progress,
    waterfall: dict[str, dict[str, Counter[str]]],
) -> dict[tuple[int, int], str]:
    """(source, number) -> key of every unit."""
    judged = {}
    progress("filter", 0, len(scored))
    for place, receipt in run(partial(_judge_one, context), ((place, key) for place, (key, _) in scored.items())):
        judged[place] = receipt["key"]
        _add(waterfall[context.recipe.sources[place[0]].name], receipt["counts"])
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


# The waterfall


def _add(stages: dict[str, Counter[str]], counts: dict[str, dict[str, int]]) -> None:
    for stage, counted in counts.items():
        stages.setdefault(stage, Counter()).update(counted)


def _add_barriers(
    waterfall: dict[str, dict[str, Counter[str]]], receipts: dict[tuple[str, int], dict[str, Any]], last_filter: str, stages_of: list[str]
) -> None:
    """Append the barriers' stages: what came in is what the last filter let out."""
    dropped: dict[str, dict[str, Counter[str]]] = {name: {} for name in waterfall}
    renamed: Counter[str] = Counter()
    for (name, _), receipt in receipts.items():
        _add(dropped[name], receipt["counts"])
        renamed[name] += receipt["renamed"]
    for name, stages in waterfall.items():
        rows = stages.get(last_filter, Counter())["rows_out"]
        for stage in stages_of:
            counts = dropped[name].get(stage, Counter())
            drops = sum(count for counter, count in counts.items() if counter.startswith("drop."))
            stages[stage] = Counter(rows_in=rows, rows_out=rows - drops) + counts
            rows -= drops
        if renamed[name]:
            stages["identity"]["note.new_ids"] = renamed[name]


def _stage_rows(stages: dict[str, Counter[str]], order: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name in order:
        counts = stages.get(name, Counter())
        grouped: dict[str, dict[str, int]] = {"drop": {}, "error": {}, "note": {}}
        for counter, value in sorted(counts.items()):
            group, dot, word = counter.partition(".")
            if dot:
                grouped[group][word] = value
        rows.append({
            "stage": name, "rows_in": counts["rows_in"], "rows_out": counts["rows_out"],
            "joined": counts["joined"], "drop": grouped["drop"], "error": grouped["error"], "notes": grouped["note"],
        })  # fmt: skip
    return rows


def _manifest(
    recipe: CorpusRecipe,
    plan: Plan,
    waterfall: dict[str, dict[str, Counter[str]]],
    parts: dict[str, list[dict[str, Any]]],
    receipts: dict[tuple[str, int], dict[str, Any]],
) -> dict[str, Any]:
    order = ["read", "normalise", *(name for name, _ in filters(recipe)), *barriers(recipe)]
    rows = {kind: sum(part["rows"] for part in listed) for kind, listed in parts.items() if kind != "index"}
    return {
        "format": FORMAT,
        "codedev": __version__,
        "name": recipe.name,
        "seed": recipe.seed,
        "recipe_hash": content_key(_content(recipe)),
        "sources": [
            {"name": source.name, "type": source.type, "files": plan.files[source.name], "bytes_in": plan.bytes_in[source.name]}
            for source in recipe.sources
        ],
        "waterfall": {name: _stage_rows(stages, order) for name, stages in waterfall.items()},
        "totals": {
            "records": sum(stages.get("read", Counter())["rows_in"] for stages in waterfall.values()),
            **rows,
            "joined": sum(stages.get("read", Counter())["joined"] for stages in waterfall.values()),
            "bytes_in": plan.bytes,
            "text_bytes": sum(receipt["text_bytes"] for receipt in receipts.values()),
            "unknown_licence": sum(receipt["unknown_licence"] for receipt in receipts.values()),
        },
        "parts": parts,
    }


def _check_balance(manifest: dict[str, Any]) -> None:
    """Law 1. A broken balance is a bug; it must never reach a user as a corpus."""
    kept = dropped = failed = 0
    for name, stages in manifest["waterfall"].items():
        before = None
        for stage in stages:
            lost, errors = sum(stage["drop"].values()), sum(stage["error"].values())
            if stage["rows_in"] != stage["rows_out"] + stage["joined"] + lost + errors or before not in (None, stage["rows_in"]):
                raise RunError(f"{name}: stage {stage['stage']} does not balance: {stage}. This is a bug in codedev; please report it")
            before = stage["rows_out"]
            dropped, failed = dropped + lost, failed + errors
        kept += before or 0
    totals = manifest["totals"]
    if (kept, dropped, failed) != (totals["documents"], totals["dropped"], totals["errors"]):
        counted = (kept, dropped, failed)
        raise RunError(f"the parts do not hold what was counted: {counted} against {totals}. This is a bug in codedev; please report it")


def _check_expectations(recipe: CorpusRecipe, manifest: dict[str, Any]) -> None:
    totals, expect = manifest["totals"], recipe.expect
    records = max(totals["records"], 1)
    shares = [
        ("max_drop", totals["dropped"] / records),
        ("max_error", totals["errors"] / records),
        ("max_unknown_licence", totals["unknown_licence"] / max(totals["documents"], 1)),
    ]
    broken = [f"{name}: {share:.4f} > {bound}" for name, share in shares if (bound := getattr(expect, name)) is not None and share > bound]
    if expect.min_documents is not None and totals["documents"] < expect.min_documents:
        broken.append(f"min_documents: {totals['documents']} < {expect.min_documents}")
    if broken:
        raise ExpectationError(f"the corpus is complete, but it breaks the recipe's expect: {'; '.join(broken)}. See the report")


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
