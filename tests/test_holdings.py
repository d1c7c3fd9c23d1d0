"""What a layer's own code looks at is a part of what is recorded: a recording sees it change.

Every case is a factor that a layer multiplies by, and a way in which that changes between two steps
or in each of them. A step that is recorded and one that runs the layers' code give the same losses.
"""

from __future__ import annotations

import copy
import itertools
import random
import time
import types
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

import ldl
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl.compiler import holdings
from ldl.recordings import PAUSES, VAIN

X = np.random.default_rng(0).random((6, 4)).astype("float32")


@pytest.fixture(params=["numpy", CudaOnHost], ids=["numpy", "device"])
def backend(request: Any) -> Iterator[Any]:
    with ldl.use_backend(request.param if request.param == "numpy" else request.param()) as found:
        yield found


class Times(nn.Identity):
    """y = f x, where the factor is whatever `factor` gives."""

    def factor(self) -> Any:
        raise NotImplementedError

    def forward(self, x: Any) -> Any:
        return super().forward(x) * float(self.factor())

    def backward(self, grad: Any) -> Any:
        return super().backward(grad) * float(self.factor())


def losses(layer: nn.Module, changes: Sequence[Callable[[], Any]], record: bool) -> list[float]:
    """Of two steps, and of two after each change."""
    ldl.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), layer)
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, lr=0.01), record=record)
    x = model.backend.asarray(X)
    found = []
    for change in [lambda: None, *changes]:
        change()
        found += [float(step(x, x)) for _ in range(2)]
    return found


# ---- what is changed between steps -------------------------------------------------------------

FACTOR = 2.0
TABLE = {"a": [1.0, {"b": 2.0}]}
ARRAY = np.array([2.0, 5.0])
CONTEXT = ContextVar("factor", default=2.0)
SETTINGS = types.SimpleNamespace(inner=types.SimpleNamespace(factor=2.0))
MODULE = types.ModuleType("settings_of_a_user")
MODULE.factor = 2.0  # type: ignore[attr-defined]


class Slotted:
    __slots__ = ("__private", "factor")

    def __init__(self) -> None:
        self.factor = 2.0
        self.__private = 1.0

    def double(self) -> None:
        self.__private = 2.0

    def value(self) -> float:
        return self.factor * self.__private


class Helper:
    gain = 2.0

    def __init__(self) -> None:
        self.offset = FACTOR

    def __call__(self) -> float:
        return self.gain * self.offset

    @staticmethod
    def fixed() -> float:
        return FACTOR

    @property
    def read(self) -> float:
        return FACTOR * self.gain


def helper() -> float:
    return FACTOR


def set_global(value: float) -> None:
    global FACTOR
    FACTOR = value


def closure() -> tuple[Callable[[], float], Callable[[float], None]]:
    held = 2.0

    def read() -> float:
        return held

    def write(value: float) -> None:
        nonlocal held
        held = value

    return read, write


READ, WRITE = closure()
DEFAULTS = [2.0]


def with_default(held: list[float] = DEFAULTS) -> float:
    return held[0]


def passed_on(function: Callable[[], float]) -> Callable[[], float]:
    @wraps(function)
    def entrance() -> float:
        return function()

    return entrance


@passed_on
def decorated() -> float:
    return FACTOR


class Case(NamedTuple):
    factor: Callable[[Any], Any]
    change: Callable[[Any, float], Any]
    hold: Any = None


def _set_class(layer: Any, value: float) -> None:
    type(layer).gain = value


