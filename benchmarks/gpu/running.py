"""A side that was built for a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.ran import How
from benchmarks.side import Built


def nothing(*ignored: Any) -> None:
    """Do nothing."""


def no_losses(value: Any) -> list[float]:
    """The losses of what has none."""
    return []


def unknown() -> How:
    """How a side ran that does not say."""
    return "", ""


@dataclass(frozen=True)
class Running(Built):
    """A side ready to run: a call of `step` does `steps` steps and gives a loss, or one of each.

    `read` brings these to the host. `poison(value)` writes NaN wherever the next call must write;
    `value` is what the last one gave. `how` tells how the calls since it was asked last ran.
    """

    read: Callable[[Any], list[float]] = field(default=no_losses)
    poison: Callable[[Any], None] = field(default=nothing)
    steps: int = 1
    how: Callable[[], How] = field(default=unknown)
