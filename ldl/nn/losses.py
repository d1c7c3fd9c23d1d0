"""Losses. `value = loss(input, target)`, then `grad = loss.backward()` is ∂value/∂input, exactly.

`reduction` says what becomes of the elements' losses l: "mean" (over all elements), "batchmean"
(their sum over the number of samples), "sum", or "none" (l itself; `backward` then takes ∂L/∂l).
"""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, Self

from ldl.arrays import NUMBERS, check_kind
from ldl.backend import Array, Backend, get_backend
from ldl.nn.module import Differentiable, check_owned
from ldl.numbers import real

REDUCTIONS = ("mean", "batchmean", "sum", "none")


class Loss(Differentiable):
    """The base. A call checks the target's values, which may wait for the device, then computes.

    `forward` checks shapes and types only. Training loops call `check` once for the whole data set
    and `forward` for each batch. A mean over batches is that of all their samples, each batch
    counting as its `denominator` says.

    Arrays that a loss is given are the caller's: it writes to none of them, and nobody else reads
    what it returns, nor writes to what it keeps. `self.keep` makes copies, so that the caller may
    do with input and target what he likes before `backward`.
    """

    entrances = ("forward", "backward", "check", "check_input")
    reduction: str = "mean"
    takes_labels: ClassVar[bool] = False
    """Whether a target of shape (N,) holds class labels, which keep their integer type."""

    def __call__(self, input: Array, target: Array) -> Array:
        """The loss, a scalar of the device; for reduction "none" an array."""
        self._check_device(input, target)
        self.check(tuple(input.shape), target)
        self.check_input(input)
        value: Array = self._copied(self.forward(input, target))
        return value

    def forward(self, input: Array, target: Array) -> Array:
        """The loss, without the check of the target's values."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, grad: Array | None = None) -> Array:
        """∂L/∂input, for L the value itself, or for ∂L/∂value = `grad` where it is given."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def check(self, input_shape: tuple[int, ...], target: Array) -> None:
        """Raise ValueError or TypeError for a target that does not fit outputs of that shape."""

    def check_input(self, input: Array) -> None:
        """Raise ValueError for an input that the loss has no value for.

        `fit` and `evaluate` call it for every batch, unless the loss has a `check_value`.
        """

    def check_value(self, value: float) -> None:
        """Raise ValueError for a value, infinite or NaN, that only such an input gives."""

    def fault(self, input_shape: tuple[int, ...], target: Array) -> Array | None:
        """Whether the target has a value that `check` refuses, found without waiting.

        A truth on the device; None where `check` itself is to be called, batch by batch.
        """
        return None

    def refusal(self, input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
        """What is wrong with a target where `fault` is true, and what to do."""
        return f"{self!r} has no value for a target"

    def denominator(self, input_shape: tuple[int, ...], target: Array) -> Array | float:
        """What the reduction divides by: a number, or an array (N,) of the samples' shares of it.

        By default 1 for "sum", else the number of samples.
        """
        return 1 if self.reduction == "sum" else input_shape[0]

    def to(self, backend: str | Backend) -> Self:
        """Compute on another backend from now on."""
        self.backend = get_backend(backend)
        self._kept = None
        return self

    def _check_device(self, input: Array, target: Array) -> None:
        self._check_array(input)
        self._check_array(target)

    def _check_array(self, array: Array) -> None:
        check_owned(self, array)
        check_kind(array.dtype)

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
            return 1 / prod(shape)
        return 1 / shape[0] if self.reduction == "batchmean" else 1.0

    def _reduce(self, losses: Array) -> Array:
        if self.reduction == "none":
            return losses
        reduced = total(losses) * self._scale(losses.shape)
        return reduced.astype(losses.dtype, copy=False)


class ElementwiseLoss(Loss):
    """A sum over elements of l(x, t). A subclass writes `value` and `derivative`.

    Both get arrays that nobody else reads, and nobody writes to what they return: that may be one
    of these, an array that the loss holds, or one that is only broadcast to their shape.
    """

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
        value = self._shaped("value", self.value(input.copy(), target.copy()), input)
        return value.copy() if self.reduction == "none" else self._reduce(value)

    def backward(self, grad: Array | None = None) -> Array:
        """∂l/∂x, times what the reduction makes of it."""
        x, t = self.take()
        gradient = self._shaped("derivative", self.derivative(x, t), x) * self._scale(x.shape)
        if grad is not None:
            gradient *= grad
        return gradient

    def denominator(self, input_shape: tuple[int, ...], target: Array) -> Array | float:
        """The number of elements for "mean" and "none", of samples for "batchmean", 1 for "sum"."""
        if self.reduction in ("mean", "none"):
            return prod(input_shape)
        return super().denominator(input_shape, target)

    def check(self, input_shape: tuple[int, ...], target: Array) -> None:
        """ValueError unless the shapes are equal."""
        self._check_array(target)
        self._check_shape(tuple(input_shape), target)

    def _shaped(self, name: str, given: Array, x: Array) -> Array:
        shape = tuple(getattr(given, "shape", ()))
        if shape != x.shape:
            raise ValueError(
                f"{self!r}.{name} gave shape {shape} for arrays of shape "
                f"{tuple(x.shape)}: it must give one number an element"
            )
        return given

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


def total(a: Array) -> Array:
    """The sum of all elements, a float32 at least."""
    return a.sum() if a.dtype.itemsize > 2 else a.astype("float32").sum()


def check_scalar(loss: Loss, value: Any) -> Any:
    """What a loss gave; TypeError where it is not one real number."""
    array = hasattr(value, "dtype") and value.shape == () and value.dtype.kind in NUMBERS
    if not (array or isinstance(value, (int, float))):
        shape = getattr(value, "shape", ())
        gave = f"shape {tuple(shape)}" if shape else f"a {type(value).__name__}"
        raise TypeError(
            f"{loss!r}.forward gave {gave}: it must give one real number, such as losses.mean(), "
            "unless its reduction is 'none'"
        )
    return value


def check_slope(loss: Loss, grad: Any, input: Array) -> Array:
    """What a loss's backward returned; TypeError or ValueError where it is not like its input."""
    if not hasattr(grad, "shape"):
        kind = "None" if grad is None else f"a {type(grad).__name__}"
        raise TypeError(f"{loss!r}.backward returned {kind}: it must return ∂L/∂input, an array")
    if grad.shape != input.shape:
        raise ValueError(
            f"{loss!r}.backward returned shape {tuple(grad.shape)} for an input of shape "
            f"{tuple(input.shape)}: it must give one number an element"
        )
    return grad


def check_batch(loss: Loss, shape: tuple[int, ...]) -> None:
    """ValueError for a batch without elements."""
    if not shape or 0 in shape:
        raise ValueError(f"{loss!r}: an empty batch, of shape {shape}, has no loss")
