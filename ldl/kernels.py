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

# Chebyshev coefficients of log(erfc(z) exp(z²) / t) over t = 2 / (2 + z) in (0, 1].
_LOG_ERFC = (
    -1.3026537197817094,
    0.6419697923564902,
    0.019476473204185836,
    -0.009561514786808632,
    -0.0009465953444820369,
    0.00036683949785276145,
    4.252332480690777e-05,
    -2.0278578112534242e-05,
    -1.6242900046470256e-06,
    1.3036558355805232e-06,
    1.5626441722066142e-08,
    -8.523809591492654e-08,
    6.5290544390988515e-09,
    5.059343495551469e-09,
    -9.91364156493033e-10,
    -2.273651222931836e-10,
    9.646791102015527e-11,
    2.3940380830391146e-12,
    -6.886027526497553e-12,
    8.944879273090725e-13,
    3.130921399342958e-13,
    -1.1270822361367252e-13,
    3.810905255189232e-16,
    7.106097613609237e-15,
    -1.5230282014571043e-15,
    -9.457494571291233e-17,
    1.210237189224279e-16,
    -2.816663087747177e-17,
)


def below_max(xp: Any, x: Array, axis: int) -> Array:
    """x - max along an axis, -inf where that is beyond the type's numbers."""
    largest = x.max(axis=axis, keepdims=True)
    beyond = xp.minimum(x, 0) + float(xp.finfo(x.dtype).max) < largest
    return xp.where(beyond, -inf, x) - largest


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

    def normal_cdf(self, x: Array) -> Array:
        """Φ(x), the standard normal's distribution function, to the precision of x's type.

        With t = 2 / (2 + |z|), z = |x| / √2, erfc(z) = t exp(-z² + P(t)); P is a Chebyshev series
        fitted to erfc in 60 digits, as W. H. Press et al., Numerical Recipes, section 6.2.2, do.
        """
        xp = self.xp
        z = xp.minimum(xp.abs(x), 50) * 0.5**0.5  # beyond, it is 0 or 1
        t = 2 / (2 + z)
        coefficients = _LOG_ERFC[: 14 if x.dtype.itemsize <= 4 else len(_LOG_ERFC)]
        y = 4 * t - 2
        b1, b2 = xp.zeros_like(t), xp.zeros_like(t)
        for c in reversed(coefficients[1:]):
            b1, b2 = y * b1 - b2 + c, b1
        tail = 0.5 * t * xp.exp(-z * z + 0.5 * (coefficients[0] + y * b1) - b2)
        return xp.where(x > 0, 1 - tail, tail)

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
