"""Elementary functions of one number, without branches: LLVM does many elements at once.

They are plain Python on NumPy's scalars, of which `translate` makes LLVM's language. They give the
limits at ±∞, NaN for NaN, the sign of zero, and subnormal numbers where they are due. Powers of two
are made of bits, and never by a cast, which not every processor can do for several float64.

float32's polynomials are those of S. L. Moshier's Cephes library; float64's are Taylor's series, of
exp r for |r| ≤ ln 2 / 2 and of artanh s for |s| ≤ (√2 - 1) / (√2 + 1), as far as they count.
"""

# mypy: ignore-errors
# (LLVM, not Python, gives these functions their types.)

from __future__ import annotations

import numpy as np

f4, f8, i4, u8 = np.float32, np.float64, np.int32, np.uint64
inf, nan = np.inf, np.nan

LOG2_E = 1.4426950408889634
ROOT_HALF = 0.7071067811865476
SPLIT_4 = 1.5 * 2**23
SPLIT_8 = 1.5 * 2**52
"""Numbers whose last bit is worth 1: what is added to them stands in their last bits, whole."""
LN2_HIGH_4, LN2_LOW_4 = 0.693359375, -2.12194440e-4
LN2_HIGH_8, LN2_LOW_8 = 0.6931471803691238, 1.9082149292705877e-10
"""ln 2 in two parts; the first times a whole number is exact."""


UNITS = {
    "exp_f4": 1.0,
    "log_f4": 0.9,
    "log1p_f4": 1.5,
    "expm1_f4": 1.6,
    "tanh_f4": 2.4,
    "exp_f8": 1.0,
    "log_f8": 0.9,
    "log1p_f8": 1.1,
    "expm1_f8": 2.0,
    "tanh_f8": 2.3,
}
"""The largest errors in units in the last place, as measured against mpmath over all exponents."""


def power_f4(n: f4):
    """2ⁿ for whole n from -126 to 127."""
    return ((n + (SPLIT_4 + 127)).view(i4) << 23).view(f4)


def power_f8(n: f8):
    """2ⁿ for whole n from -1022 to 1023."""
    return ((n + (SPLIT_8 + 1023)).view(u8) << 52).view(f8)


def series_exp_f4(r: f4):
    """Exp r - 1 for |r| ≤ ln 2 / 2."""
    p = 1.9875691500e-4
    p = p * r + 1.3981999507e-3
    p = p * r + 8.3334519073e-3
    p = p * r + 4.1665795894e-2
    p = p * r + 1.6666665459e-1
    p = p * r + 5.0000001201e-1
    return p * (r * r) + r


def series_exp_f8(r: f8):
    """Exp r - 1 = r + r² / 2! + r³ / 3! + …, for |r| ≤ ln 2 / 2."""
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    return p * (r * r) + r


def exp_f4(x: f4):
    """Exp x = 2ⁿ exp r, with |r| ≤ ln 2 / 2."""
    n = np.floor(x * LOG2_E + 0.5)
    n = n if n < 129 else f4(129)
    n = n if n > -151 else f4(-151)
    r = x - n * LN2_HIGH_4 - n * LN2_LOW_4
    half = np.floor(n * 0.5)
    y = (series_exp_f4(r) + 1) * power_f4(half) * power_f4(n - half)
    y = f4(inf) if x > 89 else y
    return f4(0) if x < -104 else y


def exp_f8(x: f8):
    """Exp x = 2ⁿ exp r, with |r| ≤ ln 2 / 2."""
    n = np.floor(x * LOG2_E + 0.5)
    n = n if n < 1025 else f8(1025)
    n = n if n > -1076 else f8(-1076)
    r = x - n * LN2_HIGH_8 - n * LN2_LOW_8
    half = np.floor(n * 0.5)
    y = (series_exp_f8(r) + 1) * power_f8(half) * power_f8(n - half)
    y = f8(inf) if x > 710 else y
    return f8(0) if x < -746 else y


def expm1_f4(x: f4):
    """2ⁿ (exp r - 1) + (2ⁿ - 1), with |r| ≤ ln 2 / 2; half of it does not overflow."""
    a = f4(-20) if x < -20 else x
    n = np.floor(a * LOG2_E + 0.5)
    n = n if n < 128 else f4(128)
    p = series_exp_f4(a - n * LN2_HIGH_4 - n * LN2_LOW_4)
    half = power_f4(n - 1)
    y = half * p + (half - 0.5)
    y = f4(inf) if x > 89 else y + y
    return x if abs(x) < 1e-8 else y


def expm1_f8(x: f8):
    """2ⁿ (exp r - 1) + (2ⁿ - 1), with |r| ≤ ln 2 / 2; half of it does not overflow."""
    a = f8(-40) if x < -40 else x
    n = np.floor(a * LOG2_E + 0.5)
    n = n if n < 1024 else f8(1024)
    p = series_exp_f8(a - n * LN2_HIGH_8 - n * LN2_LOW_8)
    half = power_f8(n - 1)
    y = half * p + (half - 0.5)
    y = f8(inf) if x > 710 else y + y
    return x if abs(x) < 1e-17 else y


def tanh_f4(x: f4):
    """y / (y + 2) for y = exp 2|x| - 1, with the sign of x."""
    a = abs(x)
    y = expm1_f4(f4(20) if a > 10 else a + a)
    return np.copysign(y / (y + 2), x)


def tanh_f8(x: f8):
    """y / (y + 2) for y = exp 2|x| - 1, with the sign of x."""
    a = abs(x)
    y = expm1_f8(f8(44) if a > 22 else a + a)
    return np.copysign(y / (y + 2), x)


