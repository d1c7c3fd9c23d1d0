"""One recurrent layer in one direction, time-major: plain, LSTM, GRU.

All steps' inputs are multiplied by W at once, Z = X W + b, and step t goes on from what the one
before gave, h U. Backward goes through the steps in reverse; the gradients of W, U and b are then
products over all steps at once. A recorded step holds all of them, whatever T.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ldl.backend import Array
from ldl.nn import init
from ldl.nn.module import Module
from ldl.nn.parameter import Parameter


class Direction(Module):
    """One layer in one direction: time-major sequences (T, N, C) to (T, N, hidden_size)."""

    gates: ClassVar[int]
    """Columns of W and of U that one unit has."""
    added: ClassVar[bool] = True
    """Whether z and h U enter by their sum, and so have one gradient."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        self.hidden_size = hidden_size
        wide, bound = self.gates * hidden_size, hidden_size**-0.5
        self.weight_ih = Parameter(init.uniform((input_size, wide), bound))
        self.weight_hh = Parameter(init.uniform((hidden_size, wide), bound))
        self.bias = Parameter(init.uniform((wide,), bound)) if bias else None

    def step(self, z: Array, h: Array, state: Any, out: Array) -> tuple[Any, Any]:
        """Write the output of a step to `out`; what backward needs of it, and the next state.

        z are the inputs' shares of the gates, h the output before and `state` what else is carried.
        """
        raise NotImplementedError

    def back(
        self, dh: Array, kept: Any, carried: Any, h: Array, dz: Array, da: Array
    ) -> tuple[Any, Any]:
        """Write ∂L/∂z to `dz` and, where it is another array, ∂L/∂(h U) to `da`.

        dh is ∂L/∂ of the step's output and `carried` that of its state. Gives what goes to h beside
        what goes there through U, and to the state before.
        """
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        """The outputs of all steps."""
        xp, (t, n, width) = self.backend.xp, x.shape
        rows = x.reshape(t * n, width)
        bias = None if self.bias is None else self.bias.data
        z = self.backend.linear(rows, self.weight_ih.data, bias)
        z = z.reshape(t, n, z.shape[-1])
        hs = xp.empty((t + 1, n, self.hidden_size), dtype=x.dtype)
        hs[0] = 0
        kept, state = [], None
        for s in range(t):
            found, state = self.step(z[s], hs[s], state, hs[s + 1])
            kept.append(found)
        self.keep(rows, hs, kept)
        return hs[1:].copy()

    def backward(self, grad: Array) -> Array:
        """∂L/∂x; adds the gradients of W, U and b."""
        rows, hs, kept = self.take()
        xp, (t, n, _) = self.backend.xp, grad.shape
        shape = t, n, self.gates * self.hidden_size
        dz = xp.empty(shape, dtype=grad.dtype)
        da = dz if self.added else xp.empty(shape, dtype=grad.dtype)
        dh, carried = None, None
        turned = self.weight_hh.data.T.copy()  # once, for products of all steps
        for s in range(t - 1, -1, -1):
            g = grad[s] if dh is None else grad[s] + dh
            more, carried = self.back(g, kept[s], carried, hs[s], dz[s], da[s])
            if s:
                dh = self.backend.matmul(da[s], turned)
                dh = dh if more is None else dh + more
        into, through = (d.reshape(t * n, shape[-1]) for d in (dz, da))
        if self.bias is not None:
            self.bias.accumulate_rows(into)
        self.weight_ih.accumulate_matmul(rows.T, into)
        self.weight_hh.accumulate_matmul(hs[:-1].reshape(t * n, self.hidden_size).T, through)
        self._further(through)
        dx = self.backend.matmul(into, self.weight_ih.data.T)
        return dx.reshape(t, n, dx.shape[-1])

    def _further(self, da: Array) -> None:
        """Add the gradients of what else there is, from ∂L/∂(h U) of all steps."""


