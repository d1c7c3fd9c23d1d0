"""MLPClassifier."""

from __future__ import annotations

from typing import Any, Self
from warnings import warn

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from ldl import nn
from ldl.backend import Array, use_backend
from ldl.nn.predictor import Predictor
from ldl.sklearn.callbacks import with_callbacks
from ldl.sklearn.inputs import checked, on_device, sent
from ldl.sklearn.mlp import MLP, PARAMETERS
from ldl.sklearn.network import TRAINING, last_layer


class MLPClassifier(ClassifierMixin, MLP):
    """A dense network that tells classes, by cross-entropy.

    Parameters
    ----------
    {parameters}
    {training}
    loss : Loss, default=None
        Of `ldl.nn`, of scores (N, classes) and labels; `CrossEntropyLoss()` where left out.
    class_weight : dict, "balanced" or None, default=None
        What the samples of each class count.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    model_ : Module
        The network; its outputs are scores, whose softmax is the probability.
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
    >>> from sklearn.datasets import make_moons
    >>> from ldl.sklearn import MLPClassifier
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> model = MLPClassifier((32,), learning_rate=1e-2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    >>> model.predict_proba(X[:3]).shape
    (3, 2)
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        module: Any = None,
        loss: Any = None,
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
        class_weight: Any = None,
        random_state: Any = None,
        verbose: bool = False,
        backend: Any = None,
    ) -> None:
        self._keep(locals())

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn to tell the classes y of samples X, each counting as its sample_weight says."""
        return self._fit(X, y, sample_weight, None, partial=False)

    @with_callbacks
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go through these samples once more; the first call is told all `classes`."""
        return self._fit(X, y, sample_weight, classes, partial=True)

    def _fit(self, x: Any, y: Any, sample_weight: Any, classes: Any, partial: bool) -> Self:
        goes_on = self._has_model(partial)
        if partial and classes is None and not goes_on:
            raise ValueError("classes must be passed on the first call to partial_fit")
        backend = self.model_.backend if goes_on else self._backend_for(x)
        if y is None:
            raise ValueError("fit requires y to be passed, but the target y is None")
        x, y = checked(self, backend, x, y, reset=not goes_on)
        there = on_device(backend, y)
        xp = backend.xp if there else np
        if not there:
            check_classification_targets(y)
        if not goes_on:
            self.classes_ = xp.unique(y if classes is None else xp.asarray(classes))
        elif partial and classes is not None and not _same(xp, self.classes_, classes):
            raise ValueError(
                f"classes are {list(classes)!r:.200}, and those of the first call to partial_fit "
                f"were {self.classes_.tolist()!r:.200}: leave them out"
            )
        labels = self._labels(y, xp)
        weight = self._weights(sample_weight, x, backend)
        if self.class_weight is not None:
            by_class = sent(backend, self._class_weights(y, labels, xp, x.dtype))
            weight = by_class if weight is None else weight * by_class
        x = self._is_fitted_for(backend, x, partial)
        count = len(self.classes_)
        stratify = None if there or not self.early_stopping else labels
        labels = sent(backend, labels)
        return self._learn(x, labels, weight, backend, count, partial, stratify=stratify)

    def _labels(self, y: Array, xp: Any) -> Array:
        """The number of each sample's class; ValueError for one that is not known."""
        labels = xp.searchsorted(self.classes_, y)
        known = self.classes_[xp.clip(labels, 0, len(self.classes_) - 1)] == y
        if not bool(xp.all(known)):
            raise ValueError(
                "y has labels that are not among the classes that the model began with"
            )
        return labels

    def _class_weights(self, y: Array, labels: Array, xp: Any, dtype: Any) -> Array:
        if xp is np:
            return compute_sample_weight(self.class_weight, y).astype(dtype)
        if self.class_weight != "balanced":
            raise ValueError("class_weight of arrays on a GPU is 'balanced' or None")
        count = xp.bincount(labels, minlength=len(self.classes_))
        seen = (count > 0).sum()
        return (len(y) / (seen * xp.maximum(count, 1))).astype(dtype)[labels]

    def _check_outputs(self, shape: tuple[int, ...], outputs: int) -> None:
        if shape != (1, outputs):
            raise ValueError(
                f"the module makes {shape} of one sample, and {outputs} classes need "
                f"(1, {outputs}): let its last layer have {outputs} outputs, a logit a class"
            )

    def _loss(self) -> nn.Loss:
        loss = nn.CrossEntropyLoss() if self.loss is None else self.loss
        last = last_layer(self.model_)
        squashed = isinstance(last, (nn.Softmax, nn.LogSoftmax, nn.Sigmoid))
        if squashed and isinstance(loss, nn.CrossEntropyLoss):
            warn(
                f"the module ends with {type(last).__name__}, and CrossEntropyLoss squashes its "
                "outputs again: leave that layer out",
                stacklevel=4,
            )
        return loss  # type: ignore[no-any-return]

    def _ready(self) -> None:
        with use_backend(self.model_.backend):
            self._probable = Predictor(nn.Sequential(self.model_, nn.Softmax()).eval())

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, (N, n_classes)."""
        x = self._seen(X)
        return self._answer(X, self._outputs(self._probable, x))

    def predict(self, X: Any) -> Array:
        """The likeliest class of each sample."""
        backend, found = self._fitted_backend(), self.predict_proba(X).argmax(axis=1)
        if on_device(backend, self.classes_):
            return self._answer(X, self.classes_[sent(backend, found)])
        if on_device(backend, found):
            names = self.classes_[backend.to_numpy(found)]
            return names if names.dtype.kind in "OUS" else sent(backend, names)
        return self.classes_[found]


def _same(xp: Any, known: Array, classes: Any) -> bool:
    given = xp.unique(xp.asarray(classes))
    return given.shape == known.shape and bool(xp.all(given == known))


MLPClassifier.__doc__ = str(MLPClassifier.__doc__).format(
    parameters=PARAMETERS, training=TRAINING.format(size='"auto"', epochs=200, tol="1e-4")
)
