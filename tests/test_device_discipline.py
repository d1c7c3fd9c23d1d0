"""Layers and losses keep to the device: nothing mixes with host arrays and nothing waits."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import ldl
from catalog import LOSSES, ROWS, learned, named
from checks import one_line
from fake_device import FakeArray, FakeBackend, HostBackend, fixture
from ldl import nn

fake = fixture


def passes(backend: ldl.Backend, row: Any) -> list[Any]:
    """Output, input's gradient and parameters' gradients on a backend, as arrays of it."""
    with ldl.use_backend(backend):
        module, x = row.module(), backend.asarray(row.input())
        y = module(x)
        dx = module.backward(backend.asarray(upstream(y.shape)))
        return [y, dx, *(p.grad for p in learned(module).values())]


def loss_passes(backend: ldl.Backend, row: Any) -> list[Any]:
    with ldl.use_backend(backend):
        loss, (x, t) = row.build(), row.batch()
        value = loss.forward(backend.asarray(x), backend.asarray(t))
        return [value, loss.backward(backend.asarray(upstream(value.shape)))]


def upstream(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(4).standard_normal(shape).astype("float32")


def assert_same_bits(fake: FakeBackend, device: list[Any], host: list[Any]) -> None:
    for d, h in zip(device, host, strict=True):
        assert isinstance(d, FakeArray)
        assert d.dtype == h.dtype
        np.testing.assert_array_equal(fake.to_numpy(d), h, strict=isinstance(h, np.ndarray))


# ---- every row of the table ------------------------------------------------------------------


@pytest.mark.parametrize(**named(ROWS))
def test_a_module_runs_on_the_device_without_waiting(row: Any, fake: FakeBackend) -> None:
    with fake.no_waiting():
        on_device = passes(fake, row)
    assert_same_bits(fake, on_device, passes(HostBackend(), row))


@pytest.mark.parametrize(**named(LOSSES))
def test_a_loss_runs_on_the_device_without_waiting(row: Any, fake: FakeBackend) -> None:
    with fake.no_waiting():
        on_device = loss_passes(fake, row)
    assert_same_bits(fake, on_device, loss_passes(HostBackend(), row))


@pytest.mark.parametrize(**named(ROWS))
def test_the_numpy_backend_gives_what_the_generic_bodies_give(row: Any) -> None:
    for a, b in zip(passes(ldl.get_backend("numpy"), row), passes(HostBackend(), row), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(**named(LOSSES))
def test_the_numpy_backend_gives_the_losses_that_the_generic_bodies_give(row: Any) -> None:
    numpy = ldl.get_backend("numpy")
    for a, b in zip(loss_passes(numpy, row), loss_passes(HostBackend(), row), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(**named(LOSSES))
def test_a_called_loss_is_checked_on_the_device_too(row: Any, fake: FakeBackend) -> None:
    loss, (x, t) = row.build(), row.batch()
    value = loss(fake.asarray(x), fake.asarray(t))
    with ldl.use_backend(HostBackend()):
        np.testing.assert_array_equal(fake.to_numpy(value), row.build()(x, t))


@pytest.mark.parametrize(**named([row for row in ROWS if "Dropout" not in row.name]))
def test_nothing_is_uploaded_during_the_passes(row: Any, fake: FakeBackend) -> None:
    module, x = row.module(), fake.asarray(row.input())
    g = fake.asarray(upstream(copy.deepcopy(module)(x).shape))
    with fake.no_uploads():
        module(x)
        module.backward(g)


@pytest.mark.parametrize(**named(LOSSES))
def test_class_weights_are_uploaded_once(row: Any, fake: FakeBackend) -> None:
    loss, (x, t) = row.build(), row.batch()
    dx, dt = fake.asarray(x), fake.asarray(t)
    loss.forward(dx, dt)
    with fake.no_uploads(), fake.no_waiting():
        loss.forward(dx, dt)


# ---- what is refused -------------------------------------------------------------------------

PASSES_THROUGH = (nn.Identity, nn.Flatten, nn.Dropout)
COMPUTING = [row for row in ROWS if not isinstance(row.build(), PASSES_THROUGH)]
LEARNING = [row for row in ROWS if any(True for _ in row.build().parameters())]


@pytest.mark.parametrize(**named(COMPUTING))
def test_a_host_array_in_a_device_model_is_an_error_that_names_the_fix(  # case 23
    row: Any, fake: FakeBackend
) -> None:
    module = row.module().eval()
    with pytest.raises(nn.DeviceError) as error:
        module(row.input())
    message = one_line(error)
    assert "fake" in message
    assert "numpy" in message
    assert "asarray" in message


@pytest.mark.parametrize(**named(LEARNING))
def test_a_device_array_in_a_host_model_is_an_error_that_names_the_fix(  # case 23
    row: Any, fake: FakeBackend
) -> None:
    x = fake.asarray(row.input())
    with ldl.use_backend("numpy"):
        module = row.module().eval()
    with pytest.raises(nn.DeviceError) as error:
        module(x)
    assert "FakeArray" in one_line(error)
    assert "asarray" in one_line(error)


@pytest.mark.parametrize(**named(LOSSES))
def test_a_loss_of_a_device_output_and_a_host_target_raises(  # case 23
    row: Any, fake: FakeBackend
) -> None:
    x, t = row.batch()
    with pytest.raises(TypeError):
        row.build().forward(fake.asarray(x), t)


@pytest.mark.parametrize("bad", [4, -1, 1000])
def test_a_label_out_of_range_is_the_same_error_on_both_devices(  # case 3
    bad: int, fake: FakeBackend
) -> None:
    x, t = np.zeros((6, 4), "float32"), np.array([0, 1, bad, 3, 0, 1])
    messages = []
    for backend in (fake, HostBackend()):
        with ldl.use_backend(backend), pytest.raises(ValueError, match="label") as error:
            nn.CrossEntropyLoss()(backend.asarray(x), backend.asarray(t))
        messages.append(one_line(error))
    assert messages[0] == messages[1]
    assert f"label {bad} " in messages[0]
    assert "4 classes" in messages[0]


# ---- moving ----------------------------------------------------------------------------------


@pytest.mark.parametrize(**named(ROWS))
def test_a_model_moves_to_the_device_and_back(row: Any) -> None:  # case 23
    fake, host = FakeBackend(), HostBackend()
    with ldl.use_backend(host):
        module, x = row.module().eval(), row.input()
        before = module(x)
    moved = copy.deepcopy(module).to(fake)
    assert all(m.backend is fake for m in moved.modules())
    on_device = moved(fake.asarray(x))
    np.testing.assert_array_equal(fake.to_numpy(on_device), before)
    state = moved.state_dict()
    np.testing.assert_array_equal(moved.to(host)(x), before)
    assert all(isinstance(array, FakeArray) for array in state.values())


@pytest.mark.parametrize(**named(LOSSES))
def test_a_loss_moves_to_the_device_and_back(row: Any) -> None:
    fake, host = FakeBackend(), HostBackend()
    with ldl.use_backend(host):
        loss, (x, t) = row.build(), row.batch()
    before = loss(x, t)
    loss.to(fake)
    np.testing.assert_array_equal(fake.to_numpy(loss(fake.asarray(x), fake.asarray(t))), before)
    loss.to(host)
    np.testing.assert_array_equal(loss(x, t), before)


def test_state_from_a_device_loads_on_the_host_and_the_other_way(fake: FakeBackend) -> None:
    on_device = nn.Linear(3, 2)
    with ldl.use_backend("numpy"):
        on_host = nn.Linear(3, 2)
    on_host.load_state_dict(on_device.state_dict())
    np.testing.assert_array_equal(on_host.weight.data, fake.to_numpy(on_device.weight.data))
    on_host.weight.data[...] = 5
    on_device.load_state_dict(on_host.state_dict())
    assert (fake.to_numpy(on_device.weight.data) == 5).all()
