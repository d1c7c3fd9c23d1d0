"""Corners of activations: what they refuse, where they have no name, what is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim
from ldl.nn.named import named_activation

X = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")


def test_every_activation_that_keeps_the_shape_has_a_name() -> None:
    kinds = [getattr(nn, name) for name in nn.__all__]
    own = [k for k in kinds if isinstance(k, type) and issubclass(k, nn.Activation)]
    for kind in own:
        if kind not in (nn.Activation, nn.GLU):
            assert named_activation(kind.__name__.upper()) is kind
            assert nn.AutoEncoder.symmetric(4, [3], activation=kind.__name__)(X).shape == X.shape
    with pytest.raises(ValueError, match="no activation is named 'glu'") as error:
        named_activation("glu")
    one_line(error)


def test_a_slope_of_ones_own_is_learned() -> None:
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    t = np.where(x > 0, x, -0.5 * x)
    model = nn.Sequential(nn.PReLU())
    ldl.fit(model, (x, t), nn.MSELoss(), optim.Adam(model, 0.05), 100)
    assert float(model[0].weight.data[0]) == pytest.approx(-0.5, abs=1e-3)
    assert float(nn.PReLU(init=0.7).weight.data[0]) == pytest.approx(0.7)


def test_a_channel_of_prelu_has_its_own_slope() -> None:
    layer = nn.PReLU(4)
    layer.weight.data[...] = np.arange(4)
    np.testing.assert_allclose(layer(-abs(X)), -abs(X) * np.arange(4))
    layer.backward(np.ones_like(X))
    np.testing.assert_allclose(layer.weight.grad, -abs(X).sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.PReLU(3)(X), ValueError, "takes 3 channels"),
        (lambda: nn.PReLU(4)(X[0]), ValueError, "takes 4 channels"),
        (lambda: nn.PReLU(3)(np.zeros((2, 3, 5), "float32")), ValueError, "channels last"),
        (lambda: nn.PReLU()(X.astype("float64")), TypeError, "float64"),
        (lambda: nn.PReLU(0), ValueError, "num_parameters"),
        (lambda: nn.PReLU(init=np.nan), ValueError, "init"),
        (lambda: nn.Hardtanh(1, 1), ValueError, "min_val must be less"),
        (lambda: nn.Hardtanh(np.nan), ValueError, "min_val"),
        (lambda: nn.GLU()(X[:, :3]), ValueError, "even number"),
        (lambda: nn.GLU(2)(X), ValueError, "halves axis 2"),
        (lambda: nn.GLU(0)(X), ValueError, "none of the samples"),
        (lambda: nn.GLU()(X[0]), ValueError, "none of the samples"),
        (lambda: nn.GLU(0.5), ValueError, "axis must be an integer"),
        (lambda: nn.Flatten(0), ValueError, "start_dim must not be 0"),
        (lambda: nn.Flatten(3)(X), ValueError, "no axis to begin at"),
        (lambda: nn.Flatten(-2)(X), ValueError, "no axis to begin at"),
        (lambda: nn.Flatten(1.5), ValueError, "start_dim"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as found:
        call()
    one_line(found)


def test_selu_keeps_means_and_variances() -> None:
    ldl.manual_seed(0)
    layers = [f() for _ in range(8) for f in (lambda: linear(256), nn.SELU)]
    y = nn.Sequential(*layers)(np.random.default_rng(0).standard_normal((512, 256)))
    assert abs(float(y.mean())) < 0.1
    assert float(y.var()) == pytest.approx(1, abs=0.2)


def linear(width: int) -> Any:
    return nn.Linear(width, width, weight_init="lecun_normal").to(dtype="float64")


@pytest.mark.parametrize(("dims", "shape"), [(1, (2, 60)), (2, (2, 3, 20)), (-2, (2, 3, 20))])
def test_a_flatten_leaves_the_axes_before(dims: int, shape: Any) -> None:
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    layer = nn.Flatten(dims)
    assert layer(x).shape == shape
    np.testing.assert_array_equal(layer.backward(x.reshape(shape)), x)
