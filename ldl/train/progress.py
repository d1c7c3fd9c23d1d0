"""The progress bar."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

from ldl.backend import Array


class Progress:
    """A bar with epoch, loss, metrics, samples a second and the time left.

    It is drawn by tqdm (extra `progress`); without tqdm a line is printed for every epoch. Where
    `show` is None it is silent unless standard error is a terminal. The loss is read from the
    device only when the bar is drawn again. Standard error may be missing, closed, full or unable
    to hold a text: what cannot be shown is not shown.
    """

    def __init__(self, show: bool | None, epochs: int, samples: int | None, start: int) -> None:
        self.epochs = epochs
        self._stream = _Stream(sys.stderr)
        self.show = self._stream.isatty() if show is None else show
        self._bar: Any = None
        self._drawn = perf_counter()
        if self.show:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(
                file=self._stream,
                total=None if samples is None else samples * epochs,
                initial=start * (samples or 0),
                unit=" samples",
                unit_scale=True,
                dynamic_ncols=True,
                mininterval=0.2,
            )

    def batch(self, epoch: int, size: int, loss: Array) -> None:
        """Count a batch."""
        if self._bar is None:
            return
        now = perf_counter()
        if now - self._drawn > 0.2:
            self._drawn = now
            self._bar.set_description(f"epoch {epoch}/{self.epochs}", refresh=False)
            self._bar.set_postfix_str(f"loss={float(loss):.4g}", refresh=False)
        self._bar.update(size)

    def epoch(self, row: dict[str, Any]) -> None:
        """Show an epoch's figures."""
        figures = {k: v for k, v in row.items() if k not in ("epoch", "seconds", "lr")}
        text = ", ".join(f"{name}={_short(value)}" for name, value in figures.items())
        if self._bar is not None:
            self._drawn = perf_counter()
            self._bar.set_description(f"epoch {row.get('epoch')}/{self.epochs}", refresh=False)
            self._bar.set_postfix_str(text)
        elif self.show:
            seconds = _short(row.get("seconds"), ".1f")
            self._stream.write(f"epoch {row.get('epoch')}/{self.epochs}: {text} ({seconds} s)\n")
            self._stream.flush()

    def close(self) -> None:
        """Leave the bar as it is and give the line free."""
        if self._bar is not None:
            self._bar.close()


class _Stream:
    """A text stream, or None, on which nothing fails: after an error nothing more is written."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def isatty(self) -> bool:
        try:
            return bool(self.stream.isatty())
        except Exception:
            return False

    def write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            self._attempt("write", text.encode("ascii", "replace").decode())
        except Exception:
            self.stream = None

    def flush(self) -> None:
        if hasattr(self.stream, "flush"):
            self._attempt("flush")

    def _attempt(self, name: str, *args: Any) -> None:
        try:
            getattr(self.stream, name)(*args)
        except Exception:
            self.stream = None

    def __getattr__(self, name: str) -> Any:
        """Its encoding, and its file's number, by which tqdm knows the width."""
        return getattr(self.stream, name)


def _short(value: Any, form: str = ".4g") -> str:
    try:
        return f"{value:{form}}"
    except (TypeError, ValueError):
        return str(value)
