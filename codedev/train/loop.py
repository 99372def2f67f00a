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
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from codedev._errors import RecipeError, RunError
from codedev.train import metrics, parallel
from codedev.train.attention import Forward
from codedev.train.checkpoint import State
from codedev.train.data import Rows, Shards
from codedev.train.order import shuffled
from codedev.train.recipe import OptimRecipe
from codedev.train.schedule import lr_at

Loss = Callable[[Forward, Rows], torch.Tensor]
"""(forward, rows) -> the summed loss of the rows' targets, a scalar that can be differentiated."""


class Plan(NamedTuple):
    """How long a run is and what one step consists of."""

    steps: int
    rows: int  # of a step, over all processes
    micro_rows: int  # computed at once by a process
    seed: int

    def numbers(self, step: int, shards: Shards) -> np.ndarray:
        """The row numbers of `step`: (rows,) int64."""
        return shuffled(np.arange(step * self.rows, (step + 1) * self.rows), shards.rows, self.seed)


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and where."""

    model: nn.Module  # as wrapped for the processes
    forward: Forward
    loss: Loss
    optimizer: torch.optim.Optimizer
    shards: Shards
    place: parallel.World
    plan: Plan
    optim: OptimRecipe
    peak_flops: float | None  # FLOP/s of one device, for mfu
    parameters: int  # that multiply every token, counted before the model was spread
    attention_width: int


def adamw(model: nn.Module, optim: OptimRecipe, device: torch.device) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices alone."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=device.type == "cuda")


def next_token_loss(forward: Forward, rows: Rows) -> torch.Tensor:
    """Σ -ln p(target | earlier tokens of its segment)."""
    return cross_entropy(*_predictions(forward, rows.input_ids, rows.positions, rows.targets), ignore_index=-100, reduction="sum")


def scorer(model: nn.Module, forward: Forward, place: parallel.World) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The `Score` of codedev.eval.perplexity: nats of every token, the rows shared out among the processes."""

    def score(input_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        mine = np.array_split(np.arange(len(input_ids)), place.size)[place.rank]
        run = mine if len(mine) else np.arange(1)  # FSDP needs every process in every forward pass
        training = model.training
        model.eval()
        with torch.no_grad():
            logits, labels = _predictions(forward, input_ids[run], positions[run], positions[run] > 0)
            nats = cross_entropy(logits, labels, ignore_index=-100, reduction="none").reshape(len(run), -1)
        model.train(training)
        parallel.reshard(model)
        scores = np.zeros(input_ids.shape)
        if len(mine):
            scores[mine, 1:] = nats[:, :-1].cpu().numpy()
        return place.sum(scores)

    return score


def _predictions(forward: Forward, input_ids: np.ndarray, positions: np.ndarray, targets: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B*S, V) in float32 and the label (B*S,) that each is to predict: the next token where it is a target, else -100."""
    labels = np.full_like(input_ids, -100)
    labels[:, :-1] = np.where(targets, input_ids, -100)[:, 1:]
    logits = forward(torch.from_numpy(input_ids), torch.from_numpy(positions))
    return logits.flatten(0, 1).float(), torch.from_numpy(labels).flatten().to(logits.device)


def train(task: Task, state: State) -> Iterator[tuple[State, dict[str, Any]]]:
    """Train from `state` to the plan's end. Yields, after every step, where the run stands and its row of metrics.

    Time that the caller takes between two steps is not counted. Raises RunError when the loss or the gradient is no number, or when a step
    has nothing to learn from.
    """
    place, plan = task.place, task.plan
    if plan.rows % place.size:
        raise RecipeError(
            f"batch: {plan.rows} rows a step cannot be shared by {place.size} processes. Choose a number of processes that divides them"
        )
    share = plan.rows // place.size
    parameters = [parameter for group in task.optimizer.param_groups for parameter in group["params"]]
    task.model.train()
    for step in range(state.step, plan.steps):
        began = time.perf_counter()
        rate = lr_at(task.optim, step, plan.steps)
        for group in task.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(int(np.random.SeedSequence([plan.seed, step, place.rank]).generate_state(1, np.uint64)[0]))
        numbers = plan.numbers(step, task.shards)[place.rank * share : (place.rank + 1) * share]
        micro = [task.shards.read(numbers[at : at + plan.micro_rows]) for at in range(0, share, plan.micro_rows)]
        supervised, tokens, squares = place.sum(np.sum([_counts(rows) for rows in micro], axis=0)).tolist()
        if not supervised:
            raise RunError(
                f"step {step + 1}: no token of its {plan.rows} rows is trained on. Look at the loss_spans of the shards, or use more rows"
            )
        total = 0.0
        for at, rows in enumerate(micro):
            with parallel.gradients_later(task.model) if at < len(micro) - 1 else nullcontext():
                summed = task.loss(task.forward, rows)
                (summed * (place.size / supervised)).backward()
            total += float(summed.detach())
        loss = float(place.sum(np.array([total]))[0]) / supervised
        norm = parallel.number(nn.utils.clip_grad_norm_(parameters, task.optim.clip or math.inf))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise RunError(_not_finite(task, step, loss, norm))
        task.optimizer.step()
        task.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - began
        flops = metrics.flops_of_step(task.parameters, task.attention_width, tokens, squares)
        state = State(step + 1, state.tokens_seen + int(tokens))
        yield (
            state,
            {
                "step": state.step,
                "loss": loss,
                "lr": rate,
                "grad_norm": norm,
                "tokens_seen": state.tokens_seen,
                "supervised": int(supervised),
                "tokens_per_second": round(tokens / seconds, 1),
                "mfu": round(flops / seconds / (task.peak_flops * place.size), 4) if task.peak_flops else None,
            },
        )


def _counts(rows: Rows) -> np.ndarray:
    """Supervised tokens, tokens, and Σ length² of the segments."""
    # A segment of n tokens has Σ (2 * position + 1) = n².
    return np.array([rows.targets.sum(), rows.real.sum(), (2 * rows.positions[rows.real] + 1).sum()], np.float64)


def _not_finite(task: Task, step: int, loss: float, norm: float) -> str:
    numbers = task.plan.numbers(step, task.shards)[:3]
    documents = [segment.document for number in numbers for segment in task.shards.segments(int(number))]
    return (
        f"step {step + 1}: the loss is {loss:g} and its gradient {norm:g}; the weights were left as they were. Its first documents: "
        f"{', '.join(documents[:3])} (all: codedev.train.explain.documents_of_step). Lower optim.lr or optim.clip, or remove the document"
    )
