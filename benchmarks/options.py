"""The options that the parts share."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import results, threads


def parser(name: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser with --threads, --quick and --out."""
    made = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--threads",
        type=int,
        default=min(threads.DEFAULT, threads.usable()),
        metavar="N",
        help="threads, and on Linux processors, for every library (default %(default)s)",
    )
    made.add_argument(
        "--quick",
        action="store_true",
        help="so short that only the workings are tried; the figures mean nothing",
    )
    made.add_argument(
        "--out",
        type=Path,
        default=results.default_path(),
        metavar="FILE",
        help="JSON file that the results are added to "
        f"(default benchmarks/results/{results.slug()}.json)",
    )
    return made


def announce(count: int) -> None:
    """Print what was pinned."""
    names = ", ".join(threads.VARIABLES)
    results.say(f"{results.processor()}: {count} threads ({names}, processor affinity)")
