"""`ldl.check_gradients` finds what is wrong with a backward, and passes what is right."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import ldl
from catalog import LOSSES, ROWS, learned, named
from checks import one_line
from fake_device import FakeBackend, fixture
from ldl import nn
from test_readme import BLOCKS

fake = fixture


@pytest.mark.parametrize(**named(ROWS))
def test_every_layer_passes_and_is_left_as_it_was(row: Any) -> None:
    module, x = row.module(), row.input()
    before = {name: a.copy() for name, a in module.state_dict().items()}
    streams = [vars(m)["stream"].draw for m in module.modules() if "stream" in vars(m)]
    errors = ldl.check_gradients(module, x)
    assert set(errors) == {"x", *learned(module)}
    assert max(errors.values()) < 1e-6
    assert all(isinstance(e, float) for e in errors.values())
    np.testing.assert_equal(module.state_dict(), before)
    assert module.dtype == "float32" or not before
    assert all(p.grad is None for p in module.parameters())
    assert streams == [vars(m)["stream"].draw for m in module.modules() if "stream" in vars(m)]


class Broken(nn.Module):
    """y = s ⊙ x with a fault of one's choice."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.s = nn.Parameter(np.array([1.0, 2.0, 3.0], "float32"))

    def forward(self, x: Any) -> Any:
        self.keep(x)
        return x * self.s.data

    def backward(self, grad: Any) -> Any:
        x = self.take()
        if self.fault != "forgets s":
            self.s.accumulate_rows(grad * x * (0.99 if self.fault == "s by 1 %" else 1))
        if self.fault == "returns None":
            return None
        if self.fault == "one row":
            return (grad * self.s.data)[:1]
        return grad * self.s.data * (2 if self.fault == "x twice" else 1)


X = np.random.default_rng(0).standard_normal((5, 3))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("forgets s", "s"),
        ("s by 1 %", "s"),
        ("x twice", "x"),
        ("returns None", r"returned None: it must return ∂L/∂x"),
        ("one row", r"\(1, 3\).*\(5, 3\)"),
    ],
)
def test_a_fault_is_named(fault: str, says: str) -> None:
    with pytest.raises(ldl.GradientError, match=says) as error:
        ldl.check_gradients(Broken(fault), X)
    assert isinstance(error.value, AssertionError)
    one_line(error)
    if fault in ("forgets s", "s by 1 %", "x twice"):
        name = says
        assert re.search(rf"∂L/∂{name}\b", str(error.value))


def test_the_errors_can_be_read_where_the_tolerance_is_wide() -> None:
    errors = ldl.check_gradients(Broken("s by 1 %"), X, tolerance=1.0)
    assert errors["s"] == pytest.approx(0.01, rel=0.1)
    assert errors["x"] < 1e-6
    assert ldl.check_gradients(Broken(), X.tolist())["x"] < 1e-6


def test_frozen_parameters_are_no_part_of_it() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    assert set(ldl.check_gradients(model, X)) == {"x", "1.weight", "1.bias"}


def test_a_model_in_eval_mode_is_checked_too() -> None:
    assert ldl.check_gradients(Broken().eval(), X)


def test_the_layer_of_the_readme_passes() -> None:
    space: dict[str, Any] = {"__name__": "layer"}
    exec(compile(BLOCKS[1].partition("\nmodel =")[0], "README.md", "exec"), space)
    assert set(ldl.check_gradients(space["Scale"](3), X)) == {"x", "s"}


def test_it_works_on_the_device(fake: FakeBackend) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Tanh())
    assert max(ldl.check_gradients(model, X).values()) < 1e-6


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"nn\.Module"):
        ldl.check_gradients(np.tanh, X)  # type: ignore[arg-type]


