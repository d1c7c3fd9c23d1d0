"""The threads of a program: how many there are, and when they start and end.

The blocks of a product are products of one thread each: while any program runs, OpenBLAS is told to
use one, and afterwards what it used before. Products that others ask for in that time have one
thread too, which changes nothing else. With another BLAS, products have its threads and loops one.

(OpenBLAS's own way, `openblas_set_threads_callback_function`, hands over the jobs of all callers in
the process, and these wait for each other in the midst of a product, for a late thread as well.)

Work is cut by its size and the number of threads alone, so that results do not depend on who does
what when; with another number of threads sums are added in another order.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from threading import Lock, Thread
from typing import Any

import numpy as np

from ldl.forks import guarded
from ldl_numpy import blas, engine, pool

EACH = 2
"""Jobs for each thread: more would even out what threads get of the processors, but cost more."""

NAMES = {
    pool.LOCK: "pthread_mutex_lock",
    pool.UNLOCK: "pthread_mutex_unlock",
    pool.WAIT: "pthread_cond_wait",
    pool.SIGNAL: "pthread_cond_signal",
    pool.YIELD: "sched_yield",
    pool.GET: "openblas_get_num_threads",
    pool.SET: "openblas_set_num_threads",
}
"""The functions that the pool calls."""


@cache
def threads() -> int:
    """How many threads a program has: `LDL_THREADS`, by default BLAS's own number.

    One where BLAS cannot be told its number; ValueError where `LDL_THREADS` is none.
    """
    given = os.environ.get("LDL_THREADS", "").strip()
    try:
        wanted = int(given or 1)
    except ValueError:
        wanted = 0
    if wanted < 1:
        raise ValueError(
            "LDL_THREADS in the environment must be a number of threads, 1 or more, got "
            f"{given[:40]!r}: unset it for as many as BLAS has"
        )
    found = _functions()
    if not found:
        return 1
    return wanted if given else int(found["openblas_get_num_threads"]())


def jobs(size: int, least: int, each: int = EACH) -> int:
    """In how many jobs to cut work of a size of which `least` is worth a job of its own."""
    return max(1, min(each * threads(), size // least)) if threads() > 1 else 1


def address() -> int:
    """Where the pool lies, its threads started; 0 where products have BLAS's threads."""
    if not _functions():
        return 0
    with _lock:  # two threads at once would make two pools
        at = int(_memory().ctypes.data)
    if len(_started) < threads() - 1:
        work = engine.function(pool.work, ctypes.c_int64)
        with _lock, suppress(RuntimeError):  # a system may refuse further threads
            while len(_started) < threads() - 1:
                thread = Thread(target=work, args=(at,), name="ldl", daemon=True)
                thread.start()
                _started.append(thread)
    return at


_started: list[Thread] = []


@cache
def _functions() -> dict[str, Any]:
    """What makes threads wait, and what BLAS is told its threads with; nothing where that fails.

    Of OpenBLAS the kind with POSIX's threads takes another number at any time.
    """
    try:
        posix = ctypes.PyDLL(None)
        kind = blas.find("openblas_get_parallel")()
        found = {
            name: blas.find(name) if name.startswith("openblas") else getattr(posix, name)
            for name in (*NAMES.values(), "pthread_mutex_init", "pthread_cond_init")
        }
    except (AttributeError, OSError, TypeError):
        return {}
    return found if kind == 1 and all(found.values()) else {}


@cache
def _memory() -> Any:
    """The pool, ready for its threads, from the beginning of a line of cache.

    It is never freed: threads look at it until the process has ended, when Python is no more.
    """
    held = np.zeros(pool.SIZE // 8 + 8, np.int64)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))
    memory = held[-held.ctypes.data % 64 // 8 :][: pool.SIZE // 8]
    _make_ready(memory)
    return memory


def _make_ready(memory: Any) -> None:
    """Let nobody work, wait or play."""
    found, at = _functions(), memory.ctypes.data
    memory[:] = 0
    for place, name in NAMES.items():
        memory[place // 8] = ctypes.cast(found[name], ctypes.c_void_p).value
    found["pthread_mutex_init"](ctypes.c_void_p(at + pool.MUTEX), None)
    for event in (pool.POSTED, pool.DONE, pool.IDLE):
        found["pthread_cond_init"](ctypes.c_void_p(at + event), None)


def _before_fork() -> None:
    """Wait until no program runs, and let none begin.

    It waits with Python's lock held, so that other threads, who go from program to program, begin
    no further ones: else there might always be one that runs.
    """
    if _memory.cache_info().currsize:
        hold = ctypes.PYFUNCTYPE(None, ctypes.c_int64)(*engine.addresses([pool.hold]))
        hold(_memory().ctypes.data)


def _after_fork_in_parent() -> None:
    if _memory.cache_info().currsize:
        _functions()["pthread_mutex_unlock"](ctypes.c_void_p(_memory().ctypes.data + pool.MUTEX))


def _after_fork_in_child() -> None:
    """None of the threads is here: new programs start others."""
    _started.clear()
    if _memory.cache_info().currsize:
        _make_ready(_memory())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
_lock = guarded(Lock())
"""Held while the pool is made and its threads are started; a fork takes it first."""
