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


def kl(x: Any, t: Any, log_target: bool = False) -> Any:
    return jnp.exp(t) * (t - x) if log_target else jax.scipy.special.xlogy(t, t) - t * x


def poisson(x: Any, t: Any, log_input: bool = True, full: bool = False) -> Any:
    value = jnp.exp(x) - t * x if log_input else x - t * jnp.log(x + 1e-8)
    n = jnp.maximum(t, 1)
    stirling = n * jnp.log(n) - n + 0.5 * jnp.log(2 * jnp.pi * n)
    return value + jnp.where(t > 1, stirling, 0) if full else value


def cosine(x: Any, t: Any) -> Any:
    both = jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(t, axis=-1)
    return 1 - (x * t).sum(axis=-1) / both


def cosine_embedding(x: Any, y: Any, margin: float) -> Any:
    apart = cosine(x[:, 0], x[:, 1])
    return jnp.where(y > 0, apart, jnp.maximum(1 - apart - margin, 0))


def bce(x: Any, t: Any) -> Any:
    return -(t * jnp.log(x) + (1 - t) * jnp.log1p(-x))


def bce_with_logits(x: Any, t: Any, p: Any = 1) -> Any:
    return -(p * t * jax.nn.log_sigmoid(x) + (1 - t) * jax.nn.log_sigmoid(-x))


def cross_entropy(
    x: Any, t: Any, weight: Any, label_smoothing: float, ignore_index: int, reduction: str
) -> Any:
    """Negative log likelihood of the label and uniform term apart, as PyTorch's manual has it."""
    logp = jax.nn.log_softmax(x, axis=1)
    return nll(logp, t, weight, ignore_index, reduction, label_smoothing)


def nll(
    logp: Any,
    t: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float = 0.0,
) -> Any:
    x, classes = logp, logp.shape[1]
    w = jnp.ones(classes, x.dtype) if weight is None else jnp.asarray(weight, x.dtype)
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


def torch_nll(F: Any, x: Any, t: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    """PyTorch's, and for distributions, which it does not take, the formula."""
    w = None if weight is None else x.new_tensor(weight)
    if t.ndim == 2:
        return reduced(-((1 if w is None else w) * t * x).sum(1), reduction)
    value = F.nll_loss(
        x,
        t,
        w,
        ignore_index=ignore_index,
        reduction="sum" if reduction == "batchmean" else reduction,
    )
    return value / x.shape[0] if reduction == "batchmean" else value
