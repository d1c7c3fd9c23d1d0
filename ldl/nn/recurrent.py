"""Recurrent layers over whole sequences (N, T, C): RNN, LSTM and GRU.

Layers stand on layers, each a `Direction` or two of them side by side.
"""

from __future__ import annotations

from typing import Any, ClassVar
from warnings import warn

from ldl.backend import Array
from ldl.nn.directions import Direction, Gated, LongShort, Plain
from ldl.nn.dropout import Dropout
from ldl.nn.images import check_images
from ldl.nn.linear import check_type
from ldl.nn.module import Module, check_floating
from ldl.numbers import positive_integer, real


class _Recurrent(Module):
    """Layers on layers, each in one direction or in both."""

    kind: ClassVar[type[Direction]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        last: bool = False,
    ) -> None:
        self._set_layers(input_size, hidden_size, num_layers, bias, dropout, bidirectional, last)

    def _set_layers(
        self,
        input_size: Any,
        hidden_size: Any,
        num_layers: Any,
        bias: bool,
        dropout: Any,
        bidirectional: bool,
        last: bool,
        **options: Any,
    ) -> None:
        self.input_size = positive_integer("input_size", input_size)
        self.hidden_size = positive_integer("hidden_size", hidden_size)
        self.num_layers = positive_integer("num_layers", num_layers)
        self.bidirectional, self.last = bool(bidirectional), bool(last)
        ways = 2 if self.bidirectional else 1
        widths = [self.input_size, *[ways * self.hidden_size] * (self.num_layers - 1)]
        self.layers = [
            self.kind(width, self.hidden_size, bias, **options)
            for width in widths
            for _ in range(ways)
        ]
        if real("dropout", dropout):
            if self.num_layers == 1:
                warn(
                    f"{self!r}: dropout stands between layers, and there is one: it does nothing; "
                    "put a Dropout after it, or give num_layers",
                    stacklevel=3,
                )
            self.dropouts = [Dropout(dropout) for _ in widths[1:]]

    def forward(self, x: Array) -> Array:
        """The outputs of all steps, or of the last."""
        check_images(self, x, 1, self.input_size)
        check_type(self, x, self.layers[0].weight_ih)
        if not x.shape[1]:
            raise ValueError(f"{self!r} takes sequences of one step at least, got {tuple(x.shape)}")
        xp = self.backend.xp
        y = x.transpose(1, 0, 2).copy()
        ways = 2 if self.bidirectional else 1
        drops = getattr(self, "dropouts", [])
        for k in range(self.num_layers):
            if k and drops:
                y = drops[k - 1](y.transpose(1, 0, 2)).transpose(1, 0, 2).copy()
            found = [self.layers[ways * k](y)]
            if ways == 2:
                found.append(self.layers[2 * k + 1](y[::-1].copy())[::-1])
            y = found[0] if ways == 1 else xp.concatenate(found, axis=-1)
        self.keep(tuple(y.shape))
        if not self.last:
            return y.transpose(1, 0, 2).copy()
        if ways == 1:
            return y[-1]
        u = self.hidden_size
        return xp.concatenate([y[-1, :, :u], y[0, :, u:]], axis=-1)

    def backward(self, grad: Array) -> Array:
        """∂L/∂x; adds the gradients of all weights."""
        check_floating(self, grad)
        shape, xp, u = self.take(), self.backend.xp, self.hidden_size
        if self.last:
            g = xp.zeros(shape, dtype=grad.dtype)
            g[-1, :, :u] = grad[:, :u]
            if self.bidirectional:
                g[0, :, u:] = grad[:, u:]
        else:
            g = grad.transpose(1, 0, 2).copy()
        ways = 2 if self.bidirectional else 1
        drops = getattr(self, "dropouts", [])
        for k in range(self.num_layers - 1, -1, -1):
            if ways == 1:
                g = self.layers[k].backward(g)
            else:
                ahead = self.layers[2 * k].backward(g[..., :u].copy())
                back = self.layers[2 * k + 1].backward(g[::-1, :, u:].copy())
                g = ahead + back[::-1]
            if k and drops:
                g = drops[k - 1].backward(g.transpose(1, 0, 2)).transpose(1, 0, 2).copy()
        return g.transpose(1, 0, 2).copy()


class RNN(_Recurrent):
    """h_t = tanh(x_t W + b + h_{t-1} U), or ReLU of it, from h_0 = 0.

    Shapes: X (N, T, input_size), Y (N, T, hidden_size), twice as wide if `bidirectional`: the
    outputs of a second layer that goes through the sequences in reverse stand beside. With `last` Y
    is (N, hidden_size), what each direction gave last. W (input_size, hidden_size), U (hidden_size,
    hidden_size), b (hidden_size,), in each of `layers`, as many as `num_layers` times directions;
    between layers is `dropout`.

    Gradients, for G = ∂L/∂Y: a_t = (G_t + a_{t+1} Uᵀ) ⊙ f'(…), dW = Σ x_tᵀ a_t, dU = Σ h_{t-1}ᵀ
    a_t, db = Σ a_t, dX_t = a_t Wᵀ. PyTorch's layer of this name has two biases whose sum is b, and
    its weights transposed. Weights start uniform on ± hidden_size^-½.
    """

    kind: ClassVar[type[Direction]] = Plain

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        last: bool = False,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        self._set_layers(
            *(input_size, hidden_size, num_layers, bias, dropout, bidirectional, last),
            nonlinearity=nonlinearity,
        )


class LSTM(_Recurrent):
    """c_t = f c_{t-1} + i g, h_t = o tanh c_t, from zeros; all products of these are by elements.

    i, f, o = σ and g = tanh of their parts, in the order i, f, g, o, of x_t W + b + h_{t-1} U; W
    (input_size, 4 hidden_size), U (hidden_size, 4 hidden_size), b (4 hidden_size,). Gradients, for
    G = ∂L/∂Y, s_t = G_t + a_{t+1} Uᵀ and d_t = s_t o (1 - tanh² c_t) + d_{t+1} f_{t+1}: a_t = (d_t
    g i (1 - i), d_t c_{t-1} f (1 - f), d_t i (1 - g²), s_t tanh(c_t) o (1 - o)); those of W, U, b
    and X are made of a as `RNN`'s. Shapes and options are `RNN`'s. (Hochreiter, Schmidhuber, Neural
    Computation 9, 1997, with the forget gate of Gers et al., 2000.)
    """

    kind: ClassVar[type[Direction]] = LongShort


class GRU(_Recurrent):
    """h_t = (1 - z) n + z h_{t-1}, from zeros; all products of these are by elements.

    r, z = σ of their parts of x_t W + b + h_{t-1} U, and n = tanh(its part of x_t W + b + r
    (h_{t-1} U_n + b_n)), in the order r, z, n; W (input_size, 3 hidden_size), U (hidden_size,
    3 hidden_size), b (3 hidden_size,), b_n (hidden_size,). Gradients, for s_t = ∂L/∂h_t: n gets
    s (1 - z) (1 - n²), z gets s (h_{t-1} - n) z (1 - z), r what n got times
    (h U_n + b_n) r (1 - r), h_{t-1} s z and what goes through U. Shapes and options are `RNN`'s.
    (Cho et al., EMNLP 2014; r after the product, as in cuDNN and PyTorch.)
    """

    kind: ClassVar[type[Direction]] = Gated
