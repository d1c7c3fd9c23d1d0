"""Blocks: elementwise operations done together on a few rows at a time, which stay in the cache.

Without llvmlite, `in_blocks` gathers what would else be loops. NumPy then does all operations of a
group on a block before the next block; what is not read afterwards is never written to memory but
to scratch of a block's size. Every element comes out as a pass over the whole array makes it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ldl.compiler.flat import flat_shape, role
from ldl.compiler.fuse import fuse
from ldl.compiler.loops import Loop
from ldl.compiler.operations import Group, Host, Op, Ref, Value

BLOCK = 2**15
"""Elements of a block: a core's cache holds several such arrays, and calls cost little beside."""

LEAST = 2**18 + 1
"""Elements of an array that is worth blocks; the cache holds some smaller ones as they are."""


def in_blocks(ops: list[Op], kept: set[Value]) -> list[Op]:
    """The operations, those on large arrays gathered; `kept` are read in the end."""
    return fuse(ops, kept, blocked, flat=flat_shape, sums=False, least=LEAST)


def blocked(loop: Loop, stored: set[Value]) -> Op:
    """The loop as one operation: the operation itself where there is but one."""
    if len(loop.ops) == 1:
        return loop.ops[0]
    blocks = Blocks(loop, stored)
    return Op(blocks, tuple(blocks.inputs.values()), blocks.outputs, ufunc="blocks")


class Operand(NamedTuple):
    """What a step reads or writes."""

    kind: str
    """full, row, column or scalar of a given array; scratch; filled or constant."""
    at: Any
    """Which of the given arrays, which scratch, or the number."""
    written: int = 0
    """How often the group wrote to it before."""

    @property
    def key(self) -> Any:
        """Equal for what is the same in every bit."""
        if self.kind not in ("filled", "constant"):
            return self
        number = np.asarray(self.at)
        return self.kind, number.dtype, number.tobytes()


class Step(NamedTuple):
    """An operation, on whichever block."""

    run: Callable[..., Any]
    read: list[Operand]
    out: Operand
    dtype: np.dtype[Any]
    in_place: bool
    """Whether it may write to memory that it reads."""


