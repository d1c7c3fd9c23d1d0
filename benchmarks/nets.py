"""Nets of images and of sequences, as workloads."""

from __future__ import annotations

from benchmarks.kinds import Net
from benchmarks.workloads import Workload

LENET: Net = (
    *(("conv", 1, 6, 5, 2), ("relu",), ("maxpool", 2)),
    *(("conv", 6, 16, 5, 0), ("relu",), ("maxpool", 2), ("flatten",)),
    *(("linear", 400, 120), ("relu",), ("linear", 120, 84), ("relu",), ("linear", 84, 10)),
)
CONVOLUTIONS: Net = (
    *(("conv", 3, 64, 3, 1), ("batchnorm2d", 64), ("relu",)),
    *(("conv", 64, 64, 3, 1), ("batchnorm2d", 64), ("relu",)),
    *(("meanpool",), ("linear", 64, 10)),
)
NORMALISED: Net = (
    *(("linear", 784, 512), ("batchnorm1d", 512), ("relu",)),
    *(("linear", 512, 512), ("batchnorm1d", 512), ("relu",), ("linear", 512, 10)),
)
TRANSFORMER: Net = (("transformer", 128, 4, 512),)
LSTM: Net = (("lstm", 64, 128), ("linear", 128, 10))

FURTHER = (
    *(
        Workload(name, title, (), batch, loss=loss, net=net, sample=sample, compare=4)
        for name, title, batch, loss, net, sample in (
            ("lenet-64", "LeNet, batch 64", 64, "crossentropy", LENET, (28, 28, 1)),
            (
                "conv-32",
                "Convolutions 3-64-64 with BatchNorm, 32 images of 32 x 32",
                *(32, "crossentropy", CONVOLUTIONS, (32, 32, 3)),
            ),
            (
                "batchnorm-128",
                "MLP 784-512-512-10 with BatchNorm, batch 128",
                *(128, "crossentropy", NORMALISED, (784,)),
            ),
            (
                "transformer-16",
                "Transformer block, width 128, 4 heads, 16 sequences of 64",
                *(16, "squared", TRANSFORMER, (64, 128)),
            ),
            (
                "lstm-32",
                "LSTM 64-128, 32 sequences of 50",
                *(32, "crossentropy", LSTM, (50, 64)),
            ),
        )
    ),
)
"""Nets of images and of sequences."""

TINY_NETS = tuple(
    Workload(f"tiny-{name}", f"Tiny {name}", (), 8, loss=loss, net=net, sample=sample, compare=4)
    for name, loss, net, sample in (
        (
            "images",
            "crossentropy",
            (
                *(("conv", 2, 4, 3, 1), ("batchnorm2d", 4), ("relu",), ("maxpool", 2)),
                *(("conv", 4, 3, 2, 0), ("flatten",), ("linear", 12, 6), ("batchnorm1d", 6)),
                *(("relu",), ("linear", 6, 3)),
            ),
            (6, 6, 2),
        ),
        ("pooled", "squared", (("conv", 1, 4, 3, 0), ("meanpool",), ("linear", 4, 2)), (5, 5, 1)),
        ("transformer", "squared", (("transformer", 8, 2, 12),), (5, 8)),
        ("lstm", "crossentropy", (("lstm", 4, 6), ("linear", 6, 3)), (5, 4)),
    )
)
