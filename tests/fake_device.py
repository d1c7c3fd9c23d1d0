"""A device without hardware: arrays that do not mix with the host's, and a count of every wait.

    with fake_device() as fake:                     # the default backend inside the block
        model, x = build(), fake.asarray(host)
        with fake.no_waiting():                     # AssertionError at the end if anything waited
            y = model(x)
        fake.to_numpy(y)                            # the crossing back: counted as one wait

What CuPy refuses is refused here: host arrays in arithmetic, in functions, as indices and in
assignments, `np.asarray(device_array)`, and functions and methods that CuPy does not have (they are
looked up in the real `cupy`, which imports without a driver). Stricter than CuPy: NumPy's scalars
are refused too, since a np.float64 promotes silently, and so are lists of numbers as data.
Reductions return 0-d device arrays. Arithmetic is NumPy's, so results can be compared bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import cupy
import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

import ldl
from ldl import arrays


class Ledger:
    """What crossed the boundary: the name of each wait for the device, and of each upload."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.uploads: list[tuple[int, ...]] = []


SCALARS = (bool, int, float, complex)
PLAIN = ("dtype", "shape", "ndim", "size", "itemsize", "nbytes", "strides", "flags")
WAITING_METHODS = {"item", "tolist", "nonzero", "tobytes", "dump", "dumps", "tofile"}
WAITING_FUNCTIONS = {"nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress"}
HOST_FUNCTIONS = {"shape", "ndim", "size", "result_type", "can_cast", "issubdtype", "isscalar"}


