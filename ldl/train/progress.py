"""The progress bar."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

from ldl.backend import Array
from ldl.console import Tolerant


class Progress:
    """A bar with epoch, loss, metrics, samples a second and the time left.

    It is drawn by tqdm (extra `progress`); without tqdm a line is printed for every epoch. Where
    `show` is None it is silent unless standard error is a terminal. The loss is read from the
    device only when the bar is drawn again. Standard error may be missing, closed, full or unable
    to hold a text: what cannot be shown is not shown.
    """

    def __init__(self, show: bool | None, epochs: int, samples: int | None, start: int) -> None:
        self.epochs = epochs
        self._stream = Tolerant(sys.stderr)
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
                dynamic_ncols=self._stream.columns > 0,
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
        figures = {k: v for k, v in figures.items() if not isinstance(v, (list, tuple, dict))}
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


def _short(value: Any, form: str = ".4g") -> str:
    try:
        return f"{value:{form}}"
    except (TypeError, ValueError):
        return str(value)
