"""NumPy files, and the flat token file of nanoGPT.

    OUT/input_ids.npy          (rows, seq_len) uint16 or uint32; `np.load(…, mmap_mode="r")`
    OUT/loss_mask.npy          (rows, seq_len) bool, where rows have loss spans
    OUT/row_segments.npy       (rows + 1) int64: the segments of row i are row_segments[i] to row_segments[i + 1]
    OUT/segment_rows.npy segment_starts.npy segment_lengths.npy segment_offsets.npy
                               of each segment its row, its first token there, its tokens, its first token within the document
    OUT/segment_documents.jsonl    a line a segment: the document's id as a JSON string
    OUT/heldout/…              the held-out documents

Flat: OUT/train.bin and OUT/val.bin (the held-out documents), tokens one after another without padding, raw uint16 or uint32; with
loss spans train_loss.bin and val_loss.bin, a byte a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from codedev.tokenize.export.rows import Source, loss_mask, read_rows, unpadded

_HEADER = 128  # bytes before the numbers: the length of an array is known when it has been written


def write(source: Source, folder: Path, _: bool) -> None:
    with ExitStack() as stack:

        def array(name: str, kind: Any, *shape: int) -> BinaryIO:
            return stack.enter_context(_array(folder / f"{name}.npy", np.dtype(kind), shape))

        input_ids = array("input_ids", source.dtype, source.seq_len)
        mask = array("loss_mask", np.bool_, source.seq_len) if source.spans else None
        row_segments = array("row_segments", np.int64)
        segments = {
            name: array(f"segment_{name}", kind)
            for name, kind in (("rows", np.int64), ("starts", np.int32), ("lengths", np.int32), ("offsets", np.int64))
        }
        documents = stack.enter_context(open(folder / "segment_documents.jsonl", "wb"))
        row = segment = 0
        row_segments.write(np.int64(0).tobytes())
        for rows in read_rows(source):
            counts = np.diff(rows.edges)
            before = np.cumsum(rows.lengths) - rows.lengths
            of_row = np.repeat(np.arange(len(counts)), counts)
            columns = {
                "rows": row + of_row,
                "starts": (before - before[rows.edges[:-1][of_row]]).astype(np.int32),
                "lengths": rows.lengths.astype(np.int32),
                "offsets": rows.offsets,
            }
            for name, values in columns.items():
                segments[name].write(_bytes(values))
            row_segments.write(_bytes(segment + rows.edges[1:]))
            input_ids.write(_bytes(rows.input_ids))
            if mask is not None:
                mask.write(_bytes(loss_mask(rows)))
            documents.writelines(orjson.dumps(name) + b"\n" for name in rows.documents.to_pylist())  # 0.2 µs each
            row, segment = row + len(counts), segment + len(of_row)


def write_flat(source: Source, folder: Path, _: bool) -> None:
    name = "train" if source.split == "train" else "val"
    with ExitStack() as stack:
        tokens = stack.enter_context(open(folder / f"{name}.bin", "wb"))
        mask = stack.enter_context(open(folder / f"{name}_loss.bin", "wb")) if source.spans else None
        for rows in read_rows(source):
            tokens.writelines(map(_bytes, unpadded(rows, rows.input_ids)))
            if mask is not None:
                mask.writelines(map(_bytes, unpadded(rows, loss_mask(rows))))


@contextmanager
def _array(path: Path, kind: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file (version 1.0 of NumPy's format) to append the numbers of an array (n, *shape) to; n is put into it at the end."""
    with open(path, "wb") as file:
        file.write(bytes(_HEADER))
        yield file
        items, rest = divmod(file.tell() - _HEADER, kind.itemsize * int(np.prod(shape)))
        assert not rest
        text = str({"descr": kind.str, "fortran_order": False, "shape": (items, *shape)}).encode()
        file.seek(0)
        file.write(b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + text.ljust(_HEADER - 11) + b"\n")


def _bytes(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
