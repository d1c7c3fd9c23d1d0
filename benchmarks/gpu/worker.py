"""A process that does one section on the device: `python -m benchmarks.gpu.worker JSON`.

A fault on the device, or a crash, ends this process and no other; what it had saved stays.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LOST = 3
"""The exit code for: the device computes no longer in this process."""


@dataclass(frozen=True)
class Task:
    """What to do and for how long."""

    section: str
    out: str
    until: float
    """When to end, as `time.time()` tells it."""
    seed: int
    seconds: float = 4.0
    """Of a heat's turns."""
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


def run(task: Task, **inject: Any) -> int:
    """Do the task; `inject` are further arguments of the section's `measure`."""
    from benchmarks.gpu import epochs, floors, heat, nets, steps
    from benchmarks.gpu.device import Cuda, Device, DeviceLostError
    from benchmarks.gpu.document import Document
    from benchmarks.gpu.names import WITHOUT

    device = Device() if task.rehearse else Cuda()
    document = Document(Path(task.out))
    content = document.part(task.section)
    every = nets.REHEARSAL if task.rehearse else nets.NETS
    chosen = [w for w in every if matches(w.name, task.nets)]
    known = (*nets.PRECISIONS, *(nets.ON_REQUEST if task.precisions else ()))
    precisions = [p for p in known if matches(p, task.precisions)]
    common: dict[str, Any] = {"until": task.until, "save": document.save, "say": say} | inject
    rules = heat.Rules(seconds=task.seconds)
    if task.rehearse:
        rules = heat.Rules(0.0, rounds=(2, 2), block=0.0, calls=(2, 2), warm=1)
    try:
        if task.section == "floors":
            floors.measure(device, content, chosen, precisions, small=task.rehearse, **common)
        elif task.section == "steps":
            common |= {"seed": task.seed, "rules": rules}
            common["wanted"] = lambda name: (
                matches(name, task.sides) and (bool(task.sides) or not name.startswith(WITHOUT))
            )
            steps.measure(device, content, chosen, precisions, **common)
        else:
            common |= {"given": task.data, "with_cpu": task.with_cpu}
            common |= {"rows": 600, "epochs": 2} if task.rehearse else {}
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
    warnings.simplefilter("ignore")
    warnings.simplefilter("once", RuntimeWarning)  # ldl's notices
    sys.exit(run(Task(**json.loads(sys.argv[1]))))
