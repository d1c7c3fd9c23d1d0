"""NumPy's floating-point errors, as a program has set them, are no matter of ldl's formulas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from catalog import LOSSES, ROWS, named
from ldl import data, nn, optim, random

EXTREME = [-1e30, -6e4, -700.0, -89.0, -1e-30, 0.0, 1e-40, 17.0, 89.0, 700.0, 6e4, 1e30]

ACTIVATIONS = [
    *("ELU", "GELU", "Identity", "LeakyReLU", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax"),
    *("Softplus", "Tanh"),
]

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda m: optim.SGD(m, 1e-30, momentum=0.9, nesterov=True, weight_decay=1e-30),
    "rmsprop": lambda m: optim.RMSprop(m, 1e-3, momentum=0.5),
    "adam": lambda m: optim.Adam(m, 1e-3, clip_norm=1e-20),
    "adamw": lambda m: optim.AdamW(m, 1e-30, clip_value=1e-30),
    "amsgrad": lambda m: optim.Adam(m, 1e-30, amsgrad=True),
    "centered": lambda m: optim.RMSprop(m, 1e-3, centered=True, eps=1e-30),
    "adagrad": lambda m: optim.Adagrad(m, 1e-30),
    "nadam": lambda m: optim.NAdam(m, 1e-3),
    "radam": lambda m: optim.RAdam(m, 1e-30, betas=(0.9, 0.9)),
    "lion": lambda m: optim.Lion(m, 1e-30, weight_decay=1e-30),
}


@pytest.fixture(autouse=True, params=["jit", "blocks"])
def _strict(request: Any, monkeypatch: Any) -> Iterator[None]:
    """Every floating-point error of NumPy's is raised."""
    if request.param == "blocks":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
    else:
        pytest.importorskip("llvmlite")
    with np.errstate(all="raise"):
        yield


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.Dropout(0.2), nn.Linear(5, 4))


def rows(dtype: str = "float32") -> Any:
    """Large and tiny numbers."""
    with np.errstate(all="ignore"):
        x = np.random.default_rng(1).normal(size=(40, 4)) * np.logspace(-42, 4, 40)[:, None]
        return x.astype(dtype)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_training_and_its_figures_raise_nothing(optimizer: Any) -> None:
    model = network()
    noisy = data.Arrays(rows(), noise=data.GaussianNoise(1e-30, clip=False))
    history = ldl.fit(
        model,
        noisy,
        nn.MSELoss(),
        optimizer(model),
        2,
        batch_size=16,
        validation=rows(),
        metrics=["mse", "mae"],
        progress=False,
    )
    assert np.isfinite(history.rows[-1]["val_loss"])
    assert np.isfinite(ldl.evaluate(model, rows("float64"), nn.MSELoss())["loss"])
    step = ldl.TrainStep(model.train(), nn.MSELoss(), optimizer(model), record=False)
    assert np.isfinite(step(rows(), rows()))
    for x in (rows(), rows("float64")):
        np.testing.assert_allclose(ldl.Predictor(model)(x), model.predict(x), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_called_directly_raise_nothing(name: str, dtype: str) -> None:
    layer = getattr(nn, name)()
    with np.errstate(all="ignore"):
        x = np.array([EXTREME]).astype(dtype)
    y = layer(x)
    layer.backward(np.full_like(y, 1e-7))
    ldl.Predictor(layer)(x)


@pytest.mark.parametrize(**named(ROWS))
def test_modules_raise_nothing(row: Any) -> None:
    with np.errstate(all="warn"):
        module, x = row.module(), row.input()
    y = module(x * np.float32(1e-18))
    module.backward(y * 0)
    ldl.Predictor(module)(x)


@pytest.mark.parametrize(**named(LOSSES))
def test_losses_raise_nothing(row: Any) -> None:
    with np.errstate(all="warn"):
        loss, (x, t) = row.build(), row.batch()
    loss.forward(x, t)
    loss.backward()


def test_what_a_program_does_in_metrics_and_callbacks_is_its_own() -> None:
    seen: list[Any] = []

    def metric(output: Any, target: Any) -> float:
        seen.append(np.geterr())
        return 0.0

    model = network()
    ldl.fit(
        model,
        rows(),
        nn.MSELoss(),
        optim.Adam(model),
        1,
        metrics=metric,
        callbacks=lambda run: seen.append(np.geterr()),
        progress=False,
    )
    assert seen
    assert all(set(found.values()) == {"raise"} for found in seen)
    assert set(np.geterr().values()) == {"raise"}


def test_noises_initial_weights_and_checks_raise_nothing() -> None:
    stream = random.Stream(3, random.NOISE)
    backend = ldl.get_backend()
    x = np.random.default_rng(1).random((40, 4)).astype("float32")
    for noise in (data.GaussianNoise(0.5), data.MaskingNoise(0.5), data.SaltPepperNoise(0.5)):
        noise(x, stream, backend)
    ldl.check_gradients(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), x.astype("float64"))
    model = network()
    for parameter in model.parameters():
        parameter.accumulate(np.full(parameter.shape, 1e-25, "float32"))
    optim.clip_grad_norm_(model.parameters(), 1e-30)
