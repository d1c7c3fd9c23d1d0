"""What users' own losses, layers, noises and schedules hold on to, and give, and write to.

Such a part gives the numbers of one that behaves, on every backend and in every way of running it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import ldl
from cuda_device import CudaOnHost
from fake_device import FakeBackend
from ldl import data, nn, optim, random

rng = np.random.default_rng(5)
X = rng.random((8, 4)).astype("float32")
NAN = float("nan")

pytestmark = pytest.mark.filterwarnings("ignore:the step runs layer by layer")


@pytest.fixture(params=["numpy", FakeBackend, CudaOnHost], autouse=True)
def backend(request: Any) -> Iterator[Any]:
    with ldl.use_backend(request.param if request.param == "numpy" else request.param()) as found:
        yield found


def host(array: Any) -> Any:
    return np.array(ldl.get_backend().to_numpy(array))


def here(array: Any = X) -> Any:
    return ldl.get_backend().asarray(array.copy())


def alike(found: Any, right: Any) -> None:
    np.testing.assert_allclose(found, right, rtol=2e-6)


# ---- losses ----------------------------------------------------------------------------------


class Square(nn.Loss):
    """The mean of (x - t)²."""

    def forward(self, input: Any, target: Any) -> Any:
        self.keep(input, target)
        return ((input - target) ** 2).mean()

    def backward(self, grad: Any = None) -> Any:
        x, t = self.take()
        return 2 * (x - t) / x.size


class HeldSquare(Square):
    """The same; value and gradient are given in arrays that it uses again."""

    def __init__(self) -> None:
        self.value = self.backend.xp.zeros((), dtype="float32")
        self.gradients: dict[Any, Any] = {}

    def forward(self, input: Any, target: Any) -> Any:
        self.value[...] = super().forward(input, target)
        return self.value

    def backward(self, grad: Any = None) -> Any:
        gradient = super().backward()
        held = self.gradients.setdefault(gradient.shape, gradient)
        held[...] = gradient
        return held


def test_a_loss_may_hold_on_to_the_array_that_it_gives() -> None:
    def figures(loss: nn.Loss) -> list[float]:
        ldl.manual_seed(0)
        model = nn.Linear(4, 4)
        samples = X, X[::-1]
        found = [ldl.evaluate(model, samples, loss, batch_size=3)["loss"]]
        options: Any = {"batch_size": 3, "validation": samples}
        history = ldl.fit(model, samples, loss, optim.SGD(model, lr=0.1), 3, **options)
        return [*found, *history["loss"], *history["val_loss"]]

    alike(figures(HeldSquare()), figures(Square()))


def test_a_value_that_was_handed_out_is_not_written_to_again() -> None:
    loss = HeldSquare()
    first = loss(here(), here(X[::-1]))
    value = float(first)
    loss(here(2 * X), here(X))
    assert float(first) == value
    first *= NAN
    assert float(loss(here(), here(X[::-1]))) == pytest.approx(value)


class Constant(nn.Loss):
    """Σ x/10, whose gradient is one array from beginning to end."""

    def __init__(self) -> None:
        self.slope = here(np.full((8, 4), 0.1, "float32"))

    def forward(self, input: Any, target: Any) -> Any:
        return (0.1 * input).sum()

    def backward(self, grad: Any = None) -> Any:
        return self.slope


class Doubles(nn.Module):
    """y = 2x, both passes written into what they are given."""

    def forward(self, x: Any) -> Any:
        x *= 2
        return x

    def backward(self, grad: Any) -> Any:
        grad *= 2
        return grad


class Twice(nn.Module):
    """y = 2x."""

    def forward(self, x: Any) -> Any:
        return 2 * x

    def backward(self, grad: Any) -> Any:
        return 2 * grad


@pytest.mark.parametrize("record", [True, False])
def test_no_layer_writes_to_the_gradient_that_a_loss_holds(record: bool) -> None:
    def values(layer: Callable[[], nn.Module]) -> list[float]:
        ldl.manual_seed(0)
        model, loss = nn.Sequential(nn.Linear(4, 4), layer()), Constant()
        step = ldl.TrainStep(model, loss, optim.SGD(model, lr=0.1), record=record)
        found = [float(step(here(), here())) for _ in range(4)]
        return [*found, float(loss.slope.max())]

    alike(values(Doubles), values(Twice))


def test_a_loss_may_give_a_number_of_the_host() -> None:
    class OnHost(Square):
        def forward(self, input: Any, target: Any) -> Any:
            return float(super().forward(input, target))

    figures = []
    for loss in (OnHost(), Square()):
        ldl.manual_seed(0)
        model = nn.Linear(4, 4)
        figures.append(ldl.fit(model, (X, X[::-1]), loss, optim.SGD(model, lr=0.1), 2)["loss"])
    alike(*figures)


def test_an_elementwise_loss_without_elements_is_named() -> None:
    class One(nn.ElementwiseLoss):
        def value(self, x: Any, t: Any) -> Any:
            return 1.0

    with pytest.raises(ValueError, match=r"One\(\)\.value gave shape \(\) .*one number an element"):
        One()(here(), here())


# ---- layers ----------------------------------------------------------------------------------


class Passes(nn.Module):
    """y = x, the very array, and the gradient's."""

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, grad: Any) -> Any:
        return grad


