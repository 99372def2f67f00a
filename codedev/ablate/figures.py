"""What was measured, told: means over seeds and paired differences from the base, with Student's intervals of 95 %.

The unit of chance is a run: a seed draws the weights that training begins with and the order of the rows, the same for every variant, so
that differences are taken within a seed. Held-out documents are the same everywhere and no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Quantiles of Student's t at 0.975 by degrees of freedom; beyond them the normal's.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093)


class Spread(NamedTuple):
    mean: float
    low: float | None  # None: one seed tells nothing of chance
    high: float | None

    @property
    def tells(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def spread(values: Sequence[float]) -> Spread:
    """Mean of a figure over seeds."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Spread(mean, None, None)
    quantile = _T[n - 2] if n - 2 < len(_T) else 1.96
    half = quantile * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Spread(mean, mean - half, mean + half)


def bits(measured: Mapping[str, np.ndarray], sizes: np.ndarray, domains: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Bits per byte by domain, a figure a seed. `measured`: bits of each document (n,) by seed; `domains`: which documents (n,) bool."""
    return {name: [float(own[mask].sum() / sizes[mask].sum()) for own in measured.values()] for name, mask in domains.items()}


def told(bits_of: Mapping[str, Mapping[str, Sequence[float]]], base: str) -> dict[str, dict[str, Any]]:
    """{variant: {domain: {bits_per_byte, difference: from the base or None, seeds: values}}}"""
    found: dict[str, dict[str, Any]] = {}
    for variant, domains in bits_of.items():
        found[variant] = {}
        for domain, values in domains.items():
            pairs = [own - other for own, other in zip(values, bits_of[base][domain], strict=True)]
            difference = None if variant == base else spread(pairs)
            found[variant][domain] = {
                "bits_per_byte": spread(values)._asdict(),
                "difference": None if difference is None else {**difference._asdict(), "tells": difference.tells},
                "seeds": list(values),
            }
    return found
