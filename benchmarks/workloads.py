"""Workloads: the nets that all implementations train or run, their first weights, their data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from benchmarks import kinds
from benchmarks.kinds import Product

LR = 1e-3
BETAS = (0.9, 0.999)
EPS = 1e-8
"""Adam's options, the same for all."""

NORM_EPS = 1e-5
"""What is added to a variance before its root is taken."""

BATCHES = 8
"""Batches that are gone through again and again."""

PRECISIONS = ("float32", "tf32")
"""Precisions of the matrix products on a GPU, the same for all that are compared."""

ON_REQUEST = ("bf16",)
"""Those that are measured where they are asked for."""

Weights = list[Any]
"""Float32: (W of shape (in, out), b of shape (out,)) of each layer, W being (out,) for a `layer`;
of a `net` its parameters one by one."""

Batch = tuple[Any, Any]


@dataclass(frozen=True)
class Workload:
    """A net, and what is asked of it: training steps with Adam, or predictions.

    Without a `layer` the net is dense, ReLU between its layers and dropout after every ReLU. With
    one it is what a user would write himself: numbers times a row of weights plus a row of biases,
    "layernorm" or "batchnorm" of that with weights and biases of its own, or, for "softmax",
    nothing between it and the loss. With a `net` it is that, of samples of a shape.

    "squared" is the mean over the batch of the squared norm over the features; "crossentropy" the
    mean over the batch of -log softmax at the label; "bce" binary cross-entropy with logits.
    """

    name: str
    title: str
    widths: tuple[int, ...]
    batch: int
    output: str = "identity"
    loss: str = "squared"
    dropout: float = 0.0
    predict: bool = False
    layer: str = ""
    net: kinds.Net = ()
    sample: tuple[int, ...] = ()
    compare: int = 2 * BATCHES
    """Steps over which losses are compared."""

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(in, out) of each dense layer."""
        return [] if self.layer else list(pairwise(self.widths))

    def products(self) -> list[Product]:
        """Every matrix product of one step.

        Training has three for each layer, Z = X W, dW = Xᵀ G and dX = G Wᵀ, but no dX for the
        first; prediction has the first kind alone.
        """
        if self.net:
            return kinds.products(self.net, self.sample, self.batch)
        forward = [Product(1, self.batch, i, o) for i, o in self.layers]
        if self.predict:
            return forward
        weights = [Product(1, i, self.batch, o, "a") for i, o in self.layers]
        inputs = [Product(1, self.batch, o, i, "b") for i, o in self.layers[1:]]
        return forward + weights + inputs

    def flops(self) -> int:
        """Additions and multiplications of those products."""
        return sum(2 * p.count * p.m * p.k * p.n for p in self.products())

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return kinds.shapes(self.net, self.sample)[-1] if self.net else self.widths[-1:]

    def parameters(self) -> int:
        """Weights and biases."""
        if self.net:
            return sum(map(prod, kinds.parameters(self.net)))
        if self.layer:
            return (2 if self.layer == "softmax" else 4) * self.widths[0]
        return sum(i * o + o for i, o in self.layers)

    def least_bytes(self) -> int:
        """Bytes that a step moves if it moves each thing as seldom as it can, all of it float32.

        The batch is read; every parameter and Adam's two means of it are read and written; the
        output of every dense layer is written by the forward pass and read by the backward pass.
        That weights and small outputs may stay in the cache is left out of account.
        """
        outputs = sum(o for _, o in self.layers)
        if self.net:
            outputs = sum(map(prod, kinds.shapes(self.net, self.sample)[1:]))
        targets = 0
        if self.loss == "crossentropy":
            targets = 8 * self.batch
        elif self.net:
            targets = 4 * self.batch * prod(self.output_shape)
        elif self.widths[0] != self.widths[-1]:
            targets = 4 * self.batch * self.widths[-1]
        batch = 4 * self.batch * prod(self.sample or self.widths[:1]) + targets
        return batch + 24 * self.parameters() + 8 * self.batch * outputs

    def weights(self) -> Weights:
        """The first weights: uniform of variance 2 / in before ReLU, 2 / (in + out) at the end."""
        rng = np.random.default_rng(1)
        if self.net:
            return [_parameter(rng, shape) for shape in kinds.parameters(self.net)]
        if self.layer:
            pairs = rng.uniform(0.5, 1.5, (self.parameters() // self.widths[0], self.widths[0]))
            return [(w, b - 1) for w, b in pairs.astype(np.float32).reshape(-1, 2, self.widths[0])]
        found = []
        for k, (i, o) in enumerate(self.layers):
            bound = (6 / (i if k < len(self.layers) - 1 else i + o)) ** 0.5
            w = rng.uniform(-bound, bound, (i, o)).astype(np.float32)
            found.append((w, np.zeros(o, np.float32)))
        return found

    def batches(self, seed: int = 0, count: int = BATCHES) -> list[Batch]:
        """Inputs in [0, 1) and targets: the input itself where the net is as wide at both ends."""
        rng = np.random.default_rng([seed, self.batch, *self.widths, *self.sample])
        return [self.batch_of(rng, self.batch) for _ in range(count)]

    def batch_of(self, rng: np.random.Generator, rows: int) -> Batch:
        """One batch, of so many rows."""
        if self.net:
            x = rng.random((rows, *self.sample), dtype=np.float32)
            if self.loss == "crossentropy":
                return x, rng.integers(0, *self.output_shape, rows)
            return x, rng.random((rows, *self.output_shape), dtype=np.float32)
        x = rng.random((rows, self.widths[0]), dtype=np.float32)
        if self.loss == "crossentropy":
            return x, x[:, : self.widths[-1]].argmax(axis=1)
        if self.widths[0] == self.widths[-1]:
            return x, x
        return x, np.sin(4 * x[:, : self.widths[-1]]) + x.mean(axis=1, keepdims=True)


def _parameter(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Weights uniform of variance 2 / in, of a window its numbers; scales and biases 0.5."""
    if len(shape) == 1:
        return np.full(shape, 0.5, np.float32)
    bound = (6 / prod(shape[:-1])) ** 0.5
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def _autoencoder(batch: int, **changes: Any) -> Workload:
    title = "Autoencoder 784-256-64-256-784, batch " + str(batch)
    net = Workload(f"autoencoder-{batch}", title, (784, 256, 64, 256, 784), batch, output="sigmoid")
    return replace(net, **changes)


