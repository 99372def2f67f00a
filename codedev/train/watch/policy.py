"""What becomes of a step whose loss or gradient is no number, or whose loss is a spike: `run.on_bad_step`.

    stop   the run ends with an error that names the documents; the last checkpoint is what it was
    skip   weights and optimizer stay as they were, the step is counted and logged with its documents, the run goes on

A spike is a loss above `run.spike` times the median of the last WINDOW good steps (of at least FEWEST: before that there is none). What
this needs to know of earlier steps is part of the checkpoint, so that a run that goes on judges as an undisturbed one does; and of a policy
that was changed in between, `check_same_way` tells whether it would have come by the checkpoint at all.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from codedev._errors import RunError

WINDOW, FEWEST = 50, 10  # good steps that the median is of
NAMED = 5  # documents of a skipped step in metrics.jsonl

Documents = Callable[[int], list[dict[str, Any]]]
"""step, counted from 0 -> its segments with their losses, as `explain.segment_losses` gives them. Every process calls it."""


class Watched(NamedTuple):
    """What earlier steps leave behind for judging later ones."""

    recent: tuple[float, ...] = ()  # losses of the last good steps, the oldest first
    skipped: int = 0  # steps so far
    in_row: int = 0  # of those, the last ones without a good step between
    worst: float = 0.0  # the highest ratio of a good step's loss to the median before it
    least: float | None = None  # the lowest ratio of a skipped one's


class Verdict(NamedTuple):
    reason: str | None  # why the step is skipped; None: it is good
    watched: Watched
    told: dict[str, Any]  # of the step's row of metrics


@dataclass(frozen=True)
class Policy:
    on_bad_step: str = "stop"
    spike: float | None = None  # times the running median
    max_skips: int = 5  # in a row
    documents: Documents | None = None
    run_dir: str = "RUN"

    def judge(self, watched: Watched, step: int, loss: float, norm: float) -> Verdict:
        """The verdict on `step`, counted from 0. Raises RunError for a bad one where the policy is to stop, or after too many."""
        ratio = _ratio(watched.recent, loss)
        reason = None
        if not math.isfinite(loss):
            reason = "loss is no number"
        elif not math.isfinite(norm):
            reason = "gradient is no number"
        elif self.spike is not None and ratio is not None and ratio > self.spike:
            reason = "spike"
        if reason is None:
            recent = (*watched.recent, loss)[-WINDOW:]
            return Verdict(None, watched._replace(recent=recent, in_row=0, worst=max(watched.worst, ratio or 0.0)), {"loss": loss})
        found = self.documents(step) if self.documents else []
        if self.on_bad_step == "stop" or watched.in_row >= self.max_skips:
            raise RunError(self._said(watched, step, loss, norm, ratio if reason == "spike" else None, found))
        least = watched.least
        if reason == "spike" and ratio is not None:
            least = ratio if least is None else min(least, ratio)
        named = [_short(one) for one in _worst(found)[:NAMED]]
        told = {"skipped": reason, "bad_loss": loss if math.isfinite(loss) else None, "documents": named}
        return Verdict(reason, watched._replace(skipped=watched.skipped + 1, in_row=watched.in_row + 1, least=least), told)

    def _said(self, watched: Watched, step: int, loss: float, norm: float, ratio: float | None, found: list[dict[str, Any]]) -> str:
        if ratio is None:
            what = f"the loss is {loss:g} and its gradient {norm:g}"
        else:
            before = f"{ratio:.3g} times the median of the {len(watched.recent)} steps before"
            what = f"the loss is {loss:g}, {before} (run.spike: {self.spike:g})"
        after = f", after {watched.in_row} skipped steps in a row (run.max_skips)" if watched.in_row else ""
        named = ""
        if found:
            top = ", ".join(f"{one['document']} {one['loss']:.3g}" for one in _worst(found)[:3] if one["loss"] is not None)
            named = f" Its {len(found)} documents begin with {found[0]['document']}; highest losses: {top or 'none is trained on'}."
        return (
            f"step {step + 1}: {what}{after}; the weights were left as they were.{named} All of them: codedev train explain {self.run_dir} "
            f"--step {step + 1}. Lower optim.lr or optim.clip, remove the document, or set run.on_bad_step to skip"
        )


STOP = Policy()


def read_watched(data: Any) -> Watched:
    """`Watched` as a checkpoint keeps it; of one that has none, an empty one. ValueError where it is not as it was written."""
    if data is None:
        return Watched()
    if not isinstance(data, dict) or set(data) != set(Watched._fields):
        raise ValueError("watched")
    recent, counts = data["recent"], [data["skipped"], data["in_row"]]
    ratios = [data["worst"], *([] if data["least"] is None else [data["least"]])]
    if not isinstance(recent, list) or not all(isinstance(number, int | float) for number in [*recent, *ratios]):
        raise ValueError("watched")
    if not all(isinstance(number, int) and number >= 0 for number in counts):
        raise ValueError("watched")
    return Watched(tuple(map(float, recent)), data["skipped"], data["in_row"], float(data["worst"]), data["least"])


def check_same_way(watched: Watched, on_bad_step: str, spike: float | None) -> str | None:
    """Why a run of this policy would not have come by a checkpoint with `watched`; None where it would."""
    if watched.skipped and on_bad_step == "stop":
        return f"{watched.skipped} steps before it were skipped, the recipe says run.on_bad_step: stop"
    if spike is not None and watched.worst > spike:
        return f"a step before it has {watched.worst:.4g} times the loss of those before, which is a spike by run.spike {spike:g}"
    if watched.least is not None and (spike is None or watched.least <= spike):
        return f"a step of {watched.least:.4g} times the loss of those before was skipped, which is no spike by run.spike {spike}"
    return None


def _ratio(recent: tuple[float, ...], loss: float) -> float | None:
    median = statistics.median(recent) if len(recent) >= FEWEST else 0.0
    return loss / median if median > 0 and math.isfinite(loss) else None


def _worst(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """No number first, then falling losses, then what has none."""

    def place(one: dict[str, Any]) -> float:
        loss = one["loss"]
        return math.inf if loss is None else -loss if math.isfinite(loss) else -math.inf

    return sorted(found, key=place)


def _short(one: dict[str, Any]) -> dict[str, Any]:
    loss = one["loss"]
    return {
        "document": one["document"],
        "row": one["row"],
        "start": one["start"],
        "loss": round(loss, 4) if loss is not None and math.isfinite(loss) else None,
    }
