"""Samples that are read, cast and sent batch by batch, whether from memory or from a disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from ldl.arrays import on_disk
from ldl.backend import Array, Backend, DType
from ldl.data.cuts import Cut
from ldl.data.noise import Noise
from ldl.random import Stream, shared

Batch = tuple[Array, ...]
"""(x, y), or (x, y, sample_weight)."""

CAST_AT_ONCE = 2**26
"""Bytes that an array on a disk may take in memory when it is cast as a whole."""


class Streamed:
    """Samples that stay on the host: each batch is gathered there and sent, while others run.

    `arrays` are x, y unless x is its own target, and what else there is, each with its type, or
    None where it keeps its own.
    """

    def __init__(
        self,
        arrays: Sequence[Any],
        types: Sequence[DType],
        own_target: bool,
        noise: Noise | None,
        is_shard: bool = False,
    ) -> None:
        self.noise, self.is_shard = noise, is_shard
        self._arrays = list(zip(arrays, types, strict=True))
        self._own_target = own_target

    def __len__(self) -> int:
        return len(self._arrays[0][0])

    def batches(
        self, backend: Backend, cuts: Iterable[Cut], order: Any = None, stream: Stream | None = None
    ) -> Iterator[Batch]:
        """As `Arrays.batches`."""
        for cut, share in cuts:
            rows = cut if order is None else order[cut]
            parts = [(array[rows], dtype) for array, dtype in self._arrays]
            if order is None:  # a view of what is the caller's
                parts = [(part.copy(), dtype) for part, dtype in parts]
            x, *rest = (backend.asarray(part, dtype) for part, dtype in parts)
            y = x if self._own_target else rest.pop(0)
            if self.noise is not None and stream is not None:
                with shared(share):
                    x = self.noise(x, stream, backend)
            yield x, y, *rest


class Picked:
    """Some rows of an array that lies on a disk, read when they are asked for."""

    def __init__(self, array: Any, rows: Any) -> None:
        self._array, self._rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype
        self.ndim, self.size = array.ndim, prod(self.shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._array[self._rows[index]]

    def min(self) -> Any:
        """The least number."""
        return min(block.min() for block in self._blocks())

    def max(self) -> Any:
        """The largest number."""
        return max(block.max() for block in self._blocks())

    def _blocks(self) -> Iterator[Any]:
        size = max(1, CAST_AT_ONCE * len(self) // (self.size * self.dtype.itemsize))
        return (self[start : start + size] for start in range(0, len(self), size))


def picked(array: Any, rows: Any, backend: Backend) -> Any:
    """Rows of an array, a copy of them but for those of a large one on a disk."""
    if on_disk(array):
        large = len(rows) * array[:1].nbytes > CAST_AT_ONCE
        return Picked(array, rows) if large else array[rows]
    if type(array) is backend.array_type:
        return backend.take(array, backend.asarray(rows))
    return array[rows]


def sent(backend: Backend, array: Any, dtype: DType) -> Array:
    """An array on a backend, cast; a large one that lies on a disk, block by block."""
    if not is_read_by_batch([array], [dtype]):
        return backend.asarray(array, dtype)
    first = backend.asarray(array[:1], dtype)
    whole = backend.xp.empty(array.shape, dtype=first.dtype)
    rows = max(1, CAST_AT_ONCE // max(1, first.nbytes))
    for start in range(0, len(array), rows):
        whole[start : start + rows] = backend.asarray(array[start : start + rows], dtype)
    return whole


def is_read_by_batch(arrays: Sequence[Any], types: Sequence[DType]) -> bool:
    """Whether one lies on a disk and would as a whole take much memory, being changed."""
    if any(isinstance(array, Picked) for array in arrays):
        return True
    if not all(isinstance(array, np.ndarray) for array in arrays):
        return False
    for array, dtype in zip(arrays, types, strict=True):
        if not on_disk(array):
            continue
        wanted = array.dtype if dtype is None else np.dtype(dtype)
        same = wanted.newbyteorder("=") == array.dtype and array.flags.c_contiguous
        if not same and array.size * wanted.itemsize > CAST_AT_ONCE:
            return True
    return False


def wide(dtype: DType) -> DType:
    """The type, or float32 for half precision, in which the sum of many weights is no number."""
    return "float32" if np.dtype(dtype) == np.float16 else dtype
