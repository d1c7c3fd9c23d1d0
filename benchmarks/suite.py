"""A suite: parts that run one after another, each within its share of the minutes there are."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from benchmarks.compare import QUICK, Rules, Workers
from benchmarks.document import Document, Log, write_picture, write_report
from benchmarks.implementation import matches, reason
from benchmarks.process import Save, Say

FOLDER = Path(__file__).parent / "results"


@dataclass
class Task:
    """What a part is given."""

    name: str
    content: dict[str, Any]
    """To be filled."""
    machine: dict[str, Any]
    until: float
    """When to end, as `time.time()` tells it."""
    save: Save
    say: Say
    seed: int
    args: argparse.Namespace
    kind: str
    """The device of its processes, "cpu" or "cuda"."""

    def workers(self) -> Workers:
        """The processes of implementations, which a `with` ends."""
        return Workers(self.kind, self.say)

    def rules(self, **given: Any) -> Rules:
        """Those of comparisons, as the options and a part change them."""
        if self.args.quick:
            return QUICK
        return Rules(seconds=self.args.seconds, build=self.args.build, **given)


@dataclass(frozen=True)
class Part:
    """A part of a suite."""

    minutes: float
    """That it may take, or its share of fewer."""
    what: str
    run: Callable[[Task], str | None]
    """What became of it, where that is not "done"."""


@dataclass(frozen=True)
class Suite:
    """Parts in order of worth, and what comes before them."""

    command: str
    description: str
    epilog: str
    parts: dict[str, Part]
    most: float
    """Minutes for everything that is asked for, where nothing else is said."""
    seconds: float
    """Of a comparison's rounds, likewise."""
    look: Callable[[bool, float], dict[str, Any]]
    """The machine, looked at until a moment: "missing" and "faulty" say why nothing can be run,
    "able" which parts can all the same, "folder" the name of its folder of results."""
    kind: Callable[[argparse.Namespace], str]
    """The device of a run's processes."""
    listing: Callable[[], list[str]]
    options: Callable[[argparse.ArgumentParser], Any]
    """Adds its own."""
    first: str = ""
    """The part that `look` is, whose document its result goes to."""


def parser(suite: Suite) -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog=f"python -m {suite.command}",
        description=suite.description,
        epilog=suite.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "; ".join(f"{name}: {part.what}" for name, part in suite.parts.items())
    made.add_argument("parts", nargs="*", metavar="PART", help=f"{what} (default: all)")
    made.add_argument("--list", action="store_true", help="list what there is, and stop")
    made.add_argument(
        "--minutes", type=float, help=f"for everything (default: of the parts, {suite.most:g})"
    )
    made.add_argument(
        "--seconds",
        type=float,
        default=suite.seconds,
        help="of a comparison's rounds (default %(default)g)",
    )
    made.add_argument(
        "--build",
        type=float,
        default=75.0,
        metavar="SECONDS",
        help="an implementation not ready by then is left out (default %(default)g)",
    )
    choices = [("workload", "workloads"), ("implementation", "implementations")]
    for name, what in choices:
        made.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="TEXT",
            help=f"{what} whose name has this text; may be repeated",
        )
    made.add_argument("--seed", type=int, help="of the batches (default: another in every run)")
    made.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for all that is written (default benchmarks/results/MACHINE)",
    )
    made.add_argument(
        "--report", type=Path, metavar="FOLDER", help="renew report and picture, and stop"
    )
    made.add_argument(
        "--quick", action="store_true", help="tiny: tries the workings, the figures mean nothing"
    )
    suite.options(made)
    return made


