"""What a two-class model achieves on documents it has not seen: precision, recall and F1 by threshold, and the share that each keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # DCLM keeps a tenth


def at_threshold(scores: np.ndarray, truth: np.ndarray, threshold: float) -> dict[str, float]:
    """Of "score >= threshold" as the sign of a positive. Precision is null where nothing is kept."""
    kept = scores >= threshold
    right = int((kept & truth).sum())
    precision = right / int(kept.sum()) if kept.any() else None
    recall = right / int(truth.sum())
    f1 = 2 * right / (int(kept.sum()) + int(truth.sum()))
    return {"threshold": threshold, "precision": precision, "recall": recall, "f1": f1, "kept": float(kept.mean())}  # type: ignore[dict-item]


def figures(scores: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Of held-out documents. `by_threshold`; `by_share`: the threshold that keeps a share of the negatives, and what of the positives it
    keeps: a crawl is nearly all negative, so that the share is what is left of it; `auc`: how often a positive scores above a negative."""
    negatives, positives = np.sort(scores[~truth]), scores[truth]
    by_share = []
    for share in SHARES:
        threshold = float(np.quantile(negatives, 1 - share))
        by_share.append(
            {
                "share": share,
                "threshold": threshold,
                "negatives": float((negatives >= threshold).mean()),
                "positives": float((positives >= threshold).mean()),
            }
        )
    below, upto = np.searchsorted(negatives, positives), np.searchsorted(negatives, positives, "right")
    thresholds = [at_threshold(scores, truth, threshold) for threshold in THRESHOLDS]
    return {
        "positives": len(positives),
        "negatives": len(negatives),
        "auc": float((below + upto).mean() / 2 / len(negatives)),
        "best": max(thresholds, key=lambda row: row["f1"]),
        "by_threshold": thresholds,
        "by_share": by_share,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Columns as the first row names them."""
    if not rows:
        return ""
    lines = ["".join(f"{name:>12}" for name in rows[0])]
    for row in rows:
        lines.append(
            "".join(f"{'-' if value is None else value if isinstance(value, int) else format(value, '.4f'):>12}" for value in row.values())
        )
    return "\n".join(lines)
