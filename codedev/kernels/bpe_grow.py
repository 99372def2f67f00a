"""A larger word cache in the place of one that fills: what it holds is taken along.

bpe_encode.py empties a cache of which a part is full, and a text with more words than it holds is then merged anew again and again: on
100 MB of a hundred languages the second pass was no faster than the first. So each part of a cache that is half full is doubled, up to
LARGEST, between calls. 60 ms for 400,000 words.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.bpe_encode import WordCache, _slot_of

LARGEST = {"short": 4 << 21, "long": 3 << 20, "values": 1 << 24, "keys": 1 << 26}  # elements: 64, 25, 64 and 64 MB
_SHORT, _LONG, _VALUES, _KEYS = range(4)  # of state

_LONGS: Any = numba.types.Array(numba.uint64, 1, "C")


def grown(cache: WordCache) -> WordCache:
    """The cache, or one with every part that is more than half full doubled. Nobody may use either meanwhile."""
    used = {"short": 4 * cache.state[_SHORT], "long": 3 * cache.state[_LONG], "values": cache.state[_VALUES], "keys": cache.state[_KEYS]}
    parts = {
        name: np.zeros(2 * len(part), part.dtype)
        for name in LARGEST
        for part in [getattr(cache, name)]
        if 2 * used[name] > len(part) and 2 * len(part) <= LARGEST[name]
    }
    if "short" in parts:
        _move_short(cache.short, parts["short"])
    if "long" in parts:
        _move_long(cache.long, parts["long"])
    for name in ("values", "keys"):
        if name in parts:
            parts[name][: used[name]] = getattr(cache, name)[: used[name]]
    return cache._replace(**parts) if parts else cache


@numba.njit(numba.void(_LONGS, _LONGS), nogil=True, cache=True)
def _move_short(old, new):  # type: ignore[no-untyped-def]  # compiled by numba
    mask = np.int64(len(new) // 4 - 1)
    for begin in range(0, len(old), 4):
        if old[begin + 1] == 0:
            continue
        slot = _slot_of(old[begin], old[begin + 1], mask)
        while new[4 * slot + 1] != 0:
            slot = (slot + 1) & mask
        for i in range(4):
            new[4 * slot + i] = old[begin + i]


@numba.njit(numba.void(_LONGS, _LONGS), nogil=True, cache=True)
def _move_long(old, new):  # type: ignore[no-untyped-def]  # compiled by numba
    mask = np.int64(len(new) // 3 - 1)
    for begin in range(0, len(old), 3):
        if old[begin] == 0:
            continue
        slot = np.int64(old[begin] >> np.uint64(24)) & mask
        while new[3 * slot] != 0:
            slot = (slot + 1) & mask
        for i in range(3):
            new[3 * slot + i] = old[begin + i]
