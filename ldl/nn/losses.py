"""Losses. `value = loss(input, target)`, then `grad = loss.backward()` is ∂value/∂input, exactly.

`reduction` says what becomes of the elements' losses l: "mean" (over all elements), "batchmean"
(their sum over the number of samples), "sum", or "none" (l itself; `backward` then takes ∂L/∂l).

`loss(input, target, sample_weight)` lets the samples count as w (N,) says: every l becomes w_n l,
and the number of samples N in "mean" and "batchmean" becomes Σ_n w_n, so that

    L = Σ_n w_n l_n / Σ_n w_n,

the same as of samples that are repeated w_n times where the weights are whole numbers. A sample of
weight 0 counts for nothing, whatever it costs, and a batch without weight costs 0.
"""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, Self

from ldl.arrays import NUMBERS, check_kind, check_sample_weight
from ldl.backend import Array, Backend, get_backend
from ldl.nn.module import Differentiable, check_owned

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

    def __call__(self, input: Array, target: Array, sample_weight: Array | None = None) -> Array:
        """The loss, a scalar of the device; for reduction "none" an array."""
        self._check_device(input, target)
        self.check(tuple(input.shape), target)
        self.check_input(input)
        weights = [] if sample_weight is None else [sample_weight]
        for weight in weights:
            check_weighable(self)
            check_owned(self, weight)
            check_sample_weight(weight, len(input))
        value: Array = self._copied(self.forward(input, target, *weights))
        return value

    def forward(self, input: Array, target: Array, sample_weight: Array | None = None) -> Array:
        """The loss, without the check of the target's and the weights' values."""
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

    def shares(
        self, input_shape: tuple[int, ...], target: Array, sample_weight: Array | None = None
    ) -> Array | float:
        """The `denominator` of samples that have weights."""
        whole = self.denominator(input_shape, target)
        if sample_weight is None or self.reduction == "sum":
            return whole
        if isinstance(whole, (int, float)):
            whole /= input_shape[0]
        return sample_weight * whole

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

    def _factor(self, x: Array, sample_weight: Array | None, counted: Any = None) -> Any:
        """What the loss of an element counts in the value: a number, or one (N, 1, …) a sample.

        `counted` is how much of each sample the sum of weights counts, (N, 1), by default all
        alike, for "mean" as many as it has elements.
        """
        if sample_weight is None:
            return self._scale(x.shape)
        if tuple(sample_weight.shape) != x.shape[:1]:
            check_sample_weight(sample_weight, len(x))
        weights = sample_weight.astype(x.dtype, copy=False).reshape(-1, *[1] * (x.ndim - 1))
        if self.reduction in ("sum", "none"):
            return weights
        if counted is not None:
            whole = total(weights * counted)
        else:
            whole = total(weights) * (prod(x.shape[1:]) if self.reduction == "mean" else 1)
        return weights / self.backend.xp.where(whole > 0, whole, 1)

    def _counted(self, losses: Array, factor: Any) -> Array:
        """Numbers of elements times what each counts; 0 where that is 0, whatever they are."""
        if getattr(factor, "ndim", 0):
            losses = self.backend.xp.where(factor > 0, losses, 0)
        return losses * factor

    def _reduce(self, losses: Array, factor: Any) -> Array:
        """Σ factor · l, or for reduction "none" the summands."""
        by_sample = getattr(factor, "ndim", 0)
        if self.reduction == "none":
            reduced = self._counted(losses, factor)
        else:
            reduced = total(self._counted(losses, factor)) if by_sample else total(losses) * factor
        return reduced.astype(losses.dtype, copy=False)


class PairLoss(Loss):
    """A loss of an input and a target of one shape."""

    def __init__(self, reduction: str = "mean") -> None:
        self._set_reduction(reduction)

    def check(self, input_shape: tuple[int, ...], target: Array) -> None:
        """ValueError unless the shapes are equal and the target's values are none at `fault`."""
        self._check_array(target)
        self._check_shape(tuple(input_shape), target)
        if self.fault(input_shape, target):
            raise ValueError(self.refusal(input_shape, tuple(target.shape)))

    def _check_shape(self, input_shape: tuple[int, ...], target: Array) -> None:
        if input_shape != tuple(target.shape):
            raise ValueError(
                f"{self!r}: the input has shape {input_shape} and the target "
                f"{tuple(target.shape)}: reshape one of them, nothing is broadcast"
            )
        check_batch(self, input_shape)


class ElementwiseLoss(PairLoss):
    """A sum over elements of l(x, t). A subclass writes `value` and `derivative`.

    Both get arrays that nobody else reads, and nobody writes to what they return: that may be one
    of these, an array that the loss holds, or one that is only broadcast to their shape.
    """

    def value(self, x: Array, t: Array) -> Array:
        """l(x, t)."""
        raise NotImplementedError(f"{type(self).__name__} has no value")

    def derivative(self, x: Array, t: Array) -> Array:
        """∂l/∂x."""
        raise NotImplementedError(f"{type(self).__name__} has no derivative")

    def forward(self, input: Array, target: Array, sample_weight: Array | None = None) -> Array:
        """The reduced l(x, t)."""
        self._check_device(input, target)
        self._check_shape(tuple(input.shape), target)
        self._check_dtype(input, target)
        factor = self._factor(input, sample_weight)
        self.keep(input, target, factor)
        value = self._shaped("value", self.value(input.copy(), target.copy()), input)
        return self._reduce(value, factor)

    def backward(self, grad: Array | None = None) -> Array:
        """∂l/∂x, times what the reduction makes of it."""
        x, t, factor = self.take()
        derivative = self._shaped("derivative", self.derivative(x, t), x)
        gradient = self._counted(derivative, factor).astype(x.dtype, copy=False)
        if grad is not None:
            gradient *= grad
        return gradient

    def denominator(self, input_shape: tuple[int, ...], target: Array) -> Array | float:
        """The number of elements for "mean" and "none", of samples for "batchmean", 1 for "sum"."""
        if self.reduction in ("mean", "none"):
            return prod(input_shape)
        return super().denominator(input_shape, target)

    def _shaped(self, name: str, given: Array, x: Array) -> Array:
        shape = tuple(getattr(given, "shape", ()))
        if shape != x.shape:
            raise ValueError(
                f"{self!r}.{name} gave shape {shape} for arrays of shape "
                f"{tuple(x.shape)}: it must give one number an element"
            )
        return given


def total(a: Array) -> Array:
    """The sum of all elements, a float32 at least."""
    return a.sum() if a.dtype.itemsize > 2 else a.astype("float32").sum()


def check_weighable(loss: Loss) -> None:
    """TypeError for a loss that knows no weights of samples."""
    from inspect import signature

    if "sample_weight" not in signature(loss.forward).parameters:
        raise TypeError(
            f"{loss!r}.forward takes no weights of samples: give it a third argument, "
            "sample_weight=None, or leave the weights out"
        )


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
