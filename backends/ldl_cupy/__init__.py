"""The CuPy backend of ldl: arrays on a CUDA device."""

from __future__ import annotations

from typing import Any

from ldl.backend import Array, Backend, BackendUnavailableError, DType

__all__ = ["CupyBackend"]


class CupyBackend(Backend):
    """CuPy arrays on the current CUDA device; every kernel is the generic body.

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
