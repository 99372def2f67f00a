"""SIGTERM and Ctrl-C: the step is finished, a checkpoint saved, and the run ends with what to run to go on.

Exit code 143 after SIGTERM and 130 after Ctrl-C, as a shell has it. A second Ctrl-C, two seconds and more after the first, stops at once
without saving (a launcher such as torchrun passes on what the terminal has sent already). A second SIGTERM changes nothing.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import numpy as np

from codedev._run import Progress
from codedev.train.compute.parallel import World

_AGAIN = 2.0  # seconds after which a second Ctrl-C is meant


class StoppedError(KeyboardInterrupt):
    """The run was asked to stop and has saved where it stands. No Exception: it ends what called the run, too."""

    def __init__(self, name: str, step: int, steps: int, checkpoint: str) -> None:
        super().__init__(f"stopped by {name} after step {step} of {steps}, saved as {checkpoint}. The same command goes on from there")
        self.exit_code = 128 + signal.Signals[name].value


class Asked:
    """Which signal has come, if any."""

    name: str | None = None
    at = 0.0

    def come(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.name is not None and number == signal.SIGINT and now - self.at > _AGAIN:
            raise KeyboardInterrupt
        if self.name is None:
            self.name, self.at = signal.Signals(number).name, now

    def agreed(self, place: World) -> str | None:
        """The signal, as soon as one process has it. Every process calls it after the same step."""
        if place.size == 1:
            return self.name
        numbers = [0.0, 0.0]
        if self.name is not None:
            numbers[self.name == "SIGTERM"] = 1.0
        ctrl_c, term = place.sum(np.array(numbers)).tolist()
        return "SIGTERM" if term else "SIGINT" if ctrl_c else None

    def cutting(self, progress: Progress, place: World) -> Progress:
        """`progress`, which leaves the work that calls it as soon as a signal has come. Several processes finish it together."""

        def told(what: str, done: int, total: int | None, note: str = "") -> None:
            progress(what, done, total, note)
            if self.name is not None and place.size == 1:
                raise _CutError

        return told


@contextmanager
def listening() -> Iterator[Asked]:
    """Inside, SIGTERM and SIGINT are noted instead of ending the process. Outside the main thread, where Python hands out no signals,
    nothing is."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before: dict[signal.Signals, Any] = {number: signal.signal(number, asked.come) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _CutError(Exception):
    """Leaves an evaluation in the middle."""


@contextmanager
def cut_short() -> Iterator[None]:
    """What `Asked.cutting` leaves half-done ends here."""
    with suppress(_CutError):
        yield
