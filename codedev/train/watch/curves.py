"""Curves of a run in bounded memory: steps are added up in buckets, which double when there are too many, so that a run of a million steps
costs what one of a thousand does and no peak is lost: each bucket keeps its lowest and highest value."""

from __future__ import annotations

import bisect
import math
import statistics
from typing import Any, NamedTuple

MOST = 1024  # buckets of a curve

# A step is named on the run's page where its loss is this far above the steps before it, in both ways. (The policy's own bound, run.spike,
# is another matter: it changes the run.)
_TIMES, _DEVIATIONS, _FEWEST = 1.15, 6.0, 20
_NAMED = 12  # spikes that are kept, the highest


class Bucket(NamedTuple):
    step: int  # its first
    steps: int  # that are in it
    total: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        return self.total / self.steps


class Curve:
    """Values by step. What is no number is passed over."""

    def __init__(self) -> None:
        self.width = 1  # steps of a bucket
        self.buckets: list[Bucket] = []

    def add(self, step: int, value: float | None) -> None:
        if value is None or not math.isfinite(value):
            return
        self._put(Bucket(step - step % self.width, 1, value, value, value))
        if len(self.buckets) > MOST:
            self.width *= 2
            old, self.buckets = self.buckets, []
            for bucket in old:
                self._put(bucket._replace(step=bucket.step - bucket.step % self.width))

    def _put(self, new: Bucket) -> None:
        if self.buckets and self.buckets[-1].step == new.step:
            last = self.buckets[-1]
            counts = (last.steps + new.steps, last.total + new.total, min(last.low, new.low), max(last.high, new.high))
            self.buckets[-1] = Bucket(new.step, *counts)
        else:
            self.buckets.append(new)

    def last(self) -> float | None:
        return self.buckets[-1].mean if self.buckets else None


def smoothed(means: list[float]) -> list[float]:
    """An exponential average over a fortieth of the values, without the drag of a beginning at nothing."""
    keep = 1 - 1 / max(1.0, len(means) / 40)
    total = weight = 0.0
    result = []
    for mean in means:
        total, weight = keep * total + (1 - keep) * mean, keep * weight + (1 - keep)
        result.append(total / weight)
    return result


class Spikes:
    """Steps whose loss stands out from those before, the highest of them by their ratio to the median."""

    def __init__(self) -> None:
        self._recent: list[float] = []
        self._found: list[tuple[float, int, float]] = []  # ratio, step, loss; rising

    def add(self, step: int, loss: float) -> None:
        if len(self._recent) >= _FEWEST and math.isfinite(loss):
            median = statistics.median(self._recent)
            spread = 1.4826 * statistics.median(abs(one - median) for one in self._recent)
            if median > 0 and loss > _TIMES * median and loss > median + _DEVIATIONS * spread:
                bisect.insort(self._found, (loss / median, step, loss))
                del self._found[:-_NAMED]
        self._recent = [*self._recent, loss][-50:]

    def found(self) -> list[dict[str, Any]]:
        """step, loss and ratio of each, in the order of the steps."""
        return [{"step": step, "loss": loss, "ratio": ratio} for ratio, step, loss in sorted(self._found, key=lambda one: one[1])]
