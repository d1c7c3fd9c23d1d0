"""Activations by name."""

from __future__ import annotations

from ldl.nn.activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    Identity,
    Mish,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from ldl.nn.along_axis import LogSoftmax, Softmax, Softmin
from ldl.nn.module import Module
from ldl.nn.piecewise import Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, PReLU, ReLU

LIKE_RELU = (ReLU, LeakyReLU, PReLU, ELU, GELU, SiLU, Mish, Hardswish)
"""Those before which weights start as He's."""

_SMOOTH = (Identity, ELU, SELU, Tanh, Sigmoid, SiLU, Mish, Softplus, GELU)
_PIECEWISE = (ReLU, LeakyReLU, PReLU, Hardtanh, Hardsigmoid, Hardswish)
_NAMED: dict[str, type[Module]] = {
    kind.__name__: kind for kind in (*_PIECEWISE, *_SMOOTH, Softmax, Softmin, LogSoftmax)
}
"""Those that give as many numbers as they take: not GLU."""


def named_activation(given: str | type[Module]) -> type[Module]:
    """The class itself, or the activation of that name in any case."""
    if isinstance(given, type) and issubclass(given, Module) and given is not Activation:
        return given
    names = ", ".join(_NAMED)
    if not isinstance(given, str):
        raise TypeError(f"an activation is a Module class or a name ({names}), got {given!r}")
    found = {name.lower(): kind for name, kind in _NAMED.items()}.get(given.lower())
    if found is None:
        raise ValueError(f"no activation is named {given!r}; there are: {names}")
    return found
