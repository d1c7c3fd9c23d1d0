"""What `ldl.save` makes sure of before it writes: that `ldl.load` would give the model back.

The model is built again from its description, of zeros, drawing nothing, and compared. So no file
is written that cannot be loaded, none that lacks a weight, and none that forgets a number that was
changed since the construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import numpy as np

from ldl import random
from ldl.backend import use_backend
from ldl.io import architecture
from ldl.io.constants import same_value
from ldl.io.files import one_line
from ldl.nn import init
from ldl.nn.module import Module
from ldl.nn.parameter import Parameter
from ldl.numbers import plain, short

FIX = "keep modules and parameters in attributes, or in lists, tuples or dicts that are attributes"


def describe(model: Module) -> dict[str, Any]:
    """The model as JSON, from which it was built for a trial.

    Raises TypeError, or ValueError for a model beyond the limits of `ldl.io.architecture`, where it
    would not come back.
    """
    description = architecture.describe(model)
    _check_found(model)
    again = _build(model, description)
    changes = list(_changes(model, again))
    if not changes:
        _check_same(model, again)
        return description
    description = architecture.describe(model, {id(module): new for module, new in changes})
    cause = None
    try:
        again = copy_context().run(_build, model, description)
        _check_same(model, again)
        changes = list(_changes(model, again))
    except TypeError as error:
        cause = error
    for module, new in changes:
        name, value = next(iter(new.items()))
        raise TypeError(
            f"{module!r} has {name!r} = {short(value)} now, which building it with this argument "
            "does not give back: undo the change, or let the argument say what the attribute holds"
        ) from cause
    return description


def _build(model: Module, description: dict[str, Any]) -> Module:
    size = sum(parameter.size for parameter in model.parameters())
    try:
        with use_backend("numpy"), init.budget(2 * size), random.uncounted():
            return architecture.build(description)
    except Exception as error:
        raise TypeError(
            f"{type(model).__name__} could not be loaded again, since building it from its "
            f"arguments fails: {one_line(error)}"
        ) from error


def _check_found(model: Module) -> None:
    """TypeError for weights that `state_dict` does not give, or gives under one name."""
    names = [name for name, _ in model.named_parameters()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TypeError(f"two parameters are both named {twice[0]!r}: rename the keys of the dict")
    found = {id(parameter) for parameter in model.parameters()}
    for module in model.modules():
        for name, value in vars(module).items():
            if name in ("_arguments", "_kept"):
                continue
            for part in _parts(value, set()):
                inside = part.parameters() if isinstance(part, Module) else [part]
                if any(id(parameter) not in found for parameter in inside):
                    raise TypeError(
                        f"{type(module).__name__}: {part!r} in the attribute {name!r} stands where "
                        f"its weights are not found, so that they would be lost: {FIX}"
                    )


def _parts(value: Any, seen: set[int]) -> Iterator[Module | Parameter]:
    """The modules and parameters in a value, however deep in its lists, tuples, sets and dicts."""
    if isinstance(value, (Module, Parameter)):
        yield value
    elif isinstance(value, (list, tuple, set, frozenset, dict)) and id(value) not in seen:
        seen.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _parts(item, seen)


def _changes(model: Module, again: Module) -> Iterator[tuple[Module, dict[str, Any]]]:
    """The modules whose attributes, named as arguments, differ from those of the one built again.

    Only numbers, texts, and arrays that were arguments are compared.
    """
    built = dict(again.named_modules())
    for path, module in model.named_modules():
        other = vars(built[path]) if path in built else {}
        given = architecture.arguments(module)
        held = {name: plain(vars(module).get(name)) for name in given}
        new = {
            name: value
            for name, value in held.items()
            if isinstance(value, (bool, int, float, str))
            or (isinstance(value, np.ndarray) and isinstance(given[name], np.ndarray))
            if name in other and not same_value(value, plain(other[name]))
        }
        if new:
            yield module, new


def _check_same(model: Module, again: Module) -> None:
    """TypeError unless both have parameters of the same names and shapes."""
    own = {name: p.shape for name, p in model.named_parameters()}
    built = {name: p.shape for name, p in again.named_parameters()}
    faults = [f"{name} would be missing" for name in own if name not in built]
    faults += [f"{name} would be new" for name in built if name not in own]
    faults += [
        f"{name} would have the shape {built[name]}, not {shape}"
        for name, shape in own.items()
        if name in built and built[name] != shape
    ]
    if faults:
        raise TypeError(
            f"{type(model).__name__}, built again from its arguments, would be another model: "
            f"{'; '.join(faults[:5])}; let the constructor of a registered class make what it has"
        )
