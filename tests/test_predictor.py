"""A Predictor gives what `model.predict` gives."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import ldl
from catalog import ROWS, named
from fake_device import FakeArray, FakeBackend, fixture
from ldl import nn, optim
from test_train_step import assert_agree, how  # noqa: F401 - a fixture

fake = fixture


@pytest.mark.parametrize(**named(ROWS))
def test_every_module_predicts_as_its_own_code_does(row: Any, how: str) -> None:  # noqa: F811
    module, x = row.module(), row.input()
    predictor = ldl.Predictor(module)
    for _ in range(2):
        assert_agree(predictor(x), module.predict(x), how)
    assert all(part.training for part in module.modules())


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Dropout(0.5), nn.Linear(9, 2))


X = np.random.default_rng(0).random((8, 6)).astype("float32")


def test_one_row_has_one_axis_and_batches_have_any_size() -> None:
    model = network()
    predictor = ldl.Predictor(model)
    expected = model.predict(X)
    np.testing.assert_allclose(predictor(X[3]), expected[3], rtol=1e-5)
    for n in (1, 8, 3):
        np.testing.assert_allclose(predictor(X[:n]), expected[:n], rtol=1e-5)
    np.testing.assert_allclose(predictor(X[3].tolist()), expected[3], rtol=1e-5)
    np.testing.assert_allclose(predictor(X.astype("float64")), expected, rtol=1e-5)
    assert predictor(X.astype("float64")).dtype == "float32"


def test_a_prediction_belongs_to_the_caller() -> None:
    predictor = ldl.Predictor(network())
    first = predictor(X[0])
    kept = first.copy()
    predictor(X[1])
    np.testing.assert_array_equal(first, kept)


def test_what_training_changes_is_seen() -> None:
    model = network()
    predictor = ldl.Predictor(model)
    before = predictor(X)
    ldl.fit(model, (X, X[:, :2]), nn.MSELoss(), optim.Adam(model, 0.1), 2)
    assert (predictor(X) != before).all()
    np.testing.assert_allclose(predictor(X), model.predict(X), rtol=1e-5)
    model.to(dtype="float64")
    assert predictor(X).dtype == "float64"


def test_threads_share_a_predictor() -> None:
    model = network()
    predictor, expected = ldl.Predictor(model), model.predict(X)
    wrong = []

    def predict(i: int) -> None:
        for _ in range(300):
            if not np.allclose(predictor(X[i]), expected[i], rtol=1e-5):
                wrong.append(i)

    threads = [threading.Thread(target=predict, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_it_runs_on_any_device(fake: FakeBackend) -> None:
    with ldl.use_backend(fake):
        model = network()
    y = ldl.Predictor(model)(fake.asarray(X))
    assert isinstance(y, FakeArray)
    np.testing.assert_array_equal(fake.to_numpy(y), fake.to_numpy(model.predict(X)))


def test_a_prediction_leaves_gradients_alone() -> None:
    model = network()
    predictor = ldl.Predictor(model)
    predictor(X)
    model.backward(np.ones_like(model(X)))
    kept = [p.grad.copy() for p in model.parameters()]
    predictor(X)
    for p, grad in zip(model.parameters(), kept, strict=True):
        np.testing.assert_array_equal(p.grad, grad)
    fresh = ldl.Predictor(model)
    fresh(X)
    model.zero_grad()
    fresh(X)
    assert not any(p.has_grad for p in model.parameters())


def test_a_model_that_gives_its_input_gives_that_of_every_call() -> None:
    predictor = ldl.Predictor(nn.Sequential(nn.Identity(), nn.Flatten()))
    for x in (X, X + 1):
        np.testing.assert_array_equal(predictor(x), x)