CASES: dict[str, Case] = {
    "a global": Case(lambda s: FACTOR, lambda s, v: set_global(v)),
    "a global of a function": Case(lambda s: helper(), lambda s, v: set_global(v)),
    "a global that a function names which is held": Case(
        lambda s: s.hold(), lambda s, v: set_global(v), helper
    ),
    "a comprehension's global": Case(
        lambda s: sum(FACTOR for _ in range(2)), lambda s, v: set_global(v)
    ),
    "a closure": Case(lambda s: READ(), lambda s, v: WRITE(v)),
    "a default": Case(lambda s: with_default(), lambda s, v: DEFAULTS.__setitem__(0, v)),
    "a nested global": Case(lambda s: TABLE["a"][1]["b"], lambda s, v: TABLE["a"][1].update(b=v)),
    "a module's": Case(lambda s: MODULE.factor, lambda s, v: setattr(MODULE, "factor", v)),
    "a namespace's": Case(
        lambda s: SETTINGS.inner.factor, lambda s, v: setattr(SETTINGS.inner, "factor", v)
    ),
    "a context's": Case(lambda s: CONTEXT.get(), lambda s, v: CONTEXT.set(v)),
    "numbers of a global array": Case(lambda s: ARRAY[0], lambda s, v: ARRAY.__setitem__(0, v)),
    "a class's attribute": Case(lambda s: s.gain, _set_class),
    "an attribute that hides a class's": Case(lambda s: s.gain, lambda s, v: setattr(s, "gain", v)),
    "one that is set around the mark": Case(lambda s: s.gain, lambda s, v: vars(s).update(gain=v)),
    "an attribute that may be there": Case(
        lambda s: getattr(s, "maybe", 2.0), lambda s, v: setattr(s, "maybe", v)
    ),
    "a helper's class": Case(lambda s: s.hold(), lambda s, v: setattr(Helper, "gain", v), Helper()),
    "a helper's own": Case(lambda s: s.hold(), lambda s, v: setattr(s.hold, "offset", v), Helper()),
    "a helper's property": Case(lambda s: s.hold.read, lambda s, v: set_global(v), Helper()),
    "a static method": Case(lambda s: s.hold.fixed(), lambda s, v: set_global(v), Helper()),
    "a helper that is made": Case(lambda s: Helper()(), lambda s, v: set_global(v)),
    "a slot": Case(lambda s: s.hold.value(), lambda s, v: setattr(s.hold, "factor", v), Slotted()),
    "a private slot": Case(lambda s: s.hold.value(), lambda s, v: s.hold.double(), Slotted()),
    "a deque": Case(lambda s: s.hold[0], lambda s, v: s.hold.appendleft(v), deque([2.0])),
    "a set": Case(lambda s: max(s.hold), lambda s, v: s.hold.add(v), {2.0}),
    "an ordered dict": Case(
        lambda s: [*s.hold.values()][-1],
        lambda s, v: s.hold.__setitem__(v, v),
        OrderedDict(a=2.0),
    ),
    "a list in a dict in a list": Case(
        lambda s: s.hold[0]["a"][0],
        lambda s, v: s.hold[0]["a"].__setitem__(0, v),
        [{"a": [2.0]}],
    ),
    "from one list to the next": Case(
        lambda s: 2.0 + len(s.hold[0]),
        lambda s, v: s.hold[0].append(s.hold[1].pop()) if s.hold[1] else None,
        [[], [1.0]],
    ),
    "an object in an object": Case(
        lambda s: s.hold.inner.factor,
        lambda s, v: setattr(s.hold.inner, "factor", v),
        types.SimpleNamespace(inner=types.SimpleNamespace(factor=2.0)),
    ),
    "a partial's list": Case(
        lambda s: s.hold(), lambda s, v: DEFAULTS.__setitem__(0, v), partial(with_default)
    ),
    "bytes": Case(lambda s: s.hold[0], lambda s, v: s.hold.__setitem__(0, int(v)), bytearray([2])),
    "a decorated function": Case(lambda s: decorated(), lambda s, v: set_global(v)),
    "another function": Case(lambda s: helper(), lambda s, v: globals().update(helper=lambda: v)),
}


def made(case: Case) -> Any:
    class Own(Times):
        gain: ClassVar[float] = 2.0

        def __init__(self) -> None:
            self.hold = copy.deepcopy(case.hold)

        factor = case.factor

    return Own()


@contextmanager
def kept() -> Iterator[None]:
    """Afterwards the surroundings are as they were."""
    before = {name: globals()[name] for name in ("FACTOR", "helper", "COUNT")}
    token = CONTEXT.set(2.0)
    yield
    CONTEXT.reset(token)
    globals().update(before)
    TABLE["a"][1]["b"] = DEFAULTS[0] = ARRAY[0] = Helper.gain = 2.0  # type: ignore[index]
    MODULE.factor = SETTINGS.inner.factor = 2.0  # type: ignore[attr-defined]
    WRITE(2.0)
    SEEN.clear()


