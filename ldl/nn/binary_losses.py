"""BCELoss and BCEWithLogitsLoss, of independent probabilities."""

from __future__ import annotations

from math import inf

from ldl.backend import Array
from ldl.nn.losses import ElementwiseLoss


class _BinaryLoss(ElementwiseLoss):
    """Targets are probabilities."""

    def check(self, input_shape: tuple[int, ...], target: Array) -> None:
        """ValueError unless the shapes are equal and the target lies in [0, 1]."""
        super().check(input_shape, target)
        if self.fault(input_shape, target):
            raise ValueError(self.refusal(input_shape, input_shape))

    def fault(self, input_shape: tuple[int, ...], target: Array) -> Array | None:
        """Whether the target lies elsewhere than in [0, 1]."""
        return ~((target.min() >= 0) & (target.max() <= 1))

    def refusal(self, input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
        """Where targets lie."""
        return f"{self!r}: targets must lie in [0, 1]: scale them first"


class BCELoss(_BinaryLoss):
    """l = -t log x - (1 - t) log(1 - x) for probabilities x; ∂l/∂x = (x - t) / (x(1 - x)).

    Logarithms are taken of the smallest normal number at least, and x(1 - x) is 1e-12 at least, so
    that certainty costs much but not infinity. What lies outside [0, 1] costs infinity: so `fit`
    and `evaluate` find it in whatever batch it is. BCEWithLogitsLoss takes logits and needs
    neither.
    """

    def value(self, x: Array, t: Array) -> Array:
        """-t log x - (1 - t) log(1 - x)."""
        log = self._log
        value = -(t * log(x) + (1 - t) * log(1 - x))
        return self.backend.xp.where(self._outside(x), inf, value)

    def derivative(self, x: Array, t: Array) -> Array:
        """(x - t) / (x(1 - x)), and 0 outside [0, 1], where no step may go."""
        xp = self.backend.xp
        p = xp.where(self._outside(x), t, x)
        return (p - t) / xp.maximum(p * (1 - p), max(1e-12, self._tiny(x)))

    def check_input(self, input: Array) -> None:
        """ValueError where the input lies outside [0, 1]."""
        self._check_array(input)
        if ((input < 0) | (input > 1)).any():
            self.check_value(inf)

    def check_value(self, value: float) -> None:
        """ValueError for infinity."""
        if value == inf:
            raise ValueError(
                f"{self!r} takes probabilities in [0, 1]: end the model with a Sigmoid, or use "
                "BCEWithLogitsLoss"
            )

    def _outside(self, x: Array) -> Array:
        return self.backend.xp.abs(x - 0.5) > 0.5

    def _log(self, p: Array) -> Array:
        xp = self.backend.xp
        return xp.log(xp.maximum(p, self._tiny(p)))

    def _tiny(self, p: Array) -> float:
        return float(self.backend.xp.finfo(p.dtype).tiny)


class BCEWithLogitsLoss(_BinaryLoss):
    """l = |x| |t - [x > 0]| + log(1 + exp(-|x|)), BCELoss of σ(x); ∂l/∂x = σ(x) - t."""

    def value(self, x: Array, t: Array) -> Array:
        """|x| |t - [x > 0]| + log(1 + exp(-|x|)), which is 0 for certainty that is right."""
        xp = self.backend.xp
        size, wrong = xp.abs(x), xp.abs(t - (x > 0))
        return wrong * xp.where(wrong > 0, size, 0) + xp.log1p(xp.exp(-size))

    def derivative(self, x: Array, t: Array) -> Array:
        """σ(x) - t."""
        return self.backend.sigmoid(x) - t
