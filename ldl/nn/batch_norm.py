"""Normalisation of each channel over a batch, channels last."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from ldl.backend import Array
from ldl.nn.images import check_images
from ldl.nn.module import check_floating
from ldl.nn.running import Running


class _BatchNorm(Running):
    """Each channel over the batch and its pixels."""

    mixes_samples = True
    pools_ranks = True
    ndims: ClassVar[tuple[int, ...]]
    takes: ClassVar[str]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self._set_running(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, x: Array) -> Array:
        """γ X̂ + β; by the running statistics in eval mode."""
        self._check(x)
        if x.ndim not in self.ndims or x.shape[-1] != self.num_features:
            if x.ndim > 2:
                check_images(self, x, x.ndim - 2, self.num_features)
            raise ValueError(f"{self!r} takes {self.takes}, got {tuple(x.shape)}")
        axes = tuple(range(x.ndim - 1))
        known = self._by_running(x)
        if known is not None:
            self.keep(*known, None)
            return self._affine(known[0])
        count = self.backend.rows(x) * prod(x.shape[1:-1])
        if count < 2:
            raise ValueError(
                f"{self!r} has no variance of one value a channel, got {tuple(x.shape)}: train "
                "with two samples at least, or call model.eval() where it tracks statistics"
            )
        y, scale, centre, variance = self._normalised(x, axes)
        self.keep(y, scale, axes)
        self._follow(centre.reshape(-1), variance.reshape(-1), count)
        return self._affine(y)

    def _mean(self, x: Array, axes: tuple[int, ...]) -> Array:
        return self.backend.pooled(super()._mean(x, axes))

    def backward(self, grad: Array) -> Array:
        """∂L/∂X; adds ∂L/∂γ and ∂L/∂β."""
        check_floating(self, grad)
        y, scale, axes = self.take()
        d = self._share(grad, y)
        return d * scale if axes is None else self._back(d, y, scale, axes)


class BatchNorm1d(_BatchNorm):
    """Y = γ (X - μ) / √(σ² + ε) + β, μ and σ² each channel's over the batch and, of (N, L, C), L.

    Shapes: X and Y (N, C) or (N, L, C), γ, β (C,). In training μ and σ² are the batch's, σ² without
    Bessel's correction, and the running ones follow: r ← (1 - momentum) r + momentum (μ, or σ² with
    it), or with `momentum` None the mean of all batches' so far. In eval mode the running ones are
    used. They are buffers, saved with the model. Where several ranks share a batch, μ, σ² and means
    of the gradient are those of all its rows.
    With G = ∂L/∂Y, D = γ G and X̂ = (X - μ) / √(σ² + ε), ∂L/∂X = (D - mean D - X̂ mean(D X̂)) / √(σ²
    + ε) in training, D / √(σ² + ε) in eval mode; ∂L/∂γ = Σ X̂ G, ∂L/∂β = Σ G.

    γ starts at one, β at zero; neither is there without `affine`. Without `track_running_stats` the
    batch's statistics are used in eval mode too. Raises ValueError for another number of channels,
    and in training for one value a channel. (Ioffe, Szegedy, ICML 2015.)
    """

    ndims: ClassVar[tuple[int, ...]] = (2, 3)
    takes: ClassVar[str] = "(N, C) or (N, L, C)"


class BatchNorm2d(_BatchNorm):
    """Each channel of images (N, H, W, C) over batch and pixels, as in `BatchNorm1d`."""

    ndims: ClassVar[tuple[int, ...]] = (4,)
    takes: ClassVar[str] = "(N, H, W, C)"
