"""Training: the step, the loop, callbacks, metrics and checkpoints."""

from ldl.train.callbacks import Callback, EarlyStopping, Run
from ldl.train.epochs import DivergedError
from ldl.train.evaluation import evaluate
from ldl.train.history import History
from ldl.train.loop import fit
from ldl.train.metrics import Metric
from ldl.train.step import TrainStep

__all__ = [
    "Callback",
    "DivergedError",
    "EarlyStopping",
    "History",
    "Metric",
    "Run",
    "TrainStep",
    "evaluate",
    "fit",
]
