"""The one table of what ldl.nn has. A new layer or loss is one entry here; the tests then know it.

An entry names how to build the thing, its input's shape (for losses the kinds of input and target),
and what it should compute, written independently: in JAX, a function of (parameters by name, x),
and in PyTorch, a function of (torch.nn.functional, parameters by name, x) where PyTorch has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np

import ldl
from ldl import nn, random
from references import bce, bce_with_logits, cross_entropy, huber, reduced, torch_cross_entropy

ABSTRACT = {nn.Module, nn.Loss, nn.ElementwiseLoss, nn.Activation}


@dataclass(frozen=True)
class Row:
    """A module: how to build it, an input's shape, and what it computes."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    jax: Callable[[Any, Any], Any]
    torch: Callable[[Any, Any, Any], Any] | None = None
    constants: Callable[[Any], dict[str, Any]] = lambda module: {}
    """What the references need beside the parameters, such as a mask, from the built module."""

    def module(self, dtype: str = "float32") -> Any:
        """The module on the backend in force, every parameter (biases too) random."""
        ldl.manual_seed(7)
        module = self.build()
        rng = np.random.default_rng(crc32(self.name.encode()))
        for parameter in module.parameters():
            values = (0.6 * rng.standard_normal(parameter.shape)).astype("float32")
            parameter.data[...] = module.backend.asarray(values)
        return module.to(dtype=dtype)

    def input(self, dtype: str = "float32", batch: int | None = None) -> Any:
        """A host array, its elements 0.2 at least from 0, where the kinks are."""
        shape = self.shape if batch is None else (batch, *self.shape[1:])
        return real(np.random.default_rng(crc32(self.name.encode()) + 1), shape).astype(dtype)


@dataclass(frozen=True)
class LossRow:
    """A loss: how to build it, generators of input and target, and what it computes."""

    name: str
    build: Callable[[], nn.Loss]
    make_input: Callable[[Any], Any]
    make_target: Callable[[Any], Any]
    jax: Callable[[Any, Any], Any]
    torch: Callable[[Any, Any, Any], Any]

    def batch(self, dtype: str = "float32", rows: int | None = None) -> tuple[Any, Any]:
        """Input and target, host arrays; `rows` of them, or all."""
        rng = np.random.default_rng(crc32(self.name.encode()))
        x, t = self.make_input(rng)[:rows], self.make_target(rng)[:rows]
        return x.astype(dtype), t.astype(dtype) if t.dtype.kind == "f" else t


def real(rng: Any, shape: tuple[int, ...] = (5, 3)) -> Any:
    values = rng.uniform(0.2, 2.5, shape) * rng.choice([-1.0, 1.0], shape)
    return values.astype("float32").astype("float64")


def probabilities(rng: Any, shape: tuple[int, ...] = (5, 3)) -> Any:
    return rng.uniform(0.2, 0.8, shape).astype("float32").astype("float64")


def binary(rng: Any, shape: tuple[int, ...] = (5, 3)) -> Any:
    return rng.integers(0, 2, shape).astype("float64")


def logits(rng: Any) -> Any:
    return real(rng, (6, 4))


def labels(rng: Any) -> Any:
    return rng.integers(0, 4, 6)


def labels_ignored(rng: Any) -> Any:
    return np.where(np.arange(6) % 3 == 1, -100, labels(rng))


def distributions(rng: Any) -> Any:
    q = rng.uniform(0.1, 1, (6, 4))
    return (q / q.sum(axis=1, keepdims=True)).astype("float32").astype("float64")


def dropout_mask(layer: Any, shape: tuple[int, ...]) -> Any:
    """m / (1 - p) of the layer's next forward."""
    key = random.Key(layer.stream.seed, layer.stream.stream, layer.stream.draw)
    return (random.uniform(shape, key) >= np.float32(layer.p)) / (1 - layer.p)


SHAPES = ((7,), (4, 3), (2, 3, 4))


