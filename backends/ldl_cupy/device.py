"""What ldl needs of CuPy beside arrays: modules, copies from the host, and captured graphs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import c_void_p
from threading import RLock, local
from typing import Any

import numpy as np

from ldl.prepared import play
from ldl_cupy.launch import OPTIONS
from ldl_cupy.nccl import Nccl, communicator

RING = 4
"""Copies from the host that may be under way on a GPU; one more waits for the first."""

CHUNK = 2**24
"""The most bytes of one copy."""

SHARE = 0.8
"""The part of the free memory that data may take."""

PER_THREAD = 2
"""The handle that stands for every thread's own default stream."""

OUT_OF_MEMORY = 2
"""The status cudaErrorMemoryAllocation, which CuPy does not name."""

capturing = RLock()
"""Held while a stream captures, and while cuBLASLt looks for an algorithm, which that of CUDA 13.3
refuses meanwhile, whichever thread asks."""


class _Thread(local):
    """The thread that looks at it."""

    def __init__(self) -> None:
        self.own = object()


_thread = _Thread()


class Device:
    """CuPy's current GPU and stream, whichever they are when a method is called.

    Arrays, kernels and recordings belong to the GPU that was current when they were made, so that
    what is done with them is done inside `with cupy.cuda.Device(number)` too. `ready` is called on
    each stream that captures, before it begins, and gives what the graph keeps.
    """

    def __init__(self, xp: Any, ready: Callable[[], Any]) -> None:
        self.xp = xp
        self._ready = ready
        self._gpus: dict[int, _Gpu] = {}
        self._communicators: dict[tuple[int, int], Any] = {}

    def number(self) -> int:
        """The current GPU's number."""
        return int(self.xp.cuda.runtime.getDevice())

    def choose(self, number: int) -> None:
        """Make the GPU of that number the current one, counted round where there are fewer."""
        runtime = self.xp.cuda.runtime
        runtime.setDevice(number % runtime.getDeviceCount())

    def communicator(self, world: Any) -> Nccl | None:
        """What adds up arrays of the current GPU over a world's ranks, all of which ask for it."""
        key = self.number(), id(world)
        if key not in self._communicators:
            self._communicators[key] = communicator(self.xp.cuda, world), world
        found: Nccl | None = self._communicators[key][0]
        return found

    def _here(self) -> _Gpu:
        number = self.number()
        return self._gpus.get(number) or self._gpus.setdefault(number, _Gpu(self.xp.cuda))

    def empty(self, nbytes: int) -> Any:
        """Bytes, at a multiple of 512; MemoryError with the sizes where there are not so many."""
        lacking = self.xp.cuda.memory.OutOfMemoryError
        try:
            return self.xp.empty(nbytes, np.uint8)
        except lacking:
            gc.collect()  # models of the past, whose steps and graphs refer to each other
        try:
            return self.xp.empty(nbytes, np.uint8)
        except lacking as error:
            free, total = self.xp.cuda.runtime.memGetInfo()
            raise MemoryError(
                f"the device has {_mib(free)} of {_mib(total)} free and {_mib(nbytes)} more are "
                "needed: use smaller batches, or keep the data on the host"
            ) from error

    def fits(self, nbytes: int) -> bool:
        """Whether data of that size leave room for the rest."""
        pool = self.xp.get_default_memory_pool()
        free = self.xp.cuda.runtime.memGetInfo()[0] + pool.free_bytes()
        return bool(nbytes <= SHARE * free)

    def send(self, staged: np.ndarray[Any, Any], to: Any) -> None:
        """Copy bytes of the host, which may change at once, in the order of the stream.

        They pass through page-locked memory, so that nothing waits unless `RING` copies are still
        under way.
        """
        gpu = self._here()
        for first in range(0, staged.nbytes, CHUNK):
            part = staged[first : first + CHUNK]
            gpu.send(part, to[first : first + part.nbytes])

    def module(self, text: str) -> Any:
        """A module of that source; it is compiled when its first kernel is asked for."""
        return self.xp.RawModule(code=text, options=OPTIONS)

    def turn(self) -> None:
        """Let the current stream wait for what was last done on another: they share memory."""
        self._here().play()

    def capture(self, work: Callable[[], None]) -> Captured:
        """A graph of what `work` launches, which is not done yet.

        Memory that it takes from CuPy meanwhile lives as long as the graph.
        """
        gpu = self._here()
        with capturing:
            try:
                return self._captured(gpu, work)
            except BaseException:
                gpu.streams = ()  # one may be left in the capture
                raise

    def _captured(self, gpu: _Gpu, work: Callable[[], None]) -> Captured:
        cuda = self.xp.cuda
        gpu.streams = gpu.streams or tuple(cuda.Stream(non_blocking=True) for _ in range(2))
        first, second = gpu.streams
        pool = _Pool(cuda, self._malloc)
        keeps: list[Any] = [pool, first, second]
        with first, cuda.using_allocator(pool.held.malloc):
            for stream in (second, first):
                with stream:
                    keeps.append(self._ready())
            try:
                first.begin_capture()
                work()
            except BaseException:
                with suppress(Exception):
                    first.end_capture()
                raise
            graph = first.end_capture()
        return Captured(gpu, graph, keeps)

    def _malloc(self, nbytes: int) -> Any:
        """Memory for a graph's own pool.

        A pool that is told of CUDA's error would give back its free blocks, in which what was
        captured before works, and try again.
        """
        memory = raw_memory(self.xp, nbytes)
        if memory is None:
            raise MemoryError(f"the device has no room for {_mib(nbytes)} of a graph's own")
        return self.xp.cuda.MemoryPointer(memory, 0)

    def aside(self, work: Callable[[], None]) -> Any:
        """Do it on the second stream where a capture is under way, else now.

        It comes after what the current stream has been given; `join` takes what this gives.
        """
        here = self.xp.cuda.get_current_stream()
        streams = self._here().streams
        if not streams or here != streams[0]:
            work()
            return None
        second = streams[1]
        second.wait_event(self._event(here))
        with second:
            work()
            return self._event(second)

    def join(self, done: Any) -> None:
        """Let the current stream wait for what was done aside."""
        if done is not None:
            self.xp.cuda.get_current_stream().wait_event(done)

    def _event(self, stream: Any) -> Any:
        return stream.record(self.xp.cuda.Event(disable_timing=True))


