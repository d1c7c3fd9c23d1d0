"""check_gradients: whether a backward is the derivative of its forward."""

from __future__ import annotations

import copy
from collections.abc import Callable
from inspect import signature
from math import sqrt
from typing import Any

from ldl import random
from ldl.backend import Array
from ldl.calm import calm, within
from ldl.nn.differentiable import passing, returning
from ldl.nn.losses import REDUCTIONS, Loss
from ldl.nn.module import Module
from ldl.numbers import number, positive_integer


class GradientError(AssertionError):
    """A backward that is not the derivative of its forward; the message names the worst."""


class _Of(Module):
    """A loss as a function of its input alone."""

    def __init__(self, loss: Loss, target: Array, weights: list[Array]) -> None:
        self.loss, self.target, self.weights = loss, target, weights

    def forward(self, x: Array) -> Array:
        value = self.loss(x, self.target, *self.weights)
        self.keep(value.shape)
        return value.reshape(-1)

    def backward(self, grad: Array) -> Array:
        shape = self.take()
        if self.loss.reduction == "none":
            return self.loss.backward(grad.reshape(shape))
        return self.loss.backward() * grad

    def __repr__(self) -> str:
        return repr(self.loss)


@calm
def check_gradients(
    module: Module | Loss,
    x: Any,
    *,
    target: Any = None,
    sample_weight: Any = None,
    tolerance: float = 1e-5,
    directions: int = 4,
    seed: int = 0,
) -> dict[str, float]:
    """Compare a module's backward with central differences, for x and for every parameter.

        ldl.check_gradients(MyLayer(3), x)              # silent where it is right
        ldl.check_gradients(MyLoss(), x, target=t)      # likewise of a loss
        ldl.check_gradients(MyLoss(), x, target=t, sample_weight=w)

    With L = Σ r ⊙ forward(x) for random r, and random directions v of length 1, the derivatives
    ⟨∂L/∂x, v⟩ that backward gives are held against (L(x + hv) - L(x - hv)) / 2h, and so for every
    parameter that is not frozen; tokens have none. All is done in float64 and in training mode on
    deep copies of the module, so that dropout draws the same mask every time and the module stays
    as it is. Choose x where the function is smooth: not at the kink of a ReLU.

    Returns the relative error, over the directions, by name: "x" and the parameters' names.

    Raises GradientError, naming the worst, where one is above `tolerance`, and where backward
    returns None or another shape than that of x, forward differs from call to call, one of them
    writes to what it was given or backward reads it again, or a loss's reductions, of which it lets
    one choose, are not one loss.
    """
    tolerance = number("tolerance", tolerance, open_low=True)
    directions = positive_integer("directions", directions)
    if isinstance(module, Loss) is not (target is not None):
        raise TypeError("a loss is checked with target=..., and a module without")
    if sample_weight is not None and target is None:
        raise TypeError("sample_weight is for a loss, and this is a module: leave it out")
    if isinstance(module, Loss):
        t = module.backend.asarray(target)
        t = t if t.dtype.kind != "f" else module.backend.asarray(t, "float64")
        weights = (
            [] if sample_weight is None else [module.backend.asarray(sample_weight, "float64")]
        )
        module = _Of(copy.deepcopy(module), t, weights)
        _check_reductions(module, module.backend.asarray(x, "float64"))
    if not isinstance(module, Module):
        raise TypeError(f"check_gradients takes a module (ldl.nn.Module), got {module!r}")
    ready = copy.deepcopy(module).to(dtype="float64").train()
    ready.zero_grad()
    backend, stream = ready.backend, random.Stream(seed, random.WEIGHTS, 1)
    x = backend.asarray(x, ready.dtype_for(x) if ready.takes_integers else "float64")

    def draw(shape: tuple[int, ...]) -> Array:
        return backend.normal(shape, "float64", stream.next())

    trial, given = copy.deepcopy(ready), x.copy()
    y = _inside(trial, given)
    _check_unwritten(module, "forward", "input", given, x)
    if ((copy.deepcopy(ready)(x) != y) & (y == y)).any():
        raise GradientError(
            f"two calls of forward differ: {module!r} draws random numbers of its own, and should "
            "from a stream, as Dropout does"
        )
    r = draw(tuple(y.shape))
    grad = r.copy()
    dx = within(returning, True, trial.backward, grad)
    _check_unwritten(module, "backward", "gradient", grad, r)
    if isinstance(trial, _Of) and isinstance(ready, _Of):
        _check_unwritten(module, "forward or backward", "target", trial.target, ready.target)
        for now, before in zip(trial.weights, ready.weights, strict=True):
            _check_unwritten(module, "forward or backward", "weights of samples", now, before)
    if dx is None:
        raise GradientError(f"{module!r}.backward returned None: it must return ∂L/∂x")
    if tuple(dx.shape) != tuple(x.shape):
        raise GradientError(
            f"{module!r}.backward returned ∂L/∂x of shape {tuple(dx.shape)} for x of shape "
            f"{tuple(x.shape)}"
        )
    if _differ(_spoilt(ready, x, r), dx):
        raise GradientError(
            f"{module!r}.backward reads its input, its output or the target again, which the "
            "caller may have overwritten: let forward keep what it needs with self.keep(...)"
        )

    def error(start: Array, gradient: Array, output: Callable[[Array], Array]) -> float:
        h = 1e-5 * max(1.0, float(backend.xp.abs(start).max()) if start.size else 1.0)
        difference, largest = 0.0, (1e-3 * _norm(y)) ** 2  # below that differences are rounding
        numeric = analytic = 0.0
        for _ in range(directions):
            v = draw(tuple(start.shape))
            v = v / max(_norm(v), 1e-300)
            a = float((gradient * v).sum())
            n = float((r * (output(start + h * v) - output(start - h * v))).sum()) / (2 * h)
            difference, numeric, analytic = (
                difference + (a - n) ** 2,
                numeric + n * n,
                analytic + a * a,
            )
        return float((difference / max(numeric, analytic, largest, 1e-300)) ** 0.5)

    errors: dict[str, float] = {}
    if not ready.takes_integers:
        errors["x"] = error(x, dx, lambda value: copy.deepcopy(ready)(value))
    for name, parameter in trial.named_parameters():
        if not parameter.requires_grad:
            continue

        def output(value: Array, name: str = name) -> Array:
            other = copy.deepcopy(ready)
            dict(other.named_parameters())[name].data[...] = value
            return other(x)

        start = dict(ready.named_parameters())[name].data
        gradient = 0 * start if parameter.grad is None else parameter.grad
        errors[name] = error(start, gradient, output)
    worst = max(
        errors, key=lambda name: float("inf") if errors[name] != errors[name] else errors[name]
    )
    if not errors[worst] <= tolerance:
        raise GradientError(
            f"∂L/∂{worst} of {module!r} is wrong: backward and central differences differ by "
            f"{errors[worst]:.2g} of it (at most {tolerance:g} is rounding)"
        )
    return errors


