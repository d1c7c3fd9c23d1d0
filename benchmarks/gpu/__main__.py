"""Everything on a GPU: `python -m benchmarks.gpu`, which is what `make gpu` runs."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from benchmarks.gpu import environment, outside
from benchmarks.gpu.document import Document, Log, report
from benchmarks.gpu.environment import slug, smi
from benchmarks.gpu.worker import LOST, Task
from benchmarks.side import reason

FOLDER = Path(__file__).parents[1] / "results"

COMMANDS = {
    "check": (1.0, "whether the machine has what is needed: a kernel, a product, a graph"),
    "tests": (6.0, "the tests marked gpu"),
    "headline": (6.0, "training steps of the two main nets, ldl beside PyTorch, taking turns"),
    "floors": (1.5, "measured rates: a copy within the device, matrix products through ldl"),
    "epochs": (1.5, "ten epochs of denoising 60,000 digits through ldl.fit"),
    "extras": (8.0, "training steps of all other nets"),
    "kernels": (2.0, "ldl's kernels, layers and losses one by one"),
}
"""In order of worth. The minutes that each may take, or its share of fewer; and what it does."""

MOST = 8.0
"""Minutes for everything that is asked for, where nothing else is said."""

STATES = {0: "done", LOST: "device lost", None: "out of time"}
TRIES = 8
"""Processes that a command may use up."""

DESCRIPTION = """\
Check a GPU machine, run the tests marked `gpu` there, and time ldl on it: each command for itself,
or several, or all of them in this order, within --minutes. Every command writes COMMAND.json and
COMMAND.log into one folder, which nothing is written outside of, and renews report.md there. All of
it is saved after every row: a run that is cut off has what it had.

The check comes first, whatever is asked for, and names the package that is missing before anything
is timed. What it finds faulty stops all but the tests.

Sides of a comparison begin with the same weights and take the same batches, fresh random numbers in
every run, in the same precision of the matrix products. Their losses over the first steps are
compared with ones computed in float64, gradients and loss being filled with NaN before each step:
who differs is reported as wrong and is not timed, who is not ready in --build seconds is left out.
The others take turns, a block of steps each; every block is timed by CUDA events and by the clock,
with one wait at its end. Beside every figure stands how it ran: "graph", "kernel by kernel" or
"layer by layer"; for PyTorch "eager", "compiled" or "graph"."""

EPILOG = """\
examples:
  python -m benchmarks.gpu                             all of it, eight minutes at most
  python -m benchmarks.gpu check tests                 two of them
  python -m benchmarks.gpu headline --minutes 3 --out /tmp/visit
  python -m benchmarks.gpu --list                      names of commands, nets and sides
  python -m benchmarks.gpu extras --net wide --precision float32
  python -m benchmarks.gpu headline --side ldl.TrainStep   also without what makes it fast, in turn
  python -m benchmarks.gpu --report FOLDER             report.md of the files there, without a GPU
  python -m benchmarks.gpu --rehearse --out /tmp/x     tiny, on the processor: the workings

Nothing needs to be installed but Python 3.11 with NumPy, safetensors, CuPy 14 and nvmath-python
with cuda-core, for the tests pytest and JAX, and PyTorch where it is to be timed. What lies
elsewhere than in that Python goes into PYTHONPATH; no network is used:
  PYTHONPATH=.:backends:/folder/with/nvmath python3 -m benchmarks.gpu
  PYTHONPATH=/folder/with/nvmath make gpu-headline PYTHON=python3 VENV= ARGS='--minutes 6'
