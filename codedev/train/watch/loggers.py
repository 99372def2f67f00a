"""`run.log_to`: the numbers of metrics.jsonl in TensorBoard's files (RUN/tensorboard) and in Weights & Biases (RUN/wandb).

Neither is needed, neither is installed with codedev. Weights & Biases writes files alone and sends nothing, unless the environment says
WANDB_MODE=online; `wandb sync RUN/wandb/offline-*` sends them later. A run that goes on writes over the steps it does again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any, Protocol

from codedev._errors import RecipeError


class Logger(Protocol):
    def log(self, row: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


def check_installed(names: tuple[str, ...]) -> None:
    """RecipeError for one that is not there."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise RecipeError(f"run.log_to: {name} is not installed. Install it with: pip install {name}, or take it out of run.log_to")


def open_loggers(names: tuple[str, ...], run_dir: Path, recipe: dict[str, Any], step: int) -> list[Logger]:
    """`step`: where the run stands."""
    check_installed(names)
    return [_OPEN[name](run_dir, recipe, step) for name in dict.fromkeys(names)]


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """What of a row of metrics can be drawn."""
    return {name: value for name, value in row.items() if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)}


class _TensorBoard:
    def __init__(self, run_dir: Path, recipe: dict[str, Any], step: int) -> None:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(run_dir / "tensorboard"), purge_step=step + 1 if step else None)

    def log(self, row: dict[str, Any]) -> None:
        for name, value in numbers(row).items():
            self._writer.add_scalar(
                f"heldout/{name}" if name in ("bits_per_byte", "heldout_loss", "heldout_answer_loss") else f"train/{name}",
                value,
                row["step"],
            )

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, run_dir: Path, recipe: dict[str, Any], step: int) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        wandb = importlib.import_module("wandb")
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True)
        self._run = wandb.init(dir=str(run_dir), name=run_dir.name, config=recipe, mode=mode, resume="allow", settings=quiet)
        self._run.define_metric("*", step_metric="step")

    def log(self, row: dict[str, Any]) -> None:
        self._run.log({"step": row["step"], **numbers(row)})

    def close(self) -> None:
        self._run.finish()


_OPEN: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _Wandb}
