"""Models of PyTorch's and the equal ones of ldl: one table for the tests that compare them."""

from __future__ import annotations

from typing import Any

import torch

from ldl import nn

T = torch.nn


class Last(T.Module):
    """The outputs of a recurrent layer, of which the first is all steps'."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0]


class Attention(T.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__()
        self.layer = T.MultiheadAttention(*args, batch_first=True, **options)

    def forward(self, x: Any) -> Any:
        return self.layer(x, x, x)[0]


class Around(T.Module):
    """x + f(x)."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Any) -> Any:
        return x + self.body(x)


class Beside(T.Module):
    def __init__(self, *branches: Any) -> None:
        super().__init__()
        self.branches = T.ModuleList(branches)

    def forward(self, x: Any) -> Any:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Halves(T.Module):
    def __init__(self, encoder: Any, decoder: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Any) -> Any:
        return self.decoder(self.encoder(x))


class Turned(T.Module):
    """(N, C, L) to (N, L, C), as a recurrent layer wants what convolutions make."""

    def forward(self, x: Any) -> Any:
        return x.transpose(1, 2)


Case = tuple[Any, Any, tuple[int, ...], dict[str, Any]]
OPTIONS = dict(bidirectional=True, num_layers=2)
ENCODER = dict(batch_first=True, dropout=0.1)
CASES: dict[str, Case] = {
    "Linear": (lambda: T.Linear(5, 3), lambda: nn.Linear(5, 3), (4, 5), {}),
    "Linear without bias": (
        lambda: T.Linear(5, 3, bias=False),
        lambda: nn.Linear(5, 3, bias=False),
        (4, 5),
        {},
    ),
    "Conv1d": (
        lambda: T.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
        (2, 4, 9),
        {},
    ),
    "Conv2d": (
        lambda: T.Conv2d(3, 4, (3, 2), padding=(1, 0), dilation=(1, 2)),
        lambda: nn.Conv2d(3, 4, (3, 2), padding=(1, 0), dilation=(1, 2)),
        (2, 3, 5, 6),
        {},
    ),
    "Conv2d, depthwise": (
        lambda: T.Conv2d(4, 8, 3, groups=4, bias=False),
        lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False),
        (2, 4, 5, 5),
        {},
    ),
    "ConvTranspose1d": (
        lambda: T.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, groups=2),
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, groups=2),
        (2, 4, 5),
        {},
    ),
    "ConvTranspose2d": (
        lambda: T.ConvTranspose2d(3, 4, (3, 2), stride=2, padding=1),
        lambda: nn.ConvTranspose2d(3, 4, (3, 2), stride=2, padding=1),
        (2, 3, 4, 4),
        {},
    ),
    "ConvTranspose2d, groups": (
        lambda: T.ConvTranspose2d(4, 6, 3, groups=2),
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
        (2, 4, 4, 3),
        {},
    ),
    "PReLU": (lambda: T.PReLU(4), lambda: nn.PReLU(4), (3, 4, 5), {}),
    "BatchNorm1d": (lambda: T.BatchNorm1d(4), lambda: nn.BatchNorm1d(4), (3, 4), {}),
    "BatchNorm1d of sequences": (
        lambda: T.BatchNorm1d(4, affine=False),
        lambda: nn.BatchNorm1d(4, affine=False),
        (3, 4, 5),
        {},
    ),
    "BatchNorm2d": (lambda: T.BatchNorm2d(4), lambda: nn.BatchNorm2d(4), (3, 4, 2, 3), {}),
    "BatchNorm2d without statistics": (
        lambda: T.BatchNorm2d(4, track_running_stats=False),
        lambda: nn.BatchNorm2d(4, track_running_stats=False),
        (3, 4, 2, 3),
        {},
    ),
    "BatchNorm1d, the mean of all batches": (
        lambda: T.BatchNorm1d(4, momentum=None),
        lambda: nn.BatchNorm1d(4, momentum=None),
        (3, 4),
        {},
    ),
    "InstanceNorm with statistics": (
        lambda: T.InstanceNorm1d(4, track_running_stats=True),
        lambda: nn.InstanceNorm(4, track_running_stats=True),
        (3, 4, 5),
        {},
    ),
    "LayerNorm": (lambda: T.LayerNorm(6), lambda: nn.LayerNorm(6), (3, 4, 6), {"same": True}),
    "LayerNorm of images": (
        lambda: T.LayerNorm((3, 4, 2)),
        lambda: nn.LayerNorm((4, 2, 3)),
        (3, 3, 4, 2),
        {},
    ),
    "LayerNorm of sequences": (
        lambda: T.LayerNorm((4, 3)),
        lambda: nn.LayerNorm((4, 3)),
        (2, 4, 3),
        {"same": True},
    ),
    "RMSNorm": (
        lambda: T.RMSNorm(6, eps=1e-3),
        lambda: nn.RMSNorm(6, eps=1e-3),
        (3, 6),
        {},
    ),
    "GroupNorm": (lambda: T.GroupNorm(2, 6), lambda: nn.GroupNorm(2, 6), (2, 6, 3, 2), {}),
    "InstanceNorm": (
        lambda: T.InstanceNorm2d(3, affine=True),
        lambda: nn.InstanceNorm(3, affine=True),
        (2, 3, 4, 2),
        {},
    ),
    "Embedding": (lambda: T.Embedding(9, 4), lambda: nn.Embedding(9, 4), (3, 5), {"same": True}),
    "MultiHeadAttention": (
        lambda: Attention(6, 2),
        lambda: nn.MultiHeadAttention(6, 2),
        (2, 4, 6),
        {"same": True},
    ),
    "MultiHeadAttention without biases": (
        lambda: Attention(6, 3, bias=False),
        lambda: nn.MultiHeadAttention(6, 3, bias=False),
        (2, 4, 6),
        {"same": True},
    ),
    "TransformerBlock": (
        lambda: T.TransformerEncoderLayer(6, 2, 8, activation="gelu", norm_first=True, **ENCODER),
        lambda: nn.TransformerBlock(6, 2, 8, dropout=0.1),
        (2, 4, 6),
        {"same": True},
    ),
    "TransformerBlock, normalised last": (
        lambda: T.TransformerEncoderLayer(6, 2, 8, batch_first=True),
        lambda: nn.TransformerBlock(6, 2, 8, activation="ReLU", norm_first=False),
        (2, 4, 6),
        {"same": True},
    ),
    "TransformerEncoder": (
        lambda: T.Sequential(
            T.Embedding(9, 6),
            T.TransformerEncoder(
                T.TransformerEncoderLayer(6, 2, 8, **ENCODER),
                2,
                norm=T.LayerNorm(6),
                enable_nested_tensor=False,
            ),
        ),
        lambda: nn.Sequential(
            nn.Embedding(9, 6),
            nn.TransformerBlock(6, 2, 8, "ReLU", norm_first=False),
            nn.TransformerBlock(6, 2, 8, "ReLU", dropout=0.1, norm_first=False),
            nn.LayerNorm(6),
        ),
        (2, 4),
        {"same": True},
    ),
    "RNN": (
        lambda: Last(T.RNN(3, 4, batch_first=True)),
        lambda: nn.RNN(3, 4),
        (2, 5, 3),
        {"same": True},
    ),
    "RNN, two layers in both directions": (
        lambda: Last(T.RNN(3, 4, batch_first=True, nonlinearity="relu", **OPTIONS)),
        lambda: nn.RNN(3, 4, nonlinearity="relu", **OPTIONS),
        (2, 5, 3),
        {"same": True},
    ),
    "LSTM": (
        lambda: Last(T.LSTM(3, 4, batch_first=True)),
        lambda: nn.LSTM(3, 4),
        (2, 5, 3),
        {"same": True},
    ),
    "LSTM, two layers in both directions": (
        lambda: Last(T.LSTM(3, 4, batch_first=True, **OPTIONS)),
        lambda: nn.LSTM(3, 4, **OPTIONS),
        (2, 5, 3),
        {"same": True},
    ),
    "LSTM without biases": (
        lambda: Last(T.LSTM(3, 4, batch_first=True, bias=False)),
        lambda: nn.LSTM(3, 4, bias=False),
        (2, 5, 3),
        {"same": True},
    ),
    "GRU": (
        lambda: Last(T.GRU(3, 4, batch_first=True)),
        lambda: nn.GRU(3, 4),
        (2, 5, 3),
        {"same": True},
    ),
    "GRU, two layers in both directions": (
        lambda: Last(T.GRU(3, 4, batch_first=True, **OPTIONS)),
        lambda: nn.GRU(3, 4, **OPTIONS),
        (2, 5, 3),
        {"same": True},
    ),
    "a convolutional net": (
        lambda: T.Sequential(
            T.Conv2d(2, 4, 3),
            T.BatchNorm2d(4),
            T.ReLU(),
            T.MaxPool2d(2),
            T.Flatten(),
            T.BatchNorm1d(4 * 3 * 2),
            T.Linear(4 * 3 * 2, 5),
            T.ReLU(),
            T.Linear(5, 3),
        ),
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.BatchNorm1d(4 * 3 * 2),
            nn.Linear(4 * 3 * 2, 5),
            nn.ReLU(),
            nn.Linear(5, 3),
        ),
        (3, 2, 8, 6),
        {},
    ),
    "images that are flattened at once": (
        lambda: T.Sequential(T.Flatten(), T.LayerNorm(24), T.Linear(24, 5)),
        lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(24), nn.Linear(24, 5)),
        (3, 3, 2, 4),
        {"channels": 3},
    ),
    "flattened sequences of convolutions": (
        lambda: T.Sequential(T.Conv1d(2, 3, 2), T.Tanh(), T.Flatten(), T.Linear(12, 5)),
        lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5)),
        (3, 2, 5),
        {},
    ),
    "flattened tokens": (
        lambda: T.Sequential(T.Embedding(9, 3), T.Flatten(), T.Linear(12, 5)),
        lambda: nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(12, 5)),
        (3, 4),
        {"same": True},
    ),
    "convolutions, then a recurrent layer": (
        lambda: Last(T.Sequential(T.Conv1d(2, 3, 2), Turned(), T.GRU(3, 4, batch_first=True))),
        lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.GRU(3, 4)),
        (3, 2, 5),
        {"back": False},
    ),
    "a global average": (
        lambda: T.Sequential(
            T.Conv2d(2, 4, 3), T.AdaptiveAvgPool2d(1), T.Flatten(), T.Linear(4, 3)
        ),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GlobalAvgPool(), nn.Linear(4, 3)),
        (3, 2, 5, 5),
        {},
    ),
    "rows that become images": (
        lambda: T.Sequential(
            T.Linear(3, 24),
            T.BatchNorm1d(24),
            T.ReLU(),
            T.Unflatten(1, (4, 2, 3)),
            T.ConvTranspose2d(4, 2, 2),
        ),
        lambda: nn.Sequential(
            nn.Linear(3, 24),
            nn.BatchNorm1d(24),
            nn.ReLU(),
            nn.Reshape(2, 3, 4),
            nn.ConvTranspose2d(4, 2, 2),
        ),
        (3, 3),
        {},
    ),
    "rows that become an image at the end": (
        lambda: T.Sequential(T.Linear(3, 24), T.Sigmoid(), T.Unflatten(1, (4, 2, 3))),
        lambda: nn.Sequential(nn.Linear(3, 24), nn.Sigmoid(), nn.Reshape(2, 3, 4)),
        (3, 3),
        {},
    ),
    "rows that become sequences": (
        lambda: T.Sequential(T.Linear(3, 24), T.Unflatten(1, (6, 4)), Attention(4, 2)),
        lambda: nn.Sequential(nn.Linear(3, 24), nn.Reshape(6, 4), nn.MultiHeadAttention(4, 2)),
        (3, 3),
        {"same": True},
    ),
    "Residual of flattened images": (
        lambda: T.Sequential(
            T.Conv2d(2, 3, 2), T.Flatten(), Around(T.Linear(12, 12)), T.Linear(12, 5)
        ),
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Residual(nn.Linear(12, 12)), nn.Linear(12, 5)
        ),
        (3, 2, 3, 3),
        {},
    ),
    "Parallel convolutions": (
        lambda: T.Sequential(
            Beside(T.Conv2d(2, 3, 1), T.Sequential(T.Conv2d(2, 2, 1), T.Tanh())),
            T.Flatten(),
            T.Linear(20, 4),
        ),
        lambda: nn.Sequential(
            nn.Parallel(nn.Conv2d(2, 3, 1), nn.Sequential(nn.Conv2d(2, 2, 1), nn.Tanh())),
            nn.Flatten(),
            nn.Linear(20, 4),
        ),
        (3, 2, 2, 2),
        {},
    ),
    "a convolutional autoencoder with a code": (
        lambda: Halves(
            T.Sequential(
                *(T.Conv2d(2, 3, 3, padding=1), T.ReLU(), T.MaxPool2d(2)),
                *(T.Conv2d(3, 4, 3, padding=1), T.ReLU(), T.MaxPool2d(2)),
                *(T.Flatten(), T.Linear(8, 5)),
            ),
            T.Sequential(
                *(T.Linear(5, 8), T.ReLU(), T.Unflatten(1, (4, 2, 1))),
                *(T.ConvTranspose2d(4, 4, 2, stride=2), T.ReLU()),
                *(T.ConvTranspose2d(4, 3, 2, stride=2), T.ReLU()),
                *(T.Conv2d(3, 2, 3, padding=1), T.Sigmoid()),
            ),
        ),
        lambda: nn.AutoEncoder(
            nn.Sequential(
                *(nn.Conv2d(2, 3, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Flatten(), nn.Linear(8, 5)),
            ),
            nn.Sequential(
                *(nn.Linear(5, 8), nn.ReLU(), nn.Reshape(2, 1, 4)),
                *(nn.ConvTranspose2d(4, 4, 2, stride=2), nn.ReLU()),
                *(nn.ConvTranspose2d(4, 3, 2, stride=2), nn.ReLU()),
                *(nn.Conv2d(3, 2, 3, padding="same"), nn.Sigmoid()),
            ),
        ),
        (2, 2, 8, 4),
        {},
    ),
    "slopes of flattened images": (
        lambda: T.Sequential(
            T.Conv2d(2, 3, 2), T.PReLU(3), T.Flatten(), T.PReLU(12), T.Linear(12, 4), T.PReLU(4)
        ),
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 3, 2), nn.PReLU(3), nn.Flatten()),
            *(nn.PReLU(12), nn.Linear(12, 4), nn.PReLU(4)),
        ),
        (3, 2, 3, 3),
        {},
    ),
    "gated channels, flattened": (
        lambda: T.Sequential(T.Conv2d(2, 6, 2), T.GLU(1), T.Flatten(), T.Linear(12, 4), T.GLU()),
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, 2), nn.GLU(), nn.Flatten(), nn.Linear(12, 4), nn.GLU()
        ),
        (3, 2, 3, 3),
        {},
    ),
    "LayerNorm of what convolutions make": (
        lambda: T.Sequential(
            T.Conv1d(2, 3, 2), T.LayerNorm((3, 4)), T.Flatten(), T.LayerNorm(12), T.Linear(12, 2)
        ),
        lambda: nn.Sequential(
            *(nn.Conv1d(2, 3, 2), nn.LayerNorm((4, 3)), nn.Flatten()),
            *(nn.LayerNorm(12), nn.Linear(12, 2)),
        ),
        (3, 2, 5),
        {},
    ),
    "Residual convolutions": (
        lambda: T.Sequential(
            T.Conv2d(2, 3, 1),
            Around(T.Sequential(T.BatchNorm2d(3), T.ReLU(), T.Conv2d(3, 3, 3, padding=1))),
            T.Flatten(),
            T.Linear(18, 4),
        ),
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 1),
            nn.Residual(
                nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3, padding="same"))
            ),
            nn.Flatten(),
            nn.Linear(18, 4),
        ),
        (2, 2, 3, 2),
        {},
    ),
}
