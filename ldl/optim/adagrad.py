"""Adagrad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ldl.backend import Array
from ldl.numbers import number
from ldl.optim.groups import Parameters, Rate
from ldl.optim.optimizer import Optimizer


class Adagrad(Optimizer):
    """s ← s + g²; p ← p - η g / (√(s + s₀) + ε), η = lr / (1 + (t-1) δ).

    δ is `lr_decay`, s₀ `initial_accumulator_value`, t counts the parameter's own steps from 1.
    Weight decay λ adds λp to g. `maximize` takes -g for g. (Duchi, Hazan, Singer, JMLR 12, 2011.)
    """

    kernel: ClassVar[str] = "adagrad_step"
    slots: ClassVar[tuple[str, ...]] = ("sum",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
        *,
        schedule: Rate | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "maximize": maximize,
        }
        super().__init__(params, defaults, schedule, clip_norm, clip_value)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """All ≥ 0, eps > 0."""
        names = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value")
        return {
            **{name: number(name, options[name]) for name in names},
            "eps": number("eps", options["eps"], open_low=True),
            "maximize": bool(options["maximize"]),
        }

    def numbers(
        self, slots: Mapping[str, Array], options: Mapping[str, Any], step: int
    ) -> dict[str, float]:
        """What `adagrad_step` takes."""
        numbers = {
            "rate": options["lr"] / (1 + (step - 1) * options["lr_decay"]),
            "eps": options["eps"],
        }
        if options["initial_accumulator_value"]:
            numbers["initial"] = options["initial_accumulator_value"]
        if options["weight_decay"]:
            numbers["weight_decay"] = options["weight_decay"]
        return numbers

    def constants(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Which way it goes."""
        return {"maximize": options["maximize"]}
