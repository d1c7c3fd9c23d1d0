"""explain: what a step or a predictor does, as it was recorded."""

from __future__ import annotations

from ldl.nn.predictor import Predictor
from ldl.train.step import TrainStep


def explain(what: TrainStep | Predictor) -> None:
    """Print what was recorded of a step, or of a predictor in this thread: for every shape a plan.

        step = ldl.TrainStep(model, loss, optimizer)
        step(x, y)
        ldl.explain(step)

    A line is an operation: a product, a loop with the operations that were fused into it, a kernel.
    It writes what stands before the arrow: "given" are inputs, parameters and gradients, m0, m1, …
    pieces of memory, which values share that are never alive together. What could not be recorded
    says why. The optimizer's update is a program of its own and is not shown.
    """
    recordings = what.recordings()
    if not recordings:
        print("nothing is recorded yet: call it once")
    for key, recording in recordings.items():
        print(f"{_shown(key)}: {recording.explain()}")


def _shown(key: tuple[object, ...]) -> str:
    """The shapes and types of a batch."""
    shapes = [part for part in key if isinstance(part, tuple)]
    return ", ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
