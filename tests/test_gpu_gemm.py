"""Products by cuBLASLt on a CUDA device: the numbers of NumPy, and what a graph can hold."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np
import pytest

import ldl
from fake_cublaslt import LAYOUTS, matrix, narrowed, widened
from ldl_cupy import gemm

pytestmark = pytest.mark.gpu

SIZES = [(1, 1, 1), (1, 784, 10), (5, 7, 3), (37, 1, 36), (33, 31, 1), (128, 784, 512)]
RELATIVE = {"float64": 1e-14, "float32": 1e-6, "tf32": 2e-3, "bf16": 2e-2}


@pytest.fixture(autouse=True)
def cublaslt() -> Any:
    if ldl.get_backend("cupy").gemm is None:
        pytest.skip("cuBLASLt is not installed")
    yield
    ldl.set_matmul_precision("float32")


def device(host: Any) -> Any:
    """The same matrix on the device, in the same layout."""
    memory = host if host.base is None else host.base
    copied = cupy.asarray(memory)
    if memory.shape == host.shape and memory.strides == host.strides:
        return copied
    ours = cupy.ndarray(host.shape, host.dtype, copied.data, host.strides)
    np.testing.assert_array_equal(cupy.asnumpy(ours), host)
    return ours


def assert_near(found: Any, exact: Any, a: Any, b: Any, precision: str) -> None:
    """Within the rounding of operands, or of sums, of so many terms."""
    scale = np.abs(a).astype("d") @ np.abs(b).astype("d") + 1
    error = np.abs(cupy.asnumpy(found).astype("d") - exact) / scale
    assert error.max() < RELATIVE[precision]


def numbers(m: int, k: int, n: int, dtype: str, of_a: str = "rows", of_b: str = "rows") -> Any:
    a, b = matrix(m, k, of_a, dtype), matrix(k, n, of_b, dtype)
    return a, b, a.astype("d") @ b.astype("d")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("of_b", LAYOUTS)
@pytest.mark.parametrize("of_a", LAYOUTS)
def test_products_are_numpys(of_a: str, of_b: str, dtype: str) -> None:
    for size in SIZES:
        a, b, exact = numbers(*size, dtype, of_a, of_b)
        out = gemm.matmul(device(a), device(b))
        assert_near(out, exact, a, b, dtype)
        assert gemm.matmul(device(a), device(b), out, True) is out
        assert_near(out, 2 * exact, 2 * a, b, dtype)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_lower_precision_rounds_operands_and_no_more(precision: str) -> None:
    a, b, exact = numbers(256, 512, 256, "float32")
    full = cupy.asnumpy(gemm.matmul(device(a), device(b)))
    ldl.set_matmul_precision(precision)
    rounded = gemm.matmul(device(a), device(b))
    assert_near(rounded, exact, a, b, precision)
    bits = cupy.asnumpy(rounded) != full
    assert bits.mean() > 0.5, "nothing was rounded: has this GPU tensor cores?"


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "float64"])
@pytest.mark.parametrize("offset", [0, 1])
def test_a_bias(offset: int, precision: str) -> None:
    if precision != "float64":
        ldl.set_matmul_precision(precision)
    for size in SIZES:
        a, b, z = numbers(*size, "float64" if precision == "float64" else "float32")
        bias = np.linspace(-1, 1, b.shape[1] + offset).astype(a.dtype)
        found = gemm.matmul_bias(device(a), device(b), cupy.asarray(bias)[offset:])
        assert_near(found, z + bias[offset:], a, b, precision)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batches_are_numpys(dtype: str) -> None:
    draw = np.random.default_rng(0)
    for of_a, of_b in (((3, 5, 7), (3, 7, 4)), ((3, 5, 7), (7, 4)), ((5, 7), (3, 7, 4))):
        a, b = draw.random(of_a).astype(dtype), draw.random(of_b).astype(dtype)
        exact = a.astype("d") @ b
        out = gemm.matmul(cupy.asarray(a), cupy.asarray(b))
        np.testing.assert_allclose(cupy.asnumpy(out), exact, rtol=1e-5)
        turned = np.ascontiguousarray(b.swapaxes(-1, -2))
        again = gemm.matmul(cupy.asarray(a), cupy.asarray(turned).swapaxes(-1, -2), out)
        np.testing.assert_allclose(cupy.asnumpy(again), exact, rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 128, 32), (784, 128, 512), (5, 7, 3)])
def test_operands_of_16_bits_are_bfloat16(size: Any) -> None:
    a, b, _ = numbers(*size, "float32")
    a, b = narrowed(a), narrowed(b)
    found = cupy.empty((size[0], size[2]), "f")
    gemm.matmul_bf16(device(a), device(b), found)
    exact = widened(a).astype("d") @ widened(b).astype("d")
    assert_near(found, exact, widened(a), widened(b), "float32")


@pytest.mark.parametrize("of", ["a", "b"])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "float64"])
@pytest.mark.parametrize("size", [(64, 128, 32), (784, 128, 512), (5, 7, 3)])
def test_sums_are_right_where_they_are_offered(size: Any, precision: str, of: str) -> None:
    dtype = "float64" if precision == "float64" else "float32"
    ldl.set_matmul_precision("float32" if precision == "float64" else precision)
    a, b, exact = numbers(*size, dtype, "transposed")
    out = cupy.ones(exact.shape, dtype)
    sums = cupy.full(exact.shape[of == "b"], 7, dtype)
    done = gemm.matmul_sums(device(a), device(b), out, sums, of, accumulate=True)
    if not done:
        assert bool((out == 1).all() and (sums == 7).all()), "it did half of it"
        pytest.skip(f"cuBLASLt has no sums of {of} in {precision} for {size}")
    assert_near(out, exact + 1, a, b, precision)
    total = b.astype("d").sum(0) if of == "b" else a.astype("d").sum(1)
    tolerance = RELATIVE[precision] * size[1]
    np.testing.assert_allclose(cupy.asnumpy(sums), total, atol=tolerance)


@pytest.mark.parametrize("start", [0, 1, 2, 4])
def test_addresses_of_any_alignment_are_multiplied(start: int) -> None:
    a, b, exact = numbers(64, 128, 64, "float32")
    memory = cupy.empty(2 * a.size + 8, "f")
    ours = memory[start : start + a.size].reshape(a.shape)
    ours[:] = cupy.asarray(a)
    out = cupy.empty(64 * 64 + 8, "f")[start : start + 64 * 64].reshape(64, 64)
    assert_near(gemm.matmul(ours, device(b), out), exact, a, b, "float32")


def test_a_graph_holds_products_and_repeats_them_on_new_numbers() -> None:
    x, w, _ = numbers(32, 64, 48, "float32")
    x, w, bias = cupy.asarray(x), cupy.asarray(w), cupy.linspace(-1, 1, 48, dtype="f")
    z, out = cupy.empty((32, 48), "f"), cupy.zeros((64, 48), "f")

    def step() -> None:
        gemm.matmul_bias(x, w, bias, z)
        gemm.matmul(x.T, z, out, accumulate=True)

    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        gemm.reserve()
        step()
        stream.begin_capture()
        step()
        graph = stream.end_capture()
        out[...] = 0
        x *= 2
        for _ in range(3):
            graph.launch(stream)
        stream.synchronize()
        expected = 2 * cupy.asarray(numbers(32, 64, 48, "float32")[2]) + bias
        np.testing.assert_allclose(cupy.asnumpy(z), cupy.asnumpy(expected), rtol=1e-4, atol=1e-4)
        total = 3 * (cupy.asnumpy(x).T.astype("d") @ cupy.asnumpy(z))
        np.testing.assert_allclose(cupy.asnumpy(out), total, rtol=1e-3, atol=1e-3)


def test_threads_and_streams_do_not_disturb_each_other() -> None:
    from threading import Thread

    a, b, _ = numbers(64, 4096, 64, "float32")
    wrong: list[int] = []

    def work(bias: float) -> None:
        with cupy.cuda.Stream(non_blocking=True) as stream:
            ours, vector = [cupy.asarray(m) for m in (a, b)], cupy.full(64, bias, "f")
            first = gemm.matmul_bias(*ours, vector)
            for _ in range(50):
                again = gemm.matmul_bias(*ours, vector)
                wrong.append(int((again != first).sum()))
            stream.synchronize()

    threads = [Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 200
    assert not any(wrong)
