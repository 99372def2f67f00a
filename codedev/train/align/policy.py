"""A policy: the model called for ln p, entropy and hidden state of given tokens alone, and the head that values them.

Only hidden states that predict a token of an answer meet the output matrix, a piece at a time; while gradients are wanted a piece is
computed again in the backward pass, so that logits of one piece are all that is ever kept. The value of a token is a linear function of
the state before it, in float32; it begins at 0, and lies beside the model, never in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from codedev._errors import RecipeError
from codedev.train.compute.attention import Call
from codedev.train.compute.loss import ROWS, After, WithLoss, chunk_of, headless


class Batch(NamedTuple):
    """Prompts and answers that are computed together; padding at their ends is a segment of its own."""

    input_ids: torch.Tensor  # (B, S) int64
    positions: torch.Tensor  # (B, S) int64, from the start of the segment
    where: torch.Tensor  # (n,) int64, flat positions of what predicts the answers' tokens, answer after answer
    labels: torch.Tensor  # (n,) int64, these tokens


class Told(NamedTuple):
    """Of every token of the answers (n,), answer after answer."""

    logprobs: torch.Tensor
    entropy: torch.Tensor
    hidden: torch.Tensor  # (n, D) the state that predicts it


class Policy(WithLoss):
    """What is spread over processes: `model`, called for logits (as WithLoss) or for Told."""

    def forward(
        self,
        inputs: dict[str, Any],
        where: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        each: bool = False,
        temperature: float | None = None,
    ) -> Any:
        """Logits or nats; with a `temperature` (logprobs, entropy, hidden) of the labels (n,) at the flat positions `where` (n,)."""
        if temperature is None:
            return super().forward(inputs, where, labels, each)
        assert where is not None
        assert labels is not None
        if self.ends is None:
            return self._whole(inputs, where, labels, temperature)
        with headless(*self.ends[:2]):
            hidden = self.model(**inputs, use_cache=False).logits
        _, head, after = self.ends
        picked = hidden.flatten(0, -2).index_select(0, where)
        return *_scores(picked, head.weight, head.bias, labels, after, temperature), picked

    def _whole(self, inputs: dict[str, Any], where: torch.Tensor, labels: torch.Tensor, temperature: float) -> Any:
        """Of a model whose output matrix cannot be called by itself."""
        made = self.model(**inputs, use_cache=False, output_hidden_states=True)
        if getattr(made, "hidden_states", None) is None:
            raise RecipeError(
                "model: its hidden states cannot be seen from outside. Stage ppo needs them for its values; use tune full or lora"
            )
        logits = made.logits.flatten(0, -2).index_select(0, where)
        return *_of_logits(logits, labels, temperature), made.hidden_states[-1].flatten(0, -2).index_select(0, where)


def _scores(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor, after: After, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = max(ROWS, chunk_of(hidden.device) // len(weight))

    def piece(h_ND: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = linear(h_ND, weight, bias)
        if after.scale != 1.0:
            logits = logits.float() * after.scale
        if after.cap is not None:
            logits = torch.tanh(logits.float() / after.cap) * after.cap
        return _of_logits(logits, own, temperature)

    again = torch.is_grad_enabled() and len(labels) > rows
    found = []
    for at in range(0, len(labels), rows):
        given = hidden[at : at + rows], labels[at : at + rows]
        found.append(checkpoint(piece, *given, use_reentrant=False) if again else piece(*given))
    logprobs, entropy = zip(*found, strict=True)
    return torch.cat(logprobs), torch.cat(entropy)


def _of_logits(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(ln p of the labels, entropy), both (n,) float32."""
    scores = (logits.float() / temperature).log_softmax(-1)
    return scores.gather(-1, labels[:, None])[:, 0], -(scores.exp() * scores).sum(-1)


class Value(nn.Module):
    """The value of a token: what is still to be earned before it is drawn."""

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1, device=device, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, D) -> (n,)"""
        with torch.autocast(hidden.device.type, enabled=False):
            values: torch.Tensor = self.head(hidden.float())[:, 0]
        return values


def batch_of(prompts: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> Batch:
    lengths = np.array([len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)])
    width = int(lengths.max())
    input_ids = np.zeros((len(prompts), width), np.int64)
    steps = np.arange(width)
    positions = np.where(steps < lengths[:, None], steps, steps - lengths[:, None])
    where = []
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        input_ids[row, : lengths[row]] = np.concatenate([prompt, answer])
        where.append(row * width + len(prompt) - 1 + np.arange(len(answer)))
    flat = map(torch.from_numpy, (input_ids, positions, np.concatenate(where), np.concatenate(answers).astype(np.int64)))
    return Batch(*flat)


def told(call: Call, batch: Batch, temperature: float) -> Told:
    """Of the batch's answers, by the one way in which the run calls its model."""
    return Told(*call.ask(batch.input_ids, batch.positions, batch.where, batch.labels, temperature))


@contextmanager
def reading(*modules: nn.Module) -> Iterator[None]:
    """Inside, they are in evaluation and nothing is differentiated."""
    training = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, before in zip(modules, training, strict=True):
            module.train(before)