@pytest.mark.parametrize("name", CASES)
def test_what_changes_between_steps_is_seen(name: str, backend: Any) -> None:
    case, found = CASES[name], {}
    for record in (True, False):
        layer = made(case)
        with kept():
            changes = [partial(case.change, layer, value) for value in (3.0, 1.0)]
            found[record] = losses(layer, changes, record)
    np.testing.assert_allclose(found[True], found[False], rtol=2e-5)
    still = losses(made(case), [lambda: None] * 2, record=False)
    assert still[2] != pytest.approx(found[False][2], rel=1e-3), "the change changes the loss"


@pytest.mark.parametrize("name", CASES)
def test_what_may_change_but_does_not_is_recorded_once(name: str, backend: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4), made(CASES[name]))
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, lr=0.01))
    x = backend.asarray(X)
    recordings = []
    for _ in range(3):
        step(x, x)
        recordings += step.recordings().values()
    assert recordings[0].played
    assert len({id(r) for r in recordings}) == 1


# ---- what changes in each step -----------------------------------------------------------------

COUNT = 1
SEEN: list[Any] = []


def count_in_a_global(layer: Any) -> float:
    global COUNT
    COUNT += 1
    return COUNT


def count_in_a_class(layer: Any) -> float:
    type(layer).count = getattr(type(layer), "count", 0) + 1
    return float(type(layer).count)


def count_in_a_list(layer: Any) -> float:
    SEEN.append(1)
    return len(SEEN)


def count_in_a_deque(layer: Any) -> float:
    layer.hold.append(1.0)
    return len(layer.hold)


def count_in_a_slot(layer: Any) -> float:
    layer.hold.factor += 1
    return float(layer.hold.value())


def count_in_a_function(layer: Any) -> float:
    helper.count = getattr(helper, "count", 0) + 1  # type: ignore[attr-defined]
    return float(helper.count)  # type: ignore[attr-defined]


def roll(layer: Any) -> float:
    return random.random()


def roll_ones_own(layer: Any) -> float:
    return float(layer.hold.random())


def branch(layer: Any) -> float:
    return 2.0 if random.random() < 0.5 else 3.0


def branch_by_numpy(layer: Any) -> float:
    return 2.0 if np.random.rand() < 0.5 else 3.0  # noqa: NPY002


def branch_by_a_generator(layer: Any) -> float:
    return 2.0 if layer.hold.random() < 0.5 else 3.0


MOVES: dict[str, tuple[Callable[[Any], float], Callable[[], Any]]] = {
    "a global": (count_in_a_global, lambda: None),
    "a class": (count_in_a_class, lambda: None),
    "a list": (count_in_a_list, lambda: None),
    "a deque": (count_in_a_deque, lambda: deque([1.0])),
    "a slot": (count_in_a_slot, Slotted),
    "a function": (count_in_a_function, lambda: None),
    "dice": (roll, lambda: None),
    "dice of one's own": (roll_ones_own, lambda: random.Random(3)),
    "a branch": (branch, lambda: None),
    "a branch by NumPy": (branch_by_numpy, lambda: None),
    "a branch by a generator": (branch_by_a_generator, lambda: np.random.default_rng(3)),
    "a counter": (lambda s: next(s.hold), lambda: itertools.count(1)),
    "an iterator": (lambda s: next(s.hold), lambda: iter(range(1, 99))),
    "a cycle": (lambda s: next(s.hold), lambda: itertools.cycle([1.0, 2.0, 3.0])),
    "an enumeration": (lambda s: next(s.hold)[0], lambda: enumerate("a" * 99)),
}


