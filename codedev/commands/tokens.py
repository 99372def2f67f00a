"""Tokenizers, shards, and the way back from a token."""

from __future__ import annotations

from pathlib import Path

import click

from codedev.commands.options import JSON, PATH, QUIET, Bytes, print_json


@click.group()
def tokenizer() -> None:
    """Train tokenizers."""


@tokenizer.command("train")
@click.argument("corpus_directory", metavar="CORPUS", type=PATH)
@click.option("--out", type=PATH, required=True, help="The tokenizer directory.")
@click.option("--vocab-size", type=click.IntRange(300), default=65_536, show_default=True, help="Tokens, special ones included.")
@click.option("--preset", default="u7", show_default=True, help="Pretokenization: u7, gpt2, cl100k, qwen or llama3.")
@click.option("--special-slots", type=click.IntRange(0), default=256, show_default=True, help="Ids reserved for special tokens.")
@click.option("--sample-bytes", type=Bytes(), default="1GB", show_default=True, help="At most this much text is learned from.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which documents a sample takes.")
@JSON
@QUIET
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
        print_json(result)
    else:
        print(f"{out}: {result['vocab_size']:,} tokens, {result['bytes_per_token']:.3f} bytes a token on its sample")


@click.command("tokenize")
@click.argument("corpus_directory", metavar="CORPUS", type=PATH)
@click.option("--tokenizer", "tokenizer_path", type=PATH, required=True, help="A tokenizer directory or tokenizer.json.")
@click.option("--out", type=PATH, required=True, help="The shard directory; an interrupted run is resumed.")
@click.option("--seq-len", type=click.IntRange(8), default=2048, show_default=True, help="Tokens of a row.")
@click.option("--overlong", type=click.Choice(["split", "truncate", "drop"]), default="split", show_default=True, help="Longer documents.")
@click.option("--holdout", type=click.FloatRange(0, 0.5), default=0.0, show_default=True, help="Share of documents kept for evaluation.")
@click.option("--eos", default=None, metavar="TOKEN", help="The end-of-document token, where the tokenizer does not name it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the shuffle.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Encoding threads; default: all cores.")
@JSON
@QUIET
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
        print_json(result)
    else:
        print_tokens(str(out), result)


@click.command()
@click.argument("shards", type=PATH)
@click.argument("row", type=click.IntRange(0))
@click.argument("token", type=click.IntRange(0), required=False)
@click.option("--corpus", "corpus_directory", type=PATH, default=None, help="Where the corpus is now, if it has moved.")
@click.option("--base", type=PATH, default=None, help="Where the corpus recipe's folder is now, if it has moved.")
@JSON
def trace(shards: Path, row: int, token: int | None, corpus_directory: Path | None, base: Path | None, as_json: bool) -> None:
    """From a token of SHARDS back to its document and the raw bytes it came from; without TOKEN, the documents of the row.

    \b
    Example: codedev trace shards 12 345
    """
    from codedev.tokenize.show import show
    from codedev.tokenize.trace import trace as follow

    result = follow(shards, row, token, corpus_directory, base)
    if as_json:
        print_json(result)
    else:
        show(result)
