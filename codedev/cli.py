"""The command line: parse, call, print. Everything heavy is imported inside the commands, so that `--help` stays under 0.3 s.

Data goes to stdout, progress and notes to stderr. Exit codes: 0 done, 1 an error the user can act on (one line), 2 usage, 3 an `expect:`
of the recipe is broken, 130 interrupted.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from codedev import __version__
from codedev._errors import CodedevError, ExpectationError, printable

_PATH = click.Path(path_type=Path)
_OVERRIDES = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe; may be repeated.")
_SECONDS = click.FloatRange(0, 86_400, min_open=True)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")


class _Bytes(click.ParamType[int]):
    name = "size"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        units = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
        number = value.strip().upper().rstrip("KMGTIB")
        unit = value.strip().upper()[len(number) :].strip()
        try:
            size = int(float(number) * units[unit])
        except (ValueError, KeyError, OverflowError):
            self.fail(f"'{value}' is not a size: write 4GB or 512MiB", param, ctx)
        if size < self._least:
            self.fail(f"{value} is too little: give at least {self._least:,} bytes", param, ctx)
        return size


def main() -> None:
    """The entry point: errors a user can act on become one line and an exit code."""
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted: run the same command again to go on from here", file=sys.stderr)
        code = 130
    except CodedevError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except (BrokenPipeError, SystemExit):  # click exits where a pipe breaks, and outside its standalone mode nowhere else
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0  # the reader of our output, `head` for one, has what it wanted
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        mend = "Make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Make it writable"
        print(f"error: {printable(str(error))}. {mend} and run the same command again: finished work is kept", file=sys.stderr)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="codedev")
def cli() -> None:
    """Build corpora, tokenize them and train language models, with every loss accounted for.

    \b
    Start here:
      codedev demo                                   every stage on local data, on a CPU, in minutes
    Then, with your own data:
      codedev corpus build recipe.yaml --out corpus
      codedev tokenizer train corpus --out tokenizer
      codedev tokenize corpus --tokenizer tokenizer --out shards
      codedev train train.yaml
    """


def _print(result: Any) -> None:
    print(json.dumps(result, indent=2, ensure_ascii=False, default=str))


# -- demo and doctor ---------------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--out", type=_PATH, default=Path("demo"), show_default=True, help="Where everything is written.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes; default: one for each core, at most 8.")
def demo(out: Path, workers: int | None) -> None:
    """Every stage on bundled and local data, on a CPU, in minutes.

    Builds a corpus of the Python standard library and the bundled samples, trains a tokenizer, packs shards, trains a small model and
    generates code from it.

    \b
    Example: codedev demo --out demo
    """
    from codedev.demo import run_demo

    run_demo(out, workers or _default_workers())


@cli.command()
@click.option("--warm", is_flag=True, help="First compile every kernel that is not in the cache: a minute or two, once an installation.")
@_JSON
def doctor(warm: bool, as_json: bool) -> None:
    """What is installed, what is missing, and the command that installs it.

    \b
    Example: codedev doctor
             codedev doctor --warm
    """
    from codedev._doctor import examine, show

    if warm:
        from codedev._terminal import watch
        from codedev.kernels import names, warm_all

        with watch(quiet=as_json) as progress:
            progress("compile", 0, len(names()))
            for count, _ in enumerate(warm_all(_default_workers()), 1):
                progress("compile", count, len(names()))

    report = examine()
    if as_json:
        _print(report)
    else:
        show(report)


def _default_workers() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


# -- corpus ------------------------------------------------------------------------------------------------------------------------


@cli.group()
def corpus() -> None:
    """Build and look at corpora: raw records in, documents in Parquet out."""


@corpus.command("build")
@click.argument("recipe", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The corpus directory; an interrupted build is resumed.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes; default: one for each core, at most 8.")
@click.option("--memory", type=_Bytes(16 << 20), default="4GB", show_default=True, help="Bound on what deduplication holds in memory.")
@_OVERRIDES
@_JSON
@_QUIET
def corpus_build(recipe: Path, out: Path, workers: int | None, memory: int, overrides: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Build the corpus that RECIPE describes.

    Run it again after an interruption or a change of the recipe: only what is missing or changed is done.

    \b
    Example: codedev corpus build samples/recipes/corpus.yaml --out corpus
             codedev corpus build recipe.yaml --out corpus --set language.min_score=0.5
    """
    from codedev._run import read_json
    from codedev._terminal import note, print_waterfall, watch
    from codedev.corpus import recipe as recipes
    from codedev.corpus.build import build

    loaded = recipes.load(recipe, overrides)
    broken: ExpectationError | None = None
    try:
        with watch(quiet=quiet or as_json) as progress:
            manifest = build(
                loaded, recipe.resolve().parent, out, workers=workers or _default_workers(), memory=memory, progress=progress, isolated=True
            )
    except ExpectationError as error:  # the corpus is complete: show it, then say what is broken
        broken, manifest = error, read_json(out / "manifest.json")
    if as_json:
        _print(manifest)
    else:
        print_waterfall(manifest)
        for name, stages in manifest["waterfall"].items():
            if not stages or not stages[-1]["rows_out"]:
                note(f"source {name} gave no document: see codedev corpus inspect {out} --source {name} --errors, or --dropped any")
        note(f"report: {out / 'report' / 'index.html'}")
    if broken:
        raise broken


