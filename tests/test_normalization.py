"""Running statistics are buffers: they follow the batches of training, and are the model's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cuda_host
import ldl
from cuda_device import CudaOnHost
from ldl import nn, optim

rng = np.random.default_rng(4)
X = (rng.standard_normal((24, 4)) * 3 + 1).astype("float32")
Y = rng.standard_normal((24, 2)).astype("float32")
STATISTICS = ["1.running_mean", "1.running_var"]


def network() -> nn.Sequential:
    ldl.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))


def statistics(model: nn.Module) -> list[Any]:
    state = model.state_dict()
    return [np.array(model.backend.to_numpy(state[name])) for name in STATISTICS]


def fitted(model: nn.Module, epochs: int = 2, **options: Any) -> None:
    optimizer = optim.Adam(model, lr=0.01)
    ldl.fit(model, (X, Y), nn.MSELoss(), optimizer, epochs, batch_size=8, **options)
    assert abs(statistics(model)[0]).max() > 0.01, "they have followed the batches"


def stepped(backend: Any, record: bool) -> tuple[list[Any], Any]:
    """The statistics after three steps, and the step's only recording."""
    with ldl.use_backend(backend) as used:
        model = network()
        step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1), record=record)
        for i in range(0, 24, 8):
            step(used.asarray(X[i : i + 8]), used.asarray(Y[i : i + 8]))
        (recording,) = step._recordings.values() if record else (None,)
        return statistics(model), recording


@pytest.mark.parametrize("where", ["host", "device"])
def test_a_recorded_step_updates_the_statistics_as_the_layers_own_code_does(where: str) -> None:
    if where == "device" and cuda_host.compiler() is None:
        pytest.skip(cuda_host.MISSING)
    backend = CudaOnHost() if where == "device" else ldl.get_backend()
    played, recording = stepped(backend, record=True)
    assert recording.played, recording.why
    own, _ = stepped("numpy", record=False)
    for mine, theirs in zip(played, own, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    assert abs(played[0]).max() > 0.01


def test_statistics_are_among_what_an_interrupted_step_puts_back() -> None:
    model = network()
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    step(X, Y)
    (recording,) = step._recordings.values()
    for buffer in (model[1].running_mean, model[1].running_var):
        assert any(a is buffer.data for a in recording.carried)


def test_statistics_stay_where_nothing_is_trained() -> None:
    model = network()
    fitted(model)
    before = statistics(model)
    model.predict(X)
    ldl.evaluate(model, (X, Y), nn.MSELoss())
    ldl.check_gradients(model, X)
    model.eval()(X)
    np.testing.assert_equal(statistics(model), before)


def test_a_layer_in_eval_mode_keeps_its_statistics_in_a_net_that_trains() -> None:
    model = network()
    model[1].eval()
    step = ldl.TrainStep(model, nn.MSELoss(), optim.AdamW(model, 0.1, weight_decay=0.5))
    for _ in range(2):
        step(X, Y)
    np.testing.assert_equal(statistics(model), [np.zeros(6), np.ones(6)])
    assert (model[1].weight.data != 1).all()


def test_a_model_file_holds_the_statistics(tmp_path: Path) -> None:
    model = network()
    fitted(model)
    ldl.save(model, tmp_path / "m.safetensors")
    loaded = ldl.load(tmp_path / "m.safetensors")
    np.testing.assert_equal(statistics(loaded), statistics(model))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert isinstance(loaded[1].running_mean, nn.Buffer)


def test_a_copy_has_statistics_of_its_own() -> None:
    model = network()
    other = copy.deepcopy(model)
    fitted(other)
    np.testing.assert_equal(statistics(model), [np.zeros(6), np.ones(6)])


def test_statistics_are_moved_with_the_model() -> None:
    model = network().to(dtype="float64")
    assert [a.dtype for a in statistics(model)] == [np.float64] * 2
    assert network()(X).dtype == np.float32


def test_an_interrupted_run_resumes_with_the_statistics(tmp_path: Path) -> None:
    whole, parts = network(), network()
    fitted(whole, 4)
    fitted(parts, 2, checkpoint=tmp_path / "c")
    resumed = network()
    fitted(resumed, 4, checkpoint=tmp_path / "c", resume=True)
    np.testing.assert_equal(resumed.state_dict(), whole.state_dict())


def test_after_a_divergence_the_statistics_are_those_of_the_epochs_start() -> None:
    model = network()
    fitted(model)
    before = statistics(model)
    with pytest.raises(ldl.DivergedError):
        ldl.fit(model, (X, Y), nn.MSELoss(), optim.SGD(model, 1e30), 3, batch_size=8)
    np.testing.assert_equal(statistics(model), before)


def test_without_tracking_the_batchs_statistics_are_used_in_eval_mode_too() -> None:
    layer = nn.BatchNorm1d(4, affine=False, track_running_stats=False).eval()
    np.testing.assert_allclose(layer(X).mean(axis=0), np.zeros(4), atol=1e-6)
    assert list(layer.parameters()) == []


@pytest.mark.parametrize("eps", [None, 0.0, 1e-3])
def test_rms_norm_adds_the_epsilon_that_it_is_given(eps: float | None, tmp_path: Path) -> None:
    layer = nn.RMSNorm(4, eps=eps)
    ldl.save(layer, tmp_path / "m.safetensors")
    x = X * np.float32(1e-4)
    added = np.finfo("float32").eps if eps is None else eps
    expected = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + np.float32(added))
    for own in (layer, ldl.load(tmp_path / "m.safetensors")):
        assert own.eps == eps
        np.testing.assert_allclose(own.predict(x), expected, rtol=1e-5)


