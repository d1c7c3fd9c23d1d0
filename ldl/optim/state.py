"""What an optimizer remembers, kept in memory that is used again."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from ldl.backend import Array
from ldl.optim.optimizer import Optimizer


class Snapshot:
    """An optimizer as it was when `take` was last called; `put_back` makes it so again."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._slots: dict[Any, Array] = {}
        self._rest: dict[str, Any] = {}

    def take(self) -> None:
        """Copy slots, counts, options and the schedule's state; waits for no device."""
        optimizer = self.optimizer
        optimizer.pack()
        if self._has_state_of_its_own():
            self._rest = deepcopy(optimizer.state_dict())
            return
        copy_into(self._slots, self._buffers())
        self._rest = {
            "steps": [list(store.steps) for store in optimizer.stores],
            "count": optimizer.step_count,
            "groups": [
                {key: deepcopy(value) for key, value in group.items() if key != "params"}
                for group in optimizer.param_groups
            ],
            "schedule": deepcopy(optimizer.schedule.state_dict()),
        }

    def put_back(self) -> None:
        """Write all of it back, and zeros to slots that came into being since."""
        optimizer = self.optimizer
        optimizer.pack()
        if self._has_state_of_its_own():
            optimizer.load_state_dict(deepcopy(self._rest))
            return
        for key, slot in self._buffers().items():
            slot[...] = self._slots.get(key, 0)
        for store, steps in zip(optimizer.stores, self._rest["steps"], strict=True):
            store.steps = list(steps)
        for group, options in zip(optimizer.param_groups, self._rest["groups"], strict=True):
            group.update(deepcopy(options))
        optimizer.step_count = self._rest["count"]
        optimizer.schedule.load_state_dict(deepcopy(self._rest["schedule"]))

    def slots(self) -> list[Array]:
        """The optimizer's slots as they are, each a whole buffer."""
        return list(self._buffers().values())

    def _has_state_of_its_own(self) -> bool:
        return type(self.optimizer).state_dict is not Optimizer.state_dict

    def _buffers(self) -> dict[Any, Array]:
        return {
            (i, name): slot
            for i, store in enumerate(self.optimizer.stores)
            for name, slot in store.slots.items()
        }


def copy_into(kept: dict[Any, Array], arrays: dict[Any, Array]) -> None:
    """Make `kept` hold copies of the arrays, in the memory that it has where that fits."""
    for name in kept.keys() - arrays.keys():
        del kept[name]
    for name, array in arrays.items():
        old: Array = kept.get(name)
        if type(old) is type(array) and old.shape == array.shape and old.dtype == array.dtype:
            old[...] = array
        else:
            kept[name] = array.copy()
