"""cuBLASLt on the host: column-major products in NumPy, behind the calls of `ldl_cupy.algorithm`.

Addresses are of host memory. What the library would refuse is refused here: attributes of a wrong
size, addresses less aligned than the algorithm was promised, epilogues without their vector.
"""

from __future__ import annotations

import ctypes
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np

try:
    from nvmath.bindings import cublasLt as real
except ImportError:  # without it there is no FakeLt, and all the rest
    real = None

LAYOUTS = ("rows", "padded rows", "transposed", "padded transposed")
TYPES = {0: np.dtype("f"), 1: np.dtype("d"), 14: np.dtype("u2")}


def widened(x: Any) -> Any:
    """What 16 bits of bfloat16 stand for."""
    return (np.asarray(x).astype("u4") << 16).view("f")


def narrowed(x: Any) -> Any:
    """The nearest bfloat16 of finite numbers, ties to even, as 16 bits."""
    bits = np.ascontiguousarray(x, "f").view("u4")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("u2")


def matrix(rows: int, columns: int, layout: str = "rows", dtype: Any = "float64") -> Any:
    """Normal numbers in a layout; what padding lies between them is not a number."""
    shape = (columns, rows) if "transposed" in layout else (rows, columns)
    memory = np.full((shape[0], shape[1] + 3 * ("padded" in layout)), np.nan, dtype)
    view = memory[:, : shape[1]]
    view[:] = np.random.default_rng(rows + 100 * columns).normal(size=shape)
    return view.T if "transposed" in layout else view


class HostArray(np.ndarray):
    """An array of the host whose `data` tells its address and its GPU, as a CuPy array's does."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data, device_id=getattr(self, "gpu", 0))


def free(lock: Any) -> bool:
    """Whether another thread could take it."""
    taken: list[bool] = []

    def take() -> None:
        taken.append(lock.acquire(blocking=False))
        if taken[0]:
            lock.release()

    thread = Thread(target=take)
    thread.start()
    thread.join()
    return taken[0]


def host(x: Any) -> Any:
    return x.view(HostArray)


def seen(address: int, dtype: np.dtype[Any], rows: int, columns: int, ld: int) -> Any:
    """The column-major matrix at an address."""
    assert ld >= rows
    size = (columns - 1) * ld + rows
    held = (ctypes.c_byte * (size * dtype.itemsize)).from_address(address)
    flat = np.frombuffer(held, dtype)
    strides = dtype.itemsize, ld * dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides, writeable=True)


def finish(d: Any, a: Any, b: Any, epilogue: str, vector: Any) -> None:
    """What an epilogue does to D, or to its vector: a bias a row of D, sums over k."""
    if epilogue == "BGRADA":
        vector[:] = a.sum(axis=1)
    elif epilogue == "BGRADB":
        vector[:] = b.sum(axis=0)
    elif epilogue != "DEFAULT":
        d += vector[:, None]


class cuBLASLtError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class FakeLt:
    """`nvmath.bindings.cublasLt`, for one device and one handle."""

    cuBLASLtError = cuBLASLtError

    def __init__(self) -> None:
        self.objects: dict[int, dict[Any, Any]] = {}
        self.made = 100
        self.searches: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.refused: set[str] = set()
        self.greedy = False
        """Whether there is nothing without a workspace."""
        self.refusal: int | str = 15  # NOT_SUPPORTED
        self.promised: dict[int, dict[Any, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(real, name)  # enumerations and types, which need no library

    def _new(self, **held: Any) -> int:
        self.made += 1
        self.objects[self.made] = held
        return self.made

    def create(self) -> int:
        return 1

    def matmul_desc_create(self, compute: int, scale: int) -> int:
        return self._new(compute=int(compute), scale=TYPES[scale])

    def matrix_layout_create(self, kind: int, rows: int, columns: int, ld: int) -> int:
        return self._new(dtype=TYPES[kind], rows=rows, columns=columns, ld=ld)

    def matmul_preference_create(self) -> int:
        return self._new()

    def matmul_desc_destroy(self, desc: int) -> None:
        assert self.objects.pop(desc)

    matrix_layout_destroy = matmul_desc_destroy

    def matmul_preference_destroy(self, preference: int) -> None:
        assert self.objects.pop(preference)

    def matmul_desc_set_attribute(self, desc: int, name: Any, buffer: int, size: int) -> None:
        dtype = real.get_matmul_desc_attribute_dtype(name)
        self._set(desc, real.MatmulDescAttribute(name), buffer, size, dtype)

    def matrix_layout_set_attribute(self, layout: int, name: Any, buffer: int, size: int) -> None:
        self._set(layout, name, buffer, size, real.get_matrix_layout_attribute_dtype(name))

    def matmul_preference_set_attribute(self, p: int, name: Any, buffer: int, size: int) -> None:
        self._set(p, name, buffer, size, real.get_matmul_preference_attribute_dtype(name))

    def _set(self, handle: int, name: Any, buffer: int, size: int, dtype: Any) -> None:
        assert size == np.dtype(dtype).itemsize
        value = np.frombuffer(ctypes.string_at(buffer, size), dtype)[0]
        self.objects[handle][name.name] = int(value)

    def _operation(self, desc: int) -> dict[Any, Any]:
        held = self.objects[desc]
        return held | {"epilogue": real.Epilogue(held["EPILOGUE"]).name}

    def matmul_algo_get_heuristic(
        self, handle: int, desc: int, a: int, b: int, c: int, d: int, preference: int, *rest: int
    ) -> None:
        asked, results, count = rest
        operation = self._operation(desc)
        assert (handle, asked, c) == (1, 1, d)
        assert operation["epilogue"] == "DEFAULT" or operation["BIAS_POINTER"]
        self.searches.append(operation | self.objects[preference])
        refused = operation["epilogue"] in self.refused
        if refused and isinstance(self.refusal, int):
            raise cuBLASLtError(self.refusal)
        if refused and self.refusal == "none found":
            return
        frugal = not self.objects[preference]["MAX_WORKSPACE_BYTES"]
        if frugal and self.greedy:
            raise cuBLASLtError(15)
        self.promised[desc] = dict(self.objects[preference])
        found = np.frombuffer(
            (ctypes.c_byte * 96).from_address(results), real.matmul_heuristic_result_dtype
        )
        found["algo"]["data_"] = 11
        found["workspace_size"] = 0 if frugal else 1000
        found["state"] = 15 * refused
        ctypes.c_int32.from_address(count).value = 1

    def matmul(self, handle: int, desc: int, alpha: int, a: int, al: int, *rest: int) -> None:
        b, bl, beta, c, cl, d, dl, algorithm, space, size, stream = rest
        operation, promised = self._operation(desc), self.promised[desc]
        assert (c, cl) == (d, dl)
        assert ctypes.c_uint64.from_address(algorithm).value == 11
        for name, address in zip("ABCD", (a, b, c, d), strict=True):
            assert address % promised[f"MIN_ALIGNMENT_{name}_BYTES"] == 0
        dtype = operation["scale"]
        one, old = (
            np.frombuffer(ctypes.string_at(x, dtype.itemsize), dtype) for x in (alpha, beta)
        )
        vector = None
        for turn in range(self.objects[dl].get("BATCH_COUNT", 1)):
            left, right = self._matrix(a, al, turn), self._matrix(b, bl, turn)
            left = left.T if operation["TRANSA"] else left
            right = right.T if operation["TRANSB"] else right
            product = one * (left @ right)
            result = self._matrix(d, dl, turn)
            result[:] = product + old * result if old else product
            if operation["epilogue"] != "DEFAULT":
                assert operation["BIAS_POINTER"] % 16 == 0
                length = result.shape[operation["epilogue"] == "BGRADB"]
                vector = seen(operation["BIAS_POINTER"], dtype, length, 1, length)[:, 0]
            finish(result, left, right, operation["epilogue"], vector)
        self.runs.append(operation | {"space": space, "size": size, "stream": stream})

    def _matrix(self, address: int, layout: int, turn: int) -> Any:
        """One of a batch's matrices; bfloat16 as float32."""
        told = self.objects[layout]
        dtype = told["dtype"]
        if turn:
            assert turn < told["BATCH_COUNT"]
            address += turn * told["STRIDED_BATCH_OFFSET"] * dtype.itemsize
        found = seen(address, dtype, told["rows"], told["columns"], told["ld"])
        return widened(found) if dtype == np.uint16 else found


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status


