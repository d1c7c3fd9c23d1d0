"""Normalisation of each sample by itself, channels last; what all normalisation shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ldl.backend import Array
from ldl.nn import init
from ldl.nn.images import check_order
from ldl.nn.linear import check_type
from ldl.nn.module import Module, check_floating
from ldl.nn.parameter import Parameter
from ldl.numbers import number, positive_integer


class Normalization(Module):
    """Y = γ X̂ + β, X̂ = (X - μ) / √(σ² + ε), μ and σ² the mean and variance of some axes of X.

    ∂L/∂X = (D - mean D - X̂ mean(D X̂)) / √(σ² + ε) with D = γ ∂L/∂Y, means over the same axes;
    ∂L/∂γ and ∂L/∂β are the sums of X̂ ∂L/∂Y and of ∂L/∂Y over all axes that γ and β do not have.
    """

    eps: Any
    weight: Parameter | None
    bias: Parameter | None

    def _set_affine(self, shape: tuple[int, ...], affine: bool, bias: bool, eps: Any) -> None:
        self.eps = number("eps", eps)
        self.weight = Parameter(init.ones(shape)) if affine else None
        self.bias = Parameter(init.zeros(shape)) if affine and bias else None

    def _check(self, x: Array) -> None:
        check_floating(self, x)
        if self.weight is not None:
            check_type(self, x, self.weight)

    def _affine(self, x: Array) -> Array:
        """γ X̂ + β."""
        y = x if self.weight is None else x * self.weight.data
        return y if self.bias is None else y + self.bias.data

    def _scale(self, variance: Array) -> Array:
        """1 / √(σ² + ε)."""
        return 1 / self.backend.xp.sqrt(variance + self.eps)

    def _normalised(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
        """X̂, 1 / √(σ² + ε), μ and σ²."""
        mean = self._mean(x, axes)
        centred = x - mean
        variance = self._mean(centred * centred, axes)
        scale = self._scale(variance)
        return centred * scale, scale, mean, variance

    def _mean(self, x: Array, axes: tuple[int, ...]) -> Array:
        return x.mean(axis=axes, keepdims=True)

    def _share(self, grad: Array, y: Array) -> Array:
        """D; adds ∂L/∂γ and ∂L/∂β."""
        if self.weight is None:
            return grad
        over = tuple(range(grad.ndim - len(self.weight.shape)))
        self.weight.accumulate((grad * y).sum(axis=over))
        if self.bias is not None:
            self.bias.accumulate(grad.sum(axis=over))
        return grad * self.weight.data

    def _back(self, d: Array, y: Array, scale: Array, axes: tuple[int, ...]) -> Array:
        """∂L/∂X."""
        mean, along = self._mean(d, axes), self._mean(d * y, axes)
        return scale * (d - mean - y * along)


class LayerNorm(Normalization):
    """Y = γ (X - μ) / √(σ² + ε) + β, μ and σ² of each sample, over the last axes.

    Shapes: X and Y (…, *normalized_shape), γ, β normalized_shape, a number or several. ∂L/∂X = (D -
    mean D - X̂ mean(D X̂)) / √(σ² + ε), with G = ∂L/∂Y, D = γ G and X̂ = (X - μ) / √(σ² + ε); ∂L/∂γ =
    Σ X̂ G, ∂L/∂β = Σ G. Raises ValueError for another shape. (Ba et al., arXiv:1607.06450.)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        self.normalized_shape = _shape(normalized_shape)
        self._set_affine(self.normalized_shape, elementwise_affine, bias, eps)

    def forward(self, x: Array) -> Array:
        """γ X̂ + β."""
        self._check(x)
        axes = _last_axes(self, x, self.normalized_shape)
        y, scale, *_ = self._normalised(x, axes)
        self.keep(y, scale)
        return self._affine(y)

    def backward(self, grad: Array) -> Array:
        """∂L/∂X; adds ∂L/∂γ and ∂L/∂β."""
        check_floating(self, grad)
        y, scale = self.take()
        axes = tuple(range(grad.ndim - len(self.normalized_shape), grad.ndim))
        return self._back(self._share(grad, y), y, scale, axes)


