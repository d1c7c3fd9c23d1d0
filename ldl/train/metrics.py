"""Metrics: means over samples, computed on the device and read once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial, wraps
from math import inf, log10
from typing import Any

from ldl.arrays import NUMBERS, check_kind, plain_of_numpy
from ldl.backend import Array, Backend
from ldl.calm import calm
from ldl.nn.binary_losses import BCELoss, BCEWithLogitsLoss
from ldl.nn.losses import Loss
from ldl.numbers import plain

Figure = Any
"""A mean, or a pair (sum, count): numbers or scalars of the device."""

Function = Callable[[Any, Array, Array], Figure]
Shape = tuple[int, ...]


COLUMNS = ("epoch", "loss", "val_loss", "lr", "seconds")
"""What a history's rows hold beside metrics."""


def _of_arrays(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """The function, whose last two arguments are plain arrays of numbers."""

    @wraps(function)
    def checked(*given: Any) -> Figure:
        *first, output, target = given
        return function(*first, _batch(output), _batch(target))

    return checked


def _batch(array: Any) -> Array:
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


class Metric:
    """A named figure of outputs and targets, and what becomes of it in the end.

    `function(xp, output, target)` gives the batch's mean, a number or a scalar of the device, which
    counts by the batch's samples; or a pair, what it counted and how many there were, whose sums
    are then divided, so that what does not count, as ignored labels, counts nowhere. It gets arrays
    that nobody else reads, and nobody writes to what it returns. `finish` makes the figure of the
    quotient over all batches, so that a PSNR is that of the pooled error. `fits` says whether there
    is a figure for outputs and targets of two shapes; without it there is for all.
    """

    def __init__(
        self,
        name: str,
        function: Function,
        finish: Callable[[float], float] | None = None,
        fits: Callable[[Shape, Shape], bool] | None = None,
    ) -> None:
        self.name = name
        self.function = function
        self.finish = finish or (lambda mean: mean)
        self.fits = fits

    def check(self, output: Shape, target: Shape) -> None:
        """ValueError for shapes that do not fit."""
        if self.fits is not None and not self.fits(output, target):
            raise ValueError(
                f"the metric {self.name!r} has no value for outputs of shape {output} and targets "
                f"of shape {target}: leave it out, or give targets that fit"
            )

    def count(
        self, backend: Backend, output: Array, target: Array
    ) -> tuple[Array | float, Array | float, bool]:
        """The function's numerator or mean of a batch, its denominator, and whether it is a mean.

        Numbers of the host, or copies of the device's.
        """
        output, target = _batch(backend.plain(output)), _batch(backend.plain(target))
        self.check(tuple(output.shape), tuple(target.shape))
        given = self.function(backend.xp, output.copy(), target.copy())
        mean = not (isinstance(given, tuple) and len(given) == 2)
        value, size = (given, len(output)) if mean else given
        return self._number(value, backend), self._number(size, backend), mean

    def _number(self, given: Any, backend: Backend) -> Array | float:
        array: Array = backend.plain(given)
        kind = getattr(getattr(array, "dtype", None), "kind", "f")
        if kind in NUMBERS and backend.owns(array) and array.size == 1:
            return array.copy()
        value = plain(array)
        if kind != "c" and not isinstance(value, (complex, str, bytes)):
            with suppress(TypeError, ValueError):
                return float(value)
        shown = getattr(array, "shape", ()) or type(array).__name__
        raise ValueError(
            f"the metric {self.name!r} gave {shown}, not one number: let it give the batch's mean, "
            "or a pair (sum, count)"
        )


@calm
@_of_arrays
def mean_squared_error(xp: Any, output: Array, target: Array) -> Figure:
    """The sum over all elements of (output - target)², and their number."""
    d = _wide(output) - _wide(target)
    return (d * d).sum(), d.size


@calm
@_of_arrays
def mean_absolute_error(xp: Any, output: Array, target: Array) -> Figure:
    """The sum over all elements of |output - target|, and their number."""
    return xp.abs(_wide(output) - _wide(target)).sum(), output.size


@calm
@_of_arrays
def accuracy(ignored: int | None, xp: Any, output: Array, target: Array) -> Figure:
    """The rows whose largest output is the label, or the largest of the distribution, and all rows.

    For outputs of one column, which have no largest, the rows on the target's side of 1/2. Rows
    labelled `ignored` count for nothing, and no row with a NaN is right.
    """
    if _is_column(output.shape):
        return _on_one_side(0.5, output, target.reshape(output.shape))
    right = output.max(axis=-1) > -inf
    if target.ndim == output.ndim:
        right &= target.max(axis=-1) > -inf
        target = target.argmax(axis=-1)
    right &= output.argmax(axis=-1) == target
    if ignored is None or target.dtype.kind not in "iu":
        return right.sum(), right.size
    counted = target.astype("int64") != ignored
    return (right & counted).sum(), counted.sum()


@calm
@_of_arrays
def binary_accuracy(threshold: float, xp: Any, output: Array, target: Array) -> Figure:
    """The elements on the same side, outputs of `threshold` and targets of 1/2, and all elements.

    No element that is NaN is right.
    """
    return _on_one_side(threshold, output, target)


def _on_one_side(threshold: float, output: Array, target: Array) -> Figure:
    right = (output > threshold) == (target > 0.5)
    right &= (output == output) & (target == target)
    return right.sum(), output.size


def _wide(a: Array) -> Array:
    """Floating numbers, float32 at least, in which sums of many squares are numbers."""
    if a.dtype.kind != "f":
        return a.astype("float64")
    return a if a.dtype.itemsize > 2 else a.astype("float32")


def psnr(mse: float) -> float:
    """The peak signal-to-noise ratio in decibels for a mean squared error, of a peak of 1."""
    return inf if mse == 0 else -10 * log10(mse)


def _is_column(output: Shape) -> bool:
    return len(output) == 1 or output[-1] == 1


def _alike(output: Shape, target: Shape) -> bool:
    return output == target


def _classes(output: Shape, target: Shape) -> bool:
    if _is_column(output):
        return target in (output, output[:1])
    return target in (output, output[:-1])


_NAMED = {
    "mse": Metric("mse", mean_squared_error, fits=_alike),
    "mae": Metric("mae", mean_absolute_error, fits=_alike),
    "accuracy": Metric("accuracy", partial(accuracy, None), fits=_classes),
    "psnr": Metric("psnr", mean_squared_error, psnr, fits=_alike),
}


def as_metrics(metrics: Any, loss: Loss) -> list[Metric]:
    """One metric or several: by name, as they are, or functions of (output, target).

    The accuracy is the loss's: for BCELoss and BCEWithLogitsLoss, whose outputs are independent
    labels, of every element at the threshold 1/2 or 0, else of the largest output of every row but
    those whose label the loss ignores.
    """
    metrics = () if metrics is None else metrics
    single = isinstance(metrics, (str, Metric)) or callable(metrics)
    if not single and not isinstance(metrics, Iterable):
        raise TypeError(_wrong(metrics))
    found = [_as_metric(metric, loss) for metric in ([metrics] if single else metrics)]
    names = [metric.name for metric in found]
    for name in names:
        if name in COLUMNS:
            raise ValueError(f"{name!r} is a column of the history: give the metric another name")
        if names.count(name) > 1:
            raise ValueError(f"two metrics are named {name}: ldl.Metric(name, function) names one")
    return found


def _as_metric(given: Any, loss: Loss) -> Metric:
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        if given not in _NAMED:
            raise ValueError(f"no metric is named {given!r}; there are: {', '.join(_NAMED)}")
        if given == "accuracy" and isinstance(loss, (BCELoss, BCEWithLogitsLoss)):
            function = partial(binary_accuracy, 0.5 if isinstance(loss, BCELoss) else 0.0)
            return Metric(given, function, fits=_alike)
        ignored = getattr(loss, "ignore_index", None)
        if given == "accuracy" and ignored is not None:
            return Metric(given, partial(accuracy, ignored), fits=_classes)
        return _NAMED[given]
    if isinstance(given, type) or not (callable(given) and hasattr(given, "__name__")):
        raise TypeError(_wrong(given))
    return _of_function(given)


def _of_function(given: Any) -> Metric:
    """The metric of a function of (output, target), under its name."""
    from inspect import signature

    try:
        signature(given).bind(None, None)
    except TypeError as error:
        raise TypeError(
            f"the metric function {given.__name__!r} must take (output, target); one that takes "
            "(xp, output, target) is given as ldl.Metric('name', function)"
        ) from error
    except ValueError:  # a builtin that has no signature
        pass
    return Metric(given.__name__, lambda xp, output, target: given(output, target))


def _wrong(given: Any) -> str:
    return (
        f"metrics are names ({', '.join(_NAMED)}), functions of (output, target) or "
        f"ldl.Metric('name', function), got {given!r}"
    )
