"""The CuPy backend of ldl: arrays on a CUDA device."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from ldl.backend import Array, Backend, BackendUnavailableError, DType

__all__ = ["CupyBackend"]


@cache
def products() -> Any:
    """The module `ldl_cupy.gemm`; None, after one notice, where cuBLASLt cannot be had."""
    try:
        from ldl_cupy import gemm

        gemm.load()
    except (ImportError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(
            "cuBLASLt is missing, so matrix products go through cupy.matmul, which no CUDA graph "
            f"can hold: pip install 'ldl[cuda12]', or 'ldl[cuda13]' for CUDA 13 ({reason})",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return gemm


class CupyBackend(Backend):
    """CuPy arrays on the current CUDA device; matrix products by cuBLASLt where it is installed.

    `gemm` is the module of these products, None without it; every other kernel is the generic body.

    Raises BackendUnavailableError, in one line that says what to install, where CuPy or the NVIDIA
    driver is missing.
    """

    name = "cupy"

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise BackendUnavailableError(
                "the cupy backend needs CuPy: pip install 'ldl[cuda12]', or 'ldl[cuda13]' for "
                f"CUDA 13 ({error})"
            ) from error
        if not cupy.cuda.is_available():
            raise BackendUnavailableError(
                "CuPy is installed but finds no CUDA device: install the NVIDIA driver and check "
                "that nvidia-smi lists a GPU, or use ldl.set_backend('numpy')"
            )
        self.xp = cupy
        self.array_type = cupy.ndarray
        self.gemm = products()

    @property
    def device(self) -> str:
        """The GPU's name."""
        runtime = self.xp.cuda.runtime
        name: bytes = runtime.getDeviceProperties(runtime.getDevice())["name"]
        return name.decode()

    def asarray(self, data: Any, dtype: DType = None) -> Array:
        """A C-contiguous array on the device."""
        return self.xp.asarray(data, dtype=dtype, order="C")

    def to_numpy(self, array: Array) -> Any:
        """A copy on the host; waits for the device."""
        return self.xp.asnumpy(array)

    def synchronize(self) -> None:
        """Wait for the current stream."""
        self.xp.cuda.get_current_stream().synchronize()

    def matmul(self, a: Array, b: Array, out: Array = None, accumulate: bool = False) -> Array:
        """`a @ b`, into `out` where given; added to what `out` holds with `accumulate`."""
        if self.gemm is None:
            return super().matmul(a, b, out, accumulate)
        return self.gemm.matmul(a, b, out, accumulate)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Z = X W + b for X (N, in), W (in, out), b (out,)."""
        if self.gemm is None or bias is None:
            return super().linear(x, weight, bias)
        return self.gemm.matmul_bias(x, weight, bias)
