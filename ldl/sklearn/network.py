"""What all estimators share: parameters, building, training, callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state

from ldl import nn, optim
from ldl.backend import Array, Backend
from ldl.data import Arrays, Noise
from ldl.nn.named import LIKE_RELU, named_activation
from ldl.nn.predictor import Predictor
from ldl.numbers import number, positive_integer
from ldl.random import seeded
from ldl.sklearn.callbacks import CallbackSupport, Told
from ldl.sklearn.inputs import backend_for, checked, on_device, sent
from ldl.train import Callback, EarlyStopping, fit

OPTIMIZERS = {
    name.lower(): kind
    for name, kind in vars(optim).items()
    if isinstance(kind, type) and issubclass(kind, optim.Optimizer) and kind is not optim.Optimizer
}


TRAINING = """optimizer : str or callable, default="adam"
        A name of `ldl.optim`'s, or what makes one of (model, lr=learning_rate).
    learning_rate : float, default=1e-3
    weight_decay : float, default=0.0
    batch_size : int or "auto", default={size}
        Samples a step; "auto" is the smaller of 200 and their number.
    max_iter : int, default={epochs}
        Epochs, at most.
    tol : float or None, default={tol}
        Training stops when the loss, or the held-out one with `early_stopping`, has not fallen by
        more for `n_iter_no_change` epochs; None: never.
    n_iter_no_change : int, default=10
    early_stopping : bool, default=False
        Hold `validation_fraction` of the samples out, and keep the best epoch's weights.
    validation_fraction : float, default=0.1
    warm_start : bool, default=False
        A further `fit` goes on from what was learned.
    random_state : int, RandomState or None, default=None
        Of weights, shuffles, dropout or noise, and what is held out.
    verbose : bool, default=False
        Show a progress bar.
    backend : str or Backend, default=None
        Where to compute; by default where X lies: a GPU for its arrays."""
"""How all of them are trained, for their docstrings."""


def dense(
    widths: Sequence[int], activation: Any, output: Any = None, dropout: float = 0.0
) -> nn.Sequential:
    """Linear layers of these widths, the activation and dropout after each but the last."""
    between = named_activation(activation)
    init = "he_uniform" if between in LIKE_RELU else "xavier_uniform"
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths), start=1):
        last = i == len(widths) - 1
        layers.append(nn.Linear(n_in, n_out, weight_init="xavier_uniform" if last else init))
        if not last:
            layers += [between(), *([nn.Dropout(dropout)] if dropout else [])]
    if output is not None:
        layers.append(named_activation(output)())
    return nn.Sequential(*layers)


LOSSES: dict[str, Callable[..., nn.Loss]] = {
    "squared_error": nn.MSELoss,
    "absolute_error": nn.L1Loss,
    "huber": nn.HuberLoss,
    "bce": nn.BCELoss,
}


def loss_of(given: Any) -> nn.Loss:
    """The loss itself, or the one of that name, a mean over all numbers."""
    if not isinstance(given, str):
        return given  # type: ignore[no-any-return]
    if given not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a Loss, got {given!r}")
    return LOSSES[given](reduction="mean")


def last_layer(module: nn.Module) -> nn.Module:
    """The layer at the end of a model."""
    if isinstance(module, nn.AutoEncoder):
        return last_layer(module.decoder)
    if isinstance(module, nn.Sequential) and len(module):
        return last_layer(module[-1])
    return module


class Network(CallbackSupport, BaseEstimator):
    """An estimator whose `fit` trains a network."""

    def _keep(self, given: dict[str, Any]) -> None:
        """Set the parameters, as a constructor was given them."""
        for name in self._get_param_names():
            setattr(self, name, given[name])

    hidden_layer_sizes: Any
    module: Any
    optimizer: Any
    learning_rate: float
    weight_decay: float
    batch_size: int | str
    max_iter: int
    tol: float | None
    n_iter_no_change: int
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    random_state: Any
    verbose: bool
    backend: Any
    n_features_in_: int
    model_: nn.Module
    optimizer_: optim.Optimizer
    loss_curve_: list[float]

    def _widths(self) -> list[int]:
        """hidden_layer_sizes as a list."""
        given = self.hidden_layer_sizes
        sizes = [given] if isinstance(given, (int, np.integer)) else list(given)
        return [positive_integer("every number of hidden_layer_sizes", n) for n in sizes]

    def _made(self, *arguments: Any) -> nn.Module:
        """A module of one's own: a copy of it, or what a function makes of the numbers."""
        if isinstance(self.module, nn.Module):
            return deepcopy(self.module)
        found = self.module(*arguments)
        if not isinstance(found, nn.Module):
            raise TypeError(f"module must give an ldl.nn.Module, got {type(found).__name__}")
        return found

    def _built(self, build: Callable[[], nn.Module], backend: Backend, dtype: Any) -> None:
        """Set `model_` and `optimizer_`, drawn from random_state."""
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with seeded(self._seed):
            self.model_ = build().to(backend, dtype=str(np.dtype(dtype)))
        kind = self.optimizer
        if isinstance(kind, str):
            if kind.lower() not in OPTIMIZERS:
                names = ", ".join(sorted(OPTIMIZERS))
                raise ValueError(f"no optimizer is named {kind!r}; there are: {names}")
            options: dict[str, Any] = {"lr": number("learning_rate", self.learning_rate)}
            if self.weight_decay:
                options["weight_decay"] = number("weight_decay", self.weight_decay)
            self.optimizer_ = OPTIMIZERS[kind.lower()](self.model_, **options)
        else:
            self.optimizer_ = kind(self.model_, lr=self.learning_rate)
        self.loss_curve_ = []
        self.validation_curve_: list[float] = []

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model: a fit that was refused has left other attributes."""
        return hasattr(self, "model_")

    def _has_model(self, partial: bool) -> bool:
        """Whether what was learned before is to be learned on from."""
        return (partial or self.warm_start) and hasattr(self, "model_")

    def _train(
        self,
        loss: nn.Loss,
        x: Array,
        y: Array,
        weight: Array | None,
        epochs: int,
        noise: Noise | None = None,
        stratify: Any = None,
    ) -> None:
        """Train `model_`, for so many epochs at most."""
        size = self.batch_size
        size = min(200, len(x)) if size == "auto" else positive_integer("batch_size", size)
        hooks: list[Callback] = []
        held_out = None
        wait = positive_integer("n_iter_no_change", self.n_iter_no_change)
        if self.early_stopping and epochs > 1:
            rows, others = train_test_split(
                np.arange(len(x)),
                test_size=self.validation_fraction,
                random_state=self._seed,
                stratify=stratify,
            )
            if on_device(self.model_.backend, x):
                rows, others = map(self.model_.backend.asarray, (rows, others))
            same = y is x
            x, held = x[rows], x[others]
            y, held_y = (x, held) if same else (y[rows], y[others])
            weight, held_weight = (None, None) if weight is None else (weight[rows], weight[others])
            held_out = Arrays(held, held_y, noise, held_weight)
            hooks.append(EarlyStopping("val_loss", wait, self.tol or 0.0))
        elif epochs > 1 and self.tol is not None:
            hooks.append(EarlyStopping("loss", wait, self.tol, restore_best=False))
        hooks.append(Told(self, x, y, epochs))
        history = fit(
            self.model_,
            Arrays(x, y, noise, weight),
            loss,
            self.optimizer_,
            epochs,
            batch_size=size,
            validation=held_out,
            callbacks=hooks,
            seed=self._seed,
            progress=bool(self.verbose),
        )
        self.loss_curve_ += history["loss"]
        if held_out is not None:
            self.validation_curve_ += history["val_loss"]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = len(self.loss_curve_)

    def _weights(self, sample_weight: Any, x: Array, backend: Backend) -> Array | None:
        """Weights of samples, checked."""
        if sample_weight is None or on_device(backend, sample_weight):
            return sample_weight
        like = np.empty((len(x), 1), x.dtype)
        found = _check_sample_weight(sample_weight, like, dtype=x.dtype, ensure_non_negative=True)
        return sent(backend, found)  # type: ignore[no-any-return]

    def _seen(self, x: Any) -> Array:
        """Samples to predict for, checked; an array of the model's type passes quickly."""
        model = getattr(self, "model_", None)
        if (
            model is not None
            and type(x) is model.backend.array_type
            and x.ndim == 2
            and len(x)
            and x.dtype == model.dtype
            and x.shape[1] == self.n_features_in_
            and not hasattr(self, "feature_names_in_")
            and model.backend.xp.isfinite(x).all()
        ):
            return x
        check_is_fitted(self)
        found = checked(self, self.model_.backend, x, reset=False)
        return found.astype(self.model_.dtype, copy=False)

    def _fitted_backend(self) -> Backend:
        check_is_fitted(self)
        return self.model_.backend

    def _answer(self, x: Any, found: Array) -> Array:
        """What was found for samples, on the host unless they lie on a device."""
        backend = self.model_.backend
        return found if on_device(backend, x) else backend.to_numpy(found)

    def _outputs(self, predictor: Predictor, x: Array) -> Array:
        """What a model gives for checked samples: recorded for one, by batches for more."""
        return predictor(x) if len(x) == 1 else predictor.model.predict(x)

    def _ready(self) -> None:
        """Set what predictions need beside `model_`."""
        raise NotImplementedError

    def _snapshot(self) -> dict[str, Any]:
        """What was learned so far, as attributes of an estimator that predicts."""
        other = copy(self)
        other.model_ = deepcopy(self.model_).eval()
        other._ready()
        return {k: v for k, v in vars(other).items() if k not in self.get_params(deep=False)}

    def _backend_for(self, x: Any) -> Backend:
        return backend_for(self.backend, x)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags
