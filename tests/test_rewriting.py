"""Random programs: however they are recorded and rewritten, NumPy's numbers.

`programs.Program` makes views in every order, writes through them and copies; it is run on NumPy as
it stands and recorded, its loops read by Python (see `interpreted`) so that there can be many.
The long run, 2,000 of them in each way, takes some minutes:

    pytest tests/test_rewriting.py -k random --programs 2000
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cuda_host
import interpreted
import ldl
import ldl_numpy
import programs
from cuda_device import CudaOnHost
from ldl import nn
from ldl_numpy import blocks

needs_compiler = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)
GATHERED = ["loops", "blocks", "one by one", "device"]


@contextmanager
def gathered(way: str, monkeypatch: Any, compiled: bool = False) -> Iterator[tuple[Any, list[str]]]:
    """A backend that gathers a plan's operations in that way, and layouts that arrays may have."""
    if way == "device":
        if not compiled:
            interpreted.on_device(monkeypatch)
        with ldl.use_backend(CudaOnHost()) as backend:
            yield backend, ["C"]
        return
    if way == "loops" and not compiled:
        interpreted.on_host(monkeypatch)
    if way != "loops":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
    if way == "blocks":
        monkeypatch.setattr(blocks, "LEAST", 2)
        monkeypatch.setattr(blocks, "BLOCK", 7)
    yield ldl.get_backend(), list(programs.LAYOUTS)


@pytest.mark.parametrize("way", GATHERED)
def test_random_programs_give_the_same_numbers_recorded(
    way: str, monkeypatch: Any, request: Any
) -> None:
    count = request.config.getoption("--programs")
    with gathered(way, monkeypatch) as (backend, layouts):
        played = [
            programs.compare(programs.Program(seed), backend, layouts) for seed in range(count)
        ]
    assert sum(played) >= 0.85 * count, "nearly all can be recorded"


SEEDS = range(100, 105)


@needs_compiler
@pytest.mark.parametrize("way", ["loops", "device"])
def test_some_random_programs_compiled(way: str, monkeypatch: Any) -> None:
    with gathered(way, monkeypatch, compiled=True) as (backend, layouts):
        played = [programs.compare(programs.Program(seed), backend, layouts) for seed in SEEDS]
    assert sum(played) >= len(SEEDS) - 1, "nearly all can be recorded"


N = 8
KINDS = ("matmul", "matmul_t", "t_matmul", "bias", "sum", "scale", "relu", "add_in_place", "into")
step = st.tuples(st.sampled_from(KINDS), *[st.integers(0, 20)] * 3)


class Program(nn.Module):
    """Matrices and vectors, made of each other and now and then changed in place."""

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps
        draw = np.random.default_rng(0)
        for name, shape in (("w", (N, N)), ("b", (N,))):
            values = (draw.random(shape) - 0.5).astype("float32")
            setattr(self, name, nn.Parameter(values))

    def results(self, x: Any) -> tuple[Any, ...]:
        """Those of the last half of the steps."""
        xp, matmul = self.backend.xp, self.backend.matmul
        matrices, vectors = [x, self.w.data, x * 0.5], [self.b.data]
        made: list[Any] = []
        for kind, i, j, k in self.steps:
            a, b, v = _of(matrices, i), _of(matrices, j), _of(vectors, k)
            own = _of(matrices[2:], i)
            last = matrices[-1] if k % 2 else a
            match kind:
                case "sum":
                    vectors.append(last.sum(axis=0) * 0.1)
                    made.append(vectors[-1])
                    continue
                case "add_in_place":
                    own += v
                    made.append(own)
                    continue
                case "into":
                    made.append(
                        xp.add(matmul(own * 0.3, b) if k % 2 else matmul(own, b), v, out=own)
                    )
                    continue
                case "matmul":
                    new = matmul(a, b)
                case "matmul_t":
                    new = matmul(a, b.T)
                case "t_matmul":
                    new = matmul(a.T, last)
                case "bias":
                    new = last + v
                case "relu":
                    new = xp.maximum(last, 0)
                case _:
                    new = last * 0.5
            matrices.append(new)
            made.append(new)
        return tuple(made[len(made) // 2 :])


def _of(pool: list[Any], n: int) -> Any:
    return pool[n % len(pool)]


def run(program: Any, x: Any) -> tuple[Any, ...]:
    results: tuple[Any, ...] = program.results(x)
    return results


@needs_compiler
@given(st.lists(step, min_size=3, max_size=14))
@settings(
    deadline=None, max_examples=120, suppress_health_check=list(HealthCheck), derandomize=True
)
def test_a_program_gives_the_same_numbers_recorded_captured_and_on_the_host(
    steps: list[Any],
) -> None:
    host = CudaOnHost()
    x = np.random.default_rng(1).random((N, N)).astype("float32") - 0.5
    with ldl.use_backend(host):
        recording = host.record(run, (Program(steps),), (host.asarray(x),))
    assert recording.played
    right = Program(steps).results(x.copy())
    for _ in range(4):
        with host.together():
            found = recording(host.asarray(x))
        for mine, theirs in zip(found, right, strict=True):
            scale = max(1.0, float(np.abs(theirs).max()))
            np.testing.assert_allclose(host.to_numpy(mine) / scale, theirs / scale, atol=1e-4)
