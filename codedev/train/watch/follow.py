"""Whoever follows a run while it goes on: the words beside the progress bar, RUN/index.html, TensorBoard and Weights & Biases.

On the first process alone. Nothing here can end a run: a page that cannot be written is told of once, and left.
"""

from __future__ import annotations

import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml

from codedev import __version__
from codedev._run import write_text
from codedev._terminal import clock, note
from codedev.train.compute.parallel import World
from codedev.train.loop import Data, Plan
from codedev.train.recipe import TrainRecipe
from codedev.train.watch import metrics, page
from codedev.train.watch.curves import Curve, Spikes
from codedev.train.watch.loggers import Logger, open_loggers
from codedev.train.watch.signals import StoppedError

CURVES: tuple[str, ...] = (
    *("loss", "bits_per_byte", "heldout_answer_loss", "lr", "grad_norm", "tokens_per_second", "mfu", "supervised", "padded"),
    *("accuracy", "margin"),  # of stage reward, with what is measured on held-out examples
    *(f"heldout_{name}" for name in ("accuracy", "margin", "ece", "brier", "r2", "spearman", "mse")),
    *(
        "reward",
        "reward_std",
        "groups_alike",
        "heldout_reward",
        "kl",
        "entropy",
        "answer_tokens",
        "unended",
        "repetition",
        "kl_coef",
    ),  # of stages that sample answers
    *("policy_loss", "value_loss", "explained_variance", "clip_share", "mismatch"),
    *("reward_margin", "reward_accuracy", "heldout_reward_margin", "heldout_reward_accuracy", "heldout_loss"),  # of dpo and kto
)
_MOST = 100  # curves
_FIRST = 12  # documents of a spike that are named
_SKIPPED = 50  # skipped steps that the page names, the last ones


def open_follow(recipe: TrainRecipe, run_dir: Path, shards: Data, plan: Plan, step: int, environment: list[tuple[str, str]]) -> Follow:
    """For a run that stands at `step`, whose metrics.jsonl is cut to it."""
    dumped = recipe.model_dump(mode="json")
    facts = {
        "name": run_dir.name,
        "what": f"stage {recipe.stage}, tune {recipe.tune}",
        "run_dir": str(run_dir),
        "command": f"codedev train {run_dir / 'recipe.yaml'}",
        "recipe": yaml.safe_dump(dumped, sort_keys=False, allow_unicode=True),
        "environment": [list(pair) for pair in environment],
    }

    def documents(step: int) -> list[dict[str, Any]]:
        segments = []
        for number in plan.numbers(step, shards).tolist():
            directory, row = shards.place_of(number)
            segments += [{"shards": str(directory), **segment._asdict(), "row": row} for segment in shards.segments(number)]
        return segments

    loggers = open_loggers(recipe.run.log_to, run_dir, dumped, step)
    return Follow(run_dir, metrics.read_metrics(run_dir), plan.steps, recipe.run.page_every, facts, documents, loggers)


@contextmanager
def ending(follower: Follow | None) -> Iterator[None]:
    """The page's last writing says how the run ended."""
    if follower is None:
        yield
        return
    try:
        yield
    except StoppedError as stopped:
        follower.end("stopped", str(stopped))
        raise
    except BaseException as error:
        follower.end("failed", str(error) or type(error).__name__)
        raise
    follower.end("finished", "")


def environment(place: World, how: str, attn: str, dtype: torch.dtype, parameters: Any) -> list[tuple[str, str]]:
    """What a run computes on and with, for its page. `parameters`: tune.Counts."""
    device = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return [
        ("device", device),
        ("processes", f"{place.size}, {how}"),
        ("arithmetic", f"{str(dtype).removeprefix('torch.')}, attention {attn}"),
        ("parameters", f"{parameters.total:,}, of them trained {parameters.trained:,}"),
        ("codedev", __version__),
        ("torch", torch.__version__),
        ("transformers", transformers.__version__),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
    ]


