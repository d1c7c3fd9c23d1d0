"""Normalisation of each sample's channels by themselves, channels last."""

from __future__ import annotations

from math import prod

from ldl.backend import Array
from ldl.nn.images import check_images
from ldl.nn.module import check_floating
from ldl.nn.running import Running


class InstanceNorm(Running):
    """Y = γ (X - μ) / √(σ² + ε) + β, μ and σ² of each sample and channel, over its pixels.

    Shapes: X and Y (N, L, C), (N, H, W, C) or of more axes, γ, β (C,), which are not there unless
    `affine`. Gradients are `LayerNorm`'s, with means over the pixels. With `track_running_stats`
    running statistics follow the means of μ and of σ² over the samples, as `BatchNorm1d`'s do, and
    are used in eval mode. Raises ValueError for another number of channels and, unless they are
    used, for one pixel. (Ulyanov et al., arXiv:1607.08022.)
    """

    pools_ranks = True

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = False,
        momentum: float | None = 0.1,
        track_running_stats: bool = False,
    ) -> None:
        self._set_running(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, x: Array) -> Array:
        """γ X̂ + β; by the running statistics, if there are some, in eval mode."""
        self._check(x)
        check_images(self, x, max(x.ndim - 2, 1), self.num_features)
        known = self._by_running(x)
        if known is not None:
            self.keep(*known, None)
            return self._affine(known[0])
        axes, count = tuple(range(1, x.ndim - 1)), prod(x.shape[1:-1])
        if count < 2:
            raise ValueError(
                f"{self!r} has no variance of one pixel a channel, got {tuple(x.shape)}"
            )
        y, scale, centre, variance = self._normalised(x, axes)
        self.keep(y, scale, axes)
        if self.running_mean is not None and self.training and len(x):
            over, pooled = (0, *axes), self.backend.pooled
            self._follow(pooled(centre.mean(axis=over)), pooled(variance.mean(axis=over)), count)
        return self._affine(y)

    def backward(self, grad: Array) -> Array:
        """∂L/∂X; adds ∂L/∂γ and ∂L/∂β."""
        check_floating(self, grad)
        y, scale, axes = self.take()
        d = self._share(grad, y)
        return d * scale if axes is None else self._back(d, y, scale, axes)
