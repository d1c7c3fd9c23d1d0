"""Losses of one's own, whose arrays are handed to and fro, and the corners of those of ldl.nn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim

rng = np.random.default_rng(0)
X = rng.standard_normal((6, 3)).astype("float32")
T = rng.standard_normal((6, 3)).astype("float32")
REDUCTIONS = ("mean", "batchmean", "sum", "none")


# ---- what value and derivative return, and what they do to what they get -----------------------


class Half(nn.ElementwiseLoss):
    """l = x²/2, whose derivative is its input."""

    def value(self, x: Any, t: Any) -> Any:
        return x * x / 2

    def derivative(self, x: Any, t: Any) -> Any:
        return x


class Linear(nn.ElementwiseLoss):
    """l = xt, whose derivative is its target."""

    def value(self, x: Any, t: Any) -> Any:
        return x * t

    def derivative(self, x: Any, t: Any) -> Any:
        return t


class Cached(nn.ElementwiseLoss):
    """l = cx, c an array that the loss holds."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.c = np.linspace(1, 2, 18, dtype="float32").reshape(6, 3)

    def value(self, x: Any, t: Any) -> Any:
        return self.c.astype(x.dtype) * x

    def derivative(self, x: Any, t: Any) -> Any:
        return self.c if x.dtype == self.c.dtype else self.c.astype(x.dtype)


class Broadcast(nn.ElementwiseLoss):
    """l = 3x, whose derivative cannot be written to."""

    def value(self, x: Any, t: Any) -> Any:
        return 3 * x

    def derivative(self, x: Any, t: Any) -> Any:
        return np.broadcast_to(np.asarray(3, x.dtype), x.shape)


class Same(nn.ElementwiseLoss):
    """l = x, which is what it was given."""

    def value(self, x: Any, t: Any) -> Any:
        return x

    def derivative(self, x: Any, t: Any) -> Any:
        return np.ones_like(x)


class Writing(nn.ElementwiseLoss):
    """l = (x - t)², written over what it gets."""

    def value(self, x: Any, t: Any) -> Any:
        x -= t
        x *= x
        t[...] = 7
        return x

    def derivative(self, x: Any, t: Any) -> Any:
        x -= t
        x *= 2
        t[...] = 7
        return x


OWN = (Half, Linear, Cached, Broadcast, Same, Writing)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", OWN)
def test_a_loss_of_ones_own_may_return_and_write_what_it_was_given(
    kind: Any, reduction: str
) -> None:
    loss, x, t = kind(reduction), X.copy(), T.copy()
    held = {name: np.copy(a) for name, a in vars(loss).items() if isinstance(a, np.ndarray)}
    assert ldl.check_gradients(loss, X, target=T)
    for _ in range(2):
        value = loss(x, t)
        expected = kind("none")(X.copy(), T.copy())
        summed = {"mean": expected.mean(), "sum": expected.sum(), "batchmean": expected.sum() / 6}
        np.testing.assert_allclose(value, summed.get(reduction, expected), rtol=1e-5)
        gradient = loss.backward(np.full(np.shape(value), 2, "float32"))
        one = kind("none").derivative(X.copy(), T.copy())
        factor = {"mean": 1 / 18, "batchmean": 1 / 6}.get(reduction, 1)
        np.testing.assert_allclose(gradient, 2 * factor * one, rtol=1e-5)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(t, T)
        np.testing.assert_equal({name: vars(loss)[name] for name in held}, held)
        gradient[...] = np.nan  # it is the caller's
        if reduction == "none":
            value[...] = np.nan


@pytest.mark.parametrize("kind", OWN)
def test_a_loss_of_ones_own_trains_alike_recorded_and_layer_by_layer(kind: Any) -> None:
    losses = []
    for record in (True, False):
        ldl.manual_seed(0)
        model = nn.Linear(3, 3)
        step = ldl.TrainStep(model, kind("batchmean"), optim.SGD(model, 0.05), record=record)
        losses.append([float(step(X, T)) for _ in range(4)])
    np.testing.assert_allclose(*losses, rtol=1e-5, atol=1e-6)  # of numbers of about 3


class Overwriting(nn.Loss):
    """The sum of (x - t)², written over both."""

    reduction = "sum"

    def forward(self, input: Any, target: Any) -> Any:
        input -= target
        target[...] = 0
        self.keep(input)
        return (input * input).sum()

    def backward(self, grad: Any = None) -> Any:
        return 2 * self.take()


