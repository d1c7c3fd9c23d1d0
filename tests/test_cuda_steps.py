"""Training steps as CUDA kernels and graph launches: on a device that the host plays, and on a GPU.

What is launched, and when, is read from the log of the one; the numbers are looked at on both.
"""

from __future__ import annotations

import copy
import gc
import warnings
import weakref
from typing import Any

import numpy as np
import pytest

import ldl
import nvrtc
from catalog import LOSSES, ROWS, named
from catalog_optimizers import OPTIMIZERS
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl_cupy import images
from ldl_cupy.capture import Graph
from ldl_cupy.launch import common
from ldl_cupy.record import DeviceStep
from test_train_step import Scale, network

rng = np.random.default_rng(0)
X = rng.random((37, 6)).astype("float32")
LABELS = rng.integers(0, 3, 37)


@pytest.fixture
def host() -> Any:
    """The host as a device, which is the default backend."""
    with ldl.use_backend(CudaOnHost()) as backend:
        yield backend


@pytest.fixture(params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: Any) -> Any:
    """A device, which is the default backend."""
    chosen = CudaOnHost() if request.param == "host" else "cupy"
    with ldl.use_backend(chosen) as backend:
        yield backend


def assert_graph(step: ldl.TrainStep) -> None:
    """The last step was a graph launch."""
    recording: Any = list(step._recordings.values())[-1]
    sites = [recording, *recording._sources.values()]
    assert any(isinstance(found, Graph) for site in sites for found in site.known.values())


def pair(build: Any, loss: Any, optimizer: Any, device: Any) -> tuple[ldl.TrainStep, ldl.TrainStep]:
    """The same step on the device, recorded, and on the host, by the layers' own code."""
    steps = []
    for backend in (device, ldl.get_backend("numpy")):
        with ldl.use_backend(backend):
            ldl.manual_seed(5)
            model = build()
            record = backend is device
            step = ldl.TrainStep(model, loss(), optimizer(model), record=record, keep_output=True)
        steps.append(step)
    return steps[0], steps[1]