class FakeCupy:
    """The parts of `cupy` that products use, on the host; `products` counts its own.

    The GPU has `room` for so many workspaces, and for one more when the pool has given back.
    """

    def __init__(self) -> None:
        self.products = 0
        self.stream = SimpleNamespace(ptr=0)
        self.device = 0
        self.memories: list[Any] = []
        self.room, self.pooled = 1000, 0
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(
                getDevice=lambda: self.device,
                CUDARuntimeError=CUDARuntimeError,
            ),
            get_current_stream=lambda: self.stream,
            Memory=self._memory,
        )

    def _memory(self, size: int) -> Any:
        if not self.room:
            raise CUDARuntimeError(2)
        self.room -= 1
        self.memories.append(SimpleNamespace(ptr=len(self.memories) + 1, size=size))
        return self.memories[-1]

    def get_default_memory_pool(self) -> Any:
        def give_back() -> None:
            self.room, self.pooled = self.room + self.pooled, 0

        return SimpleNamespace(free_all_blocks=give_back)

    def empty(self, shape: Any, dtype: Any) -> Any:
        return host(np.full(shape, np.nan, dtype))

    def broadcast_to(self, x: Any, shape: tuple[int, ...]) -> Any:
        return np.broadcast_to(x, shape, subok=True)

    def expand_dims(self, x: Any, axis: int) -> Any:
        return np.expand_dims(x, axis)

    def ascontiguousarray(self, x: Any) -> Any:
        return host(np.ascontiguousarray(x))

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        self.products += 1
        return np.matmul(a, b, out=out)
