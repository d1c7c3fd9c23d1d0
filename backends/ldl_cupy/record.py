"""Recording on a device: a traced function as launches of generated kernels and matrix products.

The trace is made on the host, on copies of the arrays, and planned as on NumPy. Loops become CUDA
kernels (`source`), all of a plan's in one module; products are cuBLASLt's; what has no kernel here
is left to CuPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from ldl_numpy.dryrun import Function, dry_run
from ldl_numpy.fuse import fuse
from ldl_numpy.loops import Loop
from ldl_numpy.plan import Place, Plan, needed
from ldl_numpy.record import Recorded, trace_kernel
from ldl_numpy.trace import CannotTraceError, Host, Op, Ref, Value
from ldl_numpy.tracing import Draw

from ldl.nn.differentiable import DeviceError
from ldl.nn.module import Differentiable
from ldl_cupy.launch import Launcher, common
from ldl_cupy.source import CudaSource
from ldl_cupy.tape import Known, Tape

Run = Callable[..., None]

ALIGNED = 16
"""Bytes: kernels read so many at once."""


class Hosts(Place):
    """Arrays of the host that stand for a device's while a function is traced."""

    def __init__(self, device: Any, to_numpy: Callable[[Any], Host], inputs: Sequence[Any]) -> None:
        self._device, self._to_numpy = device, to_numpy
        self._inputs = list(inputs)
        self._hosts: dict[int, tuple[Any, Host]] = {}
        self._devices: dict[int, Any] = {}

    def host(self, array: Any) -> Host:
        """The host's array for one of the device, the same whenever it is asked for.

        CannotTraceError for one, no input, that kernels cannot read as it lies.
        """
        if id(array) not in self._hosts:
            given = any(array is x for x in self._inputs)
            if not given and not (array.flags.c_contiguous and array.data.ptr % ALIGNED == 0):
                raise CannotTraceError(
                    f"an array of shape {tuple(array.shape)} is not C-contiguous, or begins at no "
                    f"multiple of {ALIGNED} bytes: bind a copy of it"
                )
            made = np.array(self._to_numpy(array), order="C")
            self._hosts[id(array)] = array, made
            self._devices[id(made)] = array
        return self._hosts[id(array)][1]

    def stand(self, array: Any, for_: Any) -> None:
        """Let the plan use another array of the device in the place of one."""
        self._devices[id(self.host(for_))] = array

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


def _shaped(raw: Any, like: Host) -> Any:
    return raw[: like.nbytes].view(like.dtype).reshape(like.shape)


class Kernels:
    """The kernels of one plan: a module, compiled when the first of them is launched."""

    def __init__(self, backend: Any) -> None:
        self._device = backend.connection
        self._launcher: Launcher = backend.launcher
        self._matmul: Run = backend.matmul
        self._xp = backend.xp
        self._functions: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        """The kernels' sources, by name."""
        self._module: Any = None
        self.draws: list[Draw] = []
        self.keys: Any = None
        """The draws' keys, on the device."""

    def fuse(self, ops: list[Op], kept: set[Value]) -> list[Op]:
        """The operations, as launches."""
        return [self._translated(op) for op in fuse(ops, kept, self.loop)]

    def loop(self, loop: Loop, stored: set[Value]) -> Op:
        """The loop as one launch."""
        source = CudaSource(loop, stored)
        self.texts[source.name] = source.text
        run = partial(self._launch, source, self._zeros(source))
        return Op(run, tuple(source.inputs), (*source.outputs, *source.sums), ufunc="loop")

    def _zeros(self, source: CudaSource) -> tuple[Any, ...]:
        """Tickets and partial sums."""
        if not source.sums:
            return ()
        sizes = [4 * source.tickets]
        sizes += [
            n * x.value.dtype.itemsize for n, x in zip(source.partials, source.sums, strict=True)
        ]
        tickets, *partial_sums = [self._device.empty(n) for n in sizes]
        self._device.send(np.zeros(tickets.nbytes, np.uint8), tickets)
        return tickets, *partial_sums

    def _launch(self, source: CudaSource, zeros: tuple[Any, ...], *arrays: Any) -> None:
        if self._module is None:
            self._module = self._device.module(common() + "\n".join(self.texts.values()))
        function = self._functions.get(source.name)
        if function is None:
            function = self._functions[source.name] = self._module.get_function(source.name)
        grid, block = source.launch
        sizes = np.int64(source.rows), np.int64(source.columns)
        function(grid, block, (*sizes, *arrays, *zeros))

    def _translated(self, op: Op) -> Op:
        run = self._known(op)
        return op if run is None else Op(run, op.inputs, op.outputs, ufunc=op.ufunc)

    def _known(self, op: Op) -> Run | None:
        """What does it here; None for what is left to CuPy."""
        if isinstance(op.run, Draw):
            self.draws.append(op.run)
            return partial(self._draw, op.run.kind, len(self.draws) - 1)
        if op.ufunc == "matmul" and all(isinstance(x, Ref) for x in op.inputs):
            return self._matmul
        if op.ufunc in ("sum", "max", "min"):
            if op.ufunc != "min" and _along_rows(op):
                return partial(self._reduce, op.ufunc)
            return partial(_cupy_reduce, op.ufunc, op.axis, op.keepdims)
        if op.ufunc == "where":
            return self._where
        if op.ufunc in ("concatenate", "stack") and op.axis is not None:
            return partial(_joined, op.ufunc, op.axis[0])
        return None

    def _where(self, condition: Any, a: Any, b: Any, out: Any) -> None:
        self._xp.copyto(out, self._xp.where(condition, a, b))

    def _draw(self, kind: str, index: int, out: Any) -> None:
        fill = getattr(self._launcher, f"fill_{kind}")
        fill(out, self.keys[3 * index : 3 * index + 3])

    def _reduce(self, kind: str, a: Any, out: Any) -> None:
        self._launcher.reduce_rows(kind, a.reshape(-1, a.shape[-1]), out.reshape(-1))


