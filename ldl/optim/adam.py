"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ldl.backend import Array
from ldl.numbers import number, numbers
from ldl.optim.groups import Parameters, Rate
from ldl.optim.optimizer import Optimizer


class Adam(Optimizer):
    """m ← β₁m + (1-β₁)g; v ← β₂v + (1-β₂)g²; p ← p - lr m̂ / (√v̂ + ε).

    m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ), t counting the parameter's own steps from 1. Weight decay
    λ adds λp to g. With `amsgrad`, h ← max(h, v) stands for v in v̂ (Reddi et al., ICLR 2018).
    `maximize` takes -g for g. (Kingma, Ba, ICLR 2015.)
    """

    kernel: ClassVar[str] = "adam_step"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    optional_slots: ClassVar[tuple[str, ...]] = ("amsgrad",)
    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
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
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults, schedule, clip_norm, clip_value)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """lr ≥ 0, two betas in [0, 1), eps > 0, weight_decay ≥ 0."""
        return {
            "lr": number("lr", options["lr"]),
            "betas": two_betas(options["betas"]),
            "eps": number("eps", options["eps"], open_low=True),
            "weight_decay": number("weight_decay", options["weight_decay"]),
            "amsgrad": bool(options["amsgrad"]),
            "maximize": bool(options["maximize"]),
        }

    def numbers(
        self, slots: Mapping[str, Array], options: Mapping[str, Any], step: int
    ) -> dict[str, float]:
        """What `adam_step` takes."""
        beta1, beta2 = options["betas"]
        lr, decay = options["lr"], options["weight_decay"]
        numbers = {
            "rate": lr / (1 - beta1**step),
            "scale": (1 - beta2**step) ** -0.5,
            "beta1": beta1,
            "rest1": 1 - beta1,
            "beta2": beta2,
            "rest2": 1 - beta2,
            "eps": options["eps"],
        }
        return numbers | decay_of(lr, decay, self.decoupled)

    def constants(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Which way it goes."""
        return {"maximize": options["maximize"]}


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← (1 - lr λ)p first (Loshchilov, Hutter, ICLR 2019)."""

    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        maximize: bool = False,
        *,
        schedule: Rate | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize,
            schedule=schedule,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )


def two_betas(given: Any) -> list[float]:
    """The rates of decay of two averages; ValueError for others."""
    betas = numbers("betas", given)
    if len(betas) != 2:
        raise ValueError(f"betas must be two numbers, such as (0.9, 0.999), got {betas}")
    return [number("a beta", beta, high=1.0) for beta in betas]


def decay_of(lr: float, decay: float, decoupled: bool) -> dict[str, float]:
    """What a kernel is told of weight decay."""
    if decoupled:
        return {"keep": 1 - lr * decay}
    return {"weight_decay": decay} if decay else {}