def activation(
    build: Callable[[], Any], jax_f: Any, torch_f: Any, shapes: Any = SHAPES
) -> list[Row]:
    """A row for each shape, of a function without parameters."""
    return [
        Row(
            f"{build()!r} {len(s)}-D",
            build,
            s,
            lambda p, x: jax_f(x),
            lambda F, p, x: torch_f(F, x),
        )
        for s in shapes
    ]


def affine(p: Any, x: Any, name: str = "") -> Any:
    return x @ p[name + "weight"] + p[name + "bias"]


ROWS: list[Row] = [
    *activation(lambda: nn.Identity(), lambda x: x, lambda F, x: x * 1),
    *activation(lambda: nn.ReLU(), jax.nn.relu, lambda F, x: F.relu(x)),
    *activation(lambda: nn.LeakyReLU(), jax.nn.leaky_relu, lambda F, x: F.leaky_relu(x)),
    *activation(
        lambda: nn.LeakyReLU(0.3),
        lambda x: jax.nn.leaky_relu(x, 0.3),
        lambda F, x: F.leaky_relu(x, 0.3),
    ),
    *activation(lambda: nn.ELU(), jax.nn.elu, lambda F, x: F.elu(x)),
    *activation(lambda: nn.ELU(0.7), lambda x: jax.nn.elu(x, 0.7), lambda F, x: F.elu(x, 0.7)),
    *activation(lambda: nn.Tanh(), jnp.tanh, lambda F, x: x.tanh()),
    *activation(lambda: nn.Sigmoid(), jax.nn.sigmoid, lambda F, x: x.sigmoid()),
    *activation(lambda: nn.SiLU(), jax.nn.silu, lambda F, x: F.silu(x)),
    *activation(lambda: nn.Softplus(), jax.nn.softplus, lambda F, x: F.softplus(x)),
    *activation(
        lambda: nn.Softplus(beta=2.5),
        lambda x: jnp.logaddexp(2.5 * x, 0.0) / 2.5,
        lambda F, x: F.softplus(x, 2.5),
    ),
    *activation(
        lambda: nn.GELU(), lambda x: jax.nn.gelu(x, approximate=False), lambda F, x: F.gelu(x)
    ),
    *activation(
        lambda: nn.GELU("tanh"),
        lambda x: jax.nn.gelu(x, approximate=True),
        lambda F, x: F.gelu(x, approximate="tanh"),
    ),
    *activation(lambda: nn.Softmax(), jax.nn.softmax, lambda F, x: F.softmax(x, -1)),
    *activation(
        lambda: nn.Softmax(axis=1),
        lambda x: jax.nn.softmax(x, axis=1),
        lambda F, x: F.softmax(x, 1),
        SHAPES[1:],
    ),
    *activation(lambda: nn.LogSoftmax(), jax.nn.log_softmax, lambda F, x: F.log_softmax(x, -1)),
    *activation(
        lambda: nn.LogSoftmax(axis=1),
        lambda x: jax.nn.log_softmax(x, axis=1),
        lambda F, x: F.log_softmax(x, 1),
        SHAPES[1:],
    ),
    *(
        Row(
            f"Dropout({rate}) {len(s)}-D",
            lambda rate=rate: nn.Dropout(rate),
            s,
            lambda p, x: x * p["mask"],
            lambda F, p, x: x * p["mask"],
            lambda module, s=s: {"mask": dropout_mask(module, s)},
        )
        for rate, s in product((0.0, 0.4), SHAPES)
    ),
    Row(
        "Flatten",
        lambda: nn.Flatten(),
        (4, 3, 2),
        lambda p, x: x.reshape(4, 6),
        lambda F, p, x: x.flatten(1),
    ),
    Row(
        "Flatten 2-D",
        lambda: nn.Flatten(),
        (4, 3),
        lambda p, x: x.reshape(4, 3),
        lambda F, p, x: x.flatten(1),
    ),
    Row(
        "Linear",
        lambda: nn.Linear(5, 3),
        (4, 5),
        affine,
        lambda F, p, x: F.linear(x, p["weight"].T, p["bias"]),
    ),
    Row(
        "Linear without bias",
        lambda: nn.Linear(5, 3, bias=False),
        (4, 5),
        lambda p, x: jnp.einsum("ni,io->no", x, p["weight"]),
        lambda F, p, x: F.linear(x, p["weight"].T),
    ),
    Row(
        "TiedLinear",
        lambda: nn.TiedLinear(nn.Linear(5, 3)),
        (4, 3),
        lambda p, x: x @ p["weight"].T + p["bias"],
        lambda F, p, x: F.linear(x, p["weight"], p["bias"]),
    ),
    Row(
        "TiedLinear without bias",
        lambda: nn.TiedLinear(nn.Linear(5, 3), bias=False),
        (4, 3),
        lambda p, x: x @ p["weight"].T,
        lambda F, p, x: F.linear(x, p["weight"]),
    ),
    Row(
        "Sequential",
        lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax()),
        (4, 5),
        lambda p, x: jax.nn.softmax(affine(p, jax.nn.relu(affine(p, x, "0.")), "2.")),
        lambda F, p, x: F.softmax(affine(p, F.relu(affine(p, x, "0.")), "2."), -1),
    ),
    Row(
        "Sequential of Sequentials and Dropout",
        lambda: nn.Sequential(
            nn.Flatten(),
            nn.Sequential(nn.Linear(6, 5), nn.Tanh()),
            nn.Sequential(nn.Dropout(0.4), nn.Sequential(nn.Linear(5, 2))),
        ),
        (4, 3, 2),
        lambda p, x: affine(p, p["mask"] * jnp.tanh(affine(p, x.reshape(4, 6), "1.0.")), "2.1.0."),
        lambda F, p, x: affine(p, p["mask"] * affine(p, x.flatten(1), "1.0.").tanh(), "2.1.0."),
        lambda module: {"mask": dropout_mask(module[2][0], (4, 5))},
    ),
    Row(
        "Residual",
        lambda: nn.Residual(nn.Sequential(nn.Linear(5, 5), nn.Tanh())),
        (4, 5),
        lambda p, x: x + jnp.tanh(affine(p, x, "body.0.")),
        lambda F, p, x: x + affine(p, x, "body.0.").tanh(),
    ),
    Row(
        "Parallel, concatenated",
        lambda: nn.Parallel(nn.Linear(5, 3), nn.Sequential(nn.Linear(5, 2), nn.Sigmoid())),
        (4, 5),
        lambda p, x: jnp.concatenate(
            [affine(p, x, "branches.0."), jax.nn.sigmoid(affine(p, x, "branches.1.0."))], -1
        ),
    ),
    Row(
        "Parallel, summed",
        lambda: nn.Parallel(nn.Linear(5, 3), nn.Sequential(nn.Linear(5, 3), nn.ELU()), merge="sum"),
        (4, 5),
        lambda p, x: affine(p, x, "branches.0.") + jax.nn.elu(affine(p, x, "branches.1.0.")),
        lambda F, p, x: affine(p, x, "branches.0.") + F.elu(affine(p, x, "branches.1.0.")),
    ),
    Row(
        "AutoEncoder",
        lambda: nn.AutoEncoder(
            nn.Sequential(nn.Linear(6, 3), nn.SiLU()), nn.Sequential(nn.Linear(3, 6), nn.Sigmoid())
        ),
        (4, 6),
        lambda p, x: jax.nn.sigmoid(
            affine(p, jax.nn.silu(affine(p, x, "encoder.0.")), "decoder.0.")
        ),
        lambda F, p, x: affine(p, F.silu(affine(p, x, "encoder.0.")), "decoder.0.").sigmoid(),
    ),
    Row(
        "AutoEncoder, tied, of one hidden layer",
        lambda: nn.AutoEncoder.symmetric(6, [3], activation="Tanh", tied=True),
        (4, 6),
        lambda p, x: jax.nn.sigmoid(
            jnp.tanh(affine(p, x, "encoder.0.")) @ p["encoder.0.weight"].T + p["decoder.0.bias"]
        ),
        lambda F, p, x: F.linear(
            affine(p, x, "encoder.0.").tanh(), p["encoder.0.weight"], p["decoder.0.bias"]
        ).sigmoid(),
    ),
    Row(
        "AutoEncoder, tied, of two hidden layers",
        lambda: nn.AutoEncoder.symmetric(6, [4, 3], output="Identity", tied=True),
        (4, 6),
        lambda p, x: (
            jax.nn.relu(
                jax.nn.relu(affine(p, jax.nn.relu(affine(p, x, "encoder.0.")), "encoder.2."))
                @ p["encoder.2.weight"].T
                + p["decoder.0.bias"]
            )
            @ p["encoder.0.weight"].T
            + p["decoder.2.bias"]
        ),
    ),
]


