"""Held-out bits per byte: how well a model predicts text, comparable between tokenizers because it divides by bytes of text.

    bits per byte = (Σ nll of every predicted token, in bits  +  log2(vocab_size) for each unpredicted one)  /  Σ bytes of text

A token is predicted from the earlier tokens of its segment; the end-of-document token is one of them. The first token of a segment
has nothing before it: where it is bos it is free, since it is the same in every document, and elsewhere it is charged as a uniform
guess. So a model pays for every token of the text, and a document cut into segments cannot look cheaper than a whole one. Loss
spans play no part: they restrict what is trained on, not what is measured. What they leave, the answers of a conversation, has a mean
of its own beside it: bits per byte of conversations are mostly those of questions, which instruction tuning does not teach.

The baseline is a compressor on each document alone, its header included, as a model starts every document afresh.
Cost: one forward pass over the held-out rows; gzip -9 about 20 MB/s, xz about 2 MB/s on one core.
"""

from __future__ import annotations

import lzma
import math
import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import numpy as np

from codedev._errors import InputError
from codedev._run import Progress, no_progress


class PackedRows(Protocol):
    """B packed rows of S tokens."""

    @property
    def input_ids(self) -> np.ndarray: ...  # (B, S) int64
    @property
    def positions(self) -> np.ndarray: ...  # (B, S) int64, from the start of the token's segment
    @property
    def real(self) -> np.ndarray: ...  # (B, S) bool, no padding
    @property
    def text_bytes(self) -> np.ndarray: ...  # (B,) int64, bytes of text under the row's tokens


class PackedShards(Protocol):
    @property
    def rows(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    def read(self, numbers: np.ndarray) -> PackedRows: ...


Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(input_ids, positions), both (B, S) int64 -> (B, S) float: -ln p(token | earlier tokens of its segment). Entries of the first token
of a segment are ignored."""


class BitsPerByte(NamedTuple):
    bits_per_byte: float
    nats_per_token: float  # mean over the predicted tokens: the loss
    predicted: int  # tokens the model was asked for
    charged: int  # first tokens of a segment that are not bos
    text_bytes: int
    targets: int = 0  # of the predicted, those within loss spans, where the rows tell
    nats_per_target: float = math.nan


def bits_per_byte(score: Score, shards: PackedShards, rows_at_once: int = 8, progress: Progress = no_progress) -> BitsPerByte:
    """Bits per byte of `shards`, all rows in order, `rows_at_once` a call of `score`. Raises InputError for shards without text."""
    nats, predicted, charged, text_bytes = 0.0, 0, 0, 0
    learned, targets = 0.0, 0
    for start in range(0, shards.rows, rows_at_once):
        rows = shards.read(np.arange(start, min(start + rows_at_once, shards.rows)))
        first = rows.real & (rows.positions == 0)
        later = rows.real & ~first
        scores = score(rows.input_ids, rows.positions)
        nats += float(scores[later].sum(dtype=np.float64))
        predicted += int(later.sum())
        within: np.ndarray = getattr(rows, "targets", np.zeros_like(later))
        learned += float(scores[within].sum(dtype=np.float64))
        targets += int(within.sum())
        free = 0 if shards.bos_id is None else int((rows.input_ids[first] == shards.bos_id).sum())
        charged += int(first.sum()) - free
        text_bytes += int(rows.text_bytes.sum())
        progress("evaluate", min(start + rows_at_once, shards.rows), shards.rows)
    if not text_bytes:
        raise InputError("the held-out shards cover no text: hold out more documents")
    bits = nats / math.log(2) + charged * math.log2(shards.vocab_size)
    per_target = learned / targets if targets else math.nan
    return BitsPerByte(bits / text_bytes, nats / max(predicted, 1), predicted, charged, text_bytes, targets, per_target)


def gzip_bits_per_byte(texts: Iterable[str]) -> float:
    """Bits per byte of gzip -9 on each text alone."""
    return _compressed(texts, lambda data: len(zlib.compress(data, 9, wbits=31)))  # 31: a gzip header and trailer, 18 bytes


def lzma_bits_per_byte(texts: Iterable[str]) -> float:
    """Bits per byte of xz -9 on each text alone."""
    return _compressed(texts, lambda data: len(lzma.compress(data, preset=9)))


def _compressed(texts: Iterable[str], size: Callable[[bytes], int]) -> float:
    compressed = plain = 0
    for text in texts:
        data = text.encode()
        compressed += size(data)
        plain += len(data)
    if not plain:
        raise InputError("there is no text to compress: hold out more documents")
    return 8 * compressed / plain
