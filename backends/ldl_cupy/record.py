"""Recording on a device: a traced function as launches of generated kernels and matrix products.

The trace is made on the host, on copies of the arrays, and planned as on NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ldl.compiler.dryrun import Function, dry_run, trace_kernel
from ldl.compiler.operations import CannotTraceError, Host
from ldl.compiler.plan import Place, Plan, needed
from ldl.compiler.recorded import Recorded
from ldl.nn.differentiable import DeviceError
from ldl.nn.module import Differentiable
from ldl.precision import get_matmul_precision
from ldl.prepared import Prepared
from ldl_cupy.capture import Capture, Known
from ldl_cupy.kernels import Kernels
from ldl_cupy.launch import here
from ldl_cupy.layout import ALIGNED
from ldl_cupy.source import CudaSource


class Hosts(Place):
    """Arrays of the host that stand for a device's while a function is traced."""

    def __init__(self, device: Any, to_numpy: Callable[[Any], Host]) -> None:
        self._device, self._to_numpy = device, to_numpy
        self._hosts: dict[int, tuple[Any, Host]] = {}
        self._devices: dict[int, Any] = {}

    def host(self, array: Any) -> Host:
        """The host's array for one of the device, the same whenever it is asked for.

        CannotTraceError for one that kernels cannot read as it lies; DeviceError for one of another
        GPU.
        """
        if id(array) not in self._hosts:
            here(array, self._device.number())
            _check_lie(array)
            made = np.array(self._to_numpy(array), order="C")
            self._hosts[id(array)] = array, made
            self._devices[id(made)] = array
        return self._hosts[id(array)][1]

    def external(self, array: Host) -> Any:
        """The device's array; constants of the function are copied to it."""
        if id(array) not in self._devices:
            sent = self.bytes(array.nbytes)
            self._device.send(np.ascontiguousarray(array).reshape(-1).view(np.uint8), sent)
            self._devices[id(array)] = _shaped(sent, array)
            self._hosts[id(self._devices[id(array)])] = self._devices[id(array)], array
        return self._devices[id(array)]

    def bytes(self, n: int) -> Any:
        """Memory of the device."""
        return self._device.empty(n)

    def meet(self, a: Any, b: Any) -> bool:
        """Whether a view begins in an array, or two arrays without gaps overlap."""
        first, second = a.data.ptr, b.data.ptr
        return bool(first < second + b.nbytes and second < first + max(a.nbytes, 1))


def _check_lie(array: Any) -> None:
    """CannotTraceError for an array that kernels, which read 16 bytes at once, cannot read."""
    if not (array.flags.c_contiguous and array.data.ptr % ALIGNED == 0):
        raise CannotTraceError(
            f"an array of shape {tuple(array.shape)} is not C-contiguous, or begins at no "
            f"multiple of {ALIGNED} bytes: bind a copy of it"
        )


def _shaped(raw: Any, like: Host) -> Any:
    return raw[: like.nbytes].view(like.dtype).reshape(like.shape)


class DeviceStep(Recorded):
    """A function on a device: a site of the backend's capture."""

    def __init__(
        self,
        backend: Any,
        function: Function,
        parts: Sequence[Differentiable],
        inputs: Sequence[Any],
    ) -> None:
        self._array_type = backend.array_type
        self.gpu: int = backend.connection.number()
        self._check(inputs)
        held = {id(x): _held(backend, x) for x in inputs}
        self._inputs = [held[id(x)] for x in inputs]
        hosts = Hosts(backend.connection, backend.to_numpy)
        traced = dry_run(function, parts, self._inputs, hosts.host)
        super().__init__(function, parts, traced)
        self.known: Known = {}
        self._precision = get_matmul_precision()
        self._capture: Capture = backend.capture
        self.gather = backend.launcher.take
        self._sources: dict[Any, _Rows] = {}
        self._kernels = Kernels(backend)
        self._plan = Plan(traced.trace, [], traced.results, self._kernels.fuse, hosts)
        self.streams = [draw.stream for draw, _ in self._kernels.draws]
        self.does = self._plan.does

    @property
    def bytes(self) -> int:
        """Of the device: what the plan works in, inputs, and graphs."""
        sites = [self.known, *[rows.known for rows in self._sources.values()]]
        graphs: int = sum(getattr(found, "bytes", 0) for known in sites for found in known.values())
        inputs: int = sum(x.nbytes for x in {id(x): x for x in self._inputs}.values())
        return self._plan.bytes + inputs + graphs

    def account(self) -> list[Any]:
        """The plan's operations."""
        return list(self._plan.account)

    def explain(self) -> str:
        """The plan's operations, in words."""
        return self._plan.explain()

    def valid(self) -> bool:
        """Also whether products are to be as exact as they were then."""
        return self._precision == get_matmul_precision() and super().valid()

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Play it; arrays among the results are valid until it is played again."""
        self._capture.ready(self)
        self._check(inputs)
        pairs = zip(self._inputs, inputs, strict=True)
        for held, x in {id(held): (held, x) for held, x in pairs}.values():
            held[...] = x
        return self._call(self, [])

    def _check(self, inputs: Sequence[Any]) -> None:
        for x in inputs:
            if not isinstance(x, self._array_type):
                raise DeviceError(
                    f"a step on cupy got an array of {type(x).__module__.partition('.')[0]}: bring "
                    "it over with model.backend.asarray(...)"
                )
            here(x, self.gpu)

    def rows(self, sources: Sequence[Any], order: Any, start: int, size: int) -> tuple[Any, ...]:
        """Play it on rows of arrays that stay where they are, which the device gathers."""
        key = (*map(id, sources), id(order))
        if key not in self._sources:
            self._check([*sources, order])
            self._sources = {key: _Rows(self, self._inputs, sources, order)}
        return self._call(self._sources[key], [start])

    def _call(self, site: Any, numbers: list[int]) -> tuple[Any, ...]:
        draws = self._kernels.draws
        keys = [word for draw, shape in draws for word in draw.stream.next().words(shape)]
        self._capture.call(site, np.array([*keys, *numbers], np.uint64))
        self.leave_flags()
        return tuple(self._plan.results)

    def launch(self, numbers: Any) -> None:
        """Everything, with the keys of its draws."""
        self._kernels.keys = numbers
        self._plan()


def _held(backend: Any, x: Any) -> Any:
    """A copy of an input, in memory that a plan reads it from: x may be an array of the parts'."""
    memory = backend.xp.empty(x.shape, x.dtype)
    memory[...] = x
    return memory


