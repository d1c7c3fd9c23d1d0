"""Functions of one float32 that LLVM can vectorise, for the loops that `source` writes.

Polynomials and range reductions are those of S. L. Moshier's Cephes library; each function is
within a few units in the last place of the exact one, and gives NaN for NaN. The C library's, which
LLVM calls one element at a time, serve float64.
"""

# mypy: ignore-errors
# (Numba, not Python, gives these functions their types.)

from __future__ import annotations

import math
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

f4 = np.float32
i4 = np.int32


def compiled(**options: Any) -> Any:
    """`njit` with Numba's cache, or without one where there is no folder to write to."""

    def wrap(function: Any) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:
            return njit(**options)(function)

    return wrap


@intrinsic
def float_of_bits(typing: Any, n: Any) -> Any:
    """The float32 that has the bits of an int32."""
    return types.float32(types.int32), lambda c, b, s, args: b.bitcast(args[0], ir.FloatType())


@intrinsic
def bits_of_float(typing: Any, x: Any) -> Any:
    """The int32 that has the bits of a float32."""
    return types.int32(types.float32), lambda c, b, s, args: b.bitcast(args[0], ir.IntType(32))


SSE = platform.machine().lower() in ("x86_64", "amd64")
FLUSH = 0x8040  # of the control register: subnormal results and operands count as zero


@intrinsic
def control_register(typing):
    """What the processor's floating-point control register holds."""

    def code(context, builder, sig, args):
        word = cgutils.alloca_once(builder, ir.IntType(32))
        kind = ir.FunctionType(ir.VoidType(), [word.type])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.stmxcsr")
        builder.call(function, [word])
        return builder.load(word)

    return types.int32(), code


@intrinsic
def set_control_register(typing, value):
    """Make the floating-point control register hold a value."""

    def code(context, builder, sig, args):
        word = cgutils.alloca_once_value(builder, args[0])
        kind = ir.FunctionType(ir.VoidType(), [word.type])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr")
        builder.call(function, [word])
        return context.get_dummy_value()

    return types.none(types.int32), code


@intrinsic
def wide_vectors(typing):
    """Let the compiler use the widest vectors, where it would keep to half of AVX-512's.

    Loops with an exponential or a logarithm gained a fifth to a quarter.
    """

    def code(context, builder, sig, args):
        # llvmlite's `add` knows a list of names only.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), code


@njit(inline="always")
def flush_subnormals():
    """Let subnormal numbers, which cost a hundred cycles each, be zero; gives the old mode."""
    if not SSE:
        return i4(0)
    mode = control_register()
    set_control_register(mode | i4(FLUSH))
    return mode


@njit(inline="always")
def restore(mode):
    """Back to the mode that `flush_subnormals` gave."""
    if SSE:
        set_control_register(mode)


@njit(inline="always")
def exp_f4(x):
    """exp x = 2ⁿ exp r, with |r| ≤ ln 2 / 2."""
    n = np.floor(x * f4(1.44269504088896341) + f4(0.5))
    n = n if n < f4(129.0) else f4(129.0)
    n = n if n > f4(-151.0) else f4(-151.0)
    r = x - n * f4(0.693359375)
    r = r - n * f4(-2.12194440e-4)
    p = f4(1.9875691500e-4)
    p = p * r + f4(1.3981999507e-3)
    p = p * r + f4(8.3334519073e-3)
    p = p * r + f4(4.1665795894e-2)
    p = p * r + f4(1.6666665459e-1)
    p = p * r + f4(5.0000001201e-1)
    y = p * (r * r) + r + f4(1.0)
    k = i4(n)
    h = k >> i4(1)
    y = y * float_of_bits((h + i4(127)) << i4(23)) * float_of_bits((k - h + i4(127)) << i4(23))
    y = y if x < f4(89.0) else f4(np.inf)
    y = y if x > f4(-104.0) else f4(0.0)
    return y if x == x else x


@njit(inline="always")
def mantissa_log(m, e):
    """Log(1 + m) + e ln 2, for √½ ≤ 1 + m < √2."""
    z = m * m
    p = f4(7.0376836292e-2)
    p = p * m + f4(-1.1514610310e-1)
    p = p * m + f4(1.1676998740e-1)
    p = p * m + f4(-1.2420140846e-1)
    p = p * m + f4(1.4249322787e-1)
    p = p * m + f4(-1.6668057665e-1)
    p = p * m + f4(2.0000714765e-1)
    p = p * m + f4(-2.4999993993e-1)
    p = p * m + f4(3.3333331174e-1)
    y = p * m * z + e * f4(-2.12194440e-4) - f4(0.5) * z
    return m + y + e * f4(0.693359375)


