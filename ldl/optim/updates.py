"""Updates: kernels made ready for an optimizer's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ldl import caches
from ldl.backend import Array, Backend
from ldl.calm import calm
from ldl.prepared import Prepared


class Updates:
    """Kernels, prepared once for their arrays and the names of their numbers.

    What is prepared takes at most `ldl.caches.UPDATES` bytes beside what the last step needed.
    """

    def __init__(self) -> None:
        self.prepared = caches.Cache(caches.UPDATES)
        self._used = 0

    def begin(self) -> None:
        """Begin a step."""
        self._used = 0

    def kernel(
        self,
        backend: Backend,
        name: str,
        arrays: tuple[Array | None, ...],
        numbers: Iterable[str],
        constants: dict[str, Any],
    ) -> Prepared:
        """A kernel for vectors, which it changes in place."""
        names = tuple(numbers)
        key = name, names, *map(id, arrays), *constants.values()
        prepare = partial(backend.prepare, name, arrays, names, **constants)
        prepared: Prepared = self.found(key, prepare)
        return prepared

    def found(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made for a key."""
        self._used += 1
        found = self.prepared.get(key)
        if found is None:
            found = calm(make)()
            self.prepared.put(key, found, keep=self._used)
        return found
