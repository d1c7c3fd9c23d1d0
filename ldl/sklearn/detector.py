"""AutoEncoderDetector."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import OutlierMixin

from ldl.backend import Array
from ldl.numbers import number
from ldl.sklearn.callbacks import with_callbacks
from ldl.sklearn.inputs import checked
from ldl.sklearn.network import TRAINING
from ldl.sklearn.reconstruction import PARAMETERS, Reconstruction


class AutoEncoderDetector(OutlierMixin, Reconstruction):
    """Outliers are what an autoencoder gives back badly.

    It is to learn what most samples have in common, and no more: few units in the middle, and few
    epochs, since in many it learns the outliers too.

    Parameters
    ----------
    {parameters}
    {training}
    contamination : float, default=0.1
        The share of outliers among the samples of `fit`, in (0, 0.5]: where `predict` draws the
        line.
    standardize : bool, default=True
        Subtract each feature's mean and divide by its deviation first, so that each counts alike.

    Attributes
    ----------
    model_ : ldl.nn.AutoEncoder
    offset_ : float
        The score that outliers are below.
    mean_, scale_ : array of shape (n_features_in_,)
        What features are standardised by.
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
    >>> from ldl.sklearn import AutoEncoderDetector
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 10))
    >>> X[:5] += 5 * rng.normal(size=(5, 10))
    >>> model = AutoEncoderDetector((8, 2), max_iter=30, random_state=0).fit(X)
    >>> sorted(int(i) for i in model.score_samples(X).argsort()[:5])
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (32, 8),
        activation: Any = "relu",
        *,
        output: Any = "auto",
        module: Any = None,
        noise: Any = None,
        loss: Any = "squared_error",
        tied: bool = False,
        contamination: float = 0.1,
        standardize: bool = True,
        optimizer: Any = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int | str = 32,
        max_iter: int = 10,
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
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn what samples are like, each counting as its sample_weight says; y is ignored."""
        share = number("contamination", self.contamination)
        if not 0 < share <= 0.5:
            raise ValueError(f"contamination must lie in (0, 0.5], got {self.contamination!r}")
        goes_on = self._has_model(False)
        backend = self.model_.backend if goes_on else self._backend_for(X)
        x = checked(self, backend, X, reset=not goes_on)
        weight = self._weights(sample_weight, x, backend)
        if not goes_on:
            self._measure(x, weight, backend.xp)
        self._line = x, weight, share
        try:
            return self._learn((x - self.mean_) / self.scale_, weight, backend, False)
        finally:
            del self._line

    def _ready(self) -> None:
        """Set `offset_` too, by what is learned from."""
        super()._ready()
        x, weight, share = self._line
        xp = self.model_.backend.xp
        self.offset_ = float(self._quantile(self._scores(x), share, weight, xp))

    def _measure(self, x: Array, weight: Array | None, xp: Any) -> None:
        """Mean and deviation of features; 1 for the deviation of those that are constant."""
        if not self.standardize:
            self.mean_ = xp.zeros(x.shape[1], dtype=x.dtype)
            self.scale_ = xp.ones(x.shape[1], dtype=x.dtype)
            return
        w = xp.ones(len(x)) if weight is None else weight.astype("float64")
        w = (w / w.sum())[:, None]
        mean = (w * x).sum(axis=0)
        deviation = xp.sqrt((w * (x - mean) ** 2).sum(axis=0))
        flat = deviation <= 1e-7 * xp.maximum(xp.abs(mean), 1e-30)
        self.mean_ = mean.astype(x.dtype)
        self.scale_ = xp.where(flat, 1, deviation).astype(x.dtype)

    @staticmethod
    def _quantile(scores: Array, share: float, weight: Array | None, xp: Any) -> Any:
        """A score that a share of the samples, by weight, is below: between two that are next."""
        order = xp.argsort(scores)
        w = xp.ones(len(scores)) if weight is None else weight.astype("float64")[order]
        reached = xp.cumsum(w)
        most = len(scores) - 1
        low, high = (
            scores[order[xp.minimum(xp.searchsorted(reached, share * reached[-1], side), most)]]
            for side in ("left", "right")
        )
        return (low + high) / 2

    def _errors(self, x: Array) -> Array:
        x = (x - self.mean_) / self.scale_
        return (self._outputs(self._whole, x) - x) ** 2

    def _scores(self, x: Array) -> Array:
        return -self._errors(x).mean(axis=1)

    def reconstruction_errors(self, X: Any) -> Array:
        """The squared error of each feature, standardised, (N, n_features): what stands out."""
        return self._answer(X, self._errors(self._seen(X)))

    def score_samples(self, X: Any) -> Array:
        """The negative mean squared error of each sample: the lower, the stranger."""
        return self._answer(X, self._scores(self._seen(X)))

    def decision_function(self, X: Any) -> Array:
        """`score_samples` less `offset_`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Array:
        """-1 for outliers, 1 for the others."""
        inside = self.decision_function(X) >= 0
        return 2 * inside.astype("int64") - 1


AutoEncoderDetector.__doc__ = str(AutoEncoderDetector.__doc__).format(
    parameters=PARAMETERS.format(widths="(32, 8)"),
    training=TRAINING.format(size=32, epochs=10, tol="1e-4"),
)
