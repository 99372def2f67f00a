"""Build corpora and look at them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from codedev._errors import ExpectationError, printable
from codedev.commands.options import JSON, MEMORY, OVERRIDES, PATH, QUIET, WORKERS, default_workers, print_json


@click.group()
def corpus() -> None:
    """Build and look at corpora: raw records in, documents in Parquet out."""


@corpus.command("build")
@click.argument("recipe", type=PATH)
@click.option("--out", type=PATH, required=True, help="The corpus directory; an interrupted build is resumed.")
@WORKERS
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="What runs the workers.")
@click.option(
    "--ray-address", default="auto", show_default=True, metavar="HOST:PORT", help="With --engine ray: the cluster; auto: this machine's."
)
@MEMORY
@OVERRIDES
@JSON
@QUIET
def corpus_build(
    recipe: Path,
    out: Path,
    workers: int | None,
    engine: str,
    ray_address: str,
    memory: int,
    overrides: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Build the corpus that RECIPE describes.

    Run it again after an interruption or a change of the recipe: only what is missing or changed is done.

    \b
    Example: codedev corpus build samples/recipes/corpus.yaml --out corpus
             codedev corpus build recipe.yaml --out corpus --set language.min_score=0.5
             codedev corpus build recipe.yaml --out /shared/corpus --engine ray --ray-address head:6379
    """
    from codedev._terminal import compiling, watch

    click.get_current_context().with_resource(compiling(quiet=quiet or as_json))  # the imports compile too
    from codedev.corpus import recipe as recipes
    from codedev.corpus.build import build

    loaded = recipes.load(recipe, overrides)

    def run() -> dict[str, Any]:
        with watch(quiet=quiet or as_json) as progress:
            return build(
                loaded,
                recipe.resolve().parent,
                out,
                workers=workers or (0 if engine == "ray" else default_workers()),
                memory=memory,
                ray=ray_address if engine == "ray" else None,
                progress=progress,
                isolated=True,
            )

    show_build(out, run, as_json=as_json)


def show_build(out: Path, run: Callable[[], dict[str, Any]], *, as_json: bool) -> None:
    """Run a build and print what came of it, also when it breaks the recipe's `expect`. One that returns nothing prints nothing."""
    from codedev._run import read_json
    from codedev._terminal import note, print_waterfall
    from codedev.corpus.report.alarms import lines

    broken: ExpectationError | None = None
    try:
        manifest = run()
    except ExpectationError as error:  # the corpus is complete: show it, then say what is broken
        broken, manifest = error, read_json(out / "manifest.json")
    if not manifest:
        return
    if as_json:
        print_json(manifest)
    else:
        print_waterfall(manifest)
        for name, stages in manifest["waterfall"].items():
            if not stages or not stages[-1]["rows_out"]:
                note(f"source {name} gave no document: see codedev corpus inspect {out} --source {name} --errors, or --dropped any")
        for line in lines(read_json(out / "report" / "report.json")["alarms"], out):
            note(line)
        note(f"report: {out / 'report' / 'index.html'}")
    if broken:
        raise broken


@corpus.command("status")
@click.argument("directory", type=PATH)
@click.option("--prometheus", is_flag=True, help="As Prometheus reads it, for its collector of text files.")
@JSON
def corpus_status(directory: Path, prometheus: bool, as_json: bool) -> None:
    """Where the build of the corpus DIRECTORY stands: one that goes on, was stopped, or is done.

    \b
    Example: codedev corpus status corpus
             codedev corpus status corpus --prometheus > /var/lib/node_exporter/codedev.prom
    """
    from codedev.corpus.status import metrics, show, status

    told = status(directory)
    if prometheus:
        print(metrics(told), end="")
    elif as_json:
        print_json(told)
    else:
        show(told)


