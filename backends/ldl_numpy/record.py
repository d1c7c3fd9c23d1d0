"""Recording a training step: trace it without changing anything, plan it, play it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ldl.backend import Recording
from ldl.nn.module import Differentiable, Module
from ldl.nn.parameter import Parameter
from ldl.random import Stream
from ldl_numpy.plan import Plan
from ldl_numpy.trace import CannotTraceError, Host, Op, Ref, Trace, Traced, TracingBackend, Value

Fuse = Callable[[list[Op], set[Value]], list[Op]]


class PlannedStep(Recording):
    """A step ready to be played: `recording(*inputs)` gives what the function would."""

    def __init__(
        self,
        function: Callable[..., tuple[Any, ...]],
        inputs: Sequence[Host],
        parts: Sequence[Differentiable],
        fuse: Fuse | None,
    ) -> None:
        self._parts = list(parts)
        self._parameters = _parameters(parts)
        first, second = (_dry_run(function, inputs, parts) for _ in range(2))
        _compare(first.trace, second.trace)
        values = [first.trace.external(array) for array in inputs]
        self._plan = Plan(first.trace, values, first.results, fuse)
        self._written = first.written
        self._bound = [(p, p.data, p.grad_buffer, p.requires_grad) for p in self._parameters]
        self._modes = [part._training for part in self._parts]
        self.bytes = self._plan.bytes

    def valid(self) -> bool:
        """Whether the parameters, and the mode, are still those that were recorded."""
        for p, data, grad, requires_grad in self._bound:
            if p.data is not data or p.grad_buffer is not grad or p.requires_grad != requires_grad:
                return False
        return [part._training for part in self._parts] == self._modes

    def __call__(self, *inputs: Host) -> tuple[Any, ...]:
        """Play it; arrays among the results are valid until it is played again."""
        self._plan(*[x if x.flags.c_contiguous else np.ascontiguousarray(x) for x in inputs])
        for p, written in self._written:
            p.has_grad = written
        return tuple(r[()] if r.ndim == 0 else r for r in self._plan.results)


class _Noted:
    def __init__(
        self, trace: Trace, results: list[Ref], written: list[tuple[Parameter, bool]]
    ) -> None:
        self.trace, self.results, self.written = trace, results, written


def _parameters(parts: Sequence[Differentiable]) -> list[Parameter]:
    modules = [part for part in parts if isinstance(part, Module)]
    return list(dict.fromkeys(p for module in modules for p in module.parameters()))


def _dry_run(
    function: Callable[..., tuple[Any, ...]],
    inputs: Sequence[Host],
    parts: Sequence[Differentiable],
) -> _Noted:
    """Trace the function; everything that it changed is as before afterwards."""
    trace = Trace()
    parameters = _parameters(parts)
    streams = [v for part in parts for v in vars(part).values() if isinstance(v, Stream)]
    for p in parameters:
        p.grad_memory()
    with _restored(parts, parameters, streams):
        backend = TracingBackend(trace, streams)
        arrays: list[tuple[Differentiable, str, Traced]] = []
        for part in parts:
            part.backend = backend
            for name, value in list(vars(part).items()):
                if isinstance(value, np.ndarray):
                    arrays.append((part, name, trace.wrap(value)))
                    setattr(part, name, arrays[-1][2])
        for p in parameters:
            p.backend = backend
            p.data, p.grad_buffer = trace.wrap(p.data), trace.wrap(p.grad_buffer)
        before = [_facts(part) for part in parts]
        results = function(*(trace.wrap(x) for x in inputs))
        for part, name, old in arrays:
            new = getattr(part, name)
            if new is not old:
                old[...] = new
                setattr(part, name, old)
        for part, facts in zip(parts, before, strict=True):
            now = _facts(part)
            changed = [n for n in facts.keys() | now.keys() if not _same(facts.get(n), now.get(n))]
            if changed:
                raise CannotTraceError(
                    f"{part!r} changes its attribute {changed[0]!r} from step to step"
                )
        if not all(isinstance(r, Traced) for r in results):
            raise CannotTraceError("the step gives a number that does not depend on its input")
        return _Noted(trace, [r.ref for r in results], [(p, p.has_grad) for p in parameters])


def _facts(part: Differentiable) -> dict[str, Any]:
    """What a step must leave as it is; lists and dicts as copies."""
    facts = {name: value for name, value in vars(part).items() if name != "_kept"}
    replaced = [name for name in ("forward", "backward") if name in facts]
    if replaced:
        raise CannotTraceError(f"{part!r} has a {replaced[0]} of its own")
    return {n: v.copy() if isinstance(v, (list, dict, set)) else v for n, v in facts.items()}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, dict, set)) and type(a) is type(b) and len(a) == len(b):
        items = (a.items(), b.items()) if isinstance(a, dict) else (a, b)
        return all(x is y or x == y for x, y in zip(*items, strict=True))
    return a is b


@contextmanager
def _restored(
    parts: Sequence[Differentiable], parameters: list[Parameter], streams: list[Stream]
) -> Iterator[None]:
    attributes = [dict(vars(part)) for part in parts]
    inside = [
        (value, value.copy())
        for before in attributes
        for value in before.values()
        if isinstance(value, (list, dict, set))
    ]
    slots = [(p.backend, p.data, p.grad_buffer, p.has_grad) for p in parameters]
    draws = [stream.draw for stream in streams]
    try:
        yield
    finally:
        for part, before in zip(parts, attributes, strict=True):
            vars(part).clear()
            vars(part).update(before)
            part._kept = None
        for container, content in inside:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(content)
        for p, (backend, data, grad, has_grad) in zip(parameters, slots, strict=True):
            p.backend, p.data, p.grad_buffer, p.has_grad = backend, data, grad, has_grad
        for stream, draw in zip(streams, draws, strict=True):
            stream.draw = draw


def _compare(first: Trace, second: Trace) -> None:
    """CannotTraceError unless both did the same, constants included."""
    message = "computes with numbers that differ from step to step"
    if len(first.ops) != len(second.ops):
        raise CannotTraceError(message)
    for a, b in zip(first.ops, second.ops, strict=True):
        if a.ufunc != b.ufunc or len(a.inputs) != len(b.inputs):
            raise CannotTraceError(message)
        for x, y in zip(a.inputs, b.inputs, strict=True):
            if isinstance(x, Ref) != isinstance(y, Ref):
                raise CannotTraceError(message)
            if isinstance(x, Ref):
                same = x.path == y.path and (
                    x.value.external is None or np.array_equal(x.value.array, y.value.array, True)
                )
            else:
                same = bool(np.array_equal(x, y, equal_nan=True))
            if not same:
                raise CannotTraceError(message)


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
