"""Schedules: the learning rate's factor as a function of the steps taken.

    total_steps = epochs * ceil(n / batch_size)      # for n samples, with math.ceil
    optimizer = Adam(model, lr=1e-3, schedule=CosineLR(total_steps))
    optimizer = Adam(model, lr=1e-3, schedule=WarmupLR(w, CosineLR(T - w)))   # w of T steps up
    optimizer = Adam(model, lr=1e-3, schedule=lambda step: 0.999**step)       # any function

The rate of step t (from 0) is `lr * schedule(t)`. A function of the step needs no state, so a
resumed run goes on by itself; ReduceLROnPlateau, which looks at a metric, keeps its state in
checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, inf, isinf, isnan, pi
from typing import Any, Self

from ldl.calls import call, noted
from ldl.numbers import non_negative_integer, number, positive_integer, real, short


class Schedule:
    """The base: a factor of the learning rate.

    A subclass writes `__call__(step)`, the factor at a step counted from 0. One whose factor
    depends on more than the step also writes `report`, `state_dict` and `load_state_dict`.

    A schedule belongs to the optimizer that it was given to last, in which it began with the state
    that it had when it was first given to one; an earlier optimizer goes on with a copy.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _owner: Any = None
    """A weak reference to the optimizer that it belongs to."""
    _clean: dict[str, Any] | None = None
    """The state in which it was first given to one."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments, by which a resumed run knows the schedule again."""
        self = super().__new__(cls)
        self._arguments = noted(args, kwargs)
        return self

    def __init__(self) -> None:
        """Take no arguments, so that one too many is an error where a subclass takes none."""

    def __repr__(self) -> str:
        return call(type(self), *self._arguments)

    def __getstate__(self) -> dict[str, Any]:
        """All but the owner."""
        return {name: value for name, value in vars(self).items() if name != "_owner"}

    def __call__(self, step: int) -> float:
        """The factor at `step`, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def report(self, value: float) -> None:
        """Be told the monitored metric; `ldl.fit` does so after every epoch."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""


class Constant(Schedule):
    """1."""

    def __call__(self, step: int) -> float:
        """1."""
        return 1.0


class LambdaLR(Schedule):
    """A function's value at t. It may be given as it is: `Adam(model, schedule=function)`."""

    def __init__(self, function: Callable[[int], float]) -> None:
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"LambdaLR takes a function of the step, got {function!r}")
        self.function = function

    def __call__(self, step: int) -> float:
        """The function at t."""
        factor = self.function(step)
        try:
            return float(factor)
        except (TypeError, ValueError):
            raise TypeError(
                f"{self!r} gave {short(factor)[:80]} at step {step}: a schedule gives a number"
            ) from None


