"""Comparisons of implementations, one for every workload in every precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from time import time
from typing import Any

from benchmarks.compare import Comparison, Rules, Workers, main_clock, timed
from benchmarks.formats import seconds_text
from benchmarks.how import manner
from benchmarks.implementation import Implementation
from benchmarks.machine import smi
from benchmarks.process import Save, Say
from benchmarks.reference import reference
from benchmarks.workloads import Workload


def measure(
    content: dict[str, Any],
    workloads: list[Workload],
    precisions: list[str],
    implementations: Callable[[Workload], list[Implementation]],
    workers: Workers,
    seed: int,
    rules: Rules,
    until: float,
    save: Save,
    say: Say,
) -> None:
    """Make the comparisons; each row is saved as soon as it is there."""
    found: dict[str, Any] = content.setdefault("comparisons", {})
    order = in_order(workloads, precisions)
    for workload, precision in order:
        found[f"{workload.name}/{precision}"] = _heading(workload, precision)
    save()
    known: dict[str, list[Any]] = {}
    for place, (workload, precision) in enumerate(order):
        one = found[f"{workload.name}/{precision}"]
        if time() > until - rules.seconds:
            one["status"] = "out of time"
            continue
        one["status"] = "running"
        save()
        say(f"\n{workload.title}, {precision}")
        if workload.name not in known:
            known[workload.name] = reference(workload, workload.batches(seed))
        share = max(0.0, until - time()) / (len(order) - place)  # with what earlier ones left
        ends = min(until, time() + max(share, 5 * rules.seconds)), until
        with workers if rules.fresh else nullcontext():
            Comparison(
                *(workload, precision, implementations(workload), seed, known[workload.name]),
                *(rules, ends, workers, one["rows"], save, say),
            ).run()
        one |= {"status": "done", "nvidia_smi": smi()}  # its clocks, while it is warm
        save()
        for name, row in timed(one["rows"]):
            clock = main_clock(row)
            say(
                f"  {name:42} {seconds_text(clock['median']):>8} median "
                f"{seconds_text(clock['minimum']):>8} minimum  {row['blocks']} blocks of "
                f"{row['steps_in_block']}  {manner(row)}"
            )
    save()


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
        "parameters": workload.parameters(),
        "flops": workload.flops(),
        "bytes": workload.least_bytes(),
        "compared_steps": workload.compare,
        "status": "waiting",
        "rows": {},
    }
