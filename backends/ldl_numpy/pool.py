"""One pool of threads, which does the jobs of loops and of products alike: its compiled part.

Whoever runs a program posts a piece of work, a function and a number of jobs, and does jobs as the
pool's threads do: each claims one after another until none is left. So a thread that the system has
put aside holds up the one job that it has begun, and where none comes in time the caller does all.
Who finds nothing to do looks again for some hundred microseconds, then sleeps; so does the caller
while the last jobs are being done. A second program, in another thread of Python's, finds the pool
taken and does its jobs by itself.

All words of the pool are read and written in one order that all threads agree on, so that who is
about to sleep has either been seen or sees what was posted.
"""

# mypy: ignore-errors
# (`translate`, not Python, gives these functions their types; they know the pool by its address.)

from __future__ import annotations

import platform

import numpy as np

from ldl_numpy.language import call
from ldl_numpy.translate import Function

i4, i8 = np.int32, np.int64

TICKET, LEFT, FUNCTION, WORDS, TAKEN, ASLEEP, AWAITED, PLAYERS, OWN = range(0, 9 * 64, 64)
LOCK, UNLOCK, WAIT, SIGNAL, SET, GET, YIELD = range(576, 576 + 7 * 8, 8)
MUTEX, POSTED, DONE, IDLE, SIZE = range(640, 640 + 5 * 128, 128)
"""Where things lie in the pool: words, each in a line of cache of its own; addresses of functions;
what POSIX's threads wait with.

A ticket holds in its lower half how many jobs nobody has claimed, in its upper half the number of
the piece of work: who compares and swaps it claims a job of this piece or none."""

JOBS, PIECE = 2**32 - 1, 2**32
TRIES = 4000
"""How often one looks before one sleeps: for about 100 us."""
OFTEN = 63
"""After so many looks, and one, who waits lets others have the processor. The system may have put
those whom it waits for on the same one; looking on would then cost the step half as much again."""

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
load = _primitive(
    "load", "i8", "i64 %x", f"{AT}  %r = load atomic i64, ptr %p seq_cst, align 8\n{GIVE}"
)
store = _primitive(
    "store",
    "",
    "i64 %x, i64 %y",
    f"{AT}  store atomic i64 %y, ptr %p seq_cst, align 8\n  ret void\n",
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


def look(pool: i8, tries: i8):
    """Wait a moment before one looks again."""
    if tries & OFTEN == OFTEN:
        call(load(pool + YIELD))
    else:
        pause()


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
            look(pool, tries)
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
            look(pool, tries)
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
        call(load(pool + SIGNAL), pool + IDLE)
    call(load(pool + UNLOCK), pool + MUTEX)


def hold(pool: i8):
    """Wait until no program runs; none begins before the mutex, which is then held, is let go."""
    call(load(pool + LOCK), pool + MUTEX)
    while load(pool + PLAYERS) != 0:
        call(load(pool + WAIT), pool + IDLE, pool + MUTEX)
