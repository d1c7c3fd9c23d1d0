"""MLPRegressor."""

from __future__ import annotations

from typing import Any, Self
from warnings import warn

from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from ldl import nn
from ldl.backend import Array
from ldl.nn.predictor import Predictor
from ldl.sklearn.callbacks import with_callbacks
from ldl.sklearn.inputs import checked, on_device, sent
from ldl.sklearn.mlp import MLP, PARAMETERS
from ldl.sklearn.network import TRAINING, last_layer, loss_of


class MLPRegressor(RegressorMixin, MLP):
    """A dense network that predicts numbers, one or several a sample.

    Parameters
    ----------
    {parameters}
    {training}
    output : str, Module class or None, default=None
        After the last layer; None: any number may come out.
    loss : {{"squared_error", "absolute_error", "huber", "bce"}} or Loss, default="squared_error"

    Attributes
    ----------
    model_ : Module
    loss_curve_, validation_curve_ : list of float
        Of every epoch; the second with `early_stopping`.
    loss_ : float
    n_iter_ : int
        Epochs that were trained.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)
        Where X has names.

    Examples
    --------
    >>> import numpy as np
    >>> from ldl.sklearn import MLPRegressor
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = MLPRegressor((32, 32), learning_rate=1e-2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        output: Any = None,
        module: Any = None,
        loss: Any = "squared_error",
        optimizer: Any = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        batch_size: int | str = "auto",
        max_iter: int = 200,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
        backend: Any = None,
    ) -> None:
        self._keep(locals())

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn the numbers y, (N,) or (N, outputs), of samples X."""
        return self._fit(X, y, sample_weight, partial=False)

    @with_callbacks
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go through these samples once more."""
        return self._fit(X, y, sample_weight, partial=True)

    def _fit(self, x: Any, y: Any, sample_weight: Any, partial: bool) -> Self:
        goes_on = self._has_model(partial)
        backend = self.model_.backend if goes_on else self._backend_for(x)
        if y is None:
            raise ValueError("fit requires y to be passed, but the target y is None")
        how = {} if on_device(backend, x) else {"y_numeric": True, "multi_output": True}
        x, y = checked(self, backend, x, y, reset=not goes_on, **how)
        x = self._is_fitted_for(backend, x, partial)
        y = sent(backend, y).astype(x.dtype, copy=False)
        if not goes_on:
            self._vector = y.ndim == 1
        targets = y.reshape(len(y), -1)
        weight = self._weights(sample_weight, x, backend)
        self._targets = targets
        try:
            return self._learn(
                x, targets, weight, backend, targets.shape[1], partial, output=self.output
            )
        finally:
            del self._targets

    def _loss(self) -> nn.Loss:
        last, y = last_layer(self.model_), self._targets
        if isinstance(last, nn.Sigmoid) and (bool((y < 0).any()) or bool((y > 1).any())):
            warn(
                "the network ends with Sigmoid, whose outputs lie in (0, 1), and y does not: use "
                "output=None, or scale y",
                stacklevel=4,
            )
        return loss_of(self.loss)

    def _ready(self) -> None:
        self._predictor = Predictor(self.model_)

    def predict(self, X: Any) -> Array:
        """The numbers of each sample, (N,) or (N, outputs) as y was."""
        check_is_fitted(self)
        y = self._outputs(self._predictor, self._seen(X))
        return self._answer(X, y[:, 0] if self._vector else y)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


MLPRegressor.__doc__ = str(MLPRegressor.__doc__).format(
    parameters=PARAMETERS, training=TRAINING.format(size='"auto"', epochs=200, tol="1e-4")
)