@corpus.command("read")
@click.argument("source_type", metavar="TYPE")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--limit", type=click.IntRange(0), default=3, show_default=True, help="How many documents; 0 = all.")
@click.option("--dropped", is_flag=True, help="Instead: records that became no document, and why.")
@OVERRIDES
@JSON
def corpus_read(source_type: str, paths: tuple[str, ...], limit: int, dropped: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """See what a source makes of files, without a recipe: TYPE is web, reddit, books, arxiv, stackexchange, code, protein or tables.

    With --json, one document a line. Keys of the source are set with --set.

    \b
    Example: codedev corpus read books moby-dick.epub --limit 1
             codedev corpus read reddit RC_2019-10.zst --set mode=threads --limit 0 --json > threads.jsonl
    """
    from codedev._terminal import note
    from codedev.corpus.look import show
    from codedev.corpus.preview import Preview, source_of

    preview = Preview(source_of(source_type, paths, overrides), Path.cwd())
    shown = 0
    first_loss = ""
    for row in preview.rows():
        if (row["part"] == "documents") == dropped:
            if row["part"] != "documents" and not first_loss:
                first_loss = row.get("message") or f"{row['reason']} {row.get('evidence') or ''}"
            continue
        if as_json:
            print(json.dumps(row, ensure_ascii=False, default=str))
        else:
            show([row], whole=False)
        shown += 1
        if shown == limit:
            note(f"the first {limit}; --limit 0 shows all, --dropped what became no document")
            return
    if not shown and first_loss:
        note(f"no documents: {printable(first_loss)}. --dropped shows every record that became none")
    words = {"rows_in": "records", "rows_out": "documents"}
    note(", ".join(f"{words.get(name, name).replace('.', ' ')} {count:,}" for name, count in preview.counts.items()) or "no records")


@corpus.command("report")
@click.argument("directory", type=PATH)
@JSON
def corpus_report(directory: Path, as_json: bool) -> None:
    """Write the data-quality report of a corpus: HTML, JSON and Markdown under DIRECTORY/report.

    \b
    Example: codedev corpus report corpus
    """
    from codedev._run import read_json
    from codedev._terminal import note
    from codedev.corpus.report import report_data, write_report
    from codedev.corpus.report.alarms import lines

    path = write_report(directory)
    if as_json:
        print_json(report_data(directory))
    else:
        for line in lines(read_json(path.with_name("report.json"))["alarms"], directory):
            note(line)
        print(path)


@corpus.command("inspect")
@click.argument("directory", type=PATH)
@click.option("--dropped", metavar="REASON", default=None, help="Dropped documents with this reason ('any' for all) instead of kept ones.")
@click.option("--errors", is_flag=True, help="Records that could not be read.")
@click.option("--source", default=None, help="Only this source.")
@click.option("--id", "document_id", default=None, help="Only the document with this id, kept or dropped, with its whole text.")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="How many rows.")
@JSON
def corpus_inspect(
    directory: Path, dropped: str | None, errors: bool, source: str | None, document_id: str | None, limit: int, as_json: bool
) -> None:
    """Look at documents of a corpus: kept ones, dropped ones with their reason and evidence, or errors.

    \b
    Example: codedev corpus inspect corpus --dropped too_few_words --limit 3
    """
    from codedev.corpus.look import look, show

    if errors and (dropped is not None or document_id is not None):
        raise click.UsageError("--errors goes with neither --dropped nor --id: a record that could not be read has no id and no reason")
    rows = look(directory, dropped=dropped, errors=errors, source=source, document_id=document_id, limit=limit)
    if as_json:
        print_json(rows)
    else:
        show(rows, whole=document_id is not None)


