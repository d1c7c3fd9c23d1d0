"""What is kept for later takes no more than its bound, and what is changed takes nothing more."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ldl
import ldl_numpy
from ldl import caches, nn, optim

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True, params=["jit", "blocks"])
def _how(request: Any, monkeypatch: Any) -> None:
    if request.param == "blocks":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
    else:
        pytest.importorskip("llvmlite")


def growth(act: Callable[[int], None], times: int) -> int:
    """Bytes that are held after `act` was called so often, beside what the first two left."""
    for i in range(2):
        act(i)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for i in range(2, times):
        act(i)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return after - before


CHANGES: dict[str, tuple[Any, Callable[[Any, int], None]]] = {
    "weight_decay": (
        lambda p: optim.Adam(p, 1e-3),
        lambda o, i: o.param_groups[0].update(weight_decay=(1 + i) * 1e-4),
    ),
    "betas": (
        lambda p: optim.AdamW(p, 1e-3),
        lambda o, i: o.param_groups[0].update(betas=[0.9 - i * 1e-3, 0.99], eps=1e-8 * (i + 1)),
    ),
    "momentum": (
        lambda p: optim.SGD(p, 1e-3, momentum=0.5),
        lambda o, i: o.param_groups[0].update(momentum=0.5 + i * 1e-3, lr=1e-3 * (i + 1)),
    ),
    "alpha": (
        lambda p: optim.RMSprop(p, 1e-3),
        lambda o, i: o.param_groups[0].update(alpha=0.9 + i * 1e-4, weight_decay=i * 1e-4),
    ),
    "momentum_decay": (
        lambda p: optim.NAdam(p, 1e-3),
        lambda o, i: o.param_groups[0].update(
            momentum_decay=1e-3 * i, betas=[0.9 - i * 1e-3, 0.99]
        ),
    ),
    "lr_decay": (
        lambda p: optim.Adagrad(p, 1e-3, weight_decay=1e-3),
        lambda o, i: o.param_groups[0].update(lr_decay=1e-3 * i, eps=1e-8 * (i + 1)),
    ),
    "clip_norm": (
        lambda p: optim.Adam(p, 1e-3, clip_norm=1.0),
        lambda o, i: setattr(o, "clip_norm", 1.0 + i),
    ),
}


class Plain(ldl_numpy.NumpyBackend):
    """NumPy's kernels as they are."""


@pytest.mark.parametrize("name", CHANGES)
def test_options_that_change_at_every_step_cost_no_memory_and_give_the_same_bits(
    name: str,
) -> None:
    make, change = CHANGES[name]
    values = rng.normal(size=2**19).astype("float32")
    grads = rng.normal(size=(3, 2**19)).astype("float32")

    def optimizer() -> tuple[Any, Any]:
        parameter = nn.Parameter(values)
        return parameter, make([parameter])

    def step(pair: Any, i: int) -> None:
        parameter, own = pair
        change(own, i)
        parameter.zero_grad()
        parameter.accumulate(grads[i % 3])
        own.step()

    pair = optimizer()
    assert growth(lambda i: step(pair, i), 100) < 2**20
    with ldl.use_backend(Plain()):
        twin = optimizer()
    pair = optimizer()
    for i in range(4):
        step(pair, i)
        step(twin, i)
    np.testing.assert_allclose(pair[0].data, twin[0].data, rtol=1e-5, atol=1e-6)


def test_recordings_of_many_shapes_stay_within_their_bounds(monkeypatch: Any) -> None:
    limit = 4 * 2**20
    monkeypatch.setattr(caches, "STEPS", limit)
    monkeypatch.setattr(caches, "PREDICTIONS", limit)
    model = nn.AutoEncoder.symmetric(64, [32])
    step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model, 1e-3))
    predictor = ldl.Predictor(model)
    x = rng.random((1600, 64)).astype("float32")

    def act(i: int) -> None:
        rows = x[: 1500 + i]
        step(rows, rows)
        np.testing.assert_allclose(predictor(rows), model.predict(rows), rtol=1e-4, atol=1e-6)

    assert growth(act, 30) < 3 * limit
    for cache in (step._recordings, predictor._local.recordings):
        assert len(cache) < 20
        assert cache.bytes <= limit
    act(29)
    (latest,) = step._recordings.values()[-1:]
    monkeypatch.setattr(step._recordings, "limit", 0)
    act(31)
    assert len(step._recordings) == 1, "the one in use stays"
    assert step._recordings.values() != [latest]


def test_recordings_of_arrays_that_were_moved_are_dropped() -> None:
    model = nn.Linear(4, 4)
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    for rows in (1, 2, 3):
        x = np.ones((rows, 4), "float32")
        step(x, x)
    old = weakref.ref(step._recordings.values()[0])
    model.to(dtype="float64")
    step(x.astype("float64"), x.astype("float64"))
    gc.collect()
    assert old() is None
    assert len(step._recordings) == 1


def test_a_threads_recordings_go_with_the_thread() -> None:
    predictor = ldl.Predictor(nn.Linear(4, 4))
    found: list[Any] = []

    def predict() -> None:
        predictor(np.ones((2, 4), "float32"))
        found.append(weakref.ref(predictor._local.recordings.values()[0]))

    thread = threading.Thread(target=predict)
    thread.start()
    thread.join()
    gc.collect()
    assert [ref() for ref in found] == [None]


def test_the_least_recently_used_goes_first() -> None:
    cache = caches.Cache(3 * caches.OBJECTS)
    for key in "abc":
        cache.put(key, key.upper())
    assert cache.get("a") == "A"
    cache.put("d", "D")
    assert [cache.get(key) for key in "abcd"] == ["A", None, "C", "D"]
    cache.limit = 0
    cache.put("e", "E", keep=2)
    assert [cache.get(key) for key in "acde"] == [None, None, "D", "E"]


def test_a_recording_says_what_its_convolutions_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs' shares of a weight's gradient, and images with their padding, too."""
    monkeypatch.setenv("LDL_THREADS", "8")
    threads: Any = pytest.importorskip("ldl_numpy.threads")
    threads.threads.cache_clear()
    try:
        layers = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(4)]
        model, x = nn.Sequential(*layers), np.ones((16, 8, 8, 64), "float32")
        step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model))
        step(x[:2], x[:2])  # compiles
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        step(x, x)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        said = [recording.bytes for recording in step._recordings.values()][-1]
        assert 0.8 * held < said < 1.2 * held
        assert held < 12 * 2**20, "each convolution has shares of its own"
    finally:
        threads.threads.cache_clear()
