"""Metrics: means over samples, computed on the device and read once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from math import inf, log10
from typing import Any

from ldl.arrays import NUMBERS
from ldl.backend import Array, Backend
from ldl.nn.binary_losses import BCELoss, BCEWithLogitsLoss
from ldl.nn.losses import Loss
from ldl.numbers import plain
from ldl.train.epoch_metrics import EpochMetric
from ldl.train.figures import (
    Figure,
    Shape,
    accuracy,
    batch,
    binary_accuracy,
    is_column,
    mean_absolute_error,
    mean_squared_error,
)

Function = Callable[..., Figure]

COLUMNS = ("epoch", "loss", "val_loss", "lr", "seconds")
"""What a history's rows hold beside metrics."""


class Metric:
    """A named figure of outputs and targets, and what becomes of it in the end.

    `function(xp, output, target)` gives the batch's mean, a number or a scalar of the device, which
    counts by the batch's samples; or a pair, what it counted and how many there were, whose sums
    are then divided, so that what does not count, as ignored labels, counts nowhere. It gets arrays
    that nobody else reads, and nobody writes to what it returns. `finish` makes the figure of the
    quotient over all batches, so that a PSNR is that of the pooled error. `fits` says whether there
    is a figure for outputs and targets of two shapes; without it there is for all.

    A metric that is `weighted` counts samples as their weights say, which its function gets too:
    `function(xp, output, target, sample_weight=w)` gives (Σ w v, Σ w), or a mean, which counts by
    the batch's Σ w. Without weights in the data w is 1.
    """

    def __init__(
        self,
        name: str,
        function: Function,
        finish: Callable[[float], float] | None = None,
        fits: Callable[[Shape, Shape], bool] | None = None,
        *,
        weighted: bool = False,
    ) -> None:
        self.name = name
        self.function = function
        self.finish = finish or (lambda mean: mean)
        self.fits = fits
        self.weighted = bool(weighted)

    def check(self, output: Shape, target: Shape) -> None:
        """ValueError for shapes that do not fit."""
        if self.fits is not None and not self.fits(output, target):
            raise ValueError(
                f"the metric {self.name!r} has no value for outputs of shape {output} and targets "
                f"of shape {target}: leave it out, or give targets that fit"
            )

    def under_weights(self, name: str) -> Metric:
        """The same of samples that count by their weights."""
        return Metric(name, self.function, self.finish, self.fits, weighted=True)

    def count(
        self, backend: Backend, output: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array | float, Array | float, bool]:
        """The function's numerator or mean of a batch, its denominator, and whether it is a mean.

        Numbers of the host, or copies of the device's.
        """
        output, target = batch(backend.plain(output)), batch(backend.plain(target))
        self.check(tuple(output.shape), tuple(target.shape))
        own, whole = {}, len(output)
        if self.weighted:
            ones = sample_weight is None
            w = backend.xp.ones(whole, "float32") if ones else backend.plain(sample_weight).copy()
            own, whole = {"sample_weight": w}, w.sum()
        given = self.function(backend.xp, output.copy(), target.copy(), **own)
        mean = not (isinstance(given, tuple) and len(given) == 2)
        value, size = (given, whole) if mean else given
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


def psnr(mse: float) -> float:
    """The peak signal-to-noise ratio in decibels for a mean squared error, of a peak of 1."""
    return inf if mse == 0 else -10 * log10(mse)


def _alike(output: Shape, target: Shape) -> bool:
    return output == target


def _classes(output: Shape, target: Shape) -> bool:
    if is_column(output):
        return target in (output, output[:1])
    return target in (output, output[:-1])


_NAMED = {
    "mse": Metric("mse", mean_squared_error, fits=_alike),
    "mae": Metric("mae", mean_absolute_error, fits=_alike),
    "accuracy": Metric("accuracy", partial(accuracy, None), fits=_classes),
    "psnr": Metric("psnr", mean_squared_error, psnr, fits=_alike),
}


WEIGHTED = "weighted_"
"""What stands before a metric's name where samples count by their weights."""

AnyMetric = Metric | EpochMetric


def as_metrics(metrics: Any, loss: Loss) -> list[AnyMetric]:
    """One metric or several: by name, as they are, or functions of (output, target).

    A pair (name, function) is the EpochMetric of a function of (y_true, y_pred). "weighted_" before
    a name makes every sample count as its weight says.

    The accuracy is the loss's: for BCELoss and BCEWithLogitsLoss, whose outputs are independent
    labels, of every element at the threshold 1/2 or 0, else of the largest output of every row but
    those whose label the loss ignores.
    """
    metrics = () if metrics is None else metrics
    single = isinstance(metrics, (str, AnyMetric)) or callable(metrics)
    if _is_pair(metrics) and metrics[0] not in _NAMED:
        raise TypeError(
            f"a pair (name, function) stands in a list of metrics: metrics=[({metrics[0]!r}, ...)]"
        )
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


def _is_pair(given: Any) -> bool:
    """Whether this is a name and a function."""
    return (
        isinstance(given, tuple)
        and len(given) == 2
        and isinstance(given[0], str)
        and callable(given[1])
    )


def _as_metric(given: Any, loss: Loss) -> AnyMetric:
    if isinstance(given, AnyMetric):
        return given
    if _is_pair(given):
        return EpochMetric(*given)
    if isinstance(given, str):
        plainly = given.removeprefix(WEIGHTED)
        if plainly not in _NAMED:
            raise ValueError(
                f"no metric is named {given!r}; there are: {', '.join(_NAMED)}, and each with "
                f"{WEIGHTED!r} before it"
            )
        if plainly != given:
            return _by_name(plainly, loss).under_weights(given)
        return _by_name(given, loss)
    if isinstance(given, type) or not (callable(given) and hasattr(given, "__name__")):
        raise TypeError(_wrong(given))
    return _of_function(given)


def _by_name(name: str, loss: Loss) -> Metric:
    """One of those that have names, as it is for this loss."""
    if name == "accuracy" and isinstance(loss, (BCELoss, BCEWithLogitsLoss)):
        function = partial(binary_accuracy, 0.5 if isinstance(loss, BCELoss) else 0.0)
        return Metric(name, function, fits=_alike)
    ignored = getattr(loss, "ignore_index", None)
    if name == "accuracy" and ignored is not None:
        return Metric(name, partial(accuracy, ignored), fits=_classes)
    return _NAMED[name]


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
        f"metrics are names ({', '.join(_NAMED)}), functions of (output, target), pairs ('name', "
        f"function of (y_true, y_pred)) or ldl.Metric('name', function), got {given!r}"
    )
