"""Batches: what `ldl.fit` iterates over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from typing import Any
from zlib import crc32

import numpy as np

from ldl.arrays import (
    check_counting,
    check_sample_weight,
    column_names,
    is_array,
    readable,
)
from ldl.backend import Array, Backend, DType, get_backend
from ldl.data.cuts import Cut
from ldl.data.finite import check_finite
from ldl.data.noise import Noise
from ldl.data.streaming import Batch, Picked, Streamed, is_read_by_batch, sent, wide
from ldl.numbers import short
from ldl.random import Stream, shared

CHECKED = 2**26
"""Bytes of an array that a checksum reads at most, in rows at even distances."""


class Arrays:
    """Samples x (N, …) and their targets y (N, …), held in memory or in a memory map.

    Without `y`, x is its own target, as an autoencoder wants it. With `noise`, x is corrupted
    afresh for every batch and y is left as it is. `sample_weight` (N,) says how much each sample
    counts in the loss: finite, not negative, not all 0. Arrays may be of any origin and type: they
    are cast and moved once, large memory maps batch by batch, whether or not they are split.
    """

    is_shard = False
    """Whether these are this process's own samples, of which others have others."""

    def __init__(
        self, x: Any, y: Any = None, noise: Noise | None = None, sample_weight: Any = None
    ) -> None:
        self.x = readable(x)
        self.names = column_names(x)
        self.y = self.x if y is None or y is x else readable(y)
        self.noise = noise
        if noise is not None and not isinstance(noise, Noise):
            raise TypeError(
                f"noise must be a noise such as ldl.data.GaussianNoise(0.3), got {noise!r}"
            )
        if self.x.ndim == 0 or len(self.x) == 0:
            raise ValueError(f"the data set is empty: x has shape {tuple(self.x.shape)}")
        if self.y.ndim == 0 or len(self.x) != len(self.y):
            raise ValueError(
                f"x has {len(self.x)} samples and y has shape {tuple(self.y.shape)}: give one "
                "target a sample"
            )
        self.sample_weight = None if sample_weight is None else readable(sample_weight)
        if self.sample_weight is not None:
            check_sample_weight(self.sample_weight, len(self.x))

    def __len__(self) -> int:
        return len(self.x)

    def place(
        self, backend: Backend, dtype: DType, labels: bool, tokens: bool = False
    ) -> Arrays | Streamed:
        """The same on a backend, cast to `dtype`, but for integers y where `labels`, x where
        `tokens`.

        Host arrays too large for the device stay where they are, and on the host large ones on a
        disk which are of another type: batches are read, cast and sent as they come.
        ValueError for x beyond [0, 1] where the noise cuts to it, and where no sample counts.
        """
        if self.sample_weight is not None:
            check_counting(self.sample_weight, wide(dtype))
        types = self._types(dtype, labels, tokens)
        host = issubclass(backend.array_type, np.ndarray)
        by_batch = host and is_read_by_batch(self._distinct(), types)
        if by_batch or not self._fits(backend, dtype):
            self._check_cut(self.x)
            return Streamed(self._distinct(), types, self.y is self.x, self.noise, self.is_shard)
        return self.send(backend, dtype, labels, tokens)

    def send(self, backend: Backend, dtype: DType, labels: bool, tokens: bool = False) -> Arrays:
        """`place`, whatever the size."""
        types = self._types(dtype, labels, tokens)
        arrays = [sent(backend, *each) for each in zip(self._distinct(), types, strict=True)]
        self._check_cut(self.x if isinstance(self.x, np.ndarray) else arrays[0])
        placed = copy(self)
        placed.x = placed.y = arrays.pop(0)
        if self.y is not self.x:
            placed.y = arrays.pop(0)
        if self.sample_weight is not None:
            placed.sample_weight = arrays.pop(0)
        return placed

    def _types(self, dtype: DType, labels: bool, tokens: bool) -> list[DType]:
        """What each of the distinct parts is cast to, None where it is not."""
        target = [] if self.y is self.x else [None if self._labels(labels) else dtype]
        weights = [] if self.sample_weight is None else [wide(dtype)]
        return ["int64" if tokens else dtype, *target, *weights]

    def parts(self) -> list[Any]:
        """The arrays (x, y), or (x, y, sample_weight)."""
        return [self.x, self.y, *([] if self.sample_weight is None else [self.sample_weight])]

    def check_finite(self, dtype: DType) -> None:
        """ValueError, naming row and column, for what is no finite number of the type."""
        check_finite(self.x, "x", dtype, self.names)
        if self.y is not self.x:
            check_finite(self.y, "y", dtype)

    def _labels(self, wanted: bool) -> bool:
        """Whether y stays as it is: labels, and what has their shape and is refused as it is."""
        return wanted and (self.y.ndim == 1 or getattr(self.y.dtype, "kind", "") in ("i", "u"))

    def checksum(self, dtype: DType) -> int:
        """A number that tells these samples, cast, from others; reads `CHECKED` of each array."""
        found = 0
        for array in self._distinct():
            rows = array[:: 1 + array.size * array.dtype.itemsize // CHECKED]
            found = crc32(
                get_backend("numpy").asarray(rows, dtype).reshape(-1).view(np.uint8), found
            )
        return found

    def _fits(self, backend: Backend, dtype: DType) -> bool:
        arrays = self._distinct()
        size = np.dtype(dtype).itemsize
        here = all(isinstance(array, (np.ndarray, Picked)) for array in arrays)
        return not here or backend.fits(sum(array.size * size for array in arrays))

    def _check_cut(self, x: Array) -> None:
        """ValueError for x beyond [0, 1] where the noise cuts to it."""
        if not getattr(self.noise, "cuts", False):
            return
        low, high = float(x.min()), float(x.max())
        if low < -1e-6 or high > 1 + 1e-6:  # but for rounding
            strength = getattr(self.noise, "strength", 0.5)
            raise ValueError(
                f"{self.noise!r} cuts to [0, 1], but x goes from {low:.3g} to {high:.3g}: scale x "
                f"to [0, 1], or use one that does not, GaussianNoise({strength:g}, clip=False)"
            )

    def batches(
        self, backend: Backend, cuts: Iterable[Cut], order: Any = None, stream: Stream | None = None
    ) -> Iterator[Batch]:
        """The batches of these cuts, of rows in the order of the host indices `order`.

        Without an order the rows come as they stand. `stream` is drawn from once a batch where
        there is noise.
        """
        index = None if order is None else backend.asarray(order)
        for rows, share in cuts:
            if index is None:
                x, *rest = (a[rows].copy() for a in self._distinct())
            else:
                x, *rest = (backend.take(a, index[rows]) for a in self._distinct())
            y = x if self.y is self.x else rest.pop(0)
            if self.noise is not None and stream is not None:
                with shared(share):
                    x = self.noise(x, stream, backend)
            yield x, y, *rest

    def _distinct(self) -> list[Any]:
        """The parts, y not where it is x."""
        x, y, *rest = self.parts()
        return [x, *([] if y is x else [y]), *rest]


class Stored:
    """Batches that the caller made: a list, or anything that can be iterated again.

    Each is (x, y), or (x, y, sample_weight).
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        if isinstance(batches, Iterator):
            raise TypeError(
                "data is an iterator, which gives its batches once: give a list of (x, y) batches "
                "or an object with __iter__, so that every epoch can begin anew"
            )
        self.source = batches
        self._finite: DType = None

    def check_finite(self, dtype: DType) -> None:
        """`Arrays.check_finite` of every batch, as it comes."""
        self._finite = dtype

    def place(self, backend: Backend, dtype: DType, labels: bool, tokens: bool = False) -> Stored:
        """Remember how to cast; each batch is moved as it comes."""
        self._cast = dtype, labels, tokens
        return self

    def batches(
        self, backend: Backend, cuts: Any = None, order: Any = None, stream: Stream | None = None
    ) -> Iterator[Batch]:
        """The batches as they come, whole; size and order are the caller's."""
        for batch in self.source:
            _check_pair(batch)
            x, y, *rest = batch
            given = Arrays(x, y, None, *rest)
            if self._finite is not None:
                given.check_finite(self._finite)
            yield tuple(given.send(backend, *self._cast).parts())


Data = Arrays | Streamed | Stored
"""Data that were placed."""


def as_data(data: Any, sample_weight: Any = None) -> Arrays | Stored:
    """Data as something with `place` and `batches`.

    They are x, (x, y), (x, y, sample_weight), an Arrays, or an iterable of batches; arrays may have
    their weights given beside them.
    """
    found = _as_data(data)
    if sample_weight is None:
        return found
    if isinstance(found, Stored):
        raise TypeError(
            "sample_weight is for arrays: of batches, let each bring its own, (x, y, sample_weight)"
        )
    if found.sample_weight is not None:
        raise ValueError("sample_weight is given twice, in the data too: leave one out")
    weighted = Arrays(found.x, found.y, found.noise, sample_weight)
    weighted.names = found.names
    return weighted


def _as_data(data: Any) -> Arrays | Stored:
    if isinstance(data, (Arrays, Stored)):
        return data
    if isinstance(data, tuple):
        if len(data) not in (2, 3):
            raise TypeError(
                "data must be x, (x, y), (x, y, sample_weight) or batches; got a tuple of "
                f"{len(data)}"
            )
        x, y, *rest = data
        return Arrays(x, y, None, *rest)
    if is_array(data):
        return Arrays(data)
    if hasattr(data, "x_train"):
        raise TypeError(
            "a data set d has a part to train on and one to test: give (d.x_train, d.y_train), or "
            "d.x_train alone to an autoencoder"
        )
    if isinstance(data, list) and any(map(is_array, data)):
        raise TypeError("a list is one of batches (x, y): give two arrays as a tuple, (x, y)")
    if hasattr(data, "__iter__") and not isinstance(data, (type, dict, set, str, bytes)):
        return Stored(data)
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    way = ": a set of samples by number goes into a loader of batches" if indexed else ""
    raise TypeError(
        f"data must be an array x, a pair (x, y), an ldl.data.Arrays or an iterable of batches, "
        f"got {type(data).__name__}{way}"
    )


def _check_pair(batch: Any) -> None:
    """TypeError for what is no batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        count = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise TypeError(
            f"a batch must be a pair (x, y), or (x, y, sample_weight), got a "
            f"{type(batch).__name__}{count}: an autoencoder's is (x, x), and samples that are no "
            "batches go into one array"
        )
    if any(isinstance(part, (int, float)) for part in batch):
        raise TypeError(
            f"a batch must be a pair of arrays (x, y), got {short(batch)}: samples that are no "
            "batches go into one array"
        )
