"""What cuBLASLt does at a product's edge: where it may, where it may not, and the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl.compiler.dryrun import dry_run
from ldl.compiler.plan import needed
from ldl.nn.module import evaluation
from ldl_cupy.epilogues import with_epilogues
from test_cuda_steps import X, assert_follows, assert_graph, pair, sgd

ALL = {"bias", "sums_a", "sums_b"}


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 6))


def tied() -> nn.Sequential:
    encoder = nn.Linear(6, 4)
    return nn.Sequential(encoder, nn.Tanh(), nn.TiedLinear(encoder))


def step(model: nn.Module, loss: nn.Loss, x: Any) -> tuple[Any, ...]:
    model.zero_grad()
    value = loss(model(x), x)
    model.backward(loss.backward())
    return (value,)


def names(model: nn.Module, has: set[str], function: Any = step) -> list[str]:
    """What the operations of a step are called, with these epilogues on offer."""
    traced = dry_run(function, (model, nn.MSELoss()), (X,), lambda array: array)
    kept = {ref.value for ref in traced.results} | traced.trace.changed()
    ops = needed(traced.trace.ops, kept)
    found = with_epilogues(ops, kept, lambda epilogue, a, b, out: epilogue in has)
    assert {out.value for op in found for out in op.outputs} >= kept
    return [op.ufunc for op in found]


def test_sums_of_gradients_come_with_the_products_that_read_them() -> None:
    found = names(network(), ALL)
    assert found.count("matmul_sums_b") == 3
    assert found.count("sum") == 1, "the loss's own"


def test_a_tied_layers_sums_are_of_the_other_operand_only_where_its_product_is_its_own() -> None:
    assert names(tied(), ALL).count("matmul_sums_a") == 1


def test_a_bias_comes_with_its_product_where_no_loop_reads_the_result() -> None:
    found = names(network(), ALL)
    assert found.count("matmul_bias") == 1, "that of the layer before another without activation"
    assert found.count("add") == 2, "those that go on into a loop"

    def predict(model: nn.Module, loss: nn.Loss, x: Any) -> tuple[Any, ...]:
        with evaluation():
            return (model(x),)

    assert names(network(), ALL, predict).count("matmul_bias") == 2


@pytest.mark.parametrize("lacking", sorted(ALL))
def test_what_is_not_on_offer_is_left_as_it_was(lacking: str) -> None:
    for model in (network(), tied()):
        plain, found = names(model, set()), names(model, ALL - {lacking})
        assert f"matmul_{lacking}" not in found
        assert len(found) + sum(x.startswith("matmul_") for x in found) == len(plain)


class TwiceSummed(nn.Linear):
    """A Linear whose db is changed again before dW is known."""

    def backward(self, grad: Any) -> Any:
        assert self.bias is not None
        self.bias.accumulate_rows(grad)
        self.bias.accumulate(grad[0])
        x = self.take()
        self.weight.accumulate_matmul(x.T, grad)
        return self.backend.matmul(grad, self.weight.data.T)


def test_sums_that_are_read_before_the_product_stay_where_they_are() -> None:
    assert "matmul_sums_b" not in names(nn.Sequential(TwiceSummed(6, 6)), ALL)


class Plain(nn.Module):
    """A function of x alone."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.weight = nn.Parameter(np.eye(6, dtype="float32"))
        self.bias = nn.Parameter(np.ones(6, "float32"))
        self.wide = self.backend.asarray(np.ones(6))

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def into_its_operand(layer: Plain, x: Any) -> Any:
    h = x * 2
    for _ in range(2):
        layer.backend.xp.add(layer.backend.matmul(h, layer.weight.data), layer.bias.data, out=h)
    return h


def with_its_own_sums(layer: Plain, x: Any) -> Any:
    g = x[:6] * 2
    return layer.backend.matmul(g.sum(axis=0).reshape(1, 6), g)


def wider(layer: Plain, x: Any) -> Any:
    return layer.backend.matmul(x, layer.weight.data) + layer.wide


ODD = [into_its_operand, with_its_own_sums, wider]


@pytest.mark.parametrize("function", ODD, ids=[f.__name__ for f in ODD])
def test_what_would_go_into_a_products_operand_or_another_type_stays_apart(function: Any) -> None:
    found = names(nn.Sequential(Plain(function)), ALL, lambda model, loss, x: (model(x),))
    assert not any(name.startswith("matmul_") for name in found)


@pytest.mark.parametrize("build", [network, tied])
@pytest.mark.parametrize("has", [ALL, set()], ids=["offered", "not offered"])
def test_steps_are_the_same_with_and_without(build: Any, has: set[str]) -> None:
    host = CudaOnHost()
    host.gemm.has = has
    with ldl.use_backend(host):
        played, own = pair(build, nn.MSELoss, optim.Adam, host)
        for _ in range(4):
            assert_follows(played, own, X, X)
        assert_graph(played)
    assert ("matmul_sums" in host.connection.log) == bool(has)


@pytest.mark.parametrize("function", ODD, ids=[f.__name__ for f in ODD])
def test_such_layers_give_the_hosts_numbers(function: Any) -> None:
    results = []
    for backend in (CudaOnHost(), ldl.get_backend("numpy")):
        with ldl.use_backend(backend):
            predict = ldl.Predictor(Plain(function))
            results.append([backend.to_numpy(predict(backend.asarray(X))) for _ in range(3)])
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_what_is_refused_after_all_is_done_in_two_pieces() -> None:
    host = CudaOnHost()
    with ldl.use_backend(host):
        played, own = pair(network, nn.MSELoss, optim.Adam, host)
        assert_follows(played, own, X, X)
        host.gemm.has = {"bias"}
        for _ in range(3):
            assert_follows(played, own, X, X)


@pytest.mark.parametrize("kind", ["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_what_is_not_a_number_stays_so_through_a_rectifier(kind: str) -> None:
    chosen = CudaOnHost() if kind == "host" else ldl.get_backend("cupy")
    with ldl.use_backend(chosen):
        played, _ = pair(network, nn.MSELoss, sgd, chosen)
        x = X.copy()
        x[3, 2] = np.nan
        for _ in range(3):
            loss = played(chosen.asarray(x), chosen.asarray(X))
        assert np.isnan(chosen.to_numpy(loss))
