"""Weights of samples: the loss of w is that of samples repeated w times, whoever computes it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import catalog
import cuda_host
import ldl
import ldl_numpy
from checks import one_line
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl.data.batching import Arrays, Streamed
from ldl.data.splitting import split

rng = np.random.default_rng(3)
N = 10
X = rng.standard_normal((N, 4)).astype("float32")
T = rng.uniform(0.1, 0.9, (N, 3)).astype("float32")
LABELS = rng.integers(0, 3, N)
W = np.array([2, 0, 1, 3, 1, 0, 2, 1, 1, 4], "float32")
REPEATED = np.repeat(np.arange(N), W.astype(int))


def model() -> Any:
    ldl.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def cases() -> list[Any]:
    """Losses of all kinds with targets that fit, by name."""
    q = T / T.sum(axis=1, keepdims=True)
    ignored = np.where(np.arange(N) % 4 == 2, -100, LABELS)
    of = dict(weight=[0.5, 2.0, 1.0], label_smoothing=0.1)
    found = [
        (kind(reduction=r), T)
        for kind, r in product(
            (nn.MSELoss, nn.KLDivLoss, nn.BCEWithLogitsLoss, nn.CosineSimilarityLoss),
            ("mean", "batchmean", "sum", "none"),
        )
    ]
    found += [
        (nn.CrossEntropyLoss(reduction=r, **k), t)
        for r, k, t in product(("mean", "batchmean", "sum", "none"), ({}, of), (LABELS, ignored, q))
    ]
    return [pytest.param(*pair, id=f"{pair[0]!r}-{i}") for i, pair in enumerate(found)]


def value_and_gradient(loss: Any, *given: Any) -> tuple[Any, Any]:
    value = loss(*given)
    return value, loss.backward(np.ones_like(value) if loss.reduction == "none" else None)


@pytest.mark.parametrize(("loss", "t"), cases())
def test_whole_weights_are_repeated_samples(loss: Any, t: Any) -> None:
    x = model()(X).astype("float64")
    t = t.astype("float64") if t.dtype.kind == "f" else t
    value, gradient = value_and_gradient(loss, x, t, W)
    again, found = value_and_gradient(loss, x[REPEATED], t[REPEATED])
    np.testing.assert_allclose(np.sum(value), np.sum(again), rtol=1e-12)
    summed = np.zeros_like(gradient)
    np.add.at(summed, REPEATED, found)
    np.testing.assert_allclose(gradient, summed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("loss", "t"), cases())
def test_gradients_with_weights_are_those_of_the_value(loss: Any, t: Any) -> None:
    x = model()(X).astype("float64")
    t = t.astype("float64") if t.dtype.kind == "f" else t
    w = rng.uniform(0, 2, N)
    v = rng.standard_normal(x.shape)
    _, gradient = value_and_gradient(loss, x, t, w)
    h = 1e-5
    slope = (np.sum(loss(x + h * v, t, w)) - np.sum(loss(x - h * v, t, w))) / (2 * h)
    assert (gradient * v).sum() == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
def test_a_sequence_counts_with_all_its_places(reduction: str) -> None:
    x = rng.standard_normal((4, 5, 3))
    t = rng.integers(0, 3, (4, 5))
    t[0, :2] = -100
    w, rows = np.array([1.0, 0, 3, 2]), [0, 2, 2, 2, 3, 3]
    loss = nn.CrossEntropyLoss(reduction=reduction, weight=[1, 2, 3])
    value, gradient = value_and_gradient(loss, x, t, w)
    again, found = value_and_gradient(loss, x[rows], t[rows])
    np.testing.assert_allclose(np.sum(value), np.sum(again), rtol=1e-12)
    summed = np.zeros_like(gradient)
    np.add.at(summed, rows, found)
    np.testing.assert_allclose(gradient, summed, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("row", catalog.LOSSES[::3], ids=lambda row: row.name)
def test_weights_of_one_change_nothing(row: Any) -> None:
    x, t = row.batch("float64")
    a = value_and_gradient(row.build(), x, t)
    b = value_and_gradient(row.build(), x, t, np.full(len(x), 1.0))
    for first, second in zip(a, b, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-12)


@pytest.mark.parametrize(("loss", "t"), cases())
def test_an_evaluation_is_that_of_repeated_samples_whatever_the_batches(loss: Any, t: Any) -> None:
    net = model().eval()
    expected = ldl.evaluate(net, (X[REPEATED], t[REPEATED]), loss)["loss"]
    weighed = [(X[i : i + 3], t[i : i + 3], W[i : i + 3]) for i in range(0, N, 3)]
    found = [
        ldl.evaluate(net, (X, t), loss, sample_weight=W),
        ldl.evaluate(net, (X, t, W.tolist()), loss, batch_size=3),
        ldl.evaluate(net, ldl.data.Arrays(X, t, sample_weight=W), loss, batch_size=1),
        ldl.evaluate(net, weighed, loss),
    ]
    for scores in found:
        assert scores["loss"] == pytest.approx(expected, rel=2e-6)


@pytest.fixture(params=["blocks", "fused", "device", "layers"])
def way(request: Any, monkeypatch: Any) -> Any:
    """How steps run: uncompiled, compiled, as CUDA kernels on the host, and layer by layer."""
    if request.param == "device" and cuda_host.compiler() is None:
        pytest.skip(cuda_host.MISSING)
    if request.param == "blocks":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
    with ldl.use_backend(CudaOnHost() if request.param == "device" else "numpy"):
        yield request.param


def recorded(backend: Any, loss: Any, t: Any, record: bool) -> list[Any]:
    """The losses of three weighed steps on the same net, and its weights."""
    net = model().to(backend)
    step = ldl.TrainStep(net, loss, optim.SGD(net, 0.1), record=record)
    given = [backend.asarray(a) for a in (X, t, W)]
    losses = [float(step(*given)) for _ in range(3)]
    assert all(found.played is record for found in step._recordings.values())
    return [losses, *(backend.to_numpy(p.data) for p in net.parameters())]


@pytest.mark.parametrize(
    ("loss", "t"),
    [
        (nn.MSELoss, T),
        (lambda: nn.BCEWithLogitsLoss(weight=[1, 2, 3], pos_weight=3), T),
        (nn.CosineSimilarityLoss, T),
        (lambda: nn.CrossEntropyLoss(weight=[0.5, 1, 2], label_smoothing=0.1), LABELS),
    ],
    ids=["MSELoss", "BCEWithLogitsLoss", "CosineSimilarityLoss", "CrossEntropyLoss"],
)
def test_a_weighed_step_is_recorded_and_is_one_on_repeated_samples(
    loss: Any, t: Any, way: str
) -> None:
    backend = ldl.get_backend()
    found = recorded(backend, loss(), t, way != "layers")
    with ldl.use_backend("numpy"):
        net, same = model(), loss()
        step = ldl.TrainStep(net, same, optim.SGD(net, 0.1), record=False)
        losses = [float(step(X[REPEATED], t[REPEATED])) for _ in range(3)]
        expected = [losses, *(p.data for p in net.parameters())]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum"])
def test_a_fit_shuffles_weights_with_their_samples(reduction: str, together: int) -> None:
    """Targets that tell the samples apart; the rate is so low that nothing moves."""
    t = np.tile(np.arange(N, dtype="float32")[:, None], 3)
    loss, net = nn.MSELoss(reduction), model()
    before = ldl.evaluate(net, (X, t, W), loss)["loss"]
    sgd = optim.SGD(net, 1e-12)
    options = dict(batch_size=3, steps_per_launch=together, validation=(X, t, W))
    history = ldl.fit(net, (X, t), loss, sgd, 2, sample_weight=W, **options)
    for name in ("loss", "val_loss"):
        assert history[name] == pytest.approx([before] * 2, rel=1e-5)
    history = ldl.fit(net, [(X, t, W)], loss, sgd, 1)
    assert history["loss"] == pytest.approx([before], rel=1e-5)


def test_what_is_split_off_keeps_its_weights() -> None:
    net, loss = model(), nn.MSELoss()
    sgd = optim.SGD(net, 1e-12)
    history = ldl.fit(net, (X, T), loss, sgd, 1, sample_weight=W, validation_split=0.3)
    for part, name in zip(
        split(Arrays(X, T, sample_weight=W), 0.3, ldl.get_backend("numpy")),
        ("loss", "val_loss"),
        strict=True,
    ):
        rows = np.repeat(np.arange(len(part)), part.sample_weight.astype(int))
        expected = ldl.evaluate(net, (part.x[rows], part.y[rows]), loss)["loss"]
        assert history[name] == pytest.approx([expected], rel=1e-5)


def test_a_fit_learns_from_the_samples_that_count() -> None:
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    t = np.where(np.arange(64)[:, None] % 2 == 0, 3 * x, 50).astype("float32")
    w = (np.arange(64) % 2 == 0).astype("int8")  # a mask
    net = nn.Linear(1, 1)
    ldl.fit(net, (x, t), nn.MSELoss(), optim.Adam(net, 0.1), 200, sample_weight=w, batch_size=16)
    assert float(net.weight.data[0, 0]) == pytest.approx(3, abs=1e-2)
    assert float(net.bias.data[0]) == pytest.approx(0, abs=1e-2)
    assert ldl.evaluate(net, (x, t), nn.MSELoss(), "mse", sample_weight=w)["mse"] > 100


def test_a_batch_without_weight_moves_nothing() -> None:
    for loss, t in ((nn.MSELoss(), T), (nn.CrossEntropyLoss(), LABELS)):
        net = model()
        before = net.state_dict()
        step = ldl.TrainStep(net, loss, optim.SGD(net, 0.1))
        for _ in range(2):
            assert float(step(X, t, np.zeros(N, "float32"))) == 0
        for name, value in net.state_dict().items():
            np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss("sum"), nn.CrossEntropyLoss()])
def test_a_sample_without_weight_counts_for_nothing_whatever_it_costs(loss: Any) -> None:
    x = np.array([[0.5, 1], [np.inf, np.nan]], "float32")
    t: Any = np.array([0, 1]) if isinstance(loss, nn.CrossEntropyLoss) else np.zeros_like(x)
    value, gradient = value_and_gradient(loss, x, t, np.array([3, 0]))
    assert np.isfinite(value)
    np.testing.assert_array_equal(gradient[1], 0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_weighed_loss_has_the_type_of_its_input(dtype: str) -> None:
    n = 70_000
    x, w = np.zeros((n, 2), dtype), np.arange(n) % 2
    for loss, t, cost in (
        (nn.MSELoss("mean"), x + 2, 4),
        (nn.CrossEntropyLoss(), np.zeros(n, "int64"), np.log(2)),
    ):
        value, gradient = value_and_gradient(loss, x, t, w)
        assert value.dtype == gradient.dtype == dtype
        assert value == pytest.approx(cost, rel=2e-3)


class Plain(nn.Loss):
    """A loss that knows no weights."""

    def forward(self, input: Any, target: Any) -> Any:
        self.keep(input - target)
        return ((input - target) ** 2).mean()

    def backward(self, grad: Any = None) -> Any:
        d = self.take()
        return 2 * d / d.size


def test_a_loss_that_knows_no_weights_is_named() -> None:
    net = model()
    sgd = optim.SGD(net, 0.1)
    for call in (
        lambda: Plain()(T, T, W),
        lambda: ldl.fit(net, (X, T), Plain(), sgd, 1, sample_weight=W),
        lambda: ldl.evaluate(net, (X, T, W), Plain()),
        lambda: ldl.TrainStep(net, Plain(), sgd)(X, T, W),
        lambda: ldl.TrainStep(net, Plain(), sgd, record=False)(X, T, W),
    ):
        with pytest.raises(TypeError, match=r"Plain.*takes no weights of samples") as error:
            call()
        one_line(error)


BAD: dict[str, tuple[Any, str]] = {
    "short": (W[:-1], r"shape \(10,\), got \(9,\)"),
    "column": (W[:, None], r"reshape\(-1\)"),
    "number": (2.0, "one number a sample"),
    "negative": (W - 1, "not negative"),
    "nan": (np.where(W == 3, np.nan, W), "finite"),
    "inf": (np.where(W == 3, np.inf, W), "finite"),
    "none": (0 * W, "0 for every sample"),
    "huge": (W.astype("float64") * 1e200, "divide it by its mean"),
    "small": (W.astype("float64") * 1e-200, "divide it by its mean"),
}


@pytest.mark.parametrize("name", BAD)
def test_weights_that_are_none_are_refused(name: str) -> None:
    weight, message = BAD[name]
    net = model()
    sgd = optim.SGD(net, 0.1)
    for call in (
        lambda: ldl.fit(net, (X, T), nn.MSELoss(), sgd, 1, sample_weight=weight),
        lambda: ldl.fit(net, (X, T, weight), nn.MSELoss(), sgd, 1),
        lambda: ldl.fit(net, (X, T), nn.MSELoss(), sgd, 1, validation=(X, T, weight)),
        lambda: ldl.evaluate(net, (X, T), nn.MSELoss(), sample_weight=weight),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        one_line(error)


@pytest.mark.parametrize("name", ["short", "column", "negative", "nan", "inf"])
def test_a_call_of_a_loss_refuses_them_too(name: str) -> None:
    for loss, t in ((nn.MSELoss(), T), (nn.CrossEntropyLoss(), LABELS)):
        with pytest.raises(ValueError, match=BAD[name][1]) as error:
            loss(X[:, :3], t, BAD[name][0])
        one_line(error)


def test_weights_are_given_once_and_beside_arrays() -> None:
    net = model()
    with pytest.raises(ValueError, match="given twice"):
        ldl.evaluate(net, (X, T, W), nn.MSELoss(), sample_weight=W)
    with pytest.raises(TypeError, match=r"\(x, y, sample_weight\)"):
        ldl.evaluate(net, [(X, T)], nn.MSELoss(), sample_weight=W)
    with pytest.raises(ValueError, match="no sample has weight"):
        ldl.fit(net, [(X, T, 0 * W)], nn.MSELoss(), optim.SGD(net, 0.1), 1)


def test_a_run_with_other_weights_is_another_run(tmp_path: Any) -> None:
    net, path = model(), tmp_path / "run"
    sgd = optim.SGD(net, 0.1)
    options = dict(checkpoint=path, resume=True)
    ldl.fit(net, (X, T), nn.MSELoss(), sgd, 1, sample_weight=W, **options)
    for weight in (None, W[::-1].copy()):
        with pytest.raises(ldl.CheckpointError, match="another run"):
            ldl.fit(net, (X, T), nn.MSELoss(), sgd, 2, sample_weight=weight, **options)
    assert len(ldl.fit(net, (X, T), nn.MSELoss(), sgd, 2, sample_weight=W, **options)) == 2


# ---- where weights travel ------------------------------------------------------------------------


def test_data_that_stay_on_the_host_bring_their_weights(monkeypatch: Any) -> None:
    expected = histories()
    monkeypatch.setattr(type(ldl.get_backend("numpy")), "fits", lambda self, nbytes: False)
    placed = Arrays(X, T, sample_weight=W).place(ldl.get_backend("numpy"), "float32", False)
    assert type(placed) is Streamed
    for found, right in zip(histories(), expected, strict=True):
        assert found == pytest.approx(right, rel=1e-6)


def histories() -> list[Any]:
    net = model()
    options = dict(sample_weight=W, batch_size=4, validation=(X, T, W))
    history = ldl.fit(net, (X, T), nn.MSELoss(), optim.SGD(net, 0.1), 3, **options)
    return [history["loss"], history["val_loss"]]


class Halving(ldl.data.GaussianNoise):
    """Half of x, computed where no recording sees it."""

    def __call__(self, x: Any, stream: Any, backend: Any) -> Any:
        return backend.asarray(0.5 * backend.to_numpy(x))


@pytest.mark.parametrize("apart", [False, True])
def test_noise_corrupts_x_and_no_weight(apart: bool) -> None:
    noise = (Halving if apart else ldl.data.GaussianNoise)(1e-7, clip=False)
    net, stream = nn.Linear(4, 4), ldl.random.Stream(0, ldl.random.NOISE)
    x = 0.5 * X if apart else X
    expected = nn.MSELoss()(net(x[REPEATED]), X[REPEATED])
    step = ldl.TrainStep(net, nn.MSELoss(), optim.SGD(net, 1e-12), noise=noise, stream=stream)
    for _ in range(2):
        assert float(step(X, X, W)) == pytest.approx(float(expected), rel=1e-5)
    found = step.run(X, X, np.arange(N), N, [0, 0], sample_weight=W)
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-5)
    assert step._apart is apart
    data = Arrays(X, noise=noise)
    history = ldl.fit(net, data, nn.MSELoss(), optim.SGD(net, 1e-12), 1, sample_weight=W)
    assert history["loss"] == pytest.approx([float(expected)], rel=1e-5)


def test_weights_are_the_callers() -> None:
    net, loss, w = model(), nn.MSELoss(), W.copy()
    sgd = optim.SGD(net, 0.1)
    step = ldl.TrainStep(net, loss, sgd)
    for call in (
        lambda: step(X, T, w),
        lambda: ldl.fit(net, (X, T), loss, sgd, 1, sample_weight=w),
        lambda: ldl.evaluate(net, (X, T), loss, sample_weight=w),
    ):
        call()
        np.testing.assert_array_equal(w, W)
    x, t, w = X[:, :3].copy(), T.copy(), W.copy()
    value = loss(x, t, w)
    for array in (x, t, w):
        array[...] = np.nan
    gradient = loss.backward()
    assert loss(X[:, :3], T, W) == value
    np.testing.assert_array_equal(gradient, loss.backward())


def test_weights_may_be_the_targets_themselves(way: str) -> None:
    """Recordings tell by which arrays are one what reads from where."""
    backend = ldl.get_backend()
    found = []
    for alike in (True, False):
        net = nn.Sequential(nn.Linear(4, 1), nn.Reshape())
        for p in net.parameters():
            p.data[...] = 0.5
        sgd = optim.SGD(net, 1e-12)
        step = ldl.TrainStep(net, nn.MSELoss(), sgd, record=way != "layers")
        x, t, w = (backend.asarray(a) for a in (X, np.linspace(1, 2, N, dtype="float32"), W))
        pairs = [(t, t if alike else t.copy()), (t, w), (w, w if alike else w.copy()), (t, w)]
        found.append([float(step(x, *pair)) for pair in pairs])
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert len(set(found[0])) == 3


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_models_of_other_types_are_evaluated_with_weights(dtype: str) -> None:
    net = model().to(dtype=dtype).eval()
    w = np.linspace(0, 9e4, N)  # beyond float16
    expected = (w * ((net.predict(X).astype("float64") - T) ** 2).sum(axis=1)).sum() / w.sum()
    found = ldl.evaluate(net, (X, T), nn.MSELoss(), sample_weight=w)["loss"]
    assert found == pytest.approx(expected, rel=5e-3 if dtype == "float16" else 1e-6)


def test_a_run_goes_on_with_its_weights_to_the_same_bits(tmp_path: Any) -> None:
    found = []
    for stops in ((4,), (2, 4)):
        path = tmp_path / f"run{len(stops)}"
        for epochs in stops:
            net = model()
            sgd = optim.SGD(net, 0.1, momentum=0.9)
            options = dict(sample_weight=W, batch_size=3, checkpoint=path, resume=True)
            ldl.fit(net, (X, T), nn.MSELoss(), sgd, epochs, **options)
        found.append(net.state_dict())
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name])
