"""What is called directly gives right numbers or one line, whatever kind of array it is given.

Layers, losses and noises take arrays of their backend and bring nothing over. What is of a subclass
of its array type is taken for its numbers, never for a rule of its own such as np.matrix's product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import ldl
from catalog import LOSSES, ROWS, learned, named
from checks import one_line
from ldl import nn
from ldl.data import GaussianNoise, MaskingNoise, Noise, SaltPepperNoise
from ldl.random import Stream
from ldl.train import metrics

FIX = ("asarray", "astype", "filled", ".real", "reshape", "got", "takes", "fill")


def on_disk(a: Any) -> Any:
    held = np.memmap("/dev/zero", a.dtype, "c", shape=a.shape)
    held[...] = a
    return held


def read_only(a: Any) -> Any:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def masked(a: Any) -> Any:
    return np.ma.array(a, mask=np.arange(a.size).reshape(a.shape) % 3 == 0)


class Units(np.ndarray):  # type: ignore[type-arg]
    """A subclass with rules of its own."""

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("units do not match")


SAME: dict[str, Callable[[Any], Any]] = {
    "memmap": on_disk,
    "read-only": read_only,
    "Fortran": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "a subclass": lambda a: a.view(Units),
}
"""The same numbers, to be taken as they are."""

MATRIX = {"matrix": np.matrix}
MAYBE: dict[str, Callable[[Any], Any]] = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "objects": lambda a: a.astype(object),
    "a list": lambda a: a.tolist(),
    "integers": lambda a: np.round(4 * a).astype("int64"),
    "bools": lambda a: a > 0,
    "longdouble": lambda a: a.astype("longdouble"),
    "half": lambda a: a.astype("float16"),
}
"""To be refused, or to give the numbers of these."""

REFUSED: dict[str, Callable[[Any], Any]] = {
    "masked": masked,
    "nothing masked": np.ma.array,
    "complex": lambda a: a + 1j,
    "no axes": lambda a: a.reshape(-1)[0].reshape(()),
    "a scalar": lambda a: a.reshape(-1)[0],
    "a number": lambda a: float(a.reshape(-1)[0]),
    "jax": jnp.asarray,
    "None": lambda a: None,
    "str": lambda a: "0.5",
    "texts": lambda a: a.astype(str),
    "dates": lambda a: a.astype("int64").astype("datetime64[D]"),
}
if find_spec("torch"):
    import torch

    REFUSED["torch"] = torch.from_numpy


pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")


ARRAYS = ("jax", "torch")
"""Others' arrays: layers bring nothing over, but steps and predictions do."""


def check_way_out(message: str) -> None:
    assert "\n" not in message
    assert any(word in message for word in FIX), message


