"""Whatever is interrupted, wherever, is as it was or as it would have become."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from cuda_device import CudaOnHost
from interrupts import at_every_line, interrupt, lines
from ldl import data, nn, optim, random
from ldl.backend import _scoped
from ldl.train.undo import streams_of
from ldl_numpy import blocks

ROWS = list(np.random.default_rng(3).random((40, 8, 6)).astype("float32"))


@pytest.fixture(params=["jit", "blocks"])
def how(request: Any, monkeypatch: Any) -> str:
    """Compiled, and without the compiler in blocks of a few elements."""
    if request.param == "blocks":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
        monkeypatch.setattr(blocks, "BLOCK", 7)
        monkeypatch.setattr(blocks, "LEAST", 2)
    else:
        pytest.importorskip("llvmlite")
    return str(request.param)


def network() -> nn.Sequential:
    ldl.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 5), nn.Sigmoid(), nn.Dropout(0.3), nn.Linear(5, 6))


@pytest.mark.parametrize("small", [0, 2**14], ids=["where they lie", "copied"])
def test_a_prediction_that_was_interrupted_answers_for_no_other_input(
    small: int, how: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ldl.compiler.plan.SMALL", small)
    model = network()
    predictor = ldl.Predictor(model)
    expected = [predictor(x) for x in ROWS[:3]]
    np.testing.assert_array_equal(predictor(ROWS[0]), expected[0])

    def check(_: Any, where: str) -> None:
        for i in (1, 0, 2):
            np.testing.assert_array_equal(predictor(ROWS[i]), expected[i], err_msg=where)
        predictor(ROWS[0])

    assert at_every_line(lambda: None, lambda _: predictor(ROWS[1]), check) > 5
    for first in (0, 2):  # the next call may be about the array before or about another
        line = 0
        while where := interrupt(lambda: predictor(ROWS[1]), line):
            np.testing.assert_array_equal(predictor(ROWS[first]), expected[first], err_msg=where)
            line += 1
            predictor(ROWS[0])


class Centred(nn.Module):
    """x - m, m being a running mean that is written in place."""

    def __init__(self, features: int) -> None:
        self.mean = nn.Parameter(nn.init.zeros((features,)), requires_grad=False)

    def forward(self, x: Any) -> Any:
        if self.training:
            self.mean.data[...] = 0.9 * self.mean.data + 0.1 * x.mean(axis=0)
        return x - self.mean.data

    def backward(self, grad: Any) -> Any:
        return grad.copy()


def centred() -> nn.Sequential:
    ldl.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 5), Centred(5), nn.Dropout(0.3), nn.Linear(5, 6))


OPTIMIZERS: dict[str, Any] = {
    "adam": lambda model: optim.Adam(model, 0.01, clip_norm=1.0),
    "groups": lambda model: optim.SGD(
        [{"params": list(model.parameters())[:2]}, {"params": list(model.parameters())[2:]}],
        0.1,
        momentum=0.9,
        weight_decay=0.01,
    ),
}


def state(step: ldl.TrainStep) -> list[Any]:
    """All that a step changes."""
    optimizer = step.optimizer.state_dict()
    streams = [s.draw for s in streams_of(step.model)]
    if step._corruption.stream is not None:
        streams.append(step._corruption.stream.draw)
    counts = [optimizer["step_count"], optimizer["param_steps"], streams]
    arrays = [*step.model.state_dict().values(), *optimizer["slots"].values()]
    return [counts, *[step.model.backend.to_numpy(a).tobytes() for a in arrays]]


def stepping(build: Any, optimizer: Any, **options: Any) -> ldl.TrainStep:
    model = build()
    step = ldl.TrainStep(model, nn.MSELoss(), optimizer(model), **options)
    for x, y in pairwise(ROWS[:4]):
        step(x, y)
        step(x, x)
    return step


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"noise": data.GaussianNoise(0.1)},
        {"noise": data.GaussianNoise(0.1), "record": False, "keep_output": True},
    ],
    ids=["plain", "noisy", "layer by layer"],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
@pytest.mark.parametrize("build", [network, centred])
def test_a_step_that_was_interrupted_is_done_or_not(
    build: Any, optimizer: Any, options: dict[str, Any], how: str
) -> None:
    def made() -> ldl.TrainStep:
        stream = {"stream": random.Stream(3, random.NOISE)} if "noise" in options else {}
        return stepping(build, optimizer, **options, **stream)

    step, twin = made(), made()
    line = 0
    while True:
        before = state(step)
        where = interrupt(lambda: step(ROWS[5], ROWS[6]), line)
        line += 1 if options.get("record", True) else 11
        if state(step) == before:
            assert where is not None
            continue
        twin(ROWS[5], ROWS[6])
        assert state(step) == state(twin), where
        if where is None:
            break
    assert line > 30
    assert twin.optimizer.step_count > 4
    for x in ROWS[10:13]:
        np.testing.assert_array_equal(step(x, x), twin(x, x))
    assert state(step) == state(twin)


def test_steps_on_rows_that_were_interrupted_are_each_done_or_not(how: str) -> None:
    x = np.concatenate(ROWS)
    order, starts = np.arange(len(x)), [0, 8, 16]
    step, twin = (stepping(network, OPTIMIZERS["adam"]) for _ in range(2))
    for one in (step, twin):
        one.run(x, x, order, 8, starts)
    line = 0
    where: str | None = ""
    while where is not None:
        begun = step.optimizer.step_count
        where = interrupt(lambda: step.run(x, x, order, 8, starts), line)
        line += 2
        for start in starts[: step.optimizer.step_count - begun]:
            twin.run(x, x, order, 8, [start])
        assert state(step) == state(twin), where
    np.testing.assert_array_equal(
        step.run(x, x, order, 8, starts), twin.run(x, x, order, 8, starts)
    )


def test_a_first_step_that_was_interrupted_is_done_or_not(how: str) -> None:
    line = 0
    where: str | None = ""
    while where is not None:
        step, twin = (
            ldl.TrainStep(m := network(), nn.MSELoss(), optim.Adam(m, 0.01)) for _ in range(2)
        )
        where = interrupt(partial(step, ROWS[0], ROWS[0]), line)
        line += 797
        if step.optimizer.step_count:
            twin(ROWS[0], ROWS[0])
        for x in ROWS[:3]:
            step(x, x), twin(x, x)
        assert state(step) == state(twin), where
    assert line > 2000


# ---- modes, weights, moves, states ---------------------------------------------------------------


def facts(model: nn.Module) -> list[Any]:
    """Modes, backends, types and weights."""
    parts = [(m.training, m.backend.name) for m in model.modules()]
    return [parts, *[(str(p.dtype), p.data.tobytes()) for p in model.parameters()]]


MOVES: dict[str, Any] = {
    "eval": lambda model: model.eval(),
    "to": lambda model: model.to(dtype="float64"),
    "load_state_dict": lambda model: model.load_state_dict(
        {name: a + 1 for name, a in model.state_dict().items()}
    ),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=list(MOVES))
def test_a_model_that_is_changed_is_as_before_or_as_it_becomes(move: Any) -> None:
    before, after = facts(network()), facts(move_of(move))

    def check(model: nn.Module, where: str) -> None:
        assert facts(model) in (before, after), where

    assert at_every_line(network, move, check) > 3


def move_of(move: Any) -> nn.Module:
    move(model := network())
    return model


def test_a_change_that_was_interrupted_is_seen_by_what_was_recorded() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.LeakyReLU(0.5))
    predictor = ldl.Predictor(model)
    for slope in (0.1, 0.2):
        for line in range(20):
            predictor(ROWS[0])
            interrupt(partial(setattr, model[1], "negative_slope", slope * line), line)
            np.testing.assert_allclose(predictor(ROWS[0]), model.predict(ROWS[0]), rtol=1e-5)


def test_parameters_that_are_packed_are_all_bound_or_none(how: str) -> None:
    def made() -> Any:
        model = network()
        optimizer = optim.Adam(model, 0.01)
        model.to(dtype="float64")
        return model, optimizer

    def check(pair: Any, where: str) -> None:
        model, optimizer = pair
        twin, other = made()
        for m, o in ((model, optimizer), (twin, other)):
            step = ldl.TrainStep(m, nn.MSELoss(), o)
            for x in ROWS[:2]:
                step(x.astype("float64"), x.astype("float64"))
        assert facts(model) == facts(twin), where

    assert at_every_line(made, lambda pair: pair[1].pack(), check) > 10


def test_an_optimizers_state_is_taken_over_whole_or_not_at_all() -> None:
    taken = stepping(network, OPTIMIZERS["adam"]).optimizer.state_dict()
    fresh = optim.Adam(network(), 0.5).state_dict()

    def text(state: dict[str, Any]) -> str:
        return repr(state)

    def check(optimizer: optim.Optimizer, where: str) -> None:
        assert text(optimizer.state_dict()) in (text(fresh), text(taken)), where

    count = at_every_line(
        lambda: optim.Adam(network(), 0.5), lambda o: o.load_state_dict(taken), check
    )
    assert count > 50


def test_a_prediction_that_was_interrupted_leaves_no_mode_behind() -> None:
    def check(model: nn.Module, where: str) -> None:
        assert [m.training for m in model.modules()] == [True] * 5, where
        y = model(ROWS[0])
        model.backward(np.ones_like(y))

    assert at_every_line(network, lambda model: model.predict(ROWS[0]), check) > 20
    assert at_every_line(network, lambda model: model(ROWS[0]), check) > 20


# ---- files and whole fits ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_save_that_was_interrupted_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    models = [nn.Linear(3, 2), nn.Linear(3, 2)]
    contents = []
    for model in models:
        ldl.save(model, tmp_path / "model.ldl")
        contents.append((tmp_path / "model.ldl").read_bytes())

    def check(_: Any, where: str) -> None:
        assert (tmp_path / "model.ldl").read_bytes() in contents, where
        assert [p.name for p in tmp_path.iterdir()] == ["model.ldl"], where
        assert nothing_is_left(), where
        ldl.save(models[0], tmp_path / "model.ldl")

    save = partial(ldl.save, models[1], tmp_path / "model.ldl")
    assert at_every_line(lambda: None, lambda _: save(), check, every=11) > 20


def nothing_is_left() -> bool:
    """Whether what is built now is built as ever."""
    return nn.init._budget.get() is None and not random._uncounted.get() and not _scoped.get()


def test_a_load_that_was_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    ldl.save(nn.Linear(3, 2), tmp_path / "model.ldl")
    load = partial(ldl.load, tmp_path / "model.ldl")

    def check(_: Any, where: str) -> None:
        assert nothing_is_left(), where

    assert at_every_line(lambda: None, lambda _: load(), check, every=2) > 50


def fitting(path: Path | None, epochs: int = 3, resume: bool = False, model: Any = None) -> Any:
    """A fit with dropout, noise, momentum and validation."""
    model = network() if model is None else model
    history = ldl.fit(
        model,
        data.Arrays(np.concatenate(ROWS[:3]), noise=data.MaskingNoise(0.2)),
        nn.MSELoss(),
        optim.SGD(model, 0.1, momentum=0.9),
        epochs,
        batch_size=10,
        validation=ROWS[5],
        checkpoint=path,
        resume=resume,
        progress=False,
    )
    return facts(model), [row["loss"] for row in history.rows]


def some_lines(act: Any) -> list[int]:
    """Of all lines of it a few everywhere, and more of the last, which are of played steps."""
    count = lines(act)
    return [*range(1500, count, count // 10), *range(count - 1500, count, 167)]


def test_a_fit_that_was_interrupted_leaves_a_model_to_use_and_a_checkpoint_to_resume(
    tmp_path: Path, how: str
) -> None:
    expected = fitting(None)
    path, resumed = tmp_path / "run.ldl", 0
    for line in some_lines(lambda: fitting(path)):
        path.unlink(missing_ok=True)
        model = network()
        where = interrupt(partial(fitting, path, 3, model=model), line)
        began = path.exists()
        resumed += began
        if began:
            assert not any(m.training for m in model.modules()), where
            model.predict(ROWS[0])
        assert [p.name for p in tmp_path.iterdir()] == ["run.ldl"] * began, where
        assert fitting(path, 3, resume=True) == expected, where
    assert resumed > 5


def test_a_fit_that_is_interrupted_as_it_ends_leaves_a_model_in_eval_mode(monkeypatch: Any) -> None:
    model, eval_mode, left = network(), nn.Module.eval, [1]

    def interrupted(self: nn.Module) -> nn.Module:
        if left and self is model:
            left.clear()
            raise KeyboardInterrupt
        return eval_mode(self)

    def last(run: ldl.Run) -> None:
        monkeypatch.setattr(nn.Module, "eval", interrupted)

    x = np.concatenate(ROWS[:3])
    with pytest.raises(KeyboardInterrupt):
        ldl.fit(model, (x, x), nn.MSELoss(), optim.SGD(model, 0.1), 1, callbacks=[last])
    assert not left
    assert not any(module.training for module in model.modules())


def test_a_resume_that_was_interrupted_can_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "run.ldl"
    expected = fitting(None, 3)
    fitting(path, 2)
    kept = path.read_bytes()
    for line in some_lines(lambda: fitting(path, 3, resume=True)):
        path.write_bytes(kept)
        where = interrupt(lambda: fitting(path, 3, resume=True), line)
        assert fitting(path, 3, resume=True) == expected, where


# ---- a device ------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True], ids=["one step", "three steps"])
def test_steps_of_one_launch_that_were_interrupted_are_all_done_or_none(together: bool) -> None:
    with ldl.use_backend(CudaOnHost()) as backend:

        def made() -> ldl.TrainStep:
            model = network()
            return ldl.TrainStep(model, nn.MSELoss(), OPTIMIZERS["adam"](model))

        x, y = (backend.asarray(np.concatenate(ROWS[i : i + 3])) for i in (0, 3))
        order = backend.asarray(np.arange(24))

        def act(step: ldl.TrainStep) -> None:
            if together:
                step.run(x, y, order, 8, [0, 8, 16])
            else:
                step(x, y)

        step, twin = made(), made()
        for _ in range(4):
            act(step)
            act(twin)
        line = 0
        where: str | None = ""
        while where is not None:
            before = state(step)
            where = interrupt(partial(act, step), line)
            line += 3 if together else 1
            if state(step) != before:
                act(twin)
            assert state(step) == state(twin), where
        assert line > 100
