"""Kernels: rows that are taken and added, sums over processes, and random numbers."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from math import prod
from typing import Any, NamedTuple

from ldl import random
from ldl.kernels.types import Array, DType


class Pool(NamedTuple):
    """The processes that share a batch: this one's rows, and what sums an array over all."""

    share: random.Share
    add_up: Callable[[Array], None]


pooling: ContextVar[Pool | None] = ContextVar("ldl_pooling", default=None)
"""With whom this thread shares the batch of its step; None where it is whole here."""


class Data:
    """Rows and random numbers."""

    xp: Any

    def asarray(self, data: Any, dtype: DType = None) -> Array:
        """Bring data of any origin to this backend, copying only where it must.

        What `ldl.arrays` refuses is refused: masked arrays, complex numbers, what is no numbers.
        """
        raise NotImplementedError

    def take(self, array: Array, index: Array) -> Array:
        """The rows of `array` that `index`, an integer array of this backend, names."""
        return self.xp.take(array, index, axis=0)

    def add_rows(self, rows: Array, index: Array, out: Array) -> Array:
        """out[index[t]] += rows[t] for each row t, for `index` (T,) of integers, none too large."""
        self.xp.add.at(out, index, rows)
        return out

    def pooled(self, mean: Array) -> Array:
        """A batch's mean, of that over the rows which are here: Σ_r n_r m_r / Σ_r n_r over ranks r.

        The mean itself where the batch is whole here.
        """
        pool = pooling.get()
        if pool is None:
            return mean
        _, here, whole = pool.share
        part = mean * (here / whole) if here else self.xp.zeros(mean.shape, dtype=mean.dtype)
        self.sum_ranks(part, pool.add_up)
        return part

    def rows(self, x: Array) -> int:
        """How many rows the batch has of which x are those that are here."""
        pool = pooling.get()
        return len(x) if pool is None else pool.share.whole

    def sum_ranks(self, array: Array, add_up: Callable[[Array], None]) -> None:
        """An array becomes its sum over the ranks, by what they share a batch with."""
        add_up(array)

    def begin_sum(self, arrays: list[Array], piece: Any) -> None:
        """Begin to add up over the ranks what these hold, which are all of a piece's gradients."""
        piece.begin()

    def uniform(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Array:
        """Uniform numbers in [0, 1), a function of `key` alone: the same on every backend."""
        return self.asarray(random.uniform(shape, key), dtype)

    def normal(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Array:
        """Standard normal numbers by Box and Muller (1958), from the uniform numbers of `key`.

        A pair (u, v) of uniform numbers, ⌈n / 2⌉ apart in a draw of n, gives the numbers
        √(-2 ln(1 - u)) cos 2πv and √(-2 ln(1 - u)) sin 2πv at its two places.
        """
        start, whole = key.span(shape)
        size, half = prod(shape), (whole + 1) // 2
        middle = min(max(half - start, 0), size)  # of these numbers, the first sine
        parts = []
        for wave, first, last in (("cos", 0, middle), ("sin", middle, size)):
            at = (start + first) % half if last > first else 0
            u, v = (self._some(last - first, dtype, key, at + by) for by in (0, half))
            parts.append(self._box_muller(u, v, wave, whole))
        return self.xp.concatenate(parts).reshape(shape)

    def _box_muller(self, u: Array, v: Array, wave: str, whole: int) -> Array:
        """√(-2 ln(1 - u)) times the cosine or the sine of 2πv; a part of a draw of `whole`."""
        xp = self.xp
        return xp.sqrt(-2 * xp.log(1 - u)) * getattr(xp, wave)(6.283185307179586 * v)

    def _some(self, count: int, dtype: DType, key: random.Key, first: int) -> Array:
        """Some uniform numbers of a draw."""
        share = random.Share(first, count, first + count)
        return self.uniform((count,), dtype, key._replace(share=share))
