"""A model whose vocabulary grows: shards of a tokenizer that extends the model's own (`codedev tokenizer extend`) bring tokens that it
has no embeddings for.

The input and output matrices get rows for them, each the mean of the rows of the old tokens that its name consists of (Hewitt 2021,
"Initializing new word embeddings for pretrained language models", says why no random row: its logit outweighs all others). Where the
model's matrices are padded, new tokens use up the padding first. Sizes stay multiples of 64 where they were; what pads them is the mean
of all old rows.

A run that trains every weight saves the larger model. One with an adapter trains the new rows beside it and saves them in it, with
extended.json, from which whoever opens the adapter makes the larger model again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import nn

from codedev._errors import InputError, RecipeError
from codedev._run import read_json, write_json
from codedev.tokenize.vocabulary import Vocabulary, encode_plain, load_vocabulary
from codedev.train.data import Shards
from codedev.train.instructions.vocabularies import names

RECORD = "extended.json"
FORMAT = "codedev.extended-vocabulary/1"


class Extension(NamedTuple):
    """What a model lacks of a larger vocabulary."""

    size: int  # of the larger vocabulary
    pieces: dict[int, list[int]]  # the old tokens of each new one; of none: the mean of all of them
    old: int  # tokens of the smaller vocabulary


def find(folder: Path, shards: Shards) -> Extension | None:
    """The tokens that the shards' tokenizer has beyond that of the model in `folder`; None where there are none, or no tokenizer to ask.

    Raises InputError when the shards' tokenizer is another one, not an extension. An id that both have names the same token:
    `vocabularies.check_tokenizer` saw to it.
    """
    try:
        own = load_vocabulary(folder, need_eos=False)
    except (InputError, OSError):
        return None
    if not shards.tokenizer_file.is_file():
        return None
    theirs = load_vocabulary(shards.tokenizer_file, need_eos=False)
    if theirs.hash == own.hash:
        return None
    known, wanted = names(own), names(theirs)
    new = sorted(number for number in wanted if number not in known and number < shards.vocab_size)
    if not new:
        return None
    if own.tokenizer is None or theirs.tokenizer is None:
        raise InputError(
            f"{shards.dirs[0]}: has {len(new)} tokens that {own.path} lacks, and a SentencePiece model does not tell what they consist of. "
            f"Make the shards with --tokenizer {folder}, or with an extension of its tokenizer.json"
        )
    gone = next((number for number in sorted(known) if wanted.get(number) != known[number]), None)
    if gone is not None:
        raise InputError(
            f"{shards.dirs[0]}: its tokenizer is no extension of the model's: it has {len(new)} tokens that the model lacks, first "
            f"{wanted[new[0]]!r}, and of the model's it has {_shown(wanted.get(gone))} where {own.path} has {known[gone]!r} ({gone}). "
            "Extend the model's own: codedev tokenizer extend"
        )
    return Extension(shards.vocab_size, _pieces(own, theirs, {number: wanted[number] for number in new}), own.size)


def extend(model: Any, folder: Path, shards: Shards) -> None:
    """Make room in `model`, which was read from `folder`, for the tokens of the shards that it lacks, if there are any."""
    found = find(folder, shards)
    if found is not None:
        grow(model, found)


def grow(model: Any, found: Extension) -> None:
    """New rows for `model`, of which `of` tells from then on. Raises RecipeError when it has other weights that count tokens."""
    table: nn.Parameter = model.get_input_embeddings().weight
    rows = len(table)
    if rows < found.old:
        raise RecipeError(
            f"model: its vocabulary has {rows} entries, its own tokenizer {found.old}: one of them is another model's. Put the right one "
            "back"
        )
    if rows < found.size:
        size = -(-found.size // 64) * 64 if rows % 64 == 0 else found.size
        try:
            model.resize_token_embeddings(size, mean_resizing=False)
        except (ValueError, TypeError, AttributeError, NotImplementedError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise RecipeError(f"model: transformers cannot extend the vocabulary of this {type(model).__name__}: {said}") from error
    filled: set[int] = set()
    head = model.get_output_embeddings()
    for matrix in (model.get_input_embeddings().weight, getattr(head, "weight", None), getattr(head, "bias", None)):
        if matrix is None or id(matrix) in filled:  # no output matrix, or the same one
            continue
        filled.add(id(matrix))
        if len(matrix) < found.size:
            raise RecipeError(f"model: a {type(model).__name__} has an output for {len(matrix)} tokens alone, it cannot be extended")
        with torch.no_grad():
            everyone = matrix[: found.old].mean(0, dtype=torch.float64).to(matrix.dtype)
            matrix[max(rows, found.size) :] = everyone
            for number, pieces in found.pieces.items():
                matrix[number] = matrix[pieces].mean(0, dtype=torch.float64).to(matrix.dtype) if pieces else everyone
    model.codedev_extension = found


def of(model: nn.Module) -> Extension | None:
    """By what `grow` made a model larger; an adapter's model tells too."""
    found: Extension | None = getattr(model, "codedev_extension", None)
    return found


