"""Products by cuBLASLt, on a cuBLASLt of the host; the precision, and the notice without it."""

from __future__ import annotations

import gc
import sys
import warnings
from threading import Thread
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest

import fake_cublaslt
import ldl
import ldl_cupy
from descriptors import PRECISIONS, read_back
from fake_cublaslt import LAYOUTS, FakeCupy, FakeLt, free, host, matrix, narrowed, widened
from ldl_cupy import CupyBackend, algorithm, device, gemm, workspace


@pytest.fixture
def lt(monkeypatch: pytest.MonkeyPatch) -> FakeLt:
    monkeypatch.setattr(gemm, "_algorithms", {})
    monkeypatch.setattr(algorithm, "_handles", {})
    monkeypatch.setattr(workspace, "_latest", {})
    monkeypatch.setattr(workspace, "_all", WeakValueDictionary())
    monkeypatch.setattr(workspace, "_own", workspace._OfThread())
    lt, cupy = FakeLt(), FakeCupy()
    monkeypatch.setattr(algorithm, "lt", lt)
    for module in (algorithm, gemm, workspace):
        monkeypatch.setattr(module, "cupy", cupy)
    return lt


@pytest.fixture(autouse=True)
def default_precision() -> Any:
    yield
    ldl.set_matmul_precision("float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("of_b", LAYOUTS)
@pytest.mark.parametrize("of_a", LAYOUTS)
def test_no_layout_is_copied(lt: FakeLt, of_a: str, of_b: str, dtype: str) -> None:
    a, b = host(matrix(5, 7, of_a, dtype)), host(matrix(7, 4, of_b, dtype))
    out = gemm.matmul(a, b)
    np.testing.assert_allclose(out, a @ b, rtol=1e-5, atol=1e-6)
    assert gemm.matmul(a, b, out, True) is out
    np.testing.assert_allclose(out, 2 * (a @ b), rtol=1e-5, atol=1e-6)
    assert (len(lt.runs), gemm.cupy.products) == (2, 0)


def test_other_strides_are_copied(lt: FakeLt) -> None:
    a, b = host(matrix(6, 8))[::-1, ::2], host(matrix(4, 3))
    for _ in range(2):
        np.testing.assert_allclose(gemm.matmul(a, b), a @ b)
    assert (len(lt.runs), gemm.cupy.products) == (2, 0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones(3), np.ones(3)),
        (np.ones((2, 3), "i4"), np.ones((3, 2), "i4")),
        (np.ones((2, 3), "f4"), np.ones((3, 2))),
        (np.ones((2, 0)), np.ones((0, 3))),
        (np.ones((0, 2, 4)), np.ones((4, 3))),
    ],
)
def test_the_rest_goes_to_cupy(lt: FakeLt, a: Any, b: Any) -> None:
    result = gemm.matmul(host(a), host(b))
    np.testing.assert_array_equal(result, a @ b)
    np.testing.assert_array_equal(gemm.matmul(host(a), host(b), result, True), 2 * (a @ b))
    assert (len(lt.runs), gemm.cupy.products) == (0, 2)


@pytest.mark.parametrize("offered", [True, False])
def test_a_bias(lt: FakeLt, offered: bool) -> None:
    lt.refused = set() if offered else {"BIAS"}
    a, b, bias = host(matrix(5, 6)), host(matrix(6, 4)), host(np.arange(4.0) - 2)
    np.testing.assert_allclose(gemm.matmul_bias(a, b, bias), a @ b + bias)
    assert (lt.runs[-1]["epilogue"] != "DEFAULT") is offered
    out, other = host(np.empty((5, 4))), host(np.full(4, 9.0))
    assert gemm.matmul_bias(a, b, other, out) is out
    np.testing.assert_allclose(out, a @ b + other)
    asked = len(lt.searches)
    for vector in (bias, other):
        np.testing.assert_allclose(gemm.matmul_bias(a, b, vector, out), a @ b + vector)
    assert len(lt.searches) == asked, "an answer, a refusal too, is asked for once"


