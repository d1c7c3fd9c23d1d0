"""Dry runs: a function of modules and arrays, traced.

The trace is made on copies of the modules whose arrays are traced ones, so that nothing of the
modules themselves is touched and other threads may use them meanwhile.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ldl.backend import Backend
from ldl.compiler.backend import TracingBackend
from ldl.compiler.facts import Facts
from ldl.compiler.holdings import LARGEST, Holdings
from ldl.compiler.operations import CannotTraceError, Host, Op, Ref, Trace, Value
from ldl.compiler.states import bytes_of
from ldl.compiler.traced import Traced
from ldl.nn.module import Differentiable, Module
from ldl.nn.parameter import Parameter
from ldl.random import Stream

Function = Callable[..., tuple[Any, ...]]
HostOf = Callable[[Any], Host]
"""The host's array for one of a backend: the same one whenever it is asked for."""


def dry_run(
    function: Function, parts: Sequence[Differentiable], inputs: Sequence[Any], host: HostOf
) -> DryRun:
    """A trace of the function that a second one confirmed.

    CannotTraceError where they differ: the function counts, remembers, branches or rolls dice. All
    is computed where something that it calls cannot do with zeros.
    """
    held = Holdings(function, parts, type(inputs[0]))
    if held.restless:
        raise CannotTraceError(held.restless[0])
    run = partial(DryRun, function, parts, inputs, host, held)
    writable = computes = False
    while True:
        try:
            first = run(writable, computes)
            break
        except (CannotTraceError, TimeoutError):
            raise
        except Exception as error:
            if not writable and isinstance(error, ValueError) and "read-only" in str(error):
                writable = True
            elif not computes:
                computes = True
            else:
                raise
    if first.makes_gradients():
        first = run(writable, computes)
    for n in range(held.confirmations):
        compare(first, run(writable, computes, ahead=n + 1))
    return first


class DryRun:
    """The function, traced on copies of its parts.

    Their arrays are the parts' own, not to be written to, or `writable` copies, as gradients always
    are.
    """

    def __init__(
        self,
        function: Function,
        parts: Sequence[Differentiable],
        inputs: Sequence[Any],
        host: HostOf,
        held: Holdings,
        writable: bool,
        computes: bool = False,
        ahead: int = 0,
    ) -> None:
        self.trace = trace = Trace(computes)
        self.held = held
        self.writable = writable
        originals = inside(parts)
        self.originals = parameters_of(parts)
        streams = [v for part in originals for v in vars(part).values() if isinstance(v, Stream)]
        arrays = [*held.arrays, *[p.data for p in self.originals]]
        traced: dict[int, Any] = {id(a): Traced.wrap(trace, host(a), writable) for a in arrays}
        for p in self.originals:
            if p.grad_buffer is not None:
                traced[id(p.grad_buffer)] = Traced.wrap(trace, host(p.grad_buffer), writable=True)
        told = {id(part._arguments): part._arguments for part in originals}
        copies = copy.deepcopy(tuple(parts), traced | told)
        modules, self.parameters = inside(copies), parameters_of(copies)
        backend = TracingBackend(trace, streams)
        for part in (*modules, *self.parameters):
            object.__setattr__(part, "backend", backend)
        parameter: Any
        for parameter in self.parameters:
            parameter.has_grad = int(parameter.has_grad)  # a bool again once it is set
        before = Facts(function, copies, modules, self.parameters, ahead)
        given = [Traced.wrap(trace, host(x)) for x in inputs]
        try:
            results = function(*copies, *given)
            before.settle()
        except TimeoutError:  # a signal's handler may raise one anywhere: it is the caller's
            raise
        except BaseException:
            before.put_back()
            raise
        for array, _ in list(trace.brought.values()):
            trace.bring(array)
        if not all(isinstance(r, Traced) for r in results):
            raise CannotTraceError("the step gives a number that does not depend on its input")
        if trace.changed() & {x.ref.value for x in given}:
            raise CannotTraceError("the step writes to its input")
        for r in results:
            r.check_read(trace)
        self.results = [r.ref for r in results]

    def brings(self, table: Any) -> bool:
        """Whether a large array of the host is read where it lies, whenever this is played."""
        if len(bytes_of(table)) <= LARGEST:  # code may read numbers in it too
            return False
        brought = [array for array, _ in self.trace.brought.values()]
        here = issubclass(self.held.kind, np.ndarray) and isinstance(table, np.ndarray)
        return here and any(np.may_share_memory(array, table) for array in brought)

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


def trace_kernel(
    name: str,
    arrays: Sequence[Host | None],
    numbers: dict[str, Host],
    constants: dict[str, Any],
) -> Trace:
    """What the generic body of a kernel that works in place does.

    It reads its numbers from arrays without axes.
    """
    trace = Trace()
    backend = TracingBackend(trace, [])
    traced = [None if a is None else Traced.wrap(trace, a, writable=True) for a in arrays]
    varying = {key: Traced.wrap(trace, x) for key, x in numbers.items()}
    getattr(Backend, name)(backend, *traced, **varying, **constants)
    return trace


def inside(parts: Sequence[Differentiable]) -> list[Differentiable]:
    """The parts, and the modules inside those that are modules."""
    return [m for part in parts for m in (part.modules() if isinstance(part, Module) else [part])]


def parameters_of(parts: Sequence[Differentiable]) -> list[Parameter]:
    """The parameters of the modules among the parts, each once."""
    modules = [part for part in parts if isinstance(part, Module)]
    return list(dict.fromkeys(p for module in modules for p in module.parameters()))


def compare(first: DryRun, second: DryRun) -> None:
    """CannotTraceError unless both did the same, constants included."""
    both: dict[Value, Value] = {}
    pairs = zip(first.trace.ops, second.trace.ops, strict=False)
    same = (
        len(first.trace.ops) == len(second.trace.ops)
        and all(_same_op(a, b, both) for a, b in pairs)
        and _same_things(first.results, second.results, both)
    )
    if not same:
        raise CannotTraceError("computes with numbers that differ from step to step")


def _same_op(a: Op, b: Op, both: dict[Value, Value]) -> bool:
    facts = (a.ufunc, a.axis, a.keepdims) == (b.ufunc, b.axis, b.keepdims)
    things = (*a.inputs, *a.outputs), (*b.inputs, *b.outputs)
    told = a.settings is b.settings or _same_things(a.settings, b.settings, both)
    return facts and told and _same_things(*things, both)


def _same_things(a: Any, b: Any, both: dict[Value, Value]) -> bool:
    """Whether two are equal, `both` telling which value of the one trace is which of the other."""
    if isinstance(a, Ref) and isinstance(b, Ref):
        return a.path == b.path and _same_value(a.value, b.value, both)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return _same_things([*a.items()], [*b.items()], both)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_same_things(x, y, both) for x, y in zip(a, b, strict=True))
    if isinstance(a, (float, np.ndarray, np.generic)):
        return np.asarray(a).dtype == np.asarray(b).dtype and _same_numbers(a, b)
    return bool(a == b)


def _same_value(a: Value, b: Value, both: dict[Value, Value]) -> bool:
    if a not in both:
        x, y = a.external, b.external
        if x is None or y is None:
            if x is not y:
                return False
        elif x is not y and not (x.dtype == y.dtype and _same_numbers(x, y)):
            return False
        both[a] = b
    return both[a] is b


def _same_numbers(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind in "fc"))
