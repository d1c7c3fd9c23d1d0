"""`ldl apply`: run a saved autoencoder over one's own samples."""

from __future__ import annotations

import argparse
from io import BytesIO
from typing import Any

import numpy as np

import ldl
from ldl.cli.errors import CommandError, UsageError, warn
from ldl.cli.files import autoencoder, check_out
from ldl.console import shown
from ldl.data.datasets import FILES, read_samples
from ldl.data.files import Host
from ldl.io import write_atomically
from ldl.io.files import one_line

BATCH = 1024
"""Samples that the model sees at a time, so that its layers' outputs stay small."""


def add_to(commands: Any) -> None:
    """Add the command to an ArgumentParser's subparsers."""
    parser = commands.add_parser(
        "apply",
        help="run a saved autoencoder over samples of your own",
        description="Run an autoencoder that `ldl denoise` or ldl.save wrote over the samples in "
        "a file, and write what it makes of them into another, as an array of the same shape.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL.safetensors", help="the saved model")
    parser.add_argument(
        "input",
        metavar="INPUT.npz",
        help="or an .npy file: array x (or the only one there is) of rows or images, integers "
        "0..255 or floats 0..1, as many values a sample as the model takes",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="OUT.npz",
        help="the file to write, float32: array x of an .npz file, or an .npy file; one that is "
        "already there is overwritten",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read, compute and write; CommandError for whatever the user can mend."""
    out = args.out
    alone = out.lower().endswith(".npy")
    check_out(out, *FILES, model=args.model, input=args.input)
    model = autoencoder(args.model, "ldl apply")
    try:
        x, shape = read_samples(args.input)
        with np.errstate(over="ignore", invalid="ignore"):
            y = _output(model, x, shape).reshape(shape)
        content = BytesIO()
        if alone:
            np.save(content, y)
        else:
            np.savez(content, x=y)
        write_atomically(out, content.getvalue())
    except ValueError as error:
        raise UsageError(str(error)) from error
    except MemoryError as error:
        raise CommandError("not enough memory: give a file of fewer samples") from error
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror or error}") from error
    if not np.isfinite(y).all():
        warn("ldl apply: the model gives NaN or infinity for some of these samples")
    print(f"written {shown(out)}: {'an array' if alone else 'array x'} of shape {shape}, float32")


def _output(model: ldl.nn.AutoEncoder, x: Host, shape: tuple[int, ...]) -> Host:
    """What the model makes of rows x (N, D), by batches; `shape` is how the file has them."""
    width = x.shape[1]
    takes = next((m.in_features for m in model.modules() if isinstance(m, ldl.nn.Linear)), width)
    if takes != width:
        image = f" ({'x'.join(map(str, shape[1:]))})" if len(shape) > 2 else ""
        raise UsageError(f"a sample of x has {width} values{image}, the model takes {takes}")
    y = np.empty_like(x)
    for start in range(0, len(x), BATCH):
        try:
            part = model.backend.to_numpy(model.denoise(x[start : start + BATCH]))
        except (TypeError, ValueError) as error:
            fault = f"the model does not take samples of {width} values: {one_line(error)}"
            raise CommandError(fault) from error
        if part.shape[1:] != (width,):
            gives = "x".join(map(str, part.shape[1:]))
            raise CommandError(f"the model gives {gives} values for {width}: not an image again")
        y[start : start + BATCH] = part
    return y
