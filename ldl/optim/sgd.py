"""SGD and RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ldl.backend import Array
from ldl.numbers import number
from ldl.optim.groups import Parameters, Rate
from ldl.optim.optimizer import Optimizer


class SGD(Optimizer):
    """g ← g + λp; v ← μv + (1-τ)g; p ← p - lr v, or p - lr (g + μv) with Nesterov's momentum.

    μ is `momentum`, λ is `weight_decay`, τ is `dampening`, which the first step does without and
    Nesterov's momentum always. Without momentum p ← p - lr g. `maximize` makes the loss as large as
    possible: -g for g, before all else. (Sutskever et al., ICML 2013, in the form that PyTorch
    has.)
    """

    kernel: ClassVar[str] = "sgd_step"
    optional_slots: ClassVar[tuple[str, ...]] = ("momentum",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        maximize: bool = False,
        *,
        schedule: Rate | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "dampening": dampening,
            "maximize": maximize,
        }
        super().__init__(params, defaults, schedule, clip_norm, clip_value)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """lr ≥ 0, 0 ≤ momentum < 1 (with nesterov > 0, and no dampening), weight_decay ≥ 0."""
        momentum = number("momentum", options["momentum"], high=1.0)
        dampening = number("dampening", options["dampening"], high=1.0)
        if options["nesterov"] and momentum == 0:
            raise ValueError("nesterov needs a momentum, such as momentum=0.9")
        if options["nesterov"] and dampening:
            raise ValueError("nesterov has no dampening: leave out one of the two")
        return {
            "lr": number("lr", options["lr"]),
            "momentum": momentum,
            "nesterov": bool(options["nesterov"]),
            "weight_decay": number("weight_decay", options["weight_decay"]),
            "dampening": dampening,
            "maximize": bool(options["maximize"]),
        }

    def numbers(
        self, slots: Mapping[str, Array], options: Mapping[str, Any], step: int
    ) -> dict[str, float]:
        """What `sgd_step` takes."""
        numbers = {"lr": options["lr"], **_decay_and_momentum(slots, options)}
        if options["dampening"]:
            numbers["rest"] = 1.0 if step == 1 else 1 - options["dampening"]
        return numbers

    def constants(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Whether the momentum is Nesterov's, and which way it goes."""
        return {"nesterov": options["nesterov"], "maximize": options["maximize"]}


class RMSprop(Optimizer):
    """s ← αs + (1 - α)g²; d = g / (√s + ε); v ← μv + d; p ← p - lr v (Tieleman, Hinton, 2012).

    Without momentum μ, p ← p - lr d. Weight decay λ adds λp to g. `centered` divides by the
    deviation instead of the root of the mean square: a ← αa + (1 - α)g; d = g / (√(s - a²) + ε),
    a difference below 0 being 0 (Graves, arXiv:1308.0850). `maximize` takes -g for g.
    """

    kernel: ClassVar[str] = "rmsprop_step"
    slots: ClassVar[tuple[str, ...]] = ("square_avg",)
    optional_slots: ClassVar[tuple[str, ...]] = ("momentum", "centered")

    def __init__(
        self,
        params: Parameters,
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
        *,
        schedule: Rate | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "centered": centered,
            "maximize": maximize,
        }
        super().__init__(params, defaults, schedule, clip_norm, clip_value)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """lr ≥ 0, 0 ≤ alpha, momentum < 1, eps > 0, weight_decay ≥ 0."""
        return {
            "lr": number("lr", options["lr"]),
            "alpha": number("alpha", options["alpha"], high=1.0),
            "eps": number("eps", options["eps"], open_low=True),
            "momentum": number("momentum", options["momentum"], high=1.0),
            "weight_decay": number("weight_decay", options["weight_decay"]),
            "centered": bool(options["centered"]),
            "maximize": bool(options["maximize"]),
        }

    def numbers(
        self, slots: Mapping[str, Array], options: Mapping[str, Any], step: int
    ) -> dict[str, float]:
        """What `rmsprop_step` takes."""
        return {
            "lr": options["lr"],
            "alpha": options["alpha"],
            "rest": 1 - options["alpha"],
            "eps": options["eps"],
            **_decay_and_momentum(slots, options),
        }

    def constants(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Which way it goes."""
        return {"maximize": options["maximize"]}


def _decay_and_momentum(slots: Mapping[str, Array], options: Mapping[str, Any]) -> dict[str, float]:
    """Those of the two that a kernel is to reckon with."""
    found = {"weight_decay": options["weight_decay"]} if options["weight_decay"] else {}
    return found | ({"momentum": options["momentum"]} if "momentum" in slots else {})
