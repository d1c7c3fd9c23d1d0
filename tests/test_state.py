"""State that is not learned, and modules in dicts: found, moved, saved and resumed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from fake_device import FakeArray, FakeBackend, fixture
from ldl import nn, optim

fake = fixture
rng = np.random.default_rng(0)
X = (3 + rng.random((40, 4))).astype("float32")


@ldl.register
class Centre(nn.Module):
    """y = x - m, m the running mean of training batches."""

    def __init__(self, features: int, rate: float = 0.1) -> None:
        self.rate = rate
        self.mean = nn.Parameter(nn.init.zeros((features,)), requires_grad=False)

    def forward(self, x: Any) -> Any:
        if self.training:
            mean = self.mean.data
            mean[...] = (1 - self.rate) * mean + self.rate * x.mean(axis=0)
            self.keep(x.shape)
        return x - self.mean.data

    def backward(self, grad: Any) -> Any:
        self.take()
        return grad


def network() -> nn.Sequential:
    ldl.manual_seed(1)
    return nn.Sequential(Centre(4), nn.Linear(4, 4))


def fit(model: Any, epochs: int, **options: Any) -> None:
    optimizer = optim.AdamW(model, lr=0.01, weight_decay=0.5)
    ldl.fit(model, X, nn.MSELoss(), optimizer, epochs, batch_size=20, **options)


def test_the_idiom_is_in_the_docstring() -> None:
    assert "self.mean = nn.Buffer(nn.init.zeros((n,)))" in nn.Module.__doc__
    assert "self.mean.data[...]" in nn.Module.__doc__


@pytest.mark.filterwarnings("ignore:the step runs layer by layer")
def test_no_optimizer_touches_it_and_training_writes_it() -> None:
    model = network()
    fit(model, 2)
    expected = np.zeros(4, "float64")
    for epoch in (1, 2):
        order = ldl.random.permutation(
            40, ldl.random.Key(0, ldl.random.Stream(0, ldl.random.SHUFFLE).stream, epoch)
        )
        for half in (order[:20], order[20:]):
            expected = 0.9 * expected + 0.1 * X[half].mean(axis=0)
    np.testing.assert_allclose(model[0].mean.data, expected, rtol=1e-5)
    assert model[0].mean.grad is None


@pytest.mark.filterwarnings("ignore:the step runs layer by layer")
def test_it_is_saved_loaded_and_kept_in_checkpoints(tmp_path: Any) -> None:
    model = network()
    fit(model, 4)
    ldl.save(model, tmp_path / "model.ldl")
    loaded = ldl.load(tmp_path / "model.ldl")
    np.testing.assert_equal(loaded.state_dict(), model.state_dict())
    assert loaded.state_dict()["0.mean"].any()
    part, path = network(), tmp_path / "run.ckpt"
    fit(part, 2, checkpoint=path)
    resumed = network()
    fit(resumed, 4, checkpoint=path, resume=True)
    np.testing.assert_equal(resumed.state_dict(), model.state_dict())


def test_it_moves_with_the_model(fake: FakeBackend) -> None:
    with ldl.use_backend("numpy"):
        model = network()
    model[0].mean.data[...] = 2
    model.to(fake)
    assert isinstance(model[0].mean.data, FakeArray)
    fit(model, 1)
    assert isinstance(model[0].mean.data, FakeArray)
    moved = model.to("numpy", dtype="float64")
    assert moved[0].mean.dtype == "float64"
    assert (moved[0].mean.data > 2).all()


# ---- dicts ---------------------------------------------------------------------------------------


@ldl.register
class Heads(nn.Module):
    """A body of two heads by name, whose sum is taken."""

    def __init__(self, width: int) -> None:
        self.heads = {"a": nn.Linear(width, 2), "b": nn.Linear(width, 2)}
        self.scales = {"s": nn.Parameter(nn.init.ones((2,)))}

    def forward(self, x: Any) -> Any:
        y = self.heads["a"](x) + self.heads["b"](x)
        self.keep(y)
        return y * self.scales["s"].data

    def backward(self, grad: Any) -> Any:
        y = self.take()
        self.scales["s"].accumulate_rows(grad * y)
        grad = grad * self.scales["s"].data
        return self.heads["a"].backward(grad) + self.heads["b"].backward(grad)


def test_modules_and_parameters_in_dicts_are_found_and_train(tmp_path: Any) -> None:
    model = Heads(4)
    names = [name for name, _ in model.named_parameters()]
    assert names == ["scales.s", "heads.a.weight", "heads.a.bias", "heads.b.weight", "heads.b.bias"]
    before = {name: a.copy() for name, a in model.state_dict().items()}
    ldl.fit(model, (X, X[:, :2]), nn.MSELoss(), optim.Adam(model, 0.1), 1)
    for name, array in model.state_dict().items():
        assert (array != before[name]).any()
    ldl.save(model, tmp_path / "m")
    np.testing.assert_equal(ldl.load(tmp_path / "m").state_dict(), model.state_dict())
    assert ldl.check_gradients(Heads(3), rng.random((5, 3)))


@ldl.register
class Holder(nn.Module):
    """Keeps what it is given."""

    def __init__(self, **parts: Any) -> None:
        self.parts = parts

    def forward(self, x: Any) -> Any:
        return x


@ldl.register
class Secret(nn.Module):
    """Builds what is not found."""

    def __init__(self, how: str) -> None:
        if how == "list in a dict":
            self.held: Any = {"a": [nn.Linear(2, 2)]}
        elif how == "list in a list":
            self.held = [[nn.Linear(2, 2)]]
        elif how == "parameter in a list in a list":
            self.held = ([nn.Parameter(nn.init.ones((2,)))],)
        elif how == "set":
            self.held = {nn.Linear(2, 2)}
        elif how == "names that meet":
            self.held = {1: nn.Linear(2, 2), "1": nn.Linear(2, 2)}
        elif how == "by chance":
            self.held = [nn.Linear(2, 2) for _ in range(Secret.count)]

    count = 1

    def forward(self, x: Any) -> Any:
        return x


@ldl.register
class Added(nn.Sequential):
    """A Sequential that keeps a module beside its layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.extra = nn.Linear(2, 2)


