"""How a net of a table is trained."""

from __future__ import annotations

from dataclasses import dataclass

from ldl.numbers import number, positive_integer
from ldl.random import check_seed
from ldl.table.missing import check_missing

TASKS = ("auto", "classify", "regress")


@dataclass(frozen=True)
class Settings:
    """The options of `fit_table`.

    task             "auto", "classify" or "regress"
    missing          cells without a value: "error", "drop" their rows, or the "mean" for numbers
                     and no category for texts
    ignore           columns to leave out
    categories       columns whose cells are categories, though they be numbers
    hidden           widths of the hidden layers, with ReLU between them
    dropout          share of each hidden layer's outputs that are dropped in training
    epochs, patience at most so many epochs; training ends when the loss of the validation rows
                     has not fallen for `patience` of them, and the best epoch's weights stay
    batch_size       rows a step; None is 16, 32 from 500 training rows on, 128 from 10,000 on
    lr, weight_decay of AdamW; the learning rate falls where the loss no longer does
    test, validation shares of the rows that are held out for the figures, and for stopping
    seed             of weights, order and of which rows are held out
    """

    task: str = "auto"
    missing: str = "error"
    ignore: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    hidden: tuple[int, ...] = (64, 64)
    dropout: float = 0.0
    epochs: int = 200
    patience: int = 30
    batch_size: int | None = None
    lr: float = 2e-3
    weight_decay: float = 1e-4
    test: float = 0.2
    validation: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        check_missing(self.missing)
        for what in ("ignore", "categories", "hidden"):
            given = getattr(self, what)
            listed = (given,) if isinstance(given, (str, int)) else tuple(given)
            names = what != "hidden"
            object.__setattr__(self, what, tuple(map(str, listed)) if names else listed)
        for width in self.hidden:
            positive_integer("every width of hidden", width)
        for what in ("epochs", "patience"):
            positive_integer(what, getattr(self, what))
        if self.batch_size is not None:
            positive_integer("batch_size", self.batch_size)
        number("dropout", self.dropout, high=1.0)
        number("lr", self.lr, open_low=True)
        number("weight_decay", self.weight_decay)
        for what in ("test", "validation"):
            number(what, getattr(self, what), high=0.5, open_low=True)
        check_seed(self.seed)

    def rows_a_step(self, rows: int) -> int:
        """The batch size for so many training rows."""
        return self.batch_size or (16 if rows < 500 else 32 if rows < 10_000 else 128)
