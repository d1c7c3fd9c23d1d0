"""The commands `headline` and `extras`: a heat for every net in every precision."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from time import time
from typing import Any

import ldl
from benchmarks.gpu import judge, nets, ours
from benchmarks.gpu.device import Device
from benchmarks.gpu.heat import Rules, run_heat
from benchmarks.gpu.ran import manner
from benchmarks.rivals import torch_cuda
from benchmarks.side import Side
from benchmarks.workloads import Batch, Workload

LIVES = 3
"""How often a heat is begun before it is given up."""


def sides(device: Device, precision: str) -> list[Side]:
    """All of them, ldl's first."""
    return [*ours.gpu_sides(device, precision), *torch_cuda.gpu_sides(device.torch)]


def set_precision(precision: str) -> None:
    """The same for ldl and for PyTorch."""
    ldl.set_matmul_precision(precision)
    if importlib.util.find_spec("torch"):
        torch_cuda.set_precision(precision)


class Placed:
    """Batches on the device, once for each library, so that no side's memory contains them."""

    def __init__(self, batches: list[Batch], device: Device) -> None:
        self.host, self.device = batches, device
        self.on: dict[str, list[Batch]] = {}

    def __call__(self, library: str) -> list[Batch]:
        """Those of a library."""
        if library not in self.on:
            self.on[library] = (
                torch_cuda.place(self.host, self.device.torch)
                if library == "torch"
                else ours.place(self.host, self.device)
            )
        return self.on[library]


def measure(
    device: Device,
    content: dict[str, Any],
    workloads: list[Workload],
    precisions: list[str],
    wanted: Callable[[str], bool],
    seed: int,
    rules: Rules,
    until: float,
    save: Callable[[], None],
    say: Callable[[str], None],
    entrants: Callable[[Device, str], list[Side]] = sides,
) -> None:
    """Run the heats that `content` has not got yet; each row is saved as soon as it is there.

    `wanted` chooses sides by their names.
    """
    heats: dict[str, Any] = content.setdefault("heats", {})
    order = in_order(workloads, precisions)
    for workload, precision in order:
        heats.setdefault(f"{workload.name}/{precision}", _heading(workload, precision))
    save()
    judged: dict[str, list[float]] = {}
    for place, (workload, precision) in enumerate(order):
        heat = heats[f"{workload.name}/{precision}"]
        if heat["status"] not in ("waiting", "running"):
            continue
        if heat["lives"] >= LIVES or time() > until - rules.seconds:
            heat["status"] = "given up" if heat["lives"] >= LIVES else "out of time"
            save()
            continue
        heat |= {"status": "running", "lives": heat["lives"] + 1}
        save()
        say(f"\n{workload.title}, {precision}")
        batches = nets.fresh_batches(workload, seed)
        if workload.name not in judged:
            judged[workload.name] = judge.right_losses(workload, batches)
        right = heat["right_losses"] = judged[workload.name]
        set_precision(precision)
        entered = [side for side in entrants(device, precision) if wanted(side.name)]
        share = max(0.0, until - time()) / (len(order) - place)  # with what earlier heats left
        end = min(until, time() + max(share, 5 * rules.seconds))
        placed = Placed(batches, device)
        run_heat(device, heat, workload, entered, placed, right, rules, (end, until), save, say)
        heat["status"] = "done"
        save()
        for name, row in heat["sides"].items():
            if row["status"] == "timed":
                say(
                    f"  {name:45} {row['events_median'] * 1e6:10.2f} µs by events "
                    f"{row['wall_median'] * 1e6:10.2f} by the clock, {row['blocks']} blocks, "
                    f"{manner(row)}"
                )
        del placed
        device.tidy()


def in_order(workloads: list[Workload], precisions: list[str]) -> list[tuple[Workload, str]]:
    """The first two nets in every precision, then the others in one precision after another."""
    first = [(workload, precision) for workload in workloads[:2] for precision in precisions]
    return first + [(workload, precision) for precision in precisions for workload in workloads[2:]]


def _heading(workload: Workload, precision: str) -> dict[str, Any]:
    return {
        "workload": workload.name,
        "title": workload.title,
        "precision": precision,
        "batch": workload.batch,
        "parameters": nets.parameters(workload),
        "flops": workload.flops(),
        "bytes": nets.least_bytes(workload),
        "compared_steps": workload.compare,
        "status": "waiting",
        "lives": 0,
        "sides": {},
    }
