"""The axes of a loop in the order in which they are gone through."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from ldl.compiler.loops import Loop, View


class Nest:
    """Outer axes, those of a row within them, and perhaps one of lanes within these.

    Rows follow each other, or where the last axis of all is not one of theirs, lie side by side
    along it: it is then the innermost, the `lane`. Neighbours that every view goes through as one
    axis are one. `outer`, `inner` and `lane` number the axes; no source depends on their `sizes`.
    """

    def __init__(self, loop: Loop, views: Iterable[View]) -> None:
        self._seen = list(views)
        self._sizes = loop.sizes
        every = range(len(loop.sizes))
        inner = sorted(loop.split)
        outer = [axis for axis in every if axis not in loop.split]
        aside = bool(inner) and inner[-1] < len(every) - 1
        groups = [outer[:-1], inner, outer[-1:]] if aside else [outer, inner]
        merged = [self._merged(group) for group in groups]
        self._axes = [axes for group in merged for axes in group]
        self.sizes = [prod(self._sizes[axis] for axis in axes) for axes in self._axes]
        self.outer = range(len(merged[0]))
        self.inner = range(len(merged[0]), len(merged[0]) + len(merged[1]))
        self.lane = len(self.sizes) - 1 if aside else None
        straight = [prod(self._sizes[axis + 1 :]) for axis in every]
        self.straight = tuple(straight[axes[-1]] for axes in self._axes)
        """The strides of a C-contiguous array."""

    def _merged(self, group: list[int]) -> list[list[int]]:
        done: list[list[int]] = []
        for axis in group:
            n = self._sizes[axis]
            if done and all(v.strides[done[-1][-1]] == v.strides[axis] * n for v in self._seen):
                done[-1].append(axis)
            else:
                done.append([axis])
        return done

    def strides(self, view: View) -> tuple[int, ...]:
        """Those of a view along these axes."""
        return tuple(view.strides[axes[-1]] for axes in self._axes)

    def count(self, axes: Iterable[int]) -> int:
        """How many elements there are along some axes."""
        return prod(self.sizes[axis] for axis in axes)
