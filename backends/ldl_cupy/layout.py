"""What cuBLASLt is told of a row-major product: functions of shapes and strides alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

ALIGNED = 16
"""Bytes: the addresses of recorded steps are multiples, since kernels read so many at once."""

MANY = 16
"""Products that are launched in the place of one before an operand is rather copied."""

_EPILOGUES = {
    None: "DEFAULT",
    "bias": "BIAS",
    "sums_a": "BGRADB",
    "sums_b": "BGRADA",
}


@dataclass(frozen=True, slots=True)
class Gemm:
    """Column-major D = op(A) op(B): D is (m, n), op(A) (m, k), op(B) (k, n).

    Row-major memory read column-major is the transpose, so out = a b is computed as outᵀ = bᵀ aᵀ:
    D is the memory of out, **A is that of b** and **B that of a**. A row-major operand is its own
    transpose already (op N); the memory of a transposed view needs op T. The rows of D are the
    columns of out, so an epilogue's bias, one number a row of D, is one a column of out; BGRADA
    sums op(A) over k, which gives the column sums of b, and BGRADB gives the row sums of a.
    """

    m: int
    n: int
    k: int
    transa: bool
    transb: bool
    lda: int
    ldb: int
    ldd: int
    epilogue: str = "DEFAULT"
    vector: int = 0
    """The length of the bias, or of the sums."""
    batch: int = 1
    steps: tuple[int, int, int] = (0, 0, 0)
    """The elements from one of a batch's matrices A, B and D to the next."""

    @property
    def stored_a(self) -> tuple[int, int]:
        """Rows and columns of A before op."""
        return (self.k, self.m) if self.transa else (self.m, self.k)

    @property
    def stored_b(self) -> tuple[int, int]:
        """Rows and columns of B before op."""
        return (self.n, self.k) if self.transb else (self.k, self.n)


def leading(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> int | None:
    """The elements from one row to the next of a row-major matrix, None where it is not one."""
    (rows, columns), (down, along) = shape, strides
    if columns > 1 and along != itemsize:
        return None
    if rows <= 1:
        return columns
    return None if down % itemsize or down < columns * itemsize else down // itemsize


def orientation(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> tuple[bool, int] | None:
    """Whether the memory holds the transpose, and its leading dimension; None for other strides."""
    ld = leading(shape, strides, itemsize)
    if ld is not None:
        return False, ld
    ld = leading(shape[::-1], strides[::-1], itemsize)
    return None if ld is None else (True, ld)


def describe(
    a_shape: tuple[int, ...],
    a_strides: tuple[int, ...],
    b_shape: tuple[int, ...],
    b_strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    itemsizes: tuple[int, int],
    epilogue: str | None = None,
) -> Gemm | None:
    """The product of a (..., M, K) and b (..., K, N) into row-major (..., M, N).

    `a` and `b` have the same axes before the last two, or one has none and serves for all. Strides
    are in bytes, `itemsizes` those of the operands and of the result. `epilogue` is None, "bias",
    "sums_a" or "sums_b". None is the answer to empty matrices, to an epilogue of a batch or where a
    dimension that it works along is 1, to strides that are neither a row-major matrix's nor its
    transpose's, and to batches whose matrices do not follow each other evenly.
    """
    size, result_size = itemsizes
    (n, k), m = a_shape[-2:], b_shape[-1]
    left = orientation(b_shape[-2:], b_strides[-2:], size)
    right = orientation(a_shape[-2:], a_strides[-2:], size)
    ldd = leading((n, m), out_strides[-2:], result_size)
    if left is None or right is None or ldd is None or 0 in (m, n, k):
        return None
    if epilogue is not None and 1 in ((m, k) if epilogue == "bias" else (m, n, k)):
        return None
    vector = 0 if epilogue is None else n if epilogue == "sums_a" else m
    (transa, lda), (transb, ldb) = left, right
    told = m, n, k, transa, transb, lda, ldb, ldd, _EPILOGUES[epilogue], vector
    axes = a_shape[:-2] or b_shape[:-2]
    if not axes:
        return Gemm(*told)
    if epilogue is not None or any(x[:-2] not in ((), axes) for x in (a_shape, b_shape)):
        return None
    steps = (
        _step(b_shape[:-2], b_strides[:-2], size),
        _step(a_shape[:-2], a_strides[:-2], size),
        _step(axes, out_strides[:-2], result_size),
    )
    left_step, right_step, step = steps
    if left_step is None or right_step is None or step is None or 0 in axes:
        return None
    return Gemm(*told, prod(axes), (left_step, right_step, step))


def split(
    a_shape: tuple[int, ...],
    a_strides: tuple[int, ...],
    b_shape: tuple[int, ...],
    b_strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    itemsizes: tuple[int, int],
) -> int | None:
    """The axis of a batch along which pieces of it can each be described, the shortest such.

    The heads of attention, (N, H, L, D) seen in memory of (N, L, H, D), do not follow each other
    evenly through N and H, but do for one n or one h. None where no axis will do, or where the
    pieces are so MANY that a copy is done sooner.
    """
    axes = a_shape[:-2] or b_shape[:-2]

    def without(axis: int, values: tuple[int, ...]) -> tuple[int, ...]:
        return values[:axis] + values[axis + 1 :] if len(values) > 2 else values

    for axis in sorted(range(len(axes)), key=axes.__getitem__):
        a = without(axis, a_shape), without(axis, a_strides)
        b = without(axis, b_shape), without(axis, b_strides)
        piece = describe(*a, *b, without(axis, out_strides), itemsizes)
        if piece is not None and axes[axis] <= MANY:
            return axis
    return None


def _step(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> int | None:
    """The elements from one matrix to the next, along all axes; None where they differ."""
    long = [(n, stride) for n, stride in zip(shape, strides, strict=True) if n > 1]
    if any(outer != n * inner for (_, outer), (n, inner) in pairwise(long)):
        return None
    step = long[-1][1] if long else 0
    return None if step < 0 or step % itemsize else step // itemsize
