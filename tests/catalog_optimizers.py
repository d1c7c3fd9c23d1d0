"""Every optimizer, with the options that make another update of it."""

from __future__ import annotations

from typing import Any

from ldl import optim

OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda m: optim.SGD(m, 0.1),
    "Nesterov": lambda m: optim.SGD(m, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "dampened": lambda m: optim.SGD(m, 0.1, momentum=0.9, dampening=0.5),
    "RMSprop": lambda m: optim.RMSprop(m, 0.01, momentum=0.9, weight_decay=0.01),
    "centered": lambda m: optim.RMSprop(m, 0.01, momentum=0.5, centered=True, eps=1e-3),
    "Adagrad": lambda m: optim.Adagrad(m, 0.05, lr_decay=0.01, weight_decay=0.01),
    "Adagrad, begun": lambda m: optim.Adagrad(m, 0.05, initial_accumulator_value=0.1),
    "Adam": lambda m: optim.Adam(m, 0.01, weight_decay=0.01),
    "AMSGrad": lambda m: optim.Adam(m, 0.01, amsgrad=True),
    "AdamW": lambda m: optim.AdamW(m, 0.01, weight_decay=0.1),
    "NAdam": lambda m: optim.NAdam(m, 0.01, weight_decay=0.01),
    "RAdam": lambda m: optim.RAdam(m, 0.01, betas=(0.9, 0.9), weight_decay=0.1),
    "Lion": lambda m: optim.Lion(m, 0.003, weight_decay=0.1),
    "clipped, scheduled": lambda m: optim.AdamW(
        m, 0.01, clip_norm=0.05, clip_value=0.02, schedule=optim.CosineLR(20)
    ),
}
"""RAdam's second beta is one with which it is rectified from its seventh step on."""


def ascending(name: str) -> Any:
    """The same, made to climb."""

    def make(model: Any) -> Any:
        optimizer = OPTIMIZERS[name](model)
        optimizer.param_groups[0]["maximize"] = True
        return optimizer

    return make