def both(kinds: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("kind", kinds.values(), ids=kinds)


def is_plain(a: Any) -> bool:
    return type(a) in (np.ndarray, np.float32) and a.dtype == np.float32


# ---- layers --------------------------------------------------------------------------------------


def passes(row: Any, convert_x: Any, convert_g: Any) -> list[Any]:
    """Output, ∂L/∂x and the parameters' gradients of a new module."""
    module, x = row.module(), row.input()
    y = module(convert_x(x))
    g = np.linspace(-1, 1, y.size, dtype="float32").reshape(y.shape)
    dx = module.backward(convert_g(g))
    return [y, dx, *(p.grad for p in learned(module).values())]


def itself(a: Any) -> Any:
    return a


def try_passes(row: Any, convert_x: Any, convert_g: Any) -> list[Any] | None:
    """None where it is refused in one line that names a way."""
    try:
        return passes(row, convert_x, convert_g)
    except (TypeError, ValueError) as error:
        check_way_out(str(error))
        return None


@pytest.mark.parametrize(**named(ROWS))
def test_layers_take_the_numbers_of_subclasses(row: Any) -> None:
    expected = passes(row, itself, itself)
    kinds = SAME | (MATRIX if len(row.shape) == 2 else {})
    for name, convert in kinds.items():
        for found in (passes(row, convert, itself), passes(row, itself, convert)):
            for a, b in zip(found, expected, strict=True):
                assert is_plain(a), name
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(**named(ROWS))
def test_layers_refuse_what_they_would_take_for_other_numbers(row: Any) -> None:
    for name, convert in REFUSED.items():
        if name in ("complex", "texts", "dates") and type(row.module()) is nn.Flatten:
            continue  # which only gives them another shape
        assert try_passes(row, convert, itself) is None, name
        assert try_passes(row, itself, convert) is None, name


@pytest.mark.parametrize(**named(ROWS))
def test_layers_refuse_other_types_or_give_their_numbers(row: Any) -> None:
    expected = passes(row, itself, itself)
    rounded = passes(row, lambda a: np.round(4 * a).astype(a.dtype), itself)
    halved = passes(row, lambda a: (a > 0).astype(a.dtype), itself)
    for name, convert in MAYBE.items():
        found = try_passes(row, convert, itself)
        right = {"integers": rounded, "bools": halved}.get(name, expected)
        for a, b in zip(found or right, right, strict=True):
            np.testing.assert_allclose(np.asarray(a, "float32"), b, rtol=0.02, atol=0.02)


# ---- losses --------------------------------------------------------------------------------------


def loss_of(row: Any, convert_x: Any, convert_t: Any, way: str = "__call__") -> list[Any]:
    loss, (x, t) = row.build(), row.batch()
    value = getattr(loss, way)(convert_x(x), convert_t(t))
    grad = loss.backward(np.ones_like(value)) if np.ndim(value) else loss.backward()
    return [value, grad]


def try_loss(row: Any, *converts: Any, way: str = "__call__") -> list[Any] | None:
    try:
        return loss_of(row, *converts, way=way)
    except (TypeError, ValueError) as error:
        check_way_out(str(error))
        return None


WAYS = pytest.mark.parametrize("way", ["__call__", "forward"])


@WAYS
@pytest.mark.parametrize(**named(LOSSES))
def test_losses_take_the_numbers_of_subclasses(row: Any, way: str) -> None:
    expected = loss_of(row, itself, itself)
    for name, convert in (SAME | MATRIX).items():
        converts = [(convert, itself), (itself, convert)]
        if name == "matrix":  # which has two axes, whatever it is made of
            converts = [c for c, a in zip(converts, row.batch(), strict=True) if np.ndim(a) == 2]
        for pair in converts:
            for a, b in zip(loss_of(row, *pair, way=way), expected, strict=True):
                assert is_plain(a), name
                np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=name)


@WAYS
@pytest.mark.parametrize(**named(LOSSES))
def test_losses_refuse_what_they_would_take_for_other_numbers(row: Any, way: str) -> None:
    for name, convert in REFUSED.items():
        assert try_loss(row, convert, itself, way=way) is None, name
        assert try_loss(row, itself, convert, way=way) is None, name


@WAYS
@pytest.mark.parametrize(**named(LOSSES))
def test_losses_refuse_other_types_or_give_their_numbers(row: Any, way: str) -> None:
    expected = loss_of(row, itself, itself)
    for name, convert in MAYBE.items():
        if name in ("integers", "bools"):
            assert try_loss(row, convert, itself, way=way) is None, name
            continue
        for pair in ((convert, itself), (itself, convert)):
            found = try_loss(row, *pair, way=way)
            for a, b in zip(found or expected, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02)


def test_the_gradient_given_to_a_loss_is_taken_for_its_numbers() -> None:
    x, t = np.full((2, 2), 0.5, "float32"), np.eye(2, dtype="float32")
    loss, g = nn.MSELoss(reduction="none"), np.array([[1, 2], [3, 4]], "float32")
    loss(x, t)
    expected = loss.backward(g)
    for convert in (np.matrix, on_disk):
        loss(x, t)
        found = loss.backward(convert(g))
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, expected)
    loss(x, t)
    with pytest.raises(TypeError, match="filled"):
        loss.backward(grad=masked(g))