def _cupy_reduce(kind: str, axis: Any, keepdims: bool, a: Any, out: Any) -> None:
    getattr(a, kind)(axis=axis, out=out, keepdims=keepdims)


def _joined(kind: str, axis: int, *arrays: Any) -> None:
    """Joins arrays by copies: many pointers would go through a table that is sent."""
    *parts, out = arrays
    end = 0
    for i, part in enumerate(parts):
        width = 1 if kind == "stack" else part.shape[axis]
        at = i if kind == "stack" else slice(end, end + width)
        out[(slice(None),) * (axis % out.ndim) + (at,)] = part
        end += width


def _along_rows(op: Op) -> bool:
    """Whether it reduces the last axis of a C-contiguous array of floats, all of it."""
    (x,) = op.inputs
    a, out = (r.resolve(r.value.array) for r in (x, op.outputs[0]))
    return (
        op.axis == (a.ndim - 1,)
        and a.ndim >= 2
        and a.dtype == out.dtype
        and a.dtype in (np.float32, np.float64)
        and a.flags.c_contiguous
        and out.flags.c_contiguous
    )


class DeviceStep(Recorded):
    """A function on a device: a site of the backend's tape."""

    def __init__(
        self,
        backend: Any,
        function: Function,
        parts: Sequence[Differentiable],
        inputs: Sequence[Any],
    ) -> None:
        self._array_type = backend.array_type
        self._check(inputs)
        hosts = Hosts(backend.connection, backend.to_numpy, inputs)
        traced = dry_run(function, parts, inputs, hosts.host)
        super().__init__(function, parts, traced)
        self.known: Known = {}
        self._tape: Tape = backend.tape
        self.gather = backend.launcher.take
        held = {id(x): backend.xp.empty(x.shape, x.dtype) for x in inputs}
        self._inputs = [held[id(x)] for x in inputs]
        for memory, x in zip(self._inputs, inputs, strict=True):
            hosts.stand(memory, x)
        self._sources: dict[Any, _Rows] = {}
        self._kernels = Kernels(backend)
        self._plan = Plan(traced.trace, [], traced.results, self._kernels.fuse, hosts)
        self.does = self._plan.does
        self.bytes = self._plan.bytes

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Play it; arrays among the results are valid until it is played again."""
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

    def rows(self, sources: Sequence[Any], order: Any, start: int, size: int) -> tuple[Any, ...]:
        """Play it on rows of arrays that stay where they are, which the device gathers."""
        key = (*map(id, sources), id(order))
        if key not in self._sources:
            self._sources = {key: _Rows(self, self._inputs, sources, order)}
        return self._call(self._sources[key], [start])

    def _call(self, site: Any, numbers: list[int]) -> tuple[Any, ...]:
        keys = [word for draw in self._kernels.draws for word in draw.stream.next()]
        self._tape.call(site, np.array([*keys, *numbers], np.uint64))
        self.leave_flags()
        return tuple(self._plan.results)

    def launch(self, numbers: Any) -> None:
        """Everything, with the keys of its draws."""
        self._kernels.keys = numbers
        self._plan()


class _Rows:
    """A step on rows that the device gathers: a site whose last number is where they begin."""

    def __init__(
        self, step: DeviceStep, inputs: Sequence[Any], sources: Sequence[Any], order: Any
    ) -> None:
        self.known: Known = {}
        self._step, self._order = step, order
        pairs = dict(zip(map(id, inputs), zip(sources, inputs, strict=True), strict=True))
        self._pairs = list(pairs.values())

    def launch(self, numbers: Any) -> None:
        """Gather, and do everything."""
        start = numbers[-1:].view(np.int64)
        for source, held in self._pairs:
            self._step.gather(source, self._order, held, start)
        self._step.launch(numbers)


class Prepared:
    """A kernel that works in place on vectors, as one launch: a site of the backend's tape."""

    def __init__(
        self,
        backend: Any,
        kernel: str,
        arrays: tuple[Any, ...],
        numbers: tuple[str, ...],
        constants: dict[str, Any],
    ) -> None:
        self.known: Known = {}
        self._tape: Tape = backend.tape
        self._dtype = arrays[0].dtype
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
        source.columns = size
        placed = {id(h): a for h, a in zip(stand, arrays, strict=True) if a is not None}
        order = {id(h): i for i, h in enumerate(held.values())}
        self._places: list[Any] = []
        for ref in (*op.inputs, *op.outputs):
            at = id(ref.value.external)
            self._places.append(placed[at] if at in placed else order[at])
        self._run = op.run

    def __call__(self, *values: float) -> None:
        """Run it with these numbers."""
        self._tape.call(self, np.array(values, self._dtype))

    def launch(self, numbers: Any) -> None:
        """Run it with the numbers in an array of the device."""
        self._run(*[numbers[x : x + 1] if isinstance(x, int) else x for x in self._places])


class Deferred:
    """A function that launches work without numbers: a site of the backend's tape."""

    def __init__(self, tape: Tape, function: Callable[[], Any]) -> None:
        self.known: Known = {}
        self._tape, self._function = tape, function

    def __call__(self) -> None:
        """Call it when the tape closes."""
        self._tape.call(self, np.zeros(0, np.uint8))

    def launch(self, numbers: Any) -> None:
        """Call it."""
        self._function()
