"""Functions of arrays, traced and played on every backend and in every way, beside NumPy's numbers.

Every function is given other numbers several times over, in new arrays and in the same one, so that
what was noted down once and is read for ever shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import cuda_host
import ldl
import ldl_numpy
from cuda_device import CudaOnHost
from ldl import nn
from ldl_numpy import blocks

needs_a_compiler = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)

ROWS, COLUMNS = 6, 4
WAYS = ["loops", "blocks", "one by one", "cuda"]


class Arrays(nn.Module):
    """Parameters in C order, and where the backend knows them, in others."""

    def __init__(self) -> None:
        draw = np.random.default_rng(3)
        asarray = self.backend.asarray
        self.w = nn.Parameter(asarray(draw.random((ROWS, COLUMNS)).astype("float32")))
        self.pair = nn.Parameter(asarray(draw.random((2, COLUMNS)).astype("float32")))


@contextmanager
def gathered(way: str, monkeypatch: Any) -> Iterator[Any]:
    """The backend in force, gathering a plan's operations in that way."""
    if way == "cuda":
        with ldl.use_backend(CudaOnHost()) as backend:
            yield backend
        return
    if way != "loops":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
    if way == "blocks":
        monkeypatch.setattr(blocks, "LEAST", 2)
    yield ldl.get_backend()


def inputs() -> Iterator[Any]:
    """New arrays, and one whose numbers change."""
    draw = np.random.default_rng(5)
    for _ in range(3):
        yield (draw.random((ROWS, COLUMNS)) - 0.4).astype("float32")
    same = (draw.random((ROWS, COLUMNS)) - 0.4).astype("float32")
    for _ in range(2):
        yield same
        same *= 0.5
        same[0] += 1


def compared(function: Callable[..., Any], backend: Any) -> bool:
    """Whether the function was played; AssertionError where it gave what its own code does not."""

    def made(module: Any, x: Any) -> tuple[Any, ...]:
        found = function(module.backend.xp, module, x)
        return found if isinstance(found, tuple) else (found,)

    module = Arrays()
    host: Any = nn.Identity()
    recording = None
    for x in inputs():
        if recording is None:
            recording = backend.record(made, (module,), (backend.asarray(x),))
        host.w, host.pair = (type("P", (), {"data": p.data})() for p in (module.w, module.pair))
        for p in (host.w, host.pair):
            p.data = np.array(backend.to_numpy(p.data))
        expected = function(np, host, x.copy())
        expected = expected if isinstance(expected, tuple) else (expected,)
        with backend.together():
            found = recording(backend.asarray(x))
        for mine, theirs in zip(found, expected, strict=True):
            mine, theirs = np.asarray(backend.to_numpy(mine)), np.asarray(theirs)
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
            np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=1e-5)
    assert recording is not None
    return recording.played


def plan_of(function: Callable[..., Any], *arrays: Any) -> Any:
    """The plan of a recorded function(xp, *arrays) on the backend in force."""

    def made(module: Any, *given: Any) -> tuple[Any, ...]:
        found = function(module.backend.xp, *given)
        return found if isinstance(found, tuple) else (found,)

    recording = ldl.get_backend().record(made, (nn.Identity(),), arrays)
    assert recording.played, getattr(recording, "why", "")
    return recording._plan  # type: ignore[attr-defined]
