"""A checkpoint with a right checksum and wrong contents is refused, and nothing has changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from math import inf, nan
from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim
from ldl.io import read_tensors, write_tensors
from ldl.train import checkpoint as under_test

rng = np.random.default_rng(0)
X = rng.random((20, 4)).astype("float32")
WRONG: list[Any] = [
    *(None, True, False, 0, 1, -1, 2.5, 10**400, 2**63, 2**64, -(2**70), 1e308, "", "3", "nan"),
    *([], {}, [None], [[]], {"float": "x"}, {"float": "nan"}, {"tuple": 3}, {"dict": [1]}),
    *({"dict": [[[], 1]]}, {"float": "-inf"}, [1, [2, [3]]], {"epoch": 1}),
]


class Counting(ldl.Callback):
    """One of a user's own, which believes what it is given."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.total = 0.0
        self.array = np.zeros(2)

    def on_epoch_end(self, run: ldl.Run) -> None:
        self.seen.append(run.history["loss"][-1])
        self.total += self.seen[-1]
        self.array += 1

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "total": self.total, "last": {"loss": self.seen[-1:]}}

    def arrays(self) -> dict[str, Any]:
        return {"array": self.array.copy()}

    def load_state(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
        self.seen.clear()
        self.seen.extend(float(x) for x in state["seen"])
        self.total = float(state["total"]) + 0 * sum(state["last"]["loss"])
        self.array = arrays["array"] + np.zeros(2)


class World:
    """A run that was going on before it was asked to resume."""

    def __init__(self) -> None:
        ldl.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.2), nn.Linear(3, 4))
        schedule = optim.WarmupLR(2, optim.ReduceLROnPlateau(0.5, patience=1))
        self.optimizer = optim.Adam(self.model, lr=0.01, schedule=schedule)
        self.callbacks = [ldl.EarlyStopping("loss", patience=9), Counting()]

    def fit(self, path: Any, epochs: int = 2, resume: bool = False) -> ldl.History:
        def add(run: ldl.Run) -> None:
            run.history.rows[-1] |= {"note": "a", "score": np.float32(run.epoch)}

        return ldl.fit(
            self.model,
            X,
            nn.MSELoss(),
            self.optimizer,
            epochs,
            batch_size=10,
            callbacks=[add, *self.callbacks],
            checkpoint=path,
            resume=resume,
        )

    def state(self) -> Any:
        plateau: Any = self.optimizer.schedule
        stream = self.model[1].stream
        held = [{k: v for k, v in vars(c).items() if k != "_owner"} for c in self.callbacks]
        held += [{k: v for k, v in vars(s).items() if k != "_owner"} for s in (plateau.after,)]
        whole = self.model.state_dict(), self.optimizer.state_dict(), held
        return bits((whole, stream.draw, stream.seed))


def bits(value: Any) -> Any:
    """A value in which every array is its type, shape and bytes."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return [(key, bits(item)) for key, item in value.items()]
    return [bits(v) for v in value] if isinstance(value, (list, tuple)) else repr(value)


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy in which the place at the path holds something else, or is gone (new is `...`)."""
    value = copy.deepcopy(value)
    inside = value
    for key in path[:-1]:
        inside = inside[key]
    if new is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = new
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(len(value)):
            yield from places(value[i], (*path, i))


