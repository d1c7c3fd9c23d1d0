"""Activations: their base, and smooth functions of every element.

Each takes and returns any shape, keeps the floating type, and raises TypeError for integers. At
±infinity, and where powers would overflow, a function of every element gives its limit, and so does
its derivative.
"""

from __future__ import annotations

from math import inf, pi

from ldl.backend import Array
from ldl.nn.module import Module, check_floating
from ldl.numbers import number, real

FAR = 1e4
"""Every sigmoid and exponential here is 0 or 1 before this, in every type."""

NEAR = 40.0
"""And every one of a square: Φ(x), its density, tanh(x³)."""

SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


class Activation(Module):
    """The base: y = f(x), ∂L/∂x = f'(x) ∂L/∂y. A subclass writes `function` and `derivative`.

    Both get arrays that nobody else reads.
    """

    def forward(self, x: Array) -> Array:
        """f(x)."""
        check_floating(self, x)
        y = self.function(x.copy())
        self.keep(x, y)
        return y

    def backward(self, grad: Array) -> Array:
        """f'(x) ∂L/∂y."""
        check_floating(self, grad)
        x, y = self.take()
        return self.derivative(grad.copy(), x, y)

    def function(self, x: Array) -> Array:
        """f(x)."""
        raise NotImplementedError(f"{type(self).__name__} has no function")

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """f'(x) grad, from whichever of x and y = f(x) is handier."""
        raise NotImplementedError(f"{type(self).__name__} has no derivative")


class Identity(Activation):
    """y = x."""

    def function(self, x: Array) -> Array:
        """x."""
        return x

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """grad."""
        return grad


class ELU(Activation):
    """y = x where x > 0, else α(exp x - 1); y' = 1 or α exp x (Clevert et al., ICLR 2016)."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number("alpha", alpha, low=-inf)

    def function(self, x: Array) -> Array:
        """x or α(exp x - 1)."""
        xp = self.backend.xp
        return xp.where(x > 0, x, self.alpha * xp.expm1(xp.minimum(x, 0)))

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """grad or α exp(x) grad."""
        xp = self.backend.xp
        return xp.where(x > 0, grad, self.alpha * xp.exp(xp.minimum(x, 0)) * grad)


class SELU(Activation):
    """y = λx where x > 0, else λα(exp x - 1); y' = λ or λα exp x; λ = 1.0507…, α = 1.6732….

    With λ and α as they are here, and weights that start as LeCun's, means and variances of a deep
    net's layers stay near 0 and 1 (Klambauer et al., NeurIPS 2017).
    """

    def function(self, x: Array) -> Array:
        """λx or λα(exp x - 1)."""
        xp = self.backend.xp
        return xp.where(x > 0, SELU_SCALE * x, SELU_SCALE * SELU_ALPHA * xp.expm1(xp.minimum(x, 0)))

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """λ grad or λα exp(x) grad."""
        xp = self.backend.xp
        return grad * (SELU_SCALE * xp.where(x > 0, 1, SELU_ALPHA * xp.exp(xp.minimum(x, 0))))


class Tanh(Activation):
    """y = tanh x; y' = 1 - y²."""

    def function(self, x: Array) -> Array:
        """Tanh x."""
        return self.backend.xp.tanh(x)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """(1 - y²) grad."""
        return grad * (1 - y * y)


class Sigmoid(Activation):
    """y = σ(x) = 1 / (1 + exp(-x)); y' = y(1 - y)."""

    def function(self, x: Array) -> Array:
        """σ(x)."""
        return self.backend.sigmoid(x)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """y(1 - y) grad."""
        return grad * (y * (1 - y))


class SiLU(Activation):
    """y = xσ(x); y' = σ(x)(1 + x(1 - σ(x))) (Elfwing et al., Neural Networks 107, 2018)."""

    def function(self, x: Array) -> Array:
        """xσ(x)."""
        return self.backend.xp.maximum(x, -FAR) * self.backend.sigmoid(x)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """(σ + y(1 - σ)) grad, for σ = σ(x)."""
        s = self.backend.sigmoid(x)
        return grad * (s + self.backend.xp.minimum(y, FAR) * (1 - s))


