"""How far raters agree, beyond chance: Krippendorff's alpha (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability).

1 = always, 0 = as often as by chance, below 0 = less. `skip` is no opinion. Verdicts of comparisons are names, those of ratings numbers
whose distance counts.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from codedev.feedback.store import Judgement

Distance = Callable[[str, str], float]


def nominal(a: str, b: str) -> float:
    return float(a != b)


def interval(a: str, b: str) -> float:
    return (float(a) - float(b)) ** 2


def alpha(units: Iterable[list[str]], distance: Distance) -> float | None:
    """Of units, each the values that raters gave it. None where no unit has two values, or all values are the same one."""
    weights: defaultdict[tuple[str, str], float] = defaultdict(float)
    for values in units:
        if len(values) < 2:
            continue
        counts = Counter(values)
        for a, b in itertools.product(counts, repeat=2):
            weights[a, b] += counts[a] * (counts[b] - (a == b)) / (len(values) - 1)
    of_value: defaultdict[str, float] = defaultdict(float)
    for (a, _), weight in weights.items():
        of_value[a] += weight
    total = sum(of_value.values())
    expected = sum(of_value[a] * of_value[b] * distance(a, b) for a, b in itertools.product(of_value, repeat=2))
    if not expected:
        return None
    observed = sum(weight * distance(a, b) for (a, b), weight in weights.items())
    return 1 - (total - 1) * observed / expected


def agreement(judgements: Iterable[Judgement], kinds: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """For each kind of task that two raters have judged: tasks in common, the share on which all agree, alpha. `kinds`: of task ids."""
    values: dict[str, defaultdict[str, list[str]]] = {"compare": defaultdict(list), "rate": defaultdict(list)}
    for judgement in judgements:
        if judgement.verdict != "skip" and judgement.task in kinds:
            values[kinds[judgement.task]][judgement.task].append(judgement.verdict)
    found = {}
    for kind, distance in (("compare", nominal), ("rate", interval)):
        units = [given for given in values[kind].values() if len(given) > 1]
        if units:
            found[kind] = {
                "tasks": len(units),
                "same": sum(len(set(given)) == 1 for given in units) / len(units),
                "alpha": alpha(units, distance),
            }
    return found
