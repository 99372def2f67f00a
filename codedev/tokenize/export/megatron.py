"""Megatron-LM's indexed dataset, version 1: the rows taken apart again into documents, without padding, in the rows' order.

    OUT/tokens.bin           token ids one after another, uint16 or int32
    OUT/tokens.idx           of each sequence its length and its place in tokens.bin; the sequences each document begins with
    OUT/loss_mask.bin .idx   where rows have loss spans: a byte a token, 1 where it carries loss; the same sequences and documents
    OUT/heldout/…            the held-out documents

A segment is a sequence. It is a document of its own, unless it goes on where the segment before it ends: the pieces of a document
longer than a row lie in shuffled rows, so most of them are documents of their own. `--data-path OUT/tokens` names the data set.
Index (little-endian; megatron/core/datasets/indexed_dataset.py of megatron-core 0.16): "MMIDIDX\\0\\0", uint64 version, uint8 type,
uint64 sequences, uint64 documents + 1, int32 lengths, int64 byte offsets, int64 document edges. Lengths and edges, 4 and 8 bytes a
segment, go to files while the tokens are written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from codedev.tokenize.export.rows import Source, loss_mask, read_rows, unpadded

_TYPES = {"uint8": 1, "int32": 4, "uint16": 8}
_BLOCK = 1 << 20  # numbers of an index file in memory at a time


def write(source: Source, folder: Path, _: bool) -> None:
    lengths, begins = folder / "lengths.part", folder / "documents.part"
    sequences = documents = 0
    before = (-1, -1)  # the last segment's document, and its first token that is not in it
    with ExitStack() as stack:
        tokens, length_file, begin_file = (stack.enter_context(open(path, "wb")) for path in (folder / "tokens.bin", lengths, begins))
        mask_file = stack.enter_context(open(folder / "loss_mask.bin", "wb")) if source.spans else None
        for rows in read_rows(source):
            tokens.writelines(map(_bytes, unpadded(rows, rows.input_ids)))
            if mask_file is not None:
                mask_file.writelines(map(_bytes, unpadded(rows, loss_mask(rows))))
            length_file.write(_bytes(rows.lengths.astype(np.int32)))
            ends = rows.offsets + rows.lengths
            if len(ends):
                goes_on = (rows.positions == np.append(before[0], rows.positions[:-1])) & (rows.offsets == np.append(before[1], ends[:-1]))
                starts = sequences + np.flatnonzero(~goes_on)
                begin_file.write(_bytes(starts))
                before = (int(rows.positions[-1]), int(ends[-1]))
                sequences, documents = sequences + len(ends), documents + len(starts)
    kind = "uint16" if source.dtype == np.uint16 else "int32"  # ids lie below 2**31: the same bytes
    _write_index(folder / "tokens.idx", kind, sequences, documents, lengths, begins)
    if source.spans:
        _write_index(folder / "loss_mask.idx", "uint8", sequences, documents, lengths, begins)
    lengths.unlink()
    begins.unlink()


def _write_index(path: Path, kind: str, sequences: int, documents: int, lengths: Path, begins: Path) -> None:
    with open(path, "wb") as index:
        index.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, _TYPES[kind], sequences, documents + 1))
        for block in _blocks(lengths, np.int32):
            index.write(_bytes(block))
        at = 0
        for block in _blocks(lengths, np.int32):
            ends = at + np.cumsum(block, dtype=np.int64) * np.dtype(kind).itemsize
            index.write(_bytes(np.append(at, ends[:-1])))
            at = int(ends[-1])
        for block in _blocks(begins, np.int64):
            index.write(_bytes(block))
        index.write(struct.pack("<q", sequences))


def _blocks(path: Path, kind: Any) -> Iterator[np.ndarray]:
    with open(path, "rb") as file:
        while len(block := np.fromfile(file, kind, _BLOCK)):
            yield block


def _bytes(values: np.ndarray) -> memoryview:
    return values.view(np.uint8).data
