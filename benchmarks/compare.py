"""A comparison: implementations do one workload; who is right is timed, block by block in turn.

Each has a process of its own, which can be ended when it is too slow and takes no other along.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from random import Random
from time import sleep, time
from typing import Any, Protocol

from benchmarks.implementation import Implementation
from benchmarks.process import NoAnswerError, Process, Save, Say
from benchmarks.reference import verdict
from benchmarks.worker import address
from benchmarks.workloads import Workload

FIRST = 2
"""Rounds before slow ones are built, so that figures are there whatever these do."""

CLOCKS = ("events", "wall", "cpu")
"""Of the device, of the host, and the processor time of an implementation's process."""


@dataclass(frozen=True)
class Rules:
    """How long and how often."""

    seconds: float = 4.0
    """For the rounds of a comparison, after everything is built and checked."""
    build: float = 75.0
    """For an implementation to be built, compiled and checked: a slower one is left out."""
    rounds: tuple[int, int] = (5, 100)
    """At least, if there is time, and at most."""
    block: float = 0.03
    """Seconds that a block of calls of one implementation takes, about."""
    calls: tuple[int, int] = (5, 5000)
    """In a block, at least and at most."""
    warm: int = 3
    """Untimed calls before a block, though fewer than it has."""
    pause: float = 0.0
    """Seconds between blocks. OpenBLAS's threads look for work for a tenth of a second after their
    last, and meanwhile the next implementation has a processor less."""
    fresh: bool = False
    """Whether every workload has fresh processes, as resident memory needs to be told apart."""


QUICK = Rules(0.0, rounds=(2, 2), block=0.0, calls=(2, 2), warm=1)
"""So short that only the workings are tried."""


class Asked(Protocol):
    """A `Process`, or what stands for one."""

    alive: bool

    def ask(self, limit: float, where: str, *arguments: Any, progress: Any = ...) -> Any:
        """As `Process.ask`."""

    def close(self) -> None:
        """As `Process.close`."""


@dataclass
class Workers:
    """The processes of implementations, by name, started when they are asked for."""

    kind: str
    """The device, "cpu" or "cuda"."""
    say: Say = print
    start: Callable[..., Asked] = Process
    started: dict[str, Asked] = field(default_factory=dict)

    def of(self, own: Implementation) -> Asked:
        """The one of an implementation, a new one where that has ended."""
        if own.name not in self.started or not self.started[own.name].alive:
            packages = *own.needs, *own.uses
            self.started[own.name] = self.start(self.kind, self.say, own.environment, packages)
        return self.started[own.name]

    def plain(self) -> Asked:
        """One of no implementation, for measurements that have no rivals."""
        return self.of(Implementation())

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *ignored: Any) -> None:
        for worker in self.started.values():
            worker.close()
        self.started.clear()


