"""What ldl needs of CuPy beside arrays: modules, copies from the host, and captured graphs."""

from __future__ import annotations

import gc
from collections.abc import Callable
from ctypes import c_void_p
from threading import RLock as Lock
from typing import Any

import numpy as np

from ldl_cupy.launch import OPTIONS

RING = 4
"""Copies from the host that may be under way; one more waits for the first."""

CHUNK = 2**24
"""The most bytes of one copy."""

SHARE = 0.8
"""The part of the free memory that data may take."""


class Device:
    """CuPy's current device and stream.

    `ready` is called on the stream that captures, before it begins.
    """

    def __init__(self, xp: Any, ready: Callable[[], None]) -> None:
        self.xp = xp
        self._ready = ready
        self._stream: Any = None
        self._second: Any = None
        self._played_on: Any = None
        self._ring: list[tuple[Any, Any]] = [(None, None)] * RING
        self._turn = 0
        self._lock = Lock()

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
        for first in range(0, staged.nbytes, CHUNK):
            part = staged[first : first + CHUNK]
            with self._lock:
                self._send(part, to[first : first + part.nbytes])

    def _send(self, part: np.ndarray[Any, Any], to: Any) -> None:
        cuda, stream = self.xp.cuda, self.xp.cuda.get_current_stream()
        held, event = self._ring[self._turn]
        if event is not None:
            event.synchronize()
        if held is None or held.mem.size < part.nbytes:
            held = cuda.alloc_pinned_memory(part.nbytes)
        np.frombuffer(held, np.uint8, part.nbytes)[:] = part
        to.data.copy_from_host_async(c_void_p(held.ptr), part.nbytes, stream)
        self._ring[self._turn] = held, stream.record(event)
        self._turn = (self._turn + 1) % RING

    def number(self) -> int:
        """The current device's number."""
        return int(self.xp.cuda.runtime.getDevice())

    def module(self, text: str) -> Any:
        """A module of that source; it is compiled when its first kernel is asked for."""
        return self.xp.RawModule(code=text, options=OPTIONS)

    def capture(self, work: Callable[[], None]) -> Captured:
        """A graph of what `work` launches, which is not done yet.

        Memory that it takes from CuPy meanwhile lives as long as the graph.
        """
        cuda = self.xp.cuda
        with self._lock:
            if self._stream is None:
                self._stream = cuda.Stream(non_blocking=True)
                self._second = cuda.Stream(non_blocking=True)
            return self._captured(work)

    def _captured(self, work: Callable[[], None]) -> Captured:
        cuda = self.xp.cuda
        pool = cuda.MemoryPool()
        with self._stream, cuda.using_allocator(pool.malloc):
            for stream in (self._second, self._stream):
                with stream:
                    self._ready()
            self._stream.begin_capture()
            try:
                work()
            except BaseException:
                _abandon(self._stream)
                self._stream = self._second = None  # one may be left in the capture
                raise
            graph = self._stream.end_capture()
        return Captured(self, graph, pool)

    def play(self, graph: Any) -> None:
        """Launch a graph on the current stream, after those on others: they share workspaces."""
        here = self.xp.cuda.get_current_stream()
        with self._lock:
            if self._played_on is not None and here != self._played_on:
                here.wait_event(self._event(self._played_on))
            self._played_on = here
            graph.launch()

    def aside(self, work: Callable[[], None]) -> Any:
        """Do it on the second stream where a capture is under way, else now.

        It comes after what the current stream has been given; `join` takes what this gives.
        """
        here = self.xp.cuda.get_current_stream()
        if self._stream is None or here != self._stream:
            work()
            return None
        self._second.wait_event(self._event(here))
        with self._second:
            work()
            return self._event(self._second)

    def join(self, done: Any) -> None:
        """Let the current stream wait for what was done aside."""
        if done is not None:
            self.xp.cuda.get_current_stream().wait_event(done)

    def _event(self, stream: Any) -> Any:
        return stream.record(self.xp.cuda.Event(disable_timing=True))


class Captured:
    """A graph, and the memory that it works in."""

    def __init__(self, device: Device, graph: Any, pool: Any) -> None:
        self._device, self._graph, self._pool = device, graph, pool

    def launch(self) -> None:
        """Launch it on the current stream."""
        self._device.play(self._graph)


def _abandon(stream: Any) -> None:
    """End a capture that failed, so that the stream can be used again."""
    try:
        stream.end_capture()
    except Exception:
        return


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.0f} MiB"
