"""What a layer's own code looks at is a part of what is recorded: a recording sees it change.

Every case is a factor that a layer multiplies by, and a way in which that changes between two steps
or in each of them. A step that is recorded and one that runs the layers' code give the same losses.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import random
import threading
import time
import types
import warnings
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from enum import Flag, StrEnum
from functools import cached_property, partial, partialmethod, singledispatchmethod, wraps
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

import ldl
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl.compiler import holdings
from ldl.data.noise import Noise
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


class Rate(type):
    @property
    def rate(cls) -> float:
        return FACTOR


class Rated(metaclass=Rate):
    pass


class Methods:
    def _times(self, k: float) -> float:
        return FACTOR * k

    times = partialmethod(_times, 1.0)

    @singledispatchmethod
    def dispatched(self, x: object) -> float:
        return FACTOR

    @property
    def put(self) -> list[float]:
        return []

    @put.setter
    def put(self, to: list[float]) -> None:
        to[0] = FACTOR


Methods().dispatched(1)  # which remembers for what it was called


class Kind(StrEnum):
    ONE = "one"

    def factor(self) -> float:
        return FACTOR


class Number(float):
    extra = 1.0


def two(held: float = 2.0, *, more: float = 0.0) -> float:
    return held + more


def another(held: float = 2.0, *, more: float = 0.0) -> float:
    return more + held - 1


def handed_on() -> Any:
    return MODULE


class Target:
    factor = 2.0


TARGET = Target()
CODE = two.__code__
PROXIED = {"factor": 2.0}
PROXY = types.MappingProxyType(PROXIED)
LOCAL = threading.local()
LOCAL.factor = 2.0
WEAK = weakref.ref(TARGET)
OBJECTS = np.array([SETTINGS.inner, None], dtype=object)
OPTIMIZER = optim.SGD(nn.Linear(2, 2), lr=2.0)


def _set_code(value: float) -> None:
    two.__code__ = CODE if value == 2.0 else another.__code__


def _set_put(held: Methods) -> float:
    to = [0.0]
    held.put = to
    return to[0]


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
    "a partial method": Case(lambda s: s.hold.times(), lambda s, v: set_global(v), Methods()),
    "a dispatched method": Case(
        lambda s: s.hold.dispatched(1), lambda s, v: set_global(v), Methods()
    ),
    "a property that is set": Case(
        lambda s: _set_put(s.hold), lambda s, v: set_global(v), Methods()
    ),
    "a literal name": Case(
        lambda s: getattr(s.hold, "times")(),  # noqa: B009
        lambda s, v: set_global(v),
        Methods(),
    ),
    "a metaclass's": Case(lambda s: Rated.rate, lambda s, v: set_global(v)),
    "a method of a text": Case(lambda s: s.hold.factor(), lambda s, v: set_global(v), Kind.ONE),
    "an attribute of a number": Case(
        lambda s: 1.0 + s.hold.extra, lambda s, v: setattr(s.hold, "extra", v), Number(2.0)
    ),
    "a module's in a dict": Case(
        lambda s: {"a": MODULE}["a"].factor, lambda s, v: setattr(MODULE, "factor", v)
    ),
    "a module's that is handed on": Case(
        lambda s: handed_on().factor, lambda s, v: setattr(MODULE, "factor", v)
    ),
    "a module's that is a default": Case(
        lambda s, m=MODULE: m.factor, lambda s, v: setattr(MODULE, "factor", v)
    ),
    "a proxy of a dict": Case(lambda s: PROXY["factor"], lambda s, v: PROXIED.update(factor=v)),
    "a thread's": Case(lambda s: LOCAL.factor, lambda s, v: setattr(LOCAL, "factor", v)),
    "a weak reference's": Case(
        lambda s: WEAK().factor,  # type: ignore[union-attr]
        lambda s, v: setattr(TARGET, "factor", v),
    ),
    "an object's in an array": Case(
        lambda s: OBJECTS[0].factor, lambda s, v: setattr(SETTINGS.inner, "factor", v)
    ),
    "a default dict's factory": Case(
        lambda s: s.hold.copy()["a"], lambda s, v: set_global(v), defaultdict(helper)
    ),
    "an optimizer's": Case(
        lambda s: OPTIMIZER.param_groups[0]["lr"],
        lambda s, v: OPTIMIZER.param_groups[0].update(lr=v),
    ),
    "other defaults": Case(lambda s: two(), lambda s, v: setattr(two, "__defaults__", (v,))),
    "a keyword's default": Case(
        lambda s: two(),
        lambda s, v: two.__kwdefaults__.update(more=v),  # type: ignore[union-attr]
    ),
    "other code": Case(lambda s: two(), lambda s, v: _set_code(v)),
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
    LOCAL.factor = PROXIED["factor"] = OPTIMIZER.param_groups[0]["lr"] = 2.0
    two.__defaults__, two.__kwdefaults__, two.__code__ = (2.0,), {"more": 0.0}, CODE
    WRITE(2.0)
    vars(TARGET).clear()
    SEEN.clear()
    COUNTS[0] = BYTES[0] = SLOTTED.factor = SHARED.n = 1
    STREAM.restart(0, 9)
    CACHE.clear()
    globals().pop("LAZY", None)
    vars(FROZEN).clear()


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


COUNTS = np.ones(2)
BYTES = bytearray([1])
SLOTTED = Slotted()
SLOTTED.factor = 1
STREAM = ldl.random.Stream(0, 9)
CACHE: dict[Any, Any] = {}


class Shared:
    n = 1

    def __deepcopy__(self, memo: Any) -> Shared:
        return self


SHARED = Shared()


@dataclass(frozen=True)
class Frozen:
    @cached_property
    def twice(self) -> float:
        return 4.0


FROZEN = Frozen()


def count_in_an_array(layer: Any) -> float:
    COUNTS[0] += 1
    return float(COUNTS[0])


def count_in_bytes(layer: Any) -> float:
    BYTES[0] += 1
    return BYTES[0]


def count_in_a_slot_around(layer: Any) -> float:
    SLOTTED.factor += 1
    return SLOTTED.factor


def count_in_what_is_shared(layer: Any) -> float:
    layer.hold.n += 1
    return float(layer.hold.n)


def count_in_a_new_global(layer: Any) -> float:
    global LAZY
    try:
        LAZY += 1
    except NameError:
        LAZY = 1
    return LAZY


def count_beside_what_is_frozen(layer: Any) -> float:
    SEEN.append(FROZEN.twice)
    return len(SEEN)


MOVES: dict[str, tuple[Callable[[Any], float], Callable[[], Any]]] = {
    "a global": (count_in_a_global, lambda: None),
    "a class": (count_in_a_class, lambda: None),
    "a list": (count_in_a_list, lambda: None),
    "a deque": (count_in_a_deque, lambda: deque([1.0])),
    "a slot": (count_in_a_slot, Slotted),
    "a function": (count_in_a_function, lambda: None),
    "an array": (count_in_an_array, lambda: None),
    "bytes": (count_in_bytes, lambda: None),
    "a slot around": (count_in_a_slot_around, lambda: None),
    "what is shared": (count_in_what_is_shared, lambda: SHARED),
    "a new global": (count_in_a_new_global, lambda: None),
    "a list beside what is frozen": (count_beside_what_is_frozen, lambda: None),
    "a stream's draws": (lambda s: 1.0 + s.hold.next().draw, lambda: ldl.random.Stream(0, 9)),
    "a stream's numbers": (
        lambda s: float(ldl.random.uniform((1,), s.hold.next())[0]),
        lambda: ldl.random.Stream(0, 9),
    ),
    "a stream around": (lambda s: 1.0 + STREAM.next().draw, lambda: None),
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


def test_an_interrupted_trial_leaves_nothing_behind() -> None:
    class Interrupted(nn.Identity):
        def forward(self, x: Any) -> Any:
            SEEN.append(x)
            raise KeyboardInterrupt

    model = nn.Sequential(nn.Linear(4, 4), Interrupted())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    with kept():
        with pytest.raises(KeyboardInterrupt):
            step(X, X)
        assert SEEN == []


# ---- what is made once -------------------------------------------------------------------------


class Flags(Flag):
    A = 1
    B = 2


def cached(layer: Any) -> float:
    if "factor" not in CACHE:
        CACHE["factor"] = 2.0
    return float(CACHE["factor"])


def lazy(layer: Any) -> float:
    global LAZY
    if "LAZY" not in globals():
        LAZY = 2
    return LAZY


def sized(layer: Any) -> float:
    layer.sizes = (1000, 2000)
    return float(layer.sizes[0] / 500)


def in_the_class(layer: Any) -> float:
    if getattr(type(layer), "lazy", None) is None:
        type(layer).lazy = 2.0
    return float(type(layer).lazy)


ONCE: dict[str, Callable[[Any], float]] = {
    "in a dict": cached,
    "in a global": lazy,
    "in the layer": sized,
    "in a class": in_the_class,
    "by a cached property": lambda s: FROZEN.twice,
    "by an Enum": lambda s: 2.0 if Flags.A | Flags.B else 1.0,
}


@pytest.mark.parametrize("name", ONCE)
def test_what_is_made_in_the_first_step_is_there_in_the_next(name: str, backend: Any) -> None:
    found, played = [], []
    for record in (True, False):
        with kept(), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            ldl.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 4), type("Own", (Times,), {"factor": ONCE[name]})())
            step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, lr=0.01), record=record)
            x = backend.asarray(X)
            for _ in range(3):
                found.append(float(step(x, x)))
                played += [r.played for r in step.recordings().values()]
    np.testing.assert_allclose(found[:3], found[3:], rtol=2e-5)
    assert played[1:3] == [True, True]


def test_what_no_code_of_a_step_names_in_a_class_may_be_anything() -> None:
    class Numbered(nn.Identity):
        numbers = itertools.count()
        classes: ClassVar[dict[str, type]] = {}

        def __init__(self) -> None:
            self.number = next(self.numbers)
            self.scale = 1.0 + np.random.default_rng(0).random()

        def __init_subclass__(cls) -> None:
            cls.classes[cls.__name__] = cls
            super().__init_subclass__()

        def forward(self, x: Any) -> Any:
            return super().forward(x) * self.scale

    class Inner(Numbered):
        pass

    model = nn.Sequential(nn.Linear(4, 4), Inner())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    step(X, X)
    assert all(r.played for r in step.recordings().values())


def test_an_object_whose_getattr_knows_its_names_alone_is_looked_at() -> None:
    class Settings:
        def __init__(self) -> None:
            vars(self)["held"] = {"factor": 2.0}

        def __getattr__(self, name: str) -> Any:
            return self.held[name]

    settings = Settings()

    class Own(Times):
        def factor(self) -> Any:
            return settings.factor

    found = []
    for record in (True, False):
        settings.held["factor"] = 2.0
        found.append(losses(Own(), [lambda: settings.held.update(factor=3.0)], record))
    np.testing.assert_allclose(found[0], found[1], rtol=2e-5)


@pytest.mark.parametrize("order", [1, -1])
def test_a_mixin_of_two_layers_is_looked_at_for_both(order: int) -> None:
    class Gain:
        def function(self, x: Any) -> Any:
            return x * FACTOR

        def derivative(self, x: Any, *more: Any) -> Any:
            return x * 0 + FACTOR

    class Same(Gain, nn.Module):
        def forward(self, x: Any) -> Any:
            return x

        def backward(self, grad: Any) -> Any:
            return grad

    class Act(Gain, nn.Activation):
        pass

    found = []
    for record in (True, False):
        layers = [Same(), Act()][::order]
        with kept():
            found.append(losses(nn.Sequential(*layers), [lambda: set_global(3.0)], record))
    np.testing.assert_allclose(found[0], found[1], rtol=2e-5)


def test_an_array_that_is_multiplied_and_read_is_compared() -> None:
    array = np.array([2.0, 3.0, 4.0, 5.0], "float32")

    class Both(nn.Identity):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * array * (array > 2.5)

        def backward(self, grad: Any) -> Any:
            return super().backward(grad) * array * (array > 2.5)

    found = []
    for record in (True, False):
        array[0] = 2.0
        found.append(losses(Both(), [partial(array.__setitem__, 0, 3.0)], record))
    np.testing.assert_allclose(found[0], found[1], rtol=2e-5)


def test_noise_of_host_numbers_is_another_in_every_step() -> None:
    class Grain(Noise):
        form = "grain"

        def __call__(self, x: Any, stream: Any, backend: Any) -> Any:
            return x + backend.asarray(ldl.random.uniform(x.shape, stream.next()))

    found = []
    for record in (True, False):
        ldl.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4))
        stream = ldl.random.Stream(0, ldl.random.NOISE)
        step = ldl.TrainStep(
            model,
            nn.MSELoss(),
            optim.SGD(model, 0.01),
            record=record,
            noise=Grain(0.5),
            stream=stream,
        )
        found.append([float(step(X, X)) for _ in range(4)])
    np.testing.assert_allclose(found[0], found[1], rtol=2e-5)


def test_an_installed_layer_inside_a_model_is_looked_at(tmp_path: Any, monkeypatch: Any) -> None:
    place = tmp_path / "site-packages"
    place.mkdir()
    (place / "layers_of_others.py").write_text("""
