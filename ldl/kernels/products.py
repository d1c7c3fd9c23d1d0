"""Kernels: matrix products."""

from __future__ import annotations

from typing import Any

from ldl.kernels.types import Array


class Products:
    """Products of matrices, and sums of rows."""

    xp: Any

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
