"""Kernels: the few hot operations that a backend may do in its own way.

Each has a generic body here, written in the array namespace `xp`; that body is the reference.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any

from ldl import random
from ldl.prepared import Prepared

Array = Any
"""An array of whichever backend is in use."""

DType = Any
"""Anything that `numpy.dtype` accepts."""

_TAIL = {
    "single": (
        (
            0.004122528203,
            0.04070006148,
            0.1834718614,
            0.4386742574,
            0.5000000022,
        ),
        (
            0.0103335341,
            0.1020260651,
            0.4700843052,
            1.203582434,
            1.675233417,
            1.0,
        ),
    ),
    "double": (
        (
            2.206141608820233e-07,
            6.888404471046805e-06,
            0.00010550308358398394,
            0.0010313590966463827,
            0.007077350580471882,
            0.03548940042984599,
            0.13154403773894913,
            0.3563636068023978,
            0.6783918019176626,
            0.8271826026699026,
            0.5,
        ),
        (
            5.529976934507568e-07,
            1.7266669414247877e-05,
            0.0002650100100628648,
            0.002602500542560113,
            0.018003638082759107,
            0.0915094353867671,
            0.34694890025332376,
            0.9772321662020906,
            1.9973289481605838,
            2.8133958314729957,
            2.4522497661426708,
            1.0,
        ),
    ),
}
"""Φ(-z) exp(z²/2) as P(z) / Q(z), the highest power first: all coefficients are positive, so that
nothing cancels. P and Q interpolate it at the Chebyshev nodes of t = z / (z + s): 10 of them, s = 3
and z up to 15 (largest relative error 8e-9), and 22 of them, s = 4 and z up to 40 (2e-18)."""


def below_max(xp: Any, x: Array, axis: int) -> Array:
    """x - max along an axis, -inf where that is beyond the type's numbers."""
    largest = x.max(axis=axis, keepdims=True)
    beyond = xp.minimum(x, 0) + float(xp.finfo(x.dtype).max) < largest
    return xp.where(beyond, -inf, x) - largest


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """By Horner's rule, the highest power first."""
    value = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        value = value * x + c
    return value


