"""Running statistics: means and variances of channels that follow the batches of training."""

from __future__ import annotations

from typing import Any

from ldl.backend import Array
from ldl.nn import init
from ldl.nn.linear import check_type
from ldl.nn.normalization import Normalization
from ldl.nn.parameter import Buffer
from ldl.numbers import number, positive_integer


class Running(Normalization):
    """Normalisation of channels that may keep what they were like, for eval mode.

    In training r ← (1 - momentum) r + momentum s, for a batch's statistics s, the variance's with
    Bessel's correction. With `momentum` None r is the mean of all s so far: momentum is then
    1 / num_batches_tracked, a buffer that counts batches.
    """

    num_features: int
    momentum: float | None
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def _set_running(
        self, num_features: Any, eps: Any, momentum: Any, affine: bool, tracks: bool
    ) -> None:
        self.num_features = positive_integer("num_features", num_features)
        self.momentum = momentum
        if momentum is not None:
            self.momentum = number("momentum", momentum, high=1.0, closed_high=True)
        shape = (self.num_features,)
        self._set_affine(shape, affine, True, eps)
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if tracks:
            self.running_mean, self.running_var = (
                Buffer(init.zeros(shape)),
                Buffer(init.ones(shape)),
            )
            if momentum is None:
                self.num_batches_tracked = Buffer(init.zeros((1,)))

    def _check(self, x: Array) -> None:
        super()._check(x)
        if self.running_mean is not None:
            check_type(self, x, self.running_mean)

    def _by_running(self, x: Array) -> tuple[Array, Array] | None:
        """X̂ and 1 / √(σ² + ε) by the running statistics; None where the batch's own are used."""
        mean, var = self.running_mean, self.running_var
        if self.training or mean is None or var is None:
            return None
        scale = self._scale(var.data)
        return (x - mean.data) * scale, scale

    def _follow(self, centre: Array, variance: Array, count: int) -> None:
        """Let the running statistics follow those (C,) of a batch, each of `count` numbers."""
        mean, var = self.running_mean, self.running_var
        if not self.training or mean is None or var is None:
            return
        m: Any = self.momentum
        if self.num_batches_tracked is not None:
            batches = self.num_batches_tracked.data
            batches[...] = batches + 1
            m = 1 / batches
        mean.data[...] = (1 - m) * mean.data + m * centre
        var.data[...] = (1 - m) * var.data + m * count / (count - 1) * variance
