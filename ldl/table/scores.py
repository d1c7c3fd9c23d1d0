"""How good predictions are, beside what one would say without looking at the columns."""

from __future__ import annotations

import numpy as np

from ldl.table.cells import Host

Scores = dict[str, float | None]
"""Figures by name; None where there is none, such as an R² of rows that are all alike."""


def classification(truth: Host, probabilities: Host, shares: Host) -> Scores:
    """Of places of classes (N,) and probabilities (N, K), `shares` being the training rows'.

    The baseline says the most frequent class of the training rows every time.
    """
    said = probabilities.argmax(axis=1)
    chosen = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return {
        "accuracy": float((said == truth).mean()),
        "baseline_accuracy": float((truth == int(np.argmax(shares))).mean()),
        "log_loss": float(-np.log(np.maximum(chosen, 1e-30)).mean()),
    }


def regression(truth: Host, said: Host, mean: float) -> Scores:
    """Of numbers (N,); the baseline says the training rows' mean every time.

    R² = 1 - Σ(y - ŷ)² / Σ(y - ȳ)², ȳ being the mean of these rows.
    """
    error = truth - said
    spread = float(np.square(truth - truth.mean()).sum())
    return {
        "r2": 1 - float(np.square(error).sum()) / spread if spread > 0 else None,
        "rmse": float(np.sqrt(np.square(error).mean())),
        "mae": float(np.abs(error).mean()),
        "baseline_rmse": float(np.sqrt(np.square(truth - mean).mean())),
    }


def confusion(truth: Host, said: Host, classes: int) -> Host:
    """How many rows of class i were said to be of class j, (K, K)."""
    cells = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(cells, (truth, said), 1)
    return cells


def is_better(scores: Scores) -> bool:
    """Whether the figures beat the baseline's."""
    if "accuracy" in scores:
        return (scores["accuracy"] or 0.0) > (scores["baseline_accuracy"] or 0.0)
    return (scores["rmse"] or 0.0) < (scores["baseline_rmse"] or 0.0)
