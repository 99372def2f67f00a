"""What of a text a tokenizer should not tear, as byte spans: words, LaTeX commands, numbers, lexemes. Found once, for all tokenizers.

words      of the kernels (kernels/wordspans.py), in documents of natural language: every kind but code and protein
commands   `\\alpha`: a backslash and ASCII letters; `\\\\alpha` is a line's end and a word. In natural language, and in TeX files
numbers    runs of 4 and more ASCII digits, in every kind but protein
lexemes    of code (lexemes.py)
single     the bytes of ideographs and kana, in natural language
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev.corpus.buffers import text_buffers
from codedev.kernels.wordspans import word_spans
from codedev.tokenize.compare.lexemes import Span, lexemes

NOT_NATURAL = frozenset({"code", "protein"})
TEX = "TeX"  # linguist's name
BATCH_BYTES = 1 << 20
_COMMAND = re.compile(rb"\\(?:[^A-Za-z]|([A-Za-z]+))")
_NUMBER = re.compile(rb"[0-9]{4,}")


class Spans(NamedTuple):
    """Of a batch of texts. Spans are int64[n, 2], first byte and the one after the last, in `data`; rows int64[n], the text they are in."""

    texts: pa.LargeStringArray
    data: np.ndarray  # uint8[bytes]
    offsets: np.ndarray  # int64[texts + 1], from 0 on
    words: np.ndarray
    word_rows: np.ndarray
    letters: np.ndarray  # bool[words]: the word holds a letter or a digit
    commands: np.ndarray
    command_rows: np.ndarray
    numbers: np.ndarray
    number_rows: np.ndarray
    lexemes: np.ndarray
    lexeme_rows: np.ndarray
    single: np.ndarray  # uint8[bytes]
    natural: np.ndarray  # bool[texts]

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.offsets)


def batches(texts: pa.LargeStringArray) -> Iterator[tuple[int, int]]:
    """(first, end) of runs of rows of about BATCH_BYTES, at least one row."""
    _, ends = text_buffers(texts)
    begin = 0
    while begin < len(texts):
        end = max(begin + 1, int(np.searchsorted(ends, ends[begin] + BATCH_BYTES, side="right")) - 1)
        yield begin, end
        begin = end


def spans(texts: pa.LargeStringArray, kinds: Sequence[str], languages: Sequence[str], parsed: Sequence[bool]) -> Spans:
    """Of a batch of texts without nulls. `parsed`: whose lexemes are wanted."""
    texts = pa.concat_arrays([texts])  # offsets from 0 on
    data, offsets = text_buffers(texts)
    data = data[: offsets[-1]]
    natural = np.array([kind not in NOT_NATURAL for kind in kinds], np.bool_)
    words, flags, counts, single = word_spans(data, offsets)
    word_rows = np.repeat(np.arange(len(texts)), counts)
    kept = natural[word_rows]
    found: list[list[Span]] = [[], [], []]
    rows: list[list[int]] = [[], [], []]
    for row, (kind, language) in enumerate(zip(kinds, languages, strict=True)):  # 25 µs a document of 2 kB
        begin, end = int(offsets[row]), int(offsets[row + 1])
        text = data[begin:end].tobytes()
        of_row: list[list[Span]] = [[], [], []]
        if natural[row] or language == TEX:
            of_row[0] = [match.span() for match in _COMMAND.finditer(text) if match[1]]
        if kind != "protein":
            of_row[1] = [match.span() for match in _NUMBER.finditer(text)]
        if parsed[row]:
            of_row[2] = lexemes(text, language) or []
        for which, some in enumerate(of_row):
            found[which] += [(begin + first, begin + last) for first, last in some]
            rows[which] += [row] * len(some)
    pairs = [np.array(some, np.int64).reshape(-1, 2) for some in found]
    places = [np.array(some, np.int64) for some in rows]
    return Spans(
        texts=texts,
        data=data,
        offsets=offsets,
        words=words[kept].astype(np.int64),
        word_rows=word_rows[kept],
        letters=flags[kept] != 0,
        commands=pairs[0],
        command_rows=places[0],
        numbers=pairs[1],
        number_rows=places[1],
        lexemes=pairs[2],
        lexeme_rows=places[2],
        single=single * np.repeat(natural, np.diff(offsets)),
        natural=natural,
    )
