"""Arrow text columns as NumPy views of their buffers, for kernels. No copy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def text_buffers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(data uint8[bytes], offsets int64[rows + 1]) of a large_string array, both read-only views. Null rows are empty."""
    assert texts.type == pa.large_string(), texts.type
    _, offsets, data = texts.buffers()
    rows = len(texts)
    if rows == 0 or offsets is None:
        return np.frombuffer(b"", np.uint8), np.frombuffer(bytes(8), np.int64)
    positions = np.frombuffer(offsets, np.int64, rows + 1, texts.offset * 8)
    content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.frombuffer(b"", np.uint8)
    positions.flags.writeable = content.flags.writeable = False  # Arrow's arrays never change
    return content, positions
