"""At the ends of the numbers: the finite answer, the limit at infinity, NaN where there is none.

JAX in float64 judges every type.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cuda_host
import ldl
import ldl_numpy
from cuda_device import CudaOnHost
from ldl import nn, optim
from references import bce_with_logits, huber

TYPES = {"float16": 2e-3, "float32": 4e-6, "float64": 1e-13}
MAGNITUDES = [2e-38, 1e-20, 1e-3, 0.5, 1, 3, 5.5, 10, 17, 25, 40, 88.8, 104, 700, 1e4, 3e38]
LINEAR = 1e4
"""From here on every function of one number is a straight line, which may be level."""

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def extremes(dtype: str) -> Any:
    """Both signs of all magnitudes, the type's own ends, infinities and NaN."""
    ends = [0.0, float(np.finfo(dtype).tiny), float(np.finfo(dtype).max), np.inf]
    both = np.array([*MAGNITUDES, *ends])
    return np.array([*both, *-both, np.nan]).astype(dtype)


def with_slope(function: Any, x: Any, g: Any = None) -> tuple[Any, Any]:
    """Value and gradient in float64, that of the sum unless g is given."""
    y, pullback = jax.vjp(function, jnp.asarray(x, "float64"))
    (slope,) = pullback(jnp.ones_like(y) if g is None else jnp.asarray(g, "float64"))
    return np.asarray(y), np.asarray(slope)


def judged(function: Any, x: Any) -> tuple[Any, Any]:
    """Value and derivative in float64, continued as a straight line where x is far out."""
    near = np.clip(x.astype("float64"), -LINEAR, LINEAR)
    value, slope = with_slope(function, near)
    steep = (np.abs(x) > LINEAR) & (np.abs(value) > 10)
    return np.where(steep, value * (np.abs(x.astype("float64")) / LINEAR), value), slope


def assert_judged(found: Any, expected: Any, dtype: str, name: str = "") -> None:
    """Equal to rounding of the type, beside 1; infinite and NaN in the same places."""
    rtol = TYPES[dtype]
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected.astype(dtype), rtol=rtol, atol=rtol, err_msg=name)


def mish(x: Any) -> Any:
    """x tanh(softplus x), as a quotient that neither overflows nor cancels."""
    e = jnp.exp(-jnp.abs(x))
    up = jnp.where(x > 0, 1 + 2 * e, e * (e + 2))
    return x * up / (up + jnp.where(x > 0, 2 * e * e, 2))


def pieces(x: Any, far: float, below: Any, between: Any, above: Any) -> Any:
    """A function of three pieces, which end at -far and far: what is outside has these points."""
    return jnp.where(x <= -far, below, jnp.where(x >= far, above, between))


ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "Identity": (nn.Identity, lambda x: 1 * x),
    "ReLU": (nn.ReLU, jax.nn.relu),
    "LeakyReLU": (nn.LeakyReLU, lambda x: jnp.where(x > 0, x, 0.01 * x)),
    "ELU": (nn.ELU, jax.nn.elu),
    "ELU(0.7)": (lambda: nn.ELU(0.7), lambda x: jax.nn.elu(x, 0.7)),
    "SELU": (nn.SELU, jax.nn.selu),
    "Mish": (nn.Mish, mish),
    "Hardtanh": (nn.Hardtanh, lambda x: pieces(x, 1, -1, x, 1)),
    "Hardsigmoid": (nn.Hardsigmoid, lambda x: pieces(x, 3, 0, x / 6 + 0.5, 1)),
    "Hardswish": (nn.Hardswish, lambda x: pieces(x, 3, 0, x * (x / 6 + 0.5), x)),
    "PReLU": (nn.PReLU, lambda x: jnp.where(x > 0, x, 0.25 * x)),
    "Tanh": (nn.Tanh, jnp.tanh),
    "Sigmoid": (nn.Sigmoid, jax.nn.sigmoid),
    "SiLU": (nn.SiLU, jax.nn.silu),
    "Softplus": (nn.Softplus, jax.nn.softplus),
    "Softplus(10)": (lambda: nn.Softplus(10), lambda x: jax.nn.softplus(10 * x) / 10),
    "GELU": (nn.GELU, lambda x: jax.nn.gelu(x, approximate=False)),
    "GELU, tanh": (lambda: nn.GELU("tanh"), lambda x: jax.nn.gelu(x, approximate=True)),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_its_value_and_its_limits(name: str, dtype: str) -> None:
    build, function = ACTIVATIONS[name]
    layer, x = build().to(dtype=dtype), extremes(dtype)
    y = layer(x)
    dx = layer.backward(np.ones_like(x))
    value, slope = judged(function, x)
    assert_judged(y, value, dtype)
    known = ~np.isnan(x)
    assert_judged(dx[known], slope[known], dtype)


