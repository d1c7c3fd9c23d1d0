"""TrainStep plays what it recorded: the layers' own numbers, without allocating."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from catalog import LOSSES, ROWS, named
from catalog_optimizers import OPTIMIZERS
from ldl import nn, optim
from ldl.nn import changes
from ldl.optim import optimizer as optim_optimizer
from ldl.train.undo import streams_of
from ldl_numpy.record import PlannedStep

TOLERANCE = {"plain": 0.0, "fused": 2e-5}


@pytest.fixture(params=["plain", "fused"])
def how(request: Any, monkeypatch: Any) -> str:
    """Without the compiler and with it, whatever is installed or wanted."""
    if request.param == "plain":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
    else:
        from ldl_numpy.program import fuse_and_link

        monkeypatch.setattr(ldl_numpy, "fuser", lambda: fuse_and_link)
    return request.param


def assert_agree(a: Any, b: Any, how: str) -> None:
    if how == "plain":
        np.testing.assert_array_equal(a, b)
    else:
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=TOLERANCE[how] * scale)


def assert_same_model(a: nn.Module, b: nn.Module, how: str) -> None:
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert p.has_grad == q.has_grad
        assert_agree(p.data, q.data, how)


def assert_played(step: ldl.TrainStep, shapes: int = 1) -> None:
    assert len(step._recordings) == shapes
    assert all(isinstance(r, PlannedStep) for r in step._recordings.values())


def pair(build: Any, loss: Any, optimizer: Any = None) -> list[ldl.TrainStep]:
    """The same step twice: played, and by the layers' own code."""
    make = optimizer or (lambda model: optim.SGD(model, 0.05))
    steps = []
    for record in (True, False):
        ldl.manual_seed(5)
        model = build()
        steps.append(ldl.TrainStep(model, loss(), make(model), record=record, keep_output=True))
    return steps


rng = np.random.default_rng(0)
X = rng.random((40, 6)).astype("float32")
LABELS = rng.integers(0, 3, 40)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)
    )


# ---- the layers' own numbers ---------------------------------------------------------------------


@pytest.mark.parametrize(**named(ROWS))
def test_every_module_steps_as_its_own_code_does(row: Any, how: str) -> None:
    def build() -> nn.Module:
        module: nn.Module = row.module()
        if not list(module.parameters()):  # something to learn, in front
            return nn.Sequential(Scale(), module)
        return module

    played, own = pair(build, lambda: nn.HuberLoss(reduction="sum"))
    x = row.input()
    target = np.zeros_like(copy.deepcopy(own.model).eval()(x))
    for _ in range(3):
        a, b = played(x, target), own(x, target)
        assert_agree(a, b, how)
        assert_agree(played.output, own.output, how)
    assert type(a) is np.float32
    assert_played(played)
    assert_same_model(played.model, own.model, how)


class Scale(nn.Module):
    """y = sx, with one s for all."""

    def __init__(self) -> None:
        self.s = nn.Parameter(nn.init.ones((1,)))

    def forward(self, x: Any) -> Any:
        self.keep(x)
        return x * self.s.data

    def backward(self, grad: Any) -> Any:
        x = self.take()
        self.s.accumulate((grad * x).sum().reshape(1))
        return grad * self.s.data


@pytest.mark.parametrize(**named([row for row in LOSSES if "none" not in row.name]))
def test_every_loss_steps_as_its_own_code_does(row: Any, how: str) -> None:
    x, t = row.batch()
    played, own = pair(Scale, row.build, lambda model: optim.SGD(model, 1e-3))
    for _ in range(3):
        assert_agree(played(x, t), own(x, t), how)
    assert_played(played)
    assert_same_model(played.model, own.model, how)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_every_optimizer_takes_the_steps_of_its_generic_body(optimizer: Any, how: str) -> None:
    class Generic(ldl_numpy.NumpyBackend):
        """Plays nothing."""

        prepare = ldl.Backend.prepare

    played, _ = pair(network, nn.CrossEntropyLoss, optimizer)
    with ldl.use_backend(Generic()):
        own, _ = pair(network, nn.CrossEntropyLoss, optimizer)
    for _ in range(10):
        assert_agree(played(X, LABELS), own(X, LABELS), how)
    assert_played(played)
    assert_same_model(played.model, own.model, how)


