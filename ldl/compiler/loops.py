"""Loops: the operations that are done together, element by element or row by row.

A loop goes over the axes of a shape, those of length 1 left out. An operand is a `View`: a value
and a stride along each axis, 0 where it is broadcast. Reductions over some of the axes split them:
over the *inner* axes they give a number for each index of the *outer* ones, a row's, which later
operations of the same loop may read; those are done in further passes over the row. What a loop
reads of a value that it writes is the very same view, so each element is read where it was made.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from ldl.compiler.operations import Op, Ref, Value, within

COMPARISONS = {
    "greater": ">",
    "greater_equal": ">=",
    "less": "<",
    "less_equal": "<=",
    "equal": "==",
    "not_equal": "!=",
}
UNARY = {
    *("positive", "negative", "absolute", "fabs", "square", "reciprocal", "sqrt", "sign"),
    *("exp", "log", "log1p", "expm1", "tanh"),
}
BINARY = {"add", "subtract", "multiply", "divide", "maximum", "minimum"}
REDUCTIONS = {"sum": "add", "max": "maximum", "min": "minimum"}
"""What each puts together, two by two."""

TYPES = (np.float32, np.float64, np.int64, np.bool_)
KNOWN = {*UNARY, *BINARY, *COMPARISONS, *REDUCTIONS, "where", "clip", "astype", "bf16"}

MOST = 2**32
"""Elements: an index of more has 64 bits, which a GPU divides slowly."""

LONGEST = 2**17
"""Elements of a row that may be gone through in several passes: one block of threads does it."""


class View(NamedTuple):
    """Where a loop finds an element of a value."""

    value: Value
    offset: int
    """Of the first one, in bytes."""
    strides: tuple[int, ...]
    """Elements from one to the next along each axis of the loop, 0 where there is but one."""


class Step(NamedTuple):
    """An operation of a loop, and the views that it reads and writes."""

    op: Op
    inputs: tuple[Any, ...]
    """Views, or numbers."""
    out: View
    reduces: frozenset[int] | None = None
    """The axes of the loop that it reduces."""


def lengths(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of length 1."""
    return tuple(n for n in shape if n != 1)


def shape_of(op: Op) -> tuple[int, ...] | None:
    """The shape that an operation goes over; None for one that is not known."""
    if op.ufunc not in KNOWN or len(op.outputs) != 1:
        return None
    (x,) = op.inputs if op.ufunc in REDUCTIONS else op.outputs
    if not isinstance(x, Ref):
        return None
    shape: tuple[int, ...] = x.resolve(x.value.lying).shape
    return shape if shape and 0 < prod(shape) < MOST else None


