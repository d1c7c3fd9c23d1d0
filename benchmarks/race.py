"""The race: sides do the same work in turn, in short blocks, until the time is up."""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from time import perf_counter, sleep
from typing import Any

import numpy as np

from benchmarks import rivals
from benchmarks.rivals.gemm_floor import FLOOR
from benchmarks.rivals.ldl_step import PREDICTOR, TRAIN_STEP
from benchmarks.rivals.numpy_by_hand import judge
from benchmarks.side import Built, Side, reason
from benchmarks.workloads import BATCHES, Workload

TOLERANCE = 2e-3
"""Largest relative difference of a side's losses, or outputs, from those computed in float64."""


@dataclass(frozen=True)
class Rules:
    """How long and how often."""

    seconds: float = 12.0
    """For the rounds of a workload, after everything is built."""
    rounds: tuple[int, int] = (5, 200)
    """At least and at most."""
    steps: int = 20
    """In a block; more where they take less than `shortest` seconds, fewer above `longest`."""
    shortest: float = 0.02
    longest: float = 0.25
    pause: float = 0.03
    """Seconds between blocks. OpenBLAS's threads and others spin for milliseconds after their
    last work, and would slow the next side down."""


class Local:
    """A side in this process."""

    def __init__(self, side: Side, workload: Workload) -> None:
        self.predicts = workload.predict
        self.built: Built = side.build(workload, workload.weights(), workload.batches())

    def values(self, count: int) -> list[Any]:
        """Losses, or outputs, of the next steps."""
        values = [self.built.step() for _ in range(count)]
        return [np.array(v) if self.predicts else float(v) for v in values]

    def block(self, steps: int, warm: bool) -> float:
        """Seconds that so many steps take; an untimed one goes before them with `warm`."""
        step, wait = self.built.step, self.built.wait
        value = step() if warm else None
        if warm and wait is not None:
            wait(value)
        start = perf_counter()
        for _ in range(steps):
            value = step()
        if wait is not None:
            wait(value)
        return perf_counter() - start

    def close(self) -> None:
        """Nothing to end."""


class Remote:
    """A side in a process of its own, for an environment that counts from the start."""

    def __init__(self, side: Side, workload: Workload) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        with _environment(side.environment):
            self._process = context.Process(
                target=_serve, args=(theirs, side.name, workload), daemon=True
            )
            self._process.start()
        theirs.close()
        self._answer()

    def values(self, count: int) -> list[Any]:
        """As `Local.values`."""
        self._pipe.send(("values", count))
        return self._answer()

    def block(self, steps: int, warm: bool) -> float:
        """As `Local.block`, timed over there."""
        self._pipe.send(("block", steps, warm))
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)

    def _answer(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe: Any, name: str, workload: Workload) -> None:
    try:
        local = Local(rivals.by_name(name), workload)
    except Exception as error:
        pipe.send(RuntimeError(reason(error)))
        return
    pipe.send(None)
    while True:
        try:
            method, *args = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(getattr(local, method)(*args))
        except Exception as error:
            pipe.send(RuntimeError(reason(error)))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def disagreement(workload: Workload, values: list[Any], right: list[Any]) -> float:
    """The largest relative difference; for outputs, relative to the largest of them."""
    if not workload.predict:
        return max(abs(v - r) / abs(r) for v, r in zip(values, right, strict=True))
    scale = max(np.abs(r).max() for r in right)
    return float(
        max(np.abs(np.reshape(v, r.shape) - r).max() for v, r in zip(values, right, strict=True))
        / scale
    )


def verdict(workload: Workload, values: list[Any], right: list[Any] | None) -> dict[str, Any]:
    """What a side's losses or outputs show: `wrong` says what is wrong, if anything is."""
    found: dict[str, Any] = {"wrong": ""}
    if not workload.predict:
        found |= {"first_loss": values[0], "last_loss": values[-1]}
    if right is not None:
        worst = disagreement(workload, values, right)
        found["difference"] = worst
        if not worst <= TOLERANCE:
            found["wrong"] = f"differs by {worst:.1e} of the value, more than {TOLERANCE:g}"
    elif not all(np.isfinite(values)):
        found["wrong"] = "a loss is not finite"
    elif not np.mean(values[-BATCHES:]) < np.mean(values[:BATCHES]):
        found["wrong"] = "the loss does not fall"
    return found


def race(
    workload: Workload, sides: list[Side], rules: Rules, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Build the sides, compare their losses, and time the ones that agree."""
    weights, batches = workload.weights(), workload.batches()
    count = BATCHES if workload.predict else workload.compare
    right = None if workload.dropout else judge(workload, weights, batches, count)
    rows: dict[str, dict[str, Any]] = {}
    runners: dict[str, Local | Remote] = {}
    for side in sides:
        rows[side.name] = row = {"side": side.name, "status": "skipped"}
        row["reason"] = side.available()
        if row["reason"]:
            continue
        start = perf_counter()
        try:
            runner = (Remote if side.environment else Local)(side, workload)
            if side.same_work:
                row |= verdict(workload, runner.values(count), right)
        except Exception as error:
            row["reason"] = reason(error)
            continue
        row["build_seconds"] = perf_counter() - start
        wrong = row.pop("wrong", "")
        if wrong:
            row |= {"status": "wrong", "reason": wrong}
            runner.close()
            continue
        row |= {"status": "timed", "reason": ""}
        runners[side.name] = runner
    for row in rows.values():
        if row["status"] != "timed":
            say(f"  {row['side']}: {row['status']}: {row['reason']}")
    steps, times = _rounds(runners, rules)
    for runner in runners.values():
        runner.close()
    for name, found in times.items():
        rows[name] |= {"median": statistics.median(found), "minimum": min(found)}
    _ratios(rows)
    return {
        "name": workload.name,
        "title": workload.title,
        "predict": workload.predict,
        "batch": workload.batch,
        "flops": workload.flops(),
        "steps_in_block": steps,
        "rounds": max(map(len, times.values()), default=0),
        "sides": list(rows.values()),
    }


def _rounds(runners: dict[str, Local | Remote], rules: Rules) -> tuple[int, dict[str, list[float]]]:
    times: dict[str, list[float]] = {name: [] for name in runners}
    if not runners:
        return 0, times
    yard = runners[FLOOR] if FLOOR in runners else next(iter(runners.values()))
    once = min(yard.block(2, True) / 2 for _ in range(2))
    steps = max(rules.steps, int(rules.shortest / once))
    steps = max(2, min(steps, int(rules.longest / once), 2000))
    gc.collect()
    gc.freeze()  # what the libraries hold is no garbage; collections stay short for every side
    order, shuffle = list(runners), Random(0)
    least, most = rules.rounds
    end = perf_counter() + rules.seconds
    done = 0
    while done < least or (done < most and perf_counter() < end):
        shuffle.shuffle(order)  # so that no side always follows the same one
        for name in order:
            sleep(rules.pause)
            times[name].append(runners[name].block(steps, once < rules.longest / 5) / steps)
        done += 1
    gc.unfreeze()
    return steps, times


def _ratios(rows: dict[str, dict[str, Any]]) -> None:
    """Ratios to the floor, and to ldl.TrainStep (for prediction ldl.Predictor)."""
    own = TRAIN_STEP if TRAIN_STEP in rows else PREDICTOR
    for key, name, of in (
        ("over_floor", FLOOR, "median"),
        ("over_floor_minimum", FLOOR, "minimum"),
        ("over_ldl", own, "median"),
    ):
        base = rows.get(name, {}).get(of)
        for row in rows.values():
            if base and of in row:
                row[key] = row[of] / base
