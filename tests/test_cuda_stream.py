"""What is asked of CuPy's streams, graphs and memory, by a double that notes it."""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import cupy
import numpy as np
import pytest

from fake_cublaslt import CUDARuntimeError, FakeCupy, free
from interrupts import interrupt
from ldl_cupy import device as module
from ldl_cupy.capture import Capture
from ldl_cupy.device import Device


class OutOfMemoryError(Exception):
    pass


class Event:
    def __init__(self, cuda: Any) -> None:
        self.cuda, self.log, self.number, self.gpu = cuda, cuda.log, -1, cuda.gpu

    def synchronize(self) -> None:
        self.log.append(f"wait {self.number}")


class Stream:
    """A stream of the GPU that was current when it was made, as CuPy has them."""

    handles = count(100)

    def __init__(self, cuda: Any, name: str, ptr: int | None = None) -> None:
        self.cuda, self.name, self.capturing = cuda, name, False
        self.ptr = next(Stream.handles) if ptr is None else ptr
        self.gpu = cuda.gpu
        self.gone = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __enter__(self) -> None:
        assert self.gpu == self.cuda.gpu, "CuPy refuses a stream of another GPU"
        self.cuda.stack.append(self)

    def __exit__(self, *_: Any) -> None:
        self.cuda.stack.pop()

    def record(self, event: Event | None = None) -> Event:
        if self.gone:
            raise RuntimeError("cudaErrorInvalidResourceHandle")
        log = self.cuda.log
        event = event or Event(self.cuda)
        assert event.gpu == self.gpu, "an event and its stream are of one GPU"
        event.number = sum(x.startswith("record") for x in log)
        log.append(f"record {event.number} on {self.name}")
        return event

    def wait_event(self, event: Event) -> None:
        self.cuda.log.append(f"{self.name} after {event.number}")

    def synchronize(self) -> None:
        self.cuda.log.append(f"synchronize {self.name}")

    def begin_capture(self) -> None:
        assert not self.capturing
        assert self.ptr not in (0, 2), "CUDA refuses to capture the default stream"
        self.capturing = True
        self.cuda.log.append(f"begin on {self.name}")

    def end_capture(self) -> Any:
        assert self.capturing
        self.capturing = False
        log, gpu = self.cuda.log, self.gpu
        log.append("end")

        def launch() -> None:
            assert self.cuda.top().gpu == gpu, "a graph is of one GPU"
            log.append(f"launch on {self.cuda.top().name}")

        return SimpleNamespace(launch=launch)


class Memory(np.ndarray):  # type: ignore[type-arg]
    @property
    def data(self) -> Any:  # type: ignore[override]
        def copy(at: ctypes.c_void_p, nbytes: int, stream: Stream) -> None:
            assert stream is Memory.cuda.top()
            if stream.capturing:
                raise RuntimeError("the current stream is capturing")
            ctypes.memmove(self.ctypes.data, at.value or 0, nbytes)
            Memory.cuda.log.append(f"copy {nbytes}")

        return SimpleNamespace(copy_from_host_async=copy)

    cuda: Any


class On:
    """A GPU that is the current one inside the block."""

    def __init__(self, cuda: Any) -> None:
        self.cuda, self.gpu = cuda, cuda.gpu
        self.before: list[int] = []

    def __enter__(self) -> None:
        self.before.append(self.cuda.gpu)
        self.cuda.gpu = self.gpu

    def __exit__(self, *_: Any) -> None:
        self.cuda.gpu = self.before.pop()


class Pinned:
    def __init__(self, nbytes: int) -> None:
        self.held = np.zeros(nbytes, np.uint8)
        self.ptr = self.held.ctypes.data
        self.mem = SimpleNamespace(size=nbytes)

    def __buffer__(self, flags: int) -> memoryview:
        return self.held.data

    @property
    def __array_interface__(self) -> Any:
        return self.held.__array_interface__


