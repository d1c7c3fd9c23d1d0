"""What the tests ask of a gradient, an array or a message."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from ldl.nn import Buffer

STEP = 2e-4


def slope(f: Callable[[Any], float], x: Any, direction: Any, h: float = STEP) -> float:
    """The derivative of f at x along a direction: five points, error h⁴."""
    near = f(x + h * direction) - f(x - h * direction)
    far = f(x + 2 * h * direction) - f(x - 2 * h * direction)
    return float(8 * near - far) / (12 * h)


def is_gradient(f: Callable[[Any], float], x: Any, gradient: Any, rtol: float = 1e-9) -> bool:
    """Whether `gradient` is the gradient of f at x, along three random directions in float64."""
    assert x.dtype == gradient.dtype == np.float64
    assert x.shape == gradient.shape
    rng = np.random.default_rng(3)
    for _ in range(3):
        v = rng.standard_normal(x.shape)
        scale = np.abs(gradient * v).sum() + abs(f(x)) + 1
        if not abs(slope(f, x, v) - (gradient * v).sum()) <= rtol * scale:
            return False
    return True


def module_is_differentiated(module: Any, x: Any) -> bool:
    """Whether backward gives the gradient of <r, module(x)> for x and for every parameter."""
    ready = copy.deepcopy(module)  # every evaluation starts from here: dropout draws one mask
    y = module.forward(x)
    r = np.random.default_rng(4).standard_normal(y.shape)
    dx = module.backward(r)
    right = is_gradient(lambda a: (r * copy.deepcopy(ready).forward(a)).sum(), x, dx)
    for name, parameter in module.named_parameters():
        if isinstance(parameter, Buffer):
            continue

        def f(value: Any, name: str = name) -> float:
            other = copy.deepcopy(ready)
            dict(other.named_parameters())[name].data[...] = value
            return (r * other.forward(x)).sum()

        grad = np.zeros_like(parameter.data) if parameter.grad is None else parameter.grad
        right &= is_gradient(f, parameter.data.copy(), grad)
    return bool(right)


def assert_close(actual: Any, expected: Any, rtol: float) -> None:
    """Equal within rtol of each element, or of the largest one."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    largest = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * max(largest, 1e-300))


def one_line(error: Any) -> str:
    """The message of a caught exception, which must be one line."""
    message = str(error.value)
    assert message
    assert "\n" not in message, f"more than one line: {message!r}"
    return message
