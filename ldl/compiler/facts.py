"""Facts: what a step must leave as it is, or write back where that is arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ldl.compiler.holdings import PASSING, Holdings
from ldl.compiler.operations import CannotTraceError, NotYetError
from ldl.compiler.same import are_equal, is_of_class
from ldl.compiler.traced import Traced
from ldl.compiler.watched import Owner
from ldl.nn.changes import Marked
from ldl.nn.module import Differentiable
from ldl.nn.parameter import Parameter


class Facts:
    """What copies of parts and parameters hold before a step, and what is around them.

    Streams of random numbers begin `ahead` draws later: what a step makes of those numbers itself
    is then another number, but not what it draws from them.
    """

    def __init__(
        self,
        function: Any,
        copies: Sequence[Differentiable],
        modules: Sequence[Differentiable],
        parameters: Sequence[Parameter],
        ahead: int = 0,
    ) -> None:
        for module in modules:
            replaced = [name for name in ("forward", "backward") if name in vars(module)]
            if replaced:
                raise CannotTraceError(f"{module!r} has a {replaced[0]} of its own")
        self._parameters = [(p, p.data) for p in parameters]
        self._held = Holdings(function, copies, Traced)
        for stream in self._held.streams:
            stream.draw += ahead

    def settle(self) -> None:
        """Note that arrays bound anew are written back; CannotTraceError for any other change."""
        known = {id(p) for p, _ in self._parameters}
        anew = [(old, p.data) for p, old in self._parameters if p.data is not old]
        changes: list[tuple[str, bool]] = []
        for found in self._held.changes():
            if id(found.thing) in known:
                continue
            if not (isinstance(found.thing, Marked) and found.owner.is_part):
                changes.append((found.what().changes(), found.only_adds()))
                continue
            now, then = vars(found.thing), dict(zip(found.names, found.values(), strict=True))
            for name in sorted((then.keys() | now.keys()) - PASSING):
                old, new = then.get(name), now.get(name)
                if name in then and _alike(old, new):
                    anew += [(old, new)] if old is not new else []
                elif not are_equal(old, new):
                    adds = old is None and not is_of_class(found.thing, name)
                    changes.append((Owner(found.thing, name).changes(), adds))
        if changes:
            whether = all(adds for _, adds in changes)
            raise (NotYetError if whether else CannotTraceError)(changes[0][0])
        for what in self._held.moved():
            raise CannotTraceError(what)
        if not all(_alike(old, new) for old, new in anew):
            raise CannotTraceError("the step binds a parameter to another kind of array")
        for old, new in [(old, new.copy()) for old, new in anew]:
            old[...] = new

    def put_back(self) -> None:
        """What is around the parts, and no copy, is as it was."""
        self._held.put_back()


def _alike(old: Any, new: Any) -> bool:
    """Whether both are traced arrays of the same kind."""
    both = isinstance(old, Traced) and isinstance(new, Traced)
    return both and (old.shape, old.dtype) == (new.shape, new.dtype)
