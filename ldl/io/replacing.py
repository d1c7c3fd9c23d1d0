"""Replacing a file: at any time it is the old one or the new one whole."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from zlib import crc32

Path = str | os.PathLike[str]


def write_atomically(path: Path, data: bytes) -> None:
    """Make `data` the content of the file, which at any time is the old one or the new one whole.

    The bytes go to a temporary file in the same folder, which replaces the target once they are on
    the disk. A symbolic link is followed, and the old file's permissions are not widened.

    A failure (disk full, no permission, missing folder) raises its OSError, which names `path`, and
    leaves the old file and no temporary one. What a killed process left behind is removed by the
    next write of the same file; a lock on the temporary file tells it from one that a live process
    still writes.
    """
    with _names(path):
        _replace(os.path.realpath(os.fsdecode(path)), data)


def check_writable(path: Path) -> None:
    """OSError, as `write_atomically` raises it, where the file could not be written even if empty.

    What takes long to compute is not computed in vain; the file itself is left as it is.
    """
    with _names(path):
        target = os.path.realpath(os.fsdecode(path))
        _mode(target)
        temporary = f"{_temporary(target)}{os.urandom(8).hex()}.tmp"
        try:
            open(temporary, "xb").close()
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


@contextmanager
def _names(path: Path) -> Iterator[None]:
    """Have an OSError name the file that was asked for, not a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error


def _temporary(target: str) -> str:
    """How the paths of a target's temporary files begin, short however long its name is."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".ldl-{crc32(os.fsencode(name)):08x}-")


def _replace(target: str, data: bytes) -> None:
    mode = _mode(target)
    _sweep(target)
    while True:
        temporary = f"{_temporary(target)}{os.urandom(8).hex()}.tmp"
        try:
            with open(temporary, "xb", opener=lambda p, flags: os.open(p, flags, mode)) as file:
                if not _locked(file):
                    continue
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                if os.name == "nt":  # which does not rename an open file
                    file.close()
                os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        break
    _sync_folder(os.path.dirname(target))


def _mode(target: str) -> int:
    """The permissions that a new version of the file may have; OSError where it is no file."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return 0o666
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file, which alone can be replaced", target)
    return stat.S_IMODE(mode)


def _locked(file: BufferedWriter) -> bool:
    """Lock a new temporary file; False where a sweep was quicker and has removed it."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        return os.fstat(file.fileno()).st_nlink > 0
    return True


def _sweep(target: str) -> None:
    """Remove the temporary files of this target that nobody holds a lock on."""
    folder, prefix = os.path.split(_temporary(target))
    orphan = re.compile(re.escape(prefix) + r"[0-9a-f]{16}\.tmp")
    with suppress(ImportError, OSError):
        import fcntl

        for entry in filter(orphan.fullmatch, os.listdir(folder)):
            path = os.path.join(folder, entry)
            with suppress(OSError), open(path, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)


def _sync_folder(folder: str) -> None:
    """Put a rename on the disk, where the system can do that for a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows, or a folder that may be written and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
