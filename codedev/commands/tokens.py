"""Tokenizers, shards, and the way back from a token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from codedev.commands.options import JSON, OVERRIDES, PATH, QUIET, Bytes, print_json


@click.group()
def tokenizer() -> None:
    """Train and compare tokenizers."""


@tokenizer.command("train")
@click.argument("corpus_directory", metavar="CORPUS", type=PATH)
@click.option("--out", type=PATH, required=True, help="The tokenizer directory.")
@click.option("--vocab-size", type=click.IntRange(310), default=65_536, show_default=True, help="Tokens, special ones included.")
@click.option(
    "--engine",
    type=click.Choice(["bpe", "sentencepiece-bpe", "sentencepiece-unigram"]),
    default="bpe",
    show_default=True,
    help="Byte-level BPE, or a SentencePiece model.",
)
@click.option("--preset", default=None, help="Pretokenization: u7 (default), u7-aligned, gpt2, cl100k, qwen or llama3.")
@click.option("--special-slots", type=click.IntRange(0, 65_536), default=256, show_default=True, help="Ids reserved for special tokens.")
@click.option("--sample-bytes", type=Bytes(), default="1GB", show_default=True, help="At most this much text is learned from.")
@click.option("--weight", "weights", multiple=True, metavar="SOURCE=W", help="Sample a source W times as densely as others.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which documents a sample takes.")
@JSON
@QUIET
def tokenizer_train(
    corpus_directory: Path,
    out: Path,
    vocab_size: int,
    engine: str,
    preset: str | None,
    special_slots: int,
    sample_bytes: int,
    weights: tuple[str, ...],
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a byte-level BPE tokenizer, or a SentencePiece model, on the documents of CORPUS.

    \b
    Example: codedev tokenizer train corpus --out tokenizer --vocab-size 32768
    """
    from codedev._terminal import compiling, watch

    click.get_current_context().with_resource(compiling(quiet=quiet or as_json))
    if engine != "bpe" and preset is not None:
        raise click.UsageError(f"--preset: {engine} cuts text by its own rules; leave it out")
    how: dict[str, Any] = {"vocab_size": vocab_size, "special_slots": special_slots, "sample_bytes": sample_bytes, "seed": seed}
    how["weights"] = _weights(weights)
    with watch(quiet=quiet or as_json) as progress:
        if engine == "bpe":
            from codedev.tokenize.train import train_tokenizer

            result = train_tokenizer(corpus_directory, out, preset=preset or "u7", progress=progress, **how)
        else:
            from codedev.tokenize.train_pieces import train_pieces

            result = train_pieces(corpus_directory, out, engine=engine, progress=progress, **how)
    if as_json:
        print_json(result)
    else:
        print(f"{out}: {result['vocab_size']:,} tokens, {result['bytes_per_token']:.3f} bytes a token on its sample")


def _weights(given: tuple[str, ...]) -> dict[str, float]:
    try:
        return {name: float(weight) for name, weight in (text.split("=", 1) for text in given)}
    except ValueError:
        raise click.UsageError(f"--weight is SOURCE=NUMBER, for example --weight code=2, not {' '.join(given)}") from None


