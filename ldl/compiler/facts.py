"""Facts: what modules hold, which a step must leave as it is or write back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from ldl.backend import Backend
from ldl.compiler.operations import CannotTraceError
from ldl.compiler.traced import Traced
from ldl.nn.changes import Marked
from ldl.nn.module import Differentiable
from ldl.nn.parameter import Parameter
from ldl.random import Stream

_KNOWN = (Differentiable, Parameter)
_WHOLE = (*_KNOWN, Backend, Stream, Traced, np.ndarray, np.generic, type, ModuleType, FunctionType)
"""Things that are what they are, whatever they hold."""


class Facts:
    """What parts and parameters hold before a step."""

    def __init__(self, parts: Sequence[Differentiable], parameters: Sequence[Parameter]) -> None:
        self._parts = [(part, _facts(part)) for part in parts]
        self._parameters = [(p, p.data) for p in parameters]

    def settle(self) -> None:
        """Note that arrays bound anew are written back; CannotTraceError for any other change."""
        anew = [(old, p.data) for p, old in self._parameters if p.data is not old]
        for part, before in self._parts:
            now = _facts(part)
            for name in before.keys() | now.keys():
                old, new = before.get(name), now.get(name)
                if _alike(old, new):
                    anew += [(old, new)] if old is not new else []
                elif not _same(old, new):
                    dice = isinstance(new, dict) and isinstance(new.get("state"), Dice)
                    what = f"the random state of {name}" if dice else name
                    raise CannotTraceError(
                        f"{part!r} changes its attribute {what!r} from step to step"
                    )
        if not all(_alike(old, new) for old, new in anew):
            raise CannotTraceError("the step binds a parameter to another kind of array")
        for old, new in [(old, new.copy()) for old, new in anew]:
            old[...] = new


def arrays_in(value: Any, kind: type, seen: set[int] | None = None) -> Iterator[Any]:
    """The arrays in nested lists, tuples, dicts and objects."""
    seen = set() if seen is None else seen
    if isinstance(value, kind):
        yield value
    elif id(value) not in seen:
        seen.add(id(value))
        for item in _parts_of(value):
            yield from arrays_in(item, kind, seen)


def _parts_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values()]
    if isinstance(value, (list, tuple)):
        return [*value]
    return [] if isinstance(value, _WHOLE) else [*getattr(value, "__dict__", {}).values()]


def marked_in(part: Differentiable) -> list[Marked]:
    """What a part holds whose attributes count too, such as a noise."""
    held = vars(part).values()
    return [x for x in held if isinstance(x, Marked) and not isinstance(x, _KNOWN)]


def _facts(part: Differentiable) -> dict[str, Any]:
    """What a step must leave as it is, what is nested as copies."""
    facts = {n: value for n, value in vars(part).items() if n not in ("_kept", "_arguments")}
    for other in marked_in(part):
        facts |= {f"{type(other).__name__}.{n}": value for n, value in vars(other).items()}
    replaced = [name for name in ("forward", "backward") if name in facts]
    if replaced:
        raise CannotTraceError(f"{part!r} has a {replaced[0]} of its own")
    seen: set[int] = set()
    return {name: _snapshot(value, seen) for name, value in facts.items()}


def _snapshot(value: Any, seen: set[int]) -> Any:
    """The value with copies of what it holds, objects as dicts."""
    if isinstance(value, set):
        return value.copy()
    if isinstance(value, _WHOLE) or id(value) in seen:
        return value
    state = _dice(value)
    if state is not None:
        return {"is": value, "state": Dice(state)}
    if isinstance(value, dict):
        seen.add(id(value))
        return {key: _snapshot(item, seen) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        seen.add(id(value))
        return [_snapshot(item, seen) for item in value]
    if not hasattr(value, "__dict__"):
        return value
    seen.add(id(value))
    return {"is": value, "holds": {k: _snapshot(v, seen) for k, v in vars(value).items()}}


class Dice(str):
    """The state of a generator of random numbers, which two texts may share."""


def _dice(value: Any) -> str | None:
    """The state of NumPy's or Python's generators; None for anything else."""
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    return repr(value.getstate()) if isinstance(value, random.Random) else None


def _alike(old: Any, new: Any) -> bool:
    """Whether both are traced arrays of the same kind."""
    both = isinstance(old, Traced) and isinstance(new, Traced)
    return both and (old.shape, old.dtype) == (new.shape, new.dtype)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a is b or (isinstance(a, (set, Dice)) and a == b)