REDUCTIONS = ("mean", "batchmean", "sum", "none")


def elementwise(
    build: Callable[[str], Any], make_input: Any, make_target: Any, jax_l: Any, torch_l: Any
) -> list[LossRow]:
    """A row for each reduction of a loss of every element."""
    return [
        LossRow(
            f"{build(r)!r}, {make_target.__name__}",
            lambda r=r: build(r),
            make_input,
            make_target,
            lambda x, t, r=r: reduced(jax_l(x, t), r),
            lambda F, x, t, r=r: reduced(torch_l(F, x, t), r),
        )
        for r in REDUCTIONS
    ]


def cross_entropies(make_target: Any, ignore_index: int = -100) -> list[LossRow]:
    """A row for each reduction, with and without class weights and label smoothing."""

    def row(reduction: str, weight: Any, smoothing: float) -> LossRow:
        options = dict(
            weight=weight,
            label_smoothing=smoothing,
            ignore_index=ignore_index,
            reduction=reduction,
        )
        return LossRow(
            f"{nn.CrossEntropyLoss(**options)!r}, {make_target.__name__}",
            lambda: nn.CrossEntropyLoss(**options),
            logits,
            make_target,
            lambda x, t: cross_entropy(x, t, **options),
            lambda F, x, t: torch_cross_entropy(F, x, t, **options),
        )

    return [row(*o) for o in product(REDUCTIONS, (None, [0.5, 2.0, 1.0, 0.25]), (0.0, 0.1))]


