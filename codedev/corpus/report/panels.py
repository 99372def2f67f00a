"""From sketches to the panels of a histogram figure: which bins show a distribution best."""

from __future__ import annotations

import math
from typing import Any

from codedev.corpus.report.sketch import Sketch
from codedev.corpus.report.text import count

STEPS = 20  # bins of equal width
OCTAVES = 24  # bins that double, at most
TONES = {"kept": "kept", "dropped": "drop"}


def panel(name: str, series: list[tuple[str, Sketch]], unit: str = "") -> dict[str, Any]:
    """One axis for all of `series`, (kept or dropped, sketch): doubling bins for lengths (they have a `unit`) and for scores that reach
    over orders of magnitude, equal steps for the others. `clipped` says that the last bin also holds what lies beyond it."""
    there = [sketch for _, sketch in series if sketch.count]
    edges, bins = _doubling(series) if unit or any(map(_reaches_far, there)) else _steps(series)
    shown = [
        {"name": label, "tone": TONES[label], "count": sketch.count, "counts": counts}
        for (label, sketch), counts in zip(series, bins, strict=True)
    ]
    marks = [{"at": series[0][1].quantile(0.5), "label": "median"}] if series[0][1].count else []
    note = ", ".join(f"{count(sketch.count)} {label}" for label, sketch in series if sketch.count)
    clipped = max(sketch.high for sketch in there) > edges[-1]
    return {"name": name, "note": note, "unit": unit, "edges": edges, "clipped": clipped, "series": shown, "marks": marks}


def _reaches_far(sketch: Sketch) -> bool:
    """Whether equal steps would put most values into one of them."""
    tenth, most = sketch.quantile(0.1) or 0.0, sketch.quantile(0.9) or 0.0
    return sketch.low >= 0 and (most > 8 * tenth if tenth else sketch.high > 10 * most)


def _doubling(series: list[tuple[str, Sketch]]) -> tuple[list[float], list[list[int]]]:
    """(edges, counts of each series); what is smaller than the first octave, zero above all, shares one bin."""
    octaves = [sketch.octaves() for _, sketch in series]
    known = [octave for counts in octaves for octave in counts if octave is not None]
    last = max(known, default=0)
    first = max(min(known, default=0), last - OCTAVES + 1)
    less = [sum(number for octave, number in counts.items() if octave is None or octave < first) for counts in octaves]
    edges = [0.0] * any(less) + [2.0**octave for octave in range(first, last + 2)]
    return edges, [[below] * any(less) + [c.get(at, 0) for at in range(first, last + 1)] for below, c in zip(less, octaves, strict=True)]


def _steps(series: list[tuple[str, Sketch]]) -> tuple[list[float], list[list[int]]]:
    """(edges, counts of each series) from a round number, or 0, to a round number; a far outlier does not stretch the axis."""
    there = [sketch for _, sketch in series if sketch.count]
    low, high = min(sketch.low for sketch in there), max(min(sketch.high, 2 * (sketch.quantile(0.99) or 0.0)) for sketch in there)
    start, end = (0.0 if low >= 0 else -_round_up(-low)), (_round_up(high) if high > 0 else 0.0)
    end = end if end > start else start + 1
    edges = [start + (end - start) * step / STEPS for step in range(STEPS + 1)]
    return edges, [sketch.linear(start, end, STEPS) for _, sketch in series]


def _round_up(value: float) -> float:
    """The first of 1, 2, 5 × 10**k that is not below `value` > 0."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))
