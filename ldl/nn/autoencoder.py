"""AutoEncoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import prod
from typing import Any, Self

from ldl.backend import Array
from ldl.nn.containers import Flatten, Sequential, check_parts
from ldl.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from ldl.nn.linear import Linear, TiedLinear
from ldl.nn.module import Module, check_gradient
from ldl.nn.named import LIKE_RELU, named_activation
from ldl.nn.pooling import MaxPool1d, MaxPool2d
from ldl.nn.shaping import Reshape
from ldl.numbers import plain, positive_integer


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
        between, last = named_activation(activation), named_activation(output)

        def layers(sizes: Sequence[int], last: type[Module]) -> list[Module]:
            made: list[Module] = []
            for i, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
                follows = between if i < len(sizes) - 1 else last
                weight_init = "he_uniform" if follows in LIKE_RELU else "xavier_uniform"
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

    @classmethod
    def convolutional(
        cls,
        shape: Sequence[int],
        channels: int | Sequence[int],
        latent: int | None = None,
        kernel_size: int = 3,
        activation: str | type[Module] = "ReLU",
        output: str | type[Module] = "Sigmoid",
    ) -> Self:
        """Convolutions of images (H, W, C), or sequences (L, C), and a decoder that mirrors them.

        Each of `channels` is a stage, which halves the pixels: a convolution, the activation, and
        the maximum of two by two. The decoder has for each a transposed convolution of stride 2,
        and at the end a convolution to C channels. Without `latent` the code is an image; with it,
        a vector of so many numbers, by a dense layer on either side. `activation` and `output` are
        those of `symmetric`. ValueError where a side is no multiple of 2 to the number of stages.

            nn.AutoEncoder.convolutional((28, 28, 1), [32, 32])    # 28,353 parameters
        """
        image = [positive_integer("every number of shape", n) for n in shape]
        given = plain(channels)
        stages = list(given) if isinstance(given, Iterable) else [given]
        if len(image) not in (2, 3):
            raise ValueError(f"shape must be (H, W, C) or (L, C), got {tuple(shape)}")
        if not stages:
            raise ValueError("channels needs one stage at least, such as [32]")
        *sides, own = image
        if any(n % 2 ** len(stages) for n in sides):
            raise ValueError(
                f"{len(stages)} stages halve the sides {tuple(sides)} so often: make them "
                f"multiples of {2 ** len(stages)} with nn.ZeroPad, or give fewer channels"
            )
        conv: type[Conv1d | Conv2d] = Conv1d if len(sides) == 1 else Conv2d
        back: type[ConvTranspose1d | ConvTranspose2d]
        back = ConvTranspose1d if len(sides) == 1 else ConvTranspose2d
        pool: type[MaxPool1d | MaxPool2d] = MaxPool1d if len(sides) == 1 else MaxPool2d
        between, last = named_activation(activation), named_activation(output)
        how: dict[str, Any] = {
            "padding": "same",
            "weight_init": "he_uniform" if between in LIKE_RELU else "xavier_uniform",
        }
        encoder: list[Module] = []
        decoder: list[Module] = []
        for before, after in pairwise([own, *stages]):
            encoder += [conv(before, after, kernel_size, **how), between(), pool(2)]
        small = [*(n // 2 ** len(stages) for n in sides), stages[-1]]
        if latent is not None:
            encoder += [Flatten(), Linear(prod(small), latent)]
            decoder += [Linear(latent, prod(small)), between(), Reshape(*small)]
        for before, after in pairwise([stages[-1], *reversed(stages)]):
            decoder += [back(before, after, kernel_size, stride=2, **how), between()]
        decoder += [conv(stages[0], own, kernel_size, padding="same"), last()]
        return cls(Sequential(*encoder), Sequential(*decoder))

    @property
    def takes_integers(self) -> bool:  # type: ignore[override]
        """The encoder's."""
        return self.encoder.takes_integers

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
