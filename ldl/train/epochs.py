"""Epochs: how a fit goes through its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite, isnan
from typing import Any

from ldl.backend import Array
from ldl.data.batching import Arrays, Data
from ldl.data.cuts import parts_of
from ldl.distributed.world import ALONE
from ldl.nn.module import shape_of_output
from ldl.random import NOISE, Stream
from ldl.train.callbacks import Callback, Run
from ldl.train.evaluation import check_targets, score
from ldl.train.history import History
from ldl.train.metrics import AnyMetric
from ldl.train.progress import Progress
from ldl.train.start import Start
from ldl.train.step import TrainStep
from ldl.train.tally import Tally


class DivergedError(ArithmeticError):
    """The loss, a weight or the optimizer's state is no longer finite.

    Model, optimizer and random numbers are as they were at the epoch's start, so that a further
    `fit`, with a lower rate, goes on from there.
    """

    def __init__(self, epoch: int, batch: int, what: str, history: History) -> None:
        super().__init__(
            f"{what} is not finite at epoch {epoch}, batch {batch}: the weights and the optimizer "
            "of the epoch's start are restored; lower the learning rate, clip gradients "
            "(clip_norm=1.0) or check the data for NaN"
        )
        self.epoch, self.batch, self.history = epoch, batch, history


class Epochs:
    """How an epoch of a fit goes through its data; `hooks` are told of every step."""

    def __init__(
        self,
        run: Run,
        step: TrainStep,
        data: Data,
        batch_size: int,
        together: int,
        metrics: list[AnyMetric],
        bar: Progress,
        hooks: Sequence[Callback],
    ) -> None:
        self.run, self.step, self.data, self.bar, self.hooks = run, step, data, bar, hooks
        self.batch_size, self.together, self.metrics = batch_size, together, metrics
        self._order: Array = None
        self._outputs: tuple[int, ...] = ()
        """The shape of the outputs, once it is known."""
        self._shares = self._denominator()
        self._start = Start(run)
        self._modes = [(module, module.training) for module in run.model.modules()]

    def train(self, order: Any) -> dict[str, Any]:
        """One epoch, in the order of the host's indices; its figures.

        Where data or numbers are wrong in the course of it, its start is restored.
        """
        self._start.take()
        with self._or_none():
            row = self._train(order)
            if self.run.average is not None:
                self.run.average.after_epoch(self.run, self._inputs(order))
            return row

    def validate(self, data: Data, seed: int) -> dict[str, Any]:
        """The figures of data that are held out; where they are wrong, the epoch is undone too.

        They are those of the averaged weights, where there are such.
        """
        run, size = self.run, max(self.batch_size, 1024)
        place = f"epoch {run.epoch}, validation, "
        with self._or_none(), run.averaged():
            return score(run.model, data, run.loss, self.metrics, size, seed, place, run.world)

    @contextmanager
    def _or_none(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, DivergedError):
            self._start.undo()
            raise

    def _train(self, order: Any) -> dict[str, Any]:
        run, backend = self.run, self.run.model.backend
        place = f"epoch {run.epoch}, "
        known, world = self._weights(order), self.run.world
        tally = Tally(backend, run.loss, self.metrics, known, place, world, summed=True)
        run.model.train()
        for module, mode in self._modes:
            module.training = mode
        done = 0
        if isinstance(self.data, Arrays) and self.together > 1 and not self.data.is_shard:
            done = self._whole_batches(self.data, order, tally)
        rest = order if order is None else order[done:]
        for share, x, y, *weights in self._parts(rest):
            if not self._outputs:
                self._outputs = check_targets(run.model, run.loss, self.metrics, x, y)
            value = self.step.part(share, x, y, *weights)
            if share.here:
                self._count(tally, value, x, y, *weights)
            else:
                tally.add_nothing(value, self.step.denominator)
            self.bar.batch(run.epoch, share.whole, value)
            for hook in self.hooks:
                hook.on_step_end(run)
        row = tally.means()
        if isnan(row["loss"]) and not tally.counts():
            raise ValueError(
                f"{place}no sample counts: every label is ignored, or no sample has weight"
            )
        if not (isfinite(row["loss"]) and self._start.sound()):
            bad = [i for i, v in enumerate(tally.losses(), start=1) if not isfinite(v)]
            what = "the loss" if bad else self._start.what()
            raise DivergedError(run.epoch, (bad or [tally.batches])[0], what, run.history)
        return row

    def _count(
        self, tally: Tally, value: Array, x: Array, y: Array, weight: Array | None = None
    ) -> None:
        like = y.ndim == len(self._outputs)
        shape = tuple(y.shape) if like else (len(x), *self._outputs[1:])
        if not isinstance(self.data, Arrays):
            tally.check(shape, y)
        tally.add(value, shape, self.step.output, y, weight, self.step.denominator)

    def _inputs(self, order: Any) -> Iterator[Array]:
        """An epoch's batches of x again, with noise of a stream of their own."""
        run, stream = self.run, Stream(self.run.seed, NOISE, 2)
        for _, x, *_ in parts_of(
            self.data, run.model.backend, self.batch_size, ALONE, order, stream
        ):
            yield x

    def _parts(self, order: Any) -> Iterator[tuple[Any, ...]]:
        """This rank's parts of the batches."""
        world, backend = self.run.world, self.run.model.backend
        return parts_of(self.data, backend, self.batch_size, world, order, None)

    def _denominator(self) -> Array | float:
        """What each sample of whole data counts in the loss, one number where all count alike."""
        data = self.data
        if not isinstance(data, Arrays):
            return 0.0
        self._outputs = (len(data), *shape_of_output(self.run.model, data.x))
        shares = self.run.loss.shares(self._outputs, data.y, data.sample_weight)
        if isinstance(shares, (int, float)):
            return shares / len(data)
        least, most = float(shares.min()), float(shares.max())
        return least if least == most else shares

    def _weights(self, order: Any) -> list[Array | float] | None:
        """The denominators of an epoch's batches, where its samples stay the same."""
        if not isinstance(self.data, Arrays) or self.data.is_shard:
            return None
        size, shares = self.batch_size, self._shares
        if isinstance(shares, float):
            return [shares * len(order[i : i + size]) for i in range(0, len(order), size)]
        taken = shares[self.run.model.backend.asarray(order)]
        whole = len(order) // size * size
        parts = [taken[:whole].reshape(-1, size).sum(axis=1)] if whole else []
        return parts + ([taken[whole:].sum()] if whole < len(order) else [])

    def _whole_batches(self, data: Arrays, order: Any, tally: Tally) -> int:
        """Steps on all batches but the last, `together` at once; how many samples they had."""
        backend, size = self.run.model.backend, self.batch_size
        if self._order is None:
            self._order = backend.asarray(order)
        else:
            self._order[...] = backend.asarray(order)
        starts = range(0, len(data) - size + 1, size)
        for first in range(0, len(starts), self.together):
            some = starts[first : first + self.together]
            values = self.step.run(
                data.x, data.y, self._order, size, some, sample_weight=data.sample_weight
            )
            tally.add_losses(values)
            self.bar.batch(self.run.epoch, size * len(some), values[-1])
        return len(starts) * size
