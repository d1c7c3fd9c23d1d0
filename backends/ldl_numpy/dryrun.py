"""Dry runs: a function of modules and arrays, traced.

The trace is made on copies of the modules whose arrays are traced ones, so that nothing of the
modules themselves is touched and other threads may use them meanwhile.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ldl.nn.changes import Marked
from ldl.nn.module import Differentiable, Module
from ldl.nn.parameter import Parameter
from ldl.random import Stream
from ldl_numpy.trace import CannotTraceError, Host, Op, Ref, Value
from ldl_numpy.traced import Trace, Traced
from ldl_numpy.tracing import TracingBackend

Function = Callable[..., tuple[Any, ...]]
HostOf = Callable[[Any], Host]
"""The host's array for one of a backend: the same one whenever it is asked for."""


_KNOWN = (Differentiable, Parameter)


def dry_run(
    function: Function, parts: Sequence[Differentiable], inputs: Sequence[Any], host: HostOf
) -> DryRun:
    """A trace of the function that a second one confirmed.

    CannotTraceError where they differ: the function counts, remembers, branches or rolls dice.
    """
    try:
        first = DryRun(function, parts, inputs, host, writable=False)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        first = DryRun(function, parts, inputs, host, writable=True)
    if first.makes_gradients():
        first = DryRun(function, parts, inputs, host, first.writable)
    compare(first, DryRun(function, parts, inputs, host, first.writable))
    return first


class DryRun:
    """The function, traced on copies of its parts.

    Their arrays are the parts' own, not to be written to, or `writable` copies. The memory of a
    gradient that says nothing is written to as it is.
    """

    def __init__(
        self,
        function: Function,
        parts: Sequence[Differentiable],
        inputs: Sequence[Any],
        host: HostOf,
        writable: bool,
    ) -> None:
        self.trace = trace = Trace()
        self.writable = writable
        originals = inside(parts)
        self.originals = parameters_of(parts)
        streams = [v for part in originals for v in vars(part).values() if isinstance(v, Stream)]
        arrays = [a for part in originals for a in _arrays(vars(part), type(inputs[0]))]
        arrays += [p.data for p in self.originals]
        traced = {id(a): trace.wrap(host(a), writable) for a in arrays}
        for p in self.originals:
            if p.grad_buffer is not None:
                memory = host(p.grad_buffer)
                held = trace.wrap(memory, writable=p.has_grad)
                held.array = held.array if p.has_grad else memory
                traced[id(p.grad_buffer)] = held
        copies = copy.deepcopy(tuple(parts), traced)
        self.parameters = parameters_of(copies)
        backend = TracingBackend(trace, streams)
        for part in inside(copies):
            part.backend = backend
        parameter: Any
        for parameter in self.parameters:
            parameter.backend = backend
            parameter.has_grad = int(parameter.has_grad)  # a bool again once it is set
        before = [_facts(part) for part in inside(copies)]
        given = [trace.wrap(host(x)) for x in inputs]
        results = function(*copies, *given)
        for part, facts in zip(inside(copies), before, strict=True):
            _settle(part, facts)
        if not all(isinstance(r, Traced) for r in results):
            raise CannotTraceError("the step gives a number that does not depend on its input")
        if trace.changed() & {x.ref.value for x in given}:
            raise CannotTraceError("the step writes to its input")
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


def inside(parts: Sequence[Differentiable]) -> list[Differentiable]:
    """The parts, and the modules inside those that are modules."""
    return [m for part in parts for m in (part.modules() if isinstance(part, Module) else [part])]


def parameters_of(parts: Sequence[Differentiable]) -> list[Parameter]:
    """The parameters of the modules among the parts, each once."""
    modules = [part for part in parts if isinstance(part, Module)]
    return list(dict.fromkeys(p for module in modules for p in module.parameters()))


def _arrays(value: Any, kind: type) -> Iterator[Any]:
    """The arrays in nested lists, tuples and dicts."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item, kind)


def _facts(part: Differentiable) -> dict[str, Any]:
    """What a step must leave as it is; lists and dicts as copies."""
    facts = {name: value for name, value in vars(part).items() if name != "_kept"}
    for other in marked_in(part):
        facts |= {f"{type(other).__name__}.{n}": value for n, value in vars(other).items()}
    replaced = [name for name in ("forward", "backward") if name in facts]
    if replaced:
        raise CannotTraceError(f"{part!r} has a {replaced[0]} of its own")
    for name, value in list(facts.items()):
        state = _dice(value)
        if state is not None:
            facts[f"the random state of {name}"] = {"state": Dice(state)}
    return {n: v.copy() if isinstance(v, (list, dict, set)) else v for n, v in facts.items()}


class Dice(str):
    """The state of a generator of random numbers, which two texts may share."""


def _dice(value: Any) -> str | None:
    """The state of NumPy's or Python's generators; None for anything else."""
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    return repr(value.getstate()) if isinstance(value, random.Random) else None


def marked_in(part: Differentiable) -> list[Marked]:
    """What a part holds whose attributes count too, such as a noise."""
    held = vars(part).values()
    return [x for x in held if isinstance(x, Marked) and not isinstance(x, _KNOWN)]


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
    return a is b or (isinstance(a, (set, Dice)) and a == b)


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
    facts = (a.ufunc, a.axis, a.keepdims, a.settings), (b.ufunc, b.axis, b.keepdims, b.settings)
    things = (*a.inputs, *a.outputs), (*b.inputs, *b.outputs)
    return _same_things(*facts, both) and _same_things(*things, both)


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
