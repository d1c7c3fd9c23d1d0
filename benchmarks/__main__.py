"""Everything on a processor: `python -m benchmarks`, which is what `make bench` runs."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks import machine, threads
from benchmarks.suite import Part, Suite, Task, chosen
from benchmarks.suite import main as run_suite

DESCRIPTION = """\
Time ldl on this processor beside what a user would pick instead: each part for itself, or several,
or all of them in this order, within --minutes. Every part writes PART.json and PART.log into one
folder, and renews report.md there; a picture of the comparisons comes last. All of it is saved
after every row: a run that is cut off has what it had.

Implementations that are compared have a process each, the same first weights and the same batches,
and minimise the same function with the same Adam. Their losses over the first steps (their outputs,
for predictions) are compared with ones computed in float64: what disagrees is reported as wrong and
is not timed. Dropout masks differ between libraries, so there the mean of the losses is compared.

They then take turns: a block of steps, a pause, the next one, in an order that is shuffled every
round. A block gives a figure by the clock and one in processor time, each over its steps; the
report has their medians and minima, over those of the matrix products alone (the floor) and over
those of ldl, and the memory that a process took. A library that is not installed is skipped by
name. pytest-benchmark times single kernels."""

EPILOG = """\
examples:
  python -m benchmarks                                  all of it, in less than ten minutes
  python -m benchmarks --list                           names of parts, workloads, implementations
  python -m benchmarks steps --workload autoencoder-128 --implementation ldl --implementation floor
  python -m benchmarks layers predictions --seconds 10 --out /tmp/x
  python -m benchmarks --report FOLDER                  report and picture of the files there
  python -m benchmarks --quick --out /tmp/x             so short that only the workings are tried

Figures count only from a machine that does nothing else."""


def comparisons(task: Task) -> None:
    """Of a part's workloads."""
    from benchmarks import implementations, nets, steps, workloads

    args = task.args
    every = {
        "steps": (workloads.NETS, workloads.TINY),
        "layers": (workloads.LAYERS, workloads.TINY_LAYERS),
        "nets": (nets.FURTHER, nets.TINY_NETS),
        "predictions": (workloads.ONE_ROW, workloads.TINY_ROW),
    }[task.name][args.quick]
    rules = task.rules(rounds=(3, 200), block=0.05, calls=(1, 5000), warm=1, pause=0.12, fresh=True)
    with task.workers() as workers:
        steps.measure(
            *(task.content, chosen(list(every), args.workload), ["float32"]),
            lambda workload: chosen(implementations.of("cpu", workload), args.implementation),
            *(workers, task.seed, rules, task.until, task.save, task.say),
        )


def cold(task: Task) -> str | None:
    """Of every implementation."""
    from benchmarks import cold

    return cold.measure(task)


def kernels(task: Task) -> str:
    """By pytest-benchmark."""
    from benchmarks import pytests

    common = task.content, task.until, task.save, task.say
    return pytests.kernels(*common, ["numpy"], task.args.quick)


def distributed(task: Task) -> str | None:
    """Over MPI."""
    from benchmarks.distributed import measure

    return measure.measure(task)


PARTS = {
    "steps": Part(
        4.9, "training steps of nets beside other libraries, and their memory", comparisons
    ),
    "layers": Part(1.5, "the same of layers that a user writes: norms, softmax", comparisons),
    "nets": Part(4.0, "nets of images and of sequences, trained beside PyTorch", comparisons),
    "predictions": Part(0.6, "one row's, beside ONNX Runtime and others", comparisons),
    "cold": Part(2.1, "imports, sizes, first step, first epoch, new batch sizes", cold),
    "distributed": Part(1.2, "steps and sums of several ranks; clusters, on paper", distributed),
    "kernels": Part(0.4, "ldl's kernels, layers and losses one by one", kernels),
}


def look(quick: bool, until: float) -> dict[str, Any]:
    """This machine."""
    found = machine.describe()
    many = threads.usable()
    return found | {
        "folder": machine.slug(f"{found['processor']} {many} {'cores' if many > 1 else 'thread'}")
    }


def options(made: argparse.ArgumentParser) -> None:
    """Those that the suite for a GPU has not."""
    made.add_argument(
        "--threads",
        type=int,
        default=min(threads.DEFAULT, threads.usable()),
        metavar="N",
        help="threads, and on Linux processors, for every library (default %(default)s)",
    )


def listing() -> list[str]:
    """Names that can be chosen."""
    from benchmarks import implementations, nets, workloads

    every = (*workloads.NETS, *workloads.LAYERS, *nets.FURTHER, *workloads.ONE_ROW)
    lines = [f"{'workload':15} {one.name:20} {one.title}" for one in every]
    for own in implementations.every("cpu"):
        lines.append(
            f"{'implementation':15} {'predicts' if own.predicts else 'trains':20} {own.name}"
        )
    return lines


def kind(args: argparse.Namespace) -> str:
    """A processor; threads are pinned before any process is started."""
    threads.pin(args.threads)
    return "cpu"


SUITE = Suite(
    "benchmarks",
    *(DESCRIPTION, EPILOG, PARTS),
    most=9.5,
    seconds=8.0,
    look=look,
    kind=kind,
    listing=listing,
    options=options,
)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_suite(SUITE, argv)


if __name__ == "__main__":
    sys.exit(main())
