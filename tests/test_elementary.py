"""What fused loops call are the mathematical functions, to the last place or two of their type."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from ldl_numpy import elementary, translate

engine: Any = pytest.importorskip("ldl_numpy.engine")

INF = float("inf")
NAMES = ("exp", "log", "log1p", "expm1", "tanh")
BOTH = pytest.mark.parametrize("kind", ["f4", "f8"])
EACH = pytest.mark.parametrize("name", NAMES)
NEAR = {
    "exp": (-750, 712),
    "log": (0.3, 3),
    "log1p": (-1, 3),
    "expm1": (-40, 712),
    "tanh": (-23, 23),
}
"""Where a function is not its own limit, nor a straight line."""


def loop(name: str) -> str:
    """The text of a function of arrays: a loop of one of numbers."""
    kind = name[-2:]
    return (
        f"def each(n: i8, x: [{kind}], y: [{kind}]):\n"
        f"    for i in range(n):\n        y[i] = {name}(x[i])\n"
    )


def compiled(name: str) -> Callable[[Any], Any]:
    """That function, compiled as loops are."""
    kind = name[-2:]
    call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    each = call(*engine.addresses([loop(name)]))

    def run(x: Any) -> Any:
        assert x.dtype == kind
        y = np.empty_like(x)
        each(x.size, x.ctypes.data, y.ctypes.data)
        return y

    return run


def numbers(name: str, kind: str, count: int) -> Any:
    """Numbers of all exponents, where most happens, near the ends of that, and special ones."""
    draw = np.random.default_rng(0)
    info = np.finfo(kind)
    everywhere = draw.integers(0, 2**info.bits, count, np.uint64, endpoint=False)
    low, high = NEAR[name]
    near = draw.uniform(low, high, count)
    small = draw.uniform(-1, 1, count) * 10.0 ** draw.uniform(-12, 0, count)
    ends = np.log([float(info.max), float(info.tiny), float(info.smallest_subnormal)])
    special = [0.0, -0.0, 1, -1, INF, -INF, np.nan, float(info.tiny), float(info.max)]
    special += [float(info.smallest_subnormal), -float(info.smallest_subnormal), -1 + info.epsneg]
    around = (ends[:, None] * (1 + np.linspace(-1e-6, 1e-6, 21))).reshape(-1)
    parts = [near, small, around, special, -np.array(special)]
    with np.errstate(all="ignore"):
        bits = everywhere.astype(f"u{info.bits // 8}").view(kind)
        return np.concatenate([bits, *(np.asarray(part).astype(kind) for part in parts)])


def exact(name: str, x: float) -> Any:
    """Mpmath's value; a number beyond all types for those that are too large for it."""
    if x != x or (name == "log" and x < 0) or (name == "log1p" and x < -1):
        return np.nan
    if (name, x) in (("log", 0), ("log1p", -1)):
        return -INF
    if name in ("exp", "expm1") and abs(x) > 800:
        return INF if x > 0 else 0.0 if name == "exp" else -1.0
    if name == "tanh" and abs(x) > 50:
        return np.sign(x)
    return getattr(mpmath, name)(x)


@pytest.fixture(autouse=True)
def _digits() -> Any:
    with mpmath.workprec(120):
        yield


def units(name: str, kind: str, x: Any, y: Any) -> float:
    """How far y is from the exact value, in units in the last place of that; infinite where it is
    wrong that y is finite, or infinite, or no number.
    """
    wanted = exact(name, float(x))
    nearest = np.dtype(kind).type(float(wanted))
    if not np.isfinite(nearest) or not np.isfinite(y):
        same = nearest == y or (nearest != nearest and y != y)
        return 0.0 if same else INF
    if x == 0 and name != "exp" and (y != 0 or np.signbit(y) != np.signbit(x)):
        return INF
    return float(abs(mpmath.mpf(float(y)) - wanted) / float(np.spacing(abs(nearest))))


@BOTH
@EACH
def test_values_are_as_near_as_is_said(name: str, kind: str) -> None:
    x = numbers(name, kind, 3000)
    with np.errstate(all="ignore"):
        y = compiled(f"{name}_{kind}")(x)
        found = [units(name, kind, *both) for both in zip(x, y, strict=True)]
    worst = int(np.argmax(found))
    assert found[worst] <= elementary.UNITS[f"{name}_{kind}"], x[worst]


@EACH
def test_float32_is_as_near_as_is_said_wherever_float64_tells(name: str) -> None:
    x = np.concatenate(
        (numbers(name, "f4", 2**18), np.arange(0, 2**32, 8191).astype("u4").view("f4"))
    )
    with np.errstate(all="ignore"):
        wanted = getattr(np, name)(x.astype("f8"))
        nearest = wanted.astype("f4")
        y = compiled(f"{name}_f4")(x)
        finite = np.isfinite(nearest)
        np.testing.assert_array_equal(y[~finite], nearest[~finite])
        off = np.abs(y[finite].astype("f8") - wanted[finite]) / np.spacing(np.abs(nearest[finite]))
    assert off.max() <= elementary.UNITS[f"{name}_f4"] + 1e-6


@pytest.mark.parametrize("name", elementary.UNITS)
def test_compiled_and_read_by_python_a_function_gives_the_same_bits(name: str) -> None:
    x = numbers(name[:-3], name[-2:], 400)
    function = getattr(elementary, name)
    with np.errstate(all="ignore"):
        read = np.array([function(a) for a in x])
    assert read.dtype == x.dtype
    whole = f"u{x.itemsize}"
    number = ~np.isnan(read)
    y = compiled(name)(x)
    np.testing.assert_array_equal(y.view(whole)[number], read.view(whole)[number])
    assert np.isnan(y[~number]).all()


@pytest.mark.parametrize("name", [*elementary.UNITS, "sinpi2_f4", "cospi2_f4"])
def test_a_loop_of_a_function_does_several_numbers_at_once_and_calls_nothing(name: str) -> None:
    machine, _ = engine._host()
    made = translate.functions(loop(name), engine.NAMES, "test_")["each"]
    module = engine.optimised(translate.module([made]))
    body = str(module).partition("define ")[2].partition("\n}")[0]
    assert f"x {'float' if name[-2:] == 'f4' else 'double'}>" in body
    called = re.findall(r"call .*@([\w.]+)\(", body)
    assert all(each.startswith("llvm.") for each in called)
    assert re.findall(r"call\w*\s+\w+", machine.emit_assembly(module)) == []


@pytest.mark.parametrize(("name", "own"), [("sinpi2_f4", np.sin), ("cospi2_f4", np.cos)])
def test_sines_of_turns_are_right_to_a_unit_of_one(name: str, own: Any) -> None:
    t = np.linspace(0, 1, 100_001).astype("f4")
    y = compiled(name)(t)
    np.testing.assert_allclose(y, own(2 * np.pi * t.astype("f8")), rtol=0, atol=1.3e-7)
    assert [getattr(elementary, name)(a) for a in t[::997]] == y[::997].tolist()
