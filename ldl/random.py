"""Counter-based random numbers: a function of (seed, stream, draw), the same on every backend.

The generator is Philox4x64-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3,
SC 2011), which NumPy has in C. The seed and the stream make its key, and each draw owns a counter
space of 2⁶⁴ blocks; nothing is shared, so a draw can be repeated, skipped or made elsewhere.

    ldl.manual_seed(0)      # the initial weights of what is built from now on
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from ldl.forks import guarded
from ldl.numbers import integer
from ldl.prepared import play

WEIGHTS, SHUFFLE, NOISE, DROPOUT, SPLIT = range(5)
"""What a stream is for. Streams of one seed are independent of each other."""


class Key(NamedTuple):
    """Names one draw: two equal keys give equal numbers."""

    seed: int
    stream: int
    draw: int


class Stream:
    """A series of draws of one seed and one purpose; `draw` counts them and is all its state."""

    __slots__ = ("draw", "seed", "stream")

    draw: int
    seed: int
    stream: int

    def __init__(self, seed: int, purpose: int, index: int = 0) -> None:
        self.restart(seed, purpose, index)

    def restart(self, seed: int, purpose: int, index: int = 0) -> None:
        """Become the stream of that seed and purpose, before its first draw."""
        stream = (integer("purpose", purpose) << 32) | integer("index", index)
        state = {"seed": check_seed(seed), "stream": stream, "draw": 0}
        play([(setattr, self, name, value) for name, value in state.items()])

    def next(self) -> Key:
        """The key of the next draw."""
        key = Key(self.seed, self.stream, self.draw)
        self.draw += 1
        return key


def check_seed(seed: int) -> int:
    """The seed as a Python int; ValueError unless it is an integer in [0, 2⁶⁴)."""
    seed = integer("seed", seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in [0, 2**64), got {seed}")
    return seed


def _generator(key: Key) -> np.random.Generator:
    philox = np.random.Philox(
        key=np.array([key.seed, key.stream], np.uint64),
        counter=np.array([0, key.draw, 0, 0], np.uint64),
    )
    return np.random.Generator(philox)


def uniform(shape: tuple[int, ...], key: Key) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Uniform float32 numbers in [0, 1) with 24 random bits each, on the host."""
    return _generator(key).random(shape, dtype=np.float32)


def permutation(n: int, key: Key) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A random order of 0 .. n-1, on the host."""
    return _generator(key).permutation(n)


_lock = guarded(Lock())
_weights = Stream(0, WEIGHTS)
_streams = 0


def manual_seed(seed: int) -> None:
    """Seed what is built from now on: initial weights, and dropout outside `ldl.fit`."""
    global _weights, _streams
    with _lock:
        _weights, _streams = Stream(seed, WEIGHTS), 0


def next_weights() -> Key:
    """The key of the next initial weights."""
    with _lock:
        return _weights.next()


_uncounted: ContextVar[bool] = ContextVar("ldl_uncounted", default=False)


@contextmanager
def uncounted() -> Iterator[None]:
    """Inside the block, what is built for a trial takes no stream from what is built later."""
    before = _uncounted.get()
    try:
        _uncounted.set(True)
        yield
    finally:
        _uncounted.set(before)


def next_stream(purpose: int) -> Stream:
    """A stream of the seed in force that nothing else draws from."""
    global _streams
    if _uncounted.get():
        return Stream(_weights.seed, purpose)
    with _lock:
        made = Stream(_weights.seed, purpose, _streams)
        _streams += 1
        return made