def test_the_derivative_of_elu_keeps_its_digits() -> None:
    x = np.array([-17.5, -30, -80], "float32")
    layer = nn.ELU()
    layer(x)
    np.testing.assert_allclose(layer.backward(np.ones_like(x)), np.exp(x), rtol=1e-6)


class Shift(nn.Module):
    """y = x + b, whose gradient is the next layer's for every element."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.b = nn.Parameter(nn.init.zeros(shape))

    def forward(self, x: Any) -> Any:
        return x + self.b.data

    def backward(self, grad: Any) -> Any:
        self.b.accumulate(grad)
        return grad


class Total(nn.ElementwiseLoss):
    """l = x."""

    def value(self, x: Any, t: Any) -> Any:
        return x

    def derivative(self, x: Any, t: Any) -> Any:
        return self.backend.xp.ones_like(x)


@pytest.fixture(params=["blocks", "fused", "device"])
def recording(request: Any, monkeypatch: Any) -> Any:
    """The backend of recorded steps: uncompiled, compiled, and as CUDA kernels on the host."""
    if request.param == "device" and cuda_host.compiler() is None:
        pytest.skip(cuda_host.MISSING)
    if request.param == "blocks":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
    with ldl.use_backend(CudaOnHost() if request.param == "device" else "numpy") as backend:
        yield backend


def test_recorded_activations_have_the_same(recording: Any) -> None:
    x = extremes("float32")[:, None]
    layers = [build() for build, _ in ACTIVATIONS.values()]
    model = nn.Parallel(*(nn.Sequential(Shift(x.shape), layer) for layer in layers))
    step = ldl.TrainStep(model, Total("sum"), optim.SGD(model, 1e-30), keep_output=True)
    given = recording.asarray(x), recording.asarray(np.zeros((len(x), len(layers)), "float32"))
    y = recording.to_numpy(ldl.Predictor(model)(given[0]))
    step(*given)
    assert all(found.played for found in step._recordings.values())
    again = recording.to_numpy(step.output)
    known = ~np.isnan(x)
    for i, (name, (_, function)) in enumerate(ACTIVATIONS.items()):
        value, slope = judged(function, x)
        dx = recording.to_numpy(model.branches[i][0].b.grad)
        for found in (y[:, i : i + 1], again[:, i : i + 1]):
            assert_judged(found, value, "float32", name)
        assert_judged(dx[known], slope[known], "float32", name)


# ---- functions of rows ---------------------------------------------------------------------------

INF, NAN = np.inf, np.nan
ROWS = [
    [0, 0, 0],
    [10, -10, 0],
    [1e4, -1e4, 0],
    [6e4, -6e4, 0],
    [3e38, -3e38, 0],
    [3e38, 3e38, 0],
    [-3e38, -3e38, -3e38],
    [-INF, 0, 1],
    [-INF, -INF, 2],
    [-INF, -INF, -INF],
    [NAN, 0, 1],
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [nn.Softmax, nn.LogSoftmax])
def test_softmax_leaves_out_what_is_masked(kind: Any, dtype: str) -> None:
    x = np.array(ROWS, dtype)
    layer = kind()
    y = layer(x)
    g = np.linspace(-1, 1, x.size).reshape(x.shape).astype(dtype)
    dx = layer.backward(g)
    function = jax.nn.softmax if kind is nn.Softmax else jax.nn.log_softmax
    expected, slope = with_slope(function, x, g)
    assert_judged(y, expected, dtype)
    assert_judged(dx, slope, dtype)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_cross_entropy_leaves_out_what_is_masked(dtype: str, smoothing: float) -> None:
    largest = float(np.finfo(dtype).max)
    fits = [not smoothing or np.ptp(np.maximum(row, -1e4)) < largest / 2 for row in ROWS]
    x = np.repeat(np.array(ROWS, dtype)[fits], 3, axis=0)
    t = np.arange(len(x)) % 3
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")
    value = loss(x, t)
    gradient = loss.backward(np.ones(len(x), dtype))

    def cross_entropy(a: Any) -> Any:
        logp = jax.nn.log_softmax(a)
        own = -jnp.take_along_axis(logp, jnp.asarray(t)[:, None], axis=1)[:, 0]
        return (1 - smoothing) * own - smoothing * logp.mean(axis=1) if smoothing else own

    expected, slope = with_slope(cross_entropy, x)
    assert_judged(value, expected, dtype)
    assert_judged(gradient, slope, dtype)


def test_a_recorded_cross_entropy_has_the_same(recording: Any) -> None:
    t = np.array([0, 1, 2])
    model = Shift((3, 3))
    step = ldl.TrainStep(model, nn.CrossEntropyLoss(reduction="sum"), optim.SGD(model, 1e-30))
    with ldl.use_backend("numpy"):
        own = nn.CrossEntropyLoss(reduction="sum")
    for row in ROWS:
        x = np.array([row] * 3, "float32")
        value, gradient = own(x, t), own.backward()
        found = step(recording.asarray(x), recording.asarray(t))
        np.testing.assert_allclose(recording.to_numpy(found), value, rtol=1e-5)
        dx = recording.to_numpy(model.b.grad)
        np.testing.assert_allclose(dx, gradient, rtol=1e-5, atol=1e-6)
        model.b.data[...] = 0


# ---- losses of elements --------------------------------------------------------------------------

LOSSES: dict[str, tuple[Any, Any, Any]] = {
    "MSELoss": (nn.MSELoss, lambda d: d**2, lambda d: 2 * d),
    "L1Loss": (nn.L1Loss, np.abs, np.sign),
    "HuberLoss": (nn.HuberLoss, lambda d: huber(d, 0.0, 1.0), lambda d: np.clip(d, -1, 1)),
    "SmoothL1Loss": (
        lambda reduction: nn.SmoothL1Loss(0.5, reduction),
        lambda d: np.where(np.abs(d) < 0.5, d**2, np.abs(d) - 0.25),
        lambda d: np.clip(2 * d, -1, 1),
    ),
    "SmoothL1Loss(0)": (lambda reduction: nn.SmoothL1Loss(0, reduction), np.abs, np.sign),
}


def with_gradient(loss: Any, x: Any, t: Any) -> tuple[Any, Any]:
    value = loss(x, t)
    return value, loss.backward(np.ones_like(x))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_differences_has_the_value_of_its_type(name: str, dtype: str) -> None:
    build, function, slope = LOSSES[name]
    x, t = (a.reshape(-1) for a in np.meshgrid(extremes(dtype), extremes(dtype)))
    value, gradient = with_gradient(build(reduction="none"), x, t)
    d = x.astype("float64") - t.astype("float64")
    assert_judged(value, np.asarray(function(d)), dtype)
    assert_judged(gradient, slope(d), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("p", [None, 0.0, 2.5])
@pytest.mark.parametrize("t", [0.0, 0.25, 1.0])
def test_certainty_of_a_logit_costs_nothing_or_in_proportion(
    t: float, p: float | None, dtype: str
) -> None:
    x = extremes(dtype)
    loss = nn.BCEWithLogitsLoss(reduction="none", pos_weight=p)
    value, gradient = with_gradient(loss, x, np.full_like(x, t))
    expected, slope = judged(lambda a: bce_with_logits(a, t, 1 if p is None else p), x)
    assert_judged(value, expected, dtype)
    assert_judged(gradient, slope, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("t", [0.0, 0.25, 1.0])
def test_certainty_of_a_probability_costs_much_but_not_infinity(t: float, dtype: str) -> None:
    info = np.finfo(dtype)
    x = np.array([0, info.smallest_subnormal, info.tiny, 1e-12, 0.25, 1 - info.epsneg, 1], dtype)
    value, gradient = with_gradient(nn.BCELoss(reduction="none"), x, np.full_like(x, t))
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert value[0] == pytest.approx(-t * np.log(float(info.tiny)), rel=1e-3)
    assert value[-1] == pytest.approx(-(1 - t) * np.log(float(info.tiny)), rel=1e-3)
    assert value[4] == pytest.approx(-t * np.log(0.25) - (1 - t) * np.log(0.75), rel=2e-3)


@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_no_probability_costs_infinity(dtype: str) -> None:
    x = np.array([-np.inf, -1e-3, 1.01, 300, np.inf, np.nan], dtype)
    value = nn.BCELoss(reduction="none").forward(x, np.full_like(x, 0.5))
    np.testing.assert_array_equal(value, [INF, INF, INF, INF, INF, NAN])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("t", [0.0, 0.25, 1.0])
def test_a_divergence_costs_nothing_where_nothing_happens(t: float, dtype: str) -> None:
    x = extremes(dtype)
    value, gradient = with_gradient(nn.KLDivLoss("none"), x, np.full_like(x, t))
    expected = t * (np.log(t) - x.astype("float64")) if t else np.zeros(len(x))
    assert_judged(value, expected, dtype)
    assert_judged(gradient, np.full(len(x), -t), dtype)
    with np.errstate(divide="ignore"):
        log_t = np.full_like(x, np.log(t))
    value, gradient = with_gradient(nn.KLDivLoss("none", log_target=True), x, log_t)
    np.testing.assert_allclose(value, expected.astype(dtype), rtol=1e-2)
    assert_judged(gradient, np.full(len(x), -t), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("t", [0.0, 2.0])
def test_a_count_has_a_cost_at_every_rate(t: float, dtype: str) -> None:
    x = extremes(dtype)
    wide = x.astype("float64")
    value, gradient = with_gradient(nn.PoissonNLLLoss(reduction="none"), x, np.full_like(x, t))
    expected = np.exp(wide) - (t * np.minimum(wide, 1e4) if t else 0)
    assert_judged(value, expected, dtype)
    assert_judged(gradient, np.exp(wide) - t, dtype)
    rates, loss = x[~(x < 0)], nn.PoissonNLLLoss(False, eps=1e-3, reduction="none")
    value, gradient = with_gradient(loss, rates, np.full_like(rates, t))
    wide = rates.astype("float64")
    expected = np.where(wide == INF, INF, wide - (t * np.log(wide + 1e-3) if t else 0))
    known = ~((wide == INF) & (t > 0))
    assert_judged(value[known], expected[known], dtype)
    assert_judged(gradient, 1 - t / (wide + 1e-3), dtype)
    below = np.array([-1e-6, -INF], dtype)
    np.testing.assert_array_equal(loss.forward(below, np.zeros_like(below)), INF)


@pytest.mark.parametrize("dtype", TYPES)
def test_directions_do_not_depend_on_lengths(dtype: str) -> None:
    info = np.finfo(dtype)
    lengths = np.array([info.max, 1e4, 1, 1e-4, info.tiny, info.smallest_subnormal], dtype)
    x = lengths[:, None] * np.array([1, -1, 1], dtype)
    t = lengths[::-1, None] * np.array([1, 1, 1], dtype)
    loss = nn.CosineSimilarityLoss("none", eps=5e-324)
    value = loss(x, t)
    gradient = loss.backward(np.ones(len(x), dtype)).astype("float64")
    lengths = lengths.astype("float64")
    normal = lengths >= float(info.tiny)
    ends = normal & normal[::-1]
    assert_judged(value[ends], np.full(ends.sum(), 2 / 3), dtype)
    slope = np.array([-2, -4, -2]) / 9 / lengths[ends, None]
    np.testing.assert_allclose(gradient[ends], slope, rtol=1e-2, atol=float(info.tiny))
    zero = np.zeros((1, 3), dtype)
    assert loss(zero, np.ones_like(zero)) == 1
    assert np.isnan(loss(np.full((1, 3), np.nan, dtype), np.ones_like(zero)))
