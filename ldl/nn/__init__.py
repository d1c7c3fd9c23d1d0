"""Layers, activations, losses, containers and models.

Images and sequences are channels last: (N, H, W, C) and (N, L, C).
"""

from ldl.nn import init as init
from ldl.nn.activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    Identity,
    Mish,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from ldl.nn.along_axis import GLU, LogSoftmax, Softmax, Softmin
from ldl.nn.attention import MultiHeadAttention, TransformerBlock
from ldl.nn.autoencoder import AutoEncoder
from ldl.nn.batch_norm import BatchNorm1d, BatchNorm2d
from ldl.nn.binary_losses import BCELoss, BCEWithLogitsLoss
from ldl.nn.containers import Flatten, Parallel, Residual, Sequential
from ldl.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from ldl.nn.cosine_loss import CosineSimilarityLoss
from ldl.nn.cross_entropy import CrossEntropyLoss, NLLLoss
from ldl.nn.difference_losses import HuberLoss, L1Loss, MSELoss, SmoothL1Loss
from ldl.nn.dropout import Dropout, Dropout2d
from ldl.nn.embedding import Embedding, PositionalEncoding
from ldl.nn.instance_norm import InstanceNorm
from ldl.nn.likelihood_losses import KLDivLoss, PoissonNLLLoss
from ldl.nn.linear import Linear, TiedLinear
from ldl.nn.losses import (
    ElementwiseLoss,
    Loss,
)
from ldl.nn.module import DeviceError, Module
from ldl.nn.normalization import (
    GroupNorm,
    LayerNorm,
    RMSNorm,
)
from ldl.nn.padded import Padded
from ldl.nn.pair_losses import CosineEmbeddingLoss, MarginRankingLoss
from ldl.nn.parameter import Buffer, Parameter
from ldl.nn.piecewise import Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, PReLU, ReLU
from ldl.nn.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
)
from ldl.nn.recurrent import GRU, LSTM, RNN
from ldl.nn.shaping import Permute, Reshape, Upsample, ZeroPad

__all__ = [
    "ELU",
    "GELU",
    "GLU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Activation",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AutoEncoder",
    "AvgPool1d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CosineEmbeddingLoss",
    "CosineSimilarityLoss",
    "CrossEntropyLoss",
    "DeviceError",
    "Dropout",
    "Dropout2d",
    "ElementwiseLoss",
    "Embedding",
    "Flatten",
    "GlobalAvgPool",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HuberLoss",
    "Identity",
    "InstanceNorm",
    "KLDivLoss",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "MarginRankingLoss",
    "MaxPool1d",
    "MaxPool2d",
    "Mish",
    "Module",
    "MultiHeadAttention",
    "NLLLoss",
    "PReLU",
    "Padded",
    "Parallel",
    "Parameter",
    "Permute",
    "PoissonNLLLoss",
    "PositionalEncoding",
    "RMSNorm",
    "ReLU",
    "Reshape",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softmin",
    "Softplus",
    "Tanh",
    "TiedLinear",
    "TransformerBlock",
    "Upsample",
    "ZeroPad",
    "init",
]
