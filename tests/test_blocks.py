"""Without the compiler a step works in blocks: the layers' own numbers to the bit, in less time."""

from __future__ import annotations

import copy
import tracemalloc
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from catalog import LOSSES, ROWS, named
from catalog_optimizers import OPTIMIZERS
from ldl import nn, optim, random
from ldl.compiler.select import CHUNK, Select
from ldl_numpy import blocks, uniform
from ldl_numpy.blocks import Blocks
from ldl_numpy.record import PlannedStep
from test_train_step import Scale

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _without_the_compiler(monkeypatch: Any) -> None:
    monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)


@pytest.fixture
def tiny(monkeypatch: Any) -> None:
    """Blocks of a few elements, of whatever has two."""
    monkeypatch.setattr(blocks, "BLOCK", 7)
    monkeypatch.setattr(blocks, "LEAST", 2)


def pair(build: Any, loss: Any, optimizer: Any) -> list[ldl.TrainStep]:
    """The same step twice: played, and by the layers' own code."""
    steps = []
    for record in (True, False):
        ldl.manual_seed(5)
        model = build()
        steps.append(
            ldl.TrainStep(model, loss(), optimizer(model), record=record, keep_output=True)
        )
    return steps


def assert_same_bits(a: Any, b: Any) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8))


def assert_same_steps(played: ldl.TrainStep, own: ldl.TrainStep, batches: Any) -> None:
    for x, y in batches:
        assert_same_bits(played(x, y), own(x, y))
        assert_same_bits(played.output, own.output)
    for p, q in zip(played.model.parameters(), own.model.parameters(), strict=True):
        assert_same_bits(p.data, q.data)
        if q.has_grad:
            assert_same_bits(p.grad, q.grad)


def groups(step: ldl.TrainStep) -> list[Blocks]:
    """The groups of the step's only recording."""
    (recording,) = step._recordings.values()
    assert isinstance(recording, PlannedStep)
    return [run for run in recording._plan.runs if isinstance(run, Blocks)]


def autoencoder() -> nn.Module:
    return nn.AutoEncoder.symmetric(97, [50, 33])


def classifier() -> nn.Module:
    return nn.Sequential(
        nn.Linear(97, 130), nn.ReLU(), nn.Dropout(0.3), nn.Linear(130, 120), nn.GELU()
    )


def adam(model: nn.Module) -> optim.Optimizer:
    return optim.Adam(model, 0.01)


@pytest.mark.parametrize("rows", [2801, 3072, 4001])
@pytest.mark.parametrize("loss", [nn.MSELoss, nn.BCELoss])
def test_an_autoencoder_of_any_batch_size(loss: Any, rows: int) -> None:
    played, own = pair(autoencoder, loss, adam)
    data = [rng.random((rows, 97)).astype("float32") for _ in range(2)]
    noisy = [np.clip(x + 0.1, 0, 1) for x in data]
    assert_same_steps(played, own, zip(data, noisy, strict=True))
    assert_same_steps(played, own, zip(data[::-1], noisy, strict=True))
    assert groups(played)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_classifier_with_dropout(dtype: str) -> None:
    def build() -> nn.Module:
        return classifier().to(dtype=dtype) if dtype == "float64" else classifier()

    played, own = pair(build, nn.CrossEntropyLoss, adam)
    data = [(rng.random((2503, 97)).astype(dtype), rng.integers(0, 120, 2503)) for _ in range(3)]
    assert_same_steps(played, own, data)
    assert groups(played)


@pytest.mark.parametrize(**named(ROWS))
def test_every_module_in_tiny_blocks(row: Any, tiny: None) -> None:
    played, own = pair(
        lambda: nn.Sequential(Scale(), row.module()),
        lambda: nn.HuberLoss(reduction="sum"),
        lambda model: optim.SGD(model, 0.05),
    )
    x = row.input()
    target = np.zeros_like(copy.deepcopy(own.model).eval()(x))
    assert_same_steps(played, own, [(x, target), (x.copy(), target), (x, target)])
    assert groups(played)


@pytest.mark.parametrize(**named([row for row in LOSSES if "none" not in row.name]))
def test_every_loss_in_tiny_blocks(row: Any, tiny: None) -> None:
    x, t = row.batch()
    played, own = pair(Scale, row.build, lambda model: optim.SGD(model, 1e-3))
    assert_same_steps(played, own, [(x, t), (x.copy(), t), (x, t)])


