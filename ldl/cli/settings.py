"""The settings of a run of `ldl denoise`: their defaults, and a run's record of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import ldl
from ldl.cli import values
from ldl.data.datasets import FILES, NAMES

EPOCHS = {"mnist-5k": 40, "mnist": 10, "digits": 200}
"""Epochs by default; other data get `EPOCHS_ELSEWHERE`."""

EPOCHS_ELSEWHERE = 50


@dataclass(frozen=True)
class Settings:
    """What makes a run: two runs of equal settings give equal models."""

    data: str
    backend: str
    hidden: list[int]
    noise: str
    loss: str
    epochs: int
    batch_size: int
    lr: float
    seed: int

    @classmethod
    def complete(cls, given: dict[str, Any]) -> Settings:
        """The given ones, and defaults for the others."""
        data = given.get("data", "mnist-5k")
        defaults = {
            "data": data,
            "backend": available_backend(),
            "hidden": [256, 64],
            "noise": "gaussian:0.5",
            "loss": "bce",
            "epochs": EPOCHS.get(data, EPOCHS_ELSEWHERE),
            "batch_size": 32,
            "lr": 2e-3,
            "seed": 0,
        }
        return cls(**{**defaults, **given})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings that `to_json` wrote; ValueError for anything else."""
        try:
            content = json.loads(text)
        except RecursionError as error:
            raise ValueError("it is nested too deep") from error
        names = {field.name for field in fields(cls)}
        if not isinstance(content, dict) or content.keys() != names:
            raise ValueError(f"it must hold {', '.join(sorted(names))}")
        for name, value in content.items():
            if CHECKS[name](_text(value)) != value:
                raise ValueError(f"{name} cannot be {values.cut(repr(value))}")
        return cls(**content)

    def differences(self, given: dict[str, Any]) -> list[str]:
        """Where options differ from these settings, in words such as "--epochs 10 (not 20)"."""
        own = asdict(self)
        return [
            f"--{name.replace('_', '-')} {_text(own[name])} (not {_text(value)})"
            for name, value in given.items()
            if own[name] != value
        ]

    def to_json(self) -> bytes:
        """The settings as a JSON object."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


def available_backend() -> str:
    """What --backend auto means here: cupy where it runs, else numpy."""
    try:
        return ldl.get_backend("cupy").name
    except ldl.BackendUnavailableError:
        return "numpy"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _stored_data(text: str) -> str:
    """The same text where it is a data set's name, or a path whose place is known already."""
    if text not in NAMES and not text.lower().endswith(FILES):
        raise ValueError(f"no data set is named {values.cut(text)!r}")
    return text


def _stored_backend(text: str) -> str:
    """The name of a backend, which "auto" has become before a run begins."""
    return "" if text == "auto" else values.backend(text)


CHECKS: dict[str, Callable[[str], Any]] = {
    "data": _stored_data,
    "backend": _stored_backend,
    "hidden": values.hidden,
    "noise": values.noise,
    "loss": lambda text: text if text in values.LOSSES else "",
    "epochs": values.at_least_one,
    "batch_size": values.at_least_one,
    "lr": values.lr,
    "seed": values.seed,
}
"""What each of the settings must be: a function that gives its text back as the value."""