def test_a_loss_that_writes_over_its_arguments_changes_no_data_and_no_metric() -> None:
    rows = []
    for loss in (Overwriting(), nn.MSELoss("sum")):
        ldl.manual_seed(0)
        model, x, t = nn.Linear(3, 3), X.copy(), T.copy()
        sgd = optim.SGD(model, 0.01)
        history = ldl.fit(model, (x, t), loss, sgd, 2, batch_size=6, metrics="mse")
        rows.append([history["loss"], history["mse"]])
        figures = ldl.evaluate(model, (x, t), loss, "mse")
        rows[-1].append([figures["loss"], figures["mse"]])
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(t, T)
    np.testing.assert_allclose(*rows, rtol=1e-5)


class Rows(nn.ElementwiseLoss):
    """One number a row, where one an element is wanted."""

    def value(self, x: Any, t: Any) -> Any:
        return (x - t).sum(axis=1)

    def derivative(self, x: Any, t: Any) -> Any:
        return np.ones((len(x), 1), x.dtype)


def test_a_value_or_derivative_of_another_shape_is_refused() -> None:
    loss = Rows()
    with pytest.raises(ValueError, match=r"value gave shape \(6,\)") as error:
        loss(X, T)
    one_line(error)
    loss.value = lambda x, t: x - t  # type: ignore[method-assign]
    loss(X, T)
    with pytest.raises(ValueError, match=r"derivative gave shape \(6, 1\)"):
        loss.backward()


# ---- cross-entropy -------------------------------------------------------------------------------

LOGITS = np.array([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]], "float32")
MASKED = np.array([[1.0, -np.inf, 3.0], [0.5, 0.0, -1.0]], "float32")


def both(loss: Any, x: Any, t: Any) -> tuple[Any, Any]:
    value = loss(x, t)
    return value, loss.backward()