def test_several_shapes_are_alive_at_once(how: str) -> None:
    played, own = pair(network, nn.CrossEntropyLoss)
    for n in (40, 7, 40, 1, 7, 40):
        assert_agree(played(X[:n], LABELS[:n]), own(X[:n], LABELS[:n]), how)
    assert_played(played, 3)
    assert_same_model(played.model, own.model, how)


@pytest.mark.parametrize("small", [0, 2**14], ids=["where they lie", "copied"])
def test_new_arrays_of_a_known_shape_are_read_wherever_they_lie(
    small: int, how: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ldl.compiler.plan.SMALL", small)
    played, own = pair(network, nn.CrossEntropyLoss)
    wide = rng.random((10, 12)).astype("float32")
    batches = [X[:10], X[10:20].copy(), np.asfortranarray(X[20:30]), wide[:, ::2], X[:10]]
    for i, x in enumerate(batches):
        labels = LABELS[i : i + 10]
        assert_agree(played(x, labels), own(x, labels), how)
    batches[0][...] = 0.25
    assert_agree(played(batches[0], LABELS[:10]), own(batches[0], LABELS[:10]), how)
    assert_same_model(played.model, own.model, how)


def test_freezing_moving_loading_and_other_modes_are_seen(how: str) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, lambda m: optim.Adam(m, 0.01))
    start = {k: v.copy() for k, v in own.model.state_dict().items()}
    changes: list[Any] = [
        lambda m: m[0].requires_grad_(False),
        lambda m: m[0].requires_grad_(True),
        lambda m: m.load_state_dict(start),
        lambda m: setattr(m[3].weight, "data", m[3].weight.data * 2),
    ]
    for change in changes:
        for step in (played, own):
            change(step.model)
        for _ in range(2):
            assert_agree(played(X, LABELS), own(X, LABELS), how)
    assert_same_model(played.model, own.model, how)


def test_an_autoencoder_whose_target_is_its_input_or_is_not(how: str) -> None:
    def build() -> nn.Module:
        return nn.AutoEncoder.symmetric(6, [5, 2], tied=True)

    played, own = pair(build, nn.BCELoss)
    noisy = np.clip(X + 0.1, 0, 1)
    for x in (X, noisy, X):
        assert_agree(played(x, X), own(x, X), how)
    assert_played(played, 2)
    assert_same_model(played.model, own.model, how)


def test_state_that_a_layer_writes_in_place_is_written_at_every_step(how: str) -> None:
    class Running(nn.Module):
        """x less the running mean of its columns."""

        def __init__(self, features: int) -> None:
            self.mean = nn.Parameter(nn.init.zeros((features,)), requires_grad=False)
            self.plain = np.zeros(features, "float32")

        def forward(self, x: Any) -> Any:
            if self.training:
                self.mean.data[...] = 0.9 * self.mean.data + 0.1 * x.mean(axis=0)
                self.plain = self.plain + x.sum(axis=0)
            return x - self.mean.data

        def backward(self, grad: Any) -> Any:
            return grad

    def build() -> nn.Module:
        return nn.Sequential(Running(6), nn.Linear(6, 3))

    played, own = pair(build, nn.CrossEntropyLoss)
    for i in range(4):
        assert_agree(played(X + i, LABELS), own(X + i, LABELS), how)
    assert_played(played)
    assert_same_model(played.model, own.model, how)
    assert_agree(played.model[0].plain, own.model[0].plain, how)


# ---- nothing is allocated ------------------------------------------------------------------------


def test_a_steady_step_allocates_no_array(how: str) -> None:
    ldl.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64), nn.Sigmoid())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model, clip_norm=1.0))
    x = rng.random((512, 64)).astype("float32")
    for _ in range(3):
        step(x, x)
    tracemalloc.start()
    for _ in range(3):
        step(x, x)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        step(x, x)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 40_000  # the smallest array of the step has 131,072, a ufunc's buffer 32,768


