"""From a table to arrays: columns read, rows shared out, what is to be learned of the columns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from ldl import random
from ldl.table import columns as kinds
from ldl.table import target as goals
from ldl.table.cells import BOOLEAN, TEXT, Host
from ldl.table.columns import Category, Cells, Column, Number
from ldl.table.errors import Said, TableError, count, listed, name
from ldl.table.missing import missing_rows, ways
from ldl.table.model import encoded
from ldl.table.settings import Settings
from ldl.table.target import Target

FEWEST = 10
"""The fewest rows that something is learned of."""

ROUGH = 100
"""Rows below which the figures of those held out are said to be rough."""

SPLITS = 8
"""Index of the stream of random numbers that shares rows out."""


@dataclass
class Prepared:
    """A table as a net learns of it: rows without those that were dropped."""

    inputs: tuple[Column, ...]
    target: Target
    x: Host
    y: Host
    train: Host
    validation: Host
    test: Host
    rows: int
    """Rows of the table, those dropped among them."""
    left_out: list[str] = field(default_factory=list)
    notes: list[Said] = field(default_factory=list)

    @property
    def dropped(self) -> int:
        """Rows that were dropped for a missing cell."""
        return self.rows - len(self.x)


def prepare(frame: Any, target: str, settings: Settings) -> Prepared:
    """Read the columns of a DataFrame, choose the task, share the rows out and scale.

    What is learned of the columns, means and categories, is learned of the training rows alone.
    """
    _check_columns(frame, target, settings)
    rows = len(frame)
    frame = frame.drop(columns=list(settings.ignore))
    task, notes = goals.choose_task(frame[target], settings.task)
    found = kinds.plan(frame, target, list(settings.categories))
    notes += found.notes
    if not found.kinds:
        raise TableError(f"there is no column beside the target {name(target)} to learn from")
    read = {label: _reader(label, kind).read(frame[label]) for label, kind in found.kinds.items()}
    keep = ~_incomplete(frame[target], read, settings.missing, notes)
    if keep.sum() < FEWEST:
        dropped = f" that lack no value, of {rows:,}" if keep.sum() < rows else ""
        raise TableError(
            f"the table has {count(int(keep.sum()), 'row')}{dropped}, too few to learn from: give "
            f"{FEWEST} at least"
        )
    read = {label: cells[keep] for label, cells in read.items()}
    column = frame[target][keep]
    goal, y, train, validation, test, more = _shared_out(column, task, settings)
    notes += more
    inputs = []
    for label, kind in found.kinds.items():
        learned = _learned(label, kind, read[label][train])
        if learned.constant:
            found.left_out.append(label)
            notes.append(
                Said(f"column {name(label)} is the same in all training rows and is left out")
            )
        else:
            inputs.append(learned)
            notes += _on_categories(learned, read[label][train])
    if not inputs:
        raise TableError(
            "every column is the same in all training rows", "give others to learn from"
        )
    if len(y) < ROUGH:
        notes.append(Said(f"{count(len(test), 'row')} held out of {len(y)}: the figures are rough"))
    return Prepared(
        tuple(inputs),
        goal,
        encoded(tuple(inputs), read),
        y,
        train,
        validation,
        test,
        rows,
        [*settings.ignore, *found.left_out],
        notes,
    )


def _check_columns(frame: Any, target: str, settings: Settings) -> None:
    known = [str(label) for label in frame.columns]
    for what, label in [
        ("target", target),
        *(("ignore", n) for n in settings.ignore),
        *(("categories", n) for n in settings.categories),
    ]:
        if label not in known:
            near = [other for other in known if other.lower() == label.lower()]
            near += get_close_matches(label, known, 1)
            meant = f"did you mean {name(near[0])}?" if near else f"there are {listed(known)}"
            raise TableError(f"no column is named {name(label)} ({what}); {meant}")
    if target in settings.ignore:
        raise TableError(f"the target {name(target)} cannot be left out", "ignore other columns")
    if target in settings.categories:
        raise TableError(f"{name(target)} is the target", "", ("task", "classify"))


def _reader(label: str, kind: str) -> Column:
    """A column that reads cells and has learned nothing yet."""
    return Category(label, ()) if kind == TEXT else Number(label, 0.0, 1.0, kind == BOOLEAN)


def _learned(label: str, kind: str, cells: Cells) -> Column:
    if kind == TEXT:
        return Category.learned(label, cells.values)
    return Number.learned(label, cells.values, kind == BOOLEAN)


def _incomplete(target: Any, read: dict[str, Cells], missing: str, notes: list[Said]) -> Host:
    """The rows (N,) that are dropped for what they lack."""
    lacking: Host = target.isna().to_numpy(dtype=bool)
    rows, label = len(lacking), str(target.name)
    if lacking.any() and missing == "error":
        gone = int(lacking.sum())
        raise TableError(
            f"the target {name(label)} lacks a value in {gone:,} of {count(rows, 'row')}",
            "fill it in",
            ("missing", "drop"),
        )
    dropped = missing_rows(read, missing, rows) | lacking
    if dropped.any():
        notes.append(
            Said(f"{int(dropped.sum()):,} of {count(rows, 'row')} dropped for missing values")
        )
    filled = {label: n for label, c in read.items() if (n := int((c.missing & ~dropped).sum()))}
    if filled:
        some = ", ".join(f"{name(label)} ({n:,})" for label, n in [*filled.items()][:8])
        notes.append(Said(f"missing values filled in: {some}{' ...' if len(filled) > 8 else ''}"))
    for label, n in filled.items():
        if 2 * n > rows:
            said = f"column {name(label)} is missing in most rows"
            notes.append(Said(said, "", tuple(ways({label: n}, rows)[2:]), "leave it out"))
    return dropped


def _shared_out(
    column: Any, task: str, settings: Settings
) -> tuple[Target, Host, Host, Host, Host, list[Said]]:
    """The target, its values (N,), training, validation and test rows, and notes."""
    rows = len(column)
    order = random.permutation(rows, random.Stream(settings.seed, random.SPLIT, SPLITS).next())
    if task == goals.REGRESS:
        y = goals.Scale(str(column.name), 0.0, 1.0).read(column)
        ends = np.cumsum(
            [max(1, round(settings.test * rows)), max(1, round(settings.validation * rows))]
        )
        test, validation, train = np.split(order, ends)
        scale = goals.learned_scale(str(column.name), y[train])
        return scale, y, train, validation, test, []
    classes, notes = goals.learned_classes(column)
    if rows < 3 * classes.width:
        raise TableError(
            f"{count(rows, 'row')} are too few for {classes.width} classes",
            f"give {3 * classes.width} at least",
        )
    y = classes.read(column)
    test, rest = _stratified(y, order, settings.test)
    validation, train = _stratified(y, rest, settings.validation / (1 - settings.test))
    shares = np.bincount(y[train], minlength=classes.width) / len(train)
    return replace(classes, shares=tuple(shares.tolist())), y, train, validation, test, notes


def _stratified(y: Host, order: Host, share: float) -> tuple[Host, Host]:
    """A share of the rows in `order`, from every class in proportion, and the rest.

    The first row of every class is in the rest.
    """
    by_class = order[np.argsort(y[order], kind="stable")]
    first = np.r_[True, np.diff(y[by_class]) != 0]
    free = by_class[~first]
    wanted = max(1, round(share * len(order)))
    steps = np.floor(np.arange(len(free) + 1) * min(1.0, wanted / len(free)) + 0.5)
    taken = np.diff(steps) > 0
    chosen = free[taken]
    rest = np.concatenate([by_class[first], free[~taken]])
    return chosen, rest


def _on_categories(column: Column, cells: Cells) -> list[Said]:
    """What is to be said of a column that has more categories than inputs."""
    if not isinstance(column, Category):
        return []
    different = len({value for value in cells.values if value is not None})
    if different == column.width:
        return []
    return [
        Said(
            f"column {name(column.name)} has {different:,} categories; the {column.width} most "
            "frequent ones get an input each"
        )
    ]
