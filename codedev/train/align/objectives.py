"""The arithmetic of PPO: pure functions of tensors (B, R), B answers of at most R tokens; `mask` is 1.0 where an answer has a token.

Schulman et al. 2017 (PPO), 2016 (GAE); Ziegler et al. 2019 (KL in the reward, adaptive coefficient); Schulman 2020 (k1, k2, k3);
Huang et al. 2024 (The N+ Implementation Details of RLHF with PPO) for whitening and what is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

Estimator = Literal["k1", "k2", "k3"]
Sum = Callable[[torch.Tensor], torch.Tensor]
"""Adds a tensor up over the processes."""


def alone(tensor: torch.Tensor) -> torch.Tensor:
    """The `Sum` of one process."""
    return tensor


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    mean: torch.Tensor = (values * mask).sum() / mask.sum().clamp(min=1)
    return mean


def whitened(values: torch.Tensor, mask: torch.Tensor, total: Sum = alone) -> torch.Tensor:
    """`values` with mean 0 and variance 1 over the tokens of all processes; 0 outside the mask.

    In float64: the sum of squares less the square of the sum loses half the digits.
    """
    exact, inside = values.double(), mask.double()
    count, first = total(torch.stack([inside.sum(), (exact * inside).sum()]))
    mean = first / count.clamp(min=1)
    variance = total(((exact - mean) ** 2 * inside).sum()) / count.clamp(min=1)
    found: torch.Tensor = (exact - mean) * torch.rsqrt(variance + 1e-8) * inside
    return found.to(values.dtype)


def divergence(logprobs: torch.Tensor, reference: torch.Tensor, estimator: Estimator = "k1") -> torch.Tensor:
    """(B, R) an estimate of KL(policy ‖ reference) from the drawn tokens, with d = ln policy - ln reference: k1 = d unbiased, k2 = d²/2,
    k3 = exp(-d) - 1 + d unbiased and never negative."""
    d = logprobs - reference
    if estimator == "k1":
        return d
    return d**2 / 2 if estimator == "k2" else torch.expm1(-d) + d


def token_rewards(scores: torch.Tensor, kl: torch.Tensor, mask: torch.Tensor, kl_coef: float) -> torch.Tensor:
    """(B, R) -kl_coef * kl at every token, and the answer's score (B,) at its last one."""
    rewards = -kl_coef * kl * mask
    last = mask.sum(-1).long() - 1
    at = torch.arange(len(scores), device=scores.device)
    rewards[at, last.clamp(min=0)] += torch.where(last >= 0, scores, 0).to(rewards.dtype)
    return rewards


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, R) advantages by generalised advantage estimation, and returns (advantages + values); nothing is expected after the last token.

    `values[:, t]` is what is expected of the rest when token t is about to be drawn.
    """
    out = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    after = torch.zeros_like(running)  # value at the next token
    for t in range(rewards.shape[1] - 1, -1, -1):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * after - values[:, t]
        running = (delta + gamma * lam * running) * here
        after = values[:, t] * here
        out[:, t] = running
    return out, (out + values) * mask


@dataclass(frozen=True)
class Clipped:
    """A clipped loss, summed over tokens, and how often clipping decided."""

    loss: torch.Tensor
    clipped: torch.Tensor  # tokens


def policy_loss(logprobs: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor, clip: float) -> Clipped:
    """Σ max(-A r, -A clip(r, 1 ± clip)), r = exp(logprobs - old)."""
    ratio = torch.exp(logprobs - old)
    plain, cut = -advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)
    return Clipped((torch.maximum(plain, cut) * mask).sum(), ((cut > plain) * mask).sum().detach())


def value_loss(values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, clip: float) -> Clipped:
    """Σ ½ max((v - R)², (old ± clip of v - R)²)."""
    near = old + (values - old).clamp(-clip, clip)
    plain, cut = (values - returns) ** 2, (near - returns) ** 2
    return Clipped((torch.maximum(plain, cut) * mask).sum() / 2, ((cut > plain) * mask).sum().detach())


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """(…) nats, of logits (…, V)."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


@dataclass(frozen=True)
class KLControl:
    """The coefficient of the divergence in the reward: fixed, or moved towards a `target` (nats an answer) as in Ziegler et al. 2019."""

    target: float | None = None
    horizon: float = 10_000.0  # answers in which an error of 20 % would move it by a factor e^0.2

    def next(self, coefficient: float, kl: float, answers: int) -> float:
        """The coefficient for the next update, after `answers` answers whose mean divergence was `kl`."""
        if self.target is None:
            return coefficient
        error = min(0.2, max(-0.2, kl / self.target - 1))
        return coefficient * (1 + error * answers / self.horizon)


def group_advantages(scores: torch.Tensor, group: int, kind: Literal["grpo", "rloo"]) -> torch.Tensor:
    """(B,) advantages of answers that lie together in groups of one prompt: against the group's mean over its deviation (grpo, Shao et al.
    2024), or the mean of the others (rloo, Ahmadian et al. 2024)."""
    grouped = scores.reshape(-1, group)
    if kind == "rloo":
        others = (grouped.sum(1, keepdim=True) - grouped) / max(group - 1, 1)
        return (grouped - others).reshape(-1)
    spread = grouped.std(1, keepdim=True, correction=1) if group > 1 else torch.ones_like(grouped)
    return ((grouped - grouped.mean(1, keepdim=True)) / (spread + 1e-4)).reshape(-1)