def test_nobody_reads_the_first_layers_input_gradient_so_nobody_computes_it() -> None:
    played, _ = pair(lambda: nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3)), nn.CrossEntropyLoss)
    played(X, LABELS)
    (recording,) = played._recordings.values()
    assert recording._plan.does.count("matmul") == 2 + 2 + 1


# ---- what cannot be played -----------------------------------------------------------------------


class Branching(nn.Module):
    def forward(self, x: Any) -> Any:
        self.keep(x)
        return x * 2 if x.sum() > 0 else x

    def backward(self, grad: Any) -> Any:
        return grad * 2


class Counting(Branching):
    def __init__(self) -> None:
        self.count = 0

    def forward(self, x: Any) -> Any:
        self.count += 1
        self.keep(x)
        return x * 2


class Remembering(Counting):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def forward(self, x: Any) -> Any:
        self.seen.append(1)
        self.keep(x)
        return x * 2


class Rolling(Branching):
    def forward(self, x: Any) -> Any:
        self.keep(x)
        return x * 2 + np.random.default_rng().random() * 1e-9


class Masking(Branching):
    def forward(self, x: Any) -> Any:
        self.keep(x)
        assert x[x > 0.5].size
        return x * 2


UNPLAYABLE = {
    Branching: "looks at a number",
    Counting: "changes its attribute 'count'",
    Remembering: "changes its attribute 'seen'",
    Rolling: "numbers that differ from step to step",
    Masking: "selects by a condition",
}


@pytest.mark.parametrize("layer", UNPLAYABLE, ids=lambda layer: layer.__name__)
def test_a_layer_that_cannot_be_played_is_named_once_and_runs_its_own_code(
    layer: Any, how: str
) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 4), layer(), nn.Dropout(0.5), nn.Linear(4, 3))

    played, own = pair(build, nn.CrossEntropyLoss)
    with pytest.warns(UserWarning, match=UNPLAYABLE[layer]) as warned:
        played(X, LABELS)
    assert len(warned) == 1
    if layer is not Rolling:
        assert layer.__name__ in str(warned[0].message)
    own(X, LABELS)
    for _ in range(3):
        assert_agree(played(X, LABELS), own(X, LABELS), how)
    for step in (played, own):
        assert getattr(step.model[1], "count", 4) == 4
        assert len(getattr(step.model[1], "seen", [1] * 4)) == 4


class Shy(Branching):
    def __repr__(self) -> str:
        raise RuntimeError("no name")


def test_a_layer_that_cannot_be_played_may_have_no_repr(how: str) -> None:
    played, own = pair(lambda: nn.Sequential(nn.Linear(6, 3), Shy()), nn.CrossEntropyLoss)
    with pytest.warns(UserWarning, match="layer by layer, which is slower: Shy looks"):
        assert_agree(played(X, LABELS), own(X, LABELS), how)


class Slow(nn.Module):
    late = False

    def forward(self, x: Any) -> Any:
        if Slow.late:
            Slow.late = False
            raise TimeoutError("a signal's handler")
        self.keep(x)
        return x * 2

    def backward(self, grad: Any) -> Any:
        self.take()
        return grad * 2


def test_a_timeout_while_a_step_is_recorded_is_the_programs(how: str) -> None:
    played, own = pair(lambda: nn.Sequential(nn.Linear(6, 3), Slow()), nn.CrossEntropyLoss)
    Slow.late = True
    with pytest.raises(TimeoutError):
        played(X, LABELS)
    assert_agree(played(X, LABELS), own(X, LABELS), how)
    assert_played(played)


def test_mistakes_are_reported_as_without_recording(how: str) -> None:
    played, own = pair(network, nn.CrossEntropyLoss)
    for step in (played, own):
        with pytest.raises(ValueError, match=r"takes \(N, 6\)"):
            step(X[:, :5], LABELS)
        with pytest.raises(TypeError, match="holds float32 but got float64"):
            step(X.astype("float64"), LABELS)
        step.model.eval()
        with pytest.raises(RuntimeError, match="train"):
            step(X, LABELS)
        step.model.train()
        step(X, LABELS)


