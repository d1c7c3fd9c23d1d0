"""The benchmarks measure what they say they do. Nothing here depends on a time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
from benchmarks import implementations, reference
from benchmarks.device import Device
from benchmarks.implementation import Implementation
from benchmarks.implementations import floor
from benchmarks.implementations.ldl_ import Eager, OneStep, model_of
from benchmarks.implementations.numpy_ import ByHand
from benchmarks.kernel_cases import (
    KERNELS,
    kernel_names,
    layer_call,
    layer_cases,
    loss_call,
    loss_cases,
)
from benchmarks.names import EAGER, FLOOR, TRAIN_STEP
from benchmarks.workloads import GPU_NETS, LAYERS, NETS, ONE_ROW, TINY, TINY_LAYERS, Workload
from catalog import LOSSES, ROWS
from ldl import nn

ROOT = Path(__file__).parent.parent
NET = Workload("tiny", "Tiny", (12, 6, 4, 6, 12), 8, output="sigmoid", compare=10)
LABELS = Workload("labels", "Labels", (12, 9, 3), 8, loss="crossentropy", compare=10)
OWN = [OneStep(TRAIN_STEP), Eager(EAGER), ByHand(False)]


def built(own: Implementation, workload: Workload) -> Any:
    placed = own.place(workload.batches(), Device())
    return own.build(workload, workload.weights(), placed, Device())


def test_every_kernel_has_a_benchmark() -> None:
    assert kernel_names() == set(KERNELS)
    assert {"matmul", "adam_step", "uniform"} <= kernel_names()


def test_every_layer_and_loss_of_the_catalog_has_a_benchmark() -> None:
    timed = {name.partition("(")[0] for name in layer_cases(ROWS)}
    assert timed == {type(row.build()).__name__ for row in ROWS}
    assert set(loss_cases(LOSSES)) == {type(row.build()).__name__ for row in LOSSES}


def test_a_layer_with_parameters_that_has_no_size_is_an_error() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            self.s = nn.Parameter(nn.init.ones((3,)))

    with pytest.raises(KeyError, match="Scale"):
        layer_cases([replace(ROWS[0], build=Scale)])


def test_every_benchmark_of_a_kernel_layer_and_loss_runs() -> None:
    backend = ldl.get_backend("numpy")
    for make in KERNELS.values():
        make(backend)()
    for build, shape in layer_cases(ROWS).values():
        assert layer_call(build, shape, backend)().shape == shape
    for build in loss_cases(LOSSES).values():
        assert np.isfinite(loss_call(build, backend)()).all()


# ---- workloads -------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", [*NETS, *ONE_ROW, *GPU_NETS], ids=lambda w: w.name)
def test_the_floor_has_three_products_a_layer_but_for_the_first_input_gradient(
    workload: Workload,
) -> None:
    pairs = sum(i * o for i, o in workload.layers)
    forward = 2 * workload.batch * pairs
    if workload.predict or workload.layer:
        assert workload.flops() == forward
    else:
        first = 2 * workload.batch * workload.widths[0] * workload.widths[1]
        assert workload.flops() == 3 * forward - first


def test_the_autoencoder_has_eleven_products() -> None:
    (found,) = (w for w in NETS if w.name == "autoencoder-128")
    assert len(found.products()) == 11
    assert found.flops() == 282_066_944


@pytest.mark.parametrize("predict", [False, True])
def test_the_floor_makes_those_products_and_no_others(
    predict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = replace(NET, predict=predict)
    made = []

    def matmul(a: Any, b: Any, out: Any) -> Any:
        made.append((*a.shape, b.shape[1]))
        return right(a, b, out=out)

    right = np.matmul
    monkeypatch.setattr(np, "matmul", matmul)
    built(floor.NumpyProducts(predict), workload).step()
    assert sorted(made) == sorted(product[1:4] for product in workload.products())


def test_the_least_bytes_of_a_step() -> None:
    outputs = 4 * 8 * (6 + 4 + 6 + 12)
    parameters = 12 * 6 + 6 + 6 * 4 + 4 + 4 * 6 + 6 + 6 * 12 + 12
    assert NET.parameters() == parameters
    assert NET.least_bytes() == 4 * 8 * 12 + 24 * parameters + 2 * outputs


def test_batches_are_fresh_in_every_run_and_the_same_for_one_seed() -> None:
    one, same, other = (NET.batches(seed)[0][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not (one == other).any()


def test_a_gpus_nets_are_those_that_are_asked_about() -> None:
    names = [net.name for net in GPU_NETS]
    assert names[:2] == ["autoencoder-128", "autoencoder-8192"]
    assert {"autoencoder-32", "autoencoder-1024", "dropout-128", "small-32", "wide-512"} < {*names}
    assert all(net.loss == "bce" and net.output == "identity" for net in GPU_NETS[:4])
    assert {layer.name for layer in LAYERS} < {*names}


# ---- reference and implementations -----------------------------------------------------------


@pytest.mark.parametrize("workload", [NET, LABELS, replace(NET, output="identity"), *TINY_LAYERS])
@pytest.mark.parametrize("own", OWN, ids=lambda own: own.name)
def test_losses_are_those_of_the_step_written_by_hand(
    own: Implementation, workload: Workload
) -> None:
    right = reference.reference(workload, workload.batches())
    step = built(own, workload).step
    np.testing.assert_allclose([float(step()) for _ in right], right, rtol=1e-5)
    assert right[8] < right[0]


@pytest.mark.parametrize("workload", [NET, LABELS, TINY[0], *TINY_LAYERS], ids=lambda w: w.name)
def test_gradients_of_the_reference_are_those_of_differences(workload: Workload) -> None:
    net = reference.by_hand(workload, workload.weights(), np.float64)
    x, y = workload.batches()[0]
    outs = net.forward(x.astype(np.float64))
    grads = net.backward(outs, net.loss(outs[-1], y)[1])
    rng = np.random.default_rng(0)
    for parameter, grad in zip(net.params, grads, strict=True):
        towards = rng.standard_normal(parameter.shape)
        values, eps = [], 1e-6
        for sign in (1, -1):
            parameter += sign * eps * towards
            values.append(net.loss(net.forward(x.astype(np.float64))[-1], y)[0])
            parameter -= sign * eps * towards
        slope = (values[0] - values[1]) / (2 * eps)
        assert slope == pytest.approx((grad * towards).sum(), rel=1e-5, abs=1e-8)


def test_weights_and_batches_are_left_as_they_are() -> None:
    weights, batches = NET.weights(), NET.batches()
    for own in (*OWN, floor.NumpyProducts(False)):
        own.build(NET, weights, own.place(batches, Device()), Device()).step()
    for mine, fresh in ((weights, NET.weights()), (batches, NET.batches())):
        for a, b in zip(mine, fresh, strict=True):
            np.testing.assert_array_equal(a[0], b[0])
            np.testing.assert_array_equal(a[1], b[1])


def test_the_models_predict_what_the_net_written_by_hand_predicts() -> None:
    workload = replace(NET, predict=True, batch=1)
    (x, _), *_ = workload.batches()
    model = model_of(workload, workload.weights())
    right = reference.by_hand(workload, workload.weights()).forward(x)[-1]
    np.testing.assert_allclose(model.predict(x), right, rtol=1e-5)


def test_dropout_that_is_left_out_is_seen() -> None:
    net = next(net for net in GPU_NETS if net.dropout)
    right = [2.6 - 0.015 * k for k in range(net.compare)]

    def wrong(values: Any) -> Any:
        return reference.verdict(net, "float32", dict(enumerate(values)), right, 0.0)["wrong"]

    assert not wrong(right)
    assert "differ" in wrong([loss * 0.88 for loss in right])
    assert "does not fall" in wrong([float(np.mean(right))] * net.compare)


def test_the_references_losses_are_finite_for_every_tiny_net() -> None:
    for net in (*TINY, *TINY_LAYERS):
        right = reference.reference(net, net.batches(3))
        assert len(right) == net.compare
        assert np.isfinite(right).all()


def test_an_implementation_may_have_a_tolerance_of_its_own() -> None:
    off = {0: 1.001}
    for tolerance, wrong in ((0.0, True), (2e-3, False)):
        found = reference.verdict(NET, "float32", off, [1.0], tolerance)
        assert bool(found["wrong"]) is wrong


def test_listing_imports_none_of_the_rivals() -> None:
    code = (
        "import sys; from benchmarks.implementations import every;"
        "names = [own.name for suite in ('cpu', 'gpu') for own in every(suite)];"
        "assert len(names) > 25, names;"
        "bad = {'torch', 'jax', 'sklearn', 'onnxruntime', 'onnx'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_names_of_implementations_are_distinct() -> None:
    for suite in ("cpu", "gpu"):
        for workload in (NET, ONE_ROW[0]):
            names = [own.name for own in implementations.of(suite, workload)]
            assert len(names) == len(set(names))


def test_where_time_runs_out_it_is_others_that_are_left_out() -> None:
    for suite in ("cpu", "gpu"):
        names = [own.name for own in implementations.of(suite, NET)]
        assert names[:2] == [FLOOR, TRAIN_STEP]


def test_a_tolerance_of_its_own_has_scikit_learn_alone() -> None:
    found = [own.name for own in implementations.every("cpu") if own.tolerance]
    assert found == ["scikit-learn MLP"]
