"""Draws that depend on a document's id and a seed alone."""

from __future__ import annotations

import numpy as np

_HOLDOUT = 0x686F6C646F7574


def mix(values: np.ndarray, seed: int) -> np.ndarray:
    """uint64: the finalizer of splitmix64 over values and seed; a bijection of the values for each seed."""
    with np.errstate(over="ignore"):
        state = values ^ np.uint64((seed * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) % 2**64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found: np.ndarray = state ^ (state >> np.uint64(31))
        return found


def held_out(hashes: np.ndarray, share: float) -> np.ndarray:
    """bool a document: whether it is held out. A function of its id alone, so the same document is held out of every corpus and run,
    and those of a smaller share are among those of a larger one."""
    return mix(hashes, _HOLDOUT) < np.uint64(min(int(share * 2.0**64), 2**64 - 1))
