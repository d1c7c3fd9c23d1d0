"""Taking over what an optimizer's `state_dict` gave, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from itertools import count, islice
from operator import index, setitem
from typing import Any, NamedTuple

from ldl.backend import Array
from ldl.optim.flat import FlatStore
from ldl.optim.groups import Groups
from ldl.optim.owners import parts
from ldl.prepared import play

KEYS = ("slots", "param_steps", "step_count", "param_groups", "schedule")


def load_state(optimizer: Groups, state: Any) -> None:
    """Take over a state; ValueError that lists what is wrong with it, and nothing has changed."""
    for store in optimizer.stores:
        store.refresh()
    faults = [
        f"missing {key}" for key in KEYS if not isinstance(state, Mapping) or key not in state
    ]
    if faults:
        raise ValueError("state does not fit the optimizer: " + "; ".join(faults))
    steps = _counts("param_steps", state["param_steps"], len(optimizer.numbered()), faults)
    step_count = _counts("step_count", [state["step_count"]], 1, faults)
    options = _options(optimizer, state["param_groups"], faults)
    given = state["slots"]
    if not isinstance(given, Mapping):
        faults.append(f"slots are {_shown(given)}")
        given = {}
    places = _places(optimizer, optimizer.param_groups if faults else options, given)
    slots = _slots(places, given, faults)
    if not isinstance(state["schedule"], Mapping):
        faults.append(f"the schedule's state is {_shown(state['schedule'])}")
    if faults:
        raise ValueError("state does not fit the optimizer: " + "; ".join(faults))
    with as_before_on_error(parts(optimizer.schedule)):
        try:
            optimizer.schedule.load_state_dict(deepcopy(dict(state["schedule"])))
        except Exception as error:
            raise ValueError(
                f"state does not fit the optimizer: its schedule, {optimizer.schedule!r}, does "
                f"not take its state: {type(error).__name__}: {error}"
            ) from error
        for place in places.values():
            optimizer.have(place.store, [place.slot])
        left = iter(steps)
        pairs = zip(optimizer.param_groups, options, strict=True)
        play(
            [
                *[(group.update, new) for group, new in pairs],
                *[(setitem, place.view, ..., slots[name]) for name, place in places.items()],
                *[
                    (setattr, store, "steps", list(islice(left, len(store.steps))))
                    for store in optimizer.stores
                ],
                (setattr, optimizer, "step_count", step_count[0]),
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


class _Place(NamedTuple):
    """Where a slot of a parameter is, or is to be."""

    store: FlatStore
    number: int
    slot: str
    needed: bool
    """Whether the options ask for it; one that they no longer ask for may be missing, and is 0."""

    @property
    def view(self) -> Array:
        return self.store.slot_view(self.slot, self.number)


def _places(
    optimizer: Groups, options: list[dict[str, Any]], given: Mapping[str, Any]
) -> dict[str, _Place]:
    """All slots that there are, that options ask for, or that are given and may be, by name."""
    numbers, found = count(), {}
    for (_, stores), group in zip(optimizer.grouped(), options, strict=True):
        needed = list(optimizer.slots_of(group))
        for store, k in [(each, k) for each in stores for k in range(len(each.steps))]:
            number = next(numbers)
            some = [slot for slot in optimizer.optional_slots if f"{number}.{slot}" in given]
            for slot in dict.fromkeys([*store.slots, *needed, *some]):
                found[f"{number}.{slot}"] = _Place(store, k, slot, slot in needed)
    return found


def _slots(
    places: dict[str, _Place], given: Mapping[str, Any], faults: list[str]
) -> dict[str, Array | float]:
    """What is written to the slots, arrays that stand where the parameters do."""
    faults += [f"missing {name}" for name, p in places.items() if p.needed and name not in given]
    faults += [f"unexpected {name}" for name in given if name not in places]
    arrays: dict[str, Array | float] = dict.fromkeys(places, 0.0)
    for name, (store, k, *_) in places.items():
        if name not in given:
            continue
        shape, own = tuple(getattr(given[name], "shape", ())), store.parameters[k].shape
        if shape != own:
            faults.append(f"{name} has shape {shape}, not {own}")
        else:
            arrays[name] = store.backend.asarray(given[name], store.values.dtype).copy()
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


def _options(optimizer: Groups, given: Any, faults: list[str]) -> list[dict[str, Any]]:
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
