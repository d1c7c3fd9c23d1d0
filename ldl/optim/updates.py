"""Updates: what a step of an optimizer does to arrays, gathered and then done without a break."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from ldl import caches
from ldl.backend import Array, Backend
from ldl.calm import calm
from ldl.prepared import play


@cache
def is_own(update: Callable[..., None]) -> bool:
    """Whether it is one of ldl's own."""
    return str(update.__module__).startswith("ldl.optim.")


class Updates:
    """Kernels, prepared once for their arrays and the names of their numbers.

    What is prepared takes at most `ldl.caches.UPDATES` bytes beside what the last step needed.
    """

    def __init__(self) -> None:
        self.prepared = caches.Cache(caches.UPDATES)
        self._calls: list[list[Any]] | None = None
        self._compiled = True
        self._used = 0

    def begin(self, gathers: bool) -> None:
        """Begin a step, in which kernels are gathered, or else run at once."""
        self._calls = [] if gathers else None
        self._compiled = True
        self._used = 0

    def apply(
        self,
        backend: Backend,
        kernel: str,
        arrays: tuple[Array | None, ...],
        numbers: dict[str, float],
        constants: dict[str, Any],
    ) -> None:
        """Run a kernel on vectors, in place, or gather it."""
        key = kernel, *numbers, *map(id, arrays), *constants.values()
        found = self._found(key)
        if found is None:
            names = tuple(numbers)
            found = self._made(key, partial(backend.prepare, kernel, arrays, names, **constants))
        if self._calls is None:
            found(*numbers.values())
        else:
            found.set(*numbers.values())
            self._calls += found.calls
            self._compiled &= found.compiled

    def deferred(self, key: Any, make: Callable[[], Callable[[], Any]]) -> None:
        """Do what was made for a key."""
        (self._found(key) or self._made(key, make))()

    def commit(self, calls: list[Any]) -> None:
        """Do what was gathered, and then these calls: all of it, or nothing where it is refused."""
        gathered, self._calls = self._calls or [], None
        (play if self._compiled else calm(play))([*gathered, *calls])

    def _found(self, key: Any) -> Any:
        self._used += 1
        return self.prepared.get(key)

    def _made(self, key: Any, make: Callable[[], Any]) -> Any:
        made = calm(make)()
        self.prepared.put(key, made, keep=self._used)
        return made
