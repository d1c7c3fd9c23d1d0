"""Kinds of layers by which nets are described, for libraries to build as they do.

A layer is a tuple: its kind and that kind's numbers. Shapes are those of one sample, channels last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

Shape = tuple[int, ...]
Layer = tuple[Any, ...]
Net = tuple[Layer, ...]


class Product(NamedTuple):
    """`count` products (m, k) @ (k, n), of which one operand may lie transposed."""

    count: int
    m: int
    k: int
    n: int
    turned: str = ""
    """ "a", "b" or neither."""


def _three(count: int, m: int, k: int, n: int, first: bool = False) -> list[Product]:
    """Z = X W, dW = Xᵀ G and, but for the first layer, dX = G Wᵀ."""
    found = [Product(count, m, k, n), Product(count, k, m, n, "a")]
    return found if first else [*found, Product(count, m, n, k, "b")]


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of layer, from its numbers."""

    output: Callable[..., Shape]
    """(shape, *numbers)"""
    parameters: Callable[..., list[Shape]] = lambda *numbers: []
    """As ldl keeps them, in its order."""
    products: Callable[..., list[Product]] = lambda *ignored: []
    """(batch, shape, whether it is the first, *numbers)"""


def _windows(shape: Shape, size: int, padding: int) -> Shape:
    return tuple(n + 2 * padding - size + 1 for n in shape[:-1])


def _conv(batch: int, shape: Shape, first: bool, i: int, o: int, size: int, p: int) -> Any:
    rows, columns = _windows(shape, size, p)
    return _three(1, batch * rows * columns, size * size * i, o, first)


def _transformer(batch: int, shape: Shape, first: bool, d: int, heads: int, hidden: int) -> Any:
    t, rows, each = shape[0], batch * shape[0], d // heads
    dense = [(d, 3 * d), (d, d), (d, hidden), (hidden, d)]
    found = [product for i, o in dense for product in _three(1, rows, i, o)]
    for k, n in ((each, t), (t, each)):
        found += _three(batch * heads, t, k, n)
    return found


def _lstm(batch: int, shape: Shape, first: bool, i: int, h: int) -> Any:
    t, rows = shape[0], batch * shape[0]
    found = _three(1, rows, i, 4 * h, first)
    found += [Product(t, batch, h, 4 * h), Product(t, batch, 4 * h, h, "b")]
    return [*found, Product(1, h, rows, 4 * h, "a")]


KINDS = {
    "conv": Kind(
        lambda shape, i, o, size, p: (*_windows(shape, size, p), o),
        lambda i, o, size, p: [(size, size, i, o), (o,)],
        _conv,
    ),
    "linear": Kind(
        lambda shape, i, o: (o,),
        lambda i, o: [(i, o), (o,)],
        lambda batch, shape, first, i, o: _three(1, batch, i, o, first),
    ),
    "batchnorm1d": Kind(lambda shape, c: shape, lambda c: [(c,), (c,)]),
    "batchnorm2d": Kind(lambda shape, c: shape, lambda c: [(c,), (c,)]),
    "relu": Kind(lambda shape: shape),
    "maxpool": Kind(lambda shape, size: (*(n // size for n in shape[:-1]), shape[-1])),
    "meanpool": Kind(lambda shape: shape[-1:]),
    "flatten": Kind(lambda shape: (_count(shape),)),
    "transformer": Kind(
        lambda shape, *numbers: shape,
        lambda d, heads, hidden: [
            *((d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,)),
            *((d,), (d,), (d, hidden), (hidden,), (hidden, d), (d,)),
        ],
        _transformer,
    ),
    "lstm": Kind(
        lambda shape, i, h: (h,),
        lambda i, h: [(i, 4 * h), (h, 4 * h), (4 * h,)],
        _lstm,
    ),
}
"""conv: in, out, size, padding. maxpool: size. transformer: width, heads, hidden units; normalised
first, GELU. lstm: in, hidden; it gives the last step's output. batchnorm: channels."""


def _count(shape: Shape) -> int:
    found = 1
    for n in shape:
        found *= n
    return found


def parameters(net: Net) -> list[Shape]:
    """The shapes of all parameters."""
    return [shape for kind, *numbers in net for shape in KINDS[kind].parameters(*numbers)]


def shapes(net: Net, sample: Shape) -> list[Shape]:
    """The sample's shape and that of each layer's output."""
    found = [sample]
    for kind, *numbers in net:
        found.append(tuple(KINDS[kind].output(found[-1], *numbers)))
    return found


def products(net: Net, sample: Shape, batch: int) -> list[Product]:
    """Every matrix product of a training step; a convolution is that of its windows as rows."""
    found: list[Product] = []
    for (kind, *numbers), shape in zip(net, shapes(net, sample), strict=False):
        found += KINDS[kind].products(batch, shape, not found, *numbers)
    return found
