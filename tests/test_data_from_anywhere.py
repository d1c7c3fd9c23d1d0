"""Data of other libraries and on disks: no copy where none is needed, and no more read than needed.

What is no data at all is in tests/test_arrays.py.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ldl
from checks import one_line
from cuda_device import CudaOnHost, on_device
from fake_device import FakeBackend
from ldl import nn, optim
from ldl.arrays import taken
from ldl.data import Arrays, GaussianNoise, streaming
from ldl.data.cuts import Cuts
from ldl_cupy import CupyBackend

rng = np.random.default_rng(0)
X = rng.random((40, 3)).astype("float32")
Y = (X[:, 0] > 0.5).astype("int64")


class Dlpack:
    """An array of a library that has nothing but DLPack, on the host or elsewhere."""

    def __init__(self, array: Any, device: int = 1) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **options: Any) -> Any:
        if self.device != 1:
            raise BufferError("not on the host")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.device, 0


class Interface:
    def __init__(self, array: Any) -> None:
        self.array, self.__array_interface__ = array, array.__array_interface__


def mapped(array: Any, path: Path) -> Any:
    """A read-only memory map of a file that holds the array."""
    array.tofile(path)
    return np.memmap(path, array.dtype, "r", shape=array.shape)


def network(dtype: str = "float32") -> nn.Sequential:
    ldl.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).to(dtype=dtype)


def fitted(data: Any, **options: Any) -> tuple[Any, Any]:
    """The weights after two epochs, and the history's losses."""
    model = network()
    history = ldl.fit(model, data, nn.CrossEntropyLoss(), optim.Adam(model, lr=0.01), 2, **options)
    return model.state_dict(), [row["loss"] for row in history.rows]


# ---- no copy -------------------------------------------------------------------------------------

SHARED: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "an array": lambda p: (X, X),
    "a read-only one": lambda p: (a := X.copy(), a.setflags(write=False), a)[::2],
    "a memory map": lambda p: (m := mapped(X, p / "x"), m),
    "np.load of a map": lambda p: (
        np.save(p / "x.npy", X),
        m := np.load(p / "x.npy", mmap_mode="r"),
        m,
    )[1:],
    "DLPack": lambda p: (X, Dlpack(X)),
    "an array interface": lambda p: (X, Interface(X)),
    "a memoryview": lambda p: (X, memoryview(X)),
    "a column of Polars": lambda p: (s := pl.Series(X[:, 0].copy()), s)[::-1],
    "a column of Arrow": lambda p: (s := pa.array(X[:, 0].copy()), s),
    "a frame of one type": lambda p: (f := pd.DataFrame(X.copy()), f),
}
if find_spec("torch"):
    import torch

    SHARED["PyTorch"] = lambda p: (X, torch.from_numpy(X))
    SHARED["PyTorch's, with a history"] = lambda p: (
        X,
        torch.nn.Parameter(torch.from_numpy(X)),
    )


@pytest.mark.parametrize("make", SHARED.values(), ids=SHARED)
def test_no_copy_is_made_of_what_is_as_it_is_needed(make: Any, tmp_path: Path) -> None:
    source, given = make(tmp_path)
    array = np.asarray(source)
    data = Arrays(given)
    placed = data.place(ldl.get_backend("numpy"), "float32", False)
    for found in (taken(given), data.x):
        assert np.shares_memory(found, array)
    if array.flags.c_contiguous:
        assert np.shares_memory(placed.x, array)
    np.testing.assert_array_equal(placed.x, array)


def test_a_fit_writes_to_nothing_that_it_was_given() -> None:
    x, y = X.copy(), Y.copy()
    for array in (x, y):
        array.setflags(write=False)
    weights, losses = fitted(Arrays(x, y, GaussianNoise(0.1, clip=False)))
    again, same = fitted(Arrays(X.copy(), Y.copy(), GaussianNoise(0.1, clip=False)))
    np.testing.assert_equal(weights, again)
    assert losses == same


