"""Recordings: for how long they are what a function does, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any, ClassVar
from warnings import warn

from ldl.backend import Recording
from ldl.compiler.code import LDL, package_of
from ldl.compiler.dryrun import DryRun, Function, parameters_of
from ldl.compiler.holdings import LARGEST
from ldl.compiler.operations import CannotTraceError, Host, NotYetError
from ldl.compiler.states import bytes_of
from ldl.compiler.watched import Watch
from ldl.nn import changes
from ldl.nn.module import Differentiable
from ldl.recordings import SLOWER

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
        held = self._held = traced.held
        self._always = Watch(x for x in held.watched if not _tells(x.thing))
        self._marked = Watch(x for x in held.watched if _tells(x.thing))
        self._tables = [each for each in held.tables if not traced.brings(each[0])]
        for table, _, owner in self._tables:
            if len(bytes_of(table)) > LARGEST:
                raise CannotTraceError(f"reads numbers in {owner.name!r}, which is too large")

    def valid(self) -> bool:
        """Whether parameters, modes, attributes and what code names are what was recorded."""
        if not self._always.is_same():
            return False
        for table, held, _ in self._tables:
            if bytes_of(table) != held:
                return False
        mark = changes.mark
        if mark is not self._mark:
            bound = chain.from_iterable(map(_BOUND, self._parameters))
            if not (all(map(is_, bound, self._bound)) and self._marked.is_same()):
                return False
            self._mark = mark
        return True

    def what_changed(self) -> str:
        """The first thing that is not as it was."""
        for found in self._held.changes():
            return found.what().changes()
        for table, held, owner in self._tables:
            if bytes_of(table) != held:
                return owner.changes("numbers in ")
        return super().what_changed()

    def leave_flags(self) -> None:
        """Note which parameters have a gradient now."""
        for p, has_grad in self._flags:
            if p.has_grad is not has_grad:
                p.has_grad = has_grad


def _tells(x: Any) -> bool:
    """Whether the mark is another one after every change of a thing's attributes."""
    return isinstance(x, changes.Marked) and package_of(x) in LDL


class Unplayed(Recording):
    """The function itself, which could not be recorded: said once, when it has run.

    Where it may be recorded `again`, it is valid until it has run.
    """

    refused: ClassVar[bool] = True

    def __init__(
        self,
        function: Function,
        parts: Sequence[Differentiable],
        error: Exception,
    ) -> None:
        super().__init__(function, parts)
        self.why, self.again = reason(error), isinstance(error, NotYetError)
        self._said = not self.why
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
        self._failed = self.again
        if not (self._said or self.again):
            self._said = True
            warn(f"{SLOWER}: {self.why}", stacklevel=3)
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
