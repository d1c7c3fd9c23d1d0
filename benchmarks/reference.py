"""The reference: steps and predictions written out in plain NumPy, in float64, and who agrees."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

import numpy as np

from benchmarks.workloads import BATCHES, BETAS, EPS, LR, NORM_EPS, Batch, Weights, Workload

TOLERANCES = {"float32": 1e-4, "tf32": 2e-3, "bf16": 2e-2}
"""Largest relative difference of a loss or an output. Operands rounded to tf32 were seen to make
5e-4 of it; bf16 keeps three bits less."""

DROPOUT_TOLERANCE = 0.08
"""Largest relative difference of the mean of all losses where masks differ between libraries. Over
80 steps other masks were seen to make 0.03 of it, and leaving dropout out 0.12."""


class ByHand:
    """A dense net of a workload, and Adam for it."""

    def __init__(self, workload: Workload, weights: Weights, dtype: Any = np.float32) -> None:
        self.workload = workload
        self.ws = [w.astype(dtype) for w, _ in weights]
        self.bs = [b.astype(dtype) for _, b in weights]
        self.params = [*self.ws, *self.bs]
        self.ms = [np.zeros_like(p) for p in self.params]
        self.vs = [np.zeros_like(p) for p in self.params]
        self.t = 0
        self.kept = dtype(1 - workload.dropout)
        self.rng = np.random.default_rng(3)

    def forward(self, x: Any) -> list[Any]:
        """The input and the output of each layer; after a ReLU a mask that keeps the mean."""
        outs, last = [x], len(self.ws) - 1
        for k, (w, b) in enumerate(zip(self.ws, self.bs, strict=True)):
            z = outs[-1] @ w
            z += b
            if k < last:
                np.maximum(z, 0, out=z)
                if self.workload.dropout:
                    z *= (self.rng.random(z.shape, np.float32) < self.kept) / self.kept
            elif self.workload.output == "sigmoid":
                z = 1 / (1 + np.exp(-z))
            outs.append(z)
        return outs

    def backward(self, outs: list[Any], g: Any) -> list[Any]:
        """The gradients of all parameters, from that of the last layer's z.

        Where a mask is 0 so is the output, and elsewhere the gradient is scaled.
        """
        dws: list[Any] = []
        dbs: list[Any] = []
        for k in range(len(self.ws) - 1, -1, -1):
            dws.insert(0, outs[k].T @ g)
            dbs.insert(0, g.sum(axis=0))
            if k:
                g = g @ self.ws[k].T
                g *= outs[k] > 0
                if self.workload.dropout:
                    g /= self.kept
        return [*dws, *dbs]

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
        if self.workload.loss == "bce":
            e = np.exp(-np.abs(out))
            value = (np.maximum(out, 0) - out * y + np.log1p(e)).mean()
            return value, (np.where(out >= 0, 1, e) / (1 + e) - y) / out.size
        d = out - y
        grad = d * (2 / n)
        if self.workload.output == "sigmoid":
            grad *= out * (1 - out)
        return (d * d).sum() / n, grad

    def step(self, x: Any, y: Any) -> float:
        """One step of Adam; the loss before it."""
        outs = self.forward(x)
        value, g = self.loss(outs[-1], y)
        self.adam(self.backward(outs, g))
        return float(value)

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


class LayerByHand(ByHand):
    """h = x w + b by elements, then a norm's y = (h - mean) / std and y w' + b', or nothing."""

    def forward(self, x: Any) -> list[Any]:
        """x and the last of these; between them, of a norm, 1 / std and y."""
        h = x * self.ws[0] + self.bs[0]
        if len(self.ws) == 1:
            return [x, h]
        self.axis = 0 if self.workload.layer == "batchnorm" else 1
        h -= h.mean(axis=self.axis, keepdims=True)
        scale = 1 / np.sqrt((h * h).mean(axis=self.axis, keepdims=True) + h.dtype.type(NORM_EPS))
        h *= scale
        return [x, scale, h, h * self.ws[1] + self.bs[1]]

    def backward(self, outs: list[Any], g: Any) -> list[Any]:
        """The gradients of all parameters."""
        if len(self.ws) == 1:
            return [(g * outs[0]).sum(axis=0), g.sum(axis=0)]
        x, scale, y, _ = outs
        last = (g * y).sum(axis=0), g.sum(axis=0)
        g = g * self.ws[1]
        m, c = (a.mean(axis=self.axis, keepdims=True) for a in (g, g * y))
        g = scale * (g - m - y * c)
        return [(g * x).sum(axis=0), last[0], g.sum(axis=0), last[1]]