def mantissa_log_f4(m: f4, e: f4):
    """Log(1 + m) + e ln 2, for √½ ≤ 1 + m < √2."""
    z = m * m
    p = 7.0376836292e-2
    p = p * m + -1.1514610310e-1
    p = p * m + 1.1676998740e-1
    p = p * m + -1.2420140846e-1
    p = p * m + 1.4249322787e-1
    p = p * m + -1.6668057665e-1
    p = p * m + 2.0000714765e-1
    p = p * m + -2.4999993993e-1
    p = p * m + 3.3333331174e-1
    y = p * m * z + e * LN2_LOW_4 - 0.5 * z
    return m + y + e * LN2_HIGH_4


def mantissa_log_f8(m: f8, e: f8):
    """E ln 2 + m - m²/2 + s (m²/2 + 2s²/3 + 2s⁴/5 + …), for s = m / (2 + m)."""
    s = m / (m + 2)
    z = s * s
    p = 2 / 23
    p = p * z + 2 / 21
    p = p * z + 2 / 19
    p = p * z + 2 / 17
    p = p * z + 2 / 15
    p = p * z + 2 / 13
    p = p * z + 2 / 11
    p = p * z + 2 / 9
    p = p * z + 2 / 7
    p = p * z + 2 / 5
    p = p * z + 2 / 3
    square = 0.5 * m * m
    return e * LN2_HIGH_8 - ((square - (s * (square + p * z) + e * LN2_LOW_8)) - m)


def log_f4(x: f4):
    """Log x = e ln 2 + log m, with √½ ≤ m < √2."""
    tiny = x < 1.1754943508222875e-38
    bits = (x * 8388608 if tiny else x).view(i4)
    e = f4((bits >> 23) - 126) - (f4(23) if tiny else f4(0))
    m = ((bits & 0x007FFFFF) | 0x3F000000).view(f4)
    low = m < ROOT_HALF
    r = mantissa_log_f4(m + m - 1 if low else m - 1, e - 1 if low else e)
    r = r if x < inf else x
    r = f4(-inf) if x == 0 else r
    return f4(nan) if x < 0 else r


def log_f8(x: f8):
    """Log x = e ln 2 + log m, with √½ ≤ m < √2."""
    tiny = x < 2.2250738585072014e-308
    bits = (x * 18014398509481984 if tiny else x).view(u8)
    e = ((bits >> 52) | 0x4330000000000000).view(f8) - (2**52 + 1022)
    m = ((bits & 0x000FFFFFFFFFFFFF) | 0x3FE0000000000000).view(f8)
    low = m < ROOT_HALF
    e = e - 54 if tiny else e
    r = mantissa_log_f8(m + m - 1 if low else m - 1, e - 1 if low else e)
    r = r if x < inf else x
    r = f8(-inf) if x == 0 else r
    return f8(nan) if x < 0 else r


def log1p_f4(x: f4):
    """Log of u + c, for u = 1 + x as rounded and c what was lost: e ln 2 + log(m + c 2⁻ᵉ)."""
    u = x + 1
    c = x - (u - 1)
    bits = u.view(i4)
    e = f4((bits >> 23) - 126)
    m = ((bits & 0x007FFFFF) | 0x3F000000).view(f4)
    low = m < ROOT_HALF
    e = e - 1 if low else e
    m = (m + m - 1 if low else m - 1) + c * power_f4(f4(-100) if e > 100 else -e)
    r = mantissa_log_f4(m, e)
    r = r if x < inf else x
    r = x if x == 0 else r
    r = f4(-inf) if x == -1 else r
    return f4(nan) if x < -1 else r


def log1p_f8(x: f8):
    """Log of u + c, for u = 1 + x as rounded and c what was lost: e ln 2 + log(m + c 2⁻ᵉ)."""
    u = x + 1
    c = x - (u - 1)
    bits = u.view(u8)
    e = ((bits >> 52) | 0x4330000000000000).view(f8) - (2**52 + 1022)
    m = ((bits & 0x000FFFFFFFFFFFFF) | 0x3FE0000000000000).view(f8)
    low = m < ROOT_HALF
    e = e - 1 if low else e
    m = (m + m - 1 if low else m - 1) + c * power_f8(f8(-1000) if e > 1000 else -e)
    r = mantissa_log_f8(m, e)
    r = r if x < inf else x
    r = x if x == 0 else r
    r = f8(-inf) if x == -1 else r
    return f8(nan) if x < -1 else r


def turned_f4(t: f4, ahead: i4):
    """Sin 2π(t + ahead / 4) for t in [0, 1], from sin and cos on [-π/4, π/4]."""
    q = np.floor(t * 4 + 0.5)
    x = (t - q * 0.25) * 6.283185307179586
    z = x * x
    sin = ((z * -1.9515295891e-4 + 8.3321608736e-3) * z - 1.6666654611e-1) * z * x + x
    p = (z * 2.443315711809948e-5 + -1.388731625493765e-3) * z
    cos = (p + 4.166664568298827e-2) * z * z - z * 0.5 + 1
    quarter = i4(q) + ahead
    y = cos if (quarter & 1) != 0 else sin
    return -y if (quarter & 2) != 0 else y


def sinpi2_f4(t: f4):
    """Sin 2πt for t in [0, 1]."""
    return turned_f4(t, i4(0))


def cospi2_f4(t: f4):
    """Cos 2πt for t in [0, 1]."""
    return turned_f4(t, i4(1))