@corpus.command("read")
@click.argument("source_type", metavar="TYPE")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--limit", type=click.IntRange(0), default=3, show_default=True, help="How many documents; 0 = all.")
@click.option("--dropped", is_flag=True, help="Instead: records that became no document, and why.")
@_OVERRIDES
@_JSON
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


@corpus.command("dedup")
@click.argument("paths", type=_PATH, nargs=-1, required=True, metavar="PARQUET...")
@click.option("--out", type=_PATH, required=True, help="Folder for the files without their duplicates; an interrupted run is resumed.")
@click.option("--text-column", default="text", show_default=True, help="The column that is compared.")
@click.option("--id-column", default=None, help="The column that names a row in the evidence; default: file and row number.")
@click.option(
    "--kind", type=click.Choice(["web", "code"]), default="web", show_default=True, help="Prose, or code, whose tokens are compared."
)
@click.option("--exact", "exact_only", is_flag=True, help="Exact duplicates alone.")
@click.option("--verify", type=click.FloatRange(0, 1, min_open=True), default=0.8, show_default=True, help="Least Jaccard similarity.")
@click.option("--bands", type=click.IntRange(1, 256), default=14, show_default=True, help="Bands of the sketch.")
@click.option("--rows", type=click.IntRange(1, 64), default=8, show_default=True, help="Rows of a band.")
@click.option("--keep", multiple=True, metavar="CRITERION", help="Which one stays: newest, oldest, longest, shortest; may be repeated.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes; default: one for each core, at most 8.")
@click.option("--memory", type=_Bytes(16 << 20), default="4GB", show_default=True, help="Bound on what deduplication holds in memory.")
@_JSON
@_QUIET
def corpus_dedup(
    paths: tuple[Path, ...],
    out: Path,
    text_column: str,
    id_column: str | None,
    kind: str,
    exact_only: bool,
    verify: float,
    bands: int,
    rows: int,
    keep: tuple[str, ...],
    workers: int | None,
    memory: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Take exact and near duplicates out of anybody's Parquet files; the other rows keep all their columns.

    A row is dropped only when it is as like as --verify to one that stays. OUT/duplicates.parquet says which row went, for which, and why.

    \b
    Example: codedev corpus dedup data/*.parquet --out clean
             codedev corpus dedup part.parquet --out clean --text-column body --verify 0.9 --keep longest
    """
    from codedev._terminal import note, watch
    from codedev.corpus.dedup_files import dedup_files

    minhash = None if exact_only else {"verify": verify, "bands": bands, "rows": rows, "keep": list(keep)}
    with watch(quiet=quiet or as_json) as progress:
        report = dedup_files(
            paths,
            out,
            text=text_column,
            id_column=id_column,
            kind=kind,
            minhash=minhash,
            workers=workers or _default_workers(),
            memory=memory,
            progress=progress,
        )
    if as_json:
        _print(report)
        return
    for reason, count in report["dropped"].items():
        print(f"{count:>12,}  {reason.replace('_', ' ')}")
    print(f"{report['kept']:>12,}  rows kept of {report['rows']:,}")
    note(f"what went, and for what: {printable(str(out / 'duplicates.parquet'))}")


@corpus.group("langid")
def corpus_langid() -> None:
    """Language identification: learn a model of your own."""


@corpus_langid.command("train")
@click.argument("data", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The fastText model to write, FILE.ftz.")
@click.option("--dim", type=click.IntRange(2, 256), default=32, show_default=True, help="Dimensions of a word.")
@click.option("--steps", type=click.IntRange(1), default=1_000_000, show_default=True, help="Lines learnt from.")
@click.option("--rows", type=click.IntRange(100), default=60_000, show_default=True, help="Rows of the table of character n-grams.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of lines.")
@_JSON
def corpus_langid_train(data: Path, out: Path, dim: int, steps: int, rows: int, seed: int, as_json: bool) -> None:
    """Learn languages from the texts in DATA: UDHR, Tatoeba, bibles, or files named TAG.txt.

    The model works in any recipe (`language: {model: FILE.ftz}`) and in the fastText package.

    \b
    Example: codedev corpus langid train texts --out mine.ftz
    """
    from codedev.corpus.language.train import train_identifier

    trained = train_identifier(data, out, dim, steps, rows, seed=seed)
    if as_json:
        _print(trained._asdict())
    else:
        right = sum(trained.held_out.values()) / max(len(trained.held_out), 1)
        print(f"{trained.labels:,} languages in {trained.size / 1e6:.1f} MB; {right:.1%} of held-out lines told right")


@corpus.group("quality")
def corpus_quality() -> None:
    """Learned quality: classifiers and n-gram models of your own."""


@corpus_quality.command("train")
@click.argument("recipe", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="Folder for the model and the JSON of how it was made.")
@_OVERRIDES
@_JSON
def corpus_quality_train(recipe: Path, out: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Fit a classifier of good documents, or an n-gram model for perplexity, and say what it achieves on documents it has not seen.

    RECIPE names a `classifier` with positive and negative documents, or a `perplexity` with texts. The classifier is a fastText file.

    \b
    Example: codedev corpus quality train good-against-crawl.yaml --out models
    """
    from codedev.corpus.learned.train import shown, train

    facts = train(recipe, out, overrides)
    if as_json:
        _print(facts)
    else:
        print(shown(facts))


@corpus.command("extract")
@click.argument("where", metavar="WHERE")
@click.option("--warc", metavar="FILE", default=None, help="The archive that holds the page; WHERE is then its URL.")
@click.option("--url", default=None, help="Which page of an archive; of a page alone, where it was found.")
@click.option("--offset", type=click.IntRange(0), default=None, help="The archive's record that starts at this byte; also WHERE#BYTE.")
@click.option("--record", type=click.IntRange(1), default=None, help="The archive's record with this number.")
@click.option("--blocks", is_flag=True, help="Instead of the text: every block, kept (K) or dropped (d), its score and why.")
@click.option("--only", type=click.Choice(["kept", "dropped"]), default=None, help="With --blocks or --json: of the blocks, these alone.")
@click.option("--page", "page_file", type=_PATH, metavar="FILE", default=None, help="Write all of it as a page to open in a browser.")
@click.option("--extract", type=click.Choice(["main", "all"]), default="main", show_default=True, help="Main content, or all visible text.")
@click.option("--charset", metavar="LABEL", default=None, help="The charset that the transport named, where the page does not say.")
@click.option("--extractor", type=click.Choice(["codedev", "trafilatura"]), default="codedev", show_default=True, help="What extracts.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Pages of an archive that are listed.")
@click.option("--max-record-seconds", "seconds", type=_SECONDS, default=30, show_default=True, help="CPU time that the page may take.")
@_JSON
def corpus_extract(
    where: str,
    warc: str | None,
    url: str | None,
    offset: int | None,
    record: int | None,
    blocks: bool,
    only: Any,
    page_file: Path | None,
    extract: Any,
    charset: str | None,
    extractor: Any,
    limit: int,
    seconds: float,
    as_json: bool,
) -> None:
    """See what is taken out of one page: its text as Markdown on stdout, what it says of itself on stderr.

    WHERE is a file of HTML, its URL, `-` for standard input, or a WARC or ARC archive, each compressed or not. An archive without --url,
    --offset or --record lists its first pages.

    \b
    Example: codedev corpus extract page.html > page.md
             codedev corpus extract page.html --blocks --only dropped
             codedev corpus extract crawl.warc.gz --url https://example.org/ --page why.html
             codedev corpus extract https://example.org/ --warc crawl.warc.gz
    """
    from codedev._run import write_text
    from codedev._terminal import note
    from codedev.corpus.extract.charset import known
    from codedev.corpus.page import apart, html, seen, terminal

    if charset and not known(charset):
        raise click.UsageError(
            f"--charset {printable(charset)}: no charset of the web goes by this name; write utf-8, windows-1252 or shift_jis"
        )
    if extractor != "codedev" and blocks:
        raise click.UsageError(f"--blocks goes with codedev's extractor: {extractor} names no blocks")
    if extractor != "codedev" and extract != "main":
        raise click.UsageError(
            f"--extractor {extractor} gives main content alone: leave out --extract {extract}, or --extractor {extractor}"
        )
    if page_file is not None and page_file.is_dir():
        raise click.UsageError(f"--page {printable(str(page_file))}: is a folder; give the file to write")
    if not seconds > 0:  # NaN is no less than 0
        raise click.UsageError("--max-record-seconds: give a number of seconds")
    if only and not (blocks or as_json):
        raise click.UsageError(f"--only {only} goes with --blocks or --json")
    if warc is not None:
        if url is not None:
            raise click.UsageError("with --warc, WHERE is the URL: leave out --url")
        where, url = warc, where
    where, offset = seen.with_offset(where, offset)
    wanted = seen.Wanted(url, offset, record)
    if sum(one is not None for one in (wanted.url, offset, record)) > 1:
        raise click.UsageError("--url, --offset and --record each name a page: give one of them")
    explained = blocks or as_json or page_file is not None
    found = apart.see(apart.Asked(where, wanted, limit, extract, charset, extractor, explained, seconds))
    if isinstance(found, list):
        if as_json:
            _print([entry._asdict() for entry in found])
            return
        terminal.show_pages(found)
        told = "its first" if len(found) == limit else "it holds"
        note(f"{told} {len(found):,} pages. See one: codedev corpus extract {printable(where)} --record {found[0].record}")
        return
    if page_file is not None:
        write_text(page_file, html.render(found))
    if as_json:
        _print(seen.as_json(found, only))
        return
    terminal.show_facts(found)
    if blocks:
        terminal.show_blocks(found, only)
    elif page_file is not None:
        print(page_file)
    else:
        terminal.show_text(found)


@corpus.command("learn-extractor")
@click.option("--data", type=_PATH, required=True, help="The folder of the sets of marked pages.")
@click.option("--out", type=_PATH, required=True, help="The model file that is written.")
@click.option("--folds", type=click.IntRange(0), default=10, show_default=True, help="Models to score the pages by; 0 = no scores.")
@click.option("--folds-out", type=_PATH, metavar="DIR", default=None, help="Keep those models too, as DIR/fold-N.npz.")
@_JSON
@_QUIET
def corpus_learn_extractor(data: Path, out: Path, folds: int, folds_out: Path | None, as_json: bool, quiet: bool) -> None:
    """Learn again which blocks of a page are its content, from pages that people marked.

    The same pages give the same file. Each page is scored by a model that saw no page of its site.

    \b
    Example: codedev corpus learn-extractor --data .data/web --out content_model.npz
    """
    from codedev._terminal import print_table, watch
    from codedev.corpus.page.learn import learn

    if folds == 1 or (folds_out is not None and not folds):
        raise click.UsageError("--folds 1 leaves no page to learn from: give 0, or 2 and more" if folds else "--folds-out needs --folds")
    with watch(quiet=quiet or as_json) as progress:
        result = learn(data, out, folds, folds_out, progress)
    if as_json:
        _print(result)
        return
    rows = [
        [name, *(f"{score[key]:.4f}" for key in ("f1", "precision", "recall")), score["pages"]] for name, score in result["scores"].items()
    ]
    if rows:
        print_table(f"Scores of pages whose site the model did not see, {folds} folds", ["set", "F1", "precision", "recall", "pages"], rows)
    print_table("What the model asks for most", ["feature", "questions"], [list(pair.values()) for pair in result["asked"]])
    print(f"{out}: learnt from {result['blocks']:,} blocks of {sum(result['sets'].values()):,} pages")


@corpus.command("report")
@click.argument("directory", type=_PATH)
@_JSON
def corpus_report(directory: Path, as_json: bool) -> None:
    """Write the data-quality report of a corpus: HTML, JSON and Markdown under DIRECTORY/report.

    \b
    Example: codedev corpus report corpus
    """
    from codedev.corpus.report import report_data, write_report

    path = write_report(directory)
    if as_json:
        _print(report_data(directory))
    else:
        print(path)


@corpus.command("inspect")
@click.argument("directory", type=_PATH)
@click.option("--dropped", metavar="REASON", default=None, help="Dropped documents with this reason ('any' for all) instead of kept ones.")
@click.option("--errors", is_flag=True, help="Records that could not be read.")
@click.option("--source", default=None, help="Only this source.")
@click.option("--id", "document_id", default=None, help="Only the document with this id, kept or dropped, with its whole text.")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="How many rows.")
@_JSON
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
        _print(rows)
    else:
        show(rows, whole=document_id is not None)


@corpus.command("diff")
@click.argument("directory_a", type=_PATH)
@click.argument("directory_b", type=_PATH)
@_JSON
def corpus_diff(directory_a: Path, directory_b: Path, as_json: bool) -> None:
    """What changed between two corpora: documents added, removed and rewritten, by source and reason.

    \b
    Example: codedev corpus diff corpus-v1 corpus-v2
    """
    from codedev._terminal import print_table
    from codedev.corpus.look import compare

    result = compare(directory_a, directory_b)
    if as_json:
        _print(result)
        return
    columns = ["source", "in both", "rewritten", "only in A", "only in B"]
    print_table(f"A = {directory_a}, B = {directory_b}", columns, [list(row.values()) for row in result["sources"]])
    if result["reasons"]:
        print_table("Drops and errors", ["source", "stage", "reason", "A", "B"], [list(row.values()) for row in result["reasons"]])


# -- tokens ------------------------------------------------------------------------------------------------------------------------


@cli.group()
def tokenizer() -> None:
    """Train tokenizers."""


@tokenizer.command("train")
@click.argument("corpus_directory", metavar="CORPUS", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The tokenizer directory.")
@click.option("--vocab-size", type=click.IntRange(300), default=65_536, show_default=True, help="Tokens, special ones included.")
@click.option("--preset", default="u7", show_default=True, help="Pretokenization: u7, gpt2, cl100k, qwen or llama3.")
@click.option("--special-slots", type=click.IntRange(0), default=256, show_default=True, help="Ids reserved for special tokens.")
@click.option("--sample-bytes", type=_Bytes(), default="1GB", show_default=True, help="At most this much text is learned from.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which documents a sample takes.")
@_JSON
@_QUIET
def tokenizer_train(
    corpus_directory: Path,
    out: Path,
    vocab_size: int,
    preset: str,
    special_slots: int,
    sample_bytes: int,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a byte-level BPE tokenizer on the documents of CORPUS.

    \b
    Example: codedev tokenizer train corpus --out tokenizer --vocab-size 32768
    """
    from codedev._terminal import watch
    from codedev.tokenize.train import train_tokenizer

    with watch(quiet=quiet or as_json) as progress:
        result = train_tokenizer(
            corpus_directory,
            out,
            vocab_size=vocab_size,
            preset=preset,
            special_slots=special_slots,
            sample_bytes=sample_bytes,
            seed=seed,
            progress=progress,
        )
    if as_json:
        _print(result)
    else:
        print(f"{out}: {result['vocab_size']:,} tokens, {result['bytes_per_token']:.3f} bytes a token on its sample")


@cli.command("tokenize")
@click.argument("corpus_directory", metavar="CORPUS", type=_PATH)
@click.option("--tokenizer", "tokenizer_path", type=_PATH, required=True, help="A tokenizer directory or tokenizer.json.")
@click.option("--out", type=_PATH, required=True, help="The shard directory; an interrupted run is resumed.")
@click.option("--seq-len", type=click.IntRange(8), default=2048, show_default=True, help="Tokens of a row.")
@click.option("--overlong", type=click.Choice(["split", "truncate", "drop"]), default="split", show_default=True, help="Longer documents.")
@click.option("--holdout", type=click.FloatRange(0, 0.5), default=0.0, show_default=True, help="Share of documents kept for evaluation.")
@click.option("--eos", default=None, metavar="TOKEN", help="The end-of-document token, where the tokenizer does not name it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the shuffle.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Encoding threads; default: all cores.")
@_JSON
@_QUIET
def tokenize_command(
    corpus_directory: Path,
    tokenizer_path: Path,
    out: Path,
    seq_len: int,
    overlong: str,
    holdout: float,
    eos: str | None,
    seed: int,
    workers: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Encode CORPUS and pack it into shards: memory-mapped rows of whole documents, each token traceable to its raw bytes.

    \b
    Example: codedev tokenize corpus --tokenizer tokenizer --out shards --seq-len 2048 --holdout 0.01
    """
    from codedev._terminal import print_tokens, watch
    from codedev.tokenize.build import tokenize_corpus

    with watch(quiet=quiet or as_json) as progress:
        result = tokenize_corpus(
            corpus_directory,
            tokenizer_path,
            out,
            seq_len=seq_len,
            overlong=overlong,  # type: ignore[arg-type]  # one of the three, by click.Choice
            holdout=holdout,
            eos=eos,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    if as_json:
        _print(result)
    else:
        print_tokens(str(out), result)


@cli.command()
@click.argument("shards", type=_PATH)
@click.argument("row", type=click.IntRange(0))
@click.argument("token", type=click.IntRange(0), required=False)
@click.option("--corpus", "corpus_directory", type=_PATH, default=None, help="Where the corpus is now, if it has moved.")
@click.option("--base", type=_PATH, default=None, help="Where the corpus recipe's folder is now, if it has moved.")
@_JSON
def trace(shards: Path, row: int, token: int | None, corpus_directory: Path | None, base: Path | None, as_json: bool) -> None:
    """From a token of SHARDS back to its document and the raw bytes it came from; without TOKEN, the documents of the row.

    \b
    Example: codedev trace shards 12 345
    """
    from codedev.tokenize.show import show
    from codedev.tokenize.trace import trace as follow

    result = follow(shards, row, token, corpus_directory, base)
    if as_json:
        _print(result)
    else:
        show(result)


# -- models ------------------------------------------------------------------------------------------------------------------------


@cli.command("train")
@click.argument("recipe", type=_PATH)
@_OVERRIDES
@_JSON
@_QUIET
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
        _print(result)
    else:
        for name, value in result.items():
            print(f"{name:<28} {value}")


@cli.command()
@click.argument("model", type=_PATH)
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
