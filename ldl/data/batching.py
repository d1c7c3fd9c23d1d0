"""Batches: what `ldl.fit` iterates over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from typing import Any
from zlib import crc32

import numpy as np

from ldl.arrays import check_kind, is_array, on_device, taken
from ldl.backend import Array, Backend, DType, get_backend
from ldl.data.noise import Noise
from ldl.numbers import short
from ldl.random import Stream

Batch = tuple[Array, Array]

CHECKED = 2**26
"""Bytes of an array that a checksum reads at most, in rows at even distances."""


class Arrays:
    """Samples x (N, …) and their targets y (N, …), held in memory.

    Without `y`, x is its own target, as an autoencoder wants it. With `noise`, x is corrupted
    afresh for every batch and y is left as it is. Arrays may be of any origin and type: they are
    cast and moved once.
    """

    def __init__(self, x: Any, y: Any = None, noise: Noise | None = None) -> None:
        self.x = _array(x)
        self.y = self.x if y is None or y is x else _array(y)
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

    def __len__(self) -> int:
        return len(self.x)

    def place(self, backend: Backend, dtype: DType, labels: bool) -> Arrays | Streamed:
        """The same on a backend, cast to `dtype`, but for a y of shape (N,) where `labels`.

        Host arrays too large for the device stay where they are: batches are sent as they come.
        ValueError for x beyond [0, 1] where the noise cuts to it.
        """
        if not self._fits(backend, dtype):
            return Streamed(self, dtype, labels)
        return self.send(backend, dtype, labels)

    def send(self, backend: Backend, dtype: DType, labels: bool) -> Arrays:
        """`place`, whatever the size."""
        x = backend.asarray(self.x, dtype)
        if getattr(self.noise, "cuts", False):
            self._check_range(self.x if isinstance(self.x, np.ndarray) else x)
        placed = copy(self)
        placed.x = placed.y = x
        if self.y is not self.x:
            kept = labels and self.y.ndim == 1
            placed.y = backend.asarray(self.y, None if kept else dtype)
        return placed

    def checksum(self, dtype: DType) -> int:
        """A number that tells these samples, cast, from others; reads `CHECKED` of each array."""
        found = 0
        for array in (self.x,) if self.y is self.x else (self.x, self.y):
            rows = array[:: 1 + array.size * array.dtype.itemsize // CHECKED]
            found = crc32(
                get_backend("numpy").asarray(rows, dtype).reshape(-1).view(np.uint8), found
            )
        return found

    def _fits(self, backend: Backend, dtype: DType) -> bool:
        arrays = [self.x] if self.y is self.x else [self.x, self.y]
        size = np.dtype(dtype).itemsize
        here = all(isinstance(array, np.ndarray) for array in arrays)
        return not here or backend.fits(sum(array.size * size for array in arrays))

    def _check_range(self, x: Array) -> None:
        low, high = float(x.min()), float(x.max())
        if low < -1e-6 or high > 1 + 1e-6:  # but for rounding
            strength = getattr(self.noise, "strength", 0.5)
            raise ValueError(
                f"{self.noise!r} cuts to [0, 1], but x goes from {low:.3g} to {high:.3g}: scale x "
                f"to [0, 1], or use one that does not, GaussianNoise({strength:g}, clip=False)"
            )

    def batches(
        self, backend: Backend, size: int, order: Any = None, stream: Stream | None = None
    ) -> Iterator[Batch]:
        """Batches of `size` rows, the last one smaller, in the order of the host indices `order`.

        Without an order the rows come as they stand. `stream` is drawn from once a batch where
        there is noise.
        """
        index = None if order is None else backend.asarray(order)
        for start in range(0, len(self) if order is None else len(order), size):
            if index is None:
                x = self.x[start : start + size].copy()
                y = x if self.y is self.x else self.y[start : start + size].copy()
            else:
                rows = index[start : start + size]
                x = backend.take(self.x, rows)
                y = x if self.y is self.x else backend.take(self.y, rows)
            if self.noise is not None and stream is not None:
                x = self.noise(x, stream, backend)
            yield x, y


class Streamed:
    """Samples that stay on the host: each batch is gathered there and sent, while others run."""

    def __init__(self, data: Arrays, dtype: DType, labels: bool) -> None:
        self.data, self.noise = data, data.noise
        if getattr(data.noise, "cuts", False):
            data._check_range(data.x)
        self._types = dtype, None if labels and data.y.ndim == 1 else dtype

    def __len__(self) -> int:
        return len(self.data)

    def batches(
        self, backend: Backend, size: int, order: Any = None, stream: Stream | None = None
    ) -> Iterator[Batch]:
        """As `Arrays.batches`."""
        for start in range(0, len(self) if order is None else len(order), size):
            rows = slice(start, start + size) if order is None else order[start : start + size]
            x = y = backend.asarray(self.data.x[rows], self._types[0])
            if self.data.y is not self.data.x:
                y = backend.asarray(self.data.y[rows], self._types[1])
            if self.noise is not None and stream is not None:
                x = self.noise(x, stream, backend)
            yield x, y


class Stored:
    """Batches (x, y) that the caller made: a list, or anything that can be iterated again."""

    def __init__(self, batches: Iterable[Any]) -> None:
        if isinstance(batches, Iterator):
            raise TypeError(
                "data is an iterator, which gives its batches once: give a list of (x, y) batches "
                "or an object with __iter__, so that every epoch can begin anew"
            )
        self.source = batches

    def place(self, backend: Backend, dtype: DType, labels: bool) -> Stored:
        """Remember how to cast; each batch is moved as it comes."""
        self._cast = dtype, labels
        return self

    def batches(
        self, backend: Backend, size: int, order: Any = None, stream: Stream | None = None
    ) -> Iterator[Batch]:
        """The batches as they come; size and order are the caller's."""
        dtype, labels = self._cast
        for batch in self.source:
            _check_pair(batch)
            placed = Arrays(*batch).send(backend, dtype, labels)
            yield placed.x, placed.y


Data = Arrays | Streamed | Stored
"""Data that were placed."""


def as_data(data: Any) -> Arrays | Stored:
    """x, (x, y), an Arrays, or an iterable of batches, as something with `place` and `batches`."""
    if isinstance(data, (Arrays, Stored)):
        return data
    if isinstance(data, tuple):
        if len(data) != 2:
            raise TypeError(f"data must be x, (x, y) or batches; got a tuple of {len(data)}")
        return Arrays(*data)
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
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        count = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise TypeError(
            f"a batch must be a pair (x, y), got a {type(batch).__name__}{count}: an autoencoder's "
            "is (x, x), and samples that are no batches go into one array"
        )
    if any(isinstance(part, (int, float)) for part in batch):
        raise TypeError(
            f"a batch must be a pair of arrays (x, y), got {short(batch)}: samples that are no "
            "batches go into one array"
        )


def _array(data: Any) -> Any:
    """The data where it stands: a device's array as it is, anything else as one on the host."""
    if not on_device(data):
        return taken(data)
    check_kind(data.dtype)
    return data
