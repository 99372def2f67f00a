"""Duplicates in Parquet files of anybody."""

from __future__ import annotations

from pathlib import Path

import click

from codedev._errors import InputError, printable
from codedev.commands.options import JSON, MEMORY, PATH, QUIET, WORKERS, default_workers, print_json


@click.command("dedup")
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PARQUET...")
@click.option("--out", type=PATH, required=True, help="Folder for the files without their duplicates; an interrupted run is resumed.")
@click.option("--text-column", default="text", show_default=True, help="The column that is compared.")
@click.option("--id-column", default=None, help="The column that names a row in the evidence; default: file and row number.")
@click.option("--created-column", default=None, help="The column of times, for --keep; default: created, created_at, date or timestamp.")
@click.option(
    "--kind", type=click.Choice(["web", "code"]), default="web", show_default=True, help="Prose, or code, whose tokens are compared."
)
@click.option("--exact", "exact_only", is_flag=True, help="Exact duplicates alone.")
@click.option("--verify", type=click.FloatRange(0, 1, min_open=True), default=0.8, show_default=True, help="Least Jaccard similarity.")
@click.option("--bands", type=click.IntRange(1, 256), default=14, show_default=True, help="Bands of the sketch.")
@click.option("--rows", type=click.IntRange(1, 64), default=8, show_default=True, help="Rows of a band.")
@click.option("--keep", multiple=True, metavar="CRITERION", help="Which one stays: newest, oldest, longest, shortest; may be repeated.")
@click.option("--against", type=PATH, multiple=True, metavar="DIR", help="What an earlier OUT or a corpus holds goes too; may be repeated.")
@WORKERS
@MEMORY
@JSON
@QUIET
def corpus_dedup(
    paths: tuple[Path, ...],
    out: Path,
    text_column: str,
    id_column: str | None,
    created_column: str | None,
    kind: str,
    exact_only: bool,
    verify: float,
    bands: int,
    rows: int,
    keep: tuple[str, ...],
    against: tuple[Path, ...],
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
             codedev corpus dedup february/*.parquet --out clean-february --against clean-january
    """
    from codedev._terminal import note, watch
    from codedev.corpus.dedup_files import dedup_files

    minhash = None if exact_only else {"verify": verify, "bands": bands, "rows": rows, "keep": list(keep)}
    try:
        with watch(quiet=quiet or as_json) as progress:
            report = dedup_files(
                paths,
                out,
                text=text_column,
                id_column=id_column,
                created_column=created_column,
                kind=kind,
                minhash=minhash,
                against=against,
                workers=workers or default_workers(),
                memory=memory,
                progress=progress,
            )
    except InputError as error:
        raise InputError(str(error).replace("dedup.minhash.keep:", "--keep:")) from None  # as it was asked for here
    if as_json:
        print_json(report)
        return
    for reason, count in report["dropped"].items():
        print(f"{count:>12,}  {reason.replace('_', ' ')}")
    print(f"{report['kept']:>12,}  rows kept of {report['rows']:,}")
    if report["without_text"]:
        note(f"{report['without_text']:,} rows have no text in '{text_column}': they were compared with nothing, and kept")
    if report["unread"]:
        reasons = "; ".join(map(printable, report["first_errors"]))
        note(f"{report['unread']:,} rows could not be read as documents: they were compared with nothing, and kept ({reasons})")
    if report.get("without_created"):
        note(f"{report['without_created']:,} rows have no time that can be read: of duplicates they stay only where none has one")
    note(f"what went, and for what: {printable(str(out / 'duplicates.parquet'))}")
