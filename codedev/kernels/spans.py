"""Spans of UTF-8 texts put in another's place."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


def replace(
    data: np.ndarray, offsets: np.ndarray, spans: np.ndarray, texts: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(data uint8[bytes], offsets int64[rows + 1], places int64[n, 2]) of the texts, a replacement in every span's place.

    `spans` int64[n, 4] holds (row, start, end, type): byte offsets within the row's text, sorted, none overlapping another; type i is
    replaced by texts[bounds[i, 0] : bounds[i, 1]], and stays as it is where bounds[i, 0] < 0.
    `places` gives (start, length) of each span in the new text.
    """
    sizes = np.where(bounds[spans[:, 3], 0] < 0, spans[:, 2] - spans[:, 1], bounds[spans[:, 3], 1] - bounds[spans[:, 3], 0])
    grown = int(sizes.sum() - (spans[:, 2] - spans[:, 1]).sum())
    out = np.empty(int(offsets[-1] - offsets[0]) + grown, np.uint8)
    out_offsets, places = np.zeros(len(offsets), np.int64), np.empty((len(spans), 2), np.int64)
    _replace(data, offsets, spans, texts, bounds, out, out_offsets, places)
    return out, out_offsets, places


@numba.njit(
    numba.void(
        numba.types.Array(numba.uint8, 1, "C", readonly=True),
        numba.types.Array(numba.int64, 1, "C", readonly=True),
        numba.int64[:, ::1],
        numba.uint8[::1],
        numba.int64[:, ::1],
        numba.uint8[::1],
        numba.int64[::1],
        numba.int64[:, ::1],
    ),
    nogil=True,
    cache=True,
)
def _replace(data: Any, offsets: Any, spans: Any, texts: Any, bounds: Any, out: Any, out_offsets: Any, places: Any) -> None:
    size = span = 0
    for row in range(len(offsets) - 1):
        first, at, end = size, offsets[row], offsets[row + 1]
        while span < len(spans) and spans[span, 0] == row:
            start = offsets[row] + spans[span, 1]
            out[size : size + start - at] = data[at:start]
            size += start - at
            at = offsets[row] + spans[span, 2]
            low, high = bounds[spans[span, 3], 0], bounds[spans[span, 3], 1]
            places[span, 0] = size - first
            if low < 0:
                out[size : size + at - start] = data[start:at]
                size += at - start
            else:
                out[size : size + high - low] = texts[low:high]
                size += high - low
            places[span, 1] = size - first - places[span, 0]
            span += 1
        out[size : size + end - at] = data[at:end]
        size += end - at
        out_offsets[row + 1] = size


def warm() -> None:
    empty = np.empty((0, 4), np.int64)
    data, offsets = np.frombuffer(b"a", np.uint8), np.array([0, 1])
    offsets.flags.writeable = False
    replace(data, offsets, empty, np.zeros(1, np.uint8), np.zeros((1, 2), np.int64))