class Cuda:
    """The part of `cupy.cuda` that is used, for two GPUs."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gpu = 0
        self.stacks: list[list[Stream]] = []
        for gpu in (0, 1):
            self.gpu = gpu
            self.stacks.append([Stream(self, "default", 0)])
        self.gpu = 0
        self.room = 100
        self.memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
        self.runtime = SimpleNamespace(
            memGetInfo=lambda: (3 << 20, 80 << 20),
            getDevice=lambda: self.gpu,
            deviceSynchronize=lambda: self.log.append("synchronize"),
            CUDARuntimeError=CUDARuntimeError,
        )
        Memory.cuda = self

    @property
    def stack(self) -> list[Stream]:
        """The streams that were entered on the current GPU."""
        return self.stacks[self.gpu]

    def top(self) -> Stream:
        return self.stack[-1]

    get_current_stream = top

    def Stream(self, non_blocking: bool) -> Stream:
        assert non_blocking
        name = ("private", "second")[self.log.count("new stream") % 2]
        self.log.append("new stream")
        return Stream(self, name)

    def Event(self, disable_timing: bool) -> Event:
        assert disable_timing
        return Event(self)

    def MemoryPool(self, allocator: Any) -> Any:
        self.allocator = allocator
        return SimpleNamespace(
            malloc="private pool",
            total_bytes=lambda: 512,
            free_all_blocks=lambda: self.log.append(f"give back on {self.gpu}"),
        )

    def Device(self) -> On:
        return On(self)

    def Memory(self, nbytes: int) -> Any:
        if nbytes > self.room:
            raise CUDARuntimeError(2)
        return SimpleNamespace(size=nbytes)

    def MemoryPointer(self, memory: Any, offset: int) -> Any:
        return memory

    def alloc_pinned_memory(self, nbytes: int) -> Pinned:
        self.log.append(f"pin {nbytes}")
        return Pinned(nbytes)

    @contextmanager
    def using_allocator(self, malloc: Any) -> Any:
        assert malloc == "private pool"
        self.log.append("pool")
        try:
            yield
        finally:
            self.log.append("default pool")


@pytest.fixture
def cuda() -> Cuda:
    return Cuda()


def device_of(cuda: Cuda, empty: Any = None) -> Device:
    def plain(n: int, dtype: Any) -> Any:
        return np.zeros(n, dtype).view(Memory)

    def give_back() -> None:
        cuda.room = 200

    pool = SimpleNamespace(free_bytes=lambda: 1 << 20, free_all_blocks=give_back)
    xp = SimpleNamespace(
        cuda=cuda, empty=empty or plain, get_default_memory_pool=lambda: pool, RawModule=dict
    )
    return Device(xp, lambda: cuda.log.append(f"ready on {cuda.top().name}"))


@pytest.fixture(autouse=True)
def plain_buffers(monkeypatch: Any) -> None:
    """Python 3.11 has no buffers in Python: the double's are read by their address."""
    frombuffer = np.frombuffer

    def read(held: Any, dtype: Any, count: int) -> Any:
        return frombuffer(held.held if isinstance(held, Pinned) else held, dtype, count)

    monkeypatch.setattr(module.np, "frombuffer", read)


def test_the_doubles_have_what_cupy_has() -> None:
    own = {"top", "stack", "stacks", "gpu", "log", "room", "allocator"}
    for double, real in (
        (Cuda(), cupy.cuda),
        (Cuda().runtime, cupy.cuda.runtime),
        (FakeCupy().cuda, cupy.cuda),
        (FakeCupy().cuda.runtime, cupy.cuda.runtime),
    ):
        for name in {name for name in dir(double) if not name.startswith("_")} - own:
            assert hasattr(real, name), name
    for name in ("record", "wait_event", "synchronize", "begin_capture", "end_capture"):
        assert hasattr(Stream, name)
        assert hasattr(cupy.cuda.Stream, name)
    assert cupy.cuda.runtime.streamPerThread == module.PER_THREAD
    error = cupy.cuda.runtime.CUDARuntimeError(module.OUT_OF_MEMORY)
    assert "cudaErrorMemoryAllocation" in str(error)
    assert error.status == module.OUT_OF_MEMORY


def test_a_capture_is_on_a_private_stream_and_pool_and_launched_on_the_current_one(
    cuda: Cuda,
) -> None:
    device = device_of(cuda)
    graph = device.capture(lambda: cuda.log.append(f"work on {cuda.top().name}"))
    assert cuda.log == [
        "new stream",
        "new stream",
        "pool",
        "ready on second",
        "ready on private",
        "begin on private",
        "work on private",
        "end",
        "default pool",
    ]
    cuda.log.clear()
    graph.launch()
    assert cuda.log == ["launch on default"]
    device.capture(lambda: None)
    assert "new stream" not in cuda.log, "the same streams, so the same workspaces, for all"


def test_a_graphs_memory_is_given_back_with_it_on_its_own_gpu(cuda: Cuda) -> None:
    device = device_of(cuda)
    cuda.gpu = 1
    graph = device.capture(lambda: None)
    cuda.gpu = 0
    assert not any("give back" in line for line in cuda.log), "as long as it can be launched"
    del graph
    assert cuda.log[-1] == "give back on 1"
    assert cuda.gpu == 0


def test_the_memory_of_a_capture_that_fails_is_given_back_too(cuda: Cuda) -> None:
    device = device_of(cuda)
    with pytest.raises(ZeroDivisionError):
        device.capture(lambda: cuda.log.append(1 / 0))  # type: ignore[arg-type]
    assert "give back on 0" in cuda.log


