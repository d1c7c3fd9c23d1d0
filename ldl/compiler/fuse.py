"""Fusing: operations gathered into loops.

`fuse` walks a list of operations in order and gathers those that a loop over (rows, columns) can do
together, sums at its end included; what is not read afterwards is never written to memory.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from math import prod
from typing import Any

from ldl.compiler.loops import Loop, loop_shape, on_numbers
from ldl.compiler.operations import Op, Ref, Value


def fuse(
    ops: list[Op],
    kept: set[Value],
    made: Callable[[Loop, set[Value]], Op],
    *,
    sums: bool = True,
    least: int = 1,
) -> list[Op]:
    """The operations with loops in the places of those that they do; `kept` are read in the end.

    `made` gives an operation for a loop and the values that are read after it. Arrays of fewer than
    `least` elements stay as they are; without `sums`, those of what a loop writes follow it.
    """
    done: list[Op | Loop] = []
    open_loops: list[Loop] = []

    def close(loop: Loop) -> None:
        open_loops.remove(loop)
        done.extend((loop, *loop.trailing))

    for op in ops:
        follows = op.ufunc == "sum" and not sums
        shape = None if follows else loop_shape(op)
        if shape is not None and (prod(shape) < least or not _contiguous(op)):
            shape = None
        reads = {x.value for x in op.inputs if isinstance(x, Ref)}
        writes = {out.value for out in op.outputs}
        if shape is None and _put_off(op, reads, writes, open_loops, follows):
            continue
        home = next((x for x in open_loops if shape is not None and x.shape == shape), None)
        for other in list(open_loops):
            changed = other.writes | other.sums
            if (other is not home and (reads | writes) & changed) or (
                other is not home and writes & other.reads
            ):
                close(other)
        if shape is None:
            done.append(op)
            continue
        if home is not None and not (home.takes(op) and _unread(home.trailing, writes)):
            close(home)
            home = None
        if home is None:
            home = Loop(shape)
            open_loops.append(home)
        home.add(op)
    for loop in list(open_loops):
        close(loop)
    if least <= 1:
        done = _numbers_together(done)
    return [
        step if isinstance(step, Op) else made(step, _read_after(done[i + 1 :]) | kept)
        for i, step in enumerate(done)
    ]


def _put_off(
    op: Op, reads: set[Value], writes: set[Value], loops: list[Loop], follows: bool
) -> bool:
    """Whether the operation only waits for one loop's sums: it then follows the loop.

    One that `follows` may wait for what the loop writes as well.
    """
    touched = [x for x in loops if (reads | writes) & (x.writes | x.sums) or writes & x.reads]
    if len(touched) != 1 or (any(value.shape for value in reads | writes) and not follows):
        return False
    (loop,) = touched
    if (reads & loop.writes and not follows) or writes & (loop.writes | loop.reads | loop.sums):
        return False
    loop.trailing.append(op)
    loop.reads |= reads - loop.sums
    loop.sums |= writes
    return True


def _numbers_together(steps: list[Op | Loop]) -> list[Op | Loop]:
    """Operations on numbers alone that follow each other, as a loop of one element."""
    done: list[Op | Loop] = []
    for alone, found in groupby(steps, lambda step: isinstance(step, Op) and on_numbers(step)):
        group = list(found)
        if alone:
            loop = Loop(())
            for step in group:
                if isinstance(step, Op):
                    loop.add(step)
            group = [loop]
        done += group
    return done


def _contiguous(op: Op) -> bool:
    """Whether the arrays that it has not from the trace can be seen as vectors."""
    refs = [x for x in (*op.inputs, *op.outputs) if isinstance(x, Ref)]
    arrays = [x.value.external for x in refs]
    return all(array is None or array.flags.c_contiguous for array in arrays)


def _unread(steps: list[Op], values: set[Value]) -> bool:
    return not any(isinstance(x, Ref) and x.value in values for op in steps for x in op.inputs)


def _read_after(steps: list[Any]) -> set[Value]:
    read: set[Value] = set()
    for step in steps:
        if isinstance(step, Loop):
            read |= step.reads
        else:
            read |= {x.value for x in step.inputs if isinstance(x, Ref)}
            if step.partial_write:
                read |= {out.value for out in step.outputs}
    return read
