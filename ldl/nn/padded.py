"""Padded: a chain of layers over tokens of which some stand for none."""

from __future__ import annotations

from ldl.backend import Array
from ldl.nn.containers import Sequential
from ldl.nn.module import Module, check_batch
from ldl.numbers import integer


class Padded(Sequential):
    """y = f_n(… f_1(x)) of tokens x (N, T), in which `padding_idx` fills sequences up to T.

        nn.Padded(nn.Embedding(99, 32, padding_idx=0), nn.TransformerBlock(32, 4),
                  nn.GlobalAvgPool(), nn.Linear(32, 2), padding_idx=0)

    Layers that take a `key_padding_mask` get x == padding_idx: attention looks at no place of
    padding, GlobalAvgPool means over the others. Nothing else differs from a Sequential: the same
    gradients, names of weights and files, and `fit` is given the tokens alone. Raises ValueError
    for x of other axes, and where no layer takes a mask.
    """

    takes_padding = False

    def __init__(self, *layers: Module, padding_idx: int = 0) -> None:
        super().__init__(*layers)
        self.padding_idx = integer("padding_idx", padding_idx, 0, "a token")
        if not any(layer.takes_padding for layer in layers):
            raise ValueError(
                "Padded has no layer that takes a key_padding_mask, such as TransformerBlock: "
                "use Sequential"
            )
        if not self.takes_integers:
            raise ValueError("Padded is given tokens: its first layer must be an Embedding")

    def forward(self, x: Array, key_padding_mask: Array | None = None) -> Array:
        """f_n(… f_1(x)), with a mask where x is padding or `key_padding_mask` says so."""
        check_batch(self, x)
        if x.ndim != 2:
            raise ValueError(f"Padded takes tokens (N, T), got {tuple(x.shape)}")
        hidden = x == self.padding_idx
        if key_padding_mask is not None:
            hidden = hidden | key_padding_mask
        return super().forward(x, hidden)