def test_work_aside_is_on_a_second_stream_between_a_fork_and_a_join(cuda: Cuda) -> None:
    device = device_of(cuda)

    def work() -> None:
        done = device.aside(lambda: cuda.log.append(f"aside on {cuda.top().name}"))
        cuda.log.append(f"work on {cuda.top().name}")
        device.join(done)

    graph = device.capture(work)
    assert cuda.log[cuda.log.index("begin on private") : -1] == [
        "begin on private",
        "record 0 on private",
        "second after 0",
        "aside on second",
        "record 1 on second",
        "work on private",
        "private after 1",
        "end",
    ]
    cuda.log.clear()
    work()
    assert cuda.log == ["aside on default", "work on default"], "one stream without a capture"
    del graph


def test_a_capture_that_fails_is_ended_and_the_next_one_goes_well(cuda: Cuda) -> None:
    device = device_of(cuda)

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        device.capture(fail)
    assert [stream.name for stream in cuda.stack] == ["default"]
    device.capture(lambda: None)
    assert cuda.log.count("end") == 2
    assert cuda.log.count("new stream") == 4, "those that failed may have been left in a capture"


def test_graphs_on_two_streams_wait_for_each_other_for_their_workspace_is_one(cuda: Cuda) -> None:
    device = device_of(cuda)
    first, second = device.capture(lambda: None), device.capture(lambda: None)
    cuda.log.clear()
    first.launch()
    second.launch()
    with Stream(cuda, "another"):
        first.launch()
        first.launch()
    assert cuda.log == [
        "launch on default",
        "launch on default",
        "record 0 on default",
        "another after 0",
        "launch on another",
        "launch on another",
    ]


class Site:
    """A site that launches nothing by itself."""

    gpu = 0

    def __init__(self) -> None:
        self.known: dict[Any, Any] = {}

    def launch(self, numbers: Any) -> None:
        pass


def test_a_graph_is_counted_exactly_when_it_was_launched_wherever_an_interrupt_comes(
    cuda: Cuda,
) -> None:
    capture, site = Capture(device_of(cuda)), Site()

    def step() -> None:
        with capture:
            capture.call(site, np.zeros(4, np.uint64))

    for _ in range(3):
        step()
    for line in count():
        cuda.log.clear()
        before = capture.graphs
        where = interrupt(step, line)
        assert capture.graphs - before == cuda.log.count("launch on default"), where
        if where is None:
            break
    assert line > 20


def test_a_copy_waits_for_nothing_until_the_ring_is_full(cuda: Cuda) -> None:
    device = device_of(cuda)
    to = device.empty(24)
    staged = np.zeros(24, np.uint8)
    for i in range(module.RING + 2):
        staged[:] = i
        device.send(staged, to)
        assert (np.asarray(to) == i).all()
    waits = [x for x in cuda.log if x.startswith("wait")]
    assert waits == ["wait 0", "wait 1"]
    assert cuda.log.count("pin 24") == module.RING, "page-locked memory is used again"


