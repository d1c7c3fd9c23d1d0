"""What ldl needs of CuPy beside arrays: modules, copies from the host, and captured graphs."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_void_p
from typing import Any

import numpy as np

from ldl_cupy.launch import OPTIONS

RING = 16
"""Copies from the host that may be under way; one more waits for the first."""


class Device:
    """CuPy's current device and stream."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._stream: Any = None
        self._ring: list[tuple[Any, Any]] = []
        self._turn = 0

    def empty(self, nbytes: int) -> Any:
        """Bytes, at a multiple of 512."""
        return self.xp.empty(nbytes, np.uint8)

    def send(self, staged: np.ndarray[Any, Any], to: Any) -> None:
        """Copy bytes of the host, which may change at once, in the order of the stream.

        They pass through page-locked memory, so that nothing waits, unless `RING` copies are still
        under way.
        """
        if not staged.nbytes:
            return
        cuda, stream = self.xp.cuda, self.xp.cuda.get_current_stream()
        if len(self._ring) < RING:
            self._ring.append((None, None))
        held, event = self._ring[self._turn]
        if event is not None:
            event.synchronize()
        if held is None or held.mem.size < staged.nbytes:
            held = cuda.alloc_pinned_memory(staged.nbytes)
        pinned = np.frombuffer(held, np.uint8, staged.nbytes)
        pinned[:] = staged
        to.data.copy_from_host_async(pinned.ctypes.data_as(c_void_p), staged.nbytes, stream)
        self._ring[self._turn] = held, stream.record()
        self._turn = (self._turn + 1) % RING

    def module(self, text: str) -> Any:
        """A module of that source; it is compiled when its first kernel is asked for."""
        return self.xp.RawModule(code=text, options=OPTIONS)

    def capture(self, work: Callable[[], None]) -> Any:
        """A graph of what `work` launches, which is not done yet.

        Memory that it takes from CuPy meanwhile lives as long as the graph.
        """
        cuda = self.xp.cuda
        if self._stream is None:
            self._stream = cuda.Stream(non_blocking=True)
        pool = cuda.MemoryPool()
        with self._stream, cuda.using_allocator(pool.malloc):
            self._stream.begin_capture()
            try:
                work()
            except BaseException:
                _abandon(self._stream)
                raise
            graph = self._stream.end_capture()
        return _Captured(graph, pool)


class _Captured:
    """A graph, and the memory that it works in."""

    def __init__(self, graph: Any, pool: Any) -> None:
        self._graph, self._pool = graph, pool

    def launch(self) -> None:
        """Launch it on the current stream."""
        self._graph.launch()


def _abandon(stream: Any) -> None:
    """End a capture that failed, so that the stream can be used again."""
    try:
        stream.end_capture()
    except Exception:
        return