# ---- noises --------------------------------------------------------------------------------------


class Own(Noise):
    """A noise of one's own writes __call__ alone."""

    form = "own"

    def __call__(self, x: Any, stream: Stream, backend: ldl.Backend) -> Any:
        return x * x


NOISES = pytest.mark.parametrize(
    "noise", [GaussianNoise(0.3), MaskingNoise(0.5), SaltPepperNoise(0.5), Own(0.5)], ids=repr
)
X = np.linspace(0, 1, 16, dtype="float32").reshape(4, 4)


def noisy(noise: Noise, x: Any) -> Any:
    return noise(x, Stream(1, 2), ldl.get_backend("numpy"))


@NOISES
def test_noises_take_the_numbers_of_subclasses(noise: Noise) -> None:
    expected = noisy(noise, X)
    swapped = {"the other byte order": lambda x: x.astype(">f4")}
    for name, convert in (SAME | MATRIX | swapped).items():
        found = noisy(noise, convert(X))
        assert is_plain(found)
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_a_noise_may_be_told_its_backend_by_name() -> None:
    named_one = GaussianNoise(0.3)(x=X, stream=Stream(1, 2), backend="numpy")  # type: ignore[arg-type]
    np.testing.assert_array_equal(named_one, noisy(GaussianNoise(0.3), X))


