"""The benchmarks' nets of images and of sequences are one net, whichever library builds it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from benchmarks import kinds, nets
from benchmarks.device import Device
from benchmarks.implementations import floor, torch_
from benchmarks.implementations.ldl_ import Eager, OneStep, model_of
from benchmarks.names import EAGER, TRAIN_STEP
from benchmarks.reference import reference
from benchmarks.workloads import Workload
from ldl import nn

EVERY = pytest.mark.parametrize("net", [*nets.TINY_NETS, *nets.FURTHER], ids=lambda w: w.name)
TINY = pytest.mark.parametrize("net", nets.TINY_NETS, ids=lambda w: w.name)


def losses(own: Any, net: Workload) -> list[float]:
    batches = own.place(net.batches(), Device())
    step = own.build(net, net.weights(), batches, Device()).step
    return [float(step()) for _ in range(net.compare)]


@TINY
@pytest.mark.parametrize("own", [OneStep(TRAIN_STEP), Eager(EAGER)], ids=lambda own: own.name)
def test_ldls_losses_are_those_of_float64(own: Any, net: Workload) -> None:
    np.testing.assert_allclose(losses(own, net), reference(net, net.batches()), rtol=1e-5)


@TINY
@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("last", [False, True])
def test_pytorchs_losses_are_those_of_ldl_in_float64(last: bool, net: Workload) -> None:
    if last and len(net.sample) < 3:
        net = nets.TINY_NETS[0]  # what takes no images has one layout
    own = torch_.Trains("PyTorch", True, last=last)
    np.testing.assert_allclose(losses(own, net), reference(net, net.batches()), rtol=1e-5)


@EVERY
def test_a_description_has_the_parameters_and_the_output_of_ldls_net(net: Workload) -> None:
    model = model_of(net, net.weights())
    learned = [p for p in model.parameters() if not isinstance(p, nn.Buffer)]
    assert [p.shape for p in learned] == kinds.parameters(net.net)
    assert net.parameters() == sum(p.size for p in learned)
    x, _ = net.batch_of(np.random.default_rng(0), 2)
    assert model.predict(x).shape == (2, *net.output_shape)


@TINY
def test_the_floor_makes_a_nets_products(net: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def matmul(a: Any, b: Any, out: Any) -> Any:
        count = a.shape[0] if a.ndim == 3 else 1
        made.append((count, a.shape[-2], a.shape[-1], b.shape[-1]))
        return right(a, b, out=out)

    right = np.matmul
    monkeypatch.setattr(np, "matmul", matmul)
    floor.NumpyProducts(False).build(net, net.weights(), net.batches(), Device()).step()
    assert made == [product[:4] for product in net.products()]


def test_lenet_has_the_products_of_its_windows() -> None:
    net = nets.FURTHER[0]
    first, *_ = net.products()
    assert first[:4] == (1, 64 * 28 * 28, 25, 6)
    assert net.parameters() == 61_706
    assert len(net.products()) == 3 * 5 - 1
