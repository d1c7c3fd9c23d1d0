"""What `Module.load_state_dict` does."""

from __future__ import annotations

from collections.abc import Mapping
from operator import setitem
from typing import Any
from warnings import warn

from ldl.backend import Array
from ldl.nn.parameter import Parameter
from ldl.prepared import play


def load_values(
    own: Mapping[str, Parameter], state: Mapping[str, Any], allow_nonfinite: bool
) -> None:
    """Copy values into a model's parameters by name, into all of them or none."""
    if not isinstance(state, Mapping):
        raise TypeError(
            "load_state_dict takes arrays by name, such as model.state_dict() gives, got a "
            f"{type(state).__name__}"
        )
    faults = [f"missing {name}" for name in own if name not in state]
    faults += [f"unexpected {name}" for name in state if name not in own]
    arrays: dict[str, Array] = {}
    narrowed: list[str] = []
    for name, parameter in own.items():
        if name not in state:
            continue
        given = parameter.backend.asarray(state[name])
        arrays[name] = parameter.backend.asarray(given, parameter.dtype).copy()
        if tuple(given.shape) != parameter.shape:
            faults.append(
                f"{name} has shape {tuple(given.shape)} where the model has {parameter.shape}"
            )
        elif not (allow_nonfinite or parameter.backend.xp.isfinite(arrays[name]).all()):
            faults.append(f"{name} has NaN or infinity (allow_nonfinite=True takes them)")
        elif given.dtype.kind == "f" and given.dtype.itemsize > parameter.dtype.itemsize:
            narrowed.append(f"{name} from {given.dtype} to {parameter.dtype}")
    if faults:
        raise ValueError("state does not fit the model: " + "; ".join(faults))
    if narrowed:
        warn(f"load_state_dict narrows {', '.join(narrowed)}", stacklevel=3)
    play([(setitem, parameter.data, ..., arrays[name]) for name, parameter in own.items()])
