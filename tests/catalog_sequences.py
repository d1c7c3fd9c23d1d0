"""The rows of tests/catalog.py for layers of sequences: attention and recurrence."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from catalog_layers import Layers, affine, normal
from ldl import nn

MASK = [[True, False, True, False], [True, True, False, False], [False, True, True, True]]
MASK.append([False, False, False, True])
ADDED = np.random.default_rng(5).integers(-8, 8, (2, 4, 4)) / 4
"""What is added to the scores of each of two heads."""
ADDED[:, 1, 2:], ADDED[1, 0, 0] = -1e9, -1e9


def dense(p: Any, x: Any, name: str) -> Any:
    return x @ p[name + "weight"] + p[name + "bias"]


def attention(
    p: Any, x: Any, heads: int, allowed: Any = None, at: str = "", added: Any = None
) -> Any:
    """Head by head."""
    d = x.shape[-1]
    parts = jnp.split(dense(p, x, at + "qkv."), 3 * heads, axis=-1)
    found = []
    together = zip(parts[:heads], parts[heads : 2 * heads], parts[2 * heads :], strict=True)
    for head, (q, k, v) in enumerate(together):
        scores = jnp.einsum("nie,nje->nij", q, k) / np.sqrt(d // heads).astype(x.dtype)
        if allowed is not None:
            scores = jnp.where(jnp.asarray(allowed), scores, -jnp.inf)
        if added is not None:
            scores = scores + jnp.asarray(added[head], x.dtype)
        found.append(jax.nn.softmax(scores, -1) @ v)
    return dense(p, jnp.concatenate(found, -1), at + "out.")


def torch_attention(
    F: Any, p: Any, x: Any, heads: int, mask: Any = None, causal: bool = False
) -> Any:
    n, t, d = x.shape
    qkv = dense(p, x, "qkv.").view(n, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    if mask is not None:
        numbers = isinstance(mask, np.ndarray)
        mask = x.new_tensor(mask) if numbers else x.new_tensor(mask).bool()
    y = F.scaled_dot_product_attention(*qkv, attn_mask=mask, is_causal=causal)
    return dense(p, y.transpose(1, 2).reshape(n, t, d), "out.")


def block(p: Any, x: Any, heads: int, first: bool, act: Any) -> Any:
    def norm(y: Any, name: str) -> Any:
        own = {k: p[f"{name}.{k}"] for k in ("weight", "bias")}
        return affine(own, normal(y, (2,)))

    def mlp(y: Any) -> Any:
        return dense(p, act(dense(p, y, "mlp.0.")), "mlp.2.")

    if first:
        h = x + attention(p, norm(x, "norm1"), heads, at="attention.")
        return h + mlp(norm(h, "norm2"))
    h = norm(x + attention(p, x, heads, at="attention."), "norm1")
    return norm(h + mlp(h), "norm2")


def waves(t: int, d: int) -> Any:
    """Written out, number by number."""
    return np.array(
        [
            [(np.cos if i % 2 else np.sin)(place / 10000 ** ((i - i % 2) / d)) for i in range(d)]
            for place in range(t)
        ]
    ).astype("float32")


def run(p: Any, x: Any, cell: Any, hidden: int, at: str = "layers.0.", back: bool = False) -> Any:
    """One direction: `cell(p, at, z, h, state)` gives the next h and state."""
    n, t, _ = x.shape
    h = jnp.zeros((n, hidden), x.dtype)
    state, found = jnp.zeros((n, hidden), x.dtype), [None] * t
    for s in range(t - 1, -1, -1) if back else range(t):
        z = x[:, s] @ p[at + "weight_ih"]
        h, state = cell(p, at, z, h, state)
        found[s] = h
    return jnp.stack(found, 1)


def plain(f: Any) -> Any:
    return lambda p, at, z, h, s: (f(z + p[at + "bias"] + h @ p[at + "weight_hh"]), s)


def lstm(p: Any, at: str, z: Any, h: Any, c: Any) -> Any:
    i, f, g, o = jnp.split(z + p.get(at + "bias", 0) + h @ p[at + "weight_hh"], 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru(p: Any, at: str, z: Any, h: Any, s: Any) -> Any:
    own = jnp.split(z + p[at + "bias"], 3, -1)
    r, keep, n = zip(own, jnp.split(h @ p[at + "weight_hh"], 3, -1), strict=True)
    r, keep = jax.nn.sigmoid(sum(r)), jax.nn.sigmoid(sum(keep))
    new = jnp.tanh(n[0] + r * (n[1] + p[at + "bias_n"]))
    return (1 - keep) * new + keep * h, s


def both(p: Any, x: Any, hidden: int, layer: int) -> Any:
    at = [f"layers.{2 * layer + k}." for k in range(2)]
    ahead = run(p, x, lstm, hidden, at[0])
    return jnp.concatenate([ahead, run(p, x, lstm, hidden, at[1], True)], -1)


def torch_recurrent(
    p: Any, x: Any, kind: str, hidden: int, layers: int = 1, both: bool = False
) -> Any:
    """PyTorch's own layer, whose two biases add up to ours."""
    import torch

    own = getattr(torch.nn, kind)(x.shape[-1], hidden, layers, batch_first=True, bidirectional=both)
    names = [f"l{k}{way}" for k in range(layers) for way in (["", "_reverse"] if both else [""])]
    given = {}
    for k, name in enumerate(names):
        at = f"layers.{k}."
        for side in ("ih", "hh"):
            given[f"weight_{side}_{name}"] = p[f"{at}weight_{side}"].T
        bias = p[at + "bias"]
        second = torch.zeros_like(bias)
        if at + "bias_n" in p:
            second = torch.cat([second[: 2 * hidden], p[at + "bias_n"]])
        given |= {f"bias_ih_{name}": bias, f"bias_hh_{name}": second}
    return torch.func.functional_call(own.to(x.dtype), given, (x,))[0]


