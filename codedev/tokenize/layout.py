"""What a unit consists of, span by span, and its way to tokens: all texts of a batch are encoded by one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev.kernels.packing import copy_segments
from codedev.tokenize.vocabulary import Plain, Vocabulary, encode_plain

TEXT = -1
RESIDUES = -2  # and below: the n-th molecule of the markers


class Span(NamedTuple):
    """A special token, text, or the residues of a sequence."""

    what: int  # an id, TEXT, or RESIDUES - n
    begin: int = 0  # bytes of the batch's text
    end: int = 0


class Layout(NamedTuple):
    """The spans of units, in their order. Spans of one row and one piece make a unit."""

    rows: np.ndarray  # int64[spans], rising: the document's row in the batch
    pieces: np.ndarray  # int64: the unit's number among those of its document
    what: np.ndarray  # int64: as Span.what
    begins: np.ndarray  # int64
    ends: np.ndarray  # int64


class Tokens(NamedTuple):
    """A layout's tokens."""

    ids: np.ndarray  # uint16 or uint32
    spans: np.ndarray  # int64[spans + 1]: where the tokens of each span start
    byte_lengths: np.ndarray | None  # uint32 a token; None where the vocabulary tells


def laid_out(told: Mapping[int, Sequence[Sequence[Span]]]) -> Layout:
    """The layout of row -> its units. About 1 µs a span."""
    columns = [(row, piece, *span) for row in sorted(told) for piece, unit in enumerate(told[row]) for span in unit]
    table = np.array(columns, np.int64).reshape(-1, 5)
    return Layout(*(np.ascontiguousarray(column) for column in table.T))


def merged(one: Layout, other: Layout) -> Layout:
    """Both, by row. No row is in both."""
    if not len(other.rows):
        return one
    order = np.argsort(np.concatenate([one.rows, other.rows]), kind="stable")
    return Layout(*(np.concatenate(pair)[order] for pair in zip(one, other, strict=True)))


def tokens(layout: Layout, data: np.ndarray, vocabulary: Vocabulary, residues: Sequence[np.ndarray]) -> Tokens:
    """Encode every span; `data` is the batch's text, `residues` the table uint32[256] of each molecule."""
    texts = np.flatnonzero(layout.what == TEXT)
    plain = encode_plain(vocabulary, _texts(data, layout.begins[texts], layout.ends[texts]))
    sizes = np.where(layout.what >= 0, 1, layout.ends - layout.begins)
    sizes[texts] = np.diff(plain.offsets)
    spans = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=spans[1:])
    ids = np.zeros(int(spans[-1]), vocabulary.dtype)
    special = layout.what >= 0
    ids[spans[:-1][special]] = layout.what[special]
    copy_segments(plain.ids, plain.offsets[:-1], sizes[texts], spans[:-1][texts], ids)
    for span in np.flatnonzero(layout.what <= RESIDUES):  # 2 µs each
        table = residues[RESIDUES - int(layout.what[span])]
        ids[spans[span] : spans[span + 1]] = table[data[layout.begins[span] : layout.ends[span]]]
    return Tokens(ids, spans, _covered(layout, plain, sizes, texts, spans))


def _covered(layout: Layout, plain: Plain, sizes: np.ndarray, texts: np.ndarray, spans: np.ndarray) -> np.ndarray | None:
    if plain.byte_lengths is None:
        return None
    covered = np.zeros(int(spans[-1]), np.uint32)
    copy_segments(plain.byte_lengths, plain.offsets[:-1], sizes[texts], spans[:-1][texts], covered)
    for span in np.flatnonzero(layout.what <= RESIDUES):
        covered[spans[span] : spans[span + 1]] = 1
    return covered


def _texts(data: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> pa.LargeStringArray:
    """The byte spans as an Arrow array: of `data` itself where they follow one another, else gathered."""
    if len(begins) == 0:
        return pa.array([], pa.large_string())
    if not np.array_equal(begins[1:], ends[:-1]):
        data = np.concatenate([data[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)])  # 0.3 µs each
        ends = np.cumsum(ends - begins)
        begins = np.concatenate([[0], ends[:-1]])
    borders = np.append(begins, ends[-1]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(begins), pa.py_buffer(borders), pa.py_buffer(data))
