"""What a loop does: any shape, views of arrays, reductions over any axes, several passes a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cuda_host
import interpreted
import ldl
from cuda_device import CudaOnHost
from ldl import nn
from ldl_numpy import NumpyBackend, fuser

needs_gcc = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)
SIDE_BY_SIDE = {
    "log_softmax_along_the_first_axis",
    "batch_norm",
    "batch_norm_backward",
    "along_a_middle_axis",
}
"""Whose rows lie side by side, which the host goes through in a loop for each pass."""

draw = np.random.default_rng(0)


@pytest.fixture(
    params=[
        "arrays",
        pytest.param("device", marks=needs_gcc),
        *(["host", "jobs"] if fuser() else []),
    ]
)
def backend(request: Any, monkeypatch: Any) -> Any:
    """A backend that does loops: by NumPy on whole arrays, by kernels, or compiled for the host.

    "jobs" cuts every loop in three.
    """
    if request.param in ("host", "jobs"):
        if request.param == "jobs":
            monkeypatch.setattr("ldl_numpy.source.jobs", lambda size, least: 3)
        with ldl.use_backend("numpy") as found:
            yield found
        return
    if request.param == "arrays":
        interpreted.on_device(monkeypatch)
    with ldl.use_backend(CudaOnHost()) as found:
        yield found


def played(function: Any, backend: Any, *arrays: Any) -> tuple[list[str], list[Any]]:
    """What a plan of a function of xp and arrays does, and what it gives."""

    def made(module: Any, *given: Any) -> tuple[Any, ...]:
        found = function(module.backend.xp, *given)
        return found if isinstance(found, tuple) else (found,)

    given = [backend.asarray(a) for a in arrays]
    with np.errstate(all="ignore"):
        recording = backend.record(made, (nn.Identity(),), given)
    assert recording.played, recording.why
    with backend.together(), np.errstate(all="ignore"):
        results = recording(*given)
    return recording._plan.does, [np.array(backend.to_numpy(r)) for r in results]


def assert_loops(function: Any, backend: Any, *arrays: Any, count: int = 1) -> None:
    """The function is so many loops and nothing else, and gives NumPy's numbers and types."""
    does, found = played(function, backend, *arrays)
    if SIDE_BY_SIDE & {function.__name__} and type(backend) is NumpyBackend:
        assert set(does) == {"loop"}
    else:
        assert does == ["loop"] * count
    with np.errstate(all="ignore"):
        expected = function(np, *arrays)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        near = 1e-5 if theirs.dtype == np.float32 else 1e-12
        largest = np.max(np.abs(theirs), where=np.isfinite(theirs), initial=1)
        np.testing.assert_allclose(mine, theirs, rtol=near, atol=near * largest)


def numbers(*shape: int, dtype: str = "float32") -> Any:
    return draw.standard_normal(shape).astype(dtype)


# ---- views -------------------------------------------------------------------------------------


def transposed(xp: Any, x: Any) -> Any:
    return x.T * 2 + x.T[:1]


def reversed_and_sliced(xp: Any, x: Any) -> Any:
    return x[::-1, 1::2] - x[:, :1]


def broadcast_on_the_middle_axis(xp: Any, x: Any) -> Any:
    y = x.reshape(3, 4, 8)
    return y * y[:, :1] + y[0, 1]


def written_in_part(xp: Any, x: Any) -> Any:
    y = x * 2
    y[1:3, ::2] = xp.tanh(x[:2, 1::2])
    return y


VIEWS = [transposed, reversed_and_sliced, broadcast_on_the_middle_axis]


