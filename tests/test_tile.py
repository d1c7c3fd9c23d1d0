"""Compiled convolutions, pooling and scatter-adds have the generic bodies' numbers."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from ldl.backend import Window
from ldl.compiler.backend import KernelCall
from ldl.compiler.operations import Op, Ref, Value
from ldl_numpy import NumpyBackend, engine, images, strips, tile
from ldl_numpy.program import link


class Generic(NumpyBackend):
    """Kernels with their generic bodies alone."""


BACKEND = Generic()
SIDES = {"f4": 2e-4, "f8": 1e-11}


def play(name: str, settings: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """Run a kernel as a program of one operation."""
    values = [[Value(a, a) for a in arrays] for arrays in (inputs, outputs)]
    refs = [tuple(map(Ref, some)) for some in values]
    op = Op(KernelCall(name, settings), *refs, ufunc=name, settings=settings)
    assert images.fits(op)
    link([op], [], lambda value: value.external).run()


def random_case(seed: int) -> Any:
    """A shape, a window and a number of outputs; every third is depthwise, or has groups."""
    r = np.random.default_rng(seed)

    def pair(low: int, high: int) -> tuple[int, int]:
        return int(r.integers(low, high)), int(r.integers(low, high))

    while True:
        groups = int(r.choice([1, 1, 1, 2, 3]))
        c, o = (groups * int(n) for n in (r.choice([1, 2, 3, 5, 16]), r.choice([1, 6, 17, 64, 70])))
        if seed % 5 == 0:
            groups = c = o = int(r.choice([1, 3, 17, 64]))
        window = Window(pair(1, 5), pair(1, 4), (pair(0, 3), pair(0, 3)), pair(1, 3), groups)
        if seed % 2:
            window = window._replace(stride=(1, 1), dilation=(1, 1))
        shape = int(r.integers(1, 5)), int(r.integers(1, 13)), int(r.integers(1, 20)), c
        if 0 not in window.output(shape[1:3]):
            return r, shape, o, window


def close(found: Any, right: Any, kind: str) -> None:
    tolerance = SIDES[kind] * (1 + np.abs(right).max(initial=0))
    np.testing.assert_allclose(found, right, rtol=0, atol=tolerance)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("seed", range(24))
def test_convolutions_have_the_generic_numbers(
    seed: int, kind: str, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "jobs", lambda size, least: parts)
    r, shape, o, window = random_case(seed)
    weight = (*window.size, shape[3] // window.groups, o)
    x, w, b = (r.standard_normal(s).astype(kind) for s in (shape, weight, (o,)))
    right = BACKEND.conv(x, w, b, window)
    y = np.full_like(right, np.nan)
    play("conv", (window, True), [x, w, b], [y])
    close(y, right, kind)
    play("conv", (window, False), [x, w], [y])
    close(y, right - b, kind)
    g = r.standard_normal(y.shape).astype(kind)
    dw, right = np.full_like(w, np.nan), BACKEND.conv_weight(x, g, window)
    play("conv_weight", (window, False), [x, g], [dw])
    close(dw, right, kind)
    play("conv_weight", (window, True), [x, g], [dw])
    close(dw, 2 * right, kind)
    dx = np.full_like(x, np.nan)
    play("conv_input", (window, shape[1:3]), [g, w], [dx])
    close(dx, BACKEND.conv_input(g, w, window, shape[1:3]), kind)


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("seed", range(20))
def test_maxima_have_the_generic_numbers(seed: int, kind: str) -> None:
    r, shape, _, window = random_case(seed)
    window = window._replace(groups=1)
    half = zip(window.padding, window.size, strict=True)
    window = window._replace(padding=tuple((min(a, k // 2), min(b, k // 2)) for (a, b), k in half))
    if 0 in window.output(shape[1:3]):
        window = window._replace(dilation=(1, 1), size=(1, 1))
    x = r.integers(-3, 4, shape).astype(kind)  # with many equal ones
    x.reshape(-1)[:: 1 + x.size // 3] = np.nan
    right = BACKEND.max_pool(x, window)
    y, where = (np.zeros_like(a) for a in right)
    play("max_pool", (window,), [x], [y, where])
    np.testing.assert_array_equal(y, right[0])
    np.testing.assert_array_equal(where, right[1])
    g, dx = r.standard_normal(y.shape).astype(kind), np.full_like(x, np.nan)
    play("max_pool_input", (window, shape[1:3]), [g, where], [dx])
    close(dx, BACKEND.max_pool_input(g, where, window, shape[1:3]), kind)


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (40, 7, 33), (9, 30, 128)])
def test_rows_are_added_in_order(sizes: tuple[int, int, int], kind: str) -> None:
    count, rows, columns = sizes
    r = np.random.default_rng(1)
    index = r.integers(0, rows, count)
    given, out = (r.standard_normal((n, columns)).astype(kind) for n in (count, rows))
    right = BACKEND.add_rows(given, index, out.copy())
    play("add_rows", (), [given, index], [out])
    np.testing.assert_array_equal(out, right)


def test_infinities_and_nan_spread_as_far_as_they_are_seen() -> None:
    window = Window((3, 3), padding=((1, 1), (1, 1)))
    x, w = np.ones((1, 5, 5, 2), "f4"), np.ones((3, 3, 2, 3), "f4")
    x[0, 0, 0, 0], x[0, 4, 4, 1] = np.inf, np.nan
    y = np.zeros((1, 5, 5, 3), "f4")
    play("conv", (window, False), [x, w], [y])
    with np.errstate(invalid="ignore"):
        right = BACKEND.conv(x, w, None, window)
    np.testing.assert_array_equal(y, right)


def test_what_is_not_straight_or_of_another_type_is_left_to_numpy() -> None:
    def fits(x: Any, w: Any) -> bool:
        y = np.zeros((2, 4, 5, 3), w.dtype)
        given = tuple(Ref(Value(a, a)) for a in (x, w))
        settings = (Window((1, 1)), False)
        op = Op(KernelCall("conv", settings), given, (Ref(Value(y, y)),), ufunc="conv")
        return images.fits(op)

    x, w = np.ones((2, 4, 5, 2), "f4"), np.ones((1, 1, 2, 3), "f4")
    assert fits(x, w)
    assert not fits(np.ones((2, 5, 4, 2), "f4").transpose(0, 2, 1, 3), w)
    assert not fits(x.astype("f2"), w.astype("f2"))
    assert not fits(x[:0], w)


def test_another_image_size_and_another_batch_compile_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ldl_numpy import engine

    window = Window((3, 3), padding=((1, 1), (1, 1)))

    def step(n: int, h: int, w: int) -> None:
        x, weight = np.ones((n, h, w, 5), "f4"), np.ones((3, 3, 5, 7), "f4")
        y = np.zeros((n, h, w, 7), "f4")
        play("conv", (window, False), [x, weight], [y])
        play("conv_weight", (window, False), [x, y], [weight])
        play("conv_input", (window, (h, w)), [y, weight], [x])

    step(2, 6, 5)
    monkeypatch.setattr(engine, "_compiled", lambda wanted: pytest.fail(f"compiles {wanted}"))
    step(3, 9, 14)


@pytest.mark.parametrize("found", [(64, 32), (32, 16), (16, 16), (16, 32)])
def test_tiles_fit_into_the_registers(
    found: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile, "registers", lambda: tile.Registers(*found))
    for kind in SIDES:
        for columns in (1, 2, 3, tile.strip(kind) - 1, tile.strip(kind)):
            lengths = tile.vectors(kind, columns)
            assert sum(lengths) >= columns > sum(lengths[:-1])
            assert max(lengths) * tile.SIZES[kind] <= found[0]
            most, *smaller = tile.rows(kind, columns)
            assert most * len(lengths) + len(lengths) + 1 <= found[1]
            rest = list(range(most))
            for height in smaller:
                rest = [n % height for n in rest]
            assert not any(rest)


@pytest.mark.parametrize("blocks", [(1, 1), (3, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize(
    "size", [(2, 1, 1), (7, 5, 3), (13, 300, 70), (33, 513, 130), (6, 256, 64)]
)
def test_products_in_strips_are_numpys(
    size: tuple[int, int, int], kind: str, turned: bool, blocks: tuple[int, int]
) -> None:
    (m, k, n), (down, across) = size, blocks
    r = np.random.default_rng(0)
    a = (
        r.standard_normal((k, m)).astype(kind).T
        if turned
        else r.standard_normal((m, k)).astype(kind)
    )
    b, out = r.standard_normal((k, n)).astype(kind), np.full((m, n), np.nan, kind)
    words = [a.ctypes.data, *a.strides, b.ctypes.data, out.ctypes.data, m, n, k, down, across]
    held = np.array(words, np.int64)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    entry = run(*engine.addresses([strips.product(kind, n)]))
    for job in range(down * across):
        entry(held.ctypes.data, job)
    close(out, a @ b, kind)


def test_a_product_has_the_same_bits_however_it_is_cut() -> None:
    r = np.random.default_rng(0)
    a, b = (r.standard_normal(s).astype("f4") for s in ((40, 300), (300, 130)))
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    entry = run(*engine.addresses([strips.product("f4", 130)]))
    found = []
    for down, across in ((1, 1), (4, 1), (1, 3)):
        out = np.zeros((40, 130), "f4")
        words = [a.ctypes.data, *a.strides, b.ctypes.data, out.ctypes.data, 40, 130, 300]
        held = np.array([*words, down, across], np.int64)
        for job in range(down * across):
            entry(held.ctypes.data, job)
        found.append(out)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
