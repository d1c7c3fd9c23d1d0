"""TrainStep: a whole step as one call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import index
from typing import Any

from ldl import caches
from ldl.backend import Array, Recording
from ldl.data.batching import Arrays
from ldl.data.noise import Noise
from ldl.nn.differentiable import Differentiable
from ldl.nn.losses import Loss, check_scalar, check_slope
from ldl.nn.module import Module, check_output
from ldl.nn.parameter import Parameter
from ldl.numbers import positive_integer
from ldl.optim.optimizer import Optimizer
from ldl.random import Stream
from ldl.train.arguments import check_parts
from ldl.train.undo import Before, streams_of


class TrainStep:
    """Forward, loss, backward and update: `loss = step(x, y)`.

    The backend records the first step of every shape and plays it from then on: on NumPy without
    allocating, its elementwise parts fused where llvmlite is there; on CuPy, with cuBLASLt, as one
    graph launch. The numbers are those of the layers' own code, to rounding where parts are fused
    and to the bit where they are not.

    Gradients are cleared first, whatever was left in them; those of another model too that the
    optimizer moves, which so stays where it is. The loss is a scalar of the device and nothing
    waits for it. With `keep_output`, `step.output` is what the model made of x, valid until the
    next step. With `noise`, x is corrupted first, by the next draw of `stream`; y is not.
    Targets are checked for shape and type but not for their values (`loss.check` does that, once
    for a data set). `record=False` runs the layers' code every time.

    Recordings take at most `ldl.caches.STEPS` bytes beside the one in use; the least recently used
    goes first. A step that is interrupted, or fails, has been done or has not: weights, optimizer
    and random numbers are as before it or as after it, unless the optimizer's `update` is one of
    your own.
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        keep_output: bool = False,
        record: bool = True,
        noise: Noise | None = None,
        stream: Stream | None = None,
    ) -> None:
        if (noise is None) != (stream is None):
            raise ValueError("noise needs a stream to draw from, ldl.random.Stream(seed, NOISE)")
        check_parts(model, loss, optimizer)
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.keep_output = keep_output
        self.record = record
        self.output: Array = None
        self._corruption = _Corruption(noise, stream, model)
        self._apart = False
        """Whether x is corrupted before what is recorded, which cannot hold the noise."""
        self._recordings = caches.Cache(caches.STEPS)
        self._applies = optimizer.has_kernel
        self._others: list[Parameter] = []
        """What the optimizer moves in other steps: not the model's."""
        self._losses: Array = None
        self._keeps = caches.Cache(caches.UPDATES)

    def __getstate__(self) -> dict[str, Any]:
        """All but what was recorded of this model: a copy records its own."""
        own = caches.Cache(caches.STEPS), caches.Cache(caches.UPDATES)
        made = dict(zip(("_recordings", "_keeps"), own, strict=True))
        return {**vars(self), **made, "_losses": None, "output": None}

    def __call__(self, x: Array, y: Array) -> Array:
        """One step on a batch; returns its loss before the update."""
        kind: Any = self.model.backend.array_type
        if type(x) is not kind or type(y) is not kind:
            x, y = self._taken(x, y)
        recording = self._recording(x, y)
        before = self._before(recording)
        try:
            if self._apart:
                x = self._corruption(x)
            with self.model.backend.together():
                value, *output = recording(x, y)
                if self._applies:
                    self.optimizer.step()
            if not self._applies:
                self.optimizer.step()
        except BaseException:
            before.restore()
            raise
        if output:
            self.output = output[0]
        return value.copy() if isinstance(value, kind) else value

    def run(self, x: Array, y: Array, order: Array, size: int, starts: Sequence[int]) -> Array:
        """Several steps, one on rows order[start : start + size] of x and y for each start.

        Returns their losses, a vector. A backend may do all of it in one launch. Every batch is
        whole: ValueError unless 0 ≤ start ≤ len(order) - size.
        """
        size = positive_integer("size", size)
        backend, count = self.model.backend, len(starts)
        kind = backend.array_type
        if type(x) is not kind or type(y) is not kind:
            x, y = self._taken(x, y)
        if type(order) is not kind:
            order = backend.asarray(order)
        if order.dtype.kind not in "iu":
            raise TypeError(f"order holds the numbers of rows, integers, got {order.dtype}")
        if not count:
            return backend.xp.zeros(0, dtype=self.model.dtype)
        last = len(order) - size
        bad = next((start for start in starts if not 0 <= index(start) <= last), None)
        if bad is not None:
            raise ValueError(
                f"starts must lie from 0 to {last}, so that each of the batches of {size} is "
                f"whole, got {bad}"
            )
        first = order[starts[0] : starts[0] + size]
        sample = backend.take(x, first)
        recording = self._recording(sample, sample if y is x else backend.take(y, first))
        if self._apart or self._losses is None or len(self._losses) < count:
            self._keeps.clear()
            self._losses = backend.xp.zeros(count, dtype=self.model.dtype)
        at_once = recording.played and not self._apart
        before = self._before(recording)
        try:
            with self._together() if at_once else nullcontext():
                for i, start in enumerate(starts):
                    if before.at_once:
                        before = self._before(recording)
                    value = self._on_rows(recording, (x, y), order, start, size)
                    self.optimizer.step()
                    self._keep(recording, i, value)
        except BaseException:
            before.restore()
            raise
        return self._losses[:count].copy()

    def _taken(self, x: Any, y: Any) -> tuple[Array, Array]:
        """A batch of any origin as `fit` takes it, cast to the model's type."""
        if y is None:
            raise TypeError("a step takes (x, y), got None for y: give x itself to an autoencoder")
        model = self.model
        placed = Arrays(x, y).send(model.backend, model.dtype, self.loss.takes_labels)
        return placed.x, placed.y

    def _before(self, recording: Recording) -> Before:
        """How things stand, for as long as a step is not done."""
        if not recording.played:  # what it draws from and carries may have changed
            recording.streams = self._streams(streams_of(self.model))
            frozen = [p.data for p in self.model.parameters() if not p.requires_grad]
            recording.carried = frozen  # running statistics may be among them
        return Before(self.model.backend, self.optimizer, recording)

    def _streams(self, streams: Sequence[Stream]) -> list[Stream]:
        """These, and the noise's."""
        noise = self._corruption.stream
        return [*dict.fromkeys([*streams, *([] if noise is None else [noise])])]

    def _on_rows(
        self, recording: Recording, data: tuple[Array, Array], order: Array, start: int, size: int
    ) -> Array:
        """Gradients for some rows; their loss."""
        if not self._apart:
            return recording.rows(data, order, start, size)[0]
        take, rows = self.model.backend.take, order[start : start + size]
        a = take(data[0], rows)
        b = a if data[1] is data[0] else take(data[1], rows)
        return recording(self._corruption(a), b)[0]

    def _keep(self, recording: Recording, i: int, value: Array) -> None:
        """Write a loss, which the next step overwrites, to its place."""
        if not isinstance(value, self.model.backend.array_type) or not recording.played:
            self._losses[i] = value
            return
        keep = self._keeps.get((id(value), i))
        if keep is None:
            function = partial(_copy, self._losses[i : i + 1], value)
            keep = self.model.backend.deferred(function)
            self._keeps.put((id(value), i), keep, keep=len(self._losses))
        keep()

    def _together(self) -> AbstractContextManager[Any]:
        """One launch of recording and update, unless the update does more than run kernels."""
        return self.model.backend.together() if self._applies else nullcontext()

    def _recording(self, x: Array, y: Array) -> Recording:
        """The recording for batches like this one."""
        key = x.shape, x.dtype, y.shape, y.dtype, x is y
        recording: Recording | None = self._recordings.get(key)
        if recording is None or not self._fits(recording):
            self.optimizer.pack()
            own = set(map(id, self.model.parameters()))
            moved = [p for group in self.optimizer.param_groups for p in group["params"]]
            self._others = [p for p in moved if id(p) not in own]
            self._recordings.retain(self._fits)
            recording = self._recorded(x, y)
            recording.streams = self._streams(recording.streams)
            self._recordings.put(key, recording)
        for parameter in self._others:
            parameter.zero_grad()
        return recording

    def _fits(self, recording: Recording) -> bool:
        parts = recording.parts
        return parts[0] is self.model and parts[1] is self.loss and recording.valid()

    def _recorded(self, x: Array, y: Array) -> Recording:
        function: Any = _with_output if self.keep_output else _gradients
        record = self.model.backend.record if self.record else _unrecorded
        if self._corruption.noise is not None and not self._apart:
            noisy, parts = partial(_corrupted, function), (self.model, self.loss, self._corruption)
            recording = record(noisy, parts, (x, y))
            if recording.played or not self.record:
                return recording
            self._apart = True
        if self._apart and x is y:
            x = x.copy()
        return record(function, (self.model, self.loss), (x, y))


