"""Attention of sequences to themselves, and the transformer's block."""

from __future__ import annotations

from math import inf
from typing import Any

from ldl.backend import Array
from ldl.nn.containers import Sequential
from ldl.nn.dropout import Dropout
from ldl.nn.images import check_order
from ldl.nn.linear import Linear, check_type
from ldl.nn.masks import finite, finite_arguments, padding, tables
from ldl.nn.module import Module, check_floating
from ldl.nn.named import named_activation
from ldl.nn.normalization import LayerNorm
from ldl.nn.parameter import Buffer
from ldl.numbers import positive_integer, real


class MultiHeadAttention(Module):
    """Y = concat_h(softmax(Q_h K_hᵀ / √e + M) V_h) W_o + b_o, (Q, K, V) = X W + b, e = d / heads.

    Shapes: X and Y (N, T, embed_dim), W (d, 3d), W_o (d, d). M is 0 where a place may look and -∞
    where not: with `causal` at later places, with a `mask` (T, T) of truths where that is False
    (PyTorch's `attn_mask` says it the other way round: give ~attn_mask), in a call with
    `key_padding_mask` (N, T) at the places where that is True, as in PyTorch; `Padded` makes it of
    tokens. A `mask` of floating numbers, (T, T) or (heads, T, T), is added as it is, -1e9 and less
    being -∞. A place all of whose keys are hidden by padding attends to nothing: its row of P is 0,
    its Y is b_o, and no gradient goes through it. `dropout` is that of the softmax P.

    Gradients, with G = ∂L/∂O_h of O_h = P V_h: ∂L/∂V = Pᵀ G, ∂L/∂P = G Vᵀ,
    ∂L/∂S = P ⊙ (∂L/∂P - Σ_j P ∂L/∂P), ∂L/∂Q = ∂L/∂S K / √e, ∂L/∂K = ∂L/∂Sᵀ Q / √e.

    Raises ValueError for another width, another T than the mask's, and a mask that leaves a place
    nothing to look at. (Vaswani et al., NeurIPS 2017.)
    """

    takes_padding = True

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        causal: bool = False,
        mask: Any = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        self.embed_dim = positive_integer("embed_dim", embed_dim)
        self.num_heads = positive_integer("num_heads", num_heads)
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}"
            )
        self.causal = bool(causal)
        self.mask = finite(mask)
        self._arguments = finite_arguments(self._arguments)
        self.allowed: Buffer | None = None
        self.added: Buffer | None = None
        if mask is not None:
            truths, added = tables(mask, self.causal, self.num_heads)
            self.allowed = Buffer(truths)
            self.added = None if added is None else Buffer(added)
        self.qkv = Linear(self.embed_dim, 3 * self.embed_dim, bias)
        self.out = Linear(self.embed_dim, self.embed_dim, bias)
        self.dropout = Dropout(dropout) if real("dropout", dropout) else None

    def _heads(self, x: Array) -> tuple[Array, ...]:
        """(N, T, 3d) as views Q, K, V of (N, heads, T, e)."""
        n, t, _ = x.shape
        split = x.reshape(n, t, 3, self.num_heads, self.embed_dim // self.num_heads)
        return tuple(split[:, :, k].transpose(0, 2, 1, 3) for k in range(3))

    def _seen(self, t: int) -> Array | None:
        """Where each of T places may look."""
        xp, allowed = self.backend.xp, None
        if self.causal:
            places = xp.arange(t)
            allowed = places <= places[:, None]
        if self.allowed is not None:
            places = self.allowed.shape[-1]
            if places != t:
                raise ValueError(
                    f"{type(self).__name__} has a mask of {places} places, got sequences of {t}"
                )
            mask = self.allowed.data > 0
            allowed = mask if allowed is None else allowed & mask
        return allowed

    def forward(self, x: Array, key_padding_mask: Array | None = None) -> Array:
        """Attention, to no place where `key_padding_mask` is True."""
        check_type(self, x, self.qkv.weight)
        check_order(x, self.embed_dim)
        if x.ndim != 3 or x.shape[2] != self.embed_dim:
            raise ValueError(f"{self!r} takes (N, T, {self.embed_dim}), got {tuple(x.shape)}")
        if not x.shape[1]:
            raise ValueError(
                f"{self!r} takes sequences of one place at least, got {tuple(x.shape)}"
            )
        xp, (n, t, d) = self.backend.xp, x.shape
        q, k, v = self._heads(self.qkv(x))
        s = xp.matmul(q, k.swapaxes(-1, -2)) * (d // self.num_heads) ** -0.5
        allowed = self._seen(t)
        if self.added is not None:
            s = s + self.added.data
        if allowed is not None:
            s = xp.where(allowed, s, -inf)
        if key_padding_mask is None:
            e = xp.exp(s - s.max(axis=-1, keepdims=True))
            p = e / e.sum(axis=-1, keepdims=True)
        else:
            s = xp.where(padding(self, key_padding_mask, n, t)[:, None, None, :], -inf, s)
            most = s.max(axis=-1, keepdims=True)
            e = xp.exp(s - xp.where(most > -inf, most, 0))
            total = e.sum(axis=-1, keepdims=True)
            p = e / xp.where(total > 0, total, 1)
        used = p if self.dropout is None else self.dropout(p)
        y = xp.matmul(used, v)
        self.keep(q, k, v, p, used)
        return self.out(y.transpose(0, 2, 1, 3).reshape(n, t, d))

    def backward(self, grad: Array) -> Array:
        """∂L/∂X; adds the gradients of W, b, W_o and b_o."""
        check_floating(self, grad)
        q, k, v, p, used = self.take()
        xp, (n, t, d), heads = self.backend.xp, grad.shape, self.num_heads
        g = self.out.backward(grad).reshape(n, t, heads, d // heads).transpose(0, 2, 1, 3)
        dqkv = xp.empty((n, t, 3, heads, d // heads), dtype=grad.dtype)
        dp = xp.matmul(g, v.swapaxes(-1, -2))
        if self.dropout is not None:
            dp = self.dropout.backward(dp)
        ds = p * (dp - (p * dp).sum(axis=-1, keepdims=True)) * (d // heads) ** -0.5
        dk, dv = xp.matmul(ds.swapaxes(-1, -2), q), xp.matmul(used.swapaxes(-1, -2), g)
        for part, found in enumerate((xp.matmul(ds, k), dk, dv)):
            dqkv[:, :, part] = found.transpose(0, 2, 1, 3)
        return self.qkv.backward(dqkv.reshape(n, t, 3 * d))


class TransformerBlock(Module):
    """h = x + A(N_1(x)), y = h + F(N_2(h)): attention A, then two dense layers F, each added.

    F is Linear, an activation, Linear, of `hidden` units, 4 embed_dim where that is left out; N are
    LayerNorms. With `norm_first` False h = N_1(x + A(x)), y = N_2(h + F(h)), as first published.
    Dropout stands after A and after F's activation and end. Shapes: x and y (N, T, embed_dim). The
    gradient goes back through each sum to both its terms. `causal`, `mask` and `key_padding_mask`
    are those of `MultiHeadAttention`.
    """

    takes_padding = True

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden: int | None = None,
        activation: str | type[Module] = "GELU",
        dropout: float = 0.0,
        causal: bool = False,
        mask: Any = None,
        norm_first: bool = True,
    ) -> None:
        hidden = 4 * embed_dim if hidden is None else positive_integer("hidden", hidden)
        self._arguments = finite_arguments(self._arguments)
        self.norm_first = bool(norm_first)
        self.norm1 = LayerNorm(embed_dim)
        self.attention = MultiHeadAttention(embed_dim, num_heads, causal, mask, dropout)
        self.norm2 = LayerNorm(embed_dim)
        some = bool(real("dropout", dropout))
        self.mlp = Sequential(
            Linear(embed_dim, hidden),
            named_activation(activation)(),
            *([Dropout(dropout)] * some),
            Linear(hidden, embed_dim),
        )
        self.dropouts = [Dropout(dropout), Dropout(dropout)] if some else []

    def _dropped(self, x: Array, which: int, back: bool = False) -> Array:
        if not self.dropouts:
            return x
        return self.dropouts[which].backward(x) if back else self.dropouts[which](x)

    def forward(self, x: Array, key_padding_mask: Array | None = None) -> Array:
        """The block, whose attention looks at no place where `key_padding_mask` is True."""
        if self.norm_first:
            h = x + self._dropped(self.attention(self.norm1(x), key_padding_mask), 0)
            return h + self._dropped(self.mlp(self.norm2(h)), 1)
        h = self.norm1(x + self._dropped(self.attention(x, key_padding_mask), 0))
        return self.norm2(h + self._dropped(self.mlp(h), 1))

    def backward(self, grad: Array) -> Array:
        """∂L/∂x; adds the gradients of all weights."""
        if self.norm_first:
            g = grad + self.norm2.backward(self.mlp.backward(self._dropped(grad, 1, True)))
            return g + self.norm1.backward(self.attention.backward(self._dropped(g, 0, True)))
        g = self.norm2.backward(grad)
        g = self.norm1.backward(g + self.mlp.backward(self._dropped(g, 1, True)))
        return g + self.attention.backward(self._dropped(g, 0, True))
