"""Activations of pieces that are straight, or nearly."""

from __future__ import annotations

from math import inf

from ldl.backend import Array
from ldl.nn.activations import FAR, Activation
from ldl.nn.images import check_order
from ldl.nn.init import ones
from ldl.nn.linear import check_type
from ldl.nn.parameter import Parameter
from ldl.numbers import number, positive_integer


class ReLU(Activation):
    """y = max(x, 0); y' = 1 where x > 0, else 0 (also at 0)."""

    def function(self, x: Array) -> Array:
        """max(x, 0)."""
        return self.backend.xp.maximum(x, 0)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """Grad times the truth of y > 0, and so NaN where an infinite grad meets a 0."""
        return grad * (y > 0)


class LeakyReLU(Activation):
    """y = x where x > 0, else αx; y' = 1 or α, with α = `negative_slope`."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number("negative_slope", negative_slope, low=-inf)

    def function(self, x: Array) -> Array:
        """x or αx."""
        return self.backend.xp.where(x > 0, x, self.negative_slope * x)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """grad or α grad."""
        return self.backend.xp.where(x > 0, grad, self.negative_slope * grad)


class PReLU(Activation):
    """y = x where x > 0, else ax, a being learned; y' = 1 or a, ∂L/∂a = Σ x ∂L/∂y where x ≤ 0.

    `num_parameters` is 1, or the number of channels, the last axis, each of which then has an a of
    its own; they start at `init` (He et al., ICCV 2015). Raises ValueError for another number of
    channels and TypeError for x of another type than a.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = positive_integer("num_parameters", num_parameters)
        start = number("init", init, low=-inf)
        self.weight = Parameter(start * ones((self.num_parameters,)))

    def function(self, x: Array) -> Array:
        """x or ax."""
        check_type(self, x, self.weight)
        if self.num_parameters > 1 and (x.ndim < 2 or x.shape[-1] != self.num_parameters):
            check_order(x, self.num_parameters)
            raise ValueError(
                f"{self!r} takes {self.num_parameters} channels, the last axis, got "
                f"{tuple(x.shape)}: give PReLU that number, or 1 for all"
            )
        return self.backend.xp.where(x > 0, x, self.weight.data * x)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """grad or a grad; adds ∂L/∂a."""
        xp = self.backend.xp
        share = xp.where(x > 0, 0, x * grad)
        if self.num_parameters == 1:
            self.weight.accumulate(share.sum().reshape(1))
        else:
            self.weight.accumulate_rows(share.reshape(-1, self.num_parameters))
        return xp.where(x > 0, grad, self.weight.data * grad)


class Hardtanh(Activation):
    """y = x cut to [`min_val`, `max_val`]; y' = 1 between them, else 0 (also at them)."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val = number("min_val", min_val, low=-inf)
        self.max_val = number("max_val", max_val, low=-inf)
        if not self.min_val < self.max_val:
            raise ValueError(f"min_val must be less than max_val, got {min_val} and {max_val}")

    def function(self, x: Array) -> Array:
        """x, cut."""
        return self.backend.xp.clip(x, self.min_val, self.max_val)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """grad or 0."""
        return _between(self, grad, x, self.min_val, self.max_val)


class Hardsigmoid(Activation):
    """y = x/6 + 1/2 cut to [0, 1]; y' = 1/6 where |x| < 3, else 0."""

    def function(self, x: Array) -> Array:
        """x/6 + 1/2, cut."""
        return self.backend.xp.clip(x / 6 + 0.5, 0, 1)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """grad / 6 or 0."""
        return _between(self, grad / 6, x, -3, 3)


class Hardswish(Activation):
    """y = x hardsigmoid(x); y' = x/3 + 1/2 where |x| < 3, else 0 or 1.

    (Howard et al., ICCV 2019.)
    """

    def function(self, x: Array) -> Array:
        """x times x/6 + 1/2, cut."""
        xp = self.backend.xp
        return xp.maximum(x, -FAR) * xp.clip(x / 6 + 0.5, 0, 1)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """(x/3 + 1/2) grad, or 0, or grad."""
        xp = self.backend.xp
        near = xp.clip(x, -3, 3) / 3 + 0.5
        return grad * xp.where(xp.abs(x) < 3, near, x > 0)


def _between(module: Activation, grad: Array, x: Array, low: float, high: float) -> Array:
    """Grad where x lies between two numbers, else 0."""
    return module.backend.xp.where((x > low) & (x < high), grad, 0)