class Blocks(Group):
    """A group of operations: `calls` do it, block by block.

    `blocks[i] = array` gives it the array of input or output number i, and the calls their views.
    """

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        self.shape = loop.shape
        roles = {role(x, self.shape) for op in loop.ops for x in op.inputs if isinstance(x, Ref)}
        self.columns = self.shape[-1] if roles & {"row", "column"} else 1
        self.rows = prod(self.shape) // self.columns
        self.height = min(self.rows, max(1, BLOCK // self.columns))
        self.inputs: dict[Any, Ref] = {}
        writes = Counter(op.outputs[0].value for op in loop.ops)
        self._stores = {v: i for i, v in enumerate(v for v in writes if v in stored)}
        self.outputs = tuple(Ref(value, (("reshape", (-1,)),)) for value in self._stores)
        self.bytes = 0
        """Of blocks of memory."""
        self._found: dict[Value, Operand] = {}
        self._steps: list[Step] = []
        self._gather(loop.ops, writes)

        count = len(self.inputs) + len(self.outputs)
        self._uses: list[dict[Any, list[Any]]] = [defaultdict(list) for _ in range(count)]
        """For each given array, where views of it go: rows and places in them."""
        self.calls: list[list[Any]] = []
        """Functions, each with its arguments after it."""
        self._lay_out()

    def __setitem__(self, at: int, array: Host) -> None:
        for part, places in self._uses[at].items():
            view = array if part is None else array[part[0] : part[1]].reshape(part[2])
            for row, place in places:
                row[place] = view

    def _gather(self, ops: list[Op], writes: Counter[Value]) -> None:
        """Note the steps; what was computed before from the same operands is not computed again."""
        done: dict[Any, Operand] = {}
        for op in ops:
            value = op.outputs[0].value
            pure = isinstance(op.run, np.ufunc) or op.ufunc in ("maximum", "minimum")
            read = [self._operand(x, op, pure) for x in op.inputs]
            key = op.ufunc, value.dtype, *[x.key for x in read]
            if pure and key in done and value not in self._stores:
                self._found[value] = done[key]
                continue
            out = Operand("scratch", len(self._steps))
            if value in self._stores:
                before = self._full(value)
                out = before._replace(written=before.written + 1)
            self._found[value] = out
            if value not in self._stores or writes[value] == 1:
                done[key] = out
            types = {x.value.dtype for x in op.inputs if isinstance(x, Ref)}
            in_place = pure and types == {value.dtype}
            self._steps.append(Step(op.run, read, out, value.dtype, in_place))

    def _full(self, value: Value) -> Operand:
        """Where all of a value lies now."""
        if value in self._found:
            return self._found[value]
        if value in self._stores:
            return Operand("full", self._stores[value] - len(self._stores))
        return self._input(value, (), "full", (-1,))

    def _input(self, value: Value, path: Any, how: str, shape: tuple[int, ...]) -> Operand:
        key = value, repr(path), how
        self.inputs.setdefault(key, Ref(value, (*path, ("reshape", (shape,)))))
        return Operand(how, list(self.inputs).index(key))

    def _operand(self, x: Any, op: Op, pure: bool) -> Operand:
        if isinstance(x, Ref):
            how = role(x, self.shape)
            if how == "full":
                return self._full(x.value)
            shape = {"row": (1, self.columns), "column": (self.rows, 1), "scalar": ()}[how]
            return self._input(x.value, x.path, how, shape)
        types = {y.value.dtype for y in op.inputs if isinstance(y, Ref)}
        if pure and type(x) in (int, float) and types == {np.result_type(x, *types)}:
            number = np.array(x, types.pop())  # what NumPy would make of it at every call
            return Operand("constant" if isinstance(op.run, np.ufunc) else "filled", number)
        return Operand("constant", x)

    def _lay_out(self) -> None:
        """Write the calls down, with holes where views of the given arrays will be."""
        held = self._scratch()
        for x in {x.key: x for step in self._steps for x in step.read}.values():
            if x.kind == "row":
                held[x.key] = self._block(list(self.inputs)[x.at][0].dtype)
                self.calls.append([np.copyto, held[x.key].reshape(self.height, self.columns), None])
                self._uses[x.at][None].append((self.calls[-1], 2))
            elif x.kind == "filled":
                held[x.key] = self._block(x.at.dtype)
                held[x.key][...] = x.at
        for top in range(0, self.rows, self.height):
            bottom = min(self.rows, top + self.height)
            first, end = top * self.columns, bottom * self.columns
            for step in self._steps:
                grid = any(x.kind == "column" for x in step.read)
                shape = (bottom - top, self.columns) if grid else (-1,)
                parts = {"full": (first, end, shape), "column": (top, bottom, (-1, 1))}
                row: list[Any] = [step.run]
                for place, x in enumerate((*step.read, step.out), start=1):
                    if x.key in held:
                        row.append(held[x.key][: end - first].reshape(shape))
                        continue
                    row.append(x.at)
                    if x.kind != "constant":
                        self._uses[x.at][parts.get(x.kind)].append((row, place))
                self.calls.append(row)

    def _scratch(self) -> dict[Any, Host]:
        """Memory for what is not stored, used again once its last reader has run."""
        last = {x.key: i for i, step in enumerate(self._steps) for x in step.read}
        free: dict[Any, list[Host]] = defaultdict(list)
        held: dict[Any, Host] = {}
        for i, step in enumerate(self._steps):
            done = [held[key] for key in {x.key for x in step.read} & held.keys() if last[key] == i]
            if step.in_place:
                free[step.dtype] += done
            if step.out.kind == "scratch":
                spare = free[step.dtype]
                held[step.out] = spare.pop() if spare else self._block(step.dtype)
            if not step.in_place:
                for block in done:
                    free[block.dtype].append(block)
        return held

    def _block(self, dtype: np.dtype[Any]) -> Host:
        """A block's memory, beginning at a multiple of 64 bytes, a cache line."""
        nbytes = self.height * self.columns * dtype.itemsize
        self.bytes += nbytes
        raw = np.zeros(nbytes + 64, np.uint8)
        start = -raw.ctypes.data % 64
        block: Host = raw[start : start + nbytes].view(dtype)
        return block
