"""How far a reward model's judgements can be trusted, by held-out examples. NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from codedev.train.align.reward_data import Scale

BINS = 10


def of_pairs(margins: np.ndarray, asked: np.ndarray) -> dict[str, Any]:
    """Of r_chosen - r_rejected (pairs,), and the margins that were asked for.

    loss (nats a pair, Bradley-Terry), accuracy (equal rewards are half right), margin (mean), ece and brier, pairs. The probability that
    the chosen answer is the better one is sigmoid(margin): brier is the mean of (1 - p)²; ece the expected calibration error (Guo et al.
    2017) in 10 equal bins of the confidence max(p, 1 - p) in [½, 1].
    """
    margins = np.asarray(margins, np.float64)
    p = np.exp(-np.logaddexp(0.0, -margins))
    right = np.where(margins == 0, 0.5, margins > 0)
    return {
        "loss": float(np.logaddexp(0.0, asked - margins).mean()),
        "accuracy": float(right.mean()),
        "margin": float(margins.mean()),
        "ece": expected_error(np.maximum(p, 1 - p), right),
        "brier": float(((1 - p) ** 2).mean()),
        "pairs": len(margins),
    }


def of_rewards(found: np.ndarray, wanted: np.ndarray, scale: Scale) -> dict[str, Any]:
    """Of what the model gives (n,) and what was given by people: loss (mean square in deviations of what was learned), mse, r2 (of the
    variance that is explained) and spearman (None where all of one side are equal), rewards (their number)."""
    square = float(((found - wanted) ** 2).mean())
    spread = float(((wanted - wanted.mean()) ** 2).mean())
    return {
        "loss": square / scale.deviation**2,
        "mse": square,
        "r2": 1 - square / spread if spread > 0 else None,
        "spearman": spearman(found, wanted),
        "rewards": len(wanted),
    }


def expected_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Σ over bins of (share of the pairs) * |how often right - mean confidence|."""
    bins = np.clip(((confidence - 0.5) * 2 * BINS).astype(np.int64), 0, BINS - 1)
    off = np.bincount(bins, right - confidence, BINS)
    return float(np.abs(off).sum() / max(len(confidence), 1))


def spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Correlation of the ranks, equal values sharing the mean of theirs."""
    a, b = (ranks - ranks.mean() for ranks in (_ranks(one), _ranks(other)))
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / size) if size > 0 else None


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: np.ndarray = (ends - (counts - 1) / 2)[inverse]
    return ranks