@pytest.mark.parametrize(
    ("starts", "message"),
    [([0, 36], "from 0 to 35"), ([-1], "from 0 to 35"), ([0.5], "interpreted as an integer")],
)
def test_batches_that_are_not_whole_are_refused(starts: Any, message: str, how: str) -> None:
    played, _ = pair(network, nn.CrossEntropyLoss)
    before = [p.data.copy() for p in played.model.parameters()]
    with pytest.raises((ValueError, TypeError), match=message):
        played.run(X, LABELS, np.arange(len(X)), 5, starts)
    for p, then in zip(played.model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, then)


def test_no_batches_are_no_steps(how: str) -> None:
    played, _ = pair(network, nn.CrossEntropyLoss)
    assert played.run(X, LABELS, np.arange(len(X)), 5, []).shape == (0,)
    assert played.optimizer.step_count == 0


def test_a_layer_in_eval_mode_inside_a_model_that_trains_is_only_not_random(how: str) -> None:
    def half() -> nn.Module:
        model = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.ReLU(), nn.Linear(5, 3))
        model[1].eval()
        return model

    def none() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

    for frozen, right in zip(
        pair(half, nn.CrossEntropyLoss), pair(none, nn.CrossEntropyLoss), strict=True
    ):
        for _ in range(3):
            assert_agree(frozen(X, LABELS), right(X, LABELS), how)


# ---- threads -------------------------------------------------------------------------------------


TWO_MODELS = """
import sys, threading
import numpy as np
import ldl
from ldl import nn, optim

x = np.random.default_rng(0).random((512, 128), "float32")

def train(results, seed):
    model = nn.Sequential(nn.Linear(128, 128), nn.Sigmoid(), nn.Linear(128, 128))
    weights = np.random.default_rng(seed)
    for p in model.parameters():
        p.data[...] = 0.1 * weights.standard_normal(p.shape)
    step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model, 1e-3))
    results[seed] = [float(step(x, x)) for _ in range(30)]

alone, together = {}, {}
for seed in (0, 1):
    train(alone, seed)
threads = [threading.Thread(target=train, args=(together, seed)) for seed in (0, 1)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert together == alone, (together, alone)
assert ("ldl_numpy.source" in sys.modules) == (sys.argv[1] != "0")
"""


@pytest.mark.parametrize("jit", ["0", "1"], ids=["plain", "fused"])
def test_two_threads_step_at_once_and_get_what_one_would(jit: str) -> None:
    environment = {**os.environ, "LDL_JIT": jit}
    subprocess.run([sys.executable, "-c", TWO_MODELS, jit], env=environment, check=True)


def test_everything_between_two_products_is_one_loop_and_all_of_it_one_call(
    monkeypatch: Any,
) -> None:
    from ldl_numpy import blas, program

    monkeypatch.setattr(ldl_numpy, "fuser", lambda: program.fuse_and_link)
    played, _ = pair(lambda: nn.AutoEncoder.symmetric(6, [5, 4]), nn.MSELoss)
    played.keep_output = False
    played(X, X)
    (recording,) = played._recordings.values()
    plan = recording._plan
    assert plan.does.count("matmul") == 11
    assert len(plan.does) - 11 <= 7 + 2, "seven loops, and the mean's two numbers"
    assert len(plan.calls) == (1 if blas.available() else len(plan.does))


@pytest.mark.parametrize(("rows", "out"), [(1, 4), (8, 1), (1, 1)])
def test_a_bias_is_added_in_a_loop_whatever_has_length_one(
    rows: int, out: int, monkeypatch: Any
) -> None:
    from ldl_numpy import program

    monkeypatch.setattr(ldl_numpy, "fuser", lambda: program.fuse_and_link)
    model = nn.Sequential(nn.Linear(6, out), nn.Sigmoid())
    model[0].bias.data[...] = 1.5
    predictor = ldl.Predictor(model)
    np.testing.assert_allclose(predictor(X[:rows]), model.predict(X[:rows]), rtol=2e-5)
    (recording,) = predictor._local.recordings.values()
    assert recording._plan.does == ["matmul", "loop"]