WHOLES: dict[str, Callable[[Callable[[], nn.Module]], nn.Module]] = {
    "alone": lambda layer: layer(),
    "Sequential": lambda layer: nn.Sequential(nn.Sequential(layer()), layer()),
    "AutoEncoder": lambda layer: nn.AutoEncoder(layer(), layer()),
    "Parallel": lambda layer: nn.Parallel(layer()),
    "Residual": lambda layer: nn.Residual(layer()),
}


@pytest.mark.parametrize("whole", WHOLES)
def test_a_gradient_handed_in_or_out_is_the_callers_own(whole: str) -> None:
    for layer in (Passes, Doubles):
        module, grad = WHOLES[whole](layer), here()
        module(here())
        found = module.backward(grad)
        np.testing.assert_array_equal(host(grad), X)
        right = host(found)
        grad *= NAN
        np.testing.assert_array_equal(host(found), right)


class Adds(nn.Module):
    """y = 3 f(x) + x, worked out in what f gave, and so the gradient."""

    def __init__(self, inner: nn.Module) -> None:
        self.inner = inner

    def forward(self, x: Any) -> Any:
        y = self.inner(x)
        y *= 3
        y += x
        return y

    def backward(self, grad: Any) -> Any:
        dx = self.inner.backward(grad)
        dx *= 3
        dx += grad
        return dx


def test_a_gradient_between_two_layers_is_not_the_one_that_was_given() -> None:
    module = nn.Sequential(Adds(Passes()))
    np.testing.assert_allclose(host(module(here())), 4 * X)
    np.testing.assert_allclose(host(module.backward(here())), 4 * X)


class Squares(nn.Activation):
    """y = x², written into x."""

    def function(self, x: Any) -> Any:
        x *= x
        return x

    def derivative(self, grad: Any, x: Any, y: Any) -> Any:
        grad *= 2 * x
        return grad


def test_an_activation_may_write_to_what_it_is_given() -> None:
    module, grad = Squares(), here()
    np.testing.assert_array_equal(host(module(here())), X * X)
    np.testing.assert_allclose(host(module.backward(grad)), X * 2 * X)
    np.testing.assert_array_equal(host(grad), X)
    ldl.check_gradients(Squares(), X)


class Table(nn.Module):
    """y is a parameter, whatever x."""

    def __init__(self) -> None:
        self.table = nn.Parameter(np.ones((8, 4), "float32"))

    def forward(self, x: Any) -> Any:
        return self.table.data

    def backward(self, grad: Any) -> Any:
        self.table.accumulate(grad)
        return 0 * grad


class Buffered(Twice):
    """y = 2x, in an array that is used again."""

    def __init__(self) -> None:
        self.buffer: Any = None

    def forward(self, x: Any) -> Any:
        if self.buffer is None or self.buffer.shape != x.shape:
            self.buffer = self.backend.xp.empty_like(x)
        self.buffer[...] = 2 * x
        return self.buffer


