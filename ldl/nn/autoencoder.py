"""AutoEncoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Self

from ldl.backend import Array
from ldl.nn import activations
from ldl.nn.containers import Sequential, check_parts
from ldl.nn.linear import Linear, TiedLinear
from ldl.nn.module import Module, check_gradient
from ldl.numbers import plain


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
        hidden: int | Sequence[int],
        activation: str | type[Module] = "ReLU",
        output: str | type[Module] = "Sigmoid",
        tied: bool = False,
    ) -> Self:
        """Linear layers of the widths `hidden` and a decoder that mirrors them.

        One width may stand without a list. `activation` follows every layer but the last, which
        `output` follows; both are classes that are built without arguments, or the names of
        activations of `ldl.nn` in any case. With `tied` the decoder uses the encoder's weights,
        transposed. Weights start as He's before ReLU and its kin, else as Xavier's.
        """
        hidden = plain(hidden)
        inner = list(hidden) if isinstance(hidden, Iterable) else [hidden]
        if not inner:
            raise ValueError("hidden needs one width at least, such as [64]")
        widths = [in_features, *inner]
        between, last = _activation(activation), _activation(output)

        def layers(sizes: Sequence[int], last: type[Module]) -> list[Module]:
            made: list[Module] = []
            for i, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
                follows = between if i < len(sizes) - 1 else last
                weight_init = "he_uniform" if follows in _KIN else "xavier_uniform"
                made += [Linear(n_in, n_out, weight_init=weight_init), follows()]
            return made

        encoder = layers(widths, between)
        if not tied:
            return cls(Sequential(*encoder), Sequential(*layers(widths[::-1], last)))
        sources = [layer for layer in encoder[::2] if isinstance(layer, Linear)]
        decoder: list[Module] = []
        for source in reversed(sources):
            decoder += [TiedLinear(source), between()]
        decoder[-1] = last()
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
        grad = check_gradient(self.decoder, self.decoder.backward(grad))
        return check_gradient(self.encoder, self.encoder.backward(grad))

    def denoise(self, x: Any, batch_size: int = 4096) -> Array:
        """The reconstruction of noisy samples (N, in_features), in eval mode; see `predict`."""
        return self.predict(x, batch_size)


_KIN = (
    activations.ReLU,
    activations.LeakyReLU,
    activations.ELU,
    activations.GELU,
    activations.SiLU,
)
_NAMED: dict[str, type[Module]] = {
    kind.__name__: kind for kind in activations.Activation.__subclasses__()
}


def _activation(given: str | type[Module]) -> type[Module]:
    """The class itself, or the activation of that name in any case."""
    if (
        isinstance(given, type)
        and issubclass(given, Module)
        and given is not activations.Activation
    ):
        return given
    names = ", ".join(_NAMED)
    if not isinstance(given, str):
        raise TypeError(f"an activation is a Module class or a name ({names}), got {given!r}")
    found = {name.lower(): kind for name, kind in _NAMED.items()}.get(given.lower())
    if found is None:
        raise ValueError(f"no activation is named {given!r}; there are: {names}")
    return found