def assert_follows(on_device: ldl.TrainStep, own: ldl.TrainStep, x: Any, t: Any) -> None:
    """One step on both gives the same loss, output, parameters and gradients."""
    backend = on_device.model.backend
    to, back = backend.asarray, backend.to_numpy
    a, b = on_device(to(x), to(t)), own(x, t)
    assert isinstance(a, backend.array_type)
    np.testing.assert_allclose(back(a), b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(back(on_device.output), own.output, rtol=1e-4, atol=1e-5)
    for p, q in zip(on_device.model.parameters(), own.model.parameters(), strict=True):
        assert p.has_grad == q.has_grad
        np.testing.assert_allclose(back(p.data), q.data, rtol=1e-4, atol=1e-5)


def assert_recorded(step: ldl.TrainStep) -> None:
    for recording in step._recordings.values():
        assert isinstance(recording, DeviceStep), recording


@pytest.mark.parametrize(**named(ROWS))
def test_every_module_steps_as_on_the_host(row: Any, device: Any) -> None:
    played, own = pair(
        lambda: learning(row.module()), lambda: nn.HuberLoss(reduction="sum"), sgd, device
    )
    x = row.input()
    target = np.zeros_like(copy.deepcopy(own.model).eval()(x))
    for _ in range(3):
        assert_follows(played, own, x, target)
    assert_recorded(played)
    assert_graph(played)


@pytest.mark.parametrize(**named([row for row in ROWS if row.name.startswith("Conv")]))
def test_convolutions_in_slices_of_one_image_step_as_on_the_host(
    row: Any, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "LOWERED", 1)
    played, own = pair(
        lambda: learning(row.module()), lambda: nn.HuberLoss(reduction="sum"), sgd, host
    )
    x = row.input()
    target = np.zeros_like(copy.deepcopy(own.model).eval()(x))
    for _ in range(3):
        assert_follows(played, own, x, target)
    assert_recorded(played)
    (recording,) = played._recordings.values()
    lowered = [name for name in recording.does if name in ("lower", "raise")]
    assert len(lowered) % len(x) == 0
    assert lowered or row.name == "Conv2d of one pixel"


def sgd(model: nn.Module) -> optim.Optimizer:
    return optim.SGD(model, 1e-3)


@pytest.mark.parametrize(**named([row for row in LOSSES if "none" not in row.name]))
def test_every_loss_steps_as_on_the_host(row: Any, device: Any) -> None:
    x, t = row.batch()
    played, own = pair(Scale, row.build, sgd, device)
    for _ in range(3):
        assert_follows(played, own, x, t)
    assert_recorded(played)
    assert_graph(played)


CLIPPED = {"clipped": lambda m: optim.Adam(m, 0.01, clip_norm=0.1, clip_value=0.05)}


@pytest.mark.parametrize("make", (OPTIMIZERS | CLIPPED).values(), ids=list(OPTIMIZERS | CLIPPED))
def test_every_optimizer_steps_as_on_the_host(make: Any, device: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, make, device)
    for _ in range(4):
        assert_follows(played, own, X, LABELS)
    assert_graph(played)


# ---- what is captured, and when ------------------------------------------------------------------


def test_the_third_step_of_a_kind_is_one_copy_and_one_launch(host: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, host)
    log = host.connection.log
    assert_follows(played, own, X, LABELS)
    assert "begin" not in log
    assert sum(name.startswith("matmul") for name in log) == 8
    log.clear()
    assert_follows(played, own, X, LABELS)
    assert (log[:3], log[-3:]) == (["copy", "copy", "begin"], ["end", "send", "graph"])
    assert "send" not in log[:-3]
    log.clear()
    assert_follows(played, own, X, LABELS)
    assert log == ["copy", "copy", "send", "graph"], "the batch, the numbers, and everything else"


def test_other_shapes_are_captured_apart_and_other_numbers_are_not(host: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, host)
    log = host.connection.log
    for _ in range(3):
        assert_follows(played, own, X, LABELS)
        assert_follows(played, own, X[:5], LABELS[:5])
    assert log[-2:] == ["send", "graph"]
    for step in (played, own):
        step.optimizer.param_groups[0]["betas"] = [0.5, 0.9]
    log.clear()
    for _ in range(2):
        assert_follows(played, own, X, LABELS)
    assert log == ["copy", "copy", "send", "graph"] * 2
    for step in (played, own):
        step.optimizer.param_groups[0]["lr"] = 0.1
        next(step.model.parameters()).requires_grad = False
    log.clear()
    assert_follows(played, own, X, LABELS)
    assert "graph" not in log, "a frozen parameter changes what is done"


def test_what_was_compiled_once_is_not_compiled_again(host: Any) -> None:
    log, modules = host.connection.log, []
    for rows in (37, 5, 3):
        for _ in range(2):
            played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, host)
            assert_follows(played, own, X[:rows], LABELS[:rows])
            modules.append(log.count("module"))
    assert modules == [2] * 6, "one for the step and one for the update, whatever the batch"


def test_rates_alone_change_nothing_but_numbers(host: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, host)
    for i in range(5):
        for step in (played, own):
            step.optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
        assert_follows(played, own, X, LABELS)
    assert host.connection.log.count("begin") == 1


def test_another_precision_of_products_is_captured_anew(host: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, host)
    for _ in range(3):
        assert_follows(played, own, X, LABELS)
    host.connection.log.clear()
    ldl.set_matmul_precision("tf32")
    try:
        assert_follows(played, own, X, LABELS)
        assert "graph" not in host.connection.log
    finally:
        ldl.set_matmul_precision("float32")


def test_what_cannot_be_captured_is_launched_piece_by_piece_and_said_once(host: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, host)
    host.connection.fails = "fill_uniform"
    assert_follows(played, own, X, LABELS)
    with pytest.warns(UserWarning, match="fill_uniform cannot be captured"):
        assert_follows(played, own, X, LABELS)
    for _ in range(2):
        assert_follows(played, own, X, LABELS)
    assert "graph" not in host.connection.log
    assert (host.capture.graphs, host.capture.singles) == (0, 4 * 2), "each its own"
    assert host.capture.why == "fill_uniform cannot be captured"


def test_a_tape_counts_its_graphs_and_what_was_launched_before_there_was_one(host: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, host)
    for graphs in (0, 1, 2):
        assert_follows(played, own, X, LABELS)
        assert (host.capture.graphs, host.capture.singles, host.capture.why) == (graphs, 2, "")


