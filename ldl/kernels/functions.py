"""Kernels: elementwise and row-wise functions."""

from __future__ import annotations

from math import inf
from typing import Any

from ldl.kernels.types import Array

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


class Functions:
    """Functions of elements and of rows."""

    xp: Any

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
