"""Every operation that loops know, on every type that they know: NumPy's numbers and types."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

import cuda_host
import nvrtc
from cuda_device import CudaOnHost
from ldl import nn
from ldl.backend import get_backend
from ldl.compiler.loops import BINARY, COMPARISONS, TYPES, UNARY
from ldl_cupy.launch import common

needs_gcc = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)
needs_nvrtc = pytest.mark.skipif(nvrtc.library() is None, reason=nvrtc.MISSING)

NAMES = ("f4", "f8", "i8", "b1")
NUMBERS = {"int": 3, "float": 0.5, "least": -(2**63), "truth": True}
HELD = {
    "f4": np.array([0.0, -0.5, 2.5, -3.0, 1.0, np.nan, 0.25, -0.0], "f4"),
    "f8": np.array([1.0, -0.5, 3.0, 7.5, -1.0, 0.5, np.inf, 1e30]),
    "i8": np.array([0, 1, -1, 2, -7, 5, -(2**63), 2**62 + 1]),
    "b1": np.array([0, 1, 0, 0, 1, 1, 1, 0], bool),
}
"""What operands hold, by type; the second operand holds it backward."""

Case = Callable[..., Any]


def cases() -> dict[str, Case]:
    """Functions of x and y by what they do, the types of x and y and of `out`."""
    made: dict[str, Case] = {}
    seconds = [*NAMES, *NUMBERS]
    for name, a in product(sorted(UNARY), NAMES):
        made[f"{name} {a}"] = partial(one, getattr(np, name))
        for to in NAMES:
            made[f"{name} {a} into {to}"] = partial(one, getattr(np, name), to=to)
    for name, a, b in product(sorted(BINARY | COMPARISONS.keys()), NAMES, seconds):
        made[f"{name} {a} {b}"] = getattr(np, name)
        for to in NAMES if (a, b) in (("i8", "i8"), ("b1", "b1"), ("f8", "f4")) else ():
            made[f"{name} {a} {b} into {to}"] = partial(into, getattr(np, name), to)
    for a, b in product(NAMES, seconds):
        made[f"where {a} {b}"] = lambda x, y: np.where(x, x, y)
        made[f"clip {a} {b}"] = lambda x, y: np.clip(x, y, 1)
    for a, to in product(NAMES, NAMES):
        made[f"astype {to} {a}"] = lambda x, y, to=to: x.astype(to)
    return {name: case for name, case in made.items() if is_numpys(name, case)}


def one(f: Any, x: Any, y: Any, to: str | None = None) -> Any:
    """f of the first operand alone."""
    return f(x) if to is None else into(f, to, x)


def into(f: Any, to: str, x: Any, *rest: Any) -> Any:
    """f's result cast to another type, in place."""
    out = x.astype(to)
    f(x, *rest, out=out)
    return out


def kinds(name: str) -> tuple[str, str]:
    """The types of a case's operands; one that takes x alone is given truths as well."""
    words = name.split(" into ")[0].split(" ")
    given = words[2:] if words[0] == "astype" else words[1:]
    return given[0], [*given, "b1"][1]


def operands(a: str, b: str) -> tuple[Any, Any]:
    """x and y of these types; y may be a number."""
    return HELD[a], NUMBERS[b] if b in NUMBERS else HELD[b][::-1].copy()


def is_numpys(name: str, case: Case) -> bool:
    """Whether NumPy does it, and gives a type that loops know."""
    with np.errstate(all="ignore"):
        try:
            return case(*operands(*kinds(name))).dtype in TYPES
        except (TypeError, OverflowError):
            return False


def together(most: int = 16) -> list[list[str]]:
    """The cases in groups of the same operands."""
    groups: dict[Any, list[str]] = {}
    for name in CASES:
        groups.setdefault(kinds(name), []).append(name)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


CASES = cases()
GROUPS = together()
APART = {"b1": ("square", "reciprocal", "sqrt", "exp", "log", "log1p", "expm1", "tanh", "fabs")}
"""What NumPy does in types that loops do not know, 8 or 16 bits: the library does it."""


