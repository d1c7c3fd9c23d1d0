"""Everything on a GPU: `python -m benchmarks.gpu`, which is what `make gpu` runs."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from benchmarks.gpu import outside
from benchmarks.gpu.document import Document, Log
from benchmarks.gpu.environment import slug
from benchmarks.gpu.worker import LOST, Task

FOLDER = Path(__file__).parents[1] / "results"

SECTIONS = {
    "tests": (90, "the tests marked gpu"),
    "floors": (40, "measured rates: a copy within the device, matrix products through ldl"),
    "steps": (230, "training steps of every net, ldl beside PyTorch, compared and then timed"),
    "epochs": (45, "ten epochs of denoising 60,000 digits through ldl.fit"),
    "kernels": (45, "ldl's kernels, layers and losses one by one (benchmarks/test_kernels.py)"),
}
"""The share of the time of each, and what it does. Time that one leaves goes to those after it."""

STATES = {0: "done", LOST: "device lost", None: "out of time"}
TRIES = 8
"""Processes that a section may use up."""

DESCRIPTION = """\
Run the tests marked `gpu` and the benchmarks on a CUDA device, within --minutes, and write
FILE.json with every raw figure, FILE.md, a table made from it, and FILE.log. All of it is saved as
it comes: a run that is cut off has what it had.

Sides of a comparison begin with the same weights and take the same batches, fresh random numbers in
every run, in the same precision of the matrix products. Their losses over the first steps are
compared with ones computed in float64, gradients and loss being filled with NaN before each step:
who differs is reported as wrong and is not timed. The others take turns, a block of steps each;
every block is timed by CUDA events and by the clock, with one wait at its end. The batches are on
the device beforehand."""

EPILOG = """\
examples:
  python -m benchmarks.gpu                             all of it, eight minutes at most
  python -m benchmarks.gpu --list                      names of sections, nets and sides
  python -m benchmarks.gpu steps --net autoencoder-128 --precision float32 --minutes 2
  python -m benchmarks.gpu steps --side ldl.TrainStep   also without what makes it fast, in turn
  python -m benchmarks.gpu --table FILE.json           FILE.md again, without a GPU
  python -m benchmarks.gpu --rehearse --out /tmp/x.json   tiny, on the processor: the workings

Nothing needs to be installed but Python 3.11 with NumPy, safetensors, CuPy 14, pytest and
pytest-benchmark, and where they are to be used nvmath-python and PyTorch. What lies elsewhere than
in that Python goes into PYTHONPATH; no network is used:
  PYTHONPATH=.:backends:/folder/with/nvmath python3 -m benchmarks.gpu
  PYTHONPATH=/folder/with/nvmath make gpu PYTHON=python3 VENV= ARGS='--minutes 6'
