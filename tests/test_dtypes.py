"""float32 stays float32, float64 stays float64, and extreme inputs give finite numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from catalog import LOSSES, ROWS, learned, named
from ldl import nn

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
ACTIVATIONS = [row for row in ROWS if isinstance(row.build(), nn.Activation)]
LARGEST = float(np.finfo("float32").max)


def upstream(y: Any) -> Any:
    return np.ones(np.shape(y), y.dtype)


def run(module: Any, x: Any) -> list[Any]:
    """Output, input's gradient, parameters' gradients."""
    y = module(x)
    dx = module.backward(upstream(y))
    return [y, dx, *(p.grad for p in learned(module).values())]


def run_loss(loss: Any, x: Any, t: Any) -> list[Any]:
    """Value, and the gradients with and without an argument."""
    value = loss(x, t)
    given = loss.backward(upstream(value))
    loss(x, t)
    return [value, given] if np.ndim(value) else [value, given, loss.backward()]


@DTYPES
@pytest.mark.parametrize(**named(ROWS))
def test_a_module_keeps_the_type(row: Any, dtype: str) -> None:
    assert {str(a.dtype) for a in run(row.module(dtype), row.input(dtype))} == {dtype}


@DTYPES
@pytest.mark.parametrize(**named(LOSSES))
def test_a_loss_keeps_the_type(row: Any, dtype: str) -> None:
    assert {str(a.dtype) for a in run_loss(row.build(), *row.batch(dtype))} == {dtype}


@pytest.mark.parametrize(**named(ROWS))
def test_to_changes_the_type_of_a_model_and_of_its_gradients(row: Any) -> None:
    module = row.module()
    identities = [id(p) for p in module.parameters()]
    run(module, row.input())
    assert module.to(dtype="float64") is module
    assert [id(p) for p in module.parameters()] == identities
    assert {str(p.grad.dtype) for p in learned(module).values()} <= {"float64"}
    assert {str(a.dtype) for a in run(module, row.input("float64"))} == {"float64"}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("build", [nn.Tanh, lambda: nn.Sequential(nn.Flatten(), nn.Softmax())])
def test_a_model_without_parameters_keeps_the_type_of_its_data(build: Any, dtype: str) -> None:
    model, x = build(), np.linspace(-1, 1, 12).reshape(4, 3).astype(dtype)
    expected = build().eval()(x)
    for y in (model.predict(x), model.predict(x, batch_size=3), ldl.Predictor(model)(x)):
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=1e-3 if dtype == "float16" else 1e-6)
    assert ldl.evaluate(model, (x, expected), nn.MSELoss())["loss"] < 1e-6
    for other in (x.tolist(), np.eye(3, dtype="int64")):
        assert model.predict(other).dtype == "float32"


ZERO_D = [np.float64, np.asarray, np.float32]
HYPER = {
    "LeakyReLU": lambda n: nn.LeakyReLU(n(0.1)),
    "ELU": lambda n: nn.ELU(n(0.5)),
    "Softplus": lambda n: nn.Softplus(n(2.0)),
    "Dropout": lambda n: nn.Dropout(n(0.5)),
    "Softmax": lambda n: nn.Softmax(axis=np.int64(-1)),
    "LogSoftmax": lambda n: nn.LogSoftmax(axis=np.int64(-1)),
}
LOSS_HYPER = {
    "HuberLoss": lambda n: nn.HuberLoss(delta=n(0.5)),
    "smoothing": lambda n: nn.CrossEntropyLoss(label_smoothing=n(0.1)),
    "weights": lambda n: nn.CrossEntropyLoss(weight=[n(0.5), n(1.0), n(2.0)]),
    "an array of weights": lambda n: nn.CrossEntropyLoss(weight=np.array([0.5, 1, 2])),
    "ignored": lambda n: nn.CrossEntropyLoss(ignore_index=np.int64(1)),
}


@pytest.mark.parametrize("number", ZERO_D)
@pytest.mark.parametrize("build", HYPER.values(), ids=HYPER)
def test_numpy_scalars_as_options_leave_float32_alone(build: Any, number: Any) -> None:  # case 10
    x = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    assert {str(a.dtype) for a in run(build(number), x)} == {"float32"}


def test_numpy_integers_are_widths() -> None:  # case 10
    x = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    assert {str(a.dtype) for a in run(nn.Linear(np.int64(3), np.int64(2)), x)} == {"float32"}
    model = nn.AutoEncoder.symmetric(np.int64(3), [np.int64(2)])
    assert {str(a.dtype) for a in run(model, x)} == {"float32"}


@pytest.mark.parametrize("number", ZERO_D)
@pytest.mark.parametrize("build", LOSS_HYPER.values(), ids=LOSS_HYPER)
def test_numpy_scalars_as_options_of_losses_leave_float32_alone(  # case 10
    build: Any, number: Any
) -> None:
    loss, x = build(number), np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    t = x + 1 if isinstance(loss, nn.HuberLoss) else np.array([0, 1, 2, 0])
    assert {str(a.dtype) for a in run_loss(loss, x, t)} == {"float32"}


@pytest.mark.parametrize("grad", [2.0, np.float64(2), np.asarray(2.0)], ids=repr)
@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.CrossEntropyLoss()], ids=repr)
def test_the_factor_given_to_backward_leaves_float32_alone(loss: Any, grad: Any) -> None:  # case 10
    x = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    loss(x, x + 1 if isinstance(loss, nn.MSELoss) else np.array([0, 1, 2, 0]))
    assert loss.backward(grad).dtype == "float32"


@pytest.mark.parametrize("name", ["he_normal", "he_uniform", "orthogonal", "zeros", "ones"])
def test_initialisers_of_numpy_widths_give_float32(name: str) -> None:  # case 10
    assert nn.init.get(name)((np.int64(4), np.int64(3))).dtype == "float32"


@pytest.mark.parametrize("initialiser", [nn.init.uniform, nn.init.normal])
def test_initialisers_of_a_numpy_spread_give_float32(initialiser: Any) -> None:  # case 10
    assert initialiser((4, 3), np.float64(0.1)).dtype == "float32"


@pytest.mark.parametrize("labels", ["uint8", "int8", "int16", "int32", "int64", "uint64"])
def test_labels_of_every_integer_type_mean_the_same(labels: str) -> None:
    x, t = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3), np.array([0, 2, 1, 0])
    expected = run_loss(nn.CrossEntropyLoss(), x, t)
    for a, b in zip(run_loss(nn.CrossEntropyLoss(), x, t.astype(labels)), expected, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- extremes: warnings are errors in this test run ------------------------------------------


def extremes(largest: float) -> Any:
    values = [0.0, -0.0, 1e4, -1e4, 88.8, -88.8, 104.0, -104.0, 1e-38, -1e-38, largest, -largest]
    return np.array(values, "float32").reshape(3, 4)


@pytest.mark.parametrize(**named([row for row in ACTIVATIONS if len(row.shape) == 2]))
def test_activations_are_finite_at_extreme_inputs(row: Any) -> None:
    # The difference of two inputs, and a cube, must be numbers of the type: so must their bounds.
    kind = row.build()
    largest = 1e12 if isinstance(kind, nn.GELU) else LARGEST / 2.6
    y, dx, *_ = run(kind, extremes(largest))
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()


@pytest.mark.parametrize(**named(LOSSES))
def test_losses_are_finite_at_extreme_inputs(row: Any) -> None:
    loss, (x, t) = row.build(), row.batch()
    values = [0.0, 1.0] if isinstance(loss, nn.BCELoss) else [0.0, -0.0, 1e4, -1e4]
    if isinstance(loss, nn.PoissonNLLLoss):  # no float32 is exp(1e4), and no rate negative
        values = [0.0, -0.0, 80.0, -1e4] if loss.log_input else [0.0, -0.0, 1e4]
    for first in values:
        x[...] = np.resize(np.array([first, *values], "float32"), x.shape)
        for result in run_loss(loss, x, t):
            assert np.isfinite(result).all()


@pytest.mark.parametrize(**named(LOSSES))
@pytest.mark.parametrize("rows", [1, 3])
def test_small_batches_give_finite_losses(row: Any, rows: int) -> None:  # case 12
    for result in run_loss(row.build(), *row.batch(rows=rows)):
        assert np.isfinite(result).all()


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
def test_a_batch_of_which_every_label_is_ignored_costs_nothing(reduction: str) -> None:  # case 12
    loss = nn.CrossEntropyLoss(reduction=reduction)
    results = run_loss(loss, np.ones((2, 3), "float32"), np.array([-100, -100]))
    assert all((result == 0).all() for result in results)


@pytest.mark.parametrize(**named([row for row in ROWS if len(row.shape) > 1]))
@pytest.mark.parametrize("rows", [1, 3])
def test_small_batches_give_finite_gradients(row: Any, rows: int) -> None:  # case 12
    module, x = row.module(), row.input()[:rows]
    if rows < 2 and type(module) is nn.BatchNorm1d and x.ndim == 2:  # it has no variance
        with pytest.raises(ValueError, match="train with two samples at least"):
            module(x)
        return
    for result in run(module, x):
        assert np.isfinite(result).all()