class Layers:
    """A net of ldl's layers: its kernels' generic bodies, layer by layer, and Adam as above.

    The tests hold those layers, in float64, to JAX's and PyTorch's.
    """

    def __init__(self, workload: Workload, weights: Weights) -> None:
        from benchmarks.implementations.ldl_ import LOSSES, model_of
        from ldl import optim, use_backend
        from ldl_numpy import NumpyBackend

        with use_backend(type("Generic", (NumpyBackend,), {})()):
            self.model = model_of(workload, weights).to(dtype="float64").train()
            self.criterion = LOSSES[workload.loss]()
            self.optimizer = optim.Adam(self.model.parameters(), lr=LR, betas=BETAS, eps=EPS)

    def step(self, x: Any, y: Any) -> float:
        """One step; the loss before it."""
        self.model.zero_grad()
        value = self.criterion(self.model(x), y)
        self.model.backward(self.criterion.backward())
        self.optimizer.step()
        return float(value)


def by_hand(workload: Workload, weights: Weights, dtype: Any = np.float32) -> ByHand:
    """The net of a workload."""
    return (LayerByHand if workload.layer else ByHand)(workload, weights, dtype)


def reference(workload: Workload, batches: list[Batch]) -> list[Any]:
    """The first losses, or the outputs, in float64."""
    found: list[Any] = []
    net: Any = Layers(workload, workload.weights()) if workload.net else None
    net = net or by_hand(workload, workload.weights(), np.float64)
    for x, y in islice(cycle(batches), workload.compare):
        x, y = x.astype(np.float64), y if y.dtype.kind == "i" else y.astype(np.float64)
        if workload.predict:
            found.append(net.forward(x)[-1].reshape(-1).tolist())
        else:
            found.append(net.step(x, y))
    return found


def verdict(
    workload: Workload, precision: str, values: dict[int, Any], right: list[Any], tolerance: float
) -> dict[str, Any]:
    """What losses or outputs, by the number of the step, show; `wrong` says what is wrong, if any.

    A loss differs relative to itself, an output relative to the largest.
    """
    compared = sorted(k for k in values if k < len(right))
    found: dict[str, Any] = {"wrong": ""}
    got = np.array([values[k] for k in compared], np.float64)
    if not workload.predict:  # JSON has no NaN
        found["losses"] = [v if np.isfinite(v) else None for v in got.tolist()]
    if not got.size or not np.isfinite(got).all():
        what = "an output" if workload.predict else "a loss"
        found["wrong"] = f"{what} is not finite" if got.size else "it gave no losses"
        return found
    expected = np.array([right[k] for k in compared])
    if got.shape != expected.shape:
        return found | {"wrong": f"its outputs have shape {got.shape}, not {expected.shape}"}
    limit = max(TOLERANCES[precision], tolerance)
    if workload.dropout:
        limit = DROPOUT_TOLERANCE
        worst = abs(got.mean() - expected.mean()) / abs(expected.mean())
        half = len(got) // 2
        if len(right) >= 2 * BATCHES and not got[half:].mean() < got[:half].mean():
            found["wrong"] = "the loss does not fall"
    elif workload.predict:
        worst = np.abs(got - expected).max() / np.abs(expected).max()
    else:
        worst = (np.abs(got - expected) / np.abs(expected)).max()
    found |= {"difference": float(worst), "tolerance": limit}
    if not worst <= limit:
        what = "outputs" if workload.predict else "losses"
        found["wrong"] = f"its {what} differ by {worst:.1e}, more than {limit:g}"
    return found
