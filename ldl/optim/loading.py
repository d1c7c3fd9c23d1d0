"""Taking over what an optimizer's `state_dict` gave, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from operator import index, setitem
from typing import TYPE_CHECKING, Any

from ldl.backend import Array
from ldl.optim.owners import parts
from ldl.prepared import play

if TYPE_CHECKING:
    from ldl.optim.optimizer import Optimizer

KEYS = ("slots", "param_steps", "step_count", "param_groups", "schedule")


def load_state(optimizer: Optimizer, state: Any) -> None:
    """Take over a state; ValueError that lists what is wrong with it, and nothing has changed."""
    for store in optimizer.stores():
        store.refresh()
    faults = [
        f"missing {key}" for key in KEYS if not isinstance(state, Mapping) or key not in state
    ]
    if faults:
        raise ValueError("state does not fit the optimizer: " + "; ".join(faults))
    views = optimizer.views()
    slots = _slots(optimizer, views, state["slots"], faults)
    steps = _counts("param_steps", state["param_steps"], len(optimizer._numbered()), faults)
    count = _counts("step_count", [state["step_count"]], 1, faults)
    options = _options(optimizer, state["param_groups"], faults)
    if not isinstance(state["schedule"], Mapping):
        faults.append(f"the schedule's state is {_shown(state['schedule'])}")
    if faults:
        raise ValueError("state does not fit the optimizer: " + "; ".join(faults))
    with as_before_on_error(parts(optimizer.schedule)):
        try:
            optimizer.schedule.load_state_dict(dict(state["schedule"]))
        except Exception as error:
            raise ValueError(
                f"state does not fit the optimizer: its schedule, {optimizer.schedule!r}, does "
                f"not take its state: {type(error).__name__}: {error}"
            ) from error
        left = iter(steps)
        pairs = zip(optimizer.param_groups, options, strict=True)
        play(
            [
                *[(group.update, new) for group, new in pairs],
                *[(setitem, view, ..., slots[name]) for name, view in views.items()],
                *[
                    (setattr, store, "steps", list(islice(left, len(store.steps))))
                    for store in optimizer.stores()
                ],
                (setattr, optimizer, "step_count", count[0]),
            ]
        )


@contextmanager
def as_before_on_error(things: Iterable[Any]) -> Iterator[None]:
    """Give objects their attributes back, lists and dicts among them too, if the block fails."""
    before = [
        (thing, {n: v.copy() if isinstance(v, (list, dict, set)) else v for n, v in held.items()})
        for thing, held in ((thing, vars(thing)) for thing in things)
    ]
    try:
        yield
    except BaseException:
        for thing, held in before:
            vars(thing).clear()
            vars(thing).update(held)
        raise


def _slots(
    optimizer: Optimizer, views: dict[str, Array], given: Any, faults: list[str]
) -> dict[str, Array]:
    """The arrays for the slots, where the parameters are."""
    if not isinstance(given, Mapping):
        faults.append(f"slots are {_shown(given)}")
        return {}
    faults += [f"missing {name}" for name in views if name not in given]
    faults += [f"unexpected {name}" for name in given if name not in views]
    arrays: dict[str, Array] = {}
    for i, store, _ in optimizer._numbered():
        for name in (f"{i}.{slot}" for slot in store.slots):
            if name not in given:
                continue
            shape, own = tuple(getattr(given[name], "shape", ())), tuple(views[name].shape)
            if shape != own:
                faults.append(f"{name} has shape {shape}, not {own}")
            else:
                arrays[name] = store.backend.asarray(given[name], views[name].dtype)
    return arrays


def _counts(name: str, given: Any, length: int, faults: list[str]) -> list[int]:
    if not isinstance(given, (list, tuple)) or len(given) != length:
        faults.append(f"{name} is {_shown(given)}, not a list of {length}")
        return []
    bad = [n for n in given if not is_count(n)]
    if bad:
        faults.append(f"{name} holds {_shown(bad[0])}, which is no number of steps")
        return []
    return [index(n) for n in given]


def is_count(value: Any) -> bool:
    """Whether it is an integer from 0 that 63 bits hold."""
    return not isinstance(value, bool) and hasattr(value, "__index__") and 0 <= value < 2**63


def _options(optimizer: Optimizer, given: Any, faults: list[str]) -> list[dict[str, Any]]:
    groups = optimizer.param_groups
    if not isinstance(given, (list, tuple)) or not all(isinstance(g, Mapping) for g in given):
        faults.append(f"param_groups are {_shown(given)}")
        return []
    if len(given) != len(groups):
        faults.append(f"{len(given)} groups, not {len(groups)}")
        return []
    new = []
    for group, saved in zip(groups, given, strict=True):
        own = {key: value for key, value in group.items() if key != "params"}
        faults += [f"a group has no {key}" for key in own if key not in saved]
        faults += [
            f"{key} is {_shown(saved[key])}"
            for key in own
            if key in saved and isinstance(own[key], bool) != isinstance(saved[key], bool)
        ]
        try:
            new.append(
                optimizer.check({**own, **{k: v for k, v in saved.items() if k != "params"}})
            )
        except Exception as error:
            faults.append(str(error))
    return new


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 and "\n" not in text else f"a {type(value).__name__}"