BATCHES = [
    ((3, 5, 7), (3, 7, 4)),
    ((3, 5, 7), (7, 4)),
    ((5, 7), (3, 7, 4)),
    ((2, 3, 5, 7), (2, 3, 7, 4)),
    ((1, 5, 7), (1, 7, 4)),
]


@pytest.mark.parametrize(("of_a", "of_b"), BATCHES, ids=str)
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
def test_batches_of_matrices_are_one_product(lt: FakeLt, of_a: Any, of_b: Any, turned: str) -> None:
    draw = np.random.default_rng(0)
    a, b = (host(draw.random(shape).astype("f")) for shape in (of_a, of_b))
    if "a" in turned:
        a = host(np.ascontiguousarray(a.swapaxes(-1, -2))).swapaxes(-1, -2)
    if "b" in turned:
        b = host(np.ascontiguousarray(b.swapaxes(-1, -2))).swapaxes(-1, -2)
    out = gemm.matmul(a, b)
    np.testing.assert_allclose(out, a @ b, rtol=1e-5)
    gemm.matmul(a, b, out, True)
    np.testing.assert_allclose(out, 2 * (a @ b), rtol=1e-5)
    assert (len(lt.runs), gemm.cupy.products) == (2, 0)


@pytest.mark.parametrize(
    ("of_a", "of_b"),
    [((7,), (7, 4)), ((5, 7), (7,)), ((3, 5, 7), (7,)), ((7,), (3, 7, 4))],
    ids=str,
)
def test_a_vector_is_a_matrix_of_one_row_or_column(lt: FakeLt, of_a: Any, of_b: Any) -> None:
    draw = np.random.default_rng(0)
    a, b = (host(draw.random(shape).astype("f")) for shape in (of_a, of_b))
    out = gemm.matmul(a, b)
    np.testing.assert_allclose(out, a @ b, rtol=1e-5)
    assert gemm.matmul(a, b, out, True) is out
    np.testing.assert_allclose(out, 2 * (a @ b), rtol=1e-5)
    assert (len(lt.runs), gemm.cupy.products) == (2, 0)


def heads(*shape: int) -> Any:
    """(N, H, L, D) seen in memory of (N, L, H, D)."""
    n, h, length, d = shape
    drawn = np.random.default_rng(0).random((n, length, h, d))
    return host(drawn).transpose(0, 2, 1, 3)


@pytest.mark.parametrize(("n", "h", "pieces"), [(5, 3, 3), (2, 4, 2), (1, 4, 1), (4, 1, 1)])
def test_heads_are_multiplied_where_they_lie(
    lt: FakeLt, n: int, h: int, pieces: int, monkeypatch: Any
) -> None:
    q, k, v = heads(n, h, 6, 8), heads(n, h, 7, 8), heads(n, h, 7, 8)
    monkeypatch.setattr(gemm, "_tidy", lambda x: pytest.fail("it was copied"))
    scores = gemm.matmul(q, k.swapaxes(-1, -2))
    np.testing.assert_allclose(scores, q @ k.swapaxes(-1, -2))
    out = host(np.zeros((n, 6, h, 8))).transpose(0, 2, 1, 3)
    gemm.matmul(scores, v, out)
    gemm.matmul(scores, v, out, True)
    np.testing.assert_allclose(out, 2 * (scores @ v))
    assert (len(lt.runs), gemm.cupy.products) == (3 * pieces, 0)


def test_heads_of_16_bits_too(lt: FakeLt) -> None:
    q = host(narrowed(heads(2, 3, 5, 8).swapaxes(1, 2))).swapaxes(1, 2)
    a, b, out = q, q.swapaxes(-1, -2), host(np.empty((2, 3, 5, 5), "f4"))
    gemm.matmul_bf16(a, b, out)
    np.testing.assert_allclose(out, widened(a) @ widened(b), rtol=1e-6)
    assert len(lt.runs) == 2


