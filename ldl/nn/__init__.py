"""Layers, activations, losses, containers and models."""

from ldl.nn import init as init
from ldl.nn.activations import (
    ELU,
    GELU,
    Activation,
    Identity,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from ldl.nn.autoencoder import AutoEncoder
from ldl.nn.binary_losses import BCELoss, BCEWithLogitsLoss
from ldl.nn.containers import Flatten, Parallel, Residual, Sequential
from ldl.nn.cross_entropy import CrossEntropyLoss
from ldl.nn.dropout import Dropout
from ldl.nn.linear import Linear, TiedLinear
from ldl.nn.losses import (
    ElementwiseLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
)
from ldl.nn.module import DeviceError, Module
from ldl.nn.parameter import Parameter

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "AutoEncoder",
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "DeviceError",
    "Dropout",
    "ElementwiseLoss",
    "Flatten",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "Module",
    "Parallel",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "TiedLinear",
    "init",
]