class Cubed(nn.ElementwiseLoss):
    """l = |x - t|³, its derivative right or not."""

    def __init__(self, factor: float = 3.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.factor = factor

    def value(self, x: Any, t: Any) -> Any:
        return self.backend.xp.abs(x - t) ** 3

    def derivative(self, x: Any, t: Any) -> Any:
        return self.factor * (x - t) * self.backend.xp.abs(x - t)


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
def test_a_loss_is_held_against_its_differences_too(reduction: str) -> None:
    assert ldl.check_gradients(Cubed(reduction=reduction), X, target=X[::-1].copy())
    with pytest.raises(ldl.GradientError, match=r"∂L/∂x of Cubed.* is wrong"):
        ldl.check_gradients(Cubed(2.0, reduction), X, target=X[::-1].copy())
    assert ldl.check_gradients(nn.CrossEntropyLoss(), X, target=np.zeros(len(X), "int64"))


def test_a_loss_needs_a_target_and_a_module_takes_none() -> None:
    with pytest.raises(TypeError, match="target="):
        ldl.check_gradients(nn.MSELoss(), X)
    with pytest.raises(TypeError, match="target="):
        ldl.check_gradients(nn.Tanh(), X, target=X)


class Rolls(nn.Identity):
    def forward(self, x: Any) -> Any:
        return super().forward(x) + np.random.default_rng().random()


class Writes(nn.Identity):
    def forward(self, x: Any) -> Any:
        x *= 2
        return super().forward(x)


class WritesBack(nn.Identity):
    def backward(self, grad: Any) -> Any:
        self.take()
        grad *= 1.5
        return grad / 1.5


class Remembers(nn.Module):
    """y = x², whose backward reads x as it is by then."""

    def forward(self, x: Any) -> Any:
        self.keep(0)
        self.x = x
        return x * x

    def backward(self, grad: Any) -> Any:
        self.take()
        return 2 * self.x * grad


class RemembersItsOutput(nn.Module):
    """y = exp x, whose backward reads y as it is by then; an attribute would be seen to."""

    def forward(self, x: Any) -> Any:
        self.keep(0)
        self.held = [np.exp(x)]
        return self.held[0]

    def backward(self, grad: Any) -> Any:
        self.take()
        return self.held[0] * grad


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Rolls, "two calls of forward differ"),
        (Writes, "forward writes to its input"),
        (WritesBack, "backward writes to its gradient"),
        (Remembers, r"reads its input.* again.*self\.keep"),
        (RemembersItsOutput, r"its output.* again.*self\.keep"),
    ],
)
def test_what_makes_the_comparison_meaningless_is_named(layer: Any, message: str) -> None:
    before = X.copy()
    with pytest.raises(ldl.GradientError, match=message) as error:
        ldl.check_gradients(layer(), X)
    one_line(error)
    np.testing.assert_array_equal(X, before)


class Product(nn.Loss):
    """Σ xt, with a fault of one's choice."""

    def __init__(self, fault: str = "", reduction: str = "sum") -> None:
        self.fault, self.reduction = fault, reduction

    def forward(self, input: Any, target: Any) -> Any:
        losses = input * target
        self.keep(target)
        self.t = target
        if self.fault == "writes":
            target *= 2
        if self.reduction == "none":
            return losses
        if self.fault == "mean" and self.reduction == "mean":
            return losses.mean() + 1
        return losses.sum() / {"sum": 1, "mean": losses.size}.get(self.reduction, len(losses))

    def backward(self, grad: Any = None) -> Any:
        t = self.take()
        t = self.t if self.fault == "remembers" else t
        factor = {"mean": 1 / t.size, "batchmean": 1 / len(t)}.get(self.reduction, 1)
        if self.fault == "batchmean" and self.reduction == "batchmean":
            factor = 1 / t.size
        return factor * t * (1 if grad is None else grad)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("writes", "writes to its target"),
        ("remembers", r"the target again.*self\.keep"),
        ("mean", "reduction='mean'"),
        ("batchmean", "reduction='batchmean'"),
    ],
)
def test_what_a_loss_does_wrong_is_named(fault: str, message: str) -> None:
    assert ldl.check_gradients(Product(), X, target=X[::-1].copy())
    with pytest.raises(ldl.GradientError, match=message) as error:
        ldl.check_gradients(Product(fault), X, target=X[::-1].copy())
    one_line(error)


@pytest.mark.parametrize(**named(LOSSES))
def test_every_loss_passes(row: Any) -> None:
    x, t = row.batch("float64")
    assert ldl.check_gradients(row.build(), x, target=t)["x"] < 1e-6
    w = np.arange(len(x)) * 0.5
    assert ldl.check_gradients(row.build(), x, target=t, sample_weight=w)["x"] < 1e-6


class Weighing(nn.Loss):
    """Σ w (x - t)², or what it is told to do with the weights."""

    reduction = "sum"

    def __init__(self, how: str) -> None:
        self.how = how

    def forward(self, input: Any, target: Any, sample_weight: Any = None) -> Any:
        d, w = input - target, sample_weight[:, None]
        if self.how == "writes":
            w *= 1
            w += 1
        self.w = w
        self.keep(d, w)
        return (w * d * d).sum()

    def backward(self, grad: Any = None) -> Any:
        d, w = self.take()
        if self.how == "forgets":
            w = 1 + 0 * w
        return 2 * d * (self.w if self.how == "holds" else w)


@pytest.mark.parametrize(
    ("how", "message"),
    [("forgets", "is wrong"), ("writes", "weights of samples"), ("holds", "reads its input")],
)
def test_a_loss_that_is_wrong_with_weights_is_found(how: str, message: str) -> None:
    x, t, w = np.linspace(-1, 1, 6).reshape(3, 2), np.ones((3, 2)), np.array([1.0, 2, 3])
    ldl.check_gradients(Weighing("right"), x, target=t, sample_weight=w)
    with pytest.raises(ldl.GradientError, match=message) as error:
        ldl.check_gradients(Weighing(how), x, target=t, sample_weight=w)
    one_line(error)
    with pytest.raises(TypeError, match="sample_weight is for a loss"):
        ldl.check_gradients(nn.Linear(2, 2), x, sample_weight=w)
