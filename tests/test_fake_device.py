"""The fake device bites: planted faults of every kind are caught."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fake_device import FakeArray, FakeBackend, fixture
from ldl import nn

fake = fixture
HOST = np.arange(3.0, dtype="float32")
INDEX = np.array([0, 2])

MIXTURES = {
    "device + host": lambda xp, x: x + HOST,
    "host + device": lambda xp, x: HOST + x,
    "device + sqrt(host constant)": lambda xp, x: x + np.sqrt(HOST),
    "device * np.float64": lambda xp, x: x * np.float64(2),
    "np.float64 * device": lambda xp, x: np.float64(2) * x,
    "device += host": lambda xp, x: x.__iadd__(HOST),
    "host += device": lambda xp, x: HOST.copy().__iadd__(x),
    "device > host": lambda xp, x: x > HOST,
    "device @ host": lambda xp, x: x @ HOST,
    "device[host index]": lambda xp, x: x[INDEX],
    "device[list]": lambda xp, x: x[[0, 2]],
    "device[...] = host": lambda xp, x: x.__setitem__(..., HOST),
    "device[...] = np.float32": lambda xp, x: x.__setitem__(..., np.float32(1)),
    "host[...] = device": lambda xp, x: HOST.copy().__setitem__(..., x),
    "xp.exp(host)": lambda xp, x: xp.exp(HOST),
    "xp.maximum(device, host)": lambda xp, x: xp.maximum(x, HOST),
    "xp.where with a host branch": lambda xp, x: xp.where(x > 0, x, HOST),
    "xp.concatenate with a host array": lambda xp, x: xp.concatenate([x, HOST]),
    "xp.matmul out=host": lambda xp, x: xp.matmul(x, x, out=np.zeros((), "float32")),
    "xp.take with a host index": lambda xp, x: xp.take(x, INDEX),
    "xp.asarray(host)": lambda xp, x: xp.asarray(HOST),
    "xp.asarray(list)": lambda xp, x: xp.asarray([1.0, 2.0]),
    "np.sum(device)": lambda xp, x: np.sum(x),
    "np.asarray(device)": lambda xp, x: np.asarray(x),
    "np.array(device, copy=True)": lambda xp, x: np.array(x, copy=True),
    "device.dot(host)": lambda xp, x: x.dot(HOST),
    "device.sum(out=host)": lambda xp, x: x.sum(out=np.zeros((), "float32")),
}

WAITS = {
    "bool()": lambda xp, x: bool(x.sum() > 0),
    "if": lambda xp, x: 1 if x.any() else 0,
    "float()": lambda xp, x: float(x.sum()),
    "int()": lambda xp, x: int(x.sum()),
    "index()": lambda xp, x: range(x.argmax()),
    "item": lambda xp, x: x.sum().item(),
    "tolist": lambda xp, x: x.tolist(),
    "get": lambda xp, x: x.get(),
    "iteration": lambda xp, x: list(x),
    "unpacking": lambda xp, x: (lambda a, b, c: a)(*x),
    "max() of Python": lambda xp, x: max(x),
    "format": lambda xp, x: f"{x.sum():.3f}",
    "str": lambda xp, x: str(x),
    "mask": lambda xp, x: x[x > 0],
    "mask assignment": lambda xp, x: x.__setitem__(x > 0, 0),
    "nonzero": lambda xp, x: xp.nonzero(x),
    "x.nonzero": lambda xp, x: x.nonzero(),
    "where of one argument": lambda xp, x: xp.where(x > 0),
    "unique": lambda xp, x: xp.unique(x),
}


def device_array(fake: FakeBackend) -> FakeArray:
    return fake.asarray(np.array([-1.0, 0.5, 2.0], "float32"))


@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES)
def test_host_and_device_arrays_do_not_mix(mixture: Any, fake: FakeBackend) -> None:
    x = device_array(fake)
    with pytest.raises(TypeError):
        mixture(fake.xp, x)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_every_wait_is_counted(wait: Any, fake: FakeBackend) -> None:
    x = device_array(fake)
    with pytest.raises(AssertionError, match="waits for the device"), fake.no_waiting():
        wait(fake.xp, x)


def test_to_numpy_counts_as_a_wait_and_asarray_as_an_upload(fake: FakeBackend) -> None:
    with pytest.raises(AssertionError, match="upload"), fake.no_uploads():
        x = device_array(fake)
    with pytest.raises(AssertionError, match="to_numpy"), fake.no_waiting():
        fake.to_numpy(x)


@pytest.mark.parametrize("name", ["trapz", "float128", "nditer", "memmap", "random", "save_txt"])
def test_what_cupy_lacks_is_not_there(name: str, fake: FakeBackend) -> None:
    with pytest.raises(AttributeError):
        getattr(fake.xp, name)


@pytest.mark.parametrize("name", ["ctypes", "setflags", "resize", "data"])
def test_methods_that_cupy_arrays_lack_are_not_there(name: str, fake: FakeBackend) -> None:
    with pytest.raises(AttributeError):
        getattr(device_array(fake), name)


def test_reductions_and_elements_stay_on_the_device(fake: FakeBackend) -> None:
    x = device_array(fake)
    with fake.no_waiting():
        for y in (x.sum(), x.max(), x.argmax(), x.mean(), x[1], (x > 0).any(), x.dot(x), x @ x):
            assert isinstance(y, FakeArray)
            assert y.shape == ()
        assert x.sum().dtype == "float32"
        assert x[x.argmax()].shape == ()


def test_views_write_through(fake: FakeBackend) -> None:
    x = fake.asarray(np.zeros((2, 3), "float32"))
    x[0][...] = 1
    x.T[2] += 4
    x.reshape(-1)[4:5] = 7
    assert fake.to_numpy(x).tolist() == [[1, 1, 5], [0, 7, 4]]


class LayerOfManyFaults(nn.Module):
    """A layer as the faults of others had it."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def forward(self, x: Any) -> Any:
        xp = self.backend.xp
        if self.fault == "constant array on the host":
            return x * np.sqrt(np.array([2.0], "float32"))
        if self.fault == "float":
            return x / float(xp.abs(x).max())
        if self.fault == "mask":
            y = x * 1
            y[x < 0] = 0
            return y
        return x if (x > 0).all() else xp.maximum(x, 0)


@pytest.mark.parametrize("fault", ["constant array on the host", "float", "mask", "branch"])
def test_a_layer_with_a_planted_fault_is_caught(fault: str, fake: FakeBackend) -> None:
    layer, x = LayerOfManyFaults(fault), device_array(fake)
    with pytest.raises((TypeError, AssertionError)), fake.no_waiting():
        layer(x)
