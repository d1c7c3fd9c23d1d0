"""Workloads: the nets that all sides train or run, with their first weights and their data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

LR = 1e-3
BETAS = (0.9, 0.999)
EPS = 1e-8
"""Adam's options, the same for all sides."""

BATCHES = 8
"""Batches that a side cycles through."""

Weights = list[tuple[Any, Any]]
"""(W of shape (in, out), b of shape (out,)) of each layer, float32."""

Batch = tuple[Any, Any]


@dataclass(frozen=True)
class Workload:
    """A dense net with ReLU between its layers, and what is asked of it.

    "squared" is the mean over the batch of the squared norm over the features; "crossentropy" the
    mean over the batch of -log softmax at the label. Dropout follows every ReLU.
    """

    name: str
    title: str
    widths: tuple[int, ...]
    batch: int
    output: str = "identity"
    loss: str = "squared"
    dropout: float = 0.0
    predict: bool = False
    compare: int = 10
    """Steps over which losses are compared."""

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(in, out) of each layer."""
        return list(pairwise(self.widths))

    def products(self) -> list[tuple[int, int, int]]:
        """(m, k, n) of every matrix product (m, k) @ (k, n) of one step.

        Training has three for each layer, Z = X W, dW = Xᵀ G and dX = G Wᵀ, but no dX for the
        first; prediction has the first kind alone.
        """
        forward = [(self.batch, i, o) for i, o in self.layers]
        if self.predict:
            return forward
        weights = [(i, self.batch, o) for i, o in self.layers]
        inputs = [(self.batch, o, i) for i, o in self.layers[1:]]
        return forward + weights + inputs

    def flops(self) -> int:
        """Additions and multiplications of those products."""
        return sum(2 * m * k * n for m, k, n in self.products())

    def weights(self) -> Weights:
        """The first weights: uniform of variance 2 / in before ReLU, 2 / (in + out) at the end."""
        rng = np.random.default_rng(1)
        found = []
        for k, (i, o) in enumerate(self.layers):
            bound = (6 / (i if k < len(self.layers) - 1 else i + o)) ** 0.5
            w = rng.uniform(-bound, bound, (i, o)).astype(np.float32)
            found.append((w, np.zeros(o, np.float32)))
        return found

    def batches(self, count: int = BATCHES) -> list[Batch]:
        """Inputs in [0, 1) and targets: the input itself where the net is as wide at both ends."""
        rng = np.random.default_rng(2)
        found = []
        for _ in range(count):
            x = rng.random((self.batch, self.widths[0]), dtype=np.float32)
            if self.loss == "crossentropy":
                y = x[:, : self.widths[-1]].argmax(axis=1)
            elif self.widths[0] == self.widths[-1]:
                y = x
            else:
                y = np.sin(4 * x[:, : self.widths[-1]]) + x.mean(axis=1, keepdims=True)
            found.append((x, y))
        return found


_AUTOENCODER = Workload(
    "autoencoder-32",
    "Autoencoder 784-256-64-256-784, batch 32",
    (784, 256, 64, 256, 784),
    32,
    output="sigmoid",
)

_SMALL = Workload("small-32", "MLP 30-64-64-1, batch 32", (30, 64, 64, 1), 32)


def _one_row(workload: Workload, name: str, title: str) -> Workload:
    return replace(workload, name=name, title=title, batch=1, predict=True)


WORKLOADS = (
    _AUTOENCODER,
    replace(
        _AUTOENCODER,
        name="autoencoder-128",
        title="Autoencoder 784-256-64-256-784, batch 128",
        batch=128,
    ),
    replace(
        _AUTOENCODER,
        name="autoencoder-1024",
        title="Autoencoder 784-256-64-256-784, batch 1024",
        batch=1024,
    ),
    _SMALL,
    Workload(
        "dropout-128",
        "MLP 784-512-512-10, dropout 0.2, cross-entropy, batch 128",
        (784, 512, 512, 10),
        128,
        loss="crossentropy",
        dropout=0.2,
        compare=40,
    ),
    Workload(
        "wide-512",
        "Wide net 784-4096-4096-784, batch 512",
        (784, 4096, 4096, 784),
        512,
        output="sigmoid",
        compare=3,
    ),
    _one_row(_SMALL, "predict-small", "Predict one row, MLP 30-64-64-1"),
    _one_row(_AUTOENCODER, "predict-autoencoder", "Predict one row, autoencoder"),
)


def by_name(name: str) -> Workload:
    """The workload of that name."""
    return next(w for w in WORKLOADS if w.name == name)
