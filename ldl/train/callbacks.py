"""Callbacks: what happens between epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import inf, isnan
from typing import Any, ClassVar, Self

from ldl.backend import Array
from ldl.calls import call, noted
from ldl.distributed.world import ALONE, World
from ldl.nn.losses import Loss
from ldl.nn.module import Module
from ldl.numbers import non_negative_integer, number, positive_integer, real, short
from ldl.optim.optimizer import Optimizer
from ldl.random import Stream
from ldl.train.history import History, better


@dataclass
class Run:
    """A training run under way: what callbacks look at, and `stop`, which they may set.

    See `Callback` for the fields.
    """

    model: Module
    loss: Loss
    optimizer: Optimizer
    history: History
    epochs: int
    seed: int
    streams: list[Stream]
    before: int = 0
    epoch: int = 0
    stop: bool = False
    validated: bool = False
    figures: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    average: Any = None
    world: World = ALONE

    def averaged(self) -> AbstractContextManager[None]:
        """A block in which the model has the averaged weights, where a callback keeps some."""
        return nullcontext() if self.average is None else self.average.instead(self)

    def monitored(self, name: str) -> float:
        """The last epoch's figure of that name; ValueError that lists the names."""
        row = self.history.rows[-1]
        if name not in row:
            raise ValueError(_unknown(name, row))
        return real(f"the figure {name!r}, which is monitored,", row[name])


class Callback:
    """The base: a subclass writes what is to happen when, and is told the Run.

    The Run's fields:

        model, loss, optimizer   as they were given to `fit`
        history                  the History, whose last row is the epoch that ended; figures added
                                 to it are kept, shown and may be monitored
        epoch, epochs            the number of the epoch, from 1 (in `on_fit_begin` of those done,
                                 0 unless the run is resumed), and of the last one
        before                   how many epochs earlier fits of the model began with this seed
        seed, streams            of the run, and the streams of random numbers that it draws from
        stop                     set it to True, and this epoch is the last
        validated                whether there is validation data, and so figures "val_…"
        figures                  the names of the history's columns, none where callbacks of one's
                                 own may add to them
        settings                 what a run that is resumed must have in common with this one
        average                  the EMA or SWA, None where there is none
        world                    the processes that train it: `world.rank` is this one's number

    `state_dict` and `arrays` go into checkpoints, and `load_state` takes them back. What is
    remembered is forgotten in `on_fit_begin` where `run.epoch` is 0: a callback may be given to
    several fits.
    """

    everywhere: ClassVar[bool] = True
    """Whether each of several ranks calls it: what writes a file says False, and rank 0 does."""
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments, for the text that stands for the callback."""
        self = super().__new__(cls)
        self._arguments = noted(args, kwargs)
        return self

    def __init__(self) -> None:
        """Take no arguments, so that one too many is an error where a subclass takes none."""

    def __repr__(self) -> str:
        return call(type(self), *self._arguments)

    def on_fit_begin(self, run: Run) -> None:
        """Before the first epoch, after a checkpoint was read; may refuse the run by raising."""

    def on_step_end(self, run: Run) -> None:
        """After every step; where a callback has one, a device is given one step at once."""

    def on_epoch_end(self, run: Run) -> None:
        """After every epoch, when its row stands in `run.history`."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch."""

    def close(self) -> None:
        """After the fit, however it ended: let go of files and the like."""

    def state_dict(self) -> dict[str, Any]:
        """Numbers and texts to be remembered."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """Arrays to be remembered."""
        return {}

    def load_state(self, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take over what `state_dict` and `arrays` gave; the arrays are the callback's to keep."""

    def check_loaded(self, model: Module, epoch: int) -> None:
        """After `load_state`: raise ValueError for a state that is none of this model and epoch."""


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
    where patience never ran out. `mode` says whether less ("min") or more ("max") is better; by
    default it follows from the name: more of accuracy, psnr, auc, f1, precision, recall and r2,
    less of loss, mse and mae.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ) -> None:
        self.monitor = monitor
        self.patience = positive_integer("patience", patience)
        self.min_delta = number("min_delta", min_delta)
        self.sign = better(monitor, mode)
        self.restore_best = restore_best
        self.best = inf
        self.best_epoch = 0
        self.weights: dict[str, Array] = {}

    def on_fit_begin(self, run: Run) -> None:
        """Begin anew, unless the run is resumed; refuse to wait for what will never be there."""
        check_monitored(self, self.monitor, run)
        if run.epoch == 0:
            self.best, self.best_epoch, self.weights = inf, 0, {}

    def on_epoch_end(self, run: Run) -> None:
        """Copy the weights where they are the best so far; stop where they no longer are."""
        value = self.sign * run.monitored(self.monitor)
        if not isnan(value) and value < self.best - self.min_delta:
            self.best, self.best_epoch = value, run.epoch
            self.weights = run.model.state_dict()
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop = True

    def on_fit_end(self, run: Run) -> None:
        """Put the best weights back."""
        if self.restore_best and self.weights:
            run.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best value, None where there is none, and its epoch."""
        return {"best": None if self.best == inf else self.best, "best_epoch": self.best_epoch}

    def arrays(self) -> dict[str, Array]:
        """The best weights, copied."""
        return {name: a.copy() for name, a in self.weights.items()}

    def load_state(self, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take over what `state_dict` and `arrays` gave; ValueError, and no change, for others."""
        if not isinstance(state, dict) or state.keys() != self.state_dict().keys():
            raise ValueError(f"a state has best and best_epoch, got {short(state)[:80]}")
        best = inf if state["best"] is None else real("best", state["best"])
        best_epoch = non_negative_integer("best_epoch", state["best_epoch"])
        there = state["best"] is not None
        if isnan(best) or (there and best == inf) or {there, bool(best_epoch)} != {bool(arrays)}:
            raise ValueError("the best value, its epoch and its weights contradict each other")
        self.best, self.best_epoch = best, best_epoch
        self.weights = {name: a.copy() for name, a in arrays.items()}

    def check_loaded(self, model: Module, epoch: int) -> None:
        """The best weights fit the model, and no epoch is later than the last."""
        own = model.state_dict()
        kinds = [
            {name: (tuple(a.shape), str(a.dtype)) for name, a in arrays.items()}
            for arrays in (self.weights, own)
        ]
        if self.best_epoch > epoch or (self.weights and kinds[0] != kinds[1]):
            raise ValueError("the best weights are of another model, or of a later epoch")
        if not all(model.backend.xp.isfinite(a).all() for a in self.weights.values()):
            raise ValueError("the best weights are not finite")


