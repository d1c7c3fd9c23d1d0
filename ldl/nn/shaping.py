"""Layers that change a batch's shape: axes, borders, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ldl.backend import Array
from ldl.nn.module import Module, check_floating
from ldl.nn.pooling import along_axes
from ldl.numbers import integer, non_negative_integer, number, plain, positive_integer, short


class Reshape(Module):
    """(N, …) to (N, *shape), of which one number may be -1, for what is left; G takes X's shape."""

    def __init__(self, *shape: int) -> None:
        given = plain(shape[0]) if len(shape) == 1 else shape
        self.shape = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        for n in self.shape:
            if integer("every number of shape", n) < 1 and n != -1:
                raise ValueError(f"every number of shape must be positive, or -1, got {n}")
        if self.shape.count(-1) > 1:
            raise ValueError(f"shape has one -1 at most, got {self.shape}")

    def forward(self, x: Array) -> Array:
        """X as (N, *shape)."""
        check_floating(self, x)
        each, known = prod(x.shape[1:]), prod(map(abs, self.shape))
        if each % known or (each != known and -1 not in self.shape):
            raise ValueError(f"{self!r} cannot hold samples of {tuple(x.shape[1:])}")
        self.keep(tuple(x.shape))
        return x.reshape(len(x), *(each // known if n == -1 else n for n in self.shape))

    def backward(self, grad: Array) -> Array:
        """G in the shape of X."""
        check_floating(self, grad)
        return grad.reshape(self.take())


class Permute(Module):
    """Y = X.transpose(0, *dims): axes of a sample in another order, numbered from 1.

    `Permute(3, 1, 2)` makes (N, C, H, W) of (N, H, W, C). ∂L/∂X is G with its axes put back.
    """

    def __init__(self, *dims: int) -> None:
        given = plain(dims[0]) if len(dims) == 1 else dims
        self.dims = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        if sorted(integer("every number of dims", d) for d in self.dims) != [
            *range(1, len(self.dims) + 1)
        ]:
            raise ValueError(f"dims must be 1 to the number of axes in some order, got {self.dims}")

    def _moved(self, x: Array, dims: Sequence[int]) -> Array:
        check_floating(self, x)
        if x.ndim != len(dims) + 1:
            raise ValueError(f"{self!r} takes {len(dims) + 1} axes, got {tuple(x.shape)}")
        return x.transpose(0, *dims).copy()

    def forward(self, x: Array) -> Array:
        """X with its axes in that order."""
        y = self._moved(x, self.dims)
        self.keep(None)
        return y

    def backward(self, grad: Array) -> Array:
        """G with its axes put back."""
        self.take()
        return self._moved(grad, [self.dims.index(d) + 1 for d in range(1, len(self.dims) + 1)])


class ZeroPad(Module):
    """Zeros round the pixels of (N, L, C), (N, H, W, C) or more axes; ∂L/∂X is G without them.

    `padding` is one number, for both ends of every axis; (before, after), for every axis; or such a
    pair for each, as ((top, bottom), (left, right)).
    """

    def __init__(self, padding: int | Sequence[Any]) -> None:
        given = plain(padding)
        pairs = [given] if isinstance(given, (list, tuple)) else [(given, given)]
        if isinstance(given, (list, tuple)) and any(isinstance(p, (list, tuple)) for p in given):
            pairs = list(given)
        if not pairs or any(not isinstance(p, (list, tuple)) or len(p) != 2 for p in pairs):
            raise ValueError(f"padding must be a number or pairs of numbers, got {short(padding)}")
        self.padding = padding
        self.pairs = tuple(tuple(non_negative_integer("padding", n) for n in p) for p in pairs)

    def _pairs(self, x: Array) -> tuple[Any, ...]:
        """(before, after) of each axis of pixels."""
        check_floating(self, x)
        axes = x.ndim - 2
        if axes < 1 or len(self.pairs) not in (1, axes):
            raise ValueError(f"{self!r} does not fit the axes of {tuple(x.shape)}")
        return self.pairs * axes if len(self.pairs) == 1 else self.pairs

    def forward(self, x: Array) -> Array:
        """X with zeros round it."""
        pairs = self._pairs(x)
        self.keep(pairs)
        return self.backend.xp.pad(x, ((0, 0), *pairs, (0, 0)))

    def backward(self, grad: Array) -> Array:
        """G without what was put round X."""
        check_floating(self, grad)
        ends = zip(self.take(), grad.shape[1:-1], strict=True)
        return grad[(slice(None), *(slice(a, n - b) for (a, b), n in ends))].copy()


class Upsample(Module):
    """Images and sequences of another size: Y = A X along each axis of pixels, ∂L/∂X = Aᵀ ∂L/∂Y.

    Shapes: X (N, L, C), (N, H, W, C) or of more axes, Y with `size` pixels along each, or with
    ⌊n scale_factor⌋; both are a number or one for each axis. Of `mode` "nearest" A picks pixel
    ⌊i r⌋ for pixel i, r being the ratio of the sizes, or 1 / scale_factor; of "linear" and
    "bilinear", the same, it weighs the two pixels beside (i + ½) r - ½ or, with `align_corners`,
    beside i (n - 1) / (m - 1) for n pixels made m, so that first and last ones stay. These are
    PyTorch's numbers. Whole factors of "nearest" repeat pixels; else A is a matrix.
    """

    def __init__(
        self,
        scale_factor: float | Sequence[float] | None = None,
        size: int | Sequence[int] | None = None,
        mode: str = "nearest",
        align_corners: bool = False,
    ) -> None:
        if (scale_factor is None) == (size is None):
            raise ValueError("Upsample needs scale_factor or size, and not both")
        if mode not in ("nearest", "linear", "bilinear"):
            raise ValueError(f"mode must be 'nearest', 'linear' or 'bilinear', got {mode!r}")
        if align_corners and mode == "nearest":
            raise ValueError("align_corners is for mode 'linear' or 'bilinear'")
        self.scale_factor, self.size, self.mode = scale_factor, size, mode
        self.align_corners = bool(align_corners)
        self._scales, self._sizes = None, None
        if scale_factor is not None:
            given = _each(scale_factor)
            self._scales = [number("scale_factor", s, open_low=True) for s in given]
        else:
            self._sizes = [positive_integer("size", n) for n in _each(size)]

    def _ratios(self, image: Sequence[int]) -> tuple[list[int], list[float]]:
        """The size of the output along each axis, and how far apart its pixels are in X."""
        known: Any = self._scales or self._sizes
        if len(known) not in (1, len(image)):
            raise ValueError(f"{self!r} does not fit images of {len(image)} axes")
        every = list(zip(image, known * len(image) if len(known) == 1 else known, strict=True))
        if self._scales is None:
            return [m for _, m in every], [n / m for n, m in every]
        return [max(1, int(n * s)) for n, s in every], [1 / s for _, s in every]

    def _maps(self, image: tuple[int, ...], dtype: Any) -> list[Array]:
        """A (m, n) of each axis."""
        xp, found = self.backend.xp, []
        for n, m, ratio in zip(image, *self._ratios(image), strict=True):
            i, j = xp.arange(m, dtype="float64")[:, None], xp.arange(n, dtype="float64")
            if self.mode == "nearest":
                a = j == xp.minimum(xp.floor(i * ratio), n - 1)
            else:
                at = (i + 0.5) * ratio - 0.5
                if self.align_corners:
                    at = i * ((n - 1) / max(m - 1, 1))
                at = xp.minimum(xp.maximum(at, 0), n - 1)
                a = xp.maximum(1 - xp.abs(at - j), 0)
            found.append(a.astype(dtype))
        return found

    def _repeats(self, image: tuple[int, ...]) -> list[int] | None:
        """How often each pixel is repeated along each axis; None where that is not all."""
        every = list(zip(image, *self._ratios(image), strict=True))
        whole = all(m % n == 0 and ratio == n / m for n, m, ratio in every)
        return [m // n for n, m, _ in every] if whole and self.mode == "nearest" else None

    def forward(self, x: Array) -> Array:
        """A X."""
        check_floating(self, x)
        if x.ndim < 3 or 0 in x.shape[1:-1]:
            raise ValueError(f"{self!r} takes (N, L, C) or (N, H, W, C), got {tuple(x.shape)}")
        image = tuple(int(n) for n in x.shape[1:-1])
        self.keep(image)
        repeats = self._repeats(image)
        if repeats is None:
            return along_axes(self.backend.xp, x, self._maps(image, x.dtype))
        for axis, k in enumerate(repeats, start=1):
            x = self.backend.xp.repeat(x, k, axis=axis)
        return x

    def backward(self, grad: Array) -> Array:
        """Aᵀ G."""
        check_floating(self, grad)
        image = self.take()
        repeats = self._repeats(image)
        if repeats is None:
            maps = [a.T for a in self._maps(image, grad.dtype)]
            return along_axes(self.backend.xp, grad, maps)
        pairs = [length for pair in zip(image, repeats, strict=True) for length in pair]
        each = tuple(range(2, 2 * len(image) + 1, 2))
        return grad.reshape(len(grad), *pairs, grad.shape[-1]).sum(axis=each)


def _each(given: Any) -> list[Any]:
    found = plain(given)
    return list(found) if isinstance(found, (list, tuple)) else [found]