@pytest.mark.parametrize("size", ["large", "tiny"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_every_update_is_that_of_the_generic_body(
    optimizer: Any, size: str, request: pytest.FixtureRequest
) -> None:
    class Generic(ldl_numpy.NumpyBackend):
        """Plays nothing."""

        prepare = ldl.Backend.prepare

    if size == "tiny":
        request.getfixturevalue("tiny")
    features = 901 if size == "large" else 11

    def build() -> nn.Module:
        return nn.Linear(features, 300)

    played, _ = pair(build, nn.MSELoss, optimizer)
    with ldl.use_backend(Generic()):
        _, own = pair(build, nn.MSELoss, optimizer)
    x = rng.random((5, features)).astype("float32")
    assert_same_steps(played, own, [(x, np.zeros((5, 300), "float32"))] * 3)


def test_an_array_that_is_not_contiguous_is_read_and_written_as_it_is(tiny: None) -> None:
    class Running(nn.Module):
        """x less a running mean of the batches, whose memory is column by column."""

        def __init__(self) -> None:
            self.s = nn.Parameter(nn.init.ones((1,)))
            self.mean = np.zeros((5, 30), "float32").T

        def forward(self, x: Any) -> Any:
            self.mean[...] = 0.9 * self.mean + 0.1 * x
            return (x - self.mean) * self.s.data

        def backward(self, grad: Any) -> Any:
            self.s.accumulate(grad.sum().reshape(1))
            return grad

    played, own = pair(Running, nn.MSELoss, lambda model: optim.SGD(model, 1e-3))
    data = [rng.random((30, 5)).astype("float32") for _ in range(4)]
    assert_same_steps(played, own, [(x, x * 2) for x in data])
    models: list[Any] = [played.model, own.model]
    assert_same_bits(*[model.mean for model in models])


# ---- blocks --------------------------------------------------------------------------------------


def test_a_large_step_is_done_in_blocks_and_its_temporaries_are_not_stored() -> None:
    steps = [ldl.TrainStep(m := autoencoder(), nn.MSELoss(), adam(m)) for _ in range(2)]
    for step, rows in zip(steps, (4096, 64), strict=True):
        x = rng.random((rows, 97)).astype("float32")
        step(x, x)
    large, small = map(groups, steps)
    assert not small
    (output,) = large
    assert len(output._uses) == 5  # matrix product, bias, target; squares, gradient
    arrays = [a for row in output.calls for a in row if isinstance(a, np.ndarray)]
    assert max(a.size for a in arrays) <= blocks.BLOCK


def test_what_was_computed_is_not_computed_again(tiny: None) -> None:
    played, own = pair(Scale, nn.MSELoss, lambda model: optim.SGD(model, 1e-3))
    x, t = rng.random((2, 20, 5)).astype("float32")
    assert_same_steps(played, own, [(x, t)] * 2)
    (group,) = (g for g in groups(played) if len(g._steps) > 2)
    assert [step.run for step in group._steps].count(np.subtract) == 1


def test_a_steady_step_on_new_arrays_allocates_no_array() -> None:
    model = nn.Sequential(nn.Linear(97, 200), nn.Tanh(), nn.Linear(200, 97), nn.Sigmoid())
    step = ldl.TrainStep(model, nn.MSELoss(), adam(model))
    data = [rng.random((4096, 97)).astype("float32") for _ in range(3)]
    for x in data:
        step(x, x)
    assert groups(step)
    tracemalloc.start()
    for x in data:
        step(x, x)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for x in data * 5:
        step(x, x)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 40_000  # the smallest array of the step has 1,589,248, a ufunc's buffer 32,768


# ---- uniform numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, uniform.CHUNK - 1, uniform.CHUNK + 1, 50_001])
def test_uniform_numbers_are_those_of_the_generator(size: int) -> None:
    key = random.Key(2**63 + 5, 3 << 32, 11)
    out = np.empty(size, "float32")
    uniform.fill(out, key)
    assert_same_bits(out, random.uniform((size,), key))


# ---- where ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [3, 1000, CHUNK, CHUNK + 17, 3 * CHUNK])
def test_where_keeps_every_bit(size: int, dtype: str) -> None:
    special = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-42, 1.5], dtype)
    a, b = rng.choice(special, (2, size))
    c = rng.random(size) < 0.5
    select, number = Select(), np.array(-0.0, dtype)
    for x, y in ((a, b), (a, 1), (-2.5, b), (number, b), (1, 0), (a, a)):
        out = np.empty(size, dtype)
        select(c, x, y, out)
        assert_same_bits(out, np.where(c, x, y).astype(dtype))


def test_where_broadcasts_and_casts_as_numpy_does() -> None:
    a, c = rng.random((40, 50)), rng.random((40, 50)) < 0.5
    for x, y in ((a[0], a), (a, a[:, :1]), (a.T.copy().T, a), (a.astype("float32"), a)):
        for condition in (c, c[:1], c.T.copy().T):
            out = np.empty(a.shape)
            Select()(condition, x, y, out)
            assert_same_bits(out, np.where(condition, x, y))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0", False), ("false", False), ("Off", False), ("no", False), ("1", True), ("", True)],
)
def test_what_leaves_the_compiler_alone(text: str, wanted: bool, monkeypatch: Any) -> None:
    monkeypatch.undo()
    with monkeypatch.context() as context:
        context.setenv("LDL_JIT", text)
        found = ldl_numpy.fuser.__wrapped__()
    assert (found is not None) is (wanted and find_spec("llvmlite") is not None)


@pytest.mark.parametrize("text", ["maybe", "2", "jit\n"])
def test_what_says_neither_is_refused_in_one_line(text: str, monkeypatch: Any) -> None:
    monkeypatch.undo()
    with monkeypatch.context() as context:
        context.setenv("LDL_JIT", text)
        with pytest.raises(ValueError, match=r"LDL_JIT .* must be 0 or 1, got ") as error:
            ldl_numpy.fuser.__wrapped__()
    assert str(error.value).isprintable()
