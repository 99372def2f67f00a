"""The command line: parse, call, print; the commands lie in commands/. Everything heavy is imported inside them, so that `--help` stays
under 0.3 s.

Data goes to stdout, progress and notes to stderr. Exit codes: 0 done, 1 an error the user can act on (one line), 2 usage, 3 an `expect:`
of the recipe is broken, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import click

from codedev import __version__
from codedev._errors import CodedevError, printable
from codedev.commands import ablate, convert, corpus, dedup, evaluate, feedback, learn, models, pages, shares, tokens, use
from codedev.commands.options import JSON, MEMORY, OVERRIDES, PATH, WORKERS, default_workers, print_json

# What a user can do about an error of the system; any other is a fault of ours.
_MEND: dict[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "Make it writable"),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP), "Choose another path"),
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f)",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Raise the limit on open files (ulimit -n)"),
    errno.EIO: "See to the disk",
}


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
        if error.errno not in _MEND:
            raise
        print(
            f"error: {printable(str(error))}. {_MEND[error.errno]} and run the same command again: finished work is kept", file=sys.stderr
        )
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


@cli.command()
@click.option("--out", type=PATH, default=Path("demo"), show_default=True, help="Where everything is written.")
@WORKERS
def demo(out: Path, workers: int | None) -> None:
    """Every stage on bundled and local data, on a CPU, in minutes.

    Builds a corpus of the Python standard library and the bundled samples, trains a tokenizer, packs shards, trains a small model and
    generates code from it.

    \b
    Example: codedev demo --out demo
    """
    from codedev.demo import run_demo

    run_demo(out, workers or default_workers())


@cli.command()
@click.argument("recipe", type=PATH, required=False)
@click.option("--warm", is_flag=True, help="First compile every kernel that is not in the cache: a minute or two, once an installation.")
@click.option("--out", type=PATH, default=None, help="With RECIPE: the corpus directory, whose disk is looked at.")
@click.option("--strict", is_flag=True, help="With --out: an error where the disk lacks the room.")
@click.option("--sample", type=click.FloatRange(0, 1, min_open=True), default=0.01, show_default=True, help="Share of the input to read.")
@WORKERS
@MEMORY
@OVERRIDES
@JSON
def doctor(
    recipe: Path | None,
    warm: bool,
    out: Path | None,
    strict: bool,
    sample: float,
    workers: int | None,
    memory: int,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """What is installed, what is missing, and the command that installs it; or what the build of RECIPE will take, by a sample.

    \b
    Example: codedev doctor
             codedev doctor --warm
             codedev doctor recipe.yaml --out corpus --workers 8
    """
    if recipe is not None:
        _estimate(recipe, out, strict, {"share": sample, "workers": workers or default_workers(), "memory": memory}, overrides, as_json)
        return
    from codedev._doctor import examine, show

    if warm:
        from codedev._terminal import watch
        from codedev.kernels import names, warm_all

        with watch(quiet=as_json) as progress:
            progress("compile", 0, len(names()))
            for count, _ in enumerate(warm_all(default_workers()), 1):
                progress("compile", count, len(names()))

    report = examine()
    if as_json:
        print_json(report)
    else:
        show(report)


def _estimate(recipe: Path, out: Path | None, strict: bool, how: dict[str, Any], overrides: tuple[str, ...], as_json: bool) -> None:
    from codedev._errors import RunError
    from codedev._terminal import compiling, note, size, watch

    click.get_current_context().with_resource(compiling(quiet=as_json))
    from codedev.corpus import recipe as recipes
    from codedev.corpus.estimate import estimate, room, show

    loaded = recipes.load(recipe, overrides)
    with watch(quiet=as_json) as progress:
        told = estimate(loaded, recipe.resolve().parent, **how, progress=progress)
    if out is not None:
        told["free_bytes"] = room(out)
    if as_json:
        print_json(told)
    else:
        show(told)
    needed = told["work_bytes"] + told["output_bytes"]
    if out is not None and told["free_bytes"] < needed:
        lacks = f"{out}: has {size(told['free_bytes'])} free, and the build needs about {size(needed)}"
        if strict:
            raise RunError(f"{lacks}. Choose another --out, or make room")
        note(lacks)


for group, commands in (
    (corpus.corpus, (shares.corpus_plan, shares.corpus_run, shares.corpus_finish)),
    (
        corpus.corpus,
        (
            ablate.corpus_ablate,
            dedup.corpus_dedup,
            learn.corpus_langid,
            learn.corpus_quality,
            pages.corpus_extract,
            pages.corpus_learn_extractor,
        ),
    ),
    (cli, (corpus.corpus, tokens.tokenizer, tokens.tokenize_command, tokens.trace, tokens.export_command)),
    (cli, (models.train_command, evaluate.eval_command, convert.convert, use.generate, use.chat, use.serve, feedback.feedback)),
):
    for command in commands:
        group.add_command(command)
