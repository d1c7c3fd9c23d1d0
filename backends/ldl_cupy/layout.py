"""What cuBLASLt is told of a row-major product: functions of shapes and strides alone."""

from __future__ import annotations

from dataclasses import dataclass

_EPILOGUES = {
    None: "DEFAULT",
    "bias": "BIAS",
    "relu": "RELU_BIAS",
    "gelu": "GELU_BIAS",
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
    itemsize: int,
    epilogue: str | None = None,
) -> Gemm | None:
    """The product of a (M, K) and b (K, N) into a row-major (M, N); strides are in bytes.

    `epilogue` is None, "bias", "relu" or "gelu" (bias, then the activation), or "sums_a" or
    "sums_b". None is the answer to empty matrices, to an epilogue where a dimension that it works
    along is 1, and to strides that are neither a row-major matrix's nor its transpose's.
    """
    (n, k), m = a_shape, b_shape[1]
    left = orientation(b_shape, b_strides, itemsize)
    right = orientation(a_shape, a_strides, itemsize)
    ldd = leading((n, m), out_strides, itemsize)
    if left is None or right is None or ldd is None or 0 in (m, n, k):
        return None
    if epilogue is not None and 1 in ((m, k) if epilogue[:4] != "sums" else (m, n, k)):
        return None
    vector = 0 if epilogue is None else n if epilogue == "sums_a" else m
    (transa, lda), (transb, ldb) = left, right
    return Gemm(m, n, k, transa, transb, lda, ldb, ldd, _EPILOGUES[epilogue], vector)
