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
from math import prod
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from ldl.forks import guarded
from ldl.numbers import integer
from ldl.prepared import play

WEIGHTS, SHUFFLE, NOISE, DROPOUT, SPLIT = range(5)
"""What a stream is for. Streams of one seed are independent of each other."""


WORDS = 5
"""Numbers of which `Key.words` are."""


class Share(NamedTuple):
    """Rows first … first + here - 1 of a batch of `whole` rows."""

    first: int
    here: int
    whole: int


class Key(NamedTuple):
    """Names one draw, or the part of it that is a share's: equal keys give equal numbers."""

    seed: int
    stream: int
    draw: int
    share: Share | None = None

    def span(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Where an array of that shape begins in the draw, and of how many numbers the draw is.

        An array of as many rows as the share has, or a multiple, is the share's; any other, such
        as a mask of weights, is the whole draw.
        """
        size, share = prod(shape), self.share
        if share is None or not shape or not share.here or shape[0] % share.here:
            return 0, size
        each = size // share.here
        return share.first * each, share.whole * each

    def words(self, shape: tuple[int, ...]) -> tuple[int, int, int, int, int]:
        """The seed, the stream, the draw, and the span of that shape."""
        return self.seed, self.stream, self.draw, *self.span(shape)


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
        """The key of the next draw; of samples, for the share that is in force."""
        samples = self.stream >> 32 in (NOISE, DROPOUT)
        key = Key(self.seed, self.stream, self.draw, _share.get() if samples else None)
        self.draw += 1
        return key


def check_seed(seed: int) -> int:
    """The seed as a Python int; ValueError unless it is an integer in [0, 2⁶⁴)."""
    seed = integer("seed", seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in [0, 2**64), got {seed}")
    return seed


def philox(key: Key, block: int = 0) -> np.random.Philox:
    """NumPy's generator of a draw's blocks, of eight float32 each, from that one on."""
    return np.random.Philox(
        key=np.array([key.seed, key.stream], np.uint64),
        counter=np.array([block, key.draw, 0, 0], np.uint64),
    )


def uniform(shape: tuple[int, ...], key: Key) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Uniform float32 numbers in [0, 1) with 24 random bits each, on the host."""
    block, skipped = divmod(key.span(shape)[0], 8)
    generator = np.random.Generator(philox(key, block))
    if not skipped:
        return generator.random(shape, dtype=np.float32)
    drawn = generator.random(skipped + prod(shape), dtype=np.float32)
    return drawn[skipped:].reshape(shape)


def permutation(n: int, key: Key) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A random order of 0 .. n-1, on the host."""
    return np.random.Generator(philox(key)).permutation(n)


_share: ContextVar[Share | None] = ContextVar("ldl_share", default=None)


@contextmanager
def shared(share: Share | None) -> Iterator[None]:
    """Inside the block, this thread's draws are those of a share of a batch, unless it is whole.

    What each of several processes draws for its rows is then what one draws for all of them.
    """
    before = _share.get()
    part = None if share is None or share.here == share.whole else share
    if part is before:  # of one process: nothing is set that an interrupt could leave
        yield
        return
    try:
        _share.set(part)
        yield
    finally:
        _share.set(before)


class _Building:
    """Where the initial weights come from, and how many streams were handed out."""

    def __init__(self, seed: int) -> None:
        self.weights, self.streams = Stream(seed, WEIGHTS), 0


_lock = guarded(Lock())
_everywhere = _Building(0)
_inside: ContextVar[_Building | None] = ContextVar("ldl_seeded", default=None)


def manual_seed(seed: int) -> None:
    """Seed what is built from now on: initial weights, and dropout outside `ldl.fit`."""
    global _everywhere
    with _lock:
        _everywhere = _Building(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block, what this thread builds is as after `manual_seed(seed)`.

    What is built after it, or by other threads, is as if the block had not been.
    """
    token = _inside.set(_Building(seed))
    try:
        yield
    finally:
        _inside.reset(token)


def _building() -> _Building:
    return _inside.get() or _everywhere


def next_weights() -> Key:
    """The key of the next initial weights."""
    with _lock:
        return _building().weights.next()


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
    building = _building()
    if _uncounted.get():
        return Stream(building.weights.seed, purpose)
    with _lock:
        made = Stream(building.weights.seed, purpose, building.streams)
        building.streams += 1
        return made
