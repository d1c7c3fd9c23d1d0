"""Losses of the difference of input and target."""

from __future__ import annotations

from ldl.backend import Array
from ldl.nn.losses import ElementwiseLoss
from ldl.numbers import number, real


class MSELoss(ElementwiseLoss):
    """l = (x - t)²; ∂l/∂x = 2(x - t).

    The default reduction, "batchmean", is the mean over the batch of the squared Euclidean norm
    over the features; "mean" divides by the number of features too.
    """

    def __init__(self, reduction: str = "batchmean") -> None:
        super().__init__(reduction)

    def value(self, x: Array, t: Array) -> Array:
        """(x - t)²."""
        d = x - t
        return d * d

    def derivative(self, x: Array, t: Array) -> Array:
        """2(x - t)."""
        return 2 * (x - t)


class L1Loss(ElementwiseLoss):
    """l = |x - t|; ∂l/∂x = sign(x - t), 0 at 0."""

    def value(self, x: Array, t: Array) -> Array:
        """|x - t|."""
        return self.backend.xp.abs(x - t)

    def derivative(self, x: Array, t: Array) -> Array:
        """sign(x - t)."""
        return self.backend.xp.sign(x - t)


class HuberLoss(ElementwiseLoss):
    """l = d²/2 where |d| ≤ δ, else δ(|d| - δ/2), for d = x - t; ∂l/∂x = d clipped to [-δ, δ]."""

    def __init__(self, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.delta = real("delta", delta)
        if not self.delta > 0:
            raise ValueError(f"delta must be positive, got {delta!r}")

    def value(self, x: Array, t: Array) -> Array:
        """c(|d| - c/2) with c = min(|d|, δ), which is both cases."""
        a = self.backend.xp.abs(x - t)
        c = self.backend.xp.minimum(a, self.delta)
        return c * (a - 0.5 * c)

    def derivative(self, x: Array, t: Array) -> Array:
        """D clipped to [-δ, δ]."""
        return self.backend.xp.clip(x - t, -self.delta, self.delta)


class SmoothL1Loss(ElementwiseLoss):
    """l = d²/(2β) where |d| < β, else |d| - β/2, for d = x - t; ∂l/∂x = d/β clipped to [-1, 1].

    It is HuberLoss(β) over β, and for β = 0 L1Loss.
    """

    def __init__(self, beta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.beta = number("beta", beta)

    def value(self, x: Array, t: Array) -> Array:
        """(c/β)(|d| - c/2) with c = min(|d|, β), which is both cases."""
        a = self.backend.xp.abs(x - t)
        if self.beta == 0:
            return a
        c = self.backend.xp.minimum(a, self.beta)
        return (c / self.beta) * (a - 0.5 * c)

    def derivative(self, x: Array, t: Array) -> Array:
        """d/β clipped to [-1, 1]."""
        if self.beta == 0:
            return self.backend.xp.sign(x - t)
        return self.backend.xp.clip(x - t, -self.beta, self.beta) / self.beta
