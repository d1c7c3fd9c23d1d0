"""Tokens: whole numbers in, vectors out, through everything that a model goes through."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ldl
from checks import one_line
from fake_device import fake_device
from ldl import nn, optim

RNG = np.random.default_rng(0)
X = RNG.integers(0, 7, (12, 5))
Y = RNG.integers(0, 3, 12)


def classifier() -> nn.Module:
    ldl.manual_seed(3)
    return nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("kind", ["int64", "int32", "uint8"])
def test_rows_and_their_gradient_are_jaxs(dtype: str, shape: tuple[int, ...], kind: str) -> None:
    layer = nn.Embedding(7, 4).to(dtype=dtype)
    x = np.random.default_rng(1).integers(0, 7, shape).astype(kind)
    y = layer(x)
    w = layer.weight.data
    np.testing.assert_array_equal(y, w[x])
    grad = np.random.default_rng(2).standard_normal(y.shape).astype(dtype)
    dx = layer.backward(grad)
    assert dx.shape == x.shape
    assert not dx.any()
    assert y.dtype == dx.dtype == layer.weight.grad.dtype == np.dtype(dtype)
    with jax.enable_x64():
        _, pull = jax.vjp(lambda table: table[jnp.asarray(x)], jnp.asarray(w, "float64"))
        (right,) = map(np.asarray, pull(jnp.asarray(grad, "float64")))
    rtol = 1e-12 if dtype == "float64" else 1e-6
    np.testing.assert_allclose(layer.weight.grad, right, rtol=rtol, atol=rtol)


def test_the_token_that_stands_for_none_is_zero_and_learns_nothing() -> None:
    layer = nn.Embedding(7, 4, padding_idx=2)
    assert not layer.weight.data[2].any()
    y = layer(X)
    layer.backward(np.ones_like(y))
    assert not layer.weight.grad[2].any()
    assert layer.weight.grad[X[X != 2][0]].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_whatever_comes_back_the_token_that_stands_for_none_learns_nothing(bad: float) -> None:
    layer = nn.Embedding(4, 2, padding_idx=1)
    y = layer(np.array([[0, 1, 3]]))
    grad = np.ones_like(y)
    grad[0, 1] = bad
    layer.backward(grad)
    np.testing.assert_array_equal(layer.weight.grad, [[1, 1], [0, 0], [0, 0], [1, 1]])


def test_check_gradients_takes_tokens() -> None:
    errors = ldl.check_gradients(classifier(), X)
    assert set(errors) == {"0.weight", "2.weight", "2.bias"}


@pytest.mark.parametrize("bad", [-1, 7, 100])
def test_a_token_without_a_row_is_an_error_before_anything_is_written(bad: int) -> None:
    wrong = X.copy()
    wrong[3, 2] = bad
    model = classifier()
    with pytest.raises(ValueError, match=f"there is no row {bad}: .* 0 to 6") as caught:
        model(wrong)
    assert one_line(caught)
    with pytest.raises(ValueError, match=f"no row {bad}"):
        model.predict(wrong)
    step = ldl.TrainStep(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
    step(X, Y), step(X, Y)
    before = {name: a.copy() for name, a in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"no row {bad}"):
        step(wrong, Y)
    np.testing.assert_equal(model.state_dict(), before)
    step(X, Y)
    predictor = ldl.Predictor(model)
    predictor(X)
    with pytest.raises(ValueError, match=f"no row {bad}"):
        predictor(wrong)


@pytest.mark.parametrize("x", [X.astype("float32"), X.astype("float64")])
def test_tokens_that_are_no_integers_are_refused_and_the_message_names_the_fix(x: Any) -> None:
    with pytest.raises(
        TypeError, match=r"takes integers, got float.*x\.astype\('int64'\)"
    ) as caught:
        nn.Embedding(7, 4)(x)
    assert one_line(caught)


class OfOnesOwn(nn.Module):
    """A model that is given tokens says so."""

    takes_integers = True

    def __init__(self) -> None:
        self.inner = classifier()

    def forward(self, x: Any) -> Any:
        return self.inner(x)

    def backward(self, grad: Any) -> Any:
        return self.inner.backward(grad)


@pytest.mark.parametrize("make", [classifier, OfOnesOwn])
@pytest.mark.parametrize("kind", ["int64", "int32", "uint8"])
def test_fit_evaluate_and_predict_take_tokens(make: Any, kind: str) -> None:
    model, x = make(), X.astype(kind)
    loss, adam = nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01)
    losses = ldl.fit(model, (x, Y), loss, adam, 30, batch_size=5, progress=False)["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert ldl.evaluate(model, (x, Y), loss)["loss"] < losses[0]
    out = model.predict(x)
    np.testing.assert_allclose(out, model.eval()(X), rtol=1e-5)
    np.testing.assert_allclose(ldl.Predictor(model)(x), out, rtol=1e-5)


def test_a_recorded_step_has_the_numbers_of_the_layers_own_code() -> None:
    states = []
    for record in (True, False):
        model = classifier()
        step = ldl.TrainStep(
            model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()), record=record
        )
        for _ in range(4):
            step(X, Y)
        states.append(model.state_dict())
    for name, value in states[0].items():
        np.testing.assert_allclose(value, states[1][name], rtol=1e-5, atol=1e-6)


def test_a_model_of_tokens_goes_through_a_file(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Embedding(7, 4, padding_idx=0), nn.Flatten(), nn.Linear(20, 3))
    ldl.save(model, tmp_path / "model.safetensors")
    again = ldl.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again[0].padding_idx == 0


def test_tokens_are_embedded_on_a_device_without_waiting() -> None:
    with fake_device() as fake:
        model, x = classifier(), fake.asarray(X)
        grad = fake.asarray(np.ones((12, 3), "float32"))
        with fake.no_waiting():
            model(x)
            model.backward(grad)
        on_device = fake.to_numpy(model[0].weight.grad)
    model = classifier()
    model(X), model.backward(np.ones((12, 3), "float32"))
    np.testing.assert_allclose(on_device, model[0].weight.grad, rtol=1e-6)


def test_containers_know_what_their_first_layer_takes() -> None:
    assert classifier().takes_integers
    assert nn.AutoEncoder(classifier(), nn.Linear(3, 4)).takes_integers
    assert nn.Parallel(nn.Embedding(3, 2), nn.Embedding(3, 4)).takes_integers
    for model in (nn.Linear(2, 2), nn.Sequential(), nn.Sequential(nn.Linear(2, 2))):
        assert not model.takes_integers


@pytest.mark.parametrize(
    "options", [{"padding_idx": 7}, {"padding_idx": -1}, {"num_embeddings": 0}]
)
def test_options_are_checked(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        nn.Embedding(**{"num_embeddings": 7, "embedding_dim": 4} | options)