@corpus.command("remove")
@click.argument("directory", metavar="CORPUS", type=PATH)
@click.option("--ids", "ids_file", type=PATH, required=True, help="The ids, one a line; Parquet or CSV: the column id; - = standard input.")
@click.option(
    "--shards", multiple=True, type=PATH, help="Shards or tables made from CORPUS, to be brought up to date too; may be given again."
)
@click.option(
    "--shards-mode",
    type=click.Choice(["mask", "repack"]),
    default="mask",
    show_default=True,
    help="mask: rows stay, removed tokens become padding without loss; repack: rows concerned are packed anew.",
)
@click.option("--missing-ok", is_flag=True, help="Pass over ids that CORPUS does not have; else nothing is done.")
@click.option("--duplicates", is_flag=True, help="Also erase dropped documents that lost to one of these, whose text is theirs or near it.")
@click.option("--out", type=PATH, default=None, help="Leave CORPUS as it is and write what is left here. Default: in place.")
@JSON
@QUIET
def corpus_remove(
    directory: Path,
    ids_file: Path,
    shards: tuple[Path, ...],
    shards_mode: str,
    missing_ok: bool,
    duplicates: bool,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Take documents out of a finished corpus, and of shards made from it: their text is left in neither.

    Run it again after an interruption. A later build in CORPUS keeps them out.

    \b
    Example: codedev corpus remove corpus --ids withdrawn.txt --shards shards
    """
    from codedev._errors import InputError
    from codedev._terminal import note, watch
    from codedev.corpus.remove import copy_corpus, finish_removal, read_ids, remove_documents
    from codedev.tokenize.remove import check_shards, remove_from_shards

    ids = read_ids(ids_file)
    with watch(quiet=quiet or as_json) as progress:
        if out is not None:
            copy_corpus(directory, out)
            directory = out
        elif not directory.is_dir():
            raise InputError(f"{directory}: there is no such corpus directory")
        finish_removal(directory)
        for one in shards:  # before anything is changed
            check_shards(one, directory)
        result = remove_documents(directory, ids, missing_ok=missing_ok, duplicates=duplicates, progress=progress)
        result["shards"] = [remove_from_shards(one, directory, mode=shards_mode, progress=progress) for one in shards]
    if as_json:
        print_json(result)
        return
    counts = result["removed"], result["already"], len(result["unknown"])
    print("{}: {:,} documents removed, {:,} ids removed before, {:,} unknown".format(directory, *counts))
    for name in result["unknown"][:10]:
        note(f"unknown: {printable(name)}")
    if result["receipt"]:
        note(f"receipt: {result['receipt']}")
    if result["duplicates"]:
        named = ", ".join(printable(name) for name in result["duplicates"][:3])
        note(f"{len(result['duplicates']):,} dropped documents lost to a removed one and are still under dropped/: {named}, …")
        note("--duplicates erases them")
    for told in result["shards"]:
        print(f"{told['path']}: {told['tokens']:,} tokens of {told['rows']:,} rows removed, {told['files']:,} files written")
        for export in told["stale"]:
            note(f"{export}: was exported before the removal; export again")


@corpus.command("contamination")
@click.argument("corpus", type=PATH)
@click.option(
    "--against", "tasks", multiple=True, required=True, type=PATH, help="A file or folder of questions: a task; may be given again."
)
@click.option(
    "--columns", multiple=True, metavar="MEANING=KEY", help="Which key of a row is its question, choices, answer, passage, id or group."
)
@click.option("--min-overlap", type=click.FloatRange(0.5, 1), default=0.8, show_default=True, help="Of a question of 32 words or more.")
@click.option("--out", type=PATH, default=None, help="A folder for every match with its evidence: Parquet and JSON.")
@WORKERS
@JSON
@QUIET
def corpus_contamination(
    corpus: Path,
    tasks: tuple[Path, ...],
    columns: tuple[str, ...],
    min_overlap: float,
    out: Path | None,
    workers: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Which questions of evaluation sets stand in documents of CORPUS: a corpus directory, or Parquet files with a column `text`.

    Files are read in the layouts of MMLU, CMMLU, AGIEval, GSM8K, MATH, CMath, HumanEval, MBPP and MultiPL-E; --columns names others.

    \b
    Example: codedev corpus contamination corpus --against human-eval/data --against gsm8k/test.jsonl --out seen
             codedev corpus contamination part.parquet --against mine.csv --columns question=prompt --columns answer=key
    """
    from codedev._terminal import compiling, note, watch

    click.get_current_context().with_resource(compiling(quiet=quiet or as_json))
    from codedev.corpus.contamination.search import seen_questions, show

    pairs = [one.partition("=") for one in columns]
    if wrong := next((one for one, pair in zip(columns, pairs, strict=True) if not pair[1]), None):
        raise click.UsageError(f"--columns {wrong}: write MEANING=KEY, as in question=prompt")
    with watch(quiet=quiet or as_json) as progress:
        mapped = {meaning: key for meaning, _, key in pairs}
        threads = workers or default_workers()
        found = seen_questions(corpus, tasks, columns=mapped, min_overlap=min_overlap, out=out, threads=threads, progress=progress)
    if as_json:
        print_json(found.as_dict())
    else:
        show(found)
        if out:
            note(f"every match with its evidence: {out / 'documents.parquet'}")


@corpus.command("diff")
@click.argument("directory_a", type=PATH)
@click.argument("directory_b", type=PATH)
@JSON
def corpus_diff(directory_a: Path, directory_b: Path, as_json: bool) -> None:
    """What changed between two corpora: keys of the recipe; documents added, removed and rewritten, by source and reason.

    Build into two directories, or copy the first one, before you build again: a second build over it replaces it.

    \b
    Example: codedev corpus diff corpus-v1 corpus-v2
    """
    from codedev._terminal import print_table
    from codedev.corpus.look import compare, recipe_rows

    result = compare(directory_a, directory_b)
    if as_json:
        print_json(result)
        return
    if result["recipe"]:
        print_table("Recipe", ["key", "A", "B"], recipe_rows(result["recipe"]))
    else:
        print("Recipe: the same")
    columns = ["source", "in both", "rewritten", "only in A", "only in B"]
    print_table(f"A = {directory_a}, B = {directory_b}", columns, [list(row.values()) for row in result["sources"]])
    if result["reasons"]:
        print_table("Drops and errors", ["source", "stage", "reason", "A", "B"], [list(row.values()) for row in result["reasons"]])
