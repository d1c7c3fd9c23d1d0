"""CosineSimilarityLoss, of directions."""

from __future__ import annotations

from math import prod
from typing import Any

from ldl.backend import Array
from ldl.nn.losses import PairLoss
from ldl.numbers import number


class CosineSimilarityLoss(PairLoss):
    """l_n = 1 - cos(x_n, t_n) = 1 - u_n · v_n with u = x / max(‖x‖, ε), v = t / max(‖t‖, ε).

    Vectors lie along the last axis: x and t (N, …, D), l (N, …). ∂l/∂x = ((u · v)u - v) / ‖x‖, or
    -v / ε where ‖x‖ < ε. `CosineEmbeddingLoss` is that of pairs of
    outputs, which belong together or not. Large
    and small numbers do not overflow.
    """

    def __init__(self, reduction: str = "mean", *, eps: float = 1e-8) -> None:
        super().__init__(reduction)
        self.eps = number("eps", eps, open_low=True)

    def forward(self, input: Array, target: Array, sample_weight: Array | None = None) -> Array:
        """The reduced 1 - u · v."""
        self._check_device(input, target)
        self._check_shape(tuple(input.shape), target)
        self._check_dtype(input, target)
        xp = self.backend.xp
        u, scale, root, long = unit(xp, input, self.eps)
        v, *_ = unit(xp, target, self.eps)
        cosine = (u * v).sum(axis=-1, keepdims=True)
        losses = 1 - cosine[..., 0]
        factor = self._factor(losses, sample_weight)
        self.keep((long * cosine * u - v) / root, scale, factor)
        return self._reduce(losses, factor)

    def backward(self, grad: Array | None = None) -> Array:
        """((u · v)u - v) / ‖x‖, times what the reduction makes of it."""
        across, scale, factor = self.take()
        if getattr(factor, "ndim", 0):
            factor = factor[..., None]
        gradient = self._counted(across / scale, factor).astype(across.dtype, copy=False)
        if grad is not None:
            gradient *= grad[..., None] if self.reduction == "none" else grad
        return gradient

    def denominator(self, input_shape: tuple[int, ...], target: Array) -> Array | float:
        """The number of vectors for "mean" and "none", of samples for "batchmean", 1 for "sum"."""
        if self.reduction in ("mean", "none"):
            return prod(input_shape[:-1])
        return super().denominator(input_shape, target)

    def _check_shape(self, input_shape: tuple[int, ...], target: Array) -> None:
        if len(input_shape) < 2:
            raise ValueError(f"{self!r} takes vectors (N, …, D), got {input_shape}")
        super()._check_shape(input_shape, target)


def unit(xp: Any, x: Array, eps: float) -> tuple[Array, Array, Array, Array]:
    """x over max(‖x‖, ε), two numbers whose product that is, and whether ‖x‖ is ε at least."""
    most = xp.abs(x).max(axis=-1, keepdims=True)
    scale = xp.where(most > 0, most, 1)
    near = x / scale
    root = xp.sqrt((near * near).sum(axis=-1, keepdims=True))
    least = max(eps, float(xp.finfo(x.dtype).tiny)) / scale
    length = xp.maximum(root, least)
    return near / length, scale, length, root >= least
