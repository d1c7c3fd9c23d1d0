"""Caches: what was made for a key, kept while it is used and there is room.

Bounds are in bytes, and of what a cache keeps beside what is in use.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

STEPS = 2**30
"""Bytes of a TrainStep's recordings: one for every shape of batches."""

PREDICTIONS = 2**26
"""Bytes of a Predictor's recordings, one for every shape, in each thread that uses it."""

UPDATES = 2**26
"""Bytes of an optimizer's prepared updates, beside the parameters and their state."""

OBJECTS = 2**17
"""Bytes that anything counts beside its `bytes`: Python's objects."""


class Cache:
    """A mapping whose values say their `bytes`, of the host or a device.

    Beyond its limit the least recently used goes first. One thread uses it at a time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[Hashable, Any] = OrderedDict()
        self._latest: Any = None
        """The value at the end."""

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> Any:
        """What was put there, now the latest used; None where nothing is."""
        found = self._held.get(key)
        if found is not None and found is not self._latest:
            self._held.move_to_end(key)
            self._latest = found
        return found

    def put(self, key: Hashable, value: Any, keep: int = 1) -> None:
        """Keep a value; the `keep` latest used stay, whatever their size."""
        self._held[key] = value
        self._held.move_to_end(key)
        self._latest = value
        while len(self._held) > keep and self.bytes > self.limit:
            self._held.popitem(last=False)

    @property
    def bytes(self) -> int:
        """What the values hold together."""
        return sum(OBJECTS + getattr(value, "bytes", 0) for value in self.values())

    def values(self) -> list[Any]:
        """All values, the latest used last."""
        return list(self._held.values())

    def items(self) -> list[tuple[Hashable, Any]]:
        """All keys and values, the latest used last."""
        return list(self._held.items())

    def retain(self, wanted: Callable[[Any], bool]) -> None:
        """Drop the values that are not wanted."""
        self._held = OrderedDict((key, v) for key, v in self._held.items() if wanted(v))
        self._latest = None

    def clear(self) -> None:
        """Drop all."""
        self.retain(lambda _: False)
