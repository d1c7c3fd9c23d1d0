"""Which way a program makes a product of matrices: in strips, in panels, or by BLAS."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ldl.compiler.operations import Host, Op, Ref
from ldl.compiler.statements import kind_of
from ldl_numpy import blas, panels, strips, threads, tile

MOST = 2**20
"""Elements of the right operand up to which ldl's own products are faster than BLAS as wide."""

Word = int | Ref | Host
Look = Callable[[Ref], Host]
"""An array as it lies when the program runs."""


def fits(op: Op) -> bool:
    """Whether it is a product of matrices that compiled code makes."""
    if op.ufunc != "matmul" or not all(isinstance(x, Ref) for x in op.inputs):
        return False
    arrays = [x.resolve(x.value.lying) for x in (*op.inputs, *op.outputs)]
    return (
        blas.available()
        and all(x.ndim == 2 and x.size for x in arrays)
        and len({x.dtype for x in arrays}) == 1
        and arrays[0].dtype in (np.float32, np.float64)
        and all(x.flags.c_contiguous or x.T.flags.c_contiguous for x in arrays[:2])
        and arrays[2].flags.c_contiguous
        and op.outputs[0].value not in {x.value for x in op.inputs}
    )


class Product(NamedTuple):
    """C = A B, to be made."""

    op: Op
    kind: str
    m: int
    n: int
    k: int
    turned: tuple[bool, bool]
    """Whether A and B lie transposed."""

    @property
    def own(self) -> bool:
        """Whether ldl makes it itself: whatever it is where vectors are wider than BLAS's, else
        where the right operand has at most `MOST` elements and lies row by row, or vectors have
        512 bits. One row is multiplied in another way.

        Measured on one processor (Zen 5), on which OpenBLAS can be told its kernels and ldl its
        registers. 512 bits beside 256: 0.5 to 0.85 of BLAS's time, whatever the sizes. 512 beside
        512: 0.6 to 1 up to `MOST`, with more 0.8 to 1.1. 256 beside 256: 1 up to `MOST`, with more
        up to 1.6 times, for few rows.
        """
        if tile.registers().width > blas.width():
            return self.m > 1
        straight = not self.turned[1] or tile.registers().width == blas.WIDE
        return self.m > 1 and straight and self.n * self.k <= MOST

    @property
    def packs(self) -> bool:
        """Whether it is made in panels."""
        return self.own and (self.turned[1] or self.n * self.k > MOST)

    @property
    def jobs(self) -> int:
        """In how many jobs it is cut, about."""
        m, n, k = self.m, self.n, self.k
        least, each = blas.worth(m, n, k)
        return threads.jobs(m * n * k, least, threads.EACH if self.packs else each)

    def call(self, scratch: Host) -> tuple[str, list[Word], int]:
        """A source, its words, and how many jobs it is; of `scratch` it has `room` bytes."""
        _, kind, m, n, k, turned = self
        (a, b), (out,), size = self.op.inputs, self.op.outputs, int(kind[1])
        if self.packs:
            down, across = panels.blocks(kind, m, n, self.jobs)
            leads = [(m if turned[0] else k) * size, (k if turned[1] else n) * size]
            words = [a, leads[0], int(turned[0]), b, leads[1], int(turned[1]), out, m, n, k]
            words += [down, across, *panels.sizes(m, k), scratch]
            return panels.product(kind, n), words, down * across
        if self.own:
            down, across = strips.blocks(kind, m, n, self.jobs)
            steps = [size, m * size] if turned[0] else [k * size, size]
            return (
                strips.product(kind, n),
                [a, *steps, b, out, m, n, k, down, across],
                down * across,
            )
        down, across = blas.blocks(m, n, self.jobs)
        words = [*map(int, turned), m, n, k, down, across, a, b, out, blas.address(kind)]
        return blas.product(kind, m, n, k, turned[1]), words, down * across

    @property
    def room(self) -> int:
        """Bytes of memory that it needs while it is made, which others may use before and after."""
        return self.jobs * panels.room(self.kind, self.m, self.k) if self.packs else 0


def product(op: Op, look: Look) -> Product:
    """The product that an operation is."""
    a, b, out = (look(x) for x in (*op.inputs, *op.outputs))
    turned = not a.flags.c_contiguous, not b.flags.c_contiguous
    (m, n), k = out.shape, a.shape[1]
    return Product(op, kind_of(out.dtype), m, n, k, turned)
