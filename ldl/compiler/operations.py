"""What a trace consists of: operations that read and write memory through views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

Host = np.ndarray[Any, np.dtype[Any]]

BEGIN_SUM, SUM_RANKS = "begin_sum", "sum_ranks"
"""The operations that send gradients to other processes, and that sum what they wait for: in one
order on all of them."""

BETWEEN_RANKS = frozenset({BEGIN_SUM, SUM_RANKS})


class CannotTraceError(Exception):
    """The function does what cannot be played again, such as looking at a number."""


class NotYetError(CannotTraceError):
    """The function made something for later, such as an entry of a cache: next time it is there."""


class Value:
    """A piece of memory: made anew by the trace, or `external` (inputs, parameters, constants)."""

    __slots__ = ("__dict__", "dtype", "external", "shape")

    def __init__(self, like: Host, external: Host | None = None) -> None:
        self.shape = like.shape
        self.dtype = like.dtype
        self.external = external

    @cached_property
    def array(self) -> Host:
        """An array of that shape and type, for looking at views of it; it holds nothing."""
        return np.empty(self.shape, self.dtype)

    @property
    def lying(self) -> Host:
        """An array as the value lies in memory: its own, or C-contiguous like all that are made."""
        return self.array if self.external is None else self.external


def within(view: Host, memory: Host) -> bool:
    """Whether a view of an array is one of its memory, and no copy; empty ones are everywhere."""
    return not view.size or bool(np.may_share_memory(view, memory))


@dataclass(frozen=True)
class Ref:
    """A view of a value: the methods that lead to it, each (name, arguments), or broadcast_to."""

    value: Value
    path: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def resolve(self, array: Host) -> Host:
        """The same view of another array."""
        for name, args in self.path:
            array = look(array, name, args)
        return array


def look(array: Host, name: str, args: tuple[Any, ...]) -> Host:
    """What a method gives of an array; broadcast_to is a function of NumPy's and CuPy's."""
    found: Host = (
        np.broadcast_to(array, *args) if name == "broadcast_to" else getattr(array, name)(*args)
    )
    return found


@dataclass
class Op:
    """`run(*inputs, *outputs)`, inputs being Refs or constants and outputs Refs.

    `ufunc` names an elementwise operation and `axis` a sum's, for those who understand them. Where
    there is a `link`, it makes one operation of this and of its neighbours that have the same, and
    knows what to do with `run`.
    """

    run: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Ref, ...]
    ufunc: str = ""
    axis: tuple[int, ...] | None = None
    keepdims: bool = False
    partial_write: bool = False
    """Whether what the output held matters to it afterwards."""
    link: Callable[..., Op] | None = None
    settings: Any = ()
    """What `run` has been told beside, the same whenever the function is traced."""
    parts: tuple[str, ...] = ()
    """The operations that a loop does."""


@dataclass
class Trace:
    """What was noted down: operations, in order."""

    computes: bool = False
    """Whether its arrays hold the numbers that they stand for; zeros otherwise."""
    ops: list[Op] = field(default_factory=list)
    values: dict[int, Value] = field(default_factory=dict)
    """External values by the identity of their arrays."""
    constants: set[Value] = field(default_factory=set)
    """External values that the function itself makes of no arrays."""
    twins: dict[Value, set[Value]] = field(default_factory=dict)
    """Of a value those that may be copies of it here and views elsewhere, or the other way."""
    stale: set[Value] = field(default_factory=set)
    """Values of which it is not known what they hold, since a twin was written to."""
    brought: dict[int, tuple[Host, bytes]] = field(default_factory=dict)
    """The arrays that the function brought itself, and what they held when it first did."""

    def external(self, array: Host) -> Value:
        """The value of an array that the trace did not make."""
        if id(array) not in self.values:
            self.values[id(array)] = Value(array, array)
        return self.values[id(array)]

    def bring(self, array: Host) -> Value:
        """The value of an array that the function brings itself, and must leave as it is."""
        held = array.tobytes()
        if self.brought.setdefault(id(array), (array, held))[1] != held:
            raise CannotTraceError("writes to an array that is not made by the backend")
        return self.external(array)

    def related(self, value: Value) -> set[Value]:
        """The twins of a value, and theirs."""
        found = {value}
        todo = [value]
        while todo:
            new = self.twins.get(todo.pop(), set()) - found
            found |= new
            todo += new
        return found - {value}

    def changed(self) -> set[Value]:
        """The external values that were written to."""
        written = {out.value for op in self.ops for out in op.outputs}
        return {value for value in written if value.external is not None}


class Group:
    """An operation's `run` where `calls` do it: functions, each with its arguments after it.

    `group[i] = array` gives them the array of input or output number i.
    """

    calls: list[list[Any]]
    bytes: int
    """Of memory beside its operands'."""

    def __setitem__(self, at: int, array: Host) -> None:
        raise NotImplementedError
