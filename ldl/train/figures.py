"""The figures that metrics are by name: what is counted of a batch, and how much that counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import inf
from typing import Any

from ldl.arrays import check_kind, plain_of_numpy
from ldl.backend import Array
from ldl.calm import calm

Figure = Any
"""A mean, or a pair (sum, count): numbers or scalars of the device."""

Shape = tuple[int, ...]


def _of_arrays(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """The function, whose last two arguments but for weights are plain arrays of numbers."""

    @wraps(function)
    def checked(*given: Any, sample_weight: Array | None = None) -> Figure:
        *first, output, target = given
        return function(*first, batch(output), batch(target), sample_weight)

    return checked


def batch(array: Any) -> Array:
    """TypeError for what is no array of numbers, ValueError for one without axes."""
    if not hasattr(getattr(array, "dtype", None), "kind"):
        raise TypeError(
            "a metric takes arrays of outputs and of targets, got a "
            f"{type(array).__name__}: bring it over with model.backend.asarray(...)"
        )
    array = plain_of_numpy(array)
    check_kind(array.dtype)
    if not array.ndim:
        raise ValueError(
            "a metric takes batches, got a number without axes: give arrays, such as "
            "x.reshape(1, 1)"
        )
    return array


@calm
@_of_arrays
def mean_squared_error(xp: Any, output: Array, target: Array, weight: Array | None) -> Figure:
    """The sum over all elements of (output - target)², and their number."""
    d = _wide(output) - _wide(target)
    return _sums(xp, d * d, weight)


@calm
@_of_arrays
def mean_absolute_error(xp: Any, output: Array, target: Array, weight: Array | None) -> Figure:
    """The sum over all elements of |output - target|, and their number."""
    return _sums(xp, xp.abs(_wide(output) - _wide(target)), weight)


@calm
@_of_arrays
def accuracy(
    ignored: int | None, xp: Any, output: Array, target: Array, weight: Array | None
) -> Figure:
    """The rows whose largest output is the label, or the largest of the distribution, and all rows.

    For outputs of one column, which have no largest, the rows on the target's side of 1/2. Rows
    labelled `ignored` count for nothing, and no row with a NaN is right.
    """
    if is_column(output.shape):
        return _on_one_side(0.5, xp, output, target.reshape(output.shape), weight)
    right = output.max(axis=-1) > -inf
    if target.ndim == output.ndim:
        right &= target.max(axis=-1) > -inf
        target = target.argmax(axis=-1)
    right &= output.argmax(axis=-1) == target
    if ignored is None or target.dtype.kind not in "iu":
        return _sums(xp, right, weight)
    return _sums(xp, right, weight, target.astype("int64") != ignored)


@calm
@_of_arrays
def binary_accuracy(
    threshold: float, xp: Any, output: Array, target: Array, weight: Array | None
) -> Figure:
    """The elements on the same side, outputs of `threshold` and targets of 1/2, and all elements.

    No element that is NaN is right.
    """
    return _on_one_side(threshold, xp, output, target, weight)


def _on_one_side(
    threshold: float, xp: Any, output: Array, target: Array, weight: Array | None
) -> Figure:
    right = (output > threshold) == (target > 0.5)
    right &= (output == output) & (target == target)
    return _sums(xp, right, weight)


def _sums(xp: Any, values: Array, weight: Array | None, counted: Array | None = None) -> Figure:
    """Σ w v and Σ w over the elements that are counted, w being 1 or that of their sample."""
    if weight is None:
        if counted is None:
            return values.sum(), values.size
        return (values & counted).sum(), counted.sum()
    w = _wide(weight).reshape(-1, *[1] * (values.ndim - 1)) + xp.zeros(values.shape, "float32")
    w = w if counted is None else xp.where(counted, w, 0)
    return xp.where(w > 0, values * w, 0).sum(), w.sum()


def _wide(a: Array) -> Array:
    """Floating numbers, float32 at least, in which sums of many squares are numbers."""
    if a.dtype.kind != "f":
        return a.astype("float64")
    return a if a.dtype.itemsize > 2 else a.astype("float32")


def is_column(output: Shape) -> bool:
    """Whether outputs of that shape are one number a sample."""
    return len(output) == 1 or output[-1] == 1