BROADCAST = [
    ((2, 3, 4), (2, 2, 4, 5), 2),
    ((4, 1, 3, 4), (1, 3, 4, 5), 3),
    ((1, 3, 4), (3, 4, 5), 1),
    ((3, 1, 3, 4), (2, 4, 5), 2),
]


@pytest.mark.parametrize(("of_a", "of_b", "pieces"), BROADCAST, ids=str)
def test_batches_are_broadcast_where_they_lie(
    lt: FakeLt, of_a: Any, of_b: Any, pieces: int
) -> None:
    draw = np.random.default_rng(0)
    a, b = (host(draw.random(shape)) for shape in (of_a, of_b))
    np.testing.assert_allclose(gemm.matmul(a, b), a @ b)
    assert (len(lt.runs), gemm.cupy.products) == (pieces, 0)


@pytest.mark.parametrize("shape", [(17, 18, 5, 7), (2, 3, 4, 5, 7)])
def test_matrices_far_from_following_each_other_evenly_are_copied(lt: FakeLt, shape: Any) -> None:
    axes = (1, 0, 2, 3) if len(shape) == 4 else (2, 1, 0, 3, 4)
    a = host(np.random.default_rng(0).random(shape)).transpose(axes)
    np.testing.assert_allclose(gemm.matmul(a, host(matrix(7, 4))), a @ matrix(7, 4))
    assert (len(lt.runs), gemm.cupy.products) == (1, 0)


def test_operands_of_16_bits_are_bfloat16_and_their_product_is_float32(lt: FakeLt) -> None:
    a, b = narrowed(matrix(5, 7)), narrowed(matrix(4, 7)).T
    exact = widened(a) @ widened(b)
    out = host(np.empty((5, 4), "f"))
    for precision in ("float32", "bf16"):
        ldl.set_matmul_precision(precision)
        gemm.matmul_bf16(host(a), host(b), out)
        np.testing.assert_allclose(out, exact, rtol=1e-5)
        assert lt.runs[-1]["compute"] == 68, "float32 sums of what is stored"
    np.testing.assert_array_equal(gemm.matmul(host(a), host(b)), a @ b)
    assert gemm.cupy.products == 1, "a user's own numbers of 16 bits are whole numbers"
    lt.refused = {"DEFAULT"}
    with pytest.raises(RuntimeError, match=r"set_matmul_precision\('float32'\)"):
        gemm.matmul_bf16(host(a[:3]), host(b), host(np.empty((3, 4), "f")))


def test_what_is_offered_is_asked_without_arrays_once(lt: FakeLt) -> None:
    lt.refused = {"BGRADB"}
    a, b, out = matrix(5, 6), matrix(6, 4), matrix(5, 4)
    for _ in range(2):
        assert gemm.offers("sums_b", a, b, out)
        assert not gemm.offers("sums_a", a, b, out)
    assert gemm.offers(None, a, b, out)
    assert "BIAS_POINTER" not in lt.searches[-1]
    assert not gemm.offers("sums_b", a.astype("i4"), b.astype("i4"), out)
    assert not gemm.offers("bias", a, b, out.astype("f"))
    assert (len(lt.searches), lt.runs) == (3, [])


@pytest.mark.parametrize("strided", [False, True])
def test_a_bias_off_its_alignment_or_with_gaps_is_added_apart(lt: FakeLt, strided: bool) -> None:
    a, b, memory = host(matrix(5, 6)), host(matrix(6, 4)), host(np.arange(10.0))
    start = -memory.ctypes.data % 16 // 8
    bias = memory[start::2][:4] if strided else memory[start + 1 :][:4]
    np.testing.assert_allclose(gemm.matmul_bias(a, b, bias), a @ b + bias)
    assert [run["epilogue"] for run in lt.runs] == ["DEFAULT"]


