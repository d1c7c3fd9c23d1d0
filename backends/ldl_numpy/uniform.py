"""Uniform random numbers, written to memory that is there: `ldl.random.uniform`'s own."""

from __future__ import annotations

import numpy as np

from ldl import random
from ldl.compiler.operations import Host
from ldl.random import Key

CHUNK = 2**13
"""Numbers made together: a multiple of two, and few enough for the processor's cache."""


def fill(out: Host, key: Key) -> None:
    """Fill a C-contiguous float32 array: 24 bits of each half of Philox's words, the low first."""
    block, skipped = divmod(key.span(out.shape)[0], 8)
    philox = random.philox(key, block)
    if skipped:
        out[...] = random.uniform(out.shape, key)
        return
    flat = out.reshape(-1)
    for start in range(0, len(flat), CHUNK):
        part = flat[start : start + CHUNK]
        words = philox.random_raw((len(part) + 1) // 2).astype("<u8", copy=False)
        bits = words.view("<u4")[: len(part)]
        np.right_shift(bits, 8, bits)
        np.copyto(part, bits)
        np.multiply(part, 2.0**-24, part)
