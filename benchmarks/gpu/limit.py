"""A limit of time for a piece of work in this process."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GRACE = 20.0
"""Seconds after which a process that does not heed its limit, being in native code, is ended."""

ALARM = {signal.SIGALRM}


class TooSlowError(BaseException):
    """The work did not end within its limit. No `except Exception` on the way holds it up."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """TooSlowError in this block after so many seconds; the main thread's."""

    def stop(*_: Any) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    try:
        try:
            late = max(seconds, 0) + GRACE
            signal.pthread_sigmask(signal.SIG_BLOCK, ALARM)  # the new thread is not to take it
            faulthandler.dump_traceback_later(late, exit=True, file=sys.__stderr__)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ALARM)
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)  # the alarm may come this late, and once
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
