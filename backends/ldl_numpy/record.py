"""Recording: trace a function of modules and arrays, plan it, play it.

The trace is made on copies of the modules whose arrays are traced ones, so that nothing of the
modules themselves is touched and other threads may use them meanwhile.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any
from warnings import warn

import numpy as np

from ldl.backend import Backend, Recording
from ldl.nn.module import Differentiable, Module
from ldl.nn.parameter import Parameter
from ldl.random import Stream
from ldl_numpy.plan import Plan
from ldl_numpy.trace import CannotTraceError, Host, Op, Ref, Value
from ldl_numpy.traced import Trace, Traced
from ldl_numpy.tracing import TracingBackend

_BOUND = attrgetter("data", "grad_buffer", "requires_grad")

Function = Callable[..., tuple[Any, ...]]
Fuse = Callable[[list[Op], set[Value]], list[Op]]


class PlannedStep(Recording):
    """A function ready to be played: `recording(*inputs)` gives what the function would."""

    def __init__(
        self,
        function: Function,
        parts: Sequence[Differentiable],
        inputs: Sequence[Host],
        fuse: Fuse | None,
    ) -> None:
        super().__init__(function, parts)
        parameters = _parameters(parts)
        try:
            first = _DryRun(function, parts, inputs, writable=False)
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            first = _DryRun(function, parts, inputs, writable=True)
        if first.makes_gradients():
            first = _DryRun(function, parts, inputs, first.writable)
        _compare(first.trace, _DryRun(function, parts, inputs, first.writable).trace)
        values = [first.trace.external(array) for array in inputs]
        self._plan = Plan(first.trace, values, first.results, fuse)
        self._flags = [
            (p, q.has_grad)
            for p, q in zip(parameters, first.parameters, strict=True)
            if isinstance(q.has_grad, bool)
        ]
        self._parameters = parameters
        self._bound = [*chain.from_iterable(map(_BOUND, parameters))]
        self._attributes = [vars(part) for part in _inside(parts)]
        self._recorded = [value for held in self._attributes for value in held.values()]
        self._facts = [
            (held, name, value)
            for held in self._attributes
            for name, value in held.items()
            if name not in ("_kept", "_arguments")
        ]
        self.bytes = self._plan.bytes

    def valid(self) -> bool:
        """Whether parameters, modes and attributes are still those that were recorded."""
        bound = chain.from_iterable(map(_BOUND, self._parameters))
        if not all(map(is_, bound, self._bound)):
            return False
        if sum(map(len, self._attributes)) == len(self._recorded):
            values = chain.from_iterable(map(dict.values, self._attributes))
            if all(map(is_, values, self._recorded)):
                return True
        return all([held.get(name) is value for held, name, value in self._facts])

    def __call__(self, *inputs: Host) -> tuple[Any, ...]:
        """Play it; arrays among the results are valid until it is played again."""
        self._plan(*[x if x.flags.c_contiguous else np.ascontiguousarray(x) for x in inputs])
        for p, has_grad in self._flags:
            p.has_grad = has_grad
        return tuple([r[()] if r.ndim == 0 else r for r in self._plan.results])


class Unplayed(Recording):
    """The function itself, which could not be recorded: said once, when it has run."""

    def __init__(self, function: Function, parts: Sequence[Differentiable], why: str) -> None:
        super().__init__(function, parts)
        self._why = why
        self._failed = False

    def valid(self) -> bool:
        """Not after an error of the function itself: it may be recorded when that is mended."""
        return not self._failed

    def __call__(self, *inputs: Host) -> tuple[Any, ...]:
        """Run it."""
        self._failed = True
        results = super().__call__(*inputs)
        self._failed = False
        if self._why:
            why, self._why = self._why, ""
            warn(f"the step runs layer by layer, which is slower: {why}", stacklevel=3)
        return results


class _DryRun:
    """The function, traced on copies of its parts.

    Their arrays are the parts' own, not to be written to, or `writable` copies. The memory of a
    gradient that says nothing is written to as it is.
    """

    def __init__(
        self,
        function: Function,
        parts: Sequence[Differentiable],
        inputs: Sequence[Host],
        writable: bool,
    ) -> None:
        self.trace = trace = Trace()
        self.writable = writable
        originals = _inside(parts)
        self.originals = _parameters(parts)
        streams = [v for part in originals for v in vars(part).values() if isinstance(v, Stream)]
        arrays = [a for part in originals for a in _arrays(vars(part))]
        arrays += [p.data for p in self.originals]
        traced = {id(a): trace.wrap(a, writable) for a in arrays}
        for p in self.originals:
            if p.grad_buffer is not None:
                held = trace.wrap(p.grad_buffer, writable=p.has_grad)
                held.array = held.array if p.has_grad else p.grad_buffer
                traced[id(p.grad_buffer)] = held
        copies = copy.deepcopy(tuple(parts), traced)
        self.parameters = _parameters(copies)
        backend = TracingBackend(trace, streams)
        for part in _inside(copies):
            part.backend = backend
        parameter: Any
        for parameter in self.parameters:
            parameter.backend = backend
            parameter.has_grad = int(parameter.has_grad)  # a bool again once it is set
        before = [_facts(part) for part in _inside(copies)]
        results = function(*copies, *(trace.wrap(x) for x in inputs))
        for part, facts in zip(_inside(copies), before, strict=True):
            _settle(part, facts)
        if not all(isinstance(r, Traced) for r in results):
            raise CannotTraceError("the step gives a number that does not depend on its input")
        self.results = [r.ref for r in results]

    def makes_gradients(self) -> bool:
        """Whether it needed memory for gradients that the parameters did not have; now they do."""
        lacking = [
            p
            for p, q in zip(self.originals, self.parameters, strict=True)
            if p.grad_buffer is None and q.grad_buffer is not None
        ]
        for p in lacking:
            p.grad_memory()
        return bool(lacking)


def _inside(parts: Sequence[Differentiable]) -> list[Differentiable]:
    """The parts, and the modules inside those that are modules."""
    return [m for part in parts for m in (part.modules() if isinstance(part, Module) else [part])]


def _parameters(parts: Sequence[Differentiable]) -> list[Parameter]:
    modules = [part for part in parts if isinstance(part, Module)]
    return list(dict.fromkeys(p for module in modules for p in module.parameters()))


def _arrays(value: Any) -> Iterator[Host]:
    """The arrays in nested lists, tuples and dicts."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item)


