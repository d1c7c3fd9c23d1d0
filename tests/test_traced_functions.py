"""What tracing makes of NumPy's functions that fill, arrange, take and put: the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from cuda_device import CudaOnHost
from ldl import nn
from played import WAYS, compared, gathered, needs_a_compiler, plan_of

X = np.random.default_rng(0).random((6, 4)).astype("float32")


def made_and_filled(xp: Any, m: Any, x: Any) -> Any:
    y = xp.zeros((6, 4), dtype="float32")
    y += x
    return (
        y * 1,
        xp.ones(4) * x,
        xp.full((2, 4), 0.25, dtype="float32") + x[:2],
        xp.full((6,), 3) + 1,
        xp.full(4, [1.0, 2.0, 3.0, 4.0]) * x,
        xp.ones((6, 4), dtype="int64") * 2,
        xp.zeros(0) + 1,
        xp.full((), 2.0) * x,
        xp.full_like(x, xp.max(x)) - x,
        xp.full_like(x, True, dtype=bool),
    )


def truths(xp: Any, m: Any, x: Any) -> Any:
    y = x > 0.1
    z = xp.ones(x.shape, dtype=bool)
    z[1:3] = False
    return (
        xp.where(y, True, z),
        xp.where(z, y, False) * x,
        xp.maximum(y, True),
        y == False,  # noqa: E712
        (y & z) * x,
        (y | (x < -0.1)) * x,
        ~y * x,
        (y ^ z) * 2,
        xp.logical_not(x) * 1.0,
        xp.logical_and(x, y) * 1.0,
        xp.where(y, True, False),
        xp.where(y, False, True) * x,
    )


def never_wholly_written(xp: Any, m: Any, x: Any) -> Any:
    y = xp.zeros((7, 5), dtype="float32")
    y[:6, :4] = x
    return y * 2


def wholly_written_in_pieces(xp: Any, m: Any, x: Any) -> Any:
    y = xp.empty((7, 9), dtype="float32")
    y[:, 4:] = 2
    y[1:, :4] = x * 3
    y[0, :4] = x[0]
    return y * 2, y[::2]


def read_before_it_is_wholly_written(xp: Any, m: Any, x: Any) -> Any:
    y = xp.zeros((6, 4), dtype="float32")
    y[:3] = x[:3]
    total = y.sum(axis=0)
    y[3:] = x[3:] * 2
    return y * total


def filled_twice(xp: Any, m: Any, x: Any) -> Any:
    y = xp.zeros((6, 4), dtype="float32")
    y[...] = 1
    y[2:4] = x[2:4]
    return y * 2


def constants_of_ones_own(xp: Any, m: Any, x: Any) -> Any:
    ramp = xp.arange(4, dtype="float32")
    changed = xp.linspace(0, 1, 4, dtype="float32")
    changed[1:] *= 2
    return x * ramp + xp.eye(6, 4, dtype="float32"), x * changed, ramp


def joins(xp: Any, m: Any, x: Any) -> Any:
    y = x * 2
    return (
        xp.concatenate([x, xp.tanh(y)], axis=1) + 1,
        xp.concatenate((y, x[:, ::-1], m.pair.data)),
        xp.concatenate([x, (x * 10).astype("int64")], axis=-1),
        xp.concatenate([x, x], axis=0, dtype="float64"),
        xp.concatenate([x[:0], x]),
        xp.stack([y[:, 1:], x[:, :3], x[:, 1:]], axis=1),
        xp.vstack([x, x[0]]),
        xp.hstack([x, y]),
        xp.hstack([x[0], y[1]]),
        xp.column_stack([x, y[:, 0]]),
        xp.concatenate([x, x], axis=None),
    )


def windows(xp: Any, m: Any, x: Any) -> Any:
    y = x.reshape(1, 6, 4, 1)
    parts = [y[:, i : i + 4, j : j + 2] for i in range(3) for j in range(3)]
    return xp.stack(parts, axis=3).reshape(8, 9) * 2


def pads(xp: Any, m: Any, x: Any) -> Any:
    return (
        xp.pad(x, 1) * 2,
        xp.pad(xp.exp(x), ((0, 2), (1, 0)), constant_values=0.5),
        xp.pad(x > 0, ((1, 1), (0, 0)), constant_values=True),
        xp.pad(x, ((1, 2), (2, 1)), mode="edge"),
        xp.pad(x, 1, constant_values=((1, 2), (3, 4))),
        xp.pad(x[0], (0, 3)),
    )


def turned_round(xp: Any, m: Any, x: Any) -> Any:
    y = x * 2
    flipped = xp.flip(y, axis=0)
    flipped[0] = 7
    return (
        y + 1,
        xp.flip(x) * 2,
        xp.flip(x, (0, -1)) + xp.fliplr(xp.flipud(x)),
        xp.roll(x, 2, axis=0) * x,
        xp.roll(xp.tanh(x), -5),
        xp.roll(x, (1, -1, 3), axis=(0, 1, 0)),
        xp.roll(x.T, 0, axis=1),
        xp.roll(x, 14, axis=-2),
    )


def pieces(xp: Any, m: Any, x: Any) -> Any:
    a, b, c = xp.split(x, 3)
    d, e = xp.hsplit(x, [1])
    f = xp.array_split(x * 2, 4)
    g = xp.split(xp.exp(x), [1, 9], axis=1)
    left, right = xp.split(x[0], 2)
    return a * b + c, d * e, f[0], f[3] + 1, g[0] * g[1], left - right, xp.vsplit(x, 2)[1] * 2


def tiles(xp: Any, m: Any, x: Any) -> Any:
    return (
        xp.tile(x, 2) + 1,
        xp.tile(x * 2, (2, 1, 3)),
        xp.tile(x[0], (3, 1)) * x[:3],
        xp.repeat(x, 3, axis=1).reshape(-1) * 2,
        x.repeat(2),
        xp.repeat(xp.exp(x), 2, axis=0),
        xp.tile(x.T, 1),
        xp.repeat(x, np.array([1, 0, 2, 1, 0, 1]), axis=0),
    )


def broadcasts(xp: Any, m: Any, x: Any) -> Any:
    y = xp.broadcast_to(x[0], (5, 4))
    a, b = xp.broadcast_arrays(x[:, :1], x[:1])
    return (
        y * 2,
        xp.broadcast_to(x.sum(axis=1, keepdims=True), x.shape) * x,
        a * b,
        y.T.reshape(-1),
        y.sum(axis=0),
        xp.broadcast_to(x, (2, 6, 4))[1].T @ x,
    )


def places_of_extremes(xp: Any, m: Any, x: Any) -> Any:
    at = x.argmax(axis=1)
    chosen = xp.take_along_axis(x, at[:, None], axis=1)
    return at, chosen, xp.argmin(x, axis=0), x.argmax(), (x[:, 0] == at) * 2


def spreads(xp: Any, m: Any, x: Any) -> Any:
    y = x.reshape(2, 3, 4)
    return (
        y.var(axis=(0, 2)),
        xp.std(y, axis=1, keepdims=True),
        x.std(),
        xp.var(x, axis=0, ddof=1),
        xp.mean(y, axis=(0, 2), keepdims=True),
        (x * 100).astype("float16").var(axis=1),
        (x * 10).astype("int64").std(axis=0),
        x.var(axis=0, dtype="float16").astype("float32").round(2),
        x.astype("float64").std(axis=1, dtype="float32"),
        xp.mean(x, axis=0, dtype="float64"),
        x[:0].mean(axis=1),
        (x - x.mean(axis=-1, keepdims=True)) / xp.sqrt(x.var(axis=-1, keepdims=True) + 1e-5),
    )


def sums_of_products(xp: Any, m: Any, x: Any) -> Any:
    w = m.w.data
    return (
        xp.einsum("ij,kj->ik", x, w),
        xp.tensordot(x, w, axes=([0], [0])),
        xp.inner(x, w),
        xp.outer(x[0], w[:, 1]),
        xp.vdot(x, w),
        xp.dot(x.T, w),
        xp.linalg.norm(x),
        xp.linalg.norm(x, axis=1, keepdims=True),
        xp.linalg.diagonal(x.reshape(2, 3, 4)) * 2,
        xp.cumsum(x, axis=0)[::-1],
        x.prod(axis=1),
    )


def written_in_parts(xp: Any, m: Any, x: Any) -> Any:
    y = xp.exp(x)
    y[1:3] += x[:2]
    y[:, ::2] *= 0.5
    y[4, 1] += 3
    y[-1] -= y[0]
    xp.multiply(x[2:4], 2, out=y[2:4])
    xp.add(y.T[1], 1, out=y.T[2])
    y.T[3][1:] /= 2
    return y * 1


def taken_by_arrays(xp: Any, m: Any, x: Any) -> Any:
    at = (x[:, 0] * 3).astype("int64")
    order = xp.argsort(x, axis=0)
    return (
        xp.take(x, at, axis=0) * 2,
        x[at],
        x.take(at.reshape(2, 3), axis=1),
        xp.take(x, [3, -1]),
        x[at, at],
        x[1:, at[:2]],
        x[at[:, None], at[None, :4] % 4],
        xp.take_along_axis(x, order, axis=0),
        xp.take(m.w.data, order[0], axis=0),
        x[order[0], ..., None],
        x[at[0]] + xp.take(x, 2, axis=1)[:4],
    )


def put_at_arrays(xp: Any, m: Any, x: Any) -> Any:
    y = x * 2
    at = (x[:, 0] * 3).astype("int64")
    y[at] = x[0]
    y[:, at[:2]] += 1
    y[at, at] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    y[y > 0.5] = 0.25
    y[x[:, 0] < 0] = x[0, 1]
    xp.put_along_axis(y, x.argmax(axis=1)[:, None], 5.0, axis=1)
    y[[1, 2]] = y[2:4]
    return y * 1


def added_one_after_the_other(xp: Any, m: Any, x: Any) -> Any:
    at = xp.abs(x[:, 0] * 3).astype("int64")
    y, z, n = xp.zeros((4, 4), dtype="float32"), xp.ones_like(x), xp.zeros(6, dtype="int64")
    xp.add.at(y, at, x)
    xp.add.at(z, (at, at[::-1] % 4), x[:, 1])
    xp.add.at(n, at, 1)
    xp.subtract.at(z, (slice(1, None), 0), z[:-1, 1])
    return y * 2, z * 1, n


def copied_into(xp: Any, m: Any, x: Any) -> Any:
    y = xp.empty_like(x)
    xp.copyto(y, x[0])
    xp.copyto(y, 2, where=x > 0)
    y[2:4].fill(7)
    return y * 1, x.flatten() * 2


def transposed_parts(xp: Any, m: Any, x: Any) -> Any:
    heads = x.reshape(3, 2, 2, 2).transpose(2, 0, 1, 3)
    scores = heads @ heads.swapaxes(-1, -2)
    return (
        (scores @ heads).transpose(1, 2, 0, 3).reshape(6, 4) * 2,
        x[2, 1] * x,
        heads[1].reshape(-1),
    )


PLAYED = [f for f in list(globals().values()) if getattr(f, "__code__", None)]
PLAYED = [f for f in PLAYED if f.__code__.co_varnames[:3] == ("xp", "m", "x")]


@needs_a_compiler
@pytest.mark.parametrize("function", PLAYED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_played(function: Any, way: str, monkeypatch: Any) -> None:
    with gathered(way, monkeypatch) as backend:
        assert compared(function, backend)


# ---- what a plan does ----------------------------------------------------------------------------


def test_a_fill_is_a_number_in_the_loop_that_reads_it() -> None:
    def function(xp: Any, x: Any) -> Any:
        y = xp.zeros(x.shape, dtype="float32")
        y += x
        return y * xp.full((6, 4), 0.5, dtype="float32") + xp.ones_like(x)

    assert plan_of(function, X).does == ["loop"]


def test_a_constant_is_read_where_it_lies() -> None:
    assert plan_of(lambda xp, x: x * xp.arange(4, dtype="float32"), X).does == ["loop"]


def test_what_is_wholly_written_afterwards_is_not_filled_before() -> None:
    def pieces(xp: Any, x: Any, width: int) -> Any:
        y = xp.empty((6, width), dtype="float32")
        y[:, :4] = xp.cumsum(x, axis=0)
        y[:, 4:8] = xp.cumsum(x, axis=1)
        return y

    filled = len(plan_of(lambda xp, x: pieces(xp, x, 9), X).does)
    assert len(plan_of(lambda xp, x: pieces(xp, x, 8), X).does) == filled - 1


def test_a_part_that_is_changed_in_place_is_written_once() -> None:
    def function(xp: Any, x: Any) -> Any:
        y = xp.cumsum(x, axis=0)
        y[1:3] += xp.cumsum(x[:2], axis=1)
        return y

    assert len(plan_of(function, X).does) == 3


def test_a_copy_of_a_reshape_that_cannot_be_a_view_is_a_loop_or_one_copy() -> None:
    (done,) = plan_of(lambda xp, x: x.T.reshape(-1), X).does
    assert done in ("positive", "loop")


def test_rows_are_gathered_by_the_device_s_own_kernel() -> None:
    def function(xp: Any, x: Any, at: Any) -> Any:
        return xp.take(x, at, axis=0), x[at], xp.take(x, at.reshape(2, 2), axis=0)

    with ldl.use_backend(CudaOnHost()) as backend:
        given = backend.asarray(X), backend.asarray(np.array([3, -1, 0, 3]))
        plan = plan_of(function, *given)
        backend.connection.log.clear()
        plan()
        assert backend.connection.log == ["gather_rows_16"] * 3
        for mine, right in zip(plan.results, function(np, X, np.asarray(given[1])), strict=True):
            np.testing.assert_array_equal(mine, right)


@pytest.mark.parametrize("way", ["take", "index", "put", "add.at"])
def test_a_place_that_there_is_not_is_said_when_it_is_named(way: str) -> None:
    def function(module: Any, x: Any, at: Any) -> Any:
        xp = module.backend.xp
        y = x * 1
        if way == "put":
            y[at] = 0
        elif way == "add.at":
            xp.add.at(y, at, 1)
        return (xp.take(y, at, axis=0) if way == "take" else y[at] + 1,)

    module = nn.Identity()
    recording = ldl.get_backend().record(function, (module,), (X, np.array([0, 5, -6])))
    assert recording.played
    with pytest.raises(IndexError, match="index 6 is out of bounds"):
        recording(X, np.array([0, 6, 1]))
    at = np.array([5, 1, 1])
    np.testing.assert_array_equal(recording(X, at)[0], function(module, X, at)[0])
