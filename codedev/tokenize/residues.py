"""Residues of proteins, DNA and RNA: one token each, of ids that no other text gives.

A vocabulary with residues has a token for every letter below, named "A protein" or "A nucleotide". No merge makes these tokens, and a
blank has no place in the byte-level alphabet, so text never gives them: alanine and the article `A` do not share an id. Any other byte of
a sequence is the token of that byte. Each stands for one byte: decoding gives the exact text. tokenizer.json's decoder takes the word off,
so the libraries decode them too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# IUPAC-IUB: 26 letters with X for any, B, Z, J for two, U and O for the rare ones; `*` a stop, `-` a gap.
PROTEIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ*-"
# Cornish-Bowden 1985: the bases, their ambiguity codes, a gap; the bases again in lower case, which marks repeats.
NUCLEOTIDE = "ACGTURYSWKMBDHVN-acgtun"
ALPHABETS = {"protein": PROTEIN, "nucleotide": NUCLEOTIDE}
NAMED = rf"(?<=^.) (?:{'|'.join(ALPHABETS)})$"  # what a decoder takes off the names; no other token holds a blank
MOLECULES = {"protein": "protein", "dna": "nucleotide", "rna": "nucleotide"}  # what a document's `meta.molecule` may say


def names() -> dict[str, str]:
    """Name of the token -> the letter it stands for, in the order of their ids."""
    return {_name(alphabet, letter): letter for alphabet, letters in ALPHABETS.items() for letter in letters}


def ids(vocab: Mapping[str, int]) -> dict[str, int]:
    """Name -> id of the residues that a vocabulary has."""
    return {name: vocab[name] for name in names() if name in vocab}


def tables(vocab: Mapping[str, int], byte_ids: np.ndarray) -> dict[str, np.ndarray]:
    """Molecule -> uint32[256]: the id of each byte in such a sequence. Empty where the vocabulary has no residues. `byte_ids` are the
    tokens of single bytes."""
    if not ids(vocab):
        return {}
    found = {}
    for molecule, alphabet in MOLECULES.items():
        table = byte_ids.astype(np.uint32)
        for letter in ALPHABETS[alphabet]:
            table[ord(letter)] = vocab[_name(alphabet, letter)]
        found[molecule] = table
    return found


def _name(alphabet: str, letter: str) -> str:
    return f"{letter} {alphabet}"
