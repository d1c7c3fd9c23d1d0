"""Kernels: convolutions and maxima of windows, channels last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ldl.kernels.products import Products
from ldl.kernels.types import Array

SLICE = 2**20
"""Numbers of windows that generic convolutions write out at a time: 4 MiB of float32."""

Pair = tuple[int, int]


class Window(NamedTuple):
    """A window that moves over an image, (rows, columns) of everything.

    Between its neighbours lie `dilation` pixels, between its places `stride`; `padding` is what is
    put round the image, before and after. Channels are convolved in `groups` of their own.
    """

    size: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    def output(self, image: Pair) -> Pair:
        """How many places there are in an image."""
        every = zip(image, self.size, self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (max(0, (n + sum(p) - d * (k - 1) - 1) // s + 1) for n, k, s, p, d in every)
        return rows, columns

    @property
    def taps(self) -> list[Pair]:
        """The row and the column of each of its pixels, from its first one."""
        (rows, columns), (down, across) = self.size, self.dilation
        return [(i * down, j * across) for i in range(rows) for j in range(columns)]

    def sees(self, image: Pair) -> bool:
        """Whether it sees a pixel of the image wherever it is."""
        rest = self.output(image), self.size, self.stride, self.padding, self.dilation
        every = zip(image, *rest, strict=True)
        return not any(map(any, self.padding)) or all(
            any(0 <= i * s + k * d - before < n for k in range(size))
            for n, places, size, s, (before, _), d in every
            for i in range(places)
        )

    @property
    def place_type(self) -> str:
        """The type of the numbers of its pixels."""
        return "uint8" if len(self.taps) <= 256 else "uint16"

    @property
    def one_pixel(self) -> bool:
        """Whether it is a pixel that goes over all, so that a convolution is a matrix product."""
        return self == Window((1, 1))

    def seen(self, tap: Pair, places: Pair, first: int = 0) -> tuple[Any, ...]:
        """The index of what a pixel of it sees of a padded image, from a row of places on."""
        (i, j), (down, across), (rows, columns) = tap, self.stride, places
        i += first * down
        ends = i + down * (rows - 1) + 1, j + across * (columns - 1) + 1
        return slice(None), slice(i, ends[0], down), slice(j, ends[1], across)

    def padded(self, xp: Any, x: Array, value: float = 0.0) -> Array:
        """The images with what is put round them."""
        if not any(map(any, self.padding)):
            return x
        return xp.pad(x, ((0, 0), *self.padding, (0, 0)), constant_values=value)

    def unpadded(self, x: Array) -> Array:
        """The images without it."""
        (top, bottom), (left, right) = self.padding
        return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]

    def enlarged(self, image: Pair) -> Pair:
        """The size of an image with its padding."""
        rows, columns = (n + sum(p) for n, p in zip(image, self.padding, strict=True))
        return rows, columns


class Images(Products):
    """Of images (N, H, W, C). Weights are (kh, kw, C / groups, O), outputs (N, OH, OW, O).

    A convolution is the matrix product of the windows, one a row, and the weight. The generic
    bodies write out at most `SLICE` numbers of windows at a time, or those of one row of places.
    """

    def conv(self, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
        """Y[n, i, j, o] = b[o] + Σ X[n, i s + k d - p, j s + l d - p, c] W[k, l, c, o].

        The sum goes over the window's rows k, columns l and the channels c of o's group; s, d and p
        are strides, dilations and paddings of the two axes. Pixels outside are 0.
        """
        n, *image, c = x.shape
        o = weight.shape[-1]
        if window.one_pixel:
            return self.linear(x.reshape(-1, c), weight.reshape(c, o), bias).reshape(n, *image, o)
        places = window.output((image[0], image[1]))
        w = self._by_groups(weight, window)
        out = self.xp.empty((n, *places, o), dtype=x.dtype)
        for at, rows, columns in self._windows(x, window, places):
            y = self.matmul(columns, w)
            out[at, rows] = self._together(y).reshape(out[at, rows].shape)
        if bias is not None:
            out += bias
        return out

    def conv_weight(
        self,
        x: Array,
        grad: Array,
        window: Window,
        out: Array = None,
        accumulate: bool = False,
    ) -> Array:
        """∂L/∂W, of G = ∂L/∂Y: Σ X[n, i s + k d - p, j s + l d - p, c] G[n, i, j, o] over n, i, j.

        Into `out` where given, added to what it holds with `accumulate`.
        """
        c, o, groups = x.shape[-1], grad.shape[-1], window.groups
        shape = (*window.size, c // groups, o)
        if out is None:
            out = self.xp.empty(shape, dtype=x.dtype)
        if not accumulate:
            out[...] = 0
        for at, rows, columns in self._windows(x, window, grad.shape[1:3]):
            g = grad[at, rows].reshape(-1, groups, o // groups).transpose(1, 0, 2)
            dw = self.matmul(columns.transpose(0, 2, 1), g)
            out += dw.transpose(1, 0, 2).reshape(shape)
        return out

    def conv_input(self, grad: Array, weight: Array, window: Window, image: Pair) -> Array:
        """∂L/∂X, of images (H, W), from G = ∂L/∂Y: each G[n, i, j] W goes where its window was."""
        n, *_, o = grad.shape
        c = weight.shape[2] * window.groups
        if window.one_pixel:
            dx = self.matmul(grad.reshape(-1, o), weight.reshape(c, o).T)
            return dx.reshape(n, *image, c)
        places = window.output(image)
        w = self._by_groups(weight, window).transpose(0, 2, 1)
        dx = self.xp.zeros((n, *window.enlarged(image), c), dtype=grad.dtype)
        for at, rows in self._pieces(n, places, len(window.taps) * c):
            g = grad[at, rows]
            shape = g.shape[:3]
            g = g.reshape(-1, window.groups, o // window.groups).transpose(1, 0, 2)
            d = self.matmul(g, w).reshape(window.groups, *shape, len(window.taps), -1)
            for t, tap in enumerate(window.taps):
                there = window.seen(tap, shape[1:], rows.start)[1:]
                dx[(at, *there)] += self._together(d[..., t, :])
        return window.unpadded(dx)

    def max_pool(self, x: Array, window: Window) -> tuple[Array, Array]:
        """The maximum of each window and channel, and which of its pixels that is, the first one.

        NaN is the maximum of what has it. What is put round an image never is; a window that sees
        nothing else has -inf, and its first pixel.
        """
        xp, places = self.xp, window.output(x.shape[1:3])
        padded = window.padded(xp, x)
        inside = window.padded(xp, xp.ones((1, *x.shape[1:3], 1), dtype=bool), False)
        shape = (len(x), *places, x.shape[-1])
        y = xp.full(shape, -xp.inf, dtype=x.dtype)
        where = xp.zeros(shape, dtype=window.place_type)
        found = xp.zeros((1, *places, 1), dtype=bool)
        numbers = xp.arange(len(window.taps)).astype(where.dtype)
        for t, tap in enumerate(window.taps):
            at = window.seen(tap, places)
            value, real = padded[at], inside[at]
            better = real & ((value > y) | ((value != value) & (y == y)) | ~found)
            y = xp.where(better, value, y)
            where = xp.where(better, numbers[t], where)
            found |= real
        return y, where

    def max_pool_input(self, grad: Array, where: Array, window: Window, image: Pair) -> Array:
        """∂L/∂X, of images (H, W), of G = ∂L/∂Y: each G goes to the pixel that was the maximum."""
        n, *places, c = grad.shape
        dx = self.xp.zeros((n, *window.enlarged(image), c), dtype=grad.dtype)
        for t, tap in enumerate(window.taps):
            dx[window.seen(tap, (places[0], places[1]))] += self.xp.where(where == t, grad, 0)
        return window.unpadded(dx)

    # ---- windows as rows of matrices ----------------------------------------------------------

    @staticmethod
    def _pieces(n: int, places: Pair, width: int) -> Iterator[tuple[slice, slice]]:
        """Images and rows of places whose windows, of so many numbers, make `SLICE` numbers."""
        rows, columns = places
        line = max(1, columns * width)
        images = max(1, SLICE // max(1, rows * line))
        down = rows if images > 1 else max(1, min(rows, SLICE // line))
        for first in range(0, n, images):
            for top in range(0, rows, max(1, down)):
                yield slice(first, min(n, first + images)), slice(top, min(rows, top + down))

    def _windows(
        self, x: Array, window: Window, places: Pair
    ) -> Iterator[tuple[slice, slice, Array]]:
        """Images, rows of places, and their windows (groups, places, taps C / groups)."""
        xp, c, groups = self.xp, x.shape[-1], window.groups
        padded, taps = window.padded(xp, x), window.taps
        for at, rows in self._pieces(len(x), places, len(taps) * c):
            shape = at.stop - at.start, rows.stop - rows.start, places[1]
            columns = xp.empty((groups, *shape, len(taps), c // groups), dtype=x.dtype)
            for t, tap in enumerate(taps):
                part = padded[at][window.seen(tap, shape[1:], rows.start)]
                columns[..., t, :] = part.reshape(*shape, groups, -1).transpose(3, 0, 1, 2, 4)
            yield at, rows, columns.reshape(groups, -1, len(taps) * c // groups)

    @staticmethod
    def _by_groups(weight: Array, window: Window) -> Array:
        """The weight as (groups, taps C / groups, O / groups)."""
        *_, c, o = weight.shape
        groups = window.groups
        return weight.reshape(len(window.taps) * c, groups, o // groups).transpose(1, 0, 2)

    @staticmethod
    def _together(y: Array) -> Array:
        """(groups, …, channels of a group) as (…, channels)."""
        if len(y) == 1:
            return y[0]
        y = y.transpose(*range(1, y.ndim - 1), 0, y.ndim - 1)
        return y.reshape(*y.shape[:-2], -1)
