"""Whether shards hold the model's own tokens. Any other give numbers that mean nothing to it, a loss that falls all the same, and a model
that speaks nonsense."""

from __future__ import annotations

from pathlib import Path

from codedev._errors import InputError
from codedev._run import file_hash
from codedev.tokenize.formats import find_file
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary
from codedev.train.data import Shards
from codedev.train.recipe import TrainRecipe


def check_tokenizer(recipe: TrainRecipe, shards: Shards) -> None:
    """InputError when the model that a run starts from has a tokenizer, and an id of both stands for another token in the shards' one.

    Equal files cost a hash, others are read: 0.3 s. A tokenizer that was extended, or written in another way, is the same tokenizer.
    """
    if shards.tokenizer_file.is_file():
        check_file(recipe, shards.tokenizer_file, str(shards.dirs[0]), "Make the shards with --tokenizer")


def check_file(recipe: TrainRecipe, tokenizer: Path, what: str, mend: str) -> bool:
    """The same of a tokenizer's file; `what` and `mend` (before the model's folder) are for the message. Whether the model has one."""
    folder = Path(recipe.model.path) if recipe.model.path else None
    if folder is None or not folder.is_dir():
        return False
    try:
        file = find_file(folder)
        if file.is_file() and file_hash(file) == file_hash(tokenizer):
            return True
        own = names(load_vocabulary(folder, need_eos=False))
    except (InputError, OSError):  # none that can be read
        return False
    theirs = names(load_vocabulary(tokenizer, need_eos=False))
    differ = next((number for number in sorted(own) if number in theirs and own[number] != theirs[number]), None)
    if differ is not None:
        raise InputError(
            f"{what}: its tokens are not the model's: {differ} is {theirs[differ]!r} there, {own[differ]!r} in {file}. "
            f"{mend} {folder}. Where the model is to learn a new tokenizer, move {file.name} out of its folder"
        )
    return True


def same_tokens(one: Shards, other: Shards) -> bool:
    """Whether an id stands for the same token in both: a tokenizer that was written in another way is the same one."""
    if one.manifest.tokenizer.hash == other.manifest.tokenizer.hash:
        return True
    if one.vocab_size != other.vocab_size:
        return False
    try:
        return names(load_vocabulary(one.tokenizer_file, need_eos=False)) == names(load_vocabulary(other.tokenizer_file, need_eos=False))
    except InputError:  # one has none that can be read
        return False


def names(vocabulary: Vocabulary) -> dict[int, str]:
    """Of every token."""
    if vocabulary.model is not None:
        return dict(enumerate(vocabulary.model.names))
    assert vocabulary.tokenizer is not None
    named: dict[str, int] = vocabulary.tokenizer.get_vocab(with_added_tokens=True)
    return {number: name for name, number in named.items()}
