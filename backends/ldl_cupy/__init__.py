"""The CuPy backend of ldl: arrays on a CUDA device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np

from ldl import arrays, random
from ldl.backend import Array, Backend, BackendUnavailableError, DType, Recording, Window
from ldl.nn.differentiable import DeviceError
from ldl.prepared import Prepared
from ldl_cupy.capture import Capture
from ldl_cupy.device import Device
from ldl_cupy.images import Windows
from ldl_cupy.kernels import Functions
from ldl_cupy.launch import Launcher

__all__ = ["CupyBackend"]


@cache
def products() -> Any:
    """The module `ldl_cupy.gemm`; None, after one notice, where cuBLASLt cannot be had."""
    try:
        from ldl_cupy import gemm

        gemm.load()
    except Exception as error:  # whatever is missing, old, or of another CUDA
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(
            "cuBLASLt is missing, so matrix products go through cupy.matmul, which no CUDA graph "
            f"can hold: pip install 'ldl[cuda12]', or 'ldl[cuda13]' for CUDA 13 ({reason})",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return gemm


def _nothing() -> None:
    """There is no workspace to be made."""


class CupyBackend(Backend):
    """CuPy arrays on the current CUDA device; matrix products by cuBLASLt where it is installed.

    `gemm` is the module of these products, None without it. Training steps are traced on the host,
    their elementwise parts written as CUDA kernels, and from the third time of a step all of it is
    one graph launch. Without `gemm` the layers' own code runs.

    A model belongs to the GPU that was current when it was made: with several of them, it is made,
    trained and used inside `with cupy.cuda.Device(number):`, and a step of it anywhere else is a
    DeviceError. Steps on several streams, in whatever threads, run one after another.

    Raises BackendUnavailableError, in one line that says what to install, where CuPy or the NVIDIA
    driver is missing.
    """

    name = "cupy"
    steps_per_launch = 32
    leaves_out: frozenset[str] = frozenset()
    """What recorded steps do without, of "second stream", "epilogues" and "bf16": to see what
    each is worth."""

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
        gemm = products()
        ready = gemm.reserve if gemm is not None else _nothing
        self._connect(cupy, cupy.ndarray, Device(cupy, ready), gemm)

    def _connect(self, xp: Any, array_type: type, connection: Any, gemm: Any) -> None:
        self.xp, self.array_type, self.gemm = xp, array_type, gemm
        self.connection = connection
        self.launcher = Launcher(xp)
        self.windows = Windows(self.launcher)
        self.functions = Functions(connection)
        self.capture = Capture(connection)
        self._unprepared: set[str] = set()

    @property
    def device(self) -> str:
        """The GPU's name."""
        runtime = self.xp.cuda.runtime
        name: bytes = runtime.getDeviceProperties(runtime.getDevice())["name"]
        return name.decode()

    def asarray(self, data: Any, dtype: DType = None) -> Array:
        """A C-contiguous array on the device, of all that `ldl.arrays` reads, and of any device's.

        It does not wait for a copy from the host.
        """
        data = arrays.detached(data)
        if isinstance(data, self.array_type) or hasattr(data, "__cuda_array_interface__"):
            found = self.xp.asarray(data, order="C")
            arrays.check_kind(found.dtype)
            return self.xp.asarray(found, dtype=dtype, order="C")
        if arrays.on_cuda(data):
            return self.asarray(self.xp.from_dlpack(data), dtype)
        host = arrays.host(data, dtype)
        if host.dtype.itemsize > 8:  # long doubles
            host = host.astype(np.float64)
        if not host.nbytes:
            return self.xp.asarray(host)
        raw = self.connection.empty(host.nbytes)
        self.connection.send(host.reshape(-1).view(np.uint8), raw)
        return raw.view(host.dtype).reshape(host.shape)

    def fits(self, nbytes: int) -> bool:
        """Whether data of that size can stay on the device and leave room for the rest."""
        return bool(self.connection.fits(nbytes))

    def to_numpy(self, array: Array) -> Any:
        """A copy on the host; waits for the device."""
        return self.xp.asnumpy(array)

    def choose_device(self, number: int) -> None:
        """Make the GPU of that number this thread's, counted round where there are fewer."""
        self.connection.choose(number)

    def add_up(self, array: Array, world: Any) -> None:
        """By NCCL, on the current stream; through the host where it is not there."""
        found = self.connection.communicator(world)
        if found is None:
            super().add_up(array, world)
        else:
            found.add_up(array)

    def begin_add_up(self, array: Array, world: Any) -> Callable[[], Any]:
        """The stream goes on when it is done."""
        self.add_up(array, world)
        return _nothing

    def synchronize(self) -> None:
        """Wait for the current stream."""
        self.xp.cuda.get_current_stream().synchronize()

    @property
    def launches(self) -> int:
        """The capture's."""
        return self.capture.graphs + self.capture.singles

    # ---- steps as one launch -------------------------------------------------------------------

    def record(
        self,
        function: Callable[..., tuple[Any, ...]],
        parts: Sequence[Any],
        inputs: Sequence[Any],
    ) -> Recording:
        """Launches of what the function does; the function itself where that cannot be."""
        if self.gemm is None:
            return super().record(function, parts, inputs)
        from ldl.compiler.recorded import Unplayed
        from ldl_cupy.record import DeviceStep

        self.connection.turn()
        try:
            return DeviceStep(self, function, parts, inputs)
        except DeviceError:
            raise
        except Exception as error:
            return Unplayed(function, parts, error)

    def prepare(
        self,
        kernel: str,
        arrays: tuple[Any, ...],
        numbers: tuple[str, ...],
        **constants: Any,
    ) -> Prepared:
        """The kernel's generic body as one launch; as array code where that cannot be.

        `settle` is left out: subnormal numbers cost a GPU nothing.
        """
        if kernel == "settle":
            return Prepared(arrays, lambda: None)
        from ldl.compiler.recorded import reason
        from ldl_cupy import record

        self.connection.turn()
        try:
            return record.CompiledUpdate(self, kernel, arrays, numbers, constants)
        except Exception as error:
            if kernel not in self._unprepared:
                self._unprepared.add(kernel)
                why = reason(error)
                warnings.warn(f"{kernel} runs as array code, which is slower: {why}", stacklevel=2)
            return record.Update(self, kernel, arrays, numbers, constants)

    def deferred(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """The function, called when the capture closes."""
        from ldl_cupy.record import Deferred

        return Deferred(self, function)

    def together(self) -> AbstractContextManager[Any]:
        """The backend's capture."""
        return self.capture

    # ---- kernels -------------------------------------------------------------------------------

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

    def uniform(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Array:
        """The generic body's numbers, drawn on the device."""
        return self._fill("fill_uniform", shape, dtype, key)

    def normal(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Array:
        """The generic body's numbers, to rounding, drawn on the device."""
        return self._fill("fill_normal", shape, dtype, key)

    def _fill(self, name: str, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Array:
        kind = np.dtype(dtype)
        wide = kind if kind in (np.float32, np.float64) else np.dtype(np.float32)
        out = self.xp.empty(shape, wide)
        words = np.array(key.words(shape), np.uint64)
        memory = self.connection.empty(words.nbytes)
        self.connection.send(words.view(np.uint8), memory)
        getattr(self.launcher, name)(out, memory.view(np.uint64))
        return out.astype(kind, copy=False)

    def take(self, array: Array, index: Array) -> Array:
        """The rows of `array` that `index` names; wrong numbers name the nearest row."""
        fits = array.flags.c_contiguous and index.ndim == 1 and index.dtype == np.int64
        if not fits or not len(array):
            return super().take(array, index)
        out = self.xp.empty((len(index), *array.shape[1:]), array.dtype)
        self.launcher.take(array, self.xp.ascontiguousarray(index), out)
        return out

    def max_pool(self, x: Array, window: Window) -> tuple[Array, Array]:
        """The generic body's numbers."""
        shape = (len(x), *window.output(x.shape[1:3]), x.shape[-1])
        y, where = self.xp.empty(shape, x.dtype), self.xp.empty(shape, window.place_type)
        self.windows.max_pool(window, self.xp.ascontiguousarray(x), y, where)
        return y, where

    def max_pool_input(
        self, grad: Array, where: Array, window: Window, image: tuple[int, int]
    ) -> Array:
        """The generic body's numbers, added in the same order at every call."""
        dx = self.xp.empty((len(grad), *image, grad.shape[-1]), grad.dtype)
        self.windows.max_pool_input(window, self.xp.ascontiguousarray(grad), where, dx)
        return dx

    def add_rows(self, rows: Array, index: Array, out: Array) -> Array:
        """The generic body's numbers, added in the same order at every call."""
        if rows.dtype not in (np.float32, np.float64) or rows.dtype != out.dtype:
            return super().add_rows(rows, index, out)
        straight = self.xp.ascontiguousarray
        self.windows.add_rows(straight(rows), straight(index.astype(np.int64)), out)
        return out

    def sum_rows(self, a: Array, out: Array = None, accumulate: bool = False) -> Array:
        """The sum of the rows of (N, D): a vector (D,), into `out` as `matmul` does."""
        held = out if out is not None else self.xp.empty(a.shape[1:], a.dtype)
        fits = a.ndim == 2 and a.flags.c_contiguous and held.flags.c_contiguous
        if not fits or a.dtype not in (np.float32, np.float64) or held.dtype != a.dtype:
            return super().sum_rows(a, out, accumulate)
        self.launcher.sum_columns(a, held, accumulate)
        return held

    def sum_squares(self, a: Array) -> Array:
        """Σ a², a scalar on the device."""
        if not a.flags.c_contiguous or a.dtype not in (np.float32, np.float64):
            return super().sum_squares(a)
        out = self.xp.empty((), a.dtype)
        self.launcher.sum_squares(a, out)
        return out
