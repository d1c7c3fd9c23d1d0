"""Random numbers compiled: Philox4x64-10, the bits of NumPy's."""

# mypy: ignore-errors
# (LLVM, not Python, gives these functions their types.)

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

from ldl_numpy.elementary import cospi2_f4, log_f4, sinpi2_f4
from ldl_numpy.engine import function
from ldl_numpy.language import high_product, memory
from ldl_numpy.translate import text

f4, i4, i8, u8 = np.float32, np.int32, np.int64, np.uint64

LEAST = 4096
"""Numbers that are worth a job of their own."""


def block(index: i8, seed: u8, stream: u8, draw: u8):
    """The four words of block `index` of a draw; NumPy counts blocks from 1."""
    c0, c1, c2, c3 = u8(index + 1), draw, u8(0), u8(0)
    k0, k1 = seed, stream
    for _ in range(10):
        high0, low0 = high_product(c0, u8(0xD2E7470EE14C6C93)), c0 * 0xD2E7470EE14C6C93
        high1, low1 = high_product(c2, u8(0xCA5A826395121157)), c2 * 0xCA5A826395121157
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += 0x9E3779B97F4A7C15
        k1 += 0xBB67AE8584CAA73B
    return c0, c1, c2, c3


def fraction(bits: u8):
    """The upper 24 of 32 bits as a number in [0, 1)."""
    return f4(i4(bits >> 8)) * 2.0**-24


def number(j: i8, seed: u8, stream: u8, draw: u8):
    """Number j of a draw."""
    w0, w1, w2, w3 = block(j // 8, seed, stream, draw)
    k = j % 8
    word = (w0 if k < 2 else w1) if k < 4 else (w2 if k < 6 else w3)
    return fraction(word >> 32 if k % 2 != 0 else word & 0xFFFFFFFF)


def fill_uniform(first: i8, last: i8, start: i8, out: [f4], seed: u8, stream: u8, draw: u8):
    """Of the uniform numbers in [0, 1) that `ldl.random.uniform` gives, those from the first to
    before the last; `out` has number `start` at its beginning.
    """
    low, high = (first + 7) // 8, last // 8
    low = low if 8 * low < last else (last + 7) // 8
    high = high if high > low else low
    for j in range(first, 8 * low if 8 * low < last else last):
        out[j - start] = number(j, seed, stream, draw)
    for i in range(low, high):
        w0, w1, w2, w3 = block(i, seed, stream, draw)
        out[8 * i - start] = fraction(w0 & 0xFFFFFFFF)
        out[8 * i + 1 - start] = fraction(w0 >> 32)
        out[8 * i + 2 - start] = fraction(w1 & 0xFFFFFFFF)
        out[8 * i + 3 - start] = fraction(w1 >> 32)
        out[8 * i + 4 - start] = fraction(w2 & 0xFFFFFFFF)
        out[8 * i + 5 - start] = fraction(w2 >> 32)
        out[8 * i + 6 - start] = fraction(w3 & 0xFFFFFFFF)
        out[8 * i + 7 - start] = fraction(w3 >> 32)
    for j in range(8 * high, last):
        out[j - start] = number(j, seed, stream, draw)


def box_muller(n: i8, u: [f4], v: [f4], cos: [f4], sin: [f4]):
    """√(-2 ln(1 - u)) cos 2πv and √(-2 ln(1 - u)) sin 2πv for n numbers."""
    for i in range(n):
        radius = np.sqrt(log_f4(1 - u[i]) * -2)
        cos[i] = radius * cospi2_f4(v[i])
        sin[i] = radius * sinpi2_f4(v[i])


def cosines(n: i8, u: [f4], v: [f4], out: [f4]):
    """The first half of `box_muller`."""
    for i in range(n):
        out[i] = np.sqrt(log_f4(1 - u[i]) * -2) * cospi2_f4(v[i])


def sines(n: i8, u: [f4], v: [f4], out: [f4]):
    """The second half of `box_muller`."""
    for i in range(n):
        out[i] = np.sqrt(log_f4(1 - u[i]) * -2) * sinpi2_f4(v[i])


def draw(words: [i8], job: i8):
    """A job of uniform numbers for a program: how many, how many jobs, their address, and the words
    of their key.
    """
    n, jobs, out, start = words[0], words[1], memory(f4, words[2]), words[6]
    first, last = n // 8 * job // jobs * 8, n // 8 * (job + 1) // jobs * 8
    last = n if job == jobs - 1 else last
    seed, stream, key = u8(words[3]), u8(words[4]), u8(words[5])
    fill_uniform(start + first, start + last, start, out, seed, stream, key)


DRAW = "\n".join(map(text, (block, fraction, number, fill_uniform, draw)))
"""The source of `draw`."""


@cache
def _draw():
    return function(draw, ctypes.c_void_p, ctypes.c_int64)


def drawn(out, key):
    """Fill a C-contiguous float32 array with the numbers of a key."""
    words = np.array([out.size, 1, out.ctypes.data, *key.words(out.shape)], np.uint64)
    _draw()(words.ctypes.data, 0)


@cache
def normal():
    """`box_muller`, compiled."""
    return function(box_muller, ctypes.c_int64, *[ctypes.c_void_p] * 4)


@cache
def waves():
    """`cosines` and `sines`, compiled."""
    kinds = ctypes.c_int64, *[ctypes.c_void_p] * 3
    return {"cos": function(cosines, *kinds), "sin": function(sines, *kinds)}
