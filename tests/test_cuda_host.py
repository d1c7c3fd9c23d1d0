"""What running CUDA on the host finds out, fault by fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cuda_host
from cuda_host import Host, HostError, compile_host, kernel_names

pytestmark = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)

FAULTS = """
__global__ void overreads(const float* a, float* out, int n) {
    if (threadIdx.x == 0) out[0] = a[n];
}
__global__ void overwrites_shared(float* out, int n) {
    __shared__ float cells[8];
    cells[threadIdx.x + n] = 1;
    __syncthreads();
    out[0] = cells[0];
}
template <typename T> __device__ __forceinline__ T shared_by(T value, int n) {
    __shared__ T cells[8];
    cells[threadIdx.x + n] = value;
    __syncthreads();
    return cells[0];
}
__global__ void overwrites_shared_of_a_template(float* out, int n) {
    out[0] = shared_by(1.0f, n);
}
__global__ void misaligned(float* out) { *reinterpret_cast<float4*>(out) = {1, 2, 3, 4}; }
__global__ void shifts_too_far(int* out, int by) { out[0] = 1 << by; }
__global__ void waits_alone(float* out) {
    if (threadIdx.x == 0) { while (threadIdx.x == 0) __syncthreads(); }
    else if (threadIdx.x % 32) __shfl_down_sync(0xffffffffu, 1.0f, 1);
    else for (;;) __syncthreads();
}
// Lacks a __syncthreads between the write and the read.
__global__ void races(float* out) {
    __shared__ float cells[64];
    cells[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = cells[63 - threadIdx.x];
}
__global__ void __launch_bounds__(64) sums(const float* a, float* out, double scale, bool negate) {
    float sum = a[threadIdx.x + 64 * blockIdx.x];
    for (int k = 16; k; k /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, k);
    __shared__ float of_warps[2];
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(out, scale * (negate ? -1 : 1) * (of_warps[0] + of_warps[1]));
}
__global__ void takes_from_absent_lanes(float* out) {
    out[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.0f, 1);
}
"""


@pytest.fixture(scope="module", params=[False, True], ids=["", "sanitized"])
def host(request: Any) -> Host:
    return compile_host(FAULTS, request.param)


def zeros(n: int, dtype: Any = np.float32) -> Any:
    return np.zeros(n, dtype)


def test_a_read_past_the_end_is_caught() -> None:
    host = compile_host(FAULTS, sanitize=True)
    host.run("overreads", 1, 1, np.ones(4, "f4"), zeros(1), np.int32(3))
    for bad in (4, -1):
        with pytest.raises(HostError, match=r"heap-buffer-overflow(.|\n)*READ of size 4"):
            host.run("overreads", 1, 1, np.ones(4, "f4"), zeros(1), np.int32(bad))
    with pytest.raises(HostError, match="heap-buffer-overflow"):
        host.run("overreads", 1, 1, zeros(0), zeros(1), np.int32(0))


@pytest.mark.parametrize("name", ["overwrites_shared", "overwrites_shared_of_a_template"])
def test_a_write_past_a_shared_array_is_caught(name: str) -> None:
    host = compile_host(FAULTS, sanitize=True)
    host.run(name, 1, 8, zeros(1), np.int32(0))
    with pytest.raises(HostError, match=r"global-buffer-overflow|out of bounds"):
        host.run(name, 1, 8, zeros(1), np.int32(1))


def test_a_vector_at_an_address_not_aligned_for_it_is_caught() -> None:
    host = compile_host(FAULTS, sanitize=True)
    out = zeros(9)
    host.run("misaligned", 1, 1, out[:4])
    with pytest.raises(HostError, match="misaligned address"):
        host.run("misaligned", 1, 1, out[1:5])


def test_undefined_arithmetic_is_caught() -> None:
    host = compile_host(FAULTS, sanitize=True)
    with pytest.raises(HostError, match="shift exponent"):
        host.run("shifts_too_far", 1, 1, zeros(1, np.int32), np.int32(40))


def test_threads_that_wait_for_each_other_for_ever_are_reported(host: Host) -> None:
    with pytest.raises(HostError, match="never come"):
        host.run("waits_alone", 1, 64, zeros(1))


def test_a_race_between_threads_shows_in_the_other_order(host: Host) -> None:
    forward, backward = zeros(64), zeros(64)
    host.run("races", 1, 64, forward)
    host.run("races", 1, 64, backward, backward=True)
    assert (forward != backward).any()


def test_an_absent_lane_gives_nan(host: Host) -> None:
    out = zeros(20)
    host.run("takes_from_absent_lanes", 1, 20, out)
    assert np.isnan(out[-1])
    assert (out[:-1] == 1).all()


@pytest.mark.parametrize("backward", [False, True])
def test_warps_blocks_and_atomics_add_up(host: Host, backward: bool) -> None:
    out = zeros(1)
    a = np.arange(192, dtype="f4")
    host.run("sums", (3, 1), (64, 1), a, out, np.float64(2), np.bool_(True), backward=backward)
    assert out == -2 * a.sum()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((zeros(64), zeros(1), np.float32(1), np.bool_(True)), "takes p8 p8 f8 i1 .*p8 p8 f4 i1"),
        ((zeros(64), zeros(1), np.float64(1)), "was given p8 p8 f8 $"),
        ((zeros(64), zeros(1), 1.0, np.bool_(True)), "NumPy's scalars, not float"),
        ((zeros(128)[::2], zeros(1), np.float64(1), np.bool_(True)), "not C-contiguous"),
    ],
)
def test_arguments_that_a_kernel_does_not_take_are_refused(
    host: Host, args: Any, message: str
) -> None:
    with pytest.raises(HostError, match=message):
        host.run("sums", 1, 64, *args)


def test_what_does_not_compile_says_where() -> None:
    with pytest.raises(HostError, match=r"source\.cu:2"):
        compile_host("__global__ void k(float* a) {\n a[0] = b; }")


def test_names_are_found_where_kernels_are_defined() -> None:
    source = """// __global__ void not_this(
    template <int N> __global__ void __launch_bounds__(N, 2)
    first(int a) {} extern "C" __global__ BOUNDED void second (float* b) {}"""
    assert kernel_names(source) == ["first", "second"]