SEQUENCES: Layers = [
    (
        "PositionalEncoding",
        lambda: nn.PositionalEncoding(6, 9),
        (3, 4, 6),
        lambda p, x: x + waves(4, 6).astype(x.dtype),
        lambda F, p, x: x + x.new_tensor(waves(4, 6)),
    ),
    (
        "PositionalEncoding, learned",
        lambda: nn.PositionalEncoding(6, 9, learned=True),
        (3, 4, 6),
        lambda p, x: x + p["weight"][:4],
        lambda F, p, x: x + p["weight"][:4],
    ),
    (
        "MultiHeadAttention",
        lambda: nn.MultiHeadAttention(6, 2),
        (3, 4, 6),
        lambda p, x: attention(p, x, 2),
        lambda F, p, x: torch_attention(F, p, x, 2),
    ),
    (
        "MultiHeadAttention, causal",
        lambda: nn.MultiHeadAttention(6, 3, causal=True),
        (2, 5, 6),
        lambda p, x: attention(p, x, 3, np.tri(5, dtype=bool)),
        lambda F, p, x: torch_attention(F, p, x, 3, causal=True),
    ),
    (
        "MultiHeadAttention, with a mask",
        lambda: nn.MultiHeadAttention(6, 2, mask=MASK),
        (2, 4, 6),
        lambda p, x: attention(p, x, 2, MASK),
        lambda F, p, x: torch_attention(F, p, x, 2, MASK),
    ),
    (
        "MultiHeadAttention, numbers added",
        lambda: nn.MultiHeadAttention(6, 2, mask=ADDED.tolist()),
        (2, 4, 6),
        lambda p, x: attention(p, x, 2, added=ADDED),
        lambda F, p, x: torch_attention(F, p, x, 2, ADDED),
    ),
    (
        "TransformerBlock",
        lambda: nn.TransformerBlock(6, 2, 8, activation="SiLU"),
        (2, 4, 6),
        lambda p, x: block(p, x, 2, True, jax.nn.silu),
        None,
    ),
    (
        "TransformerBlock, normalised last",
        lambda: nn.TransformerBlock(6, 2, activation="Tanh", norm_first=False),
        (2, 4, 6),
        lambda p, x: block(p, x, 2, False, jnp.tanh),
        None,
    ),
    (
        "RNN",
        lambda: nn.RNN(3, 4),
        (2, 5, 3),
        lambda p, x: run(p, x, plain(jnp.tanh), 4),
        lambda F, p, x: torch_recurrent(p, x, "RNN", 4),
    ),
    (
        "RNN, ReLU, the last output",
        lambda: nn.RNN(3, 4, nonlinearity="relu", last=True),
        (2, 3, 3),
        lambda p, x: run(p, x, plain(jax.nn.relu), 4)[:, -1],
        None,
    ),
    (
        "LSTM",
        lambda: nn.LSTM(3, 4),
        (2, 5, 3),
        lambda p, x: run(p, x, lstm, 4),
        lambda F, p, x: torch_recurrent(p, x, "LSTM", 4),
    ),
    (
        "LSTM, without biases",
        lambda: nn.LSTM(3, 2, bias=False),
        (2, 3, 3),
        lambda p, x: run(p, x, lstm, 2),
        None,
    ),
    (
        "LSTM, two layers in both directions",
        lambda: nn.LSTM(3, 2, num_layers=2, bidirectional=True),
        (2, 4, 3),
        lambda p, x: both(p, both(p, x, 2, 0), 2, 1),
        lambda F, p, x: torch_recurrent(p, x, "LSTM", 2, 2, True),
    ),
    (
        "LSTM in both directions, the last outputs",
        lambda: nn.LSTM(3, 2, bidirectional=True, last=True),
        (2, 4, 3),
        lambda p, x: jnp.concatenate([both(p, x, 2, 0)[:, -1, :2], both(p, x, 2, 0)[:, 0, 2:]], -1),
        None,
    ),
    (
        "GRU",
        lambda: nn.GRU(3, 4),
        (2, 5, 3),
        lambda p, x: run(p, x, gru, 4),
        lambda F, p, x: torch_recurrent(p, x, "GRU", 4),
    ),
]