from ldl import nn
FACTOR = 2.0
class Scaled(nn.Identity):
    def forward(self, x):
        return super().forward(x) * FACTOR
""")
    monkeypatch.syspath_prepend(str(place))
    others = importlib.import_module("layers_of_others")
    found = []
    for record in (True, False):
        setattr(others, "FACTOR", 2.0)  # noqa: B010
        change = partial(setattr, others, "FACTOR", 3.0)
        found.append(losses(others.Scaled(), [change], record))
    np.testing.assert_allclose(found[0], found[1], rtol=2e-5)


# ---- clocks and the rest -----------------------------------------------------------------------


NOW = datetime.now


@pytest.mark.parametrize(
    "tells",
    [
        lambda: NOW().year > 0,
        lambda: random.Random().random() < 0.5,
        lambda: np.random.RandomState().rand() < 0.5,
    ],
)
def test_new_dice_and_a_clock_under_another_name_are_not_recorded(tells: Any) -> None:
    class Own(Times):
        def factor(self) -> float:
            return 2.0 if tells() else 3.0

    model = nn.Sequential(nn.Linear(4, 4), Own())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    with pytest.warns(UserWarning, match="numbers that differ from step to step"):
        step(X, X)


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
            rare = np.random.default_rng().random() < 0.001
            return super().forward(x) * (2.0 if rare else 3.0)

    for layer, played in ((Seeded(), True), (Branches(), False)):
        model = nn.Sequential(nn.Linear(4, 4), layer)
        step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step(X, X)
        assert [r.played for r in step.recordings().values()] == [played]


@pytest.mark.parametrize("holds", [False, True], ids=["the layer", "an object"])
def test_a_count_that_begins_in_a_class_is_refused_at_once(holds: bool) -> None:
    class Counter:
        count = 0

    class Counts(nn.Identity):
        count = 0

        def forward(self, x: Any) -> Any:
            where: Any = counter if holds else self
            where.count += 1
            return super().forward(x) * float(where.count)

    counter = Counter()
    model = nn.Sequential(nn.Linear(4, 4), Counts())
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.0))
    with pytest.warns(UserWarning, match="'count' from step to step|'counter' from step to step"):
        first = step(X, X)
    assert step(X, X) != first