With a VENV (the default) `make gpu` installs into it all but PyTorch, timed where it is there."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    made.add_argument("--list", action="store_true", help="list what there is, and stop")
    made.add_argument(
        "--minutes", type=float, default=8.0, help="for everything (default %(default)g)"
    )
    made.add_argument(
        "--seconds", type=float, default=4.0, help="of a heat's turns (default %(default)g)"
    )
    for name, what in (("net", "nets"), ("side", "sides"), ("precision", "precisions")):
        made.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="TEXT",
            help=f"{what} whose name has this text; may be repeated",
        )
    made.add_argument(
        "--data",
        default="",
        metavar="FOLDER",
        help="with MNIST's four files (default: LDL_DATA_DIR/mnist, else made-up images)",
    )
    made.add_argument("--with-cpu", action="store_true", help="the ten epochs on NumPy as well")
    made.add_argument("--seed", type=int, help="of the batches (default: another in every run)")
    made.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the JSON file (default benchmarks/results/DEVICE.json)",
    )
    made.add_argument("--table", type=Path, metavar="FILE", help="make FILE.md again, and stop")
    made.add_argument("--rehearse", action="store_true", help="tiny, on the processor, no GPU")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the sections that were asked for, or all."""
    arguments = parser()
    args = arguments.parse_args(argv)
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        arguments.error(f"no section {' or '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if args.list:
        return listing()
    if args.table:
        if not args.table.exists():
            arguments.error(f"there is no file {args.table}")
        Document(args.table).save()
        return 0
    end = time() + 60 * args.minutes
    machine = look(args.rehearse)
    if "device" not in machine:
        print(
            f"no CUDA device: {machine['why']}; --rehearse tries the workings on the processor, "
            "a GPU needs its driver and pip install 'ldl[cuda12]'",
            file=sys.stderr,
        )
        return 1
    out = args.out or FOLDER / f"{slug(machine['device'])}.json"
    return run(args, machine, out.resolve(), end)


def listing() -> int:
    """Print the names that can be chosen."""
    from benchmarks.gpu.device import Device
    from benchmarks.gpu.nets import NETS, ON_REQUEST, PRECISIONS
    from benchmarks.gpu.steps import sides

    for name, (_, what) in SECTIONS.items():
        print(f"section    {name:18} {what}")
    for net in NETS:
        print(f"net        {net.name:18} {net.title}")
    for precision in PRECISIONS:
        print(f"precision  {precision}")
    for precision in ON_REQUEST:
        print(f"precision  {precision:18} (only with --precision {precision})")
    for side in sides(Device(), PRECISIONS[0]):
        print(f"side       {side.name}")
    return 0


def look(rehearse: bool) -> dict[str, Any]:
    """The environment, by a process of its own: this one never touches the device."""
    command = [sys.executable, "-m", "benchmarks.gpu.environment"] + ["--rehearse"] * rehearse
    ran = subprocess.run(
        command,
        cwd=outside.ROOT,
        env=outside.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        return {"why": (ran.stderr.strip().splitlines() or ["it could not be looked at"])[-1]}
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def run(args: argparse.Namespace, machine: dict[str, Any], out: Path, end: float) -> int:
    """The sections one after another, each within its share of the time that is left."""
    log = Log(out.with_suffix(".log"))
    document = Document(out)
    chosen = [name for name in SECTIONS if not args.sections or name in args.sections]
    seed = args.seed if args.seed is not None else secrets.randbits(32)
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "minutes": args.minutes,
        "seed": seed,
        "rehearsal": args.rehearse,
        "status": "running",
        "sections": chosen,
    }
    shown = os.path.relpath(out)
    document.content |= {"machine": machine, "run": about}
    states = document.part("sections")
    for name in SECTIONS:
        if name in chosen or name not in states:
            states[name] = {"status": "waiting" if name in chosen else "not asked for"}
            document.content[name] = {}
    document.save()
    log(f"{machine['device']}: {', '.join(chosen)}, at most {args.minutes:g} minutes -> {shown}")
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for place, name in enumerate(chosen):
            shares = [SECTIONS[later][0] for later in chosen[place:]]
            began = time()
            until = began + max(0.0, end - began - 2) * shares[0] / sum(shares)
            document.part("sections")[name] = {"status": "running"}
            document.save()
            log(f"\n==== {name}, at most {until - began:.0f} s")
            status = "interrupted"
            try:
                status = section(name, args, document, log, until, seed)
            finally:
                state = {"status": status, "seconds": round(time() - began, 1)}
                document.part("sections")[name] = state
            log(f"==== {name}: {status}, {state['seconds']:g} s")
        document.part("run")["status"] = "complete"
    except KeyboardInterrupt:
        document.part("run")["status"] = "interrupted"
        return 130
    finally:
        document.save()
        log(f"written {shown}, {out.with_suffix('.md').name} and {out.with_suffix('.log').name}")
        for number, handler in before.items():
            signal.signal(number, handler)
    states = document.part("sections")
    return 0 if all(states[name]["status"] == "done" for name in chosen) else 1


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def section(
    name: str, args: argparse.Namespace, document: Document, log: Log, until: float, seed: int
) -> str:
    """Run one; what became of it."""
    if name == "tests":
        return outside.gpu_tests(document.part(name), until, document.save, log)
    if name == "kernels":
        few = {"backend": "numpy", "kinds": ("test_loss",), "seconds": 0.001}
        options: dict[str, Any] = few if args.rehearse else {}
        return outside.kernels(document.part(name), until, document.save, log, **options)
    task = Task(
        section=name,
        out=str(document.path),
        until=until - 3,  # to end by itself before it is ended
        seed=seed,
        seconds=args.seconds,
        nets=args.net,
        sides=args.side,
        precisions=args.precision,
        data=str(Path(args.data).resolve()) if args.data else "",
        with_cpu=args.with_cpu,
        rehearse=args.rehearse,
    )
    command = [sys.executable, "-m", "benchmarks.gpu.worker", task.text()]
    code: int | None = None
    for _ in range(TRIES):
        try:
            code = outside.stream(command, until, log)
        finally:
            document.read()  # the process wrote to it
        if code in (0, None) or time() > until - 10:
            break
        log(f"that process ended with {code}; another goes on after the side that ended it")
    return STATES.get(code, f"the process ended with {code}")


if __name__ == "__main__":
    sys.exit(main())
