"""Every value and gradient agrees with finite differences, with JAX and with PyTorch."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import jax
import numpy as np
import pytest

from catalog import LOSSES, ROWS, learned, named
from checks import assert_close, is_gradient, module_is_differentiated

HAS_TORCH = importlib.util.find_spec("torch") is not None
PRECISIONS = pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 2e-6)])


def run_module(row: Any, dtype: str) -> tuple[Any, ...]:
    """(parameters and constants, x, r, y, ∂<r, y>/∂x, ∂<r, y>/∂parameters)."""
    module, x = row.module(dtype), row.input(dtype)
    params = {name: p.data.copy() for name, p in module.named_parameters()}
    constants = {k: np.asarray(v, dtype) for k, v in row.constants(module).items()}
    y = module(x)
    r = np.random.default_rng(4).standard_normal(y.shape).astype(dtype)
    dx = module.backward(r)
    grads = {name: p.grad for name, p in learned(module).items()}
    return params | constants, x, r, y, dx, grads


def run_loss(row: Any, dtype: str) -> tuple[Any, ...]:
    """(x, target, r, value, ∂<r, value>/∂x)."""
    loss, (x, t) = row.build(), row.batch(dtype)
    value = loss(x, t)
    r = np.random.default_rng(5).uniform(0.5, 2, np.shape(value)).astype(dtype)
    return x, t, r, value, loss.backward(r)


# ---- finite differences ----------------------------------------------------------------------


@pytest.mark.parametrize(**named(ROWS))
def test_backward_is_the_derivative_of_forward(row: Any) -> None:
    assert module_is_differentiated(row.module("float64"), row.input("float64"))


@pytest.mark.parametrize(**named(LOSSES))
def test_backward_is_the_derivative_of_the_loss(row: Any) -> None:
    loss, (x, t) = row.build(), row.batch("float64")
    r = np.random.default_rng(5).uniform(0.5, 2, np.shape(loss(x, t)))
    gradient = loss.backward(r)
    assert is_gradient(lambda a: float((r * row.build()(a, t)).sum()), x, gradient)


@pytest.mark.parametrize(**named([row for row in LOSSES if "'none'" not in row.name]))
def test_backward_without_argument_is_the_derivative_of_the_value_itself(row: Any) -> None:
    loss, (x, t) = row.build(), row.batch("float64")
    loss(x, t)
    gradient = loss.backward()
    assert is_gradient(lambda a: float(row.build()(a, t)), x, gradient)


# ---- JAX -------------------------------------------------------------------------------------


def jax_pullback(f: Any, params: Any, x: Any, r: Any) -> Any:
    """f(params, x), and the gradients of <r, f(params, x)>, in one compilation."""

    def both(params: Any, x: Any, r: Any) -> Any:
        y, pullback = jax.vjp(f, params, x)
        return y, pullback(r)

    return jax.jit(both)(params, x, r)


@PRECISIONS
@pytest.mark.parametrize(**named(ROWS))
def test_value_and_gradients_agree_with_jax(row: Any, dtype: str, rtol: float) -> None:
    params, x, r, y, dx, grads = run_module(row, dtype)
    expected, (expected_grads, expected_dx) = jax_pullback(row.jax, params, x, r)
    assert_close(y, expected, rtol)
    assert_close(dx, expected_dx, rtol)
    for name, grad in grads.items():
        assert_close(grad, expected_grads[name], rtol)


@PRECISIONS
@pytest.mark.parametrize(**named(LOSSES))
def test_loss_and_gradient_agree_with_jax(row: Any, dtype: str, rtol: float) -> None:
    x, t, r, value, dx = run_loss(row, dtype)
    expected, pullback = jax.vjp(lambda a: row.jax(a, jax.numpy.asarray(t)), x)
    (expected_dx,) = pullback(jax.numpy.asarray(r))
    assert_close(value, expected, rtol)
    assert_close(dx, expected_dx, rtol)


# ---- PyTorch ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own import
        import torch
    torch.set_num_threads(1)
    return torch


if HAS_TORCH:

    @PRECISIONS
    @pytest.mark.parametrize(**named([row for row in ROWS if row.torch is not None]))
    def test_value_and_gradients_agree_with_pytorch(
        row: Any, dtype: str, rtol: float, torch: Any
    ) -> None:
        params, x, r, y, dx, grads = run_module(row, dtype)
        tensors = {k: torch.tensor(v, requires_grad=True) for k, v in params.items()}
        tx = torch.tensor(x, requires_grad=True)
        expected = row.torch(torch.nn.functional, tensors, tx)
        expected.backward(torch.tensor(r))
        assert_close(y, expected.detach().numpy(), rtol)
        assert_close(dx, tx.grad.numpy(), rtol)
        for name, grad in grads.items():
            assert_close(grad, tensors[name].grad.numpy(), rtol)

    @PRECISIONS
    @pytest.mark.parametrize(**named(LOSSES))
    def test_loss_and_gradient_agree_with_pytorch(
        row: Any, dtype: str, rtol: float, torch: Any
    ) -> None:
        x, t, r, value, dx = run_loss(row, dtype)
        tx = torch.tensor(x, requires_grad=True)
        expected = row.torch(torch.nn.functional, tx, torch.tensor(t))
        expected.backward(torch.tensor(r))
        assert_close(value, expected.detach().numpy(), rtol)
        assert_close(dx, tx.grad.numpy(), rtol)

else:

    @pytest.mark.skip(reason="torch is not installed: nothing was compared with PyTorch")
    def test_agreement_with_pytorch() -> None:
        """Stands for the two tests above."""
