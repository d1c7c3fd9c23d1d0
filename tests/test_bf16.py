"""Operands stored as bfloat16: which they are, and that nothing but products sees them rounded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import cuda_host
import ldl
import nvrtc
from cuda_device import CudaOnHost
from fake_cublaslt import narrowed, widened
from ldl import nn, optim
from ldl.compiler.operations import Op, Ref, Value
from ldl_cupy import bf16
from ldl_cupy.launch import common
from ldl_cupy.record import DeviceStep

needs_compiler = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)


@pytest.fixture(autouse=True)
def in_bf16(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The precision, and products worth it from 2000 multiplications on."""
    monkeypatch.setattr(bf16, "WORTH", 2000)
    ldl.set_matmul_precision("bf16")
    yield
    ldl.set_matmul_precision("float32")


def rounded(x: Any) -> Any:
    return widened(narrowed(x))


# ---- which operands ------------------------------------------------------------------------------


def ref(*shape: int, dtype: str = "f") -> Ref:
    return Ref(Value(np.empty(shape, dtype)))


def product(a: Ref, b: Ref) -> Op:
    rows, columns = a.resolve(a.value.array).shape[0], b.resolve(b.value.array).shape[-1]
    return Op(None, (a, b), (ref(rows, columns, dtype=a.value.dtype.char),), ufunc="matmul")


def names(ops: list[Op], offered: bool = True) -> list[str]:
    found = bf16.with_bf16(ops, lambda epilogue, a, b, out: offered)
    assert not any(op.ufunc == "bf16" and op.outputs[0].value.dtype != np.uint16 for op in found)
    return [op.ufunc for op in found]


def test_an_operand_is_rounded_once_for_all_products_that_read_it() -> None:
    x, w, g = ref(16, 10), ref(10, 18), ref(16, 18)
    ops = [product(x, w), product(Ref(x.value, (("transpose", ()),)), g)]
    assert names(ops) == ["bf16", "bf16", "matmul_bf16", "bf16", "matmul_bf16"]


def test_an_operand_that_has_changed_is_rounded_again() -> None:
    x, w = ref(16, 10), ref(10, 18)
    change = Op(None, (x,), (x,), ufunc="negative")
    found = names([product(x, w), change, product(x, w)])
    assert found == ["bf16", "bf16", "matmul_bf16", "negative", "bf16", "matmul_bf16"]


def test_small_products_other_types_and_what_is_not_on_offer_stay_as_they_are() -> None:
    large = product(ref(16, 10), ref(10, 18))
    assert names([product(ref(16, 10), ref(10, 6))]) == ["matmul"]
    assert names([product(ref(16, 10, dtype="d"), ref(10, 18, dtype="d"))]) == ["matmul"]
    assert names([large], offered=False) == ["matmul"]
    turned = np.empty((60, 50), "f").T
    assert names([product(ref(50, 50), Ref(Value(turned, turned)))]) == ["matmul"]
    odd = Ref(Value(np.empty((60, 51), "f")), (("__getitem__", ((slice(None), slice(1, None)),)),))
    assert names([product(odd, ref(50, 60))]) == ["matmul"], "at no multiple of 16 bytes"
    vector = Op(None, (ref(50, 60), ref(60)), (ref(50),), ufunc="matmul")
    assert names([vector]) == ["matmul"]


# ---- steps ---------------------------------------------------------------------------------------


class RoundedProducts(type(ldl.get_backend("numpy"))):  # type: ignore[misc]
    """NumPy, whose large products round their operands: what "bf16" means, said another way."""

    def matmul(self, a: Any, b: Any, out: Any = None, accumulate: bool = False) -> Any:
        if a.shape[0] * a.shape[1] * b.shape[1] >= bf16.WORTH:
            a, b = rounded(a), rounded(b)
        return super().matmul(a, b, out, accumulate)

    def linear(self, x: Any, weight: Any, bias: Any) -> Any:
        z = self.matmul(x, weight)
        return z if bias is None else z + bias


def build() -> nn.Module:
    sizes = (20, 16, 12, 20)
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(20, 2), nn.Tanh(), nn.Linear(2, 20))


X = np.random.default_rng(0).random((33, 20)).astype("f")


