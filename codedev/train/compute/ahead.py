"""The rows of the next step, read while this one is computed: one step ahead, on a thread, into pinned memory for a GPU.

Which rows they are is a function of the step alone, so reading ahead changes nothing but the moment; a row that cannot be read is an error
of its own step.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from codedev.train.compute.parallel import World
    from codedev.train.loop import Data, Plan


class Step(NamedTuple):
    """This process's share of a step."""

    micro: list[Any]  # as the data reads them
    counts: np.ndarray  # float64: supervised tokens, tokens, Σ length² of the segments


def steps_ahead(shards: Data, plan: Plan, place: World, first: int) -> Iterator[tuple[int, Step]]:
    """The steps from `first` on to the plan's end, with their numbers. At most two are in memory."""
    share = plan.rows // place.size
    pinned = place.device.type == "cuda"
    arranged = getattr(shards, "arranged", lambda numbers: numbers)  # so that what is computed together is of like length

    def read(step: int) -> Step:
        numbers = arranged(plan.numbers(step, shards)[place.rank * share : (place.rank + 1) * share])
        micro = [shards.read(numbers[at : at + plan.micro_rows]) for at in range(0, share, plan.micro_rows)]
        counts = np.sum([_counts(rows) for rows in micro], axis=0)
        if pinned:
            sent = [name for name in ("input_ids", "positions") if hasattr(micro[0], name)]
            micro = [rows._replace(**{name: _pinned(getattr(rows, name)) for name in sent}) for rows in micro]
        return Step(micro, counts)

    with ThreadPoolExecutor(1, "rows") as thread:
        coming = thread.submit(read, first) if first < plan.steps else None
        for step in range(first, plan.steps):
            assert coming is not None
            now = coming.result()
            coming = thread.submit(read, step + 1) if step + 1 < plan.steps else None
            yield step, now


def _pinned(array: np.ndarray) -> np.ndarray:
    pinned: Any = torch.from_numpy(array).pin_memory()
    return np.asarray(pinned)


def _counts(rows: Any) -> np.ndarray:
    if hasattr(rows, "counts"):
        own: np.ndarray = rows.counts()
        return own
    # A segment of n tokens has Σ (2 * position + 1) = n².
    return np.array([rows.targets.sum(), rows.real.sum(), (2 * rows.positions[rows.real] + 1).sum()], np.float64)