@pytest.mark.parametrize("layer", [Table, Buffered])
@pytest.mark.parametrize("record", [True, False])
def test_an_output_is_the_callers_own_though_a_layer_holds_on_to_it(
    layer: Any, record: bool
) -> None:
    for model in (layer(), nn.Sequential(layer())):
        predictor = ldl.Predictor(model)
        for call in (model, model.predict, predictor, predictor):
            y = call(here())
            right = host(y)
            call(here(3 * X))
            np.testing.assert_array_equal(host(y), right)
            y *= NAN
            np.testing.assert_array_equal(host(call(here())), right)
    model = nn.Sequential(nn.Linear(4, 4), layer())
    optimizer = optim.SGD(model, lr=0.1)
    step = ldl.TrainStep(model, nn.MSELoss(), optimizer, keep_output=True, record=record)
    for _ in range(3):
        step(here(), here())
        step.output *= NAN
    assert all(np.isfinite(host(p.data)).all() for p in model.parameters())


def test_parts_of_a_prediction_do_not_share_a_layers_memory() -> None:
    np.testing.assert_array_equal(host(Buffered().predict(X, batch_size=2)), 2 * X)


class Pair(NamedTuple):
    first: Any
    second: Any


@pytest.mark.parametrize("make", [Pair, lambda a, b: [a, {"second": b}], lambda a, b: (a, [b])])
def test_what_is_kept_is_copied_whatever_it_stands_in(make: Any, backend: Any) -> None:
    class Keeps(nn.Module):
        def forward(self, x: Any) -> Any:
            self.keep(make(x, 2 * x))
            y = 3 * x
            x *= NAN
            return y

    module = Keeps()
    module(here())
    kept = module.take()
    assert type(kept) is type(make(1, 2))
    np.testing.assert_array_equal(host(kept[0]), X)


# ---- what a thing is made of and loaded from -------------------------------------------------


@ldl.register
class Slopes(nn.Module):
    """y = slopes ⊙ x."""

    def __init__(self, slopes: Any, more: Any = None) -> None:
        self.slopes = [float(slope) for slope in slopes]

    def forward(self, x: Any) -> Any:
        return x * self.backend.asarray(self.slopes, x.dtype)

    def backward(self, grad: Any) -> Any:
        return grad * self.backend.asarray(self.slopes, grad.dtype)


@pytest.mark.parametrize("kind", [list, np.array])
def test_a_saved_layer_is_built_of_the_arguments_that_it_was_built_of(
    kind: Any, tmp_path: Any
) -> None:
    slopes, more = kind([1.0, 2.0, 3.0, 4.0]), {"a": [1, 2]}
    model = nn.Sequential(Slopes(slopes, more=more))
    said = repr(model)
    right = host(model.predict(X))
    slopes[0] = 9.0
    more["a"].append(3)
    ldl.save(model, tmp_path / "model")
    assert repr(model) == said
    np.testing.assert_array_equal(host(ldl.load(tmp_path / "model").predict(X)), right)


def test_state_may_be_views_of_what_it_is_loaded_into() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    optimizer = optim.Adam(model)
    ldl.TrainStep(model, nn.MSELoss(), optimizer)(here(), here())
    weights = {name: parameter.data for name, parameter in model.named_parameters()}
    slots, state = optimizer.views(), optimizer.state_dict()
    for views, first, second in (
        (weights, "0.weight", "1.weight"),
        (slots, "0.exp_avg", "2.exp_avg"),
    ):
        a, b = host(views[first]), host(views[second])
        swapped = {**views, first: views[second], second: views[first]}
        if views is weights:
            model.load_state_dict(swapped)
        else:
            optimizer.load_state_dict({**state, "slots": swapped})
        np.testing.assert_array_equal(host(views[first]), b)
        np.testing.assert_array_equal(host(views[second]), a)


