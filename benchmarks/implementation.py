"""What an implementation of a workload is: one library's, or one way of a library's, to do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from benchmarks.device import Device, nothing
from benchmarks.how import How

if TYPE_CHECKING:
    from benchmarks.workloads import Batch, Weights, Workload


class Refused(Exception):
    """The implementation cannot do this workload; the message says why, in one line."""


def reason(error: BaseException) -> str:
    """An exception in one line."""
    text = str(error).strip().splitlines()
    if isinstance(error, Refused):
        return text[0]
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


def matches(name: str, texts: list[str]) -> bool:
    """Whether a name has one of the texts, in any case, or there are none."""
    return not texts or any(text.lower() in name.lower() for text in texts)


def on_host(value: Any) -> list[float]:
    """Numbers of an array that NumPy can read."""
    import numpy as np

    return np.asarray(value, np.float64).reshape(-1).tolist()


@dataclass(frozen=True)
class Prepared:
    """An implementation ready to run.

    A call of `step` does `steps` training steps and gives a loss, or one of each; or it predicts,
    and gives the outputs. `read` brings these to the host. `wait` is called with the last value of
    a block, where calls return before they are done. `poison(value)` writes NaN wherever the next
    call must write; `value` is what the last one gave. `how` tells how the calls since it was asked
    last ran.
    """

    step: Callable[[], Any]
    read: Callable[[Any], list[float]] = on_host
    steps: int = 1
    wait: Callable[[Any], Any] = nothing
    poison: Callable[[Any], None] = nothing
    how: Callable[[], How] = lambda: ("", "")


class Implementation:
    """One way to do a workload. A new one is a file in `implementations/` with a list of these."""

    name = ""
    suites: tuple[str, ...] = ("cpu",)
    """Where it takes part: "cpu", "gpu"."""
    predicts = False
    """Whether it predicts, rather than trains."""
    needs: tuple[str, ...] = ()
    """Packages without which it is skipped."""
    uses: tuple[str, ...] = ()
    """Packages that it takes advantage of where they are."""
    library = ""
    """On a GPU: whose stream it runs on, "cupy" or "torch"."""
    environment: Mapping[str, str] = MappingProxyType({})
    """Variables of its process."""
    slow = False
    """Whether it may take so long to build that the others are timed before it."""
    checked = True
    """Whether it computes losses or outputs, which are then compared with the reference's."""
    tolerance = 0.0
    """Largest relative difference from the reference, where that is more than the precision's."""
    on_request = False
    """Whether it is timed only where it is asked for by name."""

    def available(self) -> str:
        """Why it cannot run here, or nothing where it can."""
        missing = [name for name in self.needs if find_spec(name) is None]
        return f"{' and '.join(missing)} not installed" if missing else ""

    def set_precision(self, name: str) -> None:
        """Compute products in this precision; float32 is what every library begins with."""

    def place(self, batches: list[Batch], device: Device) -> list[Batch]:
        """The batches as the library's own arrays on the device."""
        return batches

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """With these weights and these batches; Refused where it has no such thing."""
        raise NotImplementedError
