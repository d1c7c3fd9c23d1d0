"""Arrays in .npz and .npy files of anybody's making: no code is run, no memory taken on a promise.

with ArrayFile("data.npz") as file:
    x = file.read("x") if "x" in file.names else None
"""

from __future__ import annotations

import math
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import IO, Any

import numpy as np

from ldl.console import shown
from ldl.io.files import one_line

Host = np.ndarray[Any, np.dtype[Any]]
"""An array on the host."""

MAGIC = b"\x93NUMPY"
"""How an .npy file begins."""

HEADER_LIMIT = 10_000
"""The most bytes that NumPy reads of a header."""

DEFLATE_LIMIT = 1032
"""How many times as large as they are compressed bytes can be that were deflated."""


class ArrayFile:
    """The arrays in a file that numpy.savez or numpy.save wrote; a single one is named x.

    `names` are those in the file, none of which is read before it is asked for. Whatever is wrong
    with the file is a ValueError of one line that names it, and no more memory is taken than a file
    of its size can hold.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        self._archive: zipfile.ZipFile | None = None
        with self._errors():
            self._file, self._size = open_regular(self.path)
            try:
                self.names = self._open()
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()
        self._file.close()

    def read(self, name: str) -> Host:
        """The array of that name."""
        with self._errors():
            if self._archive is None:
                self._file.seek(0)
                return _read(name, self._file, self._size)
            info = self._members[name]
            packed = info.compress_size
            if info.header_offset + packed > self._size or (
                info.file_size > DEFLATE_LIMIT * packed + 64
            ):
                raise ValueError(f"{shown(name)} promises more than a file of this size can hold")
            with self._archive.open(info) as member:
                return _read(name, member, info.file_size)

    def listed(self) -> str:
        """The names, for an error."""
        some = [shown(name)[:40] for name in self.names[:10]]
        return ", ".join(some + ["..."] * (len(self.names) > 10)) or "none"

    def _open(self) -> list[str]:
        """Find out what the file is; the names of its arrays."""
        start = self._file.read(6)
        if start == MAGIC:
            return ["x"]
        self._file.seek(0)
        if not zipfile.is_zipfile(self._file):
            raise ValueError("it is no .npz file, as numpy.savez writes, or is cut short")
        self._file.seek(0)
        self._archive = zipfile.ZipFile(self._file)
        entries = self._archive.infolist()
        self._members = {info.filename.removesuffix(".npy"): info for info in entries}
        return list(self._members)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """A damaged file makes zipfile, zlib and numpy raise a dozen kinds: one for all of them."""
        name = shown(self.path)
        try:
            yield
        except FileNotFoundError as error:
            raise ValueError(f"there is no file {name}") from error
        except Exception as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise ValueError(f"{name} cannot be read: {shown(reason)}") from error


def open_regular(path: str) -> tuple[BufferedReader, int]:
    """A file opened for reading, and its size; ValueError for what is none, such as a pipe."""
    if not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):
        raise ValueError("it is not a file")
    file = open(path, "rb")  # noqa: SIM115
    return file, os.fstat(file.fileno()).st_size


def _read(name: str, file: IO[bytes], size: int) -> Host:
    """The array in a .npy file of that many bytes; ValueError unless it is that, whole."""
    name = shown(name)
    start = file.read(8)
    if not start.startswith(MAGIC):
        raise ValueError(f"{name} is not an array: write the file with numpy.savez")
    version = tuple(start[6:])
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} is of a format {version} that numbers do not need")
    header = int.from_bytes(file.read(2 * version[0]), "little")
    if header > HEADER_LIMIT:
        raise ValueError(f"{name} has a header of {header} bytes, where numpy reads {HEADER_LIMIT}")
    file.seek(8)
    formats = np.lib.format
    read_header = (formats.read_array_header_1_0, formats.read_array_header_2_0)[version[0] - 1]
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, not numbers")
    takes, has = math.prod(shape) * max(dtype.itemsize, 1), size - file.tell()
    if min(shape, default=0) < 0 or takes != has:
        raise ValueError(
            f"{name} is damaged or cut short: an array {str(shape)[:60]} takes {str(takes)[:30]} "
            f"bytes, and it has {has}"
        )
    file.seek(0)
    array: Host = formats.read_array(file, allow_pickle=False)
    return array
