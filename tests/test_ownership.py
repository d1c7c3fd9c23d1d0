"""Whose an array is: what is handed out is the caller's, what is kept is nobody else's.

Everything that was handed in or out is overwritten with NaN, and nothing that follows changes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ldl
from catalog import LOSSES, ROWS, named
from fake_device import fixture
from ldl import data, nn, optim, random
from ldl.data.cuts import Cuts

fake = fixture

rng = np.random.default_rng(5)
X = rng.random((6, 4)).astype("float32")


def spoil(*arrays: Any) -> None:
    """Write NaN over everything."""
    for array in arrays:
        if getattr(array, "shape", ()):
            array[...] = np.nan if array.dtype.kind == "f" else 0


def grads(module: Any) -> dict[str, Any]:
    return {n: None if p.grad is None else p.grad.copy() for n, p in module.named_parameters()}


# ---- the two passes --------------------------------------------------------------------------


@pytest.mark.parametrize(**named(ROWS))
def test_a_layer_needs_neither_its_input_nor_its_output_for_backward(row: Any) -> None:
    module, twin = row.module(), row.module()
    x, g = row.input(), np.full(np.shape(twin(row.input())), 0.5, "float32")
    right = twin.backward(g.copy())
    spoil(module(x), x)
    found = module.backward(g)
    spoil(g)
    np.testing.assert_array_equal(found, right)
    spoil(found)
    np.testing.assert_equal(grads(module), grads(twin))


@pytest.mark.parametrize(**named(ROWS))
@pytest.mark.parametrize("mode", ["train", "eval", "predict"])
def test_an_output_shares_no_memory_with_the_input(row: Any, mode: str) -> None:
    module, x = row.module(), row.input()
    if mode != "predict":
        module.train(mode == "train")
    y = module.predict(x) if mode == "predict" else module(x)
    assert not np.shares_memory(x, y)
    spoil(y)
    np.testing.assert_array_equal(x, row.input())


@pytest.mark.parametrize(**named(ROWS))
def test_a_gradient_shares_no_memory_with_the_one_before(row: Any) -> None:
    module = row.module()
    g = np.ones(np.shape(module(row.input())), "float32")
    assert not np.shares_memory(module.backward(g), g)


@pytest.mark.parametrize("row", [r for r in ROWS if len(r.shape) > 1], ids=lambda r: r.name)
def test_a_layer_in_eval_mode_inside_a_model_that_trains_has_no_memory_of_others(row: Any) -> None:
    module = nn.Sequential(row.module())
    module[0].eval()
    x = row.input()
    y = module(x)
    g = np.full(y.shape, 0.5, "float32")
    right = copy.deepcopy(module).backward(g.copy())
    spoil(y, x)
    found = module.backward(g)
    np.testing.assert_array_equal(found, right)
    assert not np.shares_memory(found, g)


@pytest.mark.parametrize(**named(LOSSES))
def test_a_loss_needs_neither_input_nor_target_for_backward(row: Any) -> None:
    loss, twin, (x, t) = row.build(), row.build(), row.batch()
    g = np.full(np.shape(twin(x.copy(), t.copy())), 0.5, "float32")
    right = twin.backward(g.copy())
    value = loss(x, t)
    spoil(x, t, np.asarray(value) if np.shape(value) else None)
    found = loss.backward(g)
    np.testing.assert_array_equal(found, right)
    assert not np.shares_memory(found, g)


# ---- layers of one's own that write where they should not -------------------------------------


class Spoils(nn.Module):
    """y = 3x; afterwards it writes NaN over its input and over the gradient that it was given."""

    def forward(self, x: Any) -> Any:
        y = 3 * x
        x[...] = np.nan
        return y

    def backward(self, grad: Any) -> Any:
        dx = 3 * grad
        grad[...] = np.nan
        return dx


class Triples(nn.Module):
    """The same function, well behaved."""

    def forward(self, x: Any) -> Any:
        return 3 * x

    def backward(self, grad: Any) -> Any:
        return 3 * grad


WHOLES: dict[str, Callable[[Callable[[], nn.Module]], nn.Module]] = {
    "alone": lambda layer: layer(),
    "first": lambda layer: nn.Sequential(layer(), nn.Linear(4, 4)),
    "after another": lambda layer: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), layer(), nn.Tanh()),
    "Residual": lambda layer: nn.Residual(layer()),
    "Residual, inside": lambda layer: nn.Residual(nn.Sequential(nn.Linear(4, 4), layer())),
    "Parallel, summed": lambda layer: nn.Parallel(layer(), nn.Linear(4, 4), merge="sum"),
    "Parallel": lambda layer: nn.Parallel(layer(), nn.Identity(), layer()),
    "Parallel of one": lambda layer: nn.Parallel(layer()),
    "AutoEncoder": lambda layer: nn.AutoEncoder(nn.Identity(), layer()),
}


def of(whole: str, layer: Callable[[], nn.Module]) -> nn.Module:
    ldl.manual_seed(3)
    return WHOLES[whole](layer)


@pytest.mark.parametrize("whole", WHOLES)
def test_a_layer_that_writes_to_what_it_is_given_harms_nobody(whole: str) -> None:
    bad, good = of(whole, Spoils), of(whole, Triples)
    x = X.copy()
    y = bad(x)
    np.testing.assert_array_equal(y, good(X))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(bad.predict(x), good.predict(X))
    np.testing.assert_array_equal(x, X)
    g = np.full(y.shape, 0.5, "float32")
    if whole != "alone":  # what a layer does to a gradient given to itself is between the two
        good(X)
        bad(x)
        np.testing.assert_array_equal(bad.backward(g.copy()), good.backward(g.copy()))
        np.testing.assert_equal(grads(bad), grads(good))


@pytest.mark.parametrize("whole", [w for w in WHOLES if w not in ("alone", "Parallel of one")])
@pytest.mark.parametrize("record", [True, False])
def test_training_with_it_gives_the_right_numbers_and_leaves_the_data(
    whole: str, record: bool
) -> None:
    def losses(layer: Callable[[], nn.Module]) -> list[float]:
        model = nn.Sequential(of(whole, layer), nn.Flatten())
        model = nn.Sequential(model, nn.Linear(12 if whole == "Parallel" else 4, 4))
        optimizer = optim.Adam(model, lr=0.01)
        step = ldl.TrainStep(model, nn.MSELoss(), optimizer, record=record)
        x = X.copy()
        found = [float(step(x, x)) for _ in range(4)]
        found += [float(step(x, X)) for _ in range(4)]
        np.testing.assert_array_equal(x, X)
        found += ldl.fit(model, x, nn.MSELoss(), optimizer, 2, validation=x)["val_loss"]
        found.append(ldl.evaluate(model, x, nn.MSELoss())["loss"])
        np.testing.assert_array_equal(x, X)
        return found

    np.testing.assert_allclose(losses(Spoils), losses(Triples), rtol=1e-6)


class Writes(nn.Module):
    """y = 2 f(x), written into what f gave; and the gradient likewise."""

    def __init__(self, inner: nn.Module) -> None:
        self.inner = inner

    def forward(self, x: Any) -> Any:
        y = self.inner(x)
        y *= 2
        return y

    def backward(self, grad: Any) -> Any:
        dx = self.inner.backward(2 * grad)
        dx *= 1
        return dx


@pytest.mark.parametrize(**named(ROWS))
def test_a_container_may_write_into_what_its_layers_gave(row: Any) -> None:
    written, twin = Writes(row.module("float64")), row.module("float64")
    x = row.input("float64")
    y = twin(x)
    np.testing.assert_allclose(written(x), 2 * y, rtol=1e-14)
    g = rng.standard_normal(y.shape)
    np.testing.assert_allclose(written.backward(g), twin.backward(2 * g), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(x, row.input("float64"))


RECORDED = ("ELU() 2-D", "Sigmoid() 2-D", "Softmax() 2-D", "Identity() 2-D", "Flatten 2-D")
RECORDED += ("Dropout(0.4) 2-D", "Linear", "Residual", "Parallel, summed")


@pytest.mark.parametrize("row", [r for r in ROWS if r.name in RECORDED], ids=lambda r: r.name)
def test_so_it_may_in_a_recorded_step(row: Any) -> None:
    def loss(record: bool) -> list[float]:
        model = nn.Sequential(nn.Linear(row.shape[1], row.shape[1]), Writes(row.module()))
        for parameter, seed in zip(model.parameters(), range(99), strict=False):
            draw = np.random.default_rng(seed)
            parameter.data[...] = 0.3 * draw.standard_normal(parameter.shape)
        step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, lr=0.001), record=record)
        x = row.input()
        t = np.zeros(model.predict(x).shape, "float32")
        return [float(step(x, t)) for _ in range(5)]

    np.testing.assert_allclose(loss(True), loss(False), rtol=2e-5)


# ---- steps, predictors -----------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
def test_a_step_leaves_nothing_behind_in_the_arrays_that_it_took_and_gave(record: bool) -> None:
    steps = []
    for _ in range(2):
        ldl.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2), nn.Tanh(), nn.Identity())
        optimizer = optim.Adam(model, lr=0.01)
        steps.append(ldl.TrainStep(model, nn.MSELoss(), optimizer, keep_output=True, record=record))
    spoiled, twin = steps
    for i in range(5):
        x, y = X * (i + 1), X - i
        found = np.asarray(spoiled(x, y))
        assert float(found) == float(twin(X * (i + 1), X - i))
        np.testing.assert_array_equal(spoiled.output, twin.output)
        spoil(x, y, spoiled.output)
        for parameter in spoiled.model.parameters():
            spoil(parameter.grad)
    for a, b in zip(spoiled.model.parameters(), twin.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("model", [nn.Identity(), nn.Flatten(), nn.Sequential(), nn.Dropout(0.5)])
def test_a_model_that_does_nothing_gives_arrays_of_their_own(model: nn.Module) -> None:
    predictor, x = ldl.Predictor(model), X.copy()
    for _ in range(3):
        for y in (predictor(x), model.predict(x), model.predict(x, batch_size=2)):
            np.testing.assert_array_equal(y, X)
            spoil(y)
    np.testing.assert_array_equal(x, X)


def test_predictions_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Softmax())
    predictor = ldl.Predictor(model)
    x = X.copy()
    first = predictor(x)
    right = first.copy()
    x *= 2
    second = predictor(x)
    spoil(x, second)
    np.testing.assert_array_equal(first, right)
    np.testing.assert_array_equal(predictor(X), right)


# ---- state -----------------------------------------------------------------------------------


def test_a_state_dict_is_a_snapshot() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    optimizer = optim.Adam(model, lr=0.1)
    step = ldl.TrainStep(model, nn.MSELoss(), optimizer)
    step(X, X)
    weights, state = model.state_dict(), optimizer.state_dict()
    then = copy.deepcopy((weights, state))
    step(X, X)
    np.testing.assert_equal((weights, state), then)
    for taken, load in ((weights, model.load_state_dict), (state, optimizer.load_state_dict)):
        load(taken)
    spoil(*weights.values(), *state["slots"].values())
    state["param_groups"][0]["betas"][:] = [0.0, 0.0]
    np.testing.assert_equal(model.state_dict(), then[0])
    np.testing.assert_equal(optimizer.state_dict(), then[1])


def test_a_parameter_is_a_copy_of_what_it_is_made_of() -> None:
    values = np.ones((3, 2), "float32")
    parameter = nn.Parameter(values)
    spoil(values)
    assert (parameter.data == 1).all()


def test_accumulated_gradients_are_the_parameters_own() -> None:
    parameter = nn.Parameter(np.zeros((3, 2), "float32"))
    grad = np.ones((3, 2), "float32")
    parameter.accumulate(grad)
    spoil(grad)
    np.testing.assert_array_equal(parameter.grad, 1)


# ---- noise and data --------------------------------------------------------------------------


class Spoiled(data.Noise):
    """x + 0.1 for a while; then NaN is written over x."""

    form = "spoiled"

    def __call__(self, x: Any, stream: random.Stream, backend: ldl.Backend) -> Any:
        stream.next()
        noisy = x + 0.1
        x[...] = np.nan
        return noisy


class InPlace(data.Noise):
    """x + 0.1, written into x."""

    form = "in place"

    def __call__(self, x: Any, stream: random.Stream, backend: ldl.Backend) -> Any:
        stream.next()
        x += 0.1
        return x


class Added(data.Noise):
    """x + 0.1."""

    form = "added"

    def __call__(self, x: Any, stream: random.Stream, backend: ldl.Backend) -> Any:
        stream.next()
        return x + 0.1


@pytest.mark.parametrize("kind", [Spoiled, InPlace])
@pytest.mark.parametrize("record", [True, False])
def test_a_noise_that_writes_to_its_input_spoils_no_target(kind: Any, record: bool) -> None:
    def losses(noise: data.Noise) -> list[float]:
        ldl.manual_seed(1)
        model = nn.Linear(4, 4)
        options: Any = {"noise": noise, "stream": random.Stream(0, random.NOISE), "record": record}
        step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, lr=0.1), **options)
        x = X.copy()
        found = [float(step(x, x)) for _ in range(4)]
        np.testing.assert_array_equal(x, X)
        order = np.arange(6)
        found += [float(v) for v in step.run(x, x, order, 2, [0, 2, 4])]
        samples = data.Arrays(x, noise=noise)
        history = ldl.fit(model, samples, nn.MSELoss(), step.optimizer, 2, validation=samples)
        np.testing.assert_array_equal(x, X)
        return [*found, *history["loss"], *history["val_loss"]]

    np.testing.assert_allclose(losses(kind(0.5)), losses(Added(0.5)), rtol=1e-6)


@pytest.mark.parametrize("noise", [None, data.MaskingNoise(0.5), InPlace(0.5)])
@pytest.mark.parametrize("order", [None, np.array([3, 1, 2])])
def test_batches_are_the_consumers_own(noise: Any, order: Any) -> None:
    x, y = X.copy(), X + 1
    backend, cuts = ldl.get_backend("numpy"), Cuts(len(x if order is None else order), 2)
    for samples in (data.Arrays(x, y, noise), data.Arrays(x, noise=noise)):
        placed = samples.place(backend, "float32", False)
        for a, b in placed.batches(backend, cuts, order, random.Stream(0, random.NOISE)):
            spoil(a, b)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, X + 1)


# ---- another device --------------------------------------------------------------------------


def test_all_this_holds_where_arrays_are_not_numpys(fake: Any) -> None:
    module = nn.Sequential(nn.Tanh(), nn.Residual(Spoils()), nn.Identity())
    twin = nn.Sequential(nn.Tanh(), nn.Residual(Triples()), nn.Identity())
    x = fake.asarray(X)
    y, right = module(x), twin(fake.asarray(X))
    np.testing.assert_array_equal(fake.to_numpy(y), fake.to_numpy(right))
    y[...] = float("nan")
    np.testing.assert_array_equal(fake.to_numpy(x), X)
    x[...] = float("nan")
    g = fake.asarray(np.full(X.shape, 0.5, "float32"))
    found, expected = module.backward(g), twin.backward(g.copy())
    np.testing.assert_array_equal(fake.to_numpy(found), fake.to_numpy(expected))