class Counts(nn.Identity):
    """Adds how often it was called."""

    calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return super().forward(x) + self.calls


def test_a_layer_that_cannot_be_recorded_is_named_once_and_runs_its_own_code(device: Any) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 3), Counts())

    played, own = pair(build, nn.MSELoss, sgd, device)
    with pytest.warns(UserWarning, match="Counts"):
        assert_follows(played, own, X, X[:, :3])
    for _ in range(3):
        assert_follows(played, own, X, X[:, :3])


class Signs(optim.Optimizer):
    """p ← p - lr sign(g), in plain array code."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, {"lr": 0.01})

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        return options

    def update(self, p: Any, g: Any, slots: Any, options: Any, step: int) -> None:
        p -= options["lr"] * self.backend.xp.sign(g)


def test_an_optimizer_in_plain_array_code_runs_after_its_gradients(device: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, Signs, device)
    for _ in range(4):
        assert_follows(played, own, X, LABELS)


def test_a_model_that_moves_is_recorded_anew(device: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, device)
    for _ in range(3):
        assert_follows(played, own, X, LABELS)
    for step in (played, own):
        for p in step.model.parameters():
            p.data = p.data * 1
    for _ in range(3):
        assert_follows(played, own, X, LABELS)


# ---- whole fits ----------------------------------------------------------------------------------

IMAGES = rng.random((203, 12)).astype("float32")


def fitted(backend: Any, epochs: int = 10, **options: Any) -> tuple[nn.Module, ldl.History]:
    """A denoiser, with dropout, after some epochs."""
    with ldl.use_backend(backend):
        ldl.manual_seed(1)
        model = nn.Sequential(
            nn.Linear(12, 9), nn.ReLU(), nn.Dropout(0.2), nn.Linear(9, 12), nn.Sigmoid()
        )
        data = ldl.data.Arrays(IMAGES, noise=ldl.data.GaussianNoise(0.3))
        optimizer = optim.Adam(model, 1e-2)
        history = ldl.fit(model, data, nn.BCELoss(), optimizer, epochs, batch_size=32, **options)
    return model, history


def test_a_denoisers_loss_curve_is_the_hosts_within_a_thousandth(device: Any) -> None:
    on_device, played = fitted(device)
    own, expected = fitted("numpy")
    np.testing.assert_allclose(played["loss"], expected["loss"], rtol=1e-3)
    for p, q in zip(on_device.parameters(), own.parameters(), strict=True):
        np.testing.assert_allclose(device.to_numpy(p.data), q.data, atol=1e-3)


def test_an_epochs_whole_batches_are_one_launch_and_its_rows_never_leave_the_device(
    host: Any,
) -> None:
    fitted(host)
    log = host.connection.log
    assert log.count("begin") == 2, "six whole batches, and the last, smaller one"
    assert log.count("graph") == 9 + 9
    epoch = log[len(log) - log[::-1].index("graph") :]
    assert "gather_rows_4" not in epoch, "it is inside the graph"


@pytest.mark.parametrize("together", [4, 100])
def test_how_many_steps_a_launch_has_changes_nothing(together: int, device: Any) -> None:
    for backend in (device, "numpy"):
        _, alone = fitted(backend, 3, steps_per_launch=1)
        _, some = fitted(backend, 3, steps_per_launch=together)
        assert some["loss"] == alone["loss"]


def test_an_average_of_the_weights_is_the_hosts(device: Any) -> None:
    averages, histories = [], []
    for backend in (device, ldl.get_backend("numpy")):
        average = ldl.EMA(0.9)
        options = {"validation": IMAGES[:40], "callbacks": average, "steps_per_launch": 4}
        histories.append(fitted(backend, 3, **options)[1])
        averages.append({n: backend.to_numpy(a) for n, a in average.weights.items()})
    assert average.steps == 21
    np.testing.assert_allclose(*(history["val_loss"] for history in histories), rtol=1e-3)
    for name, array in averages[0].items():
        np.testing.assert_allclose(array, averages[1][name], atol=1e-3)


def test_data_that_do_not_fit_are_sent_batch_by_batch_and_train_the_same(host: Any) -> None:
    _, resident = fitted(host, 3)
    host.connection.room = IMAGES.nbytes - 1
    _, streamed = fitted(host, 3)
    assert streamed["loss"] == resident["loss"]


# ---- what lies outside the usual -----------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["a layer", "cuBLASLt"])
def test_a_fit_that_cannot_be_recorded_takes_its_steps_one_after_another(
    lacking: str, host: Any
) -> None:
    losses = []
    for backend in (host, ldl.get_backend("numpy")):
        with ldl.use_backend(backend):
            ldl.manual_seed(1)
            layers = [nn.Linear(6, 3)] + ([Counts()] if lacking == "a layer" else [])
            model = nn.Sequential(*layers)
        if lacking == "cuBLASLt" and backend is host:
            host.gemm = None
        data, optimizer = (X, X[:, :3]), optim.Adam(model, 0.01, clip_norm=1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            losses.append(ldl.fit(model, data, nn.MSELoss(), optimizer, 3, batch_size=8)["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize("order", ["F", "strided"])
def test_inputs_in_any_layout_are_read_as_they_are(order: str, device: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, device)
    wide = device.asarray(np.repeat(X, 2, axis=1))
    for _ in range(3):
        x = wide[:, ::2] if order == "strided" else device.asarray(X.T.copy()).T
        a, b = played(x, device.asarray(LABELS)), own(X, LABELS)
        np.testing.assert_allclose(device.to_numpy(a), b, rtol=1e-5)
    assert_recorded(played)


def test_a_step_brings_arrays_of_the_host_over_and_its_recording_refuses_them(device: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, device)
    for _ in range(3):
        np.testing.assert_allclose(device.to_numpy(played(X, LABELS)), own(X, LABELS), rtol=1e-5)
    (recording,) = played._recordings.values()
    assert isinstance(recording, DeviceStep)
    with pytest.raises(nn.DeviceError, match="asarray"):
        recording(X, LABELS)
    with pytest.raises(nn.DeviceError, match="asarray"):
        device.record(lambda model, x: (model(x),), (played.model,), (X,))
    assert_follows(played, own, X, LABELS)


class Gate(nn.Module):
    """x where m is true, in three axes, with a mask for all samples."""

    def forward(self, x: Any) -> Any:
        xp = self.backend.xp
        mask = xp.arange(6).reshape(1, 2, 3) % 2 == 0
        self.keep(mask)
        return xp.where(mask, x.reshape(-1, 2, 3), 0.0).reshape(-1, 6)

    def backward(self, grad: Any) -> Any:
        xp = self.backend.xp
        return xp.where(self.take(), grad.reshape(-1, 2, 3), 0.0).reshape(-1, 6)


def nine() -> nn.Module:
    return nn.Sequential(nn.Parallel(*[nn.Linear(6, 1) for _ in range(9)]), nn.Linear(9, 3))


def gated() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), Gate(), nn.Linear(6, 3))


@pytest.mark.parametrize("build", [gated, nine], ids=["a broadcast mask", "nine branches"])
def test_what_no_loop_does_is_played_by_the_library(build: Any, device: Any) -> None:
    played, own = pair(build, nn.CrossEntropyLoss, optim.Adam, device)
    for _ in range(3):
        assert_follows(played, own, X, LABELS)
    assert_recorded(played)
    assert_graph(played)


def test_arrays_joined_as_vectors_are_the_hosts(host: Any) -> None:
    def joined(model: Any, x: Any) -> tuple[Any, ...]:
        xp = model.backend.xp
        y = x * 2.0
        return (xp.concatenate((x, y.T, y[:3]), axis=None), xp.concatenate((x, y), axis=-1))

    recording = host.record(joined, (nn.Identity(),), (host.asarray(X),))
    assert recording.played
    for _ in range(4):
        with host.together():
            flat, wide = recording(host.asarray(X))
        y = X * 2
        np.testing.assert_array_equal(flat, np.concatenate((X, y.T, y[:3]), axis=None))
        np.testing.assert_array_equal(wide, np.concatenate((X, y), axis=-1))


def test_class_weights_need_no_product_beside_the_layers(device: Any) -> None:
    loss = lambda: nn.CrossEntropyLoss(weight=[1.0, 2.0, 3.0])  # noqa: E731
    played, own = pair(network, loss, optim.Adam, device)
    for _ in range(3):
        assert_follows(played, own, X, LABELS)
    (recording,) = played._recordings.values()
    assert sum(name.startswith("matmul") for name in recording.does) == 8  # type: ignore[attr-defined]
    assert_graph(played)


def test_a_first_step_that_fails_is_not_captured_next(host: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, host)
    played(host.asarray(X[:5]), host.asarray(LABELS[:5]))
    own(X[:5], LABELS[:5])
    send, host.connection.send = host.connection.send, None
    with pytest.raises(TypeError):
        played(host.asarray(X), host.asarray(LABELS))
    host.connection.send = send
    host.connection.log.clear()
    played(host.asarray(X), host.asarray(LABELS))
    assert "begin" not in host.connection.log


def test_a_model_that_is_gone_leaves_no_graph(host: Any) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, optim.Adam, host)
    for _ in range(3):
        assert_follows(played, own, X, LABELS)
    model = weakref.ref(played.model)
    recording = weakref.ref(next(iter(played._recordings.values())))
    del played
    gc.collect()
    assert model() is None
    assert recording() is None


@pytest.mark.parametrize("batch", [1, 5, 64])
@pytest.mark.parametrize("build", [network, gated], ids=["a network", "a broadcast mask"])
def test_kernels_that_were_written_touch_nothing_outside_their_arrays(
    build: Any, batch: int
) -> None:
    with ldl.use_backend(CudaOnHost(sanitize=True)) as sanitized:
        played, own = pair(build, nn.CrossEntropyLoss, CLIPPED["clipped"], sanitized)
        x, t = np.resize(X, (batch, 6)), np.resize(LABELS, batch)
        for _ in range(2):
            assert_follows(played, own, x, t)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 300), (129, 10), (700, 33)])
def test_sums_of_any_shape_are_the_hosts(shape: tuple[int, int], device: Any) -> None:
    x = np.random.default_rng(2).random(shape, "float32")
    played, own = pair(Scale, lambda: nn.BCEWithLogitsLoss(reduction="sum"), sgd, device)
    for _ in range(3):
        a, b = played(device.asarray(x), device.asarray(x)), own(x, x)
        np.testing.assert_allclose(device.to_numpy(a), b, rtol=1e-5)
    for p, q in zip(played.model.parameters(), own.model.parameters(), strict=True):
        np.testing.assert_allclose(device.to_numpy(p.data), q.data, rtol=1e-4)


# ---- machine code --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every kernel of the steps of all modules and losses, and of the optimizers."""
    backend, found = CudaOnHost(), {}
    with ldl.use_backend(backend):
        for row in ROWS:
            module, x = row.module(), backend.asarray(row.input())
            target = backend.asarray(np.zeros(module.predict(x).shape, "float32"))
            model = learning(module)
            step = ldl.TrainStep(model, nn.HuberLoss(reduction="sum"), sgd(model))
            found |= step._recording(x, target)._kernels.texts  # type: ignore[attr-defined]
        for row in LOSSES:
            x, t = map(backend.asarray, row.batch())
            if "none" not in row.name:
                model = Scale()
                step = ldl.TrainStep(model, row.build(), sgd(model))
                found |= step._recording(x, t)._kernels.texts  # type: ignore[attr-defined]
        for make in (OPTIMIZERS | CLIPPED).values():
            optimizer = make(network())
            for p in (p for group in optimizer.param_groups for p in group["params"]):
                p.accumulate(backend.asarray(np.ones(p.shape, "float32")))
            optimizer.step()
            for run in optimizer._updates.prepared.values():
                found |= getattr(run, "texts", {})
    return found


def learning(module: nn.Module) -> nn.Module:
    """The module, with something to learn."""
    return module if list(module.parameters()) else nn.Sequential(Scale(), module)


@pytest.mark.skipif(not nvrtc.architectures(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", nvrtc.supported())
def test_every_kernel_that_was_written_compiles_without_a_spill(
    texts: dict[str, str], arch: str
) -> None:
    assert len(texts) > 90
    made = nvrtc.compile_cuda(common() + "\n".join(texts.values()), arch)
    assert made.keys() == texts.keys()
    for name, kernel in made.items():
        assert (kernel.stack, kernel.spill_stores, kernel.spill_loads) == (0, 0, 0), texts[name]
    print(f"{len(made)} kernels written, {len(made)} compiled for {arch}")
