"""The training loop: one for every stage. A stage supplies the loss of a micro-batch; the rest is here.

The gradient of a step is that of Σ loss / (supervised tokens of the whole step), over micro-batches and processes alike: how a step
is cut up changes rounding and nothing else. Rows and randomness are functions of (seed, step), so a run that goes on from a
checkpoint repeats the undisturbed run's losses to the bit on the same machine and number of processes; dropout depends on that number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from codedev._errors import RecipeError, RunError
from codedev.train.compute import parallel
from codedev.train.compute.ahead import steps_ahead
from codedev.train.compute.attention import Call, Forward
from codedev.train.compute.flops import flops_of_step
from codedev.train.compute.optim import adamw
from codedev.train.schedule import lr_at
from codedev.train.watch.policy import STOP, Policy

if TYPE_CHECKING:  # none of these is needed to run: benchmarks do without what they import
    from codedev.train.checkpoint import State
    from codedev.train.data import Rows
    from codedev.train.recipe import OptimRecipe

__all__ = ["Data", "Loss", "OutsideError", "Plan", "Task", "adamw", "next_token_loss", "scorer", "train"]

Loss = Callable[[Any, Any], torch.Tensor]
"""(forward, rows) -> the summed loss of the rows' targets, a scalar that can be differentiated; or a vector of it and other sums."""


class Data(Protocol):
    """What a run reads: rows by their numbers, as data.Shards has them."""

    @property
    def rows(self) -> int: ...
    @property
    def seq_len(self) -> int: ...
    @property
    def tokenizer_file(self) -> Path: ...
    def drawn(self, positions: np.ndarray, seed: int, /) -> np.ndarray: ...  # row numbers of the endless stream
    def read(self, numbers: np.ndarray, /) -> Any: ...  # what Task.loss takes
    def segments(self, number: int, /) -> list[Any]: ...  # data.Segment
    def place_of(self, number: int, /) -> tuple[Path, int]: ...


class Plan(NamedTuple):
    """How long a run is and what one step consists of."""

    steps: int
    rows: int  # of a step, over all processes
    micro_rows: int  # computed at once by a process
    seed: int

    def numbers(self, step: int, shards: Data) -> np.ndarray:
        """The row numbers of `step`: (rows,) int64."""
        return shards.drawn(np.arange(step * self.rows, (step + 1) * self.rows), self.seed)