class Moves(Times):
    """A layer whose factor is another one in every forward, the same on the way back."""

    def __init__(self, act: Any, hold: Any) -> None:
        self.act, self.hold = act, hold

    def forward(self, x: Any) -> Any:
        factor = float(self.act(self))
        self.keep(factor)
        return x * factor

    def backward(self, grad: Any) -> Any:
        return grad * self.take()


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy support:DeprecationWarning")
def test_what_moves_in_every_step_runs_the_layers_own_code(name: str, backend: Any) -> None:
    act, hold = MOVES[name]
    found = []
    for record in (True, False):
        vars(helper).clear()
        vars(Moves).get("count") is not None and delattr(Moves, "count")
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        layer = Moves(act, hold())
        with kept(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            found.append(losses(layer, [lambda: None] * 5, record))
        assert len([w for w in said if "layer by layer" in str(w.message)]) == record
    np.testing.assert_array_equal(*found)
    assert len({round(loss, 2) for loss in found[0]}) > 1


def test_a_trial_leaves_nothing_behind() -> None:
    """The numbers before a refusal, its reason, and that no array of the trial is left."""

    class Remembers(nn.Identity):
        def forward(self, x: Any) -> Any:
            SEEN.append(x)
            return super().forward(x)

    model = nn.Sequential(nn.Linear(4, 4), Remembers())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    with kept():
        with pytest.warns(UserWarning, match=r"Remembers.forward changes 'SEEN' from step to step"):
            step(X, X)
        assert [type(x) for x in SEEN] == [np.ndarray]


def test_a_layer_that_reads_the_clock_is_not_recorded() -> None:
    class Timed(nn.Identity):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * (2.0 if time.perf_counter() > 0 else 1.0)

    model = nn.Sequential(nn.Linear(4, 4), Timed())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    with pytest.warns(UserWarning, match="uses perf_counter: numbers that differ"):
        step(X, X)


def test_methods_that_no_step_calls_may_do_as_they_like() -> None:
    class Resets(nn.Identity):
        made = 0

        def __init__(self) -> None:
            self.reset()
            type(self).made += 1

        def reset(self) -> None:
            self.scale = 1.0 + np.random.default_rng().random()
            self.at = time.time()

        def forward(self, x: Any) -> Any:
            return super().forward(x) * self.scale

    model = nn.Sequential(nn.Linear(4, 4), Resets())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    step(X, X)
    assert all(r.played for r in step.recordings().values())


def test_names_of_a_loop_around_are_none_of_the_layers() -> None:
    """An attribute that is called as a global of the layer's module is not that global."""
    source = """
scale = 1.0
class Scaled(nn.Identity):
    def __init__(self):
        self.scale = 2.0
    def forward(self, x):
        return super().forward(x) * self.scale
"""
    module = types.ModuleType("a_notebook")
    vars(module)["nn"] = nn
    exec(source, vars(module))
    model = nn.Sequential(nn.Linear(4, 4), module.Scaled())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    found = set()
    for i in range(3):
        module.scale = float(i)  # type: ignore[attr-defined]
        step(X, X)
        found |= {id(r) for r in step.recordings().values()}
    assert len(found) == 1


def test_a_large_table_of_numbers_is_refused_and_one_that_is_multiplied_is_read() -> None:
    large = np.full((4, holdings.LARGEST), 2.0, "float32")

    class Reads(nn.Identity):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * float(large[0, 0])

    class Multiplies(nn.Identity):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * large[:, 0]

    for layer, played in ((Reads(), False), (Multiplies(), True)):
        model = nn.Sequential(nn.Linear(4, 4), layer)
        step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first = step(X, X)
        large[...] = 3.0
        assert step(X, X) != first
        assert [r.played for r in step.recordings().values()] == [played]
        large[...] = 2.0


def test_more_than_can_be_looked_at_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Identity())
    model[1].words = [[i] for i in range(holdings.MOST)]
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.0))
    with pytest.warns(UserWarning, match="'words' is of more than 10,000 things"):
        step(X, X)


def test_a_predictor_sees_it_too() -> None:
    layer = made(CASES["a global"])
    model = nn.Sequential(nn.Linear(4, 4), layer)
    predictor = ldl.Predictor(model)
    with kept():
        for value in (2.0, 3.0, 3.0):
            set_global(value)
            np.testing.assert_allclose(predictor(X), model.predict(X), rtol=1e-5)


