"""What classifier and regressor share."""

from __future__ import annotations

from typing import Any, Self

from ldl import nn
from ldl.backend import Array, Backend
from ldl.nn.module import shape_of_output
from ldl.numbers import positive_integer
from ldl.sklearn.network import Network, dense

PARAMETERS = """hidden_layer_sizes : int or sequence of int, default=(100,)
        Units of each hidden layer.
    activation : str or Module class, default="relu"
        After each hidden layer: a name of `ldl.nn`'s, in any case.
    module : Module or callable, default=None
        A network of one's own instead of the widths: a module, which is copied, or what makes one
        of the numbers of inputs and outputs.
    dropout : float, default=0.0
        After each hidden layer."""


class MLP(Network):
    """A network from features to outputs."""

    activation: Any
    dropout: float
    loss: Any

    def _learn(
        self,
        x: Array,
        y: Array,
        weight: Array | None,
        backend: Backend,
        outputs: int,
        partial: bool,
        output: Any = None,
        stratify: Any = None,
    ) -> Self:
        if not self._has_model(partial):

            def build() -> nn.Module:
                if self.module is not None:
                    return self._made(self.n_features_in_, outputs)
                widths = [self.n_features_in_, *self._widths(), outputs]
                return dense(widths, self.activation, output, self.dropout)

            self._built(build, backend, x.dtype)
            if self.module is not None:
                try:
                    self._check_outputs((1, *shape_of_output(self.model_, x)), outputs)
                except BaseException:
                    del self.model_
                    raise
        epochs = 1 if partial else positive_integer("max_iter", self.max_iter)
        self._train(self._loss(), x, y, weight, epochs, stratify=stratify)
        self._ready()
        return self

    def _check_outputs(self, shape: tuple[int, ...], outputs: int) -> None:
        """ValueError where a module of one's own makes of one sample what cannot be used."""

    def _loss(self) -> nn.Loss:
        raise NotImplementedError

    def _is_fitted_for(self, backend: Backend, x: Array, partial: bool) -> Array:
        """x in the type of the model that goes on learning, if one does."""
        return x.astype(self.model_.dtype, copy=False) if self._has_model(partial) else x
