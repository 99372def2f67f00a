"""Stage `sft`: instruction tuning. The run is that of `pt`; the loss is that of the answers alone, as the shards' loss spans say.

Shards come from `codedev tokenize --mode sft`. A row that supervises nothing is refused, with its place, before anything is computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from codedev._errors import InputError
from codedev._run import Progress
from codedev.train import pretrain
from codedev.train.data import Shards, open_shards
from codedev.train.recipe import TrainRecipe, absolute


def run(recipe: TrainRecipe, base: Path, on_step: pretrain.OnStep, progress: Progress) -> dict[str, Any]:
    """See `codedev.train.run`."""
    check_spans(open_shards(tuple(map(Path, absolute(recipe, base).data.dirs))))
    return pretrain.run(recipe, base, on_step, progress)


def check_spans(shards: Shards) -> None:
    """InputError for a row without loss spans, or whose spans cover no token that is predicted. Reads no tokens."""
    first, start, last = 0, 0, None
    for file, batch in zip(shards.files, shards.batches, strict=True):
        start, last = (first, file) if file != last else (start, last)
        spans = batch.column("loss_spans")
        if spans.null_count:
            row = first + int(np.flatnonzero(spans.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(
                f"{file}: row {row - start} (document {_document(shards, row)}) has no loss_spans, so nothing tells its answers from its "
                "questions. Make the shards with codedev tokenize --mode sft, or set stage to pt"
            )
        empty = np.flatnonzero(supervised(batch, shards.seq_len) == 0)
        if len(empty):
            row = first + int(empty[0])
            raise InputError(
                f"{file}: row {row - start} (document {_document(shards, row)}) has no supervised token; {len(empty) - 1} more near it. "
                "Remove what has no answer, and make the shards again with codedev tokenize --mode sft"
            )
        first += batch.num_rows


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


def _document(shards: Shards, number: int) -> str:
    segments = shards.segments(number)
    return segments[0].document if segments else "none"