def _with_logits(batch: int, compare: int = 2 * BATCHES) -> Workload:
    """The autoencoder with its sigmoid inside the loss, binary cross-entropy with logits."""
    title = f"Autoencoder 784-256-64-256-784, BCE with logits, batch {batch}"
    return _autoencoder(batch, title=title, output="identity", loss="bce", compare=compare)


_SMALL = Workload("small-32", "MLP 30-64-64-1, batch 32", (30, 64, 64, 1), 32)
_DROPOUT = Workload(
    "dropout-128",
    "MLP 784-512-512-10, dropout 0.2, cross-entropy, batch 128",
    *((784, 512, 512, 10), 128),
    loss="crossentropy",
    dropout=0.2,
    compare=10 * BATCHES,
)
_WIDE = Workload(
    "wide-512",
    "Wide net 784-4096-4096-784, batch 512",
    *((784, 4096, 4096, 784), 512),
    output="sigmoid",
    compare=3,
)

NETS = (*map(_autoencoder, (32, 128, 1024)), _SMALL, _DROPOUT, _WIDE)
"""Trained on a processor."""

LAYERS = (
    Workload(
        "layernorm",
        "Layer normalisation of one's own, 1024 rows of 256",
        *((256, 256), 1024),
        layer="layernorm",
    ),
    Workload(
        "batchnorm",
        "Batch normalisation of one's own, 8192 rows of 64",
        *((64, 64), 8192),
        layer="batchnorm",
    ),
    Workload(
        "softmax",
        "Softmax and cross-entropy of one's own, 4096 rows of 64",
        *((64, 64), 4096),
        loss="crossentropy",
        layer="softmax",
    ),
)
"""Layers that a user writes, forward, backward and their weights' update; on either device."""

ONE_ROW = (
    replace(_SMALL, name="predict-small", title="One row, MLP 30-64-64-1", batch=1, predict=True),
    _autoencoder(1, name="predict-autoencoder", title="One row, autoencoder", predict=True),
)
"""Predicted on a processor."""

GPU_NETS = (
    _with_logits(128),
    _with_logits(8192, BATCHES),
    _with_logits(1024),
    _with_logits(32),
    *(_DROPOUT, _SMALL, replace(_WIDE, compare=BATCHES)),
    *LAYERS,
)
"""Trained on a GPU, in the order in which they run: what is asked about most comes first."""

TINY = (
    Workload("tiny", "Tiny autoencoder", (12, 6, 4, 6, 12), 8, loss="bce", compare=BATCHES),
    Workload(
        "tiny-dropout",
        "Tiny classifier with dropout",
        *((12, 32, 3), 32),
        loss="crossentropy",
        dropout=0.2,
        compare=5 * BATCHES,
    ),
    Workload("tiny-sigmoid", "Tiny sigmoid net", (12, 6, 12), 8, output="sigmoid", compare=BATCHES),
)
TINY_LAYERS = tuple(
    replace(w, name=f"tiny-{w.name}", title=f"Tiny {w.layer}", widths=(6, 6), batch=16)
    for w in LAYERS
)
TINY_ROW = (replace(TINY[2], name="tiny-row", title="Tiny row", batch=1, predict=True),)
"""So small that the whole suite is tried with them in seconds."""


def by_name(name: str) -> Workload:
    """The workload of that name on a processor."""
    return next(w for w in (*NETS, *LAYERS, *ONE_ROW) if w.name == name)
