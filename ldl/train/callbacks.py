"""Callbacks: what happens between epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isnan
from typing import Any

from ldl.backend import Array
from ldl.nn.losses import Loss
from ldl.nn.module import Module
from ldl.optim.optimizer import Optimizer
from ldl.random import Stream
from ldl.train.history import History


@dataclass
class Run:
    """A training run under way: what callbacks look at, and `stop`, which they may set."""

    model: Module
    loss: Loss
    optimizer: Optimizer
    history: History
    epochs: int
    seed: int
    streams: list[Stream]
    epoch: int = 0
    stop: bool = False

    def monitored(self, name: str) -> float:
        """The last epoch's figure of that name; ValueError that lists the names."""
        row = self.history.rows[-1]
        if name not in row:
            raise ValueError(f"no figure is named {name!r} to monitor; there are: {', '.join(row)}")
        return float(row[name])


class Callback:
    """The base. `state_dict` and `arrays` go into checkpoints, `load_state` takes them back."""

    def on_epoch_end(self, run: Run) -> None:
        """After every epoch, when its row stands in `run.history`."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Numbers and texts to be remembered."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """Arrays to be remembered."""
        return {}

    def load_state(self, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take over what `state_dict` and `arrays` gave."""


class Each(Callback):
    """A plain function of the run, called after every epoch."""

    def __init__(self, function: Callable[[Run], None]) -> None:
        self.function = function

    def on_epoch_end(self, run: Run) -> None:
        """Call it."""
        self.function(run)


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    The best epoch's weights are copied and, with `restore_best`, put back when training ends, also
    where patience never ran out. `mode` is "min" or "max".
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "min",
        restore_best: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        if patience < 1 or min_delta < 0:
            raise ValueError("patience must be 1 or more and min_delta not negative")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = float(min_delta)
        self.sign = 1.0 if mode == "min" else -1.0
        self.restore_best = restore_best
        self.best = inf
        self.best_epoch = 0
        self.weights: dict[str, Array] = {}

    def on_epoch_end(self, run: Run) -> None:
        """Copy the weights where they are the best so far; stop where they no longer are."""
        value = self.sign * run.monitored(self.monitor)
        if not isnan(value) and value < self.best - self.min_delta:
            self.best, self.best_epoch = value, run.epoch
            self.weights = {name: a.copy() for name, a in run.model.state_dict().items()}
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop = True

    def on_fit_end(self, run: Run) -> None:
        """Put the best weights back."""
        if self.restore_best and self.weights:
            run.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best value and its epoch."""
        return {"best": None if self.best == inf else self.best, "best_epoch": self.best_epoch}

    def arrays(self) -> dict[str, Array]:
        """The best weights."""
        return self.weights

    def load_state(self, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take over what `state_dict` and `arrays` gave."""
        self.best = inf if state["best"] is None else state["best"]
        self.best_epoch = state["best_epoch"]
        self.weights = arrays
