"""The step written out in plain NumPy, without a library: a side, and in float64 the judge."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.side import Built, Refused, Side
from benchmarks.workloads import BETAS, EPS, LR, Batch, Weights, Workload


class ByHand:
    """A net of one workload and Adam for it."""

    def __init__(self, workload: Workload, weights: Weights, dtype: Any = np.float32) -> None:
        self.workload = workload
        self.ws = [w.astype(dtype) for w, _ in weights]
        self.bs = [b.astype(dtype) for _, b in weights]
        self.params = [*self.ws, *self.bs]
        self.ms = [np.zeros_like(p) for p in self.params]
        self.vs = [np.zeros_like(p) for p in self.params]
        self.t = 0

    def forward(self, x: Any) -> list[Any]:
        """The input and the output of each layer."""
        kept = [x]
        last = len(self.ws) - 1
        for k, (w, b) in enumerate(zip(self.ws, self.bs, strict=True)):
            z = kept[-1] @ w
            z += b
            if k < last:
                np.maximum(z, 0, out=z)
            elif self.workload.output == "sigmoid":
                z = 1 / (1 + np.exp(-z))
            kept.append(z)
        return kept

    def loss(self, out: Any, y: Any) -> tuple[float, Any]:
        """The loss and its gradient with respect to the last layer's z."""
        n = len(out)
        if self.workload.loss == "crossentropy":
            shifted = out - out.max(axis=1, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            grad = np.exp(log_p)
            grad[np.arange(n), y] -= 1
            grad /= n
            return -log_p[np.arange(n), y].mean(), grad
        d = out - y
        grad = d * (2 / n)
        if self.workload.output == "sigmoid":
            grad *= out * (1 - out)
        return (d * d).sum() / n, grad

    def step(self, x: Any, y: Any) -> float:
        """One step of Adam; the loss before it."""
        kept = self.forward(x)
        value, g = self.loss(kept[-1], y)
        dws, dbs = [], []
        for k in range(len(self.ws) - 1, -1, -1):
            dws.insert(0, kept[k].T @ g)
            dbs.insert(0, g.sum(axis=0))
            if k:
                g = g @ self.ws[k].T
                g *= kept[k] > 0
        self.adam([*dws, *dbs])
        return value

    def adam(self, grads: list[Any]) -> None:
        """Adam's update, one parameter after another."""
        self.t += 1
        beta1, beta2 = BETAS
        c1, c2 = 1 - beta1**self.t, 1 - beta2**self.t
        for p, g, m, v in zip(self.params, grads, self.ms, self.vs, strict=True):
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * g * g
            p -= (LR / c1) * m / (np.sqrt(v / c2) + EPS)


class NumpyTrains(Side):
    """Training."""

    name = "NumPy, written by hand"

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """Refuses dropout, which it does not have."""
        if workload.dropout:
            raise Refused("not written for dropout")
        net, turn = ByHand(workload, weights), cycle(batches)
        return Built(lambda: net.step(*next(turn)))


class NumpyPredicts(Side):
    """Prediction."""

    name = "NumPy, written by hand"
    predicts = True

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """The forward pass."""
        net, turn = ByHand(workload, weights), cycle([x for x, _ in batches])
        return Built(lambda: net.forward(next(turn))[-1])


def judge(workload: Workload, weights: Weights, batches: list[Batch], count: int) -> list[Any]:
    """The first losses, or the outputs, in float64."""
    net, turn = ByHand(workload, weights, np.float64), cycle(batches)
    if workload.predict:
        return [net.forward(next(turn)[0].astype(np.float64))[-1] for _ in range(count)]
    found = []
    for _ in range(count):
        x, y = next(turn)
        y = y if y.dtype.kind == "i" else y.astype(np.float64)
        found.append(float(net.step(x.astype(np.float64), y)))
    return found


SIDES = [NumpyTrains(), NumpyPredicts()]
