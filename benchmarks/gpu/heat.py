"""A heat: the sides do one net's steps in one precision; who is right is timed, taking turns."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from random import Random
from time import perf_counter, time
from typing import Any

from benchmarks.gpu.device import Device, DeviceLostError
from benchmarks.gpu.judge import verdict
from benchmarks.gpu.limit import TooSlowError, limited
from benchmarks.gpu.running import Running
from benchmarks.side import Refused, Side, reason
from benchmarks.workloads import Batch, Workload

Save = Callable[[], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Rules:
    """How long and how often."""

    seconds: float = 4.0
    """For the turns of a heat, after everything is built and compared."""
    build: float = 75.0
    """For a side to be built, compiled and compared: a slower one is left out."""
    rounds: tuple[int, int] = (5, 100)
    """At least, if there is time, and at most."""
    block: float = 0.03
    """Seconds that a block of calls of one side takes, about."""
    calls: tuple[int, int] = (5, 5000)
    """In a block, at least and at most."""
    warm: int = 3
    """Untimed calls before a block."""


def check(
    device: Device, running: Running, workload: Workload, precision: str, right: list[float]
) -> dict[str, Any]:
    """Do `compare` steps, gradients and the loss filled with NaN before each call, and judge.

    Three calls at least: graphs are captured by then.
    """
    losses: dict[int, float] = {}
    done, calls, value = 0, 0, None
    while done < workload.compare or calls < 3:
        calls += 1
        running.poison(value)
        device.wait()  # a side may launch on a stream of its own
        value = running.step()
        found = running.read(value)
        done += running.steps
        start = done - len(found)
        losses |= {start + k: loss for k, loss in enumerate(found)}
    return verdict(workload, precision, losses, right)


def enter(
    side: Side,
    device: Device,
    workload: Workload,
    precision: str,
    batches: Callable[[str], list[Batch]],
    right: list[float],
    limit: float,
) -> tuple[Running | None, dict[str, Any]]:
    """Build a side and compare its losses: ready to be timed, or None, and what to write down."""
    try:
        with limited(limit):
            return _enter(side, device, workload, precision, batches, right)
    except TooSlowError:
        return None, {"status": "too slow", "reason": f"not built and compared in {limit:.0f} s"}
    except Refused as error:
        return None, {"status": "skipped", "reason": reason(error)}
    except Exception as error:
        return None, {"status": "failed", "reason": reason(error)}


def _enter(
    side: Side,
    device: Device,
    workload: Workload,
    precision: str,
    batches: Callable[[str], list[Batch]],
    right: list[float],
) -> tuple[Running | None, dict[str, Any]]:
    library = getattr(side, "library", "cupy")
    missing = side.available()
    if missing:
        return None, {"status": "skipped", "reason": missing}
    placed = batches(library)
    gc.collect()  # what an earlier side left is not to be freed while memory is counted
    start = perf_counter()
    with device.metered(library) as meter:
        running = side.build(workload, workload.weights(), placed)
        assert isinstance(running, Running)
        row = {"wrong": ""}
        if side.same_work:
            row = check(device, running, workload, precision, right)
        device.wait()
        seconds = perf_counter() - start
        first = meter.peak()
        meter.forget()
        running.how()
        for _ in range(2):
            running.step()
        device.wait()
        memory = {"first_bytes": first, "step_bytes": meter.peak()}
    wrong = row.pop("wrong")
    how, why = running.how()
    row |= {"build_seconds": seconds, "how": how, "why": why}
    row |= memory if device.measures_memory else {}
    if wrong:
        return None, row | {"status": "wrong", "reason": wrong}
    return running, row | {"status": "right", "reason": ""}


def run_heat(
    device: Device,
    content: dict[str, Any],
    workload: Workload,
    sides: list[Side],
    batches: Callable[[str], list[Batch]],
    right: list[float],
    rules: Rules,
    ends: tuple[float, float],
    save: Save,
    say: Say,
) -> None:
    """Enter the sides and time them; `content` is filled and saved as results come.

    Each side has a limit of time to be built within, and building ends by the first of `ends`, all
    by the second. The slow ones are built when the others have taken their turns, as many as they
    must, and then all take turns. A side whose row says "entering" or "timing" ended an earlier
    process: it is not tried again, nor is one that was timed often enough before that.
    DeviceLostError when a side has made the device useless.
    """
    rows: dict[str, dict[str, Any]] = content.setdefault("sides", {})
    runners: dict[str, tuple[Side, Running]] = {}
    calls: dict[str, int] = {}
    fast = [side for side in sides if not side.slow]
    slow = [side for side in sides if side.slow]
    for side in sides:
        rows.setdefault(side.name, {"status": "waiting", "reason": "cut off"})
    for group in (fast, slow) if slow else (fast,):
        for side in group:
            before = rows[side.name]
            if before["status"] in ("entering", "timing"):
                why = f"the process ended while {before['status']}"
                before |= {"status": "failed", "reason": why}
            if before["status"] in ("failed", "wrong", "too slow"):
                continue
            if before.get("blocks", 0) >= rules.rounds[0]:
                continue
            limit = min(rules.build, ends[0] - rules.seconds - time())
            if limit <= 0:
                if not before.get("blocks"):
                    before |= {"status": "skipped", "reason": "out of time"}
                continue
            row = rows[side.name] = {"status": "entering", "reason": "cut off"}
            save()
            precision = content["precision"]
            running, found = enter(side, device, workload, precision, batches, right, limit)
            row |= found
            if running is None:
                device.tidy()  # what it had taken
            save()
            if running is not None:
                runners[side.name] = side, running
                continue
            say(f"  {side.name}: {row['status']}: {row['reason']}")
            if row["status"] in ("failed", "too slow") and not device.alive():
                raise DeviceLostError(row["reason"])
        least = replace(rules, seconds=0.0) if slow and group is fast else rules
        _turns(device, rows, runners, calls, least, ends[1], save, say)
    content["nvidia_smi"] = device.clocks()


def _calls(device: Device, library: str, running: Running, rules: Rules) -> int:
    for _ in range(rules.warm):
        running.step()
    once = device.block(library, running.step, rules.calls[0])[1] / rules.calls[0]
    least, most = rules.calls
    return max(least, min(most, ceil(rules.block / max(once, 1e-9))))


def _turns(
    device: Device,
    rows: dict[str, dict[str, Any]],
    runners: dict[str, tuple[Side, Running]],
    calls: dict[str, int],
    rules: Rules,
    until: float,
    save: Save,
    say: Say,
) -> None:
    """Time blocks of all of them in turn; `calls` is how many make a block, once it is known."""
    gc.collect()
    gc.freeze()  # what the libraries hold is no garbage; collections stay short for every side
    order, shuffle = [n for n in runners if rows[n]["status"] != "failed"], Random(0)
    end = min(time() + rules.seconds, until)
    least, most = rules.rounds
    saved = time()
    for done in range(most):
        if time() > until or (done >= least and time() > end):
            break
        shuffle.shuffle(order)  # so that no side always follows the same one
        for name in list(order):
            side, running = runners[name]
            library = getattr(side, "library", "cupy")
            row = rows[name]
            try:
                if name not in calls:
                    if row["status"] == "right":
                        row["status"] = "timing"
                        save()
                    calls[name] = _calls(device, library, running, rules)
                for _ in range(rules.warm):
                    running.step()
                running.how()
                times = device.block(library, running.step, calls[name])
                _ran(row, *running.how())
            except Exception as error:
                row |= {"status": "failed", "reason": reason(error)}
                say(f"  {name}: failed: {row['reason']}")
                save()
                order.remove(name)
                if not device.alive():
                    raise DeviceLostError(row["reason"]) from error
                continue
            steps = calls[name] * running.steps
            _add(row, steps, times)
        if time() > saved + 1 or not done:
            save()
            saved = time()
    gc.unfreeze()
    for name in order:
        if rows[name]["status"] == "right":
            rows[name] |= {"status": "skipped", "reason": "out of time"}
    save()


def _ran(row: dict[str, Any], how: str, why: str) -> None:
    """Note how a block ran; a side may do so in several ways, and is told from others by that."""
    ways = row.setdefault("ways", {})
    ways[how] = ways.get(how, 0) + 1
    row["how"] = " and ".join(ways)
    row["why"] = row["why"] or why


def _add(row: dict[str, Any], steps: int, times: tuple[float, float]) -> None:
    """One more block of so many steps: seconds a step by events and by the clock."""
    row |= {"status": "timed", "steps_in_block": steps}
    for key, seconds in zip(("events", "wall"), times, strict=True):
        blocks = row.setdefault(f"{key}_blocks", [])
        blocks.append(float(f"{seconds / steps:.5g}"))
        row |= {f"{key}_median": statistics.median(blocks), f"{key}_minimum": min(blocks)}
    row["blocks"] = len(row["wall_blocks"])