@NOISES
@both(REFUSED | {k: MAYBE[k] for k in MAYBE if k in ("objects", "a list", "integers", "bools")})
def test_noises_refuse_what_is_no_batch_of_floating_numbers(noise: Noise, kind: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        noisy(noise, kind(X))
    assert any(word in one_line(error) for word in FIX)


# ---- steps, predictions, gradients ---------------------------------------------------------------


def network() -> Any:
    ldl.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def stepped(x: Any, y: Any) -> list[Any]:
    model = network()
    step = ldl.TrainStep(model, nn.MSELoss(), ldl.optim.SGD(model, lr=0.1))
    return [step(x, y), step(x, y), *model.state_dict().values()]


@both(SAME | MATRIX | {k: REFUSED[k] for k in REFUSED if k in ARRAYS} | {"list": list})
def test_a_step_takes_a_batch_as_fit_does(kind: Any) -> None:
    expected = stepped(X, X[::-1].copy())
    for found in (stepped(kind(X), X[::-1].copy()), stepped(X, kind(X[::-1].copy()))):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    same = kind(X)
    for a, b in zip(stepped(same, same), stepped(X, X), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@both({k: REFUSED[k] for k in REFUSED if k not in (*ARRAYS, "no axes", "a scalar", "a number")})
def test_what_is_no_batch_is_refused_by_steps_and_predictions(kind: Any) -> None:
    model = network()
    calls: list[Callable[[], Any]] = [
        lambda: stepped(kind(X), X),
        lambda: stepped(X, kind(X)),
        lambda: model.predict(kind(X)),
        lambda: ldl.Predictor(model)(kind(X)),
        lambda: ldl.check_gradients(model, kind(X)),
        lambda: nn.Parameter(kind(X)),
        lambda: model.load_state_dict({**model.state_dict(), "0.weight": kind(X)}),
    ]
    if kind is not REFUSED["None"]:
        calls.append(lambda: ldl.check_gradients(nn.MSELoss(), X, target=kind(X)))
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as error:
            call()
        assert any(word in one_line(error) for word in FIX)


def test_a_number_is_no_batch() -> None:
    for x in (0.5, np.float32(0.5), np.array(0.5, "float32")):
        for call in (network().predict, ldl.Predictor(network())):
            with pytest.raises(ValueError, match="takes") as error:
                call(x)
            one_line(error)


def test_a_predictor_that_has_played_an_array_reads_no_masked_one() -> None:
    model = network()
    predictor = ldl.Predictor(model)
    expected = predictor(X)
    np.testing.assert_array_equal(predictor(np.matrix(X)), expected)
    assert type(predictor(on_disk(X))) is np.ndarray
    with pytest.raises(TypeError, match="filled"):
        predictor(masked(X))


def test_a_parameter_adds_plain_real_gradients_alone() -> None:
    parameter = nn.Parameter(np.zeros((2, 2), "float32"))
    parameter.accumulate(np.matrix([[1.0, 2], [3, 4]]))
    parameter.accumulate(np.ones((2, 2), "float32"))
    np.testing.assert_array_equal(parameter.grad, [[2, 3], [4, 5]])
    for convert in REFUSED.values():
        for add in (
            parameter.accumulate,
            parameter.accumulate_rows,
            lambda a: parameter.accumulate_matmul(a, np.eye(2, dtype="float32")),
            lambda a: parameter.accumulate_matmul(np.eye(2, dtype="float32"), a),
        ):
            with pytest.raises((TypeError, ValueError)) as error:
                add(convert(np.ones((2, 2), "float32")))
            one_line(error)
    np.testing.assert_array_equal(parameter.grad, [[2, 3], [4, 5]])


class Gives(nn.Module):
    """Gives what a function makes of the input."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)

    def backward(self, grad: Any) -> Any:
        return grad


@pytest.mark.parametrize("kind", ["jax", "None", "torch", "a number"])
def test_a_model_that_makes_no_array_is_named(kind: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), Gives(REFUSED.get(kind, jnp.asarray)))
    step = ldl.TrainStep(model, nn.MSELoss(), ldl.optim.SGD(model), record=False)
    for call in (
        lambda: model.predict(X),
        lambda: ldl.evaluate(model, X, nn.MSELoss()),
        lambda: step(X, X),
    ):
        with pytest.raises(TypeError, match=r"Gives.*must return an array") as error:
            call()
        one_line(error)


def test_a_metric_that_is_masked_is_no_number() -> None:
    def share(output: Any, target: Any) -> Any:
        return np.ma.array(output, mask=True).mean()

    with pytest.raises(TypeError, match="filled"):
        ldl.evaluate(network(), X, nn.MSELoss(), share)


def test_a_layer_of_ones_own_is_guarded_too() -> None:
    class Square(nn.Module):
        def forward(self, x: Any) -> Any:
            self.keep(x)
            return x * x

        def backward(self, grad: Any) -> Any:
            return 2 * self.take() * grad

    layer = Square()
    np.testing.assert_array_equal(layer(np.matrix(X)), X * X)
    np.testing.assert_array_equal(layer.backward(grad=np.matrix(X)), 2 * X * X)
    with pytest.raises(TypeError, match="filled"):
        layer(masked(X))
    assert layer(X + 0j).dtype == "complex64"


# ---- checks, metrics and steps on rows -----------------------------------------------------------

CHECKS: dict[str, Callable[[Any], Any]] = {
    "MSELoss.check": lambda t: nn.MSELoss().check(X.shape, t),
    "BCELoss.check": lambda t: nn.BCELoss().check(X.shape, t),
    "BCELoss.check_input": lambda t: nn.BCELoss().check_input(t),
    "CrossEntropyLoss.check": lambda t: nn.CrossEntropyLoss().check(X.shape, t),
}
METRICS = {
    "mse": metrics.mean_squared_error,
    "mae": metrics.mean_absolute_error,
    "accuracy": partial(metrics.accuracy, None),
    "binary accuracy": partial(metrics.binary_accuracy, 0.5),
}
Q = (X + 0.25) / (X + 0.25).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_checks_take_the_numbers_of_subclasses_and_refuse_the_rest(check: Any) -> None:
    for convert in (SAME | MATRIX).values():
        check(convert(Q))
    for convert in REFUSED.values():
        with pytest.raises((TypeError, ValueError)) as error:
            check(convert(Q))
        check_way_out(one_line(error))


@pytest.mark.parametrize("figure", METRICS.values(), ids=METRICS)
def test_metrics_take_the_numbers_of_subclasses_and_refuse_the_rest(figure: Any) -> None:
    expected = figure(np, Q, X)
    for name, convert in (SAME | MATRIX).items():
        if name == "a subclass":
            continue
        for found in (figure(np, convert(Q), X), figure(np, Q, convert(X))):
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    backend = ldl.get_backend("numpy")
    named_metric = ldl.Metric("own", lambda xp, output, target: (output * target).mean())
    for convert in (SAME | MATRIX).values():
        value, *_ = named_metric.count(backend, convert(Q), convert(X))
        assert value == (Q * X).mean()
    for name, convert in REFUSED.items():
        if name == "jax":
            continue
        for pair in ((convert(Q), X), (Q, convert(X))):
            with pytest.raises((TypeError, ValueError)) as error:
                figure(np, *pair)
            check_way_out(one_line(error))
            with pytest.raises((TypeError, ValueError)) as error:
                named_metric.count(backend, *pair)
            check_way_out(one_line(error))


def test_metrics_of_integers_and_bools_are_of_their_differences() -> None:
    a, b = np.array([[0, 255]], "uint8"), np.array([[255, 0]], "uint8")
    total, count = metrics.mean_squared_error(np, a, b)
    assert total / count == 255**2
    total, count = metrics.mean_absolute_error(np, a > 0, b > 0)
    assert total / count == 1


def test_steps_on_rows_take_what_a_step_takes() -> None:
    def run(x: Any, order: Any, starts: Any) -> list[Any]:
        model = network()
        step = ldl.TrainStep(model, nn.MSELoss(), ldl.optim.SGD(model, lr=0.1))
        return [*step.run(x, x, order, 2, starts), *model.state_dict().values()]

    expected = run(X, np.arange(4), [0, 2])
    kinds = {**SAME, **MATRIX, **{k: REFUSED[k] for k in REFUSED if k in ARRAYS}, "list": list}
    for convert in kinds.values():
        for a, b in zip(run(convert(X), np.arange(4), (0, 2)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    for order in ([0, 1, 2, 3], np.arange(4, dtype=">i2"), jnp.arange(4)):
        for a, b in zip(run(X, order, np.array([0, 2])), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    for order in (np.arange(4) > 1, np.arange(4.0)):
        with pytest.raises(TypeError, match="integers, got") as error:
            run(X, order, [0, 2])
        one_line(error)
    with pytest.raises(TypeError, match="filled"):
        run(masked(X), np.arange(4), [0, 2])


def test_counts_and_shapes_of_checks_are_numbers_of_any_kind() -> None:
    model = network()
    found = [model.summary(shape) for shape in ((4,), [np.int64(4)], np.array([4]), 4)]
    assert len(set(found)) == 1
    for wrong in ("4", (4.0,), (0,), (True,)):
        with pytest.raises(ValueError, match="input_shape must be") as error:
            model.summary(wrong)  # type: ignore[arg-type]
        one_line(error)
    ldl.check_gradients(model, X, tolerance=np.float32(1e-4), directions=np.int64(1))
    for options in ({"directions": 0}, {"directions": 1.5}, {"tolerance": "small"}):
        with pytest.raises(ValueError, match="must be"):
            ldl.check_gradients(model, X, **options)
    assert Stream(0, np.int32(2)).stream == Stream(0, 2).stream == 2 << 32  # type: ignore[arg-type]


def test_a_state_that_is_no_dict_is_answered_with_one() -> None:
    for wrong in (network(), None, [X], X):
        with pytest.raises(TypeError, match=r"model\.state_dict\(\)") as error:
            network().load_state_dict(wrong)
        one_line(error)


def test_a_layer_without_weights_keeps_the_floats_of_any_origin() -> None:
    for dtype in ("float32", "float64"):
        for convert in (itself, REFUSED.get("torch", itself)):
            assert nn.Tanh().predict(convert(X.astype(dtype))).dtype == dtype
            assert ldl.Predictor(nn.Tanh())(convert(X.astype(dtype))).dtype == dtype