def test_sums_come_with_the_product_or_not_at_all(lt: FakeLt) -> None:
    x, grad = host(matrix(7, 3)), host(matrix(7, 4))
    out, sums = host(np.ones((3, 4))), host(np.empty(4))
    assert gemm.matmul_sums(x.T, grad, out, sums, accumulate=True)
    np.testing.assert_allclose(out, x.T @ grad + 1)
    np.testing.assert_allclose(sums, grad.sum(0))
    tied = host(np.empty((4, 3)))
    assert gemm.matmul_sums(grad.T, x, tied, sums, of="a")
    np.testing.assert_allclose(tied, grad.T @ x)
    np.testing.assert_allclose(sums, grad.sum(0))
    lt.refused, out[:] = {"BGRADA"}, 5
    assert not gemm.matmul_sums(host(x[:6]).T, host(grad[:6]), out, sums)
    assert (out == 5).all()


@pytest.mark.parametrize("refusal", [7, 15, "none found", "a failed one"])
def test_where_there_is_no_algorithm_at_all_cupy_multiplies(lt: FakeLt, refusal: Any) -> None:
    lt.refused, lt.refusal = {"DEFAULT"}, refusal
    a, b = host(matrix(2, 3)), host(matrix(3, 4))
    np.testing.assert_allclose(gemm.matmul(a, b), a @ b)
    assert gemm.cupy.products == 1


def test_another_error_of_the_search_is_raised_and_forgotten(lt: FakeLt) -> None:
    lt.refused, lt.refusal = {"DEFAULT"}, 14
    a, b = host(matrix(2, 3)), host(matrix(3, 4))
    with pytest.raises(fake_cublaslt.cuBLASLtError):
        gemm.matmul(a, b)
    lt.refused = set()
    np.testing.assert_allclose(gemm.matmul(a, b), a @ b)


def test_an_algorithm_is_sought_once_a_shape_alignment_and_precision(lt: FakeLt) -> None:
    memory, b, out = (host(np.ones(n, "f")) for n in (100, 12, 8))
    start = -memory.ctypes.data % 256 // 4
    aligned, off = memory[start:][:6], memory[start + 1 :][:6]
    for precision in ("float32", "tf32"):
        ldl.set_matmul_precision(precision)
        for a in (aligned, off, aligned, off):
            gemm.matmul(a.reshape(2, 3), b.reshape(3, 4), out.reshape(2, 4))
    assert [search["MIN_ALIGNMENT_B_BYTES"] for search in lt.searches] == [256, 4] * 2
    assert [search["compute"] for search in lt.searches] == [68, 68, 77, 77]
    assert {search["MAX_WORKSPACE_BYTES"] for search in lt.searches} == {32 << 20}


def test_the_latest_algorithms_are_kept_and_the_others_objects_destroyed(
    lt: FakeLt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemm, "ALGORITHMS", 3)
    b = host(matrix(3, 4))
    for rows in (2, 3, 4, 5, 6, 4):
        a = host(matrix(rows, 3))
        np.testing.assert_allclose(gemm.matmul(a, b), a @ b)
    gc.collect()
    assert len(lt.objects) == 3 * 4, "a descriptor and three layouts each"


def test_the_precision_concerns_float32_alone(lt: FakeLt) -> None:
    for precision in ("float32", "tf32", "bf16"):
        ldl.set_matmul_precision(precision)
        for dtype in ("f", "d"):
            gemm.matmul(host(np.ones((2, 3), dtype)), host(np.ones((3, 4), dtype)))
    assert [run["compute"] for run in lt.runs] == [68, 70, 77, 70, 75, 70]


def test_each_stream_has_a_workspace_which_stays(lt: FakeLt) -> None:
    a, b = host(matrix(2, 3)), host(matrix(3, 4))
    for stream in (0, 5, 0, 5):
        gemm.cupy.stream.ptr = stream
        gemm.reserve()
        gemm.matmul(a, b)
    assert [(run["stream"], run["space"]) for run in lt.runs] == [(0, 1), (5, 2), (0, 1), (5, 2)]
    assert [memory.size for memory in gemm.cupy.memories] == [32 << 20] * 2


