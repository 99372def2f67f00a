"""MB of HTML a second of one core, the extractors taking turns: what disturbs the machine disturbs them all."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
import warnings
from collections.abc import Sequence
from typing import Any

from extract import extractors


def rates(names: Sequence[str], pages: Sequence[bytes], repeats: int, over: str) -> dict[str, dict[str, Any]]:
    """Of each name `rate` and `times`, how much faster than `over` it is: both the median of the rounds, after one that does not count.

    CPU time of this process, which reads from memory. Caches that tools keep across pages are emptied before each turn."""
    amount = sum(map(len, pages)) / 1e6
    tools = {name: extractors.extractor(name) for name in names}
    spent: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + 1):
        order = [*names[turn % len(names) :], *names[: turn % len(names)]]
        for name in order:
            seconds = _turn(tools[name], pages)
            if turn:
                spent[name].append(seconds)
    return {
        name: {
            "rate": statistics.median(amount / seconds for seconds in spent[name]),
            "times": statistics.median(theirs / ours for ours, theirs in zip(spent[name], spent[over], strict=True)),
            "rounds": repeats,
        }
        for name in names
    }


def _turn(extract: extractors.Extract, pages: Sequence[bytes]) -> float:
    extractors.fresh()
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = time.process_time()
        for html in pages:
            with contextlib.suppress(Exception):  # counted as failed where it is scored
                extract(html)
        return time.process_time() - started
