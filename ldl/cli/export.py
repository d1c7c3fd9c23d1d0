"""`ldl export`: a saved model as a file for programs that have no ldl."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ldl.cli.errors import CommandError, UsageError
from ldl.cli.files import check_out, loaded
from ldl.console import shown
from ldl.io.files import one_line

ENDS = {"onnx": ".onnx", "python": ".py"}


def add_to(commands: Any) -> None:
    """Add the command to an ArgumentParser's subparsers."""
    parser = commands.add_parser(
        "export",
        help="write a saved model for programs that have no ldl",
        description="Write a model that ldl.save, ldl train or ldl denoise wrote as an ONNX file, "
        "which ONNX Runtime and many others read, or as a Python file that needs NumPy alone: "
        "`from model import predict`, and `python model.py` checks it.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL.safetensors", help="the saved model")
    parser.add_argument("--to", required=True, choices=list(ENDS), help="what kind of file")
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="the file to write, by default the model's name with .onnx or .py; one that is "
        "already there is overwritten",
    )
    parser.add_argument(
        "--shape",
        metavar="N[,N...]",
        type=_shape,
        help="of one sample, as 28,28,1 for images (channels last) or 64 for 64 tokens; dense "
        "models know it themselves",
    )
    parser.set_defaults(run=run)


def _shape(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(n) for n in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"takes positive numbers such as 28,28,1, got {text!r}")
    return found


def run(args: argparse.Namespace) -> None:
    """Read and write; CommandError for whatever the user can mend."""
    from ldl import onnx

    out = args.out or os.path.splitext(args.model)[0] + ENDS[args.to]
    check_out(out, ENDS[args.to], model=args.model)
    model = loaded(args.model)
    write = onnx.export if args.to == "onnx" else onnx.export_python
    try:
        write(model, out, args.shape)
    except ValueError as error:
        what = str(error)
        if args.shape is None and "shape=" in what:
            what = "this model does not say how its samples look: give --shape, such as 28,28,1"
        raise UsageError(what) from error
    except ImportError as error:
        raise CommandError(one_line(error)) from error
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror or error}") from error
    print(f"written {shown(out)}: {os.path.getsize(out):,} bytes")