@dataclass
class Comparison:
    """Of the implementations that take part, in one precision.

    `rows` has a row for each by name, filled as results come; `save` is called then. Building ends
    by the first of `ends`, all by the second, as `time.time()` tells it.
    """

    workload: Workload
    precision: str
    implementations: list[Implementation]
    seed: int
    right: list[Any]
    """The reference's losses or outputs."""
    rules: Rules
    ends: tuple[float, float]
    workers: Workers
    rows: dict[str, dict[str, Any]]
    save: Save
    say: Say

    def run(self) -> None:
        """Build, check and time them.

        The slow ones are built when the others have figures, and then all take turns.
        """
        first = replace(self.rules, seconds=0.0, rounds=(FIRST, FIRST))
        fast = [own for own in self.implementations if not own.slow]
        slow = [own for own in self.implementations if own.slow]
        self.calls: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        self.ready: dict[str, Implementation] = {}
        for own in self.implementations:
            self.rows.setdefault(own.name, {"status": "waiting", "reason": "cut off"})
        for group in (fast, slow) if slow else (fast,):
            for own in group:
                if not own.available():
                    self.workers.of(own)  # they import at the same time
            for own in group:
                self._enter(own)
            self._turns(first if slow and group is fast else self.rules)
        for own in self.ready.values():
            self._leave(own)

    def _leave(self, own: Implementation) -> None:
        """Let it give back what it has taken."""
        if not self.rules.fresh:
            with suppress(NoAnswerError):  # its row says enough
                self.workers.of(own).ask(30, "benchmarks.worker:leave")

    def _ask(self, own: Implementation, limit: float, what: str, *arguments: Any) -> Any:
        """What its worker answers; None where its row says why not."""
        try:
            return self.workers.of(own).ask(limit, f"benchmarks.worker:{what}", *arguments)
        except NoAnswerError as error:
            self.rows[own.name] |= {"status": error.status, "reason": str(error)}
            self.say(f"  {own.name}: {error.status}: {error}")
            self.ready.pop(own.name, None)
            self.save()
            return None

    def _enter(self, own: Implementation) -> None:
        row = self.rows[own.name] = {"status": "building", "reason": "cut off"}
        if missing := own.available():
            row |= {"status": "skipped", "reason": missing}
            self.say(f"  {own.name}: skipped: {missing}")
            return
        limit = min(self.rules.build, self.ends[0] - self.rules.seconds - time())
        if limit <= 0:
            row |= {"status": "skipped", "reason": "out of time"}
            return
        self.save()
        found = self._ask(
            own, limit, "enter", address(own), asdict(self.workload), self.precision, self.seed
        )
        if found is None:
            return
        values = {int(k): value for k, value in found.pop("values").items()}
        self.steps[own.name] = found.pop("steps")
        row |= found | {"status": "right", "reason": ""}
        if own.checked:
            row |= verdict(self.workload, self.precision, values, self.right, own.tolerance)
        if wrong := row.pop("wrong", ""):
            row |= {"status": "wrong", "reason": wrong}
            self.say(f"  {own.name}: wrong: {wrong}")
            self._leave(own)
        else:
            self.ready[own.name] = own
        self.save()

    def _turns(self, rules: Rules) -> None:
        """Time blocks of all that are ready in turn."""
        order, shuffle = list(self.ready.values()), Random(0)
        until, saved = self.ends[1], 0.0
        end = min(time() + rules.seconds, until)
        least, most = rules.rounds
        for done in range(most):
            if time() > until or (done >= least and time() > end):
                break
            shuffle.shuffle(order)  # so that none always follows the same one
            for own in order:
                if own.name in self.ready:
                    self._block(own, rules)
            if time() > saved + 1:
                self.save()
                saved = time()
        for name in self.ready:
            if self.rows[name]["status"] == "right":
                self.rows[name] |= {"status": "skipped", "reason": "out of time"}
        self.save()

    def _block(self, own: Implementation, rules: Rules) -> None:
        """Time one block of an implementation; how many calls make one, the first block tells."""
        name, row = own.name, self.rows[own.name]
        least, most = rules.calls
        if name not in self.calls:
            tried = self._ask(own, rules.build, "block", least, rules.warm)
            if tried is None:
                return
            once = tried["times"]["wall"] / least
            self.calls[name] = max(least, min(most, ceil(rules.block / max(once, 1e-9))))
        sleep(rules.pause)
        warm = min(rules.warm, self.calls[name] - 1)
        found = self._ask(own, rules.build, "block", self.calls[name], warm)
        if found is not None:
            add(row, self.calls[name] * self.steps[name], found["times"], *found["how"])


def add(row: dict[str, Any], steps: int, times: dict[str, float], how: str, why: str) -> None:
    """One more block of so many steps: seconds a step by every clock, and how it ran.

    An implementation may run in several ways, and is told from others by that.
    """
    ways = row.setdefault("ways", {})
    ways[how] = ways.get(how, 0) + 1
    row |= {"status": "timed", "steps_in_block": steps, "how": " and ".join(ways)}
    row["why"] = row["why"] or why
    for clock, seconds in times.items():
        blocks = row.setdefault(clock, {}).setdefault("blocks", [])
        blocks.append(float(f"{seconds / steps:.5g}"))
        row[clock] |= {"median": statistics.median(blocks), "minimum": min(blocks)}
        row["blocks"] = len(blocks)


def timed(rows: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The rows that were timed and their names, fastest first by the first clock."""
    found = [(name, row) for name, row in rows.items() if row["status"] == "timed"]
    return sorted(found, key=lambda pair: main_clock(pair[1])["median"])


def main_clock(row: dict[str, Any]) -> dict[str, Any]:
    """The times by the device's clock, or by the host's where that has none."""
    return next(row[clock] for clock in CLOCKS if clock in row)
