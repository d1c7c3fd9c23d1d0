"""Matrix products by cuBLASLt, in a form that a CUDA graph can capture.

A product must have run once, with arrays of the same shapes, strides and alignments, before it is
captured: its first run asks cuBLASLt for an algorithm, which CUDA 13.3 refuses during a capture.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import cupy
import numpy as np
from nvmath.bindings import cublas
from nvmath.bindings import cublasLt as lt

from ldl.backend import Array
from ldl.precision import get_matmul_precision
from ldl_cupy.layout import Gemm, describe, orientation

WORKSPACE_BYTES = 32 << 20
VECTOR_ALIGNMENT = 16  # some kernels read the epilogue's vector in words of so many bytes

_FLOAT, _DOUBLE = 0, 1  # CUDA_R_32F, CUDA_R_64F
_COMPUTE_TYPES = {
    "float32": cublas.ComputeType.COMPUTE_32F,
    "tf32": cublas.ComputeType.COMPUTE_32F_FAST_TF32,
    "bf16": cublas.ComputeType.COMPUTE_32F_FAST_16BF,
    "float64": cublas.ComputeType.COMPUTE_64F,
}
_BIAS_POINTER = int(lt.MatmulDescAttribute.BIAS_POINTER)
_REFUSALS = (int(cublas.Status.INVALID_VALUE), int(cublas.Status.NOT_SUPPORTED))
_ZERO_AND_ONE = np.array([0, 1], np.float32), np.array([0, 1], np.float64)


def load() -> None:
    """Load libcublasLt; RuntimeError where it is not found."""
    lt.get_version()


# ---- descriptors: cuBLASLt's objects, made without a device ------------------------------------


def _data_type(precision: str) -> int:
    return _DOUBLE if precision == "float64" else _FLOAT


def _set(setter: Any, handle: int, attribute: int, value: int, dtype: Any) -> None:
    buffer = np.array([value], dtype)
    setter(handle, attribute, buffer.ctypes.data, buffer.nbytes)


def operation(gemm: Gemm, precision: str) -> int:
    """The descriptor of the operation, but for the address of the epilogue's vector."""
    desc: int = lt.matmul_desc_create(_COMPUTE_TYPES[precision], _data_type(precision))
    attributes = lt.MatmulDescAttribute
    for attribute, value in (
        (attributes.TRANSA, gemm.transa),
        (attributes.TRANSB, gemm.transb),
        (attributes.EPILOGUE, lt.Epilogue[gemm.epilogue]),
    ):
        dtype = lt.get_matmul_desc_attribute_dtype(attribute)
        _set(lt.matmul_desc_set_attribute, desc, attribute, value, dtype)
    return desc


def layouts(gemm: Gemm, precision: str) -> tuple[int, ...]:
    """The layouts of A, B and D."""
    stored = (
        (*gemm.stored_a, gemm.lda),
        (*gemm.stored_b, gemm.ldb),
        (gemm.m, gemm.n, gemm.ldd),
    )
    return tuple(lt.matrix_layout_create(_data_type(precision), *sizes) for sizes in stored)


def preference(alignments: tuple[int, int, int]) -> int:
    """What an algorithm may use: the workspace, and the alignments of A, B and D in bytes."""
    made: int = lt.matmul_preference_create()
    names = lt.MatmulPreferenceAttribute
    a, b, d = alignments
    for attribute, value in (
        (names.MAX_WORKSPACE_BYTES, WORKSPACE_BYTES),
        (names.MIN_ALIGNMENT_A_BYTES, a),
        (names.MIN_ALIGNMENT_B_BYTES, b),
        (names.MIN_ALIGNMENT_C_BYTES, d),
        (names.MIN_ALIGNMENT_D_BYTES, d),
    ):
        dtype = lt.get_matmul_preference_attribute_dtype(attribute)
        _set(lt.matmul_preference_set_attribute, made, attribute, value, dtype)
    return made


# ---- plans and what they run on ----------------------------------------------------------------


class Plan:
    """A product and the algorithm that cuBLASLt has for it."""

    def __init__(
        self, handle: int, gemm: Gemm, precision: str, alignments: tuple[int, int, int]
    ) -> None:
        self.handle = handle
        self.desc = operation(gemm, precision)
        self.a, self.b, self.d = layouts(gemm, precision)
        self.alignments = alignments
        self.lock = Lock()
        self.vector = np.zeros(1, np.int64)
        self.vector_at = self.vector.ctypes.data
        self.found = np.zeros(1, lt.matmul_heuristic_result_dtype)
        self.algorithm = self.found.ctypes.data
        self.workspace = 0
        scalars = _ZERO_AND_ONE[_data_type(precision)]
        self.zero = scalars.ctypes.data
        self.one = self.zero + scalars.itemsize

    def search(self, vector: int) -> bool:
        """Ask for an algorithm; whether there is one."""
        self.point(vector)
        count = np.zeros(1, np.int32)
        allowed = preference(self.alignments)
        try:
            lt.matmul_algo_get_heuristic(
                *(self.handle, self.desc, self.a, self.b, self.d, self.d, allowed),
                *(1, self.algorithm, count.ctypes.data),
            )
        except lt.cuBLASLtError as error:
            if error.status not in _REFUSALS:
                raise
            return False
        finally:
            lt.matmul_preference_destroy(allowed)
        self.workspace = int(self.found["workspace_size"][0])
        return bool(count[0] and self.found["state"][0] == 0)

    def point(self, vector: int) -> None:
        """Give the epilogue's vector its address."""
        if vector:
            self.vector[0] = vector
            lt.matmul_desc_set_attribute(self.desc, _BIAS_POINTER, self.vector_at, 8)

    def run(self, a: int, b: int, d: int, vector: int, accumulate: bool) -> None:
        """Put the product of the matrices at these addresses on the current stream."""
        stream = cupy.cuda.get_current_stream().ptr
        space = _workspace(stream) if self.workspace else 0
        beta = self.one if accumulate else self.zero
        with self.lock:
            self.point(vector)
            lt.matmul(
                *(self.handle, self.desc, self.one, a, self.a, b, self.b),
                *(beta, d, self.d, d, self.d),
                *(self.algorithm, space, self.workspace, stream),
            )