class Kernels:
    """The generic bodies."""

    xp: Any

    def asarray(self, data: Any, dtype: DType = None) -> Array:
        """Bring data of any origin to this backend, copying only where it must.

        What `ldl.arrays` refuses is refused: masked arrays, complex numbers, what is no numbers.
        """
        raise NotImplementedError

    # ---- kernels: matrix products -------------------------------------------------------------

    def matmul(self, a: Array, b: Array, out: Array = None, accumulate: bool = False) -> Array:
        """`a @ b`, into `out` where given; added to what `out` holds with `accumulate`."""
        if accumulate:
            out += a @ b
            return out
        return self.xp.matmul(a, b, out=out)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Z = X W + b for X (N, in), W (in, out), b (out,)."""
        z = self.matmul(x, weight)
        if bias is not None:
            z += bias
        return z

    def sum_rows(self, a: Array, out: Array = None, accumulate: bool = False) -> Array:
        """The sum of the rows of (N, D): a vector (D,), into `out` as `matmul` does."""
        if accumulate:
            out += a.sum(axis=0)
            return out
        return a.sum(axis=0, out=out)

    # ---- kernels: elementwise and row-wise functions ------------------------------------------

    def sigmoid(self, x: Array) -> Array:
        """σ(x) = 1 / (1 + exp(-x)), as exp(x) / (1 + exp(x)) where x < 0: exp never overflows.

        The numerator, exp(min(x, 0)), is the larger of exp(-|x|) and the truth of x ≥ 0.
        """
        xp = self.xp
        e = xp.exp(-xp.abs(x))
        return xp.maximum(e, x >= 0) / (1 + e)

    def log_softmax(self, x: Array, axis: int = -1) -> Array:
        """log softmax(x) = x - max - log Σ exp(x - max)."""
        xp = self.xp
        below = below_max(xp, x, axis)
        return below - xp.log(xp.exp(below).sum(axis=axis, keepdims=True))

    def normal_tail(self, z: Array) -> tuple[Array, Array]:
        """E = exp(-z²/2) and R = Φ(-z) / E for 0 ≤ z ≤ 40, Φ the normal distribution function.

        Each has the precision of z's type, float32 at least, relative to its size: apart, since E R
        underflows where z E R does not. With h = z to 8 bits after the point (20 for float64) h² is
        exact, and E = exp(-h²/2) exp(b), b = -(z - h)(z + h)/2 so small that four terms will do.
        """
        xp = self.xp
        z = z if z.dtype.itemsize > 2 else z.astype("float32")
        single = z.dtype.itemsize == 4
        shift = 1.5 * 2.0 ** (15 if single else 32)
        h = (z + shift) - shift
        b = (z - h) * (z + h) * -0.5
        e = xp.exp(h * h * -0.5) * (((b * (1 / 6) + 0.5) * b + 1) * b + 1)
        p, q = (_polynomial(z, c) for c in _TAIL["single" if single else "double"])
        return e, p / q

    # ---- kernels: data -------------------------------------------------------------------------

    def take(self, array: Array, index: Array) -> Array:
        """The rows of `array` that `index`, an integer array of this backend, names."""
        return self.xp.take(array, index, axis=0)

    def uniform(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Array:
        """Uniform numbers in [0, 1), a function of `key` alone: the same on every backend."""
        return self.asarray(random.uniform(shape, key), dtype)

    def normal(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Array:
        """Standard normal numbers by Box and Muller (1958), from the uniform numbers of `key`.

        A pair (u, v) of uniform numbers gives √(-2 ln(1 - u)) cos 2πv and √(-2 ln(1 - u)) sin 2πv.
        """
        xp = self.xp
        size = 1
        for n in shape:
            size *= n
        half = (size + 1) // 2
        u = self.uniform((2 * half,), dtype, key)
        radius = xp.sqrt(-2 * xp.log(1 - u[:half]))
        angle = (2 * 3.141592653589793) * u[half:]
        pair = xp.concatenate((radius * xp.cos(angle), radius * xp.sin(angle)))
        return pair[:size].reshape(shape)

    # ---- kernels: optimizer updates, in place over flat buffers --------------------------------

    def prepare(
        self,
        kernel: str,
        arrays: tuple[Array | None, ...],
        numbers: tuple[str, ...],
        **constants: Any,
    ) -> Prepared:
        """One of the kernels below, ready to be run on these vectors, in place.

        It takes the kernel's `numbers`, by position: they differ from step to step, whereas the
        arrays and the `constants` stay, so that a backend may prepare for them.
        """
        run = partial(getattr(self, kernel), *arrays, **constants)
        return Prepared(arrays, lambda *values: run(**dict(zip(numbers, values, strict=True))))

    def sum_squares(self, a: Array) -> Array:
        """Σ a², a scalar on the device, float32 at least."""
        a = a.reshape(-1)
        a = a if a.dtype.itemsize > 2 else a.astype("float32")
        return self.xp.dot(a, a)

    def settle(self, a: Array) -> None:
        """a ← (a + c) - c, in place, for c so small that only subnormal numbers become zero."""
        info = self.xp.finfo(a.dtype)
        c = float(info.tiny) / float(info.eps)
        a += c
        a -= c

    def sgd_step(
        self,
        p: Array,
        g: Array,
        v: Array | None,
        *,
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        """g ← g + λp; v ← μv + g; p ← p - lr (g + μv or v or g)."""
        if weight_decay is not None:
            g = g + weight_decay * p
        if v is not None:
            v *= momentum
            v += g
            g = g + momentum * v if nesterov else v
        p -= lr * g

    def rmsprop_step(
        self,
        p: Array,
        g: Array,
        s: Array,
        v: Array | None,
        *,
        lr: float,
        alpha: float,
        rest: float,
        eps: float,
        momentum: float = 0.0,
        weight_decay: float | None = None,
    ) -> None:
        """s ← αs + (1-α)g²; d = g / (√s + ε); v ← μv + d; p ← p - lr (v or d).

        `rest` is 1-α.
        """
        if weight_decay is not None:
            g = g + weight_decay * p
        s *= alpha
        s += rest * g * g
        d = g / (self.xp.sqrt(s) + eps)
        if v is not None:
            v *= momentum
            v += d
            d = v
        p -= lr * d

    def adam_step(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        *,
        rate: float,
        scale: float,
        beta1: float,
        rest1: float,
        beta2: float,
        rest2: float,
        eps: float,
        weight_decay: float | None = None,
        keep: float | None = None,
    ) -> None:
        """m ← β₁m + (1-β₁)g; v ← β₂v + (1-β₂)g²; p ← p - r m / (s√v + ε).

        r = lr / (1-β₁ᵗ) and s = (1-β₂ᵗ)^-½ undo the bias of m and v; `rest1` and `rest2` are 1-β₁
        and 1-β₂. Weight decay λ adds λp to g (Adam), or first multiplies p by `keep`, 1 - lr λ
        (AdamW).
        """
        if keep is not None:
            p *= keep
        if weight_decay is not None:
            g = g + weight_decay * p
        m *= beta1
        m += rest1 * g
        v *= beta2
        v += rest2 * (g * g)
        p -= rate * m / (self.xp.sqrt(v) * scale + eps)
