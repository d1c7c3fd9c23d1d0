"""Matrix products by cuBLASLt, in a form that a CUDA graph can capture.

A product must have run once, with arrays of the same shapes, strides and alignments, before it is
captured: its first run asks cuBLASLt for an algorithm, which CUDA 13.3 refuses during a capture.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import cupy
import numpy as np

from ldl.backend import Array
from ldl.precision import get_matmul_precision
from ldl_cupy.algorithm import Algorithm, load
from ldl_cupy.launch import here
from ldl_cupy.layout import ALIGNED, describe, orientation, split
from ldl_cupy.workspace import reserve

__all__ = [
    "load",
    "matmul",
    "matmul_bf16",
    "matmul_bias",
    "matmul_sums",
    "offers",
    "reserve",
]

ALGORITHMS = 4096
"""Products whose algorithms are kept, in some 2 KiB each; the oldest goes first."""

_algorithms: dict[tuple[Any, ...], Algorithm | None] = {}
_UNKNOWN: Any = object()
_lock = Lock()


def _product(
    a: Array,
    b: Array,
    out: Array | None,
    accumulate: bool,
    epilogue: str | None = None,
    vector: Array | None = None,
    narrow: bool = False,
) -> Array | None:
    """The product, or None, with nothing done, where cuBLASLt cannot be asked or has no answer."""
    dtype, shape, inner = a.dtype, a.shape, b.shape
    if len(shape) < 2 or len(inner) < 2 or shape[-1] != inner[-2]:
        return None
    if dtype.char not in ("H" if narrow else "fd") or b.dtype != dtype:
        return None
    kind = "f" if narrow else dtype.char
    batch = shape[:-2] or inner[:-2]
    if shape[:-2] and inner[:-2] and shape[:-2] != inner[:-2]:
        try:
            batch = np.broadcast_shapes(shape[:-2], inner[:-2])
        except ValueError:
            return None
        a = cupy.broadcast_to(a, (*batch, *shape[-2:]))
        b = cupy.broadcast_to(b, (*batch, *inner[-2:]))
    whole = (*batch, shape[-2], inner[-1])
    if out is None:
        out = cupy.empty(whole, kind)
    elif out.dtype.char != kind or out.shape != whole:
        return None
    gpu = cupy.cuda.runtime.getDevice()
    here(a, gpu)
    here(b, gpu)
    left, right, result = b.data.ptr, a.data.ptr, out.data.ptr
    # The lowest bit that is set in an address is its alignment.
    alignments = min(256, left & -left), min(256, right & -right), min(256, result & -result)
    pointer = 0 if vector is None else vector.data.ptr
    algorithm = _found(a, b, out, alignments, epilogue, pointer)
    if algorithm is not None:
        algorithm.run(left, right, result, pointer, accumulate)
        return out
    if len(batch) > 1 and _in_pieces(a, b, out, accumulate, narrow):
        return out
    tidy_a, tidy_b = _tidy(a), _tidy(b)
    if tidy_a is a and tidy_b is b:
        return None
    return _product(tidy_a, tidy_b, out, accumulate, epilogue, vector, narrow)


def _in_pieces(a: Array, b: Array, out: Array, accumulate: bool, narrow: bool) -> bool:
    """Whether it was done as a product for every place along one axis of the batch."""
    sizes = a.dtype.itemsize, out.dtype.itemsize
    axis = split(a.shape, a.strides, b.shape, b.strides, out.strides, sizes)
    if axis is None:
        return False
    for i in range(out.shape[axis]):
        at = (slice(None),) * axis + (i,)
        left, right, into = (x[at] if x.ndim > 2 else x for x in (a, b, out))
        if _product(left, right, into, accumulate, narrow=narrow) is None:
            if narrow:
                return False
            matmul(left, right, into, accumulate)
    return True


def _found(
    a: Any, b: Any, out: Any, alignments: tuple[int, int, int], epilogue: str | None, vector: int
) -> Algorithm | None:
    """The algorithm for arrays like these, which is sought once."""
    kind = a.dtype.char
    precision = {"d": "float64", "H": "stored bf16"}.get(kind) or get_matmul_precision()
    sizes = a.dtype.itemsize, out.dtype.itemsize
    told = a.shape, a.strides, b.shape, b.strides, out.strides, sizes, epilogue
    key = cupy.cuda.runtime.getDevice(), precision, alignments, told
    found: Algorithm | None = _algorithms.get(key, _UNKNOWN)
    if found is _UNKNOWN:
        found = _sought(*key, vector)
        with _lock:
            _algorithms[key] = found
            if len(_algorithms) > ALGORITHMS:
                del _algorithms[next(iter(_algorithms))]
    return found


def _sought(
    device: int,
    precision: str,
    alignments: tuple[int, int, int],
    told: tuple[Any, ...],
    vector: int,
) -> Algorithm | None:
    gemm = describe(*told)
    if gemm is None:
        return None
    algorithm = Algorithm(device, gemm, precision, alignments)
    return algorithm if algorithm.search(vector) else None


def offers(epilogue: str | None, a: Any, b: Any, out: Any) -> bool:
    """Whether cuBLASLt has a kernel for an epilogue of `describe` where matrices like these are.

    Only their types, shapes and strides are looked at; 16 unsigned bits stand for bfloat16.
    """
    kind = {"H": "f"}.get(a.dtype.char, a.dtype.char)
    if kind not in "fd" or b.dtype != a.dtype or out.dtype.char != kind:
        return False
    if epilogue is not None and {a.ndim, b.ndim} != {2}:
        return False
    vector = 0 if epilogue is None else ALIGNED
    return _found(a, b, out, (ALIGNED, ALIGNED, ALIGNED), epilogue, vector) is not None


def _tidy(x: Array) -> Array:
    """The array itself, or a row-major copy where it is neither that nor one matrix's transpose."""
    known = x.ndim == 2 and orientation(x.shape, x.strides, x.dtype.itemsize) is not None
    return x if known or x.flags.c_contiguous else cupy.ascontiguousarray(x)


