"""Words for people, on streams that may be missing, closed, full or of another encoding."""

from __future__ import annotations

import io
import os
import shlex
from contextlib import suppress
from typing import Any


class Tolerant:
    """A text stream that never fails its writer: work is not lost for want of a place to print.

    `stream` may be None, as sys.stderr is without a console. A letter that its encoding has not is
    written as an escape such as \\u2026. After the first failed write (closed, full, a reader that
    has gone) `failure` is its error, and all that follows is dropped.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def fileno(self) -> int:
        """The stream's descriptor, or UnsupportedOperation."""
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return int(self.stream.fileno())

    @property
    def encoding(self) -> str:
        """The stream's encoding, UTF-8 where it has none."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    @property
    def columns(self) -> int:
        """The terminal's width, 0 where it is none or does not know."""
        try:
            return os.get_terminal_size(self.fileno()).columns
        except Exception:
            return 0

    def isatty(self) -> bool:
        """Whether somebody sees what is written."""
        try:
            return self.failure is None and bool(self.stream.isatty())
        except Exception:
            return False

    def write(self, text: str) -> int:
        """Write what can be written; the length of all of it."""
        if self.stream is not None and self.failure is None:
            try:
                self._write(text)
            except Exception as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        if self.stream is not None and self.failure is None:
            try:
                self.stream.flush()
            except Exception as error:
                self._give_up(error)

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.encoding
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def _give_up(self, error: Exception) -> None:
        """Remember the failure, and have what is still buffered end nowhere when Python ends."""
        self.failure = error
        with suppress(Exception):
            descriptor = self.stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def shown(text: object) -> str:
    """A name as it can be shown: on one line, what cannot be printed as escapes such as \\n."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def quoted(path: object) -> str:
    """A path as a shell reads it back from one printable line."""
    text = str(path)
    if text.startswith("-"):
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    plain = set(range(32, 127)) - set(b"'\\")
    letters = (chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(text))
    return "$'" + "".join(letters) + "'"
