"""Past: how far fits have drawn random numbers."""

from __future__ import annotations

from ldl.random import DROPOUT
from ldl.train.callbacks import Run


class Past:
    """The epochs that fits with a run's seed have begun, and how far their streams were drawn from.

    It is noted with the parameters that learn, so that a model goes on where any of its layers was
    fitted before, in itself or in another model; a copy goes on where its original would, a loaded
    model begins anew.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._held = [p.begun for p in run.model.parameters() if p.requires_grad]

    def draws(self) -> list[int]:
        """How far the run's streams were drawn from; brings `run.before` up to date."""
        run = self.run
        found = [held[run.seed] for held in self._held if run.seed in held]
        run.before = max((epochs for epochs, _ in found), default=0) - run.epoch
        draws = [(list(before) + [0] * len(run.streams))[: len(run.streams)] for _, before in found]
        return [max(each) for each in zip(*draws, strict=True)] or [0] * len(run.streams)

    def go_on(self, draws: list[int]) -> None:
        """Have the run's streams stand there, whatever was done with them since, and note it."""
        for i, stream in enumerate(self.run.streams[1:]):
            stream.restart(self.run.seed, DROPOUT, i)
        for stream, draw in zip(self.run.streams, draws, strict=True):
            stream.draw = draw
        self.note()

    def note(self) -> None:
        """Remember where the run is; streams that it does not have stay where they were."""
        run = self.run
        draws = tuple(stream.draw for stream in run.streams)
        for held in self._held:
            _, before = held.get(run.seed, (0, ()))
            held[run.seed] = run.before + run.epoch, draws + before[len(draws) :]
