"""Inputs that lie in memory of the model, the optimizer or the last step are read as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl_cupy.record import DeviceStep
from ldl_numpy.record import PlannedStep

rng = np.random.default_rng(0)
X = rng.standard_normal((6, 6)).astype("float32")
Y = rng.standard_normal((6, 6)).astype("float32")


@pytest.fixture(params=["plain", "fused", "copied", "device"])
def backend(request: Any, monkeypatch: Any) -> Any:
    """The one whose steps are played: NumPy's without and with the compiler, and a device's.

    Inputs are read where they lie, or else copied because they are small.
    """
    if request.param in ("fused", "copied"):
        pytest.importorskip("llvmlite")
    elif request.param == "plain":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
    if request.param != "copied":
        monkeypatch.setattr("ldl.compiler.plan.SMALL", 0)
    return CudaOnHost() if request.param == "device" else ldl.get_backend("numpy")


def network() -> nn.Sequential:
    ldl.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))


def made(backend: Any, record: bool) -> ldl.TrainStep:
    with ldl.use_backend(backend):
        model = network()
        optimizer = optim.SGD(model, 0.1, momentum=0.9)
        step = ldl.TrainStep(model, nn.MSELoss(), optimizer, record=record, keep_output=True)
    optimizer.pack()
    return step


PLACES: dict[str, Callable[[ldl.TrainStep], Any]] = {
    "the first weights": lambda step: step.model[0].weight.data,
    "the last weights": lambda step: step.model[2].weight.data,
    "the first gradient": lambda step: step.model[0].weight.grad_memory(),
    "the last gradient": lambda step: step.model[2].weight.grad_memory(),
    "all gradients": lambda step: step.optimizer.stores[0].grads[16:52].reshape(6, 6),
    "a velocity": lambda step: step.optimizer.views()["2.momentum"],
    "the last output": lambda step: step.output,
}


@pytest.mark.parametrize("known", [True, False], ids=["of a known shape", "at first"])
@pytest.mark.parametrize("role", ["input", "target", "both"])
@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
def test_a_step_reads_them_as_they_are_when_it_begins(
    place: Any, role: str, known: bool, backend: Any
) -> None:
    losses = []
    for where, record in ((backend, True), (ldl.get_backend("numpy"), False)):
        step = made(where, record)
        x, y = where.asarray(X), where.asarray(Y)
        found = [] if known else [step(x[:5], y[:5])]  # another shape: gradients and an output
        if not known:
            step.output = x.copy()
        else:
            found += [step(x, y), step(x, x)]
        for i in range(5):
            other = place(step) if i != 2 else x
            given = {"input": (other, y), "target": (x, other), "both": (other, other)}[role]
            found.append(step(*given))
        losses.append([float(where.to_numpy(loss)) for loss in found])
        if record:
            planned = (PlannedStep, DeviceStep)
            assert all(isinstance(r, planned) for r in step._recordings.values())
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_prediction_of_the_weights_is_one_and_leaves_them_to_the_model(backend: Any) -> None:
    with ldl.use_backend(backend):
        model = network()
    predictor, x = ldl.Predictor(model), backend.asarray(X)
    for given in (model[0].weight.data, x, model[2].weight.data, x):
        expected = backend.to_numpy(model.predict(given))
        np.testing.assert_allclose(backend.to_numpy(predictor(given)), expected, atol=1e-6)
