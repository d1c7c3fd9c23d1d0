"""The CuPy backend without CuPy: its arrays on the host, its kernels run there, its graphs kept.

`CudaOnHost` is `ldl_cupy.CupyBackend` but for the device behind it: `connection.log` says what was
asked of the stream, in order. Work that is captured is not done until its graph is launched; the
two streams of a graph then take turns at random, as far as they do not wait for each other.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from cuda_host import Strided, compile_host
from fake_cublaslt import widened
from ldl import arrays
from ldl.backend import Backend
from ldl.prepared import play
from ldl_cupy import CupyBackend, launch


class DeviceArray(np.ndarray):  # type: ignore[type-arg]
    """An array on the host with its address where CuPy has it; what is done to it is logged."""

    stream: Stream

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data, device_id=getattr(self, "gpu", 0))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return DeviceArray.stream.compute(getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in (np.shares_memory, np.may_share_memory):
            return function(*_plain(args), **kwargs)
        return DeviceArray.stream.compute(function, args, kwargs)

    def __getitem__(self, index: Any) -> Any:
        """A view, of one element too, or what CuPy gathers."""
        held, parts = np.asarray(self), index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, (np.ndarray, list)) for part in parts):
            return DeviceArray.stream.compute(np.ndarray.__getitem__, (held, index), {})
        seen = held[index]
        return (seen if isinstance(seen, np.ndarray) else held[(*parts, ...)]).view(DeviceArray)

    def __setitem__(self, index: Any, value: Any) -> None:
        held = np.asarray(self)
        DeviceArray.stream.do("copy", lambda: held.__setitem__(_plain(index), _plain(value)))


def _method(name: str) -> Any:
    """A method of NumPy's that may copy, which is then work of the device."""
    plainly = getattr(np.ndarray, name)

    def call(self: DeviceArray, *args: Any, **kwargs: Any) -> Any:
        held = np.asarray(self)
        seen = plainly(held, *_plain(args), **_plain(kwargs))
        if np.may_share_memory(seen, held) or not DeviceArray.stream.captures:
            return np.asarray(seen).view(DeviceArray)
        return DeviceArray.stream.compute(plainly, (self, *args), kwargs)

    return call


for _name in ("reshape", "ravel", "flatten", "astype", "copy", "take", "argmax", "argmin", "dot"):
    setattr(DeviceArray, _name, _method(_name))


def _is_view(result: Any, args: Any) -> bool:
    """Whether a function gave a view of an argument, which is no work."""
    arrays = (
        [x for x in args if isinstance(x, np.ndarray)] if isinstance(result, np.ndarray) else []
    )
    given = any(result is x for x in arrays)
    return not given and any(np.may_share_memory(result, x) for x in arrays)


def _harmless(function: Any, args: Any) -> Any:
    """Arguments of like shapes, whatever lies in memory: indices that there are, copies of what is
    written to."""
    if getattr(function, "__name__", "") in ("at", "put_along_axis"):
        args = args[0].copy(), *args[1:]
    elif getattr(function, "__name__", "") not in ("take", "take_along_axis", "__getitem__"):
        return args
    return tuple(_zeros(x) if i else x for i, x in enumerate(args))


