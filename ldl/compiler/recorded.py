"""Recordings: for how long they are what a function does, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter, is_
from types import ModuleType
from typing import Any, ClassVar
from warnings import warn

import numpy as np

from ldl.backend import Backend, Recording
from ldl.compiler.dryrun import DryRun, Function, inside, parameters_of
from ldl.compiler.facts import marked_in
from ldl.compiler.operations import CannotTraceError, Host
from ldl.nn import changes
from ldl.nn.module import Differentiable

_BOUND = attrgetter("data", "grad_buffer", "requires_grad")


class Recorded(Recording):
    """A function that was traced, for as long as its parts are what they were then."""

    played: ClassVar[bool] = True

    def __init__(
        self,
        function: Function,
        parts: Sequence[Differentiable],
        traced: DryRun,
    ) -> None:
        super().__init__(function, parts)
        self._mark: object = None
        parameters = parameters_of(parts)
        self._flags = [
            (p, q.has_grad)
            for p, q in zip(parameters, traced.parameters, strict=True)
            if isinstance(q.has_grad, bool)
        ]
        self._parameters = parameters
        self._bound = [*chain.from_iterable(map(_BOUND, parameters))]
        modules = inside(parts)
        marked = [x for part in modules for x in marked_in(part)]
        self._attributes = [vars(x) for x in (*modules, *marked)]
        self._recorded = [value for held in self._attributes for value in held.values()]
        facts = [(held, n, value) for held in self._attributes for n, value in held.items()]
        facts = [fact for fact in facts if fact[1] != "_arguments"]
        inner = [_inside(value) for _, _, value in facts]
        self._nested = [(held, _contents(held)) for held in inner if held is not None]
        self._facts = [fact for fact in facts if fact[1] != "_kept"]

    def valid(self) -> bool:
        """Whether parameters, modes and attributes are still those that were recorded."""
        for nested, then in self._nested:
            now = _contents(nested)
            if len(now) != len(then) or not all(map(is_, now, then)):
                return False
        mark = changes.mark
        if mark is not self._mark:
            if not self._unchanged():
                return False
            self._mark = mark
        return True

    def _unchanged(self) -> bool:
        bound = chain.from_iterable(map(_BOUND, self._parameters))
        if not all(map(is_, bound, self._bound)):
            return False
        if sum(map(len, self._attributes)) == len(self._recorded):
            values = chain.from_iterable(map(dict.values, self._attributes))
            if all(map(is_, values, self._recorded)):
                return True
        return all([held.get(name) is value for held, name, value in self._facts])

    def leave_flags(self) -> None:
        """Note which parameters have a gradient now."""
        for p, has_grad in self._flags:
            if p.has_grad is not has_grad:
                p.has_grad = has_grad


def _inside(value: Any) -> Any:
    """What an attribute holds that may change while it stays the same object."""
    if isinstance(value, (list, dict, set)):
        return value
    known = (changes.Marked, Backend, type, ModuleType, np.ndarray)
    return None if isinstance(value, known) else getattr(value, "__dict__", None)


def _contents(held: Any) -> tuple[Any, ...]:
    return (*held, *held.values()) if isinstance(held, dict) else tuple(held)


class Unplayed(Recording):
    """The function itself, which could not be recorded: said once, when it has run."""

    def __init__(self, function: Function, parts: Sequence[Differentiable], why: str) -> None:
        super().__init__(function, parts)
        self.why = why
        self._said = not why
        self._failed = False

    def explain(self) -> str:
        """Why it is not recorded."""
        return f"{super().explain()}{self.why and ': '}{self.why}"

    def valid(self) -> bool:
        """Not after an error of the function itself: it may be recorded when that is mended."""
        return not self._failed

    def __call__(self, *inputs: Host) -> tuple[Any, ...]:
        """Run it."""
        self._failed = True
        results = super().__call__(*inputs)
        self._failed = False
        if not self._said:
            self._said = True
            warn(f"the step runs layer by layer, which is slower: {self.why}", stacklevel=3)
        return results


def reason(error: BaseException) -> str:
    """Which layer cannot be recorded, and why, in one line.

    A timeout, which a signal's handler may raise anywhere, is raised again.
    """
    if isinstance(error, TimeoutError):
        raise error
    layer, traceback = None, error.__traceback__
    while traceback is not None:
        found = traceback.tb_frame.f_locals.get("self")
        if isinstance(found, Differentiable):
            layer = found
        traceback = traceback.tb_next
    try:
        where = f"{layer!r} " if layer is not None else ""
    except Exception:  # it is a layer whose copy was not finished, or has a repr of its own
        where = f"{type(layer).__name__} "
    what = str(error) if isinstance(error, CannotTraceError) else f"{type(error).__name__}: {error}"
    return where + what.partition("\n")[0]