def test_a_stream_keeps_its_handle_as_long_as_its_workspace(lt: FakeLt) -> None:
    a, b, cupy = host(matrix(2, 3)), host(matrix(3, 4)), gemm.cupy
    kept = []
    for i in range(workspace.KEPT + 3):
        cupy.stream = SimpleNamespace(ptr=100 + i)
        kept.append(gemm.reserve() if i == 1 else None)
        gemm.matmul(a, b)
    gc.collect()
    held = {key[1] - 100 for key in workspace._all}
    assert held == {1, *range(3, workspace.KEPT + 3)}, "the latest, and what a graph keeps"
    cupy.stream = SimpleNamespace(ptr=101)
    assert gemm.reserve() is kept[1]


def test_a_gpu_has_workspaces_of_its_own(lt: FakeLt) -> None:
    a, b = host(matrix(2, 3)), host(matrix(3, 4))
    for a.gpu in (0, 1, 0, 1):
        b.gpu = gemm.cupy.device = a.gpu
        gemm.matmul(a, b)
    assert [run["space"] for run in lt.runs] == [1, 2, 1, 2]
    b.gpu = 0
    with pytest.raises(ldl.nn.DeviceError, match=r"GPU 0 met work on GPU 1: x.copy\(\)"):
        gemm.matmul(a, b)


def test_threads_whose_own_streams_have_one_handle_have_a_workspace_each(lt: FakeLt) -> None:
    a, b = host(matrix(2, 3)), host(matrix(3, 4))
    gemm.cupy.stream.ptr = device.PER_THREAD

    def work() -> None:
        for _ in range(2):
            gemm.matmul(a, b)

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    work()
    assert [run["space"] for run in lt.runs] == [1, 1, 2, 2, 3, 3]


def test_a_workspace_takes_what_the_pool_does_not_use(lt: FakeLt) -> None:
    gemm.cupy.room, gemm.cupy.pooled = 0, 1
    gemm.matmul(host(matrix(2, 3)), host(matrix(3, 4)))
    assert [run["size"] for run in lt.runs] == [1000]


def test_without_room_for_a_workspace_products_do_without(lt: FakeLt) -> None:
    a, b = host(matrix(2, 3)), host(matrix(3, 4))
    gemm.cupy.room = 0
    for _ in range(2):
        np.testing.assert_allclose(gemm.matmul(a, b), a @ b)
    assert [(run["space"], run["size"]) for run in lt.runs] == [(0, 0)] * 2
    with pytest.raises(MemoryError, match="no room for a workspace of 32 MiB"):
        gemm.reserve()
    lt.greedy = True
    with pytest.raises(MemoryError, match="smaller batches"):
        gemm.matmul(host(matrix(3, 3)), host(matrix(3, 4)))
    gemm.cupy.room = 1
    gemm.matmul(host(matrix(3, 3)), host(matrix(3, 4)))
    assert lt.runs[-1]["size"] == 1000


def test_no_algorithm_is_sought_while_another_thread_captures(lt: FakeLt) -> None:
    asked, ask = [], lt.matmul_algo_get_heuristic

    def asking(*given: Any) -> None:
        asked.append(free(device.capturing))
        ask(*given)

    lt.matmul_algo_get_heuristic = asking  # type: ignore[method-assign]
    a, b, out = host(matrix(2, 3)), host(matrix(3, 4)), host(np.empty((2, 4)))
    gemm.matmul(a, b)
    gemm.offers("bias", a, b, out)
    gemm.cupy.room = 0
    gemm.cupy.stream = SimpleNamespace(ptr=5)
    gemm.matmul(a, b)  # without a workspace
    assert asked == [False] * 3
    assert free(device.capturing)


