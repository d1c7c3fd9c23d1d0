"""ldl, Lightweight Deep Learning: small and medium networks on NumPy or CuPy arrays."""

from importlib import import_module
from types import ModuleType

from ldl import data, distributed, nn, optim
from ldl.backend import (
    Backend,
    BackendUnavailableError,
    backend_names,
    get_backend,
    set_backend,
    use_backend,
)
from ldl.io import CheckpointError, load, register, save
from ldl.nn.check import GradientError, check_gradients
from ldl.nn.predictor import Predictor
from ldl.precision import get_matmul_precision, set_matmul_precision
from ldl.random import manual_seed
from ldl.train import (
    EMA,
    SWA,
    Callback,
    CSVLogger,
    DivergedError,
    EarlyStopping,
    EpochMetric,
    History,
    Metric,
    ModelCheckpoint,
    Run,
    TensorBoardLogger,
    TrainStep,
    evaluate,
    explain,
    fit,
)

__version__ = "0.1.0"

FURTHER = ("onnx", "plots", "sklearn", "table")
"""Packages that are imported when they are asked for: what they stand on is heavy, or an extra."""


def __getattr__(name: str) -> ModuleType:
    """Import `ldl.onnx` and the like where they are first named."""
    if name in FURTHER:
        return import_module(f"ldl.{name}")
    raise AttributeError(f"module 'ldl' has no attribute {name!r}")


__all__ = [
    "EMA",
    "SWA",
    "Backend",
    "BackendUnavailableError",
    "CSVLogger",
    "Callback",
    "CheckpointError",
    "DivergedError",
    "EarlyStopping",
    "EpochMetric",
    "GradientError",
    "History",
    "Metric",
    "ModelCheckpoint",
    "Predictor",
    "Run",
    "TensorBoardLogger",
    "TrainStep",
    "backend_names",
    "check_gradients",
    "data",
    "distributed",
    "evaluate",
    "explain",
    "fit",
    "get_backend",
    "get_matmul_precision",
    "load",
    "manual_seed",
    "nn",
    "optim",
    "register",
    "save",
    "set_backend",
    "set_matmul_precision",
    "use_backend",
]
