"""What of packed rows is learned: their loss spans, counted and checked without a look at their tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from codedev._errors import InputError
from codedev.train.data import Shards


def check_spans(shards: Shards) -> int:
    """The number of supervised tokens. InputError for a row without loss spans, or whose spans cover no token that is predicted."""
    first, start, last, total = 0, 0, None, 0
    for file, batch in zip(shards.files, shards.batches, strict=True):
        start, last = (first, file) if file != last else (start, last)
        spans = batch.column("loss_spans")
        if spans.null_count:
            row = first + int(np.flatnonzero(spans.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(
                f"{file}: row {row - start} (document {_document(shards, row)}) has no loss_spans, so nothing tells its answers from its "
                "questions. Make the shards with codedev tokenize --mode sft, or set stage to pt"
            )
        _check_offsets(file, batch, shards.seq_len)
        counted = supervised(batch, shards.seq_len)
        empty = np.flatnonzero(counted == 0)
        if len(empty):
            row = first + int(empty[0])
            raise InputError(
                f"{file}: row {row - start} (document {_document(shards, row)}) has no supervised token; {len(empty) - 1} more near it. "
                "Remove what has no answer, and make the shards again with codedev tokenize --mode sft"
            )
        total += int(counted.sum())
        first += batch.num_rows
    return total


def supervised(batch: pa.RecordBatch, seq_len: int) -> np.ndarray:
    """(rows,) int64: tokens in the loss spans of each row that are predicted, which the first of a segment is not."""
    spans, lengths = batch.column("loss_spans"), batch.column("segment_lengths")
    offsets = spans.offsets.to_numpy().astype(np.int64)
    inside = slice(offsets[0], offsets[-1])
    begin, end = (spans.values.field(name).to_numpy(zero_copy_only=False)[inside].astype(np.int64) for name in ("start", "end"))
    row = np.repeat(np.arange(batch.num_rows), np.diff(offsets))
    cuts = lengths.offsets.to_numpy().astype(np.int64)
    pieces = lengths.values.to_numpy(zero_copy_only=False)[cuts[0] : cuts[-1]].astype(np.int64)
    running = np.concatenate([[0], np.cumsum(pieces)])
    before = running[cuts - cuts[0]]  # tokens of all rows before each row
    used = np.diff(before)
    of_piece = np.repeat(np.arange(batch.num_rows), np.diff(cuts))
    heads = of_piece * seq_len + running[:-1] - before[of_piece]  # the first token of each segment, rows laid end to end
    begin, end = np.clip(begin, 0, used[row]), np.clip(end, 0, used[row])
    count = np.maximum(end - begin, 0)
    first = np.searchsorted(heads, row * seq_len + begin)
    count -= np.where(count > 0, np.searchsorted(heads, row * seq_len + end) - first, 0)
    return np.bincount(row, count, batch.num_rows).astype(np.int64)


def _check_offsets(file: Path, batch: pa.RecordBatch, seq_len: int) -> None:
    """InputError for spans that overlap or leave their row, and for lists that overlap."""
    lists = [batch.column(name).offsets.to_numpy() for name in ("loss_spans", "segment_lengths")]
    values = batch.column("loss_spans").values
    begin, end = (values.field(name).to_numpy().astype(np.int64) for name in ("start", "end"))
    if not all((np.diff(offsets) >= 0).all() for offsets in lists):
        raise InputError(f"{file}: is damaged: its lists overlap. Pack the shards again, or copy them again")
    row = np.repeat(np.arange(batch.num_rows), np.diff(lists[0]))
    begin, end = begin[lists[0][0] : lists[0][-1]], end[lists[0][0] : lists[0][-1]]
    before = np.where(np.diff(row, prepend=-1) == 0, np.concatenate([[0], end[:-1]]) if len(end) else end, 0)
    wrong = np.flatnonzero((begin < before) | (end < begin) | (end > seq_len))
    if len(wrong):
        raise InputError(
            f"{file}: the loss_spans of row {row[wrong[0]]} of a batch overlap or leave the row of {seq_len} tokens. Pack the shards again"
        )


def _document(shards: Shards, number: int) -> str:
    segments = shards.segments(number)
    return segments[0].document if segments else "none"
