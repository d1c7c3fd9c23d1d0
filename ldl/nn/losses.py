"""Losses. `value = loss(input, target)`, then `grad = loss.backward()` is ∂value/∂input, exactly.

`reduction` says what becomes of the elements' losses l: "mean" (over all elements), "batchmean"
(their sum over the number of samples), "sum", or "none" (l itself; `backward` then takes ∂L/∂l).
"""

from __future__ import annotations

from typing import ClassVar, Self

from ldl.backend import Array, Backend, get_backend
from ldl.nn.module import Differentiable
from ldl.numbers import real

REDUCTIONS = ("mean", "batchmean", "sum", "none")


class Loss(Differentiable):
    """The base. A call checks the target's values, which may wait for the device, then computes.

    `forward` checks shapes and types only. Training loops call `check` once for the whole data set
    and `forward` for each batch.
    """

    reduction: str = "mean"
    takes_labels: ClassVar[bool] = False
    """Whether a target of shape (N,) holds class labels, which keep their integer type."""

    def __call__(self, input: Array, target: Array) -> Array:
        """The loss, a scalar of the device; for reduction "none" an array."""
        self._check_device(input, target)
        self.check(tuple(input.shape), target)
        self.check_input(input)
        return self.forward(input, target)

    def forward(self, input: Array, target: Array) -> Array:
        """The loss, without the check of the target's values."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, grad: Array | None = None) -> Array:
        """∂L/∂input, for L the value itself, or for ∂L/∂value = `grad` where it is given."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def check(self, input_shape: tuple[int, ...], target: Array) -> None:
        """Raise ValueError or TypeError for a target that does not fit outputs of that shape."""

    def check_input(self, input: Array) -> None:
        """Raise ValueError for an input that the loss has no value for."""

    def to(self, backend: str | Backend) -> Self:
        """Compute on another backend from now on."""
        self.backend = get_backend(backend)
        self._kept = None
        return self

    def _check_device(self, input: Array, target: Array) -> None:
        for array in (input, target):
            if not isinstance(array, self.backend.array_type):
                raise self._foreign(array)

    def _set_reduction(self, reduction: str) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
        self.reduction = reduction

    def _check_dtype(self, input: Array, target: Array) -> None:
        if input.dtype.kind != "f":
            raise TypeError(f"{self!r} takes floating numbers, got {input.dtype}: use astype(...)")
        if target.dtype != input.dtype:
            raise TypeError(
                f"{self!r}: the target is {target.dtype} and the input {input.dtype}: "
                f"use target.astype({str(input.dtype)!r})"
            )

    def _scale(self, shape: tuple[int, ...]) -> float:
        if self.reduction == "mean":
            size = 1
            for n in shape:
                size *= n
            return 1 / size
        return 1 / shape[0] if self.reduction == "batchmean" else 1.0

    def _reduce(self, losses: Array) -> Array:
        if self.reduction == "none":
            return losses
        return losses.sum() * self._scale(losses.shape)


class ElementwiseLoss(Loss):
    """A sum over elements of l(x, t). A subclass writes `value` and `derivative`."""

    def __init__(self, reduction: str = "mean") -> None:
        self._set_reduction(reduction)

    def value(self, x: Array, t: Array) -> Array:
        """l(x, t)."""
        raise NotImplementedError(f"{type(self).__name__} has no value")

    def derivative(self, x: Array, t: Array) -> Array:
        """∂l/∂x."""
        raise NotImplementedError(f"{type(self).__name__} has no derivative")

    def forward(self, input: Array, target: Array) -> Array:
        """The reduced l(x, t)."""
        self._check_device(input, target)
        self._check_shape(tuple(input.shape), target)
        self._check_dtype(input, target)
        self.keep(input, target)
        return self._reduce(self.value(input, target))

    def backward(self, grad: Array | None = None) -> Array:
        """∂l/∂x, times what the reduction makes of it."""
        x, t = self.take()
        gradient = self.derivative(x, t)
        gradient *= self._scale(x.shape)
        if grad is not None:
            gradient *= grad
        return gradient

    def check(self, input_shape: tuple[int, ...], target: Array) -> None:
        """ValueError unless the shapes are equal."""
        self._check_shape(input_shape, target)

    def _check_shape(self, input_shape: tuple[int, ...], target: Array) -> None:
        if input_shape != tuple(target.shape):
            raise ValueError(
                f"{self!r}: the input has shape {input_shape} and the target "
                f"{tuple(target.shape)}: reshape one of them, nothing is broadcast"
            )
        check_batch(self, input_shape)


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


class _BinaryLoss(ElementwiseLoss):
    """Targets are probabilities."""

    def check(self, input_shape: tuple[int, ...], target: Array) -> None:
        """ValueError unless the shapes are equal and the target lies in [0, 1]."""
        super().check(input_shape, target)
        if not (target.min() >= 0 and target.max() <= 1):
            raise ValueError(f"{self!r}: targets must lie in [0, 1]: scale them first")


class BCELoss(_BinaryLoss):
    """l = -t log x - (1 - t) log(1 - x) for probabilities x; ∂l/∂x = (x - t) / (x(1 - x)).

    Logarithms are taken of the smallest normal number at least, and x(1 - x) is 1e-12 at least, so
    that certainty costs much but not infinity. BCEWithLogitsLoss takes logits and needs neither.
    """

    def value(self, x: Array, t: Array) -> Array:
        """-t log x - (1 - t) log(1 - x)."""
        log = self._log
        return -(t * log(x) + (1 - t) * log(1 - x))

    def derivative(self, x: Array, t: Array) -> Array:
        """(x - t) / (x(1 - x))."""
        floor = max(1e-12, self._tiny(x))
        return (x - t) / self.backend.xp.maximum(x * (1 - x), floor)

    def check_input(self, input: Array) -> None:
        """ValueError unless the input lies in [0, 1]."""
        if not (input.min() >= 0 and input.max() <= 1):
            raise ValueError(
                f"{self!r} takes probabilities in [0, 1]: end the model with a Sigmoid, or use "
                "BCEWithLogitsLoss"
            )

    def _log(self, p: Array) -> Array:
        xp = self.backend.xp
        return xp.log(xp.maximum(p, self._tiny(p)))

    def _tiny(self, p: Array) -> float:
        return float(self.backend.xp.finfo(p.dtype).tiny)


class BCEWithLogitsLoss(_BinaryLoss):
    """l = max(x, 0) - xt + log(1 + exp(-|x|)), BCELoss of σ(x); ∂l/∂x = σ(x) - t."""

    def value(self, x: Array, t: Array) -> Array:
        """max(x, 0) - xt + log(1 + exp(-|x|))."""
        xp = self.backend.xp
        return xp.maximum(x, 0) - x * t + xp.log1p(xp.exp(-xp.abs(x)))

    def derivative(self, x: Array, t: Array) -> Array:
        """σ(x) - t."""
        return self.backend.sigmoid(x) - t


def check_batch(loss: Loss, shape: tuple[int, ...]) -> None:
    """ValueError for a batch without elements."""
    if not shape or 0 in shape:
        raise ValueError(f"{loss!r}: an empty batch, of shape {shape}, has no loss")
