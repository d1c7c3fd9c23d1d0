"""What a side of a comparison is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.workloads import Batch, Weights, Workload


class Refused(Exception):
    """The side cannot do this workload; the message says why, in one line."""


def reason(error: BaseException) -> str:
    """An exception in one line."""
    text = str(error).strip().splitlines()
    if isinstance(error, Refused):
        return text[0]
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


@dataclass(frozen=True)
class Built:
    """A side ready to run.

    `step()` takes the next batch and returns its loss (training) or its output (prediction), in
    the side's own kind of number. `wait` is called with the last value of a block, for sides whose
    steps return before they are done.
    """

    step: Callable[[], Any]
    wait: Callable[[Any], Any] | None = None


class Side:
    """One way to do a step. A new rival is a file in `rivals/` with a list `SIDES` of these."""

    name: str
    predicts = False
    """Whether it predicts, rather than trains."""
    needs: tuple[str, ...] = ()
    """Packages without which it is skipped."""
    uses: tuple[str, ...] = ()
    """Packages that it takes advantage of where they are."""
    environment: Mapping[str, str] = MappingProxyType({})
    """Variables it needs from the start of a process; such a side runs in one of its own."""
    slow = False
    """Whether it may take so long to build that the others go before it."""
    same_work = True
    """Whether it computes losses or outputs, which are then compared with the others'."""

    def available(self) -> str:
        """Why it cannot run here, or nothing where it can."""
        missing = [name for name in self.needs if find_spec(name) is None]
        return f"{' and '.join(missing)} not installed" if missing else ""

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """The side with these weights and these batches; Refused where it has no such thing."""
        raise NotImplementedError
