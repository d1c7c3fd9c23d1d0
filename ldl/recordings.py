"""Recordings by what they are for: made anew when what they rest on has changed.

Where that changes all the time, so that each is in vain, none is made for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any
from warnings import warn

from ldl.backend import Array, Recording
from ldl.caches import Cache

VAIN = 8
"""Recordings in a row that may be out of date before they were played again."""

PAUSES = 64, 1024
"""Calls without a recording after that: at first, and twice as many each time up to so many."""

AGAIN = 2
"""Tries in a row to record what only made something for later, such as an entry of a cache."""

SLOWER = "the step runs layer by layer, which is slower"

Record = Callable[[Any, Sequence[Any], Sequence[Array]], Recording]


class Paused(Recording):
    """The function itself, for a number of calls."""

    def __init__(self, function: Any, parts: Sequence[Any], calls: int) -> None:
        super().__init__(function, parts)
        self.calls = calls

    def valid(self) -> bool:
        """Whether it is not yet time to try again."""
        self.calls -= 1
        return self.calls >= 0


class Recordings(Cache):
    """What was recorded, by shapes and types, or by whatever tells one from another."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._vain, self._pause, self._said = 0, PAUSES[0], False
        self._again = 0

    def find(self, key: Hashable, fits: Callable[[Recording], bool]) -> Recording | None:
        """The recording there, if it still fits."""
        found: Recording | None = self.get(key)
        if found is not None and fits(found):
            if self._vain and found.played:
                self._vain, self._pause = 0, PAUSES[0]
            return found
        if found is not None and found.played:
            self._vain += 1
            if self._vain == VAIN and not self._said:
                self._said = True
                warn(f"{SLOWER}: {found.what_changed()}", stacklevel=4)
        return None

    def made(
        self, record: Record, function: Any, parts: Sequence[Any], given: Sequence[Array]
    ) -> Recording:
        """What `record` makes, or the function itself where that was in vain again and again."""
        if self._vain < VAIN:
            made = record(function, parts, given)
            made.again = made.again and self._again < AGAIN
            self._again = self._again + made.refused if not made.played else 0
            return made
        calls, self._pause = self._pause, min(2 * self._pause, PAUSES[1])
        self._vain = VAIN - 1
        return Paused(function, parts, calls)
