"""States: what is compared by its numbers, arrays of the host and generators of random ones."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from ldl.random import Stream


def is_table(x: Any) -> bool:
    """Whether it is an array of the host, NumPy's or Python's."""
    return isinstance(x, (np.ndarray, bytearray)) or type(x).__module__ == "array"


def bytes_of(x: Any) -> bytes:
    """The numbers in an array of the host."""
    return x.tobytes() if hasattr(x, "tobytes") else bytes(x)


def set_bytes(x: Any, held: bytes) -> None:
    """Write numbers to an array of the host; what holds objects is left as it is."""
    if isinstance(x, bytearray):
        x[:] = held
    elif not isinstance(x, np.ndarray):
        x[:] = type(x)(x.typecode, held)
    elif not x.dtype.hasobject:
        x[...] = np.frombuffer(held, x.dtype).reshape(x.shape)


def state_of(x: Any) -> Any:
    """The state of a generator of random numbers, ldl's, NumPy's or Python's; else None."""
    if isinstance(x, Stream):
        return x.seed, x.stream, x.draw
    if isinstance(x, np.random.Generator):
        return x.bit_generator.state
    if isinstance(x, np.random.BitGenerator):
        return x.state
    if isinstance(x, np.random.RandomState):
        return x.get_state(legacy=False)
    return x.getstate() if isinstance(x, random.Random) else None


def has_moved(x: Any, state: Any) -> bool:
    """Whether a generator's state is another one now."""
    return repr(state_of(x)) != repr(state)


def set_state(x: Any, state: Any) -> None:
    """Bring a generator to a state."""
    if isinstance(x, Stream):
        x.seed, x.stream, x.draw = state
    elif isinstance(x, np.random.Generator):
        x.bit_generator.state = state
    elif isinstance(x, np.random.BitGenerator):
        x.state = state
    elif isinstance(x, np.random.RandomState):
        x.set_state(state)
    else:
        x.setstate(state)
