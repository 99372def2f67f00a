"""MosaicML streaming shards (MDS, version 2): what MDSWriter of mosaicml-streaming 0.13 makes of the same rows, byte for byte.

    OUT/shard.00000.mds …   OUT/index.json     files of up to 64 MiB; the index holds their hashes (xxh3_128)
    OUT/heldout/…                              the held-out documents: StreamingDataset(local=OUT, split="heldout")

Columns of a sample, one row each: `tokens` (the name that llm-foundry reads), `seq_lengths` (of the segments, then of the padding),
`documents` (JSON: [[id, first token of the segment within the document], …]) and, where rows have loss spans, `loss_mask`.
A file: uint32 samples; uint32 offset of each and of the end; the columns as JSON; the samples. A sample: uint32 size of each column whose
size is not fixed; then the columns, by name. About 5 µs a row of Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from codedev._errors import InputError
from codedev.tokenize.export.rows import Rows, Source, loss_mask, pieces, read_rows

SIZE_LIMIT = 1 << 26  # bytes of a file; a sample that is larger has one of its own
_HASH = "xxh3_128"


def write(source: Source, folder: Path, _: bool) -> None:
    S = source.seq_len
    shards: list[dict[str, Any]] = []
    sizes = {"documents": None, "loss_mask": S, "seq_lengths": None, "tokens": S * source.dtype.itemsize}
    kinds = {
        "documents": "json",
        "loss_mask": f"ndarray:uint8:{S}",
        "seq_lengths": "ndarray:int32",
        "tokens": f"ndarray:{source.dtype}:{S}",
    }
    names = [name for name in sizes if name != "loss_mask" or source.spans]
    about = {
        "column_encodings": [kinds[name] for name in names],
        "column_names": names,
        "column_sizes": [sizes[name] for name in names],
        "compression": None,
        "format": "mds",
        "hashes": [_HASH],
        "size_limit": SIZE_LIMIT,
        "version": 2,
    }
    head = json.dumps(about, sort_keys=True).encode()
    if max(filter(None, sizes.values())) >= 1 << 32:
        raise InputError(f"{source.path}: rows of {S} tokens are more than the format holds, 4 GiB. Choose another --to")

    def flush() -> None:
        basename = f"shard.{len(shards):05d}.mds"
        shards.append({**about, "raw_data": _write_file(folder / basename, head, samples), "samples": len(samples), "zip_data": None})

    samples: list[bytes] = []
    size = empty = 8 + len(head)
    for rows in read_rows(source):
        for sample in _samples(rows, source.spans):
            if samples and size + len(sample) + 4 > SIZE_LIMIT:
                flush()
                samples, size = [], empty
            samples.append(sample)
            size += len(sample) + 4
    flush()
    (folder / "index.json").write_text(json.dumps({"shards": shards, "version": 2}, sort_keys=True))


def _write_file(path: Path, head: bytes, samples: list[bytes]) -> dict[str, Any]:
    offsets = np.cumsum([8 + 4 * len(samples) + len(head), *map(len, samples)], dtype=np.int64)
    if offsets[-1] >= 1 << 32:
        raise InputError(f"{path.name}: a row is larger than the format holds, 4 GiB. Choose another --to")
    digest = getattr(xxhash, _HASH)()
    with open(path, "wb", buffering=1 << 20) as file:
        for part in (np.uint32(len(samples)).tobytes(), offsets.astype(np.uint32).tobytes(), head, *samples):
            file.write(part)
            digest.update(part)
    return {"basename": path.name, "bytes": int(offsets[-1]), "hashes": {_HASH: digest.hexdigest()}}


def _samples(rows: Rows, masked: bool) -> Iterator[bytes]:
    lengths, edges = pieces(rows)
    lengths, documents, offsets = lengths.astype(np.int32), rows.documents.to_pylist(), rows.offsets.tolist()
    mask = loss_mask(rows) if masked else None
    bounds, piece_bounds = rows.edges.tolist(), edges.tolist()
    for row, ids in enumerate(rows.input_ids):
        at = slice(bounds[row], bounds[row + 1])
        document = json.dumps(list(zip(documents[at], offsets[at], strict=True))).encode()
        count = piece_bounds[row + 1] - piece_bounds[row]
        width = 0 if count < 1 << 8 else 1 if count < 1 << 16 else 2
        # one axis, its length in 1, 2 or 4 bytes, the numbers
        listed = (
            bytes([1 << 2 | width]) + count.to_bytes(1 << width, "little") + lengths[piece_bounds[row] : piece_bounds[row + 1]].tobytes()
        )
        sizes = len(document).to_bytes(4, "little") + len(listed).to_bytes(4, "little")
        yield b"".join((sizes, document, b"" if mask is None else mask[row], listed, ids))
