"""What is timed of each kernel, each layer and each loss, at sizes that occur.

A kernel of `ldl.Backend` without a case here fails the tests, and so does a layer or a loss of the
tests' catalog that there is no size for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import ldl
from ldl import nn, optim, random
from ldl.backend import Window

BATCH, WIDE, NARROW, CLASSES = 128, 784, 256, 10
PARAMETERS = 434_000
"""Those of the autoencoder 784-256-64-256-784, about."""

Call = Callable[[], Any]

NOT_KERNELS = {
    *("asarray", "plain", "owns", "to_numpy", "fits", "synchronize"),
    *("record", "prepare", "deferred", "together"),
    *("choose_device", "add_up", "begin_add_up", "begin_sum"),
    *("pooled", "rows", "sum_ranks"),
}
"""Methods of a backend that are the boundary, the recorder, the way to a kernel, or to ranks."""


def kernel_names() -> set[str]:
    """The kernels that `ldl.Backend` has."""
    methods = inspect.getmembers(ldl.Backend, inspect.isfunction)
    return {name for name, _ in methods if not name.startswith("_")} - NOT_KERNELS


def _array(backend: ldl.Backend, *shape: int) -> Any:
    rng = np.random.default_rng(len(shape))
    return backend.asarray(rng.standard_normal(shape).astype(np.float32))


def _positive(backend: ldl.Backend, *shape: int) -> Any:
    return backend.asarray(np.random.default_rng(1).random(shape, dtype=np.float32) + 0.1)


def _over(call: Callable[..., Any], *shapes: tuple[int, ...]) -> Callable[[ldl.Backend], Call]:
    """A case that calls `call(backend, *arrays)` on arrays of these shapes."""

    def case(b: ldl.Backend) -> Call:
        arrays = [_array(b, *shape) for shape in shapes]
        return lambda: call(b, *arrays)

    return case


def _take(b: ldl.Backend) -> Call:
    x = _array(b, 5000, WIDE)
    index = b.asarray(np.random.default_rng(3).permutation(5000)[:BATCH])
    return lambda: b.take(x, index)


def _drawn(name: str) -> Callable[[ldl.Backend], Call]:
    def case(b: ldl.Backend) -> Call:
        stream, draw = random.Stream(0, random.NOISE), getattr(b, name)
        return lambda: draw((BATCH, WIDE), "float32", stream.next())

    return case


def _average(b: ldl.Backend) -> Call:
    step = b.prepare("average_step", (_array(b, PARAMETERS), _array(b, PARAMETERS)), ("rest",))
    return lambda: step(1e-3)


def _settle(b: ldl.Backend) -> Call:
    a = _array(b, PARAMETERS)
    return b.prepare("settle", (a,), ())


def _optimizer(make: Callable[[list[nn.Parameter]], optim.Optimizer]) -> Callable[..., Call]:
    """An update as its optimizer asks for it: one buffer of all parameters."""

    def case(b: ldl.Backend) -> Call:
        with ldl.use_backend(b):
            parameter = nn.Parameter(_array(b, PARAMETERS))
            optimizer = make([parameter])
        parameter.accumulate(_positive(b, PARAMETERS))
        return optimizer.step

    return case


def _max_pool_input(b: ldl.Backend) -> Call:
    y, where = b.max_pool(_array(b, *IMAGES), POOL)
    return lambda: b.max_pool_input(y, where, POOL, SIDES)


def _add_rows(b: ldl.Backend) -> Call:
    rows, out = _array(b, 1024, 64), _array(b, 10_000, 64)
    index = b.asarray(np.random.default_rng(3).integers(0, 10_000, 1024))
    return lambda: b.add_rows(rows, index, out)


SIDES = 14, 14
SEQUENCES = 32, 20, 16
IMAGES, FILTERS = (32, *SIDES, 16), (3, 3, 16, 16)
WINDOW, POOL = Window((3, 3), padding=((1, 1), (1, 1))), Window((2, 2), (2, 2))

ROWS, MATRIX, HIDDEN = (BATCH, WIDE), (WIDE, NARROW), (BATCH, NARROW)

KERNELS: dict[str, Callable[[ldl.Backend], Call]] = {
    "matmul": _over(lambda b, x, w, out: b.matmul(x, w, out=out), ROWS, MATRIX, HIDDEN),
    "linear": _over(lambda b, x, w, bias: b.linear(x, w, bias), ROWS, MATRIX, (NARROW,)),
    "sum_rows": _over(lambda b, x, out: b.sum_rows(x, out=out), ROWS, (WIDE,)),
    "conv": _over(lambda b, x, w, bias: b.conv(x, w, bias, WINDOW), IMAGES, FILTERS, (16,)),
    "conv_weight": _over(lambda b, x, g: b.conv_weight(x, g, WINDOW), IMAGES, IMAGES),
    "conv_input": _over(lambda b, g, w: b.conv_input(g, w, WINDOW, SIDES), IMAGES, FILTERS),
    "max_pool": _over(lambda b, x: b.max_pool(x, POOL), IMAGES),
    "max_pool_input": _max_pool_input,
    "add_rows": _add_rows,
    "sigmoid": _over(lambda b, x: b.sigmoid(x), ROWS),
    "log_softmax": _over(lambda b, x: b.log_softmax(x), ROWS),
    "normal_tail": _over(lambda b, x: b.normal_tail(x), ROWS),
    "take": _take,
    "uniform": _drawn("uniform"),
    "normal": _drawn("normal"),
    "sum_squares": _over(lambda b, x: b.sum_squares(x), (PARAMETERS,)),
    "settle": _settle,
    "average_step": _average,
    "sgd_step": _optimizer(lambda p: optim.SGD(p, lr=1e-3, momentum=0.9)),
    "rmsprop_step": _optimizer(lambda p: optim.RMSprop(p, lr=1e-3)),
    "adagrad_step": _optimizer(lambda p: optim.Adagrad(p, lr=1e-3)),
    "adam_step": _optimizer(lambda p: optim.Adam(p, lr=1e-3)),
    "nadam_step": _optimizer(lambda p: optim.NAdam(p, lr=1e-3)),
    "lion_step": _optimizer(lambda p: optim.Lion(p, lr=1e-4)),
}


# ---- layers -----------------------------------------------------------------------------------


def _branch() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDE, NARROW), nn.ReLU())


SIZES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(WIDE, NARROW), (BATCH, WIDE)),
    "TiedLinear": (lambda: nn.TiedLinear(nn.Linear(WIDE, NARROW)), (BATCH, NARROW)),
    "Flatten": (lambda: nn.Flatten(), (BATCH, 28, 28)),
    "Dropout": (lambda: nn.Dropout(0.2), (BATCH, WIDE)),
    "Sequential": (lambda: nn.Sequential(_branch(), nn.Linear(NARROW, CLASSES)), (BATCH, WIDE)),
    "Residual": (lambda: nn.Residual(nn.Linear(NARROW, NARROW)), (BATCH, NARROW)),
    "Parallel": (lambda: nn.Parallel(_branch(), _branch()), (BATCH, WIDE)),
    "PReLU": (lambda: nn.PReLU(NARROW), (BATCH, NARROW)),
    "Dropout2d": (lambda: nn.Dropout2d(0.2), IMAGES),
    "Conv1d": (lambda: nn.Conv1d(16, 16, 3, padding=1), SEQUENCES),
    "Conv2d": (lambda: nn.Conv2d(16, 16, 3, padding=1), IMAGES),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(16, 16, 2, stride=2), SEQUENCES),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(16, 16, 2, stride=2), IMAGES),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), SEQUENCES),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), IMAGES),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), SEQUENCES),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), IMAGES),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(4), SEQUENCES),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(4), IMAGES),
    "GlobalAvgPool": (lambda: nn.GlobalAvgPool(), IMAGES),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(NARROW), (BATCH, NARROW)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(16), IMAGES),
    "LayerNorm": (lambda: nn.LayerNorm(NARROW), (BATCH, NARROW)),
    "RMSNorm": (lambda: nn.RMSNorm(NARROW), (BATCH, NARROW)),
    "GroupNorm": (lambda: nn.GroupNorm(4, 16), IMAGES),
    "InstanceNorm": (lambda: nn.InstanceNorm(16, affine=True), IMAGES),
    "Reshape": (lambda: nn.Reshape(28, 28), (BATCH, WIDE)),
    "Permute": (lambda: nn.Permute(3, 1, 2), IMAGES),
    "ZeroPad": (lambda: nn.ZeroPad(1), IMAGES),
    "Upsample": (lambda: nn.Upsample(2), IMAGES),
    "PositionalEncoding": (lambda: nn.PositionalEncoding(16), SEQUENCES),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(16, 2), SEQUENCES),
    "TransformerBlock": (lambda: nn.TransformerBlock(16, 2), SEQUENCES),
    "RNN": (lambda: nn.RNN(16, 16), SEQUENCES),
    "LSTM": (lambda: nn.LSTM(16, 16), SEQUENCES),
    "GRU": (lambda: nn.GRU(16, 16), SEQUENCES),
    "AutoEncoder": (lambda: nn.AutoEncoder.symmetric(WIDE, [256, 64]), (BATCH, WIDE)),
}
"""Layers that are built for a size, or that are slow or fast by their options."""


def layer_cases(rows: list[Any]) -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    """How to build each layer of the catalog's rows, and its input's shape, by name.

    A layer without parameters has a case for each of its options, one with parameters the one of
    `SIZES`; KeyError for one that is not there.
    """
    found = {}
    for row in rows:
        layer = row.build()
        kind = type(layer).__name__
        if kind in SIZES:
            found[kind] = SIZES[kind]
        elif any(True for _ in layer.parameters()):
            raise KeyError(f"{kind} has parameters: give it an entry in SIZES")
        else:
            found[repr(layer)] = (row.build, (BATCH, WIDE))
    return found


def layer_call(build: Callable[[], nn.Module], shape: tuple[int, ...], b: ldl.Backend) -> Call:
    """Forward and backward of a layer on a backend."""
    ldl.manual_seed(0)
    with ldl.use_backend(b):
        layer = build()
    x = _array(b, *shape)
    grad = b.xp.ones_like(layer(x))

    def call() -> Any:
        layer.zero_grad()
        layer(x)
        return layer.backward(grad)

    return call


# ---- losses -----------------------------------------------------------------------------------


def loss_cases(rows: list[Any]) -> dict[str, Callable[[], nn.Loss]]:
    """How to build each kind of loss of the catalog's rows, with its defaults."""
    kinds = {type(row.build()) for row in rows}
    return {kind.__name__: kind for kind in sorted(kinds, key=lambda kind: kind.__name__)}


def loss_call(build: Callable[[], nn.Loss], b: ldl.Backend) -> Call:
    """Forward and backward of a loss on a backend."""
    with ldl.use_backend(b):
        loss = build()
    rng = np.random.default_rng(5)
    if loss.takes_labels:
        x, y = _array(b, BATCH, CLASSES), b.asarray(rng.integers(0, CLASSES, BATCH))
    elif isinstance(loss, (nn.CosineEmbeddingLoss, nn.MarginRankingLoss)):
        pairs = (2, WIDE) if isinstance(loss, nn.CosineEmbeddingLoss) else (2,)
        x = b.asarray(rng.uniform(0.1, 0.9, (BATCH, *pairs)).astype(np.float32))
        y = b.asarray(rng.choice([-1, 1], BATCH).astype(np.float32))
    else:
        x, y = (
            b.asarray(rng.uniform(0.1, 0.9, (BATCH, WIDE)).astype(np.float32)) for _ in range(2)
        )

    def call() -> Any:
        loss.forward(x, y)
        return loss.backward()

    return call