class Giving(nn.Loss):
    """A loss of one's own that makes what it is told of its batch's losses."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def forward(self, input: Any, target: Any) -> Any:
        self.keep(input - target)
        return self.value(abs(input - target))

    def backward(self, grad: Any = None) -> Any:
        d = self.take()
        return np.sign(d) / d.size


@pytest.mark.parametrize(
    "value",
    [
        lambda losses: None,
        lambda losses: losses.mean().reshape(1),
        lambda losses: losses.mean(axis=1),
        lambda losses: losses.mean() + 0j,
        lambda losses: 1j,
        lambda losses: "1",
    ],
)
def test_a_loss_that_gives_no_number_is_named(value: Any) -> None:
    x = np.linspace(-1, 1, 12, dtype="float32").reshape(6, 2)
    model, loss = nn.Sequential(nn.Linear(2, 2)), Giving(value)
    sgd = optim.SGD(model, 0.1)
    for call in (
        lambda: ldl.evaluate(model, (x, x), loss, batch_size=4),
        lambda: ldl.fit(model, (x, x), loss, sgd, 1, batch_size=2),
        lambda: ldl.fit(model, (x, x), loss, sgd, 1, batch_size=2, steps_per_launch=3),
        lambda: ldl.TrainStep(model, loss, sgd, record=False)(x, x),
    ):
        with pytest.raises(TypeError, match=r"Giving.*must give one real number") as error:
            call()
        one_line(error)


@pytest.mark.parametrize(
    "slope", [lambda d: None, lambda d: 1.0, lambda d: d[:1], lambda d: d[:, :1], lambda d: d.T]
)
@pytest.mark.parametrize("last", [nn.ReLU, lambda: nn.Linear(2, 2)])
def test_a_loss_whose_gradient_is_not_like_its_input_is_named(slope: Any, last: Any) -> None:
    class Sloping(Giving):
        def backward(self, grad: Any = None) -> Any:
            return slope(self.take())

    x = np.linspace(-1, 1, 12, dtype="float32").reshape(6, 2)
    model, loss = nn.Sequential(nn.Linear(2, 2), last()), Sloping(lambda losses: losses.mean())
    sgd = optim.SGD(model, 0.1)
    for call in (
        lambda: ldl.fit(model, (x, x), loss, sgd, 1, batch_size=3),
        lambda: ldl.TrainStep(model, loss, sgd, record=False)(x, x),
    ):
        with pytest.raises((TypeError, ValueError), match=r"Sloping.*backward returned") as error:
            call()
        one_line(error)


@pytest.mark.parametrize("targets", ["labels", "distributions"])
def test_a_class_that_is_masked_has_no_part_in_a_cross_entropy(targets: str) -> None:
    t: Any = np.array([2, 0])
    if targets == "distributions":
        t = np.eye(3, dtype="float32")[t]
    value, gradient = both(nn.CrossEntropyLoss(), MASKED, t)
    logp = np.array([-np.log1p(np.exp(-2.0)), 0.5 - np.log(np.exp([0.5, 0, -1]).sum())])
    assert value == pytest.approx(-logp.mean())
    assert np.isfinite(gradient).all()
    assert gradient[0, 1] == 0
    with np.errstate(over="ignore"):
        far = np.where(np.isinf(MASKED), np.float32(-3e38), MASKED)
        np.testing.assert_allclose(both(nn.CrossEntropyLoss(), far, t)[1], gradient)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_masked_class_that_the_target_names_costs_infinity(smoothing: float) -> None:
    label = 1 if smoothing == 0 else 2  # smoothing names every class
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    value, gradient = both(loss, MASKED, np.array([label, 0]))
    assert value == np.inf
    assert np.isfinite(gradient).all()


def test_a_row_without_a_class_that_is_left_has_no_loss() -> None:
    with np.errstate(invalid="ignore"):
        assert np.isnan(nn.CrossEntropyLoss()(np.full((1, 3), -np.inf, "f"), np.array([0])))


@pytest.mark.parametrize("factor", [1e-35, 1e-20, 1.0, 1e30])
def test_only_the_ratios_of_class_weights_matter_to_a_mean_over_labels(factor: float) -> None:
    t = np.array([2, 0])
    expected = both(nn.CrossEntropyLoss(weight=[0.5, 1, 2]), LOGITS, t)
    scaled = nn.CrossEntropyLoss(weight=[factor * w for w in (0.5, 1, 2)])
    for a, b in zip(both(scaled, LOGITS, t), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    summed = nn.CrossEntropyLoss(weight=[0.5, 1, 2], reduction="sum")(LOGITS, t)
    assert summed == pytest.approx(expected[0] * 2.5)


def test_a_batch_of_a_class_of_small_weight_alone_has_its_mean() -> None:
    t = np.array([1, 1])
    expected = both(nn.CrossEntropyLoss(), LOGITS, t)
    for a, b in zip(both(nn.CrossEntropyLoss([1, 1e-33, 1]), LOGITS, t), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert both(nn.CrossEntropyLoss([1, 0, 1]), LOGITS, t)[0] == 0
    assert not both(nn.CrossEntropyLoss([1, 0, 1]), LOGITS, t)[1].any()


def test_an_ignored_label_and_distributions_do_not_go_together() -> None:
    q = np.full((2, 3), 1 / 3, "float32")
    nn.CrossEntropyLoss()(LOGITS, q)
    for way in ("__call__", "forward"):
        with pytest.raises(ValueError, match="ignore_index is for labels") as error:
            getattr(nn.CrossEntropyLoss(ignore_index=0), way)(LOGITS, q)
        one_line(error)


def test_many_losses_in_float16_have_a_mean_and_a_count() -> None:
    n = 70_000
    x = np.zeros((n, 4), "float16")
    assert nn.CrossEntropyLoss()(x, np.zeros(n, "int64")) == pytest.approx(np.log(4), rel=1e-3)
    assert nn.MSELoss("mean")(x + 2, x) == 4
    assert nn.MSELoss("mean")(x + 2, x).dtype == "float16"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 1.0, 0.25]])
@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
@pytest.mark.parametrize("by", ["labels", "distributions"])
def test_cross_entropy_of_sequences_is_that_of_their_places(
    by: str, reduction: str, weight: Any, smoothing: float
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 4))
    t: Any = rng.integers(0, 4, (3, 5))
    if by == "labels":
        t[1, 2] = t[2, 0] = -100
    else:
        t = rng.uniform(0.1, 1, x.shape)
        t /= t.sum(axis=-1, keepdims=True)
    kind = dict(weight=weight, label_smoothing=smoothing, reduction=reduction)
    whole, flat = (nn.CrossEntropyLoss(**kind) for _ in range(2))
    rows = t.reshape(15) if by == "labels" else t.reshape(15, 4)
    value, expected = whole(x, t), flat(x.reshape(15, 4), rows)
    factor = 5 if reduction == "batchmean" else 1  # it divides by sequences, not by places
    np.testing.assert_allclose(np.reshape(value, -1), factor * np.reshape(expected, -1))
    g = np.ones(value.shape) if reduction == "none" else None
    gradient = whole.backward(g)
    right = flat.backward(None if g is None else g.reshape(-1))
    assert gradient.shape == x.shape
    np.testing.assert_allclose(gradient.reshape(15, 4), factor * right)
    if by == "labels" and reduction == "mean":
        shares = whole.denominator(x.shape, t)
        np.testing.assert_allclose(
            shares, flat.denominator((15, 4), rows).reshape(3, 5).sum(axis=1)
        )


# ---- negative log likelihood --------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 1.0]])
@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 3), (2, 2, 3, 3)])
def test_a_likelihood_of_log_softmax_is_the_cross_entropy(shape: Any, weight: Any) -> None:
    rng = np.random.default_rng(1)
    x, t = rng.standard_normal(shape), rng.integers(0, 3, shape[:-1])
    first, own = nn.LogSoftmax(), nn.NLLLoss(weight)
    value, expected = own(first(x), t), both(nn.CrossEntropyLoss(weight), x, t)
    assert value == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(first.backward(own.backward()), expected[1], rtol=1e-9, atol=1e-15)


def test_a_class_of_no_probability_costs_nothing_unless_it_is_named() -> None:
    logp = np.array([[-np.inf, np.log(0.5), np.log(0.5)]])
    value, gradient = both(nn.NLLLoss(), logp, np.array([1]))
    assert value == pytest.approx(np.log(2))
    np.testing.assert_array_equal(gradient, [[0, -1, 0]])
    assert both(nn.NLLLoss(), logp, np.array([0]))[0] == np.inf
    assert np.isnan(nn.NLLLoss()(np.full((1, 3), np.nan), np.array([0])))


@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, nn.NLLLoss])
@pytest.mark.parametrize(("shape", "dims"), [((5, 3, 7), (2, 1)), ((5, 3, 7, 4), (2, 3, 1))])
def test_classes_on_the_second_axis_are_told_to_go_last(kind: Any, shape: Any, dims: Any) -> None:
    x, t = np.zeros(shape, "float32"), np.zeros((5, *shape[2:]), "int64")
    with pytest.raises(ValueError, match="classes are the last axis") as error:
        kind()(x, t)
    one_line(error)
    assert f"nn.Permute{dims}" in str(error.value)
    kind()(nn.Permute(*dims)(x), t)
    with pytest.raises(ValueError, match="the last axis: divide each row"):
        kind()(x + 1, np.zeros_like(x) + 1 / 3)


# ---- weights of outputs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (nn.BCELoss, "weight"),
        (nn.BCEWithLogitsLoss, "weight"),
        (nn.BCEWithLogitsLoss, "pos_weight"),
    ],
)
def test_weights_of_outputs_are_numbers_that_fit(kind: Any, name: str) -> None:
    x = np.full((4, 3), 0.5, "float32")
    for bad in (-1, [1, np.inf], [], ["1"], "1", [[1.0, 2.0, 3.0]]):
        with pytest.raises(ValueError, match=rf"\b{name}\b") as error:
            kind(**{name: bad})
        one_line(error)
    for given, shape in (([1, 2], (4, 3)), ([1, 2, 3, 4], (4,))):
        with pytest.raises(ValueError, match=rf"{name} holds .*one an output") as error:
            kind(**{name: given})(np.full(shape, 0.5), np.full(shape, 0.5))
        one_line(error)
    one = kind(**{name: 2})(x, x)
    for same in ([2.0], [2, 2, 2], np.full(3, 2.0)):
        assert kind(**{name: same})(x, x) == one


def test_an_output_without_weight_counts_for_nothing_whatever_it_costs() -> None:
    x = np.array([[0.25, np.inf]], "float32")
    value = nn.BCELoss("sum", weight=[1, 0]).forward(x, np.zeros_like(x))
    assert value == pytest.approx(-np.log(0.75))


def test_positives_that_weigh_more_are_positives_that_come_more_often() -> None:
    rng = np.random.default_rng(2)
    x, t = rng.standard_normal((9, 1)), (np.arange(9) % 3 == 0).astype(float)[:, None]
    rows = np.repeat(np.arange(9), np.where(t[:, 0] == 1, 4, 1))
    expected = nn.BCEWithLogitsLoss("sum")(x[rows], t[rows])
    assert nn.BCEWithLogitsLoss("sum", pos_weight=4)(x, t) == pytest.approx(expected, rel=1e-12)


# ---- distributions, counts and directions --------------------------------------------------------


def test_a_divergence_of_a_softmax_is_a_cross_entropy_but_for_the_targets_entropy() -> None:
    q = np.exp(T) / np.exp(T).sum(axis=1, keepdims=True)
    first, loss = nn.LogSoftmax(), nn.KLDivLoss()
    value, expected = loss(first(X), q), both(nn.CrossEntropyLoss(), X, q)
    assert value == pytest.approx(expected[0] + (q * np.log(q)).sum(axis=1).mean(), rel=1e-5)
    np.testing.assert_allclose(first.backward(loss.backward()), expected[1], rtol=1e-4, atol=1e-7)
    assert nn.KLDivLoss(log_target=True)(first(X), np.log(q)) == pytest.approx(value, rel=1e-5)


def test_targets_below_0_are_refused_of_distributions_and_of_counts() -> None:
    model = nn.Linear(3, 3)
    for loss in (nn.KLDivLoss(), nn.PoissonNLLLoss(), nn.PoissonNLLLoss(log_input=False)):
        for call in (
            lambda loss=loss: loss(abs(X), -abs(T)),
            lambda loss=loss: loss(abs(X), np.full_like(T, np.nan)),
            lambda loss=loss: ldl.fit(model, (X, -abs(T)), loss, optim.SGD(model, 0.1), 1),
            lambda loss=loss: ldl.fit(model, [(X, -abs(T))], loss, optim.SGD(model, 0.1), 1),
        ):
            with pytest.raises(ValueError, match="must not be negative") as error:
                call()
            one_line(error)
    with pytest.raises(ValueError, match="log_target=True"):
        nn.KLDivLoss()(X, -abs(T))
    nn.KLDivLoss(log_target=True)(X, -abs(T))


def test_a_negative_rate_is_told_of_wherever_it_is_found() -> None:
    model, loss = nn.Linear(3, 3), nn.PoissonNLLLoss(log_input=False)
    for call in (
        lambda: loss(-abs(X), abs(T)),
        lambda: ldl.fit(model, (X, abs(T)), loss, optim.SGD(model, 0.1), 1),
        lambda: ldl.evaluate(model, [(X, abs(T))], loss),
    ):
        with pytest.raises(ValueError, match=r"takes rates.*Softplus") as error:
            call()
        one_line(error)
    sound = nn.Sequential(model, nn.Softplus())
    ldl.fit(sound, (X, abs(T)), loss, optim.SGD(model, 0.1), 1)


def test_options_of_losses_that_make_no_sense_are_refused() -> None:
    for call in (
        lambda: nn.SmoothL1Loss(-1),
        lambda: nn.SmoothL1Loss(np.nan),
        lambda: nn.PoissonNLLLoss(eps=0),
        lambda: nn.CosineSimilarityLoss(eps=0),
        lambda: nn.CosineSimilarityLoss("batch"),
        lambda: nn.CosineSimilarityLoss()(X[0], X[0]),
    ):
        with pytest.raises(ValueError, match=r"must be|takes vectors") as error:
            call()
        one_line(error)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_vectors_of_sequences_are_those_of_their_places(reduction: str) -> None:
    x, t = (rng.standard_normal((3, 4, 5)) for _ in range(2))
    whole, flat = (nn.CosineSimilarityLoss(reduction) for _ in range(2))
    value, expected = whole(x, t), flat(x.reshape(12, 5), t.reshape(12, 5))
    factor = 4 if reduction == "batchmean" else 1
    np.testing.assert_allclose(np.reshape(value, -1), factor * np.reshape(expected, -1))
    g = np.ones_like(value) if reduction == "none" else None
    gradient = whole.backward(g)
    right = flat.backward(None if g is None else g.reshape(-1))
    np.testing.assert_allclose(gradient.reshape(12, 5), factor * right)


def test_pairs_are_pulled_together_and_apart_by_fit() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 2, 6)).astype("float32"), rng.choice([1, -1], 40)
    ldl.manual_seed(0)
    model, loss = nn.Linear(6, 4), nn.CosineEmbeddingLoss(margin=0.1)
    optimizer = ldl.optim.Adam(model.parameters(), 0.05)
    history = ldl.fit(model, (x, y), loss, optimizer, epochs=20)
    assert history["loss"][-1] < 0.8 * history["loss"][0]


@pytest.mark.parametrize("loss", [nn.CosineEmbeddingLoss(), nn.MarginRankingLoss()], ids=repr)
def test_pairs_and_signs_that_are_none_say_what_to_do(loss: Any) -> None:
    x = np.ones((3, 2, 4) if isinstance(loss, nn.CosineEmbeddingLoss) else (3, 2))
    assert float(loss(x, np.array([1, -1, 1]))) >= 0  # integers are signs too
    with pytest.raises(ValueError, match="2 \\* labels - 1"):
        loss(x, np.array([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="stack them"):
        loss(x[:, :1], np.ones(3))
    with pytest.raises(ValueError, match=r"are \(N,\)"):
        loss(x, np.ones((3, 1)))
    zero = nn.CosineEmbeddingLoss()
    value = zero(np.zeros((2, 2, 3)), np.array([1.0, -1.0]))
    assert float(value) == 0.5
    assert np.isfinite(zero.backward()).all()