class Uses(nn.Module):
    """The results of cases, and what is made of them while they stand in no memory."""

    def of(self, names: list[str], x: Any, y: Any) -> tuple[Any, ...]:
        made: list[Any] = []
        for name in names:
            r = CASES[name](x, y)
            made += [r, r.astype("f8") * 0.5, r == x.astype(r.dtype)]
        return tuple(made)


def recorded(backend: Any, names: list[str]) -> Any:
    """The cases, recorded, and what they are called with."""
    x, y = operands(*kinds(names[0]))
    arrays = [backend.asarray(a) for a in (x, y) if isinstance(a, np.ndarray)]

    def function(uses: Any, *given: Any) -> Any:
        return uses.of(names, *given, *[y][len(given) - 1 :])

    with np.errstate(all="ignore"):
        made = backend.record(function, (Uses(),), arrays)
    assert made.played, names
    return made, arrays


def assert_numpys(names: list[str], found: Any, exact: bool = True) -> None:
    """What was found are NumPy's numbers, of NumPy's types; those that are `exact` compare too."""
    with np.errstate(all="ignore"):
        expected = Uses().of(names, *operands(*kinds(names[0])))
    for i, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        name = names[i // 3]
        assert mine.dtype == theirs.dtype, name
        if i % 3 == 2 and not exact and expected[i - 2].dtype.kind == "f":
            continue  # whether it equals another
        np.testing.assert_allclose(
            np.asarray(mine).astype("f8"), theirs.astype("f8"), rtol=2e-6, atol=1e-30, err_msg=name
        )


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The sources of all cases' kernels."""
    found: dict[str, str] = {}
    backend = CudaOnHost()
    backend.functions.of = lambda given: found.update(given)  # type: ignore[assignment]
    for names in GROUPS:
        recorded(backend, names)
    return found


def test_loops_do_every_operation_on_every_type_that_numpy_does() -> None:
    assert len(CASES) > 600
    for name in [*UNARY, *BINARY, *COMPARISONS, "where", "clip", "astype"]:
        assert any(case.startswith(name + " ") for case in CASES), name


def test_whole_numbers_of_more_than_64_bits_and_missing_bounds_are_left_to_the_library() -> None:
    backend: Any = CudaOnHost()
    x = backend.asarray(HELD["i8"])

    def function(model: Any, x: Any) -> tuple[Any, ...]:
        total = x.sum()
        return x < 2**63, x > -(2**63) - 1, np.clip(total, None, 3), np.clip(x, 1, None)

    recording = backend.record(function, (nn.Identity(),), (x,))
    assert recording.played
    found = recording(x)
    for mine, theirs in zip(found, function(None, HELD["i8"]), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), theirs)


@needs_nvrtc
def test_every_operation_on_every_type_compiles(texts: dict[str, str]) -> None:
    made = nvrtc.compile_cuda(common() + "\n".join(texts.values()), "sm_90")
    assert made.keys() == texts.keys()


@pytest.mark.parametrize(
    "where",
    [pytest.param("host", marks=needs_gcc), pytest.param("gpu", marks=pytest.mark.gpu)],
)
def test_a_device_gives_numpys_numbers_and_types(where: str, texts: dict[str, str]) -> None:
    backend: Any = CudaOnHost() if where == "host" else get_backend("cupy")
    backend.functions.of(texts)  # in one module
    for names in GROUPS:
        if where == "gpu":  # what the library casts is its own
            names = [name for name in names if " into " not in name]
        recording, arrays = recorded(backend, names)
        others = set(recording.does) - {"loop", "join"}
        others -= {""} if any(" into " in name for name in names) else set()
        assert others <= set(APART.get(kinds(names[0])[0], ())), names
        with np.errstate(all="ignore"):
            results = [backend.to_numpy(r) for r in recording(*arrays)]
        assert_numpys(names, results, exact=where == "host")
    if where == "host":
        assert backend.connection.log.count("module") == 1


def test_fused_loops_of_the_host_give_numpys_numbers_and_types() -> None:
    for names in GROUPS:
        recording, arrays = recorded(get_backend("numpy"), names)
        with np.errstate(all="ignore"):
            assert_numpys(names, recording(*arrays), exact=False)
