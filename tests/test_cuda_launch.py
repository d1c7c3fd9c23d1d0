"""Launches of kernels.cu: under sanitizers on the host, and on a GPU where there is one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cuda_host import compile_host
from fake_device import HostBackend
from ldl import random
from ldl.nn import DeviceError
from ldl_cupy import launch


class DeviceArray(np.ndarray):  # type: ignore[type-arg]
    """An array on the host with its address where CuPy has it."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data, device_id=getattr(self, "gpu", 0))


CUDA = SimpleNamespace(runtime=SimpleNamespace(getDevice=lambda: 0))


class RawModule:
    """CuPy's, running on the host."""

    def __init__(self, *, code: str, options: tuple[str, ...]) -> None:
        assert options == launch.OPTIONS
        self.host = compile_host(code, sanitize=True)

    def get_function(self, name: str) -> Any:
        def run(grid: Any, block: Any, args: Any) -> None:
            assert all(1 <= n < 2**16 for n in grid[1:])
            assert 1 <= np.prod(block) <= launch.BLOCK
            given = [np.asarray(a) if isinstance(a, DeviceArray) else a for a in args]
            given = [None if a is launch.NULL else a for a in given]
            self.host.run(name, grid, block, *given)

        return run


class OnHost:
    """A launcher whose device is the host."""

    def __init__(self) -> None:
        def zeros(n: int, dtype: Any) -> Any:
            return self.put(np.zeros(n, dtype))

        self.launch = launch.Launcher(SimpleNamespace(RawModule=RawModule, zeros=zeros, cuda=CUDA))

    def put(self, a: Any) -> Any:
        return np.array(a).view(DeviceArray)

    def get(self, a: Any) -> Any:
        return np.asarray(a)


class OnGpu:
    """A launcher whose device is a GPU."""

    def __init__(self) -> None:
        self.launch = launch.Launcher()
        self.put = self.launch.xp.asarray
        self.get = self.launch.xp.asnumpy


@pytest.fixture(scope="module", params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: Any) -> Any:
    return OnHost() if request.param == "host" else OnGpu()


def normal(*shape: int, dtype: Any = "f4") -> Any:
    return np.random.default_rng(3).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(0,), (5,), (33, 7), (4099,)])
def test_fills_are_the_generic_bodies(device: Any, shape: tuple[int, ...], dtype: str) -> None:
    key, out = random.Key(2**63, 2, 3), device.put(np.empty(shape, dtype))
    words = device.put(np.array(key.words(shape), np.uint64))
    device.launch.fill_uniform(out, words)
    np.testing.assert_array_equal(device.get(out), random.uniform(shape, key))
    device.launch.fill_normal(out, words)
    expected = HostBackend().normal(shape, dtype, key)
    np.testing.assert_allclose(device.get(out), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("dtype", ["u1", "f2", "f4", "f8", "c16"])
@pytest.mark.parametrize("row", [(), (1,), (3,), (4,), (2, 150), (0,)])
def test_rows_are_taken(device: Any, row: tuple[int, ...], dtype: str) -> None:
    array = (100 * normal(9, *row)).astype("i1").astype(dtype)
    index = np.array([3, 0, 8, 8, -9, 4, 1, 7])
    for first, rows in ((None, 8), (2, 5), (7, 1), (0, 0)):
        out = device.put(np.empty((rows, *row), dtype))
        start = None if first is None else device.put(np.array(first))
        device.launch.take(device.put(array), device.put(index), out, start)
        named = index[first or 0 :][:rows]
        np.testing.assert_array_equal(device.get(out), np.take(array, named, axis=0))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (400, 10), (300, 40), (0, 3), (3, 0), (0, 0)])
