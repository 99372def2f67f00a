"""A trained model as a fastText file: n-grams without words, softmax, the input matrix product-quantised as `fasttext quantize` does it.

Quantisation is Jégou et al. 2011: rows are cut into parts of PART numbers, each part is replaced by one of 256 centroids (k-means), after
the norms are taken out and quantised apart. 16 bytes a row of 32 numbers; fastText and codedev read the file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from codedev.kernels.fasttext_file import MAGIC, SUPERVISED

PART, CENTROIDS, ROUNDS = 2, 256, 15
_SOFTMAX = 3


def write(
    labels: Sequence[str], inputs: np.ndarray, outputs: np.ndarray, buckets: np.ndarray, bucket: int, min_n: int, max_n: int, seed: int = 0
) -> bytes:  # fmt: skip
    """The bytes of a .ftz file. `inputs` float32[rows, dim] are the rows of the n-grams hashed to `buckets` int[rows], all others have
    none; `outputs` float32[labels, dim]."""
    dim = inputs.shape[1]
    arguments = struct.pack("<ii12id", MAGIC, 12, dim, 5, 1, 1, 5, 1, _SOFTMAX, SUPERVISED, bucket, min_n, max_n, 100, 1e-4)
    entries = b"".join(f"__label__{label}".encode() + struct.pack("<xqb", 1, 1) for label in labels)
    dictionary = struct.pack("<3i2q", len(labels), 0, len(labels), 0, len(inputs)) + entries
    pairs = np.column_stack([buckets, np.arange(len(buckets))]).astype("<i4").tobytes()
    rng = np.random.default_rng(seed)
    norms = np.linalg.norm(inputs, axis=1).astype(np.float32)
    units = inputs / np.maximum(norms, 1e-9)[:, None]
    codes, centroids = _quantise(units, PART, rng)
    norm_codes, norm_centroids = _quantise(norms[:, None], 1, rng)
    matrix = struct.pack("<?qqi", True, len(inputs), dim, codes.size) + codes.tobytes() + centroids + norm_codes.tobytes() + norm_centroids
    dense = struct.pack("<?qq", False, len(labels), dim) + outputs.astype("<f4").tobytes()
    return arguments + dictionary + pairs + b"\1" + matrix + dense


def _quantise(values: np.ndarray, part: int, rng: np.random.Generator) -> tuple[np.ndarray, bytes]:
    """(codes uint8[rows, parts], the product quantiser as fastText writes it)."""
    rows, dim = values.shape
    parts = -(-dim // part)
    last = dim - (parts - 1) * part
    codes, tables = np.empty((rows, parts), np.uint8), []
    for number in range(parts):
        points = np.ascontiguousarray(values[:, number * part : number * part + part], np.float32)
        table = points[rng.choice(rows, CENTROIDS, replace=rows < CENTROIDS)].copy()
        for _ in range(ROUNDS):
            _nearest(points, table, codes[:, number])
            for z in range(points.shape[1]):
                sums = np.bincount(codes[:, number], points[:, z], CENTROIDS)
                counts = np.bincount(codes[:, number], minlength=CENTROIDS)
                table[:, z] = np.where(counts > 0, sums / np.maximum(counts, 1), table[:, z])
        _nearest(points, table, codes[:, number])
        tables.append(table.astype("<f4").tobytes())
    return codes, struct.pack("<4i", dim, parts, part, last) + b"".join(tables)


@numba.njit(numba.void(numba.float32[:, ::1], numba.float32[:, ::1], numba.types.Array(numba.uint8, 1, "A")), nogil=True, cache=True)
def _nearest(points: Any, table: Any, codes: Any) -> None:
    for row in range(len(points)):
        best, least = 0, np.float32(np.inf)
        for number in range(len(table)):
            distance = np.float32(0)
            for z in range(points.shape[1]):
                distance += (points[row, z] - table[number, z]) ** 2
            if distance < least:
                best, least = number, distance
        codes[row] = best
