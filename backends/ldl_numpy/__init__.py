"""The NumPy backend of ldl: arrays on the host."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from warnings import warn

import numpy as np

from ldl.backend import Backend, DType, Recording

__all__ = ["NumpyBackend"]


class NumpyBackend(Backend):
    """NumPy arrays; training steps are traced, planned and, where Numba is installed, fused.

    `LDL_NUMBA=0` in the environment leaves Numba alone.
    """

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

    def record(
        self,
        function: Callable[..., tuple[Any, ...]],
        inputs: tuple[Any, ...],
        parts: Any,
    ) -> Recording:
        """A plan of what the function does to arrays; the function itself where that cannot be.

        A subclass, whose kernels may be others, gets the function itself.
        """
        if type(self) is not NumpyBackend:
            return super().record(function, inputs, parts)
        from ldl_numpy.record import PlannedStep, reason

        fuse = None
        if has_numba():
            from ldl_numpy.fuse import fuse
        try:
            return PlannedStep(function, inputs, parts, fuse)
        except Exception as error:
            why = reason(error)
        if why:
            warn(f"the step runs layer by layer, which is slower: {why}", stacklevel=4)
        return Recording(function)


def has_numba() -> bool:
    """Whether loops may be compiled."""
    return os.environ.get("LDL_NUMBA") != "0" and find_spec("numba") is not None
