"""Fusing: operations gathered into loops.

`fuse` walks a list of operations in order and gathers those that a loop can do together; what is
not read afterwards is never written to memory. Of the loops that are open at a time one may read
what others sum up, and is done `after` them; else they know nothing of each other: one that an
operation meets, and that cannot do it, is closed before the operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from math import prod
from typing import Any

from ldl.compiler.flat import fits
from ldl.compiler.loops import Loop, Step, on_numbers, shape_of
from ldl.compiler.operations import BETWEEN_RANKS, Op, Ref, Value


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
    fusing = _Fusing(flat, aside)
    for op in ops:
        follows = op.ufunc == "sum" and not sums
        shape = None if follows else (flat or shape_of)(op)
        if shape is not None and prod(shape) < least:
            shape = None
        fusing.take(op, shape, follows)
    for loop in list(fusing.open):
        fusing.close(loop)
    done = _numbers_together(fusing.done) if least <= 1 else fusing.done
    return [
        step
        if isinstance(step, Op)
        else _named(made(step, _read_after(done[i + 1 :]) | kept), step)
        for i, step in enumerate(done)
    ]


def _named(op: Op, loop: Loop) -> Op:
    """The operation that does a loop, with the names of what it does."""
    return replace(op, parts=tuple(step.op.ufunc for step in loop.steps))


class _Fusing:
    """The loops that are open, and what is done already, in order."""

    def __init__(self, flat: Callable[[Op], Any] | None, aside: bool) -> None:
        self.flat, self.aside = flat, aside
        self.done: list[Op | Loop] = []
        self.open: list[Loop] = []
        self.after: dict[Loop, list[Loop]] = {}
        """The loops that each is done after."""

    def close(self, loop: Loop) -> None:
        """Do a loop, and before it those that it is done after."""
        if loop in self.open:
            for other in self.after.pop(loop):
                self.close(other)
            self.open.remove(loop)
            self.done.extend((loop, *loop.trailing))

    def take(self, op: Op, shape: tuple[int, ...] | None, follows: bool) -> None:
        """Do an operation over a shape in a loop; where it has none, by itself."""
        reads = {x.value for x in op.inputs if isinstance(x, Ref)}
        writes = {out.value for out in op.outputs}
        touched = [loop for loop in self.open if _meets(loop, reads, writes)]
        if (
            shape is None
            and op.ufunc not in BETWEEN_RANKS
            and _put_off(op, reads, writes, touched, follows)
        ):
            return
        home, step = (None, None) if shape is None else self._home(op, shape, writes, touched)
        waited = []
        for other in touched:
            if home is not None and _sums_alone(other, reads, writes):
                waited.append(other)
            elif other is not home:
                self.close(other)
        if home is None or step is None:
            self.done.append(op)
            return
        if home not in self.open:
            self.open.append(home)
        self.after.setdefault(home, []).extend(x for x in waited if x is not home)
        home.add(step)

    def _home(
        self, op: Op, shape: tuple[int, ...], writes: set[Value], touched: list[Loop]
    ) -> tuple[Loop | None, Step | None]:
        """The loop that can do an operation, rather one that it meets, and how it does."""
        before = _before(touched, self.after)
        new = Loop(shape, passes=self.flat is None, aside=self.aside)
        for loop in (*sorted(self.open, key=lambda x: x not in touched), new):
            alike = self.flat is None or (loop.shape == shape and fits(op, loop))
            if alike and loop not in before and _unread(loop.trailing, writes):
                step = loop.step(op)
                if step is not None:
                    return loop, step
        return None, None


def _meets(loop: Loop, reads: set[Value], writes: set[Value]) -> bool:
    """Whether an operation reads or changes what the loop writes, or changes what it reads."""
    return bool((reads | writes) & (loop.writes | loop.sums) or writes & loop.reads)


def _sums_alone(loop: Loop, reads: set[Value], writes: set[Value]) -> bool:
    """Whether an operation only reads what the loop sums up, and may so be done after it."""
    return not reads & loop.writes and not writes & (loop.writes | loop.sums | loop.reads)


def _before(loops: list[Loop], after: dict[Loop, list[Loop]]) -> set[Loop]:
    """The open loops that some are done after, directly or not."""
    found: set[Loop] = set()
    todo = [other for loop in loops for other in after[loop]]
    while todo:
        loop = todo.pop()
        if loop in after and loop not in found:
            found.add(loop)
            todo += after[loop]
    return found


def _put_off(
    op: Op, reads: set[Value], writes: set[Value], touched: list[Loop], follows: bool
) -> bool:
    """Whether the operation only waits for one loop's sums: it then follows the loop.

    One that `follows` may wait for what the loop writes as well. `touched` are those that it meets.
    """
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
