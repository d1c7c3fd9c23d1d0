"""CuBLASLt's algorithms for products: descriptors, what they are sought with, and their runs."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import Any

import cupy
import numpy as np
from nvmath.bindings import cublas
from nvmath.bindings import cublasLt as lt

from ldl_cupy.device import capturing
from ldl_cupy.layout import Gemm, describe
from ldl_cupy.workspace import BYTES, workspace

_TYPES = {"float32": 0, "float64": 1, "bfloat16": 14}  # CUDA_R_32F, CUDA_R_64F, CUDA_R_16BF
_COMPUTE_TYPES = {
    "float32": cublas.ComputeType.COMPUTE_32F,
    "tf32": cublas.ComputeType.COMPUTE_32F_FAST_TF32,
    "bf16": cublas.ComputeType.COMPUTE_32F_FAST_16BF,
    "stored bf16": cublas.ComputeType.COMPUTE_32F,
    "float64": cublas.ComputeType.COMPUTE_64F,
}
_BIAS_POINTER = int(lt.MatmulDescAttribute.BIAS_POINTER)
_REFUSALS = (int(cublas.Status.INVALID_VALUE), int(cublas.Status.NOT_SUPPORTED))
_ZERO_AND_ONE = {name: np.array([0, 1], name) for name in ("float32", "float64")}


def load() -> None:
    """Do all that can go wrong before a product: load libcublasLt, describe one, take a handle."""
    describe_one()
    _handle(cupy.cuda.runtime.getDevice())


def describe_one() -> None:
    """Make and destroy the objects of a product; the library needs no GPU for them."""
    told = describe((2, 2), (8, 4), (2, 2), (8, 4), (8, 4), (4, 4), "bias")
    assert told is not None
    lt.matmul_desc_destroy(operation(told, "float32"))
    for layout in layouts(told, "float32"):
        lt.matrix_layout_destroy(layout)
    lt.matmul_preference_destroy(preference((16, 16, 16)))


# ---- descriptors: cuBLASLt's objects, made without a device ------------------------------------


def _types(precision: str) -> tuple[str, str]:
    """The types of A and B, and of D and the scalars."""
    if precision == "float64":
        return "float64", "float64"
    return "bfloat16" if precision == "stored bf16" else "float32", "float32"


def _set(setter: Any, handle: int, attribute: int, value: int, dtype: Any) -> None:
    buffer = np.array([value], dtype)
    setter(handle, attribute, buffer.ctypes.data, buffer.nbytes)


def operation(gemm: Gemm, precision: str) -> int:
    """The descriptor of the operation, but for the address of the epilogue's vector."""
    desc: int = lt.matmul_desc_create(_COMPUTE_TYPES[precision], _TYPES[_types(precision)[1]])
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
    operand, result = _types(precision)
    stored = (
        (operand, *gemm.stored_a, gemm.lda),
        (operand, *gemm.stored_b, gemm.ldb),
        (result, gemm.m, gemm.n, gemm.ldd),
    )
    made = [lt.matrix_layout_create(_TYPES[name], *sizes) for name, *sizes in stored]
    names = lt.MatrixLayoutAttribute
    if gemm.batch > 1:
        for layout, step in zip(made, gemm.steps, strict=True):
            told = (names.BATCH_COUNT, gemm.batch), (names.STRIDED_BATCH_OFFSET, step)
            for attribute, value in told:
                dtype = lt.get_matrix_layout_attribute_dtype(attribute)
                _set(lt.matrix_layout_set_attribute, layout, attribute, value, dtype)
    return tuple(made)


def preference(alignments: tuple[int, int, int], most: int = BYTES) -> int:
    """What an algorithm may use: the workspace, and the alignments of A, B and D in bytes."""
    made: int = lt.matmul_preference_create()
    names = lt.MatmulPreferenceAttribute
    a, b, d = alignments
    for attribute, value in (
        (names.MAX_WORKSPACE_BYTES, most),
        (names.MIN_ALIGNMENT_A_BYTES, a),
        (names.MIN_ALIGNMENT_B_BYTES, b),
        (names.MIN_ALIGNMENT_C_BYTES, d),
        (names.MIN_ALIGNMENT_D_BYTES, d),
    ):
        dtype = lt.get_matmul_preference_attribute_dtype(attribute)
        _set(lt.matmul_preference_set_attribute, made, attribute, value, dtype)
    return made


# ---- algorithms and what they run on -----------------------------------------------------------


class Algorithm:
    """A product, and the way that cuBLASLt has for it."""

    def __init__(
        self, device: int, gemm: Gemm, precision: str, alignments: tuple[int, int, int]
    ) -> None:
        self._lt = lt
        self.handle = _handle(device)
        self.desc = operation(gemm, precision)
        self.a, self.b, self.d = layouts(gemm, precision)
        self.alignments = alignments
        self.lock = Lock()
        self.vector = np.zeros(1, np.int64)
        self.vector_at = self.vector.ctypes.data
        self.found = np.zeros(1, lt.matmul_heuristic_result_dtype)
        self.algorithm = self.found.ctypes.data
        self.workspace = 0
        scalars = _ZERO_AND_ONE[_types(precision)[1]]
        self.zero = scalars.ctypes.data
        self.one = self.zero + scalars.itemsize

    def __del__(self) -> None:
        with suppress(Exception):  # half made, or when the interpreter ends
            self._lt.matmul_desc_destroy(self.desc)
            for layout in (self.a, self.b, self.d):
                self._lt.matrix_layout_destroy(layout)

    def search(self, vector: int, most: int = BYTES) -> bool:
        """Ask for an algorithm with so much of a workspace at most; whether there is one."""
        self.point(vector)
        count = np.zeros(1, np.int32)
        allowed = preference(self.alignments, most)
        try:
            with capturing:
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
        space = self._space(vector)
        beta = self.one if accumulate else self.zero
        with self.lock:
            self.point(vector)
            lt.matmul(
                *(self.handle, self.desc, self.one, a, self.a, b, self.b),
                *(beta, d, self.d, d, self.d),
                *(self.algorithm, space, self.workspace, stream),
            )

    def _space(self, vector: int) -> int:
        """The address of the stream's workspace; where there is no room, do without from now on."""
        if not self.workspace:
            return 0
        found = workspace()
        if found is not None:
            return found.ptr
        with capturing, self.lock:
            before = self.found.copy(), self.workspace
            if not self.search(vector, 0):
                self.found[:], self.workspace = before
                raise MemoryError(
                    f"the device has no room for a product's workspace of {BYTES >> 20} MiB: use "
                    "smaller batches"
                )
        return 0


_handles: dict[int, int] = {}
_lock = Lock()


def _handle(device: int) -> int:
    with _lock:
        if device not in _handles:
            _handles[device] = lt.create()
        return _handles[device]