# ---- descriptors of the library itself -----------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_library_holds_what_it_was_told(precision: str, tmp_path_factory: Any) -> None:
    held = read_back(tmp_path_factory.getbasetemp())[precision]
    assert held["TRANSA"] == 0
    assert held["TRANSB"] == 1
    assert held["EPILOGUE"] == 256
    assert held["COMPUTE_TYPE"] == algorithm._COMPUTE_TYPES[precision]
    for of, shape, ld in (("A", (5, 7), 5), ("B", (2, 7), 2), ("D", (5, 2), 5)):
        assert held[f"ROWS {of}"] == shape[0]
        assert held[f"COLS {of}"] == shape[1]
        assert held[f"LD {of}"] == ld
        kind = {"float64": 1, "stored bf16": 14 if of != "D" else 0}.get(precision, 0)
        assert held[f"TYPE {of}"] == kind
    assert held["MAX_WORKSPACE_BYTES"] == 32 << 20
    aligned = [held[f"MIN_ALIGNMENT_{of}_BYTES"] for of in "ABCD"]
    assert aligned == [4, 8, 16, 16]


# ---- the precision, and the backend ----------------------------------------------------------


def test_the_precision_is_float32_until_it_is_set() -> None:
    assert ldl.get_matmul_precision() == "float32"
    for precision in ("tf32", "bf16", "float32"):
        ldl.set_matmul_precision(precision)
        assert ldl.get_matmul_precision() == precision


def test_an_unknown_precision_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'float32', 'tf32', 'bf16', got 'high'") as error:
        ldl.set_matmul_precision("high")
    assert "\n" not in str(error.value)
    assert ldl.get_matmul_precision() == "float32"


def test_the_precision_changes_nothing_on_a_cpu() -> None:
    x, layer = matrix(9, 6, dtype="f"), ldl.nn.Linear(6, 4)
    exact = layer(x)
    ldl.set_matmul_precision("bf16")
    np.testing.assert_array_equal(layer(x), exact)


def backend(products: Any) -> CupyBackend:
    """The CuPy backend on NumPy arrays, with these products."""
    made = object.__new__(CupyBackend)
    made.xp, made.gemm = np, products
    return made


@pytest.mark.parametrize("products", [gemm, None])
def test_the_backend_multiplies_as_the_generic_bodies_do(lt: FakeLt, products: Any) -> None:
    x, w, bias = host(matrix(5, 6)), host(matrix(6, 4)), host(np.arange(4.0))
    cupy = backend(products)
    np.testing.assert_allclose(cupy.linear(x, w, bias), x @ w + bias)
    np.testing.assert_allclose(cupy.linear(x, w, None), x @ w)
    out = host(np.ones((5, 4)))
    assert cupy.matmul(x, w, out=out, accumulate=True) is out
    np.testing.assert_allclose(out, x @ w + 1)
    ours = ["BIAS", "DEFAULT", "DEFAULT"]
    assert [run["epilogue"] for run in lt.runs] == (ours if products else [])


@pytest.fixture
def looked_up_anew() -> Any:
    ldl_cupy.products.cache_clear()
    yield
    ldl_cupy.products.cache_clear()


def test_without_nvmath_one_notice_says_what_to_install(
    looked_up_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ldl_cupy, "gemm")
    monkeypatch.setitem(sys.modules, "ldl_cupy.gemm", None)
    with pytest.warns(RuntimeWarning, match=r"pip install 'ldl\[cuda12\]'") as notices:
        assert ldl_cupy.products() is None
    assert "\n" not in str(notices[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ldl_cupy.products() is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("no libcublasLt\nin many lines"), "no libcublasLt"),
        (OSError("libcublas.so.12: cannot open"), "libcublas.so.12: cannot open"),
        (AttributeError("no COMPUTE_32F_FAST_16BF"), "no COMPUTE_32F_FAST_16BF"),
        (fake_cublaslt.cuBLASLtError(1), "1"),
        (KeyError(), "KeyError"),
    ],
    ids=str,
)
def test_without_the_library_too(
    error: Exception, said: str, looked_up_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(gemm, "load", fail)
    with pytest.warns(RuntimeWarning, match=rf"\({said}\)$"):
        assert ldl_cupy.products() is None


def test_with_both_there_is_no_notice(
    looked_up_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemm, "load", lambda: None)
    assert ldl_cupy.products() is gemm
