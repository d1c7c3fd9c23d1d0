"""History: what training reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import isnan, nan
from typing import Any

from ldl.numbers import real


class History:
    """A row of figures for every epoch.

    `history["val_loss"]` is a column, NaN where an epoch has no such figure, `history.rows[-1]` the
    last epoch, `len(history)` the number of epochs, through whose rows it iterates, and
    `history.best("val_loss")` the row of the best epoch. The column "lr" is the learning rate of
    the epoch's first step, the first group's where there are several.
    """

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows = [] if rows is None else rows

    def __getitem__(self, name: str) -> list[float]:
        self._check_name(name)
        return [row.get(name, nan) for row in self.rows]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        if not self.rows:
            return "History(0 epochs)"
        last = ", ".join(
            f"{k}={v:.4g}" for k, v in self.rows[-1].items() if isinstance(v, (int, float))
        )
        return f"History({len(self)} epochs, last: {last})"

    def best(self, name: str, mode: str | None = None) -> dict[str, Any]:
        """The row of the epoch whose figure of that name is the best, the first where several are.

        `mode` is "min" or "max"; by default it follows from the name, see `better`.
        """
        sign = better(name, mode)
        self._check_name(name)
        values = [sign * _number(row.get(name)) for row in self.rows]
        epochs = [i for i, value in enumerate(values) if not isnan(value)]
        if not epochs:
            raise ValueError(f"no epoch has a figure {name!r}")
        return self.rows[min(epochs, key=values.__getitem__)]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line an epoch, under a line of names."""
        from ldl.io import write_atomically

        names = self.names()
        header = dict(zip(names, names, strict=True))
        write_atomically(path, csv_text(names, [header, *self.rows]))

    def names(self) -> list[str]:
        """Every figure's name, in the order in which they came."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def _check_name(self, name: str) -> None:
        if self.rows and not any(name in row for row in self.rows):
            raise KeyError(f"no figure is named {name!r}; there are: {', '.join(self.names())}")


def csv_text(names: list[str], rows: list[dict[str, Any]]) -> bytes:
    """Rows as lines of a CSV file, empty where one has no figure of a name."""
    import csv
    from io import StringIO

    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([row.get(name, "") for name in names] for row in rows)
    return text.getvalue().encode(errors="backslashreplace")


def _number(value: Any) -> float:
    """A figure as a float, NaN where it is none."""
    try:
        return real("a figure", value)
    except ValueError:
        return nan


def better(name: str, mode: str | None) -> float:
    """1.0 where less of a figure is better ("min"), -1.0 where more is ("max").

    Without a mode: more of what ends in accuracy, psnr, auc, f1, precision, recall or r2, less of
    what ends in loss, mse or mae; ValueError for any other name, TypeError for what is no name.
    """
    if not isinstance(name, str):
        raise TypeError(f"a figure is named by a text such as 'val_loss', got {name!r}")
    if mode is None:
        if name.endswith(("accuracy", "psnr", "auc", "f1", "precision", "recall", "r2")):
            mode = "max"
        elif name.endswith(("loss", "mse", "mae")):
            mode = "min"
        else:
            raise ValueError(
                f"whether more or less of {name!r} is better does not follow from its name: "
                'give mode="min" or mode="max"'
            )
    if mode not in ("min", "max"):
        raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
    return 1.0 if mode == "min" else -1.0
