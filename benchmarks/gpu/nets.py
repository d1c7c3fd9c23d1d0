"""The nets that are trained on a GPU, their data, and what a step of them must do at least."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.workloads import BATCHES, Batch, Workload, by_name

PRECISIONS = ("float32", "tf32")
"""Precisions of the matrix products, the same for all sides of a heat."""

ON_REQUEST = ("bf16",)
"""Those that are measured where they are asked for."""


def _autoencoder(batch: int, compare: int = 2 * BATCHES) -> Workload:
    """The autoencoder with its sigmoid inside the loss, binary cross-entropy with logits."""
    return replace(
        by_name("autoencoder-128"),
        name=f"autoencoder-{batch}",
        title=f"Autoencoder 784-256-64-256-784, BCE with logits, batch {batch}",
        batch=batch,
        output="identity",
        loss="bce",
        compare=compare,
    )


NETS = (
    _autoencoder(128),
    _autoencoder(8192, BATCHES),
    _autoencoder(1024),
    _autoencoder(32),
    replace(by_name("dropout-128"), compare=10 * BATCHES),
    replace(by_name("small-32"), compare=2 * BATCHES),
    replace(by_name("wide-512"), compare=BATCHES),
)
"""In the order in which they run: what is asked about most comes first."""

REHEARSAL = (
    Workload("tiny", "Tiny autoencoder", (12, 6, 4, 6, 12), 8, loss="bce", compare=BATCHES),
    Workload(
        "tiny-dropout",
        "Tiny classifier with dropout",
        (12, 32, 3),
        32,
        loss="crossentropy",
        dropout=0.2,
        compare=5 * BATCHES,
    ),
    Workload("tiny-sigmoid", "Tiny sigmoid net", (12, 6, 12), 8, output="sigmoid", compare=BATCHES),
)
"""Nets so small that a processor tries the whole suite with them in seconds."""


def fresh_batches(workload: Workload, seed: int) -> list[Batch]:
    """As `Workload.batches`, drawn from another seed in every run."""
    rng = np.random.default_rng([seed, workload.batch, *workload.widths])
    found: list[Batch] = []
    for _ in range(BATCHES):
        x = rng.random((workload.batch, workload.widths[0]), dtype=np.float32)
        if workload.loss == "crossentropy":
            y = x[:, : workload.widths[-1]].argmax(axis=1)
        elif workload.widths[0] == workload.widths[-1]:
            y = x
        else:
            y = np.sin(4 * x[:, : workload.widths[-1]]) + x.mean(axis=1, keepdims=True)
        found.append((x, y))
    return found


def parameters(workload: Workload) -> int:
    """Weights and biases."""
    return sum(i * o + o for i, o in workload.layers)


def least_bytes(workload: Workload) -> int:
    """Bytes that a step moves if it moves each thing as seldom as it can, all of it float32.

    The batch is read; every parameter and Adam's two means of it are read and written; the output
    of every layer is written by the forward pass and read by the backward pass. That weights and
    small outputs may stay in the cache is left out of account.
    """
    outputs = sum(o for _, o in workload.layers)
    targets = 0
    if workload.loss == "crossentropy":
        targets = 8 * workload.batch
    elif workload.widths[0] != workload.widths[-1]:
        targets = 4 * workload.batch * workload.widths[-1]
    batch = 4 * workload.batch * workload.widths[0] + targets
    return batch + 24 * parameters(workload) + 8 * workload.batch * outputs
