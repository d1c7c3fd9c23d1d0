"""Products of packed operands are NumPy's, to the bit those of unpacked ones; a rule has them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from ldl.compiler.operations import Op, Ref, Value
from ldl_numpy import blas, engine, panels, products, strips, threads, tile, turns
from ldl_numpy.program import link

SIDES = {"f4": 2e-4, "f8": 1e-11}
GUARD = 64


def entry(text: str) -> Any:
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    return run(*engine.addresses([text]))


def operands(m: int, k: int, n: int, kind: str, turned: tuple[bool, bool]) -> tuple[Any, Any]:
    r = np.random.default_rng(0)
    a, b = (
        r.standard_normal(shape[::-1] if flip else shape).astype(kind)
        for shape, flip in zip(((m, k), (k, n)), turned, strict=True)
    )
    return a.T if turned[0] else a, b.T if turned[1] else b


def in_panels(a: Any, b: Any, down: int = 1, across: int = 1) -> Any:
    """The product, with numbers on both sides of a job's memory that nothing may change."""
    (m, k), n, kind = a.shape, b.shape[1], f"f{a.itemsize}"
    room = panels.room(kind, m, k) * down * across
    held = np.full(room + 2 * GUARD, 255, np.uint8)
    out = np.full((m, n), np.nan, a.dtype)
    words = [number for x in (a, b) for number in _lies(x)]
    words += [out.ctypes.data, m, n, k, down, across, *panels.sizes(m, k)]
    numbers = np.array([*words, held.ctypes.data + GUARD], np.int64)
    run = entry(panels.product(kind, n))
    for job in range(down * across):
        run(numbers.ctypes.data, job)
    assert (held[:GUARD] == 255).all()
    assert (held[-GUARD:] == 255).all()
    return out


def _lies(x: Any) -> tuple[int, int, int]:
    turned = not x.flags.c_contiguous
    return x.ctypes.data, x.itemsize * x.shape[0 if turned else 1], int(turned)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "DEEP", 37)
    monkeypatch.setattr(panels, "HIGH", 23)


@pytest.fixture(params=[(64, 32), (32, 16), (16, 32), (16, 16)], ids=str)
def registers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Vectors of processors, no wider than this one's."""
    found = tile.Registers(*request.param)
    if found.width > tile.registers().width:
        pytest.skip("wider than this processor's")
    monkeypatch.setattr(tile, "registers", lambda: found)
    tile.tile.cache_clear()
    yield found
    tile.tile.cache_clear()


@pytest.mark.parametrize("kind", SIDES)
def test_squares_are_turned_round(kind: str, registers: Any) -> None:
    side = turns.side(kind)
    far = 2 * side * int(kind[1])
    text = f"def entry(a: i8, to: i8):\n    turn_{kind}_{side}(a, i8({far}), to, i8(128))\n"
    a = np.arange(side * side, dtype=kind).reshape(side, side)
    given, to = np.zeros((side, 2 * side), kind), np.zeros((side, 128), np.uint8)
    given[:, :side] = a
    entry(text)(given.ctypes.data, to.ctypes.data)
    np.testing.assert_array_equal(to.view(kind)[:, :side], a.T)


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)], ids=str)
@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("size", [(2, 1, 1), (7, 5, 3), (50, 90, 150), (33, 75, 64)], ids=str)
def test_products_in_panels_are_numpys(
    size: tuple[int, int, int], kind: str, turned: Any, small_blocks: None, registers: Any
) -> None:
    a, b = operands(*size, kind, turned)
    right = a @ b
    for blocks in ((1, 1), (2, 3)):
        tolerance = SIDES[kind] * (1 + np.abs(right).max())
        np.testing.assert_allclose(in_panels(a, b, *blocks), right, rtol=0, atol=tolerance)