@pytest.mark.parametrize("function", VIEWS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_views_of_any_strides_are_operands(function: Any, dtype: str, backend: Any) -> None:
    assert_loops(function, backend, (numbers(12, 8) * 9).astype(dtype))


def test_parts_of_an_array_are_written(backend: Any) -> None:
    assert_loops(written_in_part, backend, numbers(6, 8), count=2)


def test_what_a_loop_writes_it_reads_in_the_same_place_only(backend: Any) -> None:
    def shifted(xp: Any, x: Any) -> Any:
        y = x * 2
        y[1:] = y[:-1]
        return y * 1

    does, (found,) = played(shifted, backend, x := numbers(5, 3))
    assert does.count("loop") > 1
    np.testing.assert_allclose(found, shifted(np, x))


def test_the_sign_of_nothing_is_nothing(backend: Any) -> None:
    x = np.array([0.0, -0.0, 2.0, -3.0, np.nan], "float32")
    (found,) = played(lambda xp, x: xp.sign(x), backend, x)[1]
    np.testing.assert_array_equal(found, np.sign(x))
    np.testing.assert_array_equal(np.signbit(found[:2]), [False, False])


# ---- reductions --------------------------------------------------------------------------------

AXES: list[Any] = [0, 1, 2, 3, (0, 1), (0, 2), (1, 3), (0, 2, 3), (0, 1, 2), (1, 2, 3), None]


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_reductions_over_any_axes_are_loops(axes: Any, dtype: str, backend: Any) -> None:
    x = (numbers(3, 5, 4, 33) * 9).astype("int8").astype(dtype)

    def sums(xp: Any, x: Any) -> Any:
        return x.sum(axis=axes), x.max(axis=axes, keepdims=True), x.min(axis=axes)

    def of_a_view(xp: Any, x: Any) -> Any:
        return x.T[::-1].sum(axis=axes, keepdims=True)

    assert_loops(sums, backend, x)
    assert_loops(of_a_view, backend, x)


@pytest.mark.parametrize("shape", [(3, 40), (40, 3), (2, 5000), (5000, 2), (7, 1100), (300, 300)])
def test_rows_and_columns_of_any_length(shape: Any, backend: Any) -> None:
    def both(xp: Any, x: Any) -> Any:
        return x.sum(axis=1), x.max(axis=0)

    assert_loops(both, backend, numbers(*shape))


def test_nan_is_larger_and_smaller_than_any(backend: Any) -> None:
    x = numbers(6, 70)
    x[1, 3], x[2, 0], x[3] = np.nan, -np.inf, np.inf

    def extremes(xp: Any, x: Any) -> Any:
        return x.max(axis=1), x.min(axis=1), x.max(axis=0), x.min(axis=0), x.max()

    does, found = played(extremes, backend, x)
    assert set(does) == {"loop"}
    for mine, theirs in zip(found, extremes(np, x), strict=True):
        np.testing.assert_array_equal(mine, theirs)


# ---- passes ------------------------------------------------------------------------------------


def softmax(xp: Any, x: Any, g: Any) -> Any:
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(xp: Any, y: Any, g: Any) -> Any:
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


def log_softmax_along_the_first_axis(xp: Any, x: Any, g: Any) -> Any:
    below = x - x.max(axis=0)
    return below - xp.log(xp.exp(below).sum(axis=0))


def layer_norm(xp: Any, x: Any, g: Any) -> Any:
    c = x - x.mean(axis=-1, keepdims=True)
    r = 1 / xp.sqrt(xp.square(c).mean(axis=-1, keepdims=True) + 1e-5)
    h = c * r
    return h * g[0] + g[1], h, r


def layer_norm_backward(xp: Any, h: Any, g: Any) -> Any:
    q = g * h[0]
    s, t = q.mean(axis=-1, keepdims=True), (q * h).mean(axis=-1, keepdims=True)
    return q - s - h * t, (g * h).sum(axis=0), g.sum(axis=0)


def batch_norm(xp: Any, x: Any, g: Any) -> Any:
    c = x - x.mean(axis=0)
    r = 1 / xp.sqrt(xp.square(c).mean(axis=0) + 1e-5)
    return c * r * g[0] + g[1], r


def batch_norm_backward(xp: Any, h: Any, g: Any) -> Any:
    db, dw = g.sum(axis=0), (g * h).sum(axis=0)
    n = len(h)
    return h[0] * (g - db / n - h * (dw / n)), dw, db


def of_images(xp: Any, x: Any, g: Any) -> Any:
    x = x.reshape(x.shape[0] // 2, 2, 2, -1)
    c = x - x.mean(axis=(0, 2, 3), keepdims=True)
    return c / xp.sqrt(xp.square(c).mean(axis=(0, 2, 3), keepdims=True) + 1e-5)


def along_a_middle_axis(xp: Any, x: Any, g: Any) -> Any:
    x = x.reshape(2, -1, x.shape[1])
    e = xp.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def a_loss_a_row(xp: Any, x: Any, g: Any) -> Any:
    below = x - x.max(axis=1, keepdims=True)
    logp = below - xp.log(xp.exp(below).sum(axis=1, keepdims=True))
    losses = -(xp.where(g > 0, logp, 0)).sum(axis=1)
    return losses, losses.sum() * 0.1


LAYERS = [softmax, softmax_backward, log_softmax_along_the_first_axis, layer_norm]
LAYERS += [layer_norm_backward, batch_norm, batch_norm_backward, of_images, along_a_middle_axis]


@pytest.mark.parametrize("shape", [(12, 6), (8, 100), (40, 1500)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", LAYERS, ids=lambda f: f.__name__)
def test_a_layer_is_one_loop(function: Any, shape: Any, dtype: str, backend: Any) -> None:
    assert_loops(function, backend, numbers(*shape, dtype=dtype), numbers(*shape, dtype=dtype))


def test_numbers_a_row_are_added_up_in_its_loop(backend: Any) -> None:
    assert_loops(a_loss_a_row, backend, numbers(9, 30), numbers(9, 30), count=2)


def test_what_is_made_of_sums_leaves_their_loop_open(backend: Any) -> None:
    def shares(xp: Any, x: Any, g: Any) -> Any:
        a = (x * g).sum(axis=0) * 0.5
        b = xp.tanh((x + g).sum(axis=0)) - a
        return a, b, (x - g).max(axis=0) + b

    does, _ = played(shares, backend, numbers(9, 30), numbers(9, 30))
    assert len(does) <= 2
    assert_loops(shares, backend, numbers(9, 30), numbers(9, 30), count=len(does))


def test_what_reads_what_is_made_of_sums_is_in_no_loop_before(backend: Any) -> None:
    def centred(xp: Any, x: Any, g: Any) -> Any:
        y = x * g
        a = y.sum(axis=0) * 0.5 + g[0]
        h = g - a
        return y, h, x - xp.tanh(a).sum(), (x + h).sum(axis=0) * a

    does, _ = played(centred, backend, numbers(9, 30), numbers(9, 30))
    assert_loops(centred, backend, numbers(9, 30), numbers(9, 30), count=len(does))


def test_an_array_is_changed_in_place_after_its_old_elements_are_read(backend: Any) -> None:
    def centred(xp: Any, x: Any) -> Any:
        y = x * 2
        y -= y.mean(axis=1, keepdims=True)
        return y, (y * y).sum(axis=1)

    assert_loops(centred, backend, numbers(7, 50))


def test_other_sizes_need_no_other_source() -> None:
    with ldl.use_backend(CudaOnHost()) as host:
        texts = []
        for rows in (7, 12, 40):
            x, g = (host.asarray(numbers(rows, 20)) for _ in "xg")

            def made(module: Any, x: Any, g: Any) -> Any:
                return layer_norm_backward(module.backend.xp, x, g)

            recording: Any = host.record(made, (nn.Identity(),), (x, g))
            texts.append(recording._kernels.texts)
    assert texts[0] == texts[1] == texts[2]
