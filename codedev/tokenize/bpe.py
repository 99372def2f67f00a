"""Byte-level BPE learned from texts: the same merges as `tokenizers.trainers.BpeTrainer`, by this project's kernels.

Texts are cut into pieces (kernels.pretokens), distinct pieces are counted in bounded memory (kernels.word_counts), and merges are learned
from them (kernels.bpe_train). Ties are broken as the library does, by ids in the order of the byte-level alphabet's characters; the
tokens given back are in the order of a codedev tokenizer: the 256 bytes in byte order, then what each merge makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev.corpus.buffers import text_buffers
from codedev.kernels.bpe_train import BYTES, learn
from codedev.kernels.pretokens import Shape, piece_ends
from codedev.kernels.word_counts import Kept, WordCounts, Words
from codedev.tokenize.engine import byte_characters

COUNT_BYTES = 1 << 30
MOST_BYTES = 1 << 26  # of distinct words: with 30 to 45 bytes of memory each about 2 to 3 GB
_SLICE = 1 << 20  # bytes of text cut at a time: eight bytes of memory each


class Learned(NamedTuple):
    tokens: list[str]  # in the order of the ids, in the byte-level alphabet
    merges: list[tuple[str, str]]
    counts: list[int]  # how often each merge's pair stood in the words
    words: Kept  # what it was learned from, and what was left out


LONGEST_TOKEN = 128  # bytes; o200k's longest has as many. A line of 65,536 blanks would be a token else


def learn_bpe(
    texts: Iterable[pa.Array],
    shape: Shape,
    size: int,
    *,
    min_frequency: int = 2,
    max_token_length: int = 0,
    count_bytes: int = COUNT_BYTES,
    most_bytes: int = MOST_BYTES,
    numbers: bool = False,
) -> Learned:
    """Up to `size` tokens, the 256 bytes among them, from batches of texts (large_string arrays).

    The result is the same for any batches and any `count_bytes`, the memory for counting. Where the distinct words have more than
    `most_bytes` bytes the rarest are left out, which `words` says: they may change the merges, mostly the last ones.
    """
    counts = WordCounts(count_bytes)
    for batch in texts:
        count_texts(counts, batch, shape)
    return learn_words(counts.keep(most_bytes), size, min_frequency=min_frequency, max_token_length=max_token_length, numbers=numbers)


def count_texts(counts: WordCounts, texts: pa.Array, shape: Shape) -> None:
    """Count the pieces of texts, some at a time so that memory does not grow with the batch."""
    data, offsets = text_buffers(texts)
    first = 0
    while first < len(offsets) - 1:
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _SLICE, "right")) - 1)
        some = offsets[first : last + 1]
        counts.add(data, piece_ends(data, some, shape)[0], int(some[0]))
        first = last


def learn_words(kept: Kept, size: int, *, min_frequency: int = 2, max_token_length: int = 0, numbers: bool = False) -> Learned:
    """Up to `size` tokens from counted words. `max_token_length` as the library means it: tokens of fewer characters, 0 = of any number.

    `numbers`: the 1,100 numbers of two and three digits are tokens, whether the texts have them or not, so that a number is always cut
    where its pretokenization cuts it: for those that give digits in pieces of up to three. Without it the merges are the library's.
    """
    if numbers:
        kept = kept._replace(words=_without_numbers(kept.words))
        size -= len(NUMBERS)
    letters = byte_characters()
    order = sorted(range(BYTES), key=letters.__getitem__)
    ids = np.empty(BYTES, np.int32)
    ids[order] = np.arange(BYTES)
    found = learn(*kept.words, ids, size - BYTES, min_frequency=min_frequency, max_length=max_token_length)
    made = [letters[byte] for byte in order]
    merges = NUMBERS.copy() if numbers else []
    for left, right in found.pairs.tolist():  # 0.3 microseconds a merge
        merges.append((made[left], made[right]))
        made.append(made[left] + made[right])
    counts = [0] * (len(merges) - len(found.pairs)) + found.counts.tolist()
    return Learned([*letters, *(a + b for a, b in merges[: len(merges) - len(found.pairs)]), *made[BYTES:]], merges, counts, kept)


def _merges_of_numbers() -> list[tuple[str, str]]:
    """The merges that make every number of two digits, then of three, one token. Of the pairs in `abc` the one of lesser rank, which is the
    lesser number or else the left one, merges first."""
    two = [f"{number:02d}" for number in range(100)]
    three = [f"{number:03d}" for number in range(1000)]
    return [(n[0], n[1]) for n in two] + [(n[:2], n[2]) if n[:2] <= n[1:] else (n[0], n[1:]) for n in three]


NUMBERS = _merges_of_numbers()


def _without_numbers(words: Words) -> Words:
    """The words but for those of two or three ASCII digits."""
    sizes = np.diff(words.offsets)
    digits = np.concatenate([[0], np.cumsum((words.data >= ord("0")) & (words.data <= ord("9")))])
    usual = ~((sizes >= 2) & (sizes <= 3) & (np.diff(digits[words.offsets]) == sizes))
    offsets = np.concatenate([[0], np.cumsum(sizes[usual])])
    return Words(words.data[np.repeat(usual, sizes)], offsets, words.counts[usual])
