"""Recording on the host: a traced function, planned and played."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ldl.calm import calm
from ldl.compiler.dryrun import Function, dry_run
from ldl.compiler.operations import Host
from ldl.compiler.plan import Fuse, Plan
from ldl.compiler.recorded import Recorded
from ldl.nn.module import Differentiable

SMALL = 2**14
"""Bytes of an input that are copied sooner than a plan is told where they lie."""


class PlannedStep(Recorded):
    """A function ready to be played: `recording(*inputs)` gives what the function would."""

    def __init__(
        self,
        function: Function,
        parts: Sequence[Differentiable],
        inputs: Sequence[Host],
        fuse: Fuse | None,
    ) -> None:
        held = {id(x): np.array(x, order="C") for x in inputs}  # one may be an array of the parts'
        inputs = [held[id(x)] for x in inputs]
        self._small = [x if x.nbytes <= SMALL else None for x in inputs]
        """Of each input the array that it is copied to, where that takes no longer than to bind."""
        traced = dry_run(function, parts, inputs, _itself)
        super().__init__(function, parts, traced)
        values = [traced.trace.external(array) for array in inputs]
        self._plan = Plan(traced.trace, values, traced.results, fuse)
        self.bytes = self._plan.bytes
        plan = self._plan
        self._play: Any = plan if plan.compiled else calm(plan.__call__)
        self.streams = plan.streams
        self.carried = plan.carried

    def __call__(self, *inputs: Host) -> tuple[Any, ...]:
        """Play it; arrays among the results are valid until it is played again."""
        self._play(*map(_placed, inputs, self._small))
        self.leave_flags()
        return tuple([r[()] if r.ndim == 0 else r for r in self._plan.results])


def _itself(array: Host) -> Host:
    return array


def _placed(x: Host, place: Host | None) -> Host:
    """The array in C order, which is how a plan reads its inputs, or a copy in its place."""
    if place is not None:
        place[...] = x
        return place
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)