class RMSNorm(Normalization):
    """Y = γ X / √(mean X² + ε), the mean of each sample over the last axes.

    Shapes: X and Y (…, *normalized_shape), γ normalized_shape. With G = ∂L/∂Y, D = γ G and X̂ =
    Y / γ, ∂L/∂X = (D - X̂ mean(D X̂)) / √(mean X² + ε), ∂L/∂γ = Σ X̂ G. Without `eps` it is the
    type's own, as PyTorch's. (Zhang, Sennrich, NeurIPS 2019.)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
    ) -> None:
        self.normalized_shape = _shape(normalized_shape)
        given = 0.0 if eps is None else eps
        self._set_affine(self.normalized_shape, elementwise_affine, False, given)
        self.eps = None if eps is None else self.eps

    def forward(self, x: Array) -> Array:
        """γ X̂."""
        self._check(x)
        xp, axes = self.backend.xp, _last_axes(self, x, self.normalized_shape)
        eps = float(xp.finfo(x.dtype).eps) if self.eps is None else self.eps
        scale = 1 / xp.sqrt((x * x).mean(axis=axes, keepdims=True) + eps)
        y = x * scale
        self.keep(y, scale)
        return self._affine(y)

    def backward(self, grad: Array) -> Array:
        """∂L/∂X; adds ∂L/∂γ."""
        check_floating(self, grad)
        y, scale = self.take()
        axes = tuple(range(grad.ndim - len(self.normalized_shape), grad.ndim))
        d = self._share(grad, y)
        return scale * (d - y * (d * y).mean(axis=axes, keepdims=True))


class GroupNorm(Normalization):
    """Y = γ (X - μ) / √(σ² + ε) + β, μ and σ² of each sample's groups of channels, over pixels too.

    Shapes: X and Y (N, …, C), γ, β (C,); C is `num_channels`, a multiple of `num_groups`. Gradients
    are `LayerNorm`'s, with means over a group's pixels and channels. Raises ValueError for another
    number of channels. (Wu, He, ECCV 2018.)
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        self.num_groups = positive_integer("num_groups", num_groups)
        self.num_channels = positive_integer("num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"num_channels must be a multiple of num_groups, got {num_channels} and "
                f"num_groups={num_groups}"
            )
        self._set_affine((self.num_channels,), affine, True, eps)

    def _grouped(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        """X as (N, …, groups, channels of a group), and the axes of a group."""
        shape = *x.shape[:-1], self.num_groups, self.num_channels // self.num_groups
        axes = *range(1, len(shape) - 2), len(shape) - 1
        return x.reshape(shape), tuple(axes)

    def forward(self, x: Array) -> Array:
        """γ X̂ + β."""
        self._check(x)
        if x.ndim < 2 or x.shape[-1] != self.num_channels:
            check_order(x, self.num_channels)
            raise ValueError(f"{self!r} takes (N, …, {self.num_channels}), got {tuple(x.shape)}")
        y, scale, *_ = self._normalised(*self._grouped(x))
        self.keep(y, scale)
        return self._affine(y.reshape(x.shape))

    def backward(self, grad: Array) -> Array:
        """∂L/∂X; adds ∂L/∂γ and ∂L/∂β."""
        check_floating(self, grad)
        y, scale = self.take()
        d, axes = self._grouped(self._share(grad, y.reshape(grad.shape)))
        return self._back(d, y, scale, axes).reshape(grad.shape)


def _shape(given: Any) -> tuple[int, ...]:
    several = given if isinstance(given, (list, tuple)) else [given]
    if not several:
        raise ValueError("normalized_shape needs one number at least")
    return tuple(positive_integer("every number of normalized_shape", n) for n in several)


def _last_axes(layer: Module, x: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of this shape; ValueError where x does not end with it."""
    if tuple(x.shape[x.ndim - len(shape) :]) != shape or x.ndim <= len(shape):
        if len(shape) == 1:
            check_order(x, *shape)
        raise ValueError(
            f"{layer!r} takes (N, …, {', '.join(map(str, shape))}), got {tuple(x.shape)}"
        )
    return tuple(range(x.ndim - len(shape), x.ndim))
