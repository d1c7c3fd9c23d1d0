"""fit_table: train a net on a table."""

from __future__ import annotations

import os
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from ldl import nn, optim
from ldl.backend import Backend, get_backend, use_backend
from ldl.random import manual_seed
from ldl.table import scores
from ldl.table.cells import Host
from ldl.table.files import Reading, read_table
from ldl.table.model import TableModel
from ldl.table.preparing import Prepared, prepare
from ldl.table.settings import Settings
from ldl.table.target import Classes
from ldl.train import EarlyStopping, History, fit

__all__ = ["Settings", "TableFit", "fit_table", "train"]


@dataclass
class TableFit:
    """What `fit_table` has come to."""

    model: TableModel
    history: History
    best_epoch: int
    scores: scores.Scores
    """Of the rows that were held out: "accuracy", "log_loss", or "r2", "rmse", "mae", and the
    baseline's, that of the most frequent class or of the mean."""
    truth: Host
    """The target of the rows held out: places of classes, or numbers."""
    predicted: Host
    """What the model says of them."""
    prepared: Prepared
    seconds: float

    @property
    def confusion(self) -> Host | None:
        """How many of the rows held out of class i were said to be of class j; None of numbers."""
        if not isinstance(self.model.target, Classes):
            return None
        return scores.confusion(self.truth, self.predicted, self.model.target.width)

    @property
    def notes(self) -> list[str]:
        """What one should know of the table, a line each."""
        return [note.text() for note in self.prepared.notes]

    def __repr__(self) -> str:
        figures = ", ".join(f"{k}={v:.4g}" for k, v in self.scores.items() if v is not None)
        return f"TableFit({self.prepared.target.task} {self.prepared.target.name!r}: {figures})"


def fit_table(
    data: Any,
    target: str | int,
    *,
    reading: Reading | None = None,
    backend: str | Backend | None = None,
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **options: Any,
) -> TableFit:
    """Train a net that predicts one column of a table from the others.

    `data` is the path of a CSV or Parquet file (`reading` says how a text file is read), a dict of
    columns, or a DataFrame of pandas or polars, or Arrow's table. Columns are named by texts: 2
    names the column 2 as "2" does. `options` are those of `Settings`. The seed becomes that of
    ldl.manual_seed. `checkpoint` is a file that is written after every epoch, and `resume` goes on
    from it where it exists, to the model of a run that was never stopped, as those of `ldl.fit`.

    Raises TableError for a table of which nothing can be learned, with the column and the fix;
    DivergedError; CheckpointError for a checkpoint of another run; ImportError where pandas is
    not installed.
    """
    settings = Settings(**options)
    prepared = prepare(read_table(data, reading), str(target), settings)
    return train(prepared, settings, backend, progress, checkpoint, resume)


def network(inputs: int, outputs: int, settings: Settings) -> nn.Sequential:
    """Linear layers with ReLU (and Dropout) between them; the outputs are logits, or a number."""
    layers: list[nn.Module] = []
    for width in settings.hidden:
        layers += [nn.Linear(inputs, width, weight_init="he_uniform"), nn.ReLU()]
        layers += [nn.Dropout(settings.dropout)] if settings.dropout else []
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def train(
    prepared: Prepared,
    settings: Settings,
    backend: str | Backend | None = None,
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> TableFit:
    """Train a net on a table that is prepared, and measure it on the rows held out."""
    began = perf_counter()
    goal = prepared.target
    classes = isinstance(goal, Classes)
    with use_backend(get_backend(backend)):
        manual_seed(settings.seed)
        inputs = prepared.x.shape[1]
        net = network(inputs, goal.width, settings)
        loss = nn.CrossEntropyLoss() if classes else nn.MSELoss("mean")
    y = prepared.y
    if not isinstance(goal, Classes):
        y = ((y - goal.mean) / goal.deviation).astype(np.float32)[:, None]
    parts = [(prepared.x[rows], y[rows]) for rows in (prepared.train, prepared.validation)]
    schedule = optim.ReduceLROnPlateau(0.3, max(2, settings.patience // 3))
    optimizer = optim.AdamW(net, settings.lr, weight_decay=settings.weight_decay, schedule=schedule)
    stopping = EarlyStopping(patience=settings.patience)
    history = fit(
        net,
        parts[0],
        loss,
        optimizer,
        settings.epochs,
        batch_size=settings.rows_a_step(len(prepared.train)),
        validation=parts[1],
        metrics=["accuracy"] if classes else [],
        callbacks=stopping,
        seed=settings.seed,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    model = TableModel(net, prepared.inputs, goal, settings.missing, tuple(prepared.left_out))
    truth, said = prepared.y[prepared.test], model.output(prepared.x[prepared.test])
    figures = model.score(truth, said)
    predicted = said.argmax(axis=1) if classes else said
    seconds = max(perf_counter() - began, sum(history["seconds"]))
    return TableFit(
        model, history, stopping.best_epoch, figures, truth, predicted, prepared, seconds
    )
