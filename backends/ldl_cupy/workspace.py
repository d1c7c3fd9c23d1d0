"""Memory that products need beside their operands: of each stream its own, for they run at once."""

from __future__ import annotations

from threading import RLock, local
from typing import Any
from weakref import WeakValueDictionary

import cupy

from ldl_cupy.device import PER_THREAD, raw_memory

BYTES = 32 << 20

KEPT = 8
"""Workspaces that are kept for the streams that used them latest, beside those that graphs keep."""


class Workspace:
    """The memory of one stream, whose handle is no other's as long as this lives."""

    def __init__(self, stream: Any, memory: Any) -> None:
        self.stream, self.memory = stream, memory
        self.ptr = int(memory.ptr)


class _OfThread(local):
    """A thread's own default stream has the same handle as that of others: by GPU."""

    def __init__(self) -> None:
        self.held: dict[int, Workspace] = {}


_own = _OfThread()
_all: WeakValueDictionary[tuple[int, int], Workspace] = WeakValueDictionary()
_latest: dict[tuple[int, int], Workspace] = {}
_lock = RLock()


def workspace() -> Workspace | None:
    """The current stream's; None where the GPU has no room for it."""
    stream = cupy.cuda.get_current_stream()
    number = cupy.cuda.runtime.getDevice()
    if stream.ptr == PER_THREAD:
        found = _own.held.get(number) or _made(stream)
        if found is not None:
            _own.held[number] = found
        return found
    key = number, stream.ptr
    found = _all.get(key) or _made(stream)
    if found is not None and next(reversed(_latest), None) != key:
        with _lock:
            found = _all.setdefault(key, found)
            _latest.pop(key, None)
            _latest[key] = found
            if len(_latest) > KEPT:
                _latest.pop(next(iter(_latest)))
    return found


def reserve() -> Workspace:
    """The current stream's workspace, made now: before a capture on that stream."""
    found = workspace()
    if found is None:
        raise MemoryError(f"the device has no room for a workspace of {BYTES >> 20} MiB")
    return found


def _made(stream: Any) -> Workspace | None:
    memory = raw_memory(cupy, BYTES)
    return None if memory is None else Workspace(stream, memory)
