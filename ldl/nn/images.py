"""What layers of images and sequences share: their options, their checks, their windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ldl.backend import Array, Window
from ldl.nn.module import Module, check_floating
from ldl.numbers import integer, plain, short

Sizes = int | Sequence[int]


def sizes(name: str, value: Any, axes: int, low: int = 1) -> tuple[int, ...]:
    """A number for each axis: those of a list or a tuple, or one for all; ValueError otherwise."""
    given = plain(value)
    several = isinstance(given, (list, tuple))
    if several and len(given) != axes:
        every = f"one integer or {axes}" if axes > 1 else "one integer"
        raise ValueError(f"{name} must be {every}, got {short(value)}")
    kind = "a positive integer" if low == 1 else "an integer that is not negative"
    if not several:
        return (integer(name, given, low, kind),) * axes
    return tuple(integer(f"every number of {name}", n, low, kind) for n in given)


def check_images(layer: Module, x: Array, axes: int, channels: int | None = None) -> None:
    """ValueError for another shape than (N, L, C) or (N, H, W, C), of so many channels."""
    check_floating(layer, x)
    shape = tuple(x.shape)
    if x.ndim == axes + 2:
        if channels is None or shape[-1] == channels:
            return
        check_order(x, channels)
    if x.ndim == axes + 1 and channels is not None:
        if shape[-1] == channels:
            raise ValueError(f"{layer!r} takes a batch, got {shape}: give one sample as x[None]")
        if channels == 1:
            raise ValueError(f"got {shape}: ldl takes channels last, x[..., None]")
    pixels = {0: "", 1: "L", 2: "HW"}.get(axes, "…")
    want = ", ".join(["N", *pixels, str(channels or "C")])
    raise ValueError(f"{layer!r} takes ({want}), got {shape}")


def check_order(x: Array, channels: int) -> None:
    """ValueError that names the fix where these channels are not x's last axis but its second."""
    if x.ndim > 2 and x.shape[1] == channels != x.shape[-1]:
        order = (0, *range(2, x.ndim), 1)
        raise ValueError(f"got {tuple(x.shape)}: ldl takes channels last, x.transpose{order}")


class Windowed(Module):
    """A layer whose windows go over images (N, H, W, C), or sequences (N, L, C) of `axes` 1.

    `padding` is a number for each axis, "valid" for none, or "same": as much as makes the output
    ⌈n / stride⌉ long, one more after than before where it is odd.
    """

    axes: ClassVar[int]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str | tuple[int, ...]

    def _set_window(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> None:
        self.kernel_size = sizes("kernel_size", kernel_size, self.axes)
        self.stride = sizes("stride", stride, self.axes)
        self.dilation = sizes("dilation", dilation, self.axes)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"padding must be numbers, 'same' or 'valid', got {padding!r}")
            self.padding = padding
        else:
            self.padding = sizes("padding", padding, self.axes, 0)

    def _pads(self, image: Sequence[int]) -> list[tuple[int, int]]:
        """What is put before and after each axis of an image."""
        if self.padding == "valid":
            return [(0, 0)] * self.axes
        if self.padding != "same":
            return [(int(p), int(p)) for p in self.padding]
        found = []
        every = zip(image, self.kernel_size, self.stride, self.dilation, strict=True)
        for n, k, s, d in every:
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            found.append((total // 2, total - total // 2))
        return found

    def _window(self, image: Sequence[int], groups: int = 1) -> Window:
        """The window for images of a size; an axis of length 1 stands before one axis alone."""
        pads = self._pads(image)
        ahead: Any = ((1,), (1,), ((0, 0),), (1,)) if self.axes == 1 else ((), (), (), ())
        size, stride, padding, dilation = (
            (*first, *values)
            for first, values in zip(
                ahead, (self.kernel_size, self.stride, pads, self.dilation), strict=True
            )
        )
        return Window(size, stride, padding, dilation, groups)

    def _check_fits(self, x: Array, window: Window) -> None:
        """ValueError where an image is smaller than the window."""
        image = x.shape[1:-1]
        if 0 in window.output(self._image(x)):
            raise ValueError(
                f"{self!r}: its windows do not fit into {tuple(image)}: make them smaller, or pad "
                "with padding='same'"
            )

    def _image(self, x: Array) -> tuple[int, int]:
        """(H, W) of what the kernels are given."""
        shape = tuple(int(n) for n in x.shape[1:-1])
        return (1, shape[0]) if self.axes == 1 else (shape[0], shape[1])

    def _flat(self, x: Array) -> Array:
        """As the kernels take it: (N, H, W, C)."""
        return x.reshape(x.shape[0], *self._image(x), x.shape[-1])

    def _shaped(self, y: Array) -> Array:
        """As the layer gives it."""
        return y.reshape(y.shape[0], *y.shape[-1 - self.axes :])
