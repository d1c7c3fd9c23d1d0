"""Products beside the rest of a step: which they are, and that no order of the two shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cuda_host
import ldl
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl.compiler.operations import BEGIN_SUM, Op, Ref, Value
from ldl_cupy.streams import AT_ONCE, beside


def value() -> Ref:
    return Ref(Value(np.empty((2, 2), np.float32)))


def product(a: Ref, b: Ref, out: Ref) -> Op:
    return Op(lambda *arrays: None, (a, b), (out,), ufunc="matmul")


def loop(*refs: Ref) -> Op:
    return Op(lambda *arrays: None, refs[:-1], refs[-1:], ufunc="loop")


class Streams:
    """Does nothing aside; says what it was asked."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def aside(self, work: Any) -> Any:
        self.log.append("aside")
        return self.log.count("aside")

    def join(self, done: Any) -> None:
        self.log.append(done)


def backward(layers: int) -> tuple[list[Op], list[Ref]]:
    """The operations of a backward pass: dW = Xᵀ G, then dX = G Wᵀ and what follows it."""
    ops: list[Op] = []
    grads = [value() for _ in range(layers)]
    g = value()
    for dw in grads:
        dx, following = value(), value()
        ops += [product(value(), g, dw), product(g, value(), dx), loop(dx, following)]
        g = following
    return ops[:-2], grads


def played(ops: list[Op]) -> list[Any]:
    """What the streams are asked, and the names of the other operations, in order."""
    streams = Streams()
    for op in beside(ops, streams):
        op.run()
        if op.run.__class__.__name__ == "function":
            streams.log.append(op.ufunc)
    return streams.log


def test_products_that_nothing_reads_are_put_aside_but_for_the_last() -> None:
    ops, _ = backward(3)
    want = ["aside", "matmul", "loop", "aside", "matmul", "loop", "matmul", 1, 2]
    assert played(ops) == want


def test_sums_over_ranks_are_made_beside_what_follows() -> None:
    ops, (dw, *_) = backward(3)
    ops.insert(1, Op(lambda *arrays: None, (dw,), (dw,), ufunc=BEGIN_SUM, partial_write=True))
    want = ["matmul", "aside", "matmul", "loop", "aside", "matmul", "loop", "matmul", 1, 2]
    assert played(ops) == want


def test_no_more_than_two_wait_and_what_they_read_is_kept_until_they_are_joined() -> None:
    ops, grads = backward(5)
    found = beside(ops, Streams())
    waiting: list[Op] = []
    for op in found:
        if op.ufunc == "join":
            assert op.inputs == (*waiting[0].inputs, *waiting[0].outputs)
            waiting.pop(0)
        elif op.outputs[0] in grads[:-1]:
            waiting.append(op)
        assert len(waiting) <= AT_ONCE
    assert not waiting, "all are joined in the end"
    assert [op.ufunc for op in found].count("join") == 4


@pytest.mark.parametrize("touched", ["a", "b", "out"])
def test_a_product_whose_arrays_change_later_is_not_put_aside(touched: str) -> None:
    refs = {"a": value(), "b": value(), "out": value()}
    later = loop(value(), refs[touched])
    assert played([product(*refs.values()), later]) == ["matmul", "loop"]


def test_a_number_that_nothing_reads_is_put_aside() -> None:
    number = Ref(Value(np.empty((), np.float32)))
    ops, _ = backward(2)
    assert played([loop(value(), number), *ops]) == [
        "aside",
        "aside",
        "matmul",
        "loop",
        "matmul",
        1,
        2,
    ]


def test_a_product_that_is_read_later_is_not_put_aside() -> None:
    out = value()
    ops = [product(value(), value(), out), loop(out, value())]
    assert played(ops) == ["matmul", "loop"]


@pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)
def test_whatever_turns_the_streams_take_the_numbers_are_the_same() -> None:
    x = np.random.default_rng(0).random((9, 16)).astype("float32")
    host = CudaOnHost()
    ends = []
    for backend in (host, "numpy"):
        with ldl.use_backend(backend):
            ldl.manual_seed(0)
            layers = [f() for _ in range(6) for f in (lambda: nn.Linear(16, 16), nn.Tanh)]
            model = nn.Sequential(*layers)
            step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
            held = model.backend.asarray(x)
            for _ in range(30):
                step(held, held)
            ends.append([model.backend.to_numpy(p.data) for p in model.parameters()])
    assert host.connection.log.count("graph") > 20
    for mine, right in zip(*ends, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)
@pytest.mark.parametrize("what", ["second stream", "epilogues", "bf16"])
def test_what_is_left_out_is_not_there(what: str) -> None:
    host = CudaOnHost()
    host.leaves_out = frozenset({what})
    ldl.set_matmul_precision("bf16")
    try:
        with ldl.use_backend(host):
            model = nn.Sequential(nn.Linear(600, 700), nn.ReLU(), nn.Linear(700, 600))
            x = host.asarray(np.ones((700, 600), np.float32))
            step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
            does: Any = step._recording(x, x)
    finally:
        ldl.set_matmul_precision("float32")
    signs = {"second stream": "join", "epilogues": "matmul_sums_b", "bf16": "matmul_bf16"}
    found = {name for name, sign in signs.items() if sign in does.does}
    assert found == signs.keys() - {what} - ({"epilogues"} if what != "bf16" else set())
