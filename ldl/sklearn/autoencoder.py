"""AutoEncoder."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ldl.backend import Array
from ldl.nn.predictor import Predictor
from ldl.sklearn.callbacks import with_callbacks
from ldl.sklearn.network import TRAINING
from ldl.sklearn.reconstruction import PARAMETERS, Reconstruction


class AutoEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Reconstruction):
    """A dense autoencoder: codes by `transform`, and back by `inverse_transform`.

    Parameters
    ----------
    {parameters}
    {training}

    Attributes
    ----------
    model_ : ldl.nn.AutoEncoder
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
    >>> from sklearn.datasets import load_digits
    >>> from ldl.sklearn import AutoEncoder
    >>> X = load_digits().data / 16
    >>> model = AutoEncoder((32, 8), noise=0.1, max_iter=20, random_state=0).fit(X)
    >>> codes = model.transform(X)
    >>> codes.shape
    (1797, 8)
    >>> model.inverse_transform(codes).shape
    (1797, 64)
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 16),
        activation: Any = "relu",
        *,
        output: Any = "auto",
        module: Any = None,
        noise: Any = None,
        loss: Any = "squared_error",
        tied: bool = False,
        optimizer: Any = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int | str = "auto",
        max_iter: int = 200,
        tol: float | None = 1e-5,
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
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn to give back samples X, each counting as its sample_weight says; y is ignored."""
        return self._fit(X, sample_weight, partial=False)

    @with_callbacks
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Go through these samples once more."""
        return self._fit(X, sample_weight, partial=True)

    def transform(self, X: Any) -> Array:
        """The codes of samples, (N, code)."""
        return self._answer(X, self._outputs(self._fitted("_encoder"), self._seen(X)))

    def inverse_transform(self, X: Any) -> Array:
        """The samples that codes stand for, (N, n_features)."""
        decoder, model = self._fitted("_decoder"), self.model_
        codes = model.backend.asarray(X, dtype=str(model.dtype))
        if codes.ndim != 2 or codes.shape[1] != self._n_features_out:
            shape = tuple(codes.shape)
            raise ValueError(f"codes are (N, {self._n_features_out}), got an array {shape}")
        return self._answer(X, self._outputs(decoder, codes))

    def denoise(self, X: Any) -> Array:
        """What the autoencoder makes of samples, (N, n_features)."""
        return self._answer(X, self._outputs(self._fitted("_whole"), self._seen(X)))

    def score(self, X: Any, y: Any = None) -> float:
        """The negative mean squared error of what it makes of samples: the nearer 0 the better."""
        x = self._seen(X)
        return -float(((self._outputs(self._fitted("_whole"), x) - x) ** 2).mean())

    def _fitted(self, name: str) -> Predictor:
        check_is_fitted(self, "model_")
        return getattr(self, name)  # type: ignore[no-any-return]

    def _ready(self) -> None:
        super()._ready()
        sample = self.model_.backend.xp.zeros((1, self.n_features_in_), dtype=self.model_.dtype)
        self._n_features_out = int(self._encoder(sample).shape[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


AutoEncoder.__doc__ = str(AutoEncoder.__doc__).format(
    parameters=PARAMETERS.format(widths="(64, 16)"),
    training=TRAINING.format(size='"auto"', epochs=200, tol="1e-5"),
)