def test_random_numbers_are_drawn_in_the_same_call(monkeypatch: Any) -> None:
    from ldl_numpy import blas, program

    monkeypatch.setattr(ldl_numpy, "fuser", lambda: program.fuse_and_link)
    played, own = pair(network, nn.MSELoss)
    target = X[:, :3].copy()
    for _ in range(3):
        played(X, target)
        own(X, target)
    (recording,) = played._recordings.values()
    assert [s.draw for s in recording.streams] == [s.draw for s in streams_of(own.model)] == [3]
    assert len(recording._plan.calls) == 1 or not blas.available()


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_averages_of_gradients_that_stopped_become_zero(optimizer: Any, how: str) -> None:
    """Not subnormal numbers, which never decay and cost a processor a hundred cycles each."""
    p = nn.Parameter(np.zeros(2048, "float32"))
    made = optimizer([p])
    p.accumulate(np.full(2048, 1e-18, "float32"))
    for _ in range(3000):
        made.step()
        p.zero_grad()
        p.accumulate(np.zeros(2048, "float32"))
    for slot in made.state_dict()["slots"].values():
        assert not ((slot != 0) & (np.abs(slot) < np.finfo("float32").tiny)).any()


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.99, 0.999])
def test_averages_however_slow_do_not_hover_where_numbers_are_subnormal(
    beta: float, how: str
) -> None:
    backend, tiny = ldl.get_backend("numpy"), np.finfo("float32").tiny
    settle = backend.prepare("settle", (a := np.zeros(64, "float32"),), ())
    a[...] = np.linspace(-40, 40, 64) * tiny
    for step in range(4000):
        if step > 3000:
            assert not ((a != 0) & (np.abs(a) < tiny)).any(), step
        a *= np.float32(beta)
        if step % optim_optimizer.SETTLE == 0:
            settle()
    large = np.array([1e-29, -3.0, 1e38, np.inf], "float32")
    backend.prepare("settle", (b := large.copy(),), ())()
    np.testing.assert_allclose(b, large, rtol=1e-7)


def test_an_attribute_that_changes_between_steps_is_seen(how: str) -> None:
    played, own = pair(network, nn.CrossEntropyLoss)
    changes: list[Any] = [
        lambda s: None,
        lambda s: setattr(s.model[2], "p", 0.7),
        lambda s: setattr(s.loss, "label_smoothing", 0.2),
        lambda s: setattr(s.model, "layers", s.model.layers[:1] + s.model.layers[2:]),
    ]
    for change in changes:
        for step in (played, own):
            change(step)
        for _ in range(2):
            assert_agree(played(X, LABELS), own(X, LABELS), how)


def test_a_subclass_of_the_backend_keeps_its_own_kernels() -> None:
    class Still(ldl_numpy.NumpyBackend):
        def sgd_step(self, p: Any, g: Any, v: Any, **options: Any) -> None:
            """Moves nothing."""

    with ldl.use_backend(Still()):
        p = nn.Parameter(np.ones(3, "float32"))
        p.accumulate(np.ones(3, "float32"))
        optim.SGD([p], 1.0).step()
    assert (p.data == 1).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m, "note", 1),
        lambda m: setattr(next(m.parameters()), "requires_grad", False),
        lambda m: m.eval(),
        lambda m: delattr(m, "given"),
    ],
    ids=["an attribute", "a parameter", "the mode", "an attribute less"],
)
def test_every_change_of_a_module_or_parameter_changes_the_mark(change: Any) -> None:
    model = network()
    model.given = 0  # type: ignore[assignment]
    before = changes.mark
    model(X)
    for p in model.parameters():
        p.accumulate(np.ones(p.shape, "float32"))
    model.zero_grad()
    assert changes.mark is not before, "the first gradients need memory"
    before = changes.mark
    model.backward(model(X))
    model.zero_grad()
    assert changes.mark is before, "a pass changes nothing"
    change(model)
    assert changes.mark is not before