class Plain(Direction):
    """h' = f(z + h U), f tanh or ReLU."""

    gates: ClassVar[int] = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh"
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = nonlinearity

    def step(self, z: Array, h: Array, state: Any, out: Array) -> tuple[Any, Any]:
        """f(z + h U)."""
        xp = self.backend.xp
        a = z + self.backend.matmul(h, self.weight_hh.data)
        y = xp.tanh(a) if self.nonlinearity == "tanh" else xp.maximum(a, 0)
        out[...] = y
        return (1 - y * y if self.nonlinearity == "tanh" else (y > 0).astype(y.dtype)), None

    def back(
        self, dh: Array, kept: Any, carried: Any, h: Array, dz: Array, da: Array
    ) -> tuple[Any, Any]:
        """∂L/∂z = ∂L/∂h' f'."""
        dz[...] = dh * kept
        return None, None


class LongShort(Direction):
    """i, f, o = σ, g = tanh of their parts of z + h U; c' = f c + i g; h' = o tanh c'."""

    gates: ClassVar[int] = 4

    def step(self, z: Array, h: Array, state: Any, out: Array) -> tuple[Any, Any]:
        """c' and o tanh c'."""
        xp, u = self.backend.xp, self.hidden_size
        a = z + self.backend.matmul(h, self.weight_hh.data)
        i, f, o = (self.backend.sigmoid(a[:, k * u : (k + 1) * u]) for k in (0, 1, 3))
        g = xp.tanh(a[:, 2 * u : 3 * u])
        c = i * g if state is None else f * state + i * g
        held = xp.tanh(c)
        out[...] = o * held
        return (i, f, g, o, held, state), c

    def back(
        self, dh: Array, kept: Any, carried: Any, h: Array, dz: Array, da: Array
    ) -> tuple[Any, Any]:
        """∂L/∂c' = what is carried + ∂L/∂h' o (1 - tanh² c'), and from it those of the gates."""
        (i, f, g, o, held, before), u = kept, self.hidden_size
        dc = dh * o * (1 - held * held)
        dc = dc if carried is None else dc + carried
        dz[:, :u] = dc * g * i * (1 - i)
        dz[:, u : 2 * u] = 0 if before is None else dc * before * f * (1 - f)
        dz[:, 2 * u : 3 * u] = dc * i * (1 - g * g)
        dz[:, 3 * u :] = dh * held * o * (1 - o)
        return None, dc * f


class Gated(Direction):
    """r, z = σ, n = tanh(z_n + r (h U_n + b_n)); h' = (1 - z) n + z h."""

    gates: ClassVar[int] = 3
    added: ClassVar[bool] = False

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)
        bound = hidden_size**-0.5
        self.bias_n = Parameter(init.uniform((hidden_size,), bound)) if bias else None

    def step(self, z: Array, h: Array, state: Any, out: Array) -> tuple[Any, Any]:
        """(1 - z) n + z h."""
        xp, u = self.backend.xp, self.hidden_size
        a = self.backend.matmul(h, self.weight_hh.data)
        r, keep = (
            self.backend.sigmoid(z[:, k * u : (k + 1) * u] + a[:, k * u : (k + 1) * u])
            for k in (0, 1)
        )
        m = a[:, 2 * u :] if self.bias_n is None else a[:, 2 * u :] + self.bias_n.data
        new = xp.tanh(z[:, 2 * u :] + r * m)
        out[...] = (1 - keep) * new + keep * h
        return (r, keep, new, m), None

    def back(
        self, dh: Array, kept: Any, carried: Any, h: Array, dz: Array, da: Array
    ) -> tuple[Any, Any]:
        """∂L/∂z, and ∂L/∂(h U), which differs in n's part by the factor r."""
        (r, keep, new, m), u = kept, self.hidden_size
        dn = dh * (1 - keep) * (1 - new * new)
        dz[:, :u] = dn * m * r * (1 - r)
        dz[:, u : 2 * u] = dh * (h - new) * keep * (1 - keep)
        dz[:, 2 * u :] = dn
        da[:, : 2 * u] = dz[:, : 2 * u]
        da[:, 2 * u :] = dn * r
        return dh * keep, None

    def _further(self, da: Array) -> None:
        if self.bias_n is not None:
            self.bias_n.accumulate(da[:, 2 * self.hidden_size :].sum(axis=0))