def view(ref: Ref, shape: tuple[int, ...]) -> View | None:
    """A view of a value, broadcast to a shape; None where no loop can go through it."""
    lying = ref.value.lying
    array = ref.resolve(lying)
    missing = len(shape) - array.ndim
    if missing < 0 or not within(array, lying):
        return None
    strides = [0] * missing
    for n, mine, stride in zip(shape[missing:], array.shape, array.strides, strict=True):
        if mine not in (1, n) or stride % array.itemsize:
            return None
        strides.append(stride // array.itemsize if mine == n else 0)
    offset = array.__array_interface__["data"][0] - lying.__array_interface__["data"][0]
    return View(ref.value, offset, tuple(s for s, n in zip(strides, shape, strict=True) if n != 1))


def _spread(seen: View | None, axes: list[int], count: int) -> View | None:
    """A view along some axes of a loop, as one along all of them."""
    if seen is None or len(seen.strides) != len(axes):
        return None
    strides = [0] * count
    for axis, stride in zip(axes, seen.strides, strict=True):
        strides[axis] = stride
    return seen._replace(strides=tuple(strides))


def _apart(out: View, sizes: tuple[int, ...], axes: list[int]) -> bool:
    """Whether no two elements along these axes lie in the same place."""
    reach = 0
    for stride, n in sorted((abs(out.strides[axis]), sizes[axis]) for axis in axes):
        if stride <= reach:
            return False
        reach += stride * (n - 1)
    return True


class Loop:
    """Operations that one loop over `shape` does, in order.

    One of a single pass (`passes` is false) reads nothing of what it reduces; nor does one of rows
    that lie side by side where they are not to be gone through again (`aside` is false).
    """

    def __init__(self, shape: tuple[int, ...], passes: bool = True, aside: bool = True) -> None:
        self.shape = shape
        self.sizes = lengths(shape)
        self.passes = passes
        self.aside = aside
        self.steps: list[Step] = []
        self.reads: set[Value] = set()
        self.writes: set[Value] = set()
        self.sums: set[Value] = set()
        """What reductions give, and the operations that wait for them."""
        self.held: dict[Value, View] = {}
        """How each value that it writes is seen."""
        self.loaded: dict[Value, set[View]] = {}
        self.rows: dict[Value, frozenset[int]] = {}
        """The axes of which a value is a reduction that the loop may read."""
        self.inner: frozenset[int] | None = None
        """The axes of a row, where one of its reductions is read."""
        self.trailing: list[Op] = []
        """Small operations on what it reduces, done after the loop."""

    @property
    def ops(self) -> list[Op]:
        """Its operations."""
        return [step.op for step in self.steps]

    @property
    def split(self) -> frozenset[int]:
        """The axes of a row; none where nothing is reduced but to a total."""
        if self.inner is not None:
            return self.inner
        found = set(self.rows.values())
        last = len(self.sizes) - 1
        return next((axes for axes in found if len(found) == 1 or last in axes), frozenset())

    def step(self, op: Op) -> Step | None:
        """How the loop can do this operation too, after the others; None where it cannot."""
        shape = shape_of(op) if self.shape else ()
        if shape is None:
            return None
        axes = self._axes(op, shape)
        if axes is None:
            return None
        inputs = [
            _spread(view(x, shape), axes, len(self.sizes)) if isinstance(x, Ref) else x
            for x in op.inputs
        ]
        (ref,) = op.outputs
        along, reduces = axes, None
        if op.ufunc in REDUCTIONS:
            ones = [axis for axis, n in enumerate(shape) if n != 1]
            reduced = {axes[ones.index(axis)] for axis in op.axis or () if axis in ones}
            along, reduces = [a for a in axes if a not in reduced], frozenset(reduced) or None
        array = ref.resolve(ref.value.lying)
        out = _spread(view(ref, array.shape), along, len(self.sizes))
        if out is None or not _apart(out, self.sizes, along) or not _typed(op):
            return None
        for x in inputs:
            if x is None or (not isinstance(x, View) and not _is_number(x)):
                return None
            if isinstance(x, View) and self.held.get(x.value, x) != x:
                return None
        if self.held.get(out.value, out) != out or self.loaded.get(out.value, {out}) != {out}:
            return None
        if any(isinstance(x, View) and x.value is out.value and x != out for x in inputs):
            return None
        if reduces is not None:
            if ref.value in self.reads | self.writes | self.sums:
                return None
            if len(reduces) < len(axes) and not self._fits(reduces):
                return None
            if len(axes) < len(self.sizes) and along:
                return None
        return Step(op, tuple(inputs), out, reduces)

    def _axes(self, op: Op, shape: tuple[int, ...]) -> list[int] | None:
        """The axes of the loop that an operation goes over: all, or those of a number a row."""
        read = [x.value for x in op.inputs if isinstance(x, Ref)]
        if any(value in self.sums and value not in self.rows for value in read):
            return None
        inner = self.inner
        for axes in (self.rows[value] for value in read if value in self.rows):
            if inner not in (None, axes) or not (self.inner or self._may_read(axes)):
                return None
            inner = axes
        every = list(range(len(self.sizes)))
        if lengths(shape) == self.sizes:
            return every
        outer = [axis for axis in every if axis not in (inner or every)]
        if inner is None or lengths(shape) != tuple(self.sizes[axis] for axis in outer):
            return None
        made = any(value in self.rows or self._is_row(value, inner) for value in read)
        return outer if outer and made else None

    def _is_row(self, value: Value, inner: frozenset[int]) -> bool:
        """Whether the loop made numbers a row of it."""
        return value in self.held and not any(self.held[value].strides[axis] for axis in inner)

    def _may_read(self, inner: frozenset[int]) -> bool:
        """Whether rows along these axes may be gone through again."""
        sums = set(self.rows.values()) - {inner}
        short = prod(self.sizes[axis] for axis in inner) <= LONGEST
        along = len(self.sizes) - 1 in inner
        return self.passes and short and (along or (self.aside and not sums))

    def _fits(self, reduces: frozenset[int]) -> bool:
        """Whether these axes are those of a row, or all others, which rows add up to columns."""
        others = frozenset(range(len(self.sizes))) - reduces
        known = {*self.rows.values(), *([self.inner] if self.inner else [])}
        if not known <= {reduces, others}:
            return False
        last = len(self.sizes) - 1
        return others not in known or self.inner is None or last in self.inner

    def add(self, step: Step) -> None:
        """Do it after the others."""
        self.steps.append(step)
        for x in step.inputs:
            if isinstance(x, View):
                self.reads.add(x.value)
                self.inner = self.rows.get(x.value, self.inner)
                if x.value not in self.held:
                    self.loaded.setdefault(x.value, set()).add(x)
        value = step.out.value
        self.held[value] = step.out
        (self.sums if step.reduces else self.writes).add(value)
        if step.reduces and any(step.out.strides):
            self.rows[value] = step.reduces


def _is_number(x: Any) -> bool:
    """Whether a constant can stand in a loop: a number, of 64 bits if it is whole."""
    whole = not isinstance(x, int) or -(2**63) <= x < 2**63
    return isinstance(x, (int, float, np.floating, np.bool_)) and whole


def computed_in(op: Op) -> np.dtype[Any]:
    """The type in which NumPy does an operation; it then casts the result to the output's."""
    given = [x.value.dtype if isinstance(x, Ref) else x for x in op.inputs]
    if op.ufunc == "bf16":
        return np.dtype(given[0])
    if op.ufunc in ("positive", "astype", *REDUCTIONS):
        return np.dtype(op.outputs[0].value.dtype)
    if op.ufunc in ("where", "clip"):
        return np.dtype(np.result_type(*given[op.ufunc == "where" :]))
    told = [type(x) if type(x) in (int, float) else np.result_type(x) for x in given]
    found: np.dtype[Any] = getattr(np, op.ufunc).resolve_dtypes((*told, None))[0]
    return found


def _typed(op: Op) -> bool:
    """Whether all types are known."""
    known = [x.value.dtype for x in op.inputs if isinstance(x, Ref)]
    if op.ufunc != "bf16":
        known.append(op.outputs[0].value.dtype)
    return all(dtype in TYPES for dtype in known) and computed_in(op) in TYPES


def on_numbers(op: Op) -> bool:
    """Whether numbers alone take part, each a whole value: a loop of one element does it."""
    if op.ufunc not in KNOWN - REDUCTIONS.keys() or op.partial_write:
        return False
    refs = [x for x in (*op.inputs, *op.outputs) if isinstance(x, Ref)]
    if not all(isinstance(x, Ref) or _is_number(x) for x in op.inputs):
        return False
    return not any(x.path or x.value.shape for x in refs) and _typed(op)