class FakeArray(NDArrayOperatorsMixin):
    """An array of the fake device. Not a subclass of ndarray: `np.asarray` must not see inside."""

    __slots__ = ("_held", "_ledger")

    def __init__(self, held: np.ndarray[Any, Any], ledger: Ledger) -> None:
        self._held, self._ledger = held, ledger

    # ---- what waits for the device -----------------------------------------------------------

    def _wait(self, name: str) -> np.ndarray[Any, Any]:
        self._ledger.waits.append(name)
        return self._held

    def __bool__(self) -> bool:
        return bool(self._wait("bool()"))

    def __float__(self) -> float:
        return float(self._wait("float()"))

    def __int__(self) -> int:
        return int(self._wait("int()"))

    def __complex__(self) -> complex:
        return complex(self._wait("complex()"))

    def __index__(self) -> int:
        return self._wait("index()").__index__()

    def __iter__(self) -> Iterator[FakeArray]:
        self._wait("iteration")
        return (self[i] for i in range(len(self)))

    def __str__(self) -> str:
        return str(self._wait("str()"))

    def __format__(self, spec: str) -> str:
        return format(self._wait("format()")[()], spec)

    def __repr__(self) -> str:  # free: pytest prints it
        return f"FakeArray({self._held!r})"

    def get(self) -> np.ndarray[Any, Any]:
        return self._wait("get()").copy()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        raise NotImplementedError("ldl fetches arrays with get")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self._wait("np.asarray()")
        raise TypeError("implicit conversion of a device array to NumPy: use backend.to_numpy(x)")

    # ---- what does not -----------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._held)

    def __deepcopy__(self, memo: Any) -> FakeArray:
        return FakeArray(self._held.copy(), self._ledger)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(cupy.ndarray, name):
            raise AttributeError(f"CuPy's arrays have no attribute {name!r}")
        if name in PLAIN:
            return getattr(self._held, name)
        if name == "data":
            raise AttributeError("the memory of a device array cannot be read by the host")
        if not callable(getattr(np.ndarray, name)):
            return wrapped(getattr(self._held, name), self._ledger)
        if name in WAITING_METHODS:
            return getattr(self._wait(f".{name}()"), name)
        return device_function(getattr(self._held, name), name, self._ledger)

    def __getitem__(self, index: Any) -> FakeArray:
        return wrapped(self._held[self._index(index)], self._ledger)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._held[self._index(index)] = unwrapped(value, "an assignment")

    def _index(self, index: Any) -> tuple[Any, ...]:
        items = index if isinstance(index, tuple) else (index,)
        for item in items:
            if isinstance(item, FakeArray) and item.dtype == bool:
                item._wait("boolean mask")
            elif isinstance(item, (np.ndarray, list)):
                raise TypeError(f"a device array is indexed with a host {type(item).__name__}")
        host = tuple(i._held if isinstance(i, FakeArray) else i for i in items)
        return host if any(i is Ellipsis for i in host) else (*host, Ellipsis)  # 0-d: a view

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return device_function(getattr(ufunc, method), ufunc.__name__, self._ledger)(
            *inputs, **kwargs
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of a device array: use backend.xp")


def unwrapped(value: Any, what: str) -> Any:
    """The host's value of an argument; TypeError for what must not reach a device function."""
    if isinstance(value, FakeArray):
        return value._held
    if isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(
            f"{what} of a device array got a host {type(value).__name__} of shape {value.shape}"
        )
    if isinstance(value, (list, tuple)):
        return type(value)(unwrapped(v, what) for v in value)
    return value


def wrapped(result: Any, ledger: Ledger) -> Any:
    """A result as a device array; reductions give 0-d ones."""
    if isinstance(result, (np.ndarray, np.generic)):
        return FakeArray(np.asarray(result), ledger)
    if isinstance(result, (list, tuple)):
        return tuple(wrapped(r, ledger) for r in result)
    return result


def device_function(function: Any, name: str, ledger: Ledger) -> Any:
    """The function, of device arrays and Python's scalars only."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if name in ("array", "asarray", "ascontiguousarray") and isinstance(args[0], (list, tuple)):
            raise TypeError(f"xp.{name} of a {type(args[0]).__name__}: use backend.asarray")
        given = unwrapped(args, name)
        named = {k: unwrapped(v, name) for k, v in kwargs.items()}
        if name in WAITING_FUNCTIONS or (name == "where" and len(args) == 1):
            ledger.waits.append(f"xp.{name}")
        result = function(*given, **named)
        out = kwargs.get("out")
        if out is not None:
            return out[0] if isinstance(out, tuple) else out
        if name in ("array_equal", "allclose"):
            result = np.asarray(result)
        return result if name in HOST_FUNCTIONS else wrapped(result, ledger)

    return call


class FakeNamespace:
    """NumPy's functions for device arrays, as far as CuPy has them."""

    def __init__(self, host: Any, device: Any, ledger: Ledger) -> None:
        self._host, self._device, self._ledger = host, device, ledger

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(self._device, name):
            raise AttributeError(f"{self._device.__name__} has no {name!r}")
        if name in ("random", "testing"):
            raise AttributeError(f"xp.{name}: random numbers come from backend.uniform")
        found = getattr(self._host, name)
        if isinstance(found, ModuleType):
            return FakeNamespace(found, getattr(self._device, name), self._ledger)
        if isinstance(found, type) or not callable(found):
            return found  # float32, finfo, pi, newaxis
        made = device_function(found, name, self._ledger)
        if isinstance(found, np.ufunc):
            made.at = device_function(found.at, f"{name}.at", self._ledger)
        return made


class FakeBackend(ldl.Backend):
    """The fake device as a backend: every kernel is the generic body."""

    name = "fake"
    device = "no hardware"
    array_type = FakeArray

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.xp = FakeNamespace(np, cupy, self.ledger)

    def asarray(self, data: Any, dtype: Any = None) -> FakeArray:
        if isinstance(data, FakeArray):
            same = dtype is None or data.dtype == dtype
            return data if same else FakeArray(data._held.astype(dtype), self.ledger)
        held = np.array(arrays.host(data, dtype))
        self.ledger.uploads.append(held.shape)
        return FakeArray(held, self.ledger)

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        if not isinstance(array, FakeArray):
            raise TypeError(f"to_numpy takes an array of the fake device, got {type(array)}")
        return array._wait("to_numpy").copy()

    @contextmanager
    def no_waiting(self) -> Iterator[None]:
        """AssertionError, naming the operations, when anything inside waits for the device."""
        before = len(self.ledger.waits)
        yield
        waits = self.ledger.waits[before:]
        assert not waits, f"waits for the device: {waits}"

    @contextmanager
    def no_uploads(self) -> Iterator[None]:
        """AssertionError, naming the shapes, when anything inside is brought from the host."""
        before = len(self.ledger.uploads)
        yield
        uploads = self.ledger.uploads[before:]
        assert not uploads, f"uploads of shapes {uploads}"


class HostBackend(ldl.Backend):
    """NumPy with the generic bodies of all kernels: what the fake device equals bit for bit."""

    name = "host"
    device = "the host"
    array_type = np.ndarray
    xp = np

    def asarray(self, data: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
        return arrays.host(data, dtype)

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        return array


@contextmanager
def fake_device() -> Iterator[FakeBackend]:
    """A new fake device, in force inside the block."""
    with ldl.use_backend(FakeBackend()) as backend:
        yield backend


@pytest.fixture(name="fake")
def fixture() -> Iterator[FakeBackend]:
    """A new fake device, in force during the test; `fake = fixture` in a file makes it known."""
    with fake_device() as backend:
        yield backend
