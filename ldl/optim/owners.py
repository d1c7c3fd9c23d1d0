"""Whose a schedule is: its state belongs to one optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from weakref import ref

from ldl.optim.schedules import Schedule


def hand_over(schedule: Schedule, optimizer: Any) -> None:
    """Make a schedule, and those inside it, an optimizer's own.

    What belonged to another optimizer begins anew, as it was when it was first handed over; the
    other one goes on with a copy that stands where it stood.
    """
    new = [part for part in parts(schedule) if _owner(part) is not optimizer]
    for part in new:
        other = _owner(part)
        if other is not None and any(part is its for its in parts(other.schedule)):
            other._schedule = own(_copy(other.schedule), other)
    for part in reversed(new):
        if part._clean is None:
            part._clean = deepcopy(part.state_dict())
        else:
            part.load_state_dict(deepcopy(part._clean))
    own(schedule, optimizer)


def own(schedule: Schedule, optimizer: Any) -> Schedule:
    """Note whose a schedule is, whatever its state."""
    for part in parts(schedule):
        part._owner = ref(optimizer)
    return schedule


def parts(schedule: Schedule) -> Iterator[Schedule]:
    """A schedule and all that it holds, in lists, tuples and dicts too, outermost first."""
    seen: set[int] = set()

    def walk(value: Any) -> Iterator[Schedule]:
        if id(value) in seen:
            return
        seen.add(id(value))
        inner: Any = ()
        if isinstance(value, Schedule):
            yield value
            inner = vars(value).values()
        elif isinstance(value, (list, tuple, dict)):
            inner = value.values() if isinstance(value, dict) else value
        for item in inner:
            yield from walk(item)

    return walk(schedule)


def _owner(schedule: Schedule) -> Any:
    return None if schedule._owner is None else schedule._owner()


def _copy(schedule: Schedule) -> Schedule:
    """A copy that holds the same functions, which may be methods of anything."""
    held = [value for part in parts(schedule) for value in vars(part).values()]
    functions = {id(value): value for value in held if _is_function(value)}
    return deepcopy(schedule, functions)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, Schedule)
