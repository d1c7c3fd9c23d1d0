"""What is asked of CuPy's streams, graphs and memory, by a double that notes it."""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ldl_cupy import device as module
from ldl_cupy.device import Device


class OutOfMemoryError(Exception):
    pass


class Event:
    def __init__(self, log: list[str]) -> None:
        self.log, self.number = log, -1

    def synchronize(self) -> None:
        self.log.append(f"wait {self.number}")


class Stream:
    def __init__(self, cuda: Any, name: str) -> None:
        self.cuda, self.name, self.capturing = cuda, name, False

    def __enter__(self) -> None:
        self.cuda.current.append(self)

    def __exit__(self, *_: Any) -> None:
        self.cuda.current.pop()

    def record(self, event: Event | None = None) -> Event:
        log = self.cuda.log
        event = Event(log)
        event.number = sum(x.startswith("record") for x in log)
        log.append(f"record {event.number} on {self.name}")
        return event

    def wait_event(self, event: Event) -> None:
        self.cuda.log.append(f"{self.name} after {event.number}")

    def begin_capture(self) -> None:
        assert not self.capturing
        assert self.name != "default", "CUDA refuses to capture the default stream"
        self.capturing = True
        self.cuda.log.append(f"begin on {self.name}")

    def end_capture(self) -> Any:
        assert self.capturing
        self.capturing = False
        log = self.cuda.log
        log.append("end")
        return SimpleNamespace(launch=lambda: log.append(f"launch on {self.cuda.top().name}"))


class Memory(np.ndarray):  # type: ignore[type-arg]
    @property
    def data(self) -> Any:  # type: ignore[override]
        def copy(at: ctypes.c_void_p, nbytes: int, stream: Stream) -> None:
            assert stream is Memory.cuda.top()
            ctypes.memmove(self.ctypes.data, at.value or 0, nbytes)
            Memory.cuda.log.append(f"copy {nbytes}")

        return SimpleNamespace(copy_from_host_async=copy)

    cuda: Any


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
    """The part of `cupy.cuda` that is used."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.current = [Stream(self, "default")]
        self.memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
        self.runtime = SimpleNamespace(memGetInfo=lambda: (3 << 20, 80 << 20))
        Memory.cuda = self

    def top(self) -> Stream:
        return self.current[-1]

    get_current_stream = top

    def Stream(self, non_blocking: bool) -> Stream:
        assert non_blocking
        name = ("private", "second")[self.log.count("new stream") % 2]
        self.log.append("new stream")
        return Stream(self, name)

    def Event(self, disable_timing: bool) -> Event:
        assert disable_timing
        return Event(self.log)

    def MemoryPool(self) -> Any:
        return SimpleNamespace(malloc="private pool")

    def alloc_pinned_memory(self, nbytes: int) -> Pinned:
        self.log.append(f"pin {nbytes}")
        return Pinned(nbytes)

    @contextmanager
    def using_allocator(self, malloc: Any) -> Any:
        assert malloc == "private pool"
        self.log.append("pool")
        yield
        self.log.append("default pool")


@pytest.fixture
def cuda() -> Cuda:
    return Cuda()


def device_of(cuda: Cuda, empty: Any = None) -> Device:
    def plain(n: int, dtype: Any) -> Any:
        return np.zeros(n, dtype).view(Memory)

    pool = SimpleNamespace(free_bytes=lambda: 1 << 20)
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


def test_work_aside_is_on_a_second_stream_between_a_fork_and_a_join(cuda: Cuda) -> None:
    device = device_of(cuda)

    def work() -> None:
        done = device.aside(lambda: cuda.log.append(f"aside on {cuda.top().name}"))
        cuda.log.append(f"work on {cuda.top().name}")
        device.join(done)

    device.capture(work)
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


def test_a_capture_that_fails_is_ended_and_the_next_one_goes_well(cuda: Cuda) -> None:
    device = device_of(cuda)

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        device.capture(fail)
    assert [stream.name for stream in cuda.current] == ["default"]
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
