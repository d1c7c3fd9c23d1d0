"""Fusing: operations gathered into loops.

`fuse` walks a list of operations in order and gathers those that a loop can do together; what is
not read afterwards is never written to memory. The loops that are open at a time know nothing of
each other: one that an operation meets, and that cannot do it, is closed before the operation.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from math import prod
from typing import Any

from ldl.compiler.flat import fits
from ldl.compiler.loops import Loop, on_numbers, shape_of
from ldl.compiler.operations import Op, Ref, Value


def fuse(
    ops: list[Op],
    kept: set[Value],
    made: Callable[[Loop, set[Value]], Op],
    *,
    flat: Callable[[Op], Any] | None = None,
    aside: bool = True,
    sums: bool = True,
    least: int = 1,
) -> list[Op]:
    """The operations with loops in the places of those that they do; `kept` are read in the end.

    `made` gives an operation for a loop and the values that are read after it. Arrays of fewer than
    `least` elements stay as they are; without `sums`, those of what a loop writes follow it. Where
    `flat` is given, loops are of one pass, and of the shape that it gives for an operation; without
    `aside`, so are those of rows that lie side by side.
    """
    done: list[Op | Loop] = []
    open_loops: list[Loop] = []

    def close(loop: Loop) -> None:
        open_loops.remove(loop)
        done.extend((loop, *loop.trailing))

    for op in ops:
        follows = op.ufunc == "sum" and not sums
        shape = None if follows else (flat or shape_of)(op)
        if shape is not None and prod(shape) < least:
            shape = None
        reads = {x.value for x in op.inputs if isinstance(x, Ref)}
        writes = {out.value for out in op.outputs}
        if shape is None and _put_off(op, reads, writes, open_loops, follows):
            continue
        touched = [x for x in open_loops if _meets(x, reads, writes)]
        home, step = None, None
        if shape is not None:
            for loop in sorted(open_loops, key=lambda x: x not in touched):
                alike = flat is None or (loop.shape == shape and fits(op, loop))
                if alike and _unread(loop.trailing, writes):
                    step = loop.step(op)
                if step is not None:
                    home = loop
                    break
        for other in touched:
            if other is not home:
                close(other)
        if shape is not None and home is None:
            home = Loop(shape, passes=flat is None, aside=aside)
            step = home.step(op)
            if step is not None:
                open_loops.append(home)
        if home is None or step is None:
            done.append(op)
        else:
            home.add(step)
    for loop in list(open_loops):
        close(loop)
    if least <= 1:
        done = _numbers_together(done)
    return [
        step if isinstance(step, Op) else made(step, _read_after(done[i + 1 :]) | kept)
        for i, step in enumerate(done)
    ]


def _meets(loop: Loop, reads: set[Value], writes: set[Value]) -> bool:
    """Whether an operation reads or changes what the loop writes, or changes what it reads."""
    return bool((reads | writes) & (loop.writes | loop.sums) or writes & loop.reads)


def _put_off(
    op: Op, reads: set[Value], writes: set[Value], loops: list[Loop], follows: bool
) -> bool:
    """Whether the operation only waits for one loop's sums: it then follows the loop.

    One that `follows` may wait for what the loop writes as well.
    """
    touched = [loop for loop in loops if _meets(loop, reads, writes)]
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
            for op in group:
                step = loop.step(op) if isinstance(op, Op) else None
                if step is not None:
                    loop.add(step)
            group = [loop]
        done += group
    return done


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
