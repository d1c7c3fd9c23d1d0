"""Losses of pairs: a target of 1 or -1 says whether they belong together, or which leads."""

from __future__ import annotations

from ldl.backend import Array
from ldl.nn.cosine_loss import unit
from ldl.nn.losses import PairLoss, check_batch
from ldl.numbers import number


class _SignLoss(PairLoss):
    """A loss of pairs (N, 2, …) and their signs (N,)."""

    axes = 0
    """How many axes a member of a pair has."""

    def forward(self, input: Array, target: Array, sample_weight: Array | None = None) -> Array:
        """The reduced l."""
        self._check_device(input, target)
        self._check_shape(tuple(input.shape), target)
        if input.dtype.kind != "f":
            raise TypeError(f"{self!r} takes floating numbers, got {input.dtype}: use astype(...)")
        losses, slopes = self._of(input[:, 0], input[:, 1], target.astype(input.dtype, copy=False))
        factor = self._factor(losses, sample_weight)
        self.keep(slopes, factor)
        return self._reduce(losses, factor)

    def backward(self, grad: Array | None = None) -> Array:
        """∂l/∂input, times what the reduction makes of it."""
        slopes, factor = self.take()
        ones = (1,) * (self.axes + 1)
        if getattr(factor, "ndim", 0):
            factor = factor.reshape(-1, *ones)
        gradient = self._counted(slopes, factor).astype(slopes.dtype, copy=False)
        if grad is not None:
            gradient *= grad.reshape(-1, *ones) if self.reduction == "none" else grad
        return gradient

    def fault(self, input_shape: tuple[int, ...], target: Array) -> Array:
        """Whether a target is neither 1 nor -1."""
        return ((target != 1) & (target != -1)).any()

    def refusal(self, input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
        """What is wrong with such a target."""
        return f"{self!r} takes targets of 1 and -1, and some are neither: use 2 * labels - 1"

    def denominator(self, input_shape: tuple[int, ...], target: Array) -> Array | float:
        """The number of pairs, or 1 for "sum"."""
        return 1 if self.reduction == "sum" else input_shape[0]

    def _of(self, a: Array, b: Array, t: Array) -> tuple[Array, Array]:
        """The pairs' losses (N,), and ∂l/∂input."""
        raise NotImplementedError

    def _check_shape(self, input_shape: tuple[int, ...], target: Array) -> None:
        whole = f"(N, 2{', D' * self.axes})"
        if len(input_shape) != 2 + self.axes or input_shape[1] != 2:
            raise ValueError(
                f"{self!r} takes pairs {whole}, got {input_shape}: stack them on axis 1"
            )
        if tuple(target.shape) != input_shape[:1]:
            raise ValueError(
                f"{self!r}: targets of pairs {whole} are (N,), got {tuple(target.shape)} for "
                f"{input_shape}"
            )
        check_batch(self, input_shape)


class CosineEmbeddingLoss(_SignLoss):
    """l = 1 - cos(a, b) of a pair that belongs together, y = 1; max(0, cos(a, b) - margin) else.

    Shapes: the input (N, 2, D), the pairs (a, b) = (x[:, 0], x[:, 1]), such as one network makes of
    (N, 2, …); the target (N,), of y = 1 and -1; l (N,). cos(a, b) = u · v with u = a / max(‖a‖, ε),
    v = b / max(‖b‖, ε); ∂cos/∂a = (v - (u · v)u) / ‖a‖, or v / ε where ‖a‖ < ε, and likewise of b;
    ∂l/∂cos is -1, or 1 where l > 0. Raises ValueError for other targets and for a margin that is
    not from -1 to 1. PyTorch's takes a and b apart: stack them.
    """

    axes = 1

    def __init__(self, margin: float = 0.0, reduction: str = "mean", *, eps: float = 1e-8) -> None:
        super().__init__(reduction)
        self.margin = number("margin", margin, -1, 1, closed_high=True)
        self.eps = number("eps", eps, open_low=True)

    def _of(self, a: Array, b: Array, t: Array) -> tuple[Array, Array]:
        xp = self.backend.xp
        u, a_scale, a_root, a_long = unit(xp, a, self.eps)
        v, b_scale, b_root, b_long = unit(xp, b, self.eps)
        cosine = (u * v).sum(axis=-1, keepdims=True)
        together, over = (t > 0)[:, None], cosine - self.margin
        losses = xp.where(together, 1 - cosine, xp.maximum(over, 0))
        near = together.astype(a.dtype)
        slope = (over > 0).astype(a.dtype) * (1 - near) - near
        da = slope * (v - a_long * cosine * u) / a_root / a_scale
        db = slope * (u - b_long * cosine * v) / b_root / b_scale
        return losses[:, 0], xp.stack([da, db], axis=1)


class MarginRankingLoss(_SignLoss):
    """l = max(0, margin - y(a - b)): where y = 1, a is to lead b by the margin, where y = -1 b a.

    Shapes: the input (N, 2), the pairs (a, b) of scores; the target (N,), of y = 1 and -1; l (N,).
    ∂l/∂a = -y and ∂l/∂b = y where l > 0, else 0. Raises ValueError for other targets and for a
    margin below 0. PyTorch's takes a and b apart: stack them.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = number("margin", margin, 0)

    def _of(self, a: Array, b: Array, t: Array) -> tuple[Array, Array]:
        xp = self.backend.xp
        losses = xp.maximum(self.margin - t * (a - b), 0)
        slope = xp.where(losses > 0, t, 0)
        return losses, xp.stack([-slope, slope], axis=1)
