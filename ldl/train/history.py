"""History: what training reported."""

from __future__ import annotations

import os
from typing import Any


class History:
    """A row of figures for every epoch.

    `history["val_loss"]` is a column, `history.rows[-1]` the last epoch, `len(history)` the number
    of epochs.
    """

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows = [] if rows is None else rows

    def __getitem__(self, name: str) -> list[float]:
        if self.rows and name not in self.rows[-1]:
            raise KeyError(f"no figure is named {name!r}; there are: {', '.join(self.rows[-1])}")
        return [row[name] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        if not self.rows:
            return "History(0 epochs)"
        last = ", ".join(
            f"{k}={v:.4g}" for k, v in self.rows[-1].items() if isinstance(v, (int, float))
        )
        return f"History({len(self)} epochs, last: {last})"

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line an epoch, under a line of names."""
        from ldl.io import write_atomically

        names = list(self.rows[-1]) if self.rows else []
        lines = [names, *([str(row.get(name, "")) for name in names] for row in self.rows)]
        write_atomically(path, "".join(",".join(line) + "\n" for line in lines).encode())
