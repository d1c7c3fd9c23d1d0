"""evaluate: the loss and the metrics over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ldl.backend import Array, Backend
from ldl.data.batching import Arrays, Data, as_data
from ldl.nn.losses import Loss
from ldl.nn.module import Module, evaluation
from ldl.numbers import positive_integer
from ldl.random import NOISE, Stream
from ldl.train.metrics import Metric, as_metrics

Metrics = str | Metric | Callable[..., Any] | Iterable[str | Metric | Callable[..., Any]]
"""What may be given as metrics: one or several."""


def evaluate(
    model: Module,
    data: Any,
    loss: Loss,
    metrics: Metrics | None = (),
    *,
    batch_size: int = 1024,
    seed: int = 0,
) -> dict[str, float]:
    """The loss and the metrics over a data set, in eval mode, as {"loss": …, "mse": …}.

    Noise of the data is drawn from `seed`, the same at every call. The model's mode is as before
    afterwards.
    """
    check_kinds(model, loss)
    batch_size = positive_integer("batch_size", batch_size)
    figures = as_metrics(metrics, loss)
    placed = as_data(data).place(model.backend, model.dtype, loss.takes_labels)
    if isinstance(placed, Arrays):
        check_targets(model, loss, figures, placed.x, placed.y)
    return score(model, placed, loss, figures, batch_size, seed)


def score(
    model: Module, data: Data, loss: Loss, metrics: list[Metric], batch_size: int, seed: int
) -> dict[str, float]:
    """`evaluate` of data that is placed and, where it is whole, checked; waits only at the end."""
    backend = model.backend
    tally = Tally(backend, loss, metrics)
    with evaluation():
        for x, y in data.batches(backend, batch_size, stream=Stream(seed, NOISE, 1)):
            output = model(x)
            if not isinstance(data, Arrays):
                loss.check(tuple(output.shape), y)
                for metric in metrics:
                    metric.check(tuple(output.shape), tuple(y.shape))
            tally.add(len(x), loss.forward(output, y), output, y)
    return tally.means()


class Tally:
    """Batches' losses and metrics, kept on the device until someone asks."""

    def __init__(self, backend: Backend, loss: Loss, metrics: list[Metric]) -> None:
        self.backend, self.loss, self.metrics = backend, loss, metrics
        self.sizes: list[int] = []
        self.values: list[list[Array]] = [[] for _ in range(1 + len(metrics))]

    def add(self, size: int, value: Array, output: Array, target: Array) -> None:
        """Count a batch of `size` samples."""
        self.sizes.append(size)
        self.values[0].append(value)
        for metric, values in zip(self.metrics, self.values[1:], strict=True):
            values.append(metric.function(self.backend.xp, output, target))

    def add_losses(self, size: int, values: Array) -> None:
        """Count as many batches of `size` samples as there are losses in a vector."""
        self.sizes += [size] * len(values)
        self.values[0].append(values)

    def losses(self) -> list[float]:
        """Every batch's loss; waits for the device."""
        return self._read(self.values[0])

    def means(self) -> dict[str, float]:
        """Loss and metrics, averaged over samples; waits for the device."""
        if not self.sizes:
            raise ValueError("the data set gave no batches")
        total = sum(self.sizes)
        losses = self.losses()
        if self.loss.reduction == "sum":
            result = {"loss": sum(losses) / total}
        else:
            result = {"loss": self._mean(losses, total)}
        for metric, values in zip(self.metrics, self.values[1:], strict=True):
            result[metric.name] = metric.finish(self._mean(self._read(values), total))
        return result

    def _mean(self, values: list[float], total: int) -> float:
        return sum(n * v for n, v in zip(self.sizes, values, strict=True)) / total

    def _read(self, values: list[Array]) -> list[float]:
        joined = self.backend.xp.concatenate([value.reshape(-1) for value in values])
        read: list[float] = self.backend.to_numpy(joined).tolist()
        return read


def check_targets(model: Module, loss: Loss, metrics: list[Metric], x: Array, y: Array) -> None:
    """Check targets, values included, against what the model makes of the first sample."""
    output = model.predict(x[:1])
    shape = (len(x), *output.shape[1:])
    loss.check(shape, y)
    loss.check_input(output)
    for metric in metrics:
        metric.check(shape, tuple(y.shape))


def check_kinds(model: Any, loss: Any) -> None:
    """TypeError for what is no model and no loss."""
    if not isinstance(model, Module):
        raise TypeError(
            "model must be a Module such as ldl.nn.Sequential(ldl.nn.Linear(4, 2)), "
            f"got {shown(model)}"
        )
    if not isinstance(loss, Loss):
        raise TypeError(f"loss must be a loss such as ldl.nn.CrossEntropyLoss(), got {shown(loss)}")


def shown(given: Any) -> str:
    """What was given, for an error."""
    if isinstance(given, type):
        return f"the class {given.__name__}: write {given.__name__}(...)"
    text = repr(given)
    return text if "\n" not in text and len(text) < 80 else f"a {type(given).__name__}"
