"""People judge a model's answers."""

from __future__ import annotations

from pathlib import Path

import click

from codedev.commands.options import JSON, PATH, print_json

DB = click.option(
    "--db",
    default="feedback.sqlite",
    show_default=True,
    metavar="FILE|URI",
    help="Where judgements are kept: an SQLite file, or postgresql://… with ${NAME} from the environment.",
)


@click.group()
def feedback() -> None:
    """People compare or rate a model's answers on a local page; what they say becomes tables to train on."""


@feedback.command()
@click.argument("answers", nargs=-1, type=PATH)
@DB
@click.option(
    "--kind",
    type=click.Choice(["auto", "compare", "rate"]),
    default="auto",
    show_default=True,
    help="auto: compare where a prompt has several answers, else rate.",
)
@click.option(
    "--pairs", type=click.IntRange(1), default=1, show_default=True, help="Of each prompt compare at most so many pairs of answers."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets others in your network judge who have the address.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@click.option("--token", default=None, help="Of the address; default: a new one each time.", envvar="CODEDEV_FEEDBACK_TOKEN")
def serve(answers: tuple[Path, ...], db: str, kind: str, pairs: int, host: str, port: int, token: str | None) -> None:
    """Show ANSWERS (JSON Lines of prompt and answers) on a page where people judge them; stop with Ctrl-C, and go on whenever.

    \b
    Example: codedev feedback serve answers.jsonl --db feedback.sqlite
    where answers.jsonl has lines such as {"prompt": "…", "answers": ["…", "…"], "model": "…"}
    """
    from codedev._errors import InputError
    from codedev._terminal import note
    from codedev.feedback.server import serve as serve_page
    from codedev.feedback.store import Store
    from codedev.feedback.tasks import read_tasks

    if token is not None and len(token) < 8:
        raise InputError("--token: is shorter than 8 characters, anybody could guess it. Leave it out, and one is made")
    store = Store(db)
    try:
        added = store.add(read_tasks(answers, kind, pairs))  # type: ignore[arg-type]  # click has checked it
        total, raters = store.counts()
        if not total:
            raise InputError(f"{db}: has nothing to judge. Give files of answers: codedev feedback serve answers.jsonl")
        judged = sum(of["judged"] for of in raters.values())
        note(f"{total:,} task{'s' * (total != 1)} in {store.where}, {added:,} of them new; {judged:,} judgements so far")
        if host not in ("127.0.0.1", "localhost", "::1"):
            note("the page is open to your network, unencrypted: whoever has the address can judge")

        def ready(address: str) -> None:
            print(address, flush=True)
            note("open that address; Ctrl-C stops, and nothing is lost")

        serve_page(store, host, port, token, ready)
    finally:
        store.close()


@feedback.command("export")
@DB
@click.option("--out", type=PATH, required=True, help="Folder of the tables.")
@click.option("--rater", "raters", multiple=True, help="The judgements of this rater alone; may be repeated.")
@JSON
def export_command(db: str, out: Path, raters: tuple[str, ...], as_json: bool) -> None:
    """Write judgements as tables: preferences (reward, dpo), judged (kto) and rated (reward, ppo) answers.

    \b
    Example: codedev feedback export --db feedback.sqlite --out feedback
    """
    from codedev._errors import InputError
    from codedev._terminal import print_table
    from codedev.feedback.export import export
    from codedev.feedback.store import Store

    if "://" not in db and not Path(db).is_file():
        raise InputError(f"{db}: there is no such file. Name the one that codedev feedback serve wrote")
    store = Store(db)
    try:
        manifest = export(store, out, raters)
    finally:
        store.close()
    if as_json:
        print_json(manifest)
        return
    print_table(
        f"{manifest['judgements']:,} judgements of {', '.join(manifest['raters'])}",
        ["what came of a task", "tasks"],
        sorted(manifest["outcomes"].items()),
    )
    rows = [[name, count, str(out / f"{name}.parquet") if count else "-"] for name, count in manifest["rows"].items()]
    print_table("Tables", ["table", "rows", "file"], rows)
    for kind, found in manifest["agreement"].items():
        alpha = "-" if found["alpha"] is None else f"{found['alpha']:.2f}"
        print(f"{kind}: {found['tasks']:,} tasks judged by several raters, all agree on {found['same']:.0%}; Krippendorff's alpha {alpha}")
