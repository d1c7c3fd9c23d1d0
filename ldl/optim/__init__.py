"""Optimizers, schedules of the learning rate, and gradient clipping."""

from ldl.optim.adagrad import Adagrad
from ldl.optim.adam import Adam, AdamW
from ldl.optim.adam_variants import NAdam, RAdam
from ldl.optim.clipping import clip_grad_norm_, clip_grad_value_
from ldl.optim.lion import Lion
from ldl.optim.optimizer import Optimizer
from ldl.optim.schedules import (
    Constant,
    CosineLR,
    LambdaLR,
    OneCycleLR,
    ReduceLROnPlateau,
    Schedule,
    StepLR,
    TrapezoidLR,
    WarmupLR,
)
from ldl.optim.sgd import SGD, RMSprop

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Constant",
    "CosineLR",
    "LambdaLR",
    "Lion",
    "NAdam",
    "OneCycleLR",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "ReduceLROnPlateau",
    "Schedule",
    "StepLR",
    "TrapezoidLR",
    "WarmupLR",
    "clip_grad_norm_",
    "clip_grad_value_",
]
