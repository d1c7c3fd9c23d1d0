"""Start: where an epoch began, to which a fit can go back."""

from __future__ import annotations

from math import isfinite

from ldl.backend import Array
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

    def sound(self) -> bool:
        """Whether weights and slots are finite; waits for the device."""
        xp, found = self.run.model.backend.xp, self._squares()
        for slot in self._optimizer.slots():
            found = xp.where(xp.isfinite(slot).all(), found, xp.inf)
        return isfinite(float(found))

    def what(self) -> str:
        """What is not finite, weights or slots."""
        return "the optimizer's state" if isfinite(float(self._squares())) else "a weight"

    def _squares(self) -> Array:
        backend = self.run.model.backend
        return sum(backend.sum_squares(p.data) for p in self.run.model.parameters())
