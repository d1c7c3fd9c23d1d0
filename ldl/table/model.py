"""TableModel: a net, and what it needs to know of a table's columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ldl import io, nn
from ldl.backend import Backend
from ldl.io import CheckpointError
from ldl.io.replacing import Path
from ldl.table import columns, scores, target
from ldl.table.cells import Host
from ldl.table.columns import Category, Cells, Column
from ldl.table.errors import TableError, listed, name
from ldl.table.files import Reading, read_table
from ldl.table.missing import check_missing, missing_rows
from ldl.table.target import Classes, Target

NOTE, VERSION = "table", 1
"""The name under which a model file's notes have the columns, and the version of what they say."""


@dataclass
class Encoded:
    """The inputs (N, D) of a table's rows, float32, and what was found on the way."""

    x: Host
    left_out: Host
    """Rows (N,) that lack a value and get no prediction."""
    missing: dict[str, int] = field(default_factory=dict)
    """Missing cells, by column."""
    unseen: dict[str, int] = field(default_factory=dict)
    """Cells of categories that the net has no input for, by column."""
    extra: list[str] = field(default_factory=list)
    """Columns that the net does not know."""


@dataclass
class Predictions:
    """What a net says of a table's rows."""

    values: Host
    """Labels or numbers (N,); None or NaN where a row was left out."""
    probabilities: Host | None
    """Of the classes (N, K), NaN where a row was left out; None where numbers are predicted."""
    encoded: Encoded
    scores: scores.Scores | None
    """Where the table has the target's column too, over the rows that have a value there."""
    scored: int = 0
    """How many rows these are."""