def _facts(part: Differentiable) -> dict[str, Any]:
    """What a step must leave as it is; lists and dicts as copies."""
    facts = {name: value for name, value in vars(part).items() if name != "_kept"}
    replaced = [name for name in ("forward", "backward") if name in facts]
    if replaced:
        raise CannotTraceError(f"{part!r} has a {replaced[0]} of its own")
    return {n: v.copy() if isinstance(v, (list, dict, set)) else v for n, v in facts.items()}


def _settle(part: Differentiable, before: dict[str, Any]) -> None:
    """Note that arrays bound anew are written back; CannotTraceError for any other change."""
    now = _facts(part)
    for name in before.keys() | now.keys():
        old, new = before.get(name), now.get(name)
        if isinstance(old, Traced) and isinstance(new, Traced) and old.shape == new.shape:
            if old is not new:
                old[...] = new
        elif not _same(old, new):
            raise CannotTraceError(f"{part!r} changes its attribute {name!r} from step to step")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a is b or (isinstance(a, set) and a == b)


def _compare(first: Trace, second: Trace) -> None:
    """CannotTraceError unless both did the same, constants included."""
    same = len(first.ops) == len(second.ops) and all(
        a.ufunc == b.ufunc
        and len(a.inputs) == len(b.inputs)
        and all(_same_input(x, y) for x, y in zip(a.inputs, b.inputs, strict=True))
        for a, b in zip(first.ops, second.ops, strict=True)
    )
    if not same:
        raise CannotTraceError("computes with numbers that differ from step to step")


def _same_input(x: Any, y: Any) -> bool:
    if isinstance(x, Ref) != isinstance(y, Ref):
        return False
    if not isinstance(x, Ref):
        return bool(np.array_equal(x, y, equal_nan=True))
    a, b = x.value.external, y.value.external
    same = a is b or (a is not None and b is not None and np.array_equal(a, b, equal_nan=True))
    return same and x.path == y.path


def reason(error: BaseException) -> str:
    """Which layer cannot be recorded, and why."""
    layer, traceback = None, error.__traceback__
    while traceback is not None:
        found = traceback.tb_frame.f_locals.get("self")
        if isinstance(found, Differentiable):
            layer = found
        traceback = traceback.tb_next
    where = f"{layer!r} " if layer is not None else ""
    what = str(error) if isinstance(error, CannotTraceError) else f"{type(error).__name__}: {error}"
    return where + what


def plan_kernel(
    name: str,
    arrays: Sequence[Host | None],
    numbers: dict[str, Host],
    constants: dict[str, Any],
    fuse: Fuse | None,
    moving: bool,
) -> Plan:
    """The generic body of a kernel that works in place, as a plan.

    It reads its numbers from arrays without axes. The plan of `moving` arrays takes those that are
    not None whenever it is played; else it is a plan of these arrays, and takes nothing.
    """
    trace = Trace()
    backend = TracingBackend(trace, [])
    traced = [None if a is None else trace.wrap(a, writable=True) for a in arrays]
    varying = {key: trace.wrap(x) for key, x in numbers.items()}
    getattr(Backend, name)(backend, *traced, **varying, **constants)
    given = [a for a in arrays if a is not None] if moving else []
    return Plan(trace, [trace.external(a) for a in given], [], fuse)
