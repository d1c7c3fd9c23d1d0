"""Dropout."""

from __future__ import annotations

from ldl import random
from ldl.backend import Array
from ldl.nn.module import Module, check_floating
from ldl.numbers import real


class Dropout(Module):
    """y = m ⊙ x / (1 - p) in training, m_i = 1 with probability 1 - p, else 0; y = x in eval mode.

    Any shape; ∂L/∂x = m ⊙ g / (1 - p). The masks come from a counter-based stream, so one seed
    gives the same masks on every backend (Srivastava et al., JMLR 15, 2014).
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = real("p", p)
        if not 0 <= self.p < 1:
            raise ValueError(f"p must lie in [0, 1), got {p!r}")
        self.stream = random.next_stream(random.DROPOUT)

    def forward(self, x: Array) -> Array:
        """m ⊙ x / (1 - p), or x in eval mode."""
        check_floating(self, x)
        if not self.training:
            self.keep(None)
            return x
        u = self.backend.uniform(self._mask_shape(x), "float32", self.stream.next())
        mask = (u >= self.p).astype(x.dtype)
        mask *= 1 / (1 - self.p)
        self.keep(mask)
        return x * mask

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        """One number for each element."""
        return tuple(x.shape)

    def backward(self, grad: Array) -> Array:
        """m ⊙ g / (1 - p); g itself where the layer alone was in eval mode."""
        check_floating(self, grad)
        mask: Array = self.take()
        return grad if mask is None else grad * mask


class Dropout2d(Dropout):
    """Dropout of whole channels: m has one number for each sample and channel, m ⊙ x / (1 - p).

    Shapes: x and y (N, H, W, C), (N, L, C) or of more axes; ∂L/∂x = m ⊙ g / (1 - p). Raises
    ValueError for fewer axes. (Tompson et al., CVPR 2015.)
    """

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        """One number for each sample and channel."""
        if x.ndim < 3:
            raise ValueError(f"{self!r} takes (N, L, C) or (N, H, W, C), got {tuple(x.shape)}")
        return (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
