"""Lion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ldl.backend import Array
from ldl.numbers import number
from ldl.optim.adam import two_betas
from ldl.optim.groups import Parameters, Rate
from ldl.optim.optimizer import Optimizer


class Lion(Optimizer):
    """p ← (1 - lr λ)p - lr sign(β₁m + (1-β₁)g); m ← β₂m + (1-β₂)g.

    Every number moves by lr alike, so that lr is a third to a tenth of Adam's, and λ as many times
    larger. One slot, half of Adam's memory. `maximize` takes -g for g. (Chen et al., Symbolic
    Discovery of Optimization Algorithms, NeurIPS 2023.)
    """

    kernel: ClassVar[str] = "lion_step"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        maximize: bool = False,
        *,
        schedule: Rate | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, schedule, clip_norm, clip_value)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """lr ≥ 0, two betas in [0, 1), weight_decay ≥ 0."""
        return {
            "lr": number("lr", options["lr"]),
            "betas": two_betas(options["betas"]),
            "weight_decay": number("weight_decay", options["weight_decay"]),
            "maximize": bool(options["maximize"]),
        }

    def numbers(
        self, slots: Mapping[str, Array], options: Mapping[str, Any], step: int
    ) -> dict[str, float]:
        """What `lion_step` takes."""
        beta1, beta2 = options["betas"]
        lr, decay = options["lr"], options["weight_decay"]
        numbers = {
            "lr": lr,
            "beta1": beta1,
            "rest1": 1 - beta1,
            "beta2": beta2,
            "rest2": 1 - beta2,
        }
        return {**numbers, "keep": 1 - lr * decay} if decay else numbers

    def constants(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Which way it goes."""
        return {"maximize": options["maximize"]}
