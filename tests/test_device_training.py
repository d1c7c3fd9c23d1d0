"""Training stays on the device: it waits once an epoch, and gives the host's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from catalog_optimizers import OPTIMIZERS
from fake_device import FakeArray, FakeBackend, HostBackend, fixture
from ldl import nn, optim
from ldl.data import Arrays, GaussianNoise, MaskingNoise, SaltPepperNoise
from ldl.train import Run
from ldl.train.start import Start
from test_readme import layer_of_ones_own

fake = fixture

rng = np.random.default_rng(0)
X = rng.random((50, 6)).astype("float32")
LABELS = rng.integers(0, 3, 50)


def network() -> nn.Sequential:
    ldl.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def steps(backend: ldl.Backend, build: Any) -> nn.Sequential:
    with ldl.use_backend(backend):
        model = network()
        step = ldl.TrainStep(model, nn.CrossEntropyLoss(), build(model.parameters()))
        x, y = backend.asarray(X), backend.asarray(LABELS)
    for _ in range(4):
        step(x, y)
    return model


def assert_same_weights(device: nn.Module, host: nn.Module) -> None:
    for a, b in zip(device.parameters(), host.parameters(), strict=True):
        assert isinstance(a.data, FakeArray)
        np.testing.assert_array_equal(a.backend.to_numpy(a.data), b.data)


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_an_optimizer_never_waits_and_gives_the_hosts_bits(build: Any, fake: FakeBackend) -> None:
    with fake.no_waiting():
        on_device = steps(fake, build)
    assert_same_weights(on_device, steps(HostBackend(), build))


@pytest.mark.parametrize("noise", [GaussianNoise(0.5), MaskingNoise(0.3), SaltPepperNoise(0.2)])
def test_noise_never_waits_and_is_the_hosts(noise: Any, fake: FakeBackend) -> None:
    with fake.no_waiting():
        noisy = noise(fake.asarray(X), ldl.random.Stream(1, 2), fake)
    host = noise(X, ldl.random.Stream(1, 2), ldl.get_backend("numpy"))
    np.testing.assert_array_equal(fake.to_numpy(noisy), host)


def fit(backend: ldl.Backend, **options: Any) -> tuple[nn.Sequential, ldl.History]:
    with ldl.use_backend(backend):
        model = network()
        loss = nn.CrossEntropyLoss(weight=[1, 2, 3], label_smoothing=0.1)
    data = Arrays(X, LABELS, GaussianNoise(0.1))
    settings: dict[str, Any] = {
        "batch_size": 16,
        "validation": (X, LABELS),
        "metrics": ["accuracy"],
        "callbacks": [ldl.EarlyStopping(patience=50)],
        **options,
    }
    return model, ldl.fit(model, data, loss, optim.Adam(model, 0.02), 3, **settings)


def test_a_whole_fit_gives_the_hosts_bits(fake: FakeBackend, tmp_path: Any) -> None:  # case 24
    model, history = fit(fake, checkpoint=tmp_path / "a")
    expected, host_history = fit(HostBackend(), checkpoint=tmp_path / "b")
    assert_same_weights(model, expected)
    assert history["val_loss"] == host_history["val_loss"]
    assert history["accuracy"] == host_history["accuracy"]
    saved = [ldl.io.read_tensors(tmp_path / name)[0] for name in "ab"]
    assert saved[0].keys() == saved[1].keys()
    for name, array in saved[0].items():
        if not name.startswith("history."):  # which has the seconds
            np.testing.assert_array_equal(array, saved[1][name])


def test_fit_waits_no_more_often_for_more_steps(fake: FakeBackend) -> None:
    counts = []
    for batch_size in (25, 5, 1):
        before = len(fake.ledger.waits)
        fit(fake, batch_size=batch_size)
        counts.append(len(fake.ledger.waits) - before)
    assert counts[0] == counts[1] == counts[2]
    assert counts[0] <= 3 * 6 + 8


AVERAGES: dict[str, Any] = {
    "EMA": lambda: ldl.EMA(0.9),
    "SWA": lambda: ldl.SWA(2),
}


def confusion(y_true: Any, y_pred: Any) -> Any:
    """A count of (target, class), of the host's arrays."""
    assert type(y_true) is type(y_pred) is np.ndarray
    return np.histogram2d(y_true, y_pred, bins=3)[0]


