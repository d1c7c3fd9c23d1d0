"""NAdam and RAdam: Adam with other factors."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar

from ldl.backend import Array
from ldl.numbers import number
from ldl.optim.adam import Adam, decay_of, two_betas
from ldl.optim.groups import Parameters, Rate
from ldl.optim.optimizer import Optimizer

_NOTHING = 2.0**-60
"""What 1 minus a smaller number is, is 1."""

_SERIES = 16
"""Products of momenta that are remembered."""


class _Variant(Adam):
    """Adam's averages; weight decay may be decoupled."""

    optional_slots: ClassVar[tuple[str, ...]] = ()

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """lr ≥ 0, two betas in [0, 1), eps > 0, weight_decay ≥ 0."""
        return {
            "lr": number("lr", options["lr"]),
            "betas": two_betas(options["betas"]),
            "eps": number("eps", options["eps"], open_low=True),
            "weight_decay": number("weight_decay", options["weight_decay"]),
            "decoupled_weight_decay": bool(options["decoupled_weight_decay"]),
            "maximize": bool(options["maximize"]),
        }

    def numbers(
        self, slots: Mapping[str, Array], options: Mapping[str, Any], step: int
    ) -> dict[str, float]:
        """What `adam_step` takes, but for weight decay that may be decoupled."""
        decoupled = options["decoupled_weight_decay"]
        numbers = super().numbers(slots, {**options, "weight_decay": 0.0}, step)
        return numbers | decay_of(options["lr"], options["weight_decay"], decoupled)


class NAdam(_Variant):
    """Adam with Nesterov's momentum: p ← p - lr ((1-μₜ)g / (1-Πₜ) + μₜ₊₁m / (1-Πₜ₊₁)) / (√v̂ + ε).

    m, v and v̂ are Adam's; μₜ = β₁(1 - 0.96^(tψ) / 2), ψ being `momentum_decay`, and Πₜ = μ₁ … μₜ.
    Weight decay λ adds λp to g, or with `decoupled_weight_decay` p ← (1 - lr λ)p comes first.
    `maximize` takes -g for g. (Dozat, ICLR workshop 2016.)
    """

    kernel: ClassVar[str] = "nadam_step"

    def __init__(
        self,
        params: Parameters,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        *,
        schedule: Rate | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        self._products: dict[tuple[float, float], list[float]] = {}
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        Optimizer.__init__(self, params, defaults, schedule, clip_norm, clip_value)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """lr ≥ 0, two betas in [0, 1), eps > 0, weight_decay and momentum_decay ≥ 0."""
        decay = number("momentum_decay", options["momentum_decay"])
        return {**super().check(options), "momentum_decay": decay}

    def numbers(
        self, slots: Mapping[str, Array], options: Mapping[str, Any], step: int
    ) -> dict[str, float]:
        """What `nadam_step` takes."""
        lr, beta, decay = options["lr"], options["betas"][0], options["momentum_decay"]
        now, after = (_momentum(beta, decay, t) for t in (step, step + 1))
        product = self._product(beta, decay, step)
        return {
            **super().numbers(slots, options, step),
            "rate": lr * (1 - now) / (1 - product),
            "ahead": lr * after / (1 - product * after),
        }

    def _product(self, beta: float, decay: float, step: int) -> float:
        """Πₜ; 0 from where 1 - Πₜ is 1."""
        if len(self._products) > _SERIES:
            self._products.clear()
        found = self._products.setdefault((beta, decay), [1.0])
        while len(found) <= step and found[-1] > _NOTHING:
            found.append(found[-1] * _momentum(beta, decay, len(found)))
        return found[step] if step < len(found) else 0.0


class RAdam(_Variant):
    """Adam whose steps are rectified: p ← p - lr r m̂ / (√v̂ + ε'), or p - lr m̂ at first.

    m, m̂, v and v̂ are Adam's. With ρ∞ = 2 / (1-β₂) - 1 and ρ = ρ∞ - 2tβ₂ᵗ / (1-β₂ᵗ), steps are
    rectified from where ρ > 5, by r = √((ρ-4)(ρ-2)ρ∞ / ((ρ∞-4)(ρ∞-2)ρ)); ε' = ε / √(1-β₂ᵗ), as in
    PyTorch. Weight decay λ adds λp to g, or with `decoupled_weight_decay` p ← (1 - lr λ)p comes
    first. `maximize` takes -g for g. (Liu et al., ICLR 2020.)
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        *,
        schedule: Rate | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        Optimizer.__init__(self, params, defaults, schedule, clip_norm, clip_value)

    def numbers(
        self, slots: Mapping[str, Array], options: Mapping[str, Any], step: int
    ) -> dict[str, float]:
        """What `adam_step` takes: a denominator of 1 where the step is not rectified."""
        numbers = super().numbers(slots, options, step)
        beta = options["betas"][1]
        power = beta**step
        most = 2 / (1 - beta) - 1
        now = most - 2 * step * power / (1 - power)
        if now <= 5:
            return {**numbers, "scale": 0.0, "eps": 1.0}
        rectified = sqrt((now - 4) * (now - 2) * most / ((most - 4) * (most - 2) * now))
        return {**numbers, "rate": numbers["rate"] * rectified * sqrt(1 - power), "scale": 1.0}


def _momentum(beta: float, decay: float, step: int) -> float:
    power: float = 0.96 ** (step * decay)
    return beta * (1 - power / 2)