def _zeros(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return type(x)(map(_zeros, x))
    return np.zeros_like(x) if isinstance(x, np.ndarray) and x.dtype.kind in "iu" else x


def _plain(x: Any) -> Any:
    """The same with host arrays inside."""
    if isinstance(x, DeviceArray):
        return np.asarray(x)
    if isinstance(x, (tuple, list)):
        return type(x)(map(_plain, x))
    return {k: _plain(v) for k, v in x.items()} if isinstance(x, dict) else x


def on_device(a: Any) -> Any:
    return np.array(a, order="C").view(DeviceArray)


class Module:
    """A RawModule whose kernels run on the host, or are captured."""

    def __init__(self, stream: Stream, code: str) -> None:
        self.stream, self.code = stream, code
        self.sanitize = stream.sanitize
        self.host: Any = None

    def get_function(self, name: str) -> Any:
        if self.stream.refuses and self.stream.refuses in self.code:
            raise RuntimeError(f"kernels.cu(7): error: no {self.stream.refuses}\nand much more")

        def run(grid: Any, block: Any, args: Any) -> None:
            assert all(1 <= n < 2**16 for n in grid[1:])
            assert 1 <= np.prod(block) <= launch.BLOCK
            self.stream.do(name, lambda: self._run(name, grid, block, args))

        return run

    def _run(self, name: str, grid: Any, block: Any, args: Any) -> None:
        if self.host is None:
            self.host = compile_host(self.code, self.sanitize)
        flat = _strided if name.startswith("loop_") else _flat
        given = [flat(a) for a in args]
        given = [None if a is launch.NULL else a for a in given]
        self.host.run(name, grid, block, *given)


def _flat(a: Any) -> Any:
    return np.asarray(a) if isinstance(a, np.ndarray) else a


def _strided(a: Any) -> Any:
    return Strided(np.asarray(a)) if isinstance(a, np.ndarray) else a


class Node(NamedTuple):
    """A piece of captured work."""

    queue: int
    work: Any
    after: int | None


class Stream:
    """What `ldl_cupy.device.Device` is, with a log instead of a GPU."""

    def __init__(self, sanitize: bool) -> None:
        DeviceArray.stream = self
        self.sanitize = sanitize
        self.log: list[str] = []
        self._captured: list[Node] | None = None
        self._lane = 0
        self._turns = np.random.default_rng(0)
        self.fails = ""
        """What cannot be captured."""
        self.lacks = ""
        """What CuPy does not have."""
        self.refuses = ""
        """What sources that hold it do not compile for."""
        self.room: float = float("inf")
        self.gpu = 0
        self.lazy = False
        self.current = self._used = "default"
        """The streams: the current one, and that which worked last."""
        self._queues: dict[str, list[Any]] = {}

    @property
    def captures(self) -> bool:
        """Whether work is noted and not done."""
        return self.lazy or self._captured is not None

    def do(self, name: str, work: Any) -> None:
        self.log.append(name)
        if self._captured is not None:
            if name == self.fails:
                raise RuntimeError(f"{name} cannot be captured")
            self._note(work)
        else:
            self._put(work)

    def _put(self, work: Any, after: tuple[str, int] | None = None) -> None:
        """Do it; where the streams are `lazy`, when they are waited for."""
        if self.lazy:
            self._queues.setdefault(self.current, []).append((work, after))
        else:
            work()

    def finish(self, seed: int) -> None:
        """Do what the streams have been given, in an order of theirs."""
        turns, done = np.random.default_rng(seed), dict.fromkeys(self._queues, 0)
        while any(done[name] < len(queue) for name, queue in self._queues.items()):
            name = str(turns.choice(list(self._queues)))
            for work, after in self._queues[name][done[name] : done[name] + 1]:
                if after is None or done[after[0]] >= after[1]:
                    work()
                    done[name] += 1
        self._queues.clear()

    def _note(self, work: Any, after: int | None = None) -> None:
        """A node: after those before it in its queue and `after` many of the other."""
        assert self._captured is not None
        self._captured.append(Node(self._lane, work, after))

    def compute(self, function: Any, args: Any, kwargs: Any) -> Any:
        """An operation of CuPy's own: a result in memory that is filled when its turn comes."""
        if getattr(function, "__name__", "") == self.lacks:
            raise TypeError(f"no implementation found for {self.lacks}")
        args, kwargs = _plain(args), _plain(kwargs)
        out = kwargs.get("out")
        put = self._put if self._captured is None else self._note
        self.log.append(getattr(function, "__name__", "cupy"))
        if not self.lazy and self._captured is None:
            result = function(*args, **kwargs)
        elif out is not None:
            put(lambda: function(*args, **kwargs))
            result = out[0] if isinstance(out, tuple) else out
        else:
            result = function(*_harmless(function, args), **kwargs)
            if _is_view(result, args):
                pass
            elif isinstance(result, (np.ndarray, np.generic)) and all(
                result is not x for x in args
            ):
                result = made = np.asarray(result)
                put(lambda: made.__setitem__(..., function(*args, **kwargs)))
            else:
                put(lambda: function(*args, **kwargs))
        if isinstance(result, (np.ndarray, np.generic)):
            return np.asarray(result).view(DeviceArray)
        return result

    def empty(self, nbytes: int) -> Any:
        assert self._captured is None, "memory is taken before a capture"
        return np.full(nbytes, 0xFF, np.uint8).view(DeviceArray)

    def number(self) -> int:
        return self.gpu

    def communicator(self, world: Any) -> Any:
        """What NCCL's does, by MPI: work of the stream, done when its turn comes."""
        return SimpleNamespace(add_up=partial(self._add_up, world))

    def _add_up(self, world: Any, array: Any) -> None:
        held = np.asarray(array)
        self.do("all-reduce", lambda: world.add_up(held))

    def turn(self) -> None:
        used, self._used = self._used, self.current
        if self.lazy and used != self.current and used in self._queues:
            self._put(lambda: None, (used, len(self._queues[used])))

    def fits(self, nbytes: int) -> bool:
        return nbytes <= self.room

    def send(self, staged: Any, to: Any) -> None:
        if staged.nbytes:
            assert self._captured is None, "a copy from the host would be captured"
            assert staged.nbytes == to.nbytes
            self.log.append("send")
            held, pinned = np.asarray(to), staged.copy()
            self._put(lambda: np.copyto(held, pinned))

    def module(self, text: str) -> Module:
        self.log.append("module")
        return Module(self, text)

    def capture(self, work: Any) -> Any:
        self.log.append("begin")
        self._captured = []
        try:
            work()
            captured = self._captured
        finally:
            self._captured = None
        joined = max((node.after or 0 for node in captured if node.queue == 0), default=0)
        assert joined == sum(node.queue for node in captured), "the second stream was not joined"
        self.log.append("end")
        return SimpleNamespace(launch=partial(self._launch, captured))

    def aside(self, work: Any) -> Any:
        if self._captured is None:
            work()
            return None
        fork = sum(node.queue == 0 for node in self._captured)
        self._lane = 1
        try:
            self._note(lambda: None, fork)
            work()
        finally:
            self._lane = 0
        return sum(node.queue for node in self._captured)

    def join(self, done: Any) -> None:
        assert (done is None) == (self._captured is None)
        if done is not None:
            self._note(lambda: None, done)

    def _launch(self, captured: list[Node], *calls: Any) -> None:
        self.log.append("graph")
        self.turn()
        play([(self._put, partial(self._play, captured)), *calls])

    def _play(self, captured: list[Node]) -> None:
        queues = [[node for node in captured if node.queue == queue] for queue in (0, 1)]
        done = [0, 0]
        while done != [len(queue) for queue in queues]:
            queue = int(self._turns.integers(2))
            if done[queue] == len(queues[queue]):
                continue
            node = queues[queue][done[queue]]
            if done[1 - queue] >= (node.after or 0):
                node.work()
                done[queue] += 1


def _check_apart(out: Any, *operands: Any) -> None:
    assert not any(np.shares_memory(out, x) for x in operands), "a product into its own operand"


class Gemm:
    """`ldl_cupy.gemm` on the host. It `has` these epilogues; what is asked of them is noted."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.has = {"bias", "sums_a", "sums_b", "uint16"}

    def offers(self, epilogue: str | None, a: Any, b: Any, out: Any) -> bool:
        assert out.shape == np.matmul(np.ones(a.shape), np.ones(b.shape)).shape
        return (epilogue or a.dtype.name) in self.has

    def matmul_bf16(self, a: Any, b: Any, out: Any) -> None:
        held, narrow = np.asarray(out), _plain((a, b))
        assert {x.dtype for x in narrow} == {np.dtype("u2")}
        assert not any(x.ctypes.data % 16 for x in (*narrow, held))
        _check_apart(held, *narrow)

        def product() -> None:
            left, right = map(widened, narrow)
            np.copyto(held, left @ right)

        self.stream.do("matmul_bf16", product)

    def matmul_bias(self, a: Any, b: Any, bias: Any, out: Any) -> None:
        given, held = _plain((a, b, bias)), np.asarray(out)
        _check_apart(held, *given)

        def product() -> None:
            np.copyto(held, given[0] @ given[1] + given[2])

        self.stream.do("matmul_bias", product)

    def matmul_sums(self, a: Any, b: Any, out: Any, sums: Any, of: str) -> bool:
        if f"sums_{of}" not in self.has:
            return False
        (a, b), held, totals = _plain((a, b)), np.asarray(out), np.asarray(sums)
        _check_apart(held, a, b, totals)
        _check_apart(totals, a, b)

        def product() -> None:
            np.copyto(held, a @ b)
            np.copyto(totals, b.sum(0) if of == "b" else a.sum(1))

        self.stream.do("matmul_sums", product)
        return True


class CudaOnHost(CupyBackend):
    """The CuPy backend on the host."""

    def __init__(self, sanitize: bool = False) -> None:
        stream = Stream(sanitize)

        def raw_module(code: str, options: Any) -> Module:
            assert options == launch.OPTIONS
            return Module(stream, code)

        runtime = SimpleNamespace(getDevice=stream.number)
        self._connect(_Namespace(raw_module, runtime), DeviceArray, stream, Gemm(stream))

    device = "the host"

    def asarray(self, data: Any, dtype: Any = None) -> Any:
        return arrays.host(data, dtype).view(DeviceArray)

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def synchronize(self) -> None:
        pass

    def matmul(self, a: Any, b: Any, out: Any = None, accumulate: bool = False) -> Any:
        if out is None:
            return np.matmul(a, b)
        a, b, held = np.asarray(a), np.asarray(b), np.asarray(out)
        _check_apart(held, a, b)

        def product() -> None:
            np.copyto(held, held + a @ b if accumulate else a @ b)

        self.connection.do("matmul", product)
        return out

    def linear(self, x: Any, weight: Any, bias: Any) -> Any:
        return Backend.linear(self, x, weight, bias)


class _Namespace:
    """NumPy, whose new arrays are the device's."""

    def __init__(self, raw_module: Any, runtime: Any) -> None:
        self.RawModule = raw_module
        self.cuda = SimpleNamespace(runtime=runtime)

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if name == "ascontiguousarray":
            return lambda a: a if a.flags.c_contiguous else a.copy()
        if name in ("zeros", "empty", "ones", "full", "arange"):
            return lambda *args, **kwargs: on_device(found(*args, **kwargs))
        return found
