"""The NumPy backend of ldl: arrays on the host."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ldl import random
from ldl.arrays import host
from ldl.backend import Backend, DType, Recording
from ldl.calm import calm
from ldl.prepared import Prepared
from ldl_numpy.uniform import fill

__all__ = ["NumpyBackend"]

MANY = 2**16
"""Random numbers that NumPy draws sooner than code is compiled for them."""


class NumpyBackend(Backend):
    """NumPy arrays; training steps are traced, planned and, with llvmlite, fused and compiled.

    `LDL_JIT=0` in the environment leaves llvmlite alone.
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
        """A C-contiguous array of all that `ldl.arrays` reads; a device's arrays are fetched."""
        return host(data, dtype)

    def to_numpy(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The array itself."""
        return array

    def uniform(
        self, shape: tuple[int, ...], dtype: DType, key: random.Key
    ) -> np.ndarray[Any, Any]:
        """The generic body's numbers."""
        out = np.empty(shape, np.float32)
        self.fill_uniform(out, key)
        return out.astype(dtype, copy=False)

    def fill_uniform(self, out: np.ndarray[Any, Any], key: random.Key) -> None:
        """The same numbers, in a C-contiguous float32 array."""
        if out.size < MANY or fuser() is None:
            fill(out, key)
            return
        from ldl_numpy import philox

        draw: Any = philox.drawn
        draw(out, key)

    def normal(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> np.ndarray[Any, Any]:
        """The generic body's numbers, to rounding."""
        size = int(np.prod(shape))
        whole = key.span(shape) == (0, size)
        if not whole or fuser() is None or size < MANY or np.dtype(dtype) != np.float32:
            drawn: np.ndarray[Any, Any] = super().normal(shape, dtype, key)
            return drawn
        from ldl_numpy.philox import normal

        half = (size + 1) // 2
        u = self.uniform((2 * half,), dtype, key)
        out = np.empty(2 * half, np.float32)
        normal()(half, *(a.ctypes.data for a in (u[:half], u[half:], out[:half], out[half:])))
        return out[:size].reshape(shape)

    def _box_muller(
        self, u: np.ndarray[Any, Any], v: np.ndarray[Any, Any], wave: str, whole: int
    ) -> np.ndarray[Any, Any]:
        if fuser() is None or whole < MANY or u.dtype != np.float32:
            made: np.ndarray[Any, Any] = super()._box_muller(u, v, wave, whole)
            return made
        from ldl_numpy.philox import waves

        out = np.empty_like(u)
        waves()[wave](len(u), *(a.ctypes.data for a in (u, v, out)))
        return out

    def take(self, array: np.ndarray[Any, Any], index: np.ndarray[Any, Any]) -> Any:
        """The rows that `index` names; ValueError for one that is not there."""
        if index.size:
            low, high = int(index.min()), int(index.max())
            if low < 0 or high >= len(array):
                raise ValueError(
                    f"there is no row {low if low < 0 else high}: rows are numbered from 0 to "
                    f"{len(array) - 1}"
                )
        return np.take(array, index, axis=0)

    def sum_squares(self, a: np.ndarray[Any, Any]) -> Any:
        """The generic body's number, which may be infinite and is asked what it is."""
        with np.errstate(over="ignore"):
            return super().sum_squares(a)

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
        from ldl.compiler.recorded import Unplayed
        from ldl_numpy.record import PlannedStep

        gather = gatherer()
        try:
            return calm(PlannedStep)(function, parts, inputs, gather)
        except Exception as error:
            return Unplayed(function, parts, error)

    def prepare(
        self,
        kernel: str,
        arrays: tuple[Any, ...],
        numbers: tuple[str, ...],
        **constants: Any,
    ) -> Prepared:
        """The kernel's generic body, planned: one loop where it is compiled, else blocks.

        A subclass, whose kernels may be others, runs them as they are.
        """
        if type(self) is not NumpyBackend:
            return super().prepare(kernel, arrays, numbers, **constants)
        from ldl_numpy.updates import PlannedUpdate

        return PlannedUpdate(kernel, arrays, numbers, constants, gatherer())


@cache
def fuser() -> Any:
    """What makes loops of operations: None where llvmlite is not installed or not wanted."""
    given = os.environ.get("LDL_JIT", "").strip().lower()
    unwanted = given in ("0", "false", "no", "off")
    if not unwanted and given not in ("", "1", "true", "yes", "on"):
        raise ValueError(f"LDL_JIT in the environment must be 0 or 1, got {given[:40]!r}")
    if unwanted or find_spec("llvmlite") is None:
        return None
    from ldl_numpy.engine import dumps
    from ldl_numpy.program import fuse_and_link
    from ldl_numpy.threads import threads

    dumps(), threads()  # say what is wrong with the environment before anything is recorded
    return fuse_and_link


def gatherer() -> Any:
    """What gathers operations: into loops, or without llvmlite into blocks."""
    found = fuser()
    if found is not None:
        return found
    from ldl_numpy.blocks import in_blocks

    return in_blocks