def test_reductions_are_those_of_numpy(device: Any, shape: tuple[int, int], dtype: str) -> None:
    host, launcher = normal(*shape, dtype=dtype), device.launch
    tolerance = 1e-4 if dtype == "f4" else 1e-12

    def assert_close(a: Any, expected: Any) -> None:
        np.testing.assert_allclose(device.get(a), expected, rtol=tolerance, atol=tolerance)

    a, scratch = device.put(host), launcher.scratch()
    columns = device.put(np.ones(shape[1], dtype))
    total = device.put(np.ones((), dtype))
    for given in (scratch, scratch, None):  # a second launch finds the scratch as the first did
        launcher.sum_columns(a, columns, scratch=given)
        assert_close(columns, host.sum(axis=0))
        launcher.sum_columns(a, columns, accumulate=True, scratch=given)
        assert_close(columns, 2 * host.sum(axis=0))
        launcher.sum_squares(a, total, given)
        assert_close(total, (host * host).sum())
    assert not device.get(scratch.tickets).any()


@pytest.mark.gpu
def test_launches_replay_in_a_graph_on_what_the_device_holds_then() -> None:
    device = OnGpu()
    launcher, cupy = device.launch, device.launch.xp
    key = device.put(np.array([1, 2, 0, 0, 5000 * 70], np.uint64))
    numbers, columns = device.put(np.zeros((5000, 70), "f4")), device.put(np.zeros(70, "f4"))
    total, scratch = device.put(np.zeros((), "f4")), launcher.scratch()

    def work() -> None:
        launcher.fill_normal(numbers, key)
        launcher.sum_columns(numbers, columns, scratch=scratch)
        launcher.sum_squares(numbers, total, scratch)

    work()
    cupy.cuda.get_current_stream().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        work()
        graph = stream.end_capture()
    totals = []
    for draw in (5, 6, 5):
        key[2] = draw
        cupy.cuda.get_current_stream().synchronize()
        graph.launch(stream)
        stream.synchronize()
        expected = HostBackend().normal((5000, 70), "f4", random.Key(1, 2, draw))
        np.testing.assert_allclose(device.get(columns), expected.sum(axis=0), atol=1e-3)
        totals.append(float(total))
    assert totals[0] == totals[2] != totals[1]


class Recorder(launch.Launcher):
    """Launches nothing and remembers grids and blocks."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(RawModule=lambda **_: None, zeros=np.zeros, cuda=CUDA))
        self.launches: list[tuple[Any, Any]] = []

    def run(self, name: str, grid: Any, block: Any, *args: Any) -> None:
        self.launches.append((grid, block))


def test_the_scratch_is_enough_for_every_shape() -> None:
    recorder = Recorder()
    tickets, partial = recorder.scratch()
    most = 0
    for columns in (1, 2, 10, 33, 1000, 32 * 1024, 32 * 1024 + 1, 10**6):
        for rows in (1, 100, 10**4, 10**7, 10**9):
            out = np.empty(columns, "f4").view(DeviceArray)
            facts = {"dtype": out.dtype, "flags": out.flags, "data": out.data}
            a = SimpleNamespace(shape=(rows, columns), **facts)
            recorder.sum_columns(a, out)
            (groups, parts), (x, _) = recorder.launches[-1]
            assert groups * x >= columns
            assert parts == 1 or (groups <= len(tickets) and parts * columns <= len(partial))
            most = max(most, parts)
    assert most == launch.PARTS


def test_what_a_raw_kernel_would_misread_is_refused() -> None:
    launcher = Recorder()
    a, out, other, index = (
        x.view(DeviceArray) for x in (normal(4, 6), normal(4), normal(4, 5), np.arange(4))
    )
    with pytest.raises(ValueError, match="not C-contiguous"):
        launcher.sum_columns(a.T, out)
    with pytest.raises(TypeError, match="float32"):
        launcher.sum_columns(a.astype("f8"), out)
    with pytest.raises(TypeError, match="float16"):
        launcher.fill_normal(a.astype("f2"), index)
    with pytest.raises(TypeError, match="int64, not int32"):
        launcher.take(a, index.astype("i4"), a)
    with pytest.raises(ValueError, match="do not go into"):
        launcher.take(a, index, other)
    with pytest.raises(ValueError, match="no rows"):
        launcher.take(a[:0], index, a)
    out.gpu = 1
    with pytest.raises(DeviceError, match="an array of GPU 1 met work on GPU 0"):
        launcher.sum_columns(a, out)
