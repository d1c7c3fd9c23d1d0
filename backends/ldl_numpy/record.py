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
        traced = dry_run(function, parts, inputs, _itself)
        super().__init__(function, parts, traced)
        values = [traced.trace.external(array) for array in inputs]
        self._plan = Plan(traced.trace, values, traced.results, fuse)
        self.bytes = self._plan.bytes
        plan = self._plan
        self._play: Any = plan if plan.compiled else calm(plan.__call__)
        self.streams = plan.streams
        self.carried = plan.carried

    def account(self) -> list[Any]:
        """The plan's operations."""
        return list(self._plan.account)

    def explain(self) -> str:
        """The plan's operations, in words."""
        return self._plan.explain()

    def __call__(self, *inputs: Host) -> tuple[Any, ...]:
        """Play it; arrays among the results are valid until it is played again."""
        self._play(*inputs)
        self.leave_flags()
        return tuple([r[()] if r.ndim == 0 else r for r in self._plan.results])


def _itself(array: Host) -> Host:
    return array
