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
from catalog_layers import LAYERS
from catalog_sequences import SEQUENCES
from ldl import nn, random
from references import (
    bce,
    bce_with_logits,
    cosine,
    cosine_embedding,
    cross_entropy,
    huber,
    kl,
    nll,
    poisson,
    reduced,
    torch_cross_entropy,
    torch_nll,
)

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
        for parameter in learned(module).values():
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


def learned(module: Any) -> dict[str, Any]:
    """The parameters that are no buffers, by name."""
    return {n: p for n, p in module.named_parameters() if not isinstance(p, nn.Buffer)}


def pairs(rng: Any) -> Any:
    return real(rng, (5, 2, 3))


def scores(rng: Any) -> Any:
    return real(rng, (5, 2))


def signs(rng: Any) -> Any:
    return np.array([1.0, -1.0, -1.0, 1.0, -1.0])


def real(rng: Any, shape: tuple[int, ...] = (5, 3)) -> Any:
    values = rng.uniform(0.2, 2.5, shape) * rng.choice([-1.0, 1.0], shape)
    return values.astype("float32").astype("float64")


def probabilities(rng: Any, shape: tuple[int, ...] = (5, 3)) -> Any:
    return rng.uniform(0.2, 0.8, shape).astype("float32").astype("float64")


def binary(rng: Any, shape: tuple[int, ...] = (5, 3)) -> Any:
    return rng.integers(0, 2, shape).astype("float64")


def sparse(rng: Any) -> Any:
    return probabilities(rng) * binary(rng)


def counts(rng: Any) -> Any:
    return rng.integers(0, 6, (5, 3)).astype("float64")


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


