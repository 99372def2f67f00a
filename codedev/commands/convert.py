"""Make a checkpoint of another form one that is trained and used here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from codedev.commands.options import JSON, PATH, QUIET, print_json


@click.group()
def convert() -> None:
    """Make a checkpoint of another form one that is trained and used here."""


@convert.command("chatglm")
@click.argument("source", type=PATH)
@click.option("--out", type=PATH, required=True, help="The folder to write; it must not be there yet, or be empty.")
@click.option(
    "--rope",
    type=click.Choice(["auto", "base", "positions"]),
    default="auto",
    show_default=True,
    help="What rope_ratio of a 32k variant changes: the base (ChatGLM3) or the positions (ChatGLM2). auto: as its released code says.",
)
@JSON
@QUIET
def convert_chatglm(source: Path, out: Path, rope: Any, as_json: bool, quiet: bool) -> None:
    """Convert the ChatGLM checkpoint in the folder SOURCE.

    ChatGLM2-6B and ChatGLM3-6B become a native Glm, which plain transformers reads. ChatGLM-6B keeps its form; what names code is left
    out. The tokenizer becomes tokenizer.model with the special tokens in it, as codedev reads it. Weights are copied to the bit, in files
    of at most 5 GB. Neither pickles (pytorch_model.bin) nor code of the checkpoint are ever read as such.

    \b
    Example: codedev convert chatglm chatglm3-6b --out glm3
             codedev convert chatglm chatglm2-6b-32k --out glm2-32k --rope positions
    """
    from codedev._terminal import watch
    from codedev.train.chatglm.convert import convert as converted

    with watch(quiet=quiet or as_json) as progress:
        result = converted(source, out, rope, lambda done, total: progress("convert", done, total))
    if as_json:
        print_json(result)
        return
    for name, value in result.items():
        print(f"{name:<14} {f'{value:,}' if isinstance(value, int) else value or 'none'}")