class Follow:
    """`rows`: those that metrics.jsonl holds from before. `documents`: step, counted from 0 -> its segments. `facts`: of page.render."""

    def __init__(
        self,
        run_dir: Path,
        rows: list[dict[str, Any]],
        steps: int,
        every: float,
        facts: dict[str, Any],
        documents: Callable[[int], list[dict[str, Any]]],
        loggers: list[Logger],
    ) -> None:
        self._path, self._steps, self._every, self._facts, self._documents = run_dir / "index.html", steps, every, facts, documents
        self._loggers = loggers
        self._curves = {name: Curve() for name in CURVES}
        self._spikes = Spikes()
        self._named: dict[int, dict[str, Any]] = {}  # documents of spikes
        self._skipped: deque[dict[str, Any]] = deque(maxlen=_SKIPPED)
        self._skips = 0  # all of them
        self._row: dict[str, Any] = {}  # the last one of a step
        self._first_bits: float | None = None
        self._alarm: str | None = None  # of the last measurement
        self._began, self._began_at = time.monotonic(), max((row["step"] for row in rows), default=0)
        self._written = -float("inf")
        for row in rows:
            self._take(row)

    def row(self, row: dict[str, Any]) -> None:
        """A row of metrics, whether it is logged or not. Writes the page where it is due."""
        self._take(row)
        for logger in self._loggers:
            logger.log(row)
        if time.monotonic() - self._written >= self._every:
            self.write("running", "")

    def words(self, row: dict[str, Any]) -> str:
        """loss 2.314  12,345 tokens/s  MFU 41.2%; the time left where no bar shows it."""
        loss = f"loss {row['loss']:.3f}" if "loss" in row else f"skipped: {row['skipped']}"
        loss = f"reward {row['reward']:.3f}" if row.get("reward") is not None else loss
        mfu = "-" if row["mfu"] is None else f"{row['mfu']:.1%}"
        words = f"{loss}  {row['tokens_per_second']:,.0f} tokens/s  MFU {mfu}"
        left = self.left()
        return words if left is None or sys.stderr.isatty() else f"{words}  {clock(left)} left"

    def left(self) -> float | None:
        """Seconds to the end at the speed so far, evaluation and checkpoints included."""
        done = self._row.get("step", 0) - self._began_at
        return (time.monotonic() - self._began) / done * (self._steps - self._row["step"]) if done > 0 else None

    def end(self, status: str, message: str) -> None:
        """`status`: finished, stopped or failed."""
        self.write(status, message)
        for logger in self._loggers:
            logger.close()

    def write(self, status: str, message: str) -> None:
        spikes = self._spikes.found()
        for spike in spikes:
            if spike["step"] not in self._named:
                segments = self._documents(spike["step"] - 1)
                self._named[spike["step"]] = {"count": len(segments), "first": segments[:_FIRST]}
            spike["documents"] = self._named[spike["step"]]
        self._named = {spike["step"]: spike["documents"] for spike in spikes}
        state = {
            "status": status,
            "message": message,
            "steps": self._steps,
            "row": self._row,
            "first_bits": self._first_bits,
            "alarm": self._alarm,
            "seconds": time.monotonic() - self._began if self._row.get("step", 0) > self._began_at or status != "finished" else None,
            "left": self.left() if status == "running" else None,
            "refresh": self._every if status == "running" else None,
            "spikes": spikes,
            "skipped": list(self._skipped),
            "skips": self._skips,
        }
        try:
            write_text(self._path, page.render(self._facts, state, self._curves))
        except OSError as error:
            if self._every < float("inf"):
                note(f"{self._path}: cannot be written ({error.strerror}); the run goes on without")
            self._every = float("inf")
        self._written = time.monotonic()

    def _take(self, row: dict[str, Any]) -> None:
        for name in row:  # parts of rewards have names of their own
            if name.startswith("reward/") and len(self._curves) < _MOST:
                self._curves.setdefault(name, Curve())
        for name, curve in self._curves.items():
            curve.add(row["step"], row.get(name))
        if "loss" in row:
            self._spikes.add(row["step"], row["loss"])
        if "skipped" in row:
            self._skipped.append(row)
            self._skips += 1
        if "tokens_seen" in row:
            self._row = row
        if "heldout_loss" in row or "alarm" in row:
            self._alarm = row.get("alarm")
        if "bits_per_byte" in row and self._first_bits is None:
            self._first_bits = row["bits_per_byte"]