def check_monitored(callback: Callback, name: str, run: Run) -> None:
    """ValueError for a figure that will never be there, as far as can be known beforehand."""
    if name.startswith("val_") and not run.validated:
        raise ValueError(
            f"{type(callback).__name__} monitors {name!r}, but there is no validation data: give "
            f"fit validation=..., or monitor {name.removeprefix('val_')!r}"
        )
    if run.figures and name not in run.figures:
        raise ValueError(_unknown(name, run.figures))


def _unknown(name: str, names: Iterable[str]) -> str:
    return f"no figure is named {name!r} to monitor; there are: {', '.join(names)}"


def with_state(callbacks: Iterable[Callback]) -> list[Callback]:
    """Those that a resumed run cannot do without: their classes say what they remember."""
    own = (Callback.state_dict, Callback.arrays)
    return [c for c in callbacks if (type(c).state_dict, type(c).arrays) != own]


def as_callbacks(given: Any) -> list[Callback]:
    """One callback or several, functions of the run wrapped; TypeError for anything else."""
    given = () if given is None else given
    single = isinstance(given, (Callback, type)) or callable(given)
    if not single and not hasattr(given, "__iter__"):
        raise TypeError(
            f"callbacks must be a Callback, a function of the Run or a list, got {given!r}"
        )
    return [_as_callback(c) for c in ([given] if single else given)]


def _as_callback(given: Any) -> Callback:
    if isinstance(given, Callback):
        return given
    if isinstance(given, type) and issubclass(given, Callback):
        raise TypeError(f"a callback is an object, not its class: write {given.__name__}()")
    if isinstance(given, type) or not callable(given):
        raise TypeError(
            "callbacks are ldl.Callback objects, such as ldl.EarlyStopping('loss'), or functions "
            f"of the Run, got {given!r}"
        )
    return Each(given)
