"""Training: the step, the loop, callbacks, metrics and checkpoints."""

from ldl.train.averages import EMA, SWA, WeightAverage
from ldl.train.callbacks import Callback, EarlyStopping, Run
from ldl.train.epoch_metrics import EpochMetric
from ldl.train.epochs import DivergedError
from ldl.train.evaluation import evaluate
from ldl.train.explain import explain
from ldl.train.history import History
from ldl.train.loggers import CSVLogger, TensorBoardLogger
from ldl.train.loop import fit
from ldl.train.metrics import Metric
from ldl.train.saving import ModelCheckpoint
from ldl.train.step import TrainStep

__all__ = [
    "EMA",
    "SWA",
    "CSVLogger",
    "Callback",
    "DivergedError",
    "EarlyStopping",
    "EpochMetric",
    "History",
    "Metric",
    "ModelCheckpoint",
    "Run",
    "TensorBoardLogger",
    "TrainStep",
    "WeightAverage",
    "evaluate",
    "explain",
    "fit",
]
