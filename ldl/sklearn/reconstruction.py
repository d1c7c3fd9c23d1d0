"""What estimators share whose network gives back what it is given."""

from __future__ import annotations

from typing import Any, Self
from warnings import warn

from ldl import nn
from ldl.backend import Array, Backend
from ldl.data import GaussianNoise, Noise, parse_noise
from ldl.nn.predictor import Predictor
from ldl.numbers import positive_integer
from ldl.sklearn.inputs import checked
from ldl.sklearn.network import Network, last_layer, loss_of

PARAMETERS = """hidden_layer_sizes : int or sequence of int, default={widths}
        Units of the encoder's layers, the last of which is the code; the decoder mirrors them.
    activation : str or Module class, default="relu"
        After each layer but the decoder's last.
    output : str, Module class or "auto", default="auto"
        After the decoder's last layer; "auto" is Sigmoid where all of X lies in [0, 1], else
        nothing.
    module : Module or callable, default=None
        An `ldl.nn.AutoEncoder` of one's own, which is copied, or what makes one of the number of
        features.
    noise : float, str, Noise or None, default=None
        What samples are corrupted by while it learns to give the clean ones: the deviation of
        normal noise, a text such as "masking:0.3", or one of `ldl.data`'s.
    loss : {{"squared_error", "absolute_error", "huber", "bce"}} or Loss, default="squared_error"
    tied : bool, default=False
        The decoder uses the encoder's weights, transposed."""


class Reconstruction(Network):
    """A network that learns to give back what it is given."""

    activation: Any
    output: Any
    noise: Any
    loss: Any
    tied: bool
    model_: nn.AutoEncoder

    def _corruption(self, unit: bool) -> Noise | None:
        if self.noise is None or isinstance(self.noise, Noise):
            return self.noise
        if isinstance(self.noise, str):
            return parse_noise(self.noise)
        return GaussianNoise(self.noise, clip=unit) if self.noise else None

    def _learn(self, x: Array, weight: Array | None, backend: Backend, partial: bool) -> Self:
        unit = not (bool((x < 0).any()) or bool((x > 1).any()))
        if not self._has_model(partial):

            def build() -> nn.Module:
                if self.module is not None:
                    found = self._made(self.n_features_in_)
                    if not isinstance(found, nn.AutoEncoder):
                        raise TypeError(
                            f"module must be an ldl.nn.AutoEncoder, got {type(found).__name__}"
                        )
                    return found
                last = self.output
                if isinstance(last, str) and last == "auto":
                    last = nn.Sigmoid if unit else nn.Identity
                return nn.AutoEncoder.symmetric(
                    self.n_features_in_,
                    self._widths(),
                    self.activation,
                    nn.Identity if last is None else last,
                    self.tied,
                )

            self._built(build, backend, x.dtype)
        x = x.astype(self.model_.dtype, copy=False)
        if isinstance(last_layer(self.model_), nn.Sigmoid) and not unit:
            warn(
                "the network ends with Sigmoid, whose outputs lie in (0, 1), and X does not: use "
                "output='auto', or scale X with sklearn.preprocessing.MinMaxScaler",
                stacklevel=4,
            )
        loss = loss_of(self.loss)
        epochs = 1 if partial else positive_integer("max_iter", self.max_iter)
        self._train(loss, x, x, weight, epochs, self._corruption(unit))
        self._ready()
        return self

    def _ready(self) -> None:
        self._whole = Predictor(self.model_)
        self._encoder = Predictor(self.model_.encoder)
        self._decoder = Predictor(self.model_.decoder)

    def _fit(self, x: Any, sample_weight: Any, partial: bool) -> Self:
        goes_on = self._has_model(partial)
        backend = self.model_.backend if goes_on else self._backend_for(x)
        x = checked(self, backend, x, reset=not goes_on)
        return self._learn(x, self._weights(sample_weight, x, backend), backend, partial)
