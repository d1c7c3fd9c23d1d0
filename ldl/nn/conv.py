"""Convolutions and their transposes, channels last."""

from __future__ import annotations

from typing import Any, ClassVar

from ldl.backend import Array, Window
from ldl.nn import init
from ldl.nn.images import Sizes, Windowed, check_images, sizes
from ldl.nn.linear import check_type
from ldl.nn.module import check_floating
from ldl.nn.parameter import Parameter
from ldl.numbers import positive_integer


class _Convolution(Windowed):
    """What a convolution and its transpose share: options, weight and bias."""

    def _set_channels(self, in_channels: Any, out_channels: Any, groups: Any) -> None:
        self.in_channels = positive_integer("in_channels", in_channels)
        self.out_channels = positive_integer("out_channels", out_channels)
        self.groups = positive_integer("groups", groups)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"{name} must be a multiple of groups, got {getattr(self, name)} and "
                    f"groups={self.groups}"
                )

    def _set_parameters(self, weight: Any, bias: bool) -> None:
        self.weight = Parameter(weight)
        self.bias = Parameter(init.zeros((self.out_channels,))) if bias else None

    @property
    def _kernel(self) -> Array:
        """The weight with two axes of pixels."""
        data = self.weight.data
        return data.reshape(1, *data.shape) if self.axes == 1 else data

    weight: Parameter

    def _checked(self, x: Array, channels: int) -> None:
        check_images(self, x, self.axes, channels)
        check_type(self, x, self.weight)

    def _gradients(self, x: Array, grad: Array, biased: Array, window: Window) -> None:
        """Add to those of the weight, of a convolution from x to grad, and of the bias."""
        if self.bias is not None:
            self.bias.accumulate_rows(biased.reshape(-1, self.out_channels))
        self.weight.accumulate_conv(x, grad, window)