def hardsigmoid_of_torch(F: Any, x: Any) -> Any:
    """As its manual has it: of float64 PyTorch's own has the digits of float32."""
    return F.relu6(x + 3) / 6


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
    *activation(lambda: nn.SELU(), jax.nn.selu, lambda F, x: F.selu(x)),
    *activation(lambda: nn.Mish(), jax.nn.mish, lambda F, x: F.mish(x)),
    *activation(lambda: nn.Hardtanh(), jax.nn.hard_tanh, lambda F, x: F.hardtanh(x)),
    *activation(
        lambda: nn.Hardtanh(-2, 0.5),
        lambda x: jnp.clip(x, -2, 0.5),
        lambda F, x: F.hardtanh(x, -2, 0.5),
    ),
    *activation(lambda: nn.Hardsigmoid(), jax.nn.hard_sigmoid, hardsigmoid_of_torch),
    *activation(lambda: nn.Hardswish(), jax.nn.hard_swish, lambda F, x: F.hardswish(x)),
    *activation(lambda: nn.Softmin(), lambda x: jax.nn.softmax(-x), lambda F, x: F.softmin(x, -1)),
    *activation(
        lambda: nn.Softmin(axis=1),
        lambda x: jax.nn.softmax(-x, axis=1),
        lambda F, x: F.softmin(x, 1),
        SHAPES[1:],
    ),
    *activation(
        lambda: nn.GLU(),
        jax.nn.glu,
        lambda F, x: F.glu(x),
        ((3, 6), (2, 3, 4)),
    ),
    *activation(
        lambda: nn.GLU(axis=1),
        lambda x: jax.nn.glu(x, axis=1),
        lambda F, x: F.glu(x, 1),
        ((3, 6), (2, 4, 3)),
    ),
    *(
        Row(
            f"PReLU({n}) {len(s)}-D",
            lambda n=n: nn.PReLU(n),
            s,
            lambda p, x: jnp.where(x > 0, x, p["weight"] * x),
            lambda F, p, x: F.prelu(x.reshape(-1, x.shape[-1]), p["weight"]).reshape(x.shape),
        )
        for n, s in ((1, (7,)), (1, (4, 3)), (4, (3, 4)), (4, (2, 3, 4)))
    ),
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
        "Flatten from the second axis",
        lambda: nn.Flatten(2),
        (4, 3, 2, 5),
        lambda p, x: x.reshape(4, 3, 10),
        lambda F, p, x: x.flatten(2),
    ),
    Row(
        "Flatten of the last two axes",
        lambda: nn.Flatten(-2),
        (4, 3, 2, 5),
        lambda p, x: x.reshape(4, 3, 10),
        lambda F, p, x: x.flatten(-2),
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
    Row(
        "Dropout2d",
        lambda: nn.Dropout2d(0.4),
        (4, 2, 3, 5),
        lambda p, x: x * p["mask"],
        lambda F, p, x: x * p["mask"],
        lambda module: {"mask": dropout_mask(module, (4, 1, 1, 5))},
    ),
    *(Row(*layer) for layer in (*LAYERS, *SEQUENCES)),
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


def likelihoods(make_target: Any, ignore_index: int = -100) -> list[LossRow]:
    """A row for each reduction, with and without class weights."""

    def row(reduction: str, weight: Any) -> LossRow:
        options = dict(weight=weight, ignore_index=ignore_index, reduction=reduction)
        return LossRow(
            f"{nn.NLLLoss(**options)!r}, {make_target.__name__}",
            lambda: nn.NLLLoss(**options),
            logits,
            make_target,
            lambda x, t: nll(x, t, **options),
            lambda F, x, t: torch_nll(F, x, t, **options),
        )

    return [row(*o) for o in product(REDUCTIONS, (None, [0.5, 2.0, 1.0, 0.25]))]


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
    *(
        row
        for beta in (1.0, 0.5, 0.0)
        for row in elementwise(
            lambda r, beta=beta: nn.SmoothL1Loss(beta, reduction=r),
            real,
            real,
            lambda x, t, beta=beta: huber(x, t, beta) / beta if beta else jnp.abs(x - t),
            lambda F, x, t, beta=beta: F.smooth_l1_loss(x, t, reduction="none", beta=beta),
        )
    ),
    *elementwise(
        lambda r: nn.KLDivLoss(r),
        real,
        sparse,
        kl,
        lambda F, x, t: F.kl_div(x, t, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.KLDivLoss(r, log_target=True),
        real,
        real,
        lambda x, t: kl(x, t, True),
        lambda F, x, t: F.kl_div(x, t, reduction="none", log_target=True),
    ),
    *elementwise(
        lambda r: nn.PoissonNLLLoss(reduction=r),
        real,
        counts,
        poisson,
        lambda F, x, t: F.poisson_nll_loss(x, t, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.PoissonNLLLoss(False, True, reduction=r),
        probabilities,
        counts,
        lambda x, t: poisson(x, t, False, True),
        lambda F, x, t: F.poisson_nll_loss(x, t, log_input=False, full=True, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.CosineSimilarityLoss(r),
        real,
        real,
        cosine,
        lambda F, x, t: F.cosine_embedding_loss(x, t, x.new_ones(len(x)), reduction="none"),
    ),
    *elementwise(
        lambda r: nn.CosineEmbeddingLoss(0.2, r),
        pairs,
        signs,
        lambda x, t: cosine_embedding(x, t, 0.2),
        lambda F, x, t: F.cosine_embedding_loss(x[:, 0], x[:, 1], t, 0.2, reduction="none"),
    ),
    *elementwise(
        lambda r: nn.MarginRankingLoss(0.5, r),
        scores,
        signs,
        lambda x, t: jnp.maximum(0.5 - t * (x[:, 0] - x[:, 1]), 0),
        lambda F, x, t: F.margin_ranking_loss(x[:, 0], x[:, 1], t, 0.5, reduction="none"),
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
    *elementwise(
        lambda r: nn.BCELoss(r, weight=[0.5, 2.0, 0.0]),
        probabilities,
        probabilities,
        lambda x, t: jnp.asarray([0.5, 2.0, 0.0], x.dtype) * bce(x, t),
        lambda F, x, t: F.binary_cross_entropy(
            x, t, weight=x.new_tensor([0.5, 2.0, 0.0]), reduction="none"
        ),
    ),
    *elementwise(
        lambda r: nn.BCEWithLogitsLoss(r, weight=[0.5, 2.0, 0.0], pos_weight=3),
        real,
        probabilities,
        lambda x, t: jnp.asarray([0.5, 2.0, 0.0], x.dtype) * bce_with_logits(x, t, 3),
        lambda F, x, t: F.binary_cross_entropy_with_logits(
            x,
            t,
            weight=x.new_tensor([0.5, 2.0, 0.0]),
            pos_weight=x.new_tensor(3),
            reduction="none",
        ),
    ),
    *elementwise(
        lambda r: nn.BCEWithLogitsLoss(r, pos_weight=[0.5, 0.0, 4.0]),
        real,
        binary,
        lambda x, t: bce_with_logits(x, t, jnp.asarray([0.5, 0.0, 4.0], x.dtype)),
        lambda F, x, t: F.binary_cross_entropy_with_logits(
            x, t, pos_weight=x.new_tensor([0.5, 0.0, 4.0]), reduction="none"
        ),
    ),
    *cross_entropies(labels),
    *cross_entropies(labels_ignored),
    *cross_entropies(distributions),
    *cross_entropies(labels, ignore_index=2),
    *likelihoods(labels_ignored),
    *likelihoods(labels, ignore_index=2),
    *likelihoods(distributions),
]


def named(rows: list[Any]) -> dict[str, Any]:
    """The arguments of pytest.mark.parametrize for a test of every row."""
    return {"argnames": "row", "argvalues": rows, "ids": [row.name for row in rows]}