def main(suite: Suite, argv: list[str] | None = None) -> int:
    """Run the parts that were asked for, or all."""
    arguments = parser(suite)
    args = arguments.parse_args(argv)
    unknown = [name for name in args.parts if name not in suite.parts]
    if unknown:
        arguments.error(f"no part {' or '.join(unknown)}; there are {', '.join(suite.parts)}")
    if args.list:
        for name, part in suite.parts.items():
            print(f"{'part':15} {name:20} {part.what}; {part.minutes:g} min")
        print("\n".join(suite.listing()))
        return 0
    if args.report:
        if not any((args.report / f"{name}.json").exists() for name in suite.parts):
            arguments.error(f"there are no results in {args.report}")
        write_picture(args.report, suite.parts)
        print(f"written {write_report(args.report, suite.parts, {})}")
        return 0
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return run(suite, args)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def run(suite: Suite, args: argparse.Namespace) -> int:
    """The look, then the parts one after another, each within its share of what is left."""
    chosen = [name for name in suite.parts if not args.parts or name in args.parts]
    minutes = args.minutes or min(suite.most, sum(suite.parts[name].minutes for name in chosen))
    end, began = time() + 60 * minutes, time()
    about = {
        "minutes": minutes,
        "seed": args.seed if args.seed is not None else secrets.randbits(32),
        "quick": args.quick,
        "threads": getattr(args, "threads", None),
    }
    stopped = False
    try:
        machine = suite.look(args.quick, min(end, began + 60))
    except KeyboardInterrupt:
        machine, stopped = {"faulty": "it was interrupted"}, True
    folder: Path = (args.out or FOLDER / machine.get("folder", "device")).resolve()
    shown = os.path.relpath(folder)
    why = machine.get("missing") or machine.get("faulty", "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"nothing can be written into {shown}: {reason(error)}", file=sys.stderr)
        return 1
    say: Say = print
    if suite.first:
        looked = Document(folder / f"{suite.first}.json", suite.parts)
        state = {"status": why or "done", "seconds": round(time() - began, 1)}
        looked.content = {"machine": machine, "run": about | now() | state, suite.first: machine}
        looked.save()
        say = Log(folder / f"{suite.first}.log")
    say(f"{', '.join(chosen)}, at most {minutes:g} minutes -> {shown}{os.sep}")
    for text in machine.get("notes", ()):
        say(f"NOTE: {text}")
    for what, text in machine.get("left_out", {}).items():
        say(f"without {what}: {text}")
    chosen = [name for name in chosen if name != suite.first]
    if why:
        able = [name for name in chosen if name in machine.get("able", ())]
        out = [name for name in chosen if name not in able]
        say(f"STOPPED: {why}" + f"; not begun: {', '.join(out)}" * bool(out))
        chosen = [] if stopped else able
    states = [why or "done"]
    try:
        for place, name in enumerate(chosen):
            shares = [suite.parts[later].minutes for later in chosen[place:]]
            until = time() + max(0.0, end - time() - 2) * shares[0] / sum(shares)
            states.append(run_part(suite, name, args, machine, about, folder, until))
    except KeyboardInterrupt:
        stopped = True
    write_picture(folder, suite.parts)
    print(f"written {shown}{os.sep}report.md and, of each part, its .json and .log", flush=True)
    if stopped:
        return 130
    return 0 if all(state == "done" for state in states) else 1


def now() -> dict[str, str]:
    """The date."""
    return {"date": datetime.now(UTC).isoformat(timespec="seconds")}


def run_part(
    suite: Suite,
    name: str,
    args: argparse.Namespace,
    machine: dict[str, Any],
    about: dict[str, Any],
    folder: Path,
    until: float,
) -> str:
    """Run one, from a clean document to a saved one; what became of it."""
    log, began = Log(folder / f"{name}.log"), time()
    document = Document(folder / f"{name}.json", suite.parts)
    document.content = {"machine": machine, "run": about | now() | {"status": "running"}, name: {}}
    document.save()
    log(f"\n==== {name}, at most {until - began:.0f} s")
    status = "interrupted"
    try:
        task = Task(
            *(name, document.part(name), machine, until, document.save, log, about["seed"], args),
            kind=suite.kind(args),
        )
        status = suite.parts[name].run(task) or "done"
    except Exception as error:
        status = f"failed: {reason(error)}"
    finally:
        document.part("run").update(status=status, seconds=round(time() - began, 1))
        document.save()
        log(f"==== {name}: {status}, {time() - began:.1f} s")
    return status


def chosen(names: list[Any], texts: list[str]) -> list[Any]:
    """Of workloads or implementations those whose names have one of the texts."""
    return [one for one in names if matches(one.name, texts)]