class Listed(optim.Schedule):
    """A factor that stands in a list."""

    def __init__(self) -> None:
        self.factors = [1.0]

    def __call__(self, step: int) -> float:
        return self.factors[0]

    def state_dict(self) -> dict[str, Any]:
        return {"factors": self.factors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.factors = state["factors"]


def test_a_schedules_state_is_a_snapshot_too() -> None:
    optimizer = optim.SGD(nn.Linear(4, 4), lr=0.1, schedule=Listed())
    state = optimizer.state_dict()
    state["schedule"]["factors"][0] = NAN
    assert optimizer.lr == 0.1
    state["schedule"]["factors"][0] = 0.5
    optimizer.load_state_dict(state)
    state["schedule"]["factors"][0] = NAN
    assert optimizer.lr == 0.05


# ---- noises ----------------------------------------------------------------------------------


class Wrong(data.Noise):
    """A noise that gives something else than an array like x."""

    form = "wrong"

    def __init__(self, make: Any) -> None:
        super().__init__(0.5)
        self.make = make

    def __call__(self, x: Any, stream: random.Stream, backend: ldl.Backend) -> Any:
        stream.next()
        return self.make(x)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda x: x.astype("float64"), r"float64 of shape \(4, 4\)"),
        (lambda x: x[:1], r"float32 of shape \(1, 4\)"),
        (lambda x: None, "None"),
    ],
    ids=["type", "shape", "nothing"],
)
def test_a_noise_that_makes_no_array_like_its_input_is_named_everywhere(
    make: Any, what: str
) -> None:
    model = nn.Linear(4, 4)
    samples = data.Arrays(X, noise=Wrong(make))
    match = rf"Wrong\(0\.5\) made {what} of float32 of shape \(4, 4\): let it return an array like"
    with pytest.raises(TypeError, match=match):
        ldl.evaluate(model, samples, nn.MSELoss(), batch_size=4)
    with pytest.raises(TypeError, match=match):
        ldl.fit(model, samples, nn.MSELoss(), optim.SGD(model), 1, batch_size=4)


def test_a_noise_called_by_itself_leaves_its_input() -> None:
    class Fills(data.Noise):
        form = "fills"

        def __call__(self, x: Any, stream: random.Stream, backend: ldl.Backend) -> Any:
            x[...] = 1
            return x

    x, backend = here(), ldl.get_backend()
    noisy = Fills(0.5)(x, random.Stream(0, random.NOISE), backend)
    np.testing.assert_array_equal(host(x), X)
    np.testing.assert_array_equal(host(noisy), np.ones_like(X))


# ---- checks ----------------------------------------------------------------------------------


class WritesIn(nn.ElementwiseLoss):
    """(x - t)², and NaN written over what `forward` and `backward` of a loss are given."""

    def forward(self, input: Any, target: Any) -> Any:
        value = super().forward(input, target)
        input[...] = NAN
        return value

    def value(self, x: Any, t: Any) -> Any:
        return (x - t) ** 2

    def derivative(self, x: Any, t: Any) -> Any:
        return 2 * (x - t)


class WritesBack(nn.Module):
    """y = 2x, and NaN written over the gradient."""

    def forward(self, x: Any) -> Any:
        return 2 * x

    def backward(self, grad: Any) -> Any:
        dx = 2 * grad
        grad[...] = NAN
        return dx


def test_check_gradients_finds_who_writes_and_spoils_nothing_of_the_callers() -> None:
    x, t = here(X.astype("float64")), here(2 * X.astype("float64"))
    with pytest.raises(AssertionError, match=r"WritesIn\(\)\.forward writes to its input"):
        ldl.check_gradients(WritesIn(), x, target=t)
    with pytest.raises(AssertionError, match=r"WritesBack\(\)\.backward writes to its gradient"):
        ldl.check_gradients(WritesBack(), x)
    np.testing.assert_array_equal(host(x), X.astype("float64"))
    np.testing.assert_array_equal(host(t), 2 * X.astype("float64"))


def test_check_gradients_takes_outputs_that_cannot_be_written_to() -> None:
    class Spreads(nn.Module):
        """The batch's mean, for every sample."""

        def forward(self, x: Any) -> Any:
            return self.backend.xp.broadcast_to(x.mean(axis=0), x.shape)

        def backward(self, grad: Any) -> Any:
            return self.backend.xp.broadcast_to(grad.mean(axis=0), grad.shape)

    ldl.check_gradients(Spreads(), X)