class _Corruption(Differentiable):
    """Noise as a part of a step."""

    def __init__(self, noise: Noise | None, stream: Stream | None, model: Module) -> None:
        self.noise, self.stream, self.backend = noise, stream, model.backend

    def __call__(self, x: Array) -> Array:
        """x, corrupted where there is noise."""
        if self.noise is None or self.stream is None:
            return x
        return self.noise(x, self.stream, self.backend)


def _unrecorded(function: Any, parts: Sequence[Any], inputs: Sequence[Array]) -> Recording:
    return Recording(function, parts)


def _copy(to: Array, value: Array) -> None:
    to[...] = value


def _with_output(model: Module, loss: Loss, x: Array, y: Array) -> tuple[Array, Array]:
    """The loss and the output; leaves the gradients in the parameters."""
    model.zero_grad()
    output = check_output(model, model(x))
    value = check_scalar(loss, loss.forward(output.copy(), y.copy()))
    model.backward(check_slope(loss, loss.backward(), output))
    return value, output


def _gradients(model: Module, loss: Loss, x: Array, y: Array) -> tuple[Array]:
    return (_with_output(model, loss, x, y)[0],)


def _corrupted(
    function: Any, model: Module, loss: Loss, corruption: _Corruption, x: Array, y: Array
) -> tuple[Array, ...]:
    results: tuple[Array, ...] = function(model, loss, corruption(x), y)
    return results
