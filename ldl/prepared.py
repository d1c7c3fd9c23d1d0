"""Calls that nothing comes between, and kernels made ready for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from operator import call
from typing import Any


def play(calls: Iterable[Sequence[Any]]) -> None:
    """Call the first of each with the others.

    This is one call of C: no interrupt comes between functions that are C's as well.
    """
    deque(starmap(call, calls), 0)


class Prepared:
    """A kernel ready to be run with other numbers every time: `prepared(*numbers)`.

    `calls` do it with the numbers that were `set` last. It holds its `arrays`, and `bytes` of
    memory beside them.
    """

    bytes = 0
    compiled = False
    """Whether none of NumPy's functions is called."""

    def __init__(self, arrays: Sequence[Any], function: Callable[..., Any]) -> None:
        self.arrays = arrays
        self.calls: list[list[Any]] = [[self._run]]
        self._function = function
        self._values: tuple[float, ...] = ()

    def set(self, *values: float) -> None:
        """Note the numbers."""
        self._values = values

    def __call__(self, *values: float) -> None:
        """Run it."""
        self.set(*values)
        play(self.calls)

    def _run(self) -> None:
        self._function(*self._values)
