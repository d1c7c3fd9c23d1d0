"""Predictions for networks of one's own: `python -m benchmarks.distributed`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import suite
from benchmarks.__main__ import look
from benchmarks.distributed.model import NETWORKS, Network
from benchmarks.distributed.picture import scaling
from benchmarks.distributed.sections import predicted

EPILOG = """\
examples:
  python -m benchmarks distributed                      measure first: steps and sums over ranks
  python -m benchmarks.distributed                      then predict, over networks as they are sold
  python -m benchmarks.distributed --network 'ours:3:100' --network 'the old one:30:10'
  python -m benchmarks.distributed --overlap 0.5 --picture scaling.png"""


def network(text: str) -> Network:
    """One of "name:latency in µs:Gbit/s"."""
    name, *numbers = text.rsplit(":", 2)
    try:
        latency, rate = map(float, numbers)
        if not (latency >= 0 and rate > 0):
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a network is name:latency in µs:Gbit/s, such as 'ours:1.5:200', got {text!r}"
        ) from None
    return Network(f"{name}, {rate:g} Gb/s, {latency:g} µs", latency * 1e-6, 8e-9 / rate)


def overlap(text: str) -> float:
    """A share from 0 to 1."""
    try:
        found = float(text)
        if not 0 <= found <= 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"it lies from 0 to 1, got {text!r}") from None
    return found


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.distributed",
        description="What clusters would make of steps that were measured here: strong and weak "
        "scaling by the α-β model, and where it stops paying.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--network",
        action="append",
        type=network,
        metavar="NAME:LATENCY:GBITS",
        help="latency in µs, bandwidth in Gbit/s; may be repeated",
    )
    parser.add_argument(
        "--overlap",
        type=overlap,
        default=0.0,
        metavar="SHARE",
        help="of a step's computing that hides sums (default 0: what MPI on processors hides)",
    )
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER", help="of what was measured (default: MACHINE's)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="a PNG to be written")
    args = parser.parse_args(argv)
    folder = args.results or suite.FOLDER / look(False, 0)["folder"]
    path = folder / "distributed.json"
    if not path.exists():
        parser.error(f"there is no {path}: measure first, python -m benchmarks distributed")
    document = json.loads(path.read_text())
    networks = args.network or NETWORKS
    print("\n".join(predicted(document["distributed"], networks, args.overlap)))
    if args.picture:
        drawn = scaling({"distributed": document}, networks)
        if drawn is None:
            parser.error(f"{path} has no steps: measure again, python -m benchmarks distributed")
        args.picture.write_bytes(drawn)
        print(f"\nwritten {args.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