def test_arrays_in_slots_and_deques_are_read_where_they_lie() -> None:
    class Slots:
        __slots__ = ("a",)

    class Reads(nn.Identity):
        def __init__(self) -> None:
            self.slots, self.queue = Slots(), deque([np.ones(4, "float32")])
            self.slots.a = np.ones(4, "float32")  # type: ignore[attr-defined]

        def forward(self, x: Any) -> Any:
            return x * self.slots.a * self.queue[0]  # type: ignore[attr-defined]

    layer = Reads()
    predictor = ldl.Predictor(nn.Sequential(layer, nn.Linear(4, 4)))
    for _ in range(3):
        np.testing.assert_allclose(predictor(X), predictor.model.predict(X), rtol=1e-5)
        layer.slots.a *= 2  # type: ignore[attr-defined]
        layer.queue[0] += 1
    assert all(r.played for r in predictor.recordings().values())


# ---- what is set anew in every step ------------------------------------------------------------


class Scaled(nn.Identity):
    scale = 1.0

    def forward(self, x: Any) -> Any:
        return super().forward(x) * self.scale

    def backward(self, grad: Any) -> Any:
        return super().backward(grad) * self.scale


def test_what_is_set_anew_in_every_step_is_not_recorded_for_ever(backend: Any) -> None:
    found, counts, x = [], [], backend.asarray(X)
    for record in (True, False):
        ldl.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), Scaled())
        step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, lr=0.01), record=record)
        recordings: dict[int, Any] = {}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            for i in range(100):
                model[1].scale = 1.0 + i % 7
                found.append(float(step(x, x)))
                recordings |= {id(r): r for r in step.recordings().values() if r.played}
        counts.append(len(recordings))
        messages = [str(w.message) for w in said if "layer by layer" in str(w.message)]
        assert len(messages) == record
        assert all("Scaled() changes its attribute 'scale'" in message for message in messages)
    np.testing.assert_allclose(found[:100], found[100:], rtol=2e-5)
    assert counts == [VAIN + 1, 0], "eight in vain, and one more after a pause"


def test_a_step_whose_parts_rest_again_is_recorded_again() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Scaled())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, lr=0.01))

    def unrest() -> None:
        for i in range(20):
            model[1].scale = 1.0 + i % 7
            step(X, X)

    with pytest.warns(UserWarning, match="layer by layer"):
        unrest()
    assert not any(r.played for r in step.recordings().values())
    for _ in range(PAUSES[0]):
        step(X, X)
    assert all(r.played for r in step.recordings().values())


def test_shapes_that_are_all_new_are_recorded() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Scaled())
    step, predictor = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model)), ldl.Predictor(model)
    for n in range(2, 2 + 2 * VAIN):
        x = np.ones((n, 4), "float32")
        step(x, x)
        predictor(x)
    assert all(r.played for r in step.recordings().values())
    assert all(r.played for r in predictor.recordings().values())


def test_a_predictor_whose_model_is_set_anew_in_every_call_gives_its_numbers() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Scaled())
    predictor = ldl.Predictor(model)

    def unrest() -> None:
        for i in range(3 * VAIN):
            model[1].scale = 1.0 + i
            np.testing.assert_allclose(predictor(X), model.predict(X), rtol=1e-5)

    with pytest.warns(UserWarning, match="changes its attribute 'scale'"):
        unrest()
    assert not any(r.played for r in predictor.recordings().values())


def test_a_generator_of_a_forwards_own_is_recorded_where_it_has_a_seed() -> None:
    class Seeded(nn.Identity):
        def forward(self, x: Any) -> Any:
            mask = np.random.default_rng(3).random(x.shape[1]).astype("float32")
            return super().forward(x) * mask

    class Branches(nn.Identity):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * (2.0 if np.random.default_rng().random() < 0.5 else 3.0)

    for layer, played in ((Seeded(), True), (Branches(), False)):
        model = nn.Sequential(nn.Linear(4, 4), layer)
        step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step(X, X)
        assert [r.played for r in step.recordings().values()] == [played]