def step_on(backend: Any, record: bool) -> ldl.TrainStep:
    with ldl.use_backend(backend):
        ldl.manual_seed(3)
        model = build()
        return ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.05), record=record)


@needs_compiler
def test_steps_are_those_of_products_that_round_their_operands() -> None:
    host = CudaOnHost()
    played, own = step_on(host, True), step_on(RoundedProducts(), False)
    for _ in range(5):
        loss, right = played(host.asarray(X), host.asarray(X)), own(X, X)
        np.testing.assert_allclose(host.to_numpy(loss), right, rtol=1e-5)
    for p, q in zip(played.model.parameters(), own.model.parameters(), strict=True):
        np.testing.assert_allclose(host.to_numpy(p.data), q.data, rtol=1e-3, atol=1e-5)
    (recording,) = played._recordings.values()
    assert isinstance(recording, DeviceStep)
    products = [name for name in recording.does if name.startswith("matmul")]
    assert (products.count("matmul_bf16"), len(products)) == (8, 14), "the others are too small"
    ldl.set_matmul_precision("float32")
    exact = step_on("numpy", False)
    assert abs(exact(X, X) - step_on(RoundedProducts(), False)(X, X)) > 1e-6, "rounding shows"


@needs_compiler
def test_another_precision_is_recorded_anew_and_leaves_nothing_rounded() -> None:
    host = CudaOnHost()
    played, own = step_on(host, True), step_on("numpy", False)
    ldl.set_matmul_precision("float32")
    for precision in ("bf16", "float32"):
        ldl.set_matmul_precision(precision)
        loss = played(host.asarray(X), host.asarray(X))
    own(X, X)
    for p, q in zip(played.model.parameters(), own.model.parameters(), strict=True):
        q.data[...] = host.to_numpy(p.data)
    loss, right = played(host.asarray(X), host.asarray(X)), own(X, X)
    np.testing.assert_allclose(host.to_numpy(loss), right, rtol=1e-6)


@pytest.mark.gpu
def test_on_a_gpu_too_losses_are_those_of_rounded_operands() -> None:
    gpu = ldl.get_backend("cupy")
    played, own = step_on(gpu, True), step_on(RoundedProducts(), False)
    for _ in range(5):
        loss, right = played(gpu.asarray(X), gpu.asarray(X)), own(X, X)
        np.testing.assert_allclose(gpu.to_numpy(loss), right, rtol=1e-4)


# ---- the kernel ----------------------------------------------------------------------------------

NUMBERS = np.array(
    [0, -0.0, 1, -1, 1 / 3, 1 + 2**-8, 1 + 3 * 2**-8, 3.3895e38, 1e-40, np.inf, -np.inf, np.nan],
    "f",
)


@needs_compiler
def test_rounding_is_to_the_nearest_with_ties_to_even_and_keeps_what_is_no_number() -> None:
    source = common() + (
        'extern "C" __global__ void each(Size n, In<float> x, Out<unsigned short> y) {'
        "for (Size i = thread_index(); i < n; i += thread_count()) y[i] = bfloat16(x[i]); }"
    )
    bits = np.random.default_rng(0).integers(0, 2**32, 10_000, "u4").view("f")
    x = np.concatenate([NUMBERS, bits])
    found = np.empty(len(x), "u2")
    cuda_host.compile_host(source).run("each", (3,), (64,), np.int64(len(x)), x, found)
    numbers = ~np.isnan(x)
    np.testing.assert_array_equal(found[numbers], narrowed(x[numbers]))
    assert np.isnan(widened(found[~numbers])).all()
    assert list(widened(found[5:7])) == [1, 1 + 2**-6]


@pytest.mark.skipif(not nvrtc.architectures(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", nvrtc.supported())
def test_loops_that_write_them_compile_without_a_spill(arch: str) -> None:
    backend = CudaOnHost()
    x = backend.asarray(X)
    recording: Any = step_on(backend, True)._recording(x, x)
    texts = {name: text for name, text in recording._kernels.texts.items() if "bfloat16" in text}
    assert len(texts) == 3, "a cast alone, after an activation, and after its derivative"
    made = nvrtc.compile_cuda(common() + "\n".join(texts.values()), arch)
    for name, kernel in made.items():
        assert (kernel.stack, kernel.spill_stores, kernel.spill_loads) == (0, 0, 0), texts[name]
