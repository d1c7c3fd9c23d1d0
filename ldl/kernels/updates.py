"""Kernels: optimizers' updates, in place over flat buffers."""

from __future__ import annotations

from functools import partial
from typing import Any

from ldl.kernels.types import Array
from ldl.prepared import Prepared


class Updates:
    """Updates of parameters by their gradients."""

    xp: Any

    def prepare(
        self,
        kernel: str,
        arrays: tuple[Array | None, ...],
        numbers: tuple[str, ...],
        **constants: Any,
    ) -> Prepared:
        """One of the kernels below, ready to be run on these vectors, in place.

        It takes the kernel's `numbers`, by position: they differ from step to step, whereas the
        arrays and the `constants` stay, so that a backend may prepare for them.
        """
        run = partial(getattr(self, kernel), *arrays, **constants)
        return Prepared(arrays, lambda *values: run(**dict(zip(numbers, values, strict=True))))

    def sum_squares(self, a: Array) -> Array:
        """Σ a², a scalar on the device, float32 at least."""
        a = a.reshape(-1)
        a = a if a.dtype.itemsize > 2 else a.astype("float32")
        return self.xp.dot(a, a)

    def settle(self, a: Array) -> None:
        """a ← (a + c) - c, in place, for c so small that only subnormal numbers become zero.

        What is rounded at all becomes a multiple of twice the least normal number, so that an
        average that decays slowly is not subnormal again before the next time.
        """
        info = self.xp.finfo(a.dtype)
        c = 3 * float(info.tiny) / float(info.eps)
        a += c
        a -= c

    def average_step(self, a: Array, p: Array, *, rest: float) -> None:
        """a ← a + (1-d)(p - a), `rest` being 1-d."""
        a += rest * (p - a)

    def sgd_step(
        self,
        p: Array,
        g: Array,
        v: Array | None,
        *,
        lr: float,
        momentum: float = 0.0,
        rest: float | None = None,
        nesterov: bool = False,
        maximize: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        """g ← ±g + λp; v ← μv + (1-τ)g; p ← p - lr (g + μv or v or g).

        `rest` is 1-τ, of the first step 1, and None where it always is.
        """
        g = _direction(p, g, maximize, weight_decay)
        if v is not None:
            v *= momentum
            v += g if rest is None else rest * g
            g = g + momentum * v if nesterov else v
        p -= lr * g

    def rmsprop_step(
        self,
        p: Array,
        g: Array,
        s: Array,
        v: Array | None,
        a: Array | None,
        *,
        lr: float,
        alpha: float,
        rest: float,
        eps: float,
        momentum: float = 0.0,
        maximize: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        """s ← αs + (1-α)g²; d = g / (√s + ε); v ← μv + d; p ← p - lr (v or d).

        Centred, a ← αa + (1-α)g and d = g / (√max(s - a², 0) + ε). `rest` is 1-α.
        """
        g = _direction(p, g, maximize, weight_decay)
        s *= alpha
        s += rest * g * g
        square = s
        if a is not None:
            a *= alpha
            a += rest * g
            square = self.xp.maximum(s - a * a, 0.0)
        d = g / (self.xp.sqrt(square) + eps)
        if v is not None:
            v *= momentum
            v += d
            d = v
        p -= lr * d

    def adagrad_step(
        self,
        p: Array,
        g: Array,
        s: Array,
        *,
        rate: float,
        eps: float,
        initial: float | None = None,
        maximize: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        """s ← s + g²; p ← p - r g / (√(s + s₀) + ε), s₀ being `initial`."""
        g = _direction(p, g, maximize, weight_decay)
        s += g * g
        square = s if initial is None else s + initial
        p -= rate * g / (self.xp.sqrt(square) + eps)

    def adam_step(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        h: Array | None = None,
        *,
        rate: float,
        scale: float,
        beta1: float,
        rest1: float,
        beta2: float,
        rest2: float,
        eps: float,
        maximize: bool = False,
        weight_decay: float | None = None,
        keep: float | None = None,
    ) -> None:
        """m ← β₁m + (1-β₁)g; v ← β₂v + (1-β₂)g²; p ← p - r m / (s√v + ε).

        r = lr / (1-β₁ᵗ) and s = (1-β₂ᵗ)^-½ undo the bias of m and v; `rest1` and `rest2` are 1-β₁
        and 1-β₂. With h, h ← max(h, v) stands for v in the last (AMSGrad). Weight decay λ adds λp
        to g (Adam), or first multiplies p by `keep`, 1 - lr λ (AdamW).
        """
        g = _averages(p, g, m, v, beta1, rest1, beta2, rest2, maximize, weight_decay, keep)
        if h is not None:
            h[...] = self.xp.maximum(h, v)
            v = h
        p -= rate * m / (self.xp.sqrt(v) * scale + eps)

    def nadam_step(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        *,
        rate: float,
        ahead: float,
        scale: float,
        beta1: float,
        rest1: float,
        beta2: float,
        rest2: float,
        eps: float,
        maximize: bool = False,
        weight_decay: float | None = None,
        keep: float | None = None,
    ) -> None:
        """`adam_step`, but p ← p - (r g + r' m) / (s√v + ε), r' being `ahead`."""
        g = _averages(p, g, m, v, beta1, rest1, beta2, rest2, maximize, weight_decay, keep)
        p -= (rate * g + ahead * m) / (self.xp.sqrt(v) * scale + eps)

    def lion_step(
        self,
        p: Array,
        g: Array,
        m: Array,
        *,
        lr: float,
        beta1: float,
        rest1: float,
        beta2: float,
        rest2: float,
        maximize: bool = False,
        keep: float | None = None,
    ) -> None:
        """p ← keep p - lr sign(β₁m + (1-β₁)g); m ← β₂m + (1-β₂)g; `keep` is 1 - lr λ."""
        g = _direction(p, g, maximize, None)
        if keep is not None:
            p *= keep
        p -= lr * self.xp.sign(beta1 * m + rest1 * g)
        m *= beta2
        m += rest2 * g


def _direction(p: Array, g: Array, maximize: bool, weight_decay: float | None) -> Array:
    """The gradient of what is made least: turned round to maximise, and with the decay's λp."""
    g = -g if maximize else g
    return g if weight_decay is None else g + weight_decay * p


def _averages(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    beta1: float,
    rest1: float,
    beta2: float,
    rest2: float,
    maximize: bool,
    weight_decay: float | None,
    keep: float | None,
) -> Array:
    """Decay, and both averages of Adam; returns the gradient that they took."""
    if keep is not None:
        p *= keep
    g = _direction(p, g, maximize, weight_decay)
    m *= beta1
    m += rest1 * g
    v *= beta2
    v += rest2 * (g * g)
    return g
