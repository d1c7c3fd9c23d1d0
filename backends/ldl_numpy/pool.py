"""The threads of a program: one pool, which shares out its loops and its products alike.

Whoever runs a program posts a piece of work, a function and a number of jobs, and does jobs as the
pool's threads do: each claims one after another until none is left. So a thread that the system has
put aside holds up the one job that it has begun, and where none comes in time the caller does all.
Who finds nothing to do looks again for some ten microseconds and then sleeps; so does the caller
while the last jobs are being done. A second program, in another thread of Python's, finds the pool
taken and does its jobs by itself. Jobs are cut by sizes and the number of threads alone, so that
results do not depend on who does them.

The blocks of a product are products of one thread each: while any program runs, OpenBLAS is told to
use one, and afterwards what it used before. Other callers' products in that time have one thread
too. (OpenBLAS's own way, `openblas_set_threads_callback_function`, takes every caller's jobs; they
wait for each other in mid-air, and for a thread that is late. Beside another program it was up to
four times slower than this, and no faster without.) Where that cannot be done, with other BLAS, its
threads do products and loops have one.

The functions from `wake` to `leave` are compiled; they know the pool by its address.
"""

# mypy: disable-error-code="valid-type, misc"
# (`translate`, not Python, gives the compiled functions their types.)

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from threading import Lock, Thread
from typing import Any

import numpy as np

from ldl.forks import guarded
from ldl_numpy import blas, engine
from ldl_numpy.language import call
from ldl_numpy.translate import Function

i4, i8 = np.int32, np.int64

TICKET, LEFT, FUNCTION, WORDS, TAKEN, ASLEEP, AWAITED, PLAYERS, OWN = range(0, 9 * 64, 64)
LOCK, UNLOCK, WAIT, SIGNAL, SET, GET = range(576, 576 + 6 * 8, 8)
MUTEX, POSTED, DONE, SIZE = range(640, 640 + 4 * 128, 128)
"""Where things lie in the pool: words in lines of cache of their own; addresses of functions; what
POSIX's threads wait with.

A ticket holds in its lower half how many jobs nobody has claimed, in its upper half a number of the
piece of work: who compares and swaps it claims a job of this piece or none."""

NUMBERS = ("get_num_threads", "set_num_threads")
NAMES = {
    LOCK: "mutex_lock",
    UNLOCK: "mutex_unlock",
    WAIT: "cond_wait",
    SIGNAL: "cond_signal",
    GET: "get_num_threads",
    SET: "set_num_threads",
}
JOBS, PIECE = 2**32 - 1, 2**32
TRIES = 2000
"""How often one looks before one sleeps: about 50 us."""

EACH = 2
"""Jobs for each thread: more would even out what threads get of the processors, but cost more."""

PAUSE = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "amd64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.isb(i32 15)",
    "arm64": "call void @llvm.aarch64.isb(i32 15)",
}


def _primitive(name: str, gives: str, params: str, body: str) -> Function:
    """A function in LLVM's own words, of numbers x, y, z and of memory p."""
    kind = "i64" if gives else "void"
    text = f"define internal {kind} @ldl_{name}({params}) alwaysinline #0 {{\n{body}}}"
    return Function(f"ldl_{name}", text, gives, frozenset())


AT = "  %p = inttoptr i64 %x to ptr\n"
GIVE = "  ret i64 %r\n"
load = _primitive("load", "i8", "i64 %x", f"{AT}  %r = load atomic i64, ptr %p seq_cst, align 8\n{GIVE}")
store = _primitive(
    "store", "", "i64 %x, i64 %y", f"{AT}  store atomic i64 %y, ptr %p seq_cst, align 8\n  ret void\n"
)
add = _primitive(
    "add", "i8", "i64 %x, i64 %y", f"{AT}  %r = atomicrmw add ptr %p, i64 %y seq_cst\n{GIVE}"
)
exchange = _primitive(
    "exchange", "i8", "i64 %x, i64 %y", f"{AT}  %r = atomicrmw xchg ptr %p, i64 %y seq_cst\n{GIVE}"
)
swap = _primitive(
    "swap",
    "i8",
    "i64 %x, i64 %y, i64 %z",
    f"{AT}  %c = cmpxchg ptr %p, i64 %y, i64 %z seq_cst seq_cst\n"
    f"  %b = extractvalue {{ i64, i1 }} %c, 1\n  %r = zext i1 %b to i64\n{GIVE}",
)
ask = _primitive(
    "ask", "i8", "i64 %x", f"{AT}  %n = call i32 %p()\n  %r = sext i32 %n to i64\n{GIVE}"
)
pause = _primitive("pause", "", "", f"  {PAUSE.get(platform.machine().lower(), '')}\n  ret void\n")


def wake(pool: i8, event: i8, sleepers: i8):
    """Wake some of those that sleep until an event; none is about to, once the lock was had."""
    if sleepers != 0:
        call(load(pool + LOCK), pool + MUTEX)
        call(load(pool + UNLOCK), pool + MUTEX)
        for _ in range(sleepers):
            call(load(pool + SIGNAL), pool + event)


def do_jobs(pool: i8):
    """Claim jobs and do them, until none is left; who does the last tells the caller."""
    ticket = load(pool + TICKET)
    while ticket & JOBS != 0:
        if swap(pool + TICKET, ticket, ticket - 1) != 0:
            call(load(pool + FUNCTION), load(pool + WORDS), (ticket & JOBS) - 1)
            if add(pool + LEFT, -1) == 1:
                wake(pool, DONE, load(pool + AWAITED))
        ticket = load(pool + TICKET)


