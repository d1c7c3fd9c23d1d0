"""Initial weights, drawn on the host from the seed of `ldl.manual_seed`.

An initialiser is a function of a shape that returns a float32 NumPy array. For a shape (in, out) of
a Linear, fan_in is `in` and fan_out is `out`; a longer shape (k1, .., in, out) has the product of the
k as its receptive field, which multiplies both.

| name | distribution | variance | source |
|---|---|---|---|
| he_normal, he_uniform | for ReLU | 2 / fan_in | He et al., ICCV 2015 |
| xavier_normal, xavier_uniform | for tanh, sigmoid, linear | 2 / (fan_in + fan_out) | Glorot, Bengio, AISTATS 2010 |
| lecun_normal, lecun_uniform | for SELU-like, linear | 1 / fan_in | LeCun et al., Efficient BackProp, 1998 |
| orthogonal | orthonormal rows or columns | | Saxe et al., ICLR 2014 |
"""  # noqa: E501 - a table

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ldl import random
from ldl.backend import get_backend

Initializer = Callable[[tuple[int, ...]], Any]

_budget: ContextVar[list[int] | None] = ContextVar("ldl_init_budget", default=None)


@contextmanager
def budget(elements: int) -> Iterator[None]:
    """Inside the block, make at most so many elements, and make them zeros.

    A file that is being read describes a model: this keeps a false description from taking more
    memory than the file's own weights do. MemoryError when it would.
    """
    before = _budget.get()
    try:
        _budget.set([elements])
        yield
    finally:
        _budget.set(before)


def constant(shape: tuple[int, ...], value: float) -> Any:
    """An array full of one value."""
    left = _budget.get()
    if left is not None:
        left[0] -= _product(shape)
        if left[0] < 0:
            raise MemoryError("the model described has more weights than the file")
    return get_backend("numpy").xp.full(shape, value, dtype="float32")


def zeros(shape: tuple[int, ...]) -> Any:
    """An array of zeros."""
    return constant(shape, 0.0)


def ones(shape: tuple[int, ...]) -> Any:
    """An array of ones."""
    return constant(shape, 1.0)


def uniform(shape: tuple[int, ...], bound: float) -> Any:
    """Uniform on [-bound, bound)."""
    if _budget.get() is not None:
        return zeros(shape)
    u = get_backend("numpy").uniform(shape, "float32", random.next_weights())
    return (2 * u - 1) * float(bound)


def normal(shape: tuple[int, ...], std: float) -> Any:
    """Normal of mean 0 and standard deviation `std`."""
    if _budget.get() is not None:
        return zeros(shape)
    return float(std) * get_backend("numpy").normal(shape, "float32", random.next_weights())


def he_normal(shape: tuple[int, ...]) -> Any:
    """Normal of variance 2 / fan_in."""
    return normal(shape, (2 / _fans(shape)[0]) ** 0.5)


def he_uniform(shape: tuple[int, ...]) -> Any:
    """Uniform of variance 2 / fan_in: the bound is √(6 / fan_in)."""
    return uniform(shape, (6 / _fans(shape)[0]) ** 0.5)


def xavier_normal(shape: tuple[int, ...]) -> Any:
    """Normal of variance 2 / (fan_in + fan_out)."""
    return normal(shape, (2 / sum(_fans(shape))) ** 0.5)


def xavier_uniform(shape: tuple[int, ...]) -> Any:
    """Uniform of variance 2 / (fan_in + fan_out): the bound is √(6 / (fan_in + fan_out))."""
    return uniform(shape, (6 / sum(_fans(shape))) ** 0.5)


def lecun_normal(shape: tuple[int, ...]) -> Any:
    """Normal of variance 1 / fan_in."""
    return normal(shape, (1 / _fans(shape)[0]) ** 0.5)


def lecun_uniform(shape: tuple[int, ...]) -> Any:
    """Uniform of variance 1 / fan_in: the bound is √(3 / fan_in)."""
    return uniform(shape, (3 / _fans(shape)[0]) ** 0.5)


def orthogonal(shape: tuple[int, ...]) -> Any:
    """Orthonormal columns, or rows where there are fewer, of a (product of the rest, last) matrix.

    Q of the QR decomposition of a normal matrix, with the signs of R's diagonal, which makes Q
    uniform over the orthogonal group (Mezzadri, Notices of the AMS 54, 2007).
    """
    if _budget.get() is not None:
        return zeros(shape)
    xp = get_backend("numpy").xp
    rows, columns = _product(shape[:-1]), shape[-1]
    a = normal((max(rows, columns), min(rows, columns)), 1.0)
    q, r = xp.linalg.qr(a)
    q = q * xp.sign(xp.diagonal(r))
    return xp.ascontiguousarray(q if rows >= columns else q.T).reshape(shape)


def waves(shape: tuple[int, int]) -> Any:
    """Sines and cosines (T, d): of t / 10000^{2i / d} in the columns 2i and 2i + 1."""
    if _budget.get() is not None:
        return zeros(shape)
    xp, (places, width) = get_backend("numpy").xp, shape
    column = xp.arange(width)
    angle = xp.arange(places)[:, None] * 10000.0 ** (-2 * (column // 2) / width)
    return xp.where(column % 2, xp.cos(angle), xp.sin(angle)).astype("float32")


_NAMED: dict[str, Initializer] = {
    f.__name__: f
    for f in (
        zeros,
        ones,
        he_normal,
        he_uniform,
        xavier_normal,
        xavier_uniform,
        lecun_normal,
        lecun_uniform,
        orthogonal,
    )
}


def get(name: str) -> Initializer:
    """The initialiser of that name; ValueError that lists the names otherwise."""
    if name not in _NAMED:
        raise ValueError(f"no initialiser is named {name!r}; there are: {', '.join(_NAMED)}")
    return _NAMED[name]


def _product(shape: tuple[int, ...]) -> int:
    n = 1
    for k in shape:
        n *= k
    return n


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2:
        raise ValueError(f"fans need a shape of two axes or more, got {shape}")
    field = _product(shape[:-2])
    return field * shape[-2], field * shape[-1]