class _Gpu:
    """What belongs to one GPU: its ring, the streams that capture, and the last that worked.

    An event and the stream that it is recorded on are of one GPU.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self.streams: tuple[Any, ...] = ()
        """What captures, and what is beside it."""
        self._lock = RLock()
        self._ring: list[tuple[Any, Any]] = [(None, None)] * RING
        self._turn = 0
        self._last: tuple[Any, object] | None = None
        """The stream that worked last, and its thread."""

    def send(self, part: np.ndarray[Any, Any], to: Any) -> None:
        """Copy bytes of the host through the ring."""
        stream = self._cuda.get_current_stream()
        with self._lock:
            held, event = self._ring[self._turn]
            if event is not None:
                event.synchronize()
            if held is None or held.mem.size < part.nbytes:
                held = self._cuda.alloc_pinned_memory(part.nbytes)
            np.frombuffer(held, np.uint8, part.nbytes)[:] = part
            try:
                to.data.copy_from_host_async(c_void_p(held.ptr), part.nbytes, stream)
                self._ring[self._turn] = held, stream.record(event)
            except BaseException:
                with suppress(Exception):
                    stream.synchronize()  # a copy may be under way that no event tells of
                raise
            self._turn = (self._turn + 1) % RING

    def play(self, *calls: Sequence[Any]) -> None:
        """Let the current stream wait for the last that worked and be that itself; make calls."""
        while True:
            with self._lock:
                last = self._last
                if self._follow(self._cuda.get_current_stream()):
                    play(calls)
                    return
            with capturing:  # and without the lock, which a thread that captures may wait for
                self._cuda.runtime.deviceSynchronize()
            with self._lock:
                self._last = None if self._last is last else self._last

    def _follow(self, here: Any) -> bool:
        """False where the last that worked can be waited for only with all others."""
        last, now = self._last, (here, _thread.own)
        if last is not None and (last[0] != here or (here.ptr == PER_THREAD and last != now)):
            stream, thread = last
            if stream.ptr == PER_THREAD and thread is not now[1]:
                return False
            try:
                here.wait_event(stream.record(self._cuda.Event(disable_timing=True)))
            except Exception:  # such as that of a stream that is no more
                return False
        self._last = now
        return True


class _Pool:
    """A graph's own memory, given back with it: CuPy's pools end without what is free in them."""

    def __init__(self, cuda: Any, malloc: Callable[[int], Any]) -> None:
        self._gpu = cuda.Device()
        self.held = cuda.MemoryPool(malloc)

    def __del__(self) -> None:
        with suppress(Exception), self._gpu:  # half made, or when the interpreter ends
            self.held.free_all_blocks()


class Captured:
    """A graph, and the memory that it works in."""

    def __init__(self, gpu: _Gpu, graph: Any, keeps: list[Any]) -> None:
        self._gpu, self._graph, self._keeps = gpu, graph, keeps
        self.bytes: int = keeps[0].held.total_bytes()

    def launch(self, *calls: Sequence[Any]) -> None:
        """Launch it on the current stream and make the calls: an interrupt comes before or after.

        That holds for calls of functions that are C's, as `play` says.
        """
        self._gpu.play((self._graph.launch,), *calls)


def raw_memory(xp: Any, nbytes: int) -> Any:
    """Memory that is no pool's; what CuPy's pool does not use is given back where it must be.

    None where there is not so much.
    """
    for _ in range(2):
        try:
            return xp.cuda.Memory(nbytes)
        except xp.cuda.runtime.CUDARuntimeError as error:
            if error.status != OUT_OF_MEMORY:
                raise
        gc.collect()
        xp.get_default_memory_pool().free_all_blocks()
    return None


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.0f} MiB"