With a VENV (the default) make installs into it all but PyTorch, timed where it is there. For a
machine without a network, python -m benchmarks.gpu.gather fetches the wheels beforehand."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "; ".join(f"{name}: {what}" for name, (_, what) in COMMANDS.items())
    made.add_argument("commands", nargs="*", metavar="COMMAND", help=f"{what} (default: all)")
    made.add_argument("--list", action="store_true", help="list what there is, and stop")
    made.add_argument(
        "--minutes", type=float, help=f"for everything (default: of the commands, {MOST:g} at most)"
    )
    made.add_argument(
        "--seconds", type=float, default=4.0, help="of a heat's turns (default %(default)g)"
    )
    made.add_argument(
        "--build",
        type=float,
        default=75.0,
        metavar="SECONDS",
        help="a side that is not ready by then is left out (default %(default)g)",
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
        metavar="FOLDER",
        help="for all that is written (default benchmarks/results/DEVICE)",
    )
    made.add_argument("--report", type=Path, metavar="FOLDER", help="renew report.md, and stop")
    made.add_argument("--rehearse", action="store_true", help="tiny, on the processor, no GPU")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the commands that were asked for, or all."""
    arguments = parser()
    args = arguments.parse_args(argv)
    unknown = [name for name in args.commands if name not in COMMANDS]
    if unknown:
        arguments.error(f"no command {' or '.join(unknown)}; there are {', '.join(COMMANDS)}")
    if args.list:
        return listing()
    if args.report:
        if not any(args.report.glob("*.json")):
            arguments.error(f"there are no results in {args.report}")
        print(f"written {report(args.report, {})}")
        return 0
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return run(args)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listing() -> int:
    """Print the names that can be chosen."""
    from benchmarks.gpu.device import Device
    from benchmarks.gpu.nets import NETS, ON_REQUEST, PRECISIONS
    from benchmarks.gpu.steps import sides

    for name, (minutes, what) in COMMANDS.items():
        print(f"command    {name:18} {what}; {minutes:g} min")
    for net in NETS:
        print(f"net        {net.name:18} {net.title}")
    for precision in PRECISIONS:
        print(f"precision  {precision}")
    for precision in ON_REQUEST:
        print(f"precision  {precision:18} (only with --precision {precision})")
    for side in sides(Device(), PRECISIONS[0]):
        print(f"side       {side.name}")
    return 0


def look(rehearse: bool, until: float) -> dict[str, Any]:
    """The environment, by a process of its own: this one never touches the device."""
    lines: list[str] = []
    command = [sys.executable, "-m", "benchmarks.gpu.environment"] + ["--rehearse"] * rehearse
    code = outside.stream(command, until, lines.append)
    found: dict[str, Any] = {}
    for line in lines:
        if line.startswith("{"):
            found = json.loads(line)
    if code != 0:
        ended = "took too long" if code is None else f"ended with {code}"
        last = next((line for line in reversed(lines) if not line.startswith("{")), "")
        found["faulty"] = f"{found.get('trying', 'the check')} {ended}" + f": {last}" * bool(last)
    return found


def run(args: argparse.Namespace) -> int:
    """The check, then the commands one after another, each within its share of what is left."""
    chosen = [name for name in COMMANDS if not args.commands or name in args.commands]
    minutes = args.minutes or min(MOST, sum(COMMANDS[name][0] for name in chosen))
    end, began = time() + 60 * minutes, time()
    run = {
        "minutes": minutes,
        "seed": args.seed if args.seed is not None else secrets.randbits(32),
        "rehearsal": args.rehearse,
    }
    stopped = False
    try:
        machine = look(args.rehearse, min(end, began + 60 * COMMANDS["check"][0]))
    except KeyboardInterrupt:
        machine, stopped = {"faulty": "it was interrupted"}, True
    name = machine.get("device") or smi().get("name", "no device")
    folder: Path = (args.out or FOLDER / slug(name)).resolve()
    shown = os.path.relpath(folder)
    why = machine.get("missing") or machine.get("faulty", "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"nothing can be written into {shown}: {reason(error)}", file=sys.stderr)
        return 1
    checked = Document(folder / "check.json")
    run_of_check = run | now() | {"status": why or "done", "seconds": round(time() - began, 1)}
    checked.content = {"machine": machine, "run": run_of_check, "check": machine}
    checked.save()
    log = Log(folder / "check.log")
    log(f"{name}: {', '.join(chosen)}, at most {minutes:g} minutes -> {shown}{os.sep}")
    for text in machine.get("notes", ()):
        log(f"NOTE: {text}")
    for what, text in machine.get("left_out", {}).items():
        log(f"without {what}: {text}")
    chosen = [name for name in chosen if name != "check"]
    if why:
        able = [name for name in chosen if name == "tests" and "missing" not in machine]
        out = [name for name in chosen if name not in able]
        log(f"STOPPED: {why}" + f"; not begun: {', '.join(out)}" * bool(out))
        chosen = [] if stopped else able
    states = [run_of_check["status"]]
    try:
        for place, name in enumerate(chosen):
            shares = [COMMANDS[later][0] for later in chosen[place:]]
            until = time() + max(0.0, end - time() - 2) * shares[0] / sum(shares)
            states.append(command(name, args, machine, run, folder, until))
    except KeyboardInterrupt:
        stopped = True
    print(f"written {shown}{os.sep}report.md and, of each command, its .json and .log", flush=True)
    if stopped:
        return 130
    return 0 if all(state == "done" for state in states) else 1


def now() -> dict[str, str]:
    """The date."""
    return {"date": datetime.now(UTC).isoformat(timespec="seconds")}


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def command(
    name: str,
    args: argparse.Namespace,
    machine: dict[str, Any],
    run: dict[str, Any],
    folder: Path,
    until: float,
) -> str:
    """Run one, from a clean document to a saved one; what became of it."""
    log, document, began = Log(folder / f"{name}.log"), Document(folder / f"{name}.json"), time()
    document.content = {"machine": machine, "run": run | now() | {"status": "running"}, name: {}}
    document.save()
    log(f"\n==== {name}, at most {until - began:.0f} s")
    status = "interrupted"
    try:
        status = work(name, args, document, log, until, run["seed"])
    except Exception as error:
        status = f"failed: {reason(error)}"
    finally:
        document.part("run").update(status=status, seconds=round(time() - began, 1))
        document.save()
        log(f"==== {name}: {status}, {time() - began:.1f} s")
    return status


def work(
    name: str, args: argparse.Namespace, document: Document, log: Log, until: float, seed: int
) -> str:
    """What a command does, in processes of their own."""
    if lacking := environment.lacks(name):
        log(f"STOPPED: {lacking}")
        return lacking
    if name == "tests":
        found = outside.pytest_command(args.rehearse)
        return outside.gpu_tests(document.part(name), until, document.save, log, found)
    task = Task(
        command=name,
        out=str(document.path),
        until=until - 3,  # to end by itself before it is ended
        seed=seed,
        seconds=args.seconds,
        build=args.build,
        nets=args.net,
        sides=args.side,
        precisions=args.precision,
        data=str(Path(args.data).resolve()) if args.data else "",
        with_cpu=args.with_cpu,
        rehearse=args.rehearse,
    )
    process = [sys.executable, "-m", "benchmarks.gpu.worker", task.text()]
    code: int | None = None
    for _ in range(TRIES):
        try:
            code = outside.stream(process, until, log)
        finally:
            document.read()  # the process wrote to it
        if code in (0, None) or time() > until - 10:
            break
        log(f"that process ended with {code}; another goes on after the side that ended it")
    return STATES.get(code, f"the process ended with {code}")


if __name__ == "__main__":
    sys.exit(main())
