"""MNIST: the four files of LeCun, Cortes and Burges, from a folder or from a mirror."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ldl.io import write_atomically

Host = np.ndarray[Any, np.dtype[Any]]
"""An array on the host."""

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
    missing = [name for name in SHA256 if not (folder / name).is_file()]
    if missing:
        _download(missing, folder)
    arrays = [read_idx(_checked(folder / name)) for name in SHA256]
    return arrays[0], arrays[1], arrays[2], arrays[3]


def read_idx(path: Path) -> Host:
    """The uint8 array in a gzipped IDX file; ValueError naming the file when it is not one.

    The header is two zero bytes, 0x08 for unsigned bytes, the number of axes, and the length of
    each axis in four bytes, most significant first.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} is not a gzip file, or is cut short ({error})") from error
    start = 4 + 4 * raw[3] if len(raw) > 3 else 4
    if len(raw) < start or raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: it starts {raw[:4]!r}")
    shape = tuple(int(n) for n in np.frombuffer(raw[4:start], ">u4"))
    if len(raw) - start != np.prod(shape, dtype=object):
        raise ValueError(f"{path} promises an array {shape} but holds {len(raw) - start} bytes")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


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
            f"{path} is damaged or is not MNIST's: its SHA-256 is {found[:12]}... instead of "
            f"{SHA256[path.name][:12]}...; delete it to have it downloaded again"
        )
    return path


def _download(names: list[str], folder: Path) -> None:
    """Download files of these names, and move each into the folder when it is whole."""
    _pooch()
    print(f"downloading MNIST, 12 MB, into {folder}", file=sys.stderr, flush=True)
    with TemporaryDirectory(prefix="ldl-mnist-") as scratch:
        for name in names:
            _retrieve(name, Path(scratch), folder)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(folder / name, Path(scratch, name).read_bytes())
            except OSError as error:
                raise DataUnavailableError(
                    f"cannot write {folder}: {error.strerror or error}; set LDL_DATA_DIR to "
                    "another folder"
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
        f"MNIST is not in {folder} and could not be downloaded ({'; '.join(dict.fromkeys(causes))})"
        f". Without a network: put {', '.join(SHA256)} into a folder DIR/mnist and set "
        "LDL_DATA_DIR=DIR"
    )


def _cause(error: Exception) -> str:
    """What went wrong with a download, in a few words."""
    if isinstance(error, ValueError):
        return "a mirror sent a file with another SHA-256"
    if isinstance(error, PermissionError):
        return f"no permission to write {error.filename}"
    kind = type(error).__name__
    return {"ConnectionError": "no connection", "ConnectTimeout": "no answer"}.get(kind, kind)


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise DataUnavailableError(
            "downloading MNIST needs pooch: pip install pooch, or set LDL_DATA_DIR=DIR with "
            f"{', '.join(SHA256)} in DIR/mnist"
        ) from error
    return pooch