class OutsideError(RunError):
    """Something that is no part of the run failed, such as a user's rewards: weights and state are those of the last step."""


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and where."""

    model: nn.Module  # as wrapped for the processes
    forward: Any  # that `loss` takes
    loss: Loss
    optimizer: torch.optim.Optimizer
    shards: Data
    place: parallel.World
    plan: Plan
    optim: OptimRecipe
    peak_flops: float | None  # FLOP/s of one device, for mfu
    parameters: int  # that multiply every token, counted before the model was spread
    attention_width: int
    policy: Policy = STOP  # what becomes of a bad step
    also: tuple[str, ...] = ()  # what the numbers behind the loss are called in metrics, divided as it is
    sized: bool = True  # every row has seq_len places, and those without a token are padding


def next_token_loss(forward: Forward, rows: Rows) -> torch.Tensor:
    """Σ -ln p(target | earlier tokens of its segment)."""
    return _nats(forward, rows.input_ids, rows.positions, rows.targets, each=False)[0]


def scorer(model: nn.Module, forward: Forward, place: parallel.World) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The `Score` of codedev.eval.perplexity: nats of every token, the rows shared out among the processes."""

    def score(input_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        mine = np.array_split(np.arange(len(input_ids)), place.size)[place.rank]
        run = mine if len(mine) else np.arange(1)  # FSDP needs every process in every forward pass
        training = model.training
        model.eval()
        with torch.no_grad():
            nats, where = _nats(forward, input_ids[run], positions[run], positions[run] > 0, each=True)
        model.train(training)
        parallel.reshard(model)
        scores = np.zeros(input_ids.shape)
        if len(mine):
            own = np.zeros(input_ids[run].size)
            own[where + 1] = nats.cpu().numpy()
            scores[mine] = own.reshape(len(run), -1)
        return place.sum(scores)

    return score


def _nats(
    forward: Forward, input_ids: np.ndarray, positions: np.ndarray, targets: np.ndarray, *, each: bool
) -> tuple[torch.Tensor, np.ndarray]:
    """Nats of the `targets` (B, S) bool, summed or one by one, and the flat positions (n,) before them, which predict them."""
    where = np.flatnonzero(targets[:, 1:])
    where += where // max(1, targets.shape[1] - 1)  # rows are one shorter there
    ids, labels = torch.from_numpy(input_ids), torch.from_numpy(input_ids.reshape(-1)[where + 1])
    if isinstance(forward, Call):
        return forward.nats(ids, torch.from_numpy(positions), torch.from_numpy(where), labels, each=each), where
    logits = forward(ids, torch.from_numpy(positions))
    picked = logits.flatten(0, 1).index_select(0, torch.from_numpy(where).to(logits.device)).float()
    return cross_entropy(picked, labels.to(logits.device), reduction="none" if each else "sum"), where


def train(task: Task, state: State) -> Iterator[tuple[State, dict[str, Any]]]:
    """Train from `state` to the plan's end. Yields, after every step, where the run stands and its row of metrics.

    Time that the caller takes between two steps is not counted. Raises RunError for a bad step where `task.policy` says so, or when a step
    has nothing to learn from.
    """
    place, plan = task.place, task.plan
    if plan.rows % place.size:
        raise RecipeError(
            f"batch: {plan.rows} rows a step cannot be shared by {place.size} processes. Choose a number of processes that divides them"
        )
    parameters = [parameter for group in task.optimizer.param_groups for parameter in group["params"]]
    task.model.train()
    began = time.perf_counter()
    for step, (micro, counts) in steps_ahead(task.shards, plan, place, state.step):
        rate = lr_at(task.optim, step, plan.steps)
        for group in task.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(int(np.random.SeedSequence([plan.seed, step, place.rank]).generate_state(1, np.uint64)[0]))
        supervised, tokens, squares = place.sum(counts).tolist()
        if not supervised:
            raise RunError(
                f"step {step + 1}: no token of its {plan.rows} rows is trained on. Look at the loss_spans of the shards, or use more rows"
            )
        total = torch.zeros(1 + len(task.also), dtype=torch.float64, device=place.device)
        for at, rows in enumerate(micro):
            with parallel.gradients_later(task.model) if at < len(micro) - 1 else nullcontext():
                found = task.loss(task.forward, rows)
                summed = found[0] if task.also else found
                (summed * (place.size / supervised)).backward()
            total += found.detach()
        # The one moment of a step at which the CPU waits for a GPU: what the step is worth decides whether it is taken.
        norm = parallel.number(nn.utils.clip_grad_norm_(parameters, task.optim.clip or math.inf))
        loss, *more = (one / supervised for one in place.totals(total))
        verdict = task.policy.judge(state.watched, step, loss, norm)
        if verdict.reason is None:
            task.optimizer.step()
        task.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - began
        flops = flops_of_step(task.parameters, task.attention_width, tokens, squares)
        state = state._replace(step=step + 1, tokens_seen=state.tokens_seen + int(tokens), watched=verdict.watched)
        yield (
            state,
            {
                "step": state.step,
                **verdict.told,
                **dict(zip(task.also, more, strict=True)),
                "lr": rate,
                "grad_norm": norm,
                "tokens_seen": state.tokens_seen,
                "supervised": int(supervised),
                **({"padded": plan.rows * task.shards.seq_len - int(tokens)} if task.sized else {}),
                "tokens_per_second": round(tokens / seconds, 1),
                "mfu": round(flops / seconds / (task.peak_flops * place.size), 4) if task.peak_flops else None,
            },
        )
        began = time.perf_counter()