def refused(model: nn.Module, folder: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as error:
        ldl.save(model, folder / "m")
    assert os.listdir(folder) == []
    return one_line(error)


@pytest.mark.parametrize(
    "how",
    ["list in a dict", "list in a list", "parameter in a list in a list", "set", "names that meet"],
)
def test_what_is_not_found_is_not_saved_though_it_is_no_argument(how: str, tmp_path: Any) -> None:
    message = refused(Secret(how), tmp_path)
    assert "held" in message


def test_deeper_arguments_and_a_sequentials_own_attributes_are_refused(tmp_path: Any) -> None:
    refused(Holder(a={"b": [nn.Linear(2, 2)]}), tmp_path)
    assert "extra" in refused(Added(nn.ReLU()), tmp_path)
    ldl.save(Holder(a=nn.Linear(2, 2), b=[nn.ReLU()]), tmp_path / "m")


def test_a_model_that_would_be_built_with_other_parameters_is_refused(tmp_path: Any) -> None:
    model = Secret("by chance")
    model.held.append(nn.Linear(2, 2))
    message = refused(model, tmp_path)
    assert "held.1.weight" in message
    layer = nn.Linear(2, 3)
    layer.late = nn.Parameter(nn.init.ones((2,)))  # type: ignore[attr-defined]
    assert "late" in refused(layer, tmp_path)
    resized = nn.Linear(2, 3)
    resized.weight = nn.Parameter(nn.init.ones((4, 3)))
    assert "weight" in refused(resized, tmp_path)


def test_a_model_that_cannot_be_built_again_is_refused(tmp_path: Any) -> None:
    @ldl.register
    class Once(nn.Module):
        built = 0

        def __init__(self) -> None:
            Once.built += 1
            if Once.built > 1:
                raise RuntimeError("only once")

    assert "only once" in refused(Once(), tmp_path)


def test_saving_draws_nothing_and_counts_nothing(tmp_path: Any) -> None:
    made = []
    for save in (False, True):
        ldl.manual_seed(5)
        model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
        if save:
            ldl.save(model, tmp_path / "m")
        made.append(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)))
    np.testing.assert_equal(made[0].state_dict(), made[1].state_dict())
    assert made[0][1].stream.next() == made[1][1].stream.next()


# ---- attributes that are arguments ---------------------------------------------------------------


@ldl.register
class Doubled(nn.Module):
    """Its attribute is not its argument."""

    def __init__(self, width: int, name: str = "a") -> None:
        self.width = 2 * width
        self.name = name
        self.inner = nn.Linear(self.width, 2)

    def forward(self, x: Any) -> Any:
        return self.inner(x)


def round_trip(model: Any, folder: Any) -> Any:
    ldl.save(model, folder / "m")
    return ldl.load(folder / "m")


def test_an_argument_changed_since_the_construction_is_saved_as_it_is_now(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.ELU(), nn.LeakyReLU())
    model[1].p = 0.25
    model[2].alpha = 2.0
    loaded = round_trip(model, tmp_path)
    assert (loaded[1].p, loaded[2].alpha, loaded[3].negative_slope) == (0.25, 2.0, 0.01)
    assert nn.Dropout(0.5).p == 0.5


def test_an_attribute_that_was_made_of_an_argument_is_left_alone(tmp_path: Any) -> None:
    model = Doubled(3)
    assert round_trip(model, tmp_path).width == 6
    model.name = "b"
    loaded = round_trip(model, tmp_path)
    assert (loaded.width, loaded.name) == (6, "b")


def test_a_change_that_no_argument_gives_back_is_refused(tmp_path: Any) -> None:
    model = Doubled(3)
    model.width = 7
    assert "'width'" in refused(model, tmp_path)
    layer = nn.Linear(3, 2)
    layer.in_features = 5
    refused(layer, tmp_path)


def test_the_documentation_says_so() -> None:
    from ldl.io import model

    assert "as it is now" in model.__doc__
