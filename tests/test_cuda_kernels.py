"""The kernels: compiled for four architectures, and run on the host against generic bodies."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import cuda_host
import nvrtc
from cuda_host import Host, compile_host, kernel_names
from fake_device import HostBackend
from ldl import random
from ldl.backend import Window
from ldl_cupy.launch import source

NAMES = kernel_names(source())
SIZES = (1, 3, 7, 8, 33, 1001, 4097)
KEYS = (random.Key(5, 6, 7), random.Key(2**64 - 1, random.NOISE << 32 | 3, 2**40))
GENERIC = HostBackend()
needs_nvrtc = pytest.mark.skipif(nvrtc.library() is None, reason=nvrtc.MISSING)
needs_gcc = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)


def long(n: int) -> Any:
    return np.int64(n)


def numbers(*shape: int, dtype: Any = "float32") -> Any:
    return np.random.default_rng(8).standard_normal(shape).astype(dtype)


def off_sixteen(a: Any) -> Any:
    """The same at an address one element after a multiple of 16."""
    moved = np.empty(a.size + 1, a.dtype)[1:]
    assert moved.ctypes.data % 16 == a.itemsize
    moved[:] = a
    return moved


# ---- compiled ----------------------------------------------------------------------------------


def compiled(source: str, architecture: str) -> dict[str, nvrtc.Compiled]:
    if architecture not in nvrtc.architectures():
        pytest.skip(f"this NVRTC does not compile for {architecture}: CUDA 13 left out sm_70")
    return nvrtc.compile_cuda(source, architecture)


@needs_nvrtc
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_kernels_compile_without_warnings_spills_or_local_memory(architecture: str) -> None:
    kernels = compiled(source(), architecture)
    assert sorted(kernels) == sorted(NAMES)
    assert nvrtc.warnings_of(source(), architecture) == []
    for name, kernel in kernels.items():
        assert kernel[1:] == (0, 0, 0), name
        assert 0 < kernel.registers <= 128, name


INDEXED = """extern "C" __global__ void indexed(float* a, const int* at, int n) {
    int unused;
    float own[32] = {};
    for (int i = 0; i < n; ++i) own[at[i] & 31] += a[i];
    for (int i = 0; i < n; ++i) a[i] = own[at[i] & 31];
}"""
CRAMPED = """extern "C" __global__ void __launch_bounds__(1024, 2) cramped(float* a, int n) {
    float v[48];
    for (int k = 0; k < 48; ++k) v[k] = a[k * n];
    for (int i = 0; i < n; ++i)
        for (int k = 0; k < 48; ++k) v[k] = v[k] * v[(k + 1) % 48] + a[i];
    for (int k = 0; k < 48; ++k) a[k * n] = v[k];
}"""


@needs_nvrtc
def test_warnings_local_memory_spills_and_errors_are_seen() -> None:
    assert compiled(INDEXED, "sm_90")["indexed"].stack >= 128
    assert "unused" in "".join(nvrtc.warnings_of(INDEXED, "sm_90"))
    cramped = compiled(CRAMPED, "sm_90")["cramped"]
    assert cramped.spill_stores > 0
    assert cramped.spill_loads > 0
    with pytest.raises(nvrtc.CompileError, match="undefined"):
        compiled(INDEXED.replace("a[i]", "b[i]"), "sm_90")


# ---- run on the host ---------------------------------------------------------------------------


def check_fill(host: Host, name: str) -> None:
    dtype = np.dtype("float64" if name.endswith("double") else "float32")
    tolerance = {"fill_normal": 3e-6, "fill_normal_double": 1e-13}.get(name, 0)
    body = HostBackend.normal if "normal" in name else HostBackend.uniform
    for i, n in enumerate(SIZES):
        parts = None, (0, n, 2 * n + 3), (n // 2, n, 2 * n), (n + 5, n, 2 * n + 5)
        for out, part in product((np.empty(n, dtype), off_sixteen(np.empty(n, dtype))), parts):
            key = KEYS[i % 2]._replace(share=part and random.Share(*part))
            words = np.array(key.words((n,)), np.uint64)
            host.run(name, 1 + i, 64 if i % 2 else 7, out, long(n), words)
            np.testing.assert_allclose(
                out, body(GENERIC, (n,), dtype, key), rtol=0, atol=tolerance, strict=True
            )


def check_gather(host: Host, name: str) -> None:
    unit = int(name.rpartition("_")[2])
    dtype = {1: "u1", 4: "f4", 8: "f8", 16: "c16"}[unit]
    index = np.array([4, 0, -1, -11, 10, 2**62, -(2**62), 7, 7, 1, 3, 5, 9])
    for rows, columns, start in ((1, 1, None), (7, 3, 2), (12, 65, 1), (13, 33, None), (5, 2, 11)):
        array = numbers(11, columns).view("u1").repeat(4).view(dtype)[: 11 * columns]
        array = array.reshape(11, columns)
        at = np.clip((start or 0) + np.arange(rows), 0, index.size - 1)
        named = index[at]
        expected = array[np.clip(np.where(named < 0, named + 11, named), 0, 10)]
        for grid, block in (((1, 1), (32, 1)), ((2, 3), (5, 4))):
            out = np.empty_like(expected)
            begin = None if start is None else np.array(start)
            host.run(
                *(name, grid, block, array, long(11), index, long(index.size), begin),
                *(out, long(rows), long(columns)),
            )
            assert out.tobytes() == expected.tobytes()


def assert_sums(got: Any, terms: Any, axis: int | None = None) -> None:
    """Sums to a few units in the last place of the sum of absolute values."""
    wide = terms.astype("longdouble")
    error = np.abs(got - wide.sum(axis=axis))
    bound = 8 * np.finfo(terms.dtype).eps * np.abs(wide).sum(axis=axis)
    assert ((error <= bound) | (np.isnan(got) & np.isnan(wide.sum(axis=axis)))).all()


def check_sum_columns(host: Host, name: str) -> None:
    dtype = "float64" if name.endswith("double") else "float32"
    launches = (((1, 1), (32, 8)), ((2, 3), (16, 4)), ((1, 5), (1, 33)), ((3, 7), (5, 3)))
    for rows, columns in ((1, 1), (3, 7), (33, 65), (1001, 10), (130, 33)):
        a, before = numbers(rows, columns, dtype=dtype), numbers(columns, dtype=dtype)
        for grid, block in launches:
            tickets = np.zeros(-(-columns // block[0]), np.uint32)
            partial = np.full((grid[1], columns), np.nan, dtype)
            results = []
            for accumulate, backward in ((0, False), (0, True), (1, True), (1, False)):
                out = before.copy()
                host.run(
                    *(name, grid, block, a, out, long(rows), long(columns)),
                    *(np.int32(accumulate), tickets, partial),
                    backward=backward,
                )
                assert not tickets.any()
                results.append(out)
            assert_sums(results[0], a, axis=0)
            np.testing.assert_array_equal(results[0], results[1])
            np.testing.assert_array_equal(results[2], results[0] + before)
            np.testing.assert_array_equal(results[2], results[3])


def check_sum_squares(host: Host, name: str) -> None:
    dtype = "float64" if name.endswith("double") else "float32"
    for n in SIZES:
        a = numbers(n, dtype=dtype)
        for grid, block in ((1, 256), (2, 33), (9, 7)):
            ticket, partial = np.zeros(1, np.uint32), np.full(grid, np.nan, dtype)
            out = np.empty((2,), dtype)
            for i in range(2):
                host.run(
                    *(name, grid, block, a, out[i : i + 1], long(n), ticket, partial),
                    backward=bool(i),
                )
            assert_sums(out[0], a * a)
            assert out[0] == out[1]
            assert ticket == 0


WINDOWS = {
    "3 x 3": ((2, 5, 4, 3), Window((3, 3))),
    "strided": ((1, 7, 8, 2), Window((3, 2), (2, 3), ((1, 1), (0, 1)))),
    "dilated": ((1, 7, 6, 2), Window((2, 3), (1, 2), ((1, 0), (2, 1)), (3, 2))),
    "groups": ((2, 3, 4, 6), Window((2, 2), padding=((1, 0), (0, 1)), groups=3)),
}
WIDE = ((1, 18, 20, 1), Window((17, 16), (1, 2), ((2, 2), (0, 0))))


def window_numbers(shape: tuple[int, ...], window: Window) -> list[Any]:
    n, h, w, c = shape
    (top, _), (left, _) = window.padding
    found = [h, w, *window.output((h, w)), *window.size, *window.stride, top, left]
    return [np.int32(x) for x in (*found, *window.dilation, n, c, window.groups)]


def lowered(x: Any, window: Window) -> Any:
    """Groups, images, places, taps and channels, one index after another."""
    n, h, w, c = x.shape
    rows, columns = window.output((h, w))
    each, (top, _), (left, _) = c // window.groups, *window.padding
    out = np.zeros((window.groups, n, rows, columns, len(window.taps), each), x.dtype)
    for g, i, p, q, t, k in np.ndindex(out.shape):
        y = p * window.stride[0] + window.taps[t][0] - top
        z = q * window.stride[1] + window.taps[t][1] - left
        if 0 <= y < h and 0 <= z < w:
            out[g, i, p, q, t, k] = x[i, y, z, g * each + k]
    return out


def check_lower(host: Host, name: str) -> None:
    for shape, window in WINDOWS.values():
        x = numbers(*shape, dtype="float64" if name.endswith("double") else "float32")
        right = lowered(x, window)
        for grid, block in ((1, 5), (3, 64)):
            out = np.full_like(right, np.nan)
            host.run(name, grid, block, x, out, np.uint32(out.size), *window_numbers(shape, window))
            np.testing.assert_array_equal(out, right)


def check_raise(host: Host, name: str) -> None:
    dtype = "float64" if name.endswith("double") else "float32"
    for shape, window in WINDOWS.values():
        x = numbers(*shape, dtype=dtype)
        d = numbers(*lowered(x, window).shape, dtype=dtype)
        for grid, block in ((1, 5), (3, 64)):
            out = np.full_like(x, np.nan)
            host.run(name, grid, block, d, out, np.uint32(out.size), *window_numbers(shape, window))
            # ⟨lowered(x), d⟩ = ⟨x, raised(d)⟩ for every x that is one pixel
            for at in list(np.ndindex(x.shape))[::5]:
                one = np.zeros_like(x)
                one[at] = 1
                np.testing.assert_allclose(out[at], (lowered(one, window) * d).sum(), rtol=1e-5)


def pools(name: str) -> Any:
    """Windows, arrays with many equal numbers and a NaN, and what is right."""
    dtype = "float64" if "double" in name else "float32"
    cases = [WIDE] if name.endswith("2") else [c for k, c in WINDOWS.items() if k != "groups"]
    for shape, window in cases:
        x = np.random.default_rng(3).integers(-2, 3, shape).astype(dtype)
        x[0, -1, -1, 0] = np.nan
        y, where = GENERIC.max_pool(x, window)
        kind = np.uint16 if name.endswith("2") else np.uint8
        yield shape, window, x, y, where.astype(kind)


def check_max_pool(host: Host, name: str) -> None:
    for shape, window, x, y, where in pools(name):
        out, at = np.zeros_like(y), np.zeros_like(where)
        host.run(name, 2, 33, x, out, at, np.uint32(y.size), *window_numbers(shape, window))
        np.testing.assert_array_equal(out, y)
        np.testing.assert_array_equal(at, where)


def check_max_pool_input(host: Host, name: str) -> None:
    for shape, window, x, y, where in pools(name):
        grad = numbers(*y.shape, dtype=x.dtype)
        right = GENERIC.max_pool_input(grad, where, window, shape[1:3])
        out = np.full_like(x, np.nan)
        host.run(name, 2, 33, grad, where, out, np.uint32(x.size), *window_numbers(shape, window))
        np.testing.assert_allclose(out, right, rtol=1e-6, atol=1e-6)


def check_add_rows(host: Host, name: str) -> None:
    dtype = "float64" if name.endswith("double") else "float32"
    for count, size, columns in ((1, 1, 1), (40, 7, 33), (9, 30, 5)):
        index = np.random.default_rng(1).integers(0, size, count)
        rows, before = numbers(count, columns, dtype=dtype), numbers(size, columns, dtype=dtype)
        right = GENERIC.add_rows(rows, index, before.copy())
        for grid, block in (((1, 1), (32, 1)), ((2, 3), (5, 4))):
            out = before.copy()
            host.run(name, grid, block, rows, index, out, long(count), long(size), long(columns))
            np.testing.assert_array_equal(out, right)


CHECKS = {
    "lower_": check_lower,
    "raise_": check_raise,
    "max_pool_float": check_max_pool,
    "max_pool_double": check_max_pool,
    "max_pool_input_": check_max_pool_input,
    "add_rows_": check_add_rows,
    "fill_": check_fill,
    "gather_rows_": check_gather,
    "sum_columns_": check_sum_columns,
    "sum_squares_": check_sum_squares,
}
RAN = set()


def check(name: str, sanitize: bool) -> None:
    found = [run for start, run in CHECKS.items() if name.startswith(start)]
    assert len(found) == 1, f"{name} has no test"
    host = compile_host(source(), sanitize)
    launched = []

    class Counting(Host):
        def run(self, name: str, *args: Any, **options: Any) -> None:
            launched.append(name)
            super().run(name, *args, **options)

    found[0](Counting(host.program), name)
    assert set(launched) == {name}
    RAN.add((name, sanitize))


@needs_gcc
@pytest.mark.parametrize("sanitize", [False, True], ids=["", "sanitized"])
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_gives_what_the_generic_body_gives(name: str, sanitize: bool) -> None:
    check(name, sanitize)


@needs_gcc
@needs_nvrtc
def test_as_many_kernels_are_compiled_and_run_as_are_found(capsys: Any) -> None:
    known = [a for a in nvrtc.ARCHITECTURES if a in nvrtc.architectures()]
    counts = {a: len(compiled(source(), a)) for a in known}
    for sanitize in (False, True):
        for name in NAMES:
            if (name, sanitize) not in RAN:
                check(name, sanitize)
        counts["sanitized" if sanitize else "run"] = sum(s == sanitize for _, s in RAN)
    with capsys.disabled():
        print(f"\nkernels.cu and images.cu: {len(NAMES)} kernels, {counts}")
    assert set(counts.values()) == {len(NAMES)}
    assert source().count("__global__") == len(NAMES) >= 12
