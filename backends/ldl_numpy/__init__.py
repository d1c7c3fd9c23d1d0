"""The NumPy backend of ldl: arrays on the host."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from ldl.backend import Backend, DType

__all__ = ["NumpyBackend"]


class NumpyBackend(Backend):
    """NumPy arrays; every kernel is the generic body."""

    name = "numpy"
    xp = np
    array_type = np.ndarray

    @property
    def device(self) -> str:
        """The processor, as its maker or else the platform names it."""
        try:
            with open("/proc/cpuinfo") as file:
                names = [line for line in file if line.startswith("model name")]
            return names[0].partition(":")[2].strip()
        except (OSError, IndexError):
            return platform.processor() or platform.machine()

    def asarray(self, data: Any, dtype: DType = None) -> np.ndarray[Any, Any]:
        """A C-contiguous array; device arrays that have `get` (CuPy's) are fetched."""
        if not isinstance(data, np.ndarray) and hasattr(data, "get") and hasattr(data, "dtype"):
            data = data.get()
        return np.asarray(data, dtype=dtype, order="C")

    def to_numpy(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The array itself."""
        return array
