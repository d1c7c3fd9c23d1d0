"""Everything on a GPU: `python -m benchmarks.gpu`, which is what `make gpu` runs."""

from __future__ import annotations

import argparse
import sys

from benchmarks import pytests
from benchmarks.gpu import check
from benchmarks.implementation import matches
from benchmarks.suite import Part, Suite, Task, chosen
from benchmarks.suite import main as run_suite
from benchmarks.workloads import GPU_NETS, ON_REQUEST, PRECISIONS, TINY, TINY_LAYERS, Workload

DESCRIPTION = """\
Check a GPU machine, run the tests marked `gpu` there, and time ldl on it: each part for itself, or
several, or all of them in this order, within --minutes. Every part writes PART.json and PART.log
into one folder, which nothing is written outside of, and renews report.md there. All of it is saved
after every row: a run that is cut off has what it had.

The check comes first, whatever is asked for, and names the package that is missing before anything
is timed. What it finds faulty stops all but the tests.

Implementations that are compared have a process each, begin with the same weights and take the same
batches, fresh random numbers in every run, in the same precision of the matrix products. Their
losses over the first steps are compared with ones computed in float64, gradients and loss being
filled with NaN before each step: what differs is reported as wrong and is not timed, what is not
ready in --build seconds is left out. The others take turns, a block of steps each; every block is
timed by CUDA events, by the clock and in processor time, with one wait at its end. Beside every
figure stands how it ran: "graph", "kernel by kernel" or "layer by layer"; for PyTorch "eager",
"compiled" or "graph"."""

EPILOG = """\
examples:
  python -m benchmarks.gpu                             all of it, eight minutes at most
  python -m benchmarks.gpu check tests                 two of them
  python -m benchmarks.gpu headline --minutes 3 --out /tmp/visit
  python -m benchmarks.gpu --list                      names of parts, workloads, implementations
  python -m benchmarks.gpu extras --workload wide --precision float32
  python -m benchmarks.gpu headline --implementation ldl.TrainStep   also without what makes it fast
  python -m benchmarks.gpu --report FOLDER             report.md of the files there, without a GPU
  python -m benchmarks.gpu --quick --out /tmp/x        tiny, on the processor: the workings

Nothing needs to be installed but Python 3.11 with NumPy, safetensors, CuPy 14 and nvmath-python
with cuda-core, for the tests pytest and JAX, for the kernels pytest-benchmark besides, and PyTorch
where it is to be timed. What lies elsewhere than in that Python goes into PYTHONPATH; no network is
used:
  PYTHONPATH=.:backends:/folder/with/nvmath python3 -m benchmarks.gpu
  PYTHONPATH=/folder/with/nvmath make gpu-headline PYTHON=python3 VENV= ARGS='--minutes 6'
With a VENV (the default) make installs into it all but PyTorch, timed where it is there. For a
machine without a network, python -m benchmarks.gpu.gather fetches the wheels beforehand."""

HEADLINE = 2
"""Workloads that are the part `headline`; the others are the part `extras`."""


def workloads_of(part: str, texts: list[str], quick: bool) -> list[Workload]:
    """Those of a part, or those asked for: `extras` does the first two too where it is asked."""
    every = [*TINY, *TINY_LAYERS] if quick else [*GPU_NETS]
    first = 1 if quick else HEADLINE
    if part == "headline":
        every = every[:first]
    elif part == "extras" and not texts:
        every = every[first:]
    return chosen(every, texts)


def precisions_of(texts: list[str]) -> list[str]:
    """Those of every run, or those asked for."""
    known = (*PRECISIONS, *(ON_REQUEST if texts else ()))
    return [name for name in known if matches(name, texts)]


def tests(task: Task) -> str:
    """The tests marked `gpu`."""
    command = pytests.gpu_command(task.args.quick)
    return check.lacks("tests") or pytests.gpu_tests(
        task.content, task.until, task.save, task.say, command
    )


def comparisons(task: Task) -> None:
    """Training steps, ldl beside PyTorch."""
    from benchmarks import implementations, steps

    asked = task.args.implementation
    with task.workers() as workers:
        steps.measure(
            task.content,
            workloads_of(task.name, task.args.workload, task.args.quick),
            precisions_of(task.args.precision),
            lambda workload: [
                own
                for own in chosen(implementations.of("gpu", workload), asked)
                if asked or not own.on_request
            ],
            workers,
            *(task.seed, task.rules(), task.until, task.save, task.say),
        )


def rates(task: Task) -> None:
    """A copy and matrix products."""
    from benchmarks.gpu import floors

    workloads = workloads_of(task.name, task.args.workload, task.args.quick)
    floors.measure(task, workloads, precisions_of(task.args.precision))


def ten_epochs(task: Task) -> None:
    """Through ldl.fit."""
    from benchmarks.gpu import epochs

    small = {"rows": 600, "epochs": 3} if task.args.quick else {}
    backend = "numpy" if task.args.quick else "cupy"
    epochs.measure(task, backend, precisions_of(task.args.precision), **small)


def kernels(task: Task) -> str:
    """By pytest-benchmark."""
    backends = ["numpy" if task.args.quick else "cupy"]
    common = task.content, task.until, task.save, task.say
    return check.lacks("kernels") or pytests.kernels(*common, backends, task.args.quick)


PARTS = {
    "check": Part(
        1.0, "whether the machine has what is needed: a kernel, a product, a graph", lambda _: ""
    ),
    "tests": Part(6.0, "the tests marked gpu", tests),
    "headline": Part(6.0, "training steps of the two main nets, ldl beside PyTorch", comparisons),
    "floors": Part(1.5, "measured rates: a copy on the device, matrix products by ldl", rates),
    "epochs": Part(1.5, "ten epochs of denoising 60,000 digits through ldl.fit", ten_epochs),
    "extras": Part(8.0, "training steps of all other nets and layers", comparisons),
    "kernels": Part(2.0, "ldl's kernels, layers and losses one by one", kernels),
}


def options(made: argparse.ArgumentParser) -> None:
    """Those that the suite for a processor has not."""
    made.add_argument(
        "--precision",
        action="append",
        default=[],
        metavar="TEXT",
        help="precisions whose name has this text; may be repeated",
    )
    made.add_argument(
        "--data",
        default="",
        metavar="FOLDER",
        help="with MNIST's four files (default: LDL_DATA_DIR/mnist, else made-up images)",
    )
    made.add_argument("--with-cpu", action="store_true", help="the ten epochs on NumPy as well")


def listing() -> list[str]:
    """Names that can be chosen."""
    from benchmarks import implementations

    lines = [f"{'workload':15} {net.name:20} {net.title}" for net in GPU_NETS]
    lines += [f"{'precision':15} {name}" for name in PRECISIONS]
    lines += [f"{'precision':15} {name:20} (with --precision {name})" for name in ON_REQUEST]
    for own in implementations.every("gpu"):
        asked = f" (with --implementation '{own.name}')" if own.on_request else ""
        lines.append(f"{'implementation':15} {own.name}{asked}")
    return lines


SUITE = Suite(
    "benchmarks.gpu",
    *(DESCRIPTION, EPILOG, PARTS),
    most=8.0,
    seconds=4.0,
    look=check.outside,
    kind=lambda args: "cpu" if args.quick else "cuda",
    listing=listing,
    options=options,
    first="check",
)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_suite(SUITE, argv)


if __name__ == "__main__":
    sys.exit(main())
