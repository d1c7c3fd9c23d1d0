"""MNIST: the four files of LeCun, Cortes and Burges, from a folder or from a mirror."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import sys
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ldl.console import Tolerant, shown
from ldl.data.files import DEFLATE_LIMIT, Host, open_regular
from ldl.io import write_atomically
from ldl.io.files import one_line

SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
"""The files and what they must hash to; nothing else is read."""

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)

TIMEOUT = 15
"""Seconds without an answer after which a mirror is given up."""


class DataUnavailableError(RuntimeError):
    """A data set is known but cannot be had here; the message says what to do."""


class MissingPackageError(DataUnavailableError):
    """A data set needs a package that is not installed."""

    def __init__(self, what: str, package: str, otherwise: str = "") -> None:
        super().__init__(f"{what} {package}: pip install {package}{otherwise}")
        self.what, self.package, self.otherwise = what, package, otherwise


def read_mnist() -> tuple[Host, Host, Host, Host]:
    """Training images, training labels, test images, test labels, as uint8.

    Images are (60000, 28, 28) and (10000, 28, 28), labels (60000,) and (10000,).

    The files are those in the folder `mnist` of LDL_DATA_DIR, or of pooch's cache for ldl where
    that variable is not set; missing ones are downloaded into it, each whole or not at all, and the
    folder is made once there is something to put into it. A folder that has them all is only read,
    and needs neither pooch nor a network.

    Raises DataUnavailableError where a file cannot be had or has another hash than it must.
    """
    folder = _folder()
    missing = [name for name in SHA256 if not os.path.isfile(folder / name)]
    if missing:
        _download(missing, folder)
    try:
        arrays = [read_idx(_checked(folder / name)) for name in SHA256]
    except (OSError, ValueError) as error:
        raise DataUnavailableError(
            f"cannot read {shown(getattr(error, 'filename', None) or folder)}: "
            f"{getattr(error, 'strerror', None) or error}"
        ) from error
    return arrays[0], arrays[1], arrays[2], arrays[3]


def read_idx(path: str | os.PathLike[str]) -> Host:
    """The uint8 array in a gzipped IDX file; ValueError naming the file when it is not one.

    The header is two zero bytes, 0x08 for unsigned bytes, the number of axes, and the length of
    each axis in four bytes, most significant first. OSError where the file cannot be opened.
    """
    name = os.fsdecode(path)
    try:
        file, packed = open_regular(name)
        with file, gzip.open(file) as content:
            shape = _idx_shape(content)
            size = math.prod(shape)
            raw = content.read(min(size, DEFLATE_LIMIT * packed) + 1)
            if len(raw) != size:
                holds = f"more than {size}" if len(raw) > size else len(raw)
                raise ValueError(f"it promises an array {shape} but holds {holds} bytes")
        return np.frombuffer(raw, np.uint8).reshape(shape)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        fault = f"is not a gzip file, or is cut short or damaged ({one_line(error)})"
        raise ValueError(f"{shown(name)} {shown(fault)}") from error
    except ValueError as error:
        raise ValueError(f"{shown(name)}: {error}") from error


def _idx_shape(content: gzip.GzipFile) -> tuple[int, ...]:
    """The lengths of the axes, from the header; ValueError where there is none."""
    start = content.read(4)
    axes = start[3] if len(start) == 4 else 0
    lengths = content.read(4 * axes)
    if len(start) < 4 or start[:3] != b"\0\0\x08" or len(lengths) < 4 * axes:
        raise ValueError(f"it is not an IDX file of unsigned bytes: it starts {start!r}")
    if axes > 8:
        raise ValueError(f"it has {axes} axes, where images have 3 and labels 1")
    return tuple(int(n) for n in np.frombuffer(lengths, ">u4"))


def _folder() -> Path:
    given = os.environ.get("LDL_DATA_DIR")
    root = os.path.expanduser(given) if given else _pooch().os_cache("ldl")
    return Path(root) / "mnist"


def _checked(path: Path) -> Path:
    """The same path; DataUnavailableError where the file has another hash than it must."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256[path.name]:
        raise DataUnavailableError(
            f"{shown(path)} is damaged or is not MNIST's: its SHA-256 is {found[:12]}... instead "
            f"of {SHA256[path.name][:12]}...; delete it to have it downloaded again"
        )
    return path


def _download(names: list[str], folder: Path) -> None:
    """Download files of these names, and move each into the folder when it is whole."""
    _pooch()
    place = shown(folder)
    print(f"downloading MNIST, 12 MB, into {place}", file=Tolerant(sys.stderr), flush=True)
    try:
        with TemporaryDirectory(prefix="ldl-mnist-") as scratch:
            for name in names:
                _retrieve(name, Path(scratch), folder)
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(folder / name, Path(scratch, name).read_bytes())
    except OSError as error:
        raise DataUnavailableError(
            f"cannot write {place}: {error.strerror or error}; set LDL_DATA_DIR to another folder"
        ) from error


def _retrieve(name: str, scratch: Path, folder: Path) -> None:
    """Download one file into `scratch` from the first mirror that gives it as it must be."""
    pooch = _pooch()
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
    logger = pooch.get_logger()
    level = logger.level
    causes = []
    for mirror in MIRRORS:
        try:
            logger.setLevel("ERROR")  # it would announce every file and mirror
            pooch.retrieve(mirror + name, f"sha256:{SHA256[name]}", name, scratch, None, downloader)
            return
        except (OSError, ValueError) as error:
            causes.append(_cause(error))
        finally:
            logger.setLevel(level)
    raise DataUnavailableError(
        f"MNIST is not in {shown(folder)} and could not be downloaded "
        f"({'; '.join(dict.fromkeys(causes))}). Without a network: "
        f"put {', '.join(SHA256)} into a folder DIR/mnist and set LDL_DATA_DIR=DIR"
    )


def _cause(error: Exception) -> str:
    """What went wrong with a download, in a few words."""
    if isinstance(error, ValueError):
        return "a mirror sent a file with another SHA-256"
    if isinstance(error, PermissionError):
        return f"no permission to write {shown(error.filename)}"
    if getattr(error, "errno", None):
        return shown(getattr(error, "strerror", None) or error)
    kind = type(error).__name__
    return {"ConnectionError": "no connection", "ConnectTimeout": "no answer"}.get(kind, kind)


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise MissingPackageError(
            "downloading MNIST needs",
            "pooch",
            f", or set LDL_DATA_DIR=DIR with {', '.join(SHA256)} in DIR/mnist",
        ) from error
    return pooch
