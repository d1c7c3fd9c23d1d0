"""Flat loops: those over C-contiguous arrays as they are, whose operands have one of four roles."""

from __future__ import annotations

from collections.abc import Container, Iterable

from ldl.compiler.loops import KNOWN, TYPES, Loop
from ldl.compiler.operations import Op, Ref, Value


def role(ref: Ref, shape: tuple[int, ...]) -> str:
    """How a loop over `shape` reads a view: full, row, column, scalar, or "" for not at all."""
    array = ref.resolve(ref.value.lying)
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


def flat_shape(op: Op) -> tuple[int, ...] | None:
    """The shape of a flat loop for this operation, None where none can do it."""
    if op.ufunc not in KNOWN - {"max", "min"} or op.partial_write or len(op.outputs) != 1:
        return None
    (out,) = op.outputs
    shape: tuple[int, ...]
    array = out.resolve(out.value.lying)
    if not array.flags.c_contiguous or array.size != out.value.array.size:
        return None
    if op.ufunc == "sum":
        (x,) = op.inputs
        shape = x.resolve(x.value.array).shape
        columns = op.axis == (0,) and len(shape) == 2 and not op.keepdims
        total = op.axis == tuple(range(len(shape))) and array.ndim == 0
        known = (columns or total) and array.dtype.kind == "f" and role(x, shape) == "full"
        known = known and 1 not in (shape[0], x.value.array.size)
        return shape if known and 0 not in shape else None
    shape = array.shape
    if not shape or 0 in shape:
        return None
    reads = _read([op])
    known = all(role(x, shape) for x in reads) and in_full(reads, {out.value}, shape)
    return shape if known else None


def in_full(reads: Iterable[Ref], writes: Container[Value], shape: tuple[int, ...]) -> bool:
    """Whether what is written is read in no other role than full.

    Beside an axis of length 1 a row's elements lie as all of them do, and are not taken for them.
    """
    return all(role(x, shape) == "full" for x in reads if x.value in writes)


def fits(op: Op, loop: Loop) -> bool:
    """Whether a flat loop of its shape can do this operation too, after the others."""
    reads, before = _read([op]), _read(loop.ops)
    written = {out.value for out in op.outputs}
    return in_full(reads, loop.writes, loop.shape) and in_full(before, written, loop.shape)


def _read(ops: Iterable[Op]) -> list[Ref]:
    return [x for op in ops for x in op.inputs if isinstance(x, Ref)]
