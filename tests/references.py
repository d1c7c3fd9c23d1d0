"""Loss functions as textbooks and PyTorch's manual state them, in JAX, for the catalog's rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)


def reduced(losses: Any, reduction: str) -> Any:
    """The elements' losses, reduced; for arrays of JAX and tensors of PyTorch."""
    if reduction == "mean":
        return losses.mean()
    if reduction == "batchmean":
        return losses.sum() / losses.shape[0]
    return losses.sum() if reduction == "sum" else losses


def huber(x: Any, t: Any, delta: float) -> Any:
    d = jnp.abs(x - t)
    return jnp.where(d <= delta, 0.5 * d**2, delta * (d - 0.5 * delta))


def bce(x: Any, t: Any) -> Any:
    return -(t * jnp.log(x) + (1 - t) * jnp.log1p(-x))


def bce_with_logits(x: Any, t: Any) -> Any:
    return -(t * jax.nn.log_sigmoid(x) + (1 - t) * jax.nn.log_sigmoid(-x))


def cross_entropy(
    x: Any, t: Any, weight: Any, label_smoothing: float, ignore_index: int, reduction: str
) -> Any:
    """Negative log likelihood of the label and uniform term apart, as PyTorch's manual has it."""
    classes = x.shape[1]
    w = jnp.ones(classes, x.dtype) if weight is None else jnp.asarray(weight, x.dtype)
    logp = jax.nn.log_softmax(x, axis=1)
    uniform = -(w * logp).sum(axis=1) / classes
    if t.ndim == 2:
        likelihood = -(w * t * logp).sum(axis=1)
        counted, total = jnp.ones_like(uniform), x.shape[0]
    else:
        counted = (t != ignore_index).astype(x.dtype)
        label = jnp.where(t == ignore_index, 0, t)
        likelihood = -w[label] * jnp.take_along_axis(logp, label[:, None], axis=1)[:, 0]
        total = (counted * w[label]).sum()
    losses = counted * ((1 - label_smoothing) * likelihood + label_smoothing * uniform)
    return losses.sum() / total if reduction == "mean" else reduced(losses, reduction)


def torch_cross_entropy(
    F: Any, x: Any, t: Any, weight: Any, label_smoothing: float, ignore_index: int, reduction: str
) -> Any:
    value = F.cross_entropy(
        x,
        t,
        weight=None if weight is None else x.new_tensor(weight),
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        reduction="sum" if reduction == "batchmean" else reduction,
    )
    return value / x.shape[0] if reduction == "batchmean" else value
