"""Plans: what a trace noted, made ready to be played again and again without allocating."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ldl.compiler.account import account, told
from ldl.compiler.backend import Draw
from ldl.compiler.constants import without_constants
from ldl.compiler.copies import without_copies
from ldl.compiler.operations import BEGIN_SUM, CannotTraceError, Group, Host, Op, Ref, Trace, Value
from ldl.prepared import play

Fuse = Callable[[list[Op], set[Value]], list[Op]]

SMALL = 2**14
"""Bytes of an input that are copied sooner than a plan is told where they lie."""


class Place:
    """Where a plan's arrays are: on the host."""

    def external(self, array: Host) -> Any:
        """The array that stands for one that the trace did not make."""
        return array

    def bytes(self, n: int) -> Any:
        """Memory that begins where a cache line does."""
        return aligned(n)

    def meet(self, a: Any, b: Any) -> bool:
        """Whether two arrays may lie in the same memory."""
        return bool(np.may_share_memory(a, b))


class Plan:
    """Operations with their arrays, which stay the same from one run to the next.

    `inputs` are the traced function's arguments and `results` what it gave. Only operations on
    which a result or an external array depends are done, and of copies those that somebody could
    tell from the source; memory is used again as soon as its last reader has run. A run with other
    input arrays, of the same shapes, reads those; copies of those that may lie where it writes, as
    a gradient and an earlier result do, and of small ones, which it writes to the first's memory.
    `does` names what is done, in order; what can be linked is then one call.
    """

    def __init__(
        self,
        trace: Trace,
        inputs: Sequence[Value],
        results: Sequence[Ref],
        fuse: Fuse | None,
        place: Place | None = None,
    ) -> None:
        kept = {ref.value for ref in results} | trace.changed()
        ops = early(without_constants(needed(trace.ops, kept), trace.constants, kept))
        self.carried = [value.external for value in _carried(ops)]
        """Arrays from outside that it reads, as they were before, and writes."""
        if fuse is not None:
            ops = fuse(ops, kept)
        memory = _Memory(ops, kept, place or Place())
        memory.check(ops, results)
        self.bytes = memory.bytes
        self._last: list[Any] = [value.external for value in inputs]
        self._places = [x if x.nbytes <= SMALL else None for x in self._last]
        self.bytes += sum(array.nbytes for array in {id(x): x for x in self._last}.values())
        self.does = [op.ufunc for op in ops]
        self.account = account(ops, memory.number)
        self.streams = [op.run.stream for op in ops if isinstance(op.run, Draw)]
        """What it draws from."""
        fused, ops = ops, _linked(ops, inputs, memory)
        self.compiled = all(op.ufunc == "program" for op in ops)
        """Whether none of NumPy's functions is called."""
        self.runs = [op.run for op in ops]
        self.bytes += sum(getattr(run, "bytes", 0) for run in self.runs)
        self.calls: list[list[Any]] = []
        """Functions, each with its arguments after it."""
        self._rebind: list[list[tuple[Any, int, Ref]]] = [[] for _ in inputs]
        for op in ops:
            row = [op.run, *op.inputs, *op.outputs]
            grouped = isinstance(op.run, Group)
            self.calls += op.run.calls if grouped else [row]
            for at, x in enumerate(row):
                if not isinstance(x, Ref):
                    continue
                bound = (op.run, at - 1, x) if grouped else (row, at, x)
                _bind(memory.array(x.value), *bound)
                for i, value in enumerate(inputs):
                    if x.value is value:
                        self._rebind[i].append(bound)
        self.results = [ref.resolve(memory.array(ref.value)) for ref in results]
        written = [memory.array(value) for value in kept - set(inputs)] if inputs else []
        self._written = [*{id(x): x for x in map(_owner, written)}.values()]
        for at, ref in enumerate(results):
            if ref.value in inputs:
                self._rebind[inputs.index(ref.value)].append((self.results, at, ref))
        _forget((*trace.ops, *fused), inputs)

    def explain(self) -> str:
        """What it does, a line an operation."""
        return told(self.account, len(self.runs), self.bytes)

    def __call__(self, *inputs: Host) -> None:
        """Do everything, for these inputs; the results stand in `results` until the next run."""
        for i, array in enumerate(inputs):
            place = self._places[i]
            if place is not None:
                place[...] = array
            elif array is not self._last[i]:
                self._last[i] = None  # an interrupt may leave a part of them bound
                copied = not array.flags.c_contiguous or any(
                    np.may_share_memory(array, written) for written in self._written
                )
                read = array.copy() if copied else array
                for bound in self._rebind[i]:
                    _bind(read, *bound)
                self._last[i] = read
        play(self.calls)


