"""Tally: what batches gave, added up to the figures of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from math import fsum, isfinite, isnan, nan
from typing import Any

from ldl.backend import Array, Backend
from ldl.distributed.world import ALONE, World
from ldl.nn.losses import Loss, check_scalar, total
from ldl.train.epoch_metrics import EpochMetric, Outputs
from ldl.train.figures import Shape
from ldl.train.metrics import AnyMetric, Metric


class Tally:
    """Batches' losses and metrics, kept on the device until someone asks.

    Each is a numerator and a denominator to the end, so that the figures are those of all samples
    whatever the batches: a label that is ignored counts nowhere. `weights` are the denominators of
    the batches' losses where they are known beforehand; `place` begins the messages of errors.
    Of several ranks each counts its rows, and all get the figures of all; losses are those of
    whole batches already where they are `summed`.
    """

    def __init__(
        self,
        backend: Backend,
        loss: Loss,
        metrics: Sequence[AnyMetric],
        weights: Iterable[Array | float] | None = None,
        place: str = "",
        world: World = ALONE,
        summed: bool = False,
    ) -> None:
        self.backend, self.loss, self.place = backend, loss, place
        self.world, self._summed = world, summed
        self.metrics = [metric for metric in metrics if isinstance(metric, Metric)]
        self.batches = 0
        self._names = [metric.name for metric in metrics]
        whole = [metric for metric in metrics if isinstance(metric, EpochMetric)]
        self._outputs = Outputs(backend, loss, whole, world) if whole else None
        self._values: list[Array | float] = []
        self._known = weights is not None
        self._weights: list[Array | float] = list(weights or ())
        self._figures: list[list[tuple[Any, Any]]] = [[] for _ in self.metrics]
        self._means: list[list[bool]] = [[] for _ in self.metrics]
        self._faults: dict[int, tuple[Array, str]] = {}
        self._looks = looks_at_inputs(loss)

    def add(
        self,
        value: Array,
        shape: Shape,
        output: Array,
        target: Array,
        sample_weight: Array | None = None,
        denominator: Array | float | None = None,
    ) -> None:
        """Count a batch of outputs of that shape; metrics get copies of them and of the target.

        `denominator` is that of its loss, where the batch is more than what is given of it.
        """
        self.batches += 1
        if self._looks:
            with self._named(self.batches):
                self.loss.check_input(output.copy())
        single = self.loss.reduction != "none"
        self._values.append(_own(check_scalar(self.loss, value)) if single else total(value))
        if not self._known:
            share = denominator
            if share is None:
                share = self.loss.shares(shape, target, sample_weight)
            self._weights.append(share if isinstance(share, (int, float)) else total(share))
        if self._outputs is not None:
            self._outputs.add(self.batches, output, target, sample_weight)
        for i, metric in enumerate(self.metrics):
            value, count, mean = metric.count(self.backend, output, target, sample_weight)
            self._figures[i].append((value, count))
            self._means[i].append(mean)

    def add_nothing(self, value: Array | float | None = None, denominator: Any = None) -> None:
        """Count a batch of which other ranks have all rows."""
        self.batches += 1
        if value is not None:
            self._values.append(_own(value))
            if not self._known:
                self._weights.append(denominator)

    def add_losses(self, values: Array) -> None:
        """Count as many batches as there are losses in a vector."""
        self.batches += len(values)
        self._values.append(values)

    def check(self, output: Shape, target: Array) -> None:
        """Check a batch's target, before it is counted; its values when the figures are read."""
        fault = self.loss.fault(output, target)
        if fault is None:
            self.loss.check(output, target)
        else:
            message = self.loss.refusal(output, tuple(target.shape))
            self._faults[self.batches + 1] = _own(fault), message

    def losses(self) -> list[float]:
        """Every batch's loss; waits for the device."""
        return self._read(self._values)[0]

    def means(self) -> dict[str, Any]:
        """Loss and metrics over all samples, NaN where none counts; waits for the device.

        Raises ValueError for targets and for values that the loss finds wrong, naming the batch,
        and where a metric of the whole epoch fails.
        """
        if not self.batches:
            raise ValueError("the data set gave no batches")
        faults = [fault for fault, _ in self._faults.values()]
        pairs = [[pair[i] for pair in pairs] for pairs in self._figures for i in (0, 1)]
        losses, weights, found, *figures = self._read(self._values, self._weights, faults, *pairs)
        self._refuse(losses, found)
        if self.loss.reduction == "sum":
            own = _sum(losses), 1.0
        else:
            own = _parts(losses, weights, [self.loss.reduction != "none"] * len(losses))
        parts = [
            _parts(figures[2 * i], figures[2 * i + 1], means) for i, means in enumerate(self._means)
        ]
        loss, *means = [_over(*pair) for pair in self._of_all_ranks(own, parts)]
        result: dict[str, Any] = {
            metric.name: metric.finish(value)
            for metric, value in zip(self.metrics, means, strict=True)
        }
        if self._outputs is not None:
            result |= self._outputs.figures(self.place, isfinite(loss))
        return {"loss": loss, **{name: result[name] for name in self._names}}

    def _of_all_ranks(self, loss: _Pair, figures: list[_Pair]) -> list[_Pair]:
        """Numerators and denominators, summed over the ranks."""
        if self.world.size == 1:
            return [loss, *figures]
        there = figures if self._summed else [loss, *figures]
        sums = self.world.sums([x for pair in there for x in pair])
        found = list(zip(sums[::2], sums[1::2], strict=True))
        if self._summed:
            return [loss, *found]
        if self.loss.reduction == "sum":
            found[0] = found[0][0], 1.0
        return found

    def counts(self) -> bool:
        """Whether any sample counts in the loss."""
        return self.loss.reduction == "sum" or any(self._read(self._weights)[0])

    def _refuse(self, losses: list[float], faults: list[float]) -> None:
        """ValueError for the first batch that the loss finds wrong."""
        for (batch, (_, message)), bad in zip(self._faults.items(), faults, strict=True):
            if bad:
                raise ValueError(f"{self.place}batch {batch}: {message}")
        for batch, value in enumerate(losses, start=1):
            if not isfinite(value):
                with self._named(batch):
                    self.loss.check_value(value)

    @contextmanager
    def _named(self, batch: int) -> Iterator[None]:
        """Errors inside name the batch."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.place}batch {batch}: {error}") from None

    def _read(self, *lists: list[Any]) -> list[list[float]]:
        """Lists of numbers of the device and of the host, fetched at once."""
        there = [x.reshape(-1) for values in lists for x in values if not _here(x)]
        fetched = iter(())
        if there:
            fetched = iter(self.backend.to_numpy(self.backend.xp.concatenate(there)).tolist())
        return [
            [y for x in values for y in ([x] if _here(x) else islice(fetched, x.size))]
            for values in lists
        ]


def looks_at_inputs(loss: Loss) -> bool:
    """Whether a loss must see every batch's input, as its value does not tell what is wrong."""
    kind = type(loss)
    return kind.check_input is not Loss.check_input and kind.check_value is Loss.check_value


def _own(x: Any) -> Any:
    """A number that a loss gave, which may hold on to its array."""
    return x if _here(x) else x.copy()


def _here(x: Any) -> bool:
    return isinstance(x, (int, float))


_Pair = tuple[float, float]


def _parts(values: list[float], weights: list[float], means: list[bool]) -> _Pair:
    """Σ (wv where v is a mean, else v) and Σ w.

    The mean over a batch without weight is its sum, as where labels without weight are smoothed;
    where that is NaN, nothing was counted.
    """
    parts = []
    for value, weight, mean in zip(values, weights, means, strict=True):
        if mean and weight:
            value *= weight
        parts.append(0.0 if mean and not weight and isnan(value) else value)
    return _sum(parts), fsum(weights)


def _over(numerator: float, denominator: float) -> float:
    """Their ratio; NaN where nothing has weight."""
    return numerator / denominator if denominator else nan


def _sum(values: list[float]) -> float:
    """The sum, also of infinities."""
    return fsum(values) if all(map(isfinite, values)) else sum(values)
