"""Interrupts wherever they can come: before each line of ldl that something runs."""

from __future__ import annotations

import gc
import linecache
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import ldl
import ldl_numpy

FOLDERS = tuple(str(Path(str(m.__file__)).parent) + "/" for m in (ldl, ldl_numpy))
OWN = (*FOLDERS, str(Path(FOLDERS[1]).parent / "ldl_cupy") + "/")


def leaves_block(frame: FrameType) -> bool:
    """Whether a `with` is left: a line to tracers, where no signal's handler is ever run.

    An error there would leave a lock held, which no interrupt can.
    """
    code, line = frame.f_code, frame.f_lineno
    text = linecache.getline(code.co_filename, line)
    if not text.lstrip().startswith("with "):
        return False
    return frame.f_lasti > _first(code, line)


@cache
def _first(code: CodeType, line: int) -> int:
    """Where a line's code begins."""
    return min(start for start, _, number in code.co_lines() if number == line)


def interrupt(act: Callable[[], Any], line: int) -> str | None:
    """Do it, interrupted before line number `line` that it runs of ldl, from 0.

    Returns where that was; None where it ended before.
    """
    left = line
    where = None

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left, where
        if event == "line" and not leaves_block(frame):
            left -= 1
            if left < 0:
                where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return local

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(OWN) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        if where is None:
            raise
    finally:
        sys.settrace(before)
    return where


def lines(act: Callable[[], Any]) -> int:
    """How many lines of ldl it runs."""
    count = 0

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line" and not leaves_block(frame)
        return local

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(OWN) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def at_every_line(
    make: Callable[[], Any],
    act: Callable[[Any], Any],
    check: Callable[[Any, str], None],
    every: int = 1,
) -> int:
    """`act` on what `make` gives, interrupted at each line in turn, or at one of `every` lines.

    `check` looks at what is left. Returns how many interrupts there were.
    """
    count = 0
    with warnings.catch_warnings():
        # A file that is open, but in no `with` yet, is closed when it is collected.
        warnings.simplefilter("ignore", ResourceWarning)
        while True:
            made = make()
            where = interrupt(lambda made=made: act(made), count * every)
            if where is None:
                gc.collect()
                return count
            check(made, where)
            count += 1
