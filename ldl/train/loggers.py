"""Loggers: what an epoch gave, written as soon as it is there."""

from __future__ import annotations

import os
from time import time_ns
from typing import Any

from ldl.io import write_atomically
from ldl.train.callbacks import Callback, Run
from ldl.train.history import csv_text

HOW = "pip install 'ldl[tensorboard]'"


class CSVLogger(Callback):
    """A line for every epoch in a CSV file, on the disk when the epoch ends.

        ldl.fit(..., callbacks=[ldl.CSVLogger("run.csv")])

    The file is what `History.to_csv` writes: names, and then the epochs. A new fit begins it anew;
    one that is resumed goes on behind the epochs of its checkpoint. A kill loses no epoch that has
    ended. Callbacks that add figures to the history stand before it in the list. OSError, before
    the first epoch, where the file cannot be written.
    """

    everywhere = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        self._names: list[str] = []

    def on_fit_begin(self, run: Run) -> None:
        """Begin the file, with the epochs that there were."""
        self._write_whole(run)

    def on_epoch_end(self, run: Run) -> None:
        """Add the epoch's line; where it has figures of new names, write all lines anew."""
        row = run.history.rows[-1]
        if not self._names or not row.keys() <= {*self._names} or not os.path.exists(self.path):
            self._write_whole(run)
            return
        with open(self.path, "ab") as file:
            file.write(csv_text(self._names, [row]))
            file.flush()
            os.fsync(file.fileno())

    def _write_whole(self, run: Run) -> None:
        self._names = run.history.names()
        header = [dict(zip(self._names, self._names, strict=True))] if self._names else []
        write_atomically(self.path, csv_text(self._names, [*header, *run.history.rows]))


class TensorBoardLogger(Callback):
    """Every epoch's numbers for TensorBoard: `tensorboard --logdir runs`.

        ldl.fit(..., callbacks=[ldl.TensorBoardLogger("runs/mine")])

    Each figure of the history that is a number is a scalar of its name at the epoch as step,
    written by tensorboardX's own thread within a second or so, and at the latest when the fit ends,
    by an error too. A run that is resumed goes on in the same folder, in a file of its own, and
    TensorBoard leaves out what was written after its checkpoint. Needs tensorboardX; ImportError,
    before the first epoch, names the fix.
    """

    everywhere = False

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = os.fsdecode(log_dir)
        self._writer: Any = None

    def on_fit_begin(self, run: Run) -> None:
        """Open a file of events."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(f"TensorBoardLogger needs tensorboardX: {HOW}") from error
        self.close()
        purged = {"purge_step": run.epoch + 1} if run.epoch else {}
        suffix = f".{time_ns()}"  # names are otherwise of a second
        self._writer = SummaryWriter(self.log_dir, flush_secs=1, filename_suffix=suffix, **purged)

    def on_epoch_end(self, run: Run) -> None:
        """Write the epoch's numbers."""
        row = run.history.rows[-1]
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)):
                self._writer.add_scalar(name, float(value), run.epoch)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
