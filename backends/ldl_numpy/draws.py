"""Random numbers by Numba: Philox4x64-10, the bits of NumPy's."""

# mypy: ignore-errors
# (Numba, not Python, gives these functions their types.)

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ldl_numpy.numba_math import compiled, cospi2_f4, f4, log_f4, sinpi2_f4

u8 = np.uint64


@intrinsic
def high_product(typing, a, b):
    """The upper 64 bits of the product of two unsigned 64-bit integers."""
    wide = ir.IntType(128)

    def code(context, builder, sig, args):
        x, y = (builder.zext(value, wide) for value in args)
        upper = builder.lshr(builder.mul(x, y), ir.Constant(wide, 64))
        return builder.trunc(upper, ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), code


@njit(inline="always")
def block(index, seed, stream, draw):
    """The four words of block `index` of a draw; NumPy counts blocks from 1."""
    c0, c1, c2, c3 = u8(index + 1), u8(draw), u8(0), u8(0)
    k0, k1 = u8(seed), u8(stream)
    for _ in range(10):
        high0, low0 = high_product(u8(0xD2E7470EE14C6C93), c0), u8(0xD2E7470EE14C6C93) * c0
        high1, low1 = high_product(u8(0xCA5A826395121157), c2), u8(0xCA5A826395121157) * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += u8(0x9E3779B97F4A7C15)
        k1 += u8(0xBB67AE8584CAA73B)
    return c0, c1, c2, c3


@njit(inline="always")
def fraction(bits):
    """The upper 24 of 32 bits as a number in [0, 1)."""
    return f4(np.int32(bits >> u8(8))) * f4(2.0**-24)


@compiled(nogil=True)
def fill_uniform(out, seed, stream, draw):
    """Uniform numbers in [0, 1) for a vector, what `ldl.random.uniform` gives."""
    n = out.size
    whole = n // 8
    for i in range(whole):
        words = block(i, seed, stream, draw)
        for k in range(4):
            out[8 * i + 2 * k] = fraction(words[k] & u8(0xFFFFFFFF))
            out[8 * i + 2 * k + 1] = fraction(words[k] >> u8(32))
    if whole * 8 < n:
        words = block(whole, seed, stream, draw)
        for j in range(n - whole * 8):
            word = words[j // 2]
            out[8 * whole + j] = fraction(word >> u8(32) if j % 2 else word & u8(0xFFFFFFFF))


@compiled(nogil=True, error_model="numpy")
def box_muller(u, v, cos, sin):
    """√(-2 ln(1 - u)) cos 2πv and √(-2 ln(1 - u)) sin 2πv for vectors."""
    for i in range(u.size):
        radius = np.sqrt(f4(-2.0) * log_f4(f4(1.0) - u[i]))
        cos[i] = radius * cospi2_f4(v[i])
        sin[i] = radius * sinpi2_f4(v[i])
