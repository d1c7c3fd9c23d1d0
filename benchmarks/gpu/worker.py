"""A process that does one command on the device: `python -m benchmarks.gpu.worker JSON`.

A fault on the device, or a crash, ends this process and no other; what it had saved stays.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu.device import Device
    from benchmarks.workloads import Workload

LOST = 3
"""The exit code for: the device computes no longer in this process."""


@dataclass(frozen=True)
class Task:
    """What to do and for how long."""

    command: str
    out: str
    until: float
    """When to end, as `time.time()` tells it."""
    seed: int
    seconds: float = 4.0
    """Of a heat's turns."""
    build: float = 75.0
    """The most that a side may take to be ready."""
    nets: list[str] = field(default_factory=list)
    """Texts, one of which a net's name must have; none for all of them."""
    sides: list[str] = field(default_factory=list)
    """Likewise of the sides."""
    precisions: list[str] = field(default_factory=list)
    data: str = ""
    with_cpu: bool = False
    rehearse: bool = False

    def text(self) -> str:
        """As the command line has it."""
        return json.dumps(asdict(self))


def matches(name: str, texts: list[str]) -> bool:
    """Whether a name has one of the texts, in any case, or there are none."""
    return not texts or any(text.lower() in name.lower() for text in texts)


def nets_of(task: Task) -> list[Workload]:
    """Those of a command: `headline` has the first two, `extras` the rest, or those asked for."""
    from benchmarks.gpu import nets

    every = list(nets.REHEARSAL if task.rehearse else nets.NETS)
    first = 1 if task.rehearse else 2
    if task.command == "headline":
        every = every[:first]
    elif task.command == "extras" and not task.nets:
        every = every[first:]
    return [workload for workload in every if matches(workload.name, task.nets)]


def run(task: Task, device: Device | None = None, **inject: Any) -> int:
    """Do the task; `inject` are further arguments of the command's `measure`."""
    from benchmarks.gpu import epochs, floors, heat, kernels, nets, steps
    from benchmarks.gpu.device import Cuda, DeviceLostError
    from benchmarks.gpu.device import Device as Processor
    from benchmarks.gpu.document import Document
    from benchmarks.gpu.names import WITHOUT

    if device is None:
        device = Processor() if task.rehearse else Cuda()
    document = Document(Path(task.out))
    content = document.part(task.command)
    known = (*nets.PRECISIONS, *(nets.ON_REQUEST if task.precisions else ()))
    precisions = [p for p in known if matches(p, task.precisions)]
    common: dict[str, Any] = {"until": task.until, "save": document.save, "say": say} | inject
    rules = heat.Rules(seconds=task.seconds, build=task.build)
    if task.rehearse:
        rules = heat.Rules(0.0, task.build, rounds=(2, 2), block=0.0, calls=(2, 2), warm=1)
    try:
        if task.command == "floors":
            floors.measure(
                device, content, nets_of(task), precisions, small=task.rehearse, **common
            )
        elif task.command in ("headline", "extras"):
            common |= {"seed": task.seed, "rules": rules}
            common["wanted"] = lambda name: (
                matches(name, task.sides) and (bool(task.sides) or not name.startswith(WITHOUT))
            )
            steps.measure(device, content, nets_of(task), precisions, **common)
        elif task.command == "kernels":
            common |= {"seconds": 0.0} if task.rehearse else {}
            kernels.measure(device, content, **common)
        else:
            common |= {"given": task.data, "with_cpu": task.with_cpu}
            common |= {"rows": 600, "epochs": 3} if task.rehearse else {}
            epochs.measure(device, content, precisions, **common)
    except DeviceLostError as error:
        say(f"the device is lost to this process: {error}")
        return LOST
    finally:
        document.save()
    return 0


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("once")  # ldl's notices above all
    sys.exit(run(Task(**json.loads(sys.argv[1]))))
