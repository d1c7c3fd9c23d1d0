"""Implementations with something wrong with them, for tests of the benchmarks."""

from __future__ import annotations

import json
import os
import signal
import time
from itertools import count, cycle
from typing import Any

import numpy as np

from benchmarks import worker
from benchmarks.device import Device
from benchmarks.implementation import Prepared
from benchmarks.implementations.ldl_ import Eager
from benchmarks.process import NoAnswerError


class Planted(Eager):
    """ldl's eager step, spoilt by a function."""

    library = ""

    def __init__(self, spoil: Any, slow: bool = False) -> None:
        super().__init__(spoil.__name__)
        self.spoil = spoil
        self.slow = slow

    def build(self, workload: Any, weights: Any, batches: Any, device: Any) -> Prepared:
        return self.spoil(super().build(workload, weights, batches, device))


def right(made: Prepared) -> Prepared:
    return made


def wrong_loss(made: Prepared) -> Prepared:
    return Prepared(lambda: made.step() * 1.001, read=made.read, poison=made.poison)


def stale(made: Prepared) -> Prepared:
    """Writes its loss on the first call alone."""
    kept = np.array(float(made.step()))

    def poison(value: Any) -> None:
        if value is not None:
            kept[...] = np.nan

    return Prepared(lambda: kept, read=made.read, poison=poison)


def without_losses(made: Prepared) -> Prepared:
    return Prepared(made.step, read=lambda value: [])


def raising(made: Prepared) -> Prepared:
    raise MemoryError("no room\nfor 3 GB")


def when_timed(made: Prepared, then: Any) -> Prepared:
    calls = count()

    def step() -> Any:
        if next(calls) > 11:
            then()
        return made.step()

    return Prepared(step, read=made.read)


def raising_when_timed(made: Prepared) -> Prepared:
    def then() -> None:
        raise RuntimeError("worn out")

    return when_timed(made, then)


def dying(made: Prepared) -> Prepared:
    print("a last word", flush=True)
    os._exit(7)


def dying_when_timed(made: Prepared) -> Prepared:
    return when_timed(made, lambda: os.kill(os.getpid(), signal.SIGSEGV))


def hanging(made: Prepared) -> Prepared:
    for number in (signal.SIGTERM, signal.SIGINT):  # what heeds nothing
        signal.signal(number, signal.SIG_IGN)
    time.sleep(1000)
    return made


def changing(made: Prepared) -> Prepared:
    """Runs in one way, then in others."""
    ways = cycle([("graph", ""), ("kernel by kernel", "why"), ("kernels", "")])
    return Prepared(made.step, read=made.read, how=lambda: next(ways))


def flat(made: Prepared) -> Prepared:
    """Its losses do not fall."""
    losses = cycle([1.2, 1.0])
    return Prepared(lambda: next(losses))


class Forgetful(Eager):
    """Never clears its gradients."""

    def parts(self, *given: Any) -> Any:
        model, *others = super().parts(*given)
        model.zero_grad = lambda: None
        return model, *others


SPOILT = (right, wrong_loss, stale, without_losses, raising, raising_when_timed, changing, flat)
IMPLEMENTATIONS = [
    *map(Planted, (*SPOILT, dying, dying_when_timed)),
    Planted(hanging, slow=True),
    Forgetful("forgetful"),
]
BY_NAME: dict[str, Any] = {own.name: own for own in IMPLEMENTATIONS}


class Local:
    """Stands for a worker's process: it answers in this one, on a device of its own."""

    def __init__(self, kind: Any = "cpu", *ignored: Any) -> None:
        self.device = kind() if callable(kind) else Device()
        self.alive = True

    def ask(self, limit: float, where: str, *arguments: Any, progress: Any = str) -> Any:
        given = json.loads(json.dumps(arguments))
        found = json.loads(json.dumps(worker.answer(self.device, where, given, progress)))
        if "value" in found:
            return found["value"]
        self.alive = found["alive"]
        raise NoAnswerError(found["status"], found["error"])

    def close(self) -> None:
        self.alive = False
