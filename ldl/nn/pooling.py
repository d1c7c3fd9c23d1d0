"""Pooling: maxima and means of windows, channels last."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

from ldl.backend import Array, Window
from ldl.nn.images import Sizes, Windowed, check_images, sizes
from ldl.nn.masks import padding
from ldl.nn.module import Module, check_floating


class _Pool(Windowed):
    """Windows of every channel by itself, as far apart as they are long if nothing else is said."""

    ceil_mode: bool

    def _set_pool(
        self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, dilation: Any = 1
    ) -> None:
        self.ceil_mode = bool(ceil_mode) and padding != "same"  # which is as long as it can be
        self._set_window(kernel_size, kernel_size if stride is None else stride, padding, dilation)
        if isinstance(self.padding, tuple):
            every = zip(self.padding, self.kernel_size, strict=True)
            if any(2 * p > k for p, k in every):
                raise ValueError(
                    f"padding must be at most half of kernel_size, got {self.padding} and "
                    f"{self.kernel_size}"
                )

    def _pads(self, image: Sequence[int]) -> list[tuple[int, int]]:
        """With `ceil_mode` more after, for a last window that begins in what there is."""
        pads = super()._pads(image)
        if not self.ceil_mode:
            return pads
        found = []
        every = zip(image, pads, self.kernel_size, self.stride, self.dilation, strict=True)
        for n, (p, _), k, s, d in every:
            reach = d * (k - 1) + 1
            last = -(-(n + 2 * p - reach) // s)
            last -= last * s >= n + p
            found.append((p, max(p, last * s + reach - n - p)))
        return found

    def _begin(self, x: Array) -> tuple[Array, Window]:
        """The images and their window."""
        check_images(self, x, self.axes)
        window = self._window(x.shape[1:-1])
        self._check_fits(x, window)
        return self._flat(x), window


class _MaxPool(_Pool):
    """Maxima over `axes` axes."""

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
    ) -> None:
        self._set_pool(kernel_size, stride, padding, ceil_mode, dilation)

    def forward(self, x: Array) -> Array:
        """The maximum of each window."""
        x, window = self._begin(x)
        y, where = self.backend.max_pool(x, window)
        self.keep(where, window, tuple(x.shape[1:3]))
        return self._shaped(y)

    def backward(self, grad: Array) -> Array:
        """G at the maximum of each window."""
        check_floating(self, grad)
        where, window, image = self.take()
        grad = grad.reshape(where.shape)
        return self._shaped(self.backend.max_pool_input(grad, where, window, image))


class MaxPool1d(_MaxPool):
    """Y[n, i, c] = max_k X[n, i s + k d - p, c]; what is put round a sequence is never the maximum.

    Shapes: X (N, L, C), Y (N, ⌊(L + 2p - d (k - 1) - 1) / s⌋ + 1, C). ∂L/∂X gets G = ∂L/∂Y where
    the maximum was, the first one of several; a NaN is the maximum of what has it. `stride` is
    `kernel_size` where it is left out; `padding`, half of it at most, may be "same". With
    `ceil_mode` ⌊⌋ is ⌈⌉, of windows that begin in X or before it. Raises ValueError for another
    number of axes and for sequences shorter than a window.
    """

    axes: ClassVar[int] = 1


class MaxPool2d(_MaxPool):
    """Y[n, i, j, c] = max_{k, l} X[n, i s + k d - p, j s + l d - p, c].

    Shapes: X (N, H, W, C), Y (N, OH, OW, C) with OH = ⌊(H + 2p - d (kh - 1) - 1) / s⌋ + 1. Options,
    gradient and errors are as in `MaxPool1d`; each option is one number or one for each axis.
    """

    axes: ClassVar[int] = 2


class _AvgPool(_Pool):
    """Means over `axes` axes."""

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes | str = 0,
        count_include_pad: bool = True,
        ceil_mode: bool = False,
    ) -> None:
        self._set_pool(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = count_include_pad

    def _share(self, window: Window, image: tuple[int, int], dtype: Any) -> Any:
        """What each pixel of a window counts: a number, or one for each place (OH, OW, 1)."""
        padded = any(map(any, window.padding)) and not self.count_include_pad
        if not padded and not self.ceil_mode:
            return 1 / len(window.taps)
        xp, along = self.backend.xp, []
        rest = window.size, window.stride, window.padding, window.output(image)
        for n, k, s, (before, _), count in zip(image, *rest, strict=True):
            start, pad = xp.arange(count) * s - before, 0 if padded else before
            along.append(xp.minimum(start + k, n + pad) - xp.maximum(start, -pad))
        return (1 / (along[0][:, None] * along[1])).astype(dtype)[:, :, None]

    def forward(self, x: Array) -> Array:
        """The mean of each window."""
        x, window = self._begin(x)
        image = tuple(x.shape[1:3])
        places, padded = window.output(image), window.padded(self.backend.xp, x)
        total = None
        for tap in window.taps:
            part = padded[window.seen(tap, places)]
            total = part if total is None else total + part
        share = self._share(window, image, x.dtype)
        self.keep(window, image, share)
        return self._shaped(total * share)

    def backward(self, grad: Array) -> Array:
        """G, shared by the pixels of its window."""
        check_floating(self, grad)
        window, image, share = self.take()
        n, *_, c = grad.shape
        places = window.output(image)
        g = grad.reshape(n, *places, c) * share
        dx = self.backend.xp.zeros((n, *window.enlarged(image), c), dtype=grad.dtype)
        for tap in window.taps:
            dx[window.seen(tap, places)] += g
        return self._shaped(window.unpadded(dx))


class AvgPool1d(_AvgPool):
    """Y[n, i, c] = Σ_k X[n, i s + k - p, c] / K, K the kernel's size.

    Shapes: X (N, L, C), Y (N, ⌊(L + 2p - k) / s⌋ + 1, C). ∂L/∂X[n, j, c] = Σ G[n, i, c] / K over
    the windows i that j is in. The zeros of the padding count, unless `count_include_pad` is False:
    K is then the number of real ones. What `ceil_mode` adds beyond never counts. `stride` is
    `kernel_size` where it is left out; errors are as in `MaxPool1d`.
    """

    axes: ClassVar[int] = 1


class AvgPool2d(_AvgPool):
    """Y[n, i, j, c] = Σ_{k, l} X[n, i s + k - p, j s + l - p, c] / K, K the pixels of the kernel.

    Shapes: X (N, H, W, C), Y (N, OH, OW, C) with OH = ⌊(H + 2p - kh) / s⌋ + 1. Options, gradient
    and errors are as in `AvgPool1d`.
    """

    axes: ClassVar[int] = 2


class _AdaptiveAvgPool(Module):
    """Means of as many windows as are asked for."""

    axes: ClassVar[int]

    def __init__(self, output_size: Sizes) -> None:
        self.output_size = sizes("output_size", output_size, self.axes)

    def _maps(self, image: Sequence[int], dtype: Any) -> list[Array]:
        """A (m, n) of each axis: row i has 1 / length where window i is."""
        xp, found = self.backend.xp, []
        for n, count in zip(image, self.output_size, strict=True):
            i, j = xp.arange(count)[:, None], xp.arange(n)
            first, last = i * n // count, ((i + 1) * n + count - 1) // count
            found.append(((j >= first) & (j < last)).astype(dtype) / (last - first).astype(dtype))
        return found

    def forward(self, x: Array) -> Array:
        """The means."""
        check_images(self, x, self.axes)
        image = tuple(x.shape[1:-1])
        if 0 in image:
            raise ValueError(f"{self!r} takes images with pixels, got {tuple(x.shape)}")
        self.keep(image)
        return along_axes(self.backend.xp, x, self._maps(image, x.dtype))

    def backward(self, grad: Array) -> Array:
        """G, shared by the pixels of its window."""
        check_floating(self, grad)
        maps = self._maps(self.take(), grad.dtype)
        return along_axes(self.backend.xp, grad, [a.T for a in maps])


def along_axes(xp: Any, x: Array, maps: Sequence[Array]) -> Array:
    """Y = A X along each axis of pixels, A (m, n) one of the `maps`."""
    for axis, a in enumerate(maps, start=1):
        before, n, after = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :])
        y = xp.matmul(a, x.reshape(before, n, after))
        x = y.reshape(*x.shape[:axis], a.shape[0], *x.shape[axis + 1 :])
    return x


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means of `output_size` windows, window i from ⌊i L / m⌋ to ⌈(i + 1) L / m⌉, m their number.

    Shapes: X (N, L, C), Y (N, m, C). Y = A X for each sample, A[i, j] = 1 / length of window i
    where j is in it; ∂L/∂X = Aᵀ ∂L/∂Y. Both are matrix products, so that a NaN or an infinity
    reaches all windows of its sample and channel.
    """

    axes: ClassVar[int] = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of windows as in `AdaptiveAvgPool1d`, along rows and along columns.

    Shapes: X (N, H, W, C), Y (N, *output_size, C). ∂L/∂X is the transposed map of ∂L/∂Y.
    """

    axes: ClassVar[int] = 2


class GlobalAvgPool(Module):
    """Y[n, c] = the mean of X[n, …, c], over all axes of pixels; ∂L/∂X = G / their number.

    Shapes: X (N, L, C), (N, H, W, C) or of more axes, Y (N, C). With a `key_padding_mask`
    (N, L) the mean is over the places where that is False, and 0 where there is none.
    """

    takes_padding = True

    def forward(self, x: Array, key_padding_mask: Array | None = None) -> Array:
        """The mean of each channel, over the places that are no padding."""
        check_floating(self, x)
        if x.ndim < 3 or 0 in x.shape[1:-1]:
            raise ValueError(f"GlobalAvgPool takes (N, L, C) or (N, H, W, C), got {tuple(x.shape)}")
        if key_padding_mask is not None:
            xp, sizes = self.backend.xp, x.shape[:-1]
            if len(sizes) != 2:
                raise ValueError(f"key_padding_mask is for (N, L, C), got {tuple(x.shape)}")
            hidden = padding(self, key_padding_mask, *sizes)[:, :, None]
            count = xp.maximum(xp.where(hidden, 0, 1).sum(axis=1), 1).astype(x.dtype)
            self.keep(tuple(x.shape), hidden, count)
            return xp.where(hidden, 0, x).sum(axis=1) / count
        self.keep(tuple(x.shape), None, None)
        return x.mean(axis=tuple(range(1, x.ndim - 1)))

    def backward(self, grad: Array) -> Array:
        """G, shared by all pixels."""
        check_floating(self, grad)
        shape, hidden, count = self.take()
        if hidden is not None:
            return self.backend.xp.where(hidden, 0, (grad / count)[:, None, :])
        share = grad.reshape(shape[0], *(1,) * (len(shape) - 2), shape[-1]) / prod(shape[1:-1])
        return self.backend.xp.broadcast_to(share, shape).copy()
