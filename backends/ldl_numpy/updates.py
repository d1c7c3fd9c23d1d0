"""Updates: kernels that work in place on vectors, planned."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

import numpy as np

from ldl.calm import calm
from ldl.compiler.dryrun import trace_kernel
from ldl.compiler.operations import Host, Trace
from ldl.compiler.plan import Fuse, Place, Plan
from ldl.prepared import Prepared

PIECE = 2**20
"""Elements of an update planned together: few enough for the copies that a trace makes."""


class PlannedUpdate(Prepared):
    """A kernel's generic body, planned: one loop where it is compiled, else blocks.

    Its numbers stand in arrays without axes, so that others need no other plan.
    """

    def __init__(
        self,
        kernel: str,
        arrays: tuple[Host | None, ...],
        numbers: tuple[str, ...],
        constants: dict[str, Any],
        fuse: Fuse | None,
    ) -> None:
        first = arrays[0]
        assert first is not None
        self.arrays = arrays
        self._held: Any = np.ones(len(numbers), first.dtype)
        form = first.dtype.char
        self._write = Struct(len(numbers) * form).pack_into if form in "efd" else _assign
        named = {name: self._held[i : i + 1].reshape(()) for i, name in enumerate(numbers)}
        traces: dict[int, tuple[Trace, Sequence[Host | None]]] = {}
        plans: list[Plan] = []
        for start in range(0, len(first), PIECE) or [0]:
            cut = [None if a is None else a[start : start + PIECE] for a in arrays]
            size = len(first[start : start + PIECE])
            if size not in traces:
                traces[size] = trace_kernel(kernel, cut, named, constants), cut
            trace, traced = traces[size]
            plans.append(Plan(trace, [], [], fuse, _Instead(traced, cut)))
        self.calls = [row for plan in plans for row in plan.calls]
        self.bytes = sum(plan.bytes for plan in plans)
        self.compiled = all(plan.compiled for plan in plans)

    def set(self, *values: float) -> None:
        """Note the numbers."""
        try:
            self._write(self._held, 0, *values)
        except OverflowError:  # infinity is meant
            _assign(self._held, 0, *values)


@calm
def _assign(held: Any, start: int, *values: float) -> None:
    held[start:] = values


class _Instead(Place):
    """Arrays in the places of those that were traced."""

    def __init__(self, traced: Sequence[Host | None], arrays: Sequence[Host | None]) -> None:
        self._arrays = {id(t): a for t, a in zip(traced, arrays, strict=True) if t is not None}

    def external(self, array: Host) -> Any:
        """The one instead of this."""
        return self._arrays.get(id(array), array)