# ---- memory maps ---------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Any:
    """16 MiB of bytes in a file, as samples of 256."""
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 2**16)
    return np.memmap(path, "uint8", "r", shape=(2**16, 256))


def peak(call: Callable[[], Any]) -> float:
    """MiB of memory that a call took at most."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_a_memory_map_is_read_and_cast_batch_by_batch(large: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(streaming, "CAST_AT_ONCE", 2**20)
    model = nn.AutoEncoder.symmetric(256, [4])
    optimizer, loss = optim.SGD(model, lr=1e-9), nn.MSELoss()
    how = {"batch_size": 1024, "check_finite": True}
    calls: dict[str, Callable[[Any], Any]] = {
        "fit": lambda x: ldl.fit(model, x, loss, optimizer, 1, **how),
        "split": lambda x: ldl.fit(model, x, loss, optimizer, 1, validation_split=0.3, **how),
        "evaluate": lambda x: ldl.evaluate(model, x, loss, "mse", **how),
        "predict": lambda x: model.encoder.predict(x, 1024),
    }
    for name, call in calls.items():
        call(large[:2048])
        small, whole = (peak(partial(call, x)) for x in (large[:2048], large))
        assert whole < small + 4, name  # cast as a whole it would take 64
    assert type(large) is np.memmap


def test_what_is_trained_on_a_memory_map_is_what_is_trained_in_memory(
    tmp_path: Path, monkeypatch: Any
) -> None:
    pixels = (X * 255).astype("uint8")
    on_disk = mapped(pixels, tmp_path / "x")
    expected = fitted((pixels, Y))
    for limit in (2**26, 0):  # cast at once, and batch by batch
        monkeypatch.setattr(streaming, "CAST_AT_ONCE", limit)
        weights, losses = fitted((on_disk, mapped(Y, tmp_path / "y")))
        np.testing.assert_equal(weights, expected[0])
        np.testing.assert_allclose(losses, expected[1], rtol=1e-6)
        model = network()
        np.testing.assert_array_equal(model.predict(on_disk, 7), model.predict(pixels, 7))
        scores = [ldl.evaluate(model, (x, Y), nn.CrossEntropyLoss()) for x in (on_disk, pixels)]
        assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=1e-6)
        weighted = Arrays(on_disk, Y, GaussianNoise(1.0, clip=False), Y + 1)
        in_memory = Arrays(pixels, Y, GaussianNoise(1.0, clip=False), Y + 1)
        np.testing.assert_equal(fitted(weighted)[0], fitted(in_memory)[0])
        paths = [tmp_path / f"{limit}{name}" for name in ("disk", "memory")]
        for data, path in zip((weighted, in_memory), paths, strict=True):
            fitted(data, validation_split=0.3, checkpoint=path)
        for path in paths:  # either goes on from the other's
            fitted(weighted, validation_split=0.3, checkpoint=path, resume=True)
        with_split = [fitted(d, validation_split=0.3)[0] for d in (weighted, in_memory)]
        np.testing.assert_equal(*with_split)
        bits = mapped((X > 0.5).astype("uint8"), tmp_path / "bits")
        noisy = [Arrays(x, Y, GaussianNoise(0.1)) for x in (bits, np.array(bits))]
        np.testing.assert_equal(*[fitted(d, validation_split=0.3)[0] for d in noisy])
        with pytest.raises(ValueError, match="x goes from 0 to 25"):
            fitted(Arrays(on_disk, Y, GaussianNoise(0.1)), validation_split=0.3)


@pytest.mark.parametrize("room", [True, False])
def test_a_memory_map_goes_to_a_device_in_blocks_where_it_has_room(
    room: bool, tmp_path: Path, monkeypatch: Any
) -> None:
    pixels = (X * 255).astype("uint8")
    monkeypatch.setattr(streaming, "CAST_AT_ONCE", 100)
    monkeypatch.setattr(FakeBackend, "fits", lambda self, nbytes: room)
    with ldl.use_backend(FakeBackend()) as fake:
        data = Arrays(mapped(pixels, tmp_path / "x"), Y)
        placed = data.place(fake, "float32", True)
        assert isinstance(placed, Arrays if room else streaming.Streamed)
        parts = [x for x, _ in placed.batches(fake, Cuts(len(data), 16))]
        host = np.concatenate([fake.to_numpy(part) for part in parts])
    np.testing.assert_array_equal(host, pixels.astype("float32"))


# ---- tables --------------------------------------------------------------------------------------

TABLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pandas": pd.DataFrame,
    "pandas of Arrow": lambda d: pa.table(d).to_pandas(types_mapper=pd.ArrowDtype),
    "Polars": pl.DataFrame,
    "Arrow": pa.table,
    "a batch of Arrow": pa.record_batch,
}
EVERY_TABLE = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@EVERY_TABLE
def test_a_table_is_its_columns_side_by_side(table: Any) -> None:
    given = table({"a": X[:, 0], "b": X[:, 1].astype("float64"), "c": (9 * X[:, 2]).astype(int)})
    expected = np.stack([X[:, 0], X[:, 1], np.floor(9 * X[:, 2])], 1)
    np.testing.assert_array_equal(ldl.get_backend("numpy").asarray(given, "float32"), expected)
    model = network()
    np.testing.assert_array_equal(model.predict(given), model.predict(expected))
    weights, _ = fitted((given, Y))
    np.testing.assert_equal(weights, fitted((expected, Y))[0])


@EVERY_TABLE
def test_a_column_without_numbers_is_named(table: Any) -> None:
    given = table({"age": [1.0, 2.0], "town": ["Ulm", "Bonn"]})
    with pytest.raises(TypeError, match=r"'Ulm' at \[0, 1\], in column 'town': fill") as error:
        fitted((given, Y[:2]))
    one_line(error)


@EVERY_TABLE
def test_a_missing_value_is_named_with_its_column_where_it_is_looked_for(table: Any) -> None:
    given = table({"age": [1.0, 2.0, 3.0], "income": [5, None, 7], "c": [0.5, 0.5, 0.5]})
    says = r"nan, in column 1 \('income'\), row 1: fill|<NA> at \[1, 1\], in column 'income': fill"
    with pytest.raises((ValueError, TypeError), match=says) as error:
        fitted((given, Y[:3]), check_finite=True, sample_weight=[1, 2, 1])
    one_line(error)


@pytest.mark.parametrize("make", [pl.LazyFrame], ids=["Polars"])
def test_a_query_is_collected_first(make: Any) -> None:
    with pytest.raises(TypeError, match=r"got a LazyFrame: give x\.collect\(\)") as error:
        fitted((make({"a": [1.0]}), Y[:1]))
    one_line(error)


# ---- what is not finite --------------------------------------------------------------------------


def spoilt(value: float, *at: int, dtype: str = "float64") -> Any:
    x = X.astype(dtype)
    x[at] = value
    return x


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("where", ["x", "y", "validation"])
def test_what_is_not_finite_is_named_before_the_first_step(
    value: float, where: str
) -> None:  # case 5
    bad, model = spoilt(value, 17, 2), nn.Sequential(nn.Linear(3, 3))
    data: dict[str, Any] = {"data": (X, bad) if where == "y" else (bad, X)}
    if where == "validation":
        data = {"data": (X, X), "validation": (bad, X)}
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"in column 2, row 17: fill it") as error:
        ldl.fit(
            model,
            **data,
            loss=nn.MSELoss(),
            optimizer=optim.SGD(model, lr=0.1),
            epochs=1,
            check_finite=True,
        )
    message = one_line(error)
    assert message.startswith("y is" if where == "y" else "x is")
    assert "no float32" in message if value == 1e300 else str(value) in message
    np.testing.assert_equal(model.state_dict(), before)


def test_all_of_what_is_not_finite_is_counted() -> None:
    x = spoilt(np.nan, slice(3, 9), slice(1, 3), dtype="float32")
    says = r"column 1, row 3, one of 12 such numbers in 2 columns"
    with pytest.raises(ValueError, match=says):
        ldl.evaluate(network(), (x, Y), nn.CrossEntropyLoss(), check_finite=True)
    images = np.zeros((2, 4, 4, 1), "float32")
    images[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match=r"inf, in row 1, element \(2, 3, 0\): fill"):
        ldl.evaluate(nn.Flatten(), (images, images), nn.MSELoss(), check_finite=True)
    with pytest.raises(ValueError, match=r"y is not finite, nan, in row 2"):
        Arrays(X[:3], np.array([0, 1, np.nan])).check_finite("float32")


def test_batches_of_ones_own_are_looked_at_as_they_come() -> None:
    with pytest.raises(ValueError, match=r"x is not finite, nan, in column 0, row 1"):
        fitted([(X, Y), (spoilt(np.nan, 1, 0), Y)], check_finite=True)
    with pytest.raises(ldl.DivergedError, match="check the data for NaN"):
        fitted([(X, Y), (spoilt(np.nan, 1, 0), Y)])


@pytest.mark.parametrize("how", ["blocks", "maps", "devices"])
def test_data_are_looked_at_block_by_block_wherever_they_lie(
    how: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ldl.data.finite.BLOCK", 10)
    x = spoilt(np.nan, 38, 1, dtype="float32")
    x = mapped(x, tmp_path / "x") if how == "maps" else on_device(x) if how == "devices" else x
    with pytest.raises(ValueError, match="column 1, row 38"):
        Arrays(x, Y).check_finite("float32")
    Arrays(X, Y).check_finite("float32")


# ---- devices and loaders -------------------------------------------------------------------------


class Numba:
    """An array of a device that copies itself by a name of its own."""

    dtype, shape, ndim = X.dtype, X.shape, X.ndim
    __cuda_array_interface__: dict[str, Any] = {}

    def copy_to_host(self) -> Any:
        return X


def test_what_lies_on_a_device_is_sent_home_or_the_model_there() -> None:
    for given, says in (
        (Numba(), r"from which a Numba does not bring them: give x\.copy_to_host\(\), or move"),
        (Dlpack(X, 2), r"from which a Dlpack does not bring them: move the model"),
    ):
        with pytest.raises(TypeError, match=rf"{says}.*model\.to\('cupy'\)") as error:
            network().predict(given)
        one_line(error)


def test_an_array_of_a_device_that_has_dlpack_alone_stays_there() -> None:
    class Sent(CudaOnHost):
        """The CuPy backend's own way in."""

        def __init__(self) -> None:
            super().__init__()
            self.xp.asarray = lambda a, dtype=None, order=None: on_device(
                a if dtype is None else a.astype(dtype)
            )
            self.xp.from_dlpack = lambda given: on_device(given.array)

        asarray = CupyBackend.asarray

    backend = Sent()
    found = backend.asarray(Dlpack(X, 2), "float64")
    np.testing.assert_array_equal(backend.to_numpy(found), X)
    assert found.dtype == "float64"
    np.testing.assert_array_equal(backend.to_numpy(backend.asarray(Dlpack(X))), X)


@pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")
def test_a_loader_of_pytorch_trains_as_its_arrays_do() -> None:
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=16)
    batches = [(X[i : i + 16], Y[i : i + 16]) for i in (0, 16, 32)]
    found, expected = fitted(loader, validation=loader), fitted(batches)
    np.testing.assert_equal(found[0], expected[0])
    assert found[1] == expected[1]
    loss = nn.CrossEntropyLoss()
    scored = ldl.evaluate(network(), loader, loss, "accuracy")
    whole = ldl.evaluate(network(), (X, Y), loss, "accuracy")
    assert scored["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert scored["accuracy"] == whole["accuracy"]
    alone = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=16)
    with pytest.raises(TypeError, match=r"got a .* of 1: an autoencoder's is \(x, x\)") as error:
        fitted(alone)
    one_line(error)