class _Rows:
    """A step on rows that the device gathers: a site whose last number is where they begin."""

    def __init__(
        self, step: DeviceStep, inputs: Sequence[Any], sources: Sequence[Any], order: Any
    ) -> None:
        self.known: Known = {}
        self.gpu = step.gpu
        self._step, self._order = step, order
        pairs = dict(zip(map(id, inputs), zip(sources, inputs, strict=True), strict=True))
        self._pairs = list(pairs.values())

    def launch(self, numbers: Any) -> None:
        """Gather, and do everything."""
        start = numbers[-1:].view(np.int64)
        for source, held in self._pairs:
            self._step.gather(source, self._order, held, start)
        self._step.launch(numbers)


class Update(Prepared):
    """A kernel's generic body that works in place on vectors: a site of the backend's capture."""

    def __init__(
        self,
        backend: Any,
        kernel: str,
        arrays: tuple[Any, ...],
        numbers: tuple[str, ...],
        constants: dict[str, Any],
    ) -> None:
        super().__init__(arrays, self._noted)
        self.known: Known = {}
        self.gpu: int = backend.connection.number()
        self._capture: Capture = backend.capture
        self._dtype = arrays[0].dtype
        self._names = numbers
        self._body = partial(getattr(backend, kernel), *arrays, **constants)

    def _noted(self, *values: float) -> None:
        self._capture.call(self, np.array(values, self._dtype))

    def launch(self, numbers: Any) -> None:
        """Run it with the numbers in an array of the device."""
        views = [numbers[i : i + 1].reshape(()) for i in range(len(self._names))]
        self._body(**dict(zip(self._names, views, strict=True)))


class CompiledUpdate(Update):
    """The same as one launch of a kernel of its own, which is compiled now."""

    def __init__(
        self,
        backend: Any,
        kernel: str,
        arrays: tuple[Any, ...],
        numbers: tuple[str, ...],
        constants: dict[str, Any],
    ) -> None:
        super().__init__(backend, kernel, arrays, numbers, constants)
        for array in arrays:
            if array is not None:
                _check_lie(array)
        size = len(arrays[0])
        few = 16 if size % 4 == 0 else 17
        stand = [None if a is None else np.ones(few, a.dtype) for a in arrays]
        held = {name: np.ones((), self._dtype) for name in numbers}
        trace = trace_kernel(kernel, stand, held, constants)
        kernels = Kernels(backend)
        kept = trace.changed()
        (op,) = kernels.fuse(needed(trace.ops, kept), kept)
        self.texts = kernels.texts
        source: CudaSource = op.run.args[0]
        source.resize(size)
        placed = {id(h): a for h, a in zip(stand, arrays, strict=True) if a is not None}
        order = {id(h): i for i, h in enumerate(held.values())}
        self._places: list[Any] = []
        for ref in (*op.inputs, *op.outputs):
            at = id(ref.value.external)
            self._places.append(placed[at] if at in placed else order[at])
        self._kernel = op.run

    def launch(self, numbers: Any) -> None:
        """Run it with the numbers in an array of the device."""
        self._kernel(*[numbers[x : x + 1] if isinstance(x, int) else x for x in self._places])


class Deferred:
    """A function that launches work without numbers: a site of the backend's capture."""

    def __init__(self, backend: Any, function: Callable[[], Any]) -> None:
        self.known: Known = {}
        self.gpu: int = backend.connection.number()
        self._capture: Capture = backend.capture
        self._function = function

    def __call__(self) -> None:
        """Call it when the capture closes."""
        self._capture.call(self, np.zeros(0, np.uint8))

    def launch(self, numbers: Any) -> None:
        """Call it."""
        self._function()