class Mish(Activation):
    """y = x tanh(softplus x); y' = T + xσ(x)(1 - T²) with T = tanh(softplus x).

    (Misra, BMVC 2020.)
    """

    def function(self, x: Array) -> Array:
        """xT."""
        up, down, _ = self._parts(x)
        return self.backend.xp.maximum(x, -FAR) * (up / down)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """(T + xσ(1 - T²)) grad."""
        xp = self.backend.xp
        up, down, rest = self._parts(x)
        t = up / down
        return grad * (
            t + xp.clip(x, -FAR, FAR) * self.backend.sigmoid(x) * (rest / down) * (1 + t)
        )

    def _parts(self, x: Array) -> tuple[Array, Array, Array]:
        """T and 1 - T as u/d and r/d, of e = exp(-|x|).

        With w = exp x, T = (w² + 2w) / (w² + 2w + 2) and 1 - T = 2 / (w² + 2w + 2); where x > 0,
        both above and below are divided by w².
        """
        xp = self.backend.xp
        e = xp.exp(-xp.abs(x))
        up = xp.where(x > 0, 1 + 2 * e, e * (e + 2))
        rest = xp.where(x > 0, 2 * e * e, 2)
        return up, up + rest, rest


class Softplus(Activation):
    """y = log(1 + exp(βx)) / β; y' = σ(βx)."""

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = real("beta", beta)
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {beta!r}")

    def function(self, x: Array) -> Array:
        """max(x, 0) + log(1 + exp(-|βx|)) / β."""
        xp = self.backend.xp
        tail = xp.log1p(xp.exp(-xp.abs(self._scaled(x)))) * (1 / self.beta)
        return xp.maximum(x, 0) + tail

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """σ(βx) grad."""
        return grad * self.backend.sigmoid(self._scaled(x))

    def _scaled(self, x: Array) -> Array:
        """βx, no larger than FAR."""
        xp = self.backend.xp
        bound = min(FAR / self.beta, float(xp.finfo(x.dtype).max))
        return self.beta * xp.clip(x, -bound, bound)


class GELU(Activation):
    """y = xΦ(x), Φ the standard normal's distribution function; y' = Φ(x) + xφ(x), φ its density.

    From -13 to 13 y is right to 8 units in the last place, in float32 and float64, and y' to 4 of
    Φ(x) + |x|φ(x): where it passes through 0, near -0.75, the rest is what is left of these two.

    With approximate="tanh": y = x(1 + tanh u)/2 with u = √(2/π)(x + 0.044715x³), and its derivative
    (Hendrycks, Gimpel, arXiv:1606.08415).
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def function(self, x: Array) -> Array:
        """xΦ(x), as max(x, 0) - |x|Φ(-|x|)."""
        xp = self.backend.xp
        if self.approximate == "tanh":
            return xp.maximum(x, -FAR) * (0.5 * (1 + self._tanh(self._near(x))))
        z = xp.minimum(xp.abs(x), NEAR)
        e, r = self.backend.normal_tail(z)
        return (xp.maximum(x, 0) - z * r * e).astype(x.dtype, copy=False)

    def derivative(self, grad: Array, x: Array, y: Array) -> Array:
        """(Φ(x) + xφ(x)) grad, as Φ(-z) - zφ(z) for z = |x|, or 1 less that where x > 0."""
        xp = self.backend.xp
        if self.approximate == "tanh":
            x = self._near(x)
            t = self._tanh(x)
            slope = (2 / pi) ** 0.5 * (1 + 3 * 0.044715 * (x * x))
            return grad * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)
        z = xp.minimum(xp.abs(x), NEAR)
        e, r = self.backend.normal_tail(z)
        tail = (r - z * (2 * pi) ** -0.5) * e
        return grad * xp.where(x > 0, 1 - tail, tail).astype(x.dtype, copy=False)

    def _near(self, x: Array) -> Array:
        return self.backend.xp.clip(x, -NEAR, NEAR)

    def _tanh(self, x: Array) -> Array:
        return self.backend.xp.tanh((2 / pi) ** 0.5 * (x + 0.044715 * (x * x * x)))