def _is_vector(x: Array, length: int, kind: str | None) -> bool:
    """Whether an epilogue can read or write it."""
    packed: bool = x.shape == (length,) and x.dtype.char == kind and x.flags.c_contiguous
    return packed and x.data.ptr % ALIGNED == 0


# ---- the products ------------------------------------------------------------------------------


def matmul(a: Array, b: Array, out: Array = None, accumulate: bool = False) -> Array:
    """`a @ b`, into `out` where given; added to what `out` holds with `accumulate`.

    Other types than float32 and float64 go to `cupy.matmul`, which a CUDA graph cannot capture.
    Operands are read as they lie where their matrices follow each other evenly, or do along all but
    one axis of the batch, as the heads of attention; other operands are copied.
    """
    if a.ndim == 1 < b.ndim or b.ndim == 1 < a.ndim:
        return _with_vector(a, b, out, accumulate)
    done = _product(a, b, out, accumulate)
    if done is not None:
        return done
    if accumulate:
        out += cupy.matmul(a, b)
        return out
    return cupy.matmul(a, b, out=out)


def _with_vector(a: Array, b: Array, out: Array, accumulate: bool) -> Array:
    """The product with a vector as one with a matrix of one row, or of one column."""
    axis = -2 if a.ndim == 1 else -1
    matrices = (a[None], b) if a.ndim == 1 else (a, b[:, None])
    if out is None:
        return matmul(*matrices).squeeze(axis)
    matmul(*matrices, cupy.expand_dims(out, axis), accumulate)
    return out


def matmul_bf16(a: Array, b: Array, out: Array) -> None:
    """`a @ b` into float32 for bfloat16 held in 16 unsigned bits."""
    if _product(a, b, out, False, narrow=True) is None:
        raise RuntimeError(
            f"cuBLASLt cannot multiply bfloat16 of {a.shape} and {b.shape} on this GPU: use "
            "ldl.set_matmul_precision('float32')"
        )


def matmul_bias(a: Array, b: Array, bias: Array, out: Array = None) -> Array:
    """`a @ b + bias`, in one kernel where cuBLASLt has one and can read the bias as it lies."""
    if a.ndim == b.ndim == 2 and _is_vector(bias, b.shape[1], a.dtype.char):
        done = _product(a, b, out, False, "bias", bias)
        if done is not None:
            return done
    z = matmul(a, b, out)
    z += bias
    return z


def matmul_sums(
    a: Array, b: Array, out: Array, sums: Array, of: str = "b", accumulate: bool = False
) -> bool:
    """`matmul` and, in the same kernel, the sums over the axis that the product sums over.

    `sums` is overwritten with the column sums of b, `b.sum(axis=0)`, or, with of="a", the row sums
    of a: for dW = Xᵀ G the bias's gradient is that of b = G, for dW = Gᵀ X that of a = Gᵀ.
    `accumulate` concerns the product alone. False, with nothing done, where no kernel does both.
    """
    if of not in ("a", "b"):
        raise ValueError(f"of must be 'a' or 'b', got {of!r}")
    if a.ndim != 2 or b.ndim != 2:
        return False
    length = b.shape[1] if of == "b" else a.shape[0]
    if not _is_vector(sums, length, out.dtype.char):
        return False
    return _product(a, b, out, accumulate, f"sums_{of}", sums) is not None