class _Conv(_Convolution):
    """A convolution over `axes` axes."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        weight_init: str = "xavier_uniform",
    ) -> None:
        self._set_window(kernel_size, stride, padding, dilation)
        self._set_channels(in_channels, out_channels, groups)
        shape = *self.kernel_size, self.in_channels // self.groups, self.out_channels
        self._set_parameters(init.get(weight_init)(shape), bias)

    def forward(self, x: Array) -> Array:
        """The convolution."""
        self._checked(x, self.in_channels)
        window = self._window(x.shape[1:-1], self.groups)
        self._check_fits(x, window)
        x = self._flat(x)
        self.keep(x, window)
        bias = None if self.bias is None else self.bias.data
        return self._shaped(self.backend.conv(x, self._kernel, bias, window))

    def backward(self, grad: Array) -> Array:
        """Adds dW and db; returns dX."""
        check_floating(self, grad)
        x, window = self.take()
        grad = self._flat(grad)
        self._gradients(x, grad, grad, window)
        image = tuple(x.shape[1:3])
        return self._shaped(self.backend.conv_input(grad, self._kernel, window, image))


class Conv1d(_Conv):
    """Y[n, i, o] = b[o] + Σ_{k, c} X[n, i s + k d - p, c] W[k, c, o]: s, d, p as options are named.

    Shapes: X (N, L, in_channels), W (kernel_size, in_channels / groups, out_channels), b
    (out_channels,), Y (N, ⌊(L + 2p - d (k - 1) - 1) / s⌋ + 1, out_channels). Gradients, for
    G = ∂L/∂Y: dW[k, c, o] = Σ_{n, i} X[n, i s + k d - p, c] G[n, i, o], db = Σ_{n, i} G,
    dX[n, j, c] = Σ G[n, i, o] W[k, c, o] over the i, k with i s + k d - p = j.

    `padding` is a number, "valid" or "same". With `groups` each channel sees the o of its own group
    only; as many groups as channels make it depthwise. `weight_init` names an initialiser of
    `ldl.nn.init`; the bias starts at zero. Raises ValueError for another order of axes, other
    channels, or sequences shorter than a window, TypeError for another type than the weight's.
    """

    axes: ClassVar[int] = 1


class Conv2d(_Conv):
    """Y[n, i, j, o] = b[o] + Σ_{k, l, c} X[n, i s + k d - p, j s + l d - p, c] W[k, l, c, o].

    s, d and p, strides, dilations and paddings, are one number or one for each axis; padding may be
    "valid" or "same" too. Shapes: X (N, H, W, in_channels), W (kh, kw, in_channels / groups,
    out_channels), b (out_channels,), Y (N, OH, OW, out_channels), OH = ⌊(H + 2p - d (kh - 1) - 1)
    / s⌋ + 1. Gradients, for G = ∂L/∂Y: dW[k, l, c, o] = Σ_{n, i, j} X[n, i s + k d - p, j s + l d -
    p, c] G[n, i, j, o], db = Σ_{n, i, j} G, and dX gets G[n, i, j, o] W[k, l, c, o] where X was
    read.

    Groups, initialisers and errors are as in `Conv1d`.
    """

    axes: ClassVar[int] = 2


class _ConvTranspose(_Convolution):
    """The transpose of a convolution over `axes` axes."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        weight_init: str = "xavier_uniform",
    ) -> None:
        self._set_window(kernel_size, stride, padding, dilation)
        self._set_channels(in_channels, out_channels, groups)
        self.output_padding = sizes("output_padding", output_padding, self.axes, 0)
        self._check_output_padding()
        shape = *self.kernel_size, self.in_channels, self.out_channels // self.groups
        self._set_parameters(init.get(weight_init)(shape).swapaxes(-1, -2), bias)

    def _check_output_padding(self) -> None:
        every = zip(self.output_padding, self.stride, self.dilation, strict=True)
        if any(extra >= max(s, d) for extra, s, d in every):
            raise ValueError(
                f"output_padding must be smaller than stride or dilation, got "
                f"{self.output_padding} and stride={self.stride}"
            )
        if self.padding == "same" and any(self.output_padding):
            raise ValueError("padding='same' says how long the output is: leave output_padding out")

    def _output(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """The size of what is made of images of a size."""
        if self.padding == "same":
            return tuple(n * s for n, s in zip(image, self.stride, strict=True))
        pads, rest = self._pads(image), (self.kernel_size, self.stride, self.dilation)
        every = zip(image, pads, self.output_padding, *rest, strict=True)
        return tuple(
            (n - 1) * s - sum(p) + d * (k - 1) + 1 + extra for n, p, extra, k, s, d in every
        )

    def forward(self, x: Array) -> Array:
        """The transposed convolution."""
        self._checked(x, self.in_channels)
        size = self._output(tuple(int(n) for n in x.shape[1:-1]))
        if min(size) < 1 or not min(x.shape[1:-1]):
            raise ValueError(f"{self!r} makes nothing of {tuple(x.shape[1:-1])}: pad less")
        window = self._window(size, self.groups)
        pixels = x.shape[1:-1]
        more = [(0, extra // s) for extra, s in zip(self.output_padding, self.stride, strict=True)]
        if any(map(any, more)):  # places of the window that the output has and x has not
            x = self.backend.xp.pad(x, ((0, 0), *more, (0, 0)))
        x = self._flat(x)
        self.keep(x, window, pixels)
        image = (1, size[0]) if self.axes == 1 else (size[0], size[1])
        y = self.backend.conv_input(x, self._kernel, window, image)
        if self.bias is not None:
            y += self.bias.data
        return self._shaped(y)

    def backward(self, grad: Array) -> Array:
        """Adds dW and db; returns dX."""
        check_floating(self, grad)
        x, window, pixels = self.take()
        grad = self._flat(grad)
        self._gradients(grad, x, grad, window)
        dx = self._shaped(self.backend.conv(grad, self._kernel, None, window))
        return dx[(slice(None), *(slice(n) for n in pixels))]


class ConvTranspose1d(_ConvTranspose):
    """The transpose of `Conv1d`: Y[n, i s + k d - p, o] gets Σ_c X[n, i, c] W[k, o, c], and b[o].

    Shapes: X (N, L, in_channels), W (kernel_size, out_channels / groups, in_channels), b
    (out_channels,), Y (N, (L - 1) s - 2p + d (k - 1) + 1 + output_padding, out_channels), or
    (N, L s, out_channels) for padding "same". Gradients, for G = ∂L/∂Y: dX is the convolution of G
    by W, dW[k, o, c] = Σ_{n, i} G[n, i s + k d - p, o] X[n, i, c], db = Σ_{n, i} G.

    Options and errors are as in `Conv1d`; `output_padding` is less than the stride or the dilation.
    """

    axes: ClassVar[int] = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d`: Y[n, i s + k d - p, j s + l d - p, o] gets Σ X[n, i, j, c] W.

    The sum goes over c, of W[k, l, o, c]; b[o] is added. Shapes: X (N, H, W, in_channels), W (kh,
    kw, out_channels / groups, in_channels), b (out_channels,), Y (N, OH, OW, out_channels) with
    OH = (H - 1) s - 2p + d (kh - 1) + 1 + output_padding, or H s for padding "same". Gradients, for
    G = ∂L/∂Y: dX is the convolution of G by W, dW[k, l, o, c] = Σ_{n, i, j} G[n, i s + k d - p,
    j s + l d - p, o] X[n, i, j, c], db = Σ_{n, i, j} G.

    Options and errors are as in `ConvTranspose1d`.
    """

    axes: ClassVar[int] = 2