def work(pool: i8):
    """What a thread of the pool does, for ever."""
    tries = i8(0)
    while tries >= 0:
        if load(pool + TICKET) & JOBS != 0:
            do_jobs(pool)
            tries = 0
        else:
            pause()
            tries += 1
            if tries == TRIES:
                call(load(pool + LOCK), pool + MUTEX)
                add(pool + ASLEEP, 1)
                while load(pool + TICKET) & JOBS == 0:
                    call(load(pool + WAIT), pool + POSTED, pool + MUTEX)
                add(pool + ASLEEP, -1)
                call(load(pool + UNLOCK), pool + MUTEX)
                tries = 0


def share(pool: i8, function: i8, words: i8, jobs: i8):
    """Have jobs done: function(words, job) for every job."""
    if exchange(pool + TAKEN, 1) != 0:
        for job in range(jobs):
            call(function, words, job)
    else:
        store(pool + FUNCTION, function)
        store(pool + WORDS, words)
        store(pool + LEFT, jobs)
        store(pool + TICKET, load(pool + TICKET) + PIECE + jobs)
        asleep = load(pool + ASLEEP)
        wake(pool, POSTED, asleep if asleep < jobs else jobs - 1)
        do_jobs(pool)
        tries = i8(0)
        while load(pool + LEFT) != 0:
            pause()
            tries += 1
            if tries == TRIES:
                call(load(pool + LOCK), pool + MUTEX)
                store(pool + AWAITED, 1)
                while load(pool + LEFT) != 0:
                    call(load(pool + WAIT), pool + DONE, pool + MUTEX)
                store(pool + AWAITED, 0)
                call(load(pool + UNLOCK), pool + MUTEX)
        store(pool + TAKEN, 0)


def enter(pool: i8):
    """One more program runs: BLAS has one thread for each of its calls."""
    call(load(pool + LOCK), pool + MUTEX)
    if add(pool + PLAYERS, 1) == 0:
        store(pool + OWN, ask(load(pool + GET)))
        call(load(pool + SET), i4(1))
    call(load(pool + UNLOCK), pool + MUTEX)


def leave(pool: i8):
    """One program less runs: after the last, BLAS has its threads back."""
    call(load(pool + LOCK), pool + MUTEX)
    if add(pool + PLAYERS, -1) == 1:
        call(load(pool + SET), i4(load(pool + OWN)))
    call(load(pool + UNLOCK), pool + MUTEX)


@cache
def threads() -> int:
    """How many threads a program has: `LDL_THREADS`, by default BLAS's own number.

    One where BLAS cannot be told its number. ValueError where `LDL_THREADS` is no number of threads.
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
    return wanted if given else int(found["get_num_threads"]())


def jobs(size: int, least: int) -> int:
    """In how many jobs to cut work of a size of which `least` is worth a job of its own."""
    return max(1, min(EACH * threads(), size // least)) if threads() > 1 else 1


def address() -> int:
    """Where the pool lies, its threads started; 0 where products have BLAS's threads."""
    if not _functions():
        return 0
    with _lock:
        pool = _memory().ctypes.data
        while len(_started) < threads() - 1:
            thread = Thread(target=_work(), args=(pool,), name="ldl", daemon=True)
            _started.append(thread)
            thread.start()
    return int(pool)


_started: list[Thread] = []
_lock = guarded(Lock())


@cache
def _functions() -> dict[str, Any]:
    """What makes threads wait, and what BLAS is told its threads with; nothing where that fails.

    Of OpenBLAS only the kind with POSIX's threads takes another number at any time.
    """
    names = ("mutex_init", "mutex_lock", "mutex_unlock", "cond_init", "cond_wait", "cond_signal")
    found = {name: blas.find(f"openblas_{name}") for name in ("get_parallel", *NUMBERS)}
    try:
        posix = ctypes.CDLL(None)
        found |= {name: getattr(posix, f"pthread_{name}") for name in names}
    except (AttributeError, OSError, TypeError):
        return {}
    return found if all(found.values()) and found["get_parallel"]() == 1 else {}


@cache
def _work() -> Any:
    return engine.function(work, ctypes.c_int64)


@cache
def _memory() -> Any:
    """The pool, ready for its threads."""
    held = np.zeros(SIZE // 8 + 8, np.int64)
    pool = held[-held.ctypes.data % 64 // 8 :][: SIZE // 8]
    _ready(pool)
    return pool


def _ready(pool: Any) -> None:
    """Let nobody work, wait or play."""
    found, at = _functions(), pool.ctypes.data
    pool[:] = 0
    for place, name in NAMES.items():
        pool[place // 8] = ctypes.cast(found[name], ctypes.c_void_p).value
    found["mutex_init"](ctypes.c_void_p(at + MUTEX), None)
    for event in (POSTED, DONE):
        found["cond_init"](ctypes.c_void_p(at + event), None)


def _forked() -> None:
    """A child has none of the threads, and a program that another was running is nobody's."""
    _started.clear()
    if _memory.cache_info().currsize:
        pool = _memory()
        if pool[PLAYERS // 8]:
            _functions()["set_num_threads"](int(pool[OWN // 8]))
        _ready(pool)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