def _inside(module: Module, x: Array) -> Array:
    """module(x) as inside another module, which hands x itself over."""
    return within(passing, "train", module, x)


def _differ(a: Array, b: Array) -> bool:
    """Whether two arrays differ where the second is a number."""
    return bool(((a != b) & (b == b)).any())


def _check_unwritten(module: Module, method: str, what: str, now: Array, before: Array) -> None:
    if _differ(now, before):
        raise GradientError(
            f"{module!r}.{method} writes to its {what}: let it make an array instead"
        )


def _spoilt(ready: Module, x: Array, r: Array) -> Array:
    """∂L/∂x where the caller wrote over everything between the passes."""
    other, given = copy.deepcopy(ready), x.copy()
    y = _inside(other, given)
    inside = [other.target, *other.weights] if isinstance(other, _Of) else []
    for array in (given, y, *inside):
        if getattr(array.flags, "writeable", True):
            array[...] = float("nan") if array.dtype.kind == "f" else 0
    return other.backward(r.copy())


def _check_reductions(module: _Of, x: Array) -> None:
    """GradientError unless sum, mean and batchmean are what "none" gives, times a number each."""
    if "reduction" not in signature(type(module.loss)).parameters:
        return
    results = {}
    for reduction in REDUCTIONS:
        loss = copy.deepcopy(module.loss)
        loss.reduction = reduction
        value = loss(x.copy(), module.target.copy(), *[w.copy() for w in module.weights])
        results[reduction] = value.sum(), loss.backward(0 * value + 1)
    total, gradient = results["none"]
    samples = sum([float(w.sum()) for w in module.weights]) or len(x)
    for reduction, (value, found) in results.items():
        factor = {"sum": 1.0, "batchmean": 1 / samples}.get(reduction, value / total)
        wrong = abs(value - factor * total) > 1e-9 * abs(total)
        if wrong or _norm(found - factor * gradient) > 1e-9 * _norm(gradient):
            raise GradientError(
                f"{module!r}: with reduction={reduction!r} value and gradient are not those of "
                "'none', reduced"
            )


def _norm(a: Array) -> float:
    return sqrt(float((a * a).sum()))
