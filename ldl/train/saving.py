"""ModelCheckpoint: the model saved in the course of a fit."""

from __future__ import annotations

import os
from math import inf, isnan
from typing import Any

from ldl.io import check_writable, save
from ldl.io.files import one_line
from ldl.numbers import real
from ldl.train.callbacks import Callback, Run, check_monitored
from ldl.train.history import better


class ModelCheckpoint(Callback):
    """Save the model with `ldl.save` after every epoch, or after each that is the best so far.

        ldl.ModelCheckpoint("best.safetensors", save_best_only=True)
        ldl.ModelCheckpoint("runs/{epoch:03d}-{val_loss:.4f}.safetensors")

    In `path`, {epoch} and the name of any figure of the history in braces stand for the epoch's, as
    in str.format, and folders that are not there are made. With `save_best_only` a model is saved
    where `monitor` is better than in all epochs before, those before a resume included; `mode` says
    whether less ("min") or more ("max") is better, and follows from the name by default. What is
    saved is a model, which `ldl.load` reads, not the optimizer: to go on with a run give `fit`
    checkpoint=... . Where an EMA or SWA keeps an average, that is saved.

    `last` is the path of the model that was saved last, `best` the best figure (inf or -inf where
    there is none). ValueError, before the first epoch where names are known, for a name that no
    figure has; OSError, before it where the path is one for all epochs, where it cannot be written;
    whatever `ldl.save` raises.
    """

    everywhere = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        mode: str | None = None,
        save_best_only: bool = False,
    ) -> None:
        self.path = os.fsdecode(path)
        self.monitor = monitor
        self.save_best_only = bool(save_best_only)
        self.sign = better(monitor, mode) if self.save_best_only else 1.0
        self.last: str | None = None
        self._least = inf

    @property
    def best(self) -> float:
        """The best figure so far."""
        return self.sign * self._least

    def on_fit_begin(self, run: Run) -> None:
        """Begin anew, or behind the epochs of a run that is resumed; refuse unknown names."""
        if self.save_best_only:
            check_monitored(self, self.monitor, run)
        if run.figures:
            self._filled({**dict.fromkeys(run.figures, 1.0), "epoch": 1})
        if "{" not in self.path:
            _make_folder(self.path)
            check_writable(self.path)
        self._least = min((self._value(row) for row in run.history), default=inf)

    def on_epoch_end(self, run: Run) -> None:
        """Save where it is to be saved."""
        row = run.history.rows[-1]
        if self.save_best_only:
            run.monitored(self.monitor)  # which names what is there, where it is not
            value = self._value(row)
            if not value < self._least:
                return
            self._least = value
        path = self._filled(row)
        _make_folder(path)
        save(run.model, path)
        self.last = path

    def _value(self, row: dict[str, Any]) -> float:
        """How bad an epoch is."""
        if not self.save_best_only or self.monitor not in row:
            return inf
        value = self.sign * real(
            f"the figure {self.monitor!r}, which is monitored,", row[self.monitor]
        )
        return inf if isnan(value) else value

    def _filled(self, row: dict[str, Any]) -> str:
        """The path of an epoch."""
        try:
            return self.path.format_map(row)
        except KeyError as error:
            raise ValueError(
                f"no figure is named {error} for the path {self.path!r}; there are: "
                f"{', '.join(row)}"
            ) from error
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(
                f"the path {self.path!r} cannot be filled in: {one_line(error)}; write {{{{ and "
                "}} for braces that are meant"
            ) from error


def _make_folder(path: str) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