@pytest.mark.parametrize("average", AVERAGES)
def test_averages_and_metrics_of_whole_epochs_give_the_hosts_bits(
    average: str, fake: FakeBackend, tmp_path: Any
) -> None:
    models, histories = [], []
    for backend in (fake, HostBackend()):
        with ldl.use_backend(backend):
            ldl.manual_seed(3)
            model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        for epochs in (2, 4):
            resumed = ldl.fit(
                model,
                (X, LABELS),
                nn.CrossEntropyLoss(),
                optim.Adam(model, 0.02),
                epochs,
                batch_size=16,
                validation_split=0.3,
                metrics=[ldl.EpochMetric("confusion", confusion, labels=True)],
                callbacks=AVERAGES[average](),
                checkpoint=tmp_path / backend.name,
                resume=True,
            )
        models.append(model)
        histories.append(resumed)
    assert_same_weights(*models)
    for name in ("val_loss", "confusion", "val_confusion"):
        assert histories[0][name] == histories[1][name]


@pytest.mark.parametrize("average", AVERAGES)
def test_averages_and_metrics_of_whole_epochs_wait_no_more_often_for_more_steps(
    average: str, fake: FakeBackend
) -> None:
    counts = []
    for batch_size in (25, 5, 1):
        before = len(fake.ledger.waits)
        metrics = [ldl.EpochMetric("confusion", confusion, labels=True)]
        fit(fake, batch_size=batch_size, callbacks=AVERAGES[average](), metrics=metrics)
        counts.append(len(fake.ledger.waits) - before)
    assert counts[0] == counts[1] == counts[2]


def test_a_model_moves_in_the_middle_of_training_and_its_optimizer_follows(
    fake: FakeBackend,
) -> None:
    def train(move: bool) -> nn.Sequential:
        with ldl.use_backend(HostBackend()):
            model, loss = network(), nn.CrossEntropyLoss()
        optimizer = optim.Adam(model, 0.05)
        for seed in (0, 1):
            if move and seed:
                model.to(fake)
            ldl.fit(model, (X, LABELS), loss, optimizer, 2, batch_size=20, seed=seed)
        return model

    assert_same_weights(train(move=True), train(move=False))


def test_mixed_devices_are_an_error_that_names_the_fix(fake: FakeBackend) -> None:  # case 23
    with ldl.use_backend(fake):
        model = network()
    with pytest.raises(nn.DeviceError, match=r"is on fake but got an array of numpy .*asarray"):
        model(X)
    loss = nn.CrossEntropyLoss()
    with pytest.raises(nn.DeviceError, match=r"is on fake but got an array of numpy .*asarray"):
        loss(model(fake.asarray(X)), LABELS)
    step = ldl.TrainStep(model, loss, optim.SGD(model))
    assert np.isfinite(fake.to_numpy(step(X, LABELS)))  # which takes batches as fit does


def test_a_layer_of_ones_own_trains_on_the_device(fake: FakeBackend) -> None:
    with ldl.use_backend(fake):
        layer_of_ones_own()


def test_an_epochs_start_is_kept_and_put_back_without_waiting(fake: FakeBackend) -> None:
    with ldl.use_backend(fake):
        model, loss = network(), nn.CrossEntropyLoss()
    optimizer = optim.Adam(model, 0.02)
    ldl.fit(model, (X, LABELS), loss, optimizer, 1)
    start = Start(Run(model, loss, optimizer, ldl.History(), 1, 0, []))
    with fake.no_waiting():
        start.take()
        start.take()
    before = on_host(fake, model, optimizer)
    for array in (*(p.data for p in model.parameters()), *optimizer.views().values()):
        array[...] = np.nan
    assert not start.sound()
    with fake.no_waiting():
        start.put_back()
    assert start.sound()
    np.testing.assert_equal(on_host(fake, model, optimizer), before)


def on_host(fake: FakeBackend, model: nn.Module, optimizer: optim.Optimizer) -> dict[str, Any]:
    arrays = {**model.state_dict(), **optimizer.state_dict()["slots"]}
    return {name: fake.to_numpy(array).copy() for name, array in arrays.items()}