class StepLR(Schedule):
    """γ^⌊t / step_size⌋."""

    def __init__(self, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = positive_integer("step_size", step_size)
        self.gamma = number("gamma", gamma, high=1.0, open_low=True, closed_high=True)

    def __call__(self, step: int) -> float:
        """γ^⌊t / step_size⌋."""
        return self.gamma ** (step // self.step_size)


class CosineLR(Schedule):
    """f + (1 - f)(1 + cos(πt/T)) / 2 for t < T, then f (Loshchilov, Hutter, ICLR 2017).

    T is `total_steps`, f is `min_factor`.
    """

    def __init__(self, total_steps: int, min_factor: float = 0.0) -> None:
        self.total_steps = positive_integer("total_steps", total_steps)
        self.min_factor = _factor("min_factor", min_factor)

    def __call__(self, step: int) -> float:
        """The factor at t."""
        t = min(step / self.total_steps, 1.0)
        return self.min_factor + (1 - self.min_factor) * (1 + cos(pi * t)) / 2


class WarmupLR(Schedule):
    """(t + 1) / W for t < W, then `after(t - W)`, by default 1. W is `warmup_steps`."""

    def __init__(
        self, warmup_steps: int, after: Schedule | Callable[[int], float] | None = None
    ) -> None:
        self.warmup_steps = positive_integer("warmup_steps", warmup_steps)
        self.after = as_schedule(after)

    def __call__(self, step: int) -> float:
        """The factor at t."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return self.after(step - self.warmup_steps)

    def report(self, value: float) -> None:
        """Pass it on."""
        self.after.report(value)

    def state_dict(self) -> dict[str, Any]:
        """The state of `after`."""
        return self.after.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hand it to `after`."""
        self.after.load_state_dict(state)


class OneCycleLR(Schedule):
    """Up along a cosine from 1/d to 1 over the first share p of the steps, then down to 1/(d f).

    The optimizer's `lr` is the peak; p is `pct_start`, d `div_factor`, f `final_div_factor`
    (Smith, Topin, arXiv:1708.07120, with PyTorch's defaults).
    """

    def __init__(
        self,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.total_steps = positive_integer("total_steps", total_steps)
        self.pct_start = number("pct_start", pct_start, high=1.0, open_low=True)
        self.start = 1 / number("div_factor", div_factor, low=1.0)
        self.end = self.start / number("final_div_factor", final_div_factor, low=1.0)

    def __call__(self, step: int) -> float:
        """The factor at t."""
        peak = self.pct_start * self.total_steps - 1
        last = self.total_steps - 1
        if step < peak:
            return _anneal(self.start, 1.0, step / peak)
        return _anneal(1.0, self.end, min((step - peak) / max(last - peak, 1e-9), 1.0))


class TrapezoidLR(Schedule):
    """Up a line over the first `warmup` of the steps, level, and down a cosine over the last part.

    That part is `cooldown`; both are shares of `total_steps`. The rate stays high for most of the
    run and the end is as smooth as a cosine's (Hägele et al., NeurIPS 2024).
    """

    def __init__(self, total_steps: int, warmup: float = 0.02, cooldown: float = 0.2) -> None:
        self.total_steps = positive_integer("total_steps", total_steps)
        self.warmup = _factor("warmup", warmup) * self.total_steps
        self.cooldown = _factor("cooldown", cooldown) * self.total_steps

    def __call__(self, step: int) -> float:
        """The factor at t."""
        rise = min((step + 1) / max(self.warmup, 1.0), 1.0)
        left = min(max(self.total_steps - step, 0) / max(self.cooldown, 1.0), 1.0)
        return rise * _anneal(0.0, 1.0, left)


class ReduceLROnPlateau(Schedule):
    """Times `factor` when the monitored metric has not improved for more than `patience` epochs.

    An improvement is a value below (mode "min") or above ("max") the best by more than the share
    `threshold` of it. `ldl.fit` reports the validation loss, or the training loss where there is no
    validation; elsewhere call `report(value)` after every epoch.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_factor: float = 0.0,
        mode: str = "min",
    ) -> None:
        self.factor = number("factor", factor, high=1.0, open_low=True)
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        self.patience = non_negative_integer("patience", patience)
        self.threshold = number("threshold", threshold)
        self.min_factor = _factor("min_factor", min_factor)
        self.mode = mode
        self.current = 1.0
        self.best: float | None = None
        self.bad_epochs = 0

    def __call__(self, step: int) -> float:
        """The factor as it stands."""
        return self.current

    def report(self, value: float) -> None:
        """Count an epoch, and reduce where it is time to; NaN is no improvement."""
        value = real("the metric reported to ReduceLROnPlateau", value)
        if self._improved(value):
            self.best, self.bad_epochs = value, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            self.current = max(self.current * self.factor, self.min_factor)
            self.bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        """The factor, the best value and the epochs since."""
        return {"current": self.current, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; ValueError for anything else, and nothing changed."""
        if state.keys() != self.state_dict().keys():
            raise ValueError(f"a state of {', '.join(self.state_dict())} is needed, got {state!r}")
        current = number("current", state["current"], high=1.0, closed_high=True)
        best = None if state["best"] is None else real("best", state["best"])
        if best is not None and isnan(best):
            raise ValueError("best must be a number, got nan")
        bad_epochs = non_negative_integer("bad_epochs", state["bad_epochs"])
        if bad_epochs > self.patience:
            raise ValueError(f"bad_epochs must be at most {self.patience}, got {bad_epochs}")
        self.current, self.best, self.bad_epochs = current, best, bad_epochs

    def _improved(self, value: float) -> bool:
        """Whether it is better than the best by the margin, which an infinite best has not."""
        sign = 1.0 if self.mode == "min" else -1.0
        value, best = sign * value, inf if self.best is None else sign * self.best
        return value < (best if isinf(best) else best - self.threshold * abs(best))


def as_schedule(given: Schedule | Callable[[int], float] | None) -> Schedule:
    """A schedule as it is, a function wrapped, and Constant for None; TypeError for the rest."""
    if given is None:
        return Constant()
    if isinstance(given, Schedule):
        return given
    if isinstance(given, type) or not callable(given):
        shown = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
        raise TypeError(
            "schedule must be a schedule such as ldl.optim.CosineLR(total_steps=1000), or a "
            f"function of the step, got {shown}"
        )
    return LambdaLR(given)


def _anneal(start: float, end: float, t: float) -> float:
    return end + (start - end) * (1 + cos(pi * t)) / 2


def _factor(name: str, value: float) -> float:
    return number(name, value, high=1.0, closed_high=True)
