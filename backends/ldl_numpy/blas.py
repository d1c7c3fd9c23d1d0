"""NumPy's own BLAS, called from compiled code, which saves what `numpy.matmul` costs beside it.

The library is the one that NumPy's extension module is linked with: both share its threads. Its
integers are taken to have 64 bits; where they have 32, the calling conventions leave the lower half
where it is looked for (not on macOS, where only the names of 64 bits are tried).
"""

# mypy: ignore-errors
# (Numba, not Python, gives these functions their types.)

from __future__ import annotations

import ctypes
import importlib
import sys
from functools import cache

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from ldl_numpy.numba_math import compiled, wide_vectors

NAMES = ("scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}$NEWLAPACK$ILP64")
SHORT_NAMES = () if sys.platform == "darwin" else ("scipy_cblas_{}", "cblas_{}")
ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112

ENTRY = types.void(types.CPointer(types.int64))
"""What a program calls: a function of an array of sizes and addresses."""

LARGE = 2**22
"""Elements of a matrix by which one row is multiplied here; more are worth BLAS's threads."""


@cache
def available() -> bool:
    """Whether both products were found and multiply; compiled code may then call them."""
    found = {name: _find(name) for name in ("sgemm", "dgemm")}
    if not all(found.values()):
        return False
    for name, function in found.items():
        address = ctypes.cast(function, ctypes.c_void_p).value
        llvmlite.binding.add_symbol(f"ldl_{name}", address)
    return _multiplies(found["sgemm"], ctypes.c_float)


def _find(name):
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


def _multiplies(sgemm, real):
    """Whether it gives the product of a (2, 3) and the transpose of a (2, 3) matrix."""
    i4, i8, at = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    sgemm.argtypes = [i4] * 3 + [i8] * 3 + [real, at, i8, at, i8, real, at, i8]
    sgemm.restype = None
    a, c = np.arange(6, dtype=np.float32), np.full(4, np.nan, np.float32)
    at_a, at_c = a.ctypes.data, c.ctypes.data
    sgemm(ROW_MAJOR, PLAIN, TRANSPOSED, 2, 2, 3, 1.0, at_a, 3, at_a, 3, 0.0, at_c, 2)
    return c.tolist() == [5.0, 14.0, 14.0, 50.0]


def _memory(kind, word):
    @intrinsic
    def pointer(typing, address):
        def code(context, builder, sig, args):
            return builder.inttoptr(args[0], ir.PointerType(word))

        return types.CPointer(kind)(types.int64), code

    @njit(inline="always")
    def vector(address, n):
        """The n numbers at an address."""
        return carray(pointer(address), (n,))

    @njit(inline="always")
    def matrix(address, rows, columns):
        """The C-contiguous matrix at an address."""
        return carray(pointer(address), (rows, columns))

    return vector, matrix


vector_f4, matrix_f4 = _memory(types.float32, ir.FloatType())
vector_f8, matrix_f8 = _memory(types.float64, ir.DoubleType())
vector_i8, matrix_i8 = _memory(types.int64, ir.IntType(64))
vector_b1, matrix_b1 = _memory(types.boolean, ir.IntType(8))


@compiled(nogil=True, error_model="numpy", fastmath={"contract"})
def row_product(x, w, y):
    """Y = x W for one row, eight rows of W at a time."""
    wide_vectors()
    k, n = w.shape
    whole = k - k % 8
    y[:] = 0
    for i in range(0, whole, 8):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        e, f, g, h = x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        for j in range(n):
            first = a * w[i, j] + b * w[i + 1, j] + (c * w[i + 2, j] + d * w[i + 3, j])
            last = e * w[i + 4, j] + f * w[i + 5, j] + (g * w[i + 6, j] + h * w[i + 7, j])
            y[j] += first + last
    for i in range(whole, k):
        for j in range(n):
            y[j] += x[i] * w[i, j]


def _external(name, real):
    i4, i8 = types.int32, types.int64
    signature = types.void(i4, i4, i4, i8, i8, i8, real, i8, i8, i8, i8, real, i8, i8)
    return types.ExternalFunction(f"ldl_{name}", signature)


gemm_f4, gemm_f8 = _external("sgemm", types.float32), _external("dgemm", types.float64)

PRODUCT = """\
import numpy as np
from numba import cfunc
from ldl_numpy.blas import *

f4, f8 = np.float32, np.float64


@cfunc(ENTRY, cache=True)
def entry(args):
    m, n, k = args[2], args[3], args[4]
    a, b, c = args[5], args[6], args[7]
    if m == 1 and not args[1] and k * n <= LARGE:
        row_product(vector_KIND(a, k), matrix_KIND(b, k, n), vector_KIND(c, n))
        return
    a_order = np.int32(TRANSPOSED if args[0] else PLAIN)
    b_order = np.int32(TRANSPOSED if args[1] else PLAIN)
    a_lead, b_lead = m if args[0] else k, k if args[1] else n
    rows = np.int32(ROW_MAJOR)
    one, zero = KIND(1.0), KIND(0.0)
    gemm_KIND(rows, a_order, b_order, m, n, k, one, a, a_lead, b, b_lead, zero, c, n)
"""
"""The source of C = A B for the C-contiguous matrix C (m, n), with KIND in place of a type's name.

It takes whether A and B lie transposed, m, n, k, and three addresses.
"""


@intrinsic
def call(typing, function, args):
    """Call the function of type `ENTRY` at an address."""

    def code(context, builder, sig, values):
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(ir.IntType(64))])
        at = builder.inttoptr(values[0], ir.PointerType(kind))
        builder.call(at, [builder.inttoptr(values[1], ir.PointerType(ir.IntType(64)))])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), code


@compiled(nogil=True)
def play(calls):
    """Call functions one after another; each row is the address of one and of its arguments."""
    for i in range(len(calls)):
        call(calls[i, 0], calls[i, 1])


@compiled(nogil=True)
def point(words, places, offsets, array):
    """Write where an array, and offsets into it, begin to places among words."""
    at = np.int64(array.ctypes.data)
    for i in range(len(places)):
        words[places[i]] = at + offsets[i]
