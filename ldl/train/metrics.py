"""Metrics: means over samples, computed on the device and read once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, log10
from typing import Any

from ldl.backend import Array

Function = Callable[[Any, Array, Array], Array]


class Metric:
    """A named mean over samples, and what becomes of the mean in the end.

    `function(xp, output, target)` gives the batch's mean as a scalar of the device. Batches are
    averaged by their sizes; `finish` then makes the figure of that average, so that a PSNR is that
    of the pooled error.
    """

    def __init__(
        self, name: str, function: Function, finish: Callable[[float], float] | None = None
    ) -> None:
        self.name = name
        self.function = function
        self.finish = finish or (lambda mean: mean)


def mean_squared_error(xp: Any, output: Array, target: Array) -> Array:
    """The mean over all elements of (output - target)²."""
    d = output - target
    return (d * d).mean()


def mean_absolute_error(xp: Any, output: Array, target: Array) -> Array:
    """The mean over all elements of |output - target|."""
    return xp.abs(output - target).mean()


def accuracy(xp: Any, output: Array, target: Array) -> Array:
    """The share of rows whose largest output is the label, or the largest of the distribution.

    For outputs of one column, probabilities, the share on the target's side of 1/2.
    """
    if output.ndim == 1 or output.shape[-1] == 1:
        hit = (output > 0.5) == (target > 0.5).reshape(output.shape)
    else:
        labels = target if target.ndim == output.ndim - 1 else target.argmax(axis=-1)
        hit = output.argmax(axis=-1) == labels
    return hit.mean()


def psnr(mse: float) -> float:
    """The peak signal-to-noise ratio in decibels for a mean squared error, of a peak of 1."""
    return -10 * log10(mse) if mse > 0 else inf


_NAMED = {
    "mse": Metric("mse", mean_squared_error),
    "mae": Metric("mae", mean_absolute_error),
    "accuracy": Metric("accuracy", accuracy),
    "psnr": Metric("psnr", mean_squared_error, psnr),
}


def as_metrics(metrics: Iterable[str | Metric]) -> list[Metric]:
    """Metrics by name or as they are; ValueError that lists the names."""
    if isinstance(metrics, str):
        metrics = [metrics]
    found = []
    for metric in metrics:
        if isinstance(metric, str):
            if metric not in _NAMED:
                raise ValueError(f"no metric is named {metric!r}; there are: {', '.join(_NAMED)}")
            metric = _NAMED[metric]
        found.append(metric)
    return found
