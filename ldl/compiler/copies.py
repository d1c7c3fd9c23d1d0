"""What need not be done: copies that nobody could tell from their source, and fills that nobody
reads, since all is written over before."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import takewhile
from typing import Any

import numpy as np

from ldl.compiler.operations import Op, Ref, Value, within

MANY = 3
"""Products by one matrix for which a copy of it that lies row by row is worth its time."""


def without_copies(ops: list[Op], kept: set[Value]) -> list[Op]:
    """The operations, readers of such a copy reading its source; `kept` are read in the end.

    A copy stays where its source is no array that a reader's view could be made of.
    """
    ops = _without_fills(ops)
    writes = Counter(out.value for op in ops for out in op.outputs)
    last = {out.value: i for i, op in enumerate(ops) for out in op.outputs}
    readers: dict[Value, list[Ref]] = defaultdict(list)
    for x in (x for op in ops for x in op.inputs if isinstance(x, Ref)):
        readers[x.value].append(x)
    sources: dict[Value, Ref] = {}
    done: list[Op] = []
    right = Counter(op.inputs[1].value for op in ops if _is_product(op))
    for i, op in enumerate(ops):
        op = replace(op, inputs=tuple(_of_source(x, sources) for x in op.inputs))
        if _is_copy(op) and not (right[op.outputs[0].value] >= MANY and _turns(op)):
            (source,), value = op.inputs, op.outputs[0].value
            unchanged = writes[value] == 1 and last.get(source.value, -1) < i
            views = [Ref(source.value, (*source.path, *x.path)) for x in readers[value]]
            if unchanged and value not in kept and all(map(_lies_there, views)):
                sources[value] = source
                continue
        done.append(op)
    return done


def _is_product(op: Op) -> bool:
    """Whether it is a product by an array."""
    return op.ufunc == "matmul" and isinstance(op.inputs[1], Ref)


def _turns(op: Op) -> bool:
    """Whether a copy lies in another order than its source."""
    (x,) = op.inputs
    return not x.resolve(x.value.lying).flags.c_contiguous


def _without_fills(ops: list[Op]) -> list[Op]:
    """The operations but for copies to all of a value of which no element is left or read."""
    touching: dict[Value, list[Op]] = defaultdict(list)
    for op in ops:
        for value in {x.value for x in (*op.inputs, *op.outputs) if isinstance(x, Ref)}:
            touching[value].append(op)
    needless = set()
    for value, found in touching.items():
        for i, op in enumerate(found):
            if _fills(op, value) and _written_over(value, found[i + 1 :]):
                needless.add(id(op))
    return [op for op in ops if id(op) not in needless]


def _fills(op: Op, value: Value) -> bool:
    """Whether it copies to all of a value that the trace made."""
    if op.ufunc != "positive" or op.partial_write or value.external is not None:
        return False
    return any(out.value is value and not out.path for out in op.outputs)


def _written_over(value: Value, ops: list[Op]) -> bool:
    """Whether these write all of a value before any reads it."""
    writing = [*takewhile(lambda op: all(_value(x) is not value for x in op.inputs), ops)]
    left = np.ones(value.shape if writing else (), bool)
    for out in (out for op in writing for out in op.outputs if out.value is value):
        out.resolve(left)[...] = False
    return not left.any()


def _value(x: Any) -> Value | None:
    return x.value if isinstance(x, Ref) else None


def _of_source(x: Any, sources: dict[Value, Ref]) -> Any:
    """An operand, that of the source where it is of such a copy."""
    if not isinstance(x, Ref) or x.value not in sources:
        return x
    source = sources[x.value]
    return Ref(source.value, (*source.path, *x.path))


def _is_copy(op: Op) -> bool:
    """Whether it writes all of a view, and nothing else, to a value that the trace made."""
    if op.ufunc not in ("positive", "astype") or op.partial_write or len(op.outputs) != 1:
        return False
    (out,) = op.outputs
    if out.path or out.value.external is not None or not isinstance(op.inputs[0], Ref):
        return False
    source = op.inputs[0].resolve(op.inputs[0].value.lying)
    return source.shape == out.value.shape and source.dtype == out.value.dtype


def _lies_there(x: Ref) -> bool:
    """Whether a view is one of its value's memory."""
    return within(x.resolve(x.value.lying), x.value.lying)
