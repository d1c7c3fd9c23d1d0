"""One number for a data set, whatever its batches: reductions are numerators and denominators.

And what is wrong in any of them is found, in every epoch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from fake_device import FakeBackend, fixture
from ldl import nn, optim
from ldl_numpy import NumpyBackend

fake = fixture


class Plain(NumpyBackend):
    """Records nothing, which is quick for steps that are few."""


@pytest.fixture(autouse=True)
def plain() -> Any:
    with ldl.use_backend(Plain()):
        yield


rng = np.random.default_rng(3)
N = 50
X = rng.standard_normal((N, 4)).astype("float32")
LABELS = np.where(rng.random(N) < 0.4, -100, rng.integers(0, 3, N))
LABELS[10:20] = -100  # whole batches that count for nothing
WEIGHTS = [0.2, 1.0, 3.0]
Q = rng.dirichlet(np.ones(3), N).astype("float32")
SIZES = (1, 7, 10, 49, 50, 1024)

CASES: dict[str, tuple[Any, Any]] = {
    "labels": (nn.CrossEntropyLoss, LABELS),
    "labels, weights": (lambda **o: nn.CrossEntropyLoss(WEIGHTS, **o), LABELS),
    "labels, smoothed": (lambda **o: nn.CrossEntropyLoss(WEIGHTS, 0.2, **o), LABELS),
    "labels, smoothed, some without weight": (
        lambda **o: nn.CrossEntropyLoss([0, 1, 0], 0.2, **o),
        LABELS,
    ),
    "labels, ignored 1": (lambda **o: nn.CrossEntropyLoss(ignore_index=1, **o), abs(LABELS) % 3),
    "distributions": (lambda **o: nn.CrossEntropyLoss(WEIGHTS, 0.2, **o), Q),
    "differences": (nn.MSELoss, X[:, :3]),
    "Huber": (nn.HuberLoss, X[:, :3]),
    "logits": (nn.BCEWithLogitsLoss, (X[:, :3] > 0).astype("float32")),
}


def recorded() -> nn.Sequential:
    """The network on the backend that records."""
    with ldl.use_backend("numpy"):
        return network()


def network() -> nn.Sequential:
    ldl.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def stored(y: Any, size: int) -> list[tuple[Any, Any]]:
    return [(X[i : i + size], y[i : i + size]) for i in range(0, N, size)]


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_a_data_set_is_that_of_one_call(name: str, reduction: str) -> None:
    build, y = CASES[name]
    model, loss = network(), build(reduction=reduction)
    whole = build(reduction="mean" if reduction == "none" else reduction)
    expected = float(whole(model.predict(X), y))
    for size in SIZES:
        for data in ((X, y), stored(y, size)):
            found = ldl.evaluate(model, data, loss, batch_size=size)
            assert found["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum"])
@pytest.mark.parametrize("name", CASES)
def test_an_epochs_loss_is_that_of_all_its_samples(name: str, reduction: str) -> None:
    build, y = CASES[name]
    model, loss = network(), build(reduction=reduction)
    expected = float(loss(model.predict(X), y))
    for size in (7, 25, 50):
        for together in (1, 3):
            for data in ((X, y), stored(y, size)):
                still = optim.SGD(model, 0.0)
                options: dict[str, Any] = {"batch_size": size, "steps_per_launch": together}
                history = ldl.fit(model, data, loss, still, 1, validation=data, **options)
                assert history["loss"] == [pytest.approx(expected, rel=1e-5)]
                assert history["val_loss"] == [pytest.approx(expected, rel=1e-5)]


def test_a_recorded_epochs_loss_is_that_of_all_its_samples() -> None:
    model, loss = recorded(), nn.CrossEntropyLoss(WEIGHTS)
    expected = float(loss(model.predict(X), LABELS))
    for together in (1, 3):
        still = optim.SGD(model, 0.0)
        options: dict[str, Any] = {"batch_size": 7, "steps_per_launch": together}
        history = ldl.fit(model, (X, LABELS), loss, still, 1, **options)
        assert history["loss"] == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("name", CASES)
def test_a_device_gives_the_hosts_figures(name: str, fake: FakeBackend) -> None:
    build, y = CASES[name]
    rows = []
    for backend in (Plain(), fake):
        with ldl.use_backend(backend):
            model = network()
            options: dict[str, Any] = {"batch_size": 7, "steps_per_launch": 3}
            sgd, loss = optim.SGD(model, 0.01), build()
            history = ldl.fit(model, (X, y), loss, sgd, 2, validation=stored(y, 9), **options)
            rows.append([history["loss"], history["val_loss"]])
    np.testing.assert_allclose(*rows, rtol=1e-5)


def test_ignored_labels_count_in_no_accuracy() -> None:
    model, kept = network(), LABELS != -100
    right = (model.predict(X).argmax(axis=1) == LABELS)[kept].mean()
    for size in SIZES:
        figures = ldl.evaluate(
            model, (X, LABELS), nn.CrossEntropyLoss(), "accuracy", batch_size=size
        )
        assert figures["accuracy"] == pytest.approx(right)
    y = np.where(kept, LABELS, 0)
    loss = nn.CrossEntropyLoss(ignore_index=1)
    right = (model.predict(X).argmax(axis=1) == y)[y != 1].mean()
    assert ldl.evaluate(model, (X, y), loss, "accuracy")["accuracy"] == pytest.approx(right)


def test_where_no_label_counts_there_is_no_figure() -> None:
    y, loss = np.full(N, -100), nn.CrossEntropyLoss()
    figures = ldl.evaluate(network(), (X, y), loss, "accuracy", batch_size=7)
    assert all(np.isnan(figure) for figure in figures.values())
    model = network()
    before = model.state_dict()
    for data in ((X, y), stored(y, 7)):
        with pytest.raises(ValueError, match="no sample counts") as error:
            ldl.fit(model, data, loss, optim.SGD(model, 0.1), 1)
        one_line(error)
    np.testing.assert_equal(model.state_dict(), before)


def test_batches_of_several_widths_count_by_their_elements() -> None:
    batches = [(np.ones((2, k), "f"), np.zeros((2, k), "f") + (k == 1)) for k in (1, 3, 8)]
    figures = ldl.evaluate(nn.Tanh(), batches, nn.L1Loss(), ["mae", "mse"])
    differences = [abs(np.tanh(1) - (k == 1)) for k in (1, 3, 8) for _ in range(2 * k)]
    assert figures["loss"] == pytest.approx(np.mean(differences))
    assert figures["mae"] == pytest.approx(np.mean(differences))
    assert figures["mse"] == pytest.approx(np.mean(np.square(differences)))


class Masked(nn.Loss):
    """The mean of |x - t| where t is no NaN, with a denominator of its own."""

    def forward(self, input: Any, target: Any) -> Any:
        xp, known = self.backend.xp, target == target
        self.keep(input, target)
        return xp.where(known, abs(input - target), 0).sum() / known.sum()

    def denominator(self, input_shape: Any, target: Any) -> Any:
        return (target == target).sum(axis=1)


def test_a_loss_of_ones_own_says_what_it_divides_by() -> None:
    y = np.where(rng.random((N, 3)) < 0.5, np.nan, X[:, :3]).astype("float32")
    model = network()
    expected = np.nanmean(np.abs(model.predict(X) - y))
    for size in (7, 50):
        found = ldl.evaluate(model, (X, y), Masked(), batch_size=size)["loss"]
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_sum_of_many_halves_is_a_number() -> None:
    """Each loss is one of float16, as each output is; their sum, of many batches or one, is not."""
    x = rng.random((6000, 4)).astype("float16")
    for build, y in (
        (nn.BCELoss, (x < 0.5).astype("float16")),
        (nn.MSELoss, x - 4),
        (nn.CrossEntropyLoss, np.arange(6000) % 4),
    ):
        loss = build(reduction="sum")
        wide = y.astype("float32") if y.ndim == 2 else y
        expected = float(loss(x.astype("float32"), wide))
        for size in (64, 6000):
            found = ldl.evaluate(nn.Identity(), (x, y), loss, batch_size=size)["loss"]
            assert found == pytest.approx(expected, rel=1e-3)


# ---- metrics -------------------------------------------------------------------------------------


def largest_of_many(output: Any, target: Any) -> Any:
    """The rows beyond 0, and all rows."""
    return (output[:, 0] > 0).sum(), len(output)


def writes(output: Any, target: Any) -> float:
    output[...] = target[...] = 9
    return 1.0


class Keeping:
    """A metric that returns one array, written anew for every batch."""

    def __init__(self) -> None:
        self.held = np.zeros(())

    def __call__(self, xp: Any, output: Any, target: Any) -> Any:
        self.held[...] = output.mean()
        return self.held


def test_a_metric_gives_a_mean_or_a_sum_and_a_count() -> None:
    model = network()
    expected = (model.predict(X)[:, 0] > 0).mean()
    figures = ldl.evaluate(
        model, (X, X[:, :3]), nn.MSELoss(), [largest_of_many, writes], batch_size=7
    )
    assert figures["largest_of_many"] == pytest.approx(expected)
    assert figures["writes"] == 1


def test_a_metric_that_writes_to_its_arguments_changes_nothing() -> None:
    y = X[:, :3].copy()
    clean = ldl.evaluate(network(), (X, y), nn.MSELoss(), ["mse"], batch_size=7)
    spoilt = ldl.evaluate(network(), (X, y), nn.MSELoss(), [writes, "mse"], batch_size=7)
    assert spoilt["loss"] == clean["loss"]
    assert spoilt["mse"] == clean["mse"]
    np.testing.assert_array_equal(y, X[:, :3])
    rows = []
    for metrics in ([], [writes]):
        model = network()
        sgd = optim.SGD(model, 0.1)
        rows.append(ldl.fit(model, (X, y), nn.MSELoss(), sgd, 2, metrics=metrics)["loss"])
    assert rows[0] == rows[1]


def test_a_metric_may_return_an_array_that_it_writes_to_again() -> None:
    model = network()
    kept = ldl.Metric("kept", Keeping())
    figures = ldl.evaluate(model, (X, X[:, :3]), nn.MSELoss(), kept, batch_size=7)
    assert figures["kept"] == pytest.approx(model.predict(X).mean(), rel=1e-4)


def test_a_metric_may_give_a_mean_of_some_batches_and_a_pair_of_others() -> None:
    def mixed(output: Any, target: Any) -> Any:
        return (2 * len(output), len(output)) if len(output) == 7 else 2.0

    for size in (7, 10, 24):
        found = ldl.evaluate(network(), (X, X[:, :3]), nn.MSELoss(), mixed, batch_size=size)
        assert found["mixed"] == pytest.approx(2)


NO_NUMBERS = [None, (1, 2, 3), "3", 1j, np.complex64(1j), np.array(1j), np.array([1j])]


@pytest.mark.parametrize("wrong", [lambda o, t: o, *((lambda o, t, g=g: g) for g in NO_NUMBERS)])
def test_a_metric_that_gives_no_number_is_told_so(wrong: Any) -> None:
    wrong.__name__ = "wrong"
    with pytest.raises(ValueError, match="metric 'wrong'") as error:
        ldl.evaluate(network(), (X, X[:, :3]), nn.MSELoss(), wrong)
    one_line(error)


@pytest.mark.parametrize("metric", ["mse", "mae", "psnr"])
@pytest.mark.parametrize("where", ["output", "target"])
def test_one_nan_makes_a_figure_of_differences_nan(metric: str, where: str) -> None:
    x, y = X.copy(), X.copy()
    (x if where == "output" else y)[3, 1] = np.nan
    figures = ldl.evaluate(nn.Identity(), (x, y), nn.MSELoss(), metric, batch_size=7)
    assert np.isnan(figures[metric])
    assert np.isnan(figures["loss"])


def test_psnr_of_no_error_is_infinite() -> None:
    assert ldl.evaluate(nn.Identity(), X, nn.MSELoss(), "psnr")["psnr"] == np.inf


def test_an_output_that_is_nan_is_never_right() -> None:
    x = np.array([[np.nan, 0, 1], [0, np.nan, 1], [0, 0, 1], [-np.inf] * 3], "float32")
    labels = np.array([0, 1, 2, 0])
    with np.errstate(invalid="ignore"):
        for y in (labels, np.eye(3, dtype="float32")[labels]):
            figures = ldl.evaluate(nn.Identity(), (x, y), nn.CrossEntropyLoss(), "accuracy")
            assert figures["accuracy"] == 0.25
        for y in (np.zeros((4, 3), "f"), np.ones((4, 3), "f")):
            figures = ldl.evaluate(nn.Identity(), (x, y), nn.BCEWithLogitsLoss(), "accuracy")
            assert figures["accuracy"] <= 9 / 12
        column = np.array([[np.nan], [0.2]], "float32")
        zeros = np.zeros((2, 1), "float32")
        assert (
            ldl.evaluate(nn.Identity(), (column, zeros), nn.MSELoss(), "accuracy")["accuracy"]
            == 0.5
        )


# ---- what is wrong in some batch, in some epoch --------------------------------------------------


class Changing:
    """Batches that are right in the first epochs, as counted by their iterations."""

    def __init__(self, good: Any, bad: Any, from_epoch: int) -> None:
        self.good, self.bad, self.from_epoch, self.epoch = good, bad, from_epoch, 0

    def __iter__(self) -> Any:
        self.epoch += 1
        y = self.good.copy()
        if self.epoch >= self.from_epoch:
            y[23] = self.bad
        return iter(stored(y, 10))


WRONG: dict[str, tuple[Any, Any, Any, str]] = {
    "a label": (nn.CrossEntropyLoss(), LABELS, 3, "3 classes 0 .. 2"),
    "a distribution": (nn.CrossEntropyLoss(), Q, 1.0, "divide each row by its sum"),
    "a probability": (nn.BCEWithLogitsLoss(), Q, 1.5, "scale them first"),
}


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_target_is_found_in_any_batch_of_any_epoch(name: str, epoch: int) -> None:
    loss, good, bad, says = WRONG[name]
    model = network()
    adam = optim.Adam(model, 0.01)
    seen: list[Any] = [model.state_dict()]
    with pytest.raises(ValueError, match=f"epoch {epoch}, batch 3: ") as error:
        ldl.fit(
            model,
            Changing(good, bad, epoch),
            loss,
            adam,
            4,
            callbacks=lambda run: seen.append(run.model.state_dict()),
        )
    assert says in one_line(error)
    assert len(seen) == epoch
    np.testing.assert_equal(model.state_dict(), seen[-1])
    with pytest.raises(ValueError, match=f"validation, batch 3: .*{says}"):
        ldl.fit(model, (X, good), loss, adam, 4, validation=Changing(good, bad, epoch))
    with pytest.raises(ValueError, match="batch 3: "):
        ldl.evaluate(model, Changing(good, bad, 1), loss)


def test_a_batch_that_does_not_fit_undoes_its_epoch() -> None:
    batches = stored(X[:, :3], 10)
    batches[3] = X[:10], X[:10]
    model = network()
    before = model.state_dict()
    with pytest.raises(ValueError, match="reshape one of them"):
        ldl.fit(model, batches, nn.MSELoss(), optim.SGD(model, 0.1), 1)
    np.testing.assert_equal(model.state_dict(), before)


class Logarithm(nn.ElementwiseLoss):
    """l = (log x - t)², for positive x."""

    def value(self, x: Any, t: Any) -> Any:
        return (np.log(abs(x)) - t) ** 2

    def derivative(self, x: Any, t: Any) -> Any:
        return 2 * (np.log(abs(x)) - t) / x

    def check_input(self, input: Any) -> None:
        if (input <= 0).any():
            raise ValueError("logarithms are of positive numbers")


@pytest.mark.parametrize("together", [1, 4])
def test_a_check_of_ones_own_sees_every_batch(together: int) -> None:
    x, model = np.full((6000, 3), 2, "float32"), probabilities(0.0)
    x[5000] = -1
    with pytest.raises(ValueError, match="batch 5: logarithms"):
        ldl.evaluate(model, (x, x), Logarithm())
    for options in ({"data": (x, x)}, {"data": (x[:10], x[:10]), "validation": (x, x)}):
        before = model.state_dict()
        still = optim.SGD(model, 1e-3)
        with pytest.raises(ValueError, match=r"batch \d+: logarithms"):
            ldl.fit(
                model,
                loss=Logarithm(),
                optimizer=still,
                epochs=1,
                batch_size=1000,
                steps_per_launch=together,
                **options,
            )
        np.testing.assert_equal(model.state_dict(), before)


def probabilities(bias: float) -> nn.Linear:
    """x + bias, without a Sigmoid."""
    model = nn.Linear(3, 3)
    model.weight.data[...] = np.eye(3)
    model.bias.data[...] = bias
    return model


def test_an_input_that_is_no_probability_is_found_wherever_it_stands() -> None:
    x = np.full((N, 3), 0.5, "float32")
    for place in (0, 23, N - 1):
        y = x.copy()
        y[place, 2] = 1.2
        for data in ((y, x), [(y[i : i + 10], x[i : i + 10]) for i in range(0, N, 10)]):
            for act in (ldl.evaluate, training, validation):
                model = probabilities(0.0)
                before = model.state_dict()
                with pytest.raises(ValueError, match=r"probabilities in \[0, 1\].*Sigmoid") as e:
                    act(model, data, nn.BCELoss())
                one_line(e)
                np.testing.assert_equal(model.state_dict(), before)


def training(model: Any, data: Any, loss: Any) -> None:
    ldl.fit(model, data, loss, optim.SGD(model, 0.01), 1, batch_size=10)


def validation(model: Any, data: Any, loss: Any) -> None:
    x = np.full((N, 3), 0.5, "float32")
    ldl.fit(model, (x, x), loss, optim.SGD(model, 0.01), 1, validation=data)


@pytest.mark.parametrize("together", [1, 4])
def test_a_model_that_leaves_the_probabilities_in_training_is_stopped(together: int) -> None:
    x, y = np.full((N, 3), 0.5, "float32"), np.ones((N, 3), "float32")
    model = probabilities(0.0)
    seen: list[Any] = [model.state_dict()]
    with pytest.raises(ValueError, match=r"epoch \d+, .*batch \d+: .*Sigmoid") as error:
        ldl.fit(
            model,
            (x, y),
            nn.BCELoss(),
            optim.SGD(model, 0.1),
            50,
            batch_size=10,
            steps_per_launch=together,
            callbacks=lambda run: seen.append(run.model.state_dict()),
        )
    one_line(error)
    np.testing.assert_equal(model.state_dict(), seen[-1])


@pytest.mark.parametrize("name", [*WRONG, "labels, weights"])
def test_no_batch_waits_for_the_device_to_be_checked(name: str, fake: FakeBackend) -> None:
    loss, y = (*WRONG[name][:2],) if name in WRONG else (CASES[name][0](), LABELS)
    waits = []
    for size in (25, 5):
        model = network().to(fake)
        batches = [(fake.asarray(a), fake.asarray(b)) for a, b in stored(y, size)]
        before = len(fake.ledger.waits)
        ldl.fit(model, batches, loss, optim.SGD(model, 0.1), 2, validation=batches)
        waits.append(len(fake.ledger.waits) - before)
    assert waits[0] == waits[1]
