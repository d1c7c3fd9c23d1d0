"""What is predicted: one of some classes, or a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ldl.table import cells
from ldl.table.cells import Host
from ldl.table.errors import Said, TableError, count, name

CLASSIFY, REGRESS = "classify", "regress"

FEW = 20
"""Different whole numbers in a target that are still taken for classes."""

CLASSES = 1000
"""The most classes there may be."""

Label = str | int | float | bool


@dataclass(frozen=True)
class Classes:
    """Labels, whose places the net learns; `shares` are theirs of the training rows."""

    name: str
    labels: tuple[Label, ...]
    shares: tuple[float, ...]

    task = CLASSIFY

    @property
    def width(self) -> int:
        """How many outputs the net has."""
        return len(self.labels)

    def read(self, column: Any) -> Host:
        """The labels' places, -1 for a missing one; -2 for one that is none of the classes."""
        places: dict[Any, int] = {cells.as_text(label): i for i, label in enumerate(self.labels)}
        found = cells.texts(column)
        return np.array([-1 if v is None else places.get(v, -2) for v in found], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """What a file says of it."""
        labels, shares = list(self.labels), list(self.shares)
        return {"task": self.task, "name": self.name, "labels": labels, "shares": shares}


@dataclass(frozen=True)
class Scale:
    """A number; the net learns (v - mean) / deviation of the training rows."""

    name: str
    mean: float
    deviation: float

    task = REGRESS
    width = 1

    def read(self, column: Any) -> Host:
        """The numbers, NaN for a missing one."""
        return cells.numbers(column)

    def to_json(self) -> dict[str, Any]:
        """What a file says of it."""
        return {
            "task": self.task,
            "name": self.name,
            "mean": self.mean,
            "deviation": self.deviation,
        }


Target = Classes | Scale


def choose_task(column: Any, task: str) -> tuple[str, list[Said]]:
    """What `task` comes to for this target, and what is to be said of the choice.

    "auto" is to classify texts, truth values and whole numbers of which there are no more than
    `FEW` different, a tenth of the rows at most or two; and to regress other numbers. TableError
    for dates, for texts that are to be regressed, and for a target without two different values.
    """
    kind = cells.TEXT if task == CLASSIFY else cells.kind_of(column, ("task", CLASSIFY))
    label = name(column.name)
    if kind == cells.DATE:
        raise TableError(
            f"the target {label} holds dates or times", "make a number of them, such as days"
        )
    present = column.dropna()
    different = len(set(map(cells.as_text, present.tolist())))
    if different == 0:
        raise TableError(f"the target {label} has no value in any row")
    if different == 1:
        raise TableError(
            f"the target {label} is {name(present.iloc[0])} in every row",
            "choose another target",
        )
    if task == REGRESS:
        if kind == cells.TEXT:
            raise TableError(
                f"the target {label} holds text, which is no number", "", ("task", CLASSIFY)
            )
        return REGRESS, []
    if task == CLASSIFY:
        _check_classes(label, different, len(present))
        return CLASSIFY, []
    if kind != cells.NUMBER:
        _check_classes(label, different, len(present))
        return CLASSIFY, []
    values = cells.numbers(present)
    whole = bool((values == np.floor(values)).all())
    if whole and (different == 2 or different <= min(FEW, len(present) / 10)):
        note = Said(
            f"the target {label} has {different} different whole numbers, taken for classes",
            "",
            (("task", REGRESS),),
            "predict a number",
        )
        return CLASSIFY, [note]
    return REGRESS, []


def learned_classes(column: Any) -> tuple[Classes, list[Said]]:
    """The classes of a target, in order, and what is to be said of rare ones."""
    present = column.dropna()
    labels: dict[str, Label] = {}
    counted: dict[str, int] = {}
    for cell in present.tolist():
        text = cells.as_text(cell)
        labels.setdefault(text, _plain(cell))
        counted[text] = counted.get(text, 0) + 1
    alike = all(not isinstance(label, str) for label in labels.values())
    ordered = sorted(labels, key=(lambda t: float(labels[t])) if alike else str)
    rare = [text for text in ordered if counted[text] < 5]
    notes = []
    if rare:
        few = ", ".join(f"{name(text)} ({counted[text]})" for text in rare[:5])
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        notes.append(Said(f"classes of fewer than 5 rows are hardly learned: {few}{more}"))
    shares = tuple(counted[text] / len(present) for text in ordered)
    return Classes(str(column.name), tuple(labels[t] for t in ordered), shares), notes


def learned_scale(label: str, values: Host) -> Scale:
    """The scale of the training rows' numbers."""
    mean, deviation = float(values.mean()), float(values.std())
    if deviation <= 1e-12 * abs(mean):
        raise TableError(f"the target {name(label)} hardly differs from {mean:g} in any row")
    return Scale(label, mean, deviation)


def from_json(said: Any) -> Target:
    """The target that `to_json` described; ValueError for anything else."""
    match said:
        case {"task": "regress", "name": str(label), "mean": mean, "deviation": deviation} if (
            len(said) == 4 and cells.is_real(mean) and cells.is_real(deviation) and deviation > 0
        ):
            return Scale(label, float(mean), float(deviation))
        case {
            "task": "classify",
            "name": str(label),
            "labels": list(labels),
            "shares": list(shares),
        } if len(said) == 4 and 2 <= len(labels) <= CLASSES and len(shares) == len(labels):
            right = all(isinstance(v, (str, int, float)) for v in labels) and all(
                map(cells.is_real, shares)
            )
            if right and len({cells.as_text(v) for v in labels}) == len(labels):
                return Classes(label, tuple(labels), tuple(map(float, shares)))
    raise ValueError("a target is described by its task, name and classes or scaling")


def _check_classes(label: str, different: int, rows: int) -> None:
    if different > CLASSES or (different > 20 and different > 0.5 * rows):
        raise TableError(
            f"the target {label} has {different:,} different values in {count(rows, 'row')}, too "
            "many to be classes",
            "choose another target",
            ("task", REGRESS),
        )


def _plain(cell: Any) -> Label:
    """A label as JSON and CSV have it."""
    if isinstance(cell, (bool, np.bool_)):
        return bool(cell)
    if isinstance(cell, (int, np.integer)):
        return int(cell)
    if isinstance(cell, (float, np.floating)):
        return int(cell) if float(cell).is_integer() else float(cell)
    return cells.as_text(cell)
