"""Columns as a net sees them: numbers scaled, categories one-hot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ldl.table import cells
from ldl.table.cells import BOOLEAN, NUMBER, TEXT, Host
from ldl.table.errors import Option, Said, name

MOST = 100
"""Categories of a column that get an input each, the most frequent ones; the others get none."""


@dataclass(frozen=True)
class Number:
    """(v - mean) / deviation, cut at ± 10⁹; a missing cell is 0. Booleans count as 0 and 1."""

    name: str
    mean: float
    deviation: float
    boolean: bool = False

    width = 1

    @classmethod
    def learned(cls, label: str, values: Host, boolean: bool) -> Number:
        """Mean and deviation of the cells that are not missing."""
        present = values[~np.isnan(values)]
        deviation = float(present.std()) if len(present) else 0.0
        mean = float(present.mean()) if len(present) else 0.0
        return cls(label, mean, deviation if deviation > 1e-12 * abs(mean) else 0.0, boolean)

    @property
    def constant(self) -> bool:
        """Whether there is nothing to be learned from it."""
        return self.deviation == 0

    def read(self, column: Any) -> Cells:
        """The cells of a pandas Series."""
        values = cells.numbers(column, self.boolean)
        return Cells(values, np.isnan(values))

    def encode(self, read: Cells) -> Host:
        """Cells as inputs (N, 1)."""
        with np.errstate(over="ignore"):
            scaled = np.clip((read.values - self.mean) / self.deviation, -1e9, 1e9)
        found: Host = np.where(read.missing, 0.0, scaled)[:, None]
        return found

    def to_json(self) -> dict[str, Any]:
        """What a file says of it."""
        kind = BOOLEAN if self.boolean else NUMBER
        return {"kind": kind, "name": self.name, "mean": self.mean, "deviation": self.deviation}


@dataclass(frozen=True)
class Category:
    """1 at the place of the cell's category, else 0; all 0 for one that is missing or unseen."""

    name: str
    values: tuple[str, ...]

    @classmethod
    def learned(cls, label: str, values: Host) -> Category:
        """The `MOST` most frequent categories, in alphabetical order."""
        counted = Counter(value for value in values if value is not None)
        most = sorted(counted, key=lambda value: (-counted[value], value))[:MOST]
        return cls(label, tuple(sorted(most)))

    @property
    def width(self) -> int:
        """How many inputs it gives."""
        return len(self.values)

    @property
    def constant(self) -> bool:
        """Whether there is nothing to be learned from it."""
        return len(self.values) < 2

    def read(self, column: Any) -> Cells:
        """The cells of a pandas Series."""
        found = cells.texts(column)
        values = np.array(found, dtype=object)
        return Cells(values, np.array([value is None for value in found], dtype=bool))

    def places(self, read: Cells) -> Host:
        """The place of every cell's category, -1 where it has none."""
        places = {value: i for i, value in enumerate(self.values)}
        return np.array([places.get(value, -1) for value in read.values], dtype=np.int64)

    def encode(self, read: Cells) -> Host:
        """Cells as inputs (N, width)."""
        found: Host = self.places(read)[:, None] == np.arange(self.width)
        return found

    def to_json(self) -> dict[str, Any]:
        """What a file says of it."""
        return {"kind": TEXT, "name": self.name, "values": list(self.values)}


Column = Number | Category


@dataclass(frozen=True)
class Cells:
    """A column's cells: float64 with NaN or texts with None, and which are missing."""

    values: Host
    missing: Host

    def __getitem__(self, rows: Host) -> Cells:
        return Cells(self.values[rows], self.missing[rows])


def from_json(said: Any) -> Column:
    """The column that `to_json` described; ValueError for anything else."""
    match said:
        case {
            "kind": "number" | "boolean" as kind,
            "name": str(label),
            "mean": mean,
            "deviation": deviation,
        } if len(said) == 4 and cells.is_real(mean) and cells.is_real(deviation) and deviation > 0:
            return Number(label, float(mean), float(deviation), kind == BOOLEAN)
        case {"kind": "text", "name": str(label), "values": list(values)} if (
            len(said) == 3 and 2 <= len(values) <= MOST
        ):
            if all(isinstance(v, str) for v in values) and len(set(values)) == len(values):
                return Category(label, tuple(values))
    raise ValueError("a column is described by its kind, name and scaling or values")


@dataclass
class Plan:
    """The columns that a net is to see, each with its kind, and what is to be said of others."""

    kinds: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[Said] = field(default_factory=list)

    def leave_out(self, label: str, why: str, *options: Option) -> None:
        """Leave a column out, and say why; options keep it."""
        self.left_out.append(label)
        said = f"column {name(label)} {why} and is left out"
        self.notes.append(Said(said, "", options, "keep it"))

    def doubt(self, label: str, why: str) -> None:
        """Say what is odd about a column that stays."""
        options = (("ignore", label),)
        self.notes.append(Said(f"column {name(label)} {why}", "", options, "leave it out"))


def plan(frame: Any, target: str, categories: list[str]) -> Plan:
    """Which columns of a DataFrame are inputs, and of what kind.

    TableError for columns of dates, of numbers with texts among them, and of what is neither.
    """
    found = Plan()
    for label in [label for label in frame.columns if label != target]:
        column = frame[label]
        kind = TEXT if label in categories else cells.kind_of(column)
        if kind == cells.DATE:
            raise cells.refuse_dates(column)
        if kind == cells.EMPTY:
            found.leave_out(label, "has no value in any row")
            continue
        if kind == TEXT and _differs(column, 0.5) and label not in categories:
            found.leave_out(label, "has another text in almost every row", ("categories", label))
            continue
        if kind == NUMBER and _numbers_rows(column):
            found.doubt(label, "looks like a number of the row")
        found.kinds[label] = kind
    return found


def _differs(column: Any, share: float) -> bool:
    """Whether a column has so many different cells that they tell rows apart, not kinds of rows."""
    present = column.dropna().astype(str)
    different = present.nunique()
    return bool(different > 20 and different > share * len(present))


def _numbers_rows(column: Any) -> bool:
    """Whether a column's numbers are consecutive, in whatever order."""
    values = cells.numbers(column)
    if len(values) < 10 or np.isnan(values).any():
        return False
    return bool((np.diff(np.sort(values)) == 1).all())
