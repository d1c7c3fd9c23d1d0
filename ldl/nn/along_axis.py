"""Activations along an axis: softmax and its kin, which leave out what is -inf, and GLU."""

from __future__ import annotations

from ldl.backend import Array
from ldl.kernels import below_max
from ldl.nn.activations import Activation
from ldl.numbers import integer


class Softmax(Activation):
    """y_i = exp(x_i) / Σ_k exp(x_k) along `axis`.

    The gradient is the product with the full Jacobian ∂y_i/∂x_j = y_i(δ_ij - y_j), which is
    ∂L/∂x = y ⊙ (g - Σ_k g_k y_k). Before a cross-entropy, leave it out: CrossEntropyLoss takes
    logits.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = integer("axis", axis)

    def function(self, x: Array) -> Array:
        """Softmax x, as exp(x - max) over its sum."""
        xp = self.backend.xp
        e = xp.exp(below_max(xp, x, self.axis))
        return e / e.sum(axis=self.axis, keepdims=True)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """y ⊙ (g - Σ_k g_k y_k)."""
        return y * (grad - (grad * y).sum(axis=self.axis, keepdims=True))


class LogSoftmax(Activation):
    """y = x - log Σ_k exp(x_k) along `axis`; ∂L/∂x = g - softmax(x) Σ_k g_k."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = integer("axis", axis)

    def function(self, x: Array) -> Array:
        """Log softmax x."""
        return self.backend.log_softmax(x, self.axis)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """g - exp(y) Σ_k g_k."""
        return grad - self.backend.xp.exp(y) * grad.sum(axis=self.axis, keepdims=True)


class Softmin(Softmax):
    """y_i = exp(-x_i) / Σ_k exp(-x_k) along `axis`, the softmax of -x.

    ∂L/∂x = -y ⊙ (g - Σ_k g_k y_k).
    """

    def function(self, x: Array) -> Array:
        """Softmax -x."""
        return super().function(-x)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """-y ⊙ (g - Σ_k g_k y_k)."""
        return -super().derivative(grad, x, y)


class GLU(Activation):
    """y = a ⊙ σ(b), a and b the halves of x along `axis`; y has half of x's places there.

    With g = ∂L/∂y, ∂L/∂a = g ⊙ σ(b) and ∂L/∂b = g ⊙ a ⊙ σ(b)(1 - σ(b)). (Dauphin et al., ICML
    2017.) Raises ValueError for an odd number of places.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = integer("axis", axis)

    def function(self, x: Array) -> Array:
        """a ⊙ σ(b)."""
        a, b = self._halves(x)
        return a * self.backend.sigmoid(b)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """g ⊙ σ(b) beside g ⊙ a ⊙ σ(b)(1 - σ(b))."""
        a, b = self._halves(x)
        s = self.backend.sigmoid(b)
        return self.backend.xp.concatenate([grad * s, grad * (a * (s * (1 - s)))], axis=self.axis)

    def _halves(self, x: Array) -> tuple[Array, Array]:
        axis = self.axis + x.ndim if self.axis < 0 else self.axis
        if not 0 < axis < x.ndim or x.shape[axis] % 2:
            raise ValueError(
                f"{self!r} halves axis {self.axis}, which must be none of the samples and have an "
                f"even number of places, got {tuple(x.shape)}"
            )
        half, before = x.shape[axis] // 2, (slice(None),) * axis
        return x[(*before, slice(half))], x[(*before, slice(half, None))]
