"""`ldl codes`: the codes that a saved autoencoder gives samples, and what they are worth."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

import ldl
from ldl.cli.errors import CommandError, UsageError, warn
from ldl.cli.files import autoencoder, check_out
from ldl.console import shown
from ldl.data.datasets import read_labels, read_samples
from ldl.data.files import Host
from ldl.io import write_atomically
from ldl.io.files import one_line


def add_to(commands: Any) -> None:
    """Add the command to an ArgumentParser's subparsers."""
    parser = commands.add_parser(
        "codes",
        help="write the codes of samples, draw them, and cluster them",
        description="Run the encoder of an autoencoder that `ldl denoise` or ldl.save wrote over "
        "the samples in a file. Where the file has labels (an array y), k-means groups the codes "
        "into as many clusters as there are labels and says how pure they are: the share of "
        "samples whose label is the commonest of their cluster.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL.safetensors", help="the saved autoencoder")
    parser.add_argument(
        "input",
        metavar="INPUT.npz",
        help="array x of rows or images, as for ldl apply, and y of labels if there are any",
    )
    parser.add_argument(
        "--out",
        default="codes.npz",
        metavar="OUT.npz",
        help="the file to write: arrays codes, and y if there is one (default codes.npz)",
    )
    parser.add_argument(
        "--plot",
        action="store_true",
        help="draw the codes beside it, as OUT.png: two of a code's numbers, or the two directions "
        "in which codes vary most",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="where k-means begins (default 0)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read, encode, write, draw and cluster; CommandError for whatever the user can mend."""
    check_out(args.out, ".npz", model=args.model, input=args.input)
    model = autoencoder(args.model, "ldl codes")
    try:
        x, _ = read_samples(args.input)
        labels = read_labels(args.input, len(x))
        codes = _codes(model, x)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot read {args.input}: {error.strerror or error}") from error
    content = BytesIO()
    if labels is None:
        np.savez(content, codes=codes)
    else:
        np.savez(content, codes=codes, y=labels)
    _write(args.out, content.getvalue())
    print(f"written {shown(args.out)}: array codes of shape {codes.shape}, {codes.dtype}")
    if args.plot:
        _draw(codes, labels, str(Path(args.out).with_suffix(".png")))
    if labels is None:
        print(f"{shown(args.input)} has no labels y: no purity")
    elif find_spec("sklearn") is None:
        warn("ldl codes: k-means needs scikit-learn: pip install scikit-learn")
    else:
        kinds = len(np.unique(labels))
        found = purity(codes, labels, args.seed)
        print(f"k-means, {kinds} clusters of {len(x):,} codes: {found:.2%} pure")


def _codes(model: ldl.nn.AutoEncoder, x: Host) -> Host:
    """The codes of rows, each as one row."""
    try:
        found: Host = model.backend.to_numpy(model.encoder.predict(x))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the model does not take samples of {x.shape[1]} values: {one_line(error)}"
        ) from error
    return found.reshape(len(found), -1)


def purity(codes: Host, labels: Host, seed: int = 0) -> float:
    """Σ_k max_c n_kc / N: the share of samples whose label is their cluster's commonest."""
    from sklearn.cluster import KMeans

    kinds, number = np.unique(labels, return_inverse=True)
    if len(kinds) > len(codes):
        return 1.0
    clusters = KMeans(len(kinds), n_init=10, random_state=seed).fit_predict(codes)
    table = np.zeros((len(kinds), len(kinds)), np.int64)
    np.add.at(table, (clusters, number.reshape(-1)), 1)
    return float(table.max(axis=1).sum() / len(codes))


def _draw(codes: Host, labels: Host | None, path: str) -> None:
    if codes.shape[1] < 2:
        warn("ldl codes: a code of one number is not drawn: there is no plane for it")
        return
    try:
        from ldl.plots import latent_space
        from ldl.plots.axes import png
    except ImportError as error:
        warn(f"ldl codes: {one_line(error)}")
        return
    _write(path, png(latent_space(codes, labels)))
    print(f"written {shown(path)}")


def _write(path: str, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error
