"""Gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ldl.backend import Array, Backend
from ldl.calm import calm
from ldl.nn.parameter import Parameter
from ldl.numbers import real

POWERS = {2: 40, 4: 40, 8: 400}
"""By a number's bytes: as many powers of 2 from 1 either way, its squares can be summed."""


def clip_grad_norm_(parameters: Iterable[Parameter], max_norm: float) -> Array:
    """Scale all gradients by min(1, max_norm / (‖g‖ + 1e-6)), ‖g‖ their joint Euclidean norm.

    In place and without waiting for the device. Returns ‖g‖ as it was, a scalar of the device. That
    squares of large numbers overflow and those of small ones vanish makes no difference. Where one
    is infinite it becomes NaN and the others 0, and where one is NaN all do, as in PyTorch: `fit`
    then finds that the weights have diverged.
    """
    max_norm = real("max_norm", max_norm)
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    found = [p for p in parameters if p.has_grad]
    if not found:
        return 0.0
    return clip_arrays(found[0].backend, [p.grad_buffer for p in found], max_norm, None)


def clip_grad_value_(parameters: Iterable[Parameter], clip_value: float) -> None:
    """Cut every element of every gradient to [-clip_value, clip_value], in place."""
    clip_value = real("clip_value", clip_value)
    if not clip_value > 0:
        raise ValueError(f"clip_value must be positive, got {clip_value}")
    found = [p for p in parameters if p.has_grad]
    if found:
        clip_arrays(found[0].backend, [p.grad_buffer for p in found], None, clip_value)


@calm
def clip_arrays(
    backend: Backend, grads: Sequence[Array], max_norm: float | None, max_value: float | None
) -> Array:
    """Clip arrays of one backend in place, by value and then by joint norm; returns the norm."""
    xp = backend.xp
    if max_value is not None:
        for g in grads:
            xp.clip(g, -max_value, max_value, out=g)
    if max_norm is None:
        return None
    factor = _within(xp, _squares(backend, grads), min(g.dtype.itemsize for g in grads))
    for g in grads:
        g *= factor
    norm = xp.sqrt(_squares(backend, grads))  # of what was multiplied
    scale = xp.minimum(max_norm / (norm + 1e-6 * factor), 1 / factor)
    for g in grads:
        g *= scale
    return norm / factor


def _squares(backend: Backend, grads: Sequence[Array]) -> Array:
    total = backend.sum_squares(grads[0])
    for g in grads[1:]:
        total = total + backend.sum_squares(g)
    return total


def _within(xp: Any, squares: Array, itemsize: int) -> Array:
    """A power of two that brings numbers within reach of their squares; 1 where they are.

    To multiply by it and to divide again changes no digit.
    """
    power = POWERS[itemsize]
    far = xp.where(squares > 4.0**power, 4.0**-power, 1.0)
    return xp.where(squares < 4.0**-power, 4.0**power, far).astype(squares.dtype)
