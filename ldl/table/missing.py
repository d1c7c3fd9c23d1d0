"""Missing cells: what becomes of their rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ldl.table.cells import Host
from ldl.table.columns import Cells
from ldl.table.errors import Option, TableError, count, name

MISSING = ("error", "drop", "mean")
"""Refuse them; leave their rows out; or take the mean of numbers and no category of texts."""


def missing_rows(read: dict[str, Cells], missing: str, rows: int) -> Host:
    """The rows (N,) that are left out for a missing cell; TableError where there may be none."""
    gone = {label: int(cells.missing.sum()) for label, cells in read.items()}
    gone = {label: n for label, n in gone.items() if n}
    none = np.zeros(rows, dtype=bool)
    if missing == "mean" or not gone:
        return none
    if missing == "error":
        raise TableError(_columns(gone, rows), "", *ways(gone, rows))
    for label in gone:
        none |= read[label].missing
    return none


def ways(gone: dict[str, int], rows: int) -> list[Option]:
    """The options that help; columns that are hardly there may be left out."""
    empty = [label for label, n in gone.items() if 2 * n > rows]
    options = [("missing", "mean"), ("missing", "drop")]
    return options + [("ignore", label) for label in empty[:1]]


def _columns(gone: dict[str, int], rows: int) -> str:
    ordered = sorted(gone, key=lambda label: -gone[label])
    some = ", ".join(f"{name(label)} ({gone[label]:,})" for label in ordered[:8])
    more = f" and {len(gone) - 8} more columns" if len(gone) > 8 else ""
    return f"of {count(rows, 'row')} these columns lack values: {some}{more}"


def check_missing(missing: Any) -> str:
    """One of `MISSING`; ValueError for anything else."""
    if missing not in MISSING:
        raise ValueError(f"missing must be one of {', '.join(MISSING)}, got {missing!r}")
    return str(missing)
