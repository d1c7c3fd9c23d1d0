"""Undoing: what a step that is interrupted has counted already, though its work is not done."""

from __future__ import annotations

from ldl.backend import Array, Backend, Recording
from ldl.nn.differentiable import members
from ldl.nn.module import Module
from ldl.optim.optimizer import Optimizer
from ldl.prepared import play
from ldl.random import Stream


class Before:
    """How things stood before a step: draws, counts, and arrays that it reads and writes."""

    __slots__ = ("_arrays", "_backend", "_draws", "_launches", "_optimizer", "_step", "_steps")

    def __init__(self, backend: Backend, optimizer: Optimizer, recording: Recording) -> None:
        self._backend, self._optimizer = backend, optimizer
        self._launches = backend.launches
        self._step = optimizer.step_count
        self._steps = [store.steps for store in optimizer.stores]
        self._draws = [(stream, stream.draw) for stream in recording.streams]
        self._arrays: list[tuple[Array, Array]] = [(a, a.copy()) for a in recording.carried]

    @property
    def at_once(self) -> bool:
        """Whether whatever was called since was also done."""
        return self._launches is None

    def restore(self) -> None:
        """Make it so again, unless the step was done."""
        done = self._launches is None or self._launches != self._backend.launches
        if done and self._optimizer.step_count != self._step:
            return
        for array, held in self._arrays:
            array[...] = held
        stores = zip(self._optimizer.stores, self._steps, strict=True)
        play(
            [
                *[(setattr, store, "steps", steps) for store, steps in stores],
                *[(setattr, stream, "draw", draw) for stream, draw in self._draws],
                (setattr, self._optimizer, "step_count", self._step),
            ]
        )


def streams_of(model: Module) -> list[Stream]:
    """Every stream of random numbers in the model."""
    return [stream for module in model.modules() for _, stream in members(module, Stream)]
