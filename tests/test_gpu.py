"""The same numbers on CuPy as on NumPy, wherever a CUDA device is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from catalog import LOSSES, ROWS, named
from catalog_optimizers import OPTIMIZERS
from ldl import data, nn, optim, random
from test_device_discipline import loss_passes, passes
from test_device_training import AVERAGES, X, confusion, fit, steps

pytestmark = pytest.mark.gpu


def assert_close(device: list[Any], host: list[Any], rtol: float = 1e-5) -> None:
    cupy = ldl.get_backend("cupy")
    for d, h in zip(device, host, strict=True):
        assert isinstance(d, cupy.array_type)
        assert d.dtype == h.dtype
        np.testing.assert_allclose(cupy.to_numpy(d), h, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize(**named(ROWS))
def test_a_module_gives_the_hosts_numbers(row: Any) -> None:
    assert_close(passes(ldl.get_backend("cupy"), row), passes(ldl.get_backend("numpy"), row))


@pytest.mark.parametrize(**named(LOSSES))
def test_a_loss_gives_the_hosts_numbers(row: Any) -> None:
    on_device = loss_passes(ldl.get_backend("cupy"), row)
    assert_close(on_device, loss_passes(ldl.get_backend("numpy"), row))


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_an_optimizer_takes_the_hosts_steps(build: Any) -> None:
    device = [p.data for p in steps(ldl.get_backend("cupy"), build).parameters()]
    host = [p.data for p in steps(ldl.get_backend("numpy"), build).parameters()]
    assert_close(device, host, rtol=1e-4)


def test_uniform_numbers_are_the_hosts_bit_for_bit_and_noise_to_rounding() -> None:
    key = random.Key(1, 2, 3)
    cupy, numpy = ldl.get_backend("cupy"), ldl.get_backend("numpy")
    u = cupy.to_numpy(cupy.uniform((1001,), "float32", key))
    np.testing.assert_array_equal(u, numpy.uniform((1001,), "float32", key))
    for noise in (data.GaussianNoise(0.5), data.MaskingNoise(0.3), data.SaltPepperNoise(0.2)):
        noisy = noise(cupy.asarray(X), random.Stream(1, random.NOISE), cupy)
        host = noise(X, random.Stream(1, random.NOISE), numpy)
        np.testing.assert_allclose(cupy.to_numpy(noisy), host, atol=1e-6)


def test_a_whole_fit_follows_the_hosts(tmp_path: Any) -> None:
    model, history = fit(ldl.get_backend("cupy"))
    expected, host = fit(ldl.get_backend("numpy"))
    np.testing.assert_allclose(history["val_loss"], host["val_loss"], rtol=1e-4)
    ldl.save(model, tmp_path / "model.safetensors")
    moved = ldl.load(tmp_path / "model.safetensors", backend="numpy")
    np.testing.assert_allclose(moved.predict(X), expected.predict(X), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("average", AVERAGES)
def test_averages_and_metrics_of_whole_epochs_follow_the_hosts(average: str) -> None:
    options = {"metrics": [ldl.EpochMetric("confusion", confusion, labels=True)]}
    model, history = fit(ldl.get_backend("cupy"), callbacks=AVERAGES[average](), **options)
    expected, host = fit(ldl.get_backend("numpy"), callbacks=AVERAGES[average](), **options)
    np.testing.assert_allclose(history["val_loss"], host["val_loss"], rtol=1e-4)
    assert np.abs(np.subtract(history["val_confusion"], host["val_confusion"])).max() <= 1
    device = [p.data for p in model.parameters()]
    assert_close(device, [p.data for p in expected.parameters()], rtol=1e-3)


def test_host_arrays_in_a_device_model_are_an_error_that_names_the_fix() -> None:
    with ldl.use_backend("cupy"):
        model = nn.Linear(6, 2)
    with pytest.raises(nn.DeviceError, match="asarray"):
        model(X)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_wrong_labels_are_refused_as_on_the_host(wrong: int) -> None:
    backend = ldl.get_backend("cupy")
    with ldl.use_backend(backend), pytest.raises(ValueError, match=f"label {wrong} is not"):
        nn.CrossEntropyLoss()(backend.asarray(X[:2, :3]), backend.asarray([0, wrong]))


@pytest.mark.parametrize("dtype", [">f4", ">i8", "f8", "u1", "?", "c8"])
def test_host_arrays_arrive_as_they_are(dtype: str) -> None:
    host = np.arange(-3, 9).reshape(3, 4).astype(dtype)
    backend = ldl.get_backend("cupy")
    for given in (host, host.T, host[:, ::2], host[:0]):
        np.testing.assert_array_equal(backend.to_numpy(backend.asarray(given)), given)


def test_steps_on_two_streams_in_turn_follow_the_hosts() -> None:
    import cupy

    losses = []
    for backend in (ldl.get_backend("cupy"), ldl.get_backend("numpy")):
        streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
        cupy.cuda.Device().synchronize()
        with ldl.use_backend(backend):
            ldl.manual_seed(3)
            model = nn.Sequential(nn.Linear(6, 300), nn.Tanh(), nn.Linear(300, 6))
            step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model, 0.01))
            own = []
            for i in range(40):
                with streams[i % 2]:
                    x = backend.asarray(np.tile(X[:, :6], (50, 1)) * (1 + i % 3))
                    own.append(step(x, x))
            cupy.cuda.Device().synchronize()  # such streams are no concern of the default one
            losses.append([float(backend.to_numpy(value)) for value in own])
    np.testing.assert_allclose(*losses, rtol=1e-3)