def mutations(tensors: dict[str, Any], header: dict[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Every place in the header and in the texts wrong, one at a time, and every tensor."""
    for i, path in enumerate(places(header)):
        for new in (..., *WRONG[i % 4 :: 4]):
            yield ("header", path, new), tensors, replaced(header, path, new)
    for name in [n for n, a in tensors.items() if a.dtype == np.uint8]:
        said = json.loads(tensors[name].tobytes())
        for i, path in enumerate(places(said)):
            for new in (..., *WRONG[i % 4 :: 4]):
                text = json.dumps(replaced(said, path, new)).encode()
                yield (name, path, new), {**tensors, name: np.frombuffer(text, np.uint8)}, header
        for text in (b"", b"{", b"\xff", b"[" * 10**5, b"[]", b"NaN", b"null"):
            yield (name, text), {**tensors, name: np.frombuffer(text, np.uint8)}, header
    for name, array in tensors.items():
        rest = {n: a for n, a in tensors.items() if n != name}
        yield (name, "gone"), rest, header
        yield (name, "renamed"), {**rest, f"{name}x": array}, header
        for other in (
            *(array.astype("float64"), array.astype("float16"), array.astype("int8"), array[None]),
            *(np.concatenate([array, array]), array[:0], array[:-1], np.zeros_like(array)),
            *(np.full_like(array, 200), -np.full_like(array, 1)),
            *([np.full_like(array, 2**63 - 1)] if array.dtype == np.int64 else ()),
            *([np.full_like(array, v) for v in (nan, inf)] if array.dtype.kind == "f" else ()),
        ):
            if other.dtype != array.dtype or not np.array_equal(other, array):
                yield (name, other.dtype, other.shape), {**tensors, name: other}, header


def test_whatever_stands_in_it_a_checkpoint_is_taken_whole_or_refused(
    tmp_path: Any, monkeypatch: Any
) -> None:
    path = tmp_path / "run.ckpt"
    World().fit(path)
    tensors, header = read_tensors(path)
    going = World()
    going.fit(tmp_path / "other.ckpt", 1)
    world = copy.deepcopy(going)
    before = world.state()
    tried = taken = 0
    said: list[str] = []
    for what, arrays, head in mutations(tensors, header):
        tried += 1
        monkeypatch.setattr(under_test, "read_tensors", lambda path, f=(arrays, head): f)
        try:
            world.fit(path, resume=True)
        except ldl.CheckpointError as error:
            said.append(str(error))
            assert world.state() == before, what
        except ldl.DivergedError:
            raise AssertionError(what) from None
        else:
            taken += 1
            world = copy.deepcopy(going)
            assert world.state() == before
    assert not any("\n" in text for text in said)
    assert tried > 900
    assert 0 < taken < tried / 4


def test_a_changed_header_with_its_checksum_is_refused_in_one_line(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    World().fit(path)
    tensors, header = read_tensors(path)
    for key in sorted(header):
        write_tensors(path, tensors, {**header, key: 10**30})
        with pytest.raises(ldl.CheckpointError) as error:
            World().fit(path, resume=True)
        assert str(path) in one_line(error)
    write_tensors(path, tensors, header)
    assert len(World().fit(path, resume=True)) == 2


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_weights_and_moments_in_it_are_finite(bad: float, tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    World().fit(path)
    tensors, header = read_tensors(path)
    for name, array in tensors.items():
        if name.startswith(("model.", "optimizer.")):
            other = array.copy()
            other.flat[-1] = bad
            write_tensors(path, {**tensors, name: other}, header)
            with pytest.raises(ldl.CheckpointError, match=r"finite|NaN"):
                World().fit(path, resume=True)


def test_an_interrupt_while_it_is_read_changes_nothing(tmp_path: Any, monkeypatch: Any) -> None:
    path = tmp_path / "run.ckpt"
    World().fit(path)
    world = World()
    world.fit(tmp_path / "other.ckpt", 1)
    before = world.state()

    def interrupt(self: Any, state: Any, arrays: Any) -> None:
        self.seen.clear()
        raise KeyboardInterrupt

    monkeypatch.setattr(Counting, "load_state", interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.fit(path, resume=True)
    assert world.state() == before


GARBAGE: list[Any] = [
    *({}, {"best": 1.0}, {"best_epoch": 1}, {"best": nan, "best_epoch": 1}, [], None),
    *({"best": "1", "best_epoch": 1}, {"best": 1.0, "best_epoch": -1}),
    *({"best": 1.0, "best_epoch": 1.5}, {"best": inf, "best_epoch": 1}),
    *({"best": None, "best_epoch": 1}, {"best": 1.0, "best_epoch": 0}),
    *({"best": 1.0, "best_epoch": True}, {"best": 10**400, "best_epoch": 1}),
    {"best": 1.0, "best_epoch": 1, "more": 2},
]


@pytest.mark.parametrize("state", GARBAGE, ids=str)
def test_early_stopping_refuses_garbage_and_stays(state: Any) -> None:
    stopping = ldl.EarlyStopping("loss")
    stopping.load_state({"best": 2.0, "best_epoch": 3}, {"w": np.ones(2)})
    with pytest.raises(ValueError, match=r"best|state"):
        stopping.load_state(state, {"w": np.zeros(2)})
    assert stopping.state_dict() == {"best": 2.0, "best_epoch": 3}
    np.testing.assert_equal(stopping.arrays(), {"w": np.ones(2)})


PLATEAUS: list[Any] = [
    *({}, {"current": 1.0}, {"current": 1.0, "best": None, "bad_epochs": 3}),
    *(
        {"current": 1.0, "best": 1.0, "bad_epochs": 0, **bad}
        for bad in (
            *({"current": 2.0}, {"current": -0.1}, {"current": nan}, {"current": "1"}),
            *({"current": None}, {"best": nan}, {"best": "x"}, {"best": [1]}, {"best": 10**400}),
            *({"bad_epochs": -1}, {"bad_epochs": 1.5}, {"bad_epochs": None}, {"bad_epochs": 99}),
            {"more": 1},
        )
    ),
]


@pytest.mark.parametrize("state", PLATEAUS, ids=str)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_plateau_refuses_garbage_and_stays(state: Any, wrapped: bool) -> None:
    plateau = optim.ReduceLROnPlateau(0.5, patience=2)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        plateau.report(value)
    before = plateau.state_dict()
    schedule = optim.WarmupLR(3, plateau) if wrapped else plateau
    with pytest.raises(ValueError, match=r"must|needed"):
        schedule.load_state_dict(state)
    assert plateau.state_dict() == before


def test_an_optimizer_refuses_garbage_and_stays() -> None:
    world = World()
    world.optimizer.step()
    state = world.optimizer.state_dict()
    for path in [p for p in places(state) if p[0] != "slots" or len(p) == 1]:
        for new in (..., None, "x", -1, nan, inf, 10**400, [], {}, [1, 2]):
            try:
                world.optimizer.load_state_dict(replaced(state, path, new))
            except ValueError:
                np.testing.assert_equal(world.optimizer.state_dict(), state, err_msg=str(path))
            else:
                world.optimizer.load_state_dict(state)


# ---- what comes back -----------------------------------------------------------------------------


ROWS: list[dict[str, Any]] = [
    {"epoch": 1, "loss": 0.1, "lr": 1e-3, "seconds": 0.25},
    {"epoch": 2, "loss": nan, "lr": inf, "seconds": -inf, "name": "low", "none": None},
    {"loss": 1, "epoch": 3, "flag": True, "float": {"float": "nan"}, "t": (1, (2.0, "x"))},
    {"epoch": 4, "loss": np.float32(0.1), "half": np.float16(2), "n": np.uint8(3)},
    {"epoch": 5, "loss": 2**70, "low": -(2**63), "list": [1, [None, -0.0]], "": 5e-324},
    {"epoch": 6, "Σ": "\ud800\n\0", "flag": np.bool_(False), "d": {1: "a", "b": {(1, 2): nan}}},
    {},
    {"epoch": 7, "loss": 0.1, "lr": 1e-3, "seconds": 0.25, "f": np.float64(0.1)},
]


def typed(value: Any) -> Any:
    """A value with its types, in which NaN equals NaN."""
    if isinstance(value, dict):
        return [(typed(k), typed(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [typed(v) for v in value]
    return type(value), repr(value)


def rows_back(rows: list[dict[str, Any]], path: Any) -> list[dict[str, Any]]:
    """The rows of a run whose callback put these into its history, resumed."""
    world = World()
    got: list[dict[str, Any]] = []

    class Fill(ldl.Callback):
        def on_fit_begin(self, run: ldl.Run) -> None:
            got[:] = run.history.rows

        def on_epoch_end(self, run: ldl.Run) -> None:
            run.history.rows[:-1] = rows

    for resume in (False, True):
        world = World()
        world.callbacks = [Fill()]
        world.fit(path, 1, resume)
    return got[:-1]


def test_the_rows_of_a_history_come_back_as_they_were(tmp_path: Any) -> None:
    back = rows_back(ROWS, tmp_path / "run.ckpt")
    assert [typed(row) for row in back] == [typed(row) for row in ROWS]


def test_a_history_of_a_hundred_thousand_epochs_fits(tmp_path: Any) -> None:
    rows = [
        {"epoch": i, "loss": 1 / i, "val_loss": 2 / i, "lr": 1e-3, "note": "a", "seconds": 0.5}
        for i in range(1, 100_001)
    ]
    path = tmp_path / "run.ckpt"
    assert rows_back(rows, path) == rows
    assert int.from_bytes(path.read_bytes()[:8], "little") < 20_000


def test_a_history_whose_rows_all_differ_fits(tmp_path: Any) -> None:
    rows = [{"epoch": i, f"score {i}": 1 / i, "bad": nan} for i in range(1, 50_001)]
    path = tmp_path / "run.ckpt"
    assert repr(rows_back(rows, path)) == repr(rows)
    assert int.from_bytes(path.read_bytes()[:8], "little") < 20_000
    tensors, header = read_tensors(path)
    for said in (b"{}", b"[1]", b"null", b'[{"dict": [[1, 2]]}]', b"[", b"[" * 10**5):
        other = {**tensors, "history.rows": np.frombuffer(said, np.uint8)}
        write_tensors(path, other, header)
        with pytest.raises(ldl.CheckpointError):
            World().fit(path, resume=True)


def test_a_long_state_of_a_callback_fits(tmp_path: Any) -> None:
    class Long(ldl.Callback):
        def __init__(self) -> None:
            self.seen: Any = ()

        def on_epoch_end(self, run: ldl.Run) -> None:
            self.seen = tuple(range(100_000))

        def state_dict(self) -> dict[str, Any]:
            return {"seen": self.seen} if self.seen else {}

        def load_state(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
            self.seen = state["seen"]

    path = tmp_path / "run.ckpt"
    for resume in (False, True):
        world, long = World(), Long()
        world.callbacks = [long]
        world.fit(path, 1, resume)
        assert long.seen == tuple(range(100_000))
    assert int.from_bytes(path.read_bytes()[:8], "little") < 20_000


def test_numpys_numbers_in_states_and_settings_are_pythons(tmp_path: Any) -> None:
    class Numbers(ldl.Callback):
        got: Any = None

        def state_dict(self) -> dict[str, Any]:
            return {
                "a": np.float32(0.5),
                "b": [np.int64(3), np.bool_(True), np.array(2.0)],
                "c": {np.int64(1): np.float64(nan)},
                "d": (np.float16(1), "x"),
            }

        def load_state(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
            self.got = state

    path = tmp_path / "run.ckpt"
    numpys = np.int64, np.float32
    for i, f in (numpys, (int, float), numpys):
        ldl.manual_seed(0)
        model = nn.Sequential(nn.Linear(i(4), i(4)), nn.Dropout(f(0.25)))
        schedule = optim.CosineLR(i(100), f(0.5))
        optimizer = optim.Adam(model, lr=f(0.125), betas=(f(0.5), f(0.75)), schedule=schedule)
        numbers = Numbers()
        options: Any = {"batch_size": i(8), "seed": i(3), "callbacks": numbers}
        ldl.fit(model, X, nn.MSELoss(), optimizer, i(1), checkpoint=path, resume=True, **options)
    assert typed(numbers.got) == typed(
        {"a": 0.5, "b": [3, True, 2.0], "c": {1: nan}, "d": (1.0, "x")}
    )


CIRCLE: dict[str, Any] = {}
CIRCLE["again"] = [CIRCLE]
DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "bad",
    [np.ones(3), {1, 2}, object(), 1j, b"x", CIRCLE, DEEP, 10**5000],
    ids=["array", "set", "object", "complex", "bytes", "circle", "deep", "long"],
)
def test_what_a_file_cannot_hold_is_named_before_it_is_written(bad: Any, tmp_path: Any) -> None:
    class Odd(ldl.Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"odd": bad}

    def add(run: ldl.Run) -> None:
        run.history.rows[-1]["odd"] = bad

    path = tmp_path / "run.ckpt"
    for callback, word in ((Odd(), "the state of Odd"), (add, "the figure 'odd'")):
        world = World()
        world.callbacks = [callback] if isinstance(callback, ldl.Callback) else []
        model = world.model
        with pytest.raises(TypeError, match=word) as error:
            ldl.fit(model, X, nn.MSELoss(), world.optimizer, 1, callbacks=callback, checkpoint=path)
        one_line(error)
        assert not path.exists()


@pytest.mark.parametrize(
    ("method", "given"),
    [
        *(("state_dict", given) for given in (None, [1], 3)),
        *(("arrays", given) for given in (None, [np.ones(2)], {1: np.ones(2)})),
        *(("arrays", {"a": given}) for given in ([1.0], 3, np.array(["x"]), np.ones(2, complex))),
    ],
    ids=str,
)
def test_what_could_not_be_loaded_again_is_not_written(
    method: str, given: Any, tmp_path: Any
) -> None:
    class Odd(ldl.Callback):
        pass

    setattr(Odd, method, lambda self: given)
    path = tmp_path / "run.ckpt"
    world = World()
    world.callbacks = [Odd()]
    with pytest.raises(TypeError, match=r"Odd\.|callback0\.a") as error:
        world.fit(path)
    one_line(error)
    assert not path.exists()


def test_what_callbacks_hand_over_is_a_copy() -> None:
    world = World()
    world.fit(None)
    stopping = world.callbacks[0]
    before = copy.deepcopy(stopping.arrays())
    for array in stopping.arrays().values():
        array[...] = nan
    given = copy.deepcopy(before)
    stopping.load_state(stopping.state_dict(), given)
    for array in given.values():
        array[...] = nan
    np.testing.assert_equal(stopping.arrays(), before)


def test_a_best_epoch_that_is_still_to_come_is_refused() -> None:
    model = nn.Linear(3, 2)
    stopping = ldl.EarlyStopping("loss")
    stopping.load_state({"best": 1.0, "best_epoch": 3}, model.state_dict())
    stopping.check_loaded(model, 3)
    with pytest.raises(ValueError, match="of a later epoch"):
        stopping.check_loaded(model, 2)
