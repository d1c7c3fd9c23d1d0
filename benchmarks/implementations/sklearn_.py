"""scikit-learn's multi-layer perceptrons, a batch a call of `partial_fit`."""

from __future__ import annotations

import warnings
from itertools import cycle
from typing import Any

from benchmarks.device import Device
from benchmarks.implementation import Implementation, Prepared, Refused
from benchmarks.workloads import BETAS, EPS, LR, Batch, Weights, Workload


def regressor(workload: Workload, weights: Weights, batch: Batch) -> Any:
    """A fitted-looking regressor with these weights and a fresh Adam.

    MLPRegressor's output is linear. Where the workload ends in a Sigmoid, a subclass multiplies
    the last gradient by its derivative, so that scikit-learn minimises the same function.
    """
    from sklearn.neural_network import MLPRegressor
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

    class SigmoidOutput(MLPRegressor):
        def _compute_loss_grad(
            self, layer: int, sw_sum: Any, activations: Any, deltas: Any, *grads: Any
        ) -> None:
            if layer == self.n_layers_ - 2:
                out = activations[-1]
                deltas[layer] *= out * (1 - out)
            super()._compute_loss_grad(layer, sw_sum, activations, deltas, *grads)

    options = {"learning_rate_init": LR, "beta_1": BETAS[0], "beta_2": BETAS[1], "epsilon": EPS}
    sigmoid = workload.output == "sigmoid"
    model = (SigmoidOutput if sigmoid else MLPRegressor)(
        hidden_layer_sizes=workload.widths[1:-1],
        activation="relu",
        solver="adam",
        alpha=0.0,
        batch_size=workload.batch,
        shuffle=False,
        random_state=0,
        **options,
    )
    x, y = batch
    model.partial_fit(x, targets(y))
    if sigmoid:
        model.out_activation_ = "logistic"
    for k, (w, b) in enumerate(weights):
        model.coefs_[k][...] = w
        model.intercepts_[k][...] = b
    model._optimizer = AdamOptimizer(model.coefs_ + model.intercepts_, **options)
    return model


def targets(y: Any) -> Any:
    """One target is a vector to scikit-learn."""
    return y.ravel() if y.shape[1] == 1 else y


class Trains(Implementation):
    """`partial_fit`, which checks its arguments each time as it does for a user."""

    name = "scikit-learn MLP"
    needs = ("sklearn",)
    tolerance = 2e-3  # its Adam adds epsilon to another number

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """Refuses what scikit-learn has not."""
        if workload.dropout or workload.loss != "squared" or not workload.widths or workload.layer:
            raise Refused("scikit-learn's nets are dense layers alone")
        model = regressor(workload, weights, batches[0])
        turn = cycle([(x, targets(y)) for x, y in batches])
        scale = 2 * workload.widths[-1]  # it reports half the mean over samples and features

        def step() -> float:
            x, y = next(turn)
            model.partial_fit(x, y)
            return scale * float(model.loss_)

        return Prepared(step)


class Predicts(Implementation):
    """`predict`."""

    name = "scikit-learn MLP"
    needs = ("sklearn",)
    predicts = True

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """The model after a call of partial_fit that is undone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = regressor(workload, weights, batches[0])
        turn = cycle([x for x, _ in batches])
        return Prepared(lambda: model.predict(next(turn)))


IMPLEMENTATIONS = [Trains(), Predicts()]
