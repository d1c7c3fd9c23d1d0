"""The faults of the projects that ldl grew from: each check rejects the fault and accepts ldl."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from checks import is_gradient, module_is_differentiated
from ldl import nn

N, D = 5, 3
RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 0.8, (N, D))
T = RNG.uniform(0.2, 0.8, (N, D))
LABELS = np.array([0, 2, 1, 1, 0])
ONE_HOT = np.eye(D)[LABELS]


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# ---- Softmax -----------------------------------------------------------------------------------


class DiagonalSoftmax(nn.Softmax):
    """Backward keeps only the Jacobian's diagonal, y(1 - y)."""

    def derivative(self, grad: Any, x: Any, y: Any) -> Any:
        return grad * y * (1 - y)


def test_softmax_has_its_full_jacobian() -> None:
    assert module_is_differentiated(nn.Softmax(), X)
    assert not module_is_differentiated(DiagonalSoftmax(), X)


# ---- factors of N and D ------------------------------------------------------------------------

MEAN, BATCHMEAN = {"reduction": "mean"}, {"reduction": "batchmean"}
LOSSES = {
    "MSE, mean of squared norms": (nn.MSELoss(), T, lambda x: 2 * (x - T) / N),
    "MSE, mean": (nn.MSELoss(**MEAN), T, lambda x: 2 * (x - T) / (N * D)),
    "BCE, mean": (nn.BCELoss(), T, lambda x: (x - T) / (x * (1 - x)) / (N * D)),
    "BCE, mean of sums": (nn.BCELoss(**BATCHMEAN), T, lambda x: (x - T) / (x * (1 - x)) / N),
    "CE, mean": (nn.CrossEntropyLoss(), LABELS, lambda x: (softmax(x) - ONE_HOT) / N),
}


@pytest.mark.parametrize(("loss", "target", "exact"), LOSSES.values(), ids=LOSSES)
def test_the_gradient_has_the_factors_of_the_value(loss: Any, target: Any, exact: Any) -> None:
    def value(x: Any) -> float:
        return float(copy.deepcopy(loss)(x, target))

    loss(X, target)
    assert is_gradient(value, X, loss.backward())
    assert is_gradient(value, X, exact(X))
    for factor in (N, D, N * D, 1 / N, 1 / D, 1 / (N * D), -1, 0.5):
        assert not is_gradient(value, X, factor * exact(X))


# ---- the value of cross-entropy ----------------------------------------------------------------


def cross_entropy_without_maximum(x: Any, labels: Any) -> Any:
    """log Σ exp(x) - x[label], as it stands: exp overflows at 710, and at 89 in float32."""
    with np.errstate(over="ignore"):
        return (np.log(np.exp(x).sum(axis=1)) - x[np.arange(len(x)), labels]).mean()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4])
def test_the_value_of_cross_entropy_does_not_depend_on_an_offset(offset: float, dtype: str) -> None:
    logits = np.array([[0.0, 2, -1], [4, 0, 1], [0, 0, 8]], dtype)  # exact in every type
    labels = np.array([0, 0, 1])
    expected = cross_entropy_without_maximum(logits.astype("float64"), labels)

    def is_right(loss: Any) -> bool:
        return bool(abs(loss(logits + logits.dtype.type(offset), labels) / expected - 1) < 1e-6)

    assert is_right(nn.CrossEntropyLoss())
    assert is_right(cross_entropy_without_maximum) == (offset == 0)


# ---- the first layer ---------------------------------------------------------------------------


class StopsAtTheFirstLayer(nn.Sequential):
    """Backward never reaches layer 0."""

    def backward(self, grad: Any) -> Any:
        for layer in reversed(self.layers[1:]):
            grad = layer.backward(grad)
        return grad


def layers() -> list[Any]:
    return [nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D), nn.Sigmoid()]


def test_the_first_layer_gets_its_gradient() -> None:
    assert module_is_differentiated(nn.Sequential(*layers()).to(dtype="float64"), X)
    assert not module_is_differentiated(StopsAtTheFirstLayer(*layers()).to(dtype="float64"), X)


def test_the_encoder_gets_its_gradient() -> None:
    encoder, decoder = layers()[:2], layers()[2:]
    whole = nn.AutoEncoder(nn.Sequential(*encoder), nn.Sequential(*decoder)).to(dtype="float64")
    assert module_is_differentiated(whole, X)

    class DecoderAlone(nn.AutoEncoder):
        def backward(self, grad: Any) -> Any:
            return self.decoder.backward(grad)

    half = DecoderAlone(nn.Sequential(*layers()[:2]), nn.Sequential(*layers()[2:]))
    assert not module_is_differentiated(half.to(dtype="float64"), X)


# ---- one convention for every layer ------------------------------------------------------------


class AveragedLinear(nn.Linear):
    """Divides its weight's gradient by the batch, where the loss has done so already."""

    def backward(self, grad: Any) -> Any:
        dx = super().backward(grad)
        self.weight.grad[...] /= len(grad)
        return dx


def test_the_weights_gradient_is_a_sum_over_the_batch() -> None:
    assert module_is_differentiated(nn.Linear(D, 2).to(dtype="float64"), X)
    assert not module_is_differentiated(AveragedLinear(D, 2).to(dtype="float64"), X)
