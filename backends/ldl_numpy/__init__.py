"""The NumPy backend of ldl: arrays on the host."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from threading import local
from typing import Any

import numpy as np

from ldl import random
from ldl.backend import Backend, DType, Recording

__all__ = ["NumpyBackend"]

FEW = 1024
"""Random numbers that are drawn sooner than Numba is asked."""

PIECE, FUSED_PIECE = 2**15, 2**20
"""Elements of an update done together: few enough for the processor's cache where NumPy passes over
them many times, and for the copies that a trace makes where one loop does it all."""


class NumpyBackend(Backend):
    """NumPy arrays; training steps are traced, planned and, where Numba is installed, fused.

    `LDL_NUMBA=0` in the environment leaves Numba alone.
    """

    name = "numpy"
    xp = np
    array_type = np.ndarray

    def __init__(self) -> None:
        self._plans = local()

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

    def uniform(
        self, shape: tuple[int, ...], dtype: DType, key: random.Key
    ) -> np.ndarray[Any, Any]:
        """The generic body's numbers, drawn by Numba."""
        if fuser() is None or np.prod(shape) < FEW:
            drawn: np.ndarray[Any, Any] = super().uniform(shape, dtype, key)
            return drawn
        from ldl_numpy.draws import fill_uniform

        out = np.empty(shape, np.float32)
        fill_uniform(out.reshape(-1), np.uint64(key.seed), np.uint64(key.stream), key.draw)
        return out.astype(dtype, copy=False)

    def normal(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> np.ndarray[Any, Any]:
        """The generic body's numbers, to rounding."""
        size = int(np.prod(shape))
        if fuser() is None or size < FEW or np.dtype(dtype) != np.float32:
            drawn: np.ndarray[Any, Any] = super().normal(shape, dtype, key)
            return drawn
        from ldl_numpy.draws import box_muller

        half = (size + 1) // 2
        u = self.uniform((2 * half,), dtype, key)
        out = np.empty(2 * half, np.float32)
        box_muller(u[:half], u[half:], out[:half], out[half:])
        return out[:size].reshape(shape)

    def record(
        self,
        function: Callable[..., tuple[Any, ...]],
        parts: Sequence[Any],
        inputs: Sequence[Any],
    ) -> Recording:
        """A plan of what the function does to arrays; the function itself where that cannot be.

        A subclass, whose kernels may be others, gets the function itself.
        """
        if type(self) is not NumpyBackend:
            return super().record(function, parts, inputs)
        from ldl_numpy.record import PlannedStep, Unplayed, reason

        try:
            return PlannedStep(function, parts, inputs, fuser())
        except Exception as error:
            return Unplayed(function, parts, reason(error))

    def update(
        self,
        kernel: str,
        arrays: tuple[Any, ...],
        numbers: dict[str, float],
        **constants: Any,
    ) -> None:
        """The kernel's generic body, planned: one loop with Numba, else piece by piece.

        A subclass, whose kernels may be others, runs them as they are.
        """
        if type(self) is not NumpyBackend:
            super().update(kernel, arrays, numbers, **constants)
            return
        first = arrays[0]
        size = len(first)
        piece = PIECE if fuser() is None else FUSED_PIECE
        plans: dict[Any, Any] = self._plans.__dict__.setdefault("of_kernels", {})
        present = tuple([a is not None for a in arrays])
        for start in range(0, size, piece):
            whole = size <= piece
            cut = arrays if whole else [_piece(a, start, piece) for a in arrays]
            length = size if whole else min(piece, size - start)
            key = kernel, length, first.dtype, present, *constants.values()
            if key not in plans:
                plans[key] = self._planned(kernel, cut, numbers, constants)
            plan, held = plans[key]
            for name, number in numbers.items():
                held[name][()] = number
            plan(*[a for a in cut if a is not None], *held.values())

    def _planned(
        self, kernel: str, arrays: Sequence[Any], numbers: dict[str, float], constants: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The plan of a kernel, and the arrays without axes that it reads its numbers from."""
        from ldl_numpy.record import plan_kernel

        held = {name: np.array(x, arrays[0].dtype) for name, x in numbers.items()}
        return plan_kernel(kernel, arrays, held, constants, fuser()), held


def _piece(array: Any, start: int, length: int) -> Any:
    return None if array is None else array[start : start + length]


@cache
def fuser() -> Any:
    """What makes loops of operations: None where Numba is not installed or not wanted."""
    if os.environ.get("LDL_NUMBA") == "0" or find_spec("numba") is None:
        return None
    from ldl_numpy.fuse import fuse

    return fuse