@pytest.mark.parametrize("turned", [False, True])
def test_the_bits_are_those_of_strips_however_it_is_cut(
    turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = operands(40, 300, 130, "f4", (turned, False))
    out = np.zeros((40, 130), "f4")
    words = [a.ctypes.data, *a.strides, b.ctypes.data, out.ctypes.data, 40, 130, 300, 1, 1]
    entry(strips.product("f4", 130))(np.array(words, np.int64).ctypes.data, 0)
    np.testing.assert_array_equal(in_panels(a, b), out)
    np.testing.assert_array_equal(in_panels(a, np.asfortranarray(b)), out)
    monkeypatch.setattr(panels, "DEEP", 29)
    monkeypatch.setattr(panels, "HIGH", 7)
    np.testing.assert_array_equal(in_panels(a, b, 3, 2), out)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0)], ids=str)
def test_a_program_has_the_same_bits_with_any_number_of_threads(
    turned: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "MOST", 2**10)
    monkeypatch.setattr(blas, "width", lambda: 1)
    a, b = operands(130, 300, 170, "f4", turned)
    right = in_panels(a, b)
    monkeypatch.setattr(threads, "threads", lambda: count)
    out = np.full_like(right, np.nan)
    op = Op(np.matmul, (_ref(a), _ref(b)), (_ref(out),), ufunc="matmul")
    assert products.fits(op)
    assert products.product(op, lambda x: x.resolve(x.value.lying)).packs
    link([op], [], lambda value: value.external).run()
    np.testing.assert_array_equal(out, right)


def _ref(x: Any) -> Ref:
    """A reference to an array, or to the transpose of one."""
    if x.flags.c_contiguous:
        return Ref(Value(x, x))
    return Ref(Value(x.T, x.T), (("transpose", ()),))


@pytest.mark.parametrize(
    ("own", "its", "large", "turned"),
    [
        (64, 32, True, True),
        (64, 64, False, True),
        (32, 16, True, True),
        (32, 32, False, False),
        (32, 64, False, False),
        (16, 16, False, False),
    ],
)
def test_blas_has_what_it_does_faster(
    own: int, its: int, large: bool, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile, "registers", lambda: tile.Registers(own, 32))
    monkeypatch.setattr(blas, "width", lambda: its)

    def ours(m: int, n: int, k: int, flip: bool) -> tuple[bool, bool]:
        found = products.Product(Op(np.matmul, (), ()), "f4", m, n, k, (False, flip))
        return found.own, found.packs

    assert ours(32, 1024, 1024, False) == (True, False), "small and straight: in strips"
    assert ours(32, 1024, 1024, True) == (turned, turned)
    assert ours(512, 4096, 4096, False) == (large, large)
    assert ours(512, 4096, 4096, True) == (large, large)
    assert ours(1, 8, 8, False) == (False, False), "one row has a way of its own"


@pytest.mark.parametrize(
    ("says", "width"), [(b"Haswell", 32), (b"SkylakeX", 64), (b"Prescott", 16), (b"New", 64)]
)
def test_the_width_of_blas_is_that_of_the_processor_it_names(
    says: bytes, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "find", lambda name: lambda: says)
    assert blas.width.__wrapped__() == width
    monkeypatch.setattr(blas, "find", lambda name: None)
    assert blas.width.__wrapped__() == blas.WIDE


def test_blocks_are_cut_where_least_is_packed() -> None:
    assert panels.blocks("f4", 512, 4096, 2) == (1, 2)
    assert panels.blocks("f4", 4096, 512, 2) == (2, 1)
    assert panels.blocks("f4", 4096, 4096, 4) == (2, 2)
    assert panels.blocks("f4", 4096, 10, 4) == (4, 1), "no more across than there are panels"


def test_memory_is_bounded_whatever_the_sizes() -> None:
    most = max(panels.room(kind, m, k) for kind in SIDES for m in (1, 10**6) for k in (1, 10**6))
    assert most <= 1.2e6
    assert panels.sizes(512, 784) == (196, 512), "parts are of one size"
