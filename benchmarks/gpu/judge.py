"""The judge: the same steps by hand, in float64, and whether a side's losses agree with them."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

import numpy as np

from benchmarks.rivals.numpy_by_hand import ByHand
from benchmarks.workloads import BATCHES, Batch, Weights, Workload

TOLERANCES = {"float32": 1e-4, "tf32": 2e-3, "bf16": 2e-2}
"""Largest relative difference of a loss from the judge's. Operands rounded to tf32 were seen to
make 5e-4 of it; bf16 keeps three bits less."""

DROPOUT_TOLERANCE = 0.08
"""Largest relative difference of the mean of all losses where masks differ between sides. Over 80
steps other masks were seen to make 0.03 of it, and leaving dropout out 0.12."""


class Judge(ByHand):
    """The net written by hand with, besides, dropout and binary cross-entropy with logits."""

    def __init__(self, workload: Workload, weights: Weights) -> None:
        super().__init__(workload, weights, np.float64)
        self.kept = 1 - workload.dropout
        self.rng = np.random.default_rng(3)

    def forward(self, x: Any) -> list[Any]:
        """As ByHand's; after every ReLU a mask that keeps the mean."""
        if not self.workload.dropout:
            return super().forward(x)
        outs = [x]
        for k, (w, b) in enumerate(zip(self.ws, self.bs, strict=True)):
            z = outs[-1] @ w + b
            if k < len(self.ws) - 1:
                z = np.maximum(z, 0) * (self.rng.random(z.shape) < self.kept) / self.kept
            outs.append(z)
        return outs

    def loss(self, out: Any, y: Any) -> tuple[float, Any]:
        """The loss and its gradient with respect to the last layer's z."""
        if self.workload.loss != "bce":
            return super().loss(out, y)
        e = np.exp(-np.abs(out))
        value = (np.maximum(out, 0) - out * y + np.log1p(e)).mean()
        return value, (np.where(out >= 0, 1, e) / (1 + e) - y) / out.size

    def step(self, x: Any, y: Any) -> float:
        """As ByHand's: where a mask is 0 so is the output, and elsewhere the gradient is scaled."""
        outs = self.forward(x)
        value, g = self.loss(outs[-1], y)
        dws: list[Any] = []
        dbs: list[Any] = []
        for k in range(len(self.ws) - 1, -1, -1):
            dws.insert(0, outs[k].T @ g)
            dbs.insert(0, g.sum(axis=0))
            if k:
                g = (g @ self.ws[k].T) * ((outs[k] > 0) / self.kept)
        self.adam([*dws, *dbs])
        return float(value)


def right_losses(workload: Workload, batches: list[Batch]) -> list[float]:
    """The first losses, in float64."""
    net = Judge(workload, workload.weights())
    found = []
    for x, y in islice(cycle(batches), workload.compare):
        y = y if y.dtype.kind == "i" else y.astype(np.float64)
        found.append(net.step(x.astype(np.float64), y))
    return found


def verdict(
    workload: Workload, precision: str, losses: dict[int, float], right: list[float]
) -> dict[str, Any]:
    """What a side's losses, by the number of the step, show; `wrong` says what is wrong, if any."""
    judged = sorted(k for k in losses if k < len(right))
    values = [losses[k] for k in judged]
    written = [v if np.isfinite(v) else None for v in values]  # JSON has no NaN
    found: dict[str, Any] = {"losses": written, "wrong": ""}
    if not values or None in written:
        found["wrong"] = "a loss is not finite" if values else "it gave no losses"
        return found
    expected = [right[k] for k in judged]
    worst: Any
    if workload.dropout:
        limit = DROPOUT_TOLERANCE
        worst = abs(np.mean(values) - np.mean(expected)) / abs(np.mean(expected))
        half = len(values) // 2
        if len(right) >= 2 * BATCHES and not np.mean(values[half:]) < np.mean(values[:half]):
            found["wrong"] = "the loss does not fall"
    else:
        limit = TOLERANCES[precision]
        worst = max(abs(v - e) / abs(e) for v, e in zip(values, expected, strict=True))
    found |= {"difference": float(worst), "tolerance": limit}
    if not worst <= limit:
        found["wrong"] = f"its losses differ by {worst:.1e}, more than {limit:g}"
    return found