@njit(inline="always")
def log_f4(x):
    """log x = e ln 2 + log m, with √½ ≤ m < √2."""
    tiny = x < f4(1.1754944e-38)
    bits = bits_of_float(x * f4(8388608.0) if tiny else x)
    e = f4((bits >> i4(23)) - i4(126)) - (f4(23.0) if tiny else f4(0.0))
    m = float_of_bits((bits & i4(0x007FFFFF)) | i4(0x3F000000))
    low = m < f4(0.707106781186547524)
    e = e - f4(1.0) if low else e
    m = m + m - f4(1.0) if low else m - f4(1.0)
    r = mantissa_log(m, e)
    r = r if x < f4(np.inf) else x
    r = r if x != f4(0.0) else f4(-np.inf)
    return r if x >= f4(0.0) else f4(np.nan)


@njit(inline="always")
def log1p_f4(x):
    """Log of u + c, for u = 1 + x as rounded and c what was lost: e ln 2 + log(m + c 2⁻ᵉ)."""
    u = f4(1.0) + x
    c = x - (u - f4(1.0))
    bits = bits_of_float(u)
    k = (bits >> i4(23)) - i4(126)
    m = float_of_bits((bits & i4(0x007FFFFF)) | i4(0x3F000000))
    low = m < f4(0.707106781186547524)
    k = k - i4(1) if low else k
    m = m + m - f4(1.0) if low else m - f4(1.0)
    m = m + c * float_of_bits((i4(127) - (k if k < i4(100) else i4(100))) << i4(23))
    y = mantissa_log(m, f4(k))
    y = y if u < f4(np.inf) else u
    y = y if u != f4(0.0) else f4(-np.inf)
    return y if u >= f4(0.0) else f4(np.nan)


@njit(inline="always")
def expm1_f4(x):
    """(u - 1) x / log u for u = exp x (Kahan), which makes up for the rounding of u."""
    u = exp_f4(x)
    y = (u - f4(1.0)) * (x / log_f4(u))
    y = y if u != f4(1.0) else x
    y = y if u > f4(1e-8) else f4(-1.0)
    y = y if u < f4(3e38) else u
    return y if x == x else x


@njit(inline="always")
def tanh_f4(x):
    """x + x³ P(x²) near 0, else 1 - 2 / (exp 2|x| + 1) with the sign of x."""
    s = x * x
    p = f4(-5.70498872745e-3)
    p = p * s + f4(2.06390887954e-2)
    p = p * s + f4(-5.37397155531e-2)
    p = p * s + f4(1.33314422036e-1)
    p = p * s + f4(-3.33332819422e-1)
    near = p * s * x + x
    a = abs(x)
    far = f4(1.0) - f4(2.0) / (exp_f4(a + a) + f4(1.0))
    far = far if x > f4(0.0) else -far
    return near if a < f4(0.625) else far


@njit(inline="always")
def sinpi2_f4(t):
    """Sin 2πt for t in [0, 1], from sin and cos on [-π/4, π/4]."""
    q = np.floor(t * f4(4.0) + f4(0.5))
    x = (t - q * f4(0.25)) * f4(6.283185307179586)
    z = x * x
    sin = ((f4(-1.9515295891e-4) * z + f4(8.3321608736e-3)) * z - f4(1.6666654611e-1)) * z * x + x
    p = (f4(2.443315711809948e-5) * z + f4(-1.388731625493765e-3)) * z
    cos = (p + f4(4.166664568298827e-2)) * z * z - f4(0.5) * z + f4(1.0)
    quarter = i4(q) & i4(3)
    y = cos if quarter & i4(1) else sin
    return -y if quarter & i4(2) else y


@njit(inline="always")
def cospi2_f4(t):
    """Cos 2πt for t in [0, 1]."""
    u = t + f4(0.25)
    return sinpi2_f4(u)


exp_f8 = math.exp
log_f8 = math.log
log1p_f8 = math.log1p
expm1_f8 = math.expm1
tanh_f8 = math.tanh
