"""Ldl beside what a user would pick instead: whole training steps, and prediction of one row."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from benchmarks import options, results, threads

DESCRIPTION = """\
Time a training step, or the prediction of one row, of ldl and of other libraries side by side.

All sides get the same first weights and the same batches, and minimise the same function with the
same Adam. Their losses over the first steps (their outputs, for prediction) are compared with ones
computed in float64: a side that disagrees is reported as wrong and is not timed. Dropout masks
differ between libraries, so there losses must only be finite and fall.

The sides then take turns in one process (ldl without llvmlite in its own): a block of steps each, a
pause, the next side, in an order that is shuffled every round. A block gives one figure, its time
over its steps; the table has their median and minimum, both over those of the matrix products
alone (the floor), and the median over that of ldl.TrainStep. A library that is not installed is
skipped by name."""

EPILOG = """\
examples:
  python -m benchmarks.end_to_end                          all workloads, some minutes
  python -m benchmarks.end_to_end --list                   names of workloads and sides
  python -m benchmarks.end_to_end --only autoencoder-128 --side ldl --side floor --seconds 5
  python -m benchmarks.end_to_end --quick --out /tmp/x.json

Figures count only from a machine that does nothing else."""


def main(argv: list[str] | None = None) -> int:
    """Run the race of each workload that was asked for."""
    parser = options.parser("benchmarks.end_to_end", DESCRIPTION, EPILOG)
    parser.add_argument(
        "--only",
        action="append",
        metavar="TEXT",
        help="workloads whose name has this text; may be repeated",
    )
    parser.add_argument(
        "--side",
        action="append",
        metavar="TEXT",
        help="sides whose name has this text, in any case; may be repeated",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=12.0,
        metavar="S",
        help="length of a workload's race, beside building and comparing (default %(default)g)",
    )
    parser.add_argument("--list", action="store_true", help="list workloads and sides, and stop")
    args = parser.parse_args(argv)
    threads.pin(args.threads)
    warnings.simplefilter("ignore")

    from benchmarks.race import Rules, race
    from benchmarks.report import text_table
    from benchmarks.rivals import sides
    from benchmarks.workloads import WORKLOADS

    chosen = [w for w in WORKLOADS if _matches(w.name, args.only)]
    if args.list:
        for workload in WORKLOADS:
            print(f"{workload.name:20} {workload.title}")
        for side in sides():
            print(f"{'predicts' if side.predicts else 'trains':20} {side.name}")
        return 0
    if not chosen:
        parser.error(f"no workload's name has {' or '.join(args.only)}; see --list")
    rules = Rules(seconds=args.seconds)
    if args.quick:
        rules = Rules(seconds=0.0, rounds=(2, 2), steps=2, shortest=0.0, pause=0.001)
    options.announce(args.threads)
    done: list[dict[str, Any]] = []
    for workload in chosen:
        results.say(f"\n{workload.title}")
        entered = [
            s for s in sides() if s.predicts == workload.predict and _matches(s.name, args.side)
        ]
        done.append(race(workload, entered, rules, results.say))
        results.say(text_table(done[-1]))
        content = {"quick": args.quick, "pause_seconds": rules.pause, "workloads": done}
        results.add(args.out, "end_to_end", content, args.threads)
    results.say(f"\nwritten to {args.out}")
    return 0


def _matches(name: str, texts: list[str] | None) -> bool:
    return not texts or any(text.lower() in name.lower() for text in texts)


if __name__ == "__main__":
    sys.exit(main())