def told(found: Extension, model: Any) -> str:
    return (
        f"the shards' tokenizer extends the model's: {len(found.pieces):,} new tokens, each beginning as the mean of its old pieces; "
        f"vocab_size {model.config.get_text_config().vocab_size:,}"
    )


def trained_rows(model: Any) -> dict[str, list[int]] | list[int] | None:
    """What peft calls trainable_token_indices: the new rows of the matrices of a model that was made larger."""
    found = of(model)
    if found is None:
        return None
    new = sorted(found.pieces)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    called = {id(module): name for name, module in model.named_modules()}
    if head is None or head.weight is table.weight:
        return {called[id(table)]: new}  # peft knows of what is tied to it
    if getattr(head, "bias", None) is not None:
        raise RecipeError(f"tune: the output of this {type(model).__name__} has a bias, which no adapter trains. Use tune: full")
    return {called[id(table)]: new, called[id(head)]: new}


def write(found: Extension, directory: Path) -> None:
    pieces = {str(number): some for number, some in found.pieces.items()}
    write_json(directory / RECORD, {"format": FORMAT, "size": found.size, "old": found.old, "pieces": pieces})


def regrow(model: Any, directory: Path) -> None:
    """Make `model` as large as the adapter in `directory` was trained on. Raises InputError for a record that is none."""
    file = directory / RECORD
    if not file.is_file():
        return
    data = read_json(file)
    try:
        if data["format"] != FORMAT:
            raise ValueError("format")
        size, old = data["size"], data["old"]
        pieces = {int(number): some for number, some in data["pieces"].items()}
        whole = type(size) is int and type(old) is int and 0 < old <= size <= 1 << 24
        if not whole or not all(0 <= number < size for number in pieces):
            raise ValueError("size")
        if not all(type(piece) is int and 0 <= piece < old for some in pieces.values() for piece in some):
            raise ValueError("pieces")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: is not as it was written ({error!r}). Copy the adapter again") from None
    try:
        grow(model, Extension(size, pieces, old))
    except RecipeError as error:
        raise InputError(f"{directory}: {error}") from None


def _pieces(own: Vocabulary, theirs: Vocabulary, new: dict[int, str]) -> dict[int, list[int]]:
    """What the old tokenizer's model makes of the new tokens' names; of special ones, of their names as text."""
    assert own.tokenizer is not None
    assert theirs.tokenizer is not None
    added = theirs.tokenizer.get_added_tokens_decoder()
    texts = [number for number in new if number in added]
    plain = encode_plain(own, pa.array([new[number] for number in texts], pa.large_string()))
    found = {number: plain.ids[begin:end].tolist() for number, begin, end in zip(texts, plain.offsets[:-1], plain.offsets[1:], strict=True)}
    for number, name in new.items():
        if number not in found:
            found[number] = [token.id for token in own.tokenizer.model.tokenize(name)]
    return dict(sorted(found.items()))


def _shown(name: str | None) -> str:
    return "nothing" if name is None else repr(name)
