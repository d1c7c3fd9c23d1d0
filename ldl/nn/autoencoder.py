"""AutoEncoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

from ldl.backend import Array
from ldl.nn import activations
from ldl.nn.containers import Sequential, check_parts
from ldl.nn.linear import Linear, TiedLinear
from ldl.nn.module import Module


class AutoEncoder(Module):
    """x̂ = decoder(encoder(x)).

        model = AutoEncoder.symmetric(784, [256, 64])
        code = model.encode(x)
        clean = model.denoise(noisy)

    The gradient goes back through the decoder, then the encoder.
    """

    def __init__(self, encoder: Module, decoder: Module) -> None:
        self.encoder = encoder
        self.decoder = decoder
        check_parts(self, encoder, decoder)

    @classmethod
    def symmetric(
        cls,
        in_features: int,
        hidden: Sequence[int],
        activation: str = "ReLU",
        output: str = "Sigmoid",
        tied: bool = False,
    ) -> Self:
        """Linear layers of the widths `hidden` and a decoder that mirrors them.

        `activation` follows every layer but the last, which `output` follows; both name classes of
        `ldl.nn`. With `tied` the decoder uses the encoder's weights, transposed. Weights start as
        He's before ReLU and its kin, else as Xavier's.
        """
        if len(hidden) == 0:
            raise ValueError("hidden needs one width at least, such as [64]")
        widths = [in_features, *hidden]
        kin = ("ReLU", "LeakyReLU", "ELU", "GELU", "SiLU")

        def layers(sizes: Sequence[int], last: str) -> list[Module]:
            made: list[Module] = []
            for i, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
                name = activation if i < len(sizes) - 1 else last
                weight_init = "he_uniform" if name in kin else "xavier_uniform"
                made += [Linear(n_in, n_out, weight_init=weight_init), _activation(name)]
            return made

        encoder = layers(widths, activation)
        if not tied:
            return cls(Sequential(*encoder), Sequential(*layers(widths[::-1], output)))
        sources = [layer for layer in encoder[::2] if isinstance(layer, Linear)]
        decoder: list[Module] = []
        for source in reversed(sources):
            decoder += [TiedLinear(source), _activation(activation)]
        decoder[-1] = _activation(output)
        return cls(Sequential(*encoder), Sequential(*decoder))

    def encode(self, x: Array) -> Array:
        """The code of x."""
        return self.encoder(x)

    def decode(self, code: Array) -> Array:
        """The reconstruction from a code."""
        return self.decoder(code)

    def forward(self, x: Array) -> Array:
        """decoder(encoder(x))."""
        return self.decoder(self.encoder(x))

    def backward(self, grad: Array) -> Array:
        """The gradient through the decoder, then the encoder."""
        return self.encoder.backward(self.decoder.backward(grad))

    def denoise(self, x: Any, batch_size: int = 4096) -> Array:
        """The reconstruction of noisy samples (N, in_features), in eval mode; see `predict`."""
        return self.predict(x, batch_size)


def _activation(name: str) -> Module:
    found, base = getattr(activations, name, None), activations.Activation
    if not (isinstance(found, type) and issubclass(found, base)) or found is base:
        raise ValueError(f"no activation is named {name!r}; see ldl.nn, such as 'ReLU' or 'Tanh'")
    return found()
