"""Metrics in which samples count by their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as known

import ldl
from ldl import nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(37, 4)).astype("float32")
LABELS = RNG.integers(0, 3, 37)
WHOLE = RNG.integers(0, 4, 37)
"""Whole numbers, some 0, by which samples may be repeated."""


def model(outputs: int) -> nn.Module:
    ldl.manual_seed(0)
    return nn.Linear(4, outputs)


@pytest.mark.parametrize(
    ("loss", "target", "name"),
    [
        (nn.CrossEntropyLoss(), LABELS, "accuracy"),
        (nn.CrossEntropyLoss(ignore_index=1), LABELS, "accuracy"),
        (nn.BCEWithLogitsLoss(), (RNG.random((37, 3)) > 0.5).astype("float32"), "accuracy"),
        (nn.MSELoss(), RNG.normal(size=(37, 3)).astype("float32"), "mse"),
        (nn.MSELoss(), RNG.normal(size=(37, 3)).astype("float32"), "mae"),
        (nn.MSELoss(), RNG.normal(size=(37, 3)).astype("float32"), "psnr"),
    ],
    ids=["labels", "ignored labels", "binary", "mse", "mae", "psnr"],
)
def test_a_weight_is_a_number_of_repetitions(loss: nn.Loss, target: Any, name: str) -> None:
    names = [name, f"weighted_{name}"]
    net = model(3)
    found = ldl.evaluate(net, (X, target), loss, names, sample_weight=WHOLE, batch_size=8)
    again = np.repeat(np.arange(37), WHOLE)
    whole = ldl.evaluate(net, (X[again], target[again]), loss, names)
    assert found[f"weighted_{name}"] == pytest.approx(whole[name], rel=1e-5)
    assert whole[f"weighted_{name}"] == pytest.approx(whole[name], rel=1e-5)
    assert found[name] == pytest.approx(ldl.evaluate(net, (X, target), loss, name)[name])
    assert found[name] != pytest.approx(found[f"weighted_{name}"], rel=1e-3)


def test_a_sample_without_weight_counts_nowhere_whatever_it_is() -> None:
    x, weight = X.copy(), np.ones(37)
    x[3], weight[3] = np.nan, 0
    y = RNG.normal(size=(37, 2)).astype("float32")
    kept = np.delete(np.arange(37), 3)
    found = ldl.evaluate(model(2), (x, y), nn.MSELoss(), "weighted_mse", sample_weight=weight)
    whole = ldl.evaluate(model(2), (X[kept], y[kept]), nn.MSELoss(), "mse")
    assert found["weighted_mse"] == pytest.approx(whole["mse"], rel=1e-5)


def test_functions_of_scikit_learn_and_of_ones_own_get_the_weights() -> None:
    def right(xp: Any, output: Any, target: Any, sample_weight: Any) -> Any:
        return (sample_weight * (output.argmax(axis=1) == target)).sum(), sample_weight.sum()

    def mean(xp: Any, output: Any, target: Any, sample_weight: Any) -> Any:
        return right(xp, output, target, sample_weight)[0] / max(sample_weight.sum(), 1e-9)

    asked = [
        "weighted_accuracy",
        ldl.Metric("right", right, weighted=True),
        ldl.Metric("mean", mean, weighted=True),
        ldl.EpochMetric("known", known.accuracy_score, labels=True, weighted=True),
        ldl.EpochMetric("alike", known.accuracy_score, labels=True),
    ]
    net, loss = model(3), nn.CrossEntropyLoss()
    found = ldl.evaluate(net, (X, LABELS, WHOLE), loss, asked, batch_size=5)
    predicted = net.predict(X).argmax(axis=1)
    expected = known.accuracy_score(LABELS, predicted, sample_weight=WHOLE)
    for name in ("weighted_accuracy", "right", "mean", "known"):
        assert found[name] == pytest.approx(expected, rel=1e-6)
    assert found["alike"] == pytest.approx(known.accuracy_score(LABELS, predicted))
    plain = ldl.evaluate(net, (X, LABELS), loss, asked, batch_size=5)
    assert len({round(plain[metric], 6) for metric in ("weighted_accuracy", "known", "alike")}) == 1


def test_fit_reports_them_of_training_and_of_validation() -> None:
    net, loss = model(3), nn.CrossEntropyLoss()
    optimizer = ldl.optim.SGD(net.parameters(), 1e-9)
    asked = ["accuracy", "weighted_accuracy"]
    data = X, LABELS, WHOLE
    history = ldl.fit(net, data, loss, optimizer, 1, validation=data, metrics=asked)
    expected = known.accuracy_score(LABELS, net.predict(X).argmax(axis=1), sample_weight=WHOLE)
    for name in ("weighted_accuracy", "val_weighted_accuracy"):
        assert history[name][-1] == pytest.approx(expected, rel=1e-6)
