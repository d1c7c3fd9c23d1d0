"""Captures: what interrupts and other GPUs leave of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

import cuda_host
import ldl
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl.prepared import play
from ldl_cupy import capture, device, record
from ldl_cupy.capture import Capture
from test_cuda_steps import assert_follows, pair

X = np.random.default_rng(0).random((9, 6)).astype("float32")
needs_gcc = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)


class Nothing:
    """A device that does nothing but capture, and its own site: it counts its launches."""

    gpu = 0

    def __init__(self) -> None:
        self.known: dict[Any, Any] = {}
        self.launched = 0

    def number(self) -> int:
        return 0

    def turn(self) -> None:
        pass

    def send(self, staged: Any, to: Any) -> None:
        to[:] = staged

    def empty(self, nbytes: int) -> Any:
        return np.empty(nbytes, np.uint8)

    def capture(self, work: Any) -> Any:
        return Played(self)

    def launch(self, numbers: Any) -> None:
        self.launched += 1


class Played:
    """The graph of one launch."""

    def __init__(self, site: Nothing) -> None:
        self.site = site

    def launch(self, *calls: Any) -> None:
        self.site.launched += 1
        play(calls)


@contextmanager
def interrupt(line: int, *modules: Any) -> Iterator[list[int]]:
    """KeyboardInterrupt before that many lines of the modules have run; gives how many did."""
    files, ran = {module.__file__ for module in modules}, [0]

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            ran[0] += 1
            if ran[0] == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield ran
    finally:
        sys.settrace(before)


NUMBERS = np.ones(2)


def step(capture: Capture, site: Any) -> None:
    with capture:
        inner(capture, site)
        capture.call(site, NUMBERS)


def inner(capture: Capture, site: Any) -> None:
    with capture:
        capture.call(site, NUMBERS)


def failing(capture: Capture, site: Any) -> None:
    with capture:
        capture.call(site, NUMBERS)
        1 / 0  # noqa: B018


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_tape_that_was_interrupted_at_any_line_notes_and_launches_as_before(before: int) -> None:
    line, held = 0, []
    while True:
        line += 1
        site = Nothing()
        noted = Capture(site)
        for _ in range(before):
            step(noted, site)
        with interrupt(line, capture) as ran:
            try:
                step(noted, site)
            except KeyboardInterrupt as error:
                held.append(error)  # a prompt keeps the last one, and its frames
        count = site.launched
        noted.call(site, NUMBERS)
        assert site.launched == count + 1, f"line {line}: the capture is still open"
        for i in range(4):
            step(noted, site)
            assert site.launched >= count + 2 + i, f"line {line}: the step was lost"
        if ran[0] < line:
            break
    assert len(held) == line - 1 > 20


def test_blocks_inside_blocks_are_launched_by_the_outermost() -> None:
    site = Nothing()
    noted = Capture(site)
    with noted:
        with noted:
            noted.call(site, NUMBERS)
        step(noted, site)
        assert site.launched == 0
    assert site.launched == 3
    with pytest.raises(ZeroDivisionError):
        failing(noted, site)
    assert site.launched == 3, "what failed is not launched"
    noted.call(site, NUMBERS)
    assert site.launched == 4


@needs_gcc
def test_a_step_that_was_interrupted_at_any_line_is_followed_by_right_ones() -> None:
    """Right by the gradients of the parameters as the interrupt left them."""
    with ldl.use_backend(CudaOnHost()) as host:
        played, own = pair(lambda: nn.Linear(6, 3), nn.MSELoss, optim.Adam, host)
        for _ in range(3):
            assert_follows(played, own, X, X[:, :3])
        for line in range(1, 60):
            with interrupt(line, capture, record, device), suppress(KeyboardInterrupt):
                played(host.asarray(X), host.asarray(X[:, :3]))
            for p, q in zip(played.model.parameters(), own.model.parameters(), strict=True):
                q.data[...] = np.asarray(p.data)
            own.optimizer.load_state_dict({k: v for k, v in played.optimizer.state_dict().items()})
            assert_follows(played, own, X, X[:, :3])


# ---- several GPUs --------------------------------------------------------------------------------


@needs_gcc
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_step_on_another_gpu_is_refused_by_number(steps: int) -> None:
    with ldl.use_backend(CudaOnHost()) as host:
        played, own = pair(lambda: nn.Linear(6, 3), nn.MSELoss, optim.Adam, host)
        x, t = host.asarray(X), host.asarray(X[:, :3])
        played._recording(x, t)
        for _ in range(steps):
            assert_follows(played, own, X, X[:, :3])
        host.connection.gpu = 1
        with pytest.raises(nn.DeviceError, match=r"GPU 0 .* GPU 1: .*cupy.cuda.Device\(0\)"):
            played(x, t)
        with pytest.raises(nn.DeviceError, match=r"GPU 0 .* GPU 1"):
            played.run(x, t, host.asarray(np.arange(9)), 9, [0])
        if steps:
            with pytest.raises(nn.DeviceError, match=r"GPU 0 .* GPU 1"):
                played.optimizer.step()
        host.connection.gpu = 0
        assert_follows(played, own, X, X[:, :3])


@needs_gcc
@pytest.mark.parametrize("which", [0, 1])
def test_an_array_of_another_gpu_is_refused_when_it_is_recorded_and_when_played(which: int) -> None:
    with ldl.use_backend(CudaOnHost()) as host:
        played, own = pair(lambda: nn.Linear(6, 3), nn.MSELoss, optim.Adam, host)
        for _ in range(2):
            given = [host.asarray(X), host.asarray(X[:, :3])]
            given[which].gpu = 1
            with pytest.raises(nn.DeviceError, match="an array of GPU 1 met work on GPU 0"):
                played(*given)
            assert_follows(played, own, X, X[:, :3])