class TableModel:
    """A net over a table's columns, which it names, scales and numbers by itself.

    `predict` takes a path, a pandas DataFrame or a dict of columns, in any order; columns that the
    net does not know are passed over. A category that it has not seen is none of those it knows.
    `missing` is "error", "drop" (such rows get no prediction) or "mean", by default as it was
    trained.
    """

    def __init__(
        self,
        net: nn.Module,
        inputs: tuple[Column, ...],
        target: Target,
        missing: str = "error",
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.net, self.inputs, self.target = net, inputs, target
        self.missing = check_missing(missing)
        self.left_out = left_out

    @property
    def width(self) -> int:
        """How many inputs the columns give."""
        return sum(column.width for column in self.inputs)

    def predict(
        self, data: Any, missing: str | None = None, *, reading: Reading | None = None
    ) -> Host:
        """The label or number of every row, (N,)."""
        return self.predictions(data, missing, reading=reading).values

    def predictions(
        self, data: Any, missing: str | None = None, *, reading: Reading | None = None
    ) -> Predictions:
        """`predict`, with probabilities, counts, and scores where the target is there too."""
        frame = read_table(data, reading)
        encoded = self.encode(frame, missing)
        there = ~encoded.left_out
        output = self.output(encoded.x[there])
        if isinstance(self.target, Classes):
            likely = np.full((len(there), self.target.width), np.nan)
            likely[there] = output
            labels = np.array([*self.target.labels, None], dtype=object)
            places = np.full(len(there), self.target.width)
            places[there] = output.argmax(axis=1)
            found = Predictions(labels[places], likely, encoded, None)
        else:
            values = np.full(len(there), np.nan)
            values[there] = output
            found = Predictions(values, None, encoded, None)
        if self.target.name in frame.columns:
            truth = self.target.read(frame[self.target.name])
            known = there & (truth >= 0 if truth.dtype.kind == "i" else ~np.isnan(truth))
            found.scored = int(known.sum())
            if found.scored:
                said = found.values if found.probabilities is None else found.probabilities
                found.scores = self.score(truth[known], said[known])
        return found

    def output(self, x: Host) -> Host:
        """Of inputs (N, D) the probabilities (N, K), or the numbers (N,), in float64."""
        y: Host = self.net.backend.to_numpy(self.net.predict(x)).astype(np.float64)
        if not isinstance(self.target, Classes):
            y = y[:, 0] * self.target.deviation + self.target.mean
        else:
            y = np.exp(y - y.max(axis=1, keepdims=True))
            y /= y.sum(axis=1, keepdims=True)
        return y

    def score(self, truth: Host, said: Host) -> scores.Scores:
        """The figures of places and probabilities, or of numbers."""
        if isinstance(self.target, Classes):
            return scores.classification(truth, said, np.array(self.target.shares))
        return scores.regression(truth, said, self.target.mean)

    def encode(self, frame: Any, missing: str | None = None) -> Encoded:
        """The inputs of a DataFrame's rows; TableError for one that lacks columns or values."""
        missing = self.missing if missing is None else check_missing(missing)
        absent = [column.name for column in self.inputs if column.name not in frame.columns]
        if absent:
            raise TableError(
                f"the table lacks {listed(absent)}, which the model was trained with; it has "
                f"{listed([str(label) for label in frame.columns])}"
            )
        read = {column.name: column.read(frame[column.name]) for column in self.inputs}
        gone = missing_rows(read, missing, len(frame))
        known = {self.target.name, *self.left_out, *read}
        return Encoded(
            encoded(self.inputs, read),
            gone,
            {label: int(n) for label, c in read.items() if (n := c.missing.sum())},
            _unseen(self.inputs, read),
            [str(label) for label in frame.columns if label not in known],
        )

    def save(self, path: Path) -> None:
        """Write net and columns into one safetensors file, which `ldl.load` reads the net of."""
        said = {
            "version": VERSION,
            "columns": [column.to_json() for column in self.inputs],
            "target": self.target.to_json(),
            "missing": self.missing,
            "left_out": list(self.left_out),
        }
        io.save(self.net, path, notes={NOTE: said})

    @classmethod
    def load(cls, path: Path, backend: str | Backend | None = None) -> TableModel:
        """The model of such a file; CheckpointError for any other, OSError for none."""
        net, notes = io.load_with_notes(path, backend)
        if NOTE not in notes:
            raise CheckpointError(
                f"{path} holds a model that was not trained on a table's columns: give one that "
                "ldl train or TableModel.save wrote"
            )
        try:
            return cls._described(net, notes[NOTE])
        except ValueError as error:
            raise CheckpointError(f"{path} holds no table's model: {error}") from error

    @classmethod
    def _described(cls, net: nn.Module, said: Any) -> TableModel:
        match said:
            case {
                "version": 1,
                "columns": list(inputs),
                "target": goal,
                "missing": missing,
                "left_out": list(left_out),
            } if len(said) == 5 and all(isinstance(label, str) for label in left_out):
                known = tuple(columns.from_json(column) for column in inputs)
                model = cls(net, known, target.from_json(goal), missing, tuple(left_out))
            case _:
                raise ValueError("its description is of another version: update ldl")
        labels = [column.name for column in known]
        if len(set(labels)) < len(labels) or model.target.name in labels:
            raise ValueError("it names a column twice")
        try:
            shape = net.predict(np.zeros((1, model.width), np.float32)).shape
        except Exception as error:
            raise ValueError(f"its net does not take {model.width} inputs") from error
        if tuple(shape) != (1, model.target.width):
            raise ValueError(f"its net does not give {model.target.width} outputs")
        return model


def encoded(inputs: tuple[Column, ...], read: dict[str, Cells]) -> Host:
    """The inputs (N, D) of columns' cells, side by side."""
    return np.concatenate(
        [column.encode(read[column.name]).astype(np.float32) for column in inputs], axis=1
    )


def _unseen(inputs: tuple[Column, ...], read: dict[str, Cells]) -> dict[str, int]:
    """How many cells of each column hold a category that it has no input for."""
    found = {}
    for column in inputs:
        if isinstance(column, Category):
            cells = read[column.name]
            strange = int(((column.places(cells) < 0) & ~cells.missing).sum())
            if strange:
                found[column.name] = strange
    return found


def describe(counts: dict[str, int]) -> str:
    """Counts by column, for people."""
    return ", ".join(f"{name(label)} ({n:,})" for label, n in counts.items())