def _owner(array: Host) -> Host:
    """The array whose memory this is a view of; gradients that are packed have one for all."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _forget(ops: Iterable[Op], inputs: Sequence[Value]) -> None:
    """Let go of what planning alone needs: arrays to look at, and the first inputs."""
    for op in ops:
        for x in (*op.inputs, *op.outputs):
            if isinstance(x, Ref):
                vars(x.value).clear()
    for value in inputs:
        value.external = None


def _bind(array: Any, held: Any, at: int, ref: Ref) -> None:
    held[at] = ref.resolve(array)


def needed(ops: list[Op], kept: set[Value]) -> list[Op]:
    """The operations that `kept` depend on, in order, and all draws, which move their streams.

    Copies that nobody could tell from their source are left out.
    """
    live = set(kept)
    found: list[Op] = []
    for op in reversed(ops):
        outputs = {out.value for out in op.outputs}
        if not outputs & live and not isinstance(op.run, Draw):
            continue
        found.append(op)
        if not op.partial_write and all(map(_covers, op.outputs)):
            live -= outputs - kept
        live |= {x.value for x in op.inputs if isinstance(x, Ref)}
    return without_copies(found[::-1], kept)


def early(ops: list[Op]) -> list[Op]:
    """The operations, sums over ranks as soon as all that they sum is there, in their order."""
    done = [op for op in ops if op.ufunc != BEGIN_SUM]
    at = 0
    for op in ops:
        if op.ufunc == BEGIN_SUM:
            sent = {x.value for x in op.inputs if isinstance(x, Ref)}
            touching = [i for i, other in enumerate(done) if sent & _values_of(other)]
            at = max(at, *(i + 1 for i in touching))
            done.insert(at, op)
            at += 1
    return done


def _values_of(op: Op) -> set[Value]:
    return {x.value for x in (*op.inputs, *op.outputs) if isinstance(x, Ref)}


def _carried(ops: list[Op]) -> list[Value]:
    """External values that are written after they were read, or in part."""
    read: set[Value] = set()
    whole: set[Value] = set()
    found: dict[Value, None] = {}
    for op in ops:
        read |= {x.value for x in op.inputs if isinstance(x, Ref)} - whole
        for out in op.outputs:
            if op.partial_write or not _covers(out):
                read |= {out.value} - whole
            if out.value.external is not None and out.value in read:
                found[out.value] = None
            whole.add(out.value)
    return list(found)


def _covers(out: Ref) -> bool:
    """Whether a view is one of all its value's elements."""
    return out.resolve(out.value.array).size == out.value.array.size


def _linked(ops: list[Op], inputs: Sequence[Value], memory: _Memory) -> list[Op]:
    """The operations, those that follow each other and can be linked as one."""
    done: list[Op] = []
    for link, found in groupby(ops, lambda op: op.link):
        group = list(found)
        done += group if link is None else [link(group, inputs, memory.array)]
    return done


class _Memory:
    """An array for every value, sharing memory between values that are never alive together."""

    def __init__(self, ops: list[Op], kept: set[Value], place: Place) -> None:
        self.bytes = 0
        self._place = place
        self._arrays: dict[Value, Any] = {}
        self._raw: dict[Value, Any] = {}
        self._numbers: dict[int, int] = {}
        """Of each piece of memory, by its identity, its number."""
        last: dict[Value, int] = {}
        for i, op in enumerate(ops):
            for x in (*op.inputs, *op.outputs):
                if isinstance(x, Ref):
                    last[x.value] = i
        free: list[Any] = []
        for i, op in enumerate(ops):
            used = [x.value for x in (*op.inputs, *op.outputs) if isinstance(x, Ref)]
            for value in used:
                if value.external is None and value not in self._arrays:
                    self._arrays[value] = self._take(free, value)
            for value in dict.fromkeys(used):
                if last[value] == i and value.external is None and value not in kept:
                    free.append(self._raw[value])

    def array(self, value: Value) -> Any:
        """The memory of a value."""
        if value.external is not None:
            return self._place.external(value.external)
        return self._arrays[value]

    def number(self, value: Value) -> int | None:
        """Which piece of memory a value has, as they were taken; None for its own."""
        raw = self._raw.get(value)
        return None if raw is None else self._numbers[id(raw)]

    def check(self, ops: list[Op], results: Sequence[Ref]) -> None:
        """CannotTraceError unless every view is one, and what is written to is one value alone."""
        refs = [x for op in ops for x in (*op.inputs, *op.outputs) if isinstance(x, Ref)]
        for x in (*refs, *results):
            array = self.array(x.value)
            view = x.resolve(array)
            if view.size and not self._place.meet(view, array):
                raise CannotTraceError("reads a copy, made once, for a view")
        given = {x.value: self.array(x.value) for x in refs if x.value.external is not None}
        written = {out.value for op in ops for out in op.outputs} & given.keys()
        for value in written:
            if any(self._place.meet(given[value], x) for v, x in given.items() if v is not value):
                raise CannotTraceError("writes to an array of which another is a view")

    def _take(self, free: list[Any], value: Value) -> Any:
        nbytes = value.array.nbytes
        fitting = [raw for raw in free if nbytes <= raw.nbytes <= 2 * nbytes]
        if fitting and nbytes:
            raw = min(fitting, key=lambda raw: raw.nbytes)
            free[:] = [other for other in free if other is not raw]
        else:
            raw = self._place.bytes(nbytes)
            self._numbers[id(raw)] = len(self._numbers)
            self.bytes += nbytes
        self._raw[value] = raw
        return raw[:nbytes].view(value.array.dtype).reshape(value.array.shape)


def aligned(nbytes: int) -> Host:
    """Memory that begins at a multiple of 64, a cache line."""
    raw = np.zeros(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes]
