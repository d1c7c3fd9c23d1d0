"""Start: where an epoch began, to which a fit can go back."""

from __future__ import annotations

from functools import reduce
from operator import and_

from ldl.backend import Array
from ldl.calm import calm
from ldl.optim.state import Snapshot, copy_into
from ldl.train.callbacks import Run


class Start:
    """How model, optimizer and streams stood when `take` was last called."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._optimizer = Snapshot(run.optimizer)
        self._weights: dict[str, Array] = {}
        self._draws: list[int] = []

    def take(self) -> None:
        """Copy all of it, where it was copied before."""
        self._optimizer.take()
        copy_into(self._weights, {n: p.data for n, p in self.run.model.named_parameters()})
        self._draws = [stream.draw for stream in self.run.streams]

    def put_back(self) -> None:
        """Write all of it back."""
        for name, parameter in self.run.model.named_parameters():
            parameter.data[...] = self._weights[name]
        self._optimizer.put_back()
        for stream, draw in zip(self.run.streams, self._draws, strict=True):
            stream.draw = draw

    def undo(self) -> None:
        """Write all of it back: the run's epoch has not begun."""
        self.put_back()
        self.run.epoch -= 1

    @calm
    def sound(self) -> bool:
        """Whether weights and slots are finite; waits for the device."""
        return self._finite([*self._parameters(), *self._optimizer.slots()])

    @calm
    def what(self) -> str:
        """What is not finite, weights or slots."""
        return "the optimizer's state" if self._finite(self._parameters()) else "a weight"

    def _parameters(self) -> list[Array]:
        return [parameter.data for parameter in self.run.model.parameters()]

    def _finite(self, arrays: list[Array]) -> bool:
        xp = self.run.model.backend.xp
        return bool(reduce(and_, (xp.isfinite(array).all() for array in arrays)))
