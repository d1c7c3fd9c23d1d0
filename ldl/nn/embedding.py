"""Embedding: tokens as vectors; and where they stand, as vectors added to them."""

from __future__ import annotations

from ldl.backend import Array
from ldl.nn import init
from ldl.nn.images import check_order
from ldl.nn.linear import check_type
from ldl.nn.module import Module, check_batch, check_floating
from ldl.nn.parameter import Buffer, Parameter
from ldl.numbers import integer, positive_integer


class Embedding(Module):
    """Y[…] = W[X[…]]: row X of a table for each token X, an integer of 0 to num_embeddings - 1.

    Shapes: X (N,), (N, T) or of more axes, W (num_embeddings, embedding_dim), Y (*X.shape,
    embedding_dim). With G = ∂L/∂Y, ∂L/∂W[v] = Σ G[…] over the tokens that are v; tokens have no
    gradient: backward returns zeros. The row `padding_idx`, of a token that stands for none, starts
    at zero and gets no gradient; the others start normal, of variance 1.

    Raises TypeError for numbers that are no integers and, on a CPU, ValueError for tokens that the
    table has no row for, before anything is computed; on a GPU those name the nearest row, since to
    look at them is to wait. A model whose inputs are tokens says so by `takes_integers`, and `fit`
    and `predict` leave them integers.
    """

    takes_integers = True

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None
    ) -> None:
        self.num_embeddings = positive_integer("num_embeddings", num_embeddings)
        self.embedding_dim = positive_integer("embedding_dim", embedding_dim)
        self.padding_idx = padding_idx
        weight = init.normal((self.num_embeddings, self.embedding_dim), 1.0)
        if padding_idx is not None:
            self.padding_idx = integer("padding_idx", padding_idx, 0, "a token")
            if self.padding_idx >= self.num_embeddings:
                raise ValueError(
                    f"padding_idx must be less than num_embeddings, got {padding_idx} and "
                    f"{num_embeddings}"
                )
            weight[self.padding_idx] = 0
        self.weight = Parameter(weight)

    def forward(self, x: Array) -> Array:
        """The tokens' rows."""
        check_batch(self, x)
        if x.dtype.kind not in "iu":
            raise TypeError(
                f"{self!r} takes integers, got {x.dtype}: use x.astype('int64'), or say "
                "takes_integers = True in the class of a model that is given tokens"
            )
        tokens = x.reshape(-1).astype("int64", copy=False)
        self.keep(tokens)
        rows = self.backend.take(self.weight.data, tokens)
        return rows.reshape(*x.shape, self.embedding_dim)

    def backward(self, grad: Array) -> Array:
        """Adds ∂L/∂W; returns zeros."""
        check_floating(self, grad)
        tokens, rows = self.take(), grad.reshape(-1, self.embedding_dim)
        if self.padding_idx is not None:
            rows = self.backend.xp.where((tokens != self.padding_idx)[:, None], rows, 0)
        self.weight.accumulate_at(rows, tokens)
        return self.backend.xp.zeros(grad.shape[:-1], dtype=grad.dtype)


class PositionalEncoding(Module):
    """Y[n, t] = X[n, t] + P[t], a vector for each place t; ∂L/∂X = ∂L/∂Y.

    Shapes: X and Y (N, T, embed_dim), T at most `max_len`; P (max_len, embed_dim). P[t, 2i] =
    sin(t / 10000^{2i / d}) and P[t, 2i + 1] = cos(t / 10000^{2i / d}), d = embed_dim, a buffer
    (Vaswani et al., NeurIPS 2017), or `learned`: ∂L/∂P[t] = Σ_n ∂L/∂Y[n, t], started normal of
    standard deviation 0.02. Raises ValueError for another width and for longer sequences.
    """

    def __init__(self, embed_dim: int, max_len: int = 1024, learned: bool = False) -> None:
        self.embed_dim = positive_integer("embed_dim", embed_dim)
        self.max_len = positive_integer("max_len", max_len)
        self.learned = bool(learned)
        shape = self.max_len, self.embed_dim
        self.weight = Parameter(init.normal(shape, 0.02)) if learned else Buffer(init.waves(shape))

    def forward(self, x: Array) -> Array:
        """X + P."""
        check_type(self, x, self.weight)
        check_order(x, self.embed_dim)
        if x.ndim != 3 or x.shape[2] != self.embed_dim or x.shape[1] > self.max_len:
            raise ValueError(
                f"{self!r} takes (N, T, {self.embed_dim}) with T at most {self.max_len}, got "
                f"{tuple(x.shape)}"
            )
        self.keep(None)
        return x + self.weight.data[: x.shape[1]]

    def backward(self, grad: Array) -> Array:
        """G; adds ∂L/∂P where it is learned."""
        check_floating(self, grad)
        self.take()
        if self.learned:
            whole = self.backend.xp.zeros(self.weight.shape, dtype=grad.dtype)
            whole[: grad.shape[1]] = grad.sum(axis=0)
            self.weight.accumulate(whole)
        return grad
