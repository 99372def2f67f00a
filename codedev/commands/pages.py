"""What is taken out of a page, and learning it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from codedev._errors import printable
from codedev.commands.options import JSON, PATH, QUIET, SECONDS, print_json


@click.command("extract")
@click.argument("where", metavar="WHERE")
@click.option("--warc", metavar="FILE", default=None, help="The archive that holds the page; WHERE is then its URL.")
@click.option("--url", default=None, help="Which page of an archive; of a page alone, where it was found.")
@click.option("--offset", type=click.IntRange(0), default=None, help="The archive's record that starts at this byte; also WHERE#BYTE.")
@click.option("--record", type=click.IntRange(1), default=None, help="The archive's record with this number.")
@click.option("--blocks", is_flag=True, help="Instead of the text: every block, kept (K) or dropped (d), its score and why.")
@click.option("--only", type=click.Choice(["kept", "dropped"]), default=None, help="With --blocks or --json: of the blocks, these alone.")
@click.option("--page", "page_file", type=PATH, metavar="FILE", default=None, help="Write all of it as a page to open in a browser.")
@click.option("--extract", type=click.Choice(["main", "all"]), default="main", show_default=True, help="Main content, or all visible text.")
@click.option("--charset", metavar="LABEL", default=None, help="The charset that the transport named, where the page does not say.")
@click.option("--extractor", type=click.Choice(["codedev", "trafilatura"]), default="codedev", show_default=True, help="What extracts.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Pages of an archive that are listed.")
@click.option("--max-record-seconds", "seconds", type=SECONDS, default=30, show_default=True, help="CPU time that the page may take.")
@JSON
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
            print_json([entry._asdict() for entry in found])
            return
        terminal.show_pages(found)
        told = "its first" if len(found) == limit else "it holds"
        note(f"{told} {len(found):,} pages. See one: codedev corpus extract {printable(where)} --record {found[0].record}")
        return
    if page_file is not None:
        write_text(page_file, html.render(found))
    if as_json:
        print_json(seen.as_json(found, only))
        return
    terminal.show_facts(found)
    if blocks:
        terminal.show_blocks(found, only)
    elif page_file is not None:
        print(page_file)
    else:
        terminal.show_text(found)


@click.command("learn-extractor")
@click.option("--data", type=PATH, required=True, help="The folder of the sets of marked pages.")
@click.option("--out", type=PATH, required=True, help="The model file that is written.")
@click.option("--folds", type=click.IntRange(0), default=10, show_default=True, help="Models to score the pages by; 0 = no scores.")
@click.option("--folds-out", type=PATH, metavar="DIR", default=None, help="Keep those models too, as DIR/fold-N.npz.")
@JSON
@QUIET
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
        print_json(result)
        return
    rows = [
        [name, *(f"{score[key]:.4f}" for key in ("f1", "precision", "recall")), score["pages"]] for name, score in result["scores"].items()
    ]
    if rows:
        print_table(f"Scores of pages whose site the model did not see, {folds} folds", ["set", "F1", "precision", "recall", "pages"], rows)
    print_table("What the model asks for most", ["feature", "questions"], [list(pair.values()) for pair in result["asked"]])
    print(f"{out}: learnt from {result['blocks']:,} blocks of {sum(result['sets'].values()):,} pages")
