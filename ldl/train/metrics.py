"""Metrics: means over samples, computed on the device and read once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import inf, log10
from typing import Any

from ldl.backend import Array
from ldl.nn.binary_losses import BCELoss, BCEWithLogitsLoss
from ldl.nn.losses import Loss

Function = Callable[[Any, Array, Array], Array]
Shape = tuple[int, ...]


COLUMNS = ("epoch", "loss", "val_loss", "lr", "seconds")
"""What a history's rows hold beside metrics."""


class Metric:
    """A named mean over samples, and what becomes of the mean in the end.

    `function(xp, output, target)` gives the batch's mean as a scalar of the device. Batches are
    averaged by their sizes; `finish` then makes the figure of that average, so that a PSNR is that
    of the pooled error. `fits` says whether there is a figure for outputs and targets of two
    shapes; without it there is for all.
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


def mean_squared_error(xp: Any, output: Array, target: Array) -> Array:
    """The mean over all elements of (output - target)²."""
    d = output - target
    return (d * d).mean()


def mean_absolute_error(xp: Any, output: Array, target: Array) -> Array:
    """The mean over all elements of |output - target|."""
    return xp.abs(output - target).mean()


def accuracy(xp: Any, output: Array, target: Array) -> Array:
    """The share of rows whose largest output is the label, or the largest of the distribution.

    For outputs of one column, which have no largest, the share on the target's side of 1/2.
    """
    if _is_column(output.shape):
        hit = (output > 0.5) == (target > 0.5).reshape(output.shape)
    else:
        labels = target if target.ndim == output.ndim - 1 else target.argmax(axis=-1)
        hit = output.argmax(axis=-1) == labels
    return hit.mean()


def binary_accuracy(threshold: float, xp: Any, output: Array, target: Array) -> Array:
    """The share of elements on the same side: outputs of `threshold`, targets of 1/2."""
    return ((output > threshold) == (target > 0.5)).mean()


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
    "accuracy": Metric("accuracy", accuracy, fits=_classes),
    "psnr": Metric("psnr", mean_squared_error, psnr, fits=_alike),
}


def as_metrics(metrics: Any, loss: Loss) -> list[Metric]:
    """One metric or several: by name, as they are, or functions of (output, target).

    The accuracy is the loss's: for BCELoss and BCEWithLogitsLoss, whose outputs are independent
    labels, of every element at the threshold 1/2 or 0, else of the largest output of every row.
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
    return Metric(given.__name__, lambda xp, output, target: xp.asarray(given(output, target)))


def _wrong(given: Any) -> str:
    return (
        f"metrics are names ({', '.join(_NAMED)}), functions of (output, target) or "
        f"ldl.Metric('name', function), got {given!r}"
    )
