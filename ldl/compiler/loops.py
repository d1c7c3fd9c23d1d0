"""Loops: the elementwise operations that one pass over an array does together."""

from __future__ import annotations

from typing import Any

import numpy as np

from ldl.compiler.operations import Op, Ref, Value

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
TYPES = (np.float32, np.float64, np.int64, np.bool_)
KNOWN = {*UNARY, *BINARY, *COMPARISONS, "where", "clip", "astype", "sum", "bf16"}


class Loop:
    """Operations that one loop over `shape` does, in order."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.ops: list[Op] = []
        self.reads: set[Value] = set()
        self.writes: set[Value] = set()
        self.sums: set[Value] = set()
        self.trailing: list[Op] = []
        """Small operations on the sums, done after the loop."""

    def takes(self, op: Op) -> bool:
        """Whether the loop can do this operation too, after the others."""
        for x in op.inputs:
            if isinstance(x, Ref) and (
                x.value in self.sums or (x.value in self.writes and role(x, self.shape) != "full")
            ):
                return False
        out = op.outputs[0].value
        if op.ufunc == "sum":
            return out not in self.reads | self.writes | self.sums
        return out not in self.sums and not (
            out in self.reads
            and any(
                isinstance(x, Ref) and x.value is out and role(x, self.shape) != "full"
                for o in self.ops
                for x in o.inputs
            )
        )

    def add(self, op: Op) -> None:
        """Do it after the others."""
        self.ops.append(op)
        self.reads |= {x.value for x in op.inputs if isinstance(x, Ref)}
        (self.sums if op.ufunc == "sum" else self.writes).add(op.outputs[0].value)


def role(ref: Ref, shape: tuple[int, ...]) -> str:
    """How a loop over `shape` reads a view: full, row, column, scalar, or "" for not at all."""
    array = ref.resolve(ref.value.array)
    if array.dtype not in TYPES or not array.flags.c_contiguous:
        return ""
    if array.shape == shape:
        return "full" if array.size == ref.value.array.size else ""
    if array.ndim == 0:
        return "scalar"
    if len(shape) > 1 and array.shape in (shape[-1:], (1,) * (len(shape) - 1) + shape[-1:]):
        return "row"
    if len(shape) == 2 and array.shape == (shape[0], 1):
        return "column"
    return ""


def _is_number(x: Any) -> bool:
    """Whether a constant can stand in a loop: a number, of 64 bits if it is whole."""
    whole = not isinstance(x, int) or -(2**63) <= x < 2**63
    return isinstance(x, (int, float, np.floating, np.bool_)) and whole


def computed_in(op: Op) -> np.dtype[Any]:
    """The type in which NumPy does an operation; it then casts the result to the output's."""
    given = [x.value.dtype if isinstance(x, Ref) else x for x in op.inputs]
    if op.ufunc == "bf16":
        return np.dtype(given[0])
    if op.ufunc in ("positive", "astype", "sum"):
        return np.dtype(op.outputs[0].value.dtype)
    if op.ufunc in ("where", "clip"):
        return np.dtype(np.result_type(*given[op.ufunc == "where" :]))
    told = [type(x) if type(x) in (int, float) else np.result_type(x) for x in given]
    found: np.dtype[Any] = getattr(np, op.ufunc).resolve_dtypes((*told, None))[0]
    return found


def loop_shape(op: Op) -> tuple[int, ...] | None:
    """The shape that a loop for this operation runs over, None where none can do it."""
    if op.ufunc not in KNOWN or op.partial_write or len(op.outputs) != 1:
        return None
    (out,) = op.outputs
    shape: tuple[int, ...]
    array = out.resolve(out.value.array)
    known = array.dtype in TYPES or op.ufunc == "bf16"
    if not known or not array.flags.c_contiguous:
        return None
    if op.ufunc == "sum":
        (x,) = op.inputs
        shape = x.resolve(x.value.array).shape
        columns = op.axis == (0,) and len(shape) == 2 and not op.keepdims
        total = op.axis == tuple(range(len(shape))) and array.ndim == 0
        whole = array.size == out.value.array.size
        whole = whole and array.dtype.kind == "f"
        return shape if (columns or total) and whole and role(x, shape) == "full" else None
    shape = array.shape
    if not shape or 0 in shape or array.size != out.value.array.size:
        return None
    for x in op.inputs:
        if isinstance(x, Ref):
            how = role(x, shape)
            if not how or (x.value is out.value and how != "full"):
                return None
        elif not _is_number(x):
            return None
    return shape if computed_in(op) in TYPES else None


def on_numbers(op: Op) -> bool:
    """Whether numbers alone take part, each a whole value: a loop of one element does it."""
    if op.ufunc not in KNOWN - {"sum"} or op.partial_write:
        return False
    refs = [x for x in (*op.inputs, *op.outputs) if isinstance(x, Ref)]
    if not all(isinstance(x, Ref) or _is_number(x) for x in op.inputs):
        return False
    if any(x.path or x.value.shape or x.value.dtype not in TYPES for x in refs):
        return False
    return computed_in(op) in TYPES
