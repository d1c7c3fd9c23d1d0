"""Steps on two streams in turn, whose work is done in any order that they allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cuda_host
import ldl
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl_cupy.capture import Graph
from test_cuda_steps import LABELS, X, pair, sgd
from test_train_step import network

pytestmark = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)

WIDE = np.random.default_rng(3).random((40, 6)).astype("float32")


@pytest.fixture
def host() -> Any:
    """A device on the host whose streams do nothing until they are waited for."""
    backend = CudaOnHost()
    backend.connection.lazy = True
    with ldl.use_backend(backend):
        yield backend


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))


def same_parameters(played: Any, own: Any) -> None:
    for p, q in zip(played.model.parameters(), own.model.parameters(), strict=True):
        np.testing.assert_allclose(np.asarray(p.data), q.data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [sgd, lambda m: optim.Adam(m, 0.01, clip_norm=0.1)])
@pytest.mark.parametrize("seed", range(2))
def test_steps_on_two_streams_in_turn_are_those_of_one(host: Any, make: Any, seed: int) -> None:
    played, own = pair(network, nn.CrossEntropyLoss, make, host)
    stream = host.connection
    for i in range(6):
        stream.current = ("default", "other")[i % 2]
        x, t = X[i:], LABELS[i:]
        x, t = np.resize(x, X.shape), np.resize(t, LABELS.shape)
        played.optimizer.param_groups[0]["lr"] = own.optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
        played(host.asarray(x), host.asarray(t))
        own(x, t)
    stream.finish(seed)
    same_parameters(played, own)


@pytest.mark.parametrize("seed", range(3))
def test_rows_gathered_on_two_streams_in_turn_are_those_of_one(host: Any, seed: int) -> None:
    played, own = pair(lambda: nn.Linear(6, 6), nn.MSELoss, sgd, host)
    order = np.random.default_rng(seed).permutation(40)
    x, there = host.asarray(WIDE), host.asarray(order)
    for i in range(6):
        host.connection.current = ("default", "other")[i % 2]
        played.run(x, x, there, 4, range(i, 40 - 4, 4))
        own.run(WIDE, WIDE, order, 4, range(i, 40 - 4, 4))
    host.connection.finish(seed)
    same_parameters(played, own)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_predictions_on_two_streams_in_turn_are_of_their_own_inputs(
    host: Any, seed: int, together: bool
) -> None:
    model = layers()
    recording = host.record(lambda model, x: (model(x),), (model,), (host.asarray(X),))
    found = []
    for i in range(7):
        host.connection.current = ("default", "other", "third")[i % 3]
        x = host.asarray(X * (i + 1))
        if together:
            with host.together():
                (y,) = recording(x)
        else:
            (y,) = recording(x)
        found.append(host.xp.empty(y.shape, y.dtype))
        found[-1][...] = y
    host.connection.finish(seed)
    with ldl.use_backend("numpy"):
        right = layers()
        for p, q in zip(right.parameters(), model.parameters(), strict=True):
            p.data[...] = np.asarray(q.data)
        for i, y in enumerate(found):
            np.testing.assert_allclose(
                np.asarray(y), right.predict(X * (i + 1)), rtol=1e-4, atol=1e-5
            )
    assert any(isinstance(x, Graph) for x in recording.known.values()) is together


@pytest.mark.parametrize("seed", range(3))
def test_what_is_recorded_on_one_stream_is_played_on_another(host: Any, seed: int) -> None:
    scales = np.arange(1.0, 7.0, dtype="float32")
    host.connection.current = "other"
    recording = host.record(lambda model, x: (x * scales,), (nn.Identity(),), (host.asarray(X),))
    host.connection.current = "default"
    with host.together():
        (y,) = recording(host.asarray(X))
    host.connection.finish(seed)
    np.testing.assert_allclose(np.asarray(y), X * scales, rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_parameters_are_packed_anew_after_what_another_stream_did_to_them(
    host: Any, seed: int
) -> None:
    played, own = pair(layers, nn.MSELoss, optim.Adam, host)
    for i in range(6):
        host.connection.current = ("default", "other")[i % 2]
        for step in (played, own):
            parameter = next(step.model.parameters())
            backend = step.model.backend
            parameter.data = backend.asarray(np.full((6, 4), 0.1 * (i + 1), "float32"))
        played(host.asarray(X), host.asarray(X[:, :3]))
        own(X, X[:, :3])
    host.connection.finish(seed)
    same_parameters(played, own)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_that_changes_inside_a_block_changes_nothing(host: Any, seed: int) -> None:
    model = layers()
    recording = host.record(lambda model, x: (model(x),), (model,), (host.asarray(X),))
    found = []
    for i in range(6):
        with host.together():
            host.connection.current = ("default", "other", "third")[i % 3]
            (y,) = recording(host.asarray(X * (i + 1)))
            host.connection.current = ("default", "other")[i % 2]
        found.append(host.xp.empty(y.shape, y.dtype))
        found[-1][...] = y
    host.connection.finish(seed)
    for i, y in enumerate(found):
        exact = model.predict(host.asarray(X * (i + 1)))
        host.connection.finish(seed)
        np.testing.assert_allclose(np.asarray(y), np.asarray(exact), rtol=1e-4, atol=1e-5)
