"""BCELoss and BCEWithLogitsLoss, of independent probabilities."""

from __future__ import annotations

from math import inf
from typing import Any, Self

from ldl.backend import Array, Backend
from ldl.nn.losses import ElementwiseLoss
from ldl.numbers import numbers, plain


class _BinaryLoss(ElementwiseLoss):
    """Targets are probabilities; every output, the last axis, may have a weight."""

    weighing: tuple[str, ...] = ("weight",)
    """The names of the attributes that hold weights: lists of one number, or of one an output."""

    def __init__(self, reduction: str = "mean", *, weight: Any = None) -> None:
        super().__init__(reduction)
        self.weight = _factors("weight", weight)
        self._held: dict[str, Array] = {}
        self.to(self.backend)

    def to(self, backend: str | Backend) -> Self:
        """Compute on another backend from now on."""
        super().to(backend)
        given = {name: getattr(self, name, None) for name in self.weighing}
        self._held = {
            name: self.backend.asarray(factors)
            for name, factors in given.items()
            if factors is not None
        }
        return self

    def _of_outputs(self, name: str, x: Array) -> Array:
        """The weights of that name, in the type of x."""
        return self._held[name].astype(x.dtype)

    def _weighed(self, losses: Array) -> Array:
        """Times `weight`; 0 where that is 0, whatever they are."""
        if self.weight is None:
            return losses
        return self._counted(losses, self._of_outputs("weight", losses))

    def _check_shape(self, input_shape: tuple[int, ...], target: Array) -> None:
        super()._check_shape(input_shape, target)
        outputs = input_shape[-1] if len(input_shape) > 1 else 1
        for name in self._held:
            count = len(getattr(self, name))
            if count not in (1, outputs):
                raise ValueError(
                    f"{self!r}: {name} holds {count} numbers for an input of shape {input_shape}: "
                    f"give one, or one an output, {outputs}; of samples it is sample_weight"
                )

    def fault(self, input_shape: tuple[int, ...], target: Array) -> Array | None:
        """Whether the target lies elsewhere than in [0, 1]."""
        return ~((target.min() >= 0) & (target.max() <= 1))

    def refusal(self, input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
        """Where targets lie."""
        return f"{self!r}: targets must lie in [0, 1]: scale them first"


class BCELoss(_BinaryLoss):
    """l = -w(t log x + (1 - t) log(1 - x)) for probabilities x; ∂l/∂x = w(x - t) / (x(1 - x)).

    `weight` gives w, a number, or one an output (the last axis); no mean divides by it.

    Logarithms are taken of the smallest normal number at least, and x(1 - x) is 1e-12 at least, so
    that certainty costs much but not infinity. What lies outside [0, 1] costs infinity: so `fit`
    and `evaluate` find it in whatever batch it is. BCEWithLogitsLoss takes logits and needs
    neither.
    """

    def value(self, x: Array, t: Array) -> Array:
        """-w(t log x + (1 - t) log(1 - x))."""
        log = self._log
        value = -(t * log(x) + (1 - t) * log(1 - x))
        return self._weighed(self.backend.xp.where(self._outside(x), inf, value))

    def derivative(self, x: Array, t: Array) -> Array:
        """w(x - t) / (x(1 - x)), and 0 outside [0, 1], where no step may go."""
        xp = self.backend.xp
        p = xp.where(self._outside(x), t, x)
        return self._weighed((p - t) / xp.maximum(p * (1 - p), max(1e-12, self._tiny(x))))

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
    """l = -w(p t log σ(x) + (1 - t) log(1 - σ(x))), BCELoss of σ(x) where p = 1.

    ∂l/∂x = w(σ(x)(1 - t + pt) - pt), for w = p = 1 σ(x) - t. `weight` gives w and `pos_weight` p,
    by which what is true counts more than what is not; each is a number, or one an output (the last
    axis), and no mean divides by it.
    """

    weighing = ("weight", "pos_weight")

    def __init__(
        self, reduction: str = "mean", *, weight: Any = None, pos_weight: Any = None
    ) -> None:
        self.pos_weight = _factors("pos_weight", pos_weight)
        super().__init__(reduction, weight=weight)

    def value(self, x: Array, t: Array) -> Array:
        """w(|x| |t - [x > 0]| + log(1 + exp(-|x|))) for p = 1, 0 for certainty that is right."""
        xp = self.backend.xp
        true = x > 0
        size, wrong = xp.abs(x), xp.abs(t - true)
        tail = xp.log1p(xp.exp(-size))
        if self.pos_weight is not None:
            p = self._of_outputs("pos_weight", x)
            wrong = wrong * xp.where(true, 1, p)
            tail = tail * (1 - t + p * t)
        return self._weighed(wrong * xp.where(wrong > 0, size, 0) + tail)

    def derivative(self, x: Array, t: Array) -> Array:
        """w(σ(x)(1 - t + pt) - pt)."""
        s = self.backend.sigmoid(x)
        if self.pos_weight is None:
            return self._weighed(s - t)
        pt = self._of_outputs("pos_weight", x) * t
        return self._weighed(s * (1 - t + pt) - pt)


def _factors(name: str, given: Any) -> list[float] | None:
    """One number or several as a list of them; ValueError where one is negative or not finite."""
    if given is None:
        return None
    alone = not hasattr(plain(given), "__len__")
    found = numbers(name, [given] if alone else given)
    if not found or not all(0 <= w < inf for w in found):
        raise ValueError(f"{name} must hold finite numbers that are not negative, got {given!r}")
    return found
