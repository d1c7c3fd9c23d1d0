"""TrainStep: a whole step as one call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import index
from typing import Any

from ldl import caches
from ldl.backend import Array, Recording
from ldl.data.cuts import part_of
from ldl.data.noise import Noise
from ldl.distributed.world import World, checked
from ldl.nn.losses import Loss, check_weighable
from ldl.nn.module import Module
from ldl.nn.parameter import Parameter
from ldl.numbers import positive_integer
from ldl.optim.optimizer import Optimizer
from ldl.random import Share, Stream
from ldl.recordings import Record, Recordings
from ldl.train.arguments import check_parts
from ldl.train.gradients import (
    Corruption,
    check_starts,
    copy_into,
    corrupted,
    done_by_a_step,
    rows_of,
    taken,
    unrecorded,
)
from ldl.train.ranks import Ranks, Scale
from ldl.train.undo import Before, streams_of


class TrainStep:
    """Forward, loss, backward and update: `loss = step(x, y)`, or `step(x, y, sample_weight)`.

    The backend records the first step of every shape and plays it from then on: on NumPy without
    allocating, its elementwise parts fused where llvmlite is there; on CuPy, with cuBLASLt, as one
    graph launch. The numbers are those of the layers' own code, to rounding where parts are fused
    and to the bit where they are not.

    Gradients are cleared first, whatever was left in them; those of another model too that the
    optimizer moves, which so stays where it is. The loss is a scalar of the device and nothing
    waits for it. With `keep_output`, `step.output` is what the model made of x, valid until the
    next step. With `noise`, x is corrupted first, by the next draw of `stream`; y is not.
    Targets are checked for shape and type but not for their values (`loss.check` does that, once
    for a data set). `record=False` runs the layers' code every time. With a `world` of several
    ranks each gives the whole batch, of which it takes its rows: see `ldl.distributed`.

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
        world: World | None = None,
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
        self._corruption = Corruption(noise, stream, model)
        self._apart = False
        """Whether x is corrupted before what is recorded, which cannot hold the noise."""
        self._recordings = Recordings(caches.STEPS)
        self._applies = optimizer.has_kernel
        self._others: list[Parameter] = []
        """What the optimizer moves in other steps: not the model's."""
        self._losses: Array = None
        self._keeps = caches.Cache(caches.UPDATES)
        self._ranks: Ranks | None = None
        if checked(world).size > 1:
            self._ranks = Ranks(checked(world), model, loss, optimizer)

    def __getstate__(self) -> dict[str, Any]:
        """All but what was recorded of this model: a copy records its own."""
        own = Recordings(caches.STEPS), caches.Cache(caches.UPDATES)
        made = dict(zip(("_recordings", "_keeps"), own, strict=True))
        return {**vars(self), **made, "_losses": None, "output": None}

    def __call__(self, x: Array, y: Array, sample_weight: Array | None = None) -> Array:
        """One step on a batch; returns its loss before the update."""
        kind: Any = self.model.backend.array_type
        given: Sequence[Array] = (x, y) if sample_weight is None else (x, y, sample_weight)
        if type(x) is not kind or type(y) is not kind or type(given[-1]) is not kind:
            given = taken(self.model, self.loss, *given)
        if self._ranks is None:
            return self._step(given)
        self._ranks.agree(tuple(x.shape))
        return self.part(*part_of(given, self._ranks.world))

    def part(self, share: Share, *given: Array) -> Array:
        """A step of which this rank has a share, and these of its rows; the whole batch's loss."""
        if self._ranks is None:
            return self._step(given)
        scale = self._ranks.scale(share, *given)
        with self._ranks.sharing(share):
            return self._step(given, scale)

    @property
    def denominator(self) -> Array | float | None:
        """What the last loss is a mean over, where ranks share batches."""
        return None if self._ranks is None else self._ranks.denominator

    def _step(self, given: Sequence[Array], scale: Scale = 1.0) -> Array:
        kind: Any = self.model.backend.array_type
        recording = self._recording(*given, scale=scale)
        if not isinstance(scale, float):
            given = (*given, scale)
        before = self._before(recording)
        try:
            if self._apart:
                given = (self._corruption(given[0]), *given[1:])
            with self.model.backend.together():
                value, *output = recording(*given)
                if self._ranks is not None:
                    value = self._ranks.add_up(value, recording.played)
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

    def run(
        self,
        x: Array,
        y: Array,
        order: Array,
        size: int,
        starts: Sequence[int],
        sample_weight: Array | None = None,
    ) -> Array:
        """Several steps, one on rows order[start : start + size] of x and y for each start.

        Returns their losses, a vector. A backend may do all of it in one launch. Every batch is
        whole: ValueError unless 0 ≤ start ≤ len(order) - size.
        """
        size = positive_integer("size", size)
        backend = self.model.backend
        data = [x, y] if sample_weight is None else [x, y, sample_weight]
        if any(type(array) is not backend.array_type for array in data):
            data = taken(self.model, self.loss, *data)
        order = order if type(order) is backend.array_type else backend.asarray(order)
        if order.dtype.kind not in "iu":
            raise TypeError(f"order holds the numbers of rows, integers, got {order.dtype}")
        if len(starts) == 0:
            return backend.xp.zeros(0, dtype=self.model.dtype)
        check_starts(starts, len(order), size)
        share, scale = Share(0, size, size), 1.0
        sharing: AbstractContextManager[Any] = nullcontext()
        if self._ranks is not None:
            share = self._ranks.world.share(size)
            sharing = self._ranks.sharing(share)
            starts = [index(start) + share.first for start in starts]
            size = max(share.here, 1)
        first = rows_of(backend, data, order[starts[0] : starts[0] + size])
        if self._ranks is not None:
            scale = self._ranks.scale(share, *first)
            if not (share.here and isinstance(scale, float)):
                rows = (order[start : start + size] for start in starts)
                parts = [self.part(share, *rows_of(backend, data, some)) for some in rows]
                return backend.xp.stack([backend.xp.asarray(part) for part in parts])
        with sharing:
            return self._several(first, scale, data, order, size, starts)

    def recordings(self) -> dict[Any, Recording]:
        """What was recorded, by the shapes and types of batches."""
        return dict(self._recordings.items())

    def _several(
        self,
        first: Sequence[Array],
        scale: Scale,
        data: Sequence[Array],
        order: Array,
        size: int,
        starts: Sequence[int],
    ) -> Array:
        """Steps on batches of data, of which the first is given too; their losses."""
        backend, count = self.model.backend, len(starts)
        recording = self._recording(*first, scale=scale)
        if self._apart or self._losses is None or len(self._losses) < count:
            self._keeps.clear()
            self._losses = backend.xp.zeros(count, dtype=self.model.dtype)
        at_once = recording.played and not self._apart
        before = self._before(recording)
        try:
            with backend.together() if at_once and self._applies else nullcontext():
                for i, start in enumerate(starts):
                    if before.at_once:
                        before = self._before(recording)
                    value = self._on_rows(recording, data, order, start, size)
                    if self._ranks is not None:
                        value = self._ranks.add_up(value, recording.played)
                    self.optimizer.step()
                    self._keep(recording, i, value)
        except BaseException:
            before.restore()
            raise
        return self._losses[:count].copy()

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
        self, recording: Recording, data: Sequence[Array], order: Array, start: int, size: int
    ) -> Array:
        """Gradients for some rows; their loss."""
        if not self._apart:
            return recording.rows(data, order, start, size)[0]
        x, *rest = rows_of(self.model.backend, data, order[start : start + size])
        return recording(self._corruption(x), *rest)[0]

    def _keep(self, recording: Recording, i: int, value: Array) -> None:
        """Write a loss, which the next step overwrites, to its place."""
        if not isinstance(value, self.model.backend.array_type) or not recording.played:
            self._losses[i] = value
            return
        keep = self._keeps.get((id(value), i))
        if keep is None:
            function = partial(copy_into, self._losses[i : i + 1], value)
            keep = self.model.backend.deferred(function)
            self._keeps.put((id(value), i), keep, keep=len(self._losses))
        keep()

    def _recording(self, x: Array, y: Array, *weights: Array, scale: Scale = 1.0) -> Recording:
        """The recording for batches like this one; an array that is the scale goes in last."""
        dynamic = not isinstance(scale, float)
        key: tuple[Any, ...] = (x.shape, x.dtype, y.shape, y.dtype, x is y, dynamic or scale)
        key += () if self._ranks is None else (self._ranks.empty, self._ranks.share.whole)
        for w in weights:
            key += (w.shape, w.dtype, w is x, w is y)
        recording = self._recordings.find(key, self._fits)
        if recording is None:
            self.optimizer.pack()
            own = set(map(id, self.model.parameters()))
            groups = self.optimizer.param_groups
            self._others = [p for group in groups for p in group["params"] if id(p) not in own]
            self._recordings.retain(self._fits)
            if weights:
                check_weighable(self.loss)
            recording = self._recorded((x, y, *weights, *[scale] * dynamic), scale)
            recording.streams = self._streams(recording.streams)
            self._recordings.put(key, recording)
        for parameter in self._others:
            parameter.zero_grad()
        return recording

    def _fits(self, recording: Recording) -> bool:
        parts = recording.parts
        return parts[0] is self.model and parts[1] is self.loss and recording.valid()

    def _recorded(self, given: Sequence[Array], scale: Scale) -> Recording:
        pieces = [] if self._ranks is None else self._ranks.pieces()
        function = done_by_a_step(self.keep_output, pieces, scale)
        made = partial(self._recordings.made, self.model.backend.record)
        record: Record = made if self.record else unrecorded
        if self._corruption.noise is not None and not self._apart:
            noisy, parts = partial(corrupted, function), (self.model, self.loss, self._corruption)
            recording = record(noisy, parts, given)
            if recording.again or not recording.refused:
                return recording
            self._apart = True
        if self._apart and given[0] is given[1]:
            given = (given[0].copy(), *given[1:])
        return record(function, (self.model, self.loss), given)
