"""Intervals of 95 % for what was measured on a sample of questions or documents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_Z = 1.959963984540054  # of 95 % on both sides
RESAMPLES = 2000
_SHARES = ("acc", "acc_norm", "acc_bytes", "exact", "exact_match", "majority", "pass")


class Estimate(NamedTuple):
    value: float
    low: float
    high: float
    n: int  # questions or documents


def share(hits: np.ndarray) -> Estimate:
    """The share of ones: Wilson's interval (Wilson 1927), which stays within 0 and 1. `hits`: (n,) of 0 and 1; wide for what is between."""
    n = len(hits)
    p = float(np.mean(hits))
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * float(np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)))
    return Estimate(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)), n)


def mean(values: np.ndarray, seed: int = 0) -> Estimate:
    """The mean of values from 0 to 1: percentiles of the bootstrap over questions; of equal ones, which it knows nothing of, Wilson's."""
    found = ratio(values, np.ones(len(values)), seed)
    return share(values) if not found.low < found.high else found


def ratio(above: np.ndarray, below: np.ndarray, seed: int = 0) -> Estimate:
    """Σ above / Σ below, (n,) each: percentiles of the bootstrap over documents, which are drawn with their bits and bytes together."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    n = len(above)
    whole = float(above.sum() / below.sum())
    if n < 2:
        return Estimate(whole, float("nan"), float("nan"), n)
    random = np.random.default_rng([seed, 0xE57])
    found = np.empty(RESAMPLES)
    for at in range(RESAMPLES):  # one draw at a time: memory of one
        drawn = random.integers(0, n, n)
        found[at] = above[drawn].sum() / below[drawn].sum()
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(whole, float(low), float(high), n)


def is_share(metric: str) -> bool:
    """Whether a metric's figures are shares of questions, which people read as percentages."""
    return metric.split("@")[0].split(",")[0] in _SHARES