def test_threads_send_each_its_own(cuda: Cuda, monkeypatch: Any) -> None:
    monkeypatch.setattr(Event, "synchronize", lambda self: time.sleep(1e-3))
    device = device_of(cuda)
    wrong: list[int] = []

    def send(i: int) -> None:
        staged, to = np.full(64, i, np.uint8), device.empty(64)
        for _ in range(20):
            device.send(staged, to)
            wrong.extend(x for x in np.asarray(to) if x != i)

    threads = [threading.Thread(target=send, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_large_arrays_are_sent_in_chunks(cuda: Cuda, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    device = device_of(cuda)
    to = device.empty(2500)
    staged = np.arange(2500).astype(np.uint8)
    device.send(staged, to)
    np.testing.assert_array_equal(np.asarray(to), staged)
    assert [x for x in cuda.log if x.startswith("copy")] == ["copy 1000", "copy 1000", "copy 500"]


def test_too_little_memory_is_an_error_that_names_the_sizes(cuda: Cuda) -> None:
    def full(n: int, dtype: Any) -> Any:
        raise OutOfMemoryError

    with pytest.raises(MemoryError, match="3 MiB of 80 MiB free and 512 MiB more"):
        device_of(cuda, full).empty(512 << 20)


def test_data_fit_that_leave_a_fifth_of_the_free_memory(cuda: Cuda) -> None:
    device = device_of(cuda)
    assert device.fits(3 << 20)
    assert not device.fits((3 << 20) + (1 << 18))


# ---- one stream after another ------------------------------------------------------------------


def test_a_stream_waits_for_the_one_that_worked_before_it_and_not_for_itself(cuda: Cuda) -> None:
    device = device_of(cuda)
    for _ in range(2):
        device.turn()
    assert not cuda.log
    with Stream(cuda, "another"):
        device.turn()
        device.turn()
    device.turn()
    assert cuda.log == [
        *("record 0 on default", "another after 0"),
        *("record 1 on another", "default after 1"),
    ]


def test_a_stream_that_is_no_more_is_waited_for_with_all_others(cuda: Cuda) -> None:
    device = device_of(cuda)
    with Stream(cuda, "another"):
        device.turn()
        cuda.top().gone = True
    device.turn()
    device.turn()
    assert cuda.log == ["synchronize"]


def test_the_threads_own_streams_are_told_apart(cuda: Cuda) -> None:
    device = device_of(cuda)

    def work() -> None:
        with Stream(cuda, "own", 2):
            device.turn()
            device.turn()

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    work()
    assert cuda.log == ["synchronize", "synchronize"]


def test_a_thread_that_waits_for_all_streams_holds_up_no_capture(cuda: Cuda) -> None:
    device = device_of(cuda)
    with Stream(cuda, "another"):
        device.turn()
        cuda.top().gone = True
    found: list[bool] = []
    lock = device._here()._lock
    cuda.runtime.deviceSynchronize = lambda: found.append(free(lock))
    device.turn()
    assert found == [True]


# ---- interrupts ----------------------------------------------------------------------------------


def test_a_copy_that_no_event_tells_of_is_waited_for(cuda: Cuda, monkeypatch: Any) -> None:
    device = device_of(cuda)
    to = device.empty(8)

    def interrupted(self: Stream, event: Any = None) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            device.send(np.zeros(8, np.uint8), to)
    assert cuda.log == ["pin 8", "copy 8", "synchronize default"]
    device.send(np.ones(8, np.uint8), to)
    assert (np.asarray(to) == 1).all()


@pytest.mark.parametrize("where", ["ready", "begin_capture", "work", "end_capture"])
def test_an_interrupted_capture_leaves_its_streams_to_nobody(
    cuda: Cuda, where: str, monkeypatch: Any
) -> None:
    device = device_of(cuda)
    before = device.capture(lambda: None)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if where == "ready":
            patched.setattr(device, "_ready", interrupted)
        elif where != "work":
            patched.setattr(Stream, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            device.capture(interrupted)
    assert [stream.name for stream in cuda.stack] == ["default"]
    assert cuda.log.count("pool") == cuda.log.count("default pool")
    after = device.capture(lambda: None)
    after.launch()
    before.launch()
    assert cuda.log.count("new stream") == 4
    assert cuda.log[-2:] == ["launch on default"] * 2


def test_a_thread_that_captures_holds_what_a_search_for_algorithms_takes(cuda: Cuda) -> None:
    found: list[bool] = []
    device = device_of(cuda)
    device.capture(lambda: found.append(free(module.capturing)))
    assert found == [False]
    assert free(module.capturing)


def test_a_copy_from_the_host_is_no_part_of_a_graph(cuda: Cuda) -> None:
    device = device_of(cuda)
    to = device.empty(8)
    with pytest.raises(RuntimeError, match="capturing"):
        device.capture(lambda: device.send(np.ones(8, np.uint8), to))
    device.send(np.ones(8, np.uint8), to)
    assert (np.asarray(to) == 1).all()


def test_a_graphs_own_pool_is_not_told_of_cudas_errors(cuda: Cuda) -> None:
    """It would give back, and take again, what earlier nodes of the graph work in."""
    device = device_of(cuda)
    found: list[Any] = []

    def work() -> None:
        found.extend(cuda.allocator(n).size for n in (100, 150))
        cuda.allocator(300)

    with pytest.raises(MemoryError, match=r"no room for .* of a graph's own"):
        device.capture(work)
    assert found == [100, 150], "the second from what the general pool gave back"


# ---- several GPUs --------------------------------------------------------------------------------


def test_each_gpu_has_its_own_ring_streams_and_last_stream(cuda: Cuda) -> None:
    device = device_of(cuda)
    graphs: list[Any] = []
    for turn in range(2 * module.RING + 2):
        cuda.gpu = turn % 2
        device.send(np.full(8, turn, np.uint8), device.empty(8))
        device.turn()
        graphs.append(device.capture(lambda: device.join(device.aside(lambda: None))))
        graphs[turn % 2].launch()
    assert cuda.log.count("new stream") == 4
    assert cuda.log.count("pin 8") == 2 * module.RING
    assert len([x for x in cuda.log if x.startswith("wait")]) == 2