@tokenizer.command("extend")
@click.argument("tokenizer_path", metavar="TOKENIZER", type=PATH)
@click.argument("corpus_directory", metavar="[CORPUS]", type=PATH, required=False)
@click.option("--tokens", type=PATH, metavar="FILE", default=None, help="Words to add, one a line, in place of a CORPUS.")
@click.option("--out", type=PATH, required=True, help="The directory of the extended tokenizer.")
@click.option("--add", type=click.IntRange(0), default=None, help="At most so many tokens; default: 1000 from a CORPUS, all of FILE.")
@click.option("--special", multiple=True, metavar="NAME", help="Add a special token, as <|fim_prefix|>; can be repeated.")
@click.option("--shape", default=None, metavar="NAME", help="How a file of ranks cuts text, where that is not known.")
@click.option("--sample-bytes", type=Bytes(), default="1GB", show_default=True, help="At most this much text is learned from.")
@click.option("--weight", "weights", multiple=True, metavar="SOURCE=W", help="Sample a source W times as densely as others.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which documents a sample takes.")
@JSON
@QUIET
def tokenizer_extend(
    tokenizer_path: Path,
    corpus_directory: Path | None,
    tokens: Path | None,
    out: Path,
    add: int | None,
    special: tuple[str, ...],
    shape: str | None,
    sample_bytes: int,
    weights: tuple[str, ...],
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Add tokens of a domain to TOKENIZER, for training a model of it further: old ids stay as they are.

    \b
    Example: codedev tokenizer extend qwen.tiktoken corpus --add 2000 --special "<|fim_prefix|>" --out extended
    """
    from codedev._terminal import watch
    from codedev.tokenize.extend import extend_tokenizer

    with watch(quiet=quiet or as_json) as progress:
        result = extend_tokenizer(
            tokenizer_path,
            out,
            corpus=corpus_directory,
            tokens=tokens,
            add=add,
            special=special,
            sample_bytes=sample_bytes,
            weights=_weights(weights),
            seed=seed,
            shape=shape,
            progress=progress,
        )
    if as_json:
        print_json(result)
        return
    before, after = (result["heldout"][f"bytes_per_token_{when}"] for when in ("before", "after"))
    gain = f", {before:.3f} bytes a token before and {after:.3f} after, on held-out text" if before and after else ""
    print(f"{out}: {result['tokens']:,} tokens and {len(result['special']):,} special ones added to {result['base']['size']:,}{gain}")


@tokenizer.command("compare")
@click.argument("corpus_directory", metavar="CORPUS", type=PATH)
@click.argument("tokenizers", metavar="TOKENIZER...", type=PATH, nargs=-1, required=True)
@click.option("--sample-bytes", type=Bytes(), default="20MB", show_default=True, help="About this much text of CORPUS is encoded.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which documents the sample takes.")
@click.option("--out", type=PATH, metavar="FILE", default=None, help="Write all of it as a page to open in a browser.")
@JSON
@QUIET
def tokenizer_compare(
    corpus_directory: Path, tokenizers: tuple[Path, ...], sample_bytes: int, seed: int, out: Path | None, as_json: bool, quiet: bool
) -> None:
    """Compare tokenizers on a sample of CORPUS: compression by kind and language, what they tear, what they lose, speed.

    \b
    Example: codedev tokenizer compare corpus tokenizer other/tokenizer.json --out compared.html
    """
    from codedev._errors import printable
    from codedev._run import write_text
    from codedev._terminal import note, watch
    from codedev.tokenize.compare import compare, page, terminal

    if out is not None and out.is_dir():
        raise click.UsageError(f"--out {printable(str(out))}: is a folder; give the file to write")
    with watch(quiet=quiet or as_json) as progress:
        found = compare(corpus_directory, tokenizers, sample_bytes=sample_bytes, seed=seed, progress=progress)
    if out is not None:
        write_text(out, page.render(found))
    if as_json:
        print_json(found.figures)
        return
    terminal.show(found.figures)
    if out is not None:
        note(f"page: {printable(str(out))}")


def _beside(keys: dict[str, Any], recipe: Path) -> None:
    """A template's file is looked for beside the recipe that names it, as all files of a recipe are."""
    template = keys["chat"].get("template") if isinstance(keys.get("chat"), dict) else None
    if isinstance(template, str) and (recipe.parent / template).is_file():
        keys["chat"] = {**keys["chat"], "template": str(recipe.parent / template)}


@click.command("tokenize")
@click.argument("corpus_directory", metavar="CORPUS", type=PATH)
@click.option(
    "--tokenizer", "tokenizer_path", type=PATH, required=True, help="A directory, or a tokenizer.json, *.model, *.tiktoken, tekken.json."
)
@click.option("--out", type=PATH, required=True, help="The shard directory; an interrupted run is resumed.")
@click.option("--recipe", "recipe_path", type=PATH, default=None, help="Fill in the middle, mixtures, chat templates and more.")
@OVERRIDES
@click.option("--seq-len", type=click.IntRange(8), default=None, help="Tokens of a row; default: 2048.")
@click.option("--mode", type=click.Choice(["pt", "sft", "preference", "prompt"]), default=None, help="What for; default: pt.")
@click.option("--overlong", type=click.Choice(["split", "truncate", "drop", "error"]), default=None, help="Of longer documents.")
@click.option("--holdout", type=click.FloatRange(0, 0.5), default=None, help="Share of documents kept for evaluation; default: none.")
@click.option("--seed", type=int, default=None, help="Of the shuffle; default: 0.")
@click.option("--eos", default=None, metavar="TOKEN", help="The end-of-document token, where the tokenizer does not name it.")
@click.option("--shape", default=None, metavar="NAME", help="How a file of tiktoken's ranks cuts text, where that is not known.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Encoding threads; default: all cores.")
@JSON
@QUIET
def tokenize_command(
    corpus_directory: Path,
    tokenizer_path: Path,
    out: Path,
    recipe_path: Path | None,
    overrides: tuple[str, ...],
    seq_len: int | None,
    mode: str | None,
    overlong: str | None,
    holdout: float | None,
    seed: int | None,
    eos: str | None,
    shape: str | None,
    workers: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Encode CORPUS and pack it into shards: memory-mapped rows of whole documents, each token traceable to its raw bytes.

    Fill in the middle, mixtures and chat templates are keys of a recipe: see samples/recipes/tokenize.yaml.

    \b
    Example: codedev tokenize corpus --tokenizer tokenizer --out shards --seq-len 2048 --holdout 0.01
    """
    from codedev import _recipe
    from codedev._errors import printable
    from codedev._terminal import compiling, print_tokens, watch

    click.get_current_context().with_resource(compiling(quiet=quiet or as_json))  # the imports compile too
    from codedev.tokenize.build import tokenize_corpus
    from codedev.tokenize.recipe import TokenizeRecipe

    keys = _recipe.read(recipe_path, overrides) if recipe_path else _recipe.overridden({}, overrides)
    flags = {"seq_len": seq_len, "mode": mode, "overlong": overlong, "holdout": holdout, "seed": seed}
    keys |= {name: value for name, value in flags.items() if value is not None}
    if recipe_path:
        _beside(keys, recipe_path)
    recipe = _recipe.check(keys, TokenizeRecipe, str(recipe_path or "codedev tokenize"))

    with watch(quiet=quiet or as_json) as progress:
        result = tokenize_corpus(
            corpus_directory,
            tokenizer_path,
            out,
            recipe,
            eos=eos,
            shape=shape,
            workers=workers,
            progress=progress,
        )
    if as_json:
        print_json(result)
    else:
        print_tokens(str(out), result)
        for reason, first in result["manifest"].get("dropped_first", {}).items():
            print(printable(f"{reason}: the first is {first['document']}: {first['said']}"))


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


@click.command("export")
@click.argument("source", metavar="SHARDS|RUN", type=PATH)
@click.option("--to", default=None, type=click.Choice(["hf", "megatron", "mds", "npy"]), help="Of shards: the format, see docs/formats.md.")
@click.option("--merge", default=None, type=click.Choice(["dequant", "bf16", "adapter"]), help="Of a run: how, see docs/training.md.")
@click.option("--out", type=PATH, required=True, help="The directory; an earlier export in it is replaced.")
@click.option("--labels", is_flag=True, help="hf: a column of targets too, -100 where no loss is.")
@click.option("--flat", is_flag=True, help="npy: tokens alone, one after another without padding (train.bin, val.bin).")
@click.option("--rows", type=click.IntRange(1), default=16, show_default=True, help="--merge: rows whose loss is compared.")
@JSON
@QUIET
def export_command(
    source: Path, to: str | None, merge: str | None, out: Path, labels: bool, flat: bool, rows: int, as_json: bool, quiet: bool
) -> None:
    """Write SHARDS for another trainer (--to), or the model that a RUN has tuned for any user of transformers (--merge).

    --to: Hugging Face datasets, Megatron-LM, MosaicML streaming, NumPy. --merge: the adapter made part of its model, in float32 (dequant)
    or half the size (bf16), or the adapter alone; what was written is read back, and its loss must be that of the live adapter.

    \b
    Example: codedev export shards --to hf --labels --out dataset
             codedev export runs/tuned --merge dequant --out tuned
    """
    if (to is None) == (merge is None):
        raise click.UsageError("give either --to, for shards, or --merge, for a run")
    if to is None:
        if labels or flat:
            raise click.UsageError("--labels and --flat are for --to")
        _export_run(source, str(merge), out, rows, as_json)
    else:
        _export_shards(source, to, out, labels, flat, as_json, quiet)


def _export_run(run: Path, how: str, out: Path, rows: int, as_json: bool) -> None:
    from codedev._terminal import print_table
    from codedev.train.use.merge import merge

    told = merge(run, how, out, rows)  # type: ignore[arg-type]
    if as_json:
        print_json(told)
        return
    losses = [["live adapter", f"{told['live_loss']:.6f}"], [f"written ({how})", f"{told['merged_loss']:.6f}"]]
    losses.append(["difference", f"{told['difference']:.2e}, at most {told['tolerance']:g} allowed"])
    print_table(f"Loss of {told['rows']} rows, nats a token", ["", "loss"], losses)
    print(f"{told['bytes']:,} bytes of weights in {out}")


def _export_shards(shards: Path, to: str, out: Path, labels: bool, flat: bool, as_json: bool, quiet: bool) -> None:
    from codedev._terminal import print_table, watch
    from codedev.tokenize.export.run import export_shards

    if labels and to != "hf":
        raise click.UsageError("--labels is for --to hf")
    if flat and to != "npy":
        raise click.UsageError("--flat is for --to npy")
    with watch(quiet=quiet or as_json) as progress:
        result = export_shards(shards, out, to, labels=labels, flat=flat, progress=progress)
    if as_json:
        print_json(result)
        return
    rows = []
    for name, split in result["manifest"]["splits"].items():
        rows.append([name, str(out / split["folder"]), split["rows"], split["segments"], split["tokens"], split["padding"]])
    print_table("Export", ["split", "folder", "rows", "segments", "tokens", "padding"], rows)
