"""Two summaries of a stream whose size does not depend on the stream's: `Sketch` of numbers, `TopSums` of names.

Both are exact on the corpora most people build and say how far they may be off on the others. Neither keeps a value for each
document, and neither depends on anything but the order of the stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

CELLS = 128  # cells an octave: a quantile is rounded down by less than 1/128; whole numbers below 256 are exact
_OFFSET = 1100  # makes every exponent of a float64 (-1073 … 1024) positive


class Sketch:
    """Counts of numbers in logarithmic cells: histograms and quantiles of any stream in at most some hundred kB."""

    def __init__(self) -> None:
        self.cells: dict[int, int] = {}  # cell -> count; cells are ordered as their values are
        self.count = 0
        self.low = math.inf
        self.high = -math.inf

    def add(self, values: np.ndarray) -> None:
        """Count `values` (any numeric dtype, one dimension); NaN and infinities are left out."""
        values = values.astype(np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self.count += len(values)
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        mantissa, exponent = np.frexp(np.abs(values))  # mantissa in [0.5, 1)
        cells = (exponent.astype(np.int64) + _OFFSET) * CELLS + ((mantissa - 0.5) * (2 * CELLS)).astype(np.int64)
        cells = np.where(values == 0, 0, np.sign(values).astype(np.int64) * cells)
        for cell, count in zip(*(part.tolist() for part in np.unique(cells, return_counts=True)), strict=True):
            self.cells[cell] = self.cells.get(cell, 0) + count

    def merge(self, other: Sketch) -> None:
        for cell, count in other.cells.items():
            self.cells[cell] = self.cells.get(cell, 0) + count
        self.count += other.count
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)

    def quantile(self, share: float) -> float | None:
        """The smallest value that at least `share` of the values do not exceed, to the precision of a cell; None of nothing."""
        rank, seen = max(1, math.ceil(share * self.count)), 0
        for cell in sorted(self.cells):
            seen += self.cells[cell]
            if seen >= rank:
                return min(max(_edge(cell), self.low), self.high)
        return None

    def split(self, at: float) -> tuple[float, int, int]:
        """(the edge less than 1/128 below `at` > 0, or at it; how many values are smaller than that edge; how many are not)."""
        mantissa, exponent = math.frexp(at)
        cell = (exponent + _OFFSET) * CELLS + int((mantissa - 0.5) * (2 * CELLS))
        smaller = sum(count for other, count in self.cells.items() if other < cell)
        return _edge(cell), smaller, self.count - smaller

    def octaves(self) -> dict[int | None, int]:
        """Counts of [2**k, 2**(k+1)) by k; of 0 by None. For values that are not negative."""
        counts: dict[int | None, int] = {}
        for cell in sorted(self.cells):
            octave = None if cell == 0 else cell // CELLS - _OFFSET - 1
            counts[octave] = counts.get(octave, 0) + self.cells[cell]
        return counts

    def linear(self, low: float, high: float, bins: int) -> list[int]:
        """Counts in `bins` equal steps from `low` to `high`, both included."""
        counts = [0] * bins
        for cell, count in self.cells.items():
            # Half a millionth of a step keeps a value that lies on an edge from falling below it by rounding.
            step = int((_edge(cell) - low) / (high - low) * bins + 5e-7)
            counts[min(max(step, 0), bins - 1)] += count
        return counts


def _edge(cell: int) -> float:
    """The end of a cell nearest to zero."""
    if cell == 0:
        return 0.0
    exponent, step = divmod(abs(cell), CELLS)
    return math.copysign(math.ldexp(0.5 + step / (2 * CELLS), exponent - _OFFSET), cell)


class TopSums:
    """Sums of (bytes, documents) by name, for the heaviest names: Misra-Gries with a wide margin.

    Exact while there are fewer than 2 × `capacity` names. Beyond that the bytes of a name may be short by up to `short_by`, which is
    less than all bytes / `capacity`; names lighter than that may be missing.
    """

    def __init__(self, capacity: int = 1 << 15) -> None:
        self.capacity = capacity
        self.sums: dict[str | None, tuple[int, int]] = {}  # None = unknown
        self.bytes = 0  # of all names, missing ones too
        self.documents = 0
        self.short_by = 0

    def add(self, sums: Iterable[tuple[str | None, int, int]]) -> None:
        for name, size, documents in sums:
            old = self.sums.get(name, (0, 0))
            self.sums[name] = (old[0] + size, old[1] + documents)
            self.bytes += size
            self.documents += documents
            if len(self.sums) >= 2 * self.capacity:
                self._trim()

    def merge(self, other: TopSums) -> None:
        """Add what `other`, of the same capacity, has summed; what both may be short by adds up."""
        whole = (self.bytes + other.bytes, self.documents + other.documents)
        self.add((name, size, documents) for name, (size, documents) in other.sums.items())
        self.bytes, self.documents = whole
        self.short_by += other.short_by

    def _trim(self) -> None:
        cut = sorted((size for size, _ in self.sums.values()), reverse=True)[self.capacity]
        self.short_by += cut
        self.sums = {name: (size - cut, documents) for name, (size, documents) in self.sums.items() if size > cut}

    def top(self, count: int | None = None, *, by: str = "bytes") -> list[tuple[str | None, int, int]]:
        """(name, bytes, documents) of the `count` names with most `by` bytes or documents, ties by name."""
        field = ("bytes", "documents").index(by)
        ranked = sorted(self.sums.items(), key=lambda entry: (-entry[1][field], entry[0] is not None, entry[0] or ""))
        return [(name, size, documents) for name, (size, documents) in ranked[:count]]