def test_epsilon_is_a_number() -> None:
    with pytest.raises(ValueError, match="eps must be a number, got None"):
        nn.LayerNorm(4, eps=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eps must be finite and >= 0, got -1"):
        nn.RMSNorm(4, eps=-1)


# ---- loops -------------------------------------------------------------------------------------

LOOPS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), (8, 6), 7),
    "BatchNorm1d of sequences": (lambda: nn.BatchNorm1d(6), (8, 5, 6), 7),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(6), (8, 5, 4, 6), 7),
    "LayerNorm": (lambda: nn.LayerNorm(6), (8, 6), 2),
    "LayerNorm of two axes": (lambda: nn.LayerNorm((5, 6)), (8, 5, 6), 2),
    "RMSNorm": (lambda: nn.RMSNorm(6), (8, 5, 6), 2),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), (8, 5, 6), 4),
    "InstanceNorm": (lambda: nn.InstanceNorm(6, affine=True), (8, 5, 4, 6), 9),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_normalisation_and_its_backward_are_few_loops(name: str) -> None:
    pytest.importorskip("llvmlite")
    build, shape, most = LOOPS[name]
    x = rng.standard_normal(shape).astype("float32")
    layer = build()

    def both(module: Any, x: Any, g: Any) -> Any:
        return module(x), module.backward(g)

    recording: Any = ldl.get_backend().record(both, (layer,), (x, x))
    assert recording.played, recording.why
    assert set(recording._plan.does) == {"loop"}
    assert len(recording._plan.does) <= most


@pytest.mark.parametrize("weight", [None, np.linspace(0, 1, 24)])
def test_a_net_whose_statistics_are_always_the_batchs_is_fitted(weight: Any) -> None:
    ldl.manual_seed(0)
    norm = nn.BatchNorm1d(6, track_running_stats=False)
    model = nn.Sequential(nn.Linear(4, 6), norm, nn.Tanh(), nn.Linear(6, 2))
    history = ldl.fit(
        *(model, (X, Y), nn.MSELoss(), optim.Adam(model, 0.05), 20),
        batch_size=8,
        sample_weight=weight,
        validation=(X, Y),
    )
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_loss"][-1] < history["val_loss"][0]
