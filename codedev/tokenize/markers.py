"""The special tokens that a mode writes around and between texts, found in a vocabulary by the names that tokenizers in use give them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codedev._errors import InputError
from codedev.tokenize import residues
from codedev.tokenize.engine import byte_characters
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.vocabulary import Vocabulary, names_of_text, special_id

# Ours first; then StarCoder and Granite, Qwen, Code Llama, DeepSeek-Coder.
_FIM_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
)
_FILE_NAMES = ("<|file_sep|>", "<file_sep>", "<filename>")
_KIND_NAMES = {
    "web": "<|doc_web|>",
    "book": "<|doc_book|>",
    "paper": "<|doc_arxiv|>",
    "code": "<|doc_code|>",
}


class Fim(NamedTuple):
    prefix: int
    suffix: int
    middle: int


class Markers(NamedTuple):
    bos: int | None
    eos: int
    kinds: dict[str, int]  # kind of document -> what stands before it
    fim: Fim | None
    repository: int | None  # what stands before each file of a repository
    residues: dict[str, tuple[int, int, np.ndarray]]  # molecule -> start, end, uint32[256]: the id of each byte


def markers(vocabulary: Vocabulary, recipe: TokenizeRecipe) -> Markers:
    """What the recipe asks for and the vocabulary has. InputError where it has no tokens for what was asked by name."""
    fim = next((Fim(*three) for names in _FIM_NAMES if (three := _ids(vocabulary, names))), None)
    if recipe.fim and fim is None:
        raise InputError(
            f"{vocabulary.path}: fim needs three special tokens as {', '.join(_FIM_NAMES[0])}; this tokenizer has none. "
            "Add them with `codedev tokenizer extend`, or leave fim out"
        )
    kinds = {kind: number for kind, name in _KIND_NAMES.items() if (number := special_id(vocabulary, name)) is not None}
    if recipe.kind_prefix and not kinds:
        raise InputError(f"{vocabulary.path}: kind_prefix needs special tokens as {', '.join(_KIND_NAMES.values())}. Leave it out")
    repository = next((found for name in _FILE_NAMES if (found := special_id(vocabulary, name)) is not None), None)
    return Markers(
        bos=vocabulary.bos_id,
        eos=vocabulary.eos_id,
        kinds=kinds if recipe.kind_prefix else {},
        fim=fim if recipe.fim else None,
        repository=repository if recipe.repository else None,
        residues=_residues(vocabulary) if recipe.residues else {},
    )


def _ids(vocabulary: Vocabulary, names: tuple[str, ...]) -> list[int] | None:
    found = [special_id(vocabulary, name) for name in names]
    return None if None in found else [number for number in found if number is not None]


def _residues(vocabulary: Vocabulary) -> dict[str, tuple[int, int, np.ndarray]]:
    vocab = names_of_text(vocabulary)
    if not residues.ids(vocab) or not all(letter in vocab for letter in byte_characters()):
        return {}
    byte_ids = np.array([vocab[letter] for letter in byte_characters()], np.uint32)
    found = {}
    for molecule, table in residues.tables(vocab, byte_ids).items():
        ends = _ids(vocabulary, (f"<|{molecule}_start|>", f"<|{molecule}_end|>"))
        if ends is not None:
            found[molecule] = (ends[0], ends[1], table)
    return found
