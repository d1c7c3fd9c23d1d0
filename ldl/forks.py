"""Locks and forks: a child that is forked while another thread holds a lock finds it free."""

from __future__ import annotations

import os
from typing import Any, TypeVar

L = TypeVar("L")


def guarded(lock: L) -> L:
    """The lock, which a fork waits for, and which is free in the parent and the child after it."""
    held: Any = lock
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=held.acquire, after_in_parent=held.release, after_in_child=held.release
        )
    return lock
