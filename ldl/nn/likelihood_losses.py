"""KLDivLoss and PoissonNLLLoss, of distributions and of counts."""

from __future__ import annotations

from math import inf, log, pi

from ldl.backend import Array
from ldl.nn.losses import ElementwiseLoss
from ldl.numbers import number


class _NotNegative(ElementwiseLoss):
    """Targets are not negative."""

    def fault(self, input_shape: tuple[int, ...], target: Array) -> Array | None:
        """Whether one is negative or NaN."""
        return ~(target.min() >= 0)

    def refusal(self, input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
        """What targets are."""
        return f"{self!r}: targets must not be negative"


class KLDivLoss(_NotNegative):
    """l = t(log t - x) for logarithms x of probabilities and probabilities t; ∂l/∂x = -t.

    The default reduction, "batchmean", is the mean over the batch of the Kullback-Leibler
    divergences Σ_c t_c log(t_c / exp x_c); "mean" divides by the number of classes too. With
    `log_target` the target is log t, and l = exp(t)(t - x), ∂l/∂x = -exp t. What t says never
    happens costs nothing, whatever x; what x alone says never happens costs infinity.
    """

    def __init__(self, reduction: str = "batchmean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = bool(log_target)

    def value(self, x: Array, t: Array) -> Array:
        """t(log t - x), 0 where t is 0."""
        xp = self.backend.xp
        p = self._probabilities(t)
        there = p != 0
        logarithm = t if self.log_target else xp.log(xp.where(there, t, 1))
        return p * xp.where(there, logarithm - x, 0)

    def derivative(self, x: Array, t: Array) -> Array:
        """-t."""
        return -self._probabilities(t)

    def fault(self, input_shape: tuple[int, ...], target: Array) -> Array | None:
        """Whether a probability is negative or NaN."""
        return None if self.log_target else super().fault(input_shape, target)

    def refusal(self, input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
        """What targets are."""
        found = super().refusal(input_shape, target_shape)
        return f"{found}: give probabilities, or log_target=True for their logarithms"

    def _probabilities(self, t: Array) -> Array:
        return self.backend.xp.exp(t) if self.log_target else t


class PoissonNLLLoss(_NotNegative):
    """l = exp(x) - tx for counts t and the logarithm x of their rate; ∂l/∂x = exp(x) - t.

    Without `log_input` x is the rate itself, l = x - t log(x + ε), ∂l/∂x = 1 - t/(x + ε), and a
    negative x costs infinity. Left out is log t!, which changes no gradient; `full` adds Stirling's
    t log t - t + log(2πt)/2 for it where t > 1.
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.log_input, self.full = bool(log_input), bool(full)
        self.eps = number("eps", eps, open_low=True)

    def value(self, x: Array, t: Array) -> Array:
        """exp(x) - tx, or x - t log(x + ε)."""
        xp = self.backend.xp
        if self.log_input:
            far = log(float(xp.finfo(x.dtype).max)) + 1  # where exp(x) is infinite
            value = xp.exp(x) - t * xp.where(t > 0, xp.minimum(x, far), 0)
        else:
            value = x - t * xp.where(t > 0, self._log(x), 0)
            value = xp.where(x < 0, inf, value)
        return value + self._stirling(t) if self.full else value

    def derivative(self, x: Array, t: Array) -> Array:
        """exp(x) - t, or 1 - t/(x + ε), and 0 for a negative rate, where no step may go."""
        xp = self.backend.xp
        if self.log_input:
            return xp.exp(x) - t
        return xp.where(x < 0, 0, 1 - t / (xp.maximum(x, 0) + self._eps(x)))

    def check_input(self, input: Array) -> None:
        """ValueError where a rate is negative."""
        self._check_array(input)
        if not self.log_input and (input < 0).any():
            self.check_value(inf)

    def check_value(self, value: float) -> None:
        """ValueError for infinity where the input is a rate."""
        if value == inf and not self.log_input:
            raise ValueError(
                f"{self!r} takes rates, which are not negative: end the model with a Softplus, or "
                "let it give their logarithms, log_input=True"
            )

    def _log(self, x: Array) -> Array:
        xp = self.backend.xp
        return xp.log(xp.maximum(x, 0) + self._eps(x))

    def _eps(self, x: Array) -> float:
        """ε, or the type's least normal number where that is more."""
        return max(self.eps, float(self.backend.xp.finfo(x.dtype).tiny))

    def _stirling(self, t: Array) -> Array:
        xp = self.backend.xp
        n = xp.maximum(t, 1)
        return xp.where(t > 1, n * xp.log(n) - n + 0.5 * xp.log(2 * pi * n), 0)
