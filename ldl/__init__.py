"""ldl, Lightweight Deep Learning: small and medium networks on NumPy or CuPy arrays."""

from ldl import data, nn, optim
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
    Callback,
    DivergedError,
    EarlyStopping,
    History,
    Metric,
    Run,
    TrainStep,
    evaluate,
    fit,
)

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendUnavailableError",
    "Callback",
    "CheckpointError",
    "DivergedError",
    "EarlyStopping",
    "GradientError",
    "History",
    "Metric",
    "Predictor",
    "Run",
    "TrainStep",
    "backend_names",
    "check_gradients",
    "data",
    "evaluate",
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