def _plan(
    device: int, precision: str, alignments: tuple[int, int, int], layout: Any, vector: int
) -> Plan | None:
    gemm = describe(*layout)
    if gemm is None:
        return None
    plan = Plan(_handle(device), gemm, precision, alignments)
    return plan if plan.search(vector) else None


_handles: dict[int, int] = {}
_workspaces: dict[tuple[int, int], Any] = {}
_plans: dict[tuple[Any, ...], Plan | None] = {}
_lock = Lock()


def _handle(device: int) -> int:
    with _lock:
        if device not in _handles:
            _handles[device] = lt.create()
        return _handles[device]


def _workspace(stream: int) -> int:
    """The address of the current device's workspace for a stream: streams may run side by side."""
    key = cupy.cuda.runtime.getDevice(), stream
    with _lock:
        if key not in _workspaces:
            _workspaces[key] = cupy.cuda.Memory(WORKSPACE_BYTES)
        return int(_workspaces[key].ptr)


def reserve() -> None:
    """Make the current stream's workspace now, if it has none: before a capture on that stream."""
    _workspace(cupy.cuda.get_current_stream().ptr)


def _product(
    a: Array,
    b: Array,
    out: Array | None,
    accumulate: bool,
    epilogue: str | None = None,
    vector: Array | None = None,
) -> Array | None:
    """The product, or None, with nothing done, where cuBLASLt cannot be asked or has no answer."""
    dtype, shape, inner = a.dtype, a.shape, b.shape
    if len(shape) != 2 or len(inner) != 2 or shape[1] != inner[0]:
        return None
    if dtype.char not in "fd" or b.dtype != dtype:
        return None
    if out is None:
        out = cupy.empty((shape[0], inner[1]), dtype)
    elif out.dtype != dtype or out.shape != (shape[0], inner[1]):
        return None
    left, right, result = b.data.ptr, a.data.ptr, out.data.ptr
    # The lowest bit that is set in an address is its alignment.
    alignments = min(256, left & -left), min(256, right & -right), min(256, result & -result)
    layout = shape, a.strides, inner, b.strides, out.strides, dtype.itemsize, epilogue
    device = cupy.cuda.runtime.getDevice()
    precision = get_matmul_precision() if dtype.char == "f" else "float64"
    key = device, precision, alignments, layout
    pointer = 0 if vector is None else vector.data.ptr
    if key not in _plans:
        _plans[key] = _plan(*key, pointer)
    plan = _plans[key]
    if plan is not None:
        plan.run(left, right, result, pointer, accumulate)
        return out
    tidy_a, tidy_b = _tidy(a), _tidy(b)
    if tidy_a is a and tidy_b is b:
        return None
    return _product(tidy_a, tidy_b, out, accumulate, epilogue, vector)


def _tidy(x: Array) -> Array:
    """The matrix itself, or a row-major copy where its strides are neither kind's."""
    known = orientation(x.shape, x.strides, x.dtype.itemsize)
    return cupy.ascontiguousarray(x) if known is None else x


def _is_vector(x: Array, length: int, dtype: Any) -> bool:
    """Whether an epilogue can read or write it."""
    packed: bool = x.shape == (length,) and x.dtype == dtype and x.strides == (dtype.itemsize,)
    return packed and x.data.ptr % VECTOR_ALIGNMENT == 0


# ---- the products ------------------------------------------------------------------------------


def matmul(a: Array, b: Array, out: Array = None, accumulate: bool = False) -> Array:
    """`a @ b`, into `out` where given; added to what `out` holds with `accumulate`.

    Batches, vectors and other types than float32 and float64 go to `cupy.matmul`, which a CUDA
    graph cannot capture.
    """
    done = _product(a, b, out, accumulate)
    if done is not None:
        return done
    if accumulate:
        out += cupy.matmul(a, b)
        return out
    return cupy.matmul(a, b, out=out)


def matmul_bias(
    a: Array, b: Array, bias: Array, out: Array = None, activation: str | None = None
) -> Array:
    """`activation(a @ b + bias)`: of None, "relu" and "gelu", the last in its tanh form.

    One kernel where cuBLASLt has one and the bias starts at a multiple of 16 bytes, else several.
    """
    if activation not in (None, "relu", "gelu"):
        raise ValueError(f"activation must be None, 'relu' or 'gelu', got {activation!r}")
    if b.ndim == 2 and _is_vector(bias, b.shape[1], a.dtype):
        done = _product(a, b, out, False, activation or "bias", bias)
        if done is not None:
            return done
    z = matmul(a, b, out)
    z += bias
    if activation == "relu":
        cupy.maximum(z, 0, out=z)
    elif activation == "gelu":
        z *= 0.5 * (1 + cupy.tanh((2 / np.pi) ** 0.5 * (z + 0.044715 * (z * z * z))))
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
    if not _is_vector(sums, length, a.dtype):
        return False
    return _product(a, b, out, accumulate, f"sums_{of}", sums) is not None
