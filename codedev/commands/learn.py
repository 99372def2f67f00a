"""Models of one's own: languages, quality, perplexity."""

from __future__ import annotations

from pathlib import Path

import click

from codedev.commands.options import JSON, OVERRIDES, PATH, print_json


@click.group("langid")
def corpus_langid() -> None:
    """Language identification: learn a model of your own, test any."""


@corpus_langid.command("train")
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="The fastText model to write, FILE.ftz.")
@click.option("--dim", type=click.IntRange(2, 256), default=32, show_default=True, help="Dimensions of a word.")
@click.option("--steps", type=click.IntRange(1), default=1_000_000, show_default=True, help="Lines learnt from.")
@click.option("--rows", type=click.IntRange(100), default=60_000, show_default=True, help="Rows of the table of character n-grams.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order of lines.")
@JSON
def corpus_langid_train(data: Path, out: Path, dim: int, steps: int, rows: int, seed: int, as_json: bool) -> None:
    """Learn languages from the texts in DATA: UDHR, Tatoeba, bibles, or files named TAG.txt.

    The model works in any recipe (`language: {model: FILE.ftz}`) and in the fastText package.

    \b
    Example: codedev corpus langid train texts --out mine.ftz
    """
    from codedev.corpus.language.train import train_identifier

    trained = train_identifier(data, out, dim, steps, rows, seed=seed)
    if as_json:
        print_json(trained._asdict())
    else:
        right = sum(trained.held_out.values()) / max(len(trained.held_out), 1)
        print(f"{trained.labels:,} languages in {trained.size / 1e6:.1f} MB; {right:.1%} of held-out lines told right")


@corpus_langid.command("test")
@click.argument("model")
@click.argument("files", type=PATH, nargs=-1, required=True)
@JSON
def corpus_langid_test(model: str, files: tuple[Path, ...], as_json: bool) -> None:
    """Say how well MODEL tells labelled lines: accuracy, the weakest languages, what is taken for what.

    MODEL is `ensemble` (the default of recipes), `lid.176`, or a fastText file. FILES are named TAG.txt (de.txt, sr-Latn.news.txt), with a
    text a line, or folders of such files.

    \b
    Example: codedev corpus langid test ensemble texts/de.txt texts/nl.txt
    """
    from codedev.corpus.language.accuracy import accuracy, shown

    found = accuracy(model, files)
    if as_json:
        languages = [language._asdict() for language in found.languages]
        pairs = [{"truth": truth, "told": told, "lines": lines} for truth, told, lines in found.confusions]
        print_json({"lines": found.lines, "macro": found.macro, "languages": languages, "confusions": pairs})
    else:
        print(shown(found))


@click.group("quality")
def corpus_quality() -> None:
    """Learned quality: classifiers and n-gram models of your own."""


@corpus_quality.command("train")
@click.argument("recipe", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder for the model and the JSON of how it was made.")
@OVERRIDES
@JSON
def corpus_quality_train(recipe: Path, out: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Fit a classifier of good documents, or an n-gram model for perplexity, and say what it achieves on documents it has not seen.

    RECIPE names a `classifier` with positive and negative documents, or a `perplexity` with texts. The classifier is a fastText file.

    \b
    Example: codedev corpus quality train good-against-crawl.yaml --out models
    """
    from codedev._terminal import compiling

    click.get_current_context().with_resource(compiling(quiet=as_json))  # the imports compile too
    from codedev.corpus.learned.train import shown, train

    facts = train(recipe, out, overrides)
    if as_json:
        print_json(facts)
    else:
        print(shown(facts))