LOSSES: list[LossRow] = [
    *elementwise(
        lambda r: nn.MSELoss(reduction=r),
        real,
        real,
        lambda x, t: (x - t) ** 2,
        lambda F, x, t: F.mse_loss(x, t, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.L1Loss(reduction=r),
        real,
        real,
        lambda x, t: jnp.abs(x - t),
        lambda F, x, t: F.l1_loss(x, t, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.HuberLoss(reduction=r),
        real,
        real,
        lambda x, t: huber(x, t, 1.0),
        lambda F, x, t: F.huber_loss(x, t, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.HuberLoss(delta=0.4, reduction=r),
        real,
        real,
        lambda x, t: huber(x, t, 0.4),
        lambda F, x, t: F.huber_loss(x, t, reduction="none", delta=0.4),
    ),
    *elementwise(
        lambda r: nn.BCELoss(reduction=r),
        probabilities,
        probabilities,
        bce,
        lambda F, x, t: F.binary_cross_entropy(x, t, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.BCELoss(reduction=r),
        probabilities,
        binary,
        bce,
        lambda F, x, t: F.binary_cross_entropy(x, t, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.BCEWithLogitsLoss(reduction=r),
        real,
        binary,
        bce_with_logits,
        lambda F, x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.BCEWithLogitsLoss(reduction=r),
        real,
        probabilities,
        bce_with_logits,
        lambda F, x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
    ),
    *cross_entropies(labels),
    *cross_entropies(labels_ignored),
    *cross_entropies(distributions),
    *cross_entropies(labels, ignore_index=2),
]


def named(rows: list[Any]) -> dict[str, Any]:
    """The arguments of pytest.mark.parametrize for a test of every row."""
    return {"argnames": "row", "argvalues": rows, "ids": [row.name for row in rows]}
