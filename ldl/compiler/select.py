"""`where` by the bits: NumPy's own branches at every element, which random conditions make slow."""

from __future__ import annotations

from typing import Any

import numpy as np

from ldl.compiler.operations import Host

CHUNK = 2**15
"""Elements done together."""

FEW = 512
"""Elements that NumPy's own code does sooner."""

WORDS: dict[Any, Any] = {
    np.dtype(np.float32): np.dtype(np.int32),
    np.dtype(np.float64): np.dtype(np.int64),
}


class Select:
    """An operation: `out` is a where c is true, b elsewhere. It keeps a chunk of memory."""

    def __init__(self) -> None:
        self._mask: Host = np.empty(0, np.int32)

    def __call__(self, c: Any, a: Any, b: Any, out: Host) -> None:
        """b ^ ((a ^ b) & m), m having all bits of an element or none."""
        a, b = (np.asarray(x, out.dtype if type(x) in (int, float) else None) for x in (a, b))
        if out.size < FEW or not _straight(c, a, b, out):
            np.copyto(out, b)
            np.copyto(out, a, where=c)
            return
        word = WORDS[out.dtype]
        if self._mask.dtype != word or len(self._mask) < min(out.size, CHUNK):
            self._mask = np.empty(min(out.size, CHUNK), word)
        a, b, bits = (x.view(word).reshape(-1 if x.ndim else ()) for x in (a, b, out))
        truth = c.view(np.int8).reshape(-1)
        for start in range(0, len(bits), CHUNK):
            at = slice(start, start + CHUNK)
            part = bits[at]
            mask = self._mask[: len(part)]
            first, second = (x[at] if x.ndim else x for x in (a, b))
            np.copyto(mask, truth[at])
            np.negative(mask, mask)
            np.bitwise_xor(first, second, part)
            np.bitwise_and(part, mask, part)
            np.bitwise_xor(part, second, part)


def _straight(c: Any, a: Host, b: Host, out: Host) -> bool:
    """Whether all can be gone through as vectors of one type; a and b may be numbers."""
    return (
        out.dtype in WORDS
        and isinstance(c, np.ndarray)
        and c.dtype == bool
        and c.shape == out.shape
        and c.flags.c_contiguous
        and out.flags.c_contiguous
        and all(
            x.dtype == out.dtype and (not x.ndim or (x.shape == out.shape and x.flags.c_contiguous))
            for x in (a, b)
        )
    )
