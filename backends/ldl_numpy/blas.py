"""NumPy's own BLAS, called from compiled code, which saves what `numpy.matmul` costs beside it.

The library is the one that NumPy's extension module is linked with: both share its threads. Its
integers are taken to have 64 bits; where they have 32, the calling conventions leave the lower half
where it is looked for (not on macOS, where only the names of 64 bits are tried).
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from functools import cache
from typing import Any

import numpy as np

NAMES = ("scipy_{}64_", "{}64_", "{}$NEWLAPACK$ILP64")
SHORT_NAMES = () if sys.platform == "darwin" else ("scipy_{}", "{}")
ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112

WIDE = 64
"""Bytes of the widest vectors that ldl's own products have."""

LARGE = 2**22
"""Elements of a matrix by which one row is multiplied here; more are worth BLAS's threads."""


@cache
def available() -> bool:
    """Whether both products were found and multiply; compiled code may then call them."""
    return bool(
        address("f4") and address("f8") and _multiplies(find("cblas_sgemm"), ctypes.c_float)
    )


@cache
def address(kind: str) -> int:
    """Where the product of matrices of a type lies, 0 for nowhere."""
    found = find("cblas_sgemm" if kind == "f4" else "cblas_dgemm")
    return (found and ctypes.cast(found, ctypes.c_void_p).value) or 0


def find(name: str) -> Any:
    """A function of BLAS's, None where there is none of this name."""
    try:
        umath = importlib.import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(umath.__file__)
    except (ImportError, OSError):
        return None
    for form in (*NAMES, *SHORT_NAMES):
        found = getattr(library, form.format(name), None)
        if found is not None:
            return found
    return None


NARROW = {"Haswell": 32, "Zen": 32, "Sandybridge": 32, "Excavator": 32, "Steamroller": 32}
NARROW |= {"Piledriver": 32, "Bulldozer": 32, "Nehalem": 16, "Core2": 16, "Prescott": 16}


def kernels() -> str:
    """The processor that OpenBLAS's products are for, as it names it; "" of another BLAS.

    It is what `OPENBLAS_CORETYPE` in the environment says, or else one that is like this one.
    """
    says = find("openblas_get_corename")
    if says is None:
        return ""
    says.restype = ctypes.c_char_p
    return str(says().decode())


@cache
def width() -> int:
    """The bytes of the vectors of its products; of what is not known the widest."""
    return NARROW.get(kernels(), WIDE)


def _multiplies(sgemm: Any, real: Any) -> bool:
    """Whether it gives the product of a (2, 3) and the transpose of a (2, 3) matrix."""
    i4, i8, at = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    sgemm.argtypes = [i4] * 3 + [i8] * 3 + [real, at, i8, at, i8, real, at, i8]
    sgemm.restype = None
    a, c = np.arange(6, dtype=np.float32), np.full(4, np.nan, np.float32)
    at_a, at_c = a.ctypes.data, c.ctypes.data
    sgemm(ROW_MAJOR, PLAIN, TRANSPOSED, 2, 2, 3, 1.0, at_a, 3, at_a, 3, 0.0, at_c, 2)
    return c.tolist() == [5.0, 14.0, 14.0, 50.0]


SIDE = 16
"""What sides of blocks are multiples of."""

_BLOCK = f"""\
def begin(size: i8, blocks: i8, block: i8):
    at = (size + {SIDE - 1}) // {SIDE} * block // blocks * {SIDE}
    return at if at < size else size


def entry(words: [i8], job: i8):
    a_turned, b_turned, m, n, k = words[0], words[1], words[2], words[3], words[4]
    down, across, gemm = words[5], words[6], words[10]
    i, j = job // across, job % across
    top, left = begin(m, down, i), begin(n, across, j)
    rows, columns = begin(m, down, i + 1) - top, begin(n, across, j + 1) - left
    a = words[7] + {{SIZE}} * (top if a_turned != 0 else top * k)
    b = words[8] + {{SIZE}} * (left * k if b_turned != 0 else left)
    c = words[9] + {{SIZE}} * (top * n + left)
"""
_PRODUCT = f"""\
{_BLOCK}\
    a_order = i4({TRANSPOSED}) if a_turned != 0 else i4({PLAIN})
    b_order = i4({TRANSPOSED}) if b_turned != 0 else i4({PLAIN})
    a_lead, b_lead = m if a_turned != 0 else k, k if b_turned != 0 else n
    one, zero = KIND(1), KIND(0)
    order = i4({ROW_MAJOR})
    call(gemm, order, a_order, b_order, rows, columns, k, one, a, a_lead, b, b_lead, zero, c, n)
"""
_ROW_PRODUCT = f"""\
@contract
def row_product(k: i8, n: i8, columns: i8, x: [KIND], w: [KIND], y: [KIND]):
    for j in range(columns):
        y[j] = 0
    for i in range(0, k - k % 8, 8):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        e, f, g, h = x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        for j in range(columns):
            first = a * w[i * n + j] + b * w[(i + 1) * n + j]
            first += c * w[(i + 2) * n + j] + d * w[(i + 3) * n + j]
            last = e * w[(i + 4) * n + j] + f * w[(i + 5) * n + j]
            last += g * w[(i + 6) * n + j] + h * w[(i + 7) * n + j]
            y[j] += first + last
    for i in range(k - k % 8, k):
        for j in range(columns):
            y[j] += x[i] * w[i * n + j]


{_BLOCK}\
    if rows == 1:
        row_product(k, n, columns, memory(KIND, a), memory(KIND, b), memory(KIND, c))
"""


def product(kind: str, m: int, n: int, k: int, b_turned: bool) -> str:
    """The source of C = A B for a C-contiguous matrix C (m, n) of a type, a block of C a job.

    It takes whether A and B lie transposed, m, n, k, in how many blocks C is cut down and across,
    three addresses and that of BLAS's own product. One row is multiplied by eight rows of B at a
    time, products added as processors do at once.
    """
    alone = m == 1 and not b_turned and k * n <= LARGE
    source = _ROW_PRODUCT if alone else _PRODUCT
    return source.replace("{SIZE}", kind[1]).replace("KIND", kind)


def worth(m: int, n: int, k: int) -> tuple[int, int]:
    """How many multiplications are worth a block of their own, and of how many blocks a thread
    should have at most.

    Of one row what is read of B counts. Of many rows a block takes 5 us at least; from half a
    millisecond on, one for each thread is best, because BLAS copies its rows of A and columns of B.
    """
    if m == 1:
        return 2**16, 1
    return 2**18, 2 if m * n * k < 2**25 else 1


def blocks(m: int, n: int, jobs: int) -> tuple[int, int]:
    """In how many blocks down and across to cut an (m, n) matrix: along its longer side."""
    jobs = min(jobs, -(-max(m, n) // SIDE))
    return (jobs, 1) if m > n else (1, jobs)
